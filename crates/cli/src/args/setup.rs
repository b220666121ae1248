//! The options of the verbs that set an arm up.

use std::path::PathBuf;

use clap::Args;

use super::PortArg;

/// Whose motors, and where they are.
#[derive(Args, Clone)]
pub struct ArmArgs {
    /// A robot's name (see `sinew robots`) or a folder with a robot.toml
    #[arg(long, required_unless_present = "teleop", conflicts_with = "teleop")]
    pub robot: Option<String>,
    /// Its port: PATH, usb:SERIAL, or BUS=PATH for each bus of a robot with several; monitor has HOST and zmq://HOST, too
    #[arg(long, value_name = "PORT", requires = "robot", conflicts_with = "teleop")]
    pub port: Vec<PortArg>,
    /// A leader arm instead, by its name or folder
    #[arg(long)]
    pub teleop: Option<String>,
    /// The leader's port, as --port
    // A clash between what is there and what is required is not looked at otherwise.
    #[arg(long, value_name = "PORT", requires = "teleop", conflicts_with = "robot")]
    pub teleop_port: Vec<PortArg>,
    /// The most that the adapter adds to an answer's way, milliseconds; without it 5; 20 for an FTDI whose latency timer nobody
    /// has set
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=100))]
    pub latency_ms: Option<u64>,
}

#[derive(Args, Clone)]
#[command(after_help = "The torque is switched off, you move every joint through all of its range and rest at each\n\
    end for a moment, and ENTER ends that; joints without ends are then held in their middle. What\n\
    can't be right is refused, and nothing is written. The motors get the result and are read back,\n\
    then LeRobot's file is written, where LeRobot looks for it. Answers are lines on standard input.\n\n\
    Examples:\n  sinew calibrate --robot so101 --port /dev/ttyACM0 --id my_arm\n  \
    sinew calibrate --robot so101 --port usb:58FA0834 --id my_arm --check\n  \
    sinew calibrate --teleop so101_leader --teleop-port /dev/ttyACM1 --teleop-id my_leader")]
pub struct CalibrateArgs {
    #[command(flatten)]
    pub arm: ArmArgs,
    /// What you call this robot: the calibration is ID.json, as with LeRobot's --robot.id
    #[arg(long, requires = "robot", required_unless_present = "teleop", conflicts_with_all = ["teleop", "teleop_id"])]
    pub id: Option<String>,
    /// What you call this leader
    #[arg(long, requires = "teleop", required_unless_present = "robot", conflicts_with = "robot")]
    pub teleop_id: Option<String>,
    /// Only compare the motors with the file and tell how they are; exit code 1 where something differs
    #[arg(long)]
    pub check: bool,
    /// The result as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone)]
#[command(after_help = "Lists serial ports with what is known of their adapters, then asks you to unplug one and says\n\
    which it was.\n\n\
    Examples:\n  sinew find-port\n  sinew find-port --list\n  sinew find-port --json")]
pub struct FindPortArgs {
    /// Only list the ports
    #[arg(long)]
    pub list: bool,
    /// Only list the ports, as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
    /// Where the system's files are
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

#[derive(Args, Clone)]
#[command(after_help = "Connect one motor at a time, in the order that is asked for (the last joint first, as\n\
    lerobot-setup-motors). Whatever id and speed it has, it is found and given those of the robot,\n\
    which are read back. One that has them is left as it is: begin again at any time.\n\n\
    Examples:\n  sinew setup-motors --robot so101 --port /dev/ttyACM0\n  \
    sinew setup-motors --robot so101 --port /dev/ttyACM0 --only wrist_roll    (one that was replaced)")]
pub struct SetupMotorsArgs {
    #[command(flatten)]
    pub arm: ArmArgs,
    /// Set only the motor of this joint
    #[arg(long, value_name = "JOINT")]
    pub only: Option<String>,
    /// One JSON line a motor on stdout
    #[arg(long)]
    pub json: bool,
}

/// The options of `sinew find-cameras`.
#[derive(Args)]
#[command(
    after_help = "Each camera is told with what `--camera NAME=` wants to hear: its serial number, or else the socket that it is plugged\n\
    into, as its number changes.\n\nExamples:\n  sinew find-cameras\n  sinew find-cameras --out pictures --size 1280x720@30\n  \
    sinew find-cameras --no-pictures --json"
)]
pub struct FindCamerasArgs {
    /// Folder for a PNG of each camera
    #[arg(long, value_name = "DIR", default_value = "outputs/cameras")]
    pub out: PathBuf,
    /// The size, and rate, of the pictures; without it 640x480@30
    #[arg(long, value_name = "WxH[@FPS]")]
    pub size: Option<String>,
    /// Take no picture
    #[arg(long)]
    pub no_pictures: bool,
    /// What was found as a JSON list on stdout
    #[arg(long)]
    pub json: bool,
}
