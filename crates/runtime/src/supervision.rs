//! Who acts in a session with a policy, and hand-overs without a jump.

use sinew_core::{Actor, Observation, Teleoperator, Tick};

use crate::control::Shared;
use crate::plan::{Choice, Moment, PolicyPlan};
use crate::{Fault, Operator};

/// A policy, perhaps a human beside it, and the operator who says which of them acts.
pub(crate) struct Supervision<'a> {
    pub(crate) policy: PolicyPlan<'a>,
    human: Option<&'a mut dyn Teleoperator>,
    operator: &'a Operator,
    actor: Actor,
    /// Of the instruction that the policy was told.
    task_version: u64,
    /// The actor is new, and nothing of its is known yet.
    is_taking_over: bool,
    /// What is added to the actor's goals so that they began where the last command was. It fades.
    offset_rad: Vec<f64>,
    /// How much of it fades in a turn of the loop.
    fade_rad: f64,
}

impl<'a> Supervision<'a> {
    pub(crate) fn new(
        policy: PolicyPlan<'a>,
        human: Option<&'a mut dyn Teleoperator>,
        operator: &'a Operator,
        shared: &Shared<'_>,
        width: usize,
    ) -> Self {
        let fade_rad = (shared.config.rest_velocity_rad_per_s * shared.turn_ns() as f64 * 1e-9).max(0.0);
        let task_version = operator.task_version();
        Self { policy, human, operator, actor: Actor::Policy, task_version, is_taking_over: false, offset_rad: vec![0.0; width], fade_rad }
    }

    /// Whose goals are commanded: nobody's until a new actor's first are known.
    pub(crate) fn actor(&self) -> Actor {
        if self.is_taking_over { Actor::Nobody } else { self.actor }
    }

    /// Does what the operator wants from `tick` on; says whether the policy will look at its observation.
    pub(crate) fn looks_at(&mut self, tick: u64) -> Result<bool, Fault> {
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
            self.is_taking_over = actor != Actor::Nobody;
            self.offset_rad.fill(0.0);
        }
        let version = self.operator.task_version();
        if version != self.task_version {
            self.task_version = version;
            self.policy.ask_soon(tick);
        }
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
                self.hand_over(command_rad, wanted_rad);
                Ok(choice)
            }
            // A policy that has just been asked anew has nothing to say yet.
            Choice::Starved if self.is_taking_over => Ok(Choice::Held),
            _ => Ok(choice),
        }
    }

    /// Begins at the last command and comes to the actor's own goals at the speed for rest.
    fn hand_over(&mut self, command_rad: &[f64], wanted_rad: &mut [f64]) {
        if std::mem::take(&mut self.is_taking_over) {
            for ((offset, command), wanted) in self.offset_rad.iter_mut().zip(command_rad).zip(&*wanted_rad) {
                // What is no number is for the gate to refuse, now as later.
                *offset = if wanted.is_finite() { command - wanted } else { 0.0 };
            }
        }
        for (wanted, offset) in wanted_rad.iter_mut().zip(&mut self.offset_rad) {
            *wanted += *offset;
            *offset -= offset.clamp(-self.fade_rad, self.fade_rad);
        }
    }
}
