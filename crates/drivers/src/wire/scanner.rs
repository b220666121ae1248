//! Packets in a stream of bytes that may hold anything.

use super::{BROADCAST, LONGEST, Protocol, code, dynamixel, feetech};

/// Room for a packet, and for what arrives while it is not yet taken.
const CAPACITY: usize = 2 * LONGEST;

/// Who listens, and so what is believed to be a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Answers are expected.
    Master,
    /// Instructions are expected.
    Motor,
}

impl Side {
    pub(super) fn has_id(self, id: u8, most: u8) -> bool {
        id <= most || self == Self::Motor && id == BROADCAST
    }
}

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An answer, with its error byte ([`Protocol::status_error`]).
    Status { error: u8 },
    /// An instruction's code ([`code`](super::code)).
    Instruction { code: u8 },
}

/// A whole packet whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub id: u8,
    /// Dynamixel's packets say it of themselves. Feetech's don't: whatever arrives is taken for what the scanner's side
    /// expects, so that a port that echoes shows a read instruction as an answer; compare with `raw`.
    pub kind: Kind,
    /// Without stuffing.
    pub params: &'a [u8],
    /// As it was on the wire, from the first byte of the header to the last of the checksum.
    pub raw: &'a [u8],
}

/// Why bytes were skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No header is among them.
    Foreign,
    /// A length that no expected packet has.
    Length {
        id: u8,
        found: usize,
    },
    Checksum {
        id: u8,
        found: u16,
        expected: u16,
    },
    /// An error byte with a bit that motors don't have.
    Code {
        id: u8,
        found: u8,
    },
    /// An id that no motor has.
    Id {
        found: u8,
    },
    /// A header inside a packet: the one before it was cut.
    Stuffing {
        id: u8,
    },
    /// A packet that ended too soon ([`Scanner::end`]).
    Cut,
}

/// What was found next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned<'a> {
    Packet(Packet<'a>),
    /// So many bytes up to where the next packet may begin.
    Skipped {
        bytes: usize,
        reason: Reason,
    },
}

/// What stands at a header.
pub(super) enum Look {
    Packet(usize),
    Wait,
    Skip(Reason),
}

/// Finds packets in bytes that arrive in pieces of any size; where they are cut changes nothing of what is found.
/// After what is no packet the search goes on at the next byte that may begin one, also inside of what was taken for a
/// packet, so that a header in garbage costs no packet that follows.
///
/// Allocates when it is made and never again.
pub struct Scanner {
    protocol: Protocol,
    side: Side,
    most: usize,
    buffer: Box<[u8]>,
    plain: Box<[u8]>,
    begin: usize,
    end: usize,
    is_over: bool,
}

impl Scanner {
    pub fn new(protocol: Protocol, side: Side) -> Self {
        let room = || vec![0; CAPACITY].into_boxed_slice();
        Self { protocol, side, most: LONGEST, buffer: room(), plain: room(), begin: 0, end: 0, is_over: false }
    }

    /// From here on an answer with more than `data` bytes of data (after the error byte) is none. Set it to what was
    /// asked for: a header in garbage that claims a long packet then delays nothing. Also what is already in here is
    /// judged so.
    pub fn expect_at_most(&mut self, data: usize) {
        self.most = data;
    }

    /// Takes what arrived and says how many bytes there was room for: all of them when [`scan`](Self::scan) was called
    /// until it found nothing and there are at most [`LONGEST`].
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        if self.begin > 0 && self.end + bytes.len() > self.buffer.len() {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        let taken = bytes.len().min(self.buffer.len() - self.end);
        self.buffer[self.end..self.end + taken].copy_from_slice(&bytes[..taken]);
        self.end += taken;
        self.is_over &= taken == 0;
        taken
    }

    /// Nothing more will come, as after a deadline: a packet that is not whole yet counts as garbage, and what it was
    /// hiding is found. Until something is fed.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// Forgets what has arrived; how many bytes that were.
    pub fn clear(&mut self) -> usize {
        let forgotten = self.pending();
        (self.begin, self.end, self.is_over) = (0, 0, false);
        forgotten
    }

    /// Bytes that have arrived and are neither part of a packet nor skipped so far.
    pub fn pending(&self) -> usize {
        self.end - self.begin
    }

    /// The next packet, or what was skipped on the way to it. `None` when more bytes are needed.
    pub fn scan(&mut self) -> Option<Scanned<'_>> {
        let foreign = self.foreign(self.begin);
        if foreign > 0 {
            self.begin += foreign;
            return Some(Scanned::Skipped { bytes: foreign, reason: Reason::Foreign });
        }
        let bytes = &self.buffer[self.begin..self.end];
        if bytes.is_empty() {
            return None;
        }
        let look = match self.protocol {
            Protocol::Feetech0 | Protocol::Feetech1 => feetech::look(bytes, self.side, self.most),
            Protocol::Dynamixel2 => dynamixel::look(bytes, self.side, self.most),
        };
        match look {
            Look::Wait if !self.is_over => None,
            Look::Wait => Some(self.skip(Reason::Cut)),
            Look::Skip(reason) => Some(self.skip(reason)),
            Look::Packet(len) => Some(Scanned::Packet(self.take(len))),
        }
    }

    fn foreign(&self, from: usize) -> usize {
        let bytes = &self.buffer[from..self.end];
        match self.protocol {
            Protocol::Feetech0 | Protocol::Feetech1 => feetech::foreign(bytes, self.side),
            Protocol::Dynamixel2 => dynamixel::foreign(bytes),
        }
    }

    /// Skips what may be a header, and all up to the next one.
    fn skip(&mut self, reason: Reason) -> Scanned<'static> {
        let bytes = 1 + self.foreign(self.begin + 1);
        self.begin += bytes;
        Scanned::Skipped { bytes, reason }
    }

    fn take(&mut self, len: usize) -> Packet<'_> {
        let raw = &self.buffer[self.begin..self.begin + len];
        self.begin += len;
        match self.protocol {
            Protocol::Feetech0 | Protocol::Feetech1 => {
                let kind = match self.side {
                    Side::Master => Kind::Status { error: raw[4] },
                    Side::Motor => Kind::Instruction { code: raw[4] },
                };
                Packet { id: raw[2], kind, params: &raw[5..len - 1], raw }
            }
            Protocol::Dynamixel2 => {
                let (id, body) = (raw[4], &raw[7..len - 2]);
                let is_fast = id == BROADCAST && body[0] == code::STATUS;
                let plain = if is_fast {
                    body
                } else {
                    let plain_len = dynamixel::unstuff(body, &mut self.plain);
                    &self.plain[..plain_len]
                };
                if plain[0] == code::STATUS && plain.len() > 1 {
                    Packet { id, kind: Kind::Status { error: plain[1] }, params: &plain[2..], raw }
                } else {
                    Packet { id, kind: Kind::Instruction { code: plain[0] }, params: &plain[1..], raw }
                }
            }
        }
    }
}
