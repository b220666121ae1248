//! One module a verb.

pub mod calibrate;
pub mod completions;
pub mod config;
pub mod daemon;
pub mod dataset;
pub mod doctor;
pub mod emulate;
pub mod eval;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod find_cameras;
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
#[path = "commands/find_no_cameras.rs"]
pub mod find_cameras;
pub mod find_port;
pub mod fleet;
pub mod hub;
pub mod lekiwi_host;
pub mod man_pages;
pub mod monitor;
pub mod policy;
pub mod record;
pub mod replay;
pub mod rig;
pub mod robots;
pub mod rollout;
pub mod serve;
pub mod setup_motors;
pub mod sim;
pub mod teleop;
pub mod train;
pub mod watchdog;
