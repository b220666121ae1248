//! The one who owns a robot for as long as the process lives, and lends it to one work after the other. A thread of its own has the
//! robot: at rest it looks at it, and a work runs on it, so that nothing else ever reaches a motor.

mod acting;
mod asked;
mod board;
mod calibrate;
mod children;
mod evaluation;
mod hands;
pub mod install;
mod led_by_page;
pub mod led_remotely;
pub mod lifeline;
mod limp;
pub mod lock;
pub mod notify;
pub mod policies;
mod publish;
pub mod service;
mod silence;
mod store;
mod tasks;
mod words;
mod work;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value as Json;
use sinew_core::service::{
    Acting, Calibratable, CalibrationReply, CalibrationState, LogLine, LoopState, Mode, Phase, PolicyUsed, State, StopState, StopWish,
    WorkEnd, WorkState,
};
use sinew_core::{
    Actor, Clock, EpisodeEnd, EpisodeStart, Frame, FrameSink, Observation, OnFailure, RobotDescription, RobotError, SinkError,
    StopBehaviour, Tick, Timestamp,
};
use sinew_drivers::teleop::ToolError;
use sinew_runtime::{AsItIs, EpisodeReport, Fault, MonotonicClock, Progress, Series, StopFlag, StopLevel};

use crate::args::DaemonArgs;
use crate::commands::rollout::Setting;
use crate::desk::Desk;
use crate::host::Listener;
use crate::rig::Rig;
use crate::text::note;
use crate::{hardware, text};
use board::Board;
use hands::Hands;
use led_remotely::Goals;
use policies::Policies;
pub use service::channels;
use silence::Silence;
use tasks::Tasks;
use work::Job;

/// How often a robot at rest is looked at, and while somebody sees its cameras.
const AT_REST: Duration = Duration::from_millis(100);
const WATCHED: Duration = Duration::from_millis(33);
/// How long a robot that is not there is left alone before it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(3);
/// How many lines are remembered.
const MOST_LINES: usize = 1000;

/// The owner of one robot.
pub struct Owned {
    args: DaemonArgs,
    setting: Setting,
    calibratable: Vec<Calibratable>,
    datasets: PathBuf,
    clock: Arc<dyn Clock>,
    board: Board,
    goals: Goals,
    /// Or why there are none.
    hands: Result<Hands, ToolError>,
    tasks: Tasks,
    policies: Arc<Policies>,
    /// What runs, or is to run next.
    current: Mutex<Option<Current>>,
    asked: Mutex<Option<Job>>,
    is_asked: Condvar,
    last: Mutex<Option<WorkEnd>>,
    ended: AtomicU64,
    is_emergency: AtomicBool,
    is_connected: AtomicBool,
    /// Torque stays on when a work has ended, in some part at least.
    holds: bool,
    /// Torque is on at rest, as the motors say where they do; else as the last work has left it.
    is_holding: AtomicBool,
    /// Threads that prepare a work, also of works that were stopped meanwhile.
    preparing: Arc<()>,
    /// Turns at rest: together with the loop's ticks, what the system's watchdog believes.
    looks: AtomicU64,
    is_over: AtomicBool,
}

/// What is known of the work that runs.
struct Current {
    mode: Mode,
    stop: StopFlag,
    desk: Option<Desk>,
    progress: Option<Arc<Progress>>,
    is_led_remotely: bool,
    work: WorkState,
    /// Ticks between two episodes, and since when these count.
    between: u64,
    between_since: Timestamp,
    rate_hz: f64,
    reports: Vec<Json>,
    kept: u64,
    /// Of a policy of the Hub: its commit, whether an answer of it was executed, and what was wrong with it.
    policy: Option<PolicyUsed>,
    has_acted: bool,
    policy_fault: Option<String>,
    /// Where a calibration is, and what was answered to it.
    calibration: Option<CalibrationState>,
    reply: Option<CalibrationReply>,
    result: Option<Json>,
}

/// Lines that were said, oldest first.
static LOG: OnceLock<Mutex<(u64, VecDeque<LogLine>)>> = OnceLock::new();

/// Remembers what is said from now on.
pub fn begin_log() {
    LOG.get_or_init(Mutex::default);
    text::overhear(|line| {
        let Some(log) = LOG.get() else { return };
        let mut log = lock(log);
        let (count, lines) = &mut *log;
        *count += 1;
        lines.push_back(LogLine { number: *count, time_ms: store::now_ms(), text: line.to_owned() });
        if lines.len() > MOST_LINES {
            lines.pop_front();
        }
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owned {
    /// The owner of the robot that `args` name, which is not connected yet. The file at `policies` remembers which commits were good.
    ///
    /// # Errors
    /// When there is no such robot, or nobody like the one who is to lead it.
    pub fn of(args: &DaemonArgs, datasets: PathBuf, policies: PathBuf) -> anyhow::Result<Arc<Self>> {
        let setting = work::setting(args)?;
        std::fs::create_dir_all(&datasets).with_context(|| format!("making the folder of datasets {}", datasets.display()))?;
        let clock: Arc<dyn Clock> = Arc::new(MonotonicClock::new());
        let board = Board::new(setting.robot(), clock.clone());
        let robot = setting.robot();
        let hands = Hands::of(robot, &clock);
        let holds = robot.parts.iter().any(|part| part.stop.unwrap_or(robot.stop.behaviour) == StopBehaviour::Hold);
        Ok(Arc::new(Self {
            args: args.clone(),
            calibratable: calibrate::calibratable(args, &setting),
            setting,
            datasets,
            clock,
            board,
            goals: Goals::default(),
            hands,
            tasks: Tasks::default(),
            policies: Arc::new(Policies::open(policies)),
            current: Mutex::default(),
            asked: Mutex::default(),
            is_asked: Condvar::new(),
            last: Mutex::default(),
            ended: AtomicU64::new(0),
            is_emergency: AtomicBool::new(false),
            is_connected: AtomicBool::new(false),
            holds,
            is_holding: AtomicBool::new(false),
            preparing: Arc::default(),
            looks: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }))
    }

    pub fn description(&self) -> &RobotDescription {
        self.setting.robot()
    }

    /// Connects the robot. Nothing moves.
    ///
    /// # Errors
    /// When it is not there.
    pub fn connect(&self) -> anyhow::Result<Rig> {
        match &self.setting {
            Setting::Simulator(scenario) => {
                let mut rig = scenario.simulate(true, false)?;
                rig.environment.reset(self.args.rig.seed).context("setting the simulator's scene")?;
                Ok(rig)
            }
            Setting::Hardware(robot) => {
                let args = &self.args;
                let hardware = hardware::connect((**robot).clone(), &args.hardware, &args.camera, self.clock.clone())?;
                Ok(Rig::of(hardware, AsItIs::default()))
            }
        }
    }

    /// Has the robot until the end: looks at it, and lends it to works. To be run on a thread of its own; `rig` is the robot, where
    /// it is connected already.
    pub fn keep(self: &Arc<Self>, rig: anyhow::Result<Rig>) {
        let mut rig = self.told(rig);
        let mut observation = Observation::for_robot(self.description());
        let (mut turn, mut last_images, mut tried) = (0, None::<Timestamp>, self.clock.now());
        let mut silence = Silence::default();
        loop {
            let pause = if self.board.is_watched() { WATCHED } else { AT_REST };
            let job = self.next(pause);
            self.looks.fetch_add(1, SeqCst);
            // What is written into a leader's motors is written whole.
            if self.is_over.load(SeqCst) && job.is_none() && !self.is_at_an_arm() {
                break;
            }
            if let Some(job) = job {
                self.notice(&mut silence, Timestamp::ZERO, None);
                rig = self.work(rig, job);
                (turn, last_images) = (0, None);
                continue;
            }
            let now = self.clock.now();
            let Some(there) = &mut rig else {
                if now.nanos_since(tried) > TRY_AGAIN.as_nanos() as i64 {
                    tried = now;
                    rig = self.told(self.connect());
                    turn = 0;
                }
                continue;
            };
            let wants_images = last_images.is_none_or(|last| self.board.is_watched() || now.nanos_since(last) > 1_000_000_000);
            if wants_images {
                last_images = Some(now);
            }
            match look(there, turn, (now, pause, wants_images), &mut observation) {
                Err(error) => {
                    note!("{}: {error}", self.description().name);
                    silence = Silence::default();
                    rig = self.told(Err(error));
                    tried = now;
                    continue;
                }
                Ok(answered) => {
                    self.feel(there);
                    let complaint = silence::of(answered, &observation, there, self.description());
                    self.notice(&mut silence, now, complaint);
                }
            }
            turn += 1;
            self.board.see(&observation, None, |state| self.fill(state));
        }
    }

    /// Waits a little for a job.
    fn next(&self, pause: Duration) -> Option<Job> {
        let asked = lock(&self.asked);
        let waited = self.is_asked.wait_timeout_while(asked, pause, |job| job.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }

    /// The robot, where it is connected; else everybody is told why not.
    fn told(&self, rig: anyhow::Result<Rig>) -> Option<Rig> {
        let (rig, trouble) = match rig {
            Ok(rig) => (Some(rig), None),
            Err(error) => (None, Some(text::chain(&error))),
        };
        rig.iter().for_each(|rig| self.feel(rig));
        self.is_connected.store(rig.is_some(), SeqCst);
        if self.board.state().trouble != trouble {
            match &trouble {
                Some(trouble) => note!("the robot is not connected: {trouble}"),
                None => note!("the robot is connected"),
            }
        }
        self.board.change(|state| {
            state.trouble = trouble;
            self.fill(state);
        });
        rig
    }

    /// Somebody complains of what is not heard of the robot at rest, or nobody does.
    fn notice(&self, silence: &mut Silence, now: Timestamp, complaint: Option<silence::Complaint>) {
        let Some(told) = silence.hear(now, complaint) else { return };
        match &told {
            Some(complaint) => note!("{}", complaint.what),
            None => note!("{}: all is there again", self.description().name),
        }
        // A camera that is dead at rest may show something when a work begins, which waits for that.
        self.is_connected.store(told.as_ref().is_none_or(|complaint| complaint.is_of_camera), SeqCst);
        self.board.change(|state| {
            state.trouble = told.map(|complaint| complaint.what);
            self.fill(state);
        });
    }

    /// What is known beside what a robot sees and feels.
    fn fill(&self, state: &mut State) {
        let current = lock(&self.current);
        state.mode = current.as_ref().map_or(Mode::Idle, |current| current.mode);
        let level = current.as_ref().map_or(StopLevel::Run, |current| current.stop.level());
        state.stop = match level {
            _ if self.is_emergency.load(SeqCst) => StopState::Emergency,
            StopLevel::Run => StopState::Run,
            StopLevel::Stop => StopState::Stop,
            StopLevel::Now => StopState::Now,
            StopLevel::Emergency => StopState::Emergency,
        };
        let progress = current.as_ref().and_then(|current| Some(current.progress.as_ref()?.snapshot()));
        let is_armed = progress.is_some_and(|now| now.armed);
        if is_armed && self.holds {
            self.is_holding.store(true, SeqCst);
        }
        state.armed = is_armed || self.is_holding.load(SeqCst);
        state.control = progress.map(|now| LoopState {
            rate_hz: now.rate_hz,
            late_ms: now.lateness_ns as f64 * 1e-6,
            missed: now.missed_ticks,
            starved: now.starved_ticks,
            limited: now.interventions,
            queued: now.queued,
            inference_ms: now.inference_ns as f64 * 1e-6,
            lost: now.frames_lost,
        });
        state.calibration = current.as_ref().and_then(|current| current.calibration.clone());
        let now = self.clock.now();
        state.work = current.as_ref().map(|current| {
            let mut work = current.work.clone();
            if work.phase == Phase::Resetting {
                let s = now.nanos_since(current.between_since).max(0) as f64 * 1e-9;
                work.tick = ((s * current.rate_hz) as u64).min(current.between);
                work.max_ticks = Some(current.between);
            } else if let Some(progress) = progress {
                work.tick = progress.tick;
                work.max_ticks = Some(progress.max_ticks).filter(|ticks| *ticks != u64::MAX && *ticks > 0);
            }
            if current.stop.is_requested() && work.phase != Phase::Starting {
                work.phase = Phase::Ending;
            }
            if work.phase == Phase::Starting {
                work.waits_for = crate::remote::waited_for();
            }
            work.kept = current.kept;
            work.wishes = current.desk.as_ref().map(Desk::wishes).unwrap_or_default();
            work
        });
    }

    /// Shows everybody what has changed.
    fn show(&self) {
        self.board.change(|state| self.fill(state));
    }

    /// Changes what is known of the work that runs.
    fn update(&self, change: impl FnOnce(&mut Current)) {
        if let Some(current) = lock(&self.current).as_mut() {
            change(current);
        }
        self.show();
    }

    /// Shows how a work goes while it shows nothing itself.
    pub fn refresh(&self) {
        let is_old = self.clock.now().nanos_since(self.board.changed_at()) > AT_REST.as_nanos() as i64;
        if is_old && lock(&self.current).is_some() {
            self.show();
        }
    }

    /// A work has come to its end.
    fn ends(&self, result: anyhow::Result<bool>) {
        let Some(current) = lock(&self.current).take() else { return };
        let (error, is_interrupted) = match result {
            Ok(is_interrupted) => (None, is_interrupted || current.stop.is_requested()),
            Err(error) => (Some(words::of_the_api(&text::chain(&error))), current.stop.is_requested()),
        };
        if let Some(error) = &error {
            note!("{:?} failed: {error}", current.mode);
        }
        let number = self.ended.fetch_add(1, SeqCst) + 1;
        let Current { mode, policy, reports: episodes, result, .. } = current;
        *lock(&self.last) = Some(WorkEnd { number, mode, error, is_interrupted, policy, episodes, result });
        // It is where it is, and goes nowhere.
        self.board.change(|state| {
            state.goal.clear();
            self.fill(state);
        });
    }

    /// Stops what runs.
    pub fn stop(&self, wish: StopWish) {
        if wish == StopWish::Emergency {
            self.is_emergency.store(true, SeqCst);
        }
        if let Some(current) = lock(&self.current).as_ref() {
            match wish {
                StopWish::Stop => current.stop.request(StopLevel::Stop),
                StopWish::Now => current.stop.request(StopLevel::Now),
                StopWish::Emergency => current.stop.emergency(),
            }
        }
        self.show();
    }

    /// Ends what runs, and then the thread that has the robot.
    pub fn end(&self, level: StopLevel) {
        self.is_over.store(true, SeqCst);
        if let Some(current) = lock(&self.current).as_ref() {
            current.stop.request(level);
            if let Some(desk) = &current.desk {
                desk.wish(sinew_core::service::EpisodeWish::Finish {});
            }
            // Nobody is left to clear one.
            current.stop.clear_emergency();
        }
        self.tasks.end();
        self.is_asked.notify_all();
    }

    /// Whether a work runs, or is to.
    pub fn works(&self) -> bool {
        lock(&self.current).is_some()
    }

    /// Whether somebody sets an arm up.
    fn is_at_an_arm(&self) -> bool {
        lock(&self.current).as_ref().is_some_and(|current| matches!(current.mode, Mode::Calibrate | Mode::Limp))
    }

    /// Whether the control loop has given torque.
    pub fn is_armed(&self) -> bool {
        lock(&self.current).as_ref().and_then(|current| current.progress.as_ref()).is_some_and(|progress| progress.snapshot().armed)
    }

    /// A number that rises while the robot is looked after: by the control loop where torque is on, else by the owner. `None`
    /// while something is prepared at rest.
    pub fn heartbeat(&self) -> Option<u64> {
        let current = lock(&self.current);
        let Some(current) = current.as_ref() else { return Some(self.looks.load(SeqCst)) };
        let progress = current.progress.as_ref()?.snapshot();
        progress.armed.then_some(progress.total_ticks)
    }
}

/// Reads the robot and its cameras, at rest; why it did not answer, where it may the next time.
fn look(
    rig: &mut Rig,
    turn: u64,
    (now, period, wants_images): (Timestamp, Duration, bool),
    observation: &mut Observation,
) -> anyhow::Result<Result<(), RobotError>> {
    let tick = Tick { turn, due: now, period, wants_images };
    observation.age();
    observation.tick = turn;
    let answered = match rig.robot.begin_read(&tick).and_then(|()| rig.robot.finish_read(&tick, now + period, observation)) {
        Err(error) if !error.is_transient() => return Err(error.into()),
        answered => answered,
    };
    if wants_images {
        rig.cameras.cameras.newest(&tick, &mut observation.images)?;
    }
    Ok(answered)
}

/// Shows each frame of a session.
struct Viewer<'a>(&'a Owned);

impl FrameSink for Viewer<'_> {
    fn name(&self) -> &str {
        "the daemon's viewers"
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Detach
    }

    fn begin(&mut self, start: &EpisodeStart) -> Result<(), SinkError> {
        // Between two episodes there is none.
        if !start.task.is_empty() {
            self.0.update(|current| {
                current.work.instruction = Some(start.task.clone());
                current.work.phase = Phase::Running;
            });
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        let mut proven = None;
        if let Some(current) = lock(&self.0.current).as_mut() {
            current.work.acting = match frame.actor {
                Actor::Policy => Acting::Policy,
                Actor::Human => Acting::Human,
                Actor::Nobody => Acting::Nobody,
            };
            let acts = frame.actor == Actor::Policy && !frame.starved && frame.inference_ns > 0;
            if acts && !std::mem::replace(&mut current.has_acted, true) {
                proven = current.policy.clone();
            }
        }
        proven.iter().for_each(|used| self.0.policies.good(used));
        self.0.board.see(&frame.observation, Some(&frame.sent), |state| self.0.fill(state));
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Listener for Owned {
    fn begins(&self, desk: &Desk, progress: Arc<Progress>, series: &Series) {
        self.update(|current| {
            current.desk = Some(desk.clone());
            current.progress = Some(progress);
            current.between = series.ticks_between;
            current.work.episodes = if series.endless.is_some() { 1 } else { series.episodes };
        });
    }

    fn episode(&self, done: u64) {
        self.update(|current| {
            // The time between two is over when the next has begun: until then its ticks are the last one's.
            if current.work.phase != Phase::Resetting {
                current.work.phase = Phase::Running;
            }
            (current.work.episode, current.work.acting) = (done, Acting::Nobody);
        });
    }

    fn between(&self) {
        let now = self.clock.now();
        self.update(|current| {
            current.work.phase = Phase::Resetting;
            current.between_since = now;
        });
    }

    fn hear(&self, report: &EpisodeReport) {
        self.update(|current| {
            current.kept += u64::from(report.kept);
            let fault = report.faults.iter().find(|fault| policies::is_of_policy(fault));
            current.policy_fault = fault.map(Fault::chain).or(current.policy_fault.take());
            current.reports.extend(serde_json::to_value(report));
        });
    }
}
