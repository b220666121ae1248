//! Those who set the scene for an episode and judge it.

use thiserror::Error;

use crate::Brief;

/// A scene that can't be set up or judged.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{doing}: {what}")]
pub struct EnvironmentError {
    pub doing: &'static str,
    pub what: Brief,
}

/// How an episode stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    #[default]
    Running,
    Success,
    Failure(String),
}

/// What [`Environment::reset`] has set up.
#[derive(Clone, Debug, PartialEq)]
pub struct EpisodeSetup {
    /// The instruction sentence, LeRobot's `task`.
    pub task: String,
    /// An episode ends after so many ticks.
    pub max_ticks: u64,
    /// Whether somebody says how it comes out: one that is still running at its end has then failed.
    pub is_judged: bool,
    /// Whether something was changed: images from before show another scene.
    pub is_set_up: bool,
}

/// Who sets the scene for an episode and judges it: a simulated task, or a human.
pub trait Environment: Send {
    /// Called while the robot is disarmed.
    ///
    /// # Errors
    /// When the scene cannot be set up.
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, EnvironmentError>;

    /// Called after ticks, on a thread of its own: the loop does not wait for it. `Success` and `Failure` are
    /// final until the next reset.
    fn outcome(&mut self) -> Outcome;

    /// A digest of the scene's whole state, for proving that two runs were the same. 0 where the
    /// scene cannot be digested (the real world).
    fn state_hash(&self) -> u64;
}
