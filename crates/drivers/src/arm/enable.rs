//! Torque goes on in steps so short that who watches over the arm hears of each.

use std::time::Duration;

use sinew_core::{Clock, Timestamp};

use super::line::Line;
use crate::{Block, Bus, BusError, MotorError, MotorFault, Register};

/// How long a question or a write may take, where the bus is no slower than that.
const STEP: Duration = Duration::from_millis(30);
/// How long a bus is left that can't be asked just now.
const PAUSE: Duration = Duration::from_millis(5);

/// Why torque did not go on.
pub(super) enum Halt {
    Bus(BusError),
    /// Nobody may switch it on any more.
    Taken,
}

impl From<BusError> for Halt {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

/// The time that is left, and who is told between two steps; it says whether to go on.
pub(super) struct Pulse<'a> {
    clock: &'a dyn Clock,
    deadline: Timestamp,
    alive: &'a dyn Fn() -> bool,
    /// What went wrong last.
    failed: Option<MotorError>,
}

impl<'a> Pulse<'a> {
    pub fn new(clock: &'a dyn Clock, deadline: Timestamp, alive: &'a dyn Fn() -> bool) -> Self {
        Self { clock, deadline, alive, failed: None }
    }

    /// Until when the next step may take, on a bus where a question takes at most `takes`.
    fn step(&self, takes: Duration) -> Result<Timestamp, Halt> {
        let within = STEP.max(takes + PAUSE);
        if (self.alive)() { Ok(self.deadline.min(self.clock.now() + within)) } else { Err(Halt::Taken) }
    }

    /// Hands an error on that another step can't mend, or for which there is no time.
    fn bear(&mut self, error: BusError) -> Result<(), Halt> {
        let motor = match error {
            BusError::Motor(motor) => motor,
            // Late answers and questions met on the wire.
            BusError::Garbage { .. } if self.clock.now() < self.deadline => return Ok(()),
            error => return Err(error.into()),
        };
        match motor.fault {
            MotorFault::Refused { .. } | MotorFault::Packet(_) => return Err(error.into()),
            MotorFault::NotAsked => {}
            _ => self.failed = Some(motor),
        }
        if self.clock.now() >= self.deadline {
            return Err(Halt::Bus(self.failed.unwrap_or(motor).into()));
        }
        if motor.fault == MotorFault::NotAsked {
            self.clock.sleep_until(self.deadline.min(self.clock.now() + PAUSE));
        }
        Ok(())
    }
}

impl Line {
    /// All positions become goals at once, then torque goes on where the motors say that they hold them: a packet each, and
    /// one for each answer. Returns a bit for each joint that says that it has torque; the others are left to
    /// [`enable`](Self::enable), which also knows why.
    pub fn enable_together(&mut self, pulse: &mut Pulse<'_>) -> Result<u64, Halt> {
        let driven = self.joints.iter().enumerate().filter(|(_, joint)| joint.is_driven() && joint.wheel.is_none());
        let mut these = driven.fold(0, |bits, (i, _)| bits | bit(i));
        let torque = self.joints.first().map_or(0, |joint| joint.table.protocol.torque_address());
        let goals = Block { address: self.goal_address, len: self.position.len };
        self.read_of(these, self.position, pulse)?;
        self.frames.clear();
        for (i, joint) in self.joints.iter().enumerate().filter(|(i, _)| these & bit(*i) != 0) {
            let answer = self.replies[i].answer.ok();
            let ticks = answer.and_then(|answer| {
                joint.table.decode(Register::PresentPosition, joint.motor, self.position.address, answer.bytes.as_slice()).ok()
            });
            self.frames.extend(ticks.and_then(|ticks| joint.frame(Register::GoalPosition, ticks)).map(|(_, frame)| frame));
        }
        these = self.told(these, goals, pulse)?;
        self.frames.clear();
        for (_, joint) in self.joints.iter_mut().enumerate().filter(|(i, _)| these & bit(*i) != 0) {
            // From here on it may be on, whatever the answers say.
            joint.has_torque = true;
            self.frames.extend(joint.frame(Register::TorqueEnable, 1).map(|(_, frame)| frame));
        }
        these = self.told(these, Block { address: torque, len: 1 }, pulse)?;
        for (_, joint) in self.joints.iter_mut().enumerate().filter(|(i, _)| these & bit(*i) != 0) {
            joint.must_rest = None;
        }
        Ok(these)
    }

    /// Reads a block of all motors with positions, where there is one of `these`. What can't be read has no answer.
    fn read_of(&mut self, these: u64, block: Block, pulse: &Pulse<'_>) -> Result<(), Halt> {
        let deadline = pulse.step(self.bus.time_to_read(block.len.into(), self.positions))?;
        if these == 0 || self.bus.read(block, &mut self.replies[..self.positions], deadline).is_err() {
            self.forget_replies();
        }
        Ok(())
    }

    /// Writes the frames of some of `these`, and returns those that then hold what they were told.
    fn told(&mut self, these: u64, block: Block, pulse: &Pulse<'_>) -> Result<u64, Halt> {
        if self.frames.is_empty() || self.bus.write(block.address, &self.frames, pulse.step(self.takes())?).is_err() {
            return Ok(0);
        }
        self.read_of(these, block, pulse)?;
        let holds = |motor, bytes| self.frames.iter().any(|frame| frame.motor == motor && frame.bytes == bytes);
        let replies = self.replies.iter().enumerate().filter(|(i, _)| these & bit(*i) != 0);
        Ok(replies.fold(0, |bits, (i, reply)| match reply.answer {
            Ok(answer) if holds(reply.motor, answer.bytes) => bits | bit(i),
            _ => bits,
        }))
    }

    /// The goal becomes where the motor is, and a wheel's 0; then its torque goes on. Each is read back.
    pub fn enable(&mut self, i: usize, pulse: &mut Pulse<'_>) -> Result<(), Halt> {
        let (register, rest) = match self.joints[i].wheel {
            Some(_) => (Register::GoalVelocity, 0),
            None => (Register::GoalPosition, self.hear(i, Register::PresentPosition, pulse)?),
        };
        self.set(i, register, rest, pulse)?;
        // From here on it may be on, whatever the answers say.
        self.joints[i].has_torque = true;
        self.set(i, Register::TorqueEnable, 1, pulse)?;
        self.joints[i].must_rest = None;
        Ok(())
    }

    fn hear(&mut self, i: usize, register: Register, pulse: &mut Pulse<'_>) -> Result<i32, Halt> {
        loop {
            match self.ask(i, register, pulse.step(self.takes())?) {
                Ok(value) => return Ok(value),
                Err(error) => pulse.bear(error)?,
            }
        }
    }

    /// Writes a register until the motor says that it holds that. What was not acknowledged may have been done.
    fn set(&mut self, i: usize, register: Register, value: i32, pulse: &mut Pulse<'_>) -> Result<(), Halt> {
        loop {
            let told = self.tell(i, register, value, pulse.step(self.takes())?);
            let is_told = told.is_ok();
            told.or_else(|error| pulse.bear(error))?;
            if self.hear(i, register, pulse)? == value {
                return Ok(());
            }
            if is_told {
                return Err(self.refused(i, register).into());
            }
        }
    }

    /// What a question of one register takes.
    fn takes(&self) -> Duration {
        self.bus.time_to_read(4, 1)
    }
}

/// What stands for a bus's `i`th joint; nothing for those beyond 64.
pub(super) fn bit(i: usize) -> u64 {
    u32::try_from(i).ok().and_then(|i| 1u64.checked_shl(i)).unwrap_or(0)
}
