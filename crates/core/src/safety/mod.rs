//! The gate that every command passes on its way to a motor.

mod channel;
mod feedback;
mod interventions;
mod motion;
mod workspace;

use std::time::Duration;

use thiserror::Error;

use crate::{Channel, ChannelSource, CommandMode, Observation, RobotDescription, Sent, Timestamp};
use channel::{ChannelGate, Sensed};
use motion::Motion;
use workspace::WorkspaceGate;

pub use interventions::Interventions;
use interventions::LimitKind;

/// How long a part may push too hard, or be too hot, before the episode ends.
pub const FAULT_AFTER: Duration = Duration::from_secs(3);

/// A tick longer than this counts as one of this length.
const LONGEST_TICK_S: f64 = 1.0;

/// Stiffness, damping and a torque beside a position, of a channel that is commanded by impedance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impedance {
    /// N m (or N) a unit.
    pub stiffness: f64,
    /// N m s (or N s) a unit.
    pub damping: f64,
    /// Share of stall torque, −1..1.
    pub torque: f64,
}

/// What somebody wants of a robot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// A value a channel of action, in SI: a position, a velocity or an effort.
    pub goals: Vec<f64>,
    /// A value a channel of action; empty for a robot that has none by impedance.
    pub impedance: Vec<Impedance>,
    /// When it was wanted: velocities and efforts fall to 0 when that is too long ago.
    pub time: Timestamp,
}

impl Wanted {
    /// Room for `robot`'s channels, all 0; those that are commanded by impedance as stiff and damped as they may be, as
    /// most who act say nothing of that.
    pub fn for_robot(robot: &RobotDescription) -> Self {
        let channels = robot.action_channels();
        let of = |channel: &Channel| match (channel.mode, channel.source) {
            (Some(CommandMode::Impedance), ChannelSource::Part(part)) => {
                let limits = &robot.parts[part].limits;
                Impedance { stiffness: limits.stiffness.unwrap_or(0.0), damping: limits.damping.unwrap_or(0.0), torque: 0.0 }
            }
            _ => Impedance::default(),
        };
        let has_impedance = channels.iter().any(|channel| channel.mode == Some(CommandMode::Impedance));
        let impedance = if has_impedance { channels.iter().map(of).collect() } else { Vec::new() };
        Self { goals: vec![0.0; channels.len()], impedance, time: Timestamp::ZERO }
    }
}

/// A command that passed a [`SafetyGate`]. Only the gate makes one, and only one of these reaches a motor.
#[derive(Clone, Debug, PartialEq)]
pub struct SafeCommand {
    goals: Vec<f64>,
    impedance: Vec<Impedance>,
}

impl SafeCommand {
    /// A value a channel of action, in SI.
    pub fn goals(&self) -> &[f64] {
        &self.goals
    }

    /// Of a channel that is commanded by impedance.
    pub fn impedance(&self, channel: usize) -> Option<Impedance> {
        self.impedance.get(channel).copied()
    }
}

/// Why a robot may not be driven any further.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GateFault {
    #[error("{channel} is not known where the robot is given torque, expected a position")]
    Unknown { channel: String },
    #[error("{channel} is elsewhere at each reading where the robot is given torque, expected two that agree")]
    Unsteady { channel: String },
    #[error("{channel} has not been known for {age_ms} ms, expected to hear of it within {limit_ms} ms")]
    Silent { channel: String, age_ms: i64, limit_ms: u32 },
    #[error("{channel} has pushed with {found:.2} of its motor's torque for {} s, expected at most {limit:.2}", FAULT_AFTER.as_secs())]
    Effort { channel: String, found: f64, limit: f64 },
    #[error("the motor of {channel} has been at {found:.0} °C for {} s, expected at most {limit:.0} °C", FAULT_AFTER.as_secs())]
    Temperature { channel: String, found: f64, limit: f64 },
}

/// What the gate made of a wish.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    pub interventions: Interventions,
    /// Something is unknown, and the robot comes to rest.
    pub brakes: bool,
}

/// Turns what somebody wants into what a robot may be told. It cannot be switched off, only given limits,
/// and those come from the robot's description.
///
/// A turn has two halves: [`propose`](Self::propose) makes a command of a wish, and [`commit`](Self::commit)
/// is told what of it was really sent, which alone is what the next command goes on from.
///
/// Of a position, in order, each on what the one before left:
/// 1. one that is not finite is refused, and so is any for a motor that is too hot: the channel comes to
///    rest;
/// 2. it lies within the position limits. A part that was found outside comes in slowly from where it is;
/// 3. it is at most `step` from where the part is;
/// 4. a part that pushes harder than its ceiling is led back until it doesn't, with or without a wish;
/// 5. the command moves to it within the limits of velocity, acceleration and jerk, always so that it can
///    still stop before the position limits, and so that it can stop where the goal does.
///
/// What the limits allow is granted to the last bit. A velocity is granted within the limits of velocity,
/// acceleration and jerk, an effort within the one of torque; both fall to 0 when they are stale.
///
/// Where a part is counts as known while its last plausible measurement is young enough
/// ([`Feedback`](crate::Feedback)). A jump that no such part can make is not plausible, until three
/// measurements in a row agree on it. While something is unknown the whole robot comes to rest, and when it
/// stays so, that is a fault.
///
/// A tool does not leave its workspace: channels that would take it out brake, or have a share of their wish; those
/// that wouldn't go on. Where even braking leads out, the workspace outranks a smooth stop. A way around a wall is
/// planned by nobody in here.
#[derive(Clone, Debug)]
pub struct SafetyGate {
    channels: Vec<ChannelGate>,
    workspaces: Vec<WorkspaceGate>,
    command: SafeCommand,
    proposed: Vec<Motion>,
    /// Braking motions, to slide along a wall with.
    braking: Vec<Motion>,
}

impl SafetyGate {
    pub fn of(robot: &RobotDescription) -> Self {
        let state = robot.state_channels();
        let channels: Vec<ChannelGate> = robot
            .action_channels()
            .into_iter()
            .map(|channel| {
                let at = state.iter().position(|other| other.source == channel.source);
                ChannelGate::of(robot, channel, at)
            })
            .collect();
        let width = channels.len();
        let has_impedance = channels.iter().any(|channel| channel.mode == CommandMode::Impedance);
        let impedance = vec![Impedance::default(); if has_impedance { width } else { 0 }];
        Self {
            workspaces: WorkspaceGate::all_of(robot),
            channels,
            command: SafeCommand { goals: vec![0.0; width], impedance },
            proposed: vec![Motion::default(); width],
            braking: vec![Motion::default(); width],
        }
    }

    /// Begins anew from where the robot is: every position is held there, every velocity and effort is 0.
    ///
    /// # Errors
    /// When the position of a channel that is commanded by it is not known.
    pub fn start(&mut self, observed: &Observation) -> Result<(), GateFault> {
        self.workspaces.iter_mut().for_each(|workspace| workspace.feel(observed));
        for (channel, goal) in self.channels.iter_mut().zip(&mut self.command.goals) {
            *goal = channel.start(observed).ok_or_else(|| GateFault::Unknown { channel: channel.name.clone() })?;
        }
        Ok(())
    }

    /// A channel whose position in `observed` is not where it began last, but for noise.
    pub(crate) fn moved(&self, observed: &Observation) -> Option<&str> {
        self.channels.iter().find(|channel| channel.moved(observed)).map(|channel| channel.name.as_str())
    }

    /// What was really sent last: a value a channel of action. Where the robot was found, before the first.
    pub fn sent(&self) -> impl ExactSizeIterator<Item = f64> {
        self.channels.iter().map(ChannelGate::sent)
    }

    /// What [`propose`](Self::propose) made last.
    pub fn proposed(&self) -> &SafeCommand {
        &self.command
    }

    /// Moves on from what was sent last, towards what is `wanted`, as far as the limits let it within `dt_s`
    /// seconds; without a wish to rest. `now` is the session's time. Total: any input gives a command within
    /// the limits; a time that is negative or not finite counts as 0, one above a second as a second. Never
    /// allocates but for a fault.
    ///
    /// # Errors
    /// When the robot must not be driven any further.
    pub fn propose(&mut self, wanted: Option<&Wanted>, observed: &Observation, now: Timestamp, dt_s: f64) -> Result<Verdict, GateFault> {
        let dt_s = if dt_s.is_finite() { dt_s.clamp(0.0, LONGEST_TICK_S) } else { 0.0 };
        let mut verdict = Verdict::default();
        for channel in &mut self.channels {
            channel.feel(observed, now)?;
            verdict.brakes |= channel.is_unknown();
        }
        self.workspaces.iter_mut().for_each(|workspace| workspace.feel(observed));
        for (i, channel) in self.channels.iter_mut().enumerate() {
            let goal = wanted.map(|wanted| wanted.goals.get(i).copied().unwrap_or(f64::NAN));
            let age_ns = wanted.map_or(0, |wanted| now.nanos_since(wanted.time));
            let (motion, held_by) = channel.next(goal.filter(|_| !verdict.brakes), age_ns, dt_s);
            if channel.is_unknown() {
                verdict.interventions.count(LimitKind::Unknown);
            } else if let Some(kind) = held_by {
                verdict.interventions.count(kind);
            }
            self.proposed[i] = motion;
            if let Some(slot) = self.command.impedance.get_mut(i) {
                let asked = wanted.filter(|_| !verdict.brakes).and_then(|wanted| wanted.impedance.get(i)).copied();
                *slot = channel.impedance(asked);
            }
        }
        if !self.workspaces.is_empty() {
            verdict.interventions.workspace += u32::from(self.keep_tools_inside(dt_s));
        }
        for ((goal, motion), channel) in self.command.goals.iter_mut().zip(&self.proposed).zip(&self.channels) {
            *goal = channel.goal(motion);
        }
        Ok(verdict)
    }

    /// What of the last proposal was really sent. A channel that was not reached stands still where it was.
    pub fn commit(&mut self, sent: &Sent) {
        for (i, (channel, motion)) in self.channels.iter_mut().zip(&self.proposed).enumerate() {
            channel.commit(motion, sent.get(i));
        }
    }

    /// The channels that would take a tool out of its workspace brake; says whether any had to.
    fn keep_tools_inside(&mut self, dt_s: f64) -> bool {
        let Self { channels, workspaces, proposed, braking, .. } = self;
        let mut acted = false;
        for workspace in workspaces {
            acted |= workspace.keep_inside(channels, proposed, braking, dt_s);
        }
        acted
    }
}

impl Sensed {
    fn of(observed: &Observation, state: Option<usize>, source: ChannelSource) -> Self {
        let part = if let ChannelSource::Part(part) = source { part } else { usize::MAX };
        let fresh = state.and_then(|at| {
            let reading = observed.state.readings().get(at)?;
            Some((observed.state.get(at)?, reading.time?))
        });
        Self { position: fresh, effort: observed.effort.get(part), temperature_c: observed.temperature_c.get(part) }
    }
}
