//! Ways to crash other than by the keyboard's: the lab's own module brings the kernel down.

use rcapture_qemu::{CrashKind, Trigger};

use crate::{BANNER, DUMP, Spec, drgn};

/// Crashes a machine so: the dump has what level 31 keeps as it was, and a reader finds who crashed.
pub fn is_dumped(spec: &Spec, kind: CrashKind) {
    let spec = Spec { dump_level: 31, ..spec.clone() };
    let module = spec.lab().crash_module(&spec.kernel()).unwrap();
    let trigger = Trigger::Module(module.clone(), kind);
    let mut crashed = spec.crash_at(BANNER, |machine| machine.trigger(trigger.clone()));
    let received = crashed.receive(&[], DUMP);
    let comparison = received.compare(&crashed.truth);
    assert!(comparison.equal > 0 && comparison.different.is_empty(), "{comparison}");
    match drgn::crashed_stack(&received.vmcore(), &[&spec.vmlinux(), &module]) {
        Ok(stack) => assert!(stack.contains(&kind.function()), "{stack:?}"),
        Err(reason) => println!("left out: drgn: {reason}"),
    }
}
