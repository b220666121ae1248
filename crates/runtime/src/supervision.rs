//! Who acts in a session with a policy, and hand-overs without a jump.

use sinew_core::{Actor, Observation, Teleoperator, Tick};

use crate::control::Shared;
use crate::hand_over::HandOver;
use crate::plan::{Choice, Moment, PolicyPlan};
use crate::{Fault, Operator};

/// A policy, perhaps a human beside it, and the operator who says which of them acts.
pub(crate) struct Supervision<'a> {
    pub(crate) policy: PolicyPlan<'a>,
    human: Option<&'a mut dyn Teleoperator>,
    operator: &'a Operator,
    actor: Actor,
    hand_over: HandOver,
}

impl<'a> Supervision<'a> {
    pub(crate) fn new(
        policy: PolicyPlan<'a>,
        human: Option<&'a mut dyn Teleoperator>,
        operator: &'a Operator,
        shared: &Shared<'_>,
        width: usize,
    ) -> Self {
        Self { policy, human, operator, actor: Actor::Policy, hand_over: HandOver::new(shared, width) }
    }

    /// Whose goals are commanded: nobody's until a new actor's first are known.
    pub(crate) fn actor(&self) -> Actor {
        if self.hand_over.is_due() { Actor::Nobody } else { self.actor }
    }

    /// Does what the operator wants from `tick` on, by when he had set so many `instructions`; says whether the
    /// policy will look at its observation.
    pub(crate) fn looks_at(&mut self, tick: u64, instructions: u64) -> Result<bool, Fault> {
        let actor = match self.operator.actor() {
            Actor::Human if self.human.is_none() => Actor::Nobody,
            actor => actor,
        };
        if actor != self.actor {
            match (&mut self.human, actor) {
                (_, Actor::Policy) => self.policy.resume(tick),
                (Some(human), Actor::Human) => human.reset().map_err(|source| Fault::Teleoperator { tick, source })?,
                _ => {}
            }
            self.actor = actor;
            self.hand_over.begin(actor != Actor::Nobody);
        }
        self.policy.instruct(instructions, tick);
        if self.actor == Actor::Policy { self.policy.looks_at(tick) } else { Ok(false) }
    }

    /// As [`Plan::choose`](crate::plan::Plan::choose); `command_rad` is the last command.
    pub(crate) fn choose(
        &mut self,
        tick: &Tick,
        now: &Moment,
        observation: &Observation,
        command_rad: &[f64],
        wanted_rad: &mut [f64],
    ) -> Result<Choice, Fault> {
        let choice = match (self.actor, &mut self.human) {
            (Actor::Policy, _) if now.is_first => self.policy.choose(now, observation, wanted_rad)?,
            (Actor::Policy, _) => self.policy.between(now, wanted_rad),
            (Actor::Human, Some(human)) => {
                // That it is done is for the operator to see.
                human.action(tick, wanted_rad).map_err(|source| Fault::Teleoperator { tick: now.tick, source })?;
                Choice::Wanted
            }
            (Actor::Nobody, _) | (Actor::Human, None) => Choice::Held,
        };
        match choice {
            Choice::Wanted => {
                self.hand_over.smooth(command_rad, wanted_rad, 0.0);
                Ok(choice)
            }
            // A policy that has just been asked anew has nothing to say yet.
            Choice::Starved if self.hand_over.is_due() => Ok(Choice::Held),
            _ => Ok(choice),
        }
    }
}
