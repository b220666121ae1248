//! The arm's turns.

use sinew_core::{Door, Lifeline, LifelinePort, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, Tick, Timestamp};

use super::joint::Joint;
use super::line::{Line, Look};
use super::{HEALTH_EVERY, READING, SerialArm};
use crate::{Bus, Register};

impl Robot for SerialArm {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn begin_read(&mut self, tick: &Tick) -> Result<(), RobotError> {
        let now = self.clock.now();
        let deadline = now + tick.period.mul_f64(READING);
        self.lines.iter_mut().for_each(|line| line.begin_read(now, deadline));
        self.turn = self.turn.wrapping_add(1);
        Ok(())
    }

    fn finish_read(&mut self, tick: &Tick, deadline: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        const DOING: &str = "reading the arm";
        observation.tick = tick.turn;
        observation.bus_retries = 0;
        for line in &mut self.lines {
            let state = &mut observation.state;
            let (time, retries) =
                line.finish_read(self.clock.as_ref(), &self.health.motors, |joint, time, read| match (joint.state, read) {
                    (Some(channel), Some((value, 0))) => state.set(channel, value, time),
                    (Some(channel), Some((value, bits))) => state.set_with_alert(channel, value, time, bits),
                    (Some(channel), None) => state.miss(channel),
                    (None, _) => {}
                });
            observation.time = time;
            observation.bus_retries += retries;
        }
        for line in self.lines.iter_mut().filter(|line| !line.is_lost() && line.joints.iter().any(|joint| joint.must_rest.is_some())) {
            if let Err(error) = line.check_torque(&self.health.motors, deadline) {
                line.note(&error, self.clock.now());
            }
        }
        if self.lines.iter().all(Line::is_lost) {
            let name = self.lines.first().map_or("", |line| line.bus.name());
            return Err(RobotError::transient(DOING, format_args!("the port {name} is lost; it is tried again")));
        }
        if self.turn.is_multiple_of(HEALTH_EVERY) {
            let end = deadline.min(tick.due + tick.period.mul_f64(READING));
            for line in &mut self.lines {
                let Some(Look { part, time, temperature_c, load, velocity }) = line.look(self.clock.as_ref(), &self.health.motors, end)
                else {
                    continue;
                };
                let (temperatures, efforts) = (&mut observation.temperature_c, &mut observation.effort);
                for (samples, value) in [(temperatures, temperature_c), (efforts, load), (&mut observation.velocity, velocity)] {
                    if let Some(value) = value {
                        samples.set(part, value, time);
                    }
                }
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn lifeline(&mut self) -> Result<Lifeline, RobotError> {
        let mut ports = Vec::new();
        for line in &self.lines {
            // A motor that is to hold does so by itself.
            let motors = line.motors(true);
            if motors.is_empty() {
                continue;
            }
            let name = line.bus.name().to_owned();
            let failed = |error| RobotError::transient("giving the arm's port to the watchdog", format_args!("{name}: {error}"));
            let descriptor = line.bus.descriptor().map_err(failed)?;
            ports.push(LifelinePort { descriptor, frames: line.bus.torque_off_packets(&motors), gap: line.bus.gap(), name });
        }
        Ok(Lifeline { ports })
    }

    fn enable(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        const DOING: &str = "giving the arm torque";
        for line in &mut self.lines {
            if line.is_lost() {
                return Err(RobotError::transient(DOING, format_args!("the port of bus {} is lost", line.name)));
            }
            for i in 0..line.joints.len() {
                if line.joints[i].action.is_none() {
                    continue;
                }
                let result = line.enable(i, deadline);
                let name = &line.joints[i].name;
                if let Err(error) = &result {
                    let error = RobotError::transient(DOING, format_args!("{name}: {error}"));
                    if let Err(error) = result {
                        line.note(&error, self.clock.now());
                    }
                    return Err(error);
                }
                self.health.motors[line.first_slot + i].has_torque();
                if !door.alive() {
                    return Err(RobotError::transient(DOING, "the watchdog has taken it over"));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, deadline: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        const DOING: &str = "writing goals to the arm";
        let mut failed = None;
        let mut has_sent = false;
        for line in &mut self.lines {
            if line.is_lost() {
                failed = failed.or_else(|| Some(RobotError::transient(DOING, format_args!("the port of bus {} is lost", line.name))));
                continue;
            }
            line.frames.clear();
            for joint in &line.joints {
                let Some(goal) = joint.goal(command) else { continue };
                line.frames.extend(joint.frame(Register::GoalPosition, goal).map(|(_, frame)| frame));
            }
            if line.frames.is_empty() {
                continue;
            }
            match line.bus.write(line.goal_address, &line.frames, deadline) {
                Ok(()) => {
                    has_sent = true;
                    for joint in &mut line.joints {
                        let (Some(goal), Some(channel)) = (joint.goal(command), joint.action) else { continue };
                        let value = if joint.must_rest.take().is_some() { joint.scale.to_si(goal) } else { command.goals()[channel] };
                        sent.reach(channel, value);
                    }
                }
                Err(error) => {
                    failed = Some(RobotError::transient(DOING, format_args!("bus {}: {error}", line.name)));
                    line.note(&error, self.clock.now());
                }
            }
        }
        failed.filter(|_| !has_sent).map_or(Ok(()), Err)
    }

    fn stop(&mut self, _: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        const DOING: &str = "stopping the arm";
        let mut failed = None;
        let now = self.clock.now();
        for line in &mut self.lines {
            line.try_again(now);
            let result = if line.is_lost() { Err(None) } else { line.stop(self.clock.as_ref(), deadline).map_err(Some) };
            if let Err(error) = result {
                failed = failed.or_else(|| {
                    Some(match &error {
                        None => RobotError::transient(DOING, format_args!("the port of bus {} is lost", line.name)),
                        Some(error) => RobotError::transient(DOING, format_args!("bus {}: {error}", line.name)),
                    })
                });
                if let Some(error) = error {
                    line.note(&error, now);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Joint {
    /// The next goal in ticks: what is commanded, or where it is when it must rest first. `None` when it gets none.
    fn goal(&self, command: &SafeCommand) -> Option<i32> {
        let wanted = *command.goals().get(self.action?)?;
        if !self.has_torque {
            return None;
        }
        match self.must_rest {
            Some(since) => self.known_since(since).filter(|_| self.is_checked),
            None => Some(self.scale.to_ticks(wanted)),
        }
    }
}
