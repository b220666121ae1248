//! Puts together what a session runs on: today always the embedded simulator.

use std::sync::{Arc, Mutex};

use anyhow::Context;
use sinew_core::{Environment, EpisodeSetup, Image, Outcome, RobotDescription, RobotError};
use sinew_sim::tasks::{self, Task};
use sinew_sim::{RobotModel, SharedWorld, SimEnvironment, SimRobot, World, robots};

use crate::args::RigArgs;
use crate::demo_policy;

/// What `--robot` and `--task` named.
pub struct Plan {
    pub model: RobotModel,
    pub task: &'static dyn Task,
    /// An instruction sentence of the user's own, where he gave one.
    pub sentence: Option<String>,
}

impl Plan {
    pub fn of(args: &RigArgs) -> anyhow::Result<Self> {
        let model = robots::get(&args.robot)?;
        let wanted = args.task.as_deref().unwrap_or(demo_policy::TASK);
        // A sentence has more than one word; a lone word is meant to be a task's name.
        let sentence = wanted.trim().contains(char::is_whitespace).then(|| wanted.trim().to_owned());
        let task = tasks::get(if sentence.is_some() { demo_policy::TASK } else { wanted })?;
        Ok(Self { model, task, sentence })
    }

    pub fn robot(&self) -> &RobotDescription {
        &self.model.description
    }

    /// A simulated robot and its scene; each call makes a world of its own.
    pub fn simulate(&self) -> anyhow::Result<Rig> {
        let world = World::new(&self.model).with_context(|| format!("setting up the simulator for the robot {}", self.robot().name))?;
        let world: SharedWorld = Arc::new(Mutex::new(world));
        Ok(Rig { robot: SimRobot::new(world.clone()), environment: SimEnvironment::new(world.clone(), self.task), world })
    }
}

/// A scene whose success or failure ends nothing: a run goes on until its time is over.
pub struct Endless<'a> {
    scene: &'a mut SimEnvironment,
    ticks: u64,
}

impl<'a> Endless<'a> {
    /// For `seconds` at `fps` ticks a second; 0 is without end.
    pub fn new(scene: &'a mut SimEnvironment, seconds: f64, fps: u32) -> Self {
        let ticks = if seconds > 0.0 { (seconds * f64::from(fps)).ceil() as u64 } else { u64::MAX };
        Self { scene, ticks }
    }
}

impl Environment for Endless<'_> {
    fn reset(&mut self, seed: u64) -> Result<EpisodeSetup, RobotError> {
        Ok(EpisodeSetup { max_ticks: self.ticks, ..self.scene.reset(seed)? })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        self.scene.state_hash()
    }
}

/// The scene as an episode left it, for so many ticks: nothing is set up, nothing is judged.
pub struct AsItIs {
    pub ticks: u64,
}

impl Environment for AsItIs {
    fn reset(&mut self, _: u64) -> Result<EpisodeSetup, RobotError> {
        Ok(EpisodeSetup { task: String::new(), max_ticks: self.ticks })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        0
    }
}

pub struct Rig {
    pub robot: SimRobot,
    pub environment: SimEnvironment,
    pub world: SharedWorld,
}

impl Rig {
    /// What the cameras see now, in the description's order; `size` instead of their own where given.
    pub fn look(&self, size: Option<(u32, u32)>) -> anyhow::Result<Vec<Image>> {
        let mut world = self.world.lock().map_err(|_poisoned| anyhow::anyhow!("looking at the scene: the simulator panicked before"))?;
        let robot = world.robot().clone();
        let mut images: Vec<Image> = robot
            .cameras
            .iter()
            .map(|camera| size.unwrap_or((camera.width, camera.height)))
            .map(|(width, height)| Image::black(width, height))
            .collect();
        world.render_all(&mut images)?;
        Ok(images)
    }
}
