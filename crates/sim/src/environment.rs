//! A task in a world as an [`Environment`].

use fastrand::Rng;
use sinew_core::{Environment, EpisodeSetup, Outcome, RobotError};

use crate::error::SimError;
use crate::robot::{SharedWorld, lock};
use crate::tasks::Task;

/// A task counts as done when it has looked done for so many ticks in a row.
const DONE_TICKS: u32 = 5;

/// Sets the scene of a [`Task`] and judges it.
pub struct SimEnvironment {
    world: SharedWorld,
    task: &'static dyn Task,
    done_ticks: u32,
    outcome: Outcome,
}

impl SimEnvironment {
    pub fn new(world: SharedWorld, task: &'static dyn Task) -> Self {
        Self { world, task, done_ticks: 0, outcome: Outcome::Running }
    }

    pub fn task(&self) -> &'static dyn Task {
        self.task
    }

    fn set_scene(&self, seed: u64) -> Result<String, SimError> {
        let mut world = lock(&self.world);
        let mut rng = Rng::with_seed(seed);
        let (scene, instruction) = self.task.scene(world.robot(), seed, &mut rng)?;
        world.reset(scene)?;
        Ok(instruction)
    }
}

impl Environment for SimEnvironment {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, RobotError> {
        let task = self.set_scene(seed).map_err(|source| RobotError::Transient {
            doing: format!("setting up the task {} with seed {seed}", self.task.name()),
            source: Box::new(source),
        })?;
        self.done_ticks = 0;
        self.outcome = Outcome::Running;
        Ok(EpisodeSetup { task, max_ticks: self.task.max_ticks() })
    }

    fn outcome(&mut self) -> Outcome {
        if self.outcome == Outcome::Running {
            let world = lock(&self.world);
            if let Some(why) = self.task.failure(&*world) {
                self.outcome = Outcome::Failure(why);
            } else if self.task.is_done(&*world) {
                self.done_ticks += 1;
                if self.done_ticks >= DONE_TICKS {
                    self.outcome = Outcome::Success;
                }
            } else {
                self.done_ticks = 0;
            }
        }
        self.outcome.clone()
    }

    fn state_hash(&self) -> u64 {
        lock(&self.world).state_hash()
    }
}
