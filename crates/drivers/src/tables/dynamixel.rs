//! Robotis' X series.

use super::{ControlTable, Encoding, Field, Register, field};
use crate::wire::Protocol;

const UNSIGNED: Encoding = Encoding::Unsigned;
const TWOS: Encoding = Encoding::TwosComplement;

/// Speeds of the wire in bits a second, and what `baud_rate` holds for each.
const BAUDS: &[(u32, u8)] = &[(9_600, 0), (57_600, 1), (115_200, 2), (1_000_000, 3), (2_000_000, 4), (3_000_000, 5), (4_000_000, 6)];

/// Modes of models that measure their current: current, velocity, position, extended position, current-based position,
/// PWM.
const MODES: &[u8] = &[0, 1, 3, 4, 5, 16];
/// Modes of models that don't.
const MODES_WITHOUT_CURRENT: &[u8] = &[1, 3, 4, 16];

/// As LeRobot has it for all models. XL430 and XC430 have no `current_limit` and no `goal_current`, and their load where
/// others have `present_current`.
const X: &[Field] = &[
    field(Register::ModelNumber, 0, 2, UNSIGNED),
    field(Register::ModelInformation, 2, 4, UNSIGNED),
    field(Register::FirmwareVersion, 6, 1, UNSIGNED),
    field(Register::Id, 7, 1, UNSIGNED),
    field(Register::BaudRate, 8, 1, UNSIGNED),
    field(Register::ReturnDelayTime, 9, 1, UNSIGNED),
    field(Register::DriveMode, 10, 1, UNSIGNED),
    field(Register::OperatingMode, 11, 1, UNSIGNED),
    field(Register::SecondaryId, 12, 1, UNSIGNED),
    field(Register::ProtocolType, 13, 1, UNSIGNED),
    field(Register::HomingOffset, 20, 4, TWOS),
    field(Register::MovingThreshold, 24, 4, UNSIGNED),
    field(Register::TemperatureLimit, 31, 1, UNSIGNED),
    field(Register::MaxVoltageLimit, 32, 2, UNSIGNED),
    field(Register::MinVoltageLimit, 34, 2, UNSIGNED),
    field(Register::PwmLimit, 36, 2, UNSIGNED),
    field(Register::CurrentLimit, 38, 2, UNSIGNED),
    field(Register::AccelerationLimit, 40, 4, UNSIGNED),
    field(Register::VelocityLimit, 44, 4, UNSIGNED),
    field(Register::MaxPositionLimit, 48, 4, UNSIGNED),
    field(Register::MinPositionLimit, 52, 4, UNSIGNED),
    field(Register::Shutdown, 63, 1, UNSIGNED),
    field(Register::TorqueEnable, 64, 1, UNSIGNED),
    field(Register::Led, 65, 1, UNSIGNED),
    field(Register::StatusReturnLevel, 68, 1, UNSIGNED),
    field(Register::RegisteredInstruction, 69, 1, UNSIGNED),
    field(Register::HardwareErrorStatus, 70, 1, UNSIGNED),
    field(Register::VelocityIGain, 76, 2, UNSIGNED),
    field(Register::VelocityPGain, 78, 2, UNSIGNED),
    field(Register::PositionDGain, 80, 2, UNSIGNED),
    field(Register::PositionIGain, 82, 2, UNSIGNED),
    field(Register::PositionPGain, 84, 2, UNSIGNED),
    field(Register::Feedforward2ndGain, 88, 2, UNSIGNED),
    field(Register::Feedforward1stGain, 90, 2, UNSIGNED),
    field(Register::BusWatchdog, 98, 1, UNSIGNED),
    field(Register::GoalPwm, 100, 2, TWOS),
    field(Register::GoalCurrent, 102, 2, TWOS),
    field(Register::GoalVelocity, 104, 4, TWOS),
    field(Register::ProfileAcceleration, 108, 4, UNSIGNED),
    field(Register::ProfileVelocity, 112, 4, UNSIGNED),
    field(Register::GoalPosition, 116, 4, TWOS),
    field(Register::RealtimeTick, 120, 2, UNSIGNED),
    field(Register::Moving, 122, 1, UNSIGNED),
    field(Register::MovingStatus, 123, 1, UNSIGNED),
    field(Register::PresentPwm, 124, 2, TWOS),
    field(Register::PresentCurrent, 126, 2, TWOS),
    field(Register::PresentVelocity, 128, 4, TWOS),
    field(Register::PresentPosition, 132, 4, TWOS),
    field(Register::VelocityTrajectory, 136, 4, UNSIGNED),
    field(Register::PositionTrajectory, 140, 4, UNSIGNED),
    field(Register::PresentInputVoltage, 144, 2, UNSIGNED),
    field(Register::PresentTemperature, 146, 1, UNSIGNED),
];

const fn x(model: &'static str, number: u16, modes: &'static [u8]) -> ControlTable {
    ControlTable { model, number, protocol: Protocol::Dynamixel2, resolution: 4096, bauds: BAUDS, modes, fields: X }
}

/// Of Koch's and OMX's leaders.
pub const XL330_M077: ControlTable = x("xl330-m077", 1190, MODES);
/// Of Koch and OMX.
pub const XL330_M288: ControlTable = x("xl330-m288", 1200, MODES);
/// Of Koch's and OMX's followers.
pub const XL430_W250: ControlTable = x("xl430-w250", 1060, MODES_WITHOUT_CURRENT);
/// Of larger arms.
pub const XM430_W350: ControlTable = x("xm430-w350", 1020, MODES);
/// Of larger arms.
pub const XM540_W270: ControlTable = x("xm540-w270", 1120, MODES);
/// Of larger arms.
pub const XC430_W150: ControlTable = x("xc430-w150", 1070, MODES_WITHOUT_CURRENT);
/// Of larger arms.
pub const XH540_W150: ControlTable = x("xh540-w150", 1110, MODES);
/// A small motor for 12 V.
pub const XC330_T288: ControlTable = x("xc330-t288", 1220, MODES);
/// A small motor for 12 V.
pub const XC330_T181: ControlTable = x("xc330-t181", 1210, MODES);
/// A small motor for 5 V, not in LeRobot; number and modes are the e-manual's.
pub const XC330_M181: ControlTable = x("xc330-m181", 1230, MODES);
/// Of Reachy Mini's base, not in LeRobot; number and modes are the e-manual's.
pub const XC330_M288: ControlTable = x("xc330-m288", 1240, MODES);
