//! The one place where SI becomes what datasets and checkpoints hold, and back.

use serde::{Deserialize, Serialize};

use crate::Channel;

/// How a value is written in datasets and checkpoints (LeRobot's `MotorNormMode`,
/// `src/lerobot/motors/motors_bus.py`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetUnit {
    /// As it is: radians, metres, and either a second.
    #[default]
    Si,
    /// Degrees, of a joint from the middle of its calibrated range.
    Degrees,
    /// 0 at the lower end of the calibrated range, 100 at the upper (grippers).
    #[serde(rename = "range_0_100")]
    Range0To100,
    /// −100 at the lower end, 100 at the upper.
    #[serde(rename = "range_m100_100")]
    RangeM100To100,
}

impl DatasetUnit {
    /// Whether it refers to a calibrated range.
    pub fn needs_range(self) -> bool {
        matches!(self, Self::Range0To100 | Self::RangeM100To100)
    }

    /// dataset = scale · SI + offset.
    pub(crate) fn scale_offset(self, [lower, upper]: [f64; 2]) -> (f64, f64) {
        match self {
            Self::Si => (1.0, 0.0),
            Self::Degrees => (180.0 / std::f64::consts::PI, 0.0),
            Self::Range0To100 => {
                let scale = 100.0 / (upper - lower);
                (scale, -lower * scale)
            }
            Self::RangeM100To100 => {
                let scale = 200.0 / (upper - lower);
                (scale, -lower * scale - 100.0)
            }
        }
    }
}

/// Converts a vector of channels between SI and the dataset's units. Conversions are linear and total.
#[derive(Clone, Debug, PartialEq)]
pub struct Units(Vec<(f64, f64)>);

impl Units {
    pub fn of(channels: &[Channel]) -> Self {
        Self(channels.iter().map(|channel| channel.scale_offset).collect())
    }

    /// How many channels there are.
    pub fn width(&self) -> usize {
        self.0.len()
    }

    /// SI to the dataset's units, channel by channel; the shortest of the slices decides.
    pub fn to_dataset(&self, si: &[f64], out: &mut [f32]) {
        for ((out, value), (scale, offset)) in out.iter_mut().zip(si).zip(&self.0) {
            *out = (value * scale + offset) as f32;
        }
    }

    /// The dataset's units to SI, channel by channel; the shortest of the slices decides.
    pub fn to_si(&self, values: &[f32], out: &mut [f64]) {
        for ((out, value), (scale, offset)) in out.iter_mut().zip(values).zip(&self.0) {
            *out = (f64::from(*value) - offset) / scale;
        }
    }
}
