//! Randomised things that tasks share.

use std::f64::consts::{FRAC_PI_2, PI};

use fastrand::Rng;
use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector2, Vector3};
use sinew_core::{Part, PartKind, RobotDescription, ToolGoal};

use crate::error::SimError;
use crate::scene::{Look, Prop, PropPhysics, PropShape, Scene, rest_pose};

/// A colour and its name in instructions.
pub(super) struct Paint {
    pub name: &'static str,
    rgb: [f32; 3],
}

/// What cubes are painted with: far from the arm's yellow, the goals' greens and the tables' greys.
pub(super) const CUBE_PAINTS: [Paint; 3] = [
    Paint { name: "red", rgb: [0.75, 0.04, 0.04] },
    Paint { name: "blue", rgb: [0.04, 0.10, 0.75] },
    Paint { name: "purple", rgb: [0.40, 0.05, 0.55] },
];

const GOAL_PAINT: Paint = Paint { name: "green", rgb: [0.06, 0.55, 0.12] };

pub(super) fn between(rng: &mut Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.f64()
}

fn jitter(rng: &mut Rng, rgb: [f32; 3]) -> [f32; 3] {
    rgb.map(|v| (v * between(rng, 0.8, 1.2) as f32).clamp(0.0, 1.0))
}

/// Light, table and background.
pub(super) fn look(rng: &mut Rng) -> Look {
    let grey = between(rng, 0.25, 0.55) as f32;
    let warmth = between(rng, -0.06, 0.06) as f32;
    let azimuth = between(rng, -PI, PI);
    let tilt = between(rng, 0.2, 0.8);
    Look {
        table_color: [grey + warmth, grey, grey - warmth],
        background_color: jitter(rng, [0.62, 0.68, 0.75]),
        light_direction: [(azimuth.cos() * tilt.sin()) as f32, (azimuth.sin() * tilt.sin()) as f32, tilt.cos() as f32],
        light_share: between(rng, 0.45, 0.7) as f32,
        exposure: between(rng, 0.85, 1.15) as f32,
    }
}

/// The robot's rest pose, a little off.
pub(super) fn pose(robot: &RobotDescription, rng: &mut Rng) -> Vec<f64> {
    let mut near = |part: &Part, rest: f64| {
        let [lower, upper] = part.position_limits();
        // What slides is nearly where it rests: metres are more than radians.
        let most = if part.kind == PartKind::Prismatic { 0.002 } else { 0.04 };
        (rest + between(rng, -most, most)).clamp(lower, upper)
    };
    robot.parts.iter().zip(rest_pose(robot)).map(|(part, rest)| near(part, rest)).collect()
}

/// Assembles a scene; draws the arm's pose and the look.
pub(super) fn scene(robot: &RobotDescription, rng: &mut Rng, props: Vec<Prop>) -> Scene {
    Scene { pose: pose(robot, rng), props, look: look(rng) }
}

/// An axis-aligned part of the table, metres.
#[derive(Clone, Copy)]
pub(super) struct Region {
    pub x_m: [f64; 2],
    pub y_m: [f64; 2],
}

impl Region {
    pub fn point(&self, rng: &mut Rng) -> Vector2<f64> {
        Vector2::new(between(rng, self.x_m[0], self.x_m[1]), between(rng, self.y_m[0], self.y_m[1]))
    }
}

/// Draws until `draw` answers something.
pub(super) fn place<T>(task: &'static str, seed: u64, mut draw: impl FnMut() -> Option<T>) -> Result<T, SimError> {
    const ATTEMPTS: u32 = 200;
    (0..ATTEMPTS).find_map(|_| draw()).ok_or(SimError::Unreachable { task, seed, attempts: ATTEMPTS })
}

/// Whether the gripper, pointing straight down, reaches `at` from just above the table up to where
/// it carries things.
pub(super) fn within_reach(robot: &RobotDescription, at: &Vector2<f64>) -> bool {
    let rest = rest_pose(robot);
    [0.015, 0.06].iter().all(|z| {
        let goal = ToolGoal { position_m: at.push(*z), approach: Some(-Vector3::z_axis()), across: None };
        robot.inverse_kinematics(0, &goal, &rest).is_ok_and(|found| found.position_error_m < 0.002 && found.direction_error_rad < 0.1)
    })
}

fn upright(at: Vector3<f64>, yaw_rad: f64) -> Isometry3<f64> {
    Isometry3::from_parts(Translation3::from(at), UnitQuaternion::from_axis_angle(&Vector3::z_axis(), yaw_rad))
}

/// A cube of 2.8 to 3.2 cm on the table, at any yaw.
pub(super) fn cube(rng: &mut Rng, name: &str, at: Vector2<f64>, paint: &Paint) -> Prop {
    let half_m = between(rng, 0.014, 0.016);
    Prop {
        name: name.into(),
        shape: PropShape::Box { half_extents_m: Vector3::repeat(half_m) },
        physics: PropPhysics::Moving { mass_kg: 8.0 * half_m.powi(3) * 700.0 },
        friction: 1.0,
        world_from_prop: upright(at.push(half_m), between(rng, 0.0, FRAC_PI_2)),
        color: jitter(rng, paint.rgb),
    }
}

/// A disc drawn on the table.
pub(super) fn disc(rng: &mut Rng, at: Vector2<f64>, radius_m: f64) -> Prop {
    Prop {
        name: "the disc".into(),
        shape: PropShape::Disc { radius_m },
        physics: PropPhysics::Drawn,
        friction: 0.6,
        world_from_prop: upright(at.push(0.0005), 0.0),
        color: jitter(rng, GOAL_PAINT.rgb),
    }
}

/// A ball to reach for.
pub(super) fn marker(rng: &mut Rng, at: Vector3<f64>) -> Prop {
    Prop {
        name: "the marker".into(),
        shape: PropShape::Ball { radius_m: 0.012 },
        physics: PropPhysics::Drawn,
        friction: 0.6,
        world_from_prop: upright(at, 0.0),
        color: jitter(rng, GOAL_PAINT.rgb),
    }
}

/// Half the inner width of a bin.
pub(super) const BIN_HALF_M: f64 = 0.06;
/// How high a bin's walls are.
pub(super) const BIN_HEIGHT_M: f64 = 0.03;

/// An open box: its floor, then four walls.
pub(super) fn bin(rng: &mut Rng, at: Vector2<f64>, yaw_rad: f64) -> Vec<Prop> {
    const WALL_HALF_M: f64 = 0.002;
    let color = jitter(rng, GOAL_PAINT.rgb);
    let world_from_bin = upright(at.push(0.0), yaw_rad);
    let part = |name: &str, centre: Vector3<f64>, half_extents_m: Vector3<f64>, shade: f32| Prop {
        name: name.into(),
        shape: PropShape::Box { half_extents_m },
        physics: PropPhysics::Fixed,
        friction: 0.6,
        world_from_prop: world_from_bin * Translation3::from(centre),
        color: color.map(|v| v * shade),
    };
    let out = BIN_HALF_M + WALL_HALF_M;
    let half_height = 0.5 * BIN_HEIGHT_M;
    let long = Vector3::new(BIN_HALF_M + 2.0 * WALL_HALF_M, WALL_HALF_M, half_height);
    let wide = Vector3::new(WALL_HALF_M, BIN_HALF_M, half_height);
    vec![
        part("the bin's floor", Vector3::new(0.0, 0.0, 0.001), Vector3::new(BIN_HALF_M, BIN_HALF_M, 0.001), 0.6),
        part("the bin's wall", Vector3::new(0.0, out, half_height), long, 1.0),
        part("the bin's wall", Vector3::new(0.0, -out, half_height), long, 1.0),
        part("the bin's wall", Vector3::new(out, 0.0, half_height), wide, 1.0),
        part("the bin's wall", Vector3::new(-out, 0.0, half_height), wide, 1.0),
    ]
}

/// Whether `at` is within the inner walls of a bin whose floor is at `world_from_floor`.
pub(super) fn in_bin(world_from_floor: &Isometry3<f64>, at: &Vector3<f64>) -> bool {
    let local = world_from_floor.inverse_transform_vector(&(at - world_from_floor.translation.vector));
    local.x.abs() < BIN_HALF_M && local.y.abs() < BIN_HALF_M && (0.0..BIN_HEIGHT_M + 0.02).contains(&local.z)
}
