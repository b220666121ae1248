//! All others of an episode: who acts, who looks, who judges, who records, and who lends the right to write.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use sinew_core::{
    ActionChunk, Brief, CameraError, Cameras, Environment, EnvironmentError, EpisodeEnd, EpisodeSetup, EpisodeStart, Frame, FrameSink,
    Image, Lease, LeaseError, LeaseState, Lifeline, Observation, Outcome, Policy, PolicyError, PolicyInfo, SinkError, TeleopStatus,
    Teleoperator, TeleoperatorError, Tick,
};
use sinew_sim::SimEnvironment;

use super::script::Script;
use super::trouble::{Trouble, Venue};

/// Everybody's goals: a swing about the middle, of the model's first joint faster than it may be. The simulated servo
/// would follow the steps of a goal at full speed at up to 4.4 rad/s, without any fault, where 3 rad/s is allowed; and so
/// would the model's at a rate that is low.
pub fn swing(script: &Script, middle: &[f64], tick: u64, goals: &mut [f64]) {
    let seconds = tick as f64 / f64::from(script.plan.venue.rate_hz());
    let venue = script.plan.venue;
    let is_fast = venue.rate_hz() >= 30 && !matches!(venue, Venue::Simulator(_));
    for (i, (goal, middle)) in goals.iter_mut().zip(middle).enumerate() {
        let per_s = if i == 0 && is_fast { 11.0 } else { 2.0 + i as f64 * 0.4 };
        *goal = middle + 0.35 * (seconds * per_s).sin();
    }
}

pub struct Swinger {
    pub info: PolicyInfo,
    pub script: Arc<Script>,
    pub middle: Vec<f64>,
}

impl Swinger {
    pub fn new(script: Arc<Script>, middle: Vec<f64>) -> Self {
        let rows = script.plan.venue.rate_hz() as usize;
        let info = PolicyInfo { family: "swinger".into(), parameters: 0, n_obs_steps: 1, chunk_size: rows, n_action_steps: rows / 4 };
        Self { info, script, middle }
    }
}

impl Policy for Swinger {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self, _: u64) {}

    fn infer(&mut self, observations: &[Observation], _: &str) -> Result<ActionChunk, PolicyError> {
        let first = observations.last().unwrap().tick;
        let width = self.middle.len();
        let mut goals = vec![0.0; self.info.chunk_size * width];
        for (row, goals) in (first..).zip(goals.chunks_mut(width)) {
            swing(&self.script, &self.middle, row, goals);
        }
        if self.script.is(Trouble::PolicyHangs) {
            self.script.hang();
        }
        assert!(!self.script.is(Trouble::PolicyPanics), "a bug of the policy");
        if self.script.is(Trouble::PolicyNan) {
            goals[width + 1] = f64::NAN;
        }
        Ok(ActionChunk::new(first, width, goals).unwrap())
    }
}

pub struct Hand {
    pub script: Arc<Script>,
    pub middle: Vec<f64>,
}

impl Teleoperator for Hand {
    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        swing(&self.script, &self.middle, tick.turn, action);
        if self.script.is(Trouble::TeleopHangs) {
            self.script.hang();
        }
        assert!(!self.script.is(Trouble::TeleopPanics), "a bug of the leader");
        if self.script.is(Trouble::TeleopNan) {
            action[1] = f64::NAN;
        }
        if self.script.is(Trouble::TeleopLost) {
            return Err(TeleoperatorError::Lost { doing: "reading the leader", what: Brief::of("unplugged") });
        }
        Ok(TeleopStatus::Active)
    }
}

/// Cameras of which only the time of their images matters.
pub struct Eyes {
    pub script: Arc<Script>,
    pub hang: super::arm::Hang,
    pub on_hang: Box<dyn Fn() + Send>,
}

impl Cameras for Eyes {
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        if self.script.is(Trouble::CameraHangs) {
            (self.on_hang)();
            self.hang.last();
        }
        if self.script.is(Trouble::CameraGone) {
            return Err(CameraError { camera: Brief::of("front"), what: Brief::of("unplugged") });
        }
        if self.script.is(Trouble::CameraFreezes) {
            return Ok(());
        }
        let now = self.script.clock.now();
        self.script.image_ns.store(now.as_nanos(), SeqCst);
        for image in images {
            image.captured_at = now;
            image.sequence = tick.turn;
        }
        Ok(())
    }
}

/// Sets the simulator's scene, where there is one, and never finds the episode decided.
pub struct Judge {
    pub script: Arc<Script>,
    pub scene: Option<SimEnvironment>,
}

impl Environment for Judge {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, EnvironmentError> {
        if let Some(scene) = &mut self.scene {
            scene.reset(seed)?;
        }
        Ok(EpisodeSetup { task: "swing".into(), max_ticks: 10_000, is_judged: true, is_set_up: true })
    }

    fn outcome(&mut self) -> Outcome {
        if self.script.is(Trouble::JudgeHangs) {
            self.script.hang();
        }
        assert!(!self.script.is(Trouble::JudgePanics), "a bug of the task");
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        0
    }
}

#[derive(Clone)]
pub struct Tape(pub Arc<Script>);

impl Tape {
    fn fail(&self) -> Result<(), SinkError> {
        if self.0.is(Trouble::SinkHangs) {
            self.0.hang();
        }
        assert!(!self.0.is(Trouble::SinkPanics), "a bug of the encoder");
        if self.0.is(Trouble::SinkFails) {
            return Err(SinkError { doing: "writing".into(), source: Box::new(io::Error::other("the disk is full")) });
        }
        Ok(())
    }
}

impl FrameSink for Tape {
    fn name(&self) -> &str {
        "tape"
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        self.fail()
    }

    fn frame(&mut self, _: &Frame) -> Result<(), SinkError> {
        self.fail()
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A lease that is always held, and remembers what was said to it and how many events the arm had seen by then.
#[derive(Default)]
pub struct Ledger {
    log: Mutex<Option<super::arm::Log>>,
    pub beats: AtomicU32,
    pub armed: Mutex<Vec<usize>>,
    pub disarmed: Mutex<Vec<usize>>,
}

impl Ledger {
    pub fn of(log: super::arm::Log) -> Arc<Self> {
        Arc::new(Self { log: Mutex::new(Some(log)), ..Self::default() })
    }

    fn seen(&self) -> usize {
        self.log.lock().unwrap().as_ref().map_or(0, |log| log.lock().unwrap_or_else(std::sync::PoisonError::into_inner).events.len())
    }
}

impl Lease for Ledger {
    fn arm(&self, _: Lifeline) -> Result<(), LeaseError> {
        self.armed.lock().unwrap().push(self.seen());
        Ok(())
    }

    fn beat(&self) {
        self.beats.fetch_add(1, SeqCst);
    }

    fn state(&self) -> LeaseState {
        LeaseState::Held
    }

    fn disarm(&self) {
        self.disarmed.lock().unwrap().push(self.seen());
    }
}
