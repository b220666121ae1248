//! A robot model as data: what `robots/<name>/robot.toml` says.

mod base;
mod file;
mod part;
mod simulation;

use std::collections::{BTreeMap, BTreeSet};

use nalgebra::Isometry3;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::DatasetUnit;

pub use base::{Base, BaseKind, BaseLimits, BaseWheel};
pub use part::{CommandMode, Limits, Motor, Part, PartKind, Pose};
pub use simulation::{Collider, Link, MotorModel, Shape, SimulatedCamera, Simulation, Visual};

/// The version of robot.toml that is read.
pub const ROBOT_SCHEMA: u32 = 2;

/// A robot description that cannot be used.
#[derive(Debug, Error)]
pub enum DescriptionError {
    #[error("reading the robot description {name}")]
    Syntax {
        name: String,
        #[source]
        source: Box<toml::de::Error>,
    },
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
    pub title: String,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulation: Option<Simulation>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_class: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leader_types: Vec<String>,
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
    /// How its picture is turned, clockwise: 0, 90, 180 or 270 degrees. Width and height are what comes out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rotation_deg: u32,
    /// An image that is older than this ends the episode, milliseconds.
    #[serde(default = "image_age")]
    pub max_age_ms: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
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
        self.moving_channels().chain(sensors).collect()
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
                scale_offset: if *axis == 2 { DatasetUnit::Degrees.scale_offset([0.0; 2]) } else { (1.0, 0.0) },
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

    fn fault(&self) -> Option<String> {
        if self.schema != ROBOT_SCHEMA {
            return Some(format!("schema is {}, expected {ROBOT_SCHEMA}", self.schema));
        }
        if self.control_rate_hz == 0 {
            return Some("control_rate_hz is 0".into());
        }
        if self.feedback.max_age_ms == 0 || self.feedback.fault_age_ms < self.feedback.max_age_ms {
            return Some("feedback: expected max_age_ms above 0 and fault_age_ms at least as long".into());
        }
        if let Some(twice) = twice(self.buses.iter().map(|bus| &bus.name)) {
            return Some(format!("two buses are called {twice}"));
        }
        let faults = [self.parts_fault(), self.base_fault(), self.sensors_fault(), self.names_fault(), self.tools_fault(), self.cameras_fault()];
        faults.into_iter().flatten().next().or_else(|| Some(format!("simulation: {}", self.simulation.as_ref()?.fault(self)?)))
    }

    fn parts_fault(&self) -> Option<String> {
        if self.action_channels().is_empty() {
            return Some("it has nothing that can be commanded: no part with a command and no base".into());
        }
        if let Some(twice) = twice(self.parts.iter().map(|part| &part.name)) {
            return Some(format!("two parts are called {twice}"));
        }
        let mut addresses: BTreeMap<(&str, u16), &str> = BTreeMap::new();
        for part in &self.parts {
            if let Some(what) = part.fault() {
                return Some(format!("part {}: {what}", part.name));
            }
            let mut above = part.parent.as_deref();
            for _ in 0..=self.parts.len() {
                let Some(name) = above else { break };
                match self.parts.iter().find(|other| other.name == name) {
                    None => return Some(format!("part {}: its parent {name} is no part of the robot", part.name)),
                    Some(parent) => above = parent.parent.as_deref(),
                }
            }
            if above.is_some() {
                return Some(format!("part {}: its parents go round in a circle and never reach the base", part.name));
            }
            let Some(motor) = &part.motor else { continue };
            if !self.buses.iter().any(|bus| bus.name == motor.bus) {
                return Some(format!("part {}: its motor is on the bus {}, which the robot does not have", part.name, motor.bus));
            }
            if let Some(other) = addresses.insert((&motor.bus, motor.id), &part.name) {
                return Some(format!("parts {other} and {} have the same motor: {} on the bus {}", part.name, motor.id, motor.bus));
            }
        }
        None
    }

    fn base_fault(&self) -> Option<String> {
        let lone = |part: &&Part| {
            part.kind == PartKind::Wheel && !self.base.iter().any(|base| base.wheels.iter().any(|wheel| wheel.part == part.name))
        };
        if let Some(part) = self.parts.iter().find(lone) {
            return Some(format!("part {} is a wheel of no base", part.name));
        }
        self.base.as_ref().and_then(|base| base.fault(&self.parts)).map(|what| format!("base: {what}"))
    }

    fn sensors_fault(&self) -> Option<String> {
        if let Some(twice) = twice(self.sensors.iter().map(|sensor| &sensor.name)) {
            return Some(format!("two sensors are called {twice}"));
        }
        let unknown = |bus: &String| !self.buses.iter().any(|other| other.name == *bus);
        let bad = self.sensors.iter().find_map(|sensor| Some((sensor, sensor.bus.as_ref().filter(|bus| unknown(bus))?)));
        bad.map(|(sensor, bus)| format!("sensor {}: it is on the bus {bus}, which the robot does not have", sensor.name))
    }

    fn names_fault(&self) -> Option<String> {
        let names = self.state_names();
        twice(names.iter()).map(|twice| format!("two features are called {twice}"))
    }

    fn tools_fault(&self) -> Option<String> {
        if let Some(twice) = twice(self.tools.iter().map(|tool| &tool.name)) {
            return Some(format!("two tools are called {twice}"));
        }
        let rest: Vec<f64> = self.parts.iter().map(|part| part.rest.unwrap_or(0.0)).collect();
        for Tool { name, part, part_from_tool, workspace } in &self.tools {
            let Some(part) = self.part_index(part) else { return Some(format!("tool {name}: {part} is no part of the robot")) };
            if !part_from_tool.is_usable() {
                return Some(format!("tool {name}: part_from_tool is no pose"));
            }
            let Some(Workspace { min_m, max_m }) = workspace else { continue };
            if !(0..3).all(|i| min_m[i].is_finite() && max_m[i].is_finite() && min_m[i] < max_m[i]) {
                return Some(format!("tool {name}: its workspace reaches from {min_m:?} to {max_m:?}, expected finite and rising"));
            }
            let at = (self.base_from_parts(&rest)[part] * part_from_tool.to_isometry()).translation.vector;
            if !(0..3).all(|i| (min_m[i]..=max_m[i]).contains(&at[i])) {
                let at: [f64; 3] = at.into();
                return Some(format!("tool {name}: at rest it is at {at:?}, outside its workspace from {min_m:?} to {max_m:?}"));
            }
        }
        None
    }

    fn cameras_fault(&self) -> Option<String> {
        if let Some(twice) = twice(self.cameras.iter().map(|camera| &camera.name)) {
            return Some(format!("two cameras are called {twice}"));
        }
        let fault = |camera: &CameraDescription| {
            if !(1..=8192).contains(&camera.width) || !(1..=8192).contains(&camera.height) {
                return Some(format!("{}x{} is no usable size", camera.width, camera.height));
            }
            if camera.fps == Some(0) || camera.max_age_ms == 0 {
                return Some("fps and max_age_ms must be above 0".into());
            }
            (![0, 90, 180, 270].contains(&camera.rotation_deg))
                .then(|| format!("rotation_deg is {}, expected 0, 90, 180 or 270", camera.rotation_deg))
        };
        self.cameras.iter().find_map(|camera| Some(format!("camera {}: {}", camera.name, fault(camera)?)))
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
                poses[i] = parent.map(|parent| parent * part.parent_from_part.to_isometry() * part.motion(values.get(i).copied().unwrap_or(0.0)));
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
        while let Some(parent) = chain.last().and_then(|last| self.parts.get(*last)?.parent.as_ref()).and_then(|name| self.part_index(name)) {
            if chain.contains(&parent) {
                break;
            }
            chain.push(parent);
        }
        chain.reverse();
        chain
    }
}

/// The first name that comes twice.
fn twice<'a>(names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    let mut seen = BTreeSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

#[cfg(test)]
mod tests;
