//! One action at a time, from a queue that a chunk fills: LeRobot's `select_action`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Checkpoint, InferError, Inputs, TemporalEnsembler};

/// A policy in an episode that asks for one action a step, as LeRobot's evaluation does: the policy runs when the queue
/// of actions is empty, and its first [`n_action_steps`](crate::Info::n_action_steps) rows fill the queue. A policy that
/// ensembles over time runs at each step. Policies that take several observations remember those of the last steps; the
/// first stands for those before it.
///
/// A chunk is unnormalised as a whole, with the observation that it was made of. (`lerobot/policies/utils.py`,
/// `populate_queues`, and each family's `select_action`, LeRobot 0.6.1.)
///
/// ```
/// use std::sync::Arc;
/// use sinew_policy::{ActionSelector, Checkpoint};
///
/// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/act/two_cameras_vae");
/// let checkpoint = Arc::new(Checkpoint::open(folder)?);
/// let inputs = checkpoint.blank_inputs();
/// let chunk = checkpoint.infer(&inputs)?;
///
/// let mut policy = ActionSelector::new(checkpoint);
/// assert_eq!(policy.select_action(&inputs)?, chunk.row(0));
/// assert_eq!(policy.select_action(&inputs)?, chunk.row(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ActionSelector {
    checkpoint: Arc<Checkpoint>,
    /// The newest observations, oldest first; at most as many as the policy takes.
    seen: VecDeque<Inputs>,
    /// Rows that are still to be given out.
    queue: VecDeque<Vec<f32>>,
    ensembler: Option<TemporalEnsembler>,
    /// Since the reset.
    steps: u64,
    /// Since the beginning.
    answers: u64,
}

impl ActionSelector {
    /// The weights are read when the first action is asked for.
    pub fn new(checkpoint: Arc<Checkpoint>) -> Self {
        let info = checkpoint.info();
        let ensembler = info.temporal_ensemble_coeff.map(|coeff| TemporalEnsembler::new(coeff, info.chunk_size, checkpoint.action_width()));
        Self { checkpoint, seen: VecDeque::new(), queue: VecDeque::new(), ensembler, steps: 0, answers: 0 }
    }

    /// Forgets the queue and what was seen; for the start of an episode, which goes on with new noise.
    pub fn reset(&mut self) {
        self.steps = 0;
        self.seen.clear();
        self.queue.clear();
        if let Some(ensembler) = &mut self.ensembler {
            ensembler.reset();
        }
    }

    /// The action `[A]` for one step, in the dataset's units; `inputs` is one observation. What is drawn by chance comes from
    /// the seed of `inputs` and the number of chunks that
    /// this selector has made, in all episodes.
    ///
    /// # Errors
    /// As [`Checkpoint::infer`]. The step then counts as not made.
    pub fn select_action(&mut self, inputs: &Inputs) -> Result<Vec<f32>, InferError> {
        let n_obs_steps = self.checkpoint.info().n_obs_steps;
        // A policy that takes one observation needs none that it does not run on.
        let seen = if n_obs_steps > 1 { Some(self.with(inputs, n_obs_steps)) } else { None };
        if self.queue.is_empty() {
            let inputs = seen.as_ref().map_or_else(|| inputs.clone(), Inputs::of_steps);
            self.queue = self.answer(&inputs.after_chunks(self.answers))?.into();
            self.answers += 1;
        }
        self.steps += 1;
        self.seen = seen.unwrap_or_default();
        Ok(self.queue.pop_front().unwrap_or_default())
    }

    /// What was seen up to now and `inputs`.
    fn with(&self, inputs: &Inputs, n_obs_steps: usize) -> VecDeque<Inputs> {
        let mut seen = self.seen.clone();
        if seen.is_empty() {
            seen.extend(std::iter::repeat_n(inputs.clone(), n_obs_steps - 1));
        }
        seen.push_back(inputs.clone());
        seen.drain(..seen.len().saturating_sub(n_obs_steps));
        seen
    }

    /// The rows that are to be executed, at least one.
    fn answer(&mut self, inputs: &Inputs) -> Result<Vec<Vec<f32>>, InferError> {
        let (mut answer, observed) = self.checkpoint.normalized(inputs, None)?;
        let mut count = self.checkpoint.info().n_action_steps;
        if let Some(ensembler) = &mut self.ensembler {
            // The mean of what chunks say of one step, so there is a new one at each.
            answer.values = ensembler.update(self.steps, &answer.values);
            count = 1;
        }
        let actions = self.checkpoint.unnormalized(answer, observed)?;
        Ok((0..count.clamp(1, actions.rows)).map(|row| actions.row(row).to_vec()).collect())
    }
}
