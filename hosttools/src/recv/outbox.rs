//! Replies on their way to the line, which may take them slowly or not at all.

use std::io::{self, Write};

/// Bytes that may wait: a reply that waits for longer than the next ones take tells nothing new.
const MAX_BYTES: usize = 1024;

/// Replies that wait for the line to take them. The oldest make room for new ones.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Vec<u8>,
    /// Whether the first reply waiting is written in part.
    has_begun: bool,
    /// The line takes nothing any more.
    is_dead: bool,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes replies, each ended by a zero.
    pub(super) fn add(&mut self, replies: &[u8]) {
        if self.is_dead {
            return;
        }
        if self.waiting.len() + replies.len() > MAX_BYTES {
            // The rest of one that has begun still goes out, or the next one would be taken for it.
            let end = self.waiting.iter().position(|&byte| byte == 0).map_or(0, |zero| zero + 1);
            self.waiting.truncate(if self.has_begun { end } else { 0 });
        }
        self.waiting.extend_from_slice(replies);
    }

    /// Writes as much as `line` takes without waiting. A line that fails is not written to again: reading from it tells
    /// whether it is gone.
    pub(super) fn flush(&mut self, line: &mut impl Write) {
        while !self.waiting.is_empty() {
            match line.write(&self.waiting) {
                Ok(0) => return,
                Ok(count) => {
                    let mut written = self.waiting.drain(..count.min(self.waiting.len()));
                    self.has_begun = written.next_back().is_some_and(|byte| byte != 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_dead = true;
                    self.waiting.clear();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then none.
    struct Line(Vec<u8>, usize);

    impl Write for Line {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.1);
            self.1 -= count;
            self.0.extend(bytes.iter().take(count));
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_takes_nothing_costs_old_replies_but_no_half_one() {
        let mut outbox = Outbox::default();
        let mut line = Line(Vec::new(), 3);
        outbox.add(b"first\0second\0");
        outbox.flush(&mut line);
        for number in 0..1000 {
            outbox.add(format!("reply {number}\0").as_bytes());
            assert!(outbox.waiting.len() <= MAX_BYTES);
        }
        line.1 = usize::MAX;
        outbox.flush(&mut line);
        let text = String::from_utf8(line.0).unwrap();
        let replies: Vec<&str> = text.split_terminator('\0').collect();
        assert_eq!(replies.first(), Some(&"first"));
        assert_eq!(replies.last(), Some(&"reply 999"));
        assert!(replies.iter().skip(1).all(|reply| reply.starts_with("reply ")), "{replies:?}");
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_line_that_fails_is_left_alone() {
        struct Gone(u32);
        impl Write for Gone {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut outbox, mut line) = (Outbox::default(), Gone(0));
        for _ in 0..3 {
            outbox.add(b"reply\0");
            outbox.flush(&mut line);
        }
        assert_eq!((line.0, outbox.is_empty()), (1, true));
    }
}
