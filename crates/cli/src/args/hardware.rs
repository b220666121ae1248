//! Which motors and cameras a verb works with.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sinew_core::StopBehaviour;
use sinew_drivers::camera::CameraAddress;
use sinew_drivers::teleop::TeleopKind;

use super::{PortArg, above_zero, zero_or_above};

/// Where the motors of a robot are, and how they are met.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Hardware")]
pub struct HardwareArgs {
    /// A rig, whose entries are the options that are not given (see `sinew rig`)
    #[arg(long = "rig", value_name = "NAME|FILE")]
    pub rig_file: Option<String>,
    /// Where the robot is: its serial port, a path or usb:SERIAL; zmq://HOST[:5555:5556] of a LeKiwi's host; HOST[:8000] of
    /// Reachy Mini's daemon; can0 or slcan:PATH for CAN motors. BUS=PORT, once for each, where it has several buses
    #[arg(long, value_name = "[BUS=]PORT")]
    pub port: Vec<PortArg>,
    /// What its owner calls the robot: the name of its calibration file; without it the only one there is
    #[arg(long, value_name = "NAME", requires = "port")]
    pub id: Option<String>,
    /// Give the motors the file's calibration where they hold another
    #[arg(long, requires = "port")]
    pub write_calibration: bool,
    /// Switch torque off where a setting needs that: the arm may sink
    #[arg(long, requires = "port")]
    pub may_go_limp: bool,
    /// The most that the adapter of a serial port adds to an answer's way, milliseconds; without it 4; 20 for an FTDI whose
    /// latency timer nobody has set
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=100), requires = "port")]
    pub latency_ms: Option<u64>,
    /// How long a lost serial port is waited for, seconds, before the run ends; without it 10. The robot holds meanwhile. 0:
    /// it ends at once
    #[arg(long, value_name = "S", value_parser = zero_or_above, requires = "port")]
    pub reconnect: Option<f64>,
    /// LeKiwi: the word that its host and its clients share. Better put into SINEW_TOKEN, as others of this machine see options
    #[arg(long, requires = "port")]
    pub token: Option<String>,
    /// What the robot's motors do at the end, instead of what its robot.toml says
    #[arg(long, value_enum, requires = "port")]
    pub on_exit: Option<ExitMode>,
    /// Ticks a second, instead of what its robot.toml says
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1..=1000), requires = "port")]
    pub fps: Option<u32>,
}

/// How long a lost port is waited for where nothing is said.
const RECONNECT_S: f64 = 10.0;

impl HardwareArgs {
    /// An option that was given and means nothing without a port. (An option that `requires` another is let pass where that
    /// one conflicts with a third.)
    pub fn needs_port(&self) -> Option<&'static str> {
        let given = [
            ("--id", self.id.is_some()),
            ("--write-calibration", self.write_calibration),
            ("--may-go-limp", self.may_go_limp),
            ("--latency-ms", self.latency_ms.is_some()),
            ("--reconnect", self.reconnect.is_some()),
            ("--token", self.token.is_some()),
            ("--on-exit", self.on_exit.is_some()),
            ("--fps", self.fps.is_some()),
            ("--rig", self.rig_file.is_some()),
        ];
        given.into_iter().find(|(_, is_given)| *is_given).map(|(option, _)| option)
    }

    /// How long what is lost is waited for.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.reconnect.unwrap_or(RECONNECT_S))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExitMode {
    /// Stay where they are, with torque
    Hold,
    /// No torque: the arm sinks
    Limp,
}

impl From<ExitMode> for StopBehaviour {
    fn from(mode: ExitMode) -> Self {
        match mode {
            ExitMode::Hold => Self::Hold,
            ExitMode::Limp => Self::Limp,
        }
    }
}

/// Who leads a robot, and where he is.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Teleoperator")]
pub struct LeaderArgs {
    /// Who acts: a leader arm's name (see `sinew robots`) or a folder with its robot.toml; gamepad[:DEVICE], spacemouse[:DEVICE],
    /// keyboard (joints), keyboard_ee (a tool), keyboard_rover or keyboard_lekiwi (a base); in the simulator scripted, who knows where
    /// everything is and works the task as a careful human would
    #[arg(long, value_name = "TELEOPERATOR")]
    pub teleop: Option<Teleop>,
    /// The leader arm's serial port, as --port
    #[arg(long, value_name = "[BUS=]PORT", requires = "teleop")]
    pub teleop_port: Vec<PortArg>,
    /// The name of the leader arm's calibration file; without it the only one there is
    #[arg(long, value_name = "NAME", requires = "teleop_port")]
    pub teleop_id: Option<String>,
    /// The robot follows as if it saw the leader arm in a mirror, which the robot's geometry says how to
    #[arg(long, requires = "teleop_port")]
    pub mirror: bool,
    /// The leader arm hangs loose while a policy acts, instead of being carried along
    #[arg(long, requires = "teleop_port")]
    pub loose: bool,
}

/// Who acts instead of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Teleop {
    /// Knows the simulator's world.
    Scripted,
    /// A gamepad, a keyboard and the like.
    Device(TeleopKind),
    /// A leader arm, by its name or the folder of its description.
    Leader(String),
}

impl FromStr for Teleop {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.parse() {
            _ if text == "scripted" => Self::Scripted,
            Ok(kind) => Self::Device(kind),
            Err(_) => Self::Leader(text.to_owned()),
        })
    }
}

/// The options of `sinew teleop`.
#[derive(Args, Clone)]
#[command(
    after_help = "The robot follows the leader arm joint by joint, in LeRobot's units, through the safety gate. It comes to the leader's\n\
        pose slowly and never jumps; it holds when the leader is silent. Ctrl-C ends it: the robot's motors then hold, unless --on-exit\n\
        limp is given.\n\nExamples:\n  \
        sinew teleop --robot so101 --port /dev/ttyACM0 --id blue --teleop so101_leader --teleop-port /dev/ttyACM1 --teleop-id black\n  \
        sinew teleop --robot bi_so --port left=/dev/ttyACM0 --port right=/dev/ttyACM1 --teleop bi_so_leader \\\n      \
        --teleop-port left=/dev/ttyACM2 --teleop-port right=/dev/ttyACM3 --fps 60\n  \
        sinew teleop --robot so101 --port usb:58FA0834591 --teleop so101_leader --teleop-port usb:5A46082310 --seconds 60 --json"
)]
pub struct TeleopArgs {
    /// A robot's name (see `sinew robots`) or a folder with a robot.toml
    #[arg(long, default_value = "so101")]
    pub robot: String,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// A camera and where its images come from, as in `sinew record`; for --rerun-connect
    #[arg(long, value_name = "NAME=SOURCE", requires = "rerun_connect", help_heading = "Hardware")]
    pub camera: Vec<CameraAddress>,
    /// Show the robot, and its cameras, in a running Rerun viewer, such as 127.0.0.1:9876, instead of a table
    #[arg(long, value_name = "ADDR")]
    pub rerun_connect: Option<String>,
    /// End after so many seconds; without it, when it is told to
    #[arg(long, value_name = "S", value_parser = above_zero)]
    pub seconds: Option<f64>,
    #[command(flatten)]
    pub realtime: super::RealtimeArgs,
    /// How it went as one JSON line on stdout: cadence, and for each motor reads, retries, errors by kind, longest age
    #[arg(long)]
    pub json: bool,
}
