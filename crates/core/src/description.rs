//! A robot model as data: what `robots/<name>/robot.toml` says.

use std::collections::BTreeSet;

use nalgebra::{Isometry3, Quaternion, Translation3, Unit, UnitQuaternion, Vector3};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::JointUnit;

/// A robot description that cannot be used.
#[derive(Debug, Error)]
pub enum DescriptionError {
    #[error("reading the robot description {name}")]
    Syntax {
        name: String,
        #[source]
        source: toml::de::Error,
    },
    #[error("checking the robot description {name}: {what}")]
    Invalid { name: String, what: String },
}

/// One robot model. Ports, serial numbers and calibration belong to the unit, not the model, and
/// are not here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotDescription {
    /// The folder's name and the command line's `--robot`.
    pub name: String,
    pub title: String,
    /// LeRobot's class name, written to `robot_type` in datasets (`so_follower`).
    pub lerobot_robot_type: String,
    /// Other names by which LeRobot's users know this robot (`so101_follower`).
    #[serde(default)]
    pub aliases: Vec<String>,
    pub control_rate_hz: u32,
    pub bus: BusDescription,
    /// In feature order; each joint hangs on the one before it.
    #[serde(rename = "joint")]
    pub joints: Vec<Joint>,
    /// The frame that inverse kinematics steers.
    pub tool: Tool,
    /// Where the tool may be; without it, wherever the joints can bring it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,
    /// In feature order.
    #[serde(rename = "camera")]
    pub cameras: Vec<CameraDescription>,
    pub stop: Stop,
    pub simulation: Option<crate::Simulation>,
}

/// How the motors are wired to the computer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusDescription {
    pub protocol: String,
    pub baud_rate: u32,
}

/// A joint, and the motor that turns it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Joint {
    /// LeRobot's motor name; the feature is `<name>.pos`.
    pub name: String,
    pub motor: Motor,
    /// How datasets and checkpoints write this joint's position.
    pub unit: JointUnit,
    /// Pose of the joint's frame in its parent link's frame, at position 0.
    pub parent_from_joint: Pose,
    /// Axis of rotation in the joint's frame, of unit length.
    pub axis: [f64; 3],
    pub limits: JointLimits,
}

/// The motor of a joint, by what it is and where it answers on the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Motor {
    pub model: String,
    pub id: u8,
}

/// What the safety gate lets a joint do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointLimits {
    /// Lower and upper.
    pub position_rad: [f64; 2],
    /// How fast a goal may move.
    pub velocity_rad_per_s: f64,
    /// How far a goal may be from the present position.
    pub step_rad: f64,
    /// How fast the speed of a goal may change; where it is not given, as fast as a loop of 30 Hz needs to
    /// reverse top speed in a tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceleration_rad_per_s2: Option<f64>,
    /// How fast its acceleration may change; where it is not given, as fast as such a loop needs to
    /// reverse the highest in a tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jerk_rad_per_s3: Option<f64>,
    /// A joint that pushes harder than this share of its motor's stall torque is led no further that
    /// way; without it, any effort is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<f64>,
    /// A joint whose motor is hotter than this stays where it is; without it, any temperature is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f64>,
}

/// How often a second the motion of a joint may change altogether, where the description says nothing.
const DEFAULT_CHANGES_HZ: f64 = 30.0;

impl JointLimits {
    /// The acceleration limit, given or not, rad/s².
    pub fn acceleration(&self) -> f64 {
        self.acceleration_rad_per_s2.unwrap_or(2.0 * self.velocity_rad_per_s * DEFAULT_CHANGES_HZ)
    }

    /// The jerk limit, given or not, rad/s³.
    pub fn jerk(&self) -> f64 {
        self.jerk_rad_per_s3.unwrap_or(2.0 * self.acceleration() * DEFAULT_CHANGES_HZ)
    }

    fn fault(&self) -> Option<String> {
        let [lower, upper] = self.position_rad;
        if !(lower.is_finite() && upper.is_finite() && lower < upper) {
            return Some(format!("position_rad is [{lower}, {upper}], expected finite and rising"));
        }
        let positive = [
            ("velocity_rad_per_s", Some(self.velocity_rad_per_s)),
            ("step_rad", Some(self.step_rad)),
            ("acceleration_rad_per_s2", self.acceleration_rad_per_s2),
            ("jerk_rad_per_s3", self.jerk_rad_per_s3),
            ("effort", self.effort),
            ("temperature_c", self.temperature_c),
        ];
        let bad = positive.into_iter().find_map(|(what, value)| Some((what, value.filter(|v| !(v.is_finite() && *v > 0.0))?)));
        bad.map(|(what, value)| format!("{what} is {value}, expected finite and above 0"))
    }
}

/// A box in the base frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    pub min_m: [f64; 3],
    pub max_m: [f64; 3],
}

/// A translation and a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pose {
    pub translation_m: [f64; 3],
    /// w, x, y, z; normalised when read.
    pub rotation_wxyz: [f64; 4],
}

impl Pose {
    pub fn to_isometry(&self) -> Isometry3<f64> {
        let [w, x, y, z] = self.rotation_wxyz;
        Isometry3::from_parts(
            Translation3::from(Vector3::from(self.translation_m)),
            UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z)),
        )
    }

    pub(crate) fn is_usable(&self) -> bool {
        let norm: f64 = self.rotation_wxyz.iter().map(|v| v * v).sum();
        self.translation_m.iter().all(|v| v.is_finite()) && norm.is_finite() && norm > 1e-12
    }
}

/// The frame at the gripper, fixed to a joint's link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// The joint whose link carries the tool.
    pub joint: String,
    pub joint_from_tool: Pose,
}

/// A camera, as datasets and checkpoints know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraDescription {
    /// The feature is `observation.images.<name>`.
    pub name: String,
    pub width: u32,
    pub height: u32,
}

/// What a robot does when a session ends, however it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopBehaviour {
    /// Stay where it is with torque on.
    Hold,
    /// Torque off.
    Limp,
}

/// How a session ends, and where the arm rests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    pub behaviour: StopBehaviour,
    /// Where the arm rests between episodes, radians.
    pub rest_rad: Vec<f64>,
}

impl RobotDescription {
    /// Reads and checks `text`; `name` is what errors call it.
    ///
    /// # Errors
    /// When the text is no such TOML, a key is unknown or missing, or a value makes no sense.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, DescriptionError> {
        let description: Self = toml::from_str(text).map_err(|source| DescriptionError::Syntax { name: name.to_owned(), source })?;
        match description.fault() {
            None => Ok(description),
            Some(what) => Err(DescriptionError::Invalid { name: name.to_owned(), what }),
        }
    }

    fn fault(&self) -> Option<String> {
        let n = self.joints.len();
        if n == 0 {
            return Some("it has no joint".into());
        }
        if self.control_rate_hz == 0 {
            return Some("control_rate_hz is 0".into());
        }
        let mut names = BTreeSet::new();
        for joint in &self.joints {
            let Joint { name, limits, axis, parent_from_joint, .. } = joint;
            if !names.insert(name) {
                return Some(format!("two joints are called {name}"));
            }
            if let Some(what) = limits.fault() {
                return Some(format!("joint {name}: {what}"));
            }
            let length = Vector3::from(*axis).norm();
            if (length - 1.0).abs() > 1e-6 {
                return Some(format!("joint {name}: axis has length {length}, expected 1"));
            }
            if !parent_from_joint.is_usable() {
                return Some(format!("joint {name}: parent_from_joint is no pose"));
            }
        }
        if !names.contains(&self.tool.joint) {
            return Some(format!("tool.joint is {}, which is no joint of it", self.tool.joint));
        }
        if !self.tool.joint_from_tool.is_usable() {
            return Some("tool.joint_from_tool is no pose".into());
        }
        if self.stop.rest_rad.len() != n {
            return Some(format!("stop.rest_rad has {} values, expected {n}", self.stop.rest_rad.len()));
        }
        for (joint, rest) in self.joints.iter().zip(&self.stop.rest_rad) {
            let [lower, upper] = joint.limits.position_rad;
            if !(lower..=upper).contains(rest) {
                return Some(format!("joint {}: stop.rest_rad is {rest}, outside its limits [{lower}, {upper}]", joint.name));
            }
        }
        if let Some(Workspace { min_m, max_m }) = &self.workspace {
            if !(0..3).all(|i| min_m[i].is_finite() && max_m[i].is_finite() && min_m[i] < max_m[i]) {
                return Some(format!("workspace: it reaches from {min_m:?} to {max_m:?}, expected finite and rising"));
            }
            let tool = self.base_from_tool(&self.stop.rest_rad).translation.vector;
            if !(0..3).all(|i| (min_m[i]..=max_m[i]).contains(&tool[i])) {
                let tool: [f64; 3] = tool.into();
                return Some(format!("workspace: stop.rest_rad brings the tool to {tool:?}, outside {min_m:?} to {max_m:?}"));
            }
        }
        let mut names = BTreeSet::new();
        for camera in &self.cameras {
            if !names.insert(&camera.name) {
                return Some(format!("two cameras are called {}", camera.name));
            }
            if !(1..=8192).contains(&camera.width) || !(1..=8192).contains(&camera.height) {
                return Some(format!("camera {}: {}x{} is no usable size", camera.name, camera.width, camera.height));
            }
        }
        self.simulation.as_ref().and_then(|simulation| simulation.fault(self)).map(|what| format!("simulation: {what}"))
    }

    /// The names of the `observation.state` and `action` features' dimensions, as LeRobot writes
    /// them: `shoulder_pan.pos`.
    pub fn feature_names(&self) -> Vec<String> {
        self.joints.iter().map(|joint| format!("{}.pos", joint.name)).collect()
    }

    pub(crate) fn joint_axis(&self, joint: usize) -> Unit<Vector3<f64>> {
        Unit::new_normalize(Vector3::from(self.joints[joint].axis))
    }
}
