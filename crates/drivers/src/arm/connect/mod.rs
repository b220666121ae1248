//! From a description, ports and a calibration to an arm that is ready. Nothing moves meanwhile.

mod diagnose;
mod error;
mod memory;
mod options;

use std::sync::Arc;
use std::time::Duration;

pub use error::ConnectError;
use memory::Memory;
pub use options::{ArmOptions, Change, ConnectReport, WhenLost};
use sinew_core::{Base, ChannelSource, Clock, CommandMode, Part, PartKind, RobotDescription, Role};

use super::ArmHealth;
use super::health::{Place, Slot};
use super::joint::Joint;
use super::line::Line;
use super::settings::{COUNTS_TURNS, settings_of};
use crate::serial::slow_adapter;
use crate::wire::Protocol;
use crate::{
    Block, Bus, BusError, Bytes, Calibration, ControlTable, Frame, MotorCalibration, MotorFault, MotorId, Operation, Register, Reply,
    Scale, SerialBus, SerialOptions, check_motors,
};

/// What is looked at in every motor, whatever it is to hold.
const LOOKED_AT: [Register; 11] = [
    Register::FirmwareMajorVersion,
    Register::FirmwareMinorVersion,
    Register::FirmwareVersion,
    Register::ModelNumber,
    Register::ReturnDelayTime,
    Register::HomingOffset,
    Register::DriveMode,
    Register::MinPositionLimit,
    Register::MaxPositionLimit,
    Register::Phase,
    Register::TorqueEnable,
];

/// How often a single question is asked while connecting.
const TRIES: u32 = 4;
/// How long a single question may take while connecting, with all its attempts.
const PATIENCE: Duration = Duration::from_millis(200);

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
    for (name, _) in calibration.motors() {
        if !robot.parts.iter().any(|part| part.name == name && part.motor.is_some()) {
            let what = format!("expected the calibration of motors of {}, found one of {name}, which it does not have", robot.name);
            return connecting.unsupported(what);
        }
    }
    let begun = clock.now();
    let (mut lines, mut slots): (Vec<Line>, Vec<Slot>) = (Vec::new(), Vec::new());
    for bus in &robot.buses {
        let joints = connecting.joints(&bus.name, calibration)?;
        let Some(first) = joints.first() else { continue };
        let baud = bus.baud_rate.unwrap_or(1_000_000);
        let mut line = connecting.line(&bus.name, first.table.protocol, baud, joints, calibration, slots.len())?;
        // One that stays silent is known when it has answered.
        let failed = |source| ConnectError::Bus { robot: robot.name.clone(), part: format!("bus {}", bus.name), source };
        line.recognise(clock.now() + PATIENCE).map_err(failed)?;
        line.is_known = true;
        slots.extend(connecting.slots(&line));
        lines.push(line);
    }
    let mut report = connecting.report;
    report.requests = lines.iter().map(|line| line.bus.counts().requests).sum();
    report.took = Duration::from_nanos(u64::try_from(clock.now().nanos_since(begun)).unwrap_or(0));
    let buses = lines.iter().map(|line| Arc::clone(&line.health)).collect();
    let health = ArmHealth { motors: slots.into(), buses, clock: Arc::clone(clock) };
    Ok(Connected { lines, health, report })
}

/// Opens the ports and asks nothing yet: for somebody who only looks. Without a calibration, ticks count from the middle of
/// each motor's turn.
pub(super) fn look_at(
    robot: &RobotDescription,
    options: &ArmOptions,
    calibration: Option<&Calibration>,
    clock: &Arc<dyn Clock>,
) -> Result<Connected, ConnectError> {
    let connecting = Connecting { robot, options, clock, report: ConnectReport::default() };
    let whole_turn = |part: &Part| {
        let motor = part.motor.as_ref()?;
        let last = i32::from(ControlTable::of_model(&motor.model)?.resolution) - 1;
        let known = MotorCalibration { id: motor.id, drive_mode: 0, homing_offset: 0, range_min: 0, range_max: last };
        Some((part.name.clone(), known))
    };
    let nominal = Calibration::new(robot.parts.iter().filter_map(whole_turn));
    let (mut lines, mut slots): (Vec<Line>, Vec<Slot>) = (Vec::new(), Vec::new());
    for bus in &robot.buses {
        let joints = connecting.joints(&bus.name, calibration.unwrap_or(&nominal))?;
        let Some(first) = joints.first() else { continue };
        let bus_options = connecting.port(&bus.name, first.table.protocol, bus.baud_rate.unwrap_or(1_000_000))?;
        let failed = |source| ConnectError::Bus { robot: robot.name.clone(), part: format!("bus {}", bus.name), source };
        let opened = SerialBus::open(bus_options, Arc::clone(clock)).map_err(failed)?;
        let table = |source| ConnectError::Table { robot: robot.name.clone(), source };
        let line = Line::new(&bus.name, opened, joints, slots.len()).map_err(table)?;
        slots.extend(connecting.slots(&line));
        lines.push(line);
    }
    if lines.is_empty() {
        return connecting.unsupported("expected motors on serial buses, found none".into());
    }
    let buses = lines.iter().map(|line| Arc::clone(&line.health)).collect();
    let health = ArmHealth { motors: slots.into(), buses, clock: Arc::clone(clock) };
    Ok(Connected { lines, health, report: connecting.report })
}

/// Where a bus's motor `i` hangs. Wheels come last among the joints, and in the description, too.
fn place<'a>(bus: &'a str, joints: &'a [Joint], i: usize) -> Place<'a> {
    let joint = &joints[i];
    let before = joints.iter().filter(|other| other.part < joint.part).max_by_key(|other| other.part);
    Place { part: &joint.name, bus, motor: joint.motor, after: before.map(|before| before.name.as_str()) }
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
        check_motors(self.robot).or_else(|error| self.unsupported(error.what))?;
        for part in &self.robot.parts {
            if !matches!(part.command, None | Some(CommandMode::Position)) {
                return self.unsupported(format!("expected parts that are commanded by position, found {}", part.name));
            }
            let Some(motor) = &part.motor else {
                let is_wheel = part.kind == PartKind::Wheel;
                if part.command.is_some() || is_wheel {
                    return self.unsupported(format!("expected motors of all parts that are driven, found none of {}", part.name));
                }
                continue;
            };
            let Some(table) = ControlTable::of_model(&motor.model) else {
                return self.unsupported(format!("expected motors on serial ports, found {} of {}", motor.model, part.name));
            };
            if part.kind == PartKind::Wheel && !table.modes.contains(&1) {
                return self
                    .unsupported(format!("expected a motor that can be driven by velocity, found {} of {}", motor.model, part.name));
            }
        }
        Ok(())
    }

    /// How the port of bus `name` is opened.
    fn port(&self, name: &str, protocol: Protocol, baud: u32) -> Result<SerialOptions, ConnectError> {
        let Some((_, address)) = self.options.ports.iter().find(|(bus, _)| bus == name) else {
            return self.unsupported(format!("expected a port for its bus {name}, found none"));
        };
        Ok(SerialOptions { latency: self.options.latency, ..SerialOptions::new(address.clone(), protocol, baud) })
    }

    fn slots(&self, line: &Line) -> Vec<Slot> {
        let states = self.robot.state_channels();
        let slot = |(i, joint): (usize, &Joint)| {
            let scale_offset = joint.state.and_then(|channel| states.get(channel)).map_or((1.0, 0.0), |channel| channel.scale_offset);
            Slot::new(place(&line.name, &line.joints, i), scale_offset, self.clock.now())
        };
        line.joints.iter().enumerate().map(slot).collect()
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
            joint.wanted = settings_of(part, table, &self.options.settings).or_else(|what| self.unsupported(what))?;
            let wheel = |base: &Base| base.wheels.iter().position(|wheel| wheel.part == part.name);
            if let Some(wheel) = self.robot.base.as_ref().and_then(wheel) {
                joint.roll(wheel, motor.direction, motor.gear);
            }
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
        // Those that are read by position are asked first.
        joints.sort_by_key(|joint| joint.wheel.is_some());
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
        let options = self.port(name, protocol, baud)?;
        let failed = |source| ConnectError::Bus { robot: self.robot.name.clone(), part: format!("bus {name}"), source };
        let mut bus = SerialBus::open(options.clone(), Arc::clone(self.clock)).map_err(failed)?;
        if let Some(advice) = slow_adapter(bus.name()) {
            tracing::warn!("{}: bus {name}: {advice}", self.robot.name);
            self.report.advice.push(format!("bus {name}: {advice}"));
        }
        let registers: Vec<Register> =
            LOOKED_AT.iter().copied().chain(joints.iter().flat_map(|joint| joint.wanted.iter().map(|(r, _)| *r))).collect();
        let mut memory = Memory::new(&joints, &registers);
        let read = memory.read(&mut bus, &joints, self.clock.as_ref());
        match read {
            Ok(()) if memory.heard() > 0 => {}
            Ok(()) | Err(BusError::Garbage { .. }) => return Err(self.nobody(name, bus, &options, &joints)),
            Err(source) => return Err(failed(source)),
        }
        let mut wiring = Wiring { name, bus, joints, memory };
        self.meet(&mut wiring, &options)?;
        self.firmware(&wiring)?;
        let differences = self.compare(&wiring, calibration)?;
        // Not before it is known to be the leader: with two ports exchanged this is an arm that holds something.
        if self.robot.role == Role::Teleoperator {
            self.relax(&mut wiring)?;
        }
        self.set(&mut wiring, differences)?;
        let Wiring { mut bus, mut joints, memory, .. } = wiring;
        for (i, joint) in joints.iter_mut().enumerate() {
            joint.says_torque = memory.get(i, joint.table, Register::TorqueEnable).is_some_and(|torque| torque != 0);
        }
        let delay = (0..joints.len()).filter_map(|i| memory.get(i, joints[i].table, Register::ReturnDelayTime)).max().unwrap_or(0);
        bus.set_return_delay(Duration::from_micros(2 * u64::from(delay.unsigned_abs())));
        Line::new(name, bus, joints, first_slot).map_err(|source| ConnectError::Table { robot: self.robot.name.clone(), source })
    }

    /// Nobody answers: whether it is the speed, or what else it may be.
    fn nobody(&self, name: &str, bus: SerialBus, options: &SerialOptions, joints: &[Joint]) -> ConnectError {
        let port = bus.name().to_owned();
        // The port is to be opened at other speeds.
        drop(bus);
        let (robot, bus, baud) = (self.robot.name.clone(), name.to_owned(), options.baud);
        let found = diagnose::speeds(options, joints, self.clock);
        if found.is_empty() {
            let hint = diagnose::nobody(&options.address);
            return ConnectError::Nobody { robot, bus, port, baud, hint };
        }
        let found: Vec<String> = found.into_iter().map(|(baud, names)| format!("{} at {baud}", names.join(", "))).collect();
        ConnectError::Speed { robot, bus, port, baud, found: found.join("; ") }
    }

    /// Everybody is there, once, and of the model that is described.
    fn meet(&self, wiring: &mut Wiring<'_>, options: &SerialOptions) -> Result<(), ConnectError> {
        let robot = || self.robot.name.clone();
        let mut silent = wiring.silent();
        for _ in 1..TRIES {
            let mut answers = false;
            for i in &silent {
                let pinged = diagnose::ping(&mut wiring.bus, &wiring.joints[*i], self.clock.as_ref());
                if pinged.collides() {
                    let (garbled, asked) = (pinged.garbled, pinged.asked);
                    return Err(ConnectError::TwoOfOneId { robot: robot(), part: wiring.place(*i), garbled, asked });
                }
                answers |= pinged.answered > 0;
            }
            // Whoever is there can be read, on a bus that is slow just now or loses much.
            if !answers {
                break;
            }
            let failed = |source| ConnectError::Bus { robot: robot(), part: format!("bus {}", wiring.name), source };
            wiring.memory.read(&mut wiring.bus, &wiring.joints, self.clock.as_ref()).map_err(failed)?;
            silent = wiring.silent();
        }
        if let Some(first) = silent.first() {
            let missing: Vec<Joint> = silent.iter().map(|i| wiring.joints[*i].clone()).collect();
            let names: Vec<String> = silent.iter().map(|i| wiring.place(*i)).collect();
            let others: Vec<&str> =
                (0..wiring.joints.len()).filter(|i| !silent.contains(i)).map(|i| wiring.joints[i].name.as_str()).collect();
            let answered = format!("{} answered", others.join(", "));
            wiring.bus.close();
            let elsewhere = diagnose::speeds(options, &missing, self.clock);
            let is_tail = silent.iter().copied().eq(*first..wiring.joints.len());
            let hint = if let Some((baud, found)) = elsewhere.first() {
                format!("; {} at {baud} bits a second, expected {}", found.join(", "), options.baud)
            } else if let (true, Some(before)) = (is_tail, place(wiring.name, &wiring.joints, *first).after) {
                format!("; check the cable after {before}")
            } else {
                "; check its cable and its id".to_owned()
            };
            return Err(ConnectError::Silent { robot: robot(), silent: names.join(", "), answered, hint });
        }
        for (i, joint) in wiring.joints.iter().enumerate() {
            let found = wiring.memory.get(i, joint.table, Register::ModelNumber).unwrap_or(0);
            if found != i32::from(joint.table.number) {
                let known = u16::try_from(found).ok().and_then(|number| ControlTable::of_number(joint.table.protocol, number));
                let found = known.map_or(format!("model number {found}"), |known| format!("a {} ({found})", known.model));
                let (part, expected, number) = (wiring.place(i), joint.table.model, joint.table.number);
                return Err(ConnectError::Model { robot: robot(), part, expected, number, found });
            }
        }
        Ok(())
    }

    fn firmware(&mut self, wiring: &Wiring<'_>) -> Result<(), ConnectError> {
        let mut found: Vec<(&'static str, String, String)> = Vec::new();
        for (i, joint) in wiring.joints.iter().enumerate() {
            let number = |register| wiring.memory.get(i, joint.table, register).unwrap_or(0);
            let version = if joint.table.has(Register::FirmwareVersion) {
                number(Register::FirmwareVersion).to_string()
            } else {
                format!("{}.{}", number(Register::FirmwareMajorVersion), number(Register::FirmwareMinorVersion))
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
    fn relax(&mut self, wiring: &mut Wiring<'_>) -> Result<(), ConnectError> {
        let before = self.report.changes.len();
        for i in 0..wiring.joints.len() {
            if let Some(found) = wiring.memory.get(i, wiring.joints[i].table, Register::TorqueEnable).filter(|found| *found != 0) {
                self.change(wiring, i, Register::TorqueEnable, found, 0)?;
            }
        }
        if self.report.changes.len() > before { wiring.remember(self) } else { Ok(()) }
    }

    /// What the motors hold otherwise than the file: motor, register, and what it is to be.
    fn compare(&self, wiring: &Wiring<'_>, calibration: &Calibration) -> Result<Vec<(usize, Register, i32)>, ConnectError> {
        let (mut differences, mut said) = (Vec::new(), Vec::new());
        for (i, joint) in wiring.joints.iter().enumerate() {
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
            // What the description says of a register is not the calibration's.
            let is_own = |register: Register| !joint.wanted.iter().any(|(other, _)| *other == register);
            for (register, value) in wanted.into_iter().filter(|(register, _)| joint.table.has(*register) && is_own(*register)) {
                let found = wiring.memory.get(i, joint.table, register).unwrap_or(0);
                // Beside the direction the register holds bits that a calibration says nothing of.
                let value = if register == Register::DriveMode { found & !1 | value & 1 } else { value };
                if found != value {
                    differences.push((i, register, value));
                    said.push(format!("{} has {} = {found}, the file {value}", joint.name, register.name()));
                }
            }
        }
        if !said.is_empty() && !self.options.writes_calibration {
            return Err(ConnectError::Uncalibrated { robot: self.robot.name.clone(), differences: said.join("; ") });
        }
        Ok(differences)
    }

    /// Writes what is to be otherwise: first what outlives the power, as some of that changes the rest.
    fn set(&mut self, wiring: &mut Wiring<'_>, mut wanted: Vec<(usize, Register, i32)>) -> Result<(), ConnectError> {
        for (i, joint) in wiring.joints.iter().enumerate() {
            wanted.extend(joint.wanted.iter().map(|(register, value)| (i, *register, *value)));
            if let Some(found) = wiring.memory.get(i, joint.table, Register::Phase).filter(|_| is_free(joint, Register::Phase)) {
                wanted.push((i, Register::Phase, found & !COUNTS_TURNS));
            }
        }
        for is_persistent in [true, false] {
            let before = self.report.changes.len();
            for (i, register, value) in &wanted {
                let table = wiring.joints[*i].table;
                let Ok(field) = table.field(*register, wiring.joints[*i].motor) else { continue };
                let Some(found) = wiring.memory.get(*i, table, *register) else { continue };
                if table.is_persistent(field.address) == is_persistent && found != *value {
                    self.change(wiring, *i, *register, found, *value)?;
                }
            }
            if self.report.changes.len() > before {
                wiring.remember(self)?;
            }
        }
        Ok(())
    }

    /// Writes a register that holds something else, and reads whether it holds it then.
    fn change(&mut self, wiring: &mut Wiring<'_>, i: usize, register: Register, found: i32, wanted: i32) -> Result<(), ConnectError> {
        let robot = || self.robot.name.clone();
        let (joint, place) = (wiring.joints[i].clone(), wiring.place(i));
        let (joint, bus) = (&joint, &mut wiring.bus);
        let field = joint.table.field(register, joint.motor).map_err(|source| ConnectError::Table { robot: robot(), source })?;
        let is_persistent = joint.table.is_persistent(field.address);
        if is_persistent && self.read(bus, joint, Register::TorqueEnable)? != 0 {
            if !self.options.may_go_limp {
                return Err(ConnectError::HasTorque { robot: robot(), part: place, register: register.name(), wanted, found });
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
            return Err(ConnectError::NotKept { robot: robot(), part: place, register: register.name(), wanted, found: now });
        }
        tracing::info!("{}: {} of {place} was {found} and is now {wanted}", self.robot.name, register.name());
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
        again(|| {
            bus.read(block, &mut replies, self.clock.now() + PATIENCE)?;
            Ok(replies[0].answer?)
        })
        .map_err(|source| self.failed(joint, source))
        .and_then(|answer| joint.table.decode(register, joint.motor, field.address, answer.bytes.as_slice()).map_err(table))
    }

    fn write(&self, bus: &mut SerialBus, joint: &Joint, register: Register, value: i32) -> Result<(), ConnectError> {
        let table = |source| ConnectError::Table { robot: self.robot.name.clone(), source };
        let field = joint.table.field(register, joint.motor).map_err(table)?;
        let (bytes, len) = joint.table.encode(register, joint.motor, value).map_err(table)?;
        let Some(bytes) = Bytes::of(&bytes[..usize::from(len)]) else { return Ok(()) };
        let frame = Frame { motor: joint.motor, bytes };
        again(|| bus.write_one(field.address, &frame, self.clock.now() + PATIENCE).map(|_| ())).map_err(|source| self.failed(joint, source))
    }
}

/// Does it again where one motor did not answer; each try has several attempts of its own, and the bus may be slow.
fn again<T>(mut what: impl FnMut() -> Result<T, BusError>) -> Result<T, BusError> {
    for _ in 1..TRIES {
        match what() {
            Err(BusError::Motor(error)) if !matches!(error.fault, MotorFault::Refused { .. }) => {}
            Err(BusError::Garbage { .. }) => {}
            result => return result,
        }
    }
    what()
}

/// Whether nobody said what a register is to hold.
fn is_free(joint: &Joint, register: Register) -> bool {
    !joint.wanted.iter().any(|(other, _)| *other == register)
}

/// A bus while it is connected.
struct Wiring<'a> {
    name: &'a str,
    bus: SerialBus,
    joints: Vec<Joint>,
    memory: Memory,
}

impl Wiring<'_> {
    /// Who has not said all that it was asked.
    fn silent(&self) -> Vec<usize> {
        (0..self.joints.len()).filter(|i| self.memory.errors[*i].is_some()).collect()
    }

    fn place(&self, i: usize) -> String {
        place(self.name, &self.joints, i).to_string()
    }

    /// Reads anew what the motors hold, after it was changed.
    fn remember(&mut self, connecting: &Connecting<'_>) -> Result<(), ConnectError> {
        let Self { name, bus, joints, memory } = self;
        let failed = |part: String, source| ConnectError::Bus { robot: connecting.robot.name.clone(), part, source };
        memory.read(bus, joints, connecting.clock.as_ref()).map_err(|source| failed(format!("bus {name}"), source))?;
        match memory.errors.iter().enumerate().find_map(|(i, error)| Some((i, (*error)?))) {
            Some((i, error)) => Err(failed(place(name, joints, i).to_string(), error.into())),
            None => Ok(()),
        }
    }
}
