//! What an operator holds in his hands: a phone, or the controllers of a headset, whose motion a tool repeats.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A tool of the robot that repeats the motion of a hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldTool {
    /// As the description calls it.
    pub name: String,
    /// The hand that it is for, where the robot has one for each.
    pub side: Option<Side>,
}

/// A hand, or the arm that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Left,
    Right,
}

/// Where a device in a hand is. Its frame lies as the robot's base frame does: x is ahead, y left, z up. Where its origin is does not
/// matter, as the motion counts from each time that the device is enabled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandPose {
    /// The tool that repeats its motion; not needed where the robot has one tool.
    #[serde(default)]
    pub tool: Option<String>,
    /// Metres.
    pub position_m: [f64; 3],
    /// How the device is turned, as a quaternion w, x, y, z of length 1.
    pub rotation_wxyz: [f64; 4],
    /// Whether the tool is to follow.
    pub enabled: bool,
    /// How fast the gripper opens: 1 opens, −1 closes, 0 leaves it.
    #[serde(default)]
    pub gripper: f64,
}
