//! A task in a world as an [`Environment`].

use fastrand::Rng;
use sinew_core::{Brief, Environment, EnvironmentError, EpisodeSetup, Outcome};

use crate::error::SimError;
use crate::shared::SharedWorld;
use crate::tasks::Task;

/// A task counts as done when it has looked done so many times in a row.
const DONE_LOOKS: u32 = 5;

/// Sets the scene of a [`Task`] and judges it, by what the world shows.
pub struct SimEnvironment {
    world: SharedWorld,
    task: &'static dyn Task,
    done_looks: u32,
    /// The world's time when it was judged last, seconds.
    judged_s: Option<f64>,
    outcome: Outcome,
}

impl SimEnvironment {
    pub fn new(world: SharedWorld, task: &'static dyn Task) -> Self {
        Self { world, task, done_looks: 0, judged_s: None, outcome: Outcome::Running }
    }

    pub fn task(&self) -> &'static dyn Task {
        self.task
    }

    fn set_scene(&self, seed: u64) -> Result<String, SimError> {
        let robot = self.world.robot();
        if robot.tools.is_empty() {
            return Err(SimError::NoTool { task: self.task.name(), robot: robot.name.clone() });
        }
        let mut rng = Rng::with_seed(seed);
        let (scene, instruction) = self.task.scene(robot, seed, &mut rng)?;
        self.world.lock().reset(scene)?;
        Ok(instruction)
    }
}

impl Environment for SimEnvironment {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, EnvironmentError> {
        let failed = |source: SimError| EnvironmentError { doing: "setting up a simulated task", what: Brief::of(source) };
        let task = self.set_scene(seed).map_err(failed)?;
        self.done_looks = 0;
        self.judged_s = None;
        self.outcome = Outcome::Running;
        Ok(EpisodeSetup { task, max_ticks: self.task.max_ticks(), is_judged: true, is_set_up: true })
    }

    fn outcome(&mut self) -> Outcome {
        if self.outcome == Outcome::Running {
            let seen = self.world.newest();
            // What was judged already counts once.
            if self.judged_s.replace(seen.time_s) == Some(seen.time_s) {
                return Outcome::Running;
            }
            if let Some(why) = self.task.failure(&seen) {
                self.outcome = Outcome::Failure(why);
            } else if self.task.is_done(&seen) {
                self.done_looks += 1;
                if self.done_looks >= DONE_LOOKS {
                    self.outcome = Outcome::Success;
                }
            } else {
                self.done_looks = 0;
            }
        }
        self.outcome.clone()
    }

    fn state_hash(&self) -> u64 {
        self.world.newest().state_hash
    }
}
