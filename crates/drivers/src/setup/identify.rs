//! Ids and speeds of new motors, one at a time.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, PartKind, RobotDescription};

use super::{Model, SetupError};
use crate::{
    Block, Bus, BusError, Bytes, ControlTable, Frame, MotorFault, MotorId, Operation, PortAddress, Register, Reply, SerialBus,
    SerialOptions,
};

/// How long a single question may take, with its attempts.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a motor that is asked for an id may take to say it has it.
const GLANCE: Duration = Duration::from_millis(40);
/// How often a motor is read that is believed to be alone: two with the same id garble each other's answers.
const SECOND_LOOKS: usize = 8;

/// A motor that is to get its id.
#[derive(Clone, Debug)]
pub struct MotorToSet {
    pub part: String,
    pub bus: String,
    pub id: u16,
    pub table: &'static ControlTable,
    /// Bits a second.
    pub baud: u32,
}

impl MotorToSet {
    /// All of a robot, in LeRobot's order: of each bus the last joint first, wheels after the joints.
    ///
    /// # Errors
    /// When a motor is not one of a serial bus.
    pub fn all(robot: &RobotDescription) -> Result<Vec<Self>, SetupError> {
        let mut motors = Vec::new();
        for bus in &robot.buses {
            for is_wheel in [false, true] {
                for part in robot.parts.iter().rev().filter(|part| (part.kind == PartKind::Wheel) == is_wheel) {
                    let Some(motor) = part.motor.as_ref().filter(|motor| motor.bus == bus.name) else { continue };
                    let unsupported = |what: String| SetupError::Unsupported { robot: robot.name.clone(), what };
                    let baud = bus.baud_rate.unwrap_or(1_000_000);
                    let table = ControlTable::of_model(&motor.model).filter(|table| table.baud_code(baud).is_some()).ok_or_else(|| {
                        unsupported(format!("{}: a {} gets no id over a serial bus at {baud} bits a second", part.name, motor.model))
                    })?;
                    motors.push(Self { part: part.name.clone(), bus: bus.name.clone(), id: motor.id, table, baud });
                }
            }
        }
        Ok(motors)
    }
}

/// What became of a motor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identified {
    /// It had its id and speed already; nothing was written.
    Already,
    /// What it had before.
    Set { id: u16, baud: u32 },
}

/// Sets the ids of motors on a port.
pub struct Identifier {
    address: PortAddress,
    latency: Duration,
    clock: Arc<dyn Clock>,
    given: Vec<MotorToSet>,
}

impl Identifier {
    pub fn new(address: PortAddress, latency: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { address, latency, clock, given: Vec::new() }
    }

    /// The same when these have their ids already: whichever of them is still connected is not taken for the next one.
    #[must_use]
    pub fn after(self, given: &[MotorToSet]) -> Self {
        Self { given: given.to_vec(), ..self }
    }

    fn bus(&self, motor: &MotorToSet, baud: u32) -> Result<SerialBus, SetupError> {
        let options = SerialOptions { latency: self.latency, ..SerialOptions::new(self.address.clone(), motor.table.protocol, baud) };
        SerialBus::open(options, Arc::clone(&self.clock)).map_err(|source| failed(motor, source))
    }

    /// Which motors answer, at the first speed where any does, from the one that the motor is to have on: speed and ids.
    /// Writes nothing. `seen` is told each speed.
    ///
    /// # Errors
    /// When the port can't be had.
    pub fn find(&self, motor: &MotorToSet, seen: &mut dyn FnMut(u32)) -> Result<Option<(u32, Vec<u16>)>, SetupError> {
        let others = motor.table.bauds.iter().map(|(baud, _)| *baud).filter(|baud| *baud != motor.baud);
        for baud in std::iter::once(motor.baud).chain(others) {
            seen(baud);
            let options = SerialOptions {
                latency: self.latency,
                attempts: 1,
                ..SerialOptions::new(self.address.clone(), motor.table.protocol, baud)
            };
            let mut bus = SerialBus::open(options, Arc::clone(&self.clock)).map_err(|source| failed(motor, source))?;
            let mut found = Vec::new();
            // All once, and again where any answers, as one that is overheard would be mistaken for none; where none does,
            // those again that a motor most likely has.
            let likely = [1, motor.id, 1, motor.id];
            let (all, count) = (ids(motor.table), usize::from(*ids(motor.table).end()) + 1);
            for (turn, id) in all.clone().chain(likely).chain(all).enumerate() {
                if found.contains(&id) || turn >= count && turn < count + likely.len() && !found.is_empty() {
                    continue;
                }
                if turn >= count + likely.len() && found.is_empty() {
                    break;
                }
                let deadline = self.clock.now() + GLANCE + self.latency;
                let noise = |bus: &SerialBus| bus.counts().garbage_bytes + bus.counts().foreign_packets;
                let before = noise(&bus);
                match bus.ping(MotorId(id), deadline) {
                    Ok(_) => found.push(id),
                    // Several that answer at once say nothing that makes sense: it is looked at again.
                    Err(BusError::Motor(error)) if !matches!(error.fault, MotorFault::NoAnswer) || noise(&bus) > before => found.push(id),
                    Err(BusError::Motor(_)) => {}
                    Err(BusError::Garbage { .. }) => found.push(id),
                    Err(source) => return Err(failed(motor, source)),
                }
            }
            if !found.is_empty() {
                found.sort_unstable();
                return Ok(Some((baud, found)));
            }
        }
        Ok(None)
    }

    /// Finds the one motor that is connected, whatever id and speed it has, and gives it those of `motor`; both are read
    /// back.
    ///
    /// # Errors
    /// When none answers, several do, it is one of those that were set before, of another model, or doesn't keep what it
    /// is given. Nothing is written but in the last case.
    pub fn set(&self, motor: &MotorToSet, seen: &mut dyn FnMut(u32)) -> Result<Identified, SetupError> {
        let part = motor.part.clone();
        let bauds = || motor.table.bauds.iter().map(|(baud, _)| *baud);
        let (least, most) = (bauds().min().unwrap_or(0), bauds().max().unwrap_or(0));
        let Some((baud, ids)) = self.find(motor, seen)? else { return Err(SetupError::NoMotor { part, least, most }) };
        let [id] = ids.as_slice() else {
            let found: Vec<String> = ids.iter().map(|id| format!("id {id}")).collect();
            return Err(SetupError::Several { part, found: format!("{} at {baud} bits a second", found.join(", ")) });
        };
        let now = MotorId(*id);
        if let Some(other) = self.given.iter().find(|other| other.id == *id && other.baud == baud && other.id != motor.id) {
            return Err(SetupError::Given { part, id: *id, other: other.part.clone() });
        }
        let mut bus = self.bus(motor, baud)?;
        self.look(&mut bus, motor, now, baud)?;
        if *id == motor.id && baud == motor.baud {
            return Ok(Identified::Already);
        }
        let has_lock = motor.table.has(Register::Lock);
        let new = MotorId(motor.id);
        self.write(&mut bus, motor, now, Register::TorqueEnable, 0)?;
        if has_lock {
            self.write(&mut bus, motor, now, Register::Lock, 0)?;
        }
        if new != now {
            // Its acknowledgement may come from either id.
            if let Err(SetupError::Bus { source, .. }) = self.write(&mut bus, motor, now, Register::Id, motor.id.into())
                && !matches!(source, BusError::Motor(_) | BusError::Garbage { .. })
            {
                return Err(failed(motor, source));
            }
            self.holds(&mut bus, motor, Register::Id, motor.id.into())?;
        }
        if baud != motor.baud {
            let code = motor.table.baud_code(motor.baud).unwrap_or(0);
            // Its acknowledgement may come at either speed.
            if let Err(SetupError::Bus { source, .. }) = self.write(&mut bus, motor, new, Register::BaudRate, code.into())
                && !matches!(source, BusError::Motor(_) | BusError::Garbage { .. })
            {
                return Err(failed(motor, source));
            }
            drop(bus);
            bus = self.bus(motor, motor.baud)?;
        }
        if has_lock {
            self.write(&mut bus, motor, new, Register::Lock, 1)?;
        }
        self.holds(&mut bus, motor, Register::Id, motor.id.into())?;
        self.holds(&mut bus, motor, Register::BaudRate, motor.table.baud_code(motor.baud).unwrap_or(0).into())?;
        Ok(Identified::Set { id: *id, baud })
    }

    /// Whether the motor is of the right model and alone.
    fn look(&self, bus: &mut SerialBus, motor: &MotorToSet, id: MotorId, baud: u32) -> Result<(), SetupError> {
        let several = || SetupError::Several { part: motor.part.clone(), found: format!("several with id {id} at {baud} bits a second") };
        let before = bus.counts();
        let mut number = 0;
        for _ in 0..SECOND_LOOKS {
            number = match self.read(bus, motor, id, Register::ModelNumber) {
                Ok(number) => number,
                Err(SetupError::Bus { source: BusError::Motor(_) | BusError::Garbage { .. }, .. }) => return Err(several()),
                Err(error) => return Err(error),
            };
        }
        let counts = bus.counts();
        // A lost answer is asked for again; garbled ones, one after the other, are not by chance.
        let is_garbled = counts.retries - before.retries > 2 || counts.foreign_packets - before.foreign_packets > 2;
        if is_garbled {
            return Err(several());
        }
        if number == i32::from(motor.table.number) {
            return Ok(());
        }
        let known = u16::try_from(number).ok().and_then(|number| ControlTable::of_number(motor.table.protocol, number));
        let found = Model { name: known.map(|table| table.model), number };
        Err(SetupError::Model { robot: motor.bus.clone(), part: motor.part.clone(), motor: id, expected: motor.table.model, found })
    }

    fn holds(&self, bus: &mut SerialBus, motor: &MotorToSet, register: Register, wanted: i32) -> Result<(), SetupError> {
        let found = self.read(bus, motor, MotorId(motor.id), register)?;
        if found == wanted {
            return Ok(());
        }
        let (robot, part) = (motor.bus.clone(), motor.part.clone());
        Err(SetupError::NotKept { robot, part, register: register.name(), wanted, found })
    }

    fn read(&self, bus: &mut SerialBus, motor: &MotorToSet, id: MotorId, register: Register) -> Result<i32, SetupError> {
        let table = |source| SetupError::Table { robot: motor.bus.clone(), source };
        let field = motor.table.field(register, id).map_err(table)?;
        let block = Block { address: field.address, len: field.len };
        let mut replies = [Reply::of(id, Operation::Read(block))];
        bus.read(block, &mut replies, self.clock.now() + PATIENCE).map_err(|source| failed(motor, source))?;
        let answer = replies[0].answer.map_err(|error| failed(motor, error.into()))?;
        motor.table.decode(register, id, field.address, answer.bytes.as_slice()).map_err(table)
    }

    fn write(&self, bus: &mut SerialBus, motor: &MotorToSet, id: MotorId, register: Register, value: i32) -> Result<(), SetupError> {
        let table = |source| SetupError::Table { robot: motor.bus.clone(), source };
        let field = motor.table.field(register, id).map_err(table)?;
        let (bytes, len) = motor.table.encode(register, id, value).map_err(table)?;
        let Some(bytes) = Bytes::of(&bytes[..usize::from(len)]) else { return Ok(()) };
        let frame = Frame { motor: id, bytes };
        bus.write_one(field.address, &frame, self.clock.now() + PATIENCE).map_err(|source| failed(motor, source))?;
        Ok(())
    }
}

fn failed(motor: &MotorToSet, source: BusError) -> SetupError {
    SetupError::Bus { robot: format!("bus {}", motor.bus), part: motor.part.clone(), source }
}

/// What a motor of that protocol may be called.
fn ids(table: &ControlTable) -> RangeInclusive<u16> {
    match table.protocol {
        crate::wire::Protocol::Dynamixel2 => 0..=252,
        _ => 0..=253,
    }
}
