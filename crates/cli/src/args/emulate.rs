//! The options of `sinew emulate`.

use std::path::PathBuf;

use clap::Args;
use sinew_emulator::{COMMANDS, FAULTS, FaultOption};

use super::zero_or_above;

fn help() -> String {
    format!(
        "Any program that opens serial ports can use it: Sinew, LeRobot, the makers' SDKs.\n\nFaults: {FAULTS}.\n\n\
         Commands on standard input, a line each: {COMMANDS}.\n\nExamples:\n  \
         sinew emulate so101 --link /tmp/follower --id emulated\n  \
         sinew emulate so101_leader --link /tmp/leader --id emulated --hand\n  \
         sinew emulate so101 --link /tmp/follower --id emulated --fault drop=0.01 --fault flip=0.001 --fault die:elbow_flex@20\n  \
         sinew emulate so101 --link /tmp/follower --id emulated --world pick-place --seed 7\n  \
         sinew emulate new:sts3215 --link /tmp/new_motor"
    )
}

#[derive(Args, Clone)]
#[command(after_help = help())]
pub struct EmulateArgs {
    /// A robot or a leader arm by name (see `sinew robots`), a folder with a robot.toml, or new:MODEL for a motor from the factory
    pub robot: String,
    /// Where the serial port appears; BUS=PATH, once for each, where the robot has several buses
    #[arg(long, required = true, value_name = "[BUS=]PATH")]
    pub link: Vec<String>,
    /// Write a calibration that fits the emulated motors to LeRobot's place, under this id
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,
    /// Something that goes wrong, such as drop=0.01 or die:elbow_flex@20 (see below); may be given several times
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<FaultOption>,
    /// What the adapter adds to each answer, milliseconds; 16 is an FTDI whose latency timer nobody has set
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = zero_or_above)]
    pub latency: f64,
    /// A hand moves every joint, as a human moves a leader arm
    #[arg(long)]
    pub hand: bool,
    /// A simulator task (reach, push, pick-place, sort) behind the motors: they move its arm, and its cameras are on a socket
    #[arg(long, value_name = "TASK", conflicts_with = "hand")]
    pub world: Option<String>,
    /// The socket for the world's cameras; without it the link's path with .cameras after it
    #[arg(long, value_name = "SOCKET", requires = "world")]
    pub cameras: Option<PathBuf>,
    /// Of all that is left to chance, and of the world's scene
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// End after so many seconds
    #[arg(long, value_name = "S", value_parser = zero_or_above)]
    pub seconds: Option<f64>,
    /// What the world's task came to, and what was on the wire, as JSON lines on stdout
    #[arg(long)]
    pub json: bool,
}
