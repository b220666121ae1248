//! What is asked of connecting, and what is told of it.

use std::time::Duration;

use serde::{Serialize, Serializer};
use sinew_core::RobotDescription;

use super::super::settings::{Setting, lerobot_settings};
use crate::{PortAddress, Register};

/// How an arm is connected.
#[derive(Clone, Debug)]
pub struct ArmOptions {
    /// The port of each of the description's buses, by the bus's name.
    pub ports: Vec<(String, PortAddress)>,
    /// [`SerialOptions::latency`](crate::SerialOptions::latency).
    pub latency: Duration,
    /// What motors are to be set to; [`lerobot_settings`] for most.
    pub settings: Vec<Setting>,
    /// Whether motors that hold another calibration than the file are given the file's. Otherwise that is an error.
    pub writes_calibration: bool,
    /// Whether torque is switched off where a setting needs that, so that the arm may sink. Otherwise that is an error.
    pub may_go_limp: bool,
    /// What becomes of a session whose port is lost.
    pub when_lost: WhenLost,
}

/// What becomes of a session whose port is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenLost {
    /// The port is tried again for so long, or for the description's [`fault_age_ms`](sinew_core::Feedback::fault_age_ms)
    /// where that is longer. When it is back, the motors rest where they are before they obey anyone.
    Resume { within: Duration },
    /// The session ends.
    End,
}

impl Default for WhenLost {
    fn default() -> Self {
        Self::Resume { within: Duration::ZERO }
    }
}

impl ArmOptions {
    /// Ports by bus, LeRobot's settings, and no more than that is written.
    pub fn new(robot: &RobotDescription, ports: Vec<(String, PortAddress)>) -> Self {
        let (latency, settings) = (Duration::from_millis(4), lerobot_settings(robot));
        let when_lost = WhenLost::default();
        Self { ports, latency, settings, writes_calibration: false, may_go_limp: false, when_lost }
    }
}

/// A register that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub part: String,
    #[serde(serialize_with = "by_name")]
    pub register: Register,
    pub found: i32,
    pub written: i32,
}

fn by_name<S: Serializer>(register: &Register, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(register.name())
}

/// What connecting found and did, as data for reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectReport {
    /// Of each model its firmware, as the motors write it.
    pub firmware: Vec<(&'static str, String)>,
    /// What was written because it was otherwise. Nothing else was.
    pub changes: Vec<Change>,
    /// What makes the buses slower than they need to be, and how to change that.
    pub advice: Vec<String>,
    /// How many questions all of it took.
    pub requests: u64,
    pub took: Duration,
}
