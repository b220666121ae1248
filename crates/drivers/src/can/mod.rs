//! Motors on CAN buses: Damiao's and Robstride's, over sockets of Linux and over serial adapters (feature `can`).
//!
//! ```
//! use sinew_drivers::can::CanAddress;
//!
//! assert_eq!(CanAddress::parse("can0"), CanAddress::Socket("can0".to_owned()));
//! assert!(matches!(CanAddress::parse("/dev/ttyACM0"), CanAddress::Serial(_)));
//! ```

mod arm;
mod bus;
mod damiao;
mod frame;
mod motor;
mod port;
mod robstride;
pub mod slcan;

pub use arm::{CanArm, CanArmOptions, CanConnectError};
pub use bus::{CanBus, CanCounts, CanOptions};
pub use frame::{CanFormat, CanFrame};
pub use motor::{CAN_MODELS, CanAnswer, CanModel, CanMotor, Feedback, Maker, MitCommand, MotorState, Request};
pub use port::CanAddress;

#[cfg(test)]
mod tests;
