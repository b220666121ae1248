//! Control tables: what the bytes of a motor's registers mean, by its model.

use thiserror::Error;

use crate::{Block, MotorId};

/// A register by its name in LeRobot's control tables, in snake case.
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
    Acceleration,
    GoalPosition,
    Lock,
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
            Self::Acceleration => "acceleration",
            Self::GoalPosition => "goal_position",
            Self::Lock => "lock",
            Self::PresentPosition => "present_position",
            Self::PresentVelocity => "present_velocity",
            Self::PresentLoad => "present_load",
            Self::PresentVoltage => "present_voltage",
            Self::PresentTemperature => "present_temperature",
            Self::PresentCurrent => "present_current",
        }
    }
}

/// How a register's number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Unsigned,
    /// The bit of this number is the sign, those below it the magnitude.
    SignMagnitude(u8),
    TwosComplement,
}

/// Where a register lies, low byte first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub register: Register,
    pub address: u16,
    pub len: u8,
    pub encoding: Encoding,
}

/// A value that a register can't hold, or a register that a model does not have. Small and without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TableError {
    #[error("{} of motor {motor}: its model has no such register", register.name())]
    NoRegister { register: Register, motor: MotorId },
    #[error("{} of motor {motor}: the value {value} does not fit the register", register.name())]
    Range { register: Register, motor: MotorId, value: i32 },
    #[error("{} of motor {motor}: {found} bytes at {address} do not hold it", register.name())]
    Outside { register: Register, motor: MotorId, address: u16, found: usize },
}

/// All registers of one motor model.
#[derive(Clone, Copy, Debug)]
pub struct ControlTable {
    /// As robot descriptions call it.
    pub model: &'static str,
    /// What the motor answers for [`Register::ModelNumber`].
    pub number: u16,
    pub fields: &'static [Field],
}

impl ControlTable {
    /// # Errors
    /// When the model has no such register.
    pub fn field(&self, register: Register, motor: MotorId) -> Result<Field, TableError> {
        self.fields.iter().copied().find(|field| field.register == register).ok_or(TableError::NoRegister { register, motor })
    }

    /// The smallest block that holds all `registers`.
    ///
    /// # Errors
    /// When the model does not have one of them, or there are none.
    pub fn block(&self, registers: &[Register], motor: MotorId) -> Result<Block, TableError> {
        let (mut begin, mut end) = (u16::MAX, 0);
        for register in registers {
            let field = self.field(*register, motor)?;
            begin = begin.min(field.address);
            end = end.max(field.address + u16::from(field.len));
        }
        Ok(Block { address: begin.min(end), len: u8::try_from(end.saturating_sub(begin)).unwrap_or(u8::MAX) })
    }

    /// The value of `register` in what was read from `address` on.
    ///
    /// # Errors
    /// When the model has no such register, or it is not in these bytes.
    pub fn decode(&self, register: Register, motor: MotorId, address: u16, bytes: &[u8]) -> Result<i32, TableError> {
        let field = self.field(register, motor)?;
        let outside = TableError::Outside { register, motor, address, found: bytes.len() };
        let at = usize::from(field.address.checked_sub(address).ok_or(outside)?);
        let raw = bytes.get(at..at + usize::from(field.len)).ok_or(outside)?;
        let number = raw.iter().rev().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
        Ok(match field.encoding {
            Encoding::Unsigned => number.cast_signed(),
            Encoding::SignMagnitude(sign) => {
                let magnitude = (number & ((1 << sign) - 1)).cast_signed();
                if number >> sign & 1 == 1 { -magnitude } else { magnitude }
            }
            Encoding::TwosComplement => {
                let unused = 32 - 8 * u32::from(field.len);
                (number << unused).cast_signed() >> unused
            }
        })
    }

    /// The bytes of `value`; as many as the register has.
    ///
    /// # Errors
    /// When the model has no such register, or it can't hold the value.
    pub fn encode(&self, register: Register, motor: MotorId, value: i32) -> Result<([u8; 4], u8), TableError> {
        let field = self.field(register, motor)?;
        let range = TableError::Range { register, motor, value };
        let bits = 8 * u32::from(field.len);
        let number = match field.encoding {
            Encoding::Unsigned => u32::try_from(value).map_err(|_negative| range)?,
            Encoding::SignMagnitude(sign) if value.unsigned_abs() >> sign == 0 => value.unsigned_abs() | u32::from(value < 0) << sign,
            Encoding::SignMagnitude(_) => return Err(range),
            Encoding::TwosComplement => {
                let unused = 32 - bits;
                if (value << unused) >> unused != value {
                    return Err(range);
                }
                value.cast_unsigned() & (u32::MAX >> unused)
            }
        };
        if bits < 32 && number >> bits != 0 {
            return Err(range);
        }
        Ok((number.to_le_bytes(), field.len))
    }
}

const fn field(register: Register, address: u16, len: u8, encoding: Encoding) -> Field {
    Field { register, address, len, encoding }
}

/// Feetech STS3215, protocol 0 (`src/lerobot/motors/feetech/tables.py`).
pub const STS3215: ControlTable = ControlTable {
    model: "sts3215",
    number: 777,
    fields: &[
        field(Register::ModelNumber, 3, 2, Encoding::Unsigned),
        field(Register::Id, 5, 1, Encoding::Unsigned),
        field(Register::BaudRate, 6, 1, Encoding::Unsigned),
        field(Register::ReturnDelayTime, 7, 1, Encoding::Unsigned),
        field(Register::MinPositionLimit, 9, 2, Encoding::Unsigned),
        field(Register::MaxPositionLimit, 11, 2, Encoding::Unsigned),
        field(Register::HomingOffset, 31, 2, Encoding::SignMagnitude(11)),
        field(Register::OperatingMode, 33, 1, Encoding::Unsigned),
        field(Register::TorqueEnable, 40, 1, Encoding::Unsigned),
        field(Register::Acceleration, 41, 1, Encoding::Unsigned),
        field(Register::GoalPosition, 42, 2, Encoding::SignMagnitude(15)),
        field(Register::Lock, 55, 1, Encoding::Unsigned),
        field(Register::PresentPosition, 56, 2, Encoding::SignMagnitude(15)),
        field(Register::PresentVelocity, 58, 2, Encoding::SignMagnitude(15)),
        field(Register::PresentLoad, 60, 2, Encoding::SignMagnitude(10)),
        field(Register::PresentVoltage, 62, 1, Encoding::Unsigned),
        field(Register::PresentTemperature, 63, 1, Encoding::Unsigned),
        field(Register::PresentCurrent, 69, 2, Encoding::Unsigned),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    const MOTOR: MotorId = MotorId(3);

    #[test]
    fn one_block_holds_all_from_position_to_temperature() {
        use Register::{PresentLoad, PresentPosition, PresentTemperature, PresentVelocity, PresentVoltage};
        let block = STS3215.block(&[PresentTemperature, PresentPosition], MOTOR).unwrap();
        assert_eq!(block, Block { address: 56, len: 8 });
        let bytes = [0x00, 0x08, 0x05, 0x80, 0xe8, 0x04, 0x79, 0x22];
        let read = |register| STS3215.decode(register, MOTOR, block.address, &bytes);
        assert_eq!(read(PresentPosition), Ok(2048));
        // LeRobot's check value: -5 is 0x8005.
        assert_eq!(read(PresentVelocity), Ok(-5));
        assert_eq!(read(PresentLoad), Ok(-0xe8));
        assert_eq!((read(PresentVoltage), read(PresentTemperature)), (Ok(121), Ok(34)));
        assert_eq!(read(Register::GoalPosition).unwrap_err().to_string(), "goal_position of motor 3: 8 bytes at 56 do not hold it");
    }

    #[test]
    fn what_is_written_is_read_and_what_does_not_fit_is_named() {
        for (register, values) in [
            (Register::GoalPosition, [-32767, -5, 0, 32767]),
            (Register::HomingOffset, [-2047, -5, 3, 2047]),
            (Register::Id, [0, 1, 254, 255]),
        ] {
            let field = STS3215.field(register, MOTOR).unwrap();
            for value in values {
                let (bytes, len) = STS3215.encode(register, MOTOR, value).unwrap();
                assert_eq!(STS3215.decode(register, MOTOR, field.address, &bytes[..usize::from(len)]), Ok(value), "{register:?} {value}");
            }
        }
        // LeRobot's check value: -5 is 0x805 in an offset.
        assert_eq!(STS3215.encode(Register::HomingOffset, MOTOR, -5), Ok(([0x05, 0x08, 0, 0], 2)));
        for (register, value) in [(Register::HomingOffset, 2048), (Register::Id, 256), (Register::Id, -1), (Register::GoalPosition, 40_000)]
        {
            let error = STS3215.encode(register, MOTOR, value).unwrap_err().to_string();
            assert_eq!(error, format!("{} of motor 3: the value {value} does not fit the register", register.name()));
        }
        const FIELDS: &[Field] = &[field(Register::GoalPosition, 116, 4, Encoding::TwosComplement)];
        let signed = ControlTable { fields: FIELDS, ..STS3215 };
        for value in [i32::MIN, -1, 0, i32::MAX] {
            let (bytes, _) = signed.encode(Register::GoalPosition, MOTOR, value).unwrap();
            assert_eq!(signed.decode(Register::GoalPosition, MOTOR, 116, &bytes), Ok(value));
        }
        assert!(signed.field(Register::Lock, MOTOR).unwrap_err().to_string().contains("lock of motor 3: its model has no such register"));
    }
}
