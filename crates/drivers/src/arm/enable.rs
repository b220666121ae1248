//! Torque goes on in steps so short that who watches over the arm hears of each.

use std::time::Duration;

use sinew_core::{Clock, Timestamp};

use super::line::Line;
use crate::{BusError, MotorError, MotorFault, Register};

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
