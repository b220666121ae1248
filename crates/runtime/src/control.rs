//! The control thread: one episode from the first look at the robot to the safe action.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use sinew_core::{
    Armed, Clock, Environment, Fnv1a, Frame, Interventions, Observation, Outcome, Robot, RobotDescription, RobotError, SafeCommand,
    SafetyGate, Tick,
};

use crate::frames::FramePort;
use crate::plan::{Choice, Plan};
use crate::schedule::{Schedule, Turn};
use crate::{Cadence, Fault, InferenceStats, Progress, ReturnToRest, SessionConfig, Starvation, StopFlag, StopLevel};

/// How fast [`Starvation::SlowStop`] lets a motion run out.
const SLOW_STOP_S: f64 = 0.1;
/// Rest counts as reached when every goal is so near.
const REST_TOLERANCE_RAD: f64 = 1e-6;
/// How much longer than planned the way to rest may take.
const REST_GRACE_S: f64 = 2.0;

/// What all parts of one episode use.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) config: &'a SessionConfig,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) stop: &'a StopFlag,
    pub(crate) progress: &'a Progress,
    pub(crate) period_ns: i64,
}

pub(crate) enum Ending {
    Success,
    Failure(String),
    Interrupted,
    Fault(Fault),
    /// The thread that drives the sinks knows why.
    SinksFailed,
}

/// What the episode counted.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) missed_ticks: u64,
    pub(crate) failed_ticks: u64,
    pub(crate) starved_ticks: u64,
    pub(crate) late_rows: u64,
    pub(crate) frames_lost: u64,
    pub(crate) interventions: Interventions,
    pub(crate) cadence: Cadence,
    pub(crate) inference: InferenceStats,
    pub(crate) action_hash: u64,
    pub(crate) state_hash: u64,
    /// What went wrong after the episode's own end.
    pub(crate) faults: Vec<Fault>,
}

pub(crate) struct Ended {
    pub(crate) ending: Ending,
    pub(crate) tally: Tally,
}

impl Ended {
    /// Ended before the first tick.
    pub(crate) fn early(ending: Ending) -> Self {
        Self { ending, tally: Tally::default() }
    }
}

pub(crate) struct Control<'a> {
    shared: Shared<'a>,
    gate: SafetyGate,
    rate_hz: u32,
    schedule: Schedule,
    max_ticks: u64,
    plan: Plan<'a>,
    frames: FramePort<'a>,
    tally: Tally,
    /// The last command sent; `None` before the first tick.
    command: Option<SafeCommand>,
    wanted_rad: Vec<f64>,
    /// The last command's way from the one before.
    motion_rad: Vec<f64>,
    hash: Fnv1a,
    interval_ns: f64,
}

impl<'a> Control<'a> {
    pub(crate) fn new(shared: Shared<'a>, robot: &RobotDescription, max_ticks: u64, plan: Plan<'a>, frames: FramePort<'a>) -> Self {
        let width = robot.joints.len();
        Self {
            shared,
            gate: SafetyGate::of(robot),
            rate_hz: robot.control_rate_hz,
            schedule: Schedule::new(shared.clock.now(), robot.control_rate_hz),
            max_ticks,
            plan,
            frames,
            tally: Tally::default(),
            command: None,
            wanted_rad: vec![0.0; width],
            motion_rad: vec![0.0; width],
            hash: Fnv1a::default(),
            interval_ns: 0.0,
        }
    }

    /// The whole episode; gives back the frames that nobody holds.
    pub(crate) fn run(mut self, robot: &mut dyn Robot, environment: &mut dyn Environment, warm_up: bool) -> (Ended, Vec<Box<Frame>>) {
        let ending = self.run_armed(robot, environment, warm_up);
        if let Plan::Policy(plan) = self.plan {
            self.tally.late_rows = plan.late_rows;
            self.tally.inference = plan.stats;
        }
        self.tally.frames_lost = self.frames.lost;
        (Ended { ending, tally: self.tally }, self.frames.into_free())
    }

    fn run_armed(&mut self, robot: &mut dyn Robot, environment: &mut dyn Environment, warm_up: bool) -> Ending {
        match self.prepare(robot, warm_up) {
            Err(fault) => return Ending::Fault(fault),
            Ok(false) => return Ending::Interrupted,
            Ok(true) => {}
        }
        let mut armed = match Armed::new(robot) {
            Ok(armed) => armed,
            Err(source) => return Ending::Fault(Fault::Arm(source)),
        };
        self.shared.progress.armed.store(true, Relaxed);
        let ending = self.episode(&mut armed, environment).unwrap_or_else(Ending::Fault);
        self.tally.action_hash = self.hash.finish();
        self.tally.state_hash = environment.state_hash();
        let rest = match self.shared.config.return_to_rest {
            ReturnToRest::Never => false,
            ReturnToRest::WhenInterrupted => matches!(ending, Ending::Interrupted),
            ReturnToRest::Always => matches!(ending, Ending::Interrupted | Ending::Success | Ending::Failure(_)),
        };
        if rest && let Err(fault) = self.rest(&mut armed) {
            self.tally.faults.push(fault);
        }
        if let Err(source) = armed.disarm() {
            self.tally.faults.push(Fault::Stop(source));
        }
        self.shared.progress.armed.store(false, Relaxed);
        ending
    }

    /// The source's first actions, before anything moves. `false` when a stop was asked for.
    fn prepare(&mut self, robot: &mut dyn Robot, warm_up: bool) -> Result<bool, Fault> {
        let clock = self.shared.clock;
        let period = self.schedule.period();
        let plan = match &mut self.plan {
            Plan::Teleoperator(teleoperator) => {
                teleoperator.reset().map_err(|source| Fault::Teleoperator { tick: 0, source })?;
                return Ok(true);
            }
            Plan::Policy(plan) => plan,
        };
        let observation = &mut self.frames.current.observation;
        let mut look = |observation: &mut Observation| {
            let tick = Tick { index: 0, due: clock.now(), period, wants_images: true };
            robot.observe(&tick, observation).map_err(|source| Fault::Observe { tick: 0, source })?;
            observation.tick = 0;
            finite(observation, robot.description())
        };
        if warm_up {
            look(observation)?;
            if !plan.warm_up(observation)? {
                return Ok(false);
            }
        }
        look(observation)?;
        plan.first(observation)
    }

    fn episode(&mut self, armed: &mut Armed<'_>, environment: &mut dyn Environment) -> Result<Ending, Fault> {
        let Shared { config, clock, stop, progress, .. } = self.shared;
        self.schedule = Schedule::new(clock.now(), self.rate_hz);
        let settle_ticks = (config.settle_s.max(0.0) * f64::from(self.rate_hz)).ceil() as u64;
        let mut failures_in_a_row = 0;
        let mut done_at = None;
        let mut began_before = None;
        self.tally.cadence.target_rate_hz = f64::from(self.rate_hz);
        loop {
            let turn = self.schedule.wait(clock);
            if stop.is_requested() {
                return Ok(Ending::Interrupted);
            }
            if self.frames.sinks_failed.load(Acquire) {
                return Ok(Ending::SinksFailed);
            }
            let first_missed = turn.index - turn.missed;
            self.tally.missed_ticks += turn.missed.min(self.max_ticks.saturating_sub(first_missed));
            if turn.index >= self.max_ticks {
                return Ok(self.time_limit());
            }
            let looks = done_at.is_none() && self.plan.looks_at(turn.index)?;
            let tick = Tick {
                index: turn.index,
                due: turn.due,
                period: self.schedule.period(),
                wants_images: looks || self.frames.link.is_some(),
            };
            match self.tick(armed, &tick, &turn, done_at.is_some()) {
                Ok(Choice::Interrupted) => return Ok(Ending::Interrupted),
                Ok(Choice::Last) => done_at = Some(turn.index),
                Ok(Choice::Wanted | Choice::Starved) => failures_in_a_row = 0,
                Err(fault) if is_transient(&fault) && failures_in_a_row < config.transient_ticks => {
                    failures_in_a_row += 1;
                    self.tally.failed_ticks += 1;
                }
                Err(fault) => return Err(fault),
            }
            self.keep_time(&turn, began_before.replace(turn.began));
            progress.tick.store(turn.index, Relaxed);
            progress.total_ticks.fetch_add(1, Relaxed);
            match environment.outcome() {
                Outcome::Success => return Ok(Ending::Success),
                Outcome::Failure(reason) => return Ok(Ending::Failure(reason)),
                Outcome::Running => {}
            }
            if turn.index + 1 >= self.max_ticks {
                return Ok(self.time_limit());
            }
            if done_at.is_some_and(|done| turn.index >= done + settle_ticks) {
                return Ok(Ending::Failure("the teleoperator was done, the task was not".to_owned()));
            }
        }
    }

    fn time_limit(&self) -> Ending {
        Ending::Failure(format!("the time limit of {} ticks has passed", self.max_ticks))
    }

    /// Observe, choose, gate, apply, publish. With `done` the last wanted goals stand.
    fn tick(&mut self, armed: &mut Armed<'_>, tick: &Tick, turn: &Turn, done: bool) -> Result<Choice, Fault> {
        let index = tick.index;
        let dt_s = self.shared.period_ns as f64 * 1e-9;
        let frame = &mut *self.frames.current;
        armed.observe(tick, &mut frame.observation).map_err(|source| Fault::Observe { tick: index, source })?;
        frame.observation.tick = index;
        let command = match &mut self.command {
            Some(command) => command,
            None => {
                finite(&frame.observation, armed.description())?;
                self.wanted_rad.copy_from_slice(&frame.observation.position_rad);
                self.command.insert(self.gate.hold(&frame.observation.position_rad))
            }
        };

        let choice = if done { Choice::Wanted } else { self.plan.choose(tick, &frame.observation, &mut self.wanted_rad)? };
        match choice {
            Choice::Interrupted => return Ok(choice),
            Choice::Wanted | Choice::Last => {}
            Choice::Starved => {
                self.tally.starved_ticks += 1;
                let go_on = match self.shared.config.starvation {
                    Starvation::Stop => return Err(Fault::Starved { tick: index }),
                    Starvation::Hold => 0.0,
                    Starvation::SlowStop => (-dt_s / SLOW_STOP_S).exp(),
                };
                for ((wanted, command), motion) in self.wanted_rad.iter_mut().zip(command.goals_rad()).zip(&self.motion_rad) {
                    *wanted = command + motion * go_on;
                }
            }
        }

        self.motion_rad.copy_from_slice(command.goals_rad());
        frame.interventions = self.gate.advance(command, &self.wanted_rad, &frame.observation, dt_s);
        for (motion, goal) in self.motion_rad.iter_mut().zip(command.goals_rad()) {
            *motion = goal - *motion;
        }
        armed.apply(command, &mut frame.applied_rad).map_err(|source| Fault::Apply { tick: index, source })?;

        self.hash.write(&index.to_le_bytes());
        for goal in &frame.applied_rad {
            self.hash.write(&goal.to_bits().to_le_bytes());
        }
        self.tally.interventions += frame.interventions;
        frame.tick = index;
        frame.due = tick.due;
        frame.lateness_ns = turn.began.nanos_since(turn.due);
        frame.wanted_rad.copy_from_slice(&self.wanted_rad);
        frame.starved = choice == Choice::Starved;
        (frame.queued, frame.inference_ns) = match &self.plan {
            Plan::Teleoperator(_) => (0, 0),
            Plan::Policy(plan) => (plan.queued(index + 1) as u32, plan.latency_ns),
        };
        self.shared.progress.queued.store(frame.queued, Relaxed);
        self.frames.publish();
        Ok(choice)
    }

    fn keep_time(&mut self, turn: &Turn, began_before: Option<sinew_core::Timestamp>) {
        let Shared { clock, progress, .. } = self.shared;
        let cadence = &mut self.tally.cadence;
        let lateness_ns = turn.began.nanos_since(turn.due);
        cadence.ticks += 1;
        cadence.lateness.record(lateness_ns);
        cadence.work.record(clock.now().nanos_since(turn.began));
        if let Some(before) = began_before {
            let interval_ns = turn.began.nanos_since(before);
            cadence.elapsed_ns += interval_ns;
            let weight = if self.interval_ns == 0.0 { 1.0 } else { 1.0 / f64::from(self.rate_hz) };
            self.interval_ns += weight * (interval_ns as f64 - self.interval_ns);
            cadence.achieved_rate_hz = (cadence.ticks - 1) as f64 / (cadence.elapsed_ns as f64 * 1e-9);
            progress.rate_mhz.store((1e12 / self.interval_ns) as u64, Relaxed);
        }
        progress.lateness_ns.store(lateness_ns, Relaxed);
        progress.interventions.store(self.tally.interventions.total(), Relaxed);
        progress.missed_ticks.store(self.tally.missed_ticks, Relaxed);
        progress.starved_ticks.store(self.tally.starved_ticks, Relaxed);
        progress.frames_lost.store(self.frames.lost, Relaxed);
    }

    /// Moves to the rest position, unless the stop becomes urgent. Nothing of it is published.
    fn rest(&mut self, armed: &mut Armed<'_>) -> Result<(), Fault> {
        let Shared { config, clock, stop, .. } = self.shared;
        let Some(command) = &mut self.command else { return Ok(()) };
        let rest_rad = armed.description().stop.rest_rad.clone();
        let dt_s = self.shared.period_ns as f64 * 1e-9;
        let stride_rad = config.rest_velocity_rad_per_s * dt_s;
        if !(stride_rad > 0.0 && stride_rad.is_finite()) {
            return Ok(());
        }
        let far_rad = command.goals_rad().iter().zip(&rest_rad).map(|(goal, rest)| (goal - rest).abs()).fold(0.0, f64::max);
        let limit_ticks = ((far_rad / config.rest_velocity_rad_per_s + REST_GRACE_S) / dt_s) as u64;
        let frame = &mut *self.frames.current;
        let mut failures_in_a_row = 0;
        let mut first_tick = None;
        loop {
            let turn = self.schedule.wait(clock);
            let ticks = turn.index - *first_tick.get_or_insert(turn.index);
            let there = command.goals_rad().iter().zip(&rest_rad).all(|(goal, rest)| (goal - rest).abs() <= REST_TOLERANCE_RAD);
            if there || ticks >= limit_ticks || stop.level() == StopLevel::Now {
                return Ok(());
            }
            let tick = Tick { index: turn.index, due: turn.due, period: self.schedule.period(), wants_images: false };
            for ((wanted, goal), rest) in self.wanted_rad.iter_mut().zip(command.goals_rad()).zip(&rest_rad) {
                *wanted = goal + (rest - goal).clamp(-stride_rad, stride_rad);
            }
            let moved =
                armed.observe(&tick, &mut frame.observation).map_err(|source| Fault::Observe { tick: turn.index, source }).and_then(|()| {
                    self.gate.advance(command, &self.wanted_rad, &frame.observation, dt_s);
                    armed.apply(command, &mut frame.applied_rad).map_err(|source| Fault::Apply { tick: turn.index, source })
                });
            match moved {
                Ok(()) => failures_in_a_row = 0,
                Err(fault) if is_transient(&fault) && failures_in_a_row < config.transient_ticks => failures_in_a_row += 1,
                Err(fault) => return Err(fault),
            }
        }
    }
}

fn is_transient(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Observe { source: RobotError::Transient { .. }, .. }
            | Fault::Apply { source: RobotError::Transient { .. }, .. }
            | Fault::Teleoperator { source: RobotError::Transient { .. }, .. }
    )
}

fn finite(observation: &Observation, robot: &RobotDescription) -> Result<(), Fault> {
    match robot.joints.iter().zip(&observation.position_rad).find(|(_, position)| !position.is_finite()) {
        None => Ok(()),
        Some((joint, found)) => Err(Fault::Position { tick: observation.tick, joint: joint.name.clone(), found: *found }),
    }
}
