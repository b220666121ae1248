//! Setting robots up: which port they are on, ids of new motors, and calibration as LeRobot 0.6.1 means it.
//!
//! Nothing here moves a motor. What is written to motors is read back, and a file is written last.
//!
//! ```no_run
//! for port in sinew_drivers::setup::serial_ports()? {
//!     println!("{} {}", port.path, port.serial.unwrap_or_default());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod calibrate;
mod chain;
mod check;
mod identify;
mod ports;
mod sweep;
mod unfinished;

use std::fmt;

use thiserror::Error;

use crate::{BusError, CalibrationError, MotorId, TableError};

pub use calibrate::{Calibrator, Written, fixed_calibration};
pub use chain::{Chain, ChainMotor};
pub use check::{CableCheck, CalibrationCheck, MotorCheck};
pub use identify::{Identified, Identifier, MotorToSet};
pub use ports::{Adapter, SerialPort, serial_ports, serial_ports_in};
pub use sweep::{Refusal, Sweep, SweepJoint, Swept};
pub use unfinished::{Aim, Unfinished};

/// Setting up that can't go on.
#[derive(Debug, Error)]
pub enum SetupError {
    #[error("setting up {robot}: {what}")]
    Unsupported { robot: String, what: String },
    #[error("setting up {robot}: {part}")]
    Bus {
        robot: String,
        part: String,
        #[source]
        source: BusError,
    },
    #[error("setting up {robot}")]
    Table {
        robot: String,
        #[source]
        source: TableError,
    },
    #[error("setting up {robot}: no answer from {missing}; {answered}: check cables and power, and ids with `sinew setup-motors`")]
    Missing { robot: String, missing: String, answered: String },
    #[error("setting up {robot}: {part} (motor {motor}): expected a {expected}, found {found}")]
    Model { robot: String, part: String, motor: MotorId, expected: &'static str, found: Model },
    #[error("setting up {robot}: {part} still has torque after it was switched off")]
    HasTorque { robot: String, part: String },
    #[error(
        "setting up {robot}: {part} has torque, so that nothing can be written: hold the arm and make it limp, on the daemon's page or with \
         --may-go-limp"
    )]
    IsHeld { robot: String, part: String },
    #[error(
        "setting up {robot}: {part} holds neither what it held before nor what was to be written: it is another arm, or was set up since"
    )]
    Otherwise { robot: String, part: String },
    #[error("setting up {robot}")]
    Calibration {
        robot: String,
        #[source]
        source: CalibrationError,
    },
    #[error("setting up {robot}: {part} was given {register} = {wanted} and holds {found}")]
    NotKept { robot: String, part: String, register: &'static str, wanted: i32, found: i32 },
    /// What somebody did with the arm can't be its calibration. Nothing was written.
    #[error("calibrating {robot}: {refusal}")]
    Refused { robot: String, refusal: Refusal },
    #[error("setting up {part}: no motor answered at any speed from {least} to {most} bits a second: check its cable and power")]
    NoMotor { part: String, least: u32, most: u32 },
    #[error("setting up {part}: several motors are connected ({found}): connect {part} only")]
    Several { part: String, found: String },
    #[error("setting up {part}: the motor that answers has id {id}, as {other} was just given: connect that of {part} instead")]
    Given { part: String, id: u16, other: String },
    #[error("listing serial ports: reading {path}")]
    Ports {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// A motor's model, by what it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    pub name: Option<&'static str>,
    pub number: i32,
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => write!(f, "a {name}"),
            None => write!(f, "model number {}", self.number),
        }
    }
}

#[cfg(test)]
mod tests;
