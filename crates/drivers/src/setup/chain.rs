//! A robot's motors on their buses, one register at a time.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{CalibrationKind, Clock, PartKind, RobotDescription, Timestamp};

use super::{Model, SetupError};
use crate::{
    Block, Bus, BusError, Bytes, ControlTable, Frame, MotorId, Operation, PortAddress, Register, Reply, SerialBus, SerialCounts,
    SerialOptions, TableError,
};

/// How long a question may take, with all its attempts, when somebody waits for the answer.
const PATIENCE: Duration = Duration::from_millis(150);

/// A motor and its place.
#[derive(Clone, Debug)]
pub struct ChainMotor {
    /// Of the part that it moves.
    pub name: String,
    /// The place of that part in the description.
    pub part: usize,
    pub bus: usize,
    pub motor: MotorId,
    pub table: &'static ControlTable,
    pub calibration: CalibrationKind,
}

/// All motors of a robot.
pub struct Chain {
    pub robot: Arc<RobotDescription>,
    pub motors: Vec<ChainMotor>,
    buses: Vec<(String, SerialBus)>,
    clock: Arc<dyn Clock>,
    replies: Vec<Reply>,
    /// How long a question may take, with all its attempts.
    patience: Duration,
}

impl Chain {
    /// Opens the ports (by bus) of a robot whose motors hang on serial buses. Sends nothing.
    ///
    /// # Errors
    /// When a port can't be had, or a motor model is not known.
    pub fn open(
        robot: Arc<RobotDescription>,
        ports: &[(String, PortAddress)],
        latency: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupError> {
        let unsupported = |what: String| SetupError::Unsupported { robot: robot.name.clone(), what };
        let (mut motors, mut buses): (Vec<ChainMotor>, Vec<(String, SerialBus)>) = (Vec::new(), Vec::new());
        for bus in &robot.buses {
            let first = motors.len();
            for (part, described) in robot.parts.iter().enumerate() {
                let Some(motor) = described.motor.as_ref().filter(|motor| motor.bus == bus.name) else { continue };
                let table = ControlTable::of_model(&motor.model).ok_or_else(|| {
                    unsupported(format!("expected motors on serial buses, found {} is a {}", described.name, motor.model))
                })?;
                let calibration = if described.kind == PartKind::Wheel { CalibrationKind::Fixed } else { motor.calibration };
                let motor = MotorId(motor.id);
                motors.push(ChainMotor { name: described.name.clone(), part, bus: buses.len(), motor, table, calibration });
            }
            let Some(of_bus) = motors.get(first) else { continue };
            let (protocol, position) = (of_bus.table.protocol, of_bus.table.field(Register::PresentPosition, of_bus.motor));
            let differs = |motor: &&ChainMotor| {
                motor.table.protocol != protocol || motor.table.field(Register::PresentPosition, motor.motor).ok() != position.ok()
            };
            if let Some(other) = motors[first..].iter().find(differs) {
                return Err(unsupported(format!(
                    "bus {}: expected motors that are read alike, found {} and {}",
                    bus.name, of_bus.name, other.name
                )));
            }
            let Some((_, address)) = ports.iter().find(|(name, _)| *name == bus.name) else {
                return Err(unsupported(format!("expected a port for its bus {}, found none", bus.name)));
            };
            let options = SerialOptions { latency, ..SerialOptions::new(address.clone(), protocol, bus.baud_rate.unwrap_or(1_000_000)) };
            let failed = |source| SetupError::Bus { robot: robot.name.clone(), part: format!("bus {}", bus.name), source };
            buses.push((bus.name.clone(), SerialBus::open(options, Arc::clone(&clock)).map_err(failed)?));
        }
        if motors.is_empty() {
            return Err(unsupported("it has no motors".into()));
        }
        Ok(Self { robot, motors, buses, clock, replies: Vec::new(), patience: PATIENCE })
    }

    /// The same with so much time for each question.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks every motor for its model.
    ///
    /// # Errors
    /// When some don't answer, all of them named, or one is another model.
    pub fn meet(&mut self) -> Result<(), SetupError> {
        let (mut missing, mut answered) = (Vec::new(), Vec::new());
        for i in 0..self.motors.len() {
            let said = format!("{} ({})", self.motors[i].name, self.motors[i].motor);
            match self.model(i) {
                Ok(()) => answered.push(said),
                Err(SetupError::Bus { source: BusError::Motor(_) | BusError::Garbage { .. }, .. }) => missing.push(said),
                Err(error) => return Err(error),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let answered = if answered.is_empty() { "no motor answered".to_owned() } else { format!("{} answered", answered.join(", ")) };
        Err(SetupError::Missing { robot: self.robot.name.clone(), missing: missing.join(", "), answered })
    }

    /// # Errors
    /// When the motor doesn't answer, or is another model.
    pub fn model(&mut self, i: usize) -> Result<(), SetupError> {
        let found = self.read(i, Register::ModelNumber)?;
        let ChainMotor { name, motor, table, .. } = &self.motors[i];
        if found == i32::from(table.number) {
            return Ok(());
        }
        let known = u16::try_from(found).ok().and_then(|number| ControlTable::of_number(table.protocol, number));
        let found = Model { name: known.map(|table| table.model), number: found };
        Err(SetupError::Model { robot: self.robot.name.clone(), part: name.clone(), motor: *motor, expected: table.model, found })
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The buses with motors on them: name, port and what happened there.
    pub fn buses(&self) -> impl Iterator<Item = (&str, &str, SerialCounts)> {
        self.buses.iter().map(|(name, bus)| (name.as_str(), bus.name(), bus.counts()))
    }

    /// Opens the ports again that were lost.
    ///
    /// # Errors
    /// When one can't be had.
    pub fn reopen(&mut self) -> Result<(), SetupError> {
        for (name, bus) in self.buses.iter_mut().filter(|(_, bus)| !bus.is_open()) {
            let failed = |source| SetupError::Bus { robot: self.robot.name.clone(), part: format!("bus {name}"), source };
            bus.reopen().map_err(failed)?;
        }
        Ok(())
    }

    fn failed(&self, i: usize, source: BusError) -> SetupError {
        SetupError::Bus { robot: self.robot.name.clone(), part: self.motors[i].name.clone(), source }
    }

    /// # Errors
    /// When the motor doesn't answer, or has no such register.
    pub fn read(&mut self, i: usize, register: Register) -> Result<i32, SetupError> {
        let ChainMotor { motor, table, .. } = self.motors[i];
        let field = table.field(register, motor).map_err(|source| self.no_register(source))?;
        let block = Block { address: field.address, len: field.len };
        let bytes = self.ask(i, block)?;
        table.decode(register, motor, block.address, bytes.as_slice()).map_err(|source| self.no_register(source))
    }

    /// Registers that lie close together, with one question; `None` for those that the model does not have.
    ///
    /// # Errors
    /// When the motor doesn't answer.
    pub fn read_near(&mut self, i: usize, registers: &[Register]) -> Result<Vec<Option<i32>>, SetupError> {
        let ChainMotor { motor, table, .. } = self.motors[i];
        let fields = || registers.iter().filter_map(|register| table.field(*register, motor).ok());
        let Some(address) = fields().map(|field| field.address).min() else { return Ok(vec![None; registers.len()]) };
        let end = fields().map(|field| field.address + u16::from(field.len)).max().unwrap_or(address);
        let block = Block { address, len: u8::try_from(end - address).unwrap_or(u8::MAX) };
        let bytes = self.ask(i, block)?;
        let value = |register: &Register| {
            let is_had = table.has(*register);
            is_had.then(|| table.decode(*register, motor, address, bytes.as_slice()).map_err(|source| self.no_register(source))).transpose()
        };
        registers.iter().map(value).collect()
    }

    fn no_register(&self, source: TableError) -> SetupError {
        SetupError::Table { robot: self.robot.name.clone(), source }
    }

    fn ask(&mut self, i: usize, block: Block) -> Result<Bytes, SetupError> {
        let ChainMotor { motor, bus, .. } = self.motors[i];
        let mut replies = [Reply::of(motor, Operation::Read(block))];
        let deadline = self.clock.now() + self.patience;
        self.buses[bus].1.read(block, &mut replies, deadline).map_err(|source| self.failed(i, source))?;
        let answer = replies[0].answer.map_err(|error| self.failed(i, error.into()))?;
        Ok(answer.bytes)
    }

    /// # Errors
    /// When the motor doesn't acknowledge, or has no such register.
    fn write(&mut self, i: usize, register: Register, value: i32) -> Result<(), SetupError> {
        let ChainMotor { motor, table, bus, .. } = self.motors[i];
        let failed = |source| SetupError::Table { robot: self.robot.name.clone(), source };
        let field = table.field(register, motor).map_err(failed)?;
        let (bytes, len) = table.encode(register, motor, value).map_err(failed)?;
        let Some(bytes) = Bytes::of(&bytes[..usize::from(len)]) else { return Ok(()) };
        let deadline = self.clock.now() + self.patience;
        self.buses[bus].1.write_one(field.address, &Frame { motor, bytes }, deadline).map_err(|source| self.failed(i, source))?;
        Ok(())
    }

    /// Makes a register of a motor without torque hold `wanted`, and reads whether it does; `false` where it did already.
    ///
    /// # Errors
    /// When the motor doesn't answer or doesn't keep it.
    pub fn set(&mut self, i: usize, register: Register, wanted: i32) -> Result<bool, SetupError> {
        if self.read(i, register)? == wanted {
            return Ok(false);
        }
        let table = self.motors[i].table;
        let is_persistent = table.field(register, self.motors[i].motor).is_ok_and(|field| table.is_persistent(field.address));
        let has_lock = is_persistent && table.has(Register::Lock);
        if has_lock {
            self.write(i, Register::Lock, 0)?;
        }
        self.write(i, register, wanted)?;
        if has_lock {
            self.write(i, Register::Lock, 1)?;
        }
        let found = self.read(i, register)?;
        if found == wanted {
            return Ok(true);
        }
        let (robot, part) = (self.robot.name.clone(), self.motors[i].name.clone());
        Err(SetupError::NotKept { robot, part, register: register.name(), wanted, found })
    }

    /// Switches the torque of all motors off, and asks each whether it is.
    ///
    /// # Errors
    /// When one isn't known to be without torque.
    pub fn relax(&mut self) -> Result<(), SetupError> {
        for bus in 0..self.buses.len() {
            let motors: Vec<MotorId> = self.motors.iter().filter(|motor| motor.bus == bus).map(|motor| motor.motor).collect();
            let deadline = self.clock.now() + self.patience * 2;
            let (name, bus) = &mut self.buses[bus];
            bus.torque_off(&motors, deadline).map_err(|source| SetupError::Bus {
                robot: self.robot.name.clone(),
                part: format!("bus {name}"),
                source,
            })?;
        }
        for i in 0..self.motors.len() {
            if self.read(i, Register::TorqueEnable)? != 0 {
                return Err(SetupError::HasTorque { robot: self.robot.name.clone(), part: self.motors[i].name.clone() });
            }
        }
        Ok(())
    }

    /// Present positions in ticks, of all motors at once; `None` for those that don't answer within `patience`.
    ///
    /// # Errors
    /// When a port is lost.
    pub fn positions(&mut self, patience: Duration) -> Result<Vec<Option<i32>>, SetupError> {
        let mut positions = vec![None; self.motors.len()];
        for at in 0..self.buses.len() {
            let of_bus = |motor: &&ChainMotor| motor.bus == at;
            let Some(first) = self.motors.iter().find(of_bus) else { continue };
            let (table, motor) = (first.table, first.motor);
            let field = table
                .field(Register::PresentPosition, motor)
                .map_err(|source| SetupError::Table { robot: self.robot.name.clone(), source })?;
            let block = Block { address: field.address, len: field.len };
            self.replies.clear();
            self.replies.extend(self.motors.iter().filter(of_bus).map(|motor| Reply::of(motor.motor, Operation::Read(block))));
            let deadline = self.clock.now() + patience;
            let (name, bus) = &mut self.buses[at];
            match bus.read(block, &mut self.replies, deadline) {
                Ok(()) => {}
                Err(source @ (BusError::Lost { .. } | BusError::Open { .. })) => {
                    return Err(SetupError::Bus { robot: self.robot.name.clone(), part: format!("bus {name}"), source });
                }
                // Nobody answered this time.
                Err(_) => continue,
            }
            for (reply, (i, motor)) in self.replies.iter().zip(self.motors.iter().enumerate().filter(|(_, motor)| motor.bus == at)) {
                let Ok(answer) = reply.answer else { continue };
                positions[i] = motor.table.decode(Register::PresentPosition, motor.motor, field.address, answer.bytes.as_slice()).ok();
            }
        }
        Ok(positions)
    }
}
