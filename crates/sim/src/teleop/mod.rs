//! Scripted teleoperators: they know the true state of the world and show how a task is done.
//!
//! A [`Script`] says where the gripper should go next, judged anew each tick from where things
//! are; the [`ScriptedTeleoperator`] moves the goals there at human speed, with a hand that is
//! never quite steady.

mod carry;
mod hand;
mod reach;

use fastrand::Rng;
use sinew_core::{RobotError, TeleopStatus, Teleoperator, Tick};

use crate::robot::{SharedWorld, lock};
use crate::simulator::Simulator;
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

    fn intend(&mut self, world: &dyn Simulator) -> Intent;
}

/// Follows a [`Script`].
struct ScriptedTeleoperator<S> {
    world: SharedWorld,
    script: S,
    hand: Hand,
    rng: Rng,
}

pub(crate) fn scripted<S: Script + 'static>(world: SharedWorld, seed: u64, script: S) -> Box<dyn Teleoperator> {
    Box::new(ScriptedTeleoperator { world, script, hand: Hand::default(), rng: Rng::with_seed(seed) })
}

impl<S: Script> Teleoperator for ScriptedTeleoperator<S> {
    fn reset(&mut self) -> Result<(), RobotError> {
        self.script.reset();
        self.hand = Hand::new(&*lock(&self.world), &mut self.rng);
        Ok(())
    }

    fn action(&mut self, tick: &Tick, goals_rad: &mut [f64]) -> Result<TeleopStatus, RobotError> {
        let world = lock(&self.world);
        let intent = self.script.intend(&*world);
        self.hand
            .follow(world.robot(), &intent, tick.period.as_secs_f64(), &mut self.rng, goals_rad)
            .map_err(|source| RobotError::Transient { doing: "following the script".into(), source: Box::new(source) })?;
        Ok(if intent.done { TeleopStatus::Done } else { TeleopStatus::Active })
    }
}
