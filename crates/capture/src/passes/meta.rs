//! What describes the machine: elfcorehdr and notes, the kernel log, counts.

use alloc::format;
use alloc::vec::Vec;

use memory::printk::KernelLog;
use memory::printk::format::write_record;
use memory::{PageClass, PhysMemory};
use wire::{MAX_META_BYTES, MAX_META_TOTAL, MetaKind, Pass};

use crate::crash::read_notes;
use crate::dump::Dump;
use crate::pump::Interrupt;
use crate::{Clock, Link};

impl<M: PhysMemory, L: Link, C: Clock> Dump<'_, M, L, C> {
    /// [`Pass::Meta`].
    pub(crate) fn meta(&mut self) -> Result<(), Interrupt> {
        let (crash, physical) = (self.crash, self.physical);
        let headers = &crash.core.headers;
        self.out.meta(MetaKind::Elfcorehdr, 0, total(headers.len()), headers)?;

        let mut buffer = Vec::new();
        let all_notes =
            crash.core.notes.iter().map(|segment| read_notes(segment, physical, &mut buffer).len()).sum();
        let mut offset = 0;
        for segment in &crash.core.notes {
            let notes = read_notes(segment, physical, &mut buffer);
            self.out.meta(MetaKind::Notes, offset, total(all_notes), notes)?;
            offset = offset.saturating_add(total(notes.len()));
        }
        // A person waits for this: it does not share a block with what may come slowly.
        self.out.close_block()
    }

    /// [`Pass::Log`]: it is read twice, first to know its length. Of one that is too long the newest part is sent.
    pub(crate) fn log(&mut self) -> Result<(), Interrupt> {
        let mut bytes = 0_usize;
        self.each_log_text(|_, text| {
            bytes = bytes.saturating_add(text.len());
            Ok(())
        })?;
        let total = total(bytes);
        let mut skip = bytes - total as usize;
        let mut pending: Vec<u8> = Vec::with_capacity(MAX_META_BYTES);
        let mut offset = 0;
        self.each_log_text(|out, text| {
            let skipped = skip.min(text.len());
            skip -= skipped;
            for piece in text.get(skipped..).unwrap_or_default().chunks(MAX_META_BYTES) {
                if pending.len() + piece.len() > MAX_META_BYTES {
                    out.meta(MetaKind::Log, offset, total, &pending)?;
                    offset = offset.saturating_add(u32::try_from(pending.len()).unwrap_or(u32::MAX));
                    pending.clear();
                }
                pending.extend_from_slice(piece);
            }
            Ok(())
        })?;
        self.out.meta(MetaKind::Log, offset, total, &pending)?;
        self.out.close_block()
    }

    /// Hands the text of the kernel log to `each`, piece by piece.
    fn each_log_text(
        &mut self,
        mut each: impl FnMut(&mut crate::output::Output<'_, M, L, C>, &[u8]) -> Result<(), Interrupt>,
    ) -> Result<(), Interrupt> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let mut log = match KernelLog::open(kernel, &self.crash.info()) {
            Ok(log) => log,
            Err(error) => {
                self.out.pump.sender.text(&format!("rcapture: {error}: it is sent with its pages"));
                return Ok(());
            }
        };
        while let Some(record) = log.next_record() {
            let mut result = Ok(());
            if let Ok(record) = record {
                write_record(&record, &mut |text| {
                    if result.is_ok() {
                        result = each(&mut self.out, text);
                    }
                });
            }
            result?;
            self.out.poll()?;
        }
        Ok(())
    }

    /// [`Pass::Count`]: walks the memmap and nothing else. What it finds the late passes go by.
    pub(crate) fn count(&mut self) -> Result<(), Interrupt> {
        self.find_regions()?;
        let mut counts = [0; 8 * PageClass::ALL.len()];
        for (place, class) in counts.as_chunks_mut::<8>().0.iter_mut().zip(PageClass::ALL) {
            *place = self.counts.of(class).to_le_bytes();
        }
        self.out.meta(MetaKind::Counts, 0, total(counts.len()), &counts)?;
        let sizes = PageClass::ALL.map(|class| {
            let mib = self.counts.of(class).saturating_mul(1 << self.crash.page_shift()) >> 20;
            format!("{} {mib}", class.name())
        });
        self.out.pump.sender.text(&format!("rcapture: MiB of RAM: {}", sizes.join(", ")));
        self.poll(Pass::Count)
    }
}

/// What a [`wire::Record::Meta`] announces as its whole: no more than the format allows.
fn total(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(MAX_META_TOTAL)
}
