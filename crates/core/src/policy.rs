//! Those who look and answer slowly: policies.

use std::error::Error;

use thiserror::Error;

use crate::{ActionChunk, Observation, ShapeError};

/// A policy that could not answer.
#[derive(Debug, Error)]
pub enum PolicyError {
    #[error("{doing}")]
    Compute {
        doing: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// There is no answer to this question, and there may well be one to a later: a link that is gone. Whoever asks
    /// goes on with what it has. A policy takes some milliseconds before it says so, as it is asked again at once.
    #[error("{what}")]
    Unavailable { what: String },
}

/// What a policy is, for those who schedule and show it.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyInfo {
    /// The family's LeRobot name, such as `act`.
    pub family: String,
    pub parameters: u64,
    /// Observations that it looks at together: that of now and those of the ticks before.
    pub n_obs_steps: usize,
    /// Rows in each answer.
    pub chunk_size: usize,
    /// Rows of an answer that are meant to be executed before the next.
    pub n_action_steps: usize,
}

/// What a new chunk is to continue: the chunk answered before, which is being executed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// Rows of the answer before that are still to be executed, the first being for the tick of the
    /// newest observation.
    pub rows_left: usize,
    /// How many of them will have been executed by the time the new answer is there, as far as is
    /// known: the new rows for those ticks are computed for nothing.
    pub delay_rows: usize,
    /// The newest answer came too late to be used ([`Policy::most_delay_rows`]): what is being executed,
    /// and to be continued, is the newest of those before it that was not.
    pub newest_is_unused: bool,
}

/// Maps an observation to a chunk of actions: pure compute, slow by nature, never on the control
/// thread. An implementation is bound to one robot: features, order and units were checked when it
/// was made, and it takes and answers SI units in the order of the description's channels.
pub trait Policy: Send {
    fn info(&self) -> &PolicyInfo;

    /// Forgets everything about the past; called before each episode with the episode's `seed`, from which
    /// alone everything is drawn that is random.
    fn reset(&mut self, seed: u64);

    /// `observations` are the last [`PolicyInfo::n_obs_steps`], oldest first; at the start of an
    /// episode the first stands for those before it. The answer's first row is for the tick of the
    /// last.
    ///
    /// # Errors
    /// When the computation failed. A policy never answers with a wrong shape.
    fn infer(&mut self, observations: &[Observation], task: &str) -> Result<ActionChunk, PolicyError>;

    /// As [`infer`](Self::infer), for an answer that follows smoothly from the one before (real-time
    /// chunking). A policy that can't do so answers as ever.
    ///
    /// # Errors
    /// As [`infer`](Self::infer).
    fn infer_continuing(&mut self, observations: &[Observation], task: &str, continuing: Continuation) -> Result<ActionChunk, PolicyError> {
        let _ = continuing;
        self.infer(observations, task)
    }

    /// Whether [`infer_continuing`](Self::infer_continuing) does more than [`infer`](Self::infer).
    fn can_continue(&self) -> bool {
        false
    }

    /// The most [`delay_rows`](Continuation::delay_rows) that it can be asked to continue, where an answer
    /// follows the one before only if no more rows than it was told of have been executed. `None` where
    /// any number is as good.
    fn most_delay_rows(&self) -> Option<usize> {
        None
    }
}
