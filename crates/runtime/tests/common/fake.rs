//! A policy that answers as it is told.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sinew_core::{ActionChunk, Continuation, Observation, Pixels, Policy, PolicyError, PolicyInfo};
use sinew_runtime::PolicyThread;

/// What a policy does instead of answering as it should.
pub enum Quirk {
    None,
    NotFinite,
    TooWide,
    WrongTick,
    TooLong,
    Fail,
    /// There is no answer now.
    Unavailable,
    Panic,
    Sleep(Duration),
}

/// What a [`Fake`] was asked.
#[derive(Default)]
pub struct Log {
    pub calls: u64,
    pub resets: u64,
    /// The seeds of the resets.
    pub seeds: Vec<u64>,
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
    pub keeps: bool,
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
            keeps: true,
            since_reset: 0,
        }
    }

    /// One that can continue its chunks.
    pub fn continuing(mut self) -> Self {
        self.continues = true;
        self
    }

    /// Keeps nothing of what it is asked but how often.
    pub fn forgetting(mut self) -> Self {
        self.keeps = false;
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

    fn reset(&mut self, seed: u64) {
        self.log().resets += 1;
        self.log().seeds.push(seed);
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
        if let Some(last) = self.log().continuings.last_mut() {
            *last = Some(continuing);
        }
        chunk
    }

    fn infer(&mut self, observations: &[Observation], task: &str) -> Result<ActionChunk, PolicyError> {
        assert_eq!(observations.len(), self.info.n_obs_steps);
        let observation = observations.last().unwrap();
        let quirk = {
            let mut log = self.log();
            if self.keeps {
                log.seen_ticks.push(observations.iter().map(|observation| observation.tick).collect());
                log.asked_ticks.push(observation.tick);
                log.images.push((observation.tick, observation.images[0].rgb.clone()));
                log.continuings.push(None);
                log.tasks.push(task.to_owned());
            }
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
            Quirk::Unavailable => {
                std::thread::sleep(Duration::from_millis(2));
                return Err(PolicyError::Unavailable { what: "the link is gone".into() });
            }
            Quirk::Panic => panic!("index out of bounds"),
            Quirk::Sleep(time) => std::thread::sleep(time),
        }
        let seen: u64 = observation.images[0].rgb.iter().map(|byte| u64::from(*byte)).sum();
        let second = observation.state.values()[1] * 0.5 + (seen % 7) as f64 * 0.01;
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
