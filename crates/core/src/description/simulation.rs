//! The simulation section of a description: the links as bodies, and where the cameras look from.

use nalgebra::Matrix3;
use serde::{Deserialize, Serialize};

use super::{Pose, RobotDescription};

/// What a simulator needs to know of a robot beyond its parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulation {
    /// `base` first, then one a part in part order.
    #[serde(rename = "link")]
    pub links: Vec<Link>,
    #[serde(rename = "motor")]
    pub motors: Vec<MotorModel>,
    /// The description's cameras, in its order.
    #[serde(rename = "camera")]
    pub cameras: Vec<SimulatedCamera>,
}

impl Simulation {
    /// What is wrong with it as `robot`'s section, if anything.
    pub(crate) fn fault(&self, robot: &RobotDescription) -> Option<String> {
        let parts = robot.parts.len();
        if self.links.len() != parts + 1 {
            return Some(format!("{} links, expected {} (the base and one a part)", self.links.len(), parts + 1));
        }
        if self.links[0].name != "base" {
            return Some(format!("the first link is {}, expected base", self.links[0].name));
        }
        for (i, link) in self.links.iter().enumerate() {
            if link.name == WORLD || self.links[..i].iter().any(|other| other.name == link.name) {
                return Some(format!("two links are called {}", link.name));
            }
            if let Some(what) = link.fault() {
                return Some(format!("link {}: {what}", link.name));
            }
        }
        for (i, motor) in self.motors.iter().enumerate() {
            if self.motors[..i].iter().any(|other| other.model == motor.model) {
                return Some(format!("two motors are called {}", motor.model));
            }
            if let Some(what) = motor.fault() {
                return Some(format!("motor {}: {what}", motor.model));
            }
        }
        for part in &robot.parts {
            let Some(motor) = &part.motor else {
                return Some(format!("part {} has no motor, which no part that is simulated lacks", part.name));
            };
            if !self.motors.iter().any(|other| other.model == motor.model) {
                return Some(format!("part {} has the motor {}, which is not among the motors", part.name, motor.model));
            }
        }
        let found: Vec<_> = self.cameras.iter().map(|camera| camera.name.as_str()).collect();
        let expected: Vec<_> = robot.cameras.iter().map(|camera| camera.name.as_str()).collect();
        if found != expected {
            return Some(format!("its cameras are {found:?}, the robot's are {expected:?}"));
        }
        for SimulatedCamera { name, link, link_from_camera, vertical_field_of_view_rad: field } in &self.cameras {
            if link != WORLD && !self.links.iter().any(|other| other.name == *link) {
                return Some(format!("camera {name} is fixed to {link}, expected a link or world"));
            }
            if !link_from_camera.is_usable() {
                return Some(format!("camera {name}: link_from_camera is no pose"));
            }
            if !(field.is_finite() && *field > 0.01 && *field < 3.0) {
                return Some(format!("camera {name}: vertical_field_of_view_rad is {field}, expected 0.01 to 3"));
            }
        }
        None
    }
}

/// What a camera that stands beside the arm is fixed to.
const WORLD: &str = "world";

/// A rigid body of the arm, in its part's frame.
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

impl Link {
    fn fault(&self) -> Option<String> {
        if !is_positive(self.mass_kg) {
            return Some(format!("mass_kg is {}, expected above 0", self.mass_kg));
        }
        if !self.centre_of_mass_m.iter().all(|v| v.is_finite()) {
            return Some("centre_of_mass_m is not finite".into());
        }
        let [xx, yy, zz, xy, xz, yz] = self.inertia_kg_m2;
        let moments = Matrix3::new(xx, xy, xz, xy, yy, yz, xz, yz, zz);
        // A body of positive mass: no moment exceeds the sum of the other two.
        let principal = moments.symmetric_eigenvalues();
        let (sum, largest) = (principal.sum(), principal.max());
        if !(principal.min() > 0.0 && sum.is_finite() && largest <= (sum - largest) * 1.01) {
            return Some(format!("inertia_kg_m2 {:?} belongs to no body", self.inertia_kg_m2));
        }
        for (i, Collider { shape, pose, friction }) in self.colliders.iter().enumerate() {
            let sizes = match shape {
                Shape::Box { half_extents_m } => half_extents_m.to_vec(),
                Shape::Sphere { radius_m } => vec![*radius_m],
                Shape::Capsule { radius_m, half_length_m } => vec![*radius_m, *half_length_m],
            };
            if !(sizes.iter().all(|v| is_positive(*v)) && pose.is_usable() && friction.is_finite() && *friction >= 0.0) {
                return Some(format!("collider {i}: a size, its pose or its friction makes no sense"));
            }
        }
        for Visual { mesh, color } in &self.visuals {
            if !color.iter().all(|v| (0.0..=1.0).contains(v)) {
                return Some(format!("visual {mesh}: color is {color:?}, expected 0..1"));
            }
        }
        None
    }
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// A solid that touches others, fixed to a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collider {
    pub shape: Shape,
    pub pose: Pose,
    pub friction: f64,
}

/// The primitive shapes that colliders may have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    Box {
        half_extents_m: [f64; 3],
    },
    Sphere {
        radius_m: f64,
    },
    /// Along the local z axis.
    Capsule {
        radius_m: f64,
        half_length_m: f64,
    },
}

/// A mesh that is drawn, fixed to a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visual {
    pub mesh: String,
    /// Linear RGB, 0..1.
    pub color: [f32; 3],
}

/// How a motor model behaves, by the name that parts use:
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

impl MotorModel {
    fn fault(&self) -> Option<String> {
        let positive = [
            ("stall_torque_nm", self.stall_torque_nm),
            ("no_load_speed_rad_per_s", self.no_load_speed_rad_per_s),
            ("proportional_gain_nm_per_rad", self.proportional_gain_nm_per_rad),
        ];
        if let Some((what, value)) = positive.into_iter().find(|(_, value)| !is_positive(*value)) {
            return Some(format!("{what} is {value}, expected above 0"));
        }
        let not_negative = [
            ("derivative_gain_nm_s_per_rad", self.derivative_gain_nm_s_per_rad),
            ("damping_nm_s_per_rad", self.damping_nm_s_per_rad),
            ("friction_nm", self.friction_nm),
            ("armature_kg_m2", self.armature_kg_m2),
            ("backlash_rad", self.backlash_rad),
            ("latency_s", self.latency_s),
        ];
        let bad = not_negative.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0));
        bad.map(|(what, value)| format!("{what} is {value}, expected 0 or above"))
    }
}

/// Where one of the description's cameras looks from.
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
