//! The little of HTTP that a server needs: a bounded request's head, short answers, and a websocket's handshake.

use std::io::{self, ErrorKind, Read, Write};

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

/// The longest head of a request.
const MOST_HEAD: usize = 8 * 1024;
const MOST_HEADERS: usize = 48;

/// A request's head, and what came behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub method: String,
    /// Without what stands behind `?`, which is the query.
    pub path: String,
    pub query: String,
    /// Of the websocket, where it is one.
    pub key: Option<String>,
    pub authorization: Option<String>,
    pub host: Option<String>,
    /// Of the page in a browser that sent it.
    pub origin: Option<String>,
    /// What a browser says of that page: `same-origin`, `cross-site`, …
    pub fetch_site: Option<String>,
    pub content_type: Option<String>,
    /// `None` where the length is not told before.
    pub length: Option<u64>,
    /// The operator's.
    pub lease: Option<String>,
    pub rest: Vec<u8>,
}

/// Why there is no head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoHead {
    /// It never came, or slowly; nobody waits for an answer.
    Gone,
    /// The status of the answer, and why.
    Bad(u16, &'static str),
}

/// Reads a head from `stream`, which keeps its own time.
pub(crate) fn read_head(stream: &mut impl Read) -> Result<Head, NoHead> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 1024];
        match stream.read(&mut piece) {
            Ok(0) => return Err(NoHead::Gone),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(NoHead::Gone),
        }
        if let Some(head) = parse(&bytes)? {
            return Ok(head);
        }
        if bytes.len() > MOST_HEAD {
            return Err(NoHead::Bad(431, "the head of the request is too long\n"));
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, NoHead> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let end = match request.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(NoHead::Bad(431, "too many headers\n")),
        Err(_) => return Err(NoHead::Bad(400, "this is no HTTP request\n")),
    };
    let find = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let is_websocket = find("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let target = request.path.unwrap_or_default();
    if !target.starts_with('/') || request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host")).count() > 1 {
        return Err(NoHead::Bad(400, "expected a path, and one Host\n"));
    }
    let length = match (find("transfer-encoding"), find("content-length")) {
        (Some(_), _) => None,
        (None, None) => Some(0),
        (None, Some(length)) => Some(length.parse().map_err(|_| NoHead::Bad(400, "expected a number as Content-Length\n"))?),
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Some(Head {
        method: request.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        key: find("sec-websocket-key").filter(|_| is_websocket && find("sec-websocket-version").as_deref() == Some("13")),
        authorization: find("authorization"),
        host: find("host"),
        origin: find("origin"),
        fetch_site: find("sec-fetch-site"),
        content_type: find("content-type"),
        length,
        lease: find("sinew-lease"),
        rest: bytes.get(end..).unwrap_or_default().to_vec(),
    }))
}

/// An answer with a text, after which the connection is closed.
pub(crate) fn answer(status: u16, text: &str) -> Vec<u8> {
    answer_with(status, "text/plain; charset=utf-8", "", text.as_bytes())
}

/// The same with any content and `more` headers, each with its end of line.
pub(crate) fn answer_with(status: u16, content_type: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        _ => "Service Unavailable",
    };
    let length = body.len();
    let usual = match status {
        401 => "WWW-Authenticate: Bearer\r\n",
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        429 => "Retry-After: 60\r\n",
        503 => "Retry-After: 1\r\n",
        _ => "",
    };
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{usual}{more}X-Content-Type-Options: \
         nosniff\r\nConnection: close\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Shakes hands with who wants a websocket by `key`, and may have said more already (`rest`). Messages have at most so many bytes.
pub(crate) fn accept_websocket<S: Read + Write>(mut stream: S, key: &str, rest: Vec<u8>, most_bytes: usize) -> io::Result<WebSocket<S>> {
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    stream.write_all(accepted.as_bytes())?;
    stream.flush()?;
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(most_bytes);
    config.max_frame_size = Some(most_bytes);
    Ok(WebSocket::from_partially_read(stream, rest, Role::Server, Some(config)))
}

/// The token in the value of `Authorization`.
pub(crate) fn token_in(given: &str) -> Option<&str> {
    let (scheme, rest) = given.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("api-key")).then(|| rest.trim())
}

/// Whether both are the same, in a time that does not tell how much of them is.
pub(crate) fn is_same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0 && a.len() == b.len()
}

/// Whether `given` (the value of `Authorization`) has the token.
pub(crate) fn is_right(token: &str, given: Option<&str>) -> bool {
    given.and_then(token_in).is_some_and(|given| is_same(token.as_bytes(), given.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            (out[0], self.0) = (*first, rest);
            Ok(1)
        }
    }

    #[test]
    fn a_head_is_read_byte_by_byte() {
        let text = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: k\r\nsec-websocket-version: 13\r\nAuthorization: Bearer t\r\n\r\n";
        let head = read_head(&mut Drip(text)).unwrap();
        assert_eq!((&*head.path, head.key.as_deref(), head.authorization.as_deref()), ("/a", Some("k"), Some("Bearer t")));
        assert!(head.origin.is_none() && head.rest.is_empty() && head.query == "b=c" && head.length == Some(0));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let long = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 20_000]].concat();
        for (text, status) in [
            (&b"GET http://x/ HTTP/1.1\r\n\r\n"[..], 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
            (&long, 431),
            ([&b"GET / HTTP/1.1\r\n"[..], &b"A: b\r\n".repeat(60), b"\r\n"].concat().leak(), 431),
        ] {
            assert!(matches!(read_head(&mut &text[..]), Err(NoHead::Bad(found, _)) if found == status), "{status}");
        }
        assert_eq!(read_head(&mut &b"GET / HT"[..]), Err(NoHead::Gone));
    }

    #[test]
    fn only_the_whole_token_is_right() {
        for given in ["Bearer secret", "Api-Key secret", "bearer  secret"] {
            assert!(is_right("secret", Some(given)), "{given}");
        }
        for given in
            [None, Some("secret"), Some("Basic secret"), Some("Bearer secre"), Some("Bearer secrets"), Some("Bearer "), Some("Bearer")]
        {
            assert!(!is_right("secret", given), "{given:?}");
        }
    }
}
