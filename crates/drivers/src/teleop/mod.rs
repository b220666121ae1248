//! Devices and people that act instead of a policy: gamepads, keyboards, a SpaceMouse, a phone, recorded actions; and what
//! makes goals of a robot of what they want.

mod base;
mod chain;
mod tool;

pub use base::{BaseError, TwistToBase};
pub use tool::{ToolError, ToolOptions, ToolToJoints};
