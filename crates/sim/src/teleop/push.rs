//! How to push a cube: the gripper comes down around it, the fixed jaw behind, and moves on.

use nalgebra::{Vector2, Vector3};

use super::hand::at_rest;
use super::{Intent, Place, Script};
use crate::scene::PropShape;
use crate::tasks::{GOAL, TARGET};
use crate::world::World;

/// From the tool's origin to the fixed jaw's inner face, along the tool's x axis.
const FIXED_JAW_M: f64 = 0.0199;
const OPEN_RAD: f64 = 0.5;
const HOVER_M: f64 = 0.075;
const LOW_M: f64 = 0.016;
/// So near to the goal the cube is left.
const THERE_M: f64 = 0.010;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Hover,
    Descend,
    Push,
    Back,
    Rise,
    Rest,
}

#[derive(Default)]
pub(crate) struct Pusher {
    stage: Stage,
}

/// Half the extent of a cube at `yaw` along a horizontal direction.
fn half_extent_along(world: &World, direction: &Vector2<f64>) -> f64 {
    let PropShape::Box { half_extents_m } = world.scene().props[TARGET].shape else { return 0.0 };
    let pose = world.world_from_prop(TARGET);
    let local = pose.inverse_transform_vector(&direction.push(0.0));
    local.x.abs() * half_extents_m.x + local.y.abs() * half_extents_m.y + local.z.abs() * half_extents_m.z
}

impl Script for Pusher {
    fn reset(&mut self) {
        self.stage = Stage::Hover;
    }

    fn intend(&mut self, world: &World) -> Intent {
        let cube = world.world_from_prop(TARGET).translation.vector;
        let goal = world.world_from_prop(GOAL).translation.vector;
        let tool = world.world_from_tool();
        let at = tool.translation.vector;
        let way = (goal - cube).xy();
        let distance = way.norm();
        let tool_x = tool.rotation * Vector3::x();
        // Along the push; near the goal the jaw's own direction, which no longer changes.
        let along = if distance > 0.03 { way / distance } else { -tool_x.xy().normalize() };
        let heading = (-along.y).atan2(-along.x);
        let touching = cube.xy() - along * (half_extent_along(world, &along) - FIXED_JAW_M);
        let behind = touching - along * 0.009;
        let near = |target: Vector2<f64>| (at.xy() - target).norm();
        let turned = tool_x.xy().dot(&-along) / tool_x.xy().norm().max(1e-9);

        self.stage = match self.stage {
            Stage::Hover if distance < THERE_M => Stage::Rise,
            Stage::Hover if near(behind) < 0.010 && turned > 0.97 => Stage::Descend,
            Stage::Descend if near(behind) > 0.025 && at.z > 0.05 => Stage::Hover,
            Stage::Descend if at.z < LOW_M + 0.008 => Stage::Push,
            Stage::Push if distance < THERE_M => Stage::Back,
            // It slipped out sideways or was overtaken: come again from above.
            Stage::Push if near(touching) > 0.035 => Stage::Rise,
            Stage::Back if near(behind) < 0.005 || near(touching) > 0.012 => Stage::Rise,
            Stage::Rise if at.z > HOVER_M - 0.012 => if distance < 0.03 { Stage::Rest } else { Stage::Hover },
            stage => stage,
        };
        let over = |target: Vector2<f64>, z: f64| Place::Over { tool_m: target.push(z), heading_rad: Some(heading) };
        let (place, speed_m_per_s, looseness) = match self.stage {
            Stage::Hover => (over(behind, HOVER_M), 0.25, 1.0),
            Stage::Descend => (over(behind, LOW_M), 0.15, 0.3),
            Stage::Push => {
                // On along the way, and back towards the line that it runs on.
                let off = touching - at.xy();
                let aside = off - along * off.dot(&along);
                (over(at.xy() + along * 0.03 + aside * 0.5, LOW_M), 0.12, 0.3)
            }
            Stage::Back => (over(behind - along * 0.003, LOW_M), 0.1, 0.1),
            Stage::Rise => (over(at.xy(), HOVER_M + 0.01), 0.2, 0.2),
            Stage::Rest => (Place::Rest, 0.25, 0.5),
        };
        let done = self.stage == Stage::Rest && at_rest(world);
        let gripper_rad = if self.stage == Stage::Rest { world.robot().stop.rest_rad.last().copied().unwrap_or(0.0) } else { OPEN_RAD };
        Intent { place, gripper_rad, speed_m_per_s, looseness, done }
    }
}
