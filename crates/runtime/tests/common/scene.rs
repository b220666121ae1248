//! The scene, and a human who steps through goals.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use sinew_core::{
    Environment, EnvironmentError, EpisodeSetup, Identity, Observation, Outcome, TeleopStatus, Teleoperator, TeleoperatorError, Tick,
};
use sinew_runtime::TeleopThread;

use super::{Hook, description};

/// A scene that succeeds after so many ticks, if ever.
pub struct Scene {
    pub max_ticks: u64,
    pub success_after: Option<u64>,
    /// How often it was judged.
    pub ticks: u64,
    pub seed: u64,
    /// Called with how often it was judged before.
    pub on_outcome: Hook<()>,
}

impl Scene {
    pub fn lasting(max_ticks: u64) -> Self {
        Self { max_ticks, success_after: None, ticks: 0, seed: 0, on_outcome: Box::new(|_| {}) }
    }
}

impl Environment for Scene {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, EnvironmentError> {
        (self.ticks, self.seed) = (0, seed);
        Ok(EpisodeSetup { task: "do as told".into(), max_ticks: self.max_ticks, is_judged: true, is_set_up: true })
    }

    fn outcome(&mut self) -> Outcome {
        (self.on_outcome)(self.ticks);
        self.ticks += 1;
        if self.success_after.is_some_and(|after| self.ticks >= after) { Outcome::Success } else { Outcome::Running }
    }

    fn state_hash(&self) -> u64 {
        self.seed.wrapping_mul(31).wrapping_add(self.ticks)
    }
}

/// Steps through goals and is done with the last.
pub struct Leader {
    pub done_at: Option<u64>,
    pub goal: fn(u64) -> [f64; 2],
    /// How often it was asked since it took over, and how often it took over.
    pub asked: Arc<AtomicU64>,
    pub resets: Arc<AtomicU64>,
    /// The turns at which somebody else acted.
    pub followed: Arc<Mutex<Vec<u64>>>,
    /// Whether `followed` is kept.
    pub keeps: bool,
    /// Called with how often it was asked before, since the beginning.
    pub on_action: Hook<Result<(), TeleoperatorError>>,
    pub on_reset: Hook<Result<(), TeleoperatorError>>,
    pub calls: u64,
}

impl Leader {
    pub fn new(goal: fn(u64) -> [f64; 2]) -> Self {
        Self {
            done_at: None,
            goal,
            asked: Arc::default(),
            resets: Arc::default(),
            followed: Arc::default(),
            keeps: true,
            on_action: Box::new(|_| Ok(())),
            on_reset: Box::new(|_| Ok(())),
            calls: 0,
        }
    }

    /// Keeps nothing of what it is told.
    pub fn forgetting(mut self) -> Self {
        self.keeps = false;
        self
    }

    pub fn thread(self) -> TeleopThread {
        TeleopThread::spawn(Box::new(self), Identity { width: 2 }, &description()).unwrap()
    }
}

impl Teleoperator for Leader {
    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        self.asked.store(0, SeqCst);
        (self.on_reset)(self.resets.fetch_add(1, SeqCst))
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        self.asked.fetch_add(1, SeqCst);
        self.calls += 1;
        (self.on_action)(self.calls - 1)?;
        action.copy_from_slice(&(self.goal)(tick.turn));
        Ok(if self.done_at == Some(tick.turn) { TeleopStatus::Done } else { TeleopStatus::Active })
    }

    fn follow(&mut self, tick: &Tick, observation: &Observation, sent: &[f64]) {
        assert_eq!((observation.state.width(), sent.len()), (2, 2));
        if self.keeps {
            self.followed.lock().unwrap().push(tick.turn);
        }
    }
}
