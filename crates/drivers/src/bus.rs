//! A half-duplex servo bus, as Feetech and Dynamixel motors share it.

use std::fmt;

use sinew_core::Timestamp;
use thiserror::Error;

/// A motor's address on its bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MotorId(pub u8);

impl fmt::Display for MotorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A register by its name in LeRobot's control tables, in snake case. Where it lies and how wide it
/// is depends on the motor's model and is the bus's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Register {
    ModelNumber,
    Id,
    BaudRate,
    ReturnDelayTime,
    MinPositionLimit,
    MaxPositionLimit,
    HomingOffset,
    OperatingMode,
    TorqueEnable,
    Lock,
    Acceleration,
    GoalPosition,
    PresentPosition,
    PresentVelocity,
    PresentLoad,
    PresentVoltage,
    PresentTemperature,
    PresentCurrent,
}

impl Register {
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelNumber => "model_number",
            Self::Id => "id",
            Self::BaudRate => "baud_rate",
            Self::ReturnDelayTime => "return_delay_time",
            Self::MinPositionLimit => "min_position_limit",
            Self::MaxPositionLimit => "max_position_limit",
            Self::HomingOffset => "homing_offset",
            Self::OperatingMode => "operating_mode",
            Self::TorqueEnable => "torque_enable",
            Self::Lock => "lock",
            Self::Acceleration => "acceleration",
            Self::GoalPosition => "goal_position",
            Self::PresentPosition => "present_position",
            Self::PresentVelocity => "present_velocity",
            Self::PresentLoad => "present_load",
            Self::PresentVoltage => "present_voltage",
            Self::PresentTemperature => "present_temperature",
            Self::PresentCurrent => "present_current",
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was being done to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "reading",
            Self::Write => "writing",
        })
    }
}

/// What went wrong with one motor, the last attempt's if there were several. Small and without
/// allocation: it is made inside ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MotorFault {
    #[error("it was not asked before the deadline")]
    NotAsked,
    #[error("no answer before the deadline")]
    NoAnswer,
    #[error("checksum {found:#04x}, expected {expected:#04x}")]
    Checksum { found: u8, expected: u8 },
    #[error("an answer of {found} bytes, expected {expected}")]
    Length { found: usize, expected: usize },
    #[error("an answer from motor {found}")]
    Sender { found: MotorId },
    /// The motor's own error byte; its bits are the protocol's.
    #[error("the motor reports error bits {bits:#010b}")]
    Reported { bits: u8 },
    #[error("its model has no such register")]
    NoRegister,
    #[error("the value {value} does not fit the register")]
    Range { value: i32 },
}

/// A [`MotorFault`] with its place: "reading present_position of motor 3: checksum 0x1f, expected
/// 0x2a".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{operation} {register} of motor {motor}: {fault}")]
pub struct MotorError {
    pub operation: Operation,
    pub register: Register,
    pub motor: MotorId,
    pub fault: MotorFault,
}

/// A bus operation that failed as a whole.
#[derive(Debug, Error)]
pub enum BusError {
    /// One motor couldn't do it, or not be told; the bus is well.
    #[error(transparent)]
    Motor(#[from] MotorError),
    /// The port is gone (unplugged, closed by the system).
    #[error("{operation} {register} on {port}: the port is lost")]
    Lost {
        operation: Operation,
        register: Register,
        port: String,
        #[source]
        source: std::io::Error,
    },
    /// The answers that arrive are no packets, and dropping what had arrived didn't help: another
    /// program on the port, a wrong baud rate, a broken wire.
    #[error("{operation} {register} on {port}: {bytes} bytes arrived that are no answer")]
    Garbage { operation: Operation, register: Register, port: String, bytes: usize },
}

/// One motor's part of a bus operation; the caller sets `motor`, the bus the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub motor: MotorId,
    pub value: Result<i32, MotorError>,
}

impl Reading {
    /// To be read: until then it says so.
    pub fn of(motor: MotorId, register: Register) -> Self {
        Self { motor, value: Err(MotorError { operation: Operation::Read, register, motor, fault: MotorFault::NotAsked }) }
    }
}

/// A half-duplex motor bus with all that hangs on it. Values are the registers' own ticks, sign
/// decoded; radians are made of them by calibration, elsewhere.
///
/// Every operation returns at or soon after its deadline (on the clock that the bus was made with),
/// whatever the motors do. Until then it may repeat what failed; it never begins an attempt that
/// could not be finished in time. Bytes that are no answer to the question are dropped before the
/// next attempt, so that one bad operation doesn't spoil those after it. Nothing is allocated but in
/// a [`BusError`].
pub trait Bus: Send {
    /// Reads `register` of every motor in `readings` with as few packets as the protocol has, and
    /// sets each `value`: a result a motor, since that one doesn't answer says nothing of the others.
    ///
    /// # Errors
    /// When no motor could be spoken to; the values are then those of no motor asked.
    fn sync_read(&mut self, register: Register, readings: &mut [Reading], deadline: Timestamp) -> Result<(), BusError>;

    /// Writes `register` of every motor in `values` in one packet. The protocols have no answer to
    /// it: that it was sent is all that is known.
    ///
    /// # Errors
    /// When the packet could not be sent, or a value doesn't fit or a model has no such register; then
    /// nothing was sent, to nobody.
    fn sync_write(&mut self, register: Register, values: &[(MotorId, i32)], deadline: Timestamp) -> Result<(), BusError>;

    /// Writes one motor's register and waits for its acknowledgement.
    ///
    /// # Errors
    /// When the bus cannot be used or the motor didn't acknowledge.
    fn write(&mut self, register: Register, motor: MotorId, value: i32, deadline: Timestamp) -> Result<(), BusError>;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;

    /// Motors as a table; one of them deaf, and a cable that can be pulled.
    struct Double {
        registers: BTreeMap<(u8, &'static str), i32>,
        deaf: MotorId,
        unplugged: bool,
    }

    impl Double {
        fn port(&self, operation: Operation, register: Register) -> Result<(), BusError> {
            if self.unplugged {
                let source = io::Error::from(io::ErrorKind::BrokenPipe);
                return Err(BusError::Lost { operation, register, port: "/dev/ttyACM0".into(), source });
            }
            Ok(())
        }

        fn fault(&self, motor: MotorId) -> Option<MotorFault> {
            (motor == self.deaf).then_some(MotorFault::NoAnswer)
        }
    }

    impl Bus for Double {
        fn sync_read(&mut self, register: Register, readings: &mut [Reading], _: Timestamp) -> Result<(), BusError> {
            self.port(Operation::Read, register)?;
            for Reading { motor, value } in readings {
                let stored = self.registers.get(&(motor.0, register.name())).copied().ok_or(MotorFault::NoRegister);
                *value = self.fault(*motor).map_or(stored, Err).map_err(|fault| MotorError {
                    operation: Operation::Read,
                    register,
                    motor: *motor,
                    fault,
                });
            }
            Ok(())
        }

        fn sync_write(&mut self, register: Register, values: &[(MotorId, i32)], _: Timestamp) -> Result<(), BusError> {
            self.port(Operation::Write, register)?;
            if let Some((motor, value)) = values.iter().find(|(_, value)| !(0..=4095).contains(value)) {
                let fault = MotorFault::Range { value: *value };
                return Err(MotorError { operation: Operation::Write, register, motor: *motor, fault }.into());
            }
            self.registers.extend(values.iter().map(|(motor, value)| ((motor.0, register.name()), *value)));
            Ok(())
        }

        fn write(&mut self, register: Register, motor: MotorId, value: i32, deadline: Timestamp) -> Result<(), BusError> {
            if let Some(fault) = self.fault(motor) {
                return Err(MotorError { operation: Operation::Write, register, motor, fault }.into());
            }
            self.sync_write(register, &[(motor, value)], deadline)
        }
    }

    fn double() -> Double {
        Double { registers: BTreeMap::new(), deaf: MotorId(9), unplugged: false }
    }

    #[test]
    fn one_motor_that_is_deaf_leaves_the_others_their_values() {
        let mut double = double();
        let bus: &mut dyn Bus = &mut double;
        let register = Register::PresentPosition;
        bus.write(register, MotorId(1), 2048, Timestamp::ZERO).unwrap();
        let mut readings = [1, 9, 2].map(|id| Reading::of(MotorId(id), register));
        bus.sync_read(register, &mut readings, Timestamp::ZERO).unwrap();
        assert_eq!(readings[0].value, Ok(2048));
        assert_eq!(readings[1].value.unwrap_err().to_string(), "reading present_position of motor 9: no answer before the deadline");
        assert_eq!(readings[2].value.unwrap_err().fault, MotorFault::NoRegister);
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_and_nothing_is_written() {
        let mut bus = double();
        let error = bus.sync_write(Register::GoalPosition, &[(MotorId(1), 10), (MotorId(2), -1)], Timestamp::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "writing goal_position of motor 2: the value -1 does not fit the register");
        assert!(bus.registers.is_empty());
    }

    #[test]
    fn a_lost_port_is_the_bus_s_error_and_leaves_readings_unasked() {
        let mut bus = Double { unplugged: true, ..double() };
        let mut readings = [Reading::of(MotorId(1), Register::PresentPosition)];
        let error = bus.sync_read(Register::PresentPosition, &mut readings, Timestamp::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "reading present_position on /dev/ttyACM0: the port is lost");
        assert_eq!(readings[0].value.unwrap_err().fault, MotorFault::NotAsked);
    }

    #[test]
    fn faults_say_what_was_found_and_expected() {
        let fault = MotorFault::Checksum { found: 0x1f, expected: 0x2a };
        let error = MotorError { operation: Operation::Read, register: Register::PresentPosition, motor: MotorId(3), fault };
        assert_eq!(error.to_string(), "reading present_position of motor 3: checksum 0x1f, expected 0x2a");
        assert_eq!(MotorFault::Reported { bits: 0b10_0100 }.to_string(), "the motor reports error bits 0b00100100");
    }
}
