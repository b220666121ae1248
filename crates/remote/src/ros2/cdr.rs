//! CDR, version 1, as ROS 2's messages are written: little-endian values, each aligned to its own size from the fifth byte on.
//!
//! Source: the OMG's DDS-XTypes 1.3, 7.4.1 (plain CDR), and RTPS 2.5, 10.2 (the header).

use super::Ros2Error;

/// Plain CDR, little-endian, no options.
const HEADER: [u8; 4] = [0, 1, 0, 0];
/// Longer texts are no names.
const LONGEST_TEXT: usize = 64 << 10;

/// Writes values behind the header.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self { bytes: HEADER.to_vec() }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn align(&mut self, to: usize) {
        let len = self.bytes.len() - HEADER.len();
        self.bytes.resize(HEADER.len() + len.next_multiple_of(to), 0);
    }

    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.u32(value.cast_unsigned());
    }

    fn f64(&mut self, value: f64) {
        self.align(8);
        self.bytes.extend(value.to_le_bytes());
    }

    /// # Errors
    /// When there are more than a message can hold.
    pub fn count(&mut self, count: usize) -> Result<(), Ros2Error> {
        let counted = u32::try_from(count).map_err(|_| Ros2Error::Unwritable { what: format!("{count} values of a sequence") })?;
        self.u32(counted);
        Ok(())
    }

    /// # Errors
    /// When it is too long, or has a zero in it, which would end it.
    pub fn text(&mut self, text: &str) -> Result<(), Ros2Error> {
        if text.len() >= LONGEST_TEXT || text.contains('\0') {
            return Err(Ros2Error::Unwritable { what: format!("a text of {} bytes, or with a zero in it", text.len()) });
        }
        self.count(text.len() + 1)?;
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    pub fn texts(&mut self, texts: &[String]) -> Result<(), Ros2Error> {
        self.count(texts.len())?;
        texts.iter().try_for_each(|text| self.text(text))
    }

    pub fn f64s(&mut self, values: &[f64]) -> Result<(), Ros2Error> {
        self.count(values.len())?;
        values.iter().for_each(|value| self.f64(*value));
        Ok(())
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Ros2Error> {
        self.count(bytes.len())?;
        self.bytes.extend(bytes);
        Ok(())
    }
}

/// Reads values behind the header. Nothing is allocated for what the message is too short for.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    /// Behind the header.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// When the header says another encoding.
    pub fn new(message: &'a [u8]) -> Result<Self, Ros2Error> {
        let Some((header, bytes)) = message.split_first_chunk::<4>() else {
            return Err(Ros2Error::Malformed { what: format!("{} bytes, expected a header of 4", message.len()) });
        };
        // The last byte may say how many bytes of padding end the message.
        if header[..2] != HEADER[..2] {
            return Err(Ros2Error::Malformed {
                what: format!("the encoding {:02x}{:02x}, expected 0001: little-endian CDR", header[0], header[1]),
            });
        }
        Ok(Self { bytes, at: 0 })
    }

    fn take(&mut self, count: usize, align: usize) -> Result<&'a [u8], Ros2Error> {
        let begin = self.at.next_multiple_of(align);
        let end = begin.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(Ros2Error::Malformed { what: format!("{count} bytes at byte {begin} of {}", self.bytes.len()) });
        };
        self.at = end;
        Ok(&self.bytes[begin..end])
    }

    pub fn u32(&mut self) -> Result<u32, Ros2Error> {
        let bytes = self.take(4, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub fn i32(&mut self) -> Result<i32, Ros2Error> {
        self.u32().map(u32::cast_signed)
    }

    /// How many values of at least `least` bytes follow.
    pub fn count(&mut self, least: usize) -> Result<usize, Ros2Error> {
        let count = self.u32()? as usize;
        let left = self.bytes.len() - self.at;
        if count.checked_mul(least).is_none_or(|bytes| bytes > left) {
            return Err(Ros2Error::Malformed { what: format!("{count} values of {least} bytes or more in {left} bytes") });
        }
        Ok(count)
    }

    pub fn text(&mut self) -> Result<String, Ros2Error> {
        let count = self.count(1)?;
        // Some write an empty text without the zero.
        let bytes = self.take(count, 1)?;
        let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
        if bytes.len() >= LONGEST_TEXT {
            return Err(Ros2Error::Malformed { what: format!("a text of {} bytes, expected less than {LONGEST_TEXT}", bytes.len()) });
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
            Ok(_) => Err(Ros2Error::Malformed { what: "a text with a zero in it".into() }),
            Err(_) => Err(Ros2Error::Malformed { what: "a text that is no UTF-8".into() }),
        }
    }

    pub fn texts(&mut self) -> Result<Vec<String>, Ros2Error> {
        let count = self.count(4)?;
        (0..count).map(|_| self.text()).collect()
    }

    pub fn f64s(&mut self) -> Result<Vec<f64>, Ros2Error> {
        let count = self.count(8)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.take(count * 8, 8)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, Ros2Error> {
        let count = self.count(1)?;
        Ok(self.take(count, 1)?.to_vec())
    }
}
