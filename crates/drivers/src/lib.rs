//! Hardware: for now the interface of a motor bus, the control tables of motor models, and foot pedals. Drivers,
//! cameras and emulated hardware come behind it.

#![forbid(unsafe_code)]

mod bus;
mod pedal;
mod table;

pub use bus::{Answer, Block, Bus, BusError, Bytes, Frame, MOST_BYTES, MotorError, MotorFault, MotorId, Operation, Reply};
pub use pedal::{Pedal, PedalError};
pub use table::{ControlTable, Encoding, Field, Register, STS3215, TableError};
