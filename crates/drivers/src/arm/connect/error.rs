//! Why an arm can't be connected.

use thiserror::Error;

use crate::{BusError, CalibrationError, Register, TableError};

/// An arm that can't be connected.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("connecting {robot}: {what}")]
    Unsupported { robot: String, what: String },
    #[error("connecting {robot}: {part}")]
    Bus {
        robot: String,
        part: String,
        #[source]
        source: BusError,
    },
    #[error("connecting {robot}")]
    Table {
        robot: String,
        #[source]
        source: TableError,
    },
    #[error("connecting {robot}")]
    Calibration {
        robot: String,
        #[source]
        source: CalibrationError,
    },
    #[error("connecting {robot}: nobody answers on {port} (bus {bus}) at {baud} bits a second, nor at any other speed: {hint}")]
    Nobody { robot: String, bus: String, port: String, baud: u32, hint: String },
    #[error(
        "connecting {robot}: expected motors on {port} (bus {bus}) to answer at {baud} bits a second, found {found}. Set their \
         {register} to that of {baud}",
        register = Register::BaudRate.name()
    )]
    Speed { robot: String, bus: String, port: String, baud: u32, found: String },
    #[error("connecting {robot}: no answer from {silent}; {answered}{hint}")]
    Silent { robot: String, silent: String, answered: String, hint: String },
    #[error(
        "connecting {robot}: {garbled} of {asked} answers of {part} were garbled: two motors seem to have its id. Unplug all others and \
         give each motor its own id, one at a time"
    )]
    TwoOfOneId { robot: String, part: String, garbled: u32, asked: u32 },
    #[error("connecting {robot}: {part}: expected a {expected} (model number {number}), found {found}")]
    Model { robot: String, part: String, expected: &'static str, number: u16, found: String },
    #[error("connecting {robot}: expected all motors of a model to have the same firmware, found {found}")]
    Firmware { robot: String, found: String },
    #[error(
        "connecting {robot}: the motors hold another calibration than the file: {differences}. Where --id names the right file, calibrate \
         (`sinew calibrate`, or Set-up on the daemon's page): it writes the file to the motors, or makes a new one. So does \
         --write-calibration with any verb"
    )]
    Uncalibrated { robot: String, differences: String },
    #[error("connecting {robot}: {part} is to have {register} = {wanted}, found {found}, and can't be set while its torque is on")]
    HasTorque { robot: String, part: String, register: &'static str, wanted: i32, found: i32 },
    #[error("connecting {robot}: {part} was given {register} = {wanted} and holds {found}")]
    NotKept { robot: String, part: String, register: &'static str, wanted: i32, found: i32 },
}
