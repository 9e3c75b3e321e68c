//! A machine that is read while its dump is still coming.

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{Crashed, Received, Receiver, rcapture};

/// The session header and the machine's memory map, over a slow line.
const BEGIN: Duration = Duration::from_secs(60);

/// A crashed machine whose dump is being received, and its memory as a file system.
pub struct Mounted {
    /// The machine.
    pub crashed: Crashed,
    /// Its memory, as a file that is there before its bytes are.
    pub vmcore: PathBuf,
    /// When the session header had come.
    pub begun: Instant,
    receiver: Receiver,
}

impl Mounted {
    /// Lets `crashed` go on, with a receiver on its line that mounts its memory. Returns when there is something to open.
    #[must_use]
    pub fn of(crashed: Crashed) -> Self {
        Self::by(crashed, Crashed::start_receiver)
    }

    /// [`of`](Self::of), with a receiver on this port.
    #[must_use]
    pub fn over_tcp(crashed: Crashed, port: u16) -> Self {
        Self::by(crashed, |crashed, arguments| crashed.start_listener(port, arguments))
    }

    fn by(mut crashed: Crashed, start: impl FnOnce(&Crashed, &[&str]) -> Receiver) -> Self {
        if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
            panic!("ToolMissing: /dev/fuse: {error}");
        }
        let mount = crashed.path("mount");
        fs::create_dir(&mount).unwrap();
        let receiver = start(&crashed, &["--mount", &mount.to_string_lossy()]);
        crashed.machine.cont().unwrap();
        let start = Instant::now();
        let mut begun = None;
        let vmcore = mount.join("vmcore");
        while fs::metadata(&vmcore).map_or(0, |file| file.len()) == 0 {
            assert!(start.elapsed() < BEGIN, "there is no {}: {}", vmcore.display(), receiver.said());
            if receiver.has_begun() {
                begun.get_or_insert_with(Instant::now);
            }
            sleep(Duration::from_millis(5));
        }
        Self { crashed, vmcore, begun: begun.unwrap_or(start), receiver }
    }

    /// The rest of the dump, at full speed, and nothing more is asked for.
    pub fn finish(mut self, deadline: Duration) -> (Crashed, Received) {
        self.crashed.line.set_full_speed().unwrap();
        let released = rcapture().arg("release").arg(self.vmcore.parent().unwrap()).status().unwrap();
        assert!(released.success(), "{}", self.receiver.said());
        let received = self.receiver.wait(deadline);
        (self.crashed, received)
    }
}
