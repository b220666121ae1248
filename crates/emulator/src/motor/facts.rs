//! What a model is like: its strength and speed, and what its registers hold when it leaves the factory.

use sinew_drivers::wire::Protocol;
use sinew_drivers::{ControlTable, MotorId, Register, TableError};

/// A model's physical side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Facts {
    /// Speed without load, in ticks a second.
    pub fastest: f64,
    /// Volts that it is made for.
    pub volts: f64,
    /// What the register of its current says at full torque.
    pub stall_current: f64,
}

const fn turns_a_minute(turns: f64, ticks: f64) -> f64 {
    turns * ticks / 60.0
}

/// From the makers' data sheets: speed without load and current at stall, at the voltage that robots give them.
pub(super) fn facts(table: &ControlTable) -> Facts {
    let (turns, volts, stall_current) = match table.model {
        "sts3215" => (46.0, 12.0, 2400.0 / 6.5),
        "sts3250" => (75.0, 12.0, 3300.0 / 6.5),
        "sm8512bl" => (50.0, 12.0, 5000.0 / 6.5),
        "scs0009" => (100.0, 6.0, 0.0),
        "xl330-m077" => (383.0, 5.0, 1470.0),
        "xl330-m288" => (103.0, 5.0, 1470.0),
        "xc330-m181" => (129.0, 5.0, 1800.0),
        "xc330-m288" => (81.0, 5.0, 1800.0),
        "xc330-t181" => (104.0, 11.1, 910.0),
        "xc330-t288" => (65.0, 11.1, 910.0),
        // These say their load, in 0.1 %.
        "xl430-w250" => (57.0, 11.1, 1000.0),
        "xc430-w150" => (99.0, 11.1, 1000.0),
        "xm430-w350" => (46.0, 12.0, 2300.0 / 2.69),
        "xm540-w270" => (30.0, 12.0, 4400.0 / 2.69),
        _ => (66.0, 12.0, 4900.0 / 2.69),
    };
    Facts { fastest: turns_a_minute(turns, f64::from(table.resolution)), volts, stall_current }
}

/// What registers hold that aren't 0 when a motor is new.
fn factory(table: &ControlTable) -> &'static [(Register, i32)] {
    use Register as R;
    match table.protocol {
        Protocol::Feetech0 => &[
            (R::FirmwareMajorVersion, 3),
            (R::FirmwareMinorVersion, 10),
            (R::Id, 1),
            (R::ReturnDelayTime, 250),
            (R::ResponseStatusLevel, 1),
            (R::MaxPositionLimit, 4095),
            (R::MaxTemperatureLimit, 70),
            (R::MaxVoltageLimit, 140),
            (R::MinVoltageLimit, 40),
            (R::MaxTorqueLimit, 1000),
            (R::Phase, 12),
            (R::UnloadingCondition, 44),
            (R::LedAlarmCondition, 47),
            (R::PCoefficient, 32),
            (R::DCoefficient, 32),
            (R::MinimumStartupForce, 16),
            (R::CwDeadZone, 1),
            (R::CcwDeadZone, 1),
            (R::ProtectionCurrent, 310),
            (R::AngularResolution, 1),
            (R::ProtectiveTorque, 20),
            (R::ProtectionTime, 200),
            (R::OverloadTorque, 80),
            (R::OverCurrentProtectionTime, 200),
            (R::Lock, 1),
            (R::MaximumAcceleration, 254),
        ],
        Protocol::Feetech1 => &[
            (R::FirmwareMajorVersion, 3),
            (R::FirmwareMinorVersion, 7),
            (R::Id, 1),
            (R::ReturnDelayTime, 250),
            (R::ResponseStatusLevel, 1),
            (R::MaxPositionLimit, 1023),
            (R::MaxTemperatureLimit, 80),
            (R::MaxVoltageLimit, 80),
            (R::MinVoltageLimit, 40),
            (R::MaxTorqueLimit, 1000),
            (R::UnloadingCondition, 36),
            (R::LedAlarmCondition, 37),
            (R::PCoefficient, 15),
            (R::MinimumStartupForce, 10),
            (R::CwDeadZone, 1),
            (R::CcwDeadZone, 1),
            (R::ProtectiveTorque, 40),
            (R::ProtectionTime, 200),
            (R::Lock, 1),
        ],
        Protocol::Dynamixel2 => &[
            (R::FirmwareVersion, 52),
            (R::Id, 1),
            (R::BaudRate, 1),
            (R::ReturnDelayTime, 250),
            (R::OperatingMode, 3),
            (R::SecondaryId, 255),
            (R::ProtocolType, 2),
            (R::MovingThreshold, 10),
            (R::TemperatureLimit, 70),
            (R::MaxVoltageLimit, 160),
            (R::MinVoltageLimit, 35),
            (R::PwmLimit, 885),
            (R::CurrentLimit, 1750),
            (R::AccelerationLimit, 32767),
            (R::VelocityLimit, 1023),
            (R::MaxPositionLimit, 4095),
            (R::Shutdown, 52),
            (R::StatusReturnLevel, 2),
            (R::VelocityIGain, 1600),
            (R::VelocityPGain, 180),
            (R::PositionPGain, 400),
            (R::GoalPwm, 885),
            (R::GoalCurrent, 1750),
        ],
    }
}

/// A new motor's memory.
///
/// # Errors
/// When a value of the factory's does not fit its register, which a test rules out for all models.
pub(super) fn memory<const N: usize>(table: &ControlTable) -> Result<[u8; N], TableError> {
    let mut memory = [0; N];
    let number = (Register::ModelNumber, i32::from(table.number));
    for (register, value) in factory(table).iter().copied().chain([number]) {
        let motor = MotorId(0);
        let field = table.field(register, motor)?;
        let (bytes, len) = table.encode(register, motor, value)?;
        let at = usize::from(field.address);
        if let Some(place) = memory.get_mut(at..at + usize::from(len)) {
            place.copy_from_slice(&bytes[..usize::from(len)]);
        }
    }
    Ok(memory)
}
