//! What a robot's service offers to whoever is connected with it: values that travel as JSON, and the trait of the one who answers.
//!
//! Numbers are SI: radians, metres, seconds. Channels and parts are counted in the order of the robot's description.

mod calibrate;
mod hand;
mod progress;
mod state;
mod work;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use thiserror::Error;

pub use calibrate::{
    Calibratable, Calibrate, CalibratedArm, CalibrationAnswer, CalibrationReply, CalibrationState, CalibrationStep, JointSweep,
};
pub use hand::{HandPose, HeldTool, Side};
pub use progress::{TaskProgress, TransferStep};
pub use state::{Acting, LoopState, Mode, Phase, State, StopState, WorkEnd, WorkState};
pub use work::{EpisodeWish, Eval, Limp, Record, Replay, Rollout, RolloutStrategy, Teleop, WishName, Work, WorkLeader};

/// Why a request was not fulfilled, in words for people.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// It makes no sense.
    #[error("{0}")]
    Bad(String),
    /// What it names is not there.
    #[error("{0}")]
    Missing(String),
    /// Not now: something else runs, or nothing does.
    #[error("{0}")]
    Conflict(String),
    /// It was tried, and failed.
    #[error("{0}")]
    Failed(String),
}

/// What a robot is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RobotInfo {
    /// Its folder's name, such as `so101`.
    pub name: String,
    /// For people.
    pub title: String,
    /// The version of the program.
    pub version: String,
    pub is_simulated: bool,
    /// Ticks a second.
    pub rate_hz: u32,
    /// The numbers of `position`, in order.
    pub state: Vec<ChannelInfo>,
    /// The numbers of `goal`, in order.
    pub action: Vec<ChannelInfo>,
    /// The numbers of `velocity`, `effort` and `temperature_c`, in order.
    pub parts: Vec<String>,
    pub cameras: Vec<CameraInfo>,
    /// Files of its meshes, each at `/api/v1/robot/NAME`; none where the description has no model.
    pub meshes: Vec<String>,
    /// What the rig says: a leader arm or a device of its own that can lead it.
    pub teleoperator: Option<String>,
    /// The task whose scene the simulator has.
    pub task: Option<String>,
    /// The arms that the works `calibrate` and `limp` are for: those on serial ports of its machine.
    pub calibrate: Vec<Calibratable>,
    /// The tools that can repeat the motion of a hand; none where the description says too little of its arms.
    pub tools: Vec<HeldTool>,
}

/// One number of a robot's state or action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelInfo {
    /// LeRobot's name of it: `shoulder_pan.pos`.
    pub name: String,
    pub unit: Unit,
    /// How far it may go.
    pub lower: Option<f64>,
    pub upper: Option<f64>,
    /// In a dataset it is `scale` times this, plus `offset`: degrees, or 0 to 100.
    pub scale: f64,
    pub offset: f64,
}

/// What a number of a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    #[serde(rename = "rad")]
    Radian,
    #[serde(rename = "m")]
    Metre,
    #[serde(rename = "rad/s")]
    RadianPerSecond,
    #[serde(rename = "m/s")]
    MetrePerSecond,
    /// Of a sensor, whose description says.
    #[serde(rename = "si")]
    Other,
}

/// A camera of the robot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CameraInfo {
    pub name: String,
    /// Pixels.
    pub width: u32,
    pub height: u32,
    /// Images a second, where that is known.
    pub fps: Option<u32>,
}

/// How far a stop goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopWish {
    /// What runs ends in order; an episode that may be kept is.
    Stop,
    /// The robot's safe action at once.
    Now,
    /// The same, and nothing begins until the emergency is cleared.
    Emergency,
}

/// A line that the program said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// Counted from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    pub text: String,
}

/// A dataset in the service's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DatasetItem {
    pub name: String,
    pub episodes: u64,
    pub frames: u64,
    pub fps: f64,
    pub robot_type: Option<String>,
    /// Why it can't be read, where it can't.
    pub trouble: Option<String>,
    /// An episode that was not finished is left in it.
    pub is_unfinished: bool,
}

/// An episode of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EpisodeItem {
    pub index: u64,
    pub frames: u64,
    pub seconds: f64,
    pub instructions: Vec<String>,
}

/// A policy that is on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyItem {
    /// What a work's `policy` is: `owner/name`, or a path. Nothing for the demonstration policy.
    pub policy: Option<String>,
    pub title: String,
    /// The commits that are in the cache.
    pub commits: Vec<String>,
    pub size_bytes: u64,
    /// What has been started here, by the names that works gave it.
    pub names: Vec<PolicyName>,
}

/// What a policy's name stands for on this robot. It changes when the policy is fetched, or when it fails to start; never while a
/// work runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyName {
    /// `owner/name[@revision]`.
    pub name: String,
    /// The commit that the next start takes.
    pub commit: String,
    /// The commit that was fetched last, where the next start takes the last good one in its place.
    pub instead_of: Option<String>,
    /// The commit of the last start that came to its first answers.
    pub last_good: Option<String>,
    /// How often in a row a start of what was fetched last failed.
    pub failed_starts: u32,
    /// Why it failed the last time.
    pub trouble: Option<String>,
}

/// What acted in a work, of a policy of the Hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyUsed {
    /// `owner/name[@revision]`, as the work named it.
    pub name: String,
    pub commit: String,
    /// The commit that was fetched last, where the last good one ran in its place.
    pub instead_of: Option<String>,
}

/// Something that takes long and is done beside the robot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Task {
    /// Downloads a policy into the cache: `owner/name[@revision]`.
    FetchPolicy { policy: String },
    /// Whether a policy fits this robot. Without a name, the demonstration policy.
    CheckPolicy {
        #[serde(default)]
        policy: Option<String>,
    },
    /// Downloads a dataset into the cache: `owner/name[@revision]`.
    FetchDataset { dataset: String },
    /// Reads all of a dataset and says what is wrong with it.
    VerifyDataset { dataset: String },
    /// Uploads a dataset of the service's folder to a repository of the Hub, `owner/name`, which is made where there is none.
    PublishDataset {
        dataset: String,
        repo: String,
        /// Whether one that is made is private. There is no default: what is public is seen by everybody.
        private: bool,
    },
    /// Uploads a policy of the cache, `owner/name[@commit]`, in the same way.
    PublishPolicy { policy: String, repo: String, private: bool },
    /// Checks the machine.
    Doctor {},
}

impl Task {
    /// Whether something leaves the machine in its owner's name.
    pub fn publishes(&self) -> bool {
        matches!(self, Self::PublishDataset { .. } | Self::PublishPolicy { .. })
    }
}

/// How a [`Task`] goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskState {
    /// Counted from 1.
    pub number: u64,
    pub task: Task,
    pub is_done: bool,
    /// Somebody ended it before its end.
    #[serde(default)]
    pub is_cancelled: bool,
    /// How far it is, where it fetches or publishes and has begun to.
    #[serde(default)]
    pub progress: Option<TaskProgress>,
    /// Why it failed.
    pub error: Option<String>,
    /// What came of it, once it is done: what the verb's `--json` prints.
    pub result: Option<Json>,
}

/// How an image is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    Low,
    Medium,
    High,
}

/// A compressed image. Clones share the bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Shot {
    /// Counts the camera's images. One that is newer has a higher one.
    pub sequence: u64,
    /// Pixels.
    pub width: u32,
    pub height: u32,
    /// How long ago it was taken.
    pub age: Duration,
    pub jpeg: Arc<[u8]>,
}

/// One robot, and all that can be asked of it. Whoever asks has been let in before; every call but those that read a disk returns
/// at once.
pub trait Service: Send + Sync {
    fn robot(&self) -> RobotInfo;

    /// The robot's description, as its robot.toml has it.
    fn description(&self) -> Json;

    /// The file of a mesh that [`RobotInfo::meshes`] names.
    fn mesh(&self, name: &str) -> Option<Vec<u8>>;

    /// Waits for a state after the one of the number `seen`, at most for `within`. Says the number of the newest.
    fn wait(&self, seen: u64, within: Duration) -> u64;

    /// The newest state.
    fn state(&self) -> Arc<State>;

    /// The newest image of a camera, if it is newer than the one of the number `seen`. Whoever asks first for one of a quality
    /// waits until it is compressed; everybody else shares it.
    fn shot(&self, camera: usize, seen: u64, quality: Quality) -> Option<Shot>;

    /// Where the operator wants the robot to be from now on: a value a channel of action. Goals that are older than 0.3 s are
    /// none: the robot holds.
    ///
    /// # Errors
    /// When the numbers are no goals of this robot, or nothing runs that is led so.
    fn steer(&self, goals: &[f64]) -> Result<(), Refusal>;

    /// Where the devices in the operator's hands are, of those that are there. Each tool repeats what its hand does from the time on that
    /// this is enabled. `by` tells operators apart, and the poses were on their way for `age` at least. Poses that are older than
    /// 0.25 s are none: the robot holds.
    ///
    /// # Errors
    /// When they are no poses, jump, or are too old: the hand has then to be not enabled before it counts again. When the robot has no
    /// such tool, or nothing runs that is led so.
    fn hold(&self, by: u64, hands: &[HandPose], age: Duration) -> Result<(), Refusal>;

    fn stop(&self, wish: StopWish);

    /// The emergency is over. Says whether there was one.
    fn clear_emergency(&self) -> bool;

    /// Begins a work.
    ///
    /// # Errors
    /// When another one runs, or it can't be what was asked for.
    fn start(&self, work: Work) -> Result<(), Refusal>;

    /// How the work that ended last came out.
    fn last(&self) -> Option<WorkEnd>;

    /// # Errors
    /// When no work runs that has a use for it.
    fn wish(&self, wish: EpisodeWish) -> Result<(), Refusal>;

    /// What was said after line `after`, at most the newest 1000 lines.
    fn log(&self, after: u64) -> Vec<LogLine>;

    /// # Errors
    /// When the folder can't be read.
    fn datasets(&self) -> Result<Vec<DatasetItem>, Refusal>;

    /// # Errors
    /// When there is no such dataset, or it can't be read.
    fn episodes(&self, dataset: &str) -> Result<Vec<EpisodeItem>, Refusal>;

    /// An image of an episode's first camera, from its middle, as JPEG.
    ///
    /// # Errors
    /// When there is no such episode, or it has no images.
    fn thumbnail(&self, dataset: &str, episode: u64) -> Result<Vec<u8>, Refusal>;

    /// # Errors
    /// When the cache can't be read.
    fn policies(&self) -> Result<Vec<PolicyItem>, Refusal>;

    /// Begins a task, and says its number.
    ///
    /// # Errors
    /// When too many run.
    fn begin_task(&self, task: Task) -> Result<u64, Refusal>;

    /// The newest tasks.
    fn tasks(&self) -> Vec<TaskState>;

    /// Ends a task before its end.
    ///
    /// # Errors
    /// When there is none of that number that runs.
    fn cancel_task(&self, number: u64) -> Result<(), Refusal>;

    /// Answers the running calibration.
    ///
    /// # Errors
    /// When none runs, or it does not wait for that answer.
    fn answer(&self, answer: CalibrationAnswer) -> Result<(), Refusal>;
}
