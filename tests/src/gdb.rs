//! A breakpoint in a machine, by QEMU's end of the GDB remote serial protocol (GDB manual, appendix E).

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rcapture_qemu::Machine;

/// The longest wait for an answer: for the breakpoint to be met, too.
const DEADLINE: Duration = Duration::from_secs(60);

/// GDB of the machine's only processor. The machine stands still while it has nothing to do.
pub struct Gdb(UnixStream);

impl Gdb {
    /// Stops the machine. `socket` is a path for the two to meet.
    ///
    /// # Panics
    /// If QEMU has no debugger's end, as all the methods do without a right answer of its within a minute.
    #[must_use]
    pub fn attach(machine: &mut Machine, socket: &Path) -> Self {
        // A machine that only the debugger stops is told of out of turn.
        machine.stop().unwrap();
        machine.monitor(&format!("gdbserver unix:{},server=on,wait=off", socket.display())).unwrap();
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    /// What is in memory at an address.
    pub fn read(&mut self, from_va: u64, bytes: usize) -> Vec<u8> {
        let hex = self.ask(&format!("m{from_va:x},{bytes:x}"));
        let digits = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16);
        hex.as_bytes()
            .chunks(2)
            .map(digits)
            .collect::<Result<_, _>>()
            .unwrap_or_else(|_| panic!("{from_va:#x}: {hex}"))
    }

    /// Lets the machine go on until it is about to execute the instruction at an address.
    pub fn go_on_to(&mut self, va: u64) {
        assert_eq!(self.ask(&format!("Z1,{va:x},1")), "OK");
        let stop = self.ask("c");
        assert!(stop.starts_with("T05"), "{stop}");
        assert_eq!(self.ask(&format!("z1,{va:x},1")), "OK");
    }

    /// Lets the machine go on without a debugger.
    pub fn detach(mut self) {
        assert_eq!(self.ask("D"), "OK");
    }

    /// Sends a packet, and waits for the one that answers it.
    fn ask(&mut self, request: &str) -> String {
        let sum = request.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.0, "${request}#{sum:02x}").unwrap();
        let mut answer = String::new();
        let mut byte = [0];
        // In front of it comes the acknowledgement of the request.
        while !answer.ends_with('#') {
            self.0
                .read_exact(&mut byte)
                .unwrap_or_else(|error| panic!("{request}: {error} after {answer:?}"));
            answer.push(char::from(byte[0]));
        }
        self.0.read_exact(&mut [0; 2]).unwrap();
        self.0.write_all(b"+").unwrap();
        let (_, answer) = answer.split_once('$').unwrap();
        answer.trim_end_matches('#').to_owned()
    }
}
