//! The daemon's WebSocket: reading it, and frames for the control thread to send.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::Clock;
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message};

use super::known::Known;
use crate::net::{Line, Newest};

/// A daemon that says nothing for so long is gone.
const SILENT: Duration = Duration::from_secs(2);
/// No message of the daemon that matters is longer.
const MOST_BYTES: usize = 256 * 1024;

/// Speaks on a connection until it ends, and returns why.
pub(super) fn serve(stream: TcpStream, line: &Line, url: &str, known: &Newest<Known>, clock: &Arc<dyn Clock>) -> String {
    match read(stream, line, url, known, clock) {
        Ok(()) => "the daemon has closed the connection".to_owned(),
        Err(Error::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            format!("the daemon has said nothing for {} s", SILENT.as_secs())
        }
        Err(error) => error.to_string(),
    }
}

fn read(stream: TcpStream, line: &Line, url: &str, known: &Newest<Known>, clock: &Arc<dyn Clock>) -> Result<(), Error> {
    stream.set_read_timeout(Some(SILENT))?;
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MOST_BYTES);
    config.max_frame_size = Some(MOST_BYTES);
    config.read_buffer_size = 16 * 1024;
    config.write_buffer_size = 0;
    config.max_write_buffer_size = 64 * 1024;
    let side = Side { stream, line, waiting: Vec::new(), is_open: false };
    let (mut socket, _) = client_with_config(url.into_client_request()?, side, Some(config)).map_err(|error| match error {
        HandshakeError::Failure(error) => error,
        HandshakeError::Interrupted(_) => Error::Io(io::ErrorKind::TimedOut.into()),
    })?;
    known.lock().begin(clock.now());
    socket.get_mut().is_open = true;
    line.open();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => {
                let now = clock.now();
                known.lock().hear(&text, now);
            }
            Ok(Message::Pong(bytes)) => {
                if let Ok(number) = bytes.as_ref().try_into() {
                    let mut known = known.lock();
                    known.pong = known.pong.max(u64::from_be_bytes(number));
                }
            }
            // Pings are answered by the library.
            Ok(Message::Ping(_)) => {}
            Ok(Message::Binary(_) | Message::Frame(_)) => known.lock().malformed += 1,
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The library's side of the stream. What it writes once others may goes out between their messages.
struct Side<'a> {
    stream: TcpStream,
    line: &'a Line,
    waiting: Vec<u8>,
    is_open: bool,
}

impl Read for Side<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.read(bytes)
    }
}

impl Write for Side<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_open {
            self.waiting.extend_from_slice(bytes);
            Ok(bytes.len())
        } else {
            self.stream.write(bytes)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.waiting.is_empty() {
            self.line.answer(&self.waiting).map_err(io::Error::other)?;
            self.waiting.clear();
        }
        Ok(())
    }
}

const TEXT: u8 = 0x1;
const PING: u8 = 0x9;

/// Makes frames of messages (RFC 6455, section 5.2), each in one frame, masked as a client's are.
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Of the mask; what is under it is no secret, but proxies are not to take it for something else.
    seed: u64,
}

impl Frames {
    pub fn new(seed: u64) -> Self {
        Self { bytes: Vec::with_capacity(4096), seed: seed | 1 }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a text.
    pub fn text(&mut self, text: &[u8]) {
        self.frame(TEXT, text);
    }

    /// Appends a ping, whose answer repeats `number`.
    pub fn ping(&mut self, number: u64) {
        self.frame(PING, &number.to_be_bytes());
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        const IS_LAST: u8 = 0x80;
        const IS_MASKED: u8 = 0x80;
        // xorshift64.
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let mask = ((self.seed >> 32) as u32).to_be_bytes();
        self.bytes.push(IS_LAST | kind);
        match payload.len() {
            len @ 0..126 => self.bytes.push(IS_MASKED | len as u8),
            len => {
                self.bytes.push(IS_MASKED | 126);
                // Nobody here makes a message of 64 KiB.
                self.bytes.extend((len as u16).to_be_bytes());
            }
        }
        self.bytes.extend(mask);
        self.bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}
