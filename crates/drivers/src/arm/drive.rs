//! The arm's turns.

use std::time::Duration;

use sinew_core::{Door, Lifeline, LifelinePort, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, Tick, Timestamp};

use super::enable::{Halt, Pulse, bit};
use super::joint::Joint;
use super::line::{Line, Look, Named};
use super::{HEALTH_EVERY, READING, SerialArm};
use crate::{Bus, Register};

/// So many readings in a row must have missed a motor that counts as silent.
const SILENT: u32 = 3;

impl Robot for SerialArm {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn begin_read(&mut self, tick: &Tick) -> Result<(), RobotError> {
        let now = self.clock.now();
        self.lines.iter_mut().for_each(|line| line.begin_read(now, tick.period.mul_f64(READING)));
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
        if let Some(base) = &mut self.base {
            base.begin();
            for line in &mut self.lines {
                let now = || self.clock.now();
                // What is left of the tick, as positions may have taken long.
                let end = deadline.min(now() + line.time_for_wheels() + tick.period.mul_f64(0.2));
                observation.bus_retries += line.read_wheels(now, &self.health.motors, end, |wheel, read| base.measure(wheel, read));
            }
            base.observe(self.clock.now(), observation);
        }
        for line in self.lines.iter_mut().filter(|line| !line.is_lost() && line.joints.iter().any(|joint| joint.must_rest.is_some())) {
            if let Err(error) = line.check_torque(&self.health.motors, deadline) {
                line.note(&error, self.clock.now());
            }
        }
        self.silent(tick)?;
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
            let mut frames = line.standing_packets();
            frames.extend(line.bus.torque_off_packets(&line.motors(true)));
            // A motor that is to hold does so by itself; it is asked whether it does.
            let checks = line.bus.torque_checks(&line.motors(false));
            let name = line.bus.name().to_owned();
            let failed = |error| RobotError::transient("giving the arm's port to the watchdog", format_args!("{name}: {error}"));
            let descriptor = line.bus.descriptor().map_err(failed)?;
            ports.push(LifelinePort { descriptor, frames, gap: line.bus.gap(), name, checks });
        }
        Ok(Lifeline { ports })
    }

    fn enable(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        const DOING: &str = "giving the arm torque";
        for line in &mut self.lines {
            if line.is_lost() {
                return Err(RobotError::transient(DOING, format_args!("the port of bus {} is lost", line.name)));
            }
            let alive = || door.alive();
            let pulse = || Pulse::new(self.clock.as_ref(), deadline, &alive);
            let together = line.enable_together(&mut pulse());
            for i in 0..line.joints.len() {
                if !line.joints[i].is_driven() {
                    continue;
                }
                let is_on = together.as_ref().is_ok_and(|these| these & bit(i) != 0);
                match if is_on { Ok(()) } else { line.enable(i, &mut pulse()) } {
                    Ok(()) => self.health.motors[line.first_slot + i].has_torque(),
                    Err(Halt::Taken) => return Err(RobotError::transient(DOING, "the watchdog has taken it over")),
                    Err(Halt::Bus(error)) => {
                        let named = Named { bus: &line.name, slots: &self.health.motors, error: &error };
                        let told = RobotError::transient(DOING, named);
                        line.note(&error, self.clock.now());
                        return Err(told);
                    }
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, deadline: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        const DOING: &str = "writing goals to the arm";
        let mut failed = None;
        let mut has_sent = false;
        // A base with a wheel that does not pull would go astray.
        let may_roll = self.lines.iter().all(|line| !line.is_lost() && line.may_roll());
        let motion = self.base.as_mut().map(|base| base.roll(may_roll.then_some(command)));
        let mut has_rolled = true;
        for line in &mut self.lines {
            if line.is_lost() {
                has_rolled &= !line.has_wheels();
                failed = failed.or_else(|| Some(RobotError::transient(DOING, format_args!("the port of bus {} is lost", line.name))));
                continue;
            }
            if let Some(base) = self.base.as_ref().filter(|_| line.has_wheels()) {
                match line.roll(|wheel| base.wanted().get(wheel).copied().unwrap_or(0.0), deadline) {
                    Ok(()) => has_sent = true,
                    Err(error) => {
                        has_rolled = false;
                        let named = Named { bus: &line.name, slots: &self.health.motors, error: &error };
                        failed = Some(RobotError::transient(DOING, named));
                        line.note(&error, self.clock.now());
                        continue;
                    }
                }
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
                    let named = Named { bus: &line.name, slots: &self.health.motors, error: &error };
                    failed = Some(RobotError::transient(DOING, named));
                    line.note(&error, self.clock.now());
                }
            }
        }
        if let (Some(base), Some(motion), true) = (&self.base, motion, has_rolled) {
            base.reach(motion, sent);
        }
        failed.filter(|_| !has_sent).map_or(Ok(()), Err)
    }

    fn is_away(&self) -> bool {
        let rests = |joint: &Joint| joint.has_torque && joint.must_rest.is_some();
        self.away_for.is_some() && self.lines.iter().any(|line| line.is_lost() || line.joints.iter().any(rests))
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
                        Some(error) => RobotError::transient(DOING, Named { bus: &line.name, slots: &self.health.motors, error }),
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

impl SerialArm {
    /// Ends what can't go on: a motor has been silent for as long as the description allows, or a port is lost. It is told a
    /// tick before the gate would say so of a channel, as who and where the motor is.
    fn silent(&self, tick: &Tick) -> Result<(), RobotError> {
        const DOING: &str = "reading the arm";
        let now = self.clock.now();
        let limit_ns = |limit: Duration| i64::try_from(limit.saturating_sub(tick.period).as_nanos()).unwrap_or(i64::MAX);
        for line in &self.lines {
            if line.is_lost() && self.away_for.is_none() {
                return Err(RobotError::lost(DOING, format_args!("the port {} of bus {} is gone", line.bus.name(), line.name)));
            }
            if let Some(joint) = line.stranger {
                let (port, joint) = (line.bus.name(), &line.joints[joint].name);
                let what = format_args!("the port {port} came back with another arm: its {joint} holds another calibration");
                return Err(RobotError::lost(DOING, what));
            }
            for (joint, slot) in line.joints.iter().zip(&self.health.motors[line.first_slot..]) {
                if joint.is_driven() && slot.lost_torque() != 0 {
                    let what = format_args!("{}: its torque went off by itself, alarm bits {:#x}", slot.place(), slot.alert());
                    return Err(RobotError::lost(DOING, what));
                }
                let limit = if line.is_lost() { self.away_for.unwrap_or(self.silent_after) } else { self.silent_after };
                // A motor whose port has just come back was not silent before.
                let back_ns = joint.must_rest.map_or(i64::MAX, |since| now.nanos_since(since));
                let age_ns = if line.is_lost() { slot.age_ns(now) } else { slot.age_ns(now).min(back_ns) };
                // Before its torque is on, the gate looks at all of them; and who was not asked for long is not silent.
                let is_silent = slot.misses() >= SILENT && age_ns >= limit_ns(limit);
                if !(joint.is_driven() && joint.has_torque && is_silent) {
                    continue;
                }
                let age_ms = age_ns / 1_000_000;
                return Err(if line.is_lost() {
                    RobotError::lost(DOING, format_args!("the port {} of bus {} has been gone for {age_ms} ms", line.bus.name(), line.name))
                } else {
                    RobotError::lost(DOING, format_args!("{}: silent for {age_ms} ms", slot.place()))
                });
            }
        }
        Ok(())
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
