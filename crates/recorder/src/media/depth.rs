//! Depth as 12-bit codes and back, with LeRobot's arithmetic.

use serde_json::{Map, Value, json};

/// The greatest code of 12 bits.
const MOST: f32 = 4095.0;

/// What the codes of a depth camera stand for. The default is LeRobot's.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthRange {
    /// Depth at code 0, metres; nearer is taken for it.
    pub min_m: f64,
    /// Depth at code 4095, metres; farther is taken for it.
    pub max_m: f64,
    /// Added to a depth before its logarithm is taken, metres.
    pub shift_m: f64,
    /// Whether codes are even steps of the logarithm, finer where it is near, or of the depth.
    pub logarithmic: bool,
}

impl Default for DepthRange {
    fn default() -> Self {
        Self { min_m: 0.01, max_m: 10.0, shift_m: 3.5, logarithmic: true }
    }
}

impl DepthRange {
    /// What a feature of info.json says, the default where it says nothing.
    pub fn of_feature(feature: &Value) -> Self {
        let number = |key: &str, default: f64| feature["info"][key].as_f64().filter(|value| value.is_finite()).unwrap_or(default);
        let default = Self::default();
        Self {
            min_m: number("video.depth_min", default.min_m),
            max_m: number("video.depth_max", default.max_m),
            shift_m: number("video.shift", default.shift_m),
            logarithmic: feature["info"]["video.use_log"].as_bool().unwrap_or(default.logarithmic),
        }
    }

    /// What the codes of a feature stand for, and the unit of its statistics: one feature has one of each.
    pub(crate) fn in_words(feature: &Value) -> String {
        let Self { min_m, max_m, shift_m, logarithmic } = Self::of_feature(feature);
        let steps = if logarithmic { "logarithmic" } else { "even" };
        let unit = feature["info"]["depth_unit"].as_str().unwrap_or("a unit that is not said");
        format!("{min_m} to {max_m} m in {steps} steps with shift {shift_m} m, statistics in {unit}")
    }

    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<String> {
        let Self { min_m, max_m, shift_m, .. } = *self;
        let fits = min_m.is_finite() && max_m.is_finite() && shift_m.is_finite() && 0.0 <= min_m && min_m < max_m && min_m + shift_m > 0.0;
        (!fits).then(|| {
            format!("the depth range is {min_m} m to {max_m} m with shift {shift_m} m, expected 0 <= min < max and min + shift > 0")
        })
    }

    /// The code of a depth in millimetres.
    pub(crate) fn code(&self, millimetres: f32) -> u16 {
        let [min, max, shift] = [self.min_m, self.max_m, self.shift_m].map(|metres| (metres * 1000.0) as f32);
        let share = if self.logarithmic {
            let (least, most) = (f64::from(min + shift).ln() as f32, f64::from(max + shift).ln());
            let span = (most - f64::from(min + shift).ln()) as f32;
            ((millimetres + shift).ln() - least) / span
        } else {
            (millimetres - min) / (max - min)
        };
        (share * MOST).round_ties_even().clamp(0.0, MOST) as u16
    }

    /// The distance that a code stands for, in metres.
    pub fn metres(&self, code: u16) -> f64 {
        let share = f64::from(f32::from(code).min(MOST)) / f64::from(MOST);
        let distance = if self.logarithmic {
            let (low, high) = ((self.min_m + self.shift_m).ln(), (self.max_m + self.shift_m).ln());
            (share * (high - low) + low).exp() - self.shift_m
        } else {
            share * (self.max_m - self.min_m) + self.min_m
        };
        distance.max(self.min_m).min(self.max_m)
    }

    /// A table of the codes of all depths of 16 bits.
    pub(crate) fn table(&self) -> Vec<u16> {
        (0..=u16::MAX).map(|millimetres| self.code(f32::from(millimetres))).collect()
    }

    /// As LeRobot keeps it in a feature's `info`.
    pub(crate) fn info(&self) -> Map<String, Value> {
        let value = json!({
            "video.depth_min": self.min_m,
            "video.depth_max": self.max_m,
            "video.shift": self.shift_m,
            "video.use_log": self.logarithmic,
            "depth_unit": "mm",
        });
        if let Value::Object(map) = value { map } else { Map::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::DepthRange;

    #[test]
    fn codes_are_lerobots() {
        // From lerobot.datasets.depth_utils.quantize_depth of LeRobot 0.6.1 on u16 millimetres.
        let range = DepthRange::default();
        let found: Vec<u16> = [0, 5, 10, 11, 500, 1000, 2500, 9999, 10000, 65535].map(|mm| range.code(mm as f32)).to_vec();
        assert_eq!(found, EXPECTED_LOG);
        let linear = DepthRange { logarithmic: false, ..range };
        let found: Vec<u16> = [0, 10, 1000, 5005, 10000, 20000].map(|mm| linear.code(mm as f32)).to_vec();
        assert_eq!(found, EXPECTED_LINEAR);
    }

    #[test]
    fn codes_span_the_range() {
        for range in [DepthRange::default(), DepthRange { logarithmic: false, ..DepthRange::default() }] {
            assert!((range.metres(0) - 0.01).abs() < 1e-12);
            assert!((range.metres(4095) - 10.0).abs() < 1e-12);
            assert!((1..=4095).all(|code| range.metres(code) > range.metres(code - 1)));
        }
    }

    const EXPECTED_LOG: [u16; 10] = [0, 0, 0, 1, 397, 755, 1630, 4095, 4095, 4095];
    const EXPECTED_LINEAR: [u16; 6] = [0, 0, 406, 2048, 4095, 4095];
}
