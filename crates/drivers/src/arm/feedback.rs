//! A leader's motors while somebody else leads the robot.

use std::time::Duration;

use sinew_core::{Clock, RobotDescription, Timestamp};

use super::ConnectError;
use super::enable::{Halt, Pulse};
use super::line::Line;
use crate::retarget::Back;
use crate::{Bus, BusError, Register};

/// How long giving one motor torque may take.
const ENABLING: Duration = Duration::from_millis(200);
/// How far ahead of where a joint is its goal may be, radians: whoever holds the arm is pushed no harder than that makes it.
const AHEAD: f64 = 0.15;
/// Between two turns no more time has passed than this.
const LONGEST_S: f64 = 0.1;
/// A motor that could not be given torque so often is left alone.
const TRIES: u32 = 5;
/// Of the torque that a motor has, in thousandths: enough to carry the arm, and a hand wins.
const TORQUE_LIMIT: i32 = 500;
/// Leaders that LeRobot gives feedback to (`send_feedback`): their motors are all of a kind that can carry the arm.
const CARRIED: [&str; 4] = ["so_leader", "bi_so_leader", "openarm_mini", "bi_openarm_mini"];

/// What the motors of a leader arm do while somebody else leads the robot.
#[derive(Clone, Debug, Default)]
pub enum LeaderFeedback {
    /// They have no torque: the arm is where a hand puts it.
    #[default]
    None,
    /// They carry it, and bring it slowly to where the robot is, so that whoever takes over begins without a jump.
    Follow {
        /// From what the robot is sent to where the leader is.
        back: Back,
        /// How fast a joint goes there, radians a second.
        rad_per_s: f64,
    },
}

/// What is known of one joint that follows.
#[derive(Clone, Copy, Default)]
struct Carried {
    /// Where it was told to be, SI; `None` before that is where it is.
    goal: Option<f64>,
    /// Where it is told to be at this turn.
    next: Option<f64>,
    failures: u32,
    /// What its register of the greatest torque held before.
    torque_limit: Option<i32>,
}

/// A leader that follows.
pub(super) struct Following {
    back: Back,
    rad_per_s: f64,
    /// In the order of the lines' joints.
    joints: Vec<Carried>,
    /// A value a channel of the leader's state.
    wanted: Vec<f64>,
    time: Option<Timestamp>,
}

impl Following {
    /// # Errors
    /// When the leader has no such motors, or the way back is another leader's, or the speed makes no sense.
    pub fn of(robot: &RobotDescription, feedback: LeaderFeedback, joints: usize) -> Result<Option<Self>, ConnectError> {
        let LeaderFeedback::Follow { back, rad_per_s } = feedback else { return Ok(None) };
        let refuse = |what: String| Err(ConnectError::Unsupported { robot: robot.name.clone(), what });
        if !CARRIED.contains(&robot.lerobot.class.as_str()) || robot.parts.iter().any(|part| part.trigger.is_some()) {
            return refuse(format!("expected a leader whose motors can carry it ({}), found {}", CARRIED.join(", "), robot.lerobot.class));
        }
        let width = robot.state_channels().len();
        if back.width() != width {
            return refuse(format!("expected a way back to its {width} channels, found one to {}", back.width()));
        }
        if !(rad_per_s > 0.0 && rad_per_s <= 3.0) {
            return refuse(format!("expected a speed above 0 and at most 3 rad/s to follow at, found {rad_per_s}"));
        }
        Ok(Some(Self { back, rad_per_s, joints: vec![Carried::default(); joints], wanted: vec![0.0; width], time: None }))
    }

    /// What was told before is no more: goals begin anew from where the joints are.
    pub fn forget(&mut self) {
        self.time = None;
        self.joints.iter_mut().for_each(|joint| joint.goal = None);
    }

    /// A turn: one more motor of each line gets torque, from where it is, and those that have it go on to where the robot is.
    /// Telling them may take `within`.
    pub fn turn(&mut self, lines: &mut [Line], clock: &dyn Clock, sent: &[f64], within: Duration) {
        self.back.leader(sent, &mut self.wanted);
        let now = clock.now();
        let passed_s = self.time.map_or(0.0, |before| now.nanos_since(before) as f64 * 1e-9);
        self.time = Some(now);
        let step = self.rad_per_s * passed_s.clamp(0.0, LONGEST_S);
        for line in lines {
            self.carry_one(line, clock);
            line.frames.clear();
            for (joint, carried) in line.joints.iter().zip(&mut self.joints[line.first_slot..]) {
                let (Some((ticks, _)), Some(wanted)) = (joint.known(), joint.state.and_then(|state| self.wanted.get(state))) else {
                    continue;
                };
                let present = joint.scale.to_si(ticks);
                carried.next = None;
                if !joint.has_torque || !wanted.is_finite() {
                    carried.goal = None;
                    continue;
                }
                let from = carried.goal.unwrap_or(present);
                let goal = (from + (wanted - from).clamp(-step, step)).clamp(present - AHEAD, present + AHEAD);
                carried.next = Some(goal);
                line.frames.extend(joint.frame(Register::GoalPosition, joint.scale.to_ticks(goal)).map(|(_, frame)| frame));
            }
            if line.frames.is_empty() {
                continue;
            }
            let count = line.joints.len();
            match line.bus.write(line.goal_address, &line.frames, clock.now() + within) {
                // A goal that was not sent is not gone on from: the next one would jump.
                Ok(()) => self.joints[line.first_slot..][..count].iter_mut().for_each(|joint| joint.goal = joint.next.or(joint.goal)),
                Err(error) => line.note(&error, clock.now()),
            }
        }
    }

    /// Gives the next motor of a line torque, whose goal becomes where it is first.
    fn carry_one(&mut self, line: &mut Line, clock: &dyn Clock) {
        let first = line.first_slot;
        let joints = &self.joints;
        let is_next = |i: &usize| {
            let joint = &line.joints[*i];
            !joint.has_torque && joint.state.is_some() && joint.known().is_some() && joints[first + i].failures < TRIES
        };
        let Some(i) = (0..line.joints.len()).find(is_next) else { return };
        let deadline = clock.now() + ENABLING;
        let carried = &mut self.joints[first + i];
        let result = limit_torque(line, i, carried, deadline)
            .map_err(Halt::Bus)
            .and_then(|()| line.enable(i, &mut Pulse::new(clock, deadline, &|| true)));
        if let Err(Halt::Bus(error)) = result {
            carried.failures += 1;
            if carried.failures == TRIES {
                tracing::warn!("carrying {} of the leader arm, which is left alone: {error}", line.joints[i].name);
            }
            line.note(&error, clock.now());
        } else {
            carried.failures = 0;
        }
    }

    /// A motor that lost its torque by itself gets none again until somebody has led.
    pub fn give_up(&mut self, line: &Line, i: usize) {
        self.joints[line.first_slot + i].failures = TRIES;
    }

    /// Somebody leads: motors have let go, and may hold as they did before.
    pub fn end(&mut self, lines: &mut [Line], deadline: Timestamp) {
        for line in lines {
            for i in 0..line.joints.len() {
                let carried = &mut self.joints[line.first_slot + i];
                if let Some(before) = carried.torque_limit
                    && line.tell(i, Register::TorqueLimit, before, deadline).is_ok()
                {
                    carried.torque_limit = None;
                }
                (carried.goal, carried.failures) = (None, 0);
            }
        }
        self.time = None;
    }
}

/// The motor is to carry no harder than it needs to; what it held is kept to be put back.
fn limit_torque(line: &mut Line, i: usize, carried: &mut Carried, deadline: Timestamp) -> Result<(), BusError> {
    if carried.torque_limit.is_some() || !line.joints[i].table.has(Register::TorqueLimit) {
        return Ok(());
    }
    let before = line.ask(i, Register::TorqueLimit, deadline)?;
    carried.torque_limit = Some(before);
    if before > TORQUE_LIMIT { line.tell(i, Register::TorqueLimit, TORQUE_LIMIT, deadline) } else { Ok(()) }
}
