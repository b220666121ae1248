//! What there is to do in the simulator: one file a task.
//!
//! ```
//! let task = sinew_sim::tasks::get("pick-place")?;
//! println!("{}: {}", task.name(), task.summary());
//! # Ok::<(), sinew_sim::SimError>(())
//! ```

mod pick_place;
mod push;
mod reach;
mod scenery;
mod sort;

use fastrand::Rng;
use nalgebra::Vector3;
use sinew_core::{RobotDescription, Teleoperator};

use crate::error::SimError;
use crate::scene::Scene;
use crate::seen::Seen;
use crate::shared::SharedWorld;

/// Index of the prop that a task is about: the cube to move, or the mark to reach.
pub(crate) const TARGET: usize = 0;
/// Index of the prop where it goes: the disc, or the floor of the bin.
pub(crate) const GOAL: usize = 1;

/// Something to do: how its scene is set, how it is judged, and who can show how it is done.
pub trait Task: Send + Sync {
    /// What the command line calls it.
    fn name(&self) -> &'static str;

    /// One line on what there is to do.
    fn summary(&self) -> &'static str;

    /// The time limit, at the robot's control rate.
    fn max_ticks(&self) -> u64;

    /// A scene drawn with `rng`, seeded with `seed`, and the instruction sentence.
    ///
    /// # Errors
    /// When no placement within the arm's reach was found.
    fn scene(&self, robot: &RobotDescription, seed: u64, rng: &mut Rng) -> Result<(Scene, String), SimError>;

    /// Every instruction that a scene of it may have.
    fn instructions(&self) -> Vec<String>;

    /// Whether the world looks as the instruction asks.
    fn is_done(&self, world: &Seen) -> bool;

    /// Why the task can no longer be done; `None` while it can.
    fn failure(&self, world: &Seen) -> Option<String>;

    /// Someone who does the task, knowing the true state of `world`, which it looks at but does not touch.
    fn teleoperator(&self, world: SharedWorld, seed: u64) -> Box<dyn Teleoperator>;
}

/// All tasks.
pub fn list() -> &'static [&'static dyn Task] {
    &[&reach::Reach, &push::Push, &pick_place::PickPlace, &sort::Sort]
}

/// The task called `name`.
///
/// # Errors
/// When there is none; the error names those there are.
pub fn get(name: &str) -> Result<&'static dyn Task, SimError> {
    list()
        .iter()
        .find(|task| task.name() == name)
        .copied()
        .ok_or_else(|| SimError::UnknownTask { name: name.into(), known: list().iter().map(|task| task.name()).collect() })
}

/// The task of which a scene has this instruction; `None` where it is of none.
pub fn of_instruction(text: &str) -> Option<&'static dyn Task> {
    list().iter().find(|task| task.instructions().iter().any(|known| known == text)).copied()
}

/// A cube that left the table or was thrown out of reach cannot be fetched back.
fn lost_cube(world: &Seen, prop: usize) -> Option<String> {
    let at = world.world_from_props[prop].translation.vector;
    let gone = at.z < -0.05 || at.xy().norm() > 0.45 || at.x < 0.0;
    gone.then(|| format!("{} is out of reach at ({:.2}, {:.2}, {:.2}) m", world.scene.props[prop].name, at.x, at.y, at.z))
}

/// Whether prop `prop` lies still and the gripper has let go and moved away from it.
fn left_alone(world: &Seen, prop: usize) -> bool {
    let at: Vector3<f64> = world.world_from_props[prop].translation.vector;
    let tool = world.world_from_tool().translation.vector;
    world.prop_velocities_m_per_s[prop].norm() < 0.02 && (tool - at).norm() > 0.06 && tool.z > 0.055
}
