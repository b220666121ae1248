//! What a human asks of a running session.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};

use sinew_core::Actor;

const NO_END: u8 = 0;
const END_AND_KEEP: u8 = 1;
const END_AND_DROP: u8 = 2;
/// This episode ends, and so does any other that begins.
const END_ALL: u8 = 3;

/// Wishes of a human at keys, pedals or a prompt, shared with the session and its sinks
/// ([`Session::operator`](crate::Session::operator)). The control thread reads them without waiting.
#[derive(Clone, Debug, Default)]
pub struct Operator(Arc<Wishes>);

#[derive(Debug, Default)]
struct Wishes {
    actor: AtomicU8,
    end: AtomicU8,
    marks: AtomicU64,
    /// All that were set, in order. Never locked by the control thread.
    instructions: Mutex<Vec<String>>,
    instruction_count: AtomicU64,
}

fn actor_of(code: u8) -> Actor {
    match code {
        0 => Actor::Policy,
        1 => Actor::Human,
        _ => Actor::Nobody,
    }
}

fn code_of(actor: Actor) -> u8 {
    match actor {
        Actor::Policy => 0,
        Actor::Human => 1,
        Actor::Nobody => 2,
    }
}

impl Operator {
    pub fn new() -> Self {
        Self::default()
    }

    /// Who is to act in a session with a policy; [`Actor::Human`] where it has a teleoperator too.
    pub fn actor(&self) -> Actor {
        actor_of(self.0.actor.load(Acquire))
    }

    pub fn set_actor(&self, actor: Actor) {
        self.0.actor.store(code_of(actor), Release);
    }

    /// From the policy to nobody and back; while the human acts it does nothing, as in LeRobot. Says who
    /// is to act now.
    pub fn toggle_pause(&self) -> Actor {
        self.change(|actor| match actor {
            Actor::Policy => Actor::Nobody,
            Actor::Nobody => Actor::Policy,
            Actor::Human => Actor::Human,
        })
    }

    /// From nobody to the human and back; while the policy acts it does nothing, as in LeRobot. Says who
    /// is to act now.
    pub fn toggle_correction(&self) -> Actor {
        self.change(|actor| match actor {
            Actor::Nobody => Actor::Human,
            Actor::Human => Actor::Nobody,
            Actor::Policy => Actor::Policy,
        })
    }

    fn change(&self, next: impl Fn(Actor) -> Actor) -> Actor {
        let next = |code| code_of(next(actor_of(code)));
        // The closure always answers, so the update cannot fail.
        let before = self.0.actor.fetch_update(AcqRel, Acquire, |code| Some(next(code))).unwrap_or_default();
        actor_of(next(before))
    }

    /// The running episode ends, and is kept or dropped.
    pub fn end_episode(&self, keep: bool) {
        let wish = if keep { END_AND_KEEP } else { END_AND_DROP };
        let _ = self.0.end.fetch_update(AcqRel, Acquire, |end| (end != END_ALL).then_some(wish));
    }

    /// The running episode ends and is kept, and so does each that begins after this.
    pub fn end_all(&self) {
        self.0.end.store(END_ALL, Release);
    }

    /// What was asked of the running episode's end, once.
    pub(crate) fn take_end(&self) -> Option<bool> {
        let taken = self.0.end.fetch_update(AcqRel, Acquire, |end| (end != END_ALL).then_some(NO_END));
        match taken.unwrap_or(END_ALL) {
            NO_END => None,
            code => Some(code != END_AND_DROP),
        }
    }

    /// What just happened is worth keeping, or no longer ([`Strategy::Highlights`](crate::Strategy)).
    pub fn mark(&self) {
        self.0.marks.fetch_add(1, AcqRel);
    }

    pub(crate) fn marks(&self) -> u64 {
        self.0.marks.load(Acquire)
    }

    /// From the next tick on the policy is given this instruction.
    pub fn set_task(&self, task: String) {
        let mut instructions = self.0.instructions.lock().unwrap_or_else(PoisonError::into_inner);
        instructions.push(task);
        self.0.instruction_count.store(instructions.len() as u64, Release);
    }

    /// The instruction that was set last.
    pub fn task(&self) -> Option<String> {
        self.task_of(self.instructions())
    }

    /// How many instructions have been set.
    pub(crate) fn instructions(&self) -> u64 {
        self.0.instruction_count.load(Acquire)
    }

    /// The last of the first `instructions` that were set.
    pub(crate) fn task_of(&self, instructions: u64) -> Option<String> {
        let number = usize::try_from(instructions).ok()?.checked_sub(1)?;
        self.0.instructions.lock().unwrap_or_else(PoisonError::into_inner).get(number).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_human_takes_over_from_nobody_only() {
        let operator = Operator::new();
        assert_eq!(operator.actor(), Actor::Policy);
        assert_eq!(operator.toggle_correction(), Actor::Policy);
        assert_eq!(operator.toggle_pause(), Actor::Nobody);
        assert_eq!(operator.toggle_correction(), Actor::Human);
        assert_eq!(operator.toggle_pause(), Actor::Human);
        assert_eq!(operator.toggle_correction(), Actor::Nobody);
        assert_eq!(operator.toggle_pause(), Actor::Policy);
        assert_eq!(operator.actor(), Actor::Policy);
    }

    #[test]
    fn an_end_is_taken_once() {
        let operator = Operator::new();
        assert_eq!(operator.take_end(), None);
        operator.end_episode(false);
        operator.end_episode(true);
        assert_eq!((operator.take_end(), operator.take_end()), (Some(true), None));
    }

    #[test]
    fn who_wants_no_more_ends_every_episode() {
        let operator = Operator::new();
        operator.end_all();
        assert_eq!((operator.take_end(), operator.take_end()), (Some(true), Some(true)));
        operator.end_episode(false);
        assert_eq!(operator.take_end(), Some(true));
    }

    #[test]
    fn every_instruction_is_known_by_its_number() {
        let operator = Operator::new();
        assert_eq!((operator.instructions(), operator.task()), (0, None));
        operator.set_task("one".into());
        operator.set_task("two".into());
        assert_eq!((operator.instructions(), operator.task().as_deref()), (2, Some("two")));
        assert_eq!((operator.task_of(0), operator.task_of(1).as_deref(), operator.task_of(3)), (None, Some("one"), None));
    }
}
