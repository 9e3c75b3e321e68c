//! rcapture's way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use end_to_end::{DUMP, Spec, free_port, rcapture};

use crate::course::Course;
use crate::support::{PANIC, Timeline};

/// A dump over a network.
pub(crate) fn dump(spec: &Spec) -> Course {
    let directory = tempfile::Builder::new().prefix("rcapture-bench-").tempdir().unwrap();
    let output = directory.path().to_owned();
    let port = free_port();
    let mut receiver = rcapture()
        .args(["recv", "--once", "--keep-journal", "--listen", &format!("127.0.0.1:{port}"), "-o"])
        .arg(&output)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let level = spec.dump_level;
    let settings = format!(
        "rcapture.dump_level={level} rcapture.link=tcp:10.0.2.2:{port} ip=10.0.2.15::10.0.2.2:255.255.255.0"
    );
    let (line, _machine) =
        spec.start_with(|machine| machine.network_card().capture_cmdline(settings.clone()));
    let panicked = Timeline::until(&line, PANIC).when(PANIC);
    let (mut growth, mut log) = (Vec::new(), None);
    while receiver.try_wait().unwrap().is_none() {
        assert!(panicked.elapsed() < DUMP, "rcapture does not end");
        if let Some(dump) = dump_in(&output) {
            let bytes = fs::metadata(dump.join("journal")).map_or(0, |file| file.len());
            if growth.last().map_or(0, |&(come, _)| come) < bytes {
                growth.push((bytes, Instant::now()));
            }
            if log.is_none() && dump.join("vmcore-dmesg.txt").exists() {
                log = Some(Instant::now());
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let complete = Instant::now();
    assert!(receiver.wait().unwrap().success());
    let file = dump_in(&output).unwrap().join("journal");
    Course { directory, panicked, first_byte: growth[0].1, log: log.unwrap(), complete, file, growth }
}

fn dump_in(output: &Path) -> Option<PathBuf> {
    fs::read_dir(output).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir())
}
