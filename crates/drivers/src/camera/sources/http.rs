//! MJPEG over HTTP: `multipart/x-mixed-replace`, as network cameras, phones and mjpg-streamer serve it.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use sinew_core::{Clock, Timestamp};

use super::multipart::{Multipart, Part};
use super::wire::Wire;
use crate::camera::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream};
use crate::net::host_and_port;

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// How long an answer's head may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const MOST_HEAD: usize = 64 << 10;
const MOST_REDIRECTS: usize = 5;

/// Pictures of `http://[USER[:PASSWORD]@]HOST[:PORT]/PATH`. Each was captured when the first of its bytes came, as far as
/// is known; of those that have come meanwhile the newest is taken, and the others count as lost. One that comes again to the
/// last bit is no new picture: a server that has lost its camera goes on with the last.
pub struct HttpMjpeg {
    url: String,
    clock: Arc<dyn Clock>,
}

impl HttpMjpeg {
    pub fn new(url: String, clock: Arc<dyn Clock>) -> Self {
        Self { url, clock }
    }

    fn lost(&self, what: impl ToString) -> SourceError {
        SourceError::Lost { doing: "opening", source_name: self.name(), what: what.to_string() }
    }

    fn unusable(&self, what: impl ToString) -> SourceError {
        SourceError::Unusable { doing: "opening", source_name: self.name(), what: what.to_string() }
    }

    /// Asks for `url`; the head of the answer, and the connection with what came of the body.
    fn ask(&self, url: &Url) -> Result<(Head, Wire), SourceError> {
        let stream = connect(&url.host, url.port).map_err(|error| self.lost(error))?;
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {host}:{}\r\n", url.path, url.port);
        if let Some(credentials) = &url.credentials {
            request.push_str(&format!("Authorization: Basic {}\r\n", BASE64.encode(credentials.as_bytes())));
        }
        request.push_str("Accept: multipart/x-mixed-replace, */*\r\nUser-Agent: sinew\r\nConnection: close\r\n\r\n");
        (&stream).write_all(request.as_bytes()).map_err(|error| self.lost(error))?;
        let mut wire = Wire::new(stream, self.clock.clone());
        let until = self.clock.now() + ANSWER_WITHIN;
        loop {
            match Head::read(&wire.bytes).map_err(|what| self.unusable(what))? {
                Some((head, length)) => {
                    wire.bytes.drain(..length);
                    return Ok((head, wire));
                }
                None if wire.bytes.len() > MOST_HEAD => return Err(self.unusable("expected an answer of HTTP, found a longer head")),
                None => {}
            }
            if self.clock.now() >= until {
                return Err(self.lost(format!("expected an answer within {ANSWER_WITHIN:?}, found none")));
            }
            wire.fill(until).map_err(|error| self.lost(error))?;
        }
    }
}

impl OpenSource for HttpMjpeg {
    /// The address without its password.
    fn name(&self) -> String {
        Url::parse(&self.url).map_or_else(|_| self.url.clone(), |url| url.shown())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let mut url = Url::parse(&self.url).map_err(|what| self.unusable(what))?;
        for _ in 0..=MOST_REDIRECTS {
            let (head, wire) = self.ask(&url)?;
            match head.status {
                200 => {
                    let body = Multipart::new(&head.content_type).map_err(|what| self.unusable(what))?;
                    let stream = Stream { width: 0, height: 0, format: PixelFormat::Mjpeg, fps: None };
                    let (name, clock) = (self.name(), self.clock.clone());
                    let chunks = head.is_chunked.then(Chunks::default);
                    return Ok(Box::new(Open { name, clock, wire, stream, chunks, body, count: 0, last: None }));
                }
                301 | 302 | 303 | 307 | 308 => url = url.follow(&head.location).map_err(|what| self.unusable(what))?,
                401 | 403 => {
                    let what = format!("it answers {}, expected USER:PASSWORD@ before the host that it knows", head.status);
                    return Err(self.unusable(what));
                }
                // It may be better later.
                status @ (408 | 429 | 500..) => return Err(self.lost(format!("expected status 200, found {status}"))),
                status => return Err(self.unusable(format!("expected status 200, found {status}"))),
            }
        }
        Err(self.unusable(format!("expected at most {MOST_REDIRECTS} redirections, found more")))
    }
}

struct Open {
    name: String,
    clock: Arc<dyn Clock>,
    wire: Wire,
    stream: Stream,
    chunks: Option<Chunks>,
    body: Multipart,
    count: u64,
    /// The last picture and when it came first.
    last: Option<(Vec<u8>, Timestamp)>,
}

impl Open {
    /// Takes what came to the parts.
    fn take_bytes(&mut self, now: Timestamp) -> Result<(), String> {
        match &mut self.chunks {
            None => {
                self.body.feed(&self.wire.bytes, now);
                self.wire.bytes.clear();
            }
            Some(chunks) => {
                let body = &mut self.body;
                chunks.take(&mut self.wire.bytes, |piece| body.feed(piece, now))?;
            }
        }
        Ok(())
    }
}

impl Source for Open {
    fn stream(&self) -> Stream {
        self.stream
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let lost = |name: &str, what: String| SourceError::Lost { doing: "reading", source_name: name.to_owned(), what };
        let until = self.clock.now() + wait;
        loop {
            let now = self.clock.now();
            self.take_bytes(now).map_err(|what| lost(&self.name, what))?;
            let mut newest: Option<Part> = None;
            while let Some(part) = self.body.next(now).map_err(|what| lost(&self.name, what))? {
                self.count += 1;
                newest = Some(part);
            }
            if let Some(Part { bytes, since }) = newest {
                let since = self.last.take().filter(|(last, _)| *last == bytes).map_or(since, |(_, first)| first);
                let (width, height) = (0, 0);
                let format = PixelFormat::Mjpeg;
                take(&Picture { format, width, height, stride: 0, bytes: &bytes, captured_at: since, sequence: self.count });
                self.last = Some((bytes, since));
                return Ok(true);
            }
            if self.clock.now() >= until {
                return Ok(false);
            }
            self.wire.fill(until).map_err(|error| lost(&self.name, error.to_string()))?;
        }
    }
}

pub(super) fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(stream) => {
                stream.set_write_timeout(Some(CONNECT_WITHIN))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// What counts of an answer's head.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    content_type: String,
    location: String,
    is_chunked: bool,
}

impl Head {
    /// The head and its length; `None` when more must come.
    fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("expected an answer of HTTP, found {error}")),
        };
        let mut head = Self { status: response.code.unwrap_or(0), ..Self::default() };
        for header in response.headers {
            let value = String::from_utf8_lossy(header.value).into_owned();
            match header.name.to_ascii_lowercase().as_str() {
                "content-type" => head.content_type = value,
                "location" => head.location = value,
                "transfer-encoding" => head.is_chunked = value.to_ascii_lowercase().contains("chunked"),
                _ => {}
            }
        }
        Ok(Some((head, length)))
    }
}

/// Takes the framing of `Transfer-Encoding: chunked` away (RFC 9112, 7.1).
#[derive(Debug, Default)]
struct Chunks {
    /// What is left of the chunk.
    left: usize,
    /// A chunk has ended, its newline has not come.
    is_behind: bool,
}

impl Chunks {
    fn take(&mut self, bytes: &mut Vec<u8>, mut give: impl FnMut(&[u8])) -> Result<(), String> {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let length = self.left.min(bytes.len() - at);
                give(&bytes[at..at + length]);
                at += length;
                self.left -= length;
                self.is_behind = self.left == 0;
                continue;
            }
            let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') else {
                if bytes.len() - at > 100 {
                    return Err("expected a chunk's length, found none".to_owned());
                }
                break;
            };
            let line = String::from_utf8_lossy(&bytes[at..at + end]).trim().to_owned();
            at += end + 1;
            if std::mem::take(&mut self.is_behind) && line.is_empty() {
                continue;
            }
            let length = line.split(';').next().unwrap_or_default().trim();
            self.left = usize::from_str_radix(length, 16).map_err(|_| format!("expected a chunk's length, found {length:?}"))?;
            if self.left == 0 {
                return Err("the other side ended its answer".to_owned());
            }
        }
        bytes.drain(..at);
        Ok(())
    }
}

/// As much of an address as is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    host: String,
    port: u16,
    path: String,
    /// `USER:PASSWORD`.
    credentials: Option<String>,
}

impl Url {
    /// The error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected http://[USER[:PASSWORD]@]HOST[:PORT]/PATH".to_owned();
        if text.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
            return Err(format!("{}; encrypted connections are not spoken", expected()));
        }
        let rest =
            text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")).and_then(|_| text.get(7..)).ok_or_else(expected)?;
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |at| rest.split_at(at));
        let (credentials, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        let (host, port) = host_and_port(host, 80).ok_or_else(expected)?;
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("{}; in it a space is %20, and so on", expected()));
        }
        let credentials = credentials.map(|user| {
            let user = unescape(user);
            if user.contains(':') { user } else { format!("{user}:") }
        });
        Ok(Self { host, port, path, credentials })
    }

    /// Where an answer points to. Only the same host is told the password.
    fn follow(&self, location: &str) -> Result<Self, String> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(Self { path: location.to_owned(), ..self.clone() });
        }
        let mut url = Self::parse(location).map_err(|what| format!("it points to {location:?}: {what}"))?;
        if url.credentials.is_none() && (&url.host, url.port) == (&self.host, self.port) {
            url.credentials.clone_from(&self.credentials);
        }
        Ok(url)
    }

    /// Without the password.
    fn shown(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = if self.port == 80 { String::new() } else { format!(":{}", self.port) };
        format!("http://{host}{port}{}", self.path)
    }
}

/// `%40` becomes `@`, and so on.
pub(super) fn unescape(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok())).flatten();
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_parts() {
        let url = Url::parse("http://me:p%40ss@cam.local:81/video?x=1#top").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("cam.local", 81, "/video?x=1"));
        assert_eq!((url.credentials.as_deref(), url.shown().as_str()), (Some("me:p@ss"), "http://cam.local:81/video?x=1"));
        assert_eq!(Url::parse("HTTP://[::1]?a").unwrap(), Url { host: "::1".into(), port: 80, path: "/?a".into(), credentials: None });
        for bad in ["", "cam", "rtsp://cam", "https://cam/", "http://", "http://a b/", "http://cam/a b", "http://cam:0/", "http://é"] {
            let result = Url::parse(bad);
            assert!(bad == "http://é" || result.unwrap_err().contains("http://[USER"), "{bad}");
        }
        let same = url.follow("/other").unwrap();
        assert_eq!((same.path.as_str(), same.credentials.as_deref()), ("/other", Some("me:p@ss")));
        assert_eq!(url.follow("http://elsewhere/x").unwrap().credentials, None);
        assert!(url.follow("https://cam.local/x").unwrap_err().contains("encrypted"));
    }

    #[test]
    fn chunks_are_put_together_however_they_are_cut() {
        let body = b"5\r\nabcde\r\n1;x=y\r\n\n\r\nA\r\n0123456789\r\n";
        for piece in [1, 2, 3, 50] {
            let (mut chunks, mut bytes, mut out) = (Chunks::default(), Vec::new(), Vec::new());
            for piece in body.chunks(piece) {
                bytes.extend_from_slice(piece);
                chunks.take(&mut bytes, |piece| out.extend_from_slice(piece)).unwrap();
            }
            assert_eq!(out, b"abcde\n0123456789");
        }
        for bad in [&b"zz\r\n"[..], b"0\r\n", &[b'1'; 200]] {
            assert!(Chunks::default().take(&mut bad.to_vec(), |_| ()).is_err());
        }
    }
}
