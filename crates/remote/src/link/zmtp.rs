//! As much of ZeroMQ's wire as a client of GR00T's service needs: a REQ socket over ZMTP 3.0
//! (<https://rfc.zeromq.org/spec/23/>) with the NULL mechanism, one request at a time, and answers that are bounded.
//!
//! The service (`gr00t/policy/server_client.py` of Isaac-GR00T, before N1.6 `gr00t/eval/service.py`) takes a map with an `endpoint`. Of its
//! endpoints these are used: `get_modality_config`, whose answer is the link's metadata, and `get_action`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use tungstenite::Bytes;

use super::frame::Frame;
use super::socket::{Gone, last_line};
use super::stream::Stream;
use crate::codec::{Limits, Packer, Value, decode};
use crate::time::Deadline;

const GREETING: usize = 64;
/// No command of a hand-shake is longer.
const MOST_COMMAND: usize = 4096;
/// The longest answer that is read.
const MOST_ANSWER_BYTES: usize = 16 << 20;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A connection to a REP socket.
#[derive(Debug)]
pub(super) struct Zmq {
    stream: Stream,
    inbox: Vec<u8>,
    /// The empty part in front of an answer has come.
    is_inside: bool,
}

impl Zmq {
    /// Shakes hands, and asks what the policy wants.
    ///
    /// # Errors
    /// Why not.
    pub fn open(stream: Stream, token: Option<&str>, handshake: Duration, until: Deadline) -> Result<(Self, Bytes), Gone> {
        let mut zmq = Self { stream, inbox: Vec::new(), is_inside: false };
        zmq.meet(until).map_err(|gone| match gone {
            Some(gone) => gone,
            None => Gone::Broken(format!("no hand-shake of ZeroMQ within {:.1} s", handshake.as_secs_f64())),
        })?;
        let mut frame = Frame::new();
        let written = frame.write(|bytes| {
            let mut packer = Packer::after(bytes);
            packer.map(1 + usize::from(token.is_some()));
            packer.str("endpoint");
            packer.str("get_modality_config");
            if let Some(token) = token {
                packer.str("api_token");
                packer.str(token);
            }
            Ok(packer.into_bytes())
        });
        written.map_err(Gone::Broken)?;
        zmq.send(&frame, until)?;
        let answer = zmq.receive(until)?;
        let answer = answer.ok_or_else(|| Gone::Broken(format!("it said nothing of itself within {:.1} s", handshake.as_secs_f64())))?;
        match error_of(&answer) {
            Some(error) if error.contains("Unauthorized") => Err(Gone::Refused(format!("it refuses: {error}"))),
            Some(error) => Err(Gone::Told(error)),
            None => Ok((zmq, answer)),
        }
    }

    /// Greeting and READY of both sides; `None` when the other's do not come.
    fn meet(&mut self, until: Deadline) -> Result<(), Option<Gone>> {
        let wrong = |what: &str| Some(Gone::Broken(format!("it does not speak ZeroMQ as GR00T's service does: {what}")));
        let mut hello = [0; GREETING].to_vec();
        (hello[0], hello[9], hello[10]) = (0xff, 0x7f, 3);
        hello[12..16].copy_from_slice(b"NULL");
        hello.extend(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03REQ");
        self.stream.set_deadline(until);
        self.stream.write_all(&hello).map_err(|error| Some(Gone::Broken(format!("sending: {error}"))))?;
        while self.inbox.len() < GREETING {
            // Who speaks something else may say little, and wait.
            if self.inbox.first().is_some_and(|first| *first != 0xff) {
                return Err(wrong("another greeting"));
            }
            if !self.read_some(until)? {
                return Err(None);
            }
        }
        let greeting: Vec<u8> = self.inbox.drain(..GREETING).collect();
        if (greeting[0], greeting[9] & 1) != (0xff, 1) || greeting[10] < 3 {
            return Err(wrong("another greeting, or an old version"));
        }
        if greeting[12..32].split(|byte| *byte == 0).next() != Some(b"NULL") {
            return Err(wrong("it wants a security mechanism"));
        }
        let (flags, body) = loop {
            match self.frame(MOST_COMMAND)? {
                Some(frame) => break frame,
                None if self.read_some(until)? => {}
                None => return Err(None),
            }
        };
        let command = body.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
        match command.filter(|_| flags & COMMAND != 0) {
            Some((b"READY", properties)) if socket_type(properties).is_some_and(|kind| kind == b"REP" || kind == b"ROUTER") => Ok(()),
            Some((b"READY", _)) => Err(wrong("another kind of socket than REP")),
            Some((b"ERROR", why)) => {
                Err(Some(Gone::Refused(format!("it refuses: {}", last_line(&String::from_utf8_lossy(why.get(1..).unwrap_or_default()))))))
            }
            _ => Err(wrong("no READY")),
        }
    }

    pub fn send(&mut self, frame: &Frame, until: Deadline) -> Result<(), Gone> {
        if !self.inbox.is_empty() || self.is_inside {
            return Err(Gone::Broken("the server answered without a question".into()));
        }
        let body = frame.payload();
        let mut head = vec![MORE, 0, LONG];
        head.extend((body.len() as u64).to_be_bytes());
        self.stream.set_deadline(until);
        let sent = self.stream.write_all(&head).and_then(|()| self.stream.write_all(body)).and_then(|()| self.stream.flush());
        sent.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Gone::Broken("the request could not be sent in time".into()),
            _ => Gone::Broken(format!("sending: {error}")),
        })
    }

    /// The next answer, if it is there whole by `until`.
    ///
    /// # Errors
    /// When there will be none.
    pub fn receive(&mut self, until: Deadline) -> Result<Option<Bytes>, Gone> {
        let mut has_read = false;
        loop {
            while let Some((flags, body)) = self.frame(MOST_ANSWER_BYTES)? {
                match (flags & COMMAND != 0, self.is_inside, flags & MORE != 0) {
                    (true, ..) => {}
                    (false, false, true) if body.is_empty() => self.is_inside = true,
                    (false, true, false) => {
                        self.is_inside = false;
                        return Ok(Some(body.into()));
                    }
                    _ => return Err(Gone::Broken("a message of other parts than an answer has".into())),
                }
            }
            // However many bytes come one by one.
            if has_read && until.is_over() || !self.read_some(until)? {
                return Ok(None);
            }
            has_read = true;
        }
    }

    /// Reads what is there; `false` when nothing came by `until`.
    fn read_some(&mut self, until: Deadline) -> Result<bool, Gone> {
        self.stream.set_deadline(until);
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Gone::Broken("the server closed the connection".into())),
                Ok(count) => {
                    self.inbox.extend_from_slice(&piece[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
                Err(error) => return Err(Gone::Broken(format!("receiving: {error}"))),
            }
        }
    }

    /// The next frame that is whole: its flags, and its body of at most `most` bytes.
    fn frame(&mut self, most: usize) -> Result<Option<(u8, Vec<u8>)>, Gone> {
        let Some(&flags) = self.inbox.first() else { return Ok(None) };
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(Gone::Broken(format!("a frame with the flags {flags:#04x}, which ZeroMQ has not")));
        }
        let (head, length) = if flags & LONG == 0 {
            let Some(&length) = self.inbox.get(1) else { return Ok(None) };
            (2, u64::from(length))
        } else {
            let Some(length) = self.inbox.get(1..).and_then(|rest| rest.first_chunk::<8>()) else { return Ok(None) };
            (9, u64::from_be_bytes(*length))
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= most);
        let length = length.ok_or_else(|| Gone::Broken(format!("its answer is longer than {most} bytes")))?;
        if self.inbox.len() < head + length {
            return Ok(None);
        }
        let body = self.inbox[head..head + length].to_vec();
        self.inbox.drain(..head + length);
        Ok(Some((flags, body)))
    }
}

/// What an error of the service says.
fn error_of(answer: &[u8]) -> Option<String> {
    let value = decode(answer, Limits::default()).ok()?;
    value.get("error").and_then(Value::text).map(last_line)
}

/// Of a READY's properties.
fn socket_type(mut properties: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = properties.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return Some(value);
        }
        properties = rest;
    }
}
