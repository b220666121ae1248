//! What a world shows to those who only look at it.

use std::sync::Arc;

use nalgebra::{Isometry3, Vector3};
use sinew_core::{RobotDescription, Timestamp};

use crate::scene::Scene;

/// A world at one moment. Values are a part's, in the description's order, in radians or metres; props are
/// in the scene's order.
#[derive(Clone, Debug)]
pub struct Seen {
    pub robot: Arc<RobotDescription>,
    pub scene: Arc<Scene>,
    /// Counts the scenes that were set.
    pub scene_number: u64,
    /// Due time of the tick that last read the robot; `None` before the scene's first.
    pub due: Option<Timestamp>,
    /// Seconds since the reset.
    pub time_s: f64,
    pub values: Vec<f64>,
    /// A second.
    pub velocities: Vec<f64>,
    /// Shares of stall torque, −1..1.
    pub efforts: Vec<f64>,
    /// `base` first, then one a part.
    pub world_from_links: Vec<Isometry3<f64>>,
    pub world_from_props: Vec<Isometry3<f64>>,
    pub prop_velocities_m_per_s: Vec<Vector3<f64>>,
    /// A digest of everything that moves.
    pub state_hash: u64,
}

impl Seen {
    /// Of a world that was not looked at yet.
    pub fn new(robot: Arc<RobotDescription>, scene: Arc<Scene>) -> Self {
        Self {
            robot,
            scene,
            scene_number: 0,
            due: None,
            time_s: 0.0,
            values: Vec::new(),
            velocities: Vec::new(),
            efforts: Vec::new(),
            world_from_links: Vec::new(),
            world_from_props: Vec::new(),
            prop_velocities_m_per_s: Vec::new(),
            state_hash: 0,
        }
    }

    /// Where the robot's first tool is.
    pub fn world_from_tool(&self) -> Isometry3<f64> {
        self.robot.base_from_tool(0, &self.values)
    }

    /// Makes `self` what `other` is, without allocating when the widths agree.
    pub fn copy_from(&mut self, other: &Self) {
        self.robot.clone_from(&other.robot);
        self.scene.clone_from(&other.scene);
        self.scene_number = other.scene_number;
        self.due = other.due;
        self.time_s = other.time_s;
        self.values.clone_from(&other.values);
        self.velocities.clone_from(&other.velocities);
        self.efforts.clone_from(&other.efforts);
        self.world_from_links.clone_from(&other.world_from_links);
        self.world_from_props.clone_from(&other.world_from_props);
        self.prop_velocities_m_per_s.clone_from(&other.prop_velocities_m_per_s);
        self.state_hash = other.state_hash;
    }
}
