//! From a description, ports and a calibration to an arm that is ready. Nothing moves meanwhile.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{ChannelSource, Clock, CommandMode, RobotDescription, Role};
use thiserror::Error;

use super::health::Slot;
use super::joint::Joint;
use super::line::Line;
use super::settings::COUNTS_TURNS;
use super::{ArmHealth, Setting};
use crate::wire::Protocol;
use crate::{
    Block, Bus, BusError, Bytes, Calibration, CalibrationError, ControlTable, Frame, MotorCalibration, MotorId, Operation, PortAddress,
    Register, Reply, Scale, SerialBus, SerialOptions, TableError,
};

/// How long a single question may take while connecting, with all its attempts.
const PATIENCE: Duration = Duration::from_millis(200);

/// An arm that can't be connected.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("connecting {robot}: {what}")]
    Unsupported { robot: String, what: String },
    #[error("connecting {robot}: {part}")]
    Bus {
        robot: String,
        part: String,
        #[source]
        source: BusError,
    },
    #[error("connecting {robot}")]
    Table {
        robot: String,
        #[source]
        source: TableError,
    },
    #[error("connecting {robot}")]
    Calibration {
        robot: String,
        #[source]
        source: CalibrationError,
    },
    #[error("connecting {robot}: {part} (motor {motor}): expected a {expected} (model number {number}), found model number {found}")]
    Model { robot: String, part: String, motor: MotorId, expected: &'static str, number: u16, found: i32 },
    #[error("connecting {robot}: expected all motors of a model to have the same firmware, found {found}")]
    Firmware { robot: String, found: String },
    #[error("connecting {robot}: the motors hold another calibration than the file: {differences}")]
    Uncalibrated { robot: String, differences: String },
    #[error("connecting {robot}: {part} is to have {register} = {wanted}, found {found}, and can't be set while its torque is on")]
    HasTorque { robot: String, part: String, register: &'static str, wanted: i32, found: i32 },
    #[error("connecting {robot}: {part} was given {register} = {wanted} and holds {found}")]
    NotKept { robot: String, part: String, register: &'static str, wanted: i32, found: i32 },
}

/// How an arm is connected.
#[derive(Clone, Debug)]
pub struct ArmOptions {
    /// The port of each of the description's buses, by the bus's name.
    pub ports: Vec<(String, PortAddress)>,
    /// [`SerialOptions::latency`].
    pub latency: Duration,
    /// What motors are to be set to; [`lerobot_settings`](super::lerobot_settings) for most.
    pub settings: Vec<Setting>,
    /// Whether motors that hold another calibration than the file are given the file's. Otherwise that is an error.
    pub writes_calibration: bool,
    /// Whether torque is switched off where a setting needs that, so that the arm may sink. Otherwise that is an error.
    pub may_go_limp: bool,
}

impl ArmOptions {
    /// Ports by bus, LeRobot's settings, and no more than that is written.
    pub fn new(robot: &RobotDescription, ports: Vec<(String, PortAddress)>) -> Self {
        let (latency, settings) = (Duration::from_millis(4), super::lerobot_settings(robot));
        Self { ports, latency, settings, writes_calibration: false, may_go_limp: false }
    }
}

/// A register that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub part: String,
    pub register: Register,
    pub found: i32,
    pub written: i32,
}

/// What connecting found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectReport {
    /// Of each model its firmware, as the motors write it.
    pub firmware: Vec<(&'static str, String)>,
    /// What was written because it was otherwise. Nothing else was.
    pub changes: Vec<Change>,
}

struct Connecting<'a> {
    robot: &'a RobotDescription,
    options: &'a ArmOptions,
    clock: &'a Arc<dyn Clock>,
    report: ConnectReport,
}

/// What was connected.
pub(super) struct Connected {
    pub lines: Vec<Line>,
    pub health: ArmHealth,
    pub report: ConnectReport,
}

/// Opens the ports, meets every motor and sets it as it is to be.
pub(super) fn connect(
    robot: &RobotDescription,
    role: Role,
    options: &ArmOptions,
    calibration: &Calibration,
    clock: &Arc<dyn Clock>,
) -> Result<Connected, ConnectError> {
    let mut connecting = Connecting { robot, options, clock, report: ConnectReport::default() };
    connecting.supports(role)?;
    calibration.check(robot).map_err(|source| ConnectError::Calibration { robot: robot.name.clone(), source })?;
    let (mut lines, mut slots): (Vec<Line>, Vec<Slot>) = (Vec::new(), Vec::new());
    for bus in &robot.buses {
        let joints = connecting.joints(&bus.name, calibration)?;
        let Some(first) = joints.first() else { continue };
        let baud = bus.baud_rate.unwrap_or(1_000_000);
        let line = connecting.line(&bus.name, first.table.protocol, baud, joints, calibration, slots.len())?;
        slots.extend(line.joints.iter().map(|joint| Slot::new(&joint.name, &bus.name, joint.motor)));
        lines.push(line);
    }
    let report = connecting.report;
    let health = ArmHealth { motors: slots.into(), buses: lines.iter().map(|line| Arc::clone(&line.health)).collect() };
    Ok(Connected { lines, health, report })
}

impl Connecting<'_> {
    fn unsupported<T>(&self, what: String) -> Result<T, ConnectError> {
        Err(ConnectError::Unsupported { robot: self.robot.name.clone(), what })
    }

    fn supports(&self, role: Role) -> Result<(), ConnectError> {
        if self.robot.role != role {
            let (expected, found) = match role {
                Role::Robot => ("a robot that is commanded", "a teleoperator"),
                Role::Teleoperator => ("a teleoperator", "a robot that is commanded"),
            };
            return self.unsupported(format!("expected {expected}, found {found}"));
        }
        if self.robot.base.is_some() {
            return self.unsupported("expected an arm, found one with a base".into());
        }
        for part in &self.robot.parts {
            if !matches!(part.command, None | Some(CommandMode::Position)) {
                return self.unsupported(format!("expected parts that are commanded by position, found {}", part.name));
            }
            if let Some(motor) = &part.motor
                && ControlTable::of_model(&motor.model).is_none()
            {
                return self.unsupported(format!("expected a motor model that is known, found {} of {}", motor.model, part.name));
            }
        }
        Ok(())
    }

    fn joints(&self, bus: &str, calibration: &Calibration) -> Result<Vec<Joint>, ConnectError> {
        let place =
            |channels: &[sinew_core::Channel], part| channels.iter().position(|channel| channel.source == ChannelSource::Part(part));
        let (states, actions) = (self.robot.state_channels(), self.robot.action_channels());
        let mut joints: Vec<Joint> = Vec::new();
        for (i, part) in self.robot.parts.iter().enumerate() {
            let Some(motor) = part.motor.as_ref().filter(|motor| motor.bus == bus) else { continue };
            let (Some(table), Some(known)) = (ControlTable::of_model(&motor.model), calibration.get(&part.name)) else { continue };
            let scale =
                Scale::of(part, table, known).map_err(|source| ConnectError::Calibration { robot: self.robot.name.clone(), source })?;
            let stop = part.stop.unwrap_or(self.robot.stop.behaviour);
            let mut joint = Joint::new(i, &part.name, MotorId(motor.id), table, scale, stop);
            joint.trigger = part.trigger.map(|place| scale.to_ticks(place));
            (joint.state, joint.action) = (place(&states, i), place(&actions, i));
            if let Some(first) = joints.first() {
                let is_alike = |register| first.table.field(register, first.motor).ok() == table.field(register, joint.motor).ok();
                if first.table.protocol != table.protocol || !is_alike(Register::PresentPosition) || !is_alike(Register::GoalPosition) {
                    return self.unsupported(format!(
                        "bus {bus}: expected motors that are spoken to alike, found {} and {}",
                        first.name, part.name
                    ));
                }
            }
            joints.push(joint);
        }
        Ok(joints)
    }

    fn line(
        &mut self,
        name: &str,
        protocol: Protocol,
        baud: u32,
        joints: Vec<Joint>,
        calibration: &Calibration,
        first_slot: usize,
    ) -> Result<Line, ConnectError> {
        let Some((_, address)) = self.options.ports.iter().find(|(bus, _)| bus == name) else {
            return self.unsupported(format!("expected a port for its bus {name}, found none"));
        };
        let options = SerialOptions { latency: self.options.latency, ..SerialOptions::new(address.clone(), protocol, baud) };
        let failed = |source| ConnectError::Bus { robot: self.robot.name.clone(), part: format!("bus {name}"), source };
        let mut bus = SerialBus::open(options, Arc::clone(self.clock)).map_err(failed)?;
        for joint in &joints {
            self.meet(&mut bus, joint)?;
        }
        self.firmware(&mut bus, &joints)?;
        if self.robot.role == Role::Teleoperator {
            self.relax(&mut bus, &joints)?;
        }
        self.calibrate(&mut bus, &joints, calibration)?;
        for joint in &joints {
            self.set(&mut bus, joint)?;
        }
        let mut delay = 0;
        for joint in &joints {
            delay = delay.max(self.read(&mut bus, joint, Register::ReturnDelayTime)?);
        }
        bus.set_return_delay(Duration::from_micros(2 * u64::from(delay.unsigned_abs())));
        Line::new(name, bus, joints, first_slot).map_err(|source| ConnectError::Table { robot: self.robot.name.clone(), source })
    }

    fn meet(&self, bus: &mut SerialBus, joint: &Joint) -> Result<(), ConnectError> {
        let deadline = self.clock.now() + PATIENCE;
        bus.ping(joint.motor, deadline).map_err(|source| self.failed(joint, source))?;
        let found = self.read(bus, joint, Register::ModelNumber)?;
        if found != i32::from(joint.table.number) {
            let (robot, part, motor) = (self.robot.name.clone(), joint.name.clone(), joint.motor);
            return Err(ConnectError::Model { robot, part, motor, expected: joint.table.model, number: joint.table.number, found });
        }
        Ok(())
    }

    fn firmware(&mut self, bus: &mut SerialBus, joints: &[Joint]) -> Result<(), ConnectError> {
        let mut found: Vec<(&'static str, String, String)> = Vec::new();
        for joint in joints {
            let version = if joint.table.has(Register::FirmwareVersion) {
                self.read(bus, joint, Register::FirmwareVersion)?.to_string()
            } else {
                let major = self.read(bus, joint, Register::FirmwareMajorVersion)?;
                format!("{major}.{}", self.read(bus, joint, Register::FirmwareMinorVersion)?)
            };
            found.push((joint.table.model, version, joint.name.clone()));
        }
        for (model, version, _) in &found {
            if found.iter().any(|(other, differs, _)| other == model && differs != version) {
                let all: Vec<String> = found.iter().map(|(_, version, name)| format!("{version} in {name}")).collect();
                return Err(ConnectError::Firmware { robot: self.robot.name.clone(), found: all.join(", ") });
            }
            if !self.report.firmware.iter().any(|(known, _)| known == model) {
                self.report.firmware.push((model, version.clone()));
            }
        }
        Ok(())
    }

    /// A leader is moved by hand: torque that is on goes off.
    fn relax(&mut self, bus: &mut SerialBus, joints: &[Joint]) -> Result<(), ConnectError> {
        for joint in joints {
            let found = self.read(bus, joint, Register::TorqueEnable)?;
            if found != 0 {
                self.change(bus, joint, Register::TorqueEnable, found, 0)?;
            }
        }
        Ok(())
    }

    /// Compares what the motors hold with the file.
    fn calibrate(&mut self, bus: &mut SerialBus, joints: &[Joint], calibration: &Calibration) -> Result<(), ConnectError> {
        let mut differences = Vec::new();
        for joint in joints {
            let Some(MotorCalibration { drive_mode, homing_offset, range_min, range_max, .. }) = calibration.get(&joint.name).copied()
            else {
                continue;
            };
            let wanted = [
                (Register::HomingOffset, homing_offset),
                (Register::DriveMode, drive_mode),
                (Register::MinPositionLimit, range_min),
                (Register::MaxPositionLimit, range_max),
            ];
            for (register, value) in wanted.into_iter().filter(|(register, _)| joint.table.has(*register)) {
                let found = self.read(bus, joint, register)?;
                // Beside the direction the register holds bits that a calibration says nothing of.
                let is_same = if register == Register::DriveMode { found & 1 == value & 1 } else { found == value };
                let value = if register == Register::DriveMode { found & !1 | value & 1 } else { value };
                if !is_same {
                    differences.push((joint, register, found, value));
                }
            }
        }
        if !differences.is_empty() && !self.options.writes_calibration {
            let said = |(joint, register, found, wanted): &(&Joint, Register, i32, i32)| {
                format!("{} has {} = {found}, the file {wanted}", joint.name, register.name())
            };
            let differences: Vec<String> = differences.iter().map(said).collect();
            return Err(ConnectError::Uncalibrated { robot: self.robot.name.clone(), differences: differences.join("; ") });
        }
        for (joint, register, found, value) in differences {
            self.change(bus, joint, register, found, value)?;
        }
        Ok(())
    }

    fn set(&mut self, bus: &mut SerialBus, joint: &Joint) -> Result<(), ConnectError> {
        let settings: Vec<Setting> = self.options.settings.iter().filter(|setting| setting.part == joint.name).cloned().collect();
        for Setting { register, value, .. } in settings {
            let found = self.read(bus, joint, register)?;
            if found != value {
                self.change(bus, joint, register, found, value)?;
            }
        }
        if joint.table.has(Register::Phase) {
            let found = self.read(bus, joint, Register::Phase)?;
            if found & COUNTS_TURNS != 0 {
                self.change(bus, joint, Register::Phase, found, found & !COUNTS_TURNS)?;
            }
        }
        Ok(())
    }

    /// Writes a register that holds something else, and reads whether it holds it then.
    fn change(&mut self, bus: &mut SerialBus, joint: &Joint, register: Register, found: i32, wanted: i32) -> Result<(), ConnectError> {
        let robot = || self.robot.name.clone();
        let field = joint.table.field(register, joint.motor).map_err(|source| ConnectError::Table { robot: robot(), source })?;
        let is_persistent = joint.table.is_persistent(field.address);
        if is_persistent && self.read(bus, joint, Register::TorqueEnable)? != 0 {
            if !self.options.may_go_limp {
                let (part, register) = (joint.name.clone(), register.name());
                return Err(ConnectError::HasTorque { robot: robot(), part, register, wanted, found });
            }
            self.write(bus, joint, Register::TorqueEnable, 0)?;
        }
        let has_lock = is_persistent && joint.table.has(Register::Lock);
        if has_lock {
            self.write(bus, joint, Register::Lock, 0)?;
        }
        self.write(bus, joint, register, wanted)?;
        if has_lock {
            self.write(bus, joint, Register::Lock, 1)?;
        }
        let now = self.read(bus, joint, register)?;
        if now != wanted {
            let (part, register) = (joint.name.clone(), register.name());
            return Err(ConnectError::NotKept { robot: robot(), part, register, wanted, found: now });
        }
        tracing::info!("{}: {} of {} was {found} and is now {wanted}", self.robot.name, register.name(), joint.name);
        self.report.changes.push(Change { part: joint.name.clone(), register, found, written: wanted });
        Ok(())
    }

    fn failed(&self, joint: &Joint, source: BusError) -> ConnectError {
        ConnectError::Bus { robot: self.robot.name.clone(), part: joint.name.clone(), source }
    }

    fn read(&self, bus: &mut SerialBus, joint: &Joint, register: Register) -> Result<i32, ConnectError> {
        let table = |source| ConnectError::Table { robot: self.robot.name.clone(), source };
        let field = joint.table.field(register, joint.motor).map_err(table)?;
        let block = Block { address: field.address, len: field.len };
        let mut replies = [Reply::of(joint.motor, Operation::Read(block))];
        bus.read(block, &mut replies, self.clock.now() + PATIENCE).map_err(|source| self.failed(joint, source))?;
        let answer = replies[0].answer.map_err(|error| self.failed(joint, error.into()))?;
        joint.table.decode(register, joint.motor, field.address, answer.bytes.as_slice()).map_err(table)
    }

    fn write(&self, bus: &mut SerialBus, joint: &Joint, register: Register, value: i32) -> Result<(), ConnectError> {
        let table = |source| ConnectError::Table { robot: self.robot.name.clone(), source };
        let field = joint.table.field(register, joint.motor).map_err(table)?;
        let (bytes, len) = joint.table.encode(register, joint.motor, value).map_err(table)?;
        let Some(bytes) = Bytes::of(&bytes[..usize::from(len)]) else { return Ok(()) };
        let frame = Frame { motor: joint.motor, bytes };
        bus.write_one(field.address, &frame, self.clock.now() + PATIENCE).map_err(|source| self.failed(joint, source))?;
        Ok(())
    }
}
