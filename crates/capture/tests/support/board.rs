//! Crashed boards of arm and aarch64 with all that a dump looks for: an elfcorehdr, notes, a log, a stack.
#![allow(dead_code, reason = "each test uses a part")]

use memory::{PhysAddr, PhysMemory, ReadFault};
use vmcore::headers::{Class, CoreHeader, Machine, ProgramHeader, ehdr_bytes, push_program_header};
use vmcore::kdump::Utsname;
use vmcore::notes::{CORE_NAME, NT_PRSTATUS, VMCOREINFO_NAME, push_note};

use crate::kernel::arm::{self, Crashed};

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// Where, from the start of RAM, the test puts the kernel's name, its log, and a stack: frames of the kernel's.
pub(crate) const UTSNAME: u64 = 0x64_0000;
pub(crate) const LOG: u64 = 0x65_0000;
pub(crate) const STACK: u64 = 0x66_0000;
/// Text that the stack returns to: on arm, on aarch64.
pub(crate) const ARM_TEXT: u64 = 0x10_3004;
pub(crate) const AARCH64_TEXT: u64 = arm::IMAGE - arm::AARCH64_RAM + 0x3004;

/// A crashed machine, and its reservation behind its RAM.
pub(crate) struct Memory {
    pub(crate) crashed: Crashed,
    pub(crate) elfcorehdr_pa: u64,
    reserved: Vec<u8>,
}

impl PhysMemory for Memory {
    fn read(&self, pa: PhysAddr, buf: &mut [u8]) -> Result<(), ReadFault> {
        let offset = pa.0.checked_sub(self.elfcorehdr_pa).map(|offset| offset as usize);
        match offset.and_then(|offset| self.reserved.get(offset..)?.get(..buf.len())) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            None => self.crashed.ram.read(pa, buf),
        }
    }
}

impl Memory {
    /// `linear` is what addresses of the linear map are above the physical ones; `loads` come before the PT_LOAD of RAM.
    pub(crate) fn new(mut crashed: Crashed, linear: u64, class: Class, loads: &[ProgramHeader]) -> Self {
        let machine = crashed.machine;
        let start = crashed.ram.start;
        let bytes = crashed.ram.bytes.len() as u64;
        let va = |offset: u64| linear.wrapping_add(start + offset);
        let utsname = Utsname::new([b"Linux", b"board", b"6.1.0", b"#1", machine.name().as_bytes(), b""]);
        crashed.ram.put(start + UTSNAME, &utsname.to_bytes());
        log(&mut crashed, start + LOG, linear);
        let return_address = match machine {
            Machine::Arm => va(ARM_TEXT),
            // Signed: `autiasp` takes these bits away again.
            _ => (start + AARCH64_TEXT + arm::KIMAGE_VOFFSET) & !(0x5a << 48),
        };
        crashed.ram.put(start + STACK + 0x200, &return_address.to_le_bytes()[..machine.long_bytes()]);
        crashed.info += &format!(
            "NUMBER(KERNELPACMASK)=0x7f000000000000\nSYMBOL(init_uts_ns)={:x}\nOFFSET(uts_namespace.name)=0\nCRASHTIME=1700000000\n",
            va(UTSNAME)
        );

        let mut reserved = vec![0; 0x4000];
        let elfcorehdr_pa = start + bytes + (1 << 20);
        let mut header = Vec::new();
        let e_phnum = loads.len() as u16 + 3;
        CoreHeader { class, machine, e_flags: 0, e_phoff: ehdr_bytes(class) as u64, e_shoff: 0, e_phnum }
            .encode(&mut header)
            .unwrap();
        let segment = |p_type, pa, p_vaddr, bytes| ProgramHeader {
            p_type,
            p_flags: 7,
            p_offset: pa,
            p_vaddr,
            p_paddr: pa,
            p_filesz: bytes,
            p_memsz: bytes,
            p_align: 0,
        };
        let notes = segment(PT_NOTE, elfcorehdr_pa + 0x1000, 0, 0x400);
        let info = segment(PT_NOTE, elfcorehdr_pa + 0x2000, 0, 0x1800);
        let ram = segment(PT_LOAD, start, va(0) & (u64::MAX >> (64 - 8 * machine.long_bytes())), bytes);
        for load in [notes, info].iter().chain(loads).chain([&ram]) {
            push_program_header(class, load, &mut header).unwrap();
        }
        reserved[..header.len()].copy_from_slice(&header);
        for (offset, name, n_type, desc) in [
            (0x1000, CORE_NAME, NT_PRSTATUS, prstatus(machine, va(STACK + 0x100))),
            (0x2000, VMCOREINFO_NAME, 0, crashed.info.clone().into_bytes()),
        ] {
            let mut note = Vec::new();
            push_note(name, n_type, &desc, &mut note).unwrap();
            reserved[offset..offset + note.len()].copy_from_slice(&note);
        }
        Self { crashed, elfcorehdr_pa, reserved }
    }

    pub(crate) fn arm() -> Self {
        Self::new(arm::arm(arm::MIX), arm::ARM_OFFSET, Class::ELF32, &[])
    }

    pub(crate) fn aarch64() -> Self {
        // As kexec-tools 2.0.25 writes it with Linux 6.1.
        let bogus = ProgramHeader {
            p_type: PT_LOAD,
            p_flags: 7,
            p_offset: 0x3d8a_1f00_0000,
            p_vaddr: u64::MAX,
            p_paddr: 0x3d8a_1f00_0000,
            p_filesz: 0xffff_c276_22ca_0000,
            p_memsz: 0xffff_c276_22ca_0000,
            p_align: 0,
        };
        let linear = arm::LINEAR_MAP - arm::AARCH64_RAM;
        Self::new(arm::aarch64(arm::MIX), linear, Class::ELF64, &[bogus])
    }
}

fn prstatus(machine: Machine, sp: u64) -> Vec<u8> {
    let (mut desc, sp_at) = match machine {
        Machine::Arm => (vec![0; 148], 72 + 13 * 4),
        _ => (vec![0; 392], 112 + 31 * 8),
    };
    let long_bytes = machine.long_bytes();
    desc[sp_at..sp_at + long_bytes].copy_from_slice(&sp.to_le_bytes()[..long_bytes]);
    desc
}

/// A ring buffer with one record.
fn log(crashed: &mut Crashed, pa: u64, linear: u64) {
    const TEXT: &[u8] = b"Kernel panic - not syncing: test";
    let long = crashed.machine.long_bytes() as u64;
    let va = |offset: u64| linear.wrapping_add(pa + offset);
    let (descs, infos, text) = (0x100, 0x200, 0x300);
    let longs = [
        (0, va(0x10)), // prb
        (0x18, va(descs)),
        (0x20, va(infos)),
        (0x48, va(text)),
        // Descriptor 0, finalized; its text ends at a multiple of a long.
        (descs, 2 << (long * 8 - 2)),
        (descs + 2 * long, (TEXT.len() as u64).next_multiple_of(8) + 8),
    ];
    for (offset, value) in longs {
        crashed.ram.put(pa + offset, &value.to_le_bytes()[..long as usize]);
    }
    crashed.ram.put_u32(pa + 0x40, 8); // size_bits
    crashed.ram.put_u64(pa + infos, 12_345_678_000);
    crashed.ram.put(pa + infos + 16, &(TEXT.len() as u16).to_le_bytes());
    crashed.ram.put(pa + text + long, TEXT);
    crashed.info += &format!(
        "SYMBOL(prb)={:x}\nOFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(printk_ringbuffer.text_data_ring)=48\n\
        OFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\nOFFSET(prb_desc_ring.infos)=16\n\
        OFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\nSIZE(prb_desc)={}\n\
        OFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)={long}\nOFFSET(prb_data_blk_lpos.begin)=0\n\
        OFFSET(prb_data_blk_lpos.next)={long}\nSIZE(printk_info)=88\nOFFSET(printk_info.ts_nsec)=0\n\
        OFFSET(printk_info.text_len)=16\nOFFSET(printk_info.caller_id)=20\nOFFSET(prb_data_ring.size_bits)=0\n\
        OFFSET(prb_data_ring.data)=8\n",
        va(0),
        3 * long
    );
}
