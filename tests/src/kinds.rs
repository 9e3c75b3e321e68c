//! Ways to crash other than by the keyboard's: the lab's own module brings the kernel down.

use rcapture_qemu::{CrashKind, Trigger};

use crate::{BANNER, DUMP, Spec, compare, drgn};

/// Crashes a machine so: the dump has what level 31 keeps as it was, and a reader finds who crashed.
pub fn is_dumped(spec: &Spec, kind: CrashKind) {
    let spec = Spec { dump_level: 31, ..spec.clone() };
    let module = spec.lab().crash_module(&spec.kernel()).unwrap();
    let trigger = Trigger::Module(module.clone(), kind);
    let mut crashed = spec.crash_at(BANNER, |machine| machine.trigger(trigger.clone()));
    let received = crashed.receive(&[], DUMP);
    assert!(received.status.success(), "{}: {}", received.status, received.stderr);
    let vmcore = received.directory.join("vmcore");
    let comparison = compare(&vmcore, &crashed.truth, &[]);
    println!("{comparison}");
    assert!(comparison.equal > 0 && comparison.different.is_empty(), "{comparison}");
    match drgn::crashed_stack(&vmcore, &[&spec.vmlinux(), &module]) {
        Ok(stack) => assert!(stack.contains(&kind.function()), "{stack:?}"),
        Err(reason) => println!("left out: drgn: {reason}"),
    }
}
