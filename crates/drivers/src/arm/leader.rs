//! A leader arm: moved by hand and read, as a [`Teleoperator`].

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Brief, Clock, Observation, RobotDescription, Role, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp};

use super::connect::{self, Connected};
use super::enable::{Halt, Pulse};
use super::feedback::{Following, LeaderFeedback};
use super::joint::Joint;
use super::line::Line;
use super::{ArmHealth, ArmOptions, ConnectError, ConnectReport, HEALTH_EVERY, READING};
use crate::{Bus, BusError, Calibration, Register, SerialCounts};

/// How long switching off the triggers may take.
const LETTING_GO: Duration = Duration::from_millis(100);
/// How long making the triggers pull may take, for each.
const PULLING: Duration = Duration::from_millis(200);
/// How long reading may take at most, whatever the period.
const LONGEST_READ: Duration = Duration::from_millis(100);

const READING_IT: &str = "reading the leader arm";

/// An arm on serial buses that somebody moves by hand, or several: its positions are the action.
///
/// - The action has a value a channel of the leader's state, in its order and in SI; [`ByFeature`](crate::ByFeature) makes
///   goals of a follower of it.
/// - Each action costs each bus one read of all positions. A motor that does not answer keeps its value for
///   [`max_age_ms`](sinew_core::Feedback::max_age_ms); after that there is no action until it answers.
/// - A port that is lost is tried again.
/// - No motor has torque but those of parts with a trigger, which pull until this is dropped, and, with
///   [`LeaderFeedback::Follow`], all others while somebody else leads. One that lost its torque is not switched on again by
///   itself.
pub struct SerialLeader {
    robot: Arc<RobotDescription>,
    lines: Vec<Line>,
    clock: Arc<dyn Clock>,
    health: ArmHealth,
    report: ConnectReport,
    /// How old a position may be.
    max_age: Duration,
    /// When it began: what was never read is as old as that.
    begun: Timestamp,
    turn: u64,
    following: Option<Following>,
}

impl SerialLeader {
    /// Opens the ports, meets every motor and sets it as it is to be, as [`SerialArm::connect`](crate::SerialArm::connect)
    /// does; torque that is on goes off. Then triggers begin to pull.
    ///
    /// # Errors
    /// When `robot` is no teleoperator, a port or a motor is not there or is another one than the description says, or holds
    /// something that may not be changed.
    pub fn connect(
        robot: Arc<RobotDescription>,
        options: &ArmOptions,
        calibration: &Calibration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConnectError> {
        let Connected { lines, health, report } = connect::connect(&robot, Role::Teleoperator, options, calibration, &clock)?;
        let max_age = Duration::from_millis(robot.feedback.max_age_ms.into());
        let begun = clock.now();
        let mut leader = Self { robot, lines, clock, health, report, max_age, begun, turn: 0, following: None };
        leader.pull().map_err(|(part, source)| ConnectError::Bus { robot: leader.robot.name.clone(), part, source })?;
        Ok(leader)
    }

    /// What its motors do while somebody else leads; nothing moves by it yet.
    ///
    /// # Errors
    /// When its motors can't carry it.
    pub fn with_feedback(mut self, feedback: LeaderFeedback) -> Result<Self, ConnectError> {
        let joints = self.lines.iter().map(|line| line.joints.len()).sum();
        self.following = Following::of(&self.robot, feedback, joints)?;
        Ok(self)
    }

    pub fn description(&self) -> &RobotDescription {
        &self.robot
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

    /// Each trigger holds where it is, and only then pulls to its place.
    fn pull(&mut self) -> Result<(), (String, BusError)> {
        for line in &mut self.lines {
            for i in 0..line.joints.len() {
                let Some(goal) = line.joints[i].trigger else { continue };
                let deadline = self.clock.now() + PULLING;
                let result = match line.enable(i, &mut Pulse::new(self.clock.as_ref(), deadline, &|| true)) {
                    Err(Halt::Bus(error)) => Err(error),
                    // Nobody watches over a leader.
                    Ok(()) | Err(Halt::Taken) => line.tell(i, Register::GoalPosition, goal, deadline),
                };
                result.map_err(|error| (line.joints[i].name.clone(), error))?;
            }
        }
        Ok(())
    }

    /// Triggers let go. Dropping it does so, too.
    ///
    /// # Errors
    /// When not every one is known to be without torque.
    pub fn close(mut self) -> Result<(), BusError> {
        self.let_go()
    }

    fn let_go(&mut self) -> Result<(), BusError> {
        let deadline = self.clock.now() + LETTING_GO;
        let result = torque_off(&mut self.lines, deadline, |_| true);
        if let Some(following) = &mut self.following {
            following.end(&mut self.lines, deadline);
        }
        result
    }

    /// Reads all positions, and asks a motor now and then how it does.
    fn read(&mut self, tick: &Tick) -> Result<(), TeleoperatorError> {
        let now = self.clock.now();
        let within = tick.period.mul_f64(READING).min(LONGEST_READ);
        let deadline = now + within;
        self.lines.iter_mut().for_each(|line| line.begin_read(now, within));
        for line in &mut self.lines {
            line.finish_read(self.clock.as_ref(), &self.health.motors, |_, _, _| {});
            if line.joints.iter().any(|joint| joint.must_rest.is_some()) {
                line.came_back(&self.health.motors, deadline);
            }
        }
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(HEALTH_EVERY) {
            for line in &mut self.lines {
                line.look(self.clock.as_ref(), &self.health.motors, deadline);
            }
        }
        if let Some((line, joint)) = self.lines.iter().find_map(|line| Some((line, line.stranger?))) {
            let (port, joint) = (line.bus.name(), &line.joints[joint].name);
            let what = Brief::of(format_args!("the port {port} came back with another arm: its {joint} holds another calibration"));
            return Err(TeleoperatorError::Lost { doing: READING_IT, what });
        }
        if let Some(line) = self.lines.iter().find(|line| line.is_lost() || !line.is_known) {
            let what = Brief::of(format_args!("the port {} of bus {} is lost; it is tried again", line.bus.name(), line.name));
            return Err(TeleoperatorError::Transient { doing: READING_IT, what });
        }
        Ok(())
    }

    /// The first motor of which nothing is known that is young enough.
    fn silent(&self, now: Timestamp) -> Option<TeleoperatorError> {
        let max_age_ns = i64::try_from(self.max_age.as_nanos()).unwrap_or(i64::MAX);
        for line in &self.lines {
            let motors = line.joints.iter().zip(&self.health.motors[line.first_slot..]);
            for (joint, slot) in motors.filter(|(joint, _)| joint.state.is_some()) {
                let heard = joint.known().map_or(self.begun, |(_, time)| time);
                let age_ns = now.nanos_since(heard);
                if joint.known().is_none() || age_ns > max_age_ns {
                    let (place, age_ms) = (slot.place(), age_ns / 1_000_000);
                    let what = Brief::of(format_args!("{place}: silent for {age_ms} ms"));
                    return Some(TeleoperatorError::Transient { doing: READING_IT, what });
                }
            }
        }
        None
    }
}

impl Teleoperator for SerialLeader {
    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        let Some(following) = &mut self.following else { return Ok(()) };
        // A hand that leads must not have to win against motors.
        let deadline = self.clock.now() + LETTING_GO;
        let result = torque_off(&mut self.lines, deadline, |joint| joint.trigger.is_none());
        following.end(&mut self.lines, deadline);
        result.map_err(|error| TeleoperatorError::Transient { doing: "letting go of the leader arm", what: Brief::of(error) })
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        self.read(tick)?;
        if let Some(error) = self.silent(self.clock.now()) {
            return Err(error);
        }
        for joint in self.lines.iter().flat_map(|line| &line.joints) {
            if let (Some(channel), Some((ticks, _))) = (joint.state, joint.known())
                && let Some(place) = action.get_mut(channel)
            {
                *place = joint.scale.to_si(ticks);
            }
        }
        Ok(TeleopStatus::Active)
    }

    fn follow(&mut self, tick: &Tick, _: &Observation, sent: &[f64]) {
        if self.following.is_none() {
            return;
        }
        let had_torque: Vec<bool> = self.lines.iter().flat_map(|line| &line.joints).map(|joint| joint.has_torque).collect();
        let is_there = self.read(tick).and_then(|()| self.silent(self.clock.now()).map_or(Ok(()), Err));
        let Some(following) = &mut self.following else { return };
        for line in &self.lines {
            let lost = line.joints.iter().enumerate().filter(|(i, joint)| had_torque[line.first_slot + i] && !joint.has_torque);
            lost.for_each(|(i, _)| following.give_up(line, i));
        }
        match is_there {
            Ok(()) => following.turn(&mut self.lines, self.clock.as_ref(), sent, tick.period),
            // Who takes over is told; until then motors hold where they are.
            Err(error) => {
                tracing::debug!("{error}");
                following.forget();
            }
        }
    }
}

/// Switches the torque of those off that have it and are `chosen`.
fn torque_off(lines: &mut [Line], deadline: Timestamp, chosen: impl Fn(&Joint) -> bool) -> Result<(), BusError> {
    let mut result = Ok(());
    for line in lines {
        let ends = |joint: &&Joint| joint.has_torque && chosen(joint);
        let motors: Vec<_> = line.joints.iter().filter(ends).map(|joint| joint.motor).collect();
        if motors.is_empty() {
            continue;
        }
        let one = line.bus.torque_off(&motors, deadline);
        if one.is_ok() {
            line.joints.iter_mut().filter(|joint| motors.contains(&joint.motor)).for_each(|joint| joint.has_torque = false);
        }
        result = result.and(one);
    }
    result
}

impl Drop for SerialLeader {
    fn drop(&mut self) {
        if let Err(error) = self.let_go() {
            tracing::warn!("switching off the triggers of the leader arm: {error}");
        }
    }
}
