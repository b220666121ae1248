//! Puts together what a session runs on: today always the embedded simulator.

use std::time::Duration;

use anyhow::Context;
use sinew_core::{Cameras, Identity, Image, RobotDescription, Tick, Timestamp};
use sinew_runtime::TeleopThread;
use sinew_sim::tasks::{self, Task};
use sinew_sim::{RobotModel, SharedWorld, SimCameras, SimEnvironment, SimRobot, World, robots};

use crate::args::{RigArgs, TeleopKind};
use crate::demo_policy;

/// What `--robot` and `--task` named.
pub struct Scenario {
    pub model: RobotModel,
    pub task: &'static dyn Task,
    /// An instruction sentence of the user's own, where he gave one.
    pub sentence: Option<String>,
}

impl Scenario {
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

    /// A simulated robot and its scene; each call makes a world of its own. In real time its cameras look beside the
    /// loop; otherwise they show each tick as it is.
    pub fn simulate(&self, real_time: bool) -> anyhow::Result<Rig> {
        let doing = || format!("setting up the simulator for the robot {}", self.robot().name);
        let world = World::new(&self.model).with_context(doing)?;
        let world = SharedWorld::new(world);
        let robot = SimRobot::new(world.clone());
        let cameras = if real_time { SimCameras::beside(world.clone()).with_context(doing)? } else { SimCameras::in_step(world.clone()) };
        Ok(Rig { robot, cameras: Box::new(cameras), environment: SimEnvironment::new(world.clone(), self.task), world })
    }

    /// The one who acts instead of a policy, or when he takes over from it.
    pub fn teleoperator(&self, kind: TeleopKind, rig: &Rig, seed: u64) -> anyhow::Result<TeleopThread> {
        let TeleopKind::Scripted = kind;
        let teleoperator = self.task.teleoperator(rig.world.clone(), seed);
        let width = self.robot().action_channels().len();
        TeleopThread::spawn(teleoperator, Identity { width }, self.robot()).context("starting the teleoperator's thread")
    }
}

pub struct Rig {
    pub robot: SimRobot,
    pub cameras: Box<dyn Cameras>,
    pub environment: SimEnvironment,
    pub world: SharedWorld,
}

impl Rig {
    /// What the cameras see now, in the description's order.
    pub fn look(&self) -> anyhow::Result<Vec<Image>> {
        let mut images: Vec<Image> = self.world.robot().cameras.iter().map(|camera| Image::black(camera.width, camera.height)).collect();
        let now = Tick { turn: 0, due: Timestamp::ZERO, period: Duration::ZERO, wants_images: true };
        SimCameras::in_step(self.world.clone()).newest(&now, &mut images)?;
        Ok(images)
    }
}
