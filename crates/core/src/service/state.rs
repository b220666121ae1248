//! What is known of a robot and its work at one moment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{CalibrationState, PolicyUsed, WishName};

/// The newest state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// Rises with each state.
    pub sequence: u64,
    /// Seconds since the service began.
    pub time_s: f64,
    /// Why the robot is not connected, where it is not.
    pub trouble: Option<String>,
    pub mode: Mode,
    /// Whether torque is on: as the motors of an arm on serial ports say themselves, also when this service did not switch it on. Of
    /// other robots, whether a work of this service has left it on.
    pub armed: bool,
    pub stop: StopState,
    /// A value a channel of `state`; nothing where it is not known now.
    pub position: Vec<Option<f64>>,
    /// What the robot was sent last, a value a channel of `action`. Empty where it was sent nothing.
    pub goal: Vec<f64>,
    /// A value a part, per second.
    pub velocity: Vec<Option<f64>>,
    /// A value a part: a share of stall torque, −1 to 1.
    pub effort: Vec<Option<f64>>,
    /// A value a part.
    pub temperature_c: Vec<Option<f64>>,
    /// How old each camera's newest image was, in seconds; nothing before the first.
    pub image_age_s: Vec<Option<f64>>,
    /// How the control loop does, while something runs.
    #[serde(rename = "loop")]
    pub control: Option<LoopState>,
    pub work: Option<WorkState>,
    /// What is to be done, while an arm is calibrated.
    #[serde(default)]
    pub calibration: Option<CalibrationState>,
    /// Who has the operator's lease.
    pub operator: Option<String>,
}

/// What the robot is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing: torque is as the last work left it.
    #[default]
    Idle,
    Teleop,
    Record,
    Rollout,
    Replay,
    Eval,
    Calibrate,
    /// The torque is switched off.
    Limp,
}

/// Whether a stop was asked for, and how far it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopState {
    #[default]
    Run,
    Stop,
    Now,
    Emergency,
}

/// How the control loop does. Counts are of the running episode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoopState {
    /// Ticks a second, over about the last second.
    pub rate_hz: f64,
    /// How much later than planned the last tick began.
    pub late_ms: f64,
    pub missed: u64,
    /// Ticks for which there was no action.
    pub starved: u64,
    /// Goals that the safety gate changed.
    pub limited: u32,
    /// Actions that are left to execute.
    pub queued: u32,
    /// How long the newest inference took; 0 before the first.
    pub inference_ms: f64,
    /// Frames that a recorder or a viewer could not take.
    pub lost: u64,
}

/// Where a work is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkState {
    pub phase: Phase,
    /// Of the episode that runs, counted from 0.
    pub episode: u64,
    /// How many are wanted.
    pub episodes: u64,
    /// How many were recorded.
    pub kept: u64,
    /// Of the episode, or of the time between two.
    pub tick: u64,
    /// After which it ends; nothing where it has no end of its own.
    pub max_ticks: Option<u64>,
    /// The wishes that have a use now.
    pub wishes: Vec<WishName>,
    pub instruction: Option<String>,
    pub acting: Acting,
    /// The dataset that is recorded to.
    pub dataset: Option<String>,
    /// The policy that acts.
    pub policy: Option<String>,
    /// What a start that takes long waits for, and for how long it has.
    #[serde(default)]
    pub waits_for: Option<String>,
}

/// How far a work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A policy loads, or a recorder opens its files.
    #[default]
    Starting,
    Running,
    /// Between two episodes: somebody sets up the next.
    Resetting,
    Ending,
}

/// Who moves the robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acting {
    #[default]
    Nobody,
    Policy,
    Human,
}

/// How a work came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkEnd {
    /// Counted from 1.
    pub number: u64,
    pub mode: Mode,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether it was stopped before its end.
    pub is_interrupted: bool,
    /// Which commit of a policy of the Hub ran.
    #[serde(default)]
    pub policy: Option<PolicyUsed>,
    /// Each episode's report, as the verb's `--json` has it.
    pub episodes: Vec<Json>,
    /// What the verb prints with `--json` where there are no episodes: of a calibration, once it is written.
    #[serde(default)]
    pub result: Option<Json>,
}
