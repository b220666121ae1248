//! How to take a cube somewhere: through the air into a bin, or along the table onto a mark.

use std::f64::consts::FRAC_PI_2;

use nalgebra::{Vector2, Vector3};
use sinew_core::ToolGoal;

use super::hand::{at_rest, gripper};
use super::{Intent, Place, Script};
use crate::scene::rest_pose;
use crate::seen::Seen;
use crate::tasks::{GOAL, TARGET};

const OPEN_RAD: f64 = 0.75;
const CLOSED_RAD: f64 = 0.0;
const HOVER_M: f64 = 0.070;
const GRASP_M: f64 = 0.014;
/// A closed gripper that is at least so far open holds something.
const HOLDING_RAD: f64 = 0.06;
/// The cube is let go so near above the goal's middle.
const THERE_M: f64 = 0.012;

/// Ways to move a cube, in heights of the tool above the table.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Way {
    carry_m: f64,
    release_m: f64,
    speed_m_per_s: f64,
    /// A cube that lies so near to the goal's middle has arrived.
    arrived_m: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
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

/// Takes the cube between the jaws to the goal. A cube that is lost on the way is fetched again.
pub(crate) struct Carrier {
    way: Way,
    stage: Stage,
    /// Ticks in this stage.
    ticks: u32,
}

impl Carrier {
    /// Over the rim of a bin.
    pub fn through_the_air() -> Self {
        Self::new(Way { carry_m: 0.075, release_m: 0.055, speed_m_per_s: 0.25, arrived_m: 0.06 })
    }

    /// Without lifting it.
    pub fn along_the_table() -> Self {
        Self::new(Way { carry_m: GRASP_M, release_m: GRASP_M, speed_m_per_s: 0.18, arrived_m: 0.025 })
    }

    fn new(way: Way) -> Self {
        Self { way, stage: Stage::Hover, ticks: 0 }
    }

    fn next(&self, world: &Seen, see: &Sight) -> Stage {
        let Sight { cube, goal, at, .. } = see;
        let gripper = gripper(&world.robot);
        let arrived = (cube - goal).xy().norm() < self.way.arrived_m && cube.z < 0.04;
        let off = (at - cube).xy().norm();
        let with_cube = (cube - at).norm() < 0.035;
        let open_rad = world.values[gripper];
        let stalled = world.efforts[gripper] < -0.5 && world.velocities[gripper].abs() < 0.2;
        match self.stage {
            Stage::Hover if arrived => Stage::Rise,
            Stage::Hover if off < 0.008 && see.turned > 0.985 && at.z < HOVER_M + 0.03 => Stage::Descend,
            Stage::Descend if off > 0.02 => Stage::Hover,
            Stage::Descend if at.z < GRASP_M + 0.006 => Stage::Close,
            Stage::Close if self.ticks >= 4 && (open_rad < HOLDING_RAD || self.ticks > 30) => Stage::Hover,
            Stage::Close if self.ticks >= 4 && stalled => Stage::Lift,
            Stage::Lift | Stage::Carry | Stage::Lower if !with_cube => Stage::Hover,
            Stage::Lift if at.z > self.way.carry_m - 0.02 => Stage::Carry,
            Stage::Carry if (cube - goal).xy().norm() < THERE_M => Stage::Lower,
            Stage::Lower if at.z < self.way.release_m + 0.006 => Stage::Release,
            Stage::Release if open_rad > 0.5 => Stage::Rise,
            Stage::Rise if at.z > HOVER_M - 0.01 => {
                if arrived {
                    Stage::Rest
                } else {
                    Stage::Hover
                }
            }
            stage => stage,
        }
    }
}

/// What matters of the world to a [`Carrier`].
struct Sight {
    cube: Vector3<f64>,
    goal: Vector3<f64>,
    /// The tool.
    at: Vector3<f64>,
    /// The tool's heading.
    present_rad: f64,
    /// How to come down on the cube.
    heading_rad: f64,
    /// Cosine between the two.
    turned: f64,
}

impl Sight {
    fn of(world: &Seen) -> Self {
        let tool = world.world_from_tool();
        let tool_x = (tool.rotation * Vector3::x()).xy();
        let heading_rad = grasp_heading_rad(world);
        Self {
            cube: world.world_from_props[TARGET].translation.vector,
            goal: world.world_from_props[GOAL].translation.vector,
            at: tool.translation.vector,
            present_rad: tool_x.y.atan2(tool_x.x),
            heading_rad,
            turned: tool_x.dot(&Vector2::new(heading_rad.cos(), heading_rad.sin())) / tool_x.norm().max(1e-9),
        }
    }
}

/// Of the four headings that lay the jaws against the cube's sides, the one that turns the wrist
/// least.
fn grasp_heading_rad(world: &Seen) -> f64 {
    let cube = &world.world_from_props[TARGET];
    let side = cube.rotation * Vector3::x();
    // Lying on another side, its x axis may point up.
    let side = if side.xy().norm() > 0.5 { side } else { cube.rotation * Vector3::y() };
    let yaw = side.y.atan2(side.x);
    let goal = ToolGoal { position_m: cube.translation.vector, approach: Some(-Vector3::z_axis()), across: None };
    let robot = &world.robot;
    let straight = robot
        .inverse_kinematics(0, &goal, &rest_pose(robot))
        .map_or_else(|_| Vector3::x(), |found| robot.base_from_tool(0, &found.values).rotation * Vector3::x());
    let reference = straight.y.atan2(straight.x);
    let quarters = ((reference - yaw) / FRAC_PI_2).round();
    yaw + quarters * FRAC_PI_2
}

impl Script for Carrier {
    fn reset(&mut self) {
        *self = Self::new(self.way);
    }

    fn intend(&mut self, world: &Seen) -> Intent {
        let see = Sight::of(world);
        let next = self.next(world, &see);
        self.ticks = if next == self.stage { self.ticks + 1 } else { 0 };
        self.stage = next;
        let Way { carry_m, release_m, speed_m_per_s, .. } = self.way;
        let Sight { cube, goal, at, present_rad, heading_rad, .. } = see;
        let rest_rad = world.robot.parts[gripper(&world.robot)].rest.unwrap_or(0.0);
        let over = |target: Vector3<f64>, z: f64, heading: f64| Place::Over { tool_m: target.xy().push(z), heading_rad: Some(heading) };
        // Where the tool is when the cube that it holds is over the goal.
        let there = |z: f64| Place::Over { tool_m: (goal + at - cube).xy().push(z), heading_rad: None };
        let here = |z: f64| Place::Over { tool_m: at.xy().push(z), heading_rad: None };
        let (place, gripper_rad, speed_m_per_s, looseness) = match self.stage {
            Stage::Hover => (over(cube, HOVER_M, heading_rad), OPEN_RAD, 0.25, 1.0),
            Stage::Descend => (over(cube, GRASP_M, heading_rad), OPEN_RAD, 0.15, 0.2),
            Stage::Close => (over(at, GRASP_M, present_rad), CLOSED_RAD, 0.1, 0.0),
            Stage::Lift => (over(at, carry_m, present_rad), CLOSED_RAD, 0.2, 0.3),
            Stage::Carry => (there(carry_m), CLOSED_RAD, speed_m_per_s, if carry_m > GRASP_M { 0.7 } else { 0.1 }),
            Stage::Lower => (there(release_m), CLOSED_RAD, 0.15, 0.1),
            Stage::Release => (here(release_m), OPEN_RAD, 0.1, 0.1),
            Stage::Rise => (here(HOVER_M + 0.01), OPEN_RAD, 0.2, 0.3),
            Stage::Rest => (Place::Rest, rest_rad, 0.25, 0.5),
        };
        Intent { place, gripper_rad, speed_m_per_s, looseness, done: self.stage == Stage::Rest && at_rest(world) }
    }
}
