//! Whether a program that waits for a read is to end.
//!
//! The kernel says so with FUSE_INTERRUPT, which the crate fuser does not pass on: without an answer a killed reader would
//! stay until its time is over.

use std::fs;

use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM};

/// Whether the thread `pid` is gone, or a signal waits for it that ends programs.
pub(super) fn has_gone(pid: u32) -> bool {
    // 0: in another PID namespace.
    pid != 0
        && match fs::read_to_string(format!("/proc/{pid}/status")) {
            Ok(status) => is_to_end(&status),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
}

/// What proc(5) says of its signals, each a bit from number 1 on.
fn is_to_end(status: &str) -> bool {
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
    };
    let ending = [SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM].map(|signal| 1_u64 << (signal - 1));
    let pending = (set("SigPnd") | set("ShdPnd")) & !set("SigBlk") & !set("SigIgn");
    ending.into_iter().any(|signal| pending & signal != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_to_end_if_a_signal_waits_that_it_heeds() {
        let status = |pending: u64, shared: u64, blocked: u64, ignored: u64| {
            format!(
                "Name:\tx\nSigQ:\t0/1\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\n"
            )
        };
        let kill = 1 << 8;
        let interrupt = 1 << 1;
        let child = 1 << 16;
        assert!(is_to_end(&status(kill, 0, 0, 0)));
        assert!(is_to_end(&status(0, interrupt, kill, kill)));
        assert!(!is_to_end(&status(0, interrupt, interrupt, 0)));
        assert!(!is_to_end(&status(0, interrupt, 0, interrupt)));
        assert!(!is_to_end(&status(0, child, 0, 0)));
        assert!(!is_to_end(""));
        assert!(!has_gone(std::process::id()));
        assert!(!has_gone(0));
        assert!(has_gone(u32::MAX));
    }
}
