//! The embedded simulator: a robot, a table, tasks to do on it and someone who shows how.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use std::time::Duration;
//!
//! use sinew_core::{Armed, Environment, Observation, SafetyGate, Tick, Timestamp};
//! use sinew_sim::{SimEnvironment, SimRobot, World, robots, tasks};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // One world, seen from three sides: the robot in it, the task set in it, and a scripted
//! // teleoperator who knows its true state.
//! let model = robots::get("so101")?;
//! let world = Arc::new(Mutex::new(World::new(&model)?));
//! let mut robot = SimRobot::new(world.clone());
//! let task = tasks::get("pick-place")?;
//! let mut environment = SimEnvironment::new(world.clone(), task);
//! let setup = environment.reset(42)?;
//! assert_eq!(setup.task, "Put the cube into the green bin.");
//! let mut teleoperator = task.teleoperator(world, 42);
//! teleoperator.reset()?;
//!
//! // A tick: read, choose, gate, write. The world's time is the ticks' due time.
//! let mut observation = Observation::for_robot(&model.description);
//! let gate = SafetyGate::of(&model.description);
//! let mut armed = Armed::new(&mut robot)?;
//! let tick = Tick { index: 0, due: Timestamp::ZERO, period: Duration::from_millis(33), wants_images: true };
//! armed.observe(&tick, &mut observation)?;
//! let mut command = gate.hold(&observation.position_rad);
//! let mut wanted = vec![0.0; 6];
//! teleoperator.action(&tick, &mut wanted)?;
//! gate.advance(&mut command, &wanted, &observation, tick.period.as_secs_f64());
//! armed.apply(&command, &mut vec![0.0; 6])?;
//! # Ok(())
//! # }
//! ```
//!
//! What holds:
//!
//! - The same seed and the same commands give the same bits: state, pixels, demonstrations. Nothing
//!   reads a clock, and nothing that is drawn changes what moves.
//! - [`World`] alone knows the physics engine, the others know a [`Simulator`]; [`SimRobot`] alone
//!   steps it.
//! - A body that leaves the finite numbers is an error that names it.
//!
//! The physics is [rapier](https://rapier.rs) at 240 substeps a second: the arm in reduced
//! coordinates, each servo a spring and a damper of limited torque integrated implicitly, with the
//! gears' play, friction and inertia and the bus's latency. The arm does not collide with itself.

mod arm;
mod convert;
mod environment;
mod error;
mod mesh;
mod render;
mod robot;
pub mod robots;
mod scene;
mod servo;
mod simulator;
pub mod tasks;
mod teleop;
mod view;
mod world;

pub use environment::SimEnvironment;
pub use error::SimError;
pub use mesh::{Mesh, MeshError};
pub use robot::{SharedWorld, SimRobot};
pub use robots::{RobotModel, RobotModelError};
pub use scene::{Look, Prop, PropPhysics, PropShape, Scene};
pub use simulator::{Simulator, Snapshot};
pub use tasks::Task;
pub use world::{SUBSTEPS_PER_SECOND, World};
