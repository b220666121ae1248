//! Bytes from a TCP connection, that nobody waits for longer than he wants to.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, Timestamp};

/// How much is read at once: more than a picture, so that what waits in the system is drained.
const PIECE: usize = 256 * 1024;

/// What came of a connection and nobody took yet.
pub(super) struct Wire {
    stream: TcpStream,
    clock: Arc<dyn Clock>,
    pub bytes: Vec<u8>,
}

impl Wire {
    pub fn new(stream: TcpStream, clock: Arc<dyn Clock>) -> Self {
        Self { stream, clock, bytes: Vec::new() }
    }

    /// Waits until `until` for more bytes, and takes all that are there. `false` when none came.
    ///
    /// # Errors
    /// When the connection is over.
    pub fn fill(&mut self, until: Timestamp) -> io::Result<bool> {
        let left_ns = until.nanos_since(self.clock.now());
        // No time at all would mean to wait for ever.
        let left = Duration::from_nanos(u64::try_from(left_ns).unwrap_or(0)).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left))?;
        let before = self.bytes.len();
        loop {
            let len = self.bytes.len();
            self.bytes.resize(len + PIECE, 0);
            let read = self.stream.read(&mut self.bytes[len..]);
            self.bytes.truncate(len + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) if self.bytes.len() > before => return Ok(true),
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed the connection")),
                // There may be more.
                Ok(PIECE) if self.bytes.len() < before + 16 * PIECE => {}
                Ok(_) => return Ok(true),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(self.bytes.len() > before),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }
}
