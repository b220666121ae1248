//! Scripted teleoperators: they know the true state of the world and show how a task is done.
//!
//! A [`Script`] says where the gripper should go next, judged anew each tick from where things
//! are; the [`ScriptedTeleoperator`] moves the goals there at human speed, with a hand that is
//! never quite steady.

mod carry;
mod hand;
mod reach;

use fastrand::Rng;
use sinew_core::{Brief, Observation, TeleopStatus, Teleoperator, TeleoperatorError, Tick};

use crate::seen::Seen;
use crate::shared::SharedWorld;
use hand::Hand;

pub(crate) use carry::Carrier;
pub(crate) use reach::Reacher;

/// Where a script wants the gripper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// The tool at a point, pointing down, its x axis (towards the fixed jaw) along a heading about
    /// the world's z axis, radians; `None` leaves the heading free.
    Over { tool_m: nalgebra::Vector3<f64>, heading_rad: Option<f64> },
    /// The description's rest pose.
    Rest,
}

/// What a script wants next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Intent {
    pub place: Place,
    pub gripper_rad: f64,
    pub speed_m_per_s: f64,
    /// How unsteady the hand may be here, 0..1.
    pub looseness: f64,
    pub done: bool,
}

/// A way to do a task.
pub(crate) trait Script: Send {
    /// Forgets the last episode.
    fn reset(&mut self);

    fn intend(&mut self, world: &Seen) -> Intent;
}

/// Follows a [`Script`].
struct ScriptedTeleoperator<S> {
    world: SharedWorld,
    script: S,
    hand: Hand,
    rng: Rng,
    /// The part of each channel of action.
    commanded: Vec<usize>,
}

pub(crate) fn scripted<S: Script + 'static>(world: SharedWorld, seed: u64, script: S) -> Box<dyn Teleoperator> {
    let parts = &world.robot().parts;
    let commanded = (0..parts.len()).filter(|i| parts[*i].command.is_some()).collect();
    Box::new(ScriptedTeleoperator { world, script, hand: Hand::default(), rng: Rng::with_seed(seed), commanded })
}

impl<S: Script> Teleoperator for ScriptedTeleoperator<S> {
    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        self.script.reset();
        self.hand = Hand::new(&self.world.newest(), &mut self.rng);
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        let intent = self.script.intend(&self.world.newest());
        let goals = self
            .hand
            .follow(self.world.robot(), &intent, tick.period.as_secs_f64(), &mut self.rng)
            .map_err(|source| TeleoperatorError::Transient { doing: "following the script", what: Brief::of(source) })?;
        action.iter_mut().zip(&self.commanded).for_each(|(slot, part)| *slot = goals[*part]);
        Ok(if intent.done { TeleopStatus::Done } else { TeleopStatus::Active })
    }
}
