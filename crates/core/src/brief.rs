//! Short texts that need no allocation.

use std::fmt;

const CAPACITY: usize = 119;

/// A text of at most 119 bytes; what is longer is cut. What goes wrong inside a tick is told with one,
/// as a tick allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Brief {
    len: u8,
    bytes: [u8; CAPACITY],
}

impl Brief {
    pub fn of(text: impl fmt::Display) -> Self {
        let mut brief = Self { len: 0, bytes: [0; CAPACITY] };
        // Only a text whose own formatting fails is an error; what it had by then stands.
        let _ = fmt::write(&mut brief, format_args!("{text}"));
        brief
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Write for Brief {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut room = (CAPACITY - usize::from(self.len)).min(text.len());
        while !text.is_char_boundary(room) {
            room -= 1;
        }
        let at = usize::from(self.len);
        self.bytes[at..at + room].copy_from_slice(&text.as_bytes()[..room]);
        self.len += room as u8;
        Ok(())
    }
}

impl fmt::Display for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Brief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(Brief::of("motor 3: no answer").as_str(), "motor 3: no answer");
        let long = "°".repeat(100);
        assert_eq!(Brief::of(&long).as_str(), "°".repeat(59));
        assert_eq!(Brief::of(format_args!("{}{}", "x".repeat(118), "°")).as_str(), "x".repeat(118));
    }
}
