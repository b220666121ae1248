//! Control tables: what the bytes of a motor's registers mean, by its model.
//!
//! Addresses, lengths and signs are LeRobot 0.6.1's (`lerobot/motors/feetech/tables.py` and
//! `lerobot/motors/dynamixel/tables.py`), and a test compares all of them with `golden.json`, which
//! `scripts/make_tables_golden.py` wrote. Units are those of Feetech's memory tables and Robotis' e-manual.
//!
//! ```
//! use sinew_drivers::{ControlTable, MotorId, Register};
//!
//! let table = ControlTable::of_model("sts3215").ok_or("an unknown model")?;
//! let block = table.block(&[Register::PresentPosition], MotorId(1))?;
//! assert_eq!((block.address, block.len), (56, 2));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod dynamixel;
mod feetech;

use thiserror::Error;

use crate::wire::Protocol;
use crate::{Block, MotorId};

pub use dynamixel::{
    XC330_M181, XC330_M288, XC330_T181, XC330_T288, XC430_W150, XH540_W150, XL330_M077, XL330_M288, XL430_W250, XM430_W350, XM540_W270,
};
pub use feetech::{SCS0009, SM8512BL, STS3215, STS3250};

macro_rules! registers {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// A register by its name in LeRobot's control tables, in lower case.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Register {
            $($(#[$doc])* $variant,)*
        }

        impl Register {
            /// All there are, of any model.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

registers! {
    FirmwareMajorVersion "firmware_major_version",
    FirmwareMinorVersion "firmware_minor_version",
    ModelNumber "model_number",
    Id "id",
    BaudRate "baud_rate",
    /// In units of 2 microseconds, before an answer.
    ReturnDelayTime "return_delay_time",
    ResponseStatusLevel "response_status_level",
    MinPositionLimit "min_position_limit",
    MaxPositionLimit "max_position_limit",
    MaxTemperatureLimit "max_temperature_limit",
    MaxVoltageLimit "max_voltage_limit",
    MinVoltageLimit "min_voltage_limit",
    /// In 0.1 %; torque_limit begins with it.
    MaxTorqueLimit "max_torque_limit",
    /// Bits of the factory; bit 4 makes positions count turns.
    Phase "phase",
    UnloadingCondition "unloading_condition",
    LedAlarmCondition "led_alarm_condition",
    PCoefficient "p_coefficient",
    DCoefficient "d_coefficient",
    ICoefficient "i_coefficient",
    MinimumStartupForce "minimum_startup_force",
    CwDeadZone "cw_dead_zone",
    CcwDeadZone "ccw_dead_zone",
    /// In 6.5 mA.
    ProtectionCurrent "protection_current",
    AngularResolution "angular_resolution",
    /// Ticks. Of Feetech: present = actual - offset. Of Dynamixel: present = actual + offset.
    HomingOffset "homing_offset",
    /// Of Feetech 0 position, 1 velocity, 2 PWM, 3 steps; of Dynamixel 0 current, 1 velocity, 3 position, 4 extended position, 5 current-based position, 16 PWM.
    OperatingMode "operating_mode",
    /// Torque in percent that is left after an overload.
    ProtectiveTorque "protective_torque",
    /// In 10 ms.
    ProtectionTime "protection_time",
    /// Torque in percent above which overload is counted.
    OverloadTorque "overload_torque",
    VelocityClosedLoopPProportionalCoefficient "velocity_closed_loop_p_proportional_coefficient",
    OverCurrentProtectionTime "over_current_protection_time",
    VelocityClosedLoopIIntegralCoefficient "velocity_closed_loop_i_integral_coefficient",
    /// 1 holds and moves; 0 lets the motor be moved. Of Feetech 128 makes the present position the middle, 2048.
    TorqueEnable "torque_enable",
    /// In 100 ticks per square second.
    Acceleration "acceleration",
    GoalPosition "goal_position",
    GoalTime "goal_time",
    /// As present_velocity; for Feetech in position mode the speed on the way to the goal, 0 for the greatest.
    GoalVelocity "goal_velocity",
    TorqueLimit "torque_limit",
    /// Of Feetech: while 1, what is written to persistent registers is gone after the next start.
    Lock "lock",
    PresentPosition "present_position",
    /// Of Feetech in ticks a second; of Dynamixel in 0.229 turns a minute.
    PresentVelocity "present_velocity",
    /// In 0.1 % of the greatest torque.
    PresentLoad "present_load",
    /// In 0.1 V.
    PresentVoltage "present_voltage",
    /// In degrees Celsius.
    PresentTemperature "present_temperature",
    Status "status",
    Moving "moving",
    /// Of Feetech in 6.5 mA; of Dynamixel in 1 mA (XL330, XC330) or 2.69 mA (XM, XH), or on models that measure no current (XL430, XC430) the load in 0.1 %.
    PresentCurrent "present_current",
    GoalPosition2 "goal_position_2",
    MovingVelocityThreshold "moving_velocity_threshold",
    Dts "dts",
    VelocityUnitFactor "velocity_unit_factor",
    Hts "hts",
    MaximumVelocityLimit "maximum_velocity_limit",
    MaximumAcceleration "maximum_acceleration",
    AccelerationMultiplier "acceleration_multiplier",
    RunningTime "running_time",
    SyncWriteFlag "sync_write_flag",
    ModelInformation "model_information",
    FirmwareVersion "firmware_version",
    /// Bit 0 reverses the direction.
    DriveMode "drive_mode",
    SecondaryId "secondary_id",
    ProtocolType "protocol_type",
    MovingThreshold "moving_threshold",
    TemperatureLimit "temperature_limit",
    PwmLimit "pwm_limit",
    CurrentLimit "current_limit",
    AccelerationLimit "acceleration_limit",
    VelocityLimit "velocity_limit",
    /// Bits of hardware_error_status that switch the torque off.
    Shutdown "shutdown",
    Led "led",
    StatusReturnLevel "status_return_level",
    RegisteredInstruction "registered_instruction",
    /// Bits: 1 voltage, 4 temperature, 8 encoder, 16 electrical shock, 32 overload.
    HardwareErrorStatus "hardware_error_status",
    VelocityIGain "velocity_i_gain",
    VelocityPGain "velocity_p_gain",
    PositionDGain "position_d_gain",
    PositionIGain "position_i_gain",
    PositionPGain "position_p_gain",
    Feedforward2ndGain "feedforward_2nd_gain",
    Feedforward1stGain "feedforward_1st_gain",
    BusWatchdog "bus_watchdog",
    GoalPwm "goal_pwm",
    GoalCurrent "goal_current",
    ProfileAcceleration "profile_acceleration",
    ProfileVelocity "profile_velocity",
    RealtimeTick "realtime_tick",
    MovingStatus "moving_status",
    PresentPwm "present_pwm",
    VelocityTrajectory "velocity_trajectory",
    PositionTrajectory "position_trajectory",
    /// In 0.1 V.
    PresentInputVoltage "present_input_voltage",
}

impl Register {
    /// Whether motors refuse to have it written.
    pub const fn is_read_only(self) -> bool {
        matches!(
            self,
            Self::FirmwareMajorVersion
                | Self::FirmwareMinorVersion
                | Self::ModelNumber
                | Self::PresentPosition
                | Self::PresentVelocity
                | Self::PresentLoad
                | Self::PresentVoltage
                | Self::PresentTemperature
                | Self::Status
                | Self::Moving
                | Self::PresentCurrent
                | Self::GoalPosition2
                | Self::SyncWriteFlag
                | Self::ModelInformation
                | Self::FirmwareVersion
                | Self::RegisteredInstruction
                | Self::HardwareErrorStatus
                | Self::RealtimeTick
                | Self::MovingStatus
                | Self::PresentPwm
                | Self::VelocityTrajectory
                | Self::PositionTrajectory
                | Self::PresentInputVoltage
        )
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

/// Where a register lies.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlTable {
    /// As robot descriptions call it.
    pub model: &'static str,
    /// What the motor answers for [`Register::ModelNumber`].
    pub number: u16,
    pub protocol: Protocol,
    /// Ticks of a turn.
    pub resolution: u16,
    /// Speeds of the wire in bits a second, and what [`Register::BaudRate`] holds for each.
    pub bauds: &'static [(u32, u8)],
    /// What [`Register::OperatingMode`] may hold.
    pub modes: &'static [u8],
    pub fields: &'static [Field],
}

impl ControlTable {
    /// Every model that is known.
    pub const ALL: &[Self] = &[
        STS3215, STS3250, SM8512BL, SCS0009, XL330_M077, XL330_M288, XL430_W250, XM430_W350, XM540_W270, XC430_W150, XH540_W150,
        XC330_T288, XC330_T181, XC330_M181, XC330_M288,
    ];

    /// By its name in robot descriptions.
    pub fn of_model(model: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|table| table.model == model)
    }

    /// By what a motor says of itself.
    pub fn of_number(protocol: Protocol, number: u16) -> Option<&'static Self> {
        Self::ALL.iter().find(|table| table.protocol == protocol && table.number == number)
    }

    /// Whether what lies at an address outlives the motor's power.
    pub const fn is_persistent(&self, address: u16) -> bool {
        match self.protocol {
            Protocol::Feetech0 | Protocol::Feetech1 => address < 40 || address >= 78,
            Protocol::Dynamixel2 => address < 64,
        }
    }

    /// What [`Register::BaudRate`] holds for a speed in bits a second.
    pub fn baud_code(&self, baud: u32) -> Option<u8> {
        self.bauds.iter().find(|(known, _)| *known == baud).map(|(_, code)| *code)
    }

    /// The speed in bits a second for what [`Register::BaudRate`] holds.
    pub fn baud(&self, code: u8) -> Option<u32> {
        self.bauds.iter().find(|(_, known)| *known == code).map(|(baud, _)| *baud)
    }

    /// Whether the model has such a register.
    pub fn has(&self, register: Register) -> bool {
        self.fields.iter().any(|field| field.register == register)
    }

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
        let number = self.protocol.byte_order().number(raw);
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
        Ok((self.protocol.byte_order().bytes(number, field.len), field.len))
    }
}

const fn field(register: Register, address: u16, len: u8, encoding: Encoding) -> Field {
    Field { register, address, len, encoding }
}

#[cfg(test)]
mod tests;
