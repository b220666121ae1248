//! A bus with motors on it: what is asked of them, told them and known of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, StopBehaviour, Timestamp};

use super::REOPEN_EVERY;
use super::health::{BusSlot, Miss, Slot};
use super::joint::Joint;
use crate::wire::Protocol;
use crate::{
    Block, Bus, BusError, Bytes, ControlTable, Frame, MotorError, MotorFault, MotorId, Operation, Register, Reply, SerialBus, TableError,
};

/// How old a position may be that becomes a goal: as long as the watchdog waits. This process may have been frozen, and
/// somebody else have acted since.
const YOUNG: Duration = Duration::from_millis(100);

/// How one part does.
pub(super) struct Look {
    pub part: usize,
    pub time: Timestamp,
    pub temperature_c: Option<f64>,
    /// As a share of stall torque.
    pub load: Option<f64>,
    /// SI.
    pub velocity: Option<f64>,
}

/// A bus with the joints on it. Its buffers are made once.
pub(super) struct Line {
    pub name: String,
    pub bus: SerialBus,
    /// Wheels come last.
    pub joints: Vec<Joint>,
    /// How many of them are read by position.
    pub positions: usize,
    /// Of the first joint, among those of the whole arm.
    pub first_slot: usize,
    pub position: Block,
    pub goal_address: u16,
    /// Of wheels.
    pub velocity: Option<Block>,
    pub goal_velocity: Option<u16>,
    /// What else is read, one motor at a time: blocks of other lengths than a position.
    looks: Vec<Block>,
    pub replies: Vec<Reply>,
    pub frames: Vec<Frame>,
    next_look: usize,
    pub health: Arc<BusSlot>,
    /// When it is tried again, while it is lost.
    pub lost_until: Option<Timestamp>,
    /// What tells this arm from another one like it: the blocks with its calibration.
    marks: Vec<Block>,
    /// Whether it is known to be the arm that was connected.
    pub is_known: bool,
    /// A joint that holds another calibration than it did: the port came back with another arm.
    pub stranger: Option<usize>,
}

impl Line {
    pub fn new(name: &str, bus: SerialBus, joints: Vec<Joint>, first_slot: usize) -> Result<Self, TableError> {
        let (mut position, mut goal_address, mut looks) = (Block { address: 0, len: 0 }, 0, Vec::new());
        let (mut velocity, mut goal_velocity, mut marks) = (None, None, Vec::new());
        let positions = joints.iter().filter(|joint| joint.wheel.is_none()).count();
        if let Some(first) = joints.first() {
            position = first.table.block(&[Register::PresentPosition], first.motor)?;
            goal_address = first.table.field(Register::GoalPosition, first.motor)?.address;
            let motor = first.motor;
            if positions < joints.len() {
                velocity = Some(first.table.block(&[Register::PresentVelocity], motor)?);
                goal_velocity = Some(first.table.field(Register::GoalVelocity, motor)?.address);
            }
            let block = |registers: &[Register]| first.table.block(registers, motor);
            for registers in [&[Register::HomingOffset][..], &[Register::MinPositionLimit, Register::MaxPositionLimit]] {
                if registers.iter().all(|register| first.table.has(*register)) {
                    marks.push(block(registers)?);
                }
            }
            looks = match bus.protocol() {
                Protocol::Feetech0 | Protocol::Feetech1 => vec![block(&[Register::TorqueEnable, Register::PresentTemperature])?],
                Protocol::Dynamixel2 => {
                    let state = block(&[Register::TorqueEnable, Register::HardwareErrorStatus])?;
                    vec![state, block(&[Register::PresentCurrent, Register::PresentVelocity, Register::PresentTemperature])?]
                }
            };
        }
        let replies = joints.iter().map(|joint| Reply::of(joint.motor, Operation::Read(position))).collect();
        let frames = Vec::with_capacity(joints.len());
        Ok(Self {
            name: name.to_owned(),
            bus,
            joints,
            positions,
            first_slot,
            position,
            goal_address,
            velocity,
            goal_velocity,
            looks,
            replies,
            frames,
            next_look: 0,
            health: Arc::new(BusSlot::new(name)),
            lost_until: None,
            marks,
            is_known: true,
            stranger: None,
        })
    }

    pub fn is_lost(&self) -> bool {
        self.lost_until.is_some()
    }

    /// After an error of the bus: whether the port is gone, which is then tried again from time to time.
    pub fn note(&mut self, error: &BusError, now: Timestamp) {
        if matches!(error, BusError::Lost { .. }) && self.lost_until.is_none() {
            self.health.lose();
            self.lost_until = Some(now + REOPEN_EVERY);
        }
    }

    /// Tries a lost port again when it is time. Motors then rest where they are before they obey anyone.
    pub fn try_again(&mut self, now: Timestamp) {
        if self.lost_until.is_none_or(|until| now < until) {
            return;
        }
        match self.bus.reopen() {
            Ok(()) => {
                self.health.is_back();
                self.lost_until = None;
                self.is_known = false;
                for joint in &mut self.joints {
                    joint.forget();
                    (joint.must_rest, joint.is_checked) = (Some(now), false);
                }
            }
            Err(_) => self.lost_until = Some(now + REOPEN_EVERY),
        }
    }

    /// Asks for all positions, which may take `within`, after a port that was lost was tried again.
    pub fn begin_read(&mut self, now: Timestamp, within: Duration) {
        self.try_again(now);
        // Wheels are asked after that, and need their time.
        let deadline = now + within.saturating_sub(self.time_for_wheels()).max(within / 2);
        if self.lost_until.is_none()
            && self.positions > 0
            && let Err(error) = self.bus.begin_read(self.position, &mut self.replies[..self.positions], deadline)
        {
            self.note(&error, now);
        }
    }

    /// Takes the positions that were asked for, and hands each on: in SI with its alert, or `None`. When that was, and how
    /// often motors were asked again.
    pub fn finish_read(
        &mut self,
        clock: &dyn Clock,
        slots: &[Slot],
        mut each: impl FnMut(&Joint, Timestamp, Option<(f64, u32)>),
    ) -> (Timestamp, u32) {
        if !self.is_lost()
            && let Err(error) = self.bus.finish_read(&mut self.replies[..self.positions])
        {
            self.note(&error, clock.now());
            if self.is_lost() || matches!(error, BusError::Garbage { .. }) {
                self.forget_replies();
            }
        }
        if self.is_lost() {
            self.forget_replies();
        }
        let now = clock.now();
        let mut retries = 0;
        let motors = self.joints.iter_mut().zip(&self.replies).zip(&slots[self.first_slot..]);
        for ((joint, reply), slot) in motors.take(self.positions) {
            retries += slot.retry(reply);
            let read = reply.answer.map_err(|error| Miss::Fault(error.fault)).and_then(|answer| {
                let ticks = joint.table.decode(Register::PresentPosition, joint.motor, self.position.address, answer.bytes.as_slice());
                let ticks = ticks.ok().filter(|ticks| joint.take(*ticks, now)).ok_or(Miss::Implausible)?;
                Ok((ticks, u32::from(answer.alert)))
            });
            match read {
                Ok((ticks, alert)) => {
                    let value = joint.scale.to_si(ticks);
                    slot.read(now, value, alert);
                    each(joint, now, Some((value, alert | slot.lost_torque())));
                }
                Err(miss) => {
                    slot.miss(miss);
                    each(joint, now, None);
                }
            }
        }
        (now, retries)
    }

    pub fn forget_replies(&mut self) {
        let operation = Operation::Read(self.position);
        self.replies[..self.positions].iter_mut().for_each(|reply| *reply = Reply::of(reply.motor, operation));
    }

    /// Reads one register of one motor.
    pub fn ask(&mut self, joint: usize, register: Register, deadline: Timestamp) -> Result<i32, BusError> {
        let (motor, table) = (self.joints[joint].motor, self.joints[joint].table);
        let operation = Operation::Read(Block { address: 0, len: 0 });
        let unknown = BusError::Motor(MotorError { operation, motor, fault: MotorFault::NotAsked });
        let Ok(field) = table.field(register, motor) else { return Err(unknown) };
        let block = Block { address: field.address, len: field.len };
        let mut replies = [Reply::of(motor, Operation::Read(block))];
        self.bus.read(block, &mut replies, deadline)?;
        let answer = replies[0].answer?;
        table.decode(register, motor, field.address, answer.bytes.as_slice()).map_err(|_| unknown)
    }

    /// Writes one register of one motor, with its acknowledgement.
    pub fn tell(&mut self, joint: usize, register: Register, value: i32, deadline: Timestamp) -> Result<(), BusError> {
        let Some((address, frame)) = self.joints[joint].frame(register, value) else { return Ok(()) };
        self.bus.write_one(address, &frame, deadline).map(|_| ())
    }

    /// The motors whose parts end without torque, or all others.
    pub fn motors(&self, is_limp: bool) -> Vec<MotorId> {
        let ends_so = |joint: &&Joint| (joint.stop == StopBehaviour::Limp) == is_limp;
        self.joints.iter().filter(ends_so).map(|joint| joint.motor).collect()
    }
}

impl Line {
    /// Asks the next motor how it does, if there is time until `end`.
    pub fn look(&mut self, clock: &dyn Clock, slots: &[Slot], end: Timestamp) -> Option<Look> {
        if self.is_lost() {
            return None;
        }
        let now = clock.now();
        let (turns, joints) = (self.looks.len(), self.joints.len());
        if turns == 0 || joints == 0 {
            return None;
        }
        let i = self.next_look / turns % joints;
        let block = self.looks[self.next_look % turns];
        // One attempt.
        let takes = self.bus.time_to_read(block.len.into(), 1) + Duration::from_micros(500);
        if now + takes > end {
            return None;
        }
        self.next_look = (self.next_look + 1) % (turns * joints);
        let mut replies = [Reply::of(self.joints[i].motor, Operation::Read(block))];
        if let Err(error) = self.bus.read(block, &mut replies, now + takes) {
            self.note(&error, now);
            return None;
        }
        let (joint, slot, time) = (&mut self.joints[i], &slots[self.first_slot + i], clock.now());
        let bytes = replies[0].answer.map_err(|error| slot.fault(error.fault)).ok()?.bytes;
        let value =
            |register| within(joint.table, register, block).then(|| joint.decode(register, block.address, bytes.as_slice())).flatten();
        let is_dynamixel = joint.table.protocol == Protocol::Dynamixel2;
        let temperature_c = value(Register::PresentTemperature);
        let voltage_v = value(Register::PresentVoltage).or_else(|| value(Register::PresentInputVoltage)).map(|tenths| tenths / 10.0);
        // Only models that say their load in 0.1 %.
        let says_load = !is_dynamixel || matches!(joint.table.model, "xl430-w250" | "xc430-w150");
        let load = value(if is_dynamixel { Register::PresentCurrent } else { Register::PresentLoad }).filter(|_| says_load);
        let load = load.map(|load| (load / 1000.0 * joint.scale.direction()).clamp(-1.0, 1.0));
        let velocity = value(Register::PresentVelocity).map(|raw| joint.scale.velocity(joint.ticks_per_s(raw)));
        let torque = value(Register::TorqueEnable);
        slot.measure(temperature_c, voltage_v, load);
        if let Some(torque) = torque {
            joint.says_torque = torque != 0.0;
        }
        if joint.has_torque && torque == Some(0.0) {
            joint.has_torque = false;
            slot.lose_torque();
        }
        Some(Look { part: joint.part, time, temperature_c, load, velocity })
    }

    /// A motor that acknowledged a write and holds something else.
    pub fn refused(&self, i: usize, register: Register) -> BusError {
        let joint = &self.joints[i];
        let address = joint.table.field(register, joint.motor).map_or(0, |field| field.address);
        let operation = Operation::Write(Block { address, len: 1 });
        MotorError { operation, motor: joint.motor, fault: MotorFault::Refused { bits: 0 } }.into()
    }

    /// Wheels stand, whatever else; limp parts lose their torque, others hold where they are.
    pub fn stop(&mut self, clock: &dyn Clock, deadline: Timestamp) -> Result<(), BusError> {
        let told = self.roll(|_| 0.0, deadline);
        let limp = self.motors(true);
        let result = if limp.is_empty() { Ok(()) } else { self.bus.torque_off(&limp, deadline) };
        if result.is_ok() {
            let ended = self.joints.iter_mut().filter(|joint| joint.stop == StopBehaviour::Limp);
            ended.for_each(|joint| (joint.has_torque, joint.says_torque) = (false, false));
        }
        let held = self.hold(clock, deadline);
        let stands = self.stands(deadline);
        told.and(result).and(held).and(stands)
    }

    /// The goals of parts that are to hold become where they are, or where they were just now when they don't say. Read
    /// back. Where nothing young is known of a motor, it keeps its goal, and that is an error.
    fn hold(&mut self, clock: &dyn Clock, deadline: Timestamp) -> Result<(), BusError> {
        let holds = |joint: &Joint| joint.stop == StopBehaviour::Hold && joint.has_torque && joint.wheel.is_none();
        if !self.joints.iter().any(holds) {
            return Ok(());
        }
        // A bus that is slow must not take the time that the goals need.
        let third = Duration::from_nanos(u64::try_from(deadline.nanos_since(clock.now())).unwrap_or(0) / 3);
        self.bus.read(self.position, &mut self.replies[..self.positions], clock.now() + third)?;
        let now = clock.now();
        let address = self.position.address;
        let mut unknown = None;
        self.frames.clear();
        for (joint, reply) in self.joints.iter_mut().zip(&self.replies).filter(|(joint, _)| holds(joint)) {
            if let Ok(answer) = reply.answer
                && let Ok(ticks) = joint.table.decode(Register::PresentPosition, joint.motor, address, answer.bytes.as_slice())
            {
                joint.take(ticks, now);
            }
            let young = joint.known().filter(|(_, time)| now < *time + YOUNG);
            match young.and_then(|(ticks, _)| joint.frame(Register::GoalPosition, ticks)) {
                Some((_, frame)) => self.frames.push(frame),
                None => {
                    let (operation, fault) = (Operation::Read(self.position), MotorFault::NoAnswer);
                    let error = MotorError { operation, motor: joint.motor, fault };
                    unknown = unknown.or(Some(reply.answer.err().unwrap_or(error)));
                }
            }
        }
        self.bus.write(self.goal_address, &self.frames, deadline)?;
        if let Some(error) = unknown {
            return Err(error.into());
        }
        let block = Block { address: self.goal_address, len: self.position.len };
        self.bus.read(block, &mut self.replies[..self.positions], deadline)?;
        for frame in &self.frames {
            let Some(reply) = self.replies.iter().find(|reply| reply.motor == frame.motor) else { continue };
            if reply.answer?.bytes != frame.bytes {
                let fault = MotorFault::Refused { bits: 0 };
                return Err(MotorError { operation: Operation::Write(block), motor: frame.motor, fault }.into());
            }
        }
        Ok(())
    }

    /// After an outage of an arm that nobody commands: whether triggers still pull.
    pub fn came_back(&mut self, slots: &[Slot], deadline: Timestamp) {
        if let Err(error) = self.check_torque(slots, deadline) {
            self.note(&error, deadline);
        }
        for joint in &mut self.joints {
            if !joint.has_torque || joint.is_checked {
                joint.must_rest = None;
            }
        }
    }

    /// Looks at what tells this arm from others, and keeps it the first time. Whoever hangs at a port that was away may be
    /// another arm, since adapters get other names: it is obeyed by nobody.
    ///
    /// # Errors
    /// When the bus can't be used.
    pub fn recognise(&mut self, deadline: Timestamp) -> Result<(), BusError> {
        let mut is_whole = true;
        for at in 0..self.marks.len() {
            self.bus.read(self.marks[at], &mut self.replies, deadline)?;
            for (i, (joint, reply)) in self.joints.iter_mut().zip(&self.replies).enumerate() {
                match (reply.answer, &mut joint.marks[at]) {
                    (Ok(answer), mark @ None) => *mark = Some(answer.bytes),
                    (Ok(answer), Some(known)) if *known != answer.bytes => self.stranger = Some(i),
                    (Ok(_), Some(_)) => {}
                    (Err(_), _) => is_whole = false,
                }
            }
        }
        self.is_known = is_whole && self.stranger.is_none();
        Ok(())
    }

    /// After an outage: whether it is the same arm, and which motors still have the torque that they had. Those that don't
    /// are told of.
    pub fn check_torque(&mut self, slots: &[Slot], deadline: Timestamp) -> Result<(), BusError> {
        if !self.is_known {
            self.recognise(deadline)?;
            if !self.is_known {
                return Ok(());
            }
        }
        let Some(first) = self.joints.first() else { return Ok(()) };
        let block = Block { address: first.table.protocol.torque_address(), len: 1 };
        self.bus.read(block, &mut self.replies, deadline)?;
        for (i, (joint, reply)) in self.joints.iter_mut().zip(&self.replies).enumerate() {
            let Ok(answer) = reply.answer else { continue };
            joint.is_checked = true;
            joint.says_torque = answer.bytes.as_slice() != [0];
            if joint.has_torque && answer.bytes.as_slice() == [0] {
                joint.has_torque = false;
                slots[self.first_slot + i].lose_torque();
            }
        }
        Ok(())
    }
}

/// A bus's error, with who and where the motor is that it is about.
pub(super) struct Named<'a> {
    pub bus: &'a str,
    pub slots: &'a [Slot],
    pub error: &'a BusError,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bus, slots, error } = self;
        // What there was no time for is about no motor.
        if let BusError::Motor(error) = error
            && error.fault != MotorFault::NotAsked
            && let Some(place) = slots.iter().map(Slot::place).find(|place| place.bus == *bus && place.motor == error.motor)
        {
            return write!(f, "{place}: {}", error.fault);
        }
        match error {
            BusError::Motor(MotorError { operation, fault: MotorFault::NotAsked, .. }) => {
                write!(f, "bus {bus}: {operation}: no time was left before the deadline")
            }
            error => write!(f, "bus {bus}: {error}"),
        }
    }
}

/// Whether all of a register lies in a block.
fn within(table: &ControlTable, register: Register, block: Block) -> bool {
    table
        .field(register, MotorId(0))
        .is_ok_and(|field| field.address >= block.address && field.address + u16::from(field.len) <= block.address + u16::from(block.len))
}

impl Joint {
    /// The bytes of a register's value, and where they go; `None` where the register can't hold it.
    pub fn frame(&self, register: Register, value: i32) -> Option<(u16, Frame)> {
        let field = self.table.field(register, self.motor).ok()?;
        let (bytes, len) = self.table.encode(register, self.motor, value).ok()?;
        Some((field.address, Frame { motor: self.motor, bytes: Bytes::of(&bytes[..usize::from(len)])? }))
    }
}
