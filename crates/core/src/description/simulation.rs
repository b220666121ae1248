//! The simulation section of a description: the links as bodies, and where the cameras look from.

use nalgebra::Matrix3;
use serde::{Deserialize, Serialize};

use super::{Pose, RobotDescription};

/// What a simulator needs to know of a robot beyond its parts.
///
/// Numbers are of things that stand on a table or walk about a hall; beyond that physics is no more than rounding:
///
/// | what | least | most |
/// |---|---|---|
/// | a mass, kg | 1e-4 | 1e3 |
/// | a moment of inertia about a main axis, kg m² | 1e-10 | 1e4 |
/// | a collider's size, m | 1e-4 | 10 |
/// | a place in a link, m; a camera's, m | −10; −100 | 10; 100 |
/// | friction of a collider | 0 | 10 |
/// | stall torque, N m | 1e-4 | 1e4 |
/// | no-load speed, rad/s | 1e-2 | 1e4 |
/// | proportional gain, N m/rad | 1e-3 | 1e6 |
/// | derivative gain and damping, N m s/rad; friction, N m | 0 | 1e4 |
/// | armature, kg m² | 0 | 1e2 |
/// | backlash, rad; latency, s | 0 | 1 |
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
            return Some(format!("its cameras are {}, the robot's are {}", found.join(", "), expected.join(", ")));
        }
        for SimulatedCamera { name, link, link_from_camera, vertical_field_of_view_rad: field } in &self.cameras {
            if link != WORLD && !self.links.iter().any(|other| other.name == *link) {
                return Some(format!("camera {name} is fixed to {link}, expected a link or world"));
            }
            if !is_near(link_from_camera, 100.0) {
                return Some(format!("camera {name}: link_from_camera is no pose, or further than 100 m away"));
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
        if let Some(what) = outside("mass_kg", self.mass_kg, 1e-4, 1e3) {
            return Some(what);
        }
        if !self.centre_of_mass_m.iter().all(|v| v.abs() <= FURTHEST_M) {
            return Some(format!("centre_of_mass_m is {:?}, expected within ±{FURTHEST_M}", self.centre_of_mass_m));
        }
        let [xx, yy, zz, xy, xz, yz] = self.inertia_kg_m2;
        let moments = Matrix3::new(xx, xy, xz, xy, yy, yz, xz, yz, zz);
        // A body of positive mass: no moment exceeds the sum of the other two.
        let principal = moments.symmetric_eigenvalues();
        let (sum, largest) = (principal.sum(), principal.max());
        if !(principal.min() >= 1e-10 && largest <= 1e4 && largest <= (sum - largest) * 1.01) {
            return Some(format!("inertia_kg_m2 {:?} belongs to no body", self.inertia_kg_m2));
        }
        for (i, Collider { shape, pose, friction }) in self.colliders.iter().enumerate() {
            let sizes = match shape {
                Shape::Box { half_extents_m } => half_extents_m.to_vec(),
                Shape::Sphere { radius_m } => vec![*radius_m],
                Shape::Capsule { radius_m, half_length_m } => vec![*radius_m, *half_length_m],
            };
            let mut wrong = sizes.iter().filter_map(|size| outside("a size in m", *size, 1e-4, FURTHEST_M));
            if let Some(what) = wrong.next().or_else(|| outside("friction", *friction, 0.0, 10.0)) {
                return Some(format!("collider {i}: {what}"));
            }
            if !is_near(pose, FURTHEST_M) {
                return Some(format!("collider {i}: its pose is none, or further than {FURTHEST_M} m away"));
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

/// Nothing of a link is further from its joint.
const FURTHEST_M: f64 = 10.0;

/// What is wrong with `what`, if anything.
fn outside(what: &str, value: f64, least: f64, most: f64) -> Option<String> {
    (!(least..=most).contains(&value)).then(|| format!("{what} is {value}, expected {least} to {most}"))
}

fn is_near(pose: &Pose, most_m: f64) -> bool {
    pose.is_usable() && pose.translation_m.iter().all(|v| v.abs() <= most_m)
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
        [
            ("stall_torque_nm", self.stall_torque_nm, 1e-4, 1e4),
            ("no_load_speed_rad_per_s", self.no_load_speed_rad_per_s, 1e-2, 1e4),
            ("proportional_gain_nm_per_rad", self.proportional_gain_nm_per_rad, 1e-3, 1e6),
            ("derivative_gain_nm_s_per_rad", self.derivative_gain_nm_s_per_rad, 0.0, 1e4),
            ("damping_nm_s_per_rad", self.damping_nm_s_per_rad, 0.0, 1e4),
            ("friction_nm", self.friction_nm, 0.0, 1e4),
            ("armature_kg_m2", self.armature_kg_m2, 0.0, 1e2),
            ("backlash_rad", self.backlash_rad, 0.0, 1.0),
            ("latency_s", self.latency_s, 0.0, 1.0),
        ]
        .into_iter()
        .find_map(|(what, value, least, most)| outside(what, value, least, most))
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
