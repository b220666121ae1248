//! What the rest of this crate asks of a physics engine.

use std::any::Any;
use std::sync::Arc;

use nalgebra::{Isometry3, Vector3};
use sinew_core::RobotDescription;

use crate::error::SimError;
use crate::scene::Scene;
use crate::seen::Seen;
use crate::view::View;

/// A state of a [`Simulator`] to come back to; only the engine that made it can read it.
pub struct Snapshot(Box<dyn Any + Send>);

impl Snapshot {
    pub fn new<T: Any + Send>(state: T) -> Self {
        Self(Box::new(state))
    }

    /// The state, when it is of this engine.
    pub fn state<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

/// A robot, what stands on its table, and time. Deterministic: the same scene and the same goals at
/// the same times give the same bits. Parts are indexed in the description's order, props in the
/// scene's; values are radians or metres; the world's frame is the robot's base frame, and the table's top
/// is z = 0.
pub trait Simulator: Send {
    fn robot(&self) -> &Arc<RobotDescription>;

    /// Another one after each reset.
    fn scene(&self) -> &Arc<Scene>;

    /// What the robot and its cameras look like.
    fn view(&self) -> &Arc<View>;

    /// Starts over, at time 0, with another scene; torque is off.
    ///
    /// # Errors
    /// When the scene does not place every part; the world is then unchanged.
    fn reset(&mut self, scene: Scene) -> Result<(), SimError>;

    /// Seconds since the reset.
    fn time_s(&self) -> f64;

    /// Lets time pass until `time_s`, to the nearest step of the engine; not at all when that has
    /// passed.
    ///
    /// # Errors
    /// When a body left the finite numbers.
    fn advance_to(&mut self, time_s: f64) -> Result<(), SimError>;

    /// Goal := present position, then torque on.
    fn enable(&mut self, part: usize);

    fn torque_is_on(&self, part: usize) -> bool;

    /// Goal := present position, when the part's torque is on.
    fn hold(&mut self, part: usize);

    fn disable_torque(&mut self, part: usize);

    /// Sends goals to the servos, a value a channel of action, where they arrive after the motors' latency.
    ///
    /// # Errors
    /// When there is not one finite goal a channel; no servo then got one.
    fn set_goals(&mut self, goals: &[f64]) -> Result<(), SimError>;

    /// Where a part truly is.
    fn value(&self, part: usize) -> f64;

    /// A second.
    fn velocity(&self, part: usize) -> f64;

    /// A motor's effort as a share of stall torque, −1..1.
    fn effort(&self, part: usize) -> f64;

    /// The base's pose is 0, then comes one a part.
    fn world_from_link(&self, link: usize) -> Isometry3<f64>;

    fn world_from_prop(&self, prop: usize) -> Isometry3<f64>;

    fn prop_velocity_m_per_s(&self, prop: usize) -> Vector3<f64>;

    /// Writes how the world is now into `seen`, but for its due time and its scene's number. Allocates nothing
    /// once `seen` has had this scene.
    fn see(&self, seen: &mut Seen);

    fn snapshot(&self) -> Snapshot;

    /// Goes back to a snapshot; what follows is the same, bit by bit, as what followed it.
    ///
    /// # Errors
    /// When another engine made the snapshot.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SimError>;

    /// A digest of everything that moves.
    fn state_hash(&self) -> u64;

    /// [`enable`](Self::enable)s the parts that are commanded.
    fn enable_torque(&mut self) {
        for part in 0..self.robot().parts.len() {
            if self.robot().parts[part].command.is_some() {
                self.enable(part);
            }
        }
    }

    fn values(&self) -> Vec<f64> {
        (0..self.robot().parts.len()).map(|i| self.value(i)).collect()
    }

    /// Where the robot's first tool is.
    fn world_from_tool(&self) -> Isometry3<f64> {
        self.robot().base_from_tool(0, &self.values())
    }
}
