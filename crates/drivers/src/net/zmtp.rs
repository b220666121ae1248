//! As much of ZeroMQ's wire as LeRobot's programs use: ZMTP 3.0 (<https://rfc.zeromq.org/spec/23/>) with the NULL mechanism
//! between a PUSH and a PULL socket, or a SUB and a PUB, messages of several parts included.

use std::io::{self, Read, Write};

const GREETING: usize = 64;
/// No command of a hand-shake is longer.
const MOST_COMMAND: usize = 4096;
/// The property by which one of ours says that it may. Others ignore it: the specification leaves names with `X-` to
/// applications.
const TOKEN: &str = "X-Sinew-Token";

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Push,
    Pull,
    /// Only this side of its pair.
    Sub,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Push => "PUSH",
            Self::Pull => "PULL",
            Self::Sub => "SUB",
        }
    }

    /// What may be at the other side.
    fn others(self) -> &'static [&'static str] {
        match self {
            Self::Push => &["PULL"],
            Self::Pull => &["PUSH"],
            Self::Sub => &["PUB", "XPUB"],
        }
    }
}

/// How much a message may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Most {
    pub parts: usize,
    pub bytes: usize,
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// The hand-shake of who connects, with a socket of `kind`.
///
/// # Errors
/// When the other side speaks something else, has a socket of another kind, or refuses.
pub(crate) fn connect(stream: &mut (impl Read + Write), kind: Kind, token: Option<&str>) -> io::Result<()> {
    stream.write_all(&greeting())?;
    stream.write_all(&ready(kind, token))?;
    stream.flush()?;
    meet(stream, kind)?;
    Ok(())
}

/// The hand-shake of who was connected to; `admits` is shown the other side's token.
///
/// # Errors
/// As [`connect`], and when it is not admitted, which it is told.
pub(crate) fn accept(stream: &mut (impl Read + Write), kind: Kind, admits: impl FnOnce(Option<&[u8]>) -> bool) -> io::Result<()> {
    stream.write_all(&greeting())?;
    stream.flush()?;
    let token = meet(stream, kind)?;
    if !admits(token.as_deref()) {
        const WHY: &str = "expected the host's token";
        let mut body = vec![5];
        body.extend(b"ERROR");
        body.push(WHY.len() as u8);
        body.extend(WHY.as_bytes());
        let mut frame = Vec::new();
        begin_frame(&mut frame, COMMAND, body.len());
        frame.extend(body);
        stream.write_all(&frame)?;
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, WHY));
    }
    stream.write_all(&ready(kind, None))?;
    stream.flush()
}

fn greeting() -> [u8; GREETING] {
    let mut greeting = [0; GREETING];
    (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

fn ready(kind: Kind, token: Option<&str>) -> Vec<u8> {
    let mut body = vec![5];
    body.extend(b"READY");
    let properties = [("Socket-Type", kind.name())].into_iter().chain(token.map(|token| (TOKEN, token)));
    for (name, value) in properties {
        body.push(name.len() as u8);
        body.extend(name.as_bytes());
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    let mut frame = Vec::new();
    begin_frame(&mut frame, COMMAND, body.len());
    frame.extend(body);
    frame
}

/// Reads greeting and READY of the other side; returns its token.
fn meet(stream: &mut impl Read, kind: Kind) -> io::Result<Option<Vec<u8>>> {
    let mut greeting = [0; GREETING];
    stream.read_exact(&mut greeting)?;
    if (greeting[0], greeting[9] & 1) != (0xff, 1) || greeting[10] < 3 {
        return Err(wrong(format!("expected ZeroMQ's greeting, version 3 or newer, found {:02x?}", &greeting[..12])));
    }
    if greeting[12..32].split(|byte| *byte == 0).next() != Some(b"NULL") {
        return Err(wrong("expected ZeroMQ without a security mechanism, found one"));
    }
    let (flags, body) = read_frame(stream, MOST_COMMAND)?;
    let command = || body.split_first()?.1.split_at_checked(usize::from(body[0]));
    let (name, mut properties) = command()
        .filter(|_| flags & COMMAND != 0)
        .ok_or_else(|| wrong("expected a command of ZeroMQ's hand-shake, found something else"))?;
    if name == b"ERROR" {
        let why = properties.split_first().map_or_else(String::new, |(_, why)| printable(why));
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it refuses: {why}")));
    }
    if name != b"READY" {
        return Err(wrong("expected READY of ZeroMQ's hand-shake, found another command"));
    }
    let (mut has_kind, mut token) = (false, None);
    while !properties.is_empty() {
        let (name, value, rest) =
            property(properties).ok_or_else(|| wrong("expected whole properties in ZeroMQ's READY, found a part of one"))?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            has_kind = kind.others().iter().any(|name| value == name.as_bytes());
        } else if name.eq_ignore_ascii_case(TOKEN.as_bytes()) {
            token = Some(value.to_vec());
        }
        properties = rest;
    }
    if !has_kind {
        return Err(wrong(format!("expected a {} socket at the other side, found another", kind.others()[0])));
    }
    Ok(token)
}

/// What a stranger wrote, so that it harms no terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A property's name, its value, and what follows.
fn property(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*len))?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    Some((name, value, rest))
}

/// What a SUB socket sends so that all messages come to it.
pub(crate) fn subscription() -> Vec<u8> {
    message(&[&[1]])
}

fn read_frame(stream: &mut impl Read, most: usize) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 1];
    stream.read_exact(&mut head)?;
    let flags = head[0];
    let len = if flags & LONG == 0 {
        stream.read_exact(&mut head)?;
        u64::from(head[0])
    } else {
        let mut len = [0; 8];
        stream.read_exact(&mut len)?;
        u64::from_be_bytes(len)
    };
    if flags & !(MORE | LONG | COMMAND) != 0 {
        return Err(wrong(format!("expected a frame of ZeroMQ, found one with the flags {flags:#04x}")));
    }
    if len > most as u64 {
        return Err(wrong(format!("expected at most {most} bytes, found {len}")));
    }
    // Memory grows with what comes, not with what was announced.
    let mut body = Vec::new();
    stream.take(len).read_to_end(&mut body)?;
    if body.len() as u64 == len { Ok((flags, body)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads the parts of the next message; commands between messages are skipped.
///
/// # Errors
/// When the connection ends, or what comes is no message or too much.
pub(crate) fn read_message(stream: &mut impl Read, most: Most) -> io::Result<Vec<Vec<u8>>> {
    let (mut parts, mut left) = (Vec::new(), most.bytes);
    loop {
        let (flags, body) = read_frame(stream, left)?;
        if flags & COMMAND != 0 {
            continue;
        }
        left -= body.len();
        parts.push(body);
        if flags & MORE == 0 {
            return Ok(parts);
        }
        if parts.len() >= most.parts {
            return Err(wrong(format!("expected at most {} parts in a message, found more", most.parts)));
        }
    }
}

/// Appends a message of one part, without allocating where `out` has room.
pub(crate) fn write_message(out: &mut Vec<u8>, part: &[u8]) {
    begin_frame(out, 0, part.len());
    out.extend_from_slice(part);
}

/// A message of several parts.
pub(crate) fn message(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(parts.iter().map(|part| part.len() + 9).sum());
    for (i, part) in parts.iter().enumerate() {
        begin_frame(&mut out, if i + 1 < parts.len() { MORE } else { 0 }, part.len());
        out.extend_from_slice(part);
    }
    out
}

fn begin_frame(out: &mut Vec<u8>, flags: u8, len: usize) {
    match u8::try_from(len) {
        Ok(short) => out.extend([flags, short]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend((len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads what was written before, and keeps what is written.
    struct Tape<'a> {
        to_read: &'a [u8],
        written: Vec<u8>,
    }

    impl Read for Tape<'_> {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.to_read.read(bytes)
        }
    }

    impl Write for Tape<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tape(to_read: &[u8]) -> Tape<'_> {
        Tape { to_read, written: Vec::new() }
    }

    /// As libzmq 4.3.5 begins on a PULL socket.
    fn libzmq() -> Vec<u8> {
        let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
        bytes.extend(b"NULL");
        bytes.resize(GREETING, 0);
        bytes.extend(b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x04PULL".iter());
        bytes[GREETING + 1] = (bytes.len() - GREETING - 2) as u8;
        bytes
    }

    #[test]
    fn a_hand_shake_with_libzmq_is_understood() {
        let bytes = libzmq();
        let mut push = tape(&bytes);
        connect(&mut push, Kind::Push, None).unwrap();
        // What a PUSH socket of ours says is what a PULL of ours accepts.
        let mut pull = tape(&push.written);
        accept(&mut pull, Kind::Pull, |token| token.is_none()).unwrap();
        let error = connect(&mut tape(&bytes), Kind::Pull, None).unwrap_err();
        assert!(error.to_string().contains("expected a PUSH socket"), "{error}");
    }

    #[test]
    fn who_has_no_token_is_told_so() {
        let mut with = tape(&[]);
        connect(&mut with, Kind::Push, Some("secret")).unwrap_err();
        accept(&mut tape(&with.written), Kind::Pull, |token| token == Some(b"secret")).unwrap();
        let mut host = tape(&with.written);
        let error = accept(&mut host, Kind::Pull, |token| token == Some(b"another")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let error = connect(&mut tape(&host.written), Kind::Push, None).unwrap_err();
        assert!(error.to_string().contains("refuses") && error.to_string().contains("token"), "{error}");
    }

    #[test]
    fn what_is_too_much_is_not_read() {
        let most = Most { parts: 2, bytes: 10 };
        let read = |bytes: &[u8]| read_message(&mut &*bytes, most);
        assert_eq!(read(&message(&[b"abc", b""])).unwrap(), [b"abc".to_vec(), vec![]]);
        assert!(read(&message(&[b"a", b"b", b"c"])).unwrap_err().to_string().contains("2 parts"));
        assert!(read(&message(&[b"123456", b"12345"])).unwrap_err().to_string().contains("at most 4 bytes"));
        assert!(read(&[LONG, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).unwrap_err().to_string().contains("at most 10"));
        assert!(read(&[0x80, 0]).unwrap_err().to_string().contains("flags"));
    }

    proptest! {
        #[test]
        fn messages_come_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..5)) {
            let mut bytes = Vec::new();
            // A command between messages, such as a PING.
            begin_frame(&mut bytes, COMMAND, 3);
            bytes.extend([1, 2, 3]);
            bytes.extend(message(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            write_message(&mut bytes, &parts[0]);
            let mut reader = &bytes[..];
            let most = Most { parts: 5, bytes: 2000 };
            prop_assert_eq!(&read_message(&mut reader, most).unwrap(), &parts);
            prop_assert_eq!(&read_message(&mut reader, most).unwrap(), &parts[..1]);
            prop_assert!(read_message(&mut reader, most).is_err());
        }

        #[test]
        fn whatever_comes_is_an_error_and_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), keep in 0_usize..100) {
            let fine = libzmq();
            let keep = keep.min(fine.len());
            bytes.splice(0..0, fine[..keep].iter().copied());
            let _ = connect(&mut tape(&bytes), Kind::Push, None);
            let _ = accept(&mut tape(&bytes), Kind::Push, |_| true);
            let _ = read_message(&mut &bytes[..], Most { parts: 3, bytes: 100 });
        }
    }
}
