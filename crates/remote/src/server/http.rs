//! The little of HTTP that a server needs: a bounded request's head, and short answers.

use std::io::{ErrorKind, Read};

/// The longest head of a request.
const MOST_HEAD: usize = 8 * 1024;
const MOST_HEADERS: usize = 48;

/// A request's head, and what came behind it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub path: String,
    /// Of the websocket, where it is one.
    pub key: Option<String>,
    pub authorization: Option<String>,
    /// Whether a page in a browser sent it.
    pub has_origin: bool,
    pub rest: Vec<u8>,
}

/// Why there is no head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// It never came, or slowly; nobody waits for an answer.
    Gone,
    /// The status of the answer, and why.
    Bad(u16, &'static str),
}

/// Reads a head from `stream`, which keeps its own time.
pub(super) fn read_head(stream: &mut impl Read) -> Result<Head, NoHead> {
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
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(NoHead::Bad(431, "too many headers\n")),
        Err(_) => return Err(NoHead::Bad(400, "this is no HTTP request\n")),
    };
    if request.method != Some("GET") {
        return Err(NoHead::Bad(405, "expected GET\n"));
    }
    let find = |name: &str| {
        let header = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let is_websocket = find("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let path = request.path.unwrap_or("/").split(['?', '#']).next().unwrap_or("/").to_owned();
    Ok(Some(Head {
        path,
        key: find("sec-websocket-key").filter(|_| is_websocket && find("sec-websocket-version").as_deref() == Some("13")),
        authorization: find("authorization"),
        has_origin: find("origin").is_some(),
        rest: bytes.get(length..).unwrap_or_default().to_vec(),
    }))
}

/// An answer with a text, after which the connection is closed.
pub(super) fn answer(status: u16, text: &str) -> Vec<u8> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let length = text.len();
    let more = match status {
        401 => "WWW-Authenticate: Bearer\r\n",
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        429 => "Retry-After: 60\r\n",
        503 => "Retry-After: 1\r\n",
        _ => "",
    };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n{more}X-Content-Type-Options: \
         nosniff\r\nConnection: close\r\n\r\n{text}"
    )
    .into_bytes()
}

/// Whether `given` (the value of `Authorization`) has the token, in a time that does not tell how much of it is right.
pub(super) fn is_right(token: &str, given: Option<&str>) -> bool {
    let given = given.and_then(|given| given.split_once(' ')).map(|(scheme, rest)| (scheme, rest.trim()));
    let Some((_, given)) = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("api-key"))
    else {
        return false;
    };
    let differences = token.bytes().zip(given.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(differences) == 0 && token.len() == given.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
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
        assert!(!head.has_origin && head.rest.is_empty());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let long = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 20_000]].concat();
        for (text, status) in [
            (&b"POST / HTTP/1.1\r\n\r\n"[..], 405),
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
