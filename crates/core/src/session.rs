//! What a session tells those who observe it: recorders and viewers.

use std::error::Error;

use serde::Serialize;
use thiserror::Error;

use crate::{Interventions, Observation, Outcome, Timestamp};

/// Who chose a tick's wanted goals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    #[default]
    Policy,
    Human,
    /// The arm stands still.
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
    /// Joint goals as the policy or teleoperator wanted them, radians.
    pub wanted_rad: Vec<f64>,
    /// Joint goals as they reached the goal registers, radians.
    pub applied_rad: Vec<f64>,
    pub interventions: Interventions,
    pub actor: Actor,
    /// How many instructions had been set in the session when the tick began, and how often something had been
    /// marked as worth keeping.
    pub instructions: u64,
    pub marks: u64,
    /// No action was queued for this tick; `wanted_rad` is what the starvation behaviour chose.
    pub starved: bool,
    /// Actions still queued after this tick.
    pub queued: u32,
    /// Latency of the newest inference that has arrived, 0 before the first and in teleoperation.
    pub inference_ns: i64,
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

/// Observes a session from a thread of its own; it can never slow control.
pub trait FrameSink: Send {
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
