//! Devices and people that act instead of a policy: gamepads, keyboards, a SpaceMouse, a phone; and what
//! makes goals of a robot of what they want.
//!
//! ```
//! use sinew_drivers::teleop::TeleopKind;
//!
//! assert_eq!("keyboard_ee".parse::<TeleopKind>()?, TeleopKind::KeyboardTool);
//! # Ok::<(), sinew_drivers::teleop::StartError>(())
//! ```

mod base;
mod chain;
mod evdev;
#[cfg(target_os = "linux")]
mod evdev_sys;
mod gamepad;
#[cfg(test)]
mod golden;
mod keyboard;
mod keys;
#[cfg(target_os = "linux")]
mod linux;
mod phone;
#[cfg(test)]
mod recorded;
mod spacemouse;
mod start;
mod tool;
mod tools;

use std::sync::Arc;

pub use base::{BaseError, TwistToBase};
pub use evdev::{AxisState, DeviceState, InputBytes, InputDevice, InputEvent, Open};
pub use gamepad::{Gamepad, PadLayout, PadOptions};
pub use keyboard::{DriveKeys, KeyboardBase, KeyboardJoints, KeyboardTool};
pub use keys::{HeldKeys, KeyChange, KeyEvent, KeySource, LocalKeys, TeleopKey};
#[cfg(target_os = "linux")]
pub use linux::{InputFacts, input_devices, open_space_mouse};
pub use phone::{Phone, PhoneAxes, PhoneInbox, PhoneOptions, PhonePose};
pub use spacemouse::{OpenReports, Reports, SpaceMouse, SpaceMouseOptions};
#[cfg(target_os = "linux")]
pub use start::open_keyboard;
pub use start::{StartError, StartOptions, Started, TeleopKind, start};
pub use tool::{ToolError, ToolOptions, ToolToJoints};
pub use tools::ToolsToJoints;

/// What somebody wants of a session with the device that he moves the robot with: LeRobot's `TeleopEvents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeleopEvent {
    /// The episode ends, as the task is done.
    Success,
    /// The episode ends, as the task has failed.
    Failure,
    /// The episode ends, is dropped and done again.
    Rerecord,
    /// He begins to move the robot himself, or leaves it to the policy again.
    Intervene(bool),
    Quit,
}

/// Who is told of events: called on the teleoperator's thread, so it is to be quick.
pub type Tell = Arc<dyn Fn(TeleopEvent) + Send + Sync>;
