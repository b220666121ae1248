//! The options of the verbs that set an arm up.

use std::path::PathBuf;

use clap::Args;

use super::{Misuse, PortArg, values::plain_name, values::size_and_rate, whole};

/// Whose motors, and where they are.
#[derive(Args, Clone)]
pub struct ArmArgs {
    /// A robot by name (see `sinew robots`), or its folder
    #[arg(long, conflicts_with = "teleop")]
    pub robot: Option<String>,
    /// The port of the robot: a path, usb:SERIAL, or BUS=PATH once for each bus
    #[arg(long, value_name = "PORT", requires = "robot", conflicts_with = "teleop")]
    pub port: Vec<PortArg>,
    /// A leader arm instead of a robot, by name or folder
    #[arg(long)]
    pub teleop: Option<String>,
    /// The port of the leader arm, written as for --port
    // A clash between what is there and what is required is not looked at otherwise.
    #[arg(long, value_name = "PORT", requires = "teleop", conflicts_with = "robot")]
    pub teleop_port: Vec<PortArg>,
    /// The latency that the serial adapter adds, in milliseconds, 1 to 100 [default: 5]. Use 20 for an FTDI whose latency timer was never set
    #[arg(long, value_name = "MS", value_parser = whole::<u64>(1..=100), hide_short_help = true)]
    pub latency_ms: Option<u64>,
}

impl ArmArgs {
    /// # Errors
    /// When it is not said which arm it is.
    pub fn check(&self) -> Result<(), Misuse> {
        self.check_named(("", ""))
    }

    /// `id` is what else is needed of a robot, and of a leader arm.
    fn check_named(&self, (id, teleop_id): (&str, &str)) -> Result<(), Misuse> {
        if self.robot.is_some() || self.teleop.is_some() {
            return Ok(());
        }
        let [arm, leader] = ["--robot ROBOT --port PORT", "--teleop LEADER --teleop-port PORT"];
        let lists = "`sinew robots` lists robots and leader arms, `sinew find-port` ports";
        Err(Misuse(format!("expected {arm}{id}, or {leader}{teleop_id} ({lists})")))
    }
}

#[derive(Args, Clone)]
#[command(after_help = "Torque is switched off. Move every joint through its whole range, rest at each end for a moment, and press \
        ENTER. Then hold joints without ends in their middle. A result that can't be right is refused, and nothing is \
        written. The result is written to the motors, read back, and stored as LeRobot's file, where LeRobot looks for \
        it.\n\n\
        Examples:\n  \
        sinew calibrate --robot so101 --port /dev/ttyACM0 --id my_arm\n  \
        sinew calibrate --robot so101 --port usb:58FA0834 --id my_arm --check\n  \
        sinew calibrate --teleop so101_leader --teleop-port /dev/ttyACM1 \\\n      \
        --teleop-id my_leader")]
pub struct CalibrateArgs {
    #[command(flatten)]
    pub arm: ArmArgs,
    /// The name of this robot. The calibration is stored as ID.json, as with LeRobot's --robot.id
    #[arg(long, value_parser = plain_name, requires = "robot", conflicts_with_all = ["teleop", "teleop_id"])]
    pub id: Option<String>,
    /// The name of this leader arm
    #[arg(long, value_parser = plain_name, requires = "teleop", conflicts_with = "robot")]
    pub teleop_id: Option<String>,
    /// Only compare the motors with the file. Ends with exit code 1 if something differs
    #[arg(long)]
    pub check: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

impl CalibrateArgs {
    /// # Errors
    /// When it is not said which arm it is, or what it is called.
    pub fn check(&self) -> Result<(), Misuse> {
        self.arm.check_named((" --id NAME", " --teleop-id NAME"))?;
        match (&self.arm.robot, &self.id, &self.teleop_id) {
            (Some(robot), None, _) => Err(Misuse(format!("calibrating {robot}: expected --id NAME, by which its calibration is stored"))),
            (None, _, None) => {
                Err(Misuse("calibrating a leader arm: expected --teleop-id NAME, by which its calibration is stored".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Args, Clone)]
#[command(after_help = "Lists the serial ports and their adapters, then asks you to unplug one and says which one it was.\n\n\
    Examples:\n  sinew find-port\n  sinew find-port --list\n  sinew find-port --json")]
pub struct FindPortArgs {
    /// List the ports and stop
    #[arg(long)]
    pub list: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// Where the system's files are
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

#[derive(Args, Clone)]
#[command(after_help = "Connect one motor at a time, in the order that is asked for (the last joint first, as in lerobot-setup-motors). \
        The motor is found at any id and baud rate, gets those of the robot, and is read back. A motor that has them \
        already is left alone, so you can start again at any time.\n\n\
        Examples:\n  \
        sinew setup-motors --robot so101 --port /dev/ttyACM0\n  \
        sinew setup-motors --robot so101 --port /dev/ttyACM0 --only wrist_roll\n      \
        (one that was replaced)")]
pub struct SetupMotorsArgs {
    #[command(flatten)]
    pub arm: ArmArgs,
    /// Set up only the motor of this joint
    #[arg(long, value_name = "JOINT")]
    pub only: Option<String>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// The options of `sinew find-cameras`.
#[derive(Args)]
#[command(
    after_help = "Each camera is listed with what to write after `--camera NAME=`: its serial number, or else the socket that it is plugged \
    into, because the numbers of /dev/videoN change.\n\nExamples:\n  sinew find-cameras\n  sinew find-cameras --out pictures --size 1280x720@30\n  \
    sinew find-cameras --no-pictures --json"
)]
pub struct FindCamerasArgs {
    /// Write a PNG of each camera to this folder
    #[arg(long, value_name = "DIR", default_value = "outputs/cameras")]
    pub out: PathBuf,
    /// The size and rate of the pictures [default: 640x480@30]
    #[arg(long, value_name = "WxH[@FPS]", value_parser = size_and_rate)]
    pub size: Option<String>,
    /// Do not take pictures
    #[arg(long)]
    pub no_pictures: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}
