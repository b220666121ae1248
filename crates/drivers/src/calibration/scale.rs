//! Ticks and SI.

use std::f64::consts::TAU;

use sinew_core::Part;

use super::{CalibrationError, MotorCalibration};
use crate::ControlTable;
use crate::wire::Protocol;

/// Goals that miss a whole tick by less than this are meant to be it: what was read can then be written.
const ROUNDING: f64 = 1e-6;

/// How a part's place follows from its motor's ticks, so that in the dataset's unit it is what LeRobot makes of them
/// (`_normalize` and `_unnormalize` in `lerobot/motors/motors_bus.py`):
///
/// - degrees (and SI) count from the middle of the calibrated range, a turn less one tick being 360 degrees, and know no
///   ends;
/// - 0..100 and −100..100 are the calibrated range, which they don't leave in either direction, mirrored by the drive
///   mode of Feetech's motors and by a motor that turns against its part; they become SI by the range of the part's
///   description. So do degrees of a part that has such a range.
///
/// Fractions of a tick are cut off towards 0, as LeRobot does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// In ticks.
    min: f64,
    max: f64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// SI of a tick.
    Endless { tick: f64 },
    /// The part's range in SI.
    Range { lower: f64, upper: f64, is_mirrored: bool },
}

impl Scale {
    /// # Errors
    /// When the calibrated range is empty.
    pub fn of(part: &Part, table: &ControlTable, calibration: &MotorCalibration) -> Result<Self, CalibrationError> {
        let MotorCalibration { range_min, range_max, drive_mode, .. } = *calibration;
        if range_min >= range_max {
            let what = format!("expected range_min below range_max, found {range_min} and {range_max}");
            return Err(CalibrationError::Invalid { motor: part.name.clone(), what });
        }
        let (direction, gear) = part.motor.as_ref().map_or((1.0, 1.0), |motor| (motor.direction, motor.gear));
        let kind = if part.unit.needs_range() || part.range.is_some() {
            let [lower, upper] = part.unit_range();
            let is_mirrored = drive_mode != 0 && table.protocol != Protocol::Dynamixel2;
            Kind::Range { lower, upper, is_mirrored: is_mirrored != (direction < 0.0) }
        } else {
            Kind::Endless { tick: direction * TAU / (f64::from(table.resolution) - 1.0) / gear }
        };
        Ok(Self { min: range_min.into(), max: range_max.into(), kind })
    }

    /// Ticks as SI.
    pub fn to_si(&self, ticks: i32) -> f64 {
        let ticks = f64::from(ticks);
        match self.kind {
            Kind::Endless { tick } => (ticks - (self.min + self.max) / 2.0) * tick,
            Kind::Range { lower, upper, is_mirrored } => {
                let share = (ticks.clamp(self.min, self.max) - self.min) / (self.max - self.min);
                let share = if is_mirrored { 1.0 - share } else { share };
                lower + share * (upper - lower)
            }
        }
    }

    /// SI as ticks; of what is not finite, the middle.
    pub fn to_ticks(&self, si: f64) -> i32 {
        let ticks = match self.kind {
            Kind::Endless { tick } => si / tick + (self.min + self.max) / 2.0,
            Kind::Range { lower, upper, is_mirrored } => {
                let share = (si - lower) / (upper - lower);
                let share = if is_mirrored { 1.0 - share } else { share };
                self.min + share.clamp(0.0, 1.0) * (self.max - self.min)
            }
        };
        let ticks = if ticks.is_finite() { ticks } else { (self.min + self.max) / 2.0 };
        let nearest = ticks.round();
        let whole = if (ticks - nearest).abs() < ROUNDING { nearest } else { ticks.trunc() };
        #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "what is too large becomes the largest")]
        let whole = whole as i32;
        whole
    }

    /// A velocity of the motor, in ticks a second, as one of the part in SI.
    pub fn velocity(&self, ticks_per_s: f64) -> f64 {
        match self.kind {
            Kind::Endless { tick } => ticks_per_s * tick,
            Kind::Range { lower, upper, is_mirrored } => {
                let velocity = ticks_per_s / (self.max - self.min) * (upper - lower);
                if is_mirrored { -velocity } else { velocity }
            }
        }
    }

    /// 1 where more ticks are more SI, −1 where they are less.
    pub fn direction(&self) -> f64 {
        self.velocity(1.0).signum()
    }
}
