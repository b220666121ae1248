//! How to pick a cube and drop it into the bin.

use std::f64::consts::FRAC_PI_2;

use nalgebra::{Vector2, Vector3};
use sinew_core::ToolGoal;

use super::hand::at_rest;
use super::{Intent, Place, Script};
use crate::tasks::{GOAL, TARGET};
use crate::world::World;

const OPEN_RAD: f64 = 0.75;
const CLOSED_RAD: f64 = 0.0;
const HOVER_M: f64 = 0.070;
const GRASP_M: f64 = 0.014;
const CARRY_M: f64 = 0.075;
const DROP_M: f64 = 0.055;
/// A closed gripper that is at least so far open holds something.
const HOLDING_RAD: f64 = 0.06;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Hover,
    Descend,
    Close,
    Lift,
    Carry,
    Lower,
    Release,
    Rise,
    Rest,
}

#[derive(Default)]
pub(crate) struct Picker {
    stage: Stage,
    /// Ticks in this stage.
    ticks: u32,
}

/// Of the four headings that lay the jaws against the cube's sides, the one that turns the wrist
/// least.
fn grasp_heading_rad(world: &World) -> f64 {
    let cube = world.world_from_prop(TARGET);
    let side = cube.rotation * Vector3::x();
    // Lying on another side, its x axis may point up.
    let side = if side.xy().norm() > 0.5 { side } else { cube.rotation * Vector3::y() };
    let yaw = side.y.atan2(side.x);
    let goal = ToolGoal { position_m: cube.translation.vector, approach: Some(-Vector3::z_axis()), across: None };
    let robot = world.robot();
    let straight = robot.inverse_kinematics(&goal, &robot.stop.rest_rad).map_or_else(
        |_| Vector3::x(),
        |found| robot.base_from_tool(&found.positions_rad).rotation * Vector3::x(),
    );
    let reference = straight.y.atan2(straight.x);
    let quarters = ((reference - yaw) / FRAC_PI_2).round();
    yaw + quarters * FRAC_PI_2
}

impl Script for Picker {
    fn reset(&mut self) {
        *self = Self::default();
    }

    fn intend(&mut self, world: &World) -> Intent {
        let cube = world.world_from_prop(TARGET).translation.vector;
        let bin = world.world_from_prop(GOAL).translation.vector;
        let tool = world.world_from_tool();
        let at = tool.translation.vector;
        let gripper_rad = world.positions_rad().last().copied().unwrap_or(0.0);
        let heading = grasp_heading_rad(world);
        let tool_x = (tool.rotation * Vector3::x()).xy();
        let turned = tool_x.dot(&Vector2::new(heading.cos(), heading.sin())) / tool_x.norm().max(1e-9);
        let near = |target: &Vector3<f64>| (at - target).xy().norm();
        let in_bin = (cube - bin).xy().norm() < 0.06 && cube.z < 0.04;
        let with_cube = (cube - at).norm() < 0.035;

        let next = match self.stage {
            Stage::Hover if in_bin => Stage::Rise,
            Stage::Hover if near(&cube) < 0.008 && turned > 0.985 && at.z < HOVER_M + 0.03 => Stage::Descend,
            Stage::Descend if near(&cube) > 0.02 => Stage::Hover,
            Stage::Descend if at.z < GRASP_M + 0.006 => Stage::Close,
            Stage::Close if self.ticks >= 4 && gripper_rad < HOLDING_RAD => Stage::Hover,
            Stage::Close if self.ticks >= 4 && world.effort(world.robot().joints.len() - 1) < -0.5 && world.velocity_rad_per_s(world.robot().joints.len() - 1).abs() < 0.2 => Stage::Lift,
            Stage::Close if self.ticks > 30 => Stage::Hover,
            Stage::Lift | Stage::Carry | Stage::Lower if !with_cube => Stage::Hover,
            Stage::Lift if at.z > CARRY_M - 0.02 => Stage::Carry,
            Stage::Carry if near(&bin) < 0.015 => Stage::Lower,
            Stage::Lower if at.z < DROP_M + 0.006 => Stage::Release,
            Stage::Release if gripper_rad > 0.5 => Stage::Rise,
            Stage::Rise if at.z > HOVER_M - 0.01 => if in_bin { Stage::Rest } else { Stage::Hover },
            stage => stage,
        };
        self.ticks = if next == self.stage { self.ticks + 1 } else { 0 };
        self.stage = next;
        let present = tool_x.y.atan2(tool_x.x);
        let over = |target: &Vector3<f64>, z: f64, heading: f64| Place::Over { tool_m: target.xy().push(z), heading_rad: Some(heading) };
        let (place, gripper_rad, speed_m_per_s, looseness) = match self.stage {
            Stage::Hover => (over(&cube, HOVER_M, heading), OPEN_RAD, 0.25, 1.0),
            Stage::Descend => (over(&cube, GRASP_M, heading), OPEN_RAD, 0.15, 0.2),
            Stage::Close => (over(&at, GRASP_M, present), CLOSED_RAD, 0.1, 0.0),
            Stage::Lift => (over(&at, CARRY_M, present), CLOSED_RAD, 0.2, 0.3),
            Stage::Carry => (Place::Over { tool_m: bin.xy().push(CARRY_M), heading_rad: None }, CLOSED_RAD, 0.25, 0.7),
            Stage::Lower => (Place::Over { tool_m: bin.xy().push(DROP_M), heading_rad: None }, CLOSED_RAD, 0.15, 0.3),
            Stage::Release => (Place::Over { tool_m: bin.xy().push(DROP_M), heading_rad: None }, OPEN_RAD, 0.1, 0.2),
            Stage::Rise => (Place::Over { tool_m: at.xy().push(HOVER_M + 0.01), heading_rad: None }, OPEN_RAD, 0.2, 0.3),
            Stage::Rest => (Place::Rest, world.robot().stop.rest_rad.last().copied().unwrap_or(0.0), 0.25, 0.5),
        };
        let done = self.stage == Stage::Rest && at_rest(world);
        Intent { place, gripper_rad, speed_m_per_s, looseness, done }
    }
}
