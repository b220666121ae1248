//! What motors are to be set to before they are driven.

use sinew_core::{CalibrationKind, DatasetUnit, Part, PartKind, RobotDescription, Role};

use crate::wire::Protocol;
use crate::{ControlTable, MotorId, Register};

/// A register of a part's motor, and what it is to hold. It is written only where it holds something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub part: String,
    pub register: Register,
    pub value: i32,
}

/// Bit of Feetech's `phase` that makes positions count turns.
pub(super) const COUNTS_TURNS: i32 = 0x10;

/// What LeRobot 0.6.1 sets (`configure` in `lerobot/robots/so_follower/so_follower.py`, `koch_follower` and
/// `omx_follower`, and of their leaders): answers without delay, position mode, on Feetech's motors the greatest
/// acceleration; of a robot that is commanded gains that suit light arms, and less force on grippers. What a model has no
/// register for is left out.
pub fn lerobot_settings(robot: &RobotDescription) -> Vec<Setting> {
    let mut settings = Vec::new();
    for part in &robot.parts {
        let Some(table) = part.motor.as_ref().and_then(|motor| ControlTable::of_model(&motor.model)) else { continue };
        let (of_driven, of_gripper) = match robot.role {
            Role::Robot if part.kind != PartKind::Wheel => (of_driven(table), of_gripper(part, table)),
            _ => Default::default(),
        };
        let values = of_part(part, table).iter().chain(of_driven).chain(of_gripper);
        let values = values.filter(|(register, _)| table.has(*register));
        settings.extend(values.map(|(register, value)| Setting { part: part.name.clone(), register: *register, value: *value }));
    }
    settings
}

fn is_gripper(part: &Part) -> bool {
    part.name.ends_with("gripper") && part.unit == DatasetUnit::Range0To100
}

fn of_part(part: &Part, table: &ControlTable) -> &'static [(Register, i32)] {
    use Register as R;
    match table.protocol {
        Protocol::Feetech0 if part.kind == PartKind::Wheel => {
            &[(R::ReturnDelayTime, 0), (R::OperatingMode, 1), (R::MaximumAcceleration, 254), (R::Acceleration, 254)]
        }
        Protocol::Feetech0 => &[(R::ReturnDelayTime, 0), (R::OperatingMode, 0), (R::MaximumAcceleration, 254), (R::Acceleration, 254)],
        Protocol::Feetech1 => &[(R::ReturnDelayTime, 0), (R::Acceleration, 254)],
        Protocol::Dynamixel2 if part.kind == PartKind::Wheel => &[(R::ReturnDelayTime, 0), (R::OperatingMode, 1)],
        // A gripper that is blocked gives way, as its current is limited.
        Protocol::Dynamixel2 if is_gripper(part) && table.modes.contains(&5) => &[(R::ReturnDelayTime, 0), (R::OperatingMode, 5)],
        // Beyond a turn, as an offset may put the joint there.
        Protocol::Dynamixel2 => &[(R::ReturnDelayTime, 0), (R::OperatingMode, 4)],
    }
}

fn of_driven(table: &ControlTable) -> &'static [(Register, i32)] {
    use Register as R;
    match table.protocol {
        Protocol::Feetech0 => &[(R::PCoefficient, 16), (R::ICoefficient, 0), (R::DCoefficient, 32)],
        Protocol::Feetech1 | Protocol::Dynamixel2 => &[],
    }
}

fn of_gripper(part: &Part, table: &ControlTable) -> &'static [(Register, i32)] {
    use Register as R;
    if is_gripper(part) && table.protocol == Protocol::Feetech0 {
        &[(R::MaxTorqueLimit, 500), (R::ProtectionCurrent, 250), (R::OverloadTorque, 25)]
    } else {
        &[]
    }
}

/// What a part's motor is to hold: `settings`, and over them what its description says of its
/// [`registers`](sinew_core::Motor::registers).
///
/// # Errors
/// As [`registers_fault`].
pub(super) fn settings_of(part: &Part, table: &ControlTable, settings: &[Setting]) -> Result<Vec<(Register, i32)>, String> {
    if let Some(what) = registers_fault(part, table) {
        return Err(what);
    }
    let own = settings.iter().filter(|setting| setting.part == part.name && table.has(setting.register));
    let mut wanted: Vec<(Register, i32)> = own.map(|setting| (setting.register, setting.value)).collect();
    for (name, value) in part.motor.iter().flat_map(|motor| &motor.registers) {
        let Some(register) = register_of(name, table) else { continue };
        match wanted.iter_mut().find(|(other, _)| *other == register) {
            Some((_, slot)) => *slot = *value,
            None => wanted.push((register, *value)),
        }
    }
    Ok(wanted)
}

fn register_of(name: &str, table: &ControlTable) -> Option<Register> {
    Register::ALL.iter().copied().find(|register| register.name() == name && table.has(*register))
}

/// What is wrong with the [`registers`](sinew_core::Motor::registers) of a part, if anything: its model does not have one, or it
/// can't hold the value, or it is none that a description may set.
pub(crate) fn registers_fault(part: &Part, table: &ControlTable) -> Option<String> {
    let motor = part.motor.as_ref()?;
    motor.registers.iter().find_map(|(name, value)| {
        let Some(register) = register_of(name, table) else {
            return Some(format!("{}: expected registers of a {}, found {name}", part.name, table.model));
        };
        if register.is_read_only() || is_reserved(register, *value, motor.calibration) {
            return Some(format!("{}: expected registers that a description may set, found {name} = {value}", part.name));
        }
        let held = table.encode(register, MotorId(motor.id), *value);
        held.err().map(|error| format!("{}: {error}", part.name))
    })
}

/// What the driver owns, as it moves a motor, is how it is found and heard, or what its numbers mean; and what a
/// calibration owns.
fn is_reserved(register: Register, value: i32, calibration: CalibrationKind) -> bool {
    use Register as R;
    match register {
        R::Id | R::BaudRate | R::SecondaryId | R::ProtocolType | R::ResponseStatusLevel | R::StatusReturnLevel | R::BusWatchdog => true,
        R::TorqueEnable | R::Lock | R::OperatingMode => true,
        R::GoalPosition | R::GoalVelocity | R::GoalTime | R::GoalPwm | R::RunningTime => true,
        R::Phase | R::AngularResolution | R::VelocityUnitFactor => true,
        R::MinPositionLimit | R::MaxPositionLimit => true,
        // Without a calibration the description has the offset.
        R::HomingOffset => calibration != CalibrationKind::Fixed,
        // The direction; other bits make profiles of time, or have a goal switch torque on.
        R::DriveMode => !matches!(value, 0 | 1),
        _ => false,
    }
}
