//! A frame of a CAN bus, and its bytes in a Linux socket.

use std::fmt;

/// The most bytes that a frame of CAN 2.0 carries.
const CLASSIC: usize = 8;
/// The most bytes that a frame of CAN FD carries.
const FLEXIBLE: usize = 64;
/// How many bytes a frame of CAN FD may carry, by its length code.
const LENGTHS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 20, 24, 32, 48, 64];

/// In a Linux socket: the identifier has 29 bits, it asks for a frame, it tells of an error (`linux/can.h`).
const EXTENDED: u32 = 1 << 31;
const REMOTE: u32 = 1 << 30;
const ERROR: u32 = 1 << 29;
/// `CANFD_BRS`.
const FAST: u8 = 1;
/// The size of `struct can_frame`, and of `struct canfd_frame`.
pub(super) const SOCKET_CLASSIC: usize = 16;
pub(super) const SOCKET_FLEXIBLE: usize = 72;

/// Which CAN a frame is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CanFormat {
    /// CAN 2.0, up to 8 bytes.
    #[default]
    Classic,
    /// CAN FD, up to 64 bytes; `is_fast` where its data has a bit rate of its own.
    Flexible { is_fast: bool },
}

/// A frame with data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CanFrame {
    id: u32,
    is_extended: bool,
    format: CanFormat,
    len: u8,
    data: [u8; FLEXIBLE],
}

impl fmt::Debug for CanFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = if self.is_extended { 8 } else { 3 };
        write!(f, "{:0width$X} {:02X?} {:?}", self.id, self.data(), self.format)
    }
}

impl CanFrame {
    /// A frame of CAN 2.0 with an identifier of 11 bits. `None` where it has more, or `data` more than 8 bytes.
    pub fn standard(id: u32, data: &[u8]) -> Option<Self> {
        Self::new(id, false, CanFormat::Classic, data)
    }

    /// As [`standard`](Self::standard), with an identifier of 29 bits.
    pub fn extended(id: u32, data: &[u8]) -> Option<Self> {
        Self::new(id, true, CanFormat::Classic, data)
    }

    /// `None` where the identifier doesn't fit, or `data` has no length that such a frame can have.
    pub fn new(id: u32, is_extended: bool, format: CanFormat, data: &[u8]) -> Option<Self> {
        let most_id = if is_extended { 0x1FFF_FFFF } else { 0x7FF };
        let len = u8::try_from(data.len()).ok()?;
        let fits = match format {
            CanFormat::Classic => data.len() <= CLASSIC,
            CanFormat::Flexible { .. } => LENGTHS.contains(&len),
        };
        if id > most_id || !fits {
            return None;
        }
        let mut bytes = [0; FLEXIBLE];
        bytes[..data.len()].copy_from_slice(data);
        Some(Self { id, is_extended, format, len, data: bytes })
    }

    /// The same identifier and data in another format; as it is where the data doesn't fit that one.
    #[must_use]
    pub fn in_format(self, format: CanFormat) -> Self {
        Self::new(self.id, self.is_extended, format, self.data()).unwrap_or(self)
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn is_extended(&self) -> bool {
        self.is_extended
    }

    pub fn format(&self) -> CanFormat {
        self.format
    }

    pub fn data(&self) -> &[u8] {
        &self.data[..usize::from(self.len)]
    }

    /// Its length code.
    pub(super) fn code(&self) -> u8 {
        LENGTHS.iter().zip(0..).find(|(len, _)| **len == self.len).map_or(0, |(_, code)| code)
    }

    /// How many bytes a length code stands for.
    pub(super) fn len_of(code: u8) -> Option<usize> {
        LENGTHS.get(usize::from(code)).map(|len| usize::from(*len))
    }

    /// What [`Frame`](crate::Frame)s and [`Answer`](crate::Answer)s on a CAN bus hold: the identifier as Linux has it
    /// (little end first, bit 31 where it is of 29 bits), then the data. Returns how many bytes of `out` those are; `None`
    /// where there are more than it holds.
    pub(super) fn to_message(self, out: &mut [u8]) -> Option<usize> {
        let end = 4 + self.data().len();
        let id = self.id | if self.is_extended { EXTENDED } else { 0 };
        out.get_mut(..4)?.copy_from_slice(&id.to_le_bytes());
        out.get_mut(4..end)?.copy_from_slice(self.data());
        Some(end)
    }

    /// The reverse of [`to_message`](Self::to_message), in a format.
    pub(super) fn of_message(bytes: &[u8], format: CanFormat) -> Option<Self> {
        let (id, data) = bytes.split_first_chunk()?;
        let id = u32::from_le_bytes(*id);
        Self::new(id & !EXTENDED, id & EXTENDED != 0, format, data)
    }

    /// Its bytes as a raw socket takes and gives them: `struct can_frame` or `struct canfd_frame`.
    pub fn to_socket(self, out: &mut Vec<u8>) {
        let id = self.id | if self.is_extended { EXTENDED } else { 0 };
        let (size, flags) = match self.format {
            CanFormat::Classic => (SOCKET_CLASSIC, 0),
            CanFormat::Flexible { is_fast } => (SOCKET_FLEXIBLE, if is_fast { FAST } else { 0 }),
        };
        let begin = out.len();
        out.extend_from_slice(&id.to_ne_bytes());
        out.extend_from_slice(&[self.len, flags, 0, 0]);
        out.extend_from_slice(self.data());
        out.resize(begin + size, 0);
    }

    /// A frame of what a raw socket gave; `None` where it is none with data: a request for one, or the tale of an error.
    pub fn of_socket(bytes: &[u8]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let id = u32::from_ne_bytes(*id);
        let ([len, flags, ..], data) = rest.split_first_chunk::<4>()?;
        let format = match bytes.len() {
            SOCKET_CLASSIC => CanFormat::Classic,
            SOCKET_FLEXIBLE => CanFormat::Flexible { is_fast: flags & FAST != 0 },
            _ => return None,
        };
        if id & (REMOTE | ERROR) != 0 {
            return None;
        }
        Self::new(id & 0x1FFF_FFFF, id & EXTENDED != 0, format, data.get(..usize::from(*len))?)
    }

    /// The fewest bits that it has at the bus's own rate. What is stuffed, or sent faster, is not counted.
    pub(super) fn fewest_bits(&self) -> u32 {
        let head = if self.is_extended { 64 } else { 44 };
        match self.format {
            CanFormat::Classic => head + 8 * u32::from(self.len),
            CanFormat::Flexible { .. } => 28,
        }
    }

    /// The most bits that it has, as if all of it were sent at the bus's own rate.
    pub(super) fn most_bits(&self) -> u32 {
        let bits = if self.is_extended { 67 } else { 47 } + 8 * u32::from(self.len);
        let check = if self.format == CanFormat::Classic { 0 } else { 20 };
        (bits + check) * 5 / 4
    }
}
