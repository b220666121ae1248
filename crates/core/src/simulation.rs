//! The simulation section of a description: the links as bodies, and where the cameras look from.

use serde::{Deserialize, Serialize};

use crate::Pose;

/// What a simulator needs to know of a robot beyond its joints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// `base` first, then one a joint in joint order.
    #[serde(rename = "link")]
    pub links: Vec<Link>,
    #[serde(rename = "motor")]
    pub motors: Vec<MotorModel>,
    /// One for each of the description's cameras, by name.
    #[serde(rename = "camera")]
    pub cameras: Vec<SimulatedCamera>,
}

/// A rigid body of the arm, in its joint's frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub name: String,
    pub mass_kg: f64,
    pub centre_of_mass_m: [f64; 3],
    /// Ixx, Iyy, Izz, Ixy, Ixz, Iyz about the centre of mass, in the link's axes.
    pub inertia_kg_m2: [f64; 6],
    #[serde(rename = "collider", default)]
    pub colliders: Vec<Collider>,
    /// Mesh files beside robot.toml, already in the link's frame.
    #[serde(rename = "visual", default)]
    pub visuals: Vec<Visual>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collider {
    pub shape: Shape,
    pub pose: Pose,
    pub friction: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    Box { half_extents_m: [f64; 3] },
    Sphere { radius_m: f64 },
    /// Along the local z axis.
    Capsule { radius_m: f64, half_length_m: f64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visual {
    pub mesh: String,
    /// Linear RGB, 0..1.
    pub color: [f32; 3],
}

/// How a motor model behaves, by the name that joints use:
/// `torque = clamp(kp (goal − q) − kd q̇, ±stall) − damping q̇ − friction`, on top of the link's
/// inertia and the armature's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MotorModel {
    pub model: String,
    pub stall_torque_nm: f64,
    pub no_load_speed_rad_per_s: f64,
    pub proportional_gain_nm_per_rad: f64,
    /// The servo's own damping of its position loop; spends the same torque.
    pub derivative_gain_nm_s_per_rad: f64,
    /// Viscous friction of motor and gears.
    pub damping_nm_s_per_rad: f64,
    pub friction_nm: f64,
    pub armature_kg_m2: f64,
    pub backlash_rad: f64,
    /// From a goal on the wire to torque on the shaft.
    pub latency_s: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedCamera {
    pub name: String,
    /// The link it is fixed to; `world` for one that stands beside the arm.
    pub link: String,
    /// The camera looks along its own −z with y up, as in OpenGL and MuJoCo.
    pub link_from_camera: Pose,
    pub vertical_field_of_view_rad: f64,
}
