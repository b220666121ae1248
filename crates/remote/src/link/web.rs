//! openpi's websocket: its hand-shake, requests and answers.

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use tungstenite::client::{IntoClientRequest as _, client_with_config};
use tungstenite::error::ProtocolError;
use tungstenite::http::HeaderValue;
use tungstenite::http::header::AUTHORIZATION;
use tungstenite::protocol::{WebSocket, WebSocketConfig};
use tungstenite::{Bytes, Error, HandshakeError, Message};

use super::address::Address;
use super::frame::Frame;
use super::socket::{Gone, last_line};
use super::stream::Stream;
use crate::time::Deadline;

/// The longest answer that is read.
const MOST_ANSWER_BYTES: usize = 16 << 20;

/// An open websocket.
#[derive(Debug)]
pub(super) struct Web {
    web: WebSocket<Stream>,
    masks: fastrand::Rng,
}

impl Web {
    /// Shakes hands, and hears the metadata.
    ///
    /// # Errors
    /// Why not.
    pub fn open(
        stream: Stream,
        address: &Address,
        authorization: Option<&HeaderValue>,
        handshake: Duration,
        until: Deadline,
    ) -> Result<(Self, Bytes), Gone> {
        let url = format!("{}://{}{}", if address.is_secure() { "wss" } else { "ws" }, address.authority(), address.path);
        let mut request = url.into_client_request().map_err(|error| Gone::Broken(error.to_string()))?;
        request.headers_mut().extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MOST_ANSWER_BYTES);
        config.max_frame_size = Some(MOST_ANSWER_BYTES);
        config.read_buffer_size = 64 * 1024;
        let (web, _) = client_with_config(request, stream, Some(config)).map_err(|error| match error {
            HandshakeError::Failure(Error::Http(answer)) => {
                let told = answer.body().as_deref().map(|body| last_line(&String::from_utf8_lossy(body))).unwrap_or_default();
                let words = format!("it answered {}{}{told}", answer.status(), if told.is_empty() { "" } else { ": " });
                let is_refusal = matches!(answer.status().as_u16(), 401 | 403 | 429);
                if is_refusal { Gone::Refused(words) } else { Gone::Broken(words) }
            }
            HandshakeError::Failure(error) => broken(&error, "shaking hands", handshake),
            HandshakeError::Interrupted(_) => Gone::Broken(format!("no hand-shake within {:.1} s", handshake.as_secs_f64())),
        })?;
        let mut socket = Self { web, masks: fastrand::Rng::new() };
        let metadata = socket.receive(until)?;
        let metadata =
            metadata.ok_or_else(|| Gone::Broken(format!("it said nothing of itself within {:.1} s", handshake.as_secs_f64())))?;
        Ok((socket, metadata))
    }

    /// Sends a request whole.
    ///
    /// # Errors
    /// When it could not be sent by `until`, after which the connection is of no use.
    pub fn send(&mut self, frame: &mut Frame, until: Deadline) -> Result<(), Gone> {
        let mask = self.masks.u32(..);
        self.web.get_mut().set_deadline(until);
        // Pongs that wait.
        self.web.flush().map_err(|error| broken(&error, "sending", until.left()))?;
        let sent = self.web.get_mut().write_all(frame.seal(mask)).and_then(|()| self.web.get_mut().flush());
        sent.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Gone::Broken("the request could not be sent in time".into()),
            _ => Gone::Broken(format!("sending: {error}")),
        })
    }

    /// Takes leave, as far as that needs no waiting.
    pub fn close(mut self) {
        self.web.get_mut().set_deadline(Deadline::now());
        // Who is not reached hears of it by the connection's end.
        drop(self.web.close(None).and_then(|()| self.web.flush()));
    }

    /// The next message, if it is there whole by `until`; pings are answered meanwhile.
    ///
    /// # Errors
    /// When there will be none.
    pub fn receive(&mut self, until: Deadline) -> Result<Option<Bytes>, Gone> {
        self.web.get_mut().set_deadline(until);
        loop {
            match self.web.read() {
                Ok(Message::Binary(bytes)) => return Ok(Some(bytes)),
                Ok(Message::Text(text)) => return Err(Gone::Told(last_line(&text))),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                    if until.is_over() {
                        return Ok(None);
                    }
                }
                Ok(Message::Close(close)) => {
                    let why = close.map(|close| format!(": {} {}", u16::from(close.code), last_line(&close.reason))).unwrap_or_default();
                    return Err(Gone::Broken(format!("the server closed the connection{why}")));
                }
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) => return Err(broken(&error, "receiving", Duration::ZERO)),
            }
        }
    }
}

fn broken(error: &Error, doing: &str, within: Duration) -> Gone {
    Gone::Broken(match error {
        Error::Io(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            format!("{doing}: nothing within {:.1} s", within.as_secs_f64())
        }
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            "the server closed the connection".to_owned()
        }
        error => format!("{doing}: {error}"),
    })
}
