//! Hardware: for now the interface of a motor bus, and foot pedals. Drivers, cameras and emulated
//! hardware come behind it.

#![forbid(unsafe_code)]

mod bus;
mod pedal;

pub use bus::{Bus, BusError, MotorError, MotorFault, MotorId, Operation, Reading, Register};
pub use pedal::{Pedal, PedalError};
