//! Frames as lines of text: what serial CAN adapters speak (Lawicel's protocol, and CANable's letters for CAN FD).
//!
//! A line ends with a carriage return, and there is no checksum: a line whose length or digits are wrong is dropped, and a
//! digit that became another one can't be told.
//!
//! ```
//! assert_eq!(sinew_drivers::can::slcan::bit_rate(1_000_000), Some(&b"S8\r"[..]));
//! ```

use super::{CanFormat, CanFrame};

/// The longest line: a frame of 64 bytes with an identifier of 29 bits and a time stamp.
const LONGEST: usize = 1 + 8 + 1 + 128 + 4;
/// What an adapter says when it refuses.
const BELL: u8 = 7;
const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// The command that sets the bit rate, `None` where the protocol has no such rate.
pub fn bit_rate(bits_per_s: u32) -> Option<&'static [u8]> {
    Some(match bits_per_s {
        10_000 => b"S0\r",
        20_000 => b"S1\r",
        50_000 => b"S2\r",
        100_000 => b"S3\r",
        125_000 => b"S4\r",
        250_000 => b"S5\r",
        500_000 => b"S6\r",
        750_000 => b"S7\r",
        1_000_000 => b"S8\r",
        _ => return None,
    })
}

/// The command that sets the bit rate of the data of CAN FD, `None` where CANable's firmware has no such rate.
pub fn data_bit_rate(bits_per_s: u32) -> Option<&'static [u8]> {
    match bits_per_s {
        2_000_000 => Some(b"Y2\r"),
        5_000_000 => Some(b"Y5\r"),
        _ => None,
    }
}

/// Appends a frame as a line.
pub fn encode(frame: &CanFrame, out: &mut Vec<u8>) {
    let letter = match (frame.format(), frame.is_extended()) {
        (CanFormat::Classic, false) => b't',
        (CanFormat::Classic, true) => b'T',
        (CanFormat::Flexible { is_fast: false }, false) => b'd',
        (CanFormat::Flexible { is_fast: false }, true) => b'D',
        (CanFormat::Flexible { is_fast: true }, false) => b'b',
        (CanFormat::Flexible { is_fast: true }, true) => b'B',
    };
    let digit = |value: u32| DIGITS[(value & 15).to_le_bytes()[0] as usize];
    out.push(letter);
    let width: u32 = if frame.is_extended() { 8 } else { 3 };
    out.extend((0..width).rev().map(|place| digit(frame.id() >> (4 * place))));
    out.push(digit(frame.code().into()));
    out.extend(frame.data().iter().flat_map(|byte| [digit(u32::from(byte >> 4)), digit(u32::from(*byte))]));
    out.push(b'\r');
}

/// What came from an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    Frame(CanFrame),
    /// It did what it was told.
    Done,
    /// It refuses (a bell).
    Refused,
    /// A line that is no frame, with its end: so many bytes.
    Garbage(usize),
}

/// Finds the frames in what comes from an adapter, in pieces of any size.
#[derive(Debug)]
pub struct Decoder {
    line: [u8; LONGEST],
    /// How long the line is so far, also beyond what is kept.
    len: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { line: [0; LONGEST], len: 0 }
    }
}

impl Decoder {
    /// Takes a byte; what it ends, if it ends anything.
    pub fn take(&mut self, byte: u8) -> Option<Heard> {
        match byte {
            BELL => {
                let len = std::mem::take(&mut self.len);
                // One in the middle of a line comes from a line that was cut, and what is left of it means nothing.
                Some(if len == 0 { Heard::Refused } else { Heard::Garbage(len + 1) })
            }
            b'\r' => {
                let len = std::mem::take(&mut self.len);
                Some(self.line.get(..len).map_or(Heard::Garbage(len + 1), heard))
            }
            // Some adapters add one.
            b'\n' if self.len == 0 => None,
            _ => {
                if let Some(slot) = self.line.get_mut(self.len) {
                    *slot = byte;
                }
                self.len = self.len.saturating_add(1);
                None
            }
        }
    }

    /// Forgets a line that has only begun.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

fn heard(line: &[u8]) -> Heard {
    match line.first() {
        None => Heard::Done,
        // A frame was taken over, or the version, the serial number, the status.
        Some(b'z' | b'Z' | b'V' | b'v' | b'N' | b'F') => Heard::Done,
        Some(_) => frame(line).map_or(Heard::Garbage(line.len() + 1), Heard::Frame),
    }
}

fn frame(line: &[u8]) -> Option<CanFrame> {
    let (letter, rest) = line.split_first()?;
    let (format, is_extended) = match letter {
        b't' | b'T' => (CanFormat::Classic, *letter == b'T'),
        b'd' | b'D' => (CanFormat::Flexible { is_fast: false }, *letter == b'D'),
        b'b' | b'B' => (CanFormat::Flexible { is_fast: true }, *letter == b'B'),
        // Requests for frames (r, R) too: no motor sends one.
        _ => return None,
    };
    let (id, rest) = rest.split_at_checked(if is_extended { 8 } else { 3 })?;
    let id = id.iter().try_fold(0u32, |id, digit| Some(id << 4 | u32::from(value(*digit)?)))?;
    let (code, rest) = rest.split_first()?;
    let len = CanFrame::len_of(value(*code)?)?;
    // A time stamp of four digits may follow.
    let (digits, stamp) = rest.split_at_checked(2 * len)?;
    if !(stamp.is_empty() || stamp.len() == 4 && stamp.iter().all(|digit| value(*digit).is_some())) {
        return None;
    }
    let mut data = [0; 64];
    for (slot, pair) in data.iter_mut().zip(digits.chunks_exact(2)) {
        *slot = value(pair[0])? << 4 | value(pair[1])?;
    }
    CanFrame::new(id, is_extended, format, data.get(..len)?)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
