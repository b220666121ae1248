//! Who acts, and hand-overs from one to another without a jump.

use sinew_core::{Actor, Clock, Observation, Tick, Wanted};

use crate::asking::{Asking, Choice};
use crate::control::{Moment, Shared};
use crate::hand_over::HandOver;
use crate::teleop::{Heard, TeleopThread};
use crate::{Fault, Operator};

/// A policy, or a human, or both and an operator who says which of them acts.
pub(crate) struct Acting<'a> {
    pub(crate) policy: Option<Asking<'a>>,
    human: Option<&'a mut TeleopThread>,
    operator: &'a Operator,
    actor: Actor,
    hand_over: HandOver,
    /// Nobody has led the robot lately: whoever does so again takes over anew.
    is_left_alone: bool,
}

impl<'a> Acting<'a> {
    /// Somebody acts from the first tick on: the policy, where there is one.
    pub(crate) fn new(policy: Option<Asking<'a>>, human: Option<&'a mut TeleopThread>, shared: &Shared<'a>, positions: Vec<bool>) -> Self {
        let actor = if policy.is_some() { Actor::Policy } else { Actor::Human };
        let mut hand_over = HandOver::new(shared, positions);
        hand_over.begin(true);
        let mut acting = Self { policy, human, operator: shared.operator, actor, hand_over, is_left_alone: false };
        if let (Actor::Human, Some(human)) = (actor, &mut acting.human) {
            human.begin();
        }
        acting
    }

    /// Whose goals are commanded: nobody's until a new actor's first are known.
    pub(crate) fn actor(&self) -> Actor {
        if self.hand_over.is_due() { Actor::Nobody } else { self.actor }
    }

    /// The one who acts alone, where there is no policy.
    pub(crate) fn lone_human(&mut self) -> Option<&mut TeleopThread> {
        if self.policy.is_none() { self.human.as_deref_mut() } else { None }
    }

    /// Does what the operator wants from `tick` on, by when he had set so many `instructions`; says whether the
    /// policy will look at its observation.
    pub(crate) fn looks_at(&mut self, tick: u64, instructions: u64) -> Result<bool, Fault> {
        let Some(policy) = &mut self.policy else { return Ok(false) };
        let actor = match self.operator.actor() {
            Actor::Human if self.human.is_none() => Actor::Nobody,
            actor => actor,
        };
        if actor != self.actor {
            match (&mut self.human, actor) {
                (_, Actor::Policy) => policy.resume(tick),
                (Some(human), Actor::Human) => human.begin(),
                _ => {}
            }
            self.actor = actor;
            self.hand_over.begin(actor != Actor::Nobody);
        }
        policy.instruct(instructions, tick);
        if self.actor == Actor::Policy { policy.looks_at(tick) } else { Ok(false) }
    }

    /// The robot was led by nobody for a while.
    pub(crate) fn leave_alone(&mut self) {
        self.is_left_alone = true;
    }

    /// Asks a human who acts for the next action, and has one who doesn't follow the robot; `sent` is what the robot was commanded last.
    pub(crate) fn ask_human(&mut self, tick: &Tick, clock: &dyn Clock, observation: &Observation, sent: &[f64]) -> Result<(), Fault> {
        match (self.actor, &mut self.human) {
            (Actor::Human, Some(human)) => human.ask(tick, clock, observation, sent),
            (_, Some(human)) => human.follow(tick, clock, observation, sent),
            _ => Ok(()),
        }
    }

    /// A human is heard at every turn; a policy's rows are for the first turn of their tick, and interpolated
    /// between. `commanded` is the last command.
    pub(crate) fn choose(
        &mut self,
        now: &Moment,
        shared: &Shared<'_>,
        observation: &Observation,
        commanded: &[f64],
        wanted: &mut Wanted,
    ) -> Result<Choice, Fault> {
        let choice = match (self.actor, &mut self.policy, &mut self.human) {
            (Actor::Policy, Some(policy), _) => {
                wanted.time = shared.clock.now();
                if now.is_first { policy.choose(now, observation, &mut wanted.goals)? } else { policy.between(now, &mut wanted.goals) }
            }
            (Actor::Human, policy, Some(human)) => match human.newest(now.tick, shared.turn_s(), shared.clock, wanted)? {
                // With a policy beside, that he is done is for the operator to see.
                Heard::Done if policy.is_none() => Choice::Last,
                Heard::Active | Heard::Done => Choice::Wanted,
                Heard::Stale => Choice::Stale,
                heard @ (Heard::Silent | Heard::Nothing) => {
                    self.is_left_alone = true;
                    if heard == Heard::Silent { Choice::Silent } else { Choice::Held }
                }
            },
            _ => Choice::Held,
        };
        match choice {
            Choice::Wanted | Choice::Last | Choice::Stale => {
                if std::mem::take(&mut self.is_left_alone) {
                    self.hand_over.begin(true);
                }
                self.hand_over.smooth(commanded, &mut wanted.goals);
                Ok(choice)
            }
            // A policy that has just been asked anew has nothing to say yet.
            Choice::Starved if self.hand_over.is_due() => Ok(Choice::Held),
            _ => Ok(choice),
        }
    }
}
