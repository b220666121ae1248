//! The simulated arm as a [`Robot`].

use std::sync::Arc;

use sinew_core::{
    ChannelSource, Door, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, StopBehaviour, Tick, Timestamp,
};

use crate::shared::{SharedWorld, WorldGuard};

/// Positions are read as the servo's magnetic encoder gives them.
const ENCODER_STEPS_PER_TURN: f64 = 4096.0;

/// The arm of a simulated world. The world's time follows the ticks' due times, never a clock.
///
/// It alone moves the world on, and waits for nobody: while somebody else changes the world, its calls fail
/// this time. Deadlines don't concern it.
pub struct SimRobot {
    robot: Arc<RobotDescription>,
    world: SharedWorld,
    /// Channel of the state, the part that it is of, and the encoder's step there.
    positions: Vec<(usize, usize, f64)>,
    /// The first tick's due time, and the world's time then in seconds.
    origin: Option<(Timestamp, f64)>,
}

impl SimRobot {
    pub fn new(world: SharedWorld) -> Self {
        let robot = world.robot().clone();
        let step = |part: usize| {
            let gear = robot.parts[part].motor.as_ref().map_or(1.0, |motor| motor.gear);
            std::f64::consts::TAU / ENCODER_STEPS_PER_TURN / gear
        };
        let positions = robot
            .state_channels()
            .iter()
            .enumerate()
            .filter_map(|(i, channel)| match channel.source {
                ChannelSource::Part(part) => Some((i, part, step(part))),
                // A sensor measures nothing here: its channels stay unknown.
                ChannelSource::Base(_) | ChannelSource::Sensor(..) => None,
            })
            .collect();
        Self { robot, world, positions, origin: None }
    }

    pub fn world(&self) -> &SharedWorld {
        &self.world
    }
}

/// The world, for a call that is `doing` something.
fn hold<'a>(world: &'a SharedWorld, doing: &'static str) -> Result<WorldGuard<'a>, RobotError> {
    world.try_lock().ok_or_else(|| RobotError::transient(doing, "somebody else is changing its world"))
}

impl Robot for SimRobot {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        const DOING: &str = "reading the simulated robot";
        let mut world = hold(&self.world, DOING)?;
        let now_s = world.time_s();
        let (first_due, first_s) = match self.origin {
            // A world that was reset since counts from 0 again.
            Some(origin) if tick.turn != 0 && origin.1 <= now_s => origin,
            _ => *self.origin.insert((tick.due, now_s)),
        };
        let elapsed_s = tick.due.nanos_since(first_due) as f64 * 1e-9;
        world.advance_to(first_s + elapsed_s).map_err(|error| RobotError::lost(DOING, error))?;
        world.read_at(tick.due);
        observation.tick = tick.turn;
        observation.time = tick.due;
        for &(channel, part, step) in &self.positions {
            observation.state.set(channel, (world.value(part) / step).round() * step, tick.due);
        }
        for part in 0..self.robot.parts.len() {
            observation.velocity.set(part, world.velocity(part), tick.due);
            observation.effort.set(part, world.effort(part), tick.due);
        }
        Ok(())
    }

    fn enable(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        tracing::info!("the simulated {} is given torque", self.robot.title);
        hold(&self.world, "giving the simulated robot torque")?.enable_torque();
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        const DOING: &str = "writing goals to the simulated robot";
        hold(&self.world, DOING)?.set_goals(command.goals()).map_err(|error| RobotError::lost(DOING, error))?;
        sent.reach_all(command);
        Ok(())
    }

    fn stop(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        tracing::info!("the simulated {} does its safe action: {:?}", self.robot.title, self.robot.stop.behaviour);
        let mut world = hold(&self.world, "stopping the simulated robot")?;
        for (i, part) in self.robot.parts.iter().enumerate() {
            match part.stop.unwrap_or(self.robot.stop.behaviour) {
                StopBehaviour::Hold => world.hold(i),
                StopBehaviour::Limp => world.disable_torque(i),
            }
        }
        Ok(())
    }
}
