//! The embedded simulator: a robot, a table, tasks to do on it and someone who shows how.
//!
//! ```
//! use std::time::Duration;
//!
//! use sinew_core::{Armed, Cameras, Environment, MockClock, Observation, Tick, Timestamp, Unwatched, Wanted};
//! use sinew_sim::{SharedWorld, SimCameras, SimEnvironment, SimRobot, World, robots, tasks};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One world, seen from four sides: the robot in it, its cameras, the task set in it, and a scripted
//! // teleoperator who knows its true state.
//! let model = robots::get("so101")?;
//! let world = SharedWorld::new(World::new(&model)?);
//! let mut robot = SimRobot::new(world.clone());
//! let mut cameras = SimCameras::in_step(world.clone());
//! let task = tasks::get("pick-place")?;
//! let mut environment = SimEnvironment::new(world.clone(), task);
//! let setup = environment.reset(42)?;
//! assert_eq!(setup.task, "Put the cube into the green bin.");
//! let mut teleoperator = task.teleoperator(world, 42);
//!
//! // A tick: read, choose, drive. The world's time is the ticks' due time.
//! let clock = MockClock::new();
//! let mut observation = Observation::for_robot(&model.description);
//! let mut wanted = Wanted::for_robot(&model.description);
//! let tick = Tick { turn: 0, due: Timestamp::ZERO, period: Duration::from_millis(33), wants_images: true };
//! let mut armed = Armed::new(&mut robot, &Unwatched, &clock, &tick, &mut observation)?;
//! teleoperator.reset(&observation)?;
//! armed.read(&tick, &mut observation)?;
//! cameras.newest(&tick, &mut observation.images)?;
//! teleoperator.action(&tick, &observation, &mut wanted.goals)?;
//! armed.drive(Some(&wanted), &observation, tick.period.as_secs_f64())?;
//! # Ok(())
//! # }
//! ```
//!
//! What holds:
//!
//! - The same seed and the same commands give the same bits: state, pixels, demonstrations. Nothing
//!   reads a clock, and nothing that is drawn changes what moves.
//! - [`World`] alone knows the physics engine, the others know a [`Simulator`]; [`SimRobot`] alone
//!   steps it, and waits for nobody. Those who judge, show and draw look at what a [`SharedWorld`] shows,
//!   [`Seen`], on threads of their own.
//! - A body that leaves the finite numbers is an error that names it.
//!
//! The physics is [rapier](https://rapier.rs) at 240 substeps a second: the arm in reduced
//! coordinates, a tree of parts, each servo a spring and a damper of limited torque integrated implicitly, with the
//! gears' play, friction and inertia and the bus's latency. The arm does not collide with itself.

mod arm;
mod board;
mod cameras;
mod convert;
mod environment;
mod error;
mod mesh;
mod motors;
mod render;
mod robot;
pub mod robots;
mod scene;
mod seen;
mod servo;
mod shared;
mod simulator;
pub mod tasks;
mod teleop;
mod view;
mod world;

pub use cameras::SimCameras;
pub use environment::SimEnvironment;
pub use error::SimError;
pub use mesh::{Mesh, MeshError};
pub use motors::{SimMotors, Turned};
pub use robot::SimRobot;
pub use robots::{RobotModel, RobotModelError};
pub use scene::{Look, Prop, PropPhysics, PropShape, Scene};
pub use seen::Seen;
pub use shared::{Glance, SharedWorld, WorldGuard};
pub use simulator::{Simulator, Snapshot};
pub use tasks::Task;
pub use view::View;
pub use world::{SUBSTEPS_PER_SECOND, World};
