//! The options of `sinew emulate`.

use std::path::PathBuf;

use clap::Args;
use sinew_emulator::{COMMANDS, FAULTS, FaultOption};

use super::{values::plain_name, values::seed, zero_or_above};

fn help() -> String {
    format!(
        "Any program that opens serial ports can use it: Sinew, LeRobot, the makers' SDKs.\n\nFaults: {FAULTS}.\n\n\
         Commands on standard input, a line each: {COMMANDS}.\n\nExamples:\n  \
         sinew emulate so101 --link /tmp/follower --id emulated\n  \
         sinew emulate so101_leader --link /tmp/leader --id emulated --hand\n  \
         sinew emulate so101 --link /tmp/arm --fault drop=0.01 --fault unplug@30\n  \
         sinew emulate so101 --link /tmp/arm --id emulated --world pick-place --seed 7\n  \
         sinew emulate new:sts3215 --link /tmp/new_motor"
    )
}

#[derive(Args, Clone)]
#[command(after_help = help())]
pub struct EmulateArgs {
    /// A robot or leader arm by name (`sinew robots` lists them), a folder with a robot.toml, or new:MODEL for a factory-new motor
    pub robot: String,
    /// Where the serial port appears. For several buses, give BUS=PATH once for each
    #[arg(long, required = true, value_name = "[BUS=]PATH")]
    pub link: Vec<String>,
    /// Store a calibration for the emulated motors under this name, where LeRobot looks for it
    #[arg(long, value_parser = plain_name, value_name = "NAME")]
    pub id: Option<String>,
    /// Inject a fault, for example drop=0.01 or die:elbow_flex@20 (see below). Give it once for each fault
    #[arg(long, value_name = "FAULT")]
    pub fault: Vec<FaultOption>,
    /// The latency that the adapter adds to each answer, in milliseconds. 16 is an FTDI whose latency timer was never set
    #[arg(long, value_name = "MS", default_value_t = 0.0, value_parser = zero_or_above)]
    pub latency: f64,
    /// Move every joint, as a human moves a leader arm
    #[arg(long)]
    pub hand: bool,
    /// Put a simulator task (reach, push, pick-place, sort) behind the motors, with its cameras on a socket
    #[arg(long, value_name = "TASK", conflicts_with = "hand")]
    pub world: Option<String>,
    /// The socket for the cameras of --world [default: the link's path with .cameras at the end]
    #[arg(long, value_name = "SOCKET", requires = "world")]
    pub cameras: Option<PathBuf>,
    /// The seed for faults and for the scene
    #[arg(long, default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Stop after this many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "S", value_parser = zero_or_above)]
    pub seconds: Option<f64>,
    /// Print the task's result and what was on the wire as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}
