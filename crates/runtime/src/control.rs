//! The control thread: one episode from the first look at the robot to the safe action.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use sinew_core::{
    Armed, Clock, Environment, Fnv1a, Frame, Interventions, Observation, Outcome, Robot, RobotDescription, RobotError, SafeCommand,
    SafetyGate, Tick,
};

use crate::clock::thread_cpu_ns;
use crate::frames::FramePort;
use crate::plan::{Choice, Moment, Plan};
use crate::report::TickTimes;
use crate::schedule::{Schedule, Turn};
use crate::supervision::Supervision;
use crate::{Cadence, Fault, InferenceStats, Operator, Progress, Realtime, ReturnToRest, SessionConfig, Starvation, StopFlag};

/// How long [`Starvation::SlowStop`] lets a motion run out.
const SLOW_STOP_S: f64 = 0.1;

/// What is left of a motion's speed after so many turns of running out.
fn left_of_motion(turns: u32, dt_s: f64) -> f64 {
    (1.0 - f64::from(turns) * dt_s / SLOW_STOP_S).max(0.0)
}

/// A part of a tick that has not ended.
const UNMARKED: i64 = i64::MIN;

/// What all parts of one episode use.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    pub(crate) config: &'a SessionConfig,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) stop: &'a StopFlag,
    pub(crate) operator: &'a Operator,
    pub(crate) progress: &'a Progress,
    /// Of the policy's ticks.
    pub(crate) period_ns: i64,
}

impl Shared<'_> {
    pub(crate) fn multiplier(&self) -> u64 {
        u64::from(self.config.control_multiplier.max(1))
    }

    /// From a turn of the loop to the next.
    pub(crate) fn turn_ns(&self) -> i64 {
        self.period_ns / self.multiplier().cast_signed()
    }
}

pub(crate) enum Ending {
    Success,
    Failure(String),
    Interrupted,
    /// By the operator.
    Ended {
        keep: bool,
    },
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
    pub(crate) realtime: Realtime,
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
    pub(crate) shared: Shared<'a>,
    pub(crate) gate: SafetyGate,
    /// Of the loop's turns.
    rate_hz: u32,
    pub(crate) schedule: Schedule,
    /// Of the policy.
    max_ticks: u64,
    pub(crate) plan: Plan<'a>,
    pub(crate) frames: FramePort<'a>,
    tally: Tally,
    /// The last command sent; `None` before the first.
    pub(crate) command: Option<SafeCommand>,
    pub(crate) wanted_rad: Vec<f64>,
    /// The last command's way from the one before.
    motion_rad: Vec<f64>,
    /// Turns in a row without an action.
    starved_turns: u32,
    hash: Fnv1a,
    interval_ns: f64,
    /// When the tick that is being run began, and when each of its parts had ended.
    marks_ns: [i64; 6],
    /// What the gate did since the last frame.
    interventions: Interventions,
}

impl<'a> Control<'a> {
    pub(crate) fn new(shared: Shared<'a>, robot: &RobotDescription, max_ticks: u64, plan: Plan<'a>, frames: FramePort<'a>) -> Self {
        let width = robot.joints.len();
        let rate_hz = robot.control_rate_hz * shared.config.control_multiplier.max(1);
        let mut tally = Tally::default();
        tally.cadence.recent.reserve();
        Self {
            shared,
            gate: SafetyGate::of(robot),
            rate_hz,
            schedule: Schedule::new(shared.clock.now(), rate_hz),
            max_ticks,
            plan,
            frames,
            tally,
            command: None,
            wanted_rad: vec![0.0; width],
            motion_rad: vec![0.0; width],
            starved_turns: 0,
            hash: Fnv1a::default(),
            interval_ns: 0.0,
            marks_ns: [0; 6],
            interventions: Interventions::default(),
        }
    }

    /// The whole episode; gives back the frames that nobody holds.
    pub(crate) fn run(mut self, robot: &mut dyn Robot, environment: &mut dyn Environment) -> (Ended, Vec<Box<Frame>>) {
        self.tally.realtime = Realtime::ask(&self.shared.config.realtime);
        let ending = self.run_armed(robot, environment);
        self.tally.cadence.conclude();
        if let Plan::Policy(mut supervision) = self.plan {
            supervision.policy.settle();
            self.tally.late_rows = supervision.policy.late_rows;
            self.tally.inference = supervision.policy.stats;
        }
        self.tally.frames_lost = self.frames.lost;
        (Ended { ending, tally: self.tally }, self.frames.into_free())
    }

    fn run_armed(&mut self, robot: &mut dyn Robot, environment: &mut dyn Environment) -> Ending {
        match self.prepare(robot) {
            Err(fault) => return Ending::Fault(fault),
            Ok(false) => return Ending::Interrupted,
            Ok(true) => {}
        }
        // Said before it is so: who watches must know of torque whenever there is any.
        self.shared.progress.armed.store(true, Relaxed);
        let mut armed = match Armed::new(robot) {
            Ok(armed) => armed,
            Err(source) => return Ending::Fault(Fault::Arm(source)),
        };
        let ending = match self.go_to_start(&mut armed) {
            Err(fault) => Ending::Fault(fault),
            Ok(false) => Ending::Interrupted,
            Ok(true) => {
                let before = thread_cpu_ns();
                let ending = self.episode(&mut armed, environment).unwrap_or_else(Ending::Fault);
                let cpu_ns = before.zip(thread_cpu_ns()).map(|(before, after)| after - before);
                self.tally.cadence.cpu_ns = cpu_ns.filter(|_| self.shared.clock.runs_by_itself());
                ending
            }
        };
        self.tally.action_hash = self.hash.finish();
        self.tally.state_hash = environment.state_hash();
        let rest = match self.shared.config.return_to_rest {
            ReturnToRest::Never => false,
            ReturnToRest::WhenStopped => matches!(ending, Ending::Interrupted),
            ReturnToRest::WhenInterrupted => matches!(ending, Ending::Interrupted | Ending::Ended { .. }),
            ReturnToRest::Always => !matches!(ending, Ending::Fault(_) | Ending::SinksFailed),
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
    fn prepare(&mut self, robot: &mut dyn Robot) -> Result<bool, Fault> {
        let clock = self.shared.clock;
        let period = self.schedule.period();
        let plan = match &mut self.plan {
            Plan::Teleoperator(teleoperator, hand_over, _) => {
                hand_over.begin(true);
                teleoperator.reset().map_err(|source| Fault::Teleoperator { tick: 0, source })?;
                return Ok(true);
            }
            Plan::Policy(supervision) => &mut supervision.policy,
        };
        let observation = &mut self.frames.current.observation;
        let mut look = |observation: &mut Observation| {
            let tick = Tick { index: 0, due: clock.now(), period, wants_images: true };
            robot.observe(&tick, observation).map_err(|source| Fault::Observe { tick: 0, source })?;
            observation.tick = 0;
            finite(observation, robot.description())
        };
        if !plan.begin()? {
            return Ok(false);
        }
        if plan.is_cold() {
            look(observation)?;
            if !plan.warm_up(observation)? {
                return Ok(false);
            }
        }
        look(observation)?;
        plan.first(observation)
    }

    fn episode(&mut self, armed: &mut Armed<'_>, environment: &mut dyn Environment) -> Result<Ending, Fault> {
        let Shared { config, clock, stop, operator, progress, .. } = self.shared;
        self.schedule = Schedule::new(clock.now(), self.rate_hz);
        let settle_ticks = (config.settle_s.max(0.0) * f64::from(self.rate_hz) / self.shared.multiplier() as f64).ceil() as u64;
        let mut failures_in_a_row = 0;
        let mut done_at = None;
        let mut began_before = None;
        let multiplier = self.shared.multiplier();
        let max_turns = self.max_ticks.saturating_mul(multiplier);
        let mut last_tick = None;
        self.tally.cadence.target_rate_hz = f64::from(self.rate_hz);
        loop {
            let turn = self.schedule.wait(clock);
            if stop.is_requested() {
                return Ok(Ending::Interrupted);
            }
            if let Some(keep) = operator.take_end() {
                return Ok(Ending::Ended { keep });
            }
            if self.frames.sinks_failed.load(Acquire) {
                return Ok(Ending::SinksFailed);
            }
            let first_missed = turn.index - turn.missed;
            self.tally.missed_ticks += turn.missed.min(max_turns.saturating_sub(first_missed));
            if turn.index >= max_turns {
                return Ok(self.time_limit());
            }
            let policy_tick = turn.index / multiplier;
            let now = Moment {
                tick: policy_tick,
                is_first: last_tick.replace(policy_tick) != Some(policy_tick),
                share: (turn.index % multiplier) as f64 / multiplier as f64,
            };
            self.marks_ns = [UNMARKED; 6];
            self.marks_ns[0] = turn.began.as_nanos();
            if now.is_first {
                let frame = &mut *self.frames.current;
                (frame.instructions, frame.marks) = (operator.instructions(), operator.marks());
            }
            let looks = done_at.is_none() && now.is_first && self.plan.looks_at(now.tick, self.frames.current.instructions)?;
            let tick = Tick {
                index: turn.index,
                due: turn.due,
                period: self.schedule.period(),
                wants_images: looks || now.is_first && self.frames.link.is_some(),
            };
            match self.tick(armed, &tick, &now, &turn, done_at.is_some()) {
                Ok(Choice::Interrupted) => return Ok(Ending::Interrupted),
                Ok(Choice::Last) => done_at = done_at.or(Some(now.tick)),
                Ok(Choice::Wanted | Choice::Starved | Choice::Held) => failures_in_a_row = 0,
                Err(fault) if is_transient(&fault) && failures_in_a_row < config.transient_ticks => {
                    failures_in_a_row += 1;
                    self.tally.failed_ticks += 1;
                }
                Err(fault) => return Err(fault),
            }
            self.keep_time(&turn, began_before.replace(turn.began));
            progress.tick.store(now.tick, Relaxed);
            progress.total_ticks.fetch_add(1, Relaxed);
            if turn.index % multiplier != multiplier - 1 {
                continue;
            }
            match environment.outcome() {
                Outcome::Success => return Ok(Ending::Success),
                Outcome::Failure(reason) => return Ok(Ending::Failure(reason)),
                Outcome::Running => {}
            }
            if now.tick + 1 >= self.max_ticks {
                return Ok(self.time_limit());
            }
            if done_at.is_some_and(|done| now.tick >= done + settle_ticks) {
                return Ok(Ending::Failure("the teleoperator was done, the task was not".to_owned()));
            }
        }
    }

    fn time_limit(&self) -> Ending {
        Ending::Failure(format!("the time limit of {} ticks has passed", self.max_ticks))
    }

    /// Observe, choose, gate, apply, publish. With `done` the last wanted goals stand.
    fn tick(&mut self, armed: &mut Armed<'_>, tick: &Tick, now: &Moment, turn: &Turn, done: bool) -> Result<Choice, Fault> {
        let clock = self.shared.clock;
        let index = now.tick;
        let dt_s = self.shared.turn_ns() as f64 * 1e-9;
        let frame = &mut *self.frames.current;
        armed.observe(tick, &mut frame.observation).map_err(|source| Fault::Observe { tick: index, source })?;
        frame.observation.tick = index;
        self.marks_ns[1] = clock.now().as_nanos();
        let command = match &mut self.command {
            Some(command) => command,
            None => {
                finite(&frame.observation, armed.description())?;
                self.wanted_rad.copy_from_slice(&frame.observation.position_rad);
                self.command.insert(self.gate.hold(&frame.observation.position_rad))
            }
        };

        let choice = if done {
            Choice::Wanted
        } else {
            self.plan.choose(tick, now, &frame.observation, command.goals_rad(), &mut self.wanted_rad)?
        };
        let starved_turns = self.starved_turns;
        self.starved_turns = if choice == Choice::Starved { starved_turns.saturating_add(1) } else { 0 };
        match choice {
            Choice::Interrupted => return Ok(choice),
            Choice::Wanted | Choice::Last => {}
            Choice::Held => self.wanted_rad.copy_from_slice(command.goals_rad()),
            Choice::Starved => {
                self.tally.starved_ticks += u64::from(now.is_first);
                let go_on = match self.shared.config.starvation {
                    Starvation::Stop => return Err(Fault::Starved { tick: index }),
                    Starvation::Hold => 0.0,
                    Starvation::SlowStop => {
                        let [before, now] = [starved_turns, self.starved_turns].map(|turns| left_of_motion(turns, dt_s));
                        if before > 0.0 { now / before } else { 0.0 }
                    }
                };
                for ((wanted, command), motion) in self.wanted_rad.iter_mut().zip(command.goals_rad()).zip(&self.motion_rad) {
                    *wanted = command + motion * go_on;
                }
            }
        }

        self.marks_ns[2] = clock.now().as_nanos();
        self.motion_rad.copy_from_slice(command.goals_rad());
        let interventions = self.gate.advance(command, &self.wanted_rad, &frame.observation, dt_s);
        for (motion, goal) in self.motion_rad.iter_mut().zip(command.goals_rad()) {
            *motion = goal - *motion;
        }
        self.tally.interventions += interventions;
        self.interventions += interventions;
        self.marks_ns[3] = clock.now().as_nanos();
        armed.apply(command, &mut frame.applied_rad).map_err(|source| Fault::Apply { tick: index, source })?;
        self.marks_ns[4] = clock.now().as_nanos();

        self.hash.write(&tick.index.to_le_bytes());
        for goal in &frame.applied_rad {
            self.hash.write(&goal.to_bits().to_le_bytes());
        }
        if !now.is_first {
            return Ok(choice);
        }
        frame.interventions = std::mem::take(&mut self.interventions);
        frame.tick = index;
        frame.due = tick.due;
        frame.lateness_ns = turn.began.nanos_since(turn.due);
        frame.wanted_rad.copy_from_slice(&self.wanted_rad);
        frame.starved = choice == Choice::Starved;
        frame.actor = self.plan.actor();
        (frame.queued, frame.inference_ns) = match &self.plan {
            Plan::Teleoperator(..) => (0, 0),
            Plan::Policy(Supervision { policy, .. }) => (policy.queued(index + 1) as u32, policy.latency_ns),
        };
        self.shared.progress.queued.store(frame.queued, Relaxed);
        self.frames.publish();
        Ok(choice)
    }

    fn keep_time(&mut self, turn: &Turn, began_before: Option<sinew_core::Timestamp>) {
        let Shared { clock, progress, .. } = self.shared;
        let cadence = &mut self.tally.cadence;
        let lateness_ns = turn.late_ns;
        // A part that failed was the last.
        let now_ns = clock.now().as_nanos();
        self.marks_ns.iter_mut().filter(|mark| **mark == UNMARKED).for_each(|mark| *mark = now_ns);
        let work_ns = self.marks_ns[5] - self.marks_ns[0];
        let parts_ns = std::array::from_fn(|i| self.marks_ns[i + 1] - self.marks_ns[i]);
        cadence.record(TickTimes { turn: turn.index, lateness_ns, work_ns, parts_ns }, self.shared.turn_ns());
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
}

pub(crate) fn is_transient(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Observe { source: RobotError::Transient { .. }, .. }
            | Fault::Apply { source: RobotError::Transient { .. }, .. }
            | Fault::Teleoperator { source: RobotError::Transient { .. }, .. }
    )
}

pub(crate) fn finite(observation: &Observation, robot: &RobotDescription) -> Result<(), Fault> {
    match robot.joints.iter().zip(&observation.position_rad).find(|(_, position)| !position.is_finite()) {
        None => Ok(()),
        Some((joint, found)) => Err(Fault::Position { tick: observation.tick, joint: joint.name.clone(), found: *found }),
    }
}
