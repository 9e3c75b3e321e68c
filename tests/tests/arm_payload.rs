//! The capture kernel of 32-bit Arm on a board that hands it nonsense. No kernel runs there before.
#![allow(missing_docs, reason = "tests")]

end_to_end::nonsense_trials!(rcapture_qemu::Arch::Arm);
