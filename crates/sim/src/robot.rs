//! The simulated arm as a [`Robot`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sinew_core::{Observation, Robot, RobotDescription, RobotError, SafeCommand, StopBehaviour, Tick, Timestamp};

use crate::error::SimError;
use crate::simulator::Simulator;

/// A world that a robot, an environment and a teleoperator share. Only the robot steps it.
pub type SharedWorld = Arc<Mutex<dyn Simulator>>;

/// The world behind a shared handle. Every change to it is complete before its lock is given back,
/// so one left by a panic elsewhere is still whole.
pub(crate) fn lock(world: &SharedWorld) -> MutexGuard<'_, dyn Simulator + 'static> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Positions are read as the servo's magnetic encoder gives them.
const ENCODER_STEPS_PER_TURN: f64 = 4096.0;

/// The arm of a [`Simulator`]. The world's time follows the ticks' due times, never a clock.
pub struct SimRobot {
    robot: Arc<RobotDescription>,
    world: SharedWorld,
    /// The first tick's due time, and the world's time then in seconds.
    origin: Option<(Timestamp, f64)>,
    images: u64,
}

impl SimRobot {
    pub fn new(world: SharedWorld) -> Self {
        let robot = lock(&world).robot().clone();
        Self { robot, world, origin: None, images: 0 }
    }

    pub fn world(&self) -> &SharedWorld {
        &self.world
    }
}

fn lost(doing: &str) -> impl FnOnce(SimError) -> RobotError + '_ {
    move |source| RobotError::Lost { doing: doing.into(), source: Box::new(source) }
}

impl Robot for SimRobot {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn observe(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), RobotError> {
        let mut world = lock(&self.world);
        let now_s = world.time_s();
        let (first_due, first_s) = match self.origin {
            // A world that was reset since counts from 0 again.
            Some(origin) if tick.index != 0 && origin.1 <= now_s => origin,
            _ => *self.origin.insert((tick.due, now_s)),
        };
        let elapsed_s = tick.due.nanos_since(first_due) as f64 * 1e-9;
        world.advance_to(first_s + elapsed_s).map_err(lost("advancing the simulated robot"))?;
        observation.tick = tick.index;
        observation.time = tick.due;
        let step = std::f64::consts::TAU / ENCODER_STEPS_PER_TURN;
        for (i, position) in observation.position_rad.iter_mut().enumerate() {
            *position = (world.position_rad(i) / step).round() * step;
        }
        for (i, velocity) in observation.velocity_rad_per_s.iter_mut().enumerate() {
            *velocity = world.velocity_rad_per_s(i);
        }
        for (i, effort) in observation.effort.iter_mut().enumerate() {
            *effort = world.effort(i);
        }
        if tick.wants_images {
            self.images += 1;
            world.render_all(&mut observation.images).map_err(lost("seeing the simulated scene"))?;
            for image in &mut observation.images {
                image.captured_at = tick.due;
                image.sequence = self.images;
            }
        }
        Ok(())
    }

    fn enable(&mut self) -> Result<(), RobotError> {
        tracing::info!("the simulated {} is given torque", self.robot.title);
        lock(&self.world).enable_torque();
        Ok(())
    }

    fn write_goals(&mut self, command: &SafeCommand, applied_rad: &mut [f64]) -> Result<(), RobotError> {
        lock(&self.world).set_goals(command.goals_rad()).map_err(lost("writing goals to the simulated robot"))?;
        applied_rad.copy_from_slice(command.goals_rad());
        Ok(())
    }

    fn stop(&mut self) -> Result<(), RobotError> {
        tracing::info!("the simulated {} does its safe action: {:?}", self.robot.title, self.robot.stop.behaviour);
        match self.robot.stop.behaviour {
            StopBehaviour::Hold => lock(&self.world).hold(),
            StopBehaviour::Limp => lock(&self.world).disable_torque(),
        }
        Ok(())
    }
}
