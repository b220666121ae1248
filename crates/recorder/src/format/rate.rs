//! How many rows a second a dataset has.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Rows a second, above 0 and at most a million. Nearly always a whole number, which is written without a
/// decimal point, as LeRobot wants it; cameras bring 29.97 and logs of slow machines 12.5 or 0.5.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate {
    hz: f64,
}

// It is always finite.
impl Eq for Rate {}

impl Rate {
    const LEAST_HZ: f64 = 1e-6;
    const GREATEST_HZ: f64 = 1e6;
    /// Of either part of a fraction.
    const GREATEST_PART: f64 = 1e8;

    /// `None` unless `hz` is above 0 and at most a million.
    pub fn from_hz(hz: f64) -> Option<Self> {
        (Self::LEAST_HZ..=Self::GREATEST_HZ).contains(&hz).then_some(Self { hz })
    }

    pub fn hz(self) -> f64 {
        self.hz
    }

    /// When row or frame `number` is, in seconds from row 0.
    pub fn seconds(self, number: u64) -> f64 {
        number as f64 / self.hz
    }

    /// As a fraction, for what counts time in whole units: 30 is 30/1, 29.97 is 2997/100, and
    /// 29.97002997… is 30000/1001.
    pub(crate) fn fraction(self) -> (u32, u32) {
        // A continued fraction: each step is the best one with so small a denominator.
        let (mut before, mut now) = ((0.0, 1.0), (1.0, 0.0));
        let mut rest = self.hz;
        loop {
            let whole = rest.floor();
            let next = (whole * now.0 + before.0, whole * now.1 + before.1);
            if next.0 > Self::GREATEST_PART || next.1 > Self::GREATEST_PART {
                break;
            }
            (before, now) = (now, next);
            let off = (now.0 / now.1 - self.hz).abs();
            if off <= self.hz * 1e-12 || rest == whole {
                break;
            }
            rest = 1.0 / (rest - whole);
        }
        (now.0.max(1.0) as u32, now.1.max(1.0) as u32)
    }
}

impl From<u32> for Rate {
    /// 0 becomes the least rate and what is above a million a million; neither makes a dataset that can be
    /// recorded.
    fn from(hz: u32) -> Self {
        Self { hz: f64::from(hz).clamp(Self::LEAST_HZ, Self::GREATEST_HZ) }
    }
}

impl From<Rate> for f64 {
    fn from(rate: Rate) -> Self {
        rate.hz
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hz.fmt(f)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.hz.fract() == 0.0 { serializer.serialize_u64(self.hz as u64) } else { serializer.serialize_f64(self.hz) }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hz = f64::deserialize(deserializer)?;
        Self::from_hz(hz).ok_or_else(|| D::Error::custom(format!("fps is {hz}, expected above 0 and at most {}", Self::GREATEST_HZ)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(hz: f64) -> Rate {
        Rate::from_hz(hz).unwrap()
    }

    #[test]
    fn whole_rates_are_written_as_whole_numbers_and_others_as_they_are() {
        for (read, written) in [("30", "30"), ("30.0", "30"), ("29.97", "29.97"), ("12.5", "12.5"), ("0.5", "0.5"), ("1e3", "1000")] {
            let found: Rate = serde_json::from_str(read).unwrap();
            assert_eq!(serde_json::to_string(&found).unwrap(), written);
            assert_eq!(found.to_string(), written);
        }
        for wrong in ["0", "-1", "1e7", "\"30\"", "null"] {
            assert!(serde_json::from_str::<Rate>(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Rate::from_hz(f64::NAN), None);
        assert_eq!(rate(12.5).seconds(3), 0.24);
    }

    #[test]
    fn fractions_are_exact_where_there_is_an_exact_one_and_near_elsewhere() {
        for (hz, fraction) in [
            (30.0, (30, 1)),
            (29.97, (2997, 100)),
            (12.5, (25, 2)),
            (0.5, (1, 2)),
            (30000.0 / 1001.0, (30000, 1001)),
            (24000.0 / 1001.0, (24000, 1001)),
            (1e6, (1_000_000, 1)),
            (1e-6, (1, 1_000_000)),
        ] {
            assert_eq!(rate(hz).fraction(), fraction, "{hz}");
        }
        // Over ten hours of video, no frame is off by as much as a row's tolerance.
        for hz in [33.333333, 14.9851, std::f64::consts::PI, 9.999_999, 999.999, 123.456_789_012] {
            let (up, down) = rate(hz).fraction();
            let off = f64::from(up) / f64::from(down) / hz - 1.0;
            assert!(off.abs() * 36_000.0 < 5e-5, "{hz} became {up}/{down}");
        }
    }
}
