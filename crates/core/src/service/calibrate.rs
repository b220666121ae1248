//! Calibration of an arm, step by step: somebody moves its joints by hand, and is told what to do next.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which arm of the service is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibratedArm {
    /// The robot itself.
    #[default]
    Robot,
    /// The leader arm that the service was started with.
    Leader,
}

/// An arm is calibrated. Nothing moves by itself in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Calibrate {
    pub arm: CalibratedArm,
    /// By which the calibration is stored. Needed where the service was started without one and the arm has no calibration yet.
    pub id: Option<String>,
}

/// An arm that can be calibrated, and made limp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Calibratable {
    pub arm: CalibratedArm,
    /// Its description's name, such as `so101_leader`.
    pub name: String,
    /// By which its calibration is stored, where the service was started with it.
    pub id: Option<String>,
}

/// Where a calibration is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationState {
    pub arm: CalibratedArm,
    /// Its description's name.
    pub name: String,
    /// Rises with each question: an answer says which one it is for.
    pub number: u64,
    pub step: CalibrationStep,
    /// What is to be done now, or is being done, for people.
    pub text: String,
    /// Why the step before has to be done again.
    pub problem: Option<String>,
    /// What can be answered now.
    pub answers: Vec<CalibrationReply>,
    /// The joints that are to be moved through their range, once somebody may.
    pub joints: Vec<JointSweep>,
}

/// What a calibration does, or waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationStep {
    /// It meets the motors.
    Meet,
    /// There is a calibration: `next` writes it into the motors, `again` makes a new one.
    Found,
    /// What there is can't be used as it is: `next` makes a new one in its place.
    Replace,
    /// The torque will be switched off: `next` when somebody holds the arm.
    Release,
    /// The joints are to rest for a moment.
    Rest,
    /// The joints are moved through their range: `next` when all were.
    Sweep,
    /// Joints that turn without end are held in their middle: `next` when they are.
    Middle,
    /// The motors are being written.
    Write,
    /// The motors could not be written: `next` tries it again with what was measured.
    Rewrite,
    /// It failed, and nothing was written: `again` begins anew.
    Failed,
}

/// What a joint was moved through so far, in radians of its motor from where it was at first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JointSweep {
    pub name: String,
    /// Nothing until it has answered.
    pub position: Option<f64>,
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    /// How far `lower` and `upper` have to be apart.
    pub least: f64,
    /// Whether they are.
    pub is_enough: bool,
}

/// What somebody says to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CalibrationReply {
    Next,
    Again,
    /// The end: the calibration stays as it was.
    Cancel,
}

/// An answer to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CalibrationAnswer {
    /// The [`number`](CalibrationState::number) that it is for, so that who presses twice has answered once.
    pub number: u64,
    pub answer: CalibrationReply,
}
