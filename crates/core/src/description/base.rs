//! A base on wheels: what it is told, and what its wheels make of it.

use nalgebra::{Matrix3, Vector3};
use serde::{Deserialize, Serialize};

use super::{Part, PartKind, part::is_size};
use crate::DatasetUnit;

/// A base on wheels. It is told `x.vel` (m/s, forward), `y.vel` (m/s, to the left; not where it can't) and
/// `theta.vel` (rad/s, counter-clockwise).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    pub kind: BaseKind,
    pub wheel_radius_m: f64,
    /// How fast a wheel may turn, rad/s. What asks for more is slowed down as a whole.
    pub wheel_velocity_rad_per_s: f64,
    /// A velocity that was wanted longer ago than this is wanted no more, milliseconds.
    pub stale_ms: u32,
    pub linear: BaseLimits,
    pub angular: BaseLimits,
    /// Names of the features where they are others than `x.vel`, `y.vel`, `theta.vel`; of a base that can't
    /// go sideways the second is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<[String; 3]>,
    /// How datasets and checkpoints write its velocities.
    #[serde(default, skip_serializing_if = "BaseUnit::is_default")]
    pub unit: BaseUnit,
    /// Whether its velocities are measured, and so a part of the state.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub is_measured: bool,
    #[serde(rename = "wheel")]
    pub wheels: Vec<BaseWheel>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

/// How the velocities of a base are written in datasets and checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseUnit {
    /// m/s, and degrees a second (LeRobot's LeKiwi and Reachy 2).
    #[default]
    Degrees,
    /// m/s, and rad/s.
    Si,
    /// Shares of the velocity limits, −1..1 (LeRobot's Earth Rover).
    Share,
}

impl BaseUnit {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a base moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseKind {
    /// Wheels beside each other: forward and turning.
    Differential,
    /// Three or more wheels that roll sideways too, each along its own direction.
    Omni,
    /// Four wheels with rollers at 45 degrees.
    Mecanum,
}

/// What the gate lets a base do in one direction: m/s, m/s², m/s³, or the same in radians.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseLimits {
    pub velocity: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jerk: Option<f64>,
}

/// A wheel's place in its base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseWheel {
    /// The part that is the wheel.
    pub part: String,
    /// How fast its rim moves when the base moves forward, to the left, or turns at 1 rad/s: for an omni wheel
    /// at angle α and distance r from the middle `[cos α, sin α, r]` (`lekiwi.py` of LeRobot).
    pub rim_m_per_s: [f64; 3],
}

impl Base {
    /// Names of the channels, in order.
    pub fn feature_names(&self) -> Vec<String> {
        let names = self.features.clone().unwrap_or_else(|| ["x.vel", "y.vel", "theta.vel"].map(str::to_owned));
        let [x, y, theta] = names;
        match self.kind {
            BaseKind::Differential => vec![x, theta],
            BaseKind::Omni | BaseKind::Mecanum => vec![x, y, theta],
        }
    }

    /// What `axis` (forward, left, turning) may do.
    pub fn limits(&self, axis: usize) -> BaseLimits {
        if axis == 2 { self.angular } else { self.linear }
    }

    /// dataset = scale · SI + offset, of `axis`.
    pub(super) fn scale_offset(&self, axis: usize) -> (f64, f64) {
        match self.unit {
            BaseUnit::Degrees if axis == 2 => DatasetUnit::Degrees.scale_offset([0.0; 2]),
            BaseUnit::Degrees | BaseUnit::Si => (1.0, 0.0),
            BaseUnit::Share => (1.0 / self.limits(axis).velocity, 0.0),
        }
    }

    /// The wheels' speeds in rad/s for a motion of forward, left (m/s) and turning (rad/s): a number a wheel
    /// into `out`. Where one would be too fast, all are slowed down by the same share.
    pub fn wheel_velocities(&self, motion: [f64; 3], out: &mut [f64]) {
        let mut fastest: f64 = 0.0;
        for (out, wheel) in out.iter_mut().zip(&self.wheels) {
            *out = (0..3).map(|i| wheel.rim_m_per_s[i] * motion[i]).sum::<f64>() / self.wheel_radius_m;
            fastest = fastest.max(out.abs());
        }
        if fastest > self.wheel_velocity_rad_per_s {
            out.iter_mut().for_each(|out| *out *= self.wheel_velocity_rad_per_s / fastest);
        }
    }

    /// The motion that such speeds of the wheels (rad/s) come from, by least squares: forward, left, turning.
    /// What the wheels can't tell is 0.
    pub fn motion(&self, wheel_velocities: &[f64]) -> [f64; 3] {
        let (mut square, mut right) = (Matrix3::zeros(), Vector3::zeros());
        for (wheel, velocity) in self.wheels.iter().zip(wheel_velocities) {
            let row = Vector3::from(wheel.rim_m_per_s);
            square += row * row.transpose();
            right += row * (velocity * self.wheel_radius_m);
        }
        // A differential base says nothing of sideways motion.
        let unknown = (0..3).filter(|i| square[(*i, *i)] == 0.0).collect::<Vec<_>>();
        unknown.iter().for_each(|i| square[(*i, *i)] = 1.0);
        square.try_inverse().map_or([0.0; 3], |inverse| (inverse * right).into())
    }

    pub(super) fn fault(&self, parts: &[Part]) -> Option<String> {
        let numbers = [
            ("wheel_radius_m", Some(self.wheel_radius_m)),
            ("wheel_velocity_rad_per_s", Some(self.wheel_velocity_rad_per_s)),
            ("linear.velocity", Some(self.linear.velocity)),
            ("linear.acceleration", self.linear.acceleration),
            ("linear.jerk", self.linear.jerk),
            ("angular.velocity", Some(self.angular.velocity)),
            ("angular.acceleration", self.angular.acceleration),
            ("angular.jerk", self.angular.jerk),
        ];
        let bad = numbers.into_iter().find_map(|(what, value)| Some((what, value.filter(|v| !is_size(*v))?)));
        if let Some((what, value)) = bad {
            return Some(format!("{what} is {value}, expected 1e-9 to 1e9"));
        }
        if self.stale_ms == 0 {
            return Some("stale_ms is 0, expected above 0".into());
        }
        for (i, wheel) in self.wheels.iter().enumerate() {
            match parts.iter().find(|part| part.name == wheel.part) {
                None => return Some(format!("wheel {} is no part of the robot", wheel.part)),
                Some(part) if part.kind != PartKind::Wheel => {
                    let kind = format!("{:?}", part.kind).to_lowercase();
                    return Some(format!("wheel {} is a part of kind {kind}, expected wheel", wheel.part));
                }
                Some(_) => {}
            }
            if self.wheels[..i].iter().any(|other| other.part == wheel.part) {
                return Some(format!("wheel {} is named twice", wheel.part));
            }
            if !wheel.rim_m_per_s.iter().all(|v| v.abs() <= 1e6) {
                return Some(format!("wheel {}: rim_m_per_s is {:?}, expected at most 1e6", wheel.part, wheel.rim_m_per_s));
            }
        }
        let (least, words) = match self.kind {
            BaseKind::Differential => (2, "at least 2"),
            BaseKind::Omni => (3, "at least 3"),
            BaseKind::Mecanum => (4, "4"),
        };
        if self.wheels.len() < least || self.kind == BaseKind::Mecanum && self.wheels.len() > least {
            return Some(format!("it has {} wheels, expected {words}", self.wheels.len()));
        }
        let unknown = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]].into_iter().zip(["forward", "sideways", "turning"]);
        let mut speeds = vec![0.0; self.wheels.len()];
        for (motion, what) in unknown.filter(|(_, what)| *what != "sideways" || self.kind != BaseKind::Differential) {
            let small = motion.map(|v| v * 1e-3 * self.wheel_radius_m * self.wheel_velocity_rad_per_s);
            self.wheel_velocities(small, &mut speeds);
            let back = self.motion(&speeds);
            if (0..3).any(|i| (back[i] - small[i]).abs() > 1e-6 * small.iter().sum::<f64>()) {
                return Some(format!("its wheels don't tell {what} motion from others"));
            }
        }
        None
    }
}
