//! What a robot sees and feels at one tick.

use crate::{Image, RobotDescription, Timestamp};

/// What [`Robot::observe`](crate::Robot::observe) fills. All vectors have one entry a joint (or a
/// camera), in the order of the description; they are allocated once and reused. Clones share the images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// The tick that asked for it.
    pub tick: u64,
    /// When the joints were read.
    pub time: Timestamp,
    pub position_rad: Vec<f64>,
    pub velocity_rad_per_s: Vec<f64>,
    /// Motor effort as a share of stall torque, −1..1.
    pub effort: Vec<f64>,
    /// Of the motors, °C; empty where the robot doesn't measure it.
    pub temperature_c: Vec<f64>,
    /// How often a bus had to be asked again for it; 0 where there is no bus.
    pub bus_retries: u32,
    pub images: Vec<Image>,
}

impl Observation {
    /// Buffers of the right size for `robot`, all zero.
    pub fn for_robot(robot: &RobotDescription) -> Self {
        let n = robot.joints.len();
        Self {
            tick: 0,
            time: Timestamp::ZERO,
            position_rad: vec![0.0; n],
            velocity_rad_per_s: vec![0.0; n],
            effort: vec![0.0; n],
            temperature_c: Vec::new(),
            bus_retries: 0,
            images: robot.cameras.iter().map(|c| Image::black(c.width, c.height)).collect(),
        }
    }

    /// Makes `self` what `other` is, sharing the images, without allocating when the shapes agree.
    pub fn copy_from(&mut self, other: &Self) {
        self.tick = other.tick;
        self.time = other.time;
        self.position_rad.clone_from(&other.position_rad);
        self.velocity_rad_per_s.clone_from(&other.velocity_rad_per_s);
        self.effort.clone_from(&other.effort);
        self.temperature_c.clone_from(&other.temperature_c);
        self.bus_retries = other.bus_retries;
        self.images.clone_from(&other.images);
    }
}
