//! One motor: its registers, what they make it do, and what it answers.

mod body;
mod facts;
mod reading;

use std::time::{Duration, Instant};

use sinew_drivers::wire::Protocol;
use sinew_drivers::{Block, ControlTable, Field, MotorId, Register, TableError};

use body::{Body, Drive};
use facts::Facts;

/// Bytes of registers.
const SIZE: usize = 256;

/// What the watchdog's register holds after it has stopped the motor.
const WATCHDOG_BARKED: i32 = 255;

/// Dynamixel's reasons to refuse.
mod refusal {
    pub const RANGE: u8 = 4;
    pub const LENGTH: u8 = 5;
    pub const LIMIT: u8 = 6;
    pub const ACCESS: u8 = 7;
}

/// A joint as it is before anything is switched on.
#[derive(Clone, Debug, PartialEq)]
pub struct Joint {
    /// As the robot's description calls it.
    pub name: String,
    pub id: u8,
    pub table: &'static ControlTable,
    /// Where the shaft stands, in ticks.
    pub position: f64,
    /// Where it can't go on, in ticks.
    pub stops: (f64, f64),
    /// What pulls at it, as a part of the full torque; positive towards larger positions.
    pub load: f64,
}

/// What differs between firmwares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// When the torque is switched on the goal becomes the present position. Robotis' X series does that; of Feetech's
    /// servos it is not known of all, so that an emulated one doesn't unless told.
    pub goal_follows_torque: bool,
    /// In a read of several motors one that says nothing silences those after it, which wait for its answer.
    pub waits_for_predecessor: bool,
}

impl Firmware {
    pub fn of(protocol: Protocol) -> Self {
        let is_dynamixel = protocol == Protocol::Dynamixel2;
        Self { goal_follows_torque: is_dynamixel, waits_for_predecessor: is_dynamixel }
    }
}

/// An emulated motor.
#[derive(Clone, Debug)]
pub struct Motor {
    name: String,
    table: &'static ControlTable,
    facts: Facts,
    firmware: Firmware,
    memory: [u8; SIZE],
    /// What is left of the registers without power.
    kept: [u8; SIZE],
    body: Body,
    /// Volts, as the supply has them.
    supply: f64,
    is_dead: bool,
    prepared: Option<(u16, Vec<u8>)>,
    is_overloaded: bool,
    overload_s: f64,
    last: Instant,
    /// When it last heard an instruction, whoever it was for.
    heard: Instant,
    /// How far measured positions are off now and then, in ticks.
    noise: f64,
    rng: fastrand::Rng,
}

impl Motor {
    /// A motor that was switched on at `now`, with the registers of a new one but the id and, of those that have it
    /// otherwise, a wire of 1,000,000 bits a second.
    ///
    /// # Errors
    /// When the model's registers can't hold that.
    pub fn new(joint: &Joint, firmware: Firmware, now: Instant) -> Result<Self, TableError> {
        let mut motor = Self::from_factory(joint, firmware, now)?;
        let code = joint.table.baud_code(1_000_000).unwrap_or(0);
        for (register, value) in [(Register::Id, joint.id), (Register::BaudRate, code)] {
            motor.put(register, i32::from(value));
        }
        motor.kept = motor.memory;
        Ok(motor)
    }

    /// As it leaves the factory, whatever id the joint has.
    ///
    /// # Errors
    /// When the model's registers can't hold that.
    pub fn from_factory(joint: &Joint, firmware: Firmware, now: Instant) -> Result<Self, TableError> {
        let facts = facts::facts(joint.table);
        let memory = facts::memory::<SIZE>(joint.table)?;
        let body = Body::new(joint.position, joint.load, joint.stops, facts.fastest);
        let mut motor = Self {
            name: joint.name.clone(),
            table: joint.table,
            facts,
            firmware,
            memory,
            kept: memory,
            body,
            supply: facts.volts,
            is_dead: false,
            prepared: None,
            is_overloaded: false,
            overload_s: 0.0,
            last: now,
            heard: now,
            noise: 0.0,
            rng: fastrand::Rng::with_seed(joint.id.into()),
        };
        motor.start();
        Ok(motor)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn table(&self) -> &'static ControlTable {
        self.table
    }

    pub fn id(&self) -> u8 {
        self.value(Register::Id).to_le_bytes()[0]
    }

    /// Bits a second at which it listens, when its register holds a speed that it knows.
    pub fn baud(&self) -> Option<u32> {
        self.table.baud(self.value(Register::BaudRate).to_le_bytes()[0])
    }

    /// Time between an instruction's end and the beginning of the answer.
    pub fn return_delay(&self) -> Duration {
        Duration::from_micros(2 * u64::try_from(self.value(Register::ReturnDelayTime)).unwrap_or(0))
    }

    pub fn is_dead(&self) -> bool {
        self.is_dead
    }

    pub fn firmware(&self) -> Firmware {
        self.firmware
    }

    /// A register's value as it was last written or measured; 0 for one that the model does not have.
    pub fn value(&self, register: Register) -> i32 {
        self.table.decode(register, MotorId(0), 0, &self.memory).unwrap_or(0)
    }

    /// As after a write that nothing refuses.
    pub fn put(&mut self, register: Register, value: i32) {
        let motor = MotorId(0);
        if let (Ok(field), Ok((bytes, len))) = (self.table.field(register, motor), self.table.encode(register, motor, value)) {
            let at = usize::from(field.address);
            self.memory[at..at + usize::from(len)].copy_from_slice(&bytes[..usize::from(len)]);
        }
    }

    /// What persistent registers hold now is what they hold when the power comes back.
    pub fn keep(&mut self) {
        self.kept = self.memory;
    }

    /// As [`put`](Self::put), or the nearest that fits.
    fn put_near(&mut self, register: Register, value: f64) {
        let Ok(field) = self.table.field(register, MotorId(0)) else { return };
        let bits = 8 * i32::from(field.len);
        let most = match field.encoding {
            sinew_drivers::Encoding::SignMagnitude(bit) => 2f64.powi(i32::from(bit)) - 1.0,
            sinew_drivers::Encoding::TwosComplement => 2f64.powi(bits - 1) - 1.0,
            sinew_drivers::Encoding::Unsigned => 2f64.powi(bits.min(31)) - 1.0,
        };
        let least = if field.encoding == sinew_drivers::Encoding::Unsigned { 0.0 } else { -most };
        #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "is within the register's range")]
        self.put(register, value.round().clamp(least, most) as i32);
    }

    /// Where the shaft stands, in ticks over many turns, before offset and direction.
    pub fn position(&self) -> f64 {
        self.body.position
    }

    /// What the motor gives, as a part of the full torque.
    pub fn effort(&self) -> f64 {
        self.body.effort
    }

    /// A hand brings the joint to where the shaft stands at `position`.
    pub fn move_by_hand(&mut self, position: f64) {
        self.body.position = position.clamp(self.body.stops.0, self.body.stops.1);
        self.body.velocity = 0.0;
    }

    /// Where the electronics want the shaft, in ticks; `None` without torque, and in modes that want no place.
    pub fn wanted(&self) -> Option<f64> {
        match self.drive() {
            Drive::Position { goal, .. } => Some(goal),
            Drive::Off | Drive::Velocity { .. } | Drive::Torque(_) => None,
        }
    }

    /// Somebody else moves the joint from now on: its shaft is at `position` ticks and turns by `velocity` ticks a second,
    /// and the motor gives `effort` of its full torque.
    pub fn carry(&mut self, position: f64, velocity: f64, effort: f64) {
        self.body.is_carried = true;
        (self.body.position, self.body.velocity, self.body.effort) = (position, velocity, effort);
    }

    /// Moves the mechanical stops, as when something stands in the way.
    pub fn set_stops(&mut self, stops: (f64, f64)) {
        self.body.stops = stops;
    }

    /// What pulls at the joint, as a part of the full torque.
    pub fn set_load(&mut self, load: f64) {
        self.body.load = load;
    }

    /// How far measured positions are off, one of four times, in ticks; 0 for a motor that is new here.
    pub fn set_noise(&mut self, ticks: f64) {
        self.noise = ticks;
    }

    /// An instruction was on the bus, for whomever.
    pub fn hear(&mut self, at: Instant) {
        self.heard = at;
    }

    /// Degrees Celsius.
    pub fn set_temperature(&mut self, degrees: f64) {
        self.body.temperature = degrees;
    }

    /// Volts at the motor without load.
    pub fn set_supply(&mut self, volts: f64) {
        self.supply = volts;
    }

    /// Says nothing and holds nothing from now on.
    pub fn die(&mut self) {
        self.is_dead = true;
        self.put(Register::TorqueEnable, 0);
    }

    /// Power goes and comes back: what was not kept is as new, the torque is off, and turns are forgotten.
    pub fn restart(&mut self) {
        for (at, (byte, kept)) in self.memory.iter_mut().zip(&self.kept).enumerate() {
            let is_persistent = u16::try_from(at).is_ok_and(|address| self.table.is_persistent(address));
            *byte = if is_persistent { *kept } else { 0 };
        }
        if let Ok(new) = facts::memory::<SIZE>(self.table) {
            for (at, byte) in new.iter().enumerate() {
                if !u16::try_from(at).is_ok_and(|address| self.table.is_persistent(address)) {
                    self.memory[at] = *byte;
                }
            }
        }
        let turn = f64::from(self.table.resolution);
        let turns = (self.body.position / turn).floor() * turn;
        self.body.position -= turns;
        self.body.stops = (self.body.stops.0 - turns, self.body.stops.1 - turns);
        self.body.velocity = 0.0;
        self.is_dead = false;
        self.start();
    }

    /// As a factory reset leaves it, with the id and the speed that it has.
    pub(crate) fn forget_all(&mut self) {
        let (id, baud) = (self.value(Register::Id), self.value(Register::BaudRate));
        if let Ok(new) = facts::memory::<SIZE>(self.table) {
            self.memory = new;
            self.put(Register::Id, id);
            self.put(Register::BaudRate, baud);
            self.kept = self.memory;
            self.restart();
        }
    }

    fn start(&mut self) {
        self.prepared = None;
        self.is_overloaded = false;
        self.overload_s = 0.0;
        let limit = self.value(Register::MaxTorqueLimit);
        self.put(Register::TorqueLimit, limit);
        self.measure();
        let present = self.value(Register::PresentPosition);
        self.put(Register::GoalPosition, present);
    }

    /// Lets time pass until `now`.
    pub fn advance(&mut self, now: Instant) {
        let dt = now.saturating_duration_since(self.last).as_secs_f64();
        if dt <= 0.0 {
            return;
        }
        self.last = now;
        self.watch(now);
        let drive = self.drive();
        let limit = self.torque_limit();
        self.body.advance(dt, drive, limit);
        self.measure();
        self.protect(dt, drive);
    }

    /// Dynamixel's watchdog: too long without an instruction, and the motor stops and takes no goal until it is cleared.
    fn watch(&mut self, now: Instant) {
        let limit = self.value(Register::BusWatchdog);
        let is_armed = (1..=127).contains(&limit) && self.value(Register::TorqueEnable) != 0;
        let silence = now.saturating_duration_since(self.heard);
        if is_armed && silence > Duration::from_millis(20) * limit.unsigned_abs() {
            self.put(Register::BusWatchdog, WATCHDOG_BARKED);
            self.put(Register::GoalVelocity, 0);
            self.put(Register::GoalPosition, self.value(Register::PresentPosition));
        }
    }

    /// The bytes of a block, as they are now.
    ///
    /// # Errors
    /// The reason to refuse it.
    pub fn read(&self, block: Block) -> Result<&[u8], u8> {
        let at = usize::from(block.address);
        self.memory.get(at..at + usize::from(block.len)).ok_or(refusal::ACCESS)
    }

    /// Writes registers.
    ///
    /// # Errors
    /// The reason to refuse it, which only Dynamixel's motors have; then nothing was written.
    pub fn write(&mut self, address: u16, bytes: &[u8]) -> Result<(), u8> {
        let is_dynamixel = self.table.protocol == Protocol::Dynamixel2;
        let end = usize::from(address) + bytes.len();
        if end > SIZE {
            return if is_dynamixel { Err(refusal::ACCESS) } else { Ok(()) };
        }
        if is_dynamixel {
            self.refuse(address, bytes)?;
        }
        for field in self.table.fields.iter().filter(|field| overlaps(field, address, bytes.len()) && !field.register.is_read_only()) {
            let from = usize::from(field.address.max(address));
            let to = (usize::from(field.address) + usize::from(field.len)).min(end);
            self.memory[from..to].copy_from_slice(&bytes[from - usize::from(address)..to - usize::from(address)]);
        }
        let is_kept = is_dynamixel || self.value(Register::Lock) == 0;
        if is_kept {
            for at in address..u16::try_from(end).unwrap_or(u16::MAX) {
                if self.table.is_persistent(at) {
                    self.kept[usize::from(at)] = self.memory[usize::from(at)];
                }
            }
        }
        for field in self.table.fields.iter().filter(|field| overlaps(field, address, bytes.len())) {
            self.was_written(field.register);
        }
        self.measure();
        Ok(())
    }

    /// Keeps a write for [`act`](Self::act).
    pub fn prepare(&mut self, address: u16, bytes: &[u8]) {
        self.prepared = Some((address, bytes.to_vec()));
        self.put(Register::RegisteredInstruction, 1);
    }

    /// Does what was prepared.
    pub fn act(&mut self) {
        if let Some((address, bytes)) = self.prepared.take() {
            self.put(Register::RegisteredInstruction, 0);
            // Nobody asks how it went.
            let _ = self.write(address, &bytes);
        }
    }

    /// Why a Dynamixel doesn't take a write.
    fn refuse(&self, address: u16, bytes: &[u8]) -> Result<(), u8> {
        let end = usize::from(address) + bytes.len();
        let mut reached = usize::from(address);
        for field in self.table.fields.iter().filter(|field| overlaps(field, address, bytes.len())) {
            let (from, to) = (usize::from(field.address), usize::from(field.address) + usize::from(field.len));
            if from < usize::from(address) || to > end {
                return Err(refusal::LENGTH);
            }
            let is_locked = self.table.is_persistent(field.address) && self.value(Register::TorqueEnable) != 0;
            if field.register.is_read_only() || is_locked {
                return Err(refusal::ACCESS);
            }
            let value = self.table.decode(field.register, MotorId(0), address, bytes).map_err(|_outside| refusal::LENGTH)?;
            self.refuse_value(field.register, value)?;
            reached = reached.max(to);
        }
        if reached == usize::from(address) { Err(refusal::ACCESS) } else { Ok(()) }
    }

    fn refuse_value(&self, register: Register, value: i32) -> Result<(), u8> {
        let limit = |register| self.value(register);
        let within = |is_within: bool, refusal: u8| if is_within { Ok(()) } else { Err(refusal) };
        let is_goal = matches!(register, Register::GoalPosition | Register::GoalVelocity | Register::GoalCurrent | Register::GoalPwm);
        if is_goal && limit(Register::BusWatchdog) == WATCHDOG_BARKED {
            return Err(refusal::RANGE);
        }
        match register {
            Register::BusWatchdog => within((0..=127).contains(&value), refusal::RANGE),
            Register::Id => within((0..=252).contains(&value), refusal::RANGE),
            Register::BaudRate => within(self.table.bauds.iter().any(|(_, code)| i32::from(*code) == value), refusal::RANGE),
            Register::OperatingMode => within(self.table.modes.iter().any(|mode| i32::from(*mode) == value), refusal::RANGE),
            Register::TorqueEnable | Register::Led => within((0..=1).contains(&value), refusal::RANGE),
            Register::HomingOffset => within((-1_044_479..=1_044_479).contains(&value), refusal::RANGE),
            Register::MinPositionLimit | Register::MaxPositionLimit => within((0..=4095).contains(&value), refusal::RANGE),
            Register::GoalCurrent => within(value.abs() <= limit(Register::CurrentLimit), refusal::LIMIT),
            Register::GoalVelocity => within(value.abs() <= limit(Register::VelocityLimit), refusal::LIMIT),
            Register::GoalPwm => within(value.abs() <= limit(Register::PwmLimit), refusal::LIMIT),
            Register::GoalPosition if limit(Register::OperatingMode) == 3 => {
                within((limit(Register::MinPositionLimit)..=limit(Register::MaxPositionLimit)).contains(&value), refusal::LIMIT)
            }
            Register::GoalPosition => within((-1_048_575..=1_048_575).contains(&value), refusal::LIMIT),
            _ => Ok(()),
        }
    }

    /// What a write does beside changing a number.
    fn was_written(&mut self, register: Register) {
        let present = self.value(Register::PresentPosition);
        let is_feetech = self.table.protocol != Protocol::Dynamixel2;
        match register {
            Register::TorqueEnable if is_feetech && self.value(Register::TorqueEnable) == 128 => {
                // The present position becomes the middle.
                let turn = f64::from(self.table.resolution);
                let offset = self.body.position.rem_euclid(turn) - turn / 2.0;
                self.put_near(Register::HomingOffset, offset);
                self.put(Register::TorqueEnable, 0);
            }
            Register::TorqueEnable => {
                if is_feetech {
                    self.is_overloaded = false;
                    self.overload_s = 0.0;
                } else if self.value(Register::HardwareErrorStatus) & self.value(Register::Shutdown) != 0 {
                    self.put(Register::TorqueEnable, 0);
                }
                if self.firmware.goal_follows_torque && self.value(Register::TorqueEnable) != 0 {
                    self.measure();
                    self.put(Register::GoalPosition, self.value(Register::PresentPosition));
                }
            }
            Register::GoalPosition if is_feetech => {
                if self.value(Register::OperatingMode) == 3 {
                    // Steps are counted from where it stands.
                    self.put_near(Register::GoalPosition, f64::from(present) + f64::from(self.value(Register::GoalPosition)));
                }
                self.is_overloaded = false;
                self.overload_s = 0.0;
            }
            Register::MaxTorqueLimit if is_feetech => self.put(Register::TorqueLimit, self.value(Register::MaxTorqueLimit)),
            // Modes begin with what they are made for.
            Register::OperatingMode if !is_feetech => {
                self.put(Register::GoalVelocity, 0);
                self.put(Register::GoalPwm, self.value(Register::PwmLimit));
                self.put(Register::GoalCurrent, self.value(Register::CurrentLimit));
                self.measure();
                self.put(Register::GoalPosition, self.value(Register::PresentPosition));
            }
            _ => {}
        }
    }
}

fn overlaps(field: &Field, address: u16, len: usize) -> bool {
    let (from, to) = (usize::from(address), usize::from(address) + len);
    usize::from(field.address) < to && usize::from(field.address) + usize::from(field.len) > from
}

#[cfg(test)]
mod tests;
