//! One policy for several who ask: those who ask while it computes are answered together, next.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::infer::timed;
use crate::processor::{Array, Batch};
use crate::{Actions, Checkpoint, CheckpointError, InferError, Inputs};

type Answer = Result<(Array, Batch), InferError>;

/// A checkpoint that answers several threads at once, in the order in which they ask, where that takes less time than
/// one after the other; else each computes for itself. With the built-in kernels the answers are those of [`Checkpoint::infer`] to the
/// bit; candle's round otherwise for several.
#[derive(Debug)]
pub struct Together {
    checkpoint: Arc<Checkpoint>,
    /// How many are answered at once.
    most: usize,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Those who wait, by their numbers.
    asked: VecDeque<(u64, Inputs)>,
    /// With how long it took to compute them.
    answered: BTreeMap<u64, (Answer, Duration)>,
    next: u64,
    is_computing: bool,
}

impl Together {
    /// Answers at most `most` at once. Reads the weights, unless that was done already.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn new(checkpoint: &Arc<Checkpoint>, most: usize) -> Result<Self, CheckpointError> {
        let most = if checkpoint.model()?.gains_together() { most.max(1) } else { 1 };
        Ok(Self { checkpoint: Arc::clone(checkpoint), most, queue: Mutex::default(), changed: Condvar::new() })
    }

    /// Whether those who ask at the same time are answered together.
    pub fn is_used(&self) -> bool {
        self.most > 1
    }

    /// Runs the policy once. Also says how long that took, from when it was this one's turn, together with those who were answered
    /// with it.
    ///
    /// # Errors
    /// As [`Checkpoint::infer`].
    pub fn infer(&self, inputs: Inputs) -> Result<(Actions, Duration), InferError> {
        let (answer, computed) = self.computed(inputs);
        let (answer, observed) = answer?;
        let (actions, rest) = timed(|| self.checkpoint.unnormalized(answer, observed));
        Ok((actions?, computed + rest))
    }

    /// As [`Checkpoint::normalized`] without guidance.
    pub(crate) fn normalized(&self, inputs: Inputs) -> Answer {
        self.computed(inputs).0
    }

    fn computed(&self, inputs: Inputs) -> (Answer, Duration) {
        if !self.is_used() {
            return timed(|| self.checkpoint.normalized(&inputs, None));
        }
        let mut queue = self.lock();
        let number = queue.next;
        queue.next += 1;
        queue.asked.push_back((number, inputs));
        loop {
            if let Some(answer) = queue.answered.remove(&number) {
                return answer;
            }
            if queue.is_computing {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            // Whoever comes first computes for those who have waited longest, perhaps for others alone.
            let count = self.most.min(queue.asked.len());
            let (numbers, inputs): (Vec<_>, Vec<_>) = queue.asked.drain(..count).unzip();
            queue.is_computing = true;
            drop(queue);
            let mut turn = Turn { together: self, numbers, answers: Vec::new(), took: Duration::ZERO };
            (turn.answers, turn.took) = timed(|| self.checkpoint.normalized_many(&inputs));
            drop(turn);
            queue = self.lock();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that is done under the lock can leave half of a change behind.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checkpoint {
    /// Runs the policy on several observations at once. Each answer is that of [`infer`](Self::infer), with the built-in kernels to
    /// the bit; a family whose network reads its weights for a few rows (Diffusion Policy) reads them once for all.
    ///
    /// # Errors
    /// Each answer's as for [`infer`](Self::infer).
    pub fn infer_many(&self, inputs: &[Inputs]) -> Vec<Result<Actions, InferError>> {
        self.normalized_many(inputs)
            .into_iter()
            .map(|answer| answer.and_then(|(answer, observed)| self.unnormalized(answer, observed)))
            .collect()
    }

    /// [`normalized`](Self::normalized) for several inputs at once, without guidance.
    fn normalized_many(&self, inputs: &[Inputs]) -> Vec<Result<(Array, Batch), InferError>> {
        let alone = || inputs.iter().map(|inputs| self.normalized(inputs, None)).collect();
        let batches: Result<Vec<_>, _> = inputs.iter().map(|inputs| self.preprocessed(inputs)).collect();
        let (Ok(batches), Ok(model)) = (batches, self.model()) else { return alone() };
        let mut samplings: Vec<_> = inputs.iter().map(Inputs::sampling).collect();
        match rayon::scope(|_| model.run_many(&batches, &mut samplings)) {
            Ok(answers) if answers.len() == batches.len() => answers.into_iter().zip(batches).map(Ok).collect(),
            // One of them is at fault; alone, each gets its own error, or its answer.
            Ok(_) | Err(_) => alone(),
        }
    }
}

/// The right to compute, which ends with its value. Those for whom there is no answer then, as there was a panic, get an error.
struct Turn<'a> {
    together: &'a Together,
    numbers: Vec<u64>,
    answers: Vec<Answer>,
    took: Duration,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut answers = std::mem::take(&mut self.answers).into_iter();
        let mut queue = self.together.lock();
        for number in &self.numbers {
            let none = || Err(InferError::Compute(candle_core::Error::Msg("the computation was given up".to_owned())));
            queue.answered.insert(*number, (answers.next().unwrap_or_else(none), self.took));
        }
        queue.is_computing = false;
        self.together.changed.notify_all();
    }
}
