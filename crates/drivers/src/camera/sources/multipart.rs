//! The parts of a `multipart/x-mixed-replace` body, as it comes in pieces (RFC 2046, 5.1, and what cameras make of it).

use sinew_core::Timestamp;

/// No picture has more bytes, nor the lines before it.
const MOST_BYTES: usize = 16 << 20;
const MOST_HEADERS: usize = 16 << 10;

/// Takes pieces of a body and gives its parts.
#[derive(Debug)]
pub(super) struct Multipart {
    /// What stands in the delimiter behind its dashes. Some say `boundary=--x` and then send `--x`: how many dashes there are
    /// does not count.
    token: Vec<u8>,
    bytes: Vec<u8>,
    state: State,
    /// How much of `bytes` was searched and has no delimiter.
    searched: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a delimiter's line.
    Between,
    /// In the lines behind it.
    Headers,
    /// In a part, which has so many bytes where it says so; since when.
    Body { length: Option<usize>, since: Option<Timestamp> },
}

/// A part, and when the first of its bytes came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub bytes: Vec<u8>,
    pub since: Timestamp,
}

impl Multipart {
    /// For the body of a response with this `Content-Type`. The error says what was expected.
    pub fn new(content_type: &str) -> Result<Self, String> {
        let mut fields = content_type.split(';').map(str::trim);
        let kind = fields.next().unwrap_or_default();
        if !kind.eq_ignore_ascii_case("multipart/x-mixed-replace") {
            return Err(format!("expected multipart/x-mixed-replace (MJPEG), found {kind:?}"));
        }
        let boundary = fields.find_map(|field| {
            let (name, value) = field.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').trim_start_matches('-'))
        });
        match boundary {
            Some(token) if !token.is_empty() => {
                Ok(Self { token: token.as_bytes().to_vec(), bytes: Vec::new(), state: State::Between, searched: 0 })
            }
            _ => Err(format!("expected a boundary between its parts, found {content_type:?}")),
        }
    }

    /// The next piece came then.
    pub fn feed(&mut self, piece: &[u8], now: Timestamp) {
        self.bytes.extend_from_slice(piece);
        self.stamp(now);
    }

    fn stamp(&mut self, now: Timestamp) {
        if let State::Body { since: since @ None, .. } = &mut self.state
            && !self.bytes.is_empty()
        {
            *since = Some(now);
        }
    }

    /// The next part that is whole; `None` when more must come. `now` is when the last piece came.
    ///
    /// # Errors
    /// When what comes is no such body.
    pub fn next(&mut self, now: Timestamp) -> Result<Option<Part>, String> {
        loop {
            match self.state {
                State::Between => {
                    let Some(end) = self.delimiter_line() else {
                        if self.bytes.len() > MOST_HEADERS {
                            return Err(format!("expected a line --{} between parts, found none", String::from_utf8_lossy(&self.token)));
                        }
                        return Ok(None);
                    };
                    self.drop_front(end);
                    self.state = State::Headers;
                }
                State::Headers => {
                    let Some((end, length)) = self.headers()? else { return Ok(None) };
                    self.drop_front(end);
                    self.state = State::Body { length, since: None };
                    self.stamp(now);
                }
                State::Body { length, since } => {
                    let Some((end, next)) = self.body_end(length)? else { return Ok(None) };
                    let bytes = self.bytes[..end].to_vec();
                    self.drop_front(next);
                    self.state = State::Between;
                    return Ok(Some(Part { bytes, since: since.unwrap_or(now) }));
                }
            }
        }
    }

    fn drop_front(&mut self, count: usize) {
        self.bytes.drain(..count);
        self.searched = 0;
    }

    /// Where the line of a delimiter ends.
    fn delimiter_line(&self) -> Option<usize> {
        let mut at = 0;
        while let Some(length) = self.bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = self.bytes[at..at + length].trim_ascii_end();
            let dashes = line.iter().take_while(|byte| **byte == b'-').count();
            if line[dashes..].starts_with(&self.token) {
                return Some(at + length + 1);
            }
            at += length + 1;
        }
        None
    }

    /// Where the lines of a part's head end, and the length that they tell.
    fn headers(&self) -> Result<Option<(usize, Option<usize>)>, String> {
        let (mut at, mut length_told) = (0, None);
        while let Some(length) = self.bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = self.bytes[at..at + length].trim_ascii();
            at += length + 1;
            if line.is_empty() {
                return Ok(Some((at, length_told)));
            }
            let line = String::from_utf8_lossy(line);
            if let Some((name, value)) = line.split_once(':')
                && name.trim().eq_ignore_ascii_case("content-length")
            {
                let length = value.trim().parse().ok().filter(|length| *length <= MOST_BYTES);
                length_told =
                    Some(length.ok_or_else(|| format!("expected at most {MOST_BYTES} bytes a picture, found {:?}", value.trim()))?);
            }
        }
        if self.bytes.len() > MOST_HEADERS { Err("expected an empty line before a picture, found none".to_owned()) } else { Ok(None) }
    }

    /// Where the part ends, and where what is not of it begins.
    fn body_end(&mut self, length: Option<usize>) -> Result<Option<(usize, usize)>, String> {
        if let Some(length) = length {
            return Ok((self.bytes.len() >= length).then_some((length, length)));
        }
        // From a newline on: the delimiter belongs to its own line.
        let mut at = self.searched;
        while let Some(found) = self.bytes[at..].iter().position(|byte| *byte == b'\n') {
            let newline = at + found;
            let line = &self.bytes[newline + 1..];
            let dashes = line.iter().take_while(|byte| **byte == b'-').count();
            let rest = &line[dashes..];
            if dashes >= 2 && rest.starts_with(&self.token) {
                let end = if newline > 0 && self.bytes[newline - 1] == b'\r' { newline - 1 } else { newline };
                return Ok(Some((end, newline + 1)));
            }
            // It may be one as soon as more has come.
            if self.token.starts_with(rest) || line.is_empty() {
                self.searched = newline;
                return Ok(None);
            }
            at = newline + 1;
        }
        self.searched = self.bytes.len();
        if self.bytes.len() > MOST_BYTES { Err(format!("expected at most {MOST_BYTES} bytes a picture, found more")) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(content_type: &str, body: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, String> {
        let mut multipart = Multipart::new(content_type)?;
        let mut parts = Vec::new();
        for (i, piece) in body.chunks(piece).enumerate() {
            let now = Timestamp::from_nanos(i as i64);
            multipart.feed(piece, now);
            while let Some(part) = multipart.next(now)? {
                parts.push(part.bytes);
            }
        }
        Ok(parts)
    }

    #[test]
    fn parts_come_out_however_they_are_framed_and_cut() {
        let pictures = [b"\xff\xd8one\r\n--no\n-\xff\xd9".to_vec(), b"\xff\xd8 two \xff\xd9".to_vec(), vec![b'-'; 50]];
        for (boundary, line) in [("frame", "--frame"), ("--frame", "--frame"), ("\"--frame\"", "----frame"), ("\"frame\"", "--frame")] {
            for (newline, has_length) in [("\r\n", true), ("\r\n", false), ("\n", true), ("\n", false)] {
                let mut body = Vec::new();
                for picture in &pictures {
                    body.extend_from_slice(format!("{line}{newline}Content-Type: image/jpeg{newline}").as_bytes());
                    if has_length {
                        body.extend_from_slice(format!("CONTENT-length : {}{newline}", picture.len()).as_bytes());
                    }
                    body.extend_from_slice(newline.as_bytes());
                    body.extend_from_slice(picture);
                    body.extend_from_slice(newline.as_bytes());
                }
                body.extend_from_slice(format!("{line}--{newline}").as_bytes());
                for piece in [1, 2, 7, 1000] {
                    let found = parts(&format!("multipart/x-mixed-replace;boundary={boundary}"), &body, piece).unwrap();
                    assert_eq!(found, pictures, "{boundary} {newline:?} {has_length} {piece}");
                }
            }
        }
    }

    #[test]
    fn a_part_is_as_old_as_its_first_byte() {
        let mut multipart = Multipart::new("multipart/x-mixed-replace; boundary=f").unwrap();
        let at = Timestamp::from_nanos;
        let pieces: [&[u8]; 4] = [b"--f\r\nContent-Length: 4\r\n", b"\r\n", b"ab", b"cd\r\n--f"];
        for (i, piece) in pieces.into_iter().enumerate() {
            assert_eq!(multipart.next(at(i as i64)).unwrap(), None);
            multipart.feed(piece, at(i as i64));
        }
        assert_eq!(multipart.next(at(3)).unwrap(), Some(Part { bytes: b"abcd".to_vec(), since: at(2) }));
    }

    #[test]
    fn what_is_no_such_body_is_refused() {
        for (content_type, expected) in [
            ("image/jpeg", "found \"image/jpeg\""),
            ("multipart/x-mixed-replace", "a boundary"),
            ("multipart/x-mixed-replace; boundary=--", "a boundary"),
        ] {
            assert!(Multipart::new(content_type).unwrap_err().contains(expected));
        }
        let body = |bytes: &[u8]| parts("multipart/x-mixed-replace; boundary=f", bytes, 100);
        assert!(body(&[b'x'; 20_000]).unwrap_err().contains("--f"));
        assert!(body(b"--f\r\nContent-Length: 99999999999\r\n\r\n").unwrap_err().contains("99999999999"));
        assert!(body(b"--f\r\nContent-Length: -1\r\n\r\n").is_err());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_no_panic(bytes in prop::collection::vec(prop::sample::select(b"\r\n-fx:1".to_vec()), 0..300), piece in 1_usize..40) {
            let _ = parts("multipart/x-mixed-replace; boundary=f", &bytes, piece);
        }
    }
}
