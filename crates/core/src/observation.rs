//! What a robot sees and feels at one tick.

use crate::{RobotDescription, Timestamp};

/// An 8-bit RGB image, row-major, top row first: `rgb.len() == height * width * 3`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub width: u32,
    pub height: u32,
    pub rgb: Vec<u8>,
    /// When the shutter fired, on the session's clock.
    pub captured_at: Timestamp,
    /// Counts the camera's images; the same number twice is the same image.
    pub sequence: u64,
}

impl Image {
    pub fn black(width: u32, height: u32) -> Self {
        Self { width, height, rgb: vec![0; width as usize * height as usize * 3], ..Self::default() }
    }
}

/// What [`Robot::observe`](crate::Robot::observe) fills. All vectors have one entry a joint (or a
/// camera), in the order of the description; they are allocated once and reused.
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

    /// Copies `other` into the buffers of `self` without allocating when the shapes agree.
    pub fn copy_from(&mut self, other: &Self) {
        self.tick = other.tick;
        self.time = other.time;
        self.position_rad.clone_from(&other.position_rad);
        self.velocity_rad_per_s.clone_from(&other.velocity_rad_per_s);
        self.effort.clone_from(&other.effort);
        self.temperature_c.clone_from(&other.temperature_c);
        self.bus_retries = other.bus_retries;
        self.images.resize_with(other.images.len(), Image::default);
        for (mine, theirs) in self.images.iter_mut().zip(&other.images) {
            let rgb = std::mem::take(&mut mine.rgb);
            *mine = Image { rgb, width: theirs.width, height: theirs.height, captured_at: theirs.captured_at, sequence: theirs.sequence };
            mine.rgb.clone_from(&theirs.rgb);
        }
    }
}
