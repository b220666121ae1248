//! An arm whose motors hang on CAN buses and are commanded by impedance, as a [`Robot`](sinew_core::Robot).

mod connect;
mod drive;

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, Impedance, RobotDescription, StopBehaviour, Timestamp};
use thiserror::Error;

use super::{CanAddress, CanBus, CanCounts, CanFrame, CanMotor, Feedback, MitCommand, MotorState, Request};
use crate::{BusError, MotorId, Operation, Reply, TORQUE_LOST};

/// How often a lost bus is tried.
const REOPEN_EVERY: Duration = Duration::from_millis(100);

/// An arm that can't be connected.
#[derive(Debug, Error)]
pub enum CanConnectError {
    #[error("connecting {robot}: {what}")]
    Unsupported { robot: String, what: String },
    #[error("connecting {robot}: {part}")]
    Bus {
        robot: String,
        part: String,
        #[source]
        source: BusError,
    },
    /// A motor is another one than described, or set otherwise, and nothing here may change that.
    #[error("connecting {robot}: {part} (motor {motor}): expected {expected}, found {found}")]
    Motor { robot: String, part: String, motor: MotorId, expected: String, found: String },
}

/// How an arm is connected.
#[derive(Clone, Debug)]
pub struct CanArmOptions {
    /// The place of each of the description's buses, by the bus's name.
    pub ports: Vec<(String, CanAddress)>,
    /// [`CanOptions::latency`](super::CanOptions::latency).
    pub latency: Duration,
}

impl CanArmOptions {
    /// Ports by bus, and 4 ms of latency.
    pub fn new(ports: Vec<(String, CanAddress)>) -> Self {
        Self { ports, latency: Duration::from_millis(4) }
    }
}

/// One part with its motor.
struct Joint {
    part: usize,
    name: String,
    /// Where it stands in the state and in the action.
    state: Option<usize>,
    action: Option<usize>,
    motor: CanMotor,
    direction: f64,
    /// Turns of the motor for one of the part.
    gear: f64,
    /// The part's limits.
    position: [f64; 2],
    held: Impedance,
    step: f64,
    stop: StopBehaviour,
    /// What it said of itself last, and when.
    known: Option<(Feedback, Timestamp)>,
    /// What it said of its speed, torque and heat last, and when; until that is shown.
    status: Option<(Feedback, Timestamp)>,
    /// What was commanded last, on the part's side.
    last_goal: Option<f64>,
    /// Whether its torque was switched on, and not off since, as far as is known.
    has_torque: bool,
    has_lost_torque: bool,
    alert: u16,
    /// The next goal is where it was found after this time, whatever is wanted: nobody knows what it did meanwhile.
    must_rest: Option<Timestamp>,
}

impl Joint {
    fn id(&self) -> MotorId {
        MotorId(self.motor.id)
    }

    /// Of the part, for one of the motor.
    fn position(&self, feedback: &Feedback) -> f64 {
        self.direction * feedback.position / self.gear
    }

    fn ask(&self, request: Request) -> Option<CanFrame> {
        self.motor.ask(request)
    }

    /// What brings the part to `goal`. A goal within the part's limits stays there when it is rounded to the motor's steps;
    /// one outside, of a part that was found there, is as it is.
    fn command(&self, goal: f64, impedance: Impedance) -> MitCommand {
        let model = &self.motor.model;
        let to_motor = |value: f64| self.direction * value * self.gear;
        let mut position = to_motor(goal);
        let [a, b] = self.position.map(to_motor);
        let (low, high) = (a.min(b), a.max(b));
        if (low..=high).contains(&position) {
            let step = 2.0 * model.position / 65535.0;
            let inner = (((low + model.position) / step).ceil(), ((high + model.position) / step).floor());
            if inner.0 <= inner.1 {
                position = position.clamp(inner.0 * step - model.position, inner.1 * step - model.position);
            }
        }
        let squared = self.gear * self.gear;
        MitCommand {
            position,
            velocity: 0.0,
            stiffness: impedance.stiffness / squared,
            damping: impedance.damping / squared,
            torque: self.direction * impedance.torque * model.stall_torque,
        }
    }

    /// What the motor said of itself.
    fn take(&mut self, feedback: Feedback, now: Timestamp) {
        if let Some(state) = feedback.state {
            self.status = Some((feedback, now));
            self.alert = feedback.alert;
            if self.has_torque && state != MotorState::Enabled {
                (self.has_torque, self.has_lost_torque) = (false, true);
            }
        }
        let before = self.known.map(|(before, _)| before);
        let kept = Feedback {
            velocity: feedback.velocity.or(before.and_then(|before| before.velocity)),
            state: feedback.state.or(before.and_then(|before| before.state)),
            ..feedback
        };
        self.known = Some((kept, now));
    }

    /// The bits that its values carry.
    fn alarm(&self) -> u32 {
        u32::from(self.alert) | if self.has_lost_torque { TORQUE_LOST } else { 0 }
    }

    /// Where it was seen to be, at most a step from where it was told to be: a reading that is wrong by a digit moves nothing
    /// further.
    fn believed(&self, feedback: &Feedback) -> f64 {
        let present = self.position(feedback);
        self.last_goal.map_or(present, |goal| present.clamp(goal - self.step, goal + self.step))
    }

    /// Where it is to be held. A part at rest is in balance with its goal, and would sink with a new one; one that moves is
    /// held where it is.
    fn resting_place(&self) -> Option<f64> {
        /// rad/s of the motor.
        const AT_REST: f64 = 0.1;
        let (feedback, _) = self.known?;
        let is_at_rest = feedback.velocity.is_some_and(|velocity| velocity.abs() < AT_REST);
        self.last_goal.filter(|_| is_at_rest).or(Some(self.believed(&feedback)))
    }
}

/// A bus with the joints on it. Its buffers are made once.
struct Line {
    name: String,
    bus: CanBus,
    joints: Vec<Joint>,
    /// A question for each joint where it is, and its answer.
    looks: Vec<CanFrame>,
    seen: Vec<Reply>,
    /// A goal for each joint that gets one, and its answer.
    goals: Vec<CanFrame>,
    told: Vec<Reply>,
    /// When it is tried again, while it is lost.
    lost_until: Option<Timestamp>,
}

impl Line {
    fn new(name: &str, bus: CanBus, joints: Vec<Joint>) -> Self {
        Self {
            name: name.to_owned(),
            bus,
            looks: joints.iter().filter_map(|joint| joint.ask(Request::Look)).collect(),
            seen: joints.iter().map(|joint| Reply::of(joint.id(), Operation::Exchange)).collect(),
            goals: Vec::with_capacity(joints.len()),
            told: Vec::with_capacity(joints.len()),
            joints,
            lost_until: None,
        }
    }

    fn is_lost(&self) -> bool {
        self.lost_until.is_some()
    }

    /// After an error of the bus: whether it is gone, which is then tried again from time to time.
    fn note(&mut self, error: &BusError, now: Timestamp) {
        if matches!(error, BusError::Lost { .. }) && self.lost_until.is_none() {
            self.lost_until = Some(now + REOPEN_EVERY);
        }
    }

    /// Tries a lost bus again when it is time. Motors then rest where they are before they obey anyone.
    fn try_again(&mut self, now: Timestamp) {
        if self.lost_until.is_none_or(|until| now < until) {
            return;
        }
        match self.bus.reopen() {
            Ok(()) => {
                self.lost_until = None;
                self.joints.iter_mut().for_each(|joint| (joint.known, joint.must_rest) = (None, Some(now)));
            }
            Err(_) => self.lost_until = Some(now + REOPEN_EVERY),
        }
    }

    /// The motors of commanded parts that end so.
    fn motors(&self, stop: StopBehaviour) -> Vec<MotorId> {
        self.joints.iter().filter(|joint| joint.action.is_some() && joint.stop == stop).map(Joint::id).collect()
    }
}

/// An arm, or several, whose parts are commanded by impedance and moved by motors on CAN buses.
///
/// - Each tick costs each bus two exchanges: one in which every motor says where it is, one in which it is told where to be
///   and with which stiffness, damping and torque.
/// - A motor that does not answer keeps its last value, which is marked.
/// - A motor whose torque went off by itself is not switched on again and gets no goals; its values carry
///   [`TORQUE_LOST`], beside its own alarm ([`Feedback::alert`]).
/// - A bus that is lost is tried again. Its motors are then told to rest where they are first.
/// - Nothing sets a motor's zero.
pub struct CanArm {
    robot: Arc<RobotDescription>,
    lines: Vec<Line>,
    clock: Arc<dyn Clock>,
    options: CanArmOptions,
}

impl CanArm {
    /// Opens the buses and meets every motor. Nothing moves, and no torque is switched on; a Damiao without torque that is
    /// in another mode is set to the one that is used here until it loses its power.
    ///
    /// # Errors
    /// When a bus or a motor is not there, is another one than the description says, or could not keep what the description
    /// promises.
    pub fn connect(robot: Arc<RobotDescription>, options: &CanArmOptions, clock: Arc<dyn Clock>) -> Result<Self, CanConnectError> {
        connect::connect(robot, options, clock)
    }

    /// What happened on each bus, by its name.
    pub fn counts(&self) -> Vec<(String, CanCounts)> {
        self.lines.iter().map(|line| (line.name.clone(), line.bus.counts())).collect()
    }
}
