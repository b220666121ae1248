//! Puts together what a session runs on: the embedded simulator, or a robot behind its port.

use std::time::Duration;

use anyhow::Context;
use sinew_core::{CameraDescription, Cameras, Environment, Identity, Image, RobotDescription, Role, Tick, Timestamp};
use sinew_runtime::{AsItIs, TeleopThread};
use sinew_sim::tasks::{self, Task};
use sinew_sim::{RobotModel, SharedWorld, SimCameras, SimEnvironment, SimRobot, World, robots};

use crate::args::{RigArgs, misuse};
use crate::buses::{BusReport, Connected, Outages};
use crate::cameras::Looking;
use crate::demo_policy;
use crate::hardware::{Hardware, InUse};
use crate::led::Human;
use crate::text::note;

/// What `--robot` and `--task` named, in the simulator.
pub struct Scenario {
    pub model: RobotModel,
    pub task: &'static dyn Task,
    /// An instruction of the user's own, where he gave one.
    pub instruction: Option<String>,
}

impl Scenario {
    pub fn of(args: &RigArgs) -> anyhow::Result<Self> {
        let instruction = args.instruction.as_deref().map(|text| text.trim().to_owned());
        Ok(Self { instruction, ..Self::named(&args.robot, args.task.as_deref())? })
    }

    /// The robot called `robot` before the scene of `task`, or of the demonstration policy's.
    pub fn named(robot: &str, task: Option<&str>) -> anyhow::Result<Self> {
        let model = robots::get(robot)?;
        if model.description.simulation.is_none() {
            let can = robots::list().filter(|name| robots::get(name).is_ok_and(|robot| robot.description.simulation.is_some()));
            let can = can.collect::<Vec<_>>().join(", ");
            if model.description.role == Role::Teleoperator {
                misuse!("simulating {robot}: it is a leader arm, which is moved by hand; expected a robot that can be simulated ({can})");
            }
            misuse!(
                "simulating {robot}: its robot.toml has no [simulation] section; expected a robot that can be simulated ({can}), or a verb with \
                 --port PORT, which runs a real one"
            );
        }
        let wanted = task.unwrap_or(demo_policy::TASK);
        if wanted.trim().contains(char::is_whitespace) {
            let names: Vec<&str> = tasks::list().iter().map(|task| task.name()).collect();
            misuse!(
                "--task names a task of the simulator ({}), and {wanted:?} is none; a sentence for the policy is --instruction {wanted:?}",
                names.join(", ")
            );
        }
        let task = tasks::get(wanted)?;
        Ok(Self { model, task, instruction: None })
    }

    pub fn robot(&self) -> &RobotDescription {
        &self.model.description
    }

    /// On what success is judged, and what the policy is told.
    pub fn in_words(&self) -> String {
        let name = self.task.name();
        match &self.instruction {
            None => name.to_owned(),
            Some(instruction) => format!("{name} (that is what success is judged on), the policy is told {instruction:?}"),
        }
    }

    /// Says what can't come out well: the demonstration policy knows one task of one robot.
    pub fn warn_of_demonstration(&self) {
        if self.task.name() != demo_policy::TASK {
            note!(
                "warning: the demonstration policy was trained for {} alone; expect no success at {}",
                demo_policy::TASK,
                self.task.name()
            );
        }
    }

    /// A simulated robot and its scene; each call makes a world of its own. In real time its cameras look beside the
    /// loop; otherwise, and where the robot waits for its policy anyway, they show each tick as it is, so that no machine's
    /// speed decides what is seen.
    pub fn simulate(&self, real_time: bool, waits: bool) -> anyhow::Result<Rig> {
        let doing = || format!("setting up the simulator for the robot {}", self.robot().name);
        let world = World::new(&self.model).with_context(doing)?;
        let world = SharedWorld::new(world);
        let robot = SimRobot::new(world.clone());
        let cameras: Box<dyn Cameras> = Box::new(if real_time && !waits {
            SimCameras::beside(world.clone()).with_context(doing)?
        } else {
            SimCameras::in_step(world.clone())
        });
        let environment = SimEnvironment::new(world.clone(), self.task);
        let place = Place::Simulator { world, task: self.task };
        Ok(Rig { robot: Box::new(robot), cameras: Looking::through(cameras), environment: Box::new(environment), place })
    }
}

/// What a session runs on.
pub struct Rig {
    pub robot: Box<dyn Connected>,
    pub cameras: Looking,
    pub environment: Box<dyn Environment>,
    place: Place,
}

enum Place {
    Simulator { world: SharedWorld, task: &'static dyn Task },
    Hardware { calibration: Option<InUse> },
}

impl Rig {
    /// A robot that is connected. Nobody sets its scene or judges it: an episode ends after so many ticks.
    pub fn of(hardware: Hardware, scene: AsItIs) -> Self {
        let Hardware { robot, cameras, calibration } = hardware;
        Self { robot, cameras, environment: Box::new(scene), place: Place::Hardware { calibration } }
    }

    /// Whether real motors move.
    pub fn is_real(&self) -> bool {
        matches!(self.place, Place::Hardware { .. })
    }

    /// Tells of its ports from now on, where it has any.
    pub fn tell_outages(&self) -> Option<Outages> {
        if self.is_real() { self.robot.tell_outages() } else { None }
    }

    /// How its motors or its connection did, where it has any.
    pub fn report(&self) -> Option<BusReport> {
        self.is_real().then(|| self.robot.report())
    }

    /// With which calibration, for people.
    pub fn calibrated(&self) -> String {
        match &self.place {
            Place::Hardware { calibration: Some(calibration) } => format!(" ({})", calibration.id),
            Place::Hardware { calibration: None } | Place::Simulator { .. } => String::new(),
        }
    }

    /// Which calibration it has, for a dataset.
    pub fn calibration(&self) -> Option<String> {
        match &self.place {
            Place::Hardware { calibration } => calibration.as_ref().map(InUse::in_words),
            Place::Simulator { .. } => None,
        }
    }

    /// The one who knows the simulator's world and works its task as a careful human would.
    pub fn scripted(&self, seed: u64) -> anyhow::Result<Human> {
        let robot = self.robot.description();
        let Place::Simulator { world, task } = &self.place else {
            anyhow::bail!("starting the teleoperator: a scripted one knows the simulator's world, and {} is not in it", robot.name);
        };
        let width = robot.action_channels().len();
        let teleoperator = task.teleoperator(world.clone(), seed);
        let thread = TeleopThread::spawn(teleoperator, Identity { width }, robot).context("starting the teleoperator's thread")?;
        Ok(Human::without_arm(thread))
    }

    /// What the simulator's cameras see now, in the description's order.
    pub fn look(&self) -> anyhow::Result<Vec<Image>> {
        let Place::Simulator { world, .. } = &self.place else { return Ok(Vec::new()) };
        let mut images: Vec<Image> = world.robot().cameras.iter().map(CameraDescription::blank).collect();
        let now = Tick { turn: 0, due: Timestamp::ZERO, period: Duration::ZERO, wants_images: true };
        SimCameras::in_step(world.clone()).newest(&now, &mut images)?;
        Ok(images)
    }
}
