//! One module a verb.

pub mod calibrate;
pub mod completions;
pub mod dataset;
pub mod doctor;
pub mod emulate;
pub mod eval;
pub mod find_cameras;
pub mod find_port;
pub mod hub;
pub mod lekiwi_host;
pub mod monitor;
pub mod policy;
pub mod record;
pub mod replay;
pub mod rig;
pub mod robots;
pub mod rollout;
pub mod setup_motors;
pub mod sim;
pub mod teleop;
pub mod train;
pub mod watchdog;
