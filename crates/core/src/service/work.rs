//! What a robot can be told to do. Each is the verb of its name, with the verb's defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Calibrate, CalibratedArm, Mode};

/// What a robot is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    Teleop(Teleop),
    Record(Record),
    Rollout(Rollout),
    Replay(Replay),
    Eval(Eval),
    Calibrate(Calibrate),
    Limp(Limp),
}

impl Work {
    pub fn mode(&self) -> Mode {
        match self {
            Self::Teleop(_) => Mode::Teleop,
            Self::Record(_) => Mode::Record,
            Self::Rollout(_) => Mode::Rollout,
            Self::Replay(_) => Mode::Replay,
            Self::Eval(_) => Mode::Eval,
            Self::Calibrate(_) => Mode::Calibrate,
            Self::Limp(_) => Mode::Limp,
        }
    }
}

/// Who leads the robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkLeader {
    /// The operator, by goals that he sends.
    #[default]
    Remote,
    /// The leader arm or the device that the daemon was started with.
    Own,
    /// In the simulator: a script that knows the task.
    Scripted,
}

/// The robot follows somebody.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Teleop {
    pub leader: WorkLeader,
    /// Without it, until it is stopped.
    pub seconds: Option<f64>,
}

/// The robot follows somebody, and episodes are recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    #[serde(default)]
    pub leader: WorkLeader,
    /// The name of the dataset, in the service's folder. Where there is one, the recording goes on with it.
    pub dataset: String,
    /// What is to be done, in words. Needed but in the simulator, whose tasks have words of their own.
    #[serde(default)]
    pub instruction: Option<String>,
    #[serde(default)]
    pub episodes: Option<u64>,
    /// How long an episode takes at most.
    #[serde(default)]
    pub episode_s: Option<f64>,
    /// How long there is between two.
    #[serde(default)]
    pub reset_s: Option<f64>,
    /// Of the simulator's first scene.
    #[serde(default)]
    pub seed: Option<u64>,
}

/// What of a rollout becomes episodes, as `--strategy` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutStrategy {
    #[default]
    Base,
    /// Episodes with time between them, in which the robot goes to its rest.
    Episodic,
    /// What is marked is kept.
    Highlight,
    /// What the human did is kept.
    Dagger,
}

/// A policy works the robot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rollout {
    /// Without it, the demonstration policy.
    pub policy: Option<String>,
    pub instruction: Option<String>,
    pub strategy: RolloutStrategy,
    /// Who takes over, with the strategies that let somebody.
    pub leader: Option<WorkLeader>,
    pub episodes: Option<u64>,
    /// How long it takes; 0 until it is stopped.
    pub seconds: Option<f64>,
    /// How long there is between two episodes.
    pub reset_s: Option<f64>,
    pub seed: Option<u64>,
    /// The name of the dataset to record to. Without it nothing is recorded.
    pub dataset: Option<String>,
}

/// The robot does once more what was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// A name in the service's folder, or `owner/name[@revision]` on the Hub.
    pub dataset: String,
    #[serde(default)]
    pub episode: u64,
}

/// A policy's success rate, in the simulator of this machine; the robot itself does not move.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Eval {
    pub policy: Option<String>,
    pub task: Option<String>,
    pub episodes: Option<u64>,
    pub seed: Option<u64>,
}

/// The torque of an arm on a serial port of the service's machine is switched off, whatever its motors hold: it sinks, so somebody
/// holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limp {
    pub arm: CalibratedArm,
}

/// What is to become of the running episode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "wish", rename_all = "snake_case", deny_unknown_fields)]
pub enum EpisodeWish {
    /// It ends and is kept; between two, the next begins.
    Keep {},
    /// It ends, is dropped and done again; between two, so is the one before.
    Drop {},
    /// What just happened is worth keeping, or no longer (the strategy `highlight`).
    Mark {},
    /// The policy stops acting; the robot stands still.
    Pause {},
    /// The policy acts again.
    Resume {},
    /// From a pause: the human takes over, or gives back (the strategy `dagger`).
    Correct {},
    /// The policy is told this from now on, which begins a new episode.
    Instruct { instruction: String },
    /// No further episode.
    Finish {},
}

/// The name of an [`EpisodeWish`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WishName {
    Keep,
    Drop,
    Mark,
    Pause,
    Resume,
    Correct,
    Instruct,
    Finish,
}
