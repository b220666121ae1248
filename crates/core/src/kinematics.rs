//! Forward kinematics of a description's own chain.

use nalgebra::{Isometry3, UnitQuaternion};

use crate::RobotDescription;

impl RobotDescription {
    /// Pose of every joint's link in the base frame, in joint order, for `positions_rad`. Missing
    /// positions count as 0.
    pub fn base_from_links(&self, positions_rad: &[f64]) -> Vec<Isometry3<f64>> {
        let mut pose = Isometry3::identity();
        (0..self.joints.len())
            .map(|i| {
                let turn = UnitQuaternion::from_axis_angle(&self.joint_axis(i), positions_rad.get(i).copied().unwrap_or(0.0));
                pose = pose * self.joints[i].parent_from_joint.to_isometry() * turn;
                pose
            })
            .collect()
    }

    /// Pose of the tool in the base frame.
    pub fn base_from_tool(&self, positions_rad: &[f64]) -> Isometry3<f64> {
        let links = self.base_from_links(positions_rad);
        let joint = self.joints.iter().position(|joint| joint.name == self.tool.joint).unwrap_or(links.len() - 1);
        links[joint] * self.tool.joint_from_tool.to_isometry()
    }
}
