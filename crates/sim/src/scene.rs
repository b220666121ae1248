//! What stands on the table and how it looks, apart from the robot.

use nalgebra::{Isometry3, Vector3};
use sinew_core::RobotDescription;

/// The extent of a [`Prop`] in its own frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PropShape {
    Box {
        half_extents_m: Vector3<f64>,
    },
    Ball {
        radius_m: f64,
    },
    /// A flat disc in its xy plane, seen from +z: a mark on the table.
    Disc {
        radius_m: f64,
    },
}

/// How a [`Prop`] takes part in the physics.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PropPhysics {
    Moving {
        mass_kg: f64,
    },
    Fixed,
    /// Seen, never touched.
    Drawn,
}

/// Something on the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Prop {
    /// What errors and tasks call it.
    pub name: String,
    pub shape: PropShape,
    pub physics: PropPhysics,
    pub friction: f64,
    /// Where it is when the scene begins. The world's frame is the robot's base frame; the table's
    /// top is z = 0.
    pub world_from_prop: Isometry3<f64>,
    /// Linear RGB, 0..1.
    pub color: [f32; 3],
}

/// Light and background.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Linear RGB, 0..1.
    pub table_color: [f32; 3],
    /// Linear RGB, 0..1.
    pub background_color: [f32; 3],
    /// Towards the light, of unit length.
    pub light_direction: [f32; 3],
    /// The light's share of the brightness, 0..1; the rest comes from everywhere.
    pub light_share: f32,
    /// Scales every colour; 1 is neutral.
    pub exposure: f32,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            table_color: [0.42, 0.40, 0.38],
            background_color: [0.62, 0.68, 0.75],
            light_direction: [0.36, -0.28, 0.889],
            light_share: 0.6,
            exposure: 1.0,
        }
    }
}

/// Everything an episode starts from.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Where the robot's parts are: a value a part, radians or metres.
    pub pose: Vec<f64>,
    pub props: Vec<Prop>,
    pub look: Look,
}

/// Where the robot's parts rest; those that rest anywhere are at 0, as far as their limits let them.
pub(crate) fn rest_pose(robot: &RobotDescription) -> Vec<f64> {
    let rest = |part: &sinew_core::Part| {
        let [lower, upper] = part.position_limits();
        part.rest.unwrap_or(0.0_f64.clamp(lower, upper))
    };
    robot.parts.iter().map(rest).collect()
}
