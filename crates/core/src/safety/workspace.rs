//! The box that the tool must stay in.

use nalgebra::{Isometry3, Unit, Vector3};

use crate::{RobotDescription, Workspace};

/// A workspace with the chain that leads to the tool, ready for forward kinematics without
/// allocation.
#[derive(Clone, Debug)]
pub(super) struct WorkspaceGate {
    chain: Vec<(Isometry3<f64>, Unit<Vector3<f64>>)>,
    joint_from_tool: Isometry3<f64>,
    workspace: Workspace,
}

impl WorkspaceGate {
    pub(super) fn of(robot: &RobotDescription) -> Option<Self> {
        let chain = (0..=robot.tool_joint()).map(|i| (robot.joints[i].parent_from_joint.to_isometry(), robot.joint_axis(i)));
        Some(Self { chain: chain.collect(), joint_from_tool: robot.tool.joint_from_tool.to_isometry(), workspace: robot.workspace? })
    }

    /// How far outside the box the tool is, metres; 0 inside.
    pub(super) fn outside_m(&self, positions_rad: impl Iterator<Item = f64>) -> f64 {
        let turned = self.chain.iter().zip(positions_rad);
        let link = turned.fold(Isometry3::identity(), |pose, ((parent_from_joint, axis), position)| {
            pose * parent_from_joint * nalgebra::UnitQuaternion::from_axis_angle(axis, position)
        });
        let tool = (link * self.joint_from_tool).translation.vector;
        let Workspace { min_m, max_m } = &self.workspace;
        (0..3).map(|i| (min_m[i] - tool[i]).max(tool[i] - max_m[i])).fold(0.0, f64::max)
    }
}
