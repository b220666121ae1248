//! What the rest of this crate asks of a physics engine.

use std::any::Any;
use std::sync::Arc;

use nalgebra::{Isometry3, Vector3};
use sinew_core::{Image, RobotDescription};

use crate::error::SimError;
use crate::scene::Scene;

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
/// the same times give the same bits. Joints are indexed in the description's order, props in the
/// scene's; the world's frame is the robot's base frame, and the table's top is z = 0.
pub trait Simulator: Send {
    fn robot(&self) -> &Arc<RobotDescription>;

    fn scene(&self) -> &Scene;

    /// Starts over, at time 0, with another scene; torque is off.
    ///
    /// # Errors
    /// When the scene does not place every joint; the world is then unchanged.
    fn reset(&mut self, scene: Scene) -> Result<(), SimError>;

    /// Seconds since the reset.
    fn time_s(&self) -> f64;

    /// Lets time pass until `time_s`, to the nearest step of the engine; not at all when that has
    /// passed.
    ///
    /// # Errors
    /// When a body left the finite numbers.
    fn advance_to(&mut self, time_s: f64) -> Result<(), SimError>;

    /// Goals := present positions, then torque on.
    fn enable_torque(&mut self);

    /// Goals := present positions of the servos whose torque is on.
    fn hold(&mut self);

    fn disable_torque(&mut self);

    /// Sends joint goals to the servos, where they arrive after the motors' latency.
    ///
    /// # Errors
    /// When there is not one finite goal a joint; no servo then got one.
    fn set_goals(&mut self, goals_rad: &[f64]) -> Result<(), SimError>;

    /// The true position of a joint.
    fn position_rad(&self, joint: usize) -> f64;

    fn velocity_rad_per_s(&self, joint: usize) -> f64;

    /// A motor's effort as a share of stall torque, −1..1.
    fn effort(&self, joint: usize) -> f64;

    /// Poses of the links: `base` first, then one a joint.
    fn world_from_links(&self) -> Vec<Isometry3<f64>>;

    fn world_from_prop(&self, prop: usize) -> Isometry3<f64>;

    fn prop_velocity_m_per_s(&self, prop: usize) -> Vector3<f64>;

    /// Draws what camera `camera` of the description sees, at the image's own size.
    ///
    /// # Errors
    /// When there is no such camera.
    fn render(&mut self, camera: usize, image: &mut Image) -> Result<(), SimError>;

    /// As [`Simulator::render`], for as many cameras as there are images, in order; cheaper than one
    /// by one.
    ///
    /// # Errors
    /// When there are more images than cameras.
    fn render_all(&mut self, images: &mut [Image]) -> Result<(), SimError>;

    fn snapshot(&self) -> Snapshot;

    /// Goes back to a snapshot; what follows is the same, bit by bit, as what followed it.
    ///
    /// # Errors
    /// When another engine made the snapshot.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), SimError>;

    /// A digest of everything that moves.
    fn state_hash(&self) -> u64;

    fn positions_rad(&self) -> Vec<f64> {
        (0..self.robot().joints.len()).map(|i| self.position_rad(i)).collect()
    }

    fn world_from_tool(&self) -> Isometry3<f64> {
        self.robot().base_from_tool(&self.positions_rad())
    }
}
