//! The QEMU Machine Protocol: JSON commands on a unix socket, one answer each, events in between.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// An answer is a few hundred bytes; `query-…` commands a few thousand.
const LONGEST_MESSAGE: usize = 4 << 20;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum QmpError {
    /// QEMU answered that it will not.
    Refused(String),
    /// There was no answer: the connection broke or the deadline passed.
    Lost(io::Error),
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub(crate) struct Qmp {
    stream: UnixStream,
    received: Vec<u8>,
    next_id: u64,
}

impl Qmp {
    /// Connects to the socket QEMU is about to make. `alive` is asked between attempts.
    pub(crate) fn connect(
        path: &Path,
        deadline: Duration,
        mut alive: impl FnMut() -> bool,
    ) -> Result<Self, QmpError> {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if start.elapsed() > deadline || !alive() => return Err(error.into()),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut qmp = Self { stream, received: Vec::new(), next_id: 1 };
        qmp.message(Instant::now() + deadline)?; // The greeting.
        qmp.execute("qmp_capabilities", json!({}), deadline)?;
        Ok(qmp)
    }

    /// Executes a command and returns what it returns.
    pub(crate) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        deadline: Duration,
    ) -> Result<Value, QmpError> {
        let until = Instant::now() + deadline;
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "execute": command, "arguments": arguments, "id": id });
        self.stream.set_write_timeout(Some(deadline))?;
        self.stream.write_all(format!("{request}\n").as_bytes())?;
        loop {
            let mut answer = self.message(until)?;
            if answer.get("id").and_then(Value::as_u64) != Some(id) {
                continue; // An event, or the answer to a command given up on.
            }
            if let Some(error) = answer.get("error") {
                let description = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                return Err(QmpError::Refused(description.to_owned()));
            }
            return Ok(answer.get_mut("return").map(Value::take).unwrap_or_default());
        }
    }

    fn message(&mut self, until: Instant) -> Result<Value, QmpError> {
        loop {
            if let Some(end) = self.received.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|error| io::Error::from(error).into());
            }
            if self.received.len() > LONGEST_MESSAGE {
                return Err(io::Error::other("a QMP message without end").into());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut chunk = [0; 4096];
            let read = match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                Err(error) => return Err(error.into()),
            };
            self.received.extend(chunk.iter().take(read));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    const SHORT: Duration = Duration::from_secs(5);

    /// A fake monitor that greets, then gives each command the answers `script` makes of its id.
    fn monitor(script: fn(u64) -> Vec<String>) -> Qmp {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            for line in BufReader::new(theirs).lines() {
                let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
                for answer in script(request["id"].as_u64().unwrap()) {
                    writer.write_all(format!("{answer}\r\n").as_bytes()).unwrap();
                }
            }
        });
        Qmp { stream: ours, received: Vec::new(), next_id: 1 }
    }

    #[test]
    fn events_and_stale_answers_are_passed_over() {
        let mut qmp = monitor(|id| {
            vec![
                r#"{"event":"STOP"}"#.into(),
                r#"{"return":"stale","id":999}"#.into(),
                format!(r#"{{"return":{{"running":false}},"id":{id}}}"#),
            ]
        });
        let answer = qmp.execute("query-status", json!({}), SHORT).unwrap();
        assert_eq!(answer, json!({ "running": false }));
    }

    #[test]
    fn a_refusal_carries_qemus_reason() {
        let mut qmp = monitor(|id| vec![format!(r#"{{"error":{{"desc":"no such thing"}},"id":{id}}}"#)]);
        let error = qmp.execute("dump-guest-memory", json!({}), SHORT).unwrap_err();
        assert!(matches!(error, QmpError::Refused(reason) if reason == "no such thing"));
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let mut qmp = monitor(|_| Vec::new());
        let error = qmp.execute("stop", json!({}), Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, QmpError::Lost(error) if error.kind() == io::ErrorKind::TimedOut));
    }
}
