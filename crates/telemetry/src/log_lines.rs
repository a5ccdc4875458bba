//! Where log lines end up, and what becomes of those that cannot be written: they are counted, and what was written of one stays
//! on a line of its own.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Lines that could not be written, all of a process.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines could not be written so far.
pub(crate) fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// Takes a line at a time, by `write_all`.
#[derive(Debug)]
pub(crate) struct LogLines<W> {
    to: W,
    is_at_start: bool,
    /// What was written last is the beginning of a line that has no end.
    is_torn: bool,
}

impl<W: Write> LogLines<W> {
    pub(crate) const fn new(to: W) -> Self {
        Self { to, is_at_start: true, is_torn: false }
    }

    fn attempt(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_torn {
            self.to.write_all(b"\n")?;
            (self.is_torn, self.is_at_start) = (false, true);
        }
        let written = self.to.write(line)?;
        if written > 0 {
            self.is_at_start = line[written - 1] == b'\n';
        }
        Ok(written)
    }
}

impl<W: Write> Write for LogLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let attempt = self.attempt(line);
        let is_lost = match &attempt {
            Ok(written) => *written == 0 && !line.is_empty(),
            Err(error) => error.kind() != io::ErrorKind::Interrupted,
        };
        if is_lost {
            LOST.fetch_add(1, Relaxed);
            self.is_torn |= !self.is_at_start;
        }
        attempt
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that has so many bytes left.
    #[derive(Default)]
    struct Disk {
        written: Vec<u8>,
        left: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.left);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.left -= count;
            self.written.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted_and_the_next_line_is_whole() {
        let before = lost();
        let mut lines = LogLines::new(Disk { left: 9, ..Disk::default() });
        lines.write_all(b"first\n").unwrap();
        lines.write_all(b"second\n").unwrap_err();
        lines.write_all(b"third\n").unwrap_err();
        lines.to.left = 100;
        lines.write_all(b"fourth\n").unwrap();
        assert_eq!(String::from_utf8_lossy(&lines.to.written), "first\nsec\nfourth\n");
        assert_eq!(lost() - before, 2);
    }
}
