//! An arm whose motors hang on serial buses, as a [`Robot`](sinew_core::Robot).

mod connect;
mod drive;
mod health;
mod joint;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, RobotDescription, Timestamp};

use crate::wire::Protocol;
use crate::{
    Block, Bus, BusError, Bytes, Calibration, Frame, MotorFault, MotorId, Operation, Register, Reply, SerialBus, SerialCounts, TableError,
};

pub use connect::{ArmOptions, Change, ConnectError, ConnectReport};
use health::BusSlot;
pub use health::{ArmHealth, BusHealth, FaultCounts, MotorHealth};
use joint::Joint;
pub use settings::{Setting, lerobot_settings};

/// Bit of an alert that is ours, not the motor's: its torque is off that had been switched on.
pub const TORQUE_LOST: u32 = 1 << 31;

/// How often a lost port is tried.
const REOPEN_EVERY: Duration = Duration::from_millis(100);
/// Once in so many ticks a bus is asked how one of its motors does.
const HEALTH_EVERY: u64 = 3;

/// A bus with the joints on it. Its buffers are made once.
struct Line {
    name: String,
    bus: SerialBus,
    joints: Vec<Joint>,
    /// Of the first joint, among those of the whole arm.
    first_slot: usize,
    position: Block,
    goal_address: u16,
    /// What else is read, one motor at a time: blocks of other lengths than a position.
    looks: Vec<Block>,
    replies: Vec<Reply>,
    frames: Vec<Frame>,
    next_look: usize,
    health: Arc<BusSlot>,
    /// When it is tried again, while it is lost.
    lost_until: Option<Timestamp>,
}

impl Line {
    fn new(name: &str, bus: SerialBus, joints: Vec<Joint>, first_slot: usize) -> Result<Self, TableError> {
        let (mut position, mut goal_address, mut looks) = (Block { address: 0, len: 0 }, 0, Vec::new());
        if let Some(first) = joints.first() {
            position = first.table.block(&[Register::PresentPosition], first.motor)?;
            goal_address = first.table.field(Register::GoalPosition, first.motor)?.address;
            let motor = first.motor;
            let block = |registers: &[Register]| first.table.block(registers, motor);
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
            first_slot,
            position,
            goal_address,
            looks,
            replies,
            frames,
            next_look: 0,
            health: Arc::new(BusSlot::new(name)),
            lost_until: None,
        })
    }

    fn is_lost(&self) -> bool {
        self.lost_until.is_some()
    }

    /// After an error of the bus: whether the port is gone, which is then tried again from time to time.
    fn note(&mut self, error: &BusError, now: Timestamp) {
        if matches!(error, BusError::Lost { .. }) && self.lost_until.is_none() {
            self.health.lose();
            self.lost_until = Some(now + REOPEN_EVERY);
        }
    }

    /// Tries a lost port again when it is time. Motors then rest where they are before they obey anyone.
    fn try_again(&mut self, now: Timestamp) {
        if self.lost_until.is_none_or(|until| now < until) {
            return;
        }
        match self.bus.reopen() {
            Ok(()) => {
                self.health.is_back();
                self.lost_until = None;
                for joint in &mut self.joints {
                    joint.forget();
                    (joint.must_rest, joint.is_checked) = (Some(now), false);
                }
            }
            Err(_) => self.lost_until = Some(now + REOPEN_EVERY),
        }
    }

    /// Reads one register of one motor.
    fn ask(&mut self, joint: usize, register: Register, deadline: Timestamp) -> Result<i32, BusError> {
        let (motor, table) = (self.joints[joint].motor, self.joints[joint].table);
        let operation = Operation::Read(Block { address: 0, len: 0 });
        let unknown = BusError::Motor(crate::MotorError { operation, motor, fault: MotorFault::NotAsked });
        let Ok(field) = table.field(register, motor) else { return Err(unknown) };
        let block = Block { address: field.address, len: field.len };
        let mut replies = [Reply::of(motor, Operation::Read(block))];
        self.bus.read(block, &mut replies, deadline)?;
        let answer = replies[0].answer?;
        table.decode(register, motor, field.address, answer.bytes.as_slice()).map_err(|_| unknown)
    }

    /// Writes one register of one motor, with its acknowledgement.
    fn tell(&mut self, joint: usize, register: Register, value: i32, deadline: Timestamp) -> Result<(), BusError> {
        let Some((address, frame)) = self.joints[joint].frame(register, value) else { return Ok(()) };
        self.bus.write_one(address, &frame, deadline).map(|_| ())
    }

    /// The motors whose parts end without torque, or all others.
    fn motors(&self, is_limp: bool) -> Vec<MotorId> {
        let ends_so = |joint: &&Joint| (joint.stop == sinew_core::StopBehaviour::Limp) == is_limp;
        self.joints.iter().filter(ends_so).map(|joint| joint.motor).collect()
    }
}

impl Joint {
    /// The bytes of a register's value, and where they go; `None` where the register can't hold it.
    fn frame(&self, register: Register, value: i32) -> Option<(u16, Frame)> {
        let field = self.table.field(register, self.motor).ok()?;
        let (bytes, len) = self.table.encode(register, self.motor, value).ok()?;
        Some((field.address, Frame { motor: self.motor, bytes: Bytes::of(&bytes[..usize::from(len)])? }))
    }
}

/// An arm, or several, whose parts are commanded by position and moved by motors on serial buses.
///
/// - Each tick costs each bus one read of all positions and one write of all goals; every few ticks one motor is asked how
///   it does, where there is time for that.
/// - A motor that does not answer keeps its last value, which is marked. So does one that says it is where it can't have
///   come; after three such readings that fit each other they are believed.
/// - A motor whose torque went off by itself is not switched on again and gets no goals; its values carry
///   [`TORQUE_LOST`].
/// - A port that is lost is tried again. Its motors then get their present positions as goals first.
pub struct SerialArm {
    robot: Arc<RobotDescription>,
    lines: Vec<Line>,
    clock: Arc<dyn Clock>,
    health: ArmHealth,
    report: ConnectReport,
    turn: u64,
}

impl SerialArm {
    /// Opens the ports, meets every motor, compares what it holds with `calibration` and the settings, and writes only
    /// what differs. Nothing moves, and no torque is switched on.
    ///
    /// # Errors
    /// When a port or a motor is not there or is another one than the description says, or holds something that may not
    /// be changed.
    pub fn connect(
        robot: Arc<RobotDescription>,
        options: &ArmOptions,
        calibration: &Calibration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        connect::connect(robot, options, calibration, clock)
    }

    /// What connecting found and changed.
    pub fn report(&self) -> &ConnectReport {
        &self.report
    }

    /// How the motors do, for any thread.
    pub fn health(&self) -> ArmHealth {
        self.health.clone()
    }

    /// What happened on each bus, by its name.
    pub fn counts(&self) -> Vec<(String, SerialCounts)> {
        self.lines.iter().map(|line| (line.name.clone(), line.bus.counts())).collect()
    }
}
