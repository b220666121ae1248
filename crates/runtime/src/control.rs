//! The control thread: one episode from the first look at the robot to the safe action.

use std::ops::AddAssign;
use std::sync::atomic::Ordering::Relaxed;

use sinew_core::{
    Armed, Cameras, Clock, CommandMode, DriveError, Driven, EpisodeSetup, Fnv1a, Interventions, Lease, LeaseState, Outcome, Robot,
    RobotDescription, RobotError, Tick, Timestamp, Wanted,
};

use crate::acting::Acting;
use crate::asking::Choice;
use crate::at_work::AtWork;
use crate::clock::thread_cpu_ns;
use crate::frames::FramePort;
use crate::judge::Judge;
use crate::report::{PARTS, TickTimes};
use crate::schedule::{Schedule, Turn};
use crate::{Cadence, Fault, InferenceStats, Operator, Progress, Realtime, ReturnToRest, SessionConfig, Starvation, StopFlag, StopLevel};

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
    pub(crate) lease: &'a dyn Lease,
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

    pub(crate) fn turn_s(&self) -> f64 {
        self.turn_ns() as f64 * 1e-9
    }
}

/// When a turn of the control loop is, in the policy's terms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment {
    /// The policy's tick that has begun.
    pub(crate) tick: u64,
    /// Whether this is the first turn in it.
    pub(crate) is_first: bool,
    /// How much of it has passed, 0 to 1.
    pub(crate) share: f64,
    /// Until when a choice may be waited for: the other half of the turn is for what follows.
    pub(crate) until: Timestamp,
}

#[expect(clippy::large_enum_variant, reason = "there is one an episode, and the control thread boxes nothing")]
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

/// What is counted while one instruction stands.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counted {
    pub(crate) ticks: u64,
    pub(crate) missed_ticks: u64,
    pub(crate) failed_ticks: u64,
    pub(crate) waiting_ticks: u64,
    pub(crate) starved_ticks: u64,
    pub(crate) interventions: Interventions,
}

impl AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.ticks += other.ticks;
        self.missed_ticks += other.missed_ticks;
        self.failed_ticks += other.failed_ticks;
        self.waiting_ticks += other.waiting_ticks;
        self.starved_ticks += other.starved_ticks;
        self.interventions += other.interventions;
    }
}

/// So many changes of the instruction fit without an allocation on the control thread.
const USUAL_CHANGES: usize = 32;

/// What the episode counted.
#[derive(Default)]
pub(crate) struct Tally {
    /// What was counted under each instruction that another has replaced, by how many had been set.
    pub(crate) before: Vec<(u64, Counted)>,
    /// How many instructions had been set at the end, and what was counted since the last one.
    pub(crate) instructions: u64,
    pub(crate) counted: Counted,
    pub(crate) late_rows: u64,
    pub(crate) frames_lost: u64,
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

/// The robot's side of an episode.
pub(crate) struct Body<'a> {
    pub(crate) robot: &'a mut dyn Robot,
    pub(crate) cameras: &'a mut dyn Cameras,
}

pub(crate) struct Control<'a> {
    pub(crate) shared: Shared<'a>,
    pub(crate) robot: &'a RobotDescription,
    /// Of the loop's turns.
    rate_hz: u32,
    pub(crate) schedule: Schedule,
    /// Of the policy.
    max_ticks: u64,
    /// Whether an episode that is still running then has failed.
    is_judged: bool,
    /// Whether images from before the episode show another scene.
    pub(crate) is_set_up: bool,
    pub(crate) acting: Acting<'a>,
    pub(crate) frames: FramePort,
    tally: Tally,
    pub(crate) wanted: Wanted,
    /// Which channels are positions.
    pub(crate) positions: Vec<bool>,
    /// The last command's way from the one before.
    pub(crate) motion: Vec<f64>,
    /// Turns in a row without an action.
    starved_turns: u32,
    /// Since when commands have not reached the robot.
    failing_since: Option<Timestamp>,
    hash: Fnv1a,
    interval_ns: f64,
    /// When the turn that is being run began, and when each of its parts had ended.
    marks_ns: [i64; PARTS + 1],
    /// What the gate did since the last frame.
    interventions: Interventions,
}

/// Which channels of `robot`'s action are positions.
pub(crate) fn positions_of(robot: &RobotDescription) -> Vec<bool> {
    let is_position = |mode| matches!(mode, Some(CommandMode::Position | CommandMode::Impedance));
    robot.action_channels().iter().map(|channel| is_position(channel.mode)).collect()
}

impl<'a> Control<'a> {
    /// An episode of what was set up.
    pub(crate) fn new(
        shared: Shared<'a>,
        robot: &'a RobotDescription,
        setup: &EpisodeSetup,
        acting: Acting<'a>,
        frames: FramePort,
    ) -> Self {
        let positions = positions_of(robot);
        let width = positions.len();
        let rate_hz = robot.control_rate_hz * shared.config.control_multiplier.max(1);
        let mut tally = Tally::default();
        tally.cadence.recent.reserve();
        tally.before.reserve(USUAL_CHANGES);
        Self {
            shared,
            robot,
            rate_hz,
            schedule: Schedule::new(shared.clock.now(), rate_hz),
            max_ticks: setup.max_ticks,
            is_judged: setup.is_judged,
            is_set_up: setup.is_set_up,
            acting,
            frames,
            tally,
            wanted: Wanted::for_robot(robot),
            positions,
            motion: vec![0.0; width],
            starved_turns: 0,
            failing_since: None,
            hash: Fnv1a::default(),
            interval_ns: 0.0,
            marks_ns: [0; PARTS + 1],
            interventions: Interventions::default(),
        }
    }

    /// The whole episode; gives back what publishes frames.
    pub(crate) fn run(mut self, body: Body<'_>, judge: &mut Judge) -> (Ended, FramePort) {
        self.tally.realtime = Realtime::ask(&self.shared.config.realtime);
        let _at_work = self.shared.clock.runs_by_itself().then(|| AtWork::say(&self.shared.config.realtime));
        let ending = self.run_armed(body, judge);
        self.tally.cadence.conclude();
        if let Some(mut policy) = self.acting.policy {
            policy.settle();
            self.tally.late_rows = policy.late_rows;
            self.tally.inference = policy.stats;
        }
        self.tally.frames_lost = self.frames.lost();
        (Ended { ending, tally: self.tally }, self.frames)
    }

    fn run_armed(&mut self, body: Body<'_>, judge: &mut Judge) -> Ending {
        let Body { robot, cameras } = body;
        match self.prepare(robot, cameras) {
            Err(fault) => return Ending::Fault(fault),
            Ok(false) => return Ending::Interrupted,
            Ok(true) => {}
        }
        // Said before it is so: a process that is told to end must know of torque whenever there is any.
        self.shared.progress.armed.store(true, Relaxed);
        let (lease, clock) = (self.shared.lease, self.shared.clock);
        let tick = self.tick_of(0, clock.now(), false);
        let mut armed = match Armed::new(robot, lease, clock, &tick, &mut self.frames.current.observation) {
            Ok(armed) => armed,
            Err(source) => {
                self.shared.progress.armed.store(false, Relaxed);
                return Ending::Fault(Fault::Arm(source));
            }
        };
        let start = self.go_to_start(&mut armed, cameras).and_then(|goes_on| Ok(goes_on && self.look_again(&mut armed, cameras)?));
        let ending = match start {
            Err(fault) => Ending::Fault(fault),
            Ok(false) => Ending::Interrupted,
            Ok(true) => {
                let before = thread_cpu_ns();
                let ending = self.episode(&mut armed, cameras, judge).unwrap_or_else(Ending::Fault);
                let cpu_ns = before.zip(thread_cpu_ns()).map(|(before, after)| after - before);
                self.tally.cadence.cpu_ns = cpu_ns.filter(|_| clock.runs_by_itself());
                ending
            }
        };
        let ending = match ending {
            // Whoever lost the robot to its watchdog is told to stop by that, too: it is the cause.
            Ending::Interrupted if lease.state() == LeaseState::Lost => {
                let tick = self.shared.progress.snapshot().tick;
                Ending::Fault(Fault::Drive { tick, source: DriveError::Lease })
            }
            ending => ending,
        };
        self.tally.action_hash = self.hash.finish();
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

    /// Sleeps until the next turn is due, or the safe action is wanted at once: whoever waits asks for that next.
    pub(crate) fn wait(&mut self) -> Turn {
        let Shared { clock, lease, stop, .. } = self.shared;
        self.schedule.wait(clock, || {
            lease.beat();
            stop.level() < StopLevel::Now
        })
    }

    pub(crate) fn tick_of(&self, turn: u64, due: Timestamp, wants_images: bool) -> Tick {
        Tick { turn, due, period: self.schedule.period(), wants_images }
    }

    fn episode(&mut self, armed: &mut Armed<'_>, cameras: &mut dyn Cameras, judge: &mut Judge) -> Result<Ending, Fault> {
        let Shared { config, clock, stop, operator, progress, .. } = self.shared;
        self.schedule = Schedule::new(clock.now(), self.rate_hz);
        let multiplier = self.shared.multiplier();
        let settle_ticks = (config.settle_s.max(0.0) * f64::from(self.rate_hz) / multiplier as f64).ceil() as u64;
        let max_turns = self.max_ticks.saturating_mul(multiplier);
        let (mut done_at, mut began_before, mut last_tick) = (None, None, None);
        self.tally.cadence.target_rate_hz = f64::from(self.rate_hz);
        loop {
            let turn = self.wait();
            if stop.is_requested() {
                return Ok(Ending::Interrupted);
            }
            if let Some(keep) = operator.take_end() {
                return Ok(Ending::Ended { keep });
            }
            if self.frames.has_failed() {
                return Ok(Ending::SinksFailed);
            }
            let first_missed = turn.index - turn.missed;
            self.tally.counted.missed_ticks += turn.missed.min(max_turns.saturating_sub(first_missed));
            if turn.index >= max_turns {
                return Ok(self.time_limit());
            }
            let policy_tick = turn.index / multiplier;
            let now = Moment {
                tick: policy_tick,
                is_first: last_tick.replace(policy_tick) != Some(policy_tick),
                share: (turn.index % multiplier) as f64 / multiplier as f64,
                until: turn.due + self.schedule.period() / 2,
            };
            match self.turn(armed, cameras, &now, &turn, done_at.is_some())? {
                Choice::Interrupted => return Ok(Ending::Interrupted),
                Choice::Last => done_at = done_at.or(Some(now.tick)),
                Choice::Wanted | Choice::Stale | Choice::Starved | Choice::Waiting | Choice::Held | Choice::Silent => {}
            }
            self.keep_time(&turn, began_before.replace(turn.began));
            progress.tick.store(now.tick, Relaxed);
            progress.total_ticks.fetch_add(1, Relaxed);
            if turn.index % multiplier != multiplier - 1 {
                continue;
            }
            let is_last = now.tick + 1 >= self.max_ticks;
            let outcome = match judge.outcome(clock)? {
                Outcome::Running if is_last => judge.last_word()?,
                outcome => outcome,
            };
            match outcome {
                Outcome::Success => return Ok(Ending::Success),
                Outcome::Failure(reason) => return Ok(Ending::Failure(reason)),
                Outcome::Running if is_last => return Ok(self.time_limit()),
                Outcome::Running => {}
            }
            if done_at.is_some_and(|done| now.tick >= done + settle_ticks) {
                return Ok(Ending::Failure("the teleoperator was done, the task was not".to_owned()));
            }
        }
    }

    fn time_limit(&self) -> Ending {
        if !self.is_judged {
            return Ending::Ended { keep: true };
        }
        Ending::Failure(format!("the time limit of {} ticks has passed", self.max_ticks))
    }

    /// Read, choose, drive, publish. With `done` the last wanted goals stand.
    fn turn(&mut self, armed: &mut Armed<'_>, cameras: &mut dyn Cameras, now: &Moment, turn: &Turn, done: bool) -> Result<Choice, Fault> {
        let Shared { clock, operator, progress, .. } = self.shared;
        let in_step = !clock.runs_by_itself();
        self.marks_ns = [UNMARKED; PARTS + 1];
        self.marks_ns[0] = turn.began.as_nanos();
        if now.is_first {
            let frame = &mut *self.frames.current;
            (frame.instructions, frame.marks) = (operator.instructions(), operator.marks());
            let before = std::mem::replace(&mut self.tally.instructions, frame.instructions);
            if before != frame.instructions && self.tally.counted.ticks > 0 {
                let counted = std::mem::take(&mut self.tally.counted);
                self.tally.before.push((before, counted));
            }
        }

        // Read.
        let looks = !done && now.is_first && self.acting.looks_at(now.tick, self.frames.current.instructions)?;
        // Where images cost nothing but the time of others they are never old.
        let wants_images = now.is_first && (looks || self.frames.is_watched() || !in_step);
        let tick = self.tick_of(turn.index, turn.due, wants_images);
        if !in_step && !done {
            self.acting.ask_human(&tick, clock, &self.frames.current.observation, armed.commanded())?;
        }
        let mut failed = self.read(armed, &tick, now.tick)?;
        if wants_images {
            self.see(cameras, &tick, now.tick)?;
        }
        if in_step && !done {
            self.acting.ask_human(&tick, clock, &self.frames.current.observation, armed.commanded())?;
        }
        self.mark(0);

        // Choose.
        let frame = &mut *self.frames.current;
        let choice = if done {
            self.wanted.time = clock.now();
            Choice::Wanted
        } else {
            self.acting.choose(now, &self.shared, &frame.observation, armed.commanded(), &mut self.wanted)?
        };
        let moves = match choice {
            Choice::Interrupted => return Ok(choice),
            Choice::Wanted | Choice::Last => true,
            Choice::Held | Choice::Waiting => false,
            Choice::Stale | Choice::Silent => {
                self.tally.counted.starved_ticks += u64::from(now.is_first);
                choice == Choice::Stale
            }
            Choice::Starved => self.run_out(armed.commanded(), now)?,
        };
        self.starved_turns = if choice == Choice::Starved { self.starved_turns.saturating_add(1) } else { 0 };
        if !moves {
            self.wanted.goals.copy_from_slice(armed.commanded());
        }
        self.mark(1);

        // Drive.
        self.motion.copy_from_slice(armed.commanded());
        let (was_not_driven, interventions) = self.drive(armed, moves, now.tick)?;
        failed |= was_not_driven;
        self.tally.counted.interventions += interventions;
        self.interventions += interventions;
        for (motion, sent) in self.motion.iter_mut().zip(armed.commanded()) {
            *motion = sent - *motion;
        }
        self.tally.counted.failed_ticks += u64::from(failed);
        self.mark(2);
        self.hash.write(&turn.index.to_le_bytes());
        for sent in armed.commanded() {
            self.hash.write(&sent.to_bits().to_le_bytes());
        }
        if !now.is_first {
            return Ok(choice);
        }
        if choice == Choice::Waiting {
            // As in LeRobot, the time in which the robot waits for its policy is no part of the data.
            self.tally.counted.waiting_ticks += 1;
            return Ok(choice);
        }

        // Publish.
        let frame = &mut *self.frames.current;
        frame.interventions = std::mem::take(&mut self.interventions);
        frame.tick = now.tick;
        frame.due = turn.due;
        frame.lateness_ns = turn.began.nanos_since(turn.due);
        frame.wanted.copy_from_slice(&self.wanted.goals);
        frame.sent.copy_from_slice(armed.commanded());
        frame.starved = matches!(choice, Choice::Starved | Choice::Stale | Choice::Silent);
        frame.actor = self.acting.actor();
        (frame.queued, frame.inference_ns) =
            self.acting.policy.as_ref().map_or((0, 0), |policy| (policy.queued(now.tick + 1) as u32, policy.latency_ns));
        progress.queued.store(frame.queued, Relaxed);
        self.frames.publish();
        Ok(choice)
    }

    /// Reads the robot; says whether that failed. What was not read stands from before, and ages: the gate sees to it.
    pub(crate) fn read(&mut self, armed: &mut Armed<'_>, tick: &Tick, policy_tick: u64) -> Result<bool, Fault> {
        let observation = &mut self.frames.current.observation;
        let read = armed.read(tick, observation);
        // What is asked about it is asked in the policy's ticks.
        observation.tick = policy_tick;
        match read {
            Ok(()) => Ok(false),
            Err(RobotError::Transient { .. }) => Ok(true),
            Err(source) => Err(Fault::Observe { tick: policy_tick, source }),
        }
    }

    /// Drives the robot to what is wanted, or to rest; says whether that failed, and what the gate did.
    pub(crate) fn drive(&mut self, armed: &mut Armed<'_>, moves: bool, policy_tick: u64) -> Result<(bool, Interventions), Fault> {
        let wanted = moves.then_some(&self.wanted);
        let (driven, error) = match armed.drive(wanted, &self.frames.current.observation, self.shared.turn_s()) {
            Ok(driven) => (driven, None),
            Err(error) if error.is_transient() => (Driven::default(), Some(error)),
            Err(source) => return Err(Fault::Drive { tick: policy_tick, source }),
        };
        if error.is_none() && driven.unreached == 0 {
            self.failing_since = None;
            return Ok((false, driven.interventions));
        }
        // For how long a lease may be unconfirmed is not the robot's affair.
        let is_the_lease = error.is_none() && self.shared.lease.state() != LeaseState::Held;
        let now = self.shared.clock.now();
        let since = *self.failing_since.get_or_insert(now);
        if armed.is_away() {
            self.acting.leave_alone();
            return Ok((true, driven.interventions));
        }
        if is_the_lease || now.nanos_since(since) as f64 * 1e-9 <= self.shared.config.transient_s {
            return Ok((true, driven.interventions));
        }
        let unreached = || RobotError::transient("commanding the robot", "some of its motors were not reached");
        Err(Fault::Drive { tick: policy_tick, source: error.unwrap_or_else(|| DriveError::Robot(unreached())) })
    }

    /// What the starvation behaviour wants; whether anything moves.
    fn run_out(&mut self, commanded: &[f64], now: &Moment) -> Result<bool, Fault> {
        self.tally.counted.starved_ticks += u64::from(now.is_first);
        let go_on = match self.shared.config.starvation {
            Starvation::Stop => return Err(Fault::Starved { tick: now.tick }),
            Starvation::Hold => return Ok(false),
            Starvation::SlowStop => {
                let turn_s = self.shared.turn_s();
                let [before, now] = [self.starved_turns, self.starved_turns + 1].map(|turns| left_of_motion(turns, turn_s));
                if before > 0.0 { now / before } else { 0.0 }
            }
        };
        self.wanted.time = self.shared.clock.now();
        for (i, (wanted, commanded)) in self.wanted.goals.iter_mut().zip(commanded).enumerate() {
            *wanted = if self.positions[i] { commanded + self.motion[i] * go_on } else { commanded * go_on };
        }
        Ok(true)
    }

    /// Part `part` of the turn has ended.
    fn mark(&mut self, part: usize) {
        self.marks_ns[part + 1] = self.shared.clock.now().as_nanos();
    }

    fn keep_time(&mut self, turn: &Turn, began_before: Option<Timestamp>) {
        let Shared { clock, progress, .. } = self.shared;
        self.tally.counted.ticks += 1;
        let cadence = &mut self.tally.cadence;
        let lateness_ns = turn.late_ns;
        // A part that failed was the last.
        let now_ns = clock.now().as_nanos();
        self.marks_ns.iter_mut().filter(|mark| **mark == UNMARKED).for_each(|mark| *mark = now_ns);
        let work_ns = self.marks_ns[PARTS] - self.marks_ns[0];
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
        progress.interventions.store(self.tally.counted.interventions.total(), Relaxed);
        progress.missed_ticks.store(self.tally.counted.missed_ticks, Relaxed);
        progress.starved_ticks.store(self.tally.counted.starved_ticks, Relaxed);
        progress.frames_lost.store(self.frames.lost(), Relaxed);
    }
}
