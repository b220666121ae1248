//! What a robot is made of: parts that move, the motors behind them and what they may do.

use std::collections::BTreeMap;

use nalgebra::{Isometry3, Quaternion, Translation3, Unit, UnitQuaternion, Vector3};
use serde::{Deserialize, Serialize};

use super::StopBehaviour;
use crate::DatasetUnit;

/// Something that moves: a joint, or a wheel.
///
/// Values are radians for kinds that turn and metres for those that slide; where a name below says
/// nothing of its unit, it is that one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// LeRobot's motor name.
    pub name: String,
    /// The part whose link carries this one; without it, the robot's base does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(default)]
    pub kind: PartKind,
    /// How it is commanded. A part without is only looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandMode>,
    /// The motor that moves it. A part without is passive, or moved by something that has no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub motor: Option<Motor>,
    /// The name of its feature in datasets; without it `<name>.pos`, or `<name>.vel` where velocities are
    /// commanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// How datasets and checkpoints write its value.
    #[serde(default)]
    pub unit: DatasetUnit,
    /// What the calibrated range is in SI, which is no limit: 0..100 and −100..100 refer to it and need it. A part in degrees
    /// (or SI) that has one goes from its one end to its other as its motor does, whatever ticks lie between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Pose of the part's frame in its parent's, at value 0.
    #[serde(default)]
    pub parent_from_part: Pose,
    /// Axis of rotation or of sliding in the part's frame, of unit length.
    #[serde(default = "z_axis")]
    pub axis: [f64; 3],
    #[serde(default)]
    pub limits: Limits,
    /// Where it rests between episodes; without it, wherever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<f64>,
    /// What it does when a session ends; without it, what the robot does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopBehaviour>,
    /// Where its motor pulls it to while somebody moves it, as the trigger of a leader arm; without it, its motor has no
    /// torque. Only a part of a teleoperator has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<f64>,
}

fn z_axis() -> [f64; 3] {
    [0.0, 0.0, 1.0]
}

/// How a part moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// Turns between two limits.
    #[default]
    Revolute,
    /// Slides between two limits.
    Prismatic,
    /// Turns without end.
    Continuous,
    /// Turns without end, and a base rolls on it: the base is commanded, not the wheel.
    Wheel,
}

/// What a motor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandMode {
    Position,
    /// Falls to 0 when nobody has wanted anything for [`Limits::stale_ms`].
    Velocity,
    /// As a share of stall torque, −1..1; falls to 0 as a velocity does.
    Effort,
    /// A position with stiffness, damping and a torque beside it.
    Impedance,
}

/// A motor, by what it is and where it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Motor {
    /// The [`Bus`](super::Bus) that it hangs on.
    pub bus: String,
    pub model: String,
    pub id: u16,
    /// Where answers come from, on buses where that is another address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_id: Option<u16>,
    /// −1 where the motor turns against the part.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub direction: f64,
    /// Turns of the motor for one of the part, 0.001 to 1000 (for a part that slides, radians for a metre, up to 100,000).
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub gear: f64,
    /// What registers of it are to hold, by LeRobot's names of them in lower case (`position_p_gain`), where that is not
    /// what every motor of its family is set to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registers: BTreeMap<String, i32>,
    /// How it is calibrated.
    #[serde(default, skip_serializing_if = "CalibrationKind::is_range")]
    pub calibration: CalibrationKind,
}

/// How LeRobot finds out which place of a motor is which place of its part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationKind {
    /// Somebody moves it through all of its range, whose middle is the middle of the motor's turn.
    #[default]
    Range,
    /// The whole turn is its range. Somebody holds it where its middle is.
    Turn,
    /// The whole turn is its range, with the offset that [`Motor::registers`] gives, or none: nobody moves it.
    Fixed,
}

impl CalibrationKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_range(&self) -> bool {
        *self == Self::Range
    }
}

fn one() -> f64 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// What the safety gate lets a part do. Which of them must be there depends on [`Part::command`]: for
/// positions `position` (of a part that has ends), `velocity` and `step`; for velocities `velocity` and
/// `stale_ms`; for efforts `torque` and `stale_ms`; for impedance as for positions, with `torque`,
/// `stiffness` and `damping`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Lower and upper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<[f64; 2]>,
    /// How fast a goal may move, a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub velocity: Option<f64>,
    /// How far a goal may be from the present position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<f64>,
    /// How fast the speed of a goal may change, a second²; where it is not given, as fast as a loop of
    /// 30 Hz needs to reverse top speed in a tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration: Option<f64>,
    /// How fast its acceleration may change, a second³; where it is not given, as fast as such a loop
    /// needs to reverse the highest in a tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jerk: Option<f64>,
    /// A part that pushes harder than this share of its motor's stall torque is led back to where it
    /// is, and ends the episode when that does not help within [`FAULT_AFTER`](crate::FAULT_AFTER).
    /// Without it, any effort is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<f64>,
    /// A part whose motor is hotter than this stays where it is, and ends the episode when it does not
    /// cool down within [`FAULT_AFTER`](crate::FAULT_AFTER). Without it, any temperature is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f64>,
    /// The most that may be commanded as an effort, a share of stall torque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torque: Option<f64>,
    /// The most stiffness, N m (or N) a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stiffness: Option<f64>,
    /// The most damping, N m s (or N s) a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damping: Option<f64>,
    /// A velocity or an effort that was wanted longer ago than this is wanted no more, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<u32>,
}

/// How often a second the motion of a part may change altogether, where the description says nothing.
const DEFAULT_CHANGES_HZ: f64 = 30.0;

impl Limits {
    /// The acceleration limit for a `velocity` limit, given or not.
    pub fn acceleration(&self, velocity: f64) -> f64 {
        self.acceleration.unwrap_or(2.0 * velocity * DEFAULT_CHANGES_HZ)
    }

    /// The jerk limit for a `velocity` limit, given or not.
    pub fn jerk(&self, velocity: f64) -> f64 {
        self.jerk.unwrap_or(2.0 * self.acceleration(velocity) * DEFAULT_CHANGES_HZ)
    }

    fn fault(&self, command: Option<CommandMode>, has_ends: bool) -> Option<String> {
        if let Some([lower, upper]) = self.position
            && !is_range([lower, upper])
        {
            return Some(format!("limits.position is [{lower}, {upper}], expected rising, and within ±{ENDLESS}"));
        }
        let numbers = [
            ("velocity", self.velocity),
            ("step", self.step),
            ("acceleration", self.acceleration),
            ("jerk", self.jerk),
            ("effort", self.effort),
            ("temperature_c", self.temperature_c),
            ("torque", self.torque),
            ("stiffness", self.stiffness),
            ("damping", self.damping),
        ];
        let bad = numbers.iter().find_map(|(what, value)| Some((what, value.filter(|v| !is_size(*v))?)));
        if let Some((what, value)) = bad {
            return Some(format!("limits.{what} is {value}, expected 1e-9 to 1e9"));
        }
        let share = |what: &str| what == "torque" || what == "effort";
        if let Some((what, Some(value))) = numbers.iter().find(|(what, value)| share(what) && value.is_some_and(|v| v > 1.0)) {
            return Some(format!("limits.{what} is {value}, expected a share of stall torque, at most 1"));
        }
        if self.stale_ms == Some(0) {
            return Some("limits.stale_ms is 0, expected above 0".into());
        }
        let needed: &[&str] = match command {
            None => &[],
            Some(CommandMode::Position) => &["position", "velocity", "step"],
            Some(CommandMode::Velocity) => &["velocity", "stale_ms"],
            Some(CommandMode::Effort) => &["torque", "stale_ms"],
            Some(CommandMode::Impedance) => &["position", "velocity", "step", "torque", "stiffness", "damping"],
        };
        let is_there = |what: &str| match what {
            "position" => self.position.is_some() || !has_ends,
            "stale_ms" => self.stale_ms.is_some(),
            other => numbers.iter().any(|(name, value)| *name == other && value.is_some()),
        };
        needed.iter().find(|what| !is_there(what)).map(|what| {
            let mode = command.map(|mode| format!("{mode:?}").to_lowercase()).unwrap_or_default();
            format!("limits.{what} is missing, which a part that is commanded by {mode} needs")
        })
    }
}

impl Part {
    /// Whether it has a place in state and action of its own. A wheel has none.
    pub fn is_feature(&self) -> bool {
        self.kind != PartKind::Wheel
    }

    /// The name of its feature.
    pub fn feature_name(&self) -> String {
        self.feature.clone().unwrap_or_else(|| match self.command {
            Some(CommandMode::Velocity) => format!("{}.vel", self.name),
            Some(CommandMode::Effort) => format!("{}.torque", self.name),
            _ => format!("{}.pos", self.name),
        })
    }

    /// Lower and upper limit of its position; endless where it has none.
    pub fn position_limits(&self) -> [f64; 2] {
        self.limits.position.unwrap_or([-ENDLESS, ENDLESS])
    }

    /// The range that its dataset unit refers to.
    pub fn unit_range(&self) -> [f64; 2] {
        self.range.unwrap_or_else(|| self.position_limits())
    }

    pub(crate) fn unit_axis(&self) -> Unit<Vector3<f64>> {
        Unit::new_normalize(Vector3::from(self.axis))
    }

    /// What moving by `value` does to the part's frame.
    pub(crate) fn motion(&self, value: f64) -> Isometry3<f64> {
        match self.kind {
            PartKind::Prismatic => {
                Isometry3::from_parts(Translation3::from(self.unit_axis().into_inner() * value), UnitQuaternion::identity())
            }
            _ => Isometry3::from_parts(Translation3::identity(), UnitQuaternion::from_axis_angle(&self.unit_axis(), value)),
        }
    }

    pub(super) fn fault(&self) -> Option<String> {
        let has_ends = matches!(self.kind, PartKind::Revolute | PartKind::Prismatic);
        if let Some(what) = self.limits.fault(self.command, has_ends) {
            return Some(what);
        }
        let length = Vector3::from(self.axis).norm();
        if (length - 1.0).is_nan() || (length - 1.0).abs() > 1e-6 {
            return Some(format!("axis has length {length}, expected 1"));
        }
        if !self.parent_from_part.is_usable() {
            return Some("parent_from_part is no pose".into());
        }
        if let Some([lower, upper]) = self.range
            && !is_range([lower, upper])
        {
            return Some(format!("range is [{lower}, {upper}], expected rising, and within ±{ENDLESS}"));
        }
        if self.unit.needs_range() && self.range.is_none() {
            return Some("range is missing, which its unit refers to".into());
        }
        if self.unit == DatasetUnit::Degrees && self.kind == PartKind::Prismatic {
            return Some("unit is degrees, expected another for a part that slides".into());
        }
        if self.kind == PartKind::Wheel && self.command.is_some() {
            return Some("a wheel has no command of its own: its base is commanded".into());
        }
        if let Some(motor) = &self.motor {
            if motor.direction.abs() != 1.0 {
                return Some(format!("motor.direction is {}, expected 1 or -1", motor.direction));
            }
            // A screw has many radians for a metre.
            let most = if self.kind == PartKind::Prismatic { 1e5 } else { 1e3 };
            if !(1e-3..=most).contains(&motor.gear) {
                return Some(format!("motor.gear is {}, expected 0.001 to {most}", motor.gear));
            }
        }
        if let Some(trigger) = self.trigger
            && (self.motor.is_none() || !(-ENDLESS..=ENDLESS).contains(&trigger))
        {
            return Some(format!("trigger is {trigger}, expected a place for a part with a motor"));
        }
        let rest = self.rest?;
        let [lower, upper] = self.position_limits();
        (!(lower..=upper).contains(&rest)).then(|| format!("rest is {rest}, outside its limits [{lower}, {upper}]"))
    }
}

/// The position limit of a part that has none: further than any motor turns.
const ENDLESS: f64 = 1e6;

/// Whether it is of a size that something in the world has, in SI; squares and quotients of such don't overflow.
pub(super) fn is_size(value: f64) -> bool {
    (1e-9..=1e9).contains(&value)
}

/// Whether it rises, from one place that something can be at to another.
fn is_range([lower, upper]: [f64; 2]) -> bool {
    (-ENDLESS..=ENDLESS).contains(&lower) && (-ENDLESS..=ENDLESS).contains(&upper) && upper - lower >= 1e-9
}

/// A translation and a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pose {
    pub translation_m: [f64; 3],
    /// w, x, y, z; normalised when used.
    pub rotation_wxyz: [f64; 4],
}

impl Default for Pose {
    fn default() -> Self {
        Self { translation_m: [0.0; 3], rotation_wxyz: [1.0, 0.0, 0.0, 0.0] }
    }
}

impl Pose {
    pub fn to_isometry(&self) -> Isometry3<f64> {
        let [w, x, y, z] = self.rotation_wxyz;
        Isometry3::from_parts(
            Translation3::from(Vector3::from(self.translation_m)),
            UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z)),
        )
    }

    pub(crate) fn is_usable(&self) -> bool {
        let norm: f64 = self.rotation_wxyz.iter().map(|v| v * v).sum();
        self.translation_m.iter().all(|v| v.abs() <= ENDLESS) && norm.is_finite() && norm > 1e-12
    }
}
