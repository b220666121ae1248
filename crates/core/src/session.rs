//! What a session tells those who observe it: recorders and viewers.

use std::error::Error;

use serde::Serialize;
use thiserror::Error;

use crate::{Interventions, Observation, Outcome, RobotDescription, Timestamp};

/// Who chose what was wanted at a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    #[default]
    Policy,
    Human,
    /// The robot stands still.
    Nobody,
}

/// One tick as it happened: the observation, what was wanted, what was really sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    pub tick: u64,
    pub due: Timestamp,
    /// How long after `due` the tick began.
    pub lateness_ns: i64,
    pub observation: Observation,
    /// What the policy or teleoperator wanted: a value a channel of action, in SI.
    pub wanted: Vec<f64>,
    /// What the robot was commanded last, as far as it was sent: a value a channel of action, in SI.
    pub sent: Vec<f64>,
    pub interventions: Interventions,
    pub actor: Actor,
    /// How many instructions had been set in the session when the tick began, and how often something had been
    /// marked as worth keeping.
    pub instructions: u64,
    pub marks: u64,
    /// No action was queued for this tick; `wanted` is what the starvation behaviour chose.
    pub starved: bool,
    /// Actions still queued after this tick.
    pub queued: u32,
    /// Latency of the newest inference that has arrived, 0 before the first and in teleoperation.
    pub inference_ns: i64,
}

impl Frame {
    /// A frame with buffers of the right size for `robot`.
    pub fn for_robot(robot: &RobotDescription) -> Self {
        let width = robot.action_channels().len();
        Self { observation: Observation::for_robot(robot), wanted: vec![0.0; width], sent: vec![0.0; width], ..Self::default() }
    }

    /// Makes `self` what `other` is, sharing the images, without allocating when the shapes agree.
    pub fn copy_from(&mut self, other: &Self) {
        self.tick = other.tick;
        self.due = other.due;
        self.lateness_ns = other.lateness_ns;
        self.observation.copy_from(&other.observation);
        self.wanted.clone_from(&other.wanted);
        self.sent.clone_from(&other.sent);
        self.interventions = other.interventions;
        self.actor = other.actor;
        self.instructions = other.instructions;
        self.marks = other.marks;
        self.starved = other.starved;
        self.queued = other.queued;
        self.inference_ns = other.inference_ns;
    }
}

/// What is known of an episode before its first tick.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeStart {
    /// Counts the session's attempts from 0; dropped attempts count too.
    pub attempt: u64,
    pub seed: u64,
    /// The instruction sentence, LeRobot's `task`.
    pub task: String,
}

/// What is known of an episode after its last tick.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeEnd {
    /// `Running` when it was interrupted; a fault counts as a failure.
    pub outcome: Outcome,
    /// Whether the episode belongs in the dataset. When `false` no trace of it may remain.
    pub keep: bool,
    /// Frames that the session produced but could not hand over in time.
    pub lost_frames: u64,
}

/// A recorder or viewer that could not go on.
#[derive(Debug, Error)]
#[error("{doing}")]
pub struct SinkError {
    pub doing: String,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// What the failure of a sink means for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It ends the episode.
    Fatal,
    /// The sink is left out from then on, and the session goes on.
    Detach,
}

/// Observes a session from a thread of its own; it can never slow control, or another sink.
pub trait FrameSink: Send {
    /// What reports call it.
    fn name(&self) -> &str;

    fn on_failure(&self) -> OnFailure {
        OnFailure::Fatal
    }

    /// # Errors
    /// When the episode cannot be begun.
    fn begin(&mut self, episode: &EpisodeStart) -> Result<(), SinkError>;

    /// # Errors
    /// When the frame cannot be taken; the episode is then dropped.
    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError>;

    /// # Errors
    /// When a kept episode could not be committed; earlier episodes stay whole.
    fn end(&mut self, end: &EpisodeEnd) -> Result<(), SinkError>;
}
