//! Hardware: for now the interface of a motor bus. Drivers, cameras and emulated hardware come behind
//! it.

#![forbid(unsafe_code)]

mod bus;

pub use bus::{Bus, BusError, MotorError, MotorFault, MotorId, Operation, Reading, Register};
