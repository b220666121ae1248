//! A robot model as data: what `robots/<name>/robot.toml` says.

mod base;
mod check;
mod file;
mod part;
mod simulation;

use nalgebra::Isometry3;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Image, Pixels};

pub use base::{Base, BaseKind, BaseLimits, BaseUnit, BaseWheel};
pub use part::{CalibrationKind, CommandMode, Limits, Motor, Part, PartKind, Pose};
pub use simulation::{Collider, Link, MotorModel, Shape, SimulatedCamera, Simulation, Visual};

/// The version of robot.toml that is read.
pub const ROBOT_SCHEMA: u32 = 2;

/// How many parts a robot may have.
const MOST_PARTS: usize = 256;

/// A robot description that cannot be used.
#[derive(Debug, Error)]
pub enum DescriptionError {
    /// What is no such TOML, with its line.
    #[error("reading the robot description {name}: {what}")]
    Syntax { name: String, what: String },
    #[error("reading the robot description {name}: {found}, expected schema = {ROBOT_SCHEMA}")]
    Schema { name: String, found: String },
    #[error("reading the robot description {name}: it includes {included}, which is not to be had")]
    NotIncluded { name: String, included: String },
    #[error("checking the robot description {name}: {what}")]
    Invalid { name: String, what: String },
}

/// One robot model. Ports, serial numbers and calibration belong to the unit, not the model, and
/// are not here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RobotDescription {
    pub schema: u32,
    /// The folder's name and the command line's `--robot`.
    pub name: String,
    /// For people, at most 200 characters.
    pub title: String,
    #[serde(default, skip_serializing_if = "Role::is_robot")]
    pub role: Role,
    /// Ticks a second, 1 to 1000.
    pub control_rate_hz: u32,
    pub lerobot: LeRobotNames,
    #[serde(default)]
    pub feedback: Feedback,
    pub stop: Stop,
    #[serde(rename = "bus", default, skip_serializing_if = "Vec::is_empty")]
    pub buses: Vec<Bus>,
    /// In feature order.
    #[serde(rename = "part", default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
    /// Its channels come after those of the parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Extra state, after that of parts and base.
    #[serde(rename = "sensor", default, skip_serializing_if = "Vec::is_empty")]
    pub sensors: Vec<Sensor>,
    /// Frames that inverse kinematics can steer.
    #[serde(rename = "tool", default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// In feature order.
    #[serde(rename = "camera", default, skip_serializing_if = "Vec::is_empty")]
    pub cameras: Vec<CameraDescription>,
    /// The robots that it was put together of, in order; their parts are among this one's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<Included>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation: Option<Simulation>,
}

/// A robot that is a part of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Included {
    /// What LeRobot calls it by itself.
    pub lerobot: LeRobotNames,
    /// What stands before the names of its parts.
    pub prefix: String,
}

/// What LeRobot calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeRobotNames {
    /// Its class name: `robot_type` in datasets, and the folder of its calibration (`so_follower`).
    pub class: String,
    /// Names by which its users know it (`so101_follower`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
}

/// Who it is in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It is commanded.
    #[default]
    Robot,
    /// It is moved by hand and read, and another one follows: a leader arm. Its state is the action of that one.
    Teleoperator,
}

impl Role {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_robot(&self) -> bool {
        *self == Self::Robot
    }
}

/// How old what is known of the robot may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// A channel that was measured longer ago than this is unknown, and the robot brakes, milliseconds.
    pub max_age_ms: u32,
    /// One that stays unknown until its value is so old ends the episode, milliseconds.
    pub fault_age_ms: u32,
}

impl Default for Feedback {
    fn default() -> Self {
        Self { max_age_ms: 150, fault_age_ms: 500 }
    }
}

/// A wire with motors on it, or a program that stands for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    pub name: String,
    /// Such as `feetech`, `dynamixel`, `can`, `daemon`.
    pub protocol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baud_rate: Option<u32>,
    /// Of the data of a CAN FD frame; without it, frames are those of CAN 2.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_baud_rate: Option<u32>,
}

/// Something that is only measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensor {
    pub name: String,
    pub kind: SensorKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Names of its features, in order.
    pub features: Vec<String>,
    /// As [`Feedback::max_age_ms`], but nothing brakes for a sensor: an old value is marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<u32>,
}

/// What a sensor measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SensorKind {
    Imu,
    Force,
    Battery,
    Other,
}

/// A frame at a gripper, fixed to a part's link, and where it may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    /// The part whose link carries the tool.
    pub part: String,
    pub part_from_tool: Pose,
    /// Where the tool may be; without it, wherever the parts can bring it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Workspace>,
}

/// A box in the base frame.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    pub min_m: [f64; 3],
    pub max_m: [f64; 3],
}

/// A camera, as datasets and checkpoints know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CameraDescription {
    /// The feature is `observation.images.<name>`.
    pub name: String,
    pub width: u32,
    pub height: u32,
    /// Images a second; without it, as many as the robot has ticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<u32>,
    /// What the camera is asked for, such as `MJPG`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Whether it sees distances, in millimetres, and no colours: LeRobot's depth feature, which LeRobot's own robots call
    /// `<camera>_depth`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub depth: bool,
    /// How its picture is turned, clockwise: 0, 90, 180 or 270 degrees. Width and height are what comes out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rotation_deg: u32,
    /// An image that is older than this is old, milliseconds.
    #[serde(default = "image_age")]
    pub max_age_ms: u32,
    #[serde(default, skip_serializing_if = "WhenOld::is_stop")]
    pub when_old: WhenOld,
}

impl CameraDescription {
    /// A camera of which no more is said.
    pub fn new(name: String, width: u32, height: u32) -> Self {
        let (max_age_ms, when_old) = (image_age(), WhenOld::default());
        Self { name, width, height, fps: None, format: None, depth: false, rotation_deg: 0, max_age_ms, when_old }
    }

    /// An image of its size and kind on which nothing is seen: black, or no distance known.
    pub fn blank(&self) -> Image {
        let bytes = Pixels::from(vec![0; self.image_bytes()]);
        let (rgb, depth_mm) = if self.depth { (Pixels::default(), bytes) } else { (bytes, Pixels::default()) };
        Image { width: self.width, height: self.height, rgb, depth_mm, ..Image::default() }
    }

    /// How many bytes its images have.
    pub fn image_bytes(&self) -> usize {
        self.width as usize * self.height as usize * if self.depth { 2 } else { 3 }
    }

    /// Why `image` is none of this camera's; `None` where it may be one.
    pub fn image_fault(&self, image: &Image) -> Option<String> {
        let (bytes, other) = if self.depth { (&image.depth_mm, &image.rgb) } else { (&image.rgb, &image.depth_mm) };
        let fits = (image.width, image.height) == (self.width, self.height) && bytes.len() == self.image_bytes() && other.is_empty();
        (!fits).then(|| {
            let (found, [colours, depth]) = ((image.width, image.height), [&image.rgb, &image.depth_mm].map(|bytes| bytes.len()));
            let kind = if self.depth { "depth" } else { "colours" };
            format!(
                "the image of camera {} is {}x{} in {colours} bytes of colours and {depth} of depth, expected {}x{} in {} of {kind}",
                self.name,
                found.0,
                found.1,
                self.width,
                self.height,
                self.image_bytes(),
            )
        })
    }
}

/// What an image means that is older than its camera's `max_age_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenOld {
    /// It ends the episode.
    #[default]
    Stop,
    /// It is shown again until there is a newer one. Its number and capture time stay its own: its age tells.
    Repeat,
}

impl WhenOld {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_stop(&self) -> bool {
        *self == Self::Stop
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// As LeRobot's `async_read` has it.
fn image_age() -> u32 {
    500
}

/// What a robot does when a session ends, however it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopBehaviour {
    /// Stay where it is with torque on; a base stands still.
    Hold,
    /// Torque off.
    Limp,
}

/// How a session ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    pub behaviour: StopBehaviour,
}

/// One number of a robot's state or action, resolved from its description.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// LeRobot's name of it: `shoulder_pan.pos`.
    pub name: String,
    pub source: ChannelSource,
    /// What is commanded; `None` where it is only measured.
    pub mode: Option<CommandMode>,
    /// dataset = scale · SI + offset.
    pub scale_offset: (f64, f64),
}

/// Where a channel's value comes from, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelSource {
    Part(usize),
    /// Forward, left or turning: 0, 1, 2.
    Base(usize),
    /// Sensor, and which of its features.
    Sensor(usize, usize),
}

impl RobotDescription {
    /// The channels of `observation.state`, in order.
    pub fn state_channels(&self) -> Vec<Channel> {
        let sensors = self.sensors.iter().enumerate().flat_map(|(i, sensor)| {
            sensor.features.iter().enumerate().map(move |(j, name)| Channel {
                name: name.clone(),
                source: ChannelSource::Sensor(i, j),
                mode: None,
                scale_offset: (1.0, 0.0),
            })
        });
        let is_measured = |channel: &Channel| {
            !matches!(channel.source, ChannelSource::Base(_)) || self.base.as_ref().is_some_and(|base| base.is_measured)
        };
        self.moving_channels().filter(is_measured).chain(sensors).collect()
    }

    /// The channels of `action`, in order: the parts and the base that are commanded.
    pub fn action_channels(&self) -> Vec<Channel> {
        self.moving_channels().filter(|channel| channel.mode.is_some()).collect()
    }

    fn moving_channels(&self) -> impl Iterator<Item = Channel> {
        let parts = self.parts.iter().enumerate().filter(|(_, part)| part.is_feature()).map(|(i, part)| Channel {
            name: part.feature_name(),
            source: ChannelSource::Part(i),
            mode: part.command,
            scale_offset: part.unit.scale_offset(part.unit_range()),
        });
        let base = self.base.iter().flat_map(|base| {
            let axes: &[usize] = if base.kind == BaseKind::Differential { &[0, 2] } else { &[0, 1, 2] };
            base.feature_names().into_iter().zip(axes).map(|(name, axis)| Channel {
                name,
                source: ChannelSource::Base(*axis),
                mode: Some(CommandMode::Velocity),
                scale_offset: base.scale_offset(*axis),
            })
        });
        parts.chain(base)
    }

    /// The names of the `action` feature's dimensions, as LeRobot writes them: `shoulder_pan.pos`.
    pub fn action_names(&self) -> Vec<String> {
        self.action_channels().into_iter().map(|channel| channel.name).collect()
    }

    /// The names of the `observation.state` feature's dimensions.
    pub fn state_names(&self) -> Vec<String> {
        self.state_channels().into_iter().map(|channel| channel.name).collect()
    }

    /// Where each channel of `action` rests; `None` for one that has no such place.
    pub fn rest(&self) -> Vec<Option<f64>> {
        let rest = |channel: Channel| match channel.source {
            ChannelSource::Part(i) if channel.mode == Some(CommandMode::Position) || channel.mode == Some(CommandMode::Impedance) => {
                self.parts[i].rest
            }
            _ => None,
        };
        self.action_channels().into_iter().map(rest).collect()
    }

    /// Index of the part called `name`.
    pub fn part_index(&self, name: &str) -> Option<usize> {
        self.parts.iter().position(|part| part.name == name)
    }

    /// Poses of the parts' links in the base frame, for a value a part; missing values count as 0.
    pub fn base_from_parts(&self, values: &[f64]) -> Vec<Isometry3<f64>> {
        let mut poses: Vec<Option<Isometry3<f64>>> = vec![None; self.parts.len()];
        // A parent may stand behind its child; the tree has no circle.
        for _ in 0..self.parts.len() {
            for i in 0..self.parts.len() {
                let part = &self.parts[i];
                let parent = match &part.parent {
                    None => Some(Isometry3::identity()),
                    Some(name) => self.part_index(name).and_then(|parent| poses[parent]),
                };
                poses[i] =
                    parent.map(|parent| parent * part.parent_from_part.to_isometry() * part.motion(values.get(i).copied().unwrap_or(0.0)));
            }
            if poses.iter().all(Option::is_some) {
                break;
            }
        }
        poses.into_iter().map(Option::unwrap_or_default).collect()
    }

    /// The parts that carry the part `index`, from the base on, itself included.
    pub fn chain_to(&self, index: usize) -> Vec<usize> {
        let mut chain = vec![index];
        while let Some(parent) = chain.last().and_then(|last| self.parts.get(*last)?.parent.as_ref()).and_then(|name| self.part_index(name))
        {
            if chain.contains(&parent) {
                break;
            }
            chain.push(parent);
        }
        chain.reverse();
        chain
    }
}

#[cfg(test)]
mod tests;
