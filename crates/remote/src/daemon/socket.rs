//! A websocket of somebody who may be slow: what is newer replaces what he has not taken, and who takes nothing is sent away.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocket};
use tungstenite::{Bytes, Error, Message};

use super::wire::Problem;
use crate::link::Stream;
use crate::time::{Deadline, Watch};

/// Who takes nothing for so long is sent away.
pub(super) const STUCK: Duration = Duration::from_secs(10);
/// How long a message may take before what is newer is waited for.
const A_MOMENT: Duration = Duration::from_millis(20);
/// So many messages are on their way that nobody has answered to have taken.
const AHEAD: usize = 3;
/// What the system keeps for who wants new messages alone, bytes.
const LITTLE: usize = 8 * 1024;
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How often somebody who says nothing is asked whether he is there, and after how much silence he is not.
const PING: Duration = Duration::from_secs(10);
const SILENT: Duration = Duration::from_secs(30);

/// Why a socket ends.
#[derive(Debug)]
pub(super) enum Over {
    /// Who was there has gone.
    Gone,
    /// He is told why.
    Told(Problem),
}

impl From<Error> for Over {
    fn from(error: Error) -> Self {
        match error {
            Error::Capacity(_) => Self::Told(Problem { status: 413, error: "the message is too long".to_owned() }),
            _ => Self::Gone,
        }
    }
}

pub(super) struct Socket {
    web: WebSocket<Stream>,
    /// Since when a message is on its way that he has not taken.
    stuck: Option<Watch>,
    /// Shared with those who look for a socket that is of no use.
    heard: Heard,
    pinged: Watch,
    /// Pings behind [followed](Self::follow) messages that were not answered yet, and since when they are on their way.
    followed: VecDeque<(u32, Watch)>,
    number: u32,
}

/// When a socket was heard last. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Heard(Arc<Mutex<Watch>>);

impl Heard {
    pub fn now() -> Self {
        Self(Arc::new(Mutex::new(Watch::start())))
    }

    pub fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Watch::start();
    }

    pub fn elapsed(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Socket {
    pub fn new(web: WebSocket<Stream>, heard: Heard) -> Self {
        Self { web, stuck: None, heard, pinged: Watch::start(), followed: VecDeque::new(), number: 0 }
    }

    /// For one whose messages are of no use when they are old.
    pub fn keep_little(&mut self) {
        self.web.get_mut().set_send_buffer(LITTLE);
    }

    /// The next message, if one comes within that time.
    pub fn next<T: DeserializeOwned>(&mut self, within: Duration) -> Result<Option<T>, Over> {
        let until = Deadline::after(within);
        loop {
            self.web.get_mut().set_deadline(until);
            match self.web.read() {
                Ok(Message::Text(text)) => {
                    self.heard.note();
                    return serde_json::from_str(text.as_str())
                        .map(Some)
                        .map_err(|error| Over::Told(Problem { status: 400, error: format!("reading the message: {error}") }));
                }
                Ok(Message::Binary(_)) => return Err(Over::Told(Problem { status: 400, error: "expected text messages".to_owned() })),
                Ok(Message::Close(_)) => return Err(Over::Gone),
                Ok(Message::Pong(number)) => {
                    self.heard.note();
                    if self.is_followed_by(&number) {
                        return Ok(None);
                    }
                }
                Ok(Message::Ping(_) | Message::Frame(_)) => self.heard.note(),
                Err(Error::Io(error)) if is_late(&error) => {}
                Err(error) => return Err(error.into()),
            }
            if until.is_over() {
                return self.is_there().map(|()| None);
            }
        }
    }

    /// Sends what comes now or never, and a ping behind it, whose answer says that he has taken it. `false` where so many are on their way
    /// that it would be old when he takes it, and it was left out.
    ///
    /// # Errors
    /// When he has answered none for too long.
    pub fn follow(&mut self, message: impl FnOnce() -> Message) -> Result<bool, Over> {
        if self.followed.front().is_some_and(|(_, since)| since.elapsed() > STUCK) {
            return Err(Over::Told(Problem { status: 408, error: "no ping was answered for ten seconds".to_owned() }));
        }
        if self.has_enough() || !self.is_free()? {
            return Ok(false);
        }
        self.number = self.number.wrapping_add(1);
        self.begin(message())?;
        self.begin(Message::Ping(Bytes::copy_from_slice(&self.number.to_be_bytes())))?;
        self.followed.push_back((self.number, Watch::start()));
        Ok(true)
    }

    /// Whether so many messages are on their way that he gets no other.
    pub fn has_enough(&self) -> bool {
        self.followed.len() >= AHEAD
    }

    /// Takes note of the answer to a ping; whether another message may follow that had to wait.
    fn is_followed_by(&mut self, number: &[u8]) -> bool {
        let had_enough = self.has_enough();
        if let Some(at) = self.followed.iter().position(|(sent, _)| sent.to_be_bytes() == *number) {
            self.followed.drain(..=at);
        }
        had_enough && !self.has_enough()
    }

    /// Asks now and then whether he is there.
    fn is_there(&mut self) -> Result<(), Over> {
        if self.heard.elapsed() > SILENT {
            return Err(Over::Gone);
        }
        if self.pinged.elapsed() > PING && self.is_free()? {
            self.pinged = Watch::start();
            self.begin(Message::Ping(Bytes::new()))?;
        }
        Ok(())
    }

    /// Whether he has taken all that was sent.
    ///
    /// # Errors
    /// When he has taken nothing for too long.
    pub fn is_free(&mut self) -> Result<bool, Over> {
        let Some(since) = self.stuck else { return Ok(true) };
        self.web.get_mut().set_deadline(Deadline::after(A_MOMENT));
        match self.web.flush() {
            Ok(()) => {
                self.stuck = None;
                Ok(true)
            }
            Err(Error::Io(error)) if is_late(&error) && since.elapsed() < STUCK => Ok(false),
            Err(Error::Io(error)) if is_late(&error) => Err(Over::Gone),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends what comes now or never; `false` where something older is still on its way, and this was left out.
    pub fn offer(&mut self, message: impl FnOnce() -> Message) -> Result<bool, Over> {
        if !self.is_free()? {
            return Ok(false);
        }
        self.begin(message()).map(|()| true)
    }

    fn begin(&mut self, message: Message) -> Result<(), Over> {
        self.web.get_mut().set_deadline(Deadline::after(A_MOMENT));
        match self.web.send(message) {
            Ok(()) => Ok(()),
            // The rest of it is kept, and goes with the next flush.
            Err(Error::Io(error)) if is_late(&error) => {
                self.stuck = Some(Watch::start());
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends an answer, which is not left out.
    pub fn say(&mut self, message: &impl Serialize) -> Result<(), Over> {
        while !self.is_free()? {}
        self.begin(text(message)?)
    }

    /// Tells why it ends, and ends.
    pub fn end(mut self, over: Over, is_over: impl FnOnce(Problem) -> Option<Message>) {
        let Over::Told(problem) = over else { return };
        let code = if problem.status == 503 { CloseCode::Away } else { CloseCode::Policy };
        self.web.get_mut().set_deadline(Deadline::after(LAST_WORDS));
        if let Some(message) = is_over(problem) {
            // Whoever does not read it has lost nothing.
            drop(self.web.send(message));
        }
        drop(self.web.close(Some(CloseFrame { code, reason: "".into() })));
        drop(self.web.flush());
    }
}

/// A value as a text message.
pub(super) fn text(value: &impl Serialize) -> Result<Message, Over> {
    let text = serde_json::to_string(value);
    text.map(Message::text).map_err(|error| Over::Told(Problem { status: 500, error: format!("writing a message: {error}") }))
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
