//! Feetech's serial servos.

use super::{ControlTable, Encoding, Field, Register, field};
use crate::wire::Protocol;

const UNSIGNED: Encoding = Encoding::Unsigned;

/// Speeds of the wire in bits a second, and what `baud_rate` holds for each.
const BAUDS: &[(u32, u8)] =
    &[(1_000_000, 0), (500_000, 1), (250_000, 2), (128_000, 3), (115_200, 4), (57_600, 5), (38_400, 6), (19_200, 7)];

/// Position, velocity, PWM, steps.
const MODES: &[u8] = &[0, 1, 2, 3];

/// STS and SMS.
const STS: &[Field] = &[
    field(Register::FirmwareMajorVersion, 0, 1, UNSIGNED),
    field(Register::FirmwareMinorVersion, 1, 1, UNSIGNED),
    field(Register::ModelNumber, 3, 2, UNSIGNED),
    field(Register::Id, 5, 1, UNSIGNED),
    field(Register::BaudRate, 6, 1, UNSIGNED),
    field(Register::ReturnDelayTime, 7, 1, UNSIGNED),
    field(Register::ResponseStatusLevel, 8, 1, UNSIGNED),
    field(Register::MinPositionLimit, 9, 2, UNSIGNED),
    field(Register::MaxPositionLimit, 11, 2, UNSIGNED),
    field(Register::MaxTemperatureLimit, 13, 1, UNSIGNED),
    field(Register::MaxVoltageLimit, 14, 1, UNSIGNED),
    field(Register::MinVoltageLimit, 15, 1, UNSIGNED),
    field(Register::MaxTorqueLimit, 16, 2, UNSIGNED),
    field(Register::Phase, 18, 1, UNSIGNED),
    field(Register::UnloadingCondition, 19, 1, UNSIGNED),
    field(Register::LedAlarmCondition, 20, 1, UNSIGNED),
    field(Register::PCoefficient, 21, 1, UNSIGNED),
    field(Register::DCoefficient, 22, 1, UNSIGNED),
    field(Register::ICoefficient, 23, 1, UNSIGNED),
    field(Register::MinimumStartupForce, 24, 2, UNSIGNED),
    field(Register::CwDeadZone, 26, 1, UNSIGNED),
    field(Register::CcwDeadZone, 27, 1, UNSIGNED),
    field(Register::ProtectionCurrent, 28, 2, UNSIGNED),
    field(Register::AngularResolution, 30, 1, UNSIGNED),
    field(Register::HomingOffset, 31, 2, Encoding::SignMagnitude(11)),
    field(Register::OperatingMode, 33, 1, UNSIGNED),
    field(Register::ProtectiveTorque, 34, 1, UNSIGNED),
    field(Register::ProtectionTime, 35, 1, UNSIGNED),
    field(Register::OverloadTorque, 36, 1, UNSIGNED),
    field(Register::VelocityClosedLoopPProportionalCoefficient, 37, 1, UNSIGNED),
    field(Register::OverCurrentProtectionTime, 38, 1, UNSIGNED),
    field(Register::VelocityClosedLoopIIntegralCoefficient, 39, 1, UNSIGNED),
    field(Register::TorqueEnable, 40, 1, UNSIGNED),
    field(Register::Acceleration, 41, 1, UNSIGNED),
    field(Register::GoalPosition, 42, 2, Encoding::SignMagnitude(15)),
    field(Register::GoalTime, 44, 2, UNSIGNED),
    field(Register::GoalVelocity, 46, 2, Encoding::SignMagnitude(15)),
    field(Register::TorqueLimit, 48, 2, UNSIGNED),
    field(Register::Lock, 55, 1, UNSIGNED),
    field(Register::PresentPosition, 56, 2, Encoding::SignMagnitude(15)),
    field(Register::PresentVelocity, 58, 2, Encoding::SignMagnitude(15)),
    field(Register::PresentLoad, 60, 2, Encoding::SignMagnitude(10)),
    field(Register::PresentVoltage, 62, 1, UNSIGNED),
    field(Register::PresentTemperature, 63, 1, UNSIGNED),
    field(Register::Status, 65, 1, UNSIGNED),
    field(Register::Moving, 66, 1, UNSIGNED),
    field(Register::PresentCurrent, 69, 2, UNSIGNED),
    field(Register::GoalPosition2, 71, 2, UNSIGNED),
    field(Register::MovingVelocityThreshold, 80, 1, UNSIGNED),
    field(Register::Dts, 81, 1, UNSIGNED),
    field(Register::VelocityUnitFactor, 82, 1, UNSIGNED),
    field(Register::Hts, 83, 1, UNSIGNED),
    field(Register::MaximumVelocityLimit, 84, 1, UNSIGNED),
    field(Register::MaximumAcceleration, 85, 1, UNSIGNED),
    field(Register::AccelerationMultiplier, 86, 1, UNSIGNED),
];

/// SCS: numbers begin with the high byte, and there is neither a homing offset nor a mode.
const SCS: &[Field] = &[
    field(Register::FirmwareMajorVersion, 0, 1, UNSIGNED),
    field(Register::FirmwareMinorVersion, 1, 1, UNSIGNED),
    field(Register::ModelNumber, 3, 2, UNSIGNED),
    field(Register::Id, 5, 1, UNSIGNED),
    field(Register::BaudRate, 6, 1, UNSIGNED),
    field(Register::ReturnDelayTime, 7, 1, UNSIGNED),
    field(Register::ResponseStatusLevel, 8, 1, UNSIGNED),
    field(Register::MinPositionLimit, 9, 2, UNSIGNED),
    field(Register::MaxPositionLimit, 11, 2, UNSIGNED),
    field(Register::MaxTemperatureLimit, 13, 1, UNSIGNED),
    field(Register::MaxVoltageLimit, 14, 1, UNSIGNED),
    field(Register::MinVoltageLimit, 15, 1, UNSIGNED),
    field(Register::MaxTorqueLimit, 16, 2, UNSIGNED),
    field(Register::Phase, 18, 1, UNSIGNED),
    field(Register::UnloadingCondition, 19, 1, UNSIGNED),
    field(Register::LedAlarmCondition, 20, 1, UNSIGNED),
    field(Register::PCoefficient, 21, 1, UNSIGNED),
    field(Register::DCoefficient, 22, 1, UNSIGNED),
    field(Register::ICoefficient, 23, 1, UNSIGNED),
    field(Register::MinimumStartupForce, 24, 2, UNSIGNED),
    field(Register::CwDeadZone, 26, 1, UNSIGNED),
    field(Register::CcwDeadZone, 27, 1, UNSIGNED),
    field(Register::ProtectiveTorque, 37, 1, UNSIGNED),
    field(Register::ProtectionTime, 38, 1, UNSIGNED),
    field(Register::TorqueEnable, 40, 1, UNSIGNED),
    field(Register::Acceleration, 41, 1, UNSIGNED),
    field(Register::GoalPosition, 42, 2, UNSIGNED),
    field(Register::RunningTime, 44, 2, UNSIGNED),
    field(Register::GoalVelocity, 46, 2, UNSIGNED),
    field(Register::Lock, 48, 1, UNSIGNED),
    field(Register::PresentPosition, 56, 2, UNSIGNED),
    field(Register::PresentVelocity, 58, 2, UNSIGNED),
    field(Register::PresentLoad, 60, 2, UNSIGNED),
    field(Register::PresentVoltage, 62, 1, UNSIGNED),
    field(Register::PresentTemperature, 63, 1, UNSIGNED),
    field(Register::SyncWriteFlag, 64, 1, UNSIGNED),
    field(Register::Status, 65, 1, UNSIGNED),
    field(Register::Moving, 66, 1, UNSIGNED),
];

const fn sts(model: &'static str, number: u16) -> ControlTable {
    ControlTable { model, number, protocol: Protocol::Feetech0, resolution: 4096, bauds: BAUDS, modes: MODES, fields: STS }
}

/// Of SO-100, SO-101 and LeKiwi.
pub const STS3215: ControlTable = sts("sts3215", 777);
/// Of HopeJR's arm.
pub const STS3250: ControlTable = sts("sts3250", 2825);
/// Of HopeJR's shoulder.
pub const SM8512BL: ControlTable = sts("sm8512bl", 11272);
/// Of HopeJR's hand.
pub const SCS0009: ControlTable =
    ControlTable { model: "scs0009", number: 1284, protocol: Protocol::Feetech1, resolution: 1024, bauds: BAUDS, modes: &[0], fields: SCS };
