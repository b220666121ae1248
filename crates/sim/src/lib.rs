//! The embedded simulator.

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
pub use tasks::Task;
pub use world::{SUBSTEPS_PER_SECOND, Snapshot, World};
