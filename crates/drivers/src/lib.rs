//! Hardware: the interface of a motor bus, the packets of serial motor protocols, the control tables of motor models,
//! setting robots up, cameras, foot pedals, and what else people move robots with (`teleop`).
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use sinew_drivers::{ArmOptions, Calibration, PortAddress, SerialArm, calibration_folder};
//!
//! # fn connect(clock: Arc<dyn sinew_core::Clock>) -> Result<(), Box<dyn std::error::Error>> {
//! let robot = sinew_core::RobotDescription::from_toml("so101", &std::fs::read_to_string("robots/so101/robot.toml")?)?;
//! let folder = calibration_folder(|name| std::env::var_os(name)).ok_or("HOME is not set")?;
//! let calibration = Calibration::for_robot(&robot, "my_arm", &folder)?;
//! let options = ArmOptions::new(&robot, vec![("arm".to_owned(), PortAddress::Path("/dev/ttyACM0".to_owned()))]);
//! // Nothing moves, and no torque is switched on.
//! let arm = SerialArm::connect(Arc::new(robot), &options, &calibration, clock)?;
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod arm;
mod bus;
mod calibration;
pub mod camera;
#[cfg(feature = "can")]
pub mod can;
mod check;
mod lekiwi;
mod net;
mod pedal;
mod reachy_mini;
mod retarget;
mod serial;
pub mod setup;
pub mod tables;
pub mod teleop;
pub mod wire;

pub use arm::{
    ArmHealth, ArmOptions, BusHealth, Change, ConnectError, ConnectReport, FaultCounts, LeaderFeedback, MotorHealth, Place, SerialArm,
    SerialLeader, SerialMonitor, Setting, TORQUE_LOST, WhenLost, lerobot_settings,
};
pub use bus::{Answer, Block, Bus, BusError, Bytes, Frame, MOST_BYTES, MotorError, MotorFault, MotorId, Operation, Reply};
pub use calibration::{
    Calibration, CalibrationError, CalibrationFile, CalibrationOf, MotorCalibration, Scale, Staged, calibration_files, calibration_folder,
    calibration_path,
};
pub use check::{MotorsError, check_motors};
pub use lekiwi::{
    DecodeJpeg, EncodeJpeg, LeKiwiCameras, LeKiwiClient, LeKiwiClientOptions, LeKiwiCounts, LeKiwiError, LeKiwiHost, LeKiwiHostCounts,
    LeKiwiHostOptions, LeKiwiHostTeleoperator, ObservationPublisher,
};
pub use pedal::{Pedal, PedalError};
pub use reachy_mini::{ReachyMini, ReachyMiniCounts, ReachyMiniError};
pub use retarget::{Back, ByFeature, RetargetError};
pub use serial::{PortAddress, SerialBus, SerialCounts, SerialOptions, slow_adapter, who_may_open};
pub use tables::{ControlTable, Encoding, Field, Register, STS3215, TableError};
