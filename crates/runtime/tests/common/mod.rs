//! A robot, a scene, a policy, a teleoperator and a sink that do what a test tells them.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sinew_core::{
    ActionChunk, Clock, Continuation, Environment, EpisodeEnd, EpisodeSetup, EpisodeStart, Frame, FrameSink, ImageBuffers, MockClock,
    Observation, Outcome, Pixels, Policy, PolicyError, PolicyInfo, Robot, RobotDescription, RobotError, SafeCommand, SinkError,
    TeleopStatus, Teleoperator, Tick,
};
use sinew_runtime::{EpisodeReport, EpisodeRequest, PolicyThread, Session, SessionConfig, Source, StopFlag};

pub const RATE_HZ: u64 = 50;
pub const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / RATE_HZ);

pub fn description() -> RobotDescription {
    RobotDescription::from_toml("testarm", include_str!("arm.toml")).unwrap()
}

pub fn lost() -> RobotError {
    RobotError::Lost { doing: "reading the arm".into(), source: Box::new(io::Error::other("unplugged")) }
}

pub fn transient() -> RobotError {
    RobotError::Transient { doing: "reading the arm".into(), source: Box::new(io::Error::other("checksum")) }
}

type Hook<T> = Box<dyn FnMut(u64) -> T + Send>;

/// Two joints that go half of the way to their goals each tick. The image is made of the positions.
pub struct Arm {
    pub description: RobotDescription,
    pub position_rad: Vec<f64>,
    pub goals_rad: Vec<f64>,
    /// Called with the tick's index before its observation.
    pub on_observe: Hook<Result<(), RobotError>>,
    pub on_write: Hook<Result<(), RobotError>>,
    pub stop_result: fn() -> Result<(), RobotError>,
    pub enables: u64,
    pub stops: u64,
    /// When it was last told to be safe.
    pub stopped_at: Option<Instant>,
    pub keep_writes: bool,
    pub writes: Vec<Vec<f64>>,
    pub image_ticks: Vec<u64>,
    pub observed_ticks: Vec<u64>,
    last_tick: u64,
    pixels: ImageBuffers,
}

impl Arm {
    pub fn new() -> Self {
        Self {
            description: description(),
            position_rad: vec![0.1, -0.2],
            goals_rad: vec![0.1, -0.2],
            on_observe: Box::new(|_| Ok(())),
            on_write: Box::new(|_| Ok(())),
            stop_result: || Ok(()),
            enables: 0,
            stops: 0,
            stopped_at: None,
            keep_writes: true,
            writes: Vec::new(),
            image_ticks: Vec::new(),
            observed_ticks: Vec::new(),
            last_tick: 0,
            // Enough for a tape that keeps a whole episode.
            pixels: ImageBuffers::new(100, 4 * 3 * 3),
        }
    }
}

impl Robot for Arm {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn observe(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), RobotError> {
        (self.on_observe)(tick.index)?;
        for _ in self.last_tick..tick.index {
            for (position, goal) in self.position_rad.iter_mut().zip(&self.goals_rad) {
                *position += 0.5 * (goal - *position);
            }
        }
        self.last_tick = tick.index;
        self.observed_ticks.push(tick.index);
        observation.tick = tick.index;
        observation.time = tick.due;
        observation.position_rad.copy_from_slice(&self.position_rad);
        if tick.wants_images {
            self.image_ticks.push(tick.index);
            let bits = self.position_rad[0].to_bits().to_le_bytes();
            for image in &mut observation.images {
                image.captured_at = tick.due;
                image.sequence = tick.index;
                image.rgb = self.pixels.fill(|rgb| rgb.iter_mut().enumerate().for_each(|(i, byte)| *byte = bits[i % 8] ^ i as u8));
            }
        }
        Ok(())
    }

    fn enable(&mut self) -> Result<(), RobotError> {
        self.enables += 1;
        self.goals_rad.copy_from_slice(&self.position_rad);
        Ok(())
    }

    fn write_goals(&mut self, command: &SafeCommand, applied_rad: &mut [f64]) -> Result<(), RobotError> {
        (self.on_write)(self.last_tick)?;
        self.goals_rad.copy_from_slice(command.goals_rad());
        applied_rad.copy_from_slice(command.goals_rad());
        if self.keep_writes {
            self.writes.push(command.goals_rad().to_vec());
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), RobotError> {
        self.stops += 1;
        self.stopped_at = Some(Instant::now());
        (self.stop_result)()
    }
}

/// A scene that succeeds after so many ticks, if ever.
pub struct Scene {
    pub max_ticks: u64,
    pub success_after: Option<u64>,
    pub ticks: u64,
    pub seed: u64,
}

impl Scene {
    pub fn lasting(max_ticks: u64) -> Self {
        Self { max_ticks, success_after: None, ticks: 0, seed: 0 }
    }
}

impl Environment for Scene {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, RobotError> {
        (self.ticks, self.seed) = (0, seed);
        Ok(EpisodeSetup { task: "do as told".into(), max_ticks: self.max_ticks })
    }

    fn outcome(&mut self) -> Outcome {
        self.ticks += 1;
        if self.success_after.is_some_and(|after| self.ticks >= after) { Outcome::Success } else { Outcome::Running }
    }

    fn state_hash(&self) -> u64 {
        self.seed.wrapping_mul(31).wrapping_add(self.ticks)
    }
}

/// What a policy does instead of answering as it should.
pub enum Quirk {
    None,
    NotFinite,
    TooWide,
    WrongTick,
    TooLong,
    Fail,
    Panic,
    Sleep(Duration),
}

/// What a [`Fake`] was asked.
#[derive(Default)]
pub struct Log {
    pub calls: u64,
    pub resets: u64,
    pub asked_ticks: Vec<u64>,
    /// With their ticks.
    pub images: Vec<(u64, Pixels)>,
    /// The ticks of the observations shown with each question.
    pub seen_ticks: Vec<Vec<u64>>,
    pub continuings: Vec<Option<Continuation>>,
    pub tasks: Vec<String>,
}

/// Rows that depend on the whole observation, the row's tick and the number of answers since reset.
/// Clones share the log.
#[derive(Clone)]
pub struct Fake {
    pub info: PolicyInfo,
    pub continues: bool,
    most_delay_rows: Option<usize>,
    /// Called with the number of answers given before, resets or not.
    quirk: Arc<Mutex<dyn FnMut(u64) -> Quirk + Send>>,
    log: Arc<Mutex<Log>>,
    since_reset: u64,
}

impl Fake {
    pub fn new(chunk_size: usize, n_action_steps: usize) -> Self {
        Self {
            info: PolicyInfo { family: "fake".into(), parameters: 0, n_obs_steps: 1, chunk_size, n_action_steps },
            continues: false,
            most_delay_rows: None,
            quirk: Arc::new(Mutex::new(|_| Quirk::None)),
            log: Arc::default(),
            since_reset: 0,
        }
    }

    /// One that can continue its chunks.
    pub fn continuing(mut self) -> Self {
        self.continues = true;
        self
    }

    /// One whose answers follow from the one before if they take at most so many ticks.
    pub fn within(mut self, rows: usize) -> Self {
        self.most_delay_rows = Some(rows);
        self.continuing()
    }

    pub fn with(mut self, quirk: impl FnMut(u64) -> Quirk + Send + 'static) -> Self {
        self.quirk = Arc::new(Mutex::new(quirk));
        self
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A clone of it on a thread.
    pub fn thread(&self) -> PolicyThread {
        PolicyThread::spawn(self.clone()).unwrap()
    }
}

/// The first joint's goal in the `answer`-th answer's row for `tick`: both can be read off it.
pub fn row_goal(answer: u64, tick: u64) -> f64 {
    tick as f64 * 1e-3 + answer as f64 * 1e-6
}

pub fn answer_and_tick(goal: f64) -> (u64, u64) {
    let micro = (goal * 1e6).round() as u64;
    (micro % 1000, micro / 1000)
}

impl Policy for Fake {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self) {
        self.log().resets += 1;
        self.since_reset = 0;
    }

    fn can_continue(&self) -> bool {
        self.continues
    }

    fn most_delay_rows(&self) -> Option<usize> {
        self.most_delay_rows
    }

    fn infer_continuing(&mut self, observations: &[Observation], task: &str, continuing: Continuation) -> Result<ActionChunk, PolicyError> {
        let chunk = self.infer(observations, task);
        *self.log().continuings.last_mut().unwrap() = Some(continuing);
        chunk
    }

    fn infer(&mut self, observations: &[Observation], task: &str) -> Result<ActionChunk, PolicyError> {
        assert_eq!(observations.len(), self.info.n_obs_steps);
        let observation = observations.last().unwrap();
        let quirk = {
            let mut log = self.log();
            log.seen_ticks.push(observations.iter().map(|observation| observation.tick).collect());
            log.asked_ticks.push(observation.tick);
            log.images.push((observation.tick, observation.images[0].rgb.clone()));
            log.continuings.push(None);
            log.tasks.push(task.to_owned());
            log.calls += 1;
            log.calls - 1
        };
        let quirk = (self.quirk.lock().unwrap_or_else(PoisonError::into_inner))(quirk);
        let answer = self.since_reset;
        self.since_reset += 1;
        let mut first = observation.tick;
        let mut rows = self.info.chunk_size as u64;
        let mut width = 2;
        let mut spoiled = None;
        match quirk {
            Quirk::None => {}
            Quirk::NotFinite => spoiled = Some(f64::NAN),
            Quirk::TooWide => width = 3,
            Quirk::WrongTick => first += 1,
            Quirk::TooLong => rows += 1,
            Quirk::Fail => {
                return Err(PolicyError::Compute { doing: "multiplying".into(), source: Box::new(io::Error::other("no memory")) });
            }
            Quirk::Panic => panic!("index out of bounds"),
            Quirk::Sleep(time) => std::thread::sleep(time),
        }
        let seen: u64 = observation.images[0].rgb.iter().map(|byte| u64::from(*byte)).sum();
        let second = observation.position_rad[1] * 0.5 + (seen % 7) as f64 * 0.01;
        let mut goals = Vec::new();
        for tick in first..first + rows {
            goals.push(row_goal(answer, tick));
            goals.extend(std::iter::repeat_n(second, width - 1));
        }
        if let Some(spoiled) = spoiled {
            goals[3] = spoiled;
        }
        Ok(ActionChunk::new(first, width, goals).unwrap())
    }
}

/// Steps through goals and is done with the last.
pub struct Leader {
    pub done_at: Option<u64>,
    pub goal: fn(u64) -> [f64; 2],
    pub asked: u64,
}

impl Teleoperator for Leader {
    fn reset(&mut self) -> Result<(), RobotError> {
        self.asked = 0;
        Ok(())
    }

    fn action(&mut self, tick: &Tick, goals_rad: &mut [f64]) -> Result<TeleopStatus, RobotError> {
        self.asked += 1;
        goals_rad.copy_from_slice(&(self.goal)(tick.index));
        Ok(if self.done_at == Some(tick.index) { TeleopStatus::Done } else { TeleopStatus::Active })
    }
}

/// Keeps everything it is told.
#[derive(Default)]
pub struct Tape {
    pub starts: Vec<EpisodeStart>,
    /// How many frames there had been when each of them came.
    pub begun_after: Vec<usize>,
    pub frames: Vec<Frame>,
    pub ends: Vec<EpisodeEnd>,
    pub delay: Duration,
    pub fail_at: Option<u64>,
    pub fail_begin: bool,
    pub fail_end: bool,
    pub panic_at: Option<u64>,
}

fn full_disk(doing: &str) -> SinkError {
    SinkError { doing: doing.into(), source: Box::new(io::Error::other("disk full")) }
}

impl FrameSink for Tape {
    fn begin(&mut self, episode: &EpisodeStart) -> Result<(), SinkError> {
        self.starts.push(episode.clone());
        self.begun_after.push(self.frames.len());
        if self.fail_begin { Err(full_disk("beginning")) } else { Ok(()) }
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        std::thread::sleep(self.delay);
        if self.panic_at == Some(frame.tick) {
            panic!("encoder");
        }
        if self.fail_at == Some(frame.tick) {
            return Err(full_disk("writing a row"));
        }
        self.frames.push(frame.clone());
        Ok(())
    }

    fn end(&mut self, end: &EpisodeEnd) -> Result<(), SinkError> {
        self.ends.push(end.clone());
        if self.fail_end && end.keep { Err(full_disk("committing")) } else { Ok(()) }
    }
}

impl Tape {
    /// Every bit of every frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in &self.frames {
            let floats = [&frame.wanted_rad, &frame.applied_rad, &frame.observation.position_rad, &frame.observation.velocity_rad_per_s];
            bytes.extend(floats.iter().flat_map(|values| values.iter()).flat_map(|value| value.to_bits().to_le_bytes()));
            for image in &frame.observation.images {
                bytes.extend(&*image.rgb);
                bytes.extend(image.sequence.to_le_bytes());
                bytes.extend(image.captured_at.as_nanos().to_le_bytes());
            }
            let rest = format!(
                "{} {} {} {:?} {} {} {:?} {:?} {} {} {}",
                frame.tick,
                frame.instructions,
                frame.marks,
                frame.due,
                frame.lateness_ns,
                frame.observation.tick,
                frame.observation.time,
                frame.interventions,
                frame.starved,
                frame.queued,
                frame.inference_ns
            );
            bytes.extend(rest.bytes());
        }
        bytes
    }

    pub fn ticks(&self) -> Vec<u64> {
        self.frames.iter().map(|frame| frame.tick).collect()
    }
}

/// Runs one episode on a mock clock.
pub fn run(
    config: &SessionConfig,
    arm: &mut Arm,
    scene: &mut Scene,
    source: Source<'_>,
    sinks: &mut [&mut dyn FrameSink],
) -> EpisodeReport {
    run_on(Arc::new(MockClock::new()), config, arm, scene, source, sinks, &StopFlag::new())
}

pub fn run_on(
    clock: Arc<dyn Clock>,
    config: &SessionConfig,
    arm: &mut Arm,
    scene: &mut Scene,
    source: Source<'_>,
    sinks: &mut [&mut dyn FrameSink],
    stop: &StopFlag,
) -> EpisodeReport {
    let mut session = Session::new(config.clone(), clock, stop.clone());
    session.run_episode(&EpisodeRequest { attempt: 3, seed: 7, task: None }, arm, scene, source, sinks)
}
