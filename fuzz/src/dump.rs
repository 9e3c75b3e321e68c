//! Targets that read dump files.

use vmcore::elfcore::{ElfCore, NewElfCore, data_offset};
use vmcore::flattened::{RECORD_HEAD_BYTES, RecordHead, check_header, header};
use vmcore::kdump::{DumpHeader, Layout, PAGE_DESCRIPTOR_BYTES, PageDescriptor, SubHeader};

use crate::slice_memory::SliceMemory;

/// The headers of an ELF vmcore.
pub fn elfcore(data: &[u8]) {
    let file = SliceMemory { start: 0, bytes: data, long_bytes: 8 };
    let Ok(core) = ElfCore::read(&mut |offset, buf| file.copy(offset, buf)) else { return };
    assert!(core.loads.len() + core.notes.len() <= data.len() / 32, "no more segments than the file has");

    // Written anew, the same segments come back.
    let ElfCore { class, machine, e_flags, loads, .. } = core;
    let bytes = NewElfCore { class, machine, e_flags, notes: b"notes", loads: &loads }
        .encode()
        .expect("what was read fits in its class");
    assert_eq!(bytes.len() as u64, data_offset(class, loads.len(), 5));
    let file = SliceMemory { start: 0, bytes: &bytes, long_bytes: 8 };
    let again = ElfCore::read(&mut |offset, buf| file.copy(offset, buf)).expect("it was just written");
    assert_eq!((again.loads, again.e_flags, again.notes.len()), (loads, e_flags, 1));
}

/// The headers of a kdump-compressed dump and its first page descriptor.
pub fn kdump_header(data: &[u8]) {
    let Ok((abi, header)) = DumpHeader::parse(data) else { return };
    let encoded = header.encode(abi);
    assert_eq!(DumpHeader::parse(&encoded), Ok((abi, header)));

    let block = usize::try_from(header.block_size).unwrap_or(0);
    let Some(bytes) = data.get(block..) else { return };
    let Some(sub_header) = SubHeader::parse(abi, header.header_version, bytes) else { return };
    let encoded = sub_header.encode(abi);
    assert_eq!(SubHeader::parse(abi, header.header_version, &encoded), Some(sub_header));

    let Ok(layout) = Layout::of(&header, &sub_header) else { return };
    assert!(layout.max_mapnr() <= layout.bitmap_bytes() * 8);
    assert!(layout.second_bitmap_offset() + layout.bitmap_bytes() == layout.descriptors_offset());
    let descriptors = usize::try_from(layout.descriptors_offset()).unwrap_or(usize::MAX);
    let descriptor = data.get(descriptors..).and_then(|rest| rest.first_chunk::<PAGE_DESCRIPTOR_BYTES>());
    if let Some(bytes) = descriptor {
        let descriptor = PageDescriptor::parse(bytes);
        assert_eq!(descriptor.encode(), *bytes);
        let _ = descriptor.is_plausible(4096);
    }
}

/// A flattened stream, record by record. The 4064 bytes behind the header's fields are left out of the input.
pub fn flattened(data: &[u8]) {
    if check_header(data).is_err() {
        return;
    }
    assert_eq!(data[..32], header()[..32], "there is but one header");
    let mut rest = &data[32..];
    while let Some((head, behind)) = rest.split_first_chunk::<RECORD_HEAD_BYTES>() {
        let Ok(record) = RecordHead::parse(head) else { return };
        assert_eq!(record.encode(), Ok(*head));
        let RecordHead::Data { bytes, .. } = record else { return };
        let Some(next) = usize::try_from(bytes).ok().and_then(|bytes| behind.get(bytes..)) else { return };
        rest = next;
    }
}
