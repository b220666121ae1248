//! The arm's turns.

use std::time::Duration;

use sinew_core::{
    Clock, Door, Lifeline, LifelinePort, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, StopBehaviour, Tick,
    Timestamp,
};

use super::super::CanAnswer;
use super::{CanArm, Feedback, Joint, Line, MotorState, Request};
use crate::{Bus, BusError, MotorError, MotorFault, Operation, Reply};

/// The part of a tick that may be spent on reading.
const READING: f64 = 0.7;

impl Robot for CanArm {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn begin_read(&mut self, tick: &Tick) -> Result<(), RobotError> {
        let now = self.clock.now();
        let deadline = now + tick.period.mul_f64(READING);
        for line in &mut self.lines {
            line.try_again(now);
            if line.is_lost() {
                continue;
            }
            let Line { bus, looks, seen, .. } = line;
            if let Err(error) = bus.begin(Operation::Exchange, looks, seen, deadline) {
                line.note(&error, now);
            }
        }
        Ok(())
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        observation.tick = tick.turn;
        observation.bus_retries = 0;
        for line in &mut self.lines {
            if !line.is_lost()
                && let Err(error) = line.bus.finish(&mut line.seen)
            {
                line.note(&error, self.clock.now());
            }
            let is_lost = line.is_lost();
            let now = self.clock.now();
            observation.time = now;
            let Line { bus, joints, seen, .. } = line;
            for (joint, reply) in joints.iter_mut().zip(seen.iter()) {
                observation.bus_retries += u32::from(reply.attempts.saturating_sub(1));
                match bus.answer(reply) {
                    Some(CanAnswer::Feedback(feedback)) if !is_lost => {
                        joint.take(feedback, now);
                        joint.show(observation, now);
                    }
                    _ => {
                        if let Some(channel) = joint.state {
                            observation.state.miss(channel);
                        }
                    }
                }
            }
        }
        if self.lines.iter().all(Line::is_lost) {
            let name = self.lines.first().map_or("", |line| line.bus.name());
            return Err(RobotError::transient("reading the arm", format_args!("the bus {name} is lost; it is tried again")));
        }
        Ok(())
    }

    #[cfg(unix)]
    fn lifeline(&mut self) -> Result<Lifeline, RobotError> {
        let mut ports = Vec::new();
        for line in &self.lines {
            // A motor that is to hold does so by itself: it does what it was told last.
            let motors = line.motors(StopBehaviour::Limp);
            if motors.is_empty() {
                continue;
            }
            let name = line.bus.name().to_owned();
            let failed = |error| RobotError::transient("giving the arm's bus to the watchdog", format_args!("{name}: {error}"));
            let descriptor = line.bus.descriptor().map_err(failed)?;
            ports.push(LifelinePort {
                descriptor,
                frames: line.bus.torque_off_packets(&motors),
                gap: line.bus.gap(),
                name,
                checks: Vec::new(),
            });
        }
        Ok(Lifeline { ports })
    }

    fn enable(&mut self, door: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        const DOING: &str = "giving the arm torque";
        let clock = self.clock.as_ref();
        for line in &mut self.lines {
            if line.is_lost() {
                return Err(RobotError::transient(DOING, format_args!("the bus {} is lost", line.name)));
            }
            for i in 0..line.joints.len() {
                if line.joints[i].action.is_none() {
                    continue;
                }
                if let Err(error) = line.enable(i, clock, deadline) {
                    let told = RobotError::transient(DOING, format_args!("{}: {error}", line.joints[i].name));
                    line.note(&error, clock.now());
                    return Err(told);
                }
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
                failed = failed.or_else(|| Some(RobotError::transient(DOING, format_args!("the bus {} is lost", line.name))));
                continue;
            }
            line.goals.clear();
            line.told.clear();
            for joint in &line.joints {
                if let Some((goal, channel)) = joint.goal(command)
                    && let Some(frame) = joint.ask(Request::Command(joint.command(goal, command.impedance(channel).unwrap_or(joint.held))))
                {
                    line.goals.push(frame);
                    line.told.push(Reply::of(joint.id(), Operation::Exchange));
                }
            }
            if line.goals.is_empty() {
                continue;
            }
            // Once: the next tick says it anew.
            let now = self.clock.now();
            let deadline = deadline.min(now + line.bus.time_to_exchange(&line.goals));
            let Line { bus, goals, told, .. } = line;
            let result = bus.transact(Operation::Exchange, goals, told, deadline);
            has_sent |= line.note_told(command, self.clock.now(), sent);
            if let Err(error) = result {
                failed = Some(RobotError::transient(DOING, format_args!("bus {}: {error}", line.name)));
                line.note(&error, now);
            }
        }
        failed.filter(|_| !has_sent).map_or(Ok(()), Err)
    }

    fn stop(&mut self, _: &Door, deadline: Timestamp) -> Result<(), RobotError> {
        const DOING: &str = "stopping the arm";
        let mut failed = None;
        let clock = self.clock.as_ref();
        for line in &mut self.lines {
            line.try_again(clock.now());
            if line.is_lost() {
                failed = failed.or_else(|| Some(RobotError::transient(DOING, format_args!("the bus {} is lost", line.name))));
                continue;
            }
            if let Err(error) = line.stop(clock, deadline, self.options.latency) {
                failed = failed.or_else(|| Some(RobotError::transient(DOING, format_args!("bus {}: {error}", line.name))));
                line.note(&error, clock.now());
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Joint {
    /// The next goal, on the part's side, and its channel: what is commanded, or where it is when it must rest first.
    /// `None` when it gets none.
    fn goal(&self, command: &SafeCommand) -> Option<(f64, usize)> {
        let channel = self.action?;
        let wanted = *command.goals().get(channel)?;
        if !self.has_torque {
            return None;
        }
        match self.must_rest {
            Some(since) => self.known.filter(|(_, time)| *time >= since).map(|(feedback, _)| (self.believed(&feedback), channel)),
            None => Some((wanted, channel)),
        }
    }

    fn show(&mut self, observation: &mut Observation, now: Timestamp) {
        let Some((feedback, _)) = self.known else { return };
        if let Some(channel) = self.state {
            let value = self.position(&feedback);
            match self.alarm() {
                0 => observation.state.set(channel, value, now),
                bits => observation.state.set_with_alert(channel, value, now, bits),
            }
        }
        let Some((feedback, now)) = self.status.take() else { return };
        let effort = feedback.torque.map(|torque| (self.direction * torque / self.motor.model.stall_torque).clamp(-1.0, 1.0));
        for (samples, value) in [
            (&mut observation.velocity, feedback.velocity.map(|velocity| self.direction * velocity / self.gear)),
            (&mut observation.effort, effort),
            (&mut observation.temperature_c, feedback.temperature_c),
        ] {
            if let Some(value) = value {
                samples.set(self.part, value, now);
            }
        }
    }

    fn refused(&self) -> BusError {
        MotorError { operation: Operation::Exchange, motor: self.id(), fault: MotorFault::Refused { bits: self.alert } }.into()
    }
}

impl Line {
    /// What of the goals was sent, and what the motors said to them.
    fn note_told(&mut self, command: &SafeCommand, now: Timestamp, sent: &mut Sent) -> bool {
        let mut has_sent = false;
        let Self { bus, joints, told, .. } = self;
        for reply in told.iter().filter(|reply| reply.attempts > 0) {
            let Some(joint) = joints.iter_mut().find(|joint| joint.id() == reply.motor) else { continue };
            let Some((goal, channel)) = joint.goal(command) else { continue };
            has_sent = true;
            joint.must_rest = None;
            joint.last_goal = Some(goal);
            sent.reach(channel, goal);
            if let Some(CanAnswer::Feedback(feedback)) = bus.answer(reply) {
                joint.take(feedback, now);
            }
        }
        has_sent
    }

    /// Says it to one motor, which must answer.
    fn say(&mut self, i: usize, request: Request, clock: &dyn Clock, deadline: Timestamp) -> Result<(), BusError> {
        let joint = &mut self.joints[i];
        let Some(frame) = joint.ask(request) else { return Err(joint.refused()) };
        let mut replies = [Reply::of(joint.id(), Operation::Exchange)];
        self.bus.transact(Operation::Exchange, &[frame], &mut replies, deadline)?;
        replies[0].answer?;
        match self.bus.answer(&replies[0]) {
            Some(CanAnswer::Feedback(feedback)) => joint.take(feedback, clock.now()),
            _ => return Err(joint.refused()),
        }
        Ok(())
    }

    /// Where it is, by two readings in a row that agree: lines have no checksum, and the first goal is what this says.
    fn look(&mut self, i: usize, clock: &dyn Clock, deadline: Timestamp) -> Result<Feedback, BusError> {
        /// rad of the motor, which a falling one passes in no exchange.
        const AGREE: f64 = 0.05;
        const LOOKS: usize = 5;
        let mut before: Option<f64> = None;
        self.joints[i].known = None;
        for _ in 0..LOOKS {
            self.say(i, Request::Look, clock, deadline)?;
            let Some((feedback, _)) = self.joints[i].known else { break };
            if before.is_some_and(|before| (before - feedback.position).abs() < AGREE) {
                return Ok(feedback);
            }
            before = Some(feedback.position);
        }
        Err(self.joints[i].refused())
    }

    /// The goal becomes where the motor is; then its torque goes on, and the goal is said again, in case a motor forgets
    /// what it was told before. One that has switched itself off stays so.
    fn enable(&mut self, i: usize, clock: &dyn Clock, deadline: Timestamp) -> Result<(), BusError> {
        let feedback = self.look(i, clock, deadline)?;
        let joint = &self.joints[i];
        if feedback.state == Some(MotorState::Fault) {
            return Err(joint.refused());
        }
        let present = joint.position(&feedback);
        let rest = Request::Command(joint.command(present, joint.held));
        self.say(i, rest, clock, deadline)?;
        // From here on it may be on, whatever the answers say.
        self.joints[i].has_torque = true;
        self.joints[i].last_goal = Some(present);
        // Its answer may still be from before.
        let switched = self.say(i, Request::Enable, clock, deadline);
        self.joints[i].has_torque = true;
        switched?;
        self.say(i, rest, clock, deadline)?;
        let joint = &mut self.joints[i];
        if !joint.has_torque || joint.known.is_none_or(|(feedback, _)| feedback.state != Some(MotorState::Enabled)) {
            return Err(joint.refused());
        }
        (joint.must_rest, joint.has_lost_torque) = (None, false);
        Ok(())
    }

    /// Limp parts lose their torque, others hold where they are.
    fn stop(&mut self, clock: &dyn Clock, deadline: Timestamp, latency: Duration) -> Result<(), BusError> {
        let limp = self.motors(StopBehaviour::Limp);
        let result = if limp.is_empty() { Ok(()) } else { self.bus.torque_off(&limp, deadline) };
        if result.is_ok() {
            self.joints.iter_mut().filter(|joint| joint.stop == StopBehaviour::Limp).for_each(|joint| joint.has_torque = false);
        }
        let held = self.hold(clock, deadline, latency);
        result.and(held)
    }

    /// Parts that are to hold are told to be where they are, or were last when they don't say. They go on doing so when
    /// nobody speaks to them any more.
    fn hold(&mut self, clock: &dyn Clock, deadline: Timestamp, latency: Duration) -> Result<(), BusError> {
        let holds = |joint: &Joint| joint.stop == StopBehaviour::Hold && joint.has_torque;
        if !self.joints.iter().any(holds) {
            return Ok(());
        }
        // Those that don't answer must not take the time that the goals need.
        let asked = clock.now() + self.bus.time_to_exchange(&self.looks) + latency;
        let Self { bus, looks, seen, .. } = self;
        bus.transact(Operation::Exchange, looks, seen, asked.min(deadline))?;
        let now = clock.now();
        for (joint, reply) in self.joints.iter_mut().zip(&self.seen) {
            if let Some(CanAnswer::Feedback(feedback)) = self.bus.answer(reply) {
                joint.take(feedback, now);
            }
        }
        self.goals.clear();
        self.told.clear();
        for joint in self.joints.iter_mut().filter(|joint| holds(joint)) {
            let Some(goal) = joint.resting_place() else { continue };
            joint.last_goal = Some(goal);
            self.goals.extend(joint.ask(Request::Command(joint.command(goal, joint.held))));
            self.told.push(Reply::of(joint.id(), Operation::Exchange));
        }
        let Self { bus, goals, told, .. } = self;
        bus.transact(Operation::Exchange, goals, told, deadline)?;
        told.iter().find_map(|reply| reply.answer.err()).map_or(Ok(()), |error| Err(error.into()))
    }
}
