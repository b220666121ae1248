//! What an H.264 stream itself says of its colours, in the sequence parameter set (ITU-T H.264, 7.3.2.1.1
//! and E.1.1).

/// What is told of colours; `None` where nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ToldColor {
    pub(super) full_range: Option<bool>,
    /// The number of the matrix, as ISO/IEC 23091-2 has them.
    pub(super) matrix: Option<u8>,
}

/// Reads a sequence parameter set, a unit with its header, as far as the colours. One that ends before, or
/// makes no sense, tells nothing.
pub(super) fn told_color(unit: &[u8]) -> ToldColor {
    Bits::of_unit(unit).color().unwrap_or_default()
}

/// The bits of a unit, most significant first.
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn of_unit(unit: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(unit.len());
        let mut zeros = 0;
        for byte in unit {
            // After two zeros, a 3 was put in so that they don't look like the beginning of a unit.
            if zeros >= 2 && *byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            bytes.push(*byte);
        }
        Self { bytes, at: 0 }
    }

    fn bit(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        self.at += 1;
        Some(byte >> (7 - (self.at - 1) % 8) & 1 == 1)
    }

    /// A number of `count` bits.
    fn number(&mut self, count: usize) -> Option<u32> {
        (0..count).try_fold(0, |number, _| Some(number << 1 | u32::from(self.bit()?)))
    }

    /// A number in Exp-Golomb code.
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.number(zeros)?)
    }

    fn color(&mut self) -> Option<ToldColor> {
        // The unit's header, then profile, constraints and level.
        self.number(8)?;
        let profile = self.number(8)?;
        self.number(16)?;
        self.golomb()?;
        // Profiles that can have other chroma than 4:2:0 in 8 bits say what they have.
        if matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244) {
            let chroma = self.golomb()?;
            if chroma == 3 {
                self.bit()?;
            }
            self.golomb()?;
            self.golomb()?;
            self.bit()?;
            if self.bit()? {
                for list in 0..if chroma == 3 { 12 } else { 8 } {
                    if self.bit()? {
                        self.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        self.golomb()?;
        match self.golomb()? {
            0 => {
                self.golomb()?;
            }
            1 => {
                self.bit()?;
                self.golomb()?;
                self.golomb()?;
                for _ in 0..self.golomb()?.min(256) {
                    self.golomb()?;
                }
            }
            _ => {}
        }
        // Reference frames, gaps, the size in macroblocks, and whether pictures are frames.
        self.golomb()?;
        self.bit()?;
        self.golomb()?;
        self.golomb()?;
        if !self.bit()? {
            self.bit()?;
        }
        self.bit()?;
        // Cropping.
        if self.bit()? {
            for _ in 0..4 {
                self.golomb()?;
            }
        }
        let mut told = ToldColor::default();
        // Whether there is usability information, and in it the aspect and overscan.
        if !self.bit()? {
            return Some(told);
        }
        if self.bit()? && self.number(8)? == 255 {
            self.number(32)?;
        }
        if self.bit()? {
            self.bit()?;
        }
        if self.bit()? {
            self.number(3)?;
            told.full_range = Some(self.bit()?);
            if self.bit()? {
                self.number(16)?;
                told.matrix = Some(self.number(8)? as u8);
            }
        }
        Some(told)
    }

    fn skip_scaling_list(&mut self, length: usize) -> Option<()> {
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..length {
            if next != 0 {
                let code = i64::from(self.golomb()?);
                let change = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
                next = (last + change).rem_euclid(256);
            }
            if next != 0 {
                last = next;
            }
        }
        Some(())
    }
}
