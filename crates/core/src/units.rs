//! The one place where radians become what datasets and checkpoints hold, and back.

use serde::{Deserialize, Serialize};

use crate::RobotDescription;

/// How a joint's position is written in datasets and checkpoints (LeRobot's `MotorNormMode`,
/// `src/lerobot/motors/motors_bus.py`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JointUnit {
    /// Degrees from the middle of the calibrated range.
    Degrees,
    /// 0 at the lower limit, 100 at the upper (grippers).
    #[serde(rename = "range_0_100")]
    Range0To100,
    /// −100 at the lower limit, 100 at the upper.
    #[serde(rename = "range_m100_100")]
    RangeM100To100,
}

/// Converts joint vectors between radians and the dataset's units. Conversions are linear and total.
#[derive(Clone, Debug, PartialEq)]
pub struct JointUnits {
    /// dataset = scale * radians + offset, a joint each.
    scale_offset: Vec<(f64, f64)>,
}

impl JointUnits {
    pub fn of(robot: &RobotDescription) -> Self {
        let scale_offset = robot
            .joints
            .iter()
            .map(|joint| {
                let [lower, upper] = joint.limits.position_rad;
                match joint.unit {
                    JointUnit::Degrees => (180.0 / std::f64::consts::PI, 0.0),
                    JointUnit::Range0To100 => {
                        let scale = 100.0 / (upper - lower);
                        (scale, -lower * scale)
                    }
                    JointUnit::RangeM100To100 => {
                        let scale = 200.0 / (upper - lower);
                        (scale, -lower * scale - 100.0)
                    }
                }
            })
            .collect();
        Self { scale_offset }
    }

    /// Radians to the dataset's units, joint by joint; shorter of the two slices decides.
    pub fn to_dataset(&self, radians: &[f64], out: &mut [f32]) {
        for ((out, value), (scale, offset)) in out.iter_mut().zip(radians).zip(&self.scale_offset) {
            *out = (value * scale + offset) as f32;
        }
    }

    /// The dataset's units to radians, joint by joint; shorter of the two slices decides.
    pub fn to_radians(&self, values: &[f32], out: &mut [f64]) {
        for ((out, value), (scale, offset)) in out.iter_mut().zip(values).zip(&self.scale_offset) {
            *out = (f64::from(*value) - offset) / scale;
        }
    }
}
