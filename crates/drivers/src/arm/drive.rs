//! The arm's turns.

use std::time::Duration;

use sinew_core::{
    Clock, Door, Lifeline, LifelinePort, Observation, Robot, RobotDescription, RobotError, SafeCommand, Sent, StopBehaviour, Tick,
    Timestamp,
};

use super::health::{Miss, Slot};
use super::joint::Joint;
use super::{HEALTH_EVERY, Line, SerialArm, TORQUE_LOST};
use crate::wire::Protocol;
use crate::{Block, Bus, BusError, Operation, Register, Reply};

/// Robotis' unit of velocity, turns a minute.
const DYNAMIXEL_VELOCITY: f64 = 0.229;
/// The part of a tick that may be spent on reading.
const READING: f64 = 0.7;

impl Robot for SerialArm {
    fn description(&self) -> &RobotDescription {
        &self.robot
    }

    fn begin_read(&mut self, tick: &Tick) -> Result<(), RobotError> {
        let now = self.clock.now();
        let deadline = now + tick.period.mul_f64(READING);
        for line in &mut self.lines {
            line.try_again(now);
            let Line { bus, replies, position, .. } = line;
            if line.lost_until.is_none()
                && let Err(error) = bus.begin_read(*position, replies, deadline)
            {
                line.note(&error, now);
            }
        }
        self.turn = self.turn.wrapping_add(1);
        Ok(())
    }

    fn finish_read(&mut self, tick: &Tick, deadline: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        const DOING: &str = "reading the arm";
        observation.tick = tick.turn;
        observation.bus_retries = 0;
        for line in &mut self.lines {
            if !line.is_lost()
                && let Err(error) = line.bus.finish_read(&mut line.replies)
            {
                line.note(&error, self.clock.now());
                if line.is_lost() || matches!(error, BusError::Garbage { .. }) {
                    line.replies.iter_mut().for_each(|reply| *reply = Reply::of(reply.motor, Operation::Read(line.position)));
                }
            }
            let now = self.clock.now();
            observation.time = now;
            for (i, joint) in line.joints.iter_mut().enumerate() {
                let slot = &self.health.motors[line.first_slot + i];
                let retries = u32::from(line.replies[i].attempts.saturating_sub(1));
                slot.retry(retries);
                observation.bus_retries += retries;
                let answer = if line.lost_until.is_some() {
                    Reply::of(joint.motor, Operation::Read(line.position)).answer
                } else {
                    line.replies[i].answer
                };
                let read = answer.map_err(|error| Miss::Fault(error.fault)).and_then(|answer| {
                    let ticks = joint.table.decode(Register::PresentPosition, joint.motor, line.position.address, answer.bytes.as_slice());
                    let ticks = ticks.ok().filter(|ticks| joint.take(*ticks, now)).ok_or(Miss::Implausible)?;
                    Ok((ticks, u32::from(answer.alert)))
                });
                let lost = if slot.is_without_torque() { TORQUE_LOST } else { 0 };
                match read {
                    Ok((ticks, alert)) => {
                        slot.read(now, alert);
                        let Some(channel) = joint.state else { continue };
                        let value = joint.scale.to_si(ticks);
                        match alert | lost {
                            0 => observation.state.set(channel, value, now),
                            bits => observation.state.set_with_alert(channel, value, now, bits),
                        }
                    }
                    Err(miss) => {
                        slot.miss(miss);
                        if let Some(channel) = joint.state {
                            observation.state.miss(channel);
                        }
                    }
                }
            }
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
            for line in 0..self.lines.len() {
                self.look(line, end, observation);
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

impl SerialArm {
    /// Asks the next motor of a bus how it does, if there is time until `end`.
    fn look(&mut self, line: usize, end: Timestamp, observation: &mut Observation) {
        let Some(line) = self.lines.get_mut(line).filter(|line| !line.is_lost()) else { return };
        let now = self.clock.now();
        let (turns, joints) = (line.looks.len(), line.joints.len());
        if turns == 0 || joints == 0 {
            return;
        }
        let i = line.next_look / turns % joints;
        let block = line.looks[line.next_look % turns];
        // One attempt.
        let takes = line.bus.time_to_read(block.len.into(), 1) + Duration::from_micros(500);
        if now + takes > end {
            return;
        }
        line.next_look = (line.next_look + 1) % (turns * joints);
        let mut replies = [Reply::of(line.joints[i].motor, Operation::Read(block))];
        if let Err(error) = line.bus.read(block, &mut replies, now + takes) {
            line.note(&error, now);
            return;
        }
        let slot = &self.health.motors[line.first_slot + i];
        let (joint, now) = (&mut line.joints[i], self.clock.now());
        let Ok(answer) = replies[0].answer else { return };
        let bytes = answer.bytes.as_slice();
        let value = |register| within(joint.table, register, block).then(|| joint.decode(register, block.address, bytes)).flatten();
        let is_dynamixel = joint.table.protocol == Protocol::Dynamixel2;
        let temperature_c = value(Register::PresentTemperature);
        let voltage_v = value(Register::PresentVoltage).or_else(|| value(Register::PresentInputVoltage)).map(|tenths| tenths / 10.0);
        // Only models that say their load in 0.1 %.
        let says_load = !is_dynamixel || matches!(joint.table.model, "xl430-w250" | "xc430-w150");
        let load = value(if is_dynamixel { Register::PresentCurrent } else { Register::PresentLoad }).filter(|_| says_load);
        let load = load.map(|load| (load / 1000.0 * joint.scale.direction()).clamp(-1.0, 1.0));
        let turn = f64::from(joint.table.resolution);
        let ticks_per_s =
            value(Register::PresentVelocity).map(|raw| if is_dynamixel { raw * DYNAMIXEL_VELOCITY * turn / 60.0 } else { raw });
        let torque = value(Register::TorqueEnable);
        slot.measure(temperature_c, voltage_v, load);
        for (samples, value) in [
            (&mut observation.temperature_c, temperature_c),
            (&mut observation.effort, load),
            (&mut observation.velocity, ticks_per_s.map(|speed| joint.scale.velocity(speed))),
        ] {
            if let Some(value) = value {
                samples.set(joint.part, value, now);
            }
        }
        if joint.has_torque && torque == Some(0.0) {
            joint.has_torque = false;
            slot.lose_torque();
        }
    }
}

/// Whether all of a register lies in a block.
fn within(table: &crate::ControlTable, register: Register, block: Block) -> bool {
    table
        .field(register, crate::MotorId(0))
        .is_ok_and(|field| field.address >= block.address && field.address + u16::from(field.len) <= block.address + u16::from(block.len))
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

impl Line {
    /// The goal becomes where the motor is; then its torque goes on. Each is read back.
    fn enable(&mut self, i: usize, deadline: Timestamp) -> Result<(), BusError> {
        let present = self.ask(i, Register::PresentPosition, deadline)?;
        self.tell(i, Register::GoalPosition, present, deadline)?;
        let goal = self.ask(i, Register::GoalPosition, deadline)?;
        if goal != present {
            return Err(self.refused(i, Register::GoalPosition));
        }
        // From here on it may be on, whatever the answers say.
        self.joints[i].has_torque = true;
        self.tell(i, Register::TorqueEnable, 1, deadline)?;
        if self.ask(i, Register::TorqueEnable, deadline)? == 0 {
            return Err(self.refused(i, Register::TorqueEnable));
        }
        self.joints[i].must_rest = None;
        Ok(())
    }

    /// A motor that acknowledged a write and holds something else.
    fn refused(&self, i: usize, register: Register) -> BusError {
        let joint = &self.joints[i];
        let address = joint.table.field(register, joint.motor).map_or(0, |field| field.address);
        let operation = Operation::Write(Block { address, len: 1 });
        crate::MotorError { operation, motor: joint.motor, fault: crate::MotorFault::Refused { bits: 0 } }.into()
    }

    /// Limp parts lose their torque, others hold where they are.
    fn stop(&mut self, clock: &dyn Clock, deadline: Timestamp) -> Result<(), BusError> {
        let limp = self.motors(true);
        let result = if limp.is_empty() { Ok(()) } else { self.bus.torque_off(&limp, deadline) };
        if result.is_ok() {
            self.joints.iter_mut().filter(|joint| joint.stop == StopBehaviour::Limp).for_each(|joint| joint.has_torque = false);
        }
        let held = self.hold(clock, deadline);
        result.and(held)
    }

    /// The goals of parts that are to hold become where they are, or where they were last when they don't say. Read back.
    fn hold(&mut self, clock: &dyn Clock, deadline: Timestamp) -> Result<(), BusError> {
        let holds = |joint: &Joint| joint.stop == StopBehaviour::Hold && joint.has_torque;
        if !self.joints.iter().any(holds) {
            return Ok(());
        }
        // A bus that is slow must not take the time that the goals need.
        let third = Duration::from_nanos(u64::try_from(deadline.nanos_since(clock.now())).unwrap_or(0) / 3);
        self.bus.read(self.position, &mut self.replies, clock.now() + third)?;
        let now = clock.now();
        let address = self.position.address;
        self.frames.clear();
        for (joint, reply) in self.joints.iter_mut().zip(&self.replies).filter(|(joint, _)| holds(joint)) {
            if let Ok(answer) = reply.answer
                && let Ok(ticks) = joint.table.decode(Register::PresentPosition, joint.motor, address, answer.bytes.as_slice())
            {
                joint.take(ticks, now);
            }
            let goal = joint.known().and_then(|(ticks, _)| joint.frame(Register::GoalPosition, ticks));
            self.frames.extend(goal.map(|(_, frame)| frame));
        }
        self.bus.write(self.goal_address, &self.frames, deadline)?;
        let block = Block { address: self.goal_address, len: self.position.len };
        self.bus.read(block, &mut self.replies, deadline)?;
        for frame in &self.frames {
            let Some(reply) = self.replies.iter().find(|reply| reply.motor == frame.motor) else { continue };
            if reply.answer?.bytes != frame.bytes {
                let fault = crate::MotorFault::Refused { bits: 0 };
                return Err(crate::MotorError { operation: Operation::Write(block), motor: frame.motor, fault }.into());
            }
        }
        Ok(())
    }

    /// After an outage: which motors still have the torque that they had. Those that don't are told of.
    fn check_torque(&mut self, slots: &[Slot], deadline: Timestamp) -> Result<(), BusError> {
        let Some(first) = self.joints.first() else { return Ok(()) };
        let block = Block { address: first.table.protocol.torque_address(), len: 1 };
        self.bus.read(block, &mut self.replies, deadline)?;
        for (i, (joint, reply)) in self.joints.iter_mut().zip(&self.replies).enumerate() {
            let Ok(answer) = reply.answer else { continue };
            joint.is_checked = true;
            if joint.has_torque && answer.bytes.as_slice() == [0] {
                joint.has_torque = false;
                slots[self.first_slot + i].lose_torque();
            }
        }
        Ok(())
    }
}
