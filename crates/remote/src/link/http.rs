//! HTTP/1.1 as a link needs it: one POST at a time on a connection that is kept, and its answer, whose head and body are bounded.
//!
//! Redirects are not followed: a request carries pictures of a room, and often a token, which are for the address that the user gave.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tungstenite::Bytes;
use tungstenite::http::{HeaderValue, StatusCode};

use super::address::Address;
use super::frame::Frame;
use super::socket::{Gone, last_line};
use super::stream::Stream;
use crate::time::Deadline;

/// The longest head of an answer, and the most headers in it.
const MOST_HEAD: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;
/// The longest body: 4096 rows of 30 numbers fit.
const MOST_BODY: usize = 4 << 20;
/// The longest line in front of a chunk.
const MOST_LINE: usize = 1024;
/// A longer body says nothing to people.
const MOST_SAID: usize = 64 * 1024;
/// How long a server is left alone that says nothing of it when it is busy, and when it is starting.
const PAUSE_WHEN_BUSY: Duration = Duration::from_secs(10);
const PAUSE_WHEN_STARTING: Duration = Duration::from_secs(1);
/// The same after another error, which the next question may meet again.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(500);
/// However long it asks for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A connection to a server that answers POSTs.
#[derive(Debug)]
pub(super) struct Http {
    stream: Stream,
    /// Of each request, from the path to before its length.
    head: Vec<u8>,
    inbox: Inbox,
    is_spent: bool,
}

impl Http {
    pub fn new(stream: Stream, address: &Address, authorization: Option<&HeaderValue>) -> Self {
        let mut head = format!(
            " {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: sinew/{}\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n",
            address.path,
            address.host_header(),
            env!("CARGO_PKG_VERSION")
        )
        .into_bytes();
        if let Some(value) = authorization {
            head.extend(b"Authorization: ");
            head.extend(value.as_bytes());
            head.extend(b"\r\n");
        }
        Self { stream, head, inbox: Inbox::default(), is_spent: false }
    }

    /// Whether the server closes the connection behind the answer that it gave.
    pub fn is_spent(&self) -> bool {
        self.is_spent
    }

    pub fn send(&mut self, frame: &Frame, until: Deadline) -> Result<(), Gone> {
        let body = frame.payload();
        self.begin(until)?;
        let mut request = b"POST".to_vec();
        request.extend(&self.head);
        request.extend(format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len()).bytes());
        let sent = self.stream.write_all(&request).and_then(|()| self.stream.write_all(body)).and_then(|()| self.stream.flush());
        sent.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Gone::Broken("the request could not be sent in time".into()),
            // A server that does not want to read it may have said why.
            _ => self
                .receive(Deadline::now())
                .err()
                .filter(|gone| !matches!(gone, Gone::Broken(_)))
                .unwrap_or_else(|| Gone::Broken(format!("sending: {error}"))),
        })
    }

    fn begin(&mut self, until: Deadline) -> Result<(), Gone> {
        if !self.inbox.is_empty() {
            return Err(Gone::Broken("the server answered without a question".into()));
        }
        self.stream.set_deadline(until);
        Ok(())
    }

    /// The body of the next answer, if it is there whole by `until`.
    ///
    /// # Errors
    /// When there will be none, or it is an error.
    pub fn receive(&mut self, until: Deadline) -> Result<Option<Bytes>, Gone> {
        let answer = self.answer(until)?;
        answer.map(|answer| answer.judge().map(Bytes::from)).transpose()
    }

    fn answer(&mut self, until: Deadline) -> Result<Option<Answer>, Gone> {
        self.stream.set_deadline(until);
        let (mut piece, mut has_read) = ([0; 16 * 1024], false);
        loop {
            if let Some(answer) = self.inbox.next(false).map_err(Gone::Broken)? {
                self.is_spent = answer.head.closes;
                return Ok(Some(answer));
            }
            // However many bytes come one by one.
            if has_read && until.is_over() {
                return Ok(None);
            }
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    let is_cut = !self.inbox.is_empty();
                    let answer = self.inbox.next(true).map_err(Gone::Broken)?;
                    self.is_spent = true;
                    let why = if is_cut { " in the middle of an answer" } else { "" };
                    return answer.map(Some).ok_or_else(|| Gone::Broken(format!("the server closed the connection{why}")));
                }
                Ok(count) => self.inbox.bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) => return Err(Gone::Broken(format!("receiving: {error}"))),
            }
            has_read = true;
        }
    }

    /// What it answers to a GET, which starts nothing but a server that sleeps.
    ///
    /// # Errors
    /// When there is nothing there that could be asked.
    pub fn look(&mut self, until: Deadline) -> Result<Json, Gone> {
        self.begin(until)?;
        let request = [b"GET", &*self.head, b"\r\n"].concat();
        self.stream.write_all(&request).and_then(|()| self.stream.flush()).map_err(|error| Gone::Broken(format!("sending: {error}")))?;
        let answer = self.answer(until)?.ok_or_else(|| Gone::Broken("no answer to a GET".into()))?;
        let (status, says) = (answer.head.status, answer.says());
        match answer.judge() {
            Err(gone @ (Gone::Refused(_) | Gone::Broken(_))) => Err(gone),
            Err(gone) if status == StatusCode::NOT_FOUND || status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE => {
                Err(gone)
            }
            Ok(_) | Err(_) => Ok(json!({ "get": status.to_string(), "says": says })),
        }
    }
}

/// What came and was not given out yet.
#[derive(Debug, Default)]
struct Inbox {
    bytes: Vec<u8>,
    head: Option<Head>,
    body: Vec<u8>,
    chunk: Chunk,
}

/// An answer's first part, as far as it matters.
#[derive(Clone, Debug)]
struct Head {
    status: StatusCode,
    location: Option<String>,
    retry_after: Option<Duration>,
    is_page: bool,
    encoding: Option<String>,
    closes: bool,
    framing: Framing,
}

/// Where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    /// With the connection.
    Closed,
}

/// Which part of a chunked body comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Chunk {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailer,
}

/// A whole answer.
#[derive(Debug)]
struct Answer {
    head: Head,
    body: Vec<u8>,
}

impl Inbox {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.head.is_none()
    }

    /// The next answer, if it is whole; `is_end` when nothing more comes.
    fn next(&mut self, is_end: bool) -> Result<Option<Answer>, String> {
        while self.head.is_none() {
            let Some((head, length)) = Head::parse(&self.bytes)? else {
                return if self.bytes.len() > MOST_HEAD { Err(format!("a head of more than {MOST_HEAD} bytes")) } else { Ok(None) };
            };
            self.bytes.drain(..length);
            // "Continue" and the like come before the answer.
            if !head.status.is_informational() {
                self.head = Some(head);
            }
        }
        let is_whole = match self.head.as_ref().map(|head| head.framing) {
            Some(Framing::Length(length)) if self.bytes.len() >= length => {
                self.body = self.bytes.drain(..length).collect();
                true
            }
            Some(Framing::Chunked) => self.unchunk()?,
            Some(Framing::Closed) => {
                self.body.append(&mut self.bytes);
                if self.body.len() > MOST_BODY {
                    return Err(too_long());
                }
                is_end
            }
            Some(Framing::Length(_)) | None => false,
        };
        Ok(self.head.take_if(|_| is_whole).map(|head| Answer { head, body: std::mem::take(&mut self.body) }))
    }

    /// Takes chunks out of their frames; whether it was the last.
    fn unchunk(&mut self) -> Result<bool, String> {
        let mut at = 0;
        let is_last = loop {
            let rest = &self.bytes[at..];
            match self.chunk {
                Chunk::Data(0) => self.chunk = Chunk::DataEnd,
                Chunk::Data(left) => {
                    let count = left.min(rest.len());
                    if count == 0 {
                        break false;
                    }
                    self.body.extend_from_slice(&rest[..count]);
                    at += count;
                    self.chunk = Chunk::Data(left - count);
                }
                Chunk::Size | Chunk::DataEnd | Chunk::Trailer => {
                    let Some(length) = rest.windows(2).take(MOST_LINE).position(|end| end == b"\r\n") else {
                        if rest.len() > MOST_LINE {
                            return Err("a body whose chunks make no sense".into());
                        }
                        break false;
                    };
                    let line = &rest[..length];
                    at += length + 2;
                    match self.chunk {
                        Chunk::Trailer if line.is_empty() => {
                            self.chunk = Chunk::Size;
                            break true;
                        }
                        Chunk::Trailer => {}
                        Chunk::DataEnd if line.is_empty() => self.chunk = Chunk::Size,
                        Chunk::Size => {
                            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                            let digits = std::str::from_utf8(digits).map(str::trim).ok().filter(|digits| !digits.starts_with('+'));
                            let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
                            let size = size.ok_or("a body whose chunks make no sense")?;
                            if size > MOST_BODY - self.body.len() {
                                return Err(too_long());
                            }
                            self.chunk = if size == 0 { Chunk::Trailer } else { Chunk::Data(size) };
                        }
                        _ => return Err("a body whose chunks make no sense".into()),
                    }
                }
            }
        };
        self.bytes.drain(..at);
        Ok(is_last)
    }
}

fn too_long() -> String {
    format!("its answer is longer than {} MiB", MOST_BODY >> 20)
}

impl Head {
    /// The head at the beginning of `bytes`, and how long it is.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("it does not speak HTTP: {error}")),
        };
        let all = |name: &'static str| {
            let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
        };
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("it does not speak HTTP: no status")?;
        let has =
            |name: &'static str, word: &str| all(name).any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)));
        let mut lengths: Vec<String> = all("content-length").collect();
        lengths.dedup();
        let framing = match (&lengths[..], all("transfer-encoding").next()) {
            _ if status.is_informational() || matches!(status.as_u16(), 204 | 304) => Framing::Length(0),
            ([], Some(encoding)) if encoding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
            ([], None) => Framing::Closed,
            ([length], None) => {
                let length: u64 = length.parse().map_err(|_| format!("the length {length:?} of its answer"))?;
                Framing::Length(usize::try_from(length).ok().filter(|length| *length <= MOST_BODY).ok_or_else(too_long)?)
            }
            _ => return Err("two lengths of its answer, or an unknown coding".into()),
        };
        let closes =
            framing == Framing::Closed || has("connection", "close") || response.version == Some(0) && !has("connection", "keep-alive");
        let seconds = all("retry-after").next().and_then(|value| value.parse().ok()).map(Duration::from_secs);
        let head = Self {
            status,
            location: all("location").next(),
            retry_after: seconds,
            is_page: all("content-type").any(|kind| kind.to_ascii_lowercase().contains("html")),
            encoding: all("content-encoding").find(|encoding| !encoding.eq_ignore_ascii_case("identity")),
            closes,
            framing,
        };
        Ok(Some((head, length)))
    }
}

impl Answer {
    /// The body of an answer that is none of an error.
    fn judge(self) -> Result<Vec<u8>, Gone> {
        let Self { head, .. } = &self;
        let status = head.status;
        let words = || {
            let says = self.says().map(|says| format!(": {says}")).unwrap_or_default();
            format!("it answered {status}{says}")
        };
        let later = |pause: Duration, what: String, is_starting| Gone::Later {
            what,
            pause: head.retry_after.unwrap_or(pause).clamp(Duration::from_millis(100), LONGEST_PAUSE),
            is_starting,
        };
        match status.as_u16() {
            200..=299 if head.is_page => Err(later(PAUSE_AFTER_ERROR, "it answered with a web page, and no actions".into(), false)),
            200..=299 if head.encoding.is_some() => Err(Gone::Broken(format!(
                "its answer is coded as {:?}, which nobody asked for",
                head.encoding.as_deref().unwrap_or_default()
            ))),
            200..=299 => Ok(self.body),
            300..=399 => {
                let place = head.location.as_deref().map_or("nowhere".to_owned(), last_line);
                Err(Gone::Refused(format!(
                    "it answered {status} and sends to {place}, where nothing is sent; if that is the server, name it"
                )))
            }
            401 | 403 => Err(Gone::Refused(words())),
            429 => Err(later(PAUSE_WHEN_BUSY, words(), false)),
            503 => Err(later(PAUSE_WHEN_STARTING, words(), true)),
            _ => Err(later(PAUSE_AFTER_ERROR, words(), false)),
        }
    }

    /// What it says of an error, in a line.
    fn says(&self) -> Option<String> {
        if self.head.is_page || self.head.encoding.is_some() || self.body.len() > MOST_SAID {
            return None;
        }
        let text = match serde_json::from_slice::<Json>(&self.body) {
            Ok(json) => ["error", "detail", "message"].iter().find_map(|key| match json.get(key)? {
                Json::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            }),
            Err(_) => Some(String::from_utf8_lossy(&self.body).into_owned()),
        };
        text.map(|text| last_line(&text)).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes out of `bytes` in pieces of `size`, up to the first fault.
    fn taken(bytes: &[u8], size: usize) -> Vec<Result<(u16, Vec<u8>), String>> {
        let (mut inbox, mut all) = (Inbox::default(), Vec::new());
        for (i, piece) in bytes.chunks(size).enumerate() {
            inbox.bytes.extend_from_slice(piece);
            let is_end = (i + 1) * size >= bytes.len();
            loop {
                match inbox.next(is_end) {
                    Ok(Some(answer)) => all.push(Ok((answer.head.status.as_u16(), answer.body))),
                    Ok(None) => break,
                    Err(what) => {
                        all.push(Err(what));
                        return all;
                    }
                }
            }
        }
        all
    }

    fn part() -> impl Strategy<Value = Vec<u8>> {
        let known = [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 503 No\r\n",
            "Content-Length: 4\r\n",
            "Transfer-Encoding: chunked\r\n",
            "\r\n",
            "4\r\nabcd\r\n",
            "0\r\n\r\n",
            "[]",
            "f;x=y\r\n",
        ];
        prop_oneof![
            8 => prop::sample::select(known.map(|text| text.as_bytes().to_vec()).to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
        ]
    }

    proptest! {
        #[test]
        fn the_same_comes_out_however_it_came_in(parts in prop::collection::vec(part(), 0..14), size in 1_usize..20) {
            let bytes = parts.concat();
            prop_assert_eq!(taken(&bytes, size), taken(&bytes, bytes.len().max(1)));
        }
    }

    #[test]
    fn a_head_and_a_line_of_chunks_have_an_end() {
        let long = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; MOST_HEAD + 1]].concat();
        assert!(taken(&long, 4096).remove(0).unwrap_err().contains("a head of more than"));
        let line = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), vec![b'1'; 2 * MOST_LINE]].concat();
        assert!(taken(&line, 100).remove(0).unwrap_err().contains("chunks make no sense"));
        for size in ["ffffffffffffffff", "fffffffffffffffff", "-1", "+1", ""] {
            let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n");
            assert!(taken(text.as_bytes(), 9).remove(0).is_err(), "{size}");
        }
    }
}
