//! GDT and TSS. The TSS is there for its interrupt stacks: double fault, NMI and machine check must have a good stack
//! whatever happened to the running one.

use core::cell::UnsafeCell;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

/// Interrupt stacks by number in the IDT: 0 = stay on the running stack.
pub(super) const NMI_STACK: u8 = 1;
/// See [`NMI_STACK`].
pub(super) const DOUBLE_FAULT_STACK: u8 = 2;
/// See [`NMI_STACK`].
pub(super) const MACHINE_CHECK_STACK: u8 = 3;

const STACKS: usize = 3;
/// Enough for the report, which formats straight into the UART.
const STACK_BYTES: usize = 16 * 1024;

#[repr(C, align(16))]
struct Stacks(UnsafeCell<[[u8; STACK_BYTES]; STACKS]>);

// SAFETY: Rust code never touches the bytes; only the processor does, one exception per stack at a time.
unsafe impl Sync for Stacks {}

static EXCEPTION_STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_BYTES]; STACKS]));
static TSS: Once<TaskStateSegment> = Once::new();
static GDT: Once<(GlobalDescriptorTable, Selectors)> = Once::new();

struct Selectors {
    code: SegmentSelector,
    data: SegmentSelector,
    tss: SegmentSelector,
}

/// Leaves the loader's GDT for the image's own.
pub(super) fn load() {
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        // Copied out and in: the structure is packed.
        let mut tops = tss.interrupt_stack_table;
        let mut top = EXCEPTION_STACKS.0.get() as u64;
        for entry in tops.iter_mut().take(STACKS) {
            top += STACK_BYTES as u64;
            *entry = VirtAddr::new_truncate(top);
        }
        tss.interrupt_stack_table = tops;
        tss
    });
    let (gdt, selectors) = GDT.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        let code = gdt.append(Descriptor::kernel_code_segment());
        let data = gdt.append(Descriptor::kernel_data_segment());
        let tss = gdt.append(Descriptor::tss_segment(tss));
        (gdt, Selectors { code, data, tss })
    });
    gdt.load();
    // SAFETY: the selectors are those of the table just loaded, which is never changed again.
    unsafe {
        CS::set_reg(selectors.code);
        for set_data in [DS::set_reg, ES::set_reg, FS::set_reg, GS::set_reg, SS::set_reg] {
            set_data(selectors.data);
        }
        load_tss(selectors.tss);
    }
}

/// The code segment the exception handlers run in.
pub(super) fn code_selector() -> u16 {
    CS::get_reg().0
}
