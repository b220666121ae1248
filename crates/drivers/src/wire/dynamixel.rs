//! Packets of Robotis' protocol 2.0: `FF FF FD 00 id length code parameters CRC`, where length counts what follows it,
//! and a header inside is broken by another FD.

use super::code;
use super::scanner::{Look, Reason, Side};

/// What a packet begins with.
const HEADER: [u8; 4] = [0xff, 0xff, 0xfd, 0x00];

/// Where the code is, which begins the part that is stuffed.
const CODE: usize = 7;

pub(super) fn begin(out: &mut Vec<u8>, id: u8, code: u8) {
    out.extend(HEADER);
    out.extend([id, 0, 0, code]);
}

/// Stuffs, and fills in length and CRC.
pub(super) fn finish(out: &mut Vec<u8>) {
    let mut at = CODE + 2;
    while at < out.len() {
        if out[at - 2..=at] == HEADER[..3] {
            out.insert(at + 1, 0xfd);
            at += 1;
        }
        at += 1;
    }
    set_length(out);
    let crc = crc(out);
    out.extend(crc.to_le_bytes());
}

/// Length of a packet whose CRC is still missing.
fn set_length(out: &mut [u8]) {
    let length = u16::try_from(out.len() - CODE + 2).unwrap_or(u16::MAX);
    if let Some(bytes) = out.get_mut(5..7) {
        bytes.copy_from_slice(&length.to_le_bytes());
    }
}

/// The checksum of protocol 2.0: a CRC of 16 bits with the polynomial 0x8005, from 0 on, high bit first.
pub const fn crc(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let mut at = 0;
    while at < bytes.len() {
        crc = crc << 8 ^ TABLE[(crc >> 8 ^ bytes[at] as u16) as usize & 0xff];
        at += 1;
    }
    crc
}

const TABLE: [u16; 256] = {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x8005 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// How many bytes lie before what may be a header.
pub(super) fn foreign(bytes: &[u8]) -> usize {
    let may_begin = |at: &usize| bytes[*at..].iter().zip(&HEADER).all(|(found, expected)| found == expected);
    (0..bytes.len()).find(may_begin).unwrap_or(bytes.len())
}

/// What begins with `bytes`, which begin with what may be a header. Of a status packet at most `most` bytes of data
/// are believed.
pub(super) fn look(bytes: &[u8], side: Side, most: usize) -> Look {
    let Some(&[id, low, high]) = bytes.get(4..CODE) else { return Look::Wait };
    if !side.has_id(id, 252) && id != super::BROADCAST {
        return Look::Skip(Reason::Id { found: id });
    }
    let length = usize::from(u16::from_le_bytes([low, high]));
    let len = length + CODE;
    let Some(code) = bytes.get(CODE) else {
        let is_possible = length >= 3 && len <= super::LONGEST;
        return if is_possible { Look::Wait } else { Look::Skip(Reason::Length { id, found: length }) };
    };
    let is_status = *code == code::STATUS;
    let (least, most) = if is_status { (4, stuffed(most)) } else { (3, super::LONGEST) };
    if length < least || length - least > most || len > super::LONGEST {
        return Look::Skip(Reason::Length { id, found: length });
    }
    let body = &bytes[CODE..bytes.len().min(len - 2)];
    // Motors that answer together can't stuff: none knows what the others say.
    let is_fast = is_status && id == super::BROADCAST;
    if !is_fast && (!is_stuffed(body, bytes.len() >= len - 2)) {
        return Look::Skip(Reason::Stuffing { id });
    }
    if bytes.len() < len {
        return Look::Wait;
    }
    let found = u16::from_le_bytes([bytes[len - 2], bytes[len - 1]]);
    let expected = crc(&bytes[..len - 2]);
    if found == expected { Look::Packet(len) } else { Look::Skip(Reason::Checksum { id, found, expected }) }
}

/// The most bytes that so many become by stuffing.
const fn stuffed(data: usize) -> usize {
    data + data.div_ceil(3)
}

/// Whether no header stands in `body`, of which all or only a beginning is known.
fn is_stuffed(body: &[u8], is_whole: bool) -> bool {
    body.windows(3).enumerate().filter(|(_, three)| **three == HEADER[..3]).all(|(at, _)| match body.get(at + 3) {
        Some(byte) => *byte == 0xfd,
        None => !is_whole,
    })
}

/// Copies `body` without its stuffing; how many bytes that are.
pub(super) fn unstuff(body: &[u8], plain: &mut [u8]) -> usize {
    let mut len = 0;
    let mut at = 0;
    while at < body.len() && len < plain.len() {
        plain[len] = body[at];
        len += 1;
        if at >= 2 && body[at - 2..=at] == HEADER[..3] {
            at += 1;
        }
        at += 1;
    }
    len
}

/// Fills in the length and the CRC of each part of a fast answer, whose parts end at `ends`.
pub(super) fn finish_fast(out: &mut [u8], ends: impl Iterator<Item = usize>) {
    let length = u16::try_from(out.len() - CODE).unwrap_or(u16::MAX);
    if let Some(bytes) = out.get_mut(5..7) {
        bytes.copy_from_slice(&length.to_le_bytes());
    }
    for end in ends {
        let crc = crc(&out[..end - 2]);
        out[end - 2..end].copy_from_slice(&crc.to_le_bytes());
    }
}

/// One motor's part of a fast answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastAnswer<'a> {
    pub id: u8,
    /// As [`Protocol::status_error`](super::Protocol::status_error) reads it.
    pub error: u8,
    pub data: &'a [u8],
}

/// The parts of a fast answer, from the error byte and the parameters of its packet. Ends where a motor is not known
/// to `len`, which says how many bytes each was asked for, or bytes are missing.
pub struct FastAnswers<'a, F> {
    error: Option<u8>,
    rest: &'a [u8],
    len: F,
}

impl<'a, F: FnMut(u8) -> Option<usize>> FastAnswers<'a, F> {
    pub fn new(error: u8, params: &'a [u8], len: F) -> Self {
        Self { error: Some(error), rest: params, len }
    }
}

impl<'a, F: FnMut(u8) -> Option<usize>> Iterator for FastAnswers<'a, F> {
    type Item = FastAnswer<'a>;

    fn next(&mut self) -> Option<FastAnswer<'a>> {
        let error = self.error.take()?;
        let (id, rest) = self.rest.split_first()?;
        let (data, rest) = rest.split_at_checked((self.len)(*id)?)?;
        // Between two parts lie the CRC so far and the next error byte; the last part's CRC is the packet's.
        self.error = rest.get(2).copied();
        self.rest = rest.get(3..).unwrap_or_default();
        Some(FastAnswer { id: *id, error, data })
    }
}
