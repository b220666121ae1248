//! Which motors and cameras a verb works with.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use sinew_core::StopBehaviour;
use sinew_drivers::camera::CameraAddress;
use sinew_drivers::teleop::TeleopKind;
use sinew_remote::{FleetPlace, RobotName};

use super::values::{plain_name, viewer};
use super::{Misuse, PortArg, above_zero, refuse_given, whole, zero_or_above};

/// Where the motors of a robot are, and how they are met.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Hardware")]
pub struct HardwareArgs {
    /// Use the options stored in this rig (see `sinew rig`)
    #[arg(long = "rig", value_name = "NAME|FILE")]
    pub rig_file: Option<String>,
    /// The robot's port, such as /dev/ttyACM0 (see `sinew find-port`)
    ///
    /// A path or usb:SERIAL. Also zmq://HOST[:5555:5556] for a LeKiwi's host, HOST[:8000] for Reachy Mini's daemon, and can0 or slcan:PATH for CAN motors.
    /// For several buses, give BUS=PORT once for each.
    #[arg(long, value_name = "[BUS=]PORT")]
    pub port: Vec<PortArg>,
    /// The name of the robot's calibration file [default: the only one]
    #[arg(long, value_parser = plain_name, value_name = "NAME")]
    pub id: Option<String>,
    /// Write the calibration from the file to the motors if they hold a different one
    #[arg(long, hide_short_help = true)]
    pub write_calibration: bool,
    /// Allow torque to be switched off where a setting requires it. The arm may sink
    #[arg(long, hide_short_help = true)]
    pub may_go_limp: bool,
    /// The latency that the serial adapter adds, in milliseconds, 1 to 100 [default: 4]. Use 20 for an FTDI whose latency timer was never set
    #[arg(long, value_name = "MS", value_parser = whole::<u64>(1..=100), hide_short_help = true)]
    pub latency_ms: Option<u64>,
    /// How many seconds to wait for a lost serial port before the run ends [default: 10]. The robot holds its position meanwhile. 0 ends at once
    #[arg(long, value_name = "S", value_parser = zero_or_above, hide_short_help = true)]
    pub reconnect: Option<f64>,
    /// The token of a LeKiwi's host. Better: set SINEW_TOKEN, because other users of this machine can see options
    #[arg(long, hide_short_help = true)]
    pub token: Option<String>,
    /// What the motors do at the end [default: as the robot.toml says]
    #[arg(long, value_enum, hide_short_help = true)]
    pub on_exit: Option<ExitMode>,
    /// The control rate in Hz, 1 to 1000 [default: as the robot.toml says]
    #[arg(long, value_name = "HZ", value_parser = whole::<u32>(1..=1000), hide_short_help = true)]
    pub fps: Option<u32>,
}

/// How long a lost port is waited for where nothing is said.
const RECONNECT_S: f64 = 10.0;

impl HardwareArgs {
    /// The options that mean nothing without a port, and whether each was given. (clap's `requires` would let an option
    /// pass where the one that it requires conflicts with a third.)
    pub fn given(&self) -> [(&'static str, bool); 9] {
        [
            ("--id", self.id.is_some()),
            ("--write-calibration", self.write_calibration),
            ("--may-go-limp", self.may_go_limp),
            ("--latency-ms", self.latency_ms.is_some()),
            ("--reconnect", self.reconnect.is_some()),
            ("--token", self.token.is_some()),
            ("--on-exit", self.on_exit.is_some()),
            ("--fps", self.fps.is_some()),
            ("--rig", self.rig_file.is_some()),
        ]
    }

    /// How long what is lost is waited for.
    pub fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.reconnect.unwrap_or(RECONNECT_S))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExitMode {
    /// Hold their position
    Hold,
    /// Switch torque off; the arm sinks
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
    /// A leader arm (see `sinew robots`), gamepad, keyboard or scripted
    ///
    /// A leader arm by name or by folder; gamepad[:DEVICE], spacemouse[:DEVICE], keyboard (joints), keyboard_ee (tool),
    /// keyboard_rover or keyboard_lekiwi (base); in the simulator (rollout, record) also scripted, which solves the task by itself.
    /// zenoh:NAME is somebody in another room, who runs `sinew teleop --to NAME`; both need --fleet.
    #[arg(long, value_name = "TELEOPERATOR")]
    pub teleop: Option<Teleop>,
    /// The port of the leader arm, written as for --port
    #[arg(long, value_name = "[BUS=]PORT", requires = "teleop")]
    pub teleop_port: Vec<PortArg>,
    /// The name of the leader arm's calibration file [default: the only one]
    #[arg(long, value_parser = plain_name, value_name = "NAME", requires = "teleop_port")]
    pub teleop_id: Option<String>,
    /// Mirror the motion of the leader arm from left to right
    #[arg(long, requires = "teleop_port", hide_short_help = true)]
    pub mirror: bool,
    /// In rollout, let the leader arm hang loose while the policy acts, instead of moving it along
    #[arg(long, requires = "teleop_port", hide_short_help = true)]
    pub loose: bool,
    /// Where robots meet: tcp/HOST:PORT, or a file of zenoh's configuration
    ///
    /// listen:tcp/127.0.0.1:PORT makes this machine the place. The file is JSON5. Used by --teleop zenoh:NAME and --to NAME, and by the daemon, which tells of the robot there.
    #[arg(long, value_name = "PLACE", help_heading = "Fleet")]
    pub fleet: Option<FleetPlace>,
}

impl LeaderArgs {
    /// Whether it is said where somebody who leads from afar is met. A place that nobody is met at may come from the user's defaults.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_fleet(&self) -> Result<(), Misuse> {
        match (&self.teleop, &self.fleet) {
            (Some(Teleop::Afar(name)), None) => {
                Err(Misuse(format!("--teleop zenoh:{name}: expected --fleet PLACE with it, where its leader is met")))
            }
            _ => Ok(()),
        }
    }

    /// The options that mean nothing without a leader arm, and whether each was given.
    pub fn given(&self) -> [(&'static str, bool); 4] {
        [
            ("--teleop-port", !self.teleop_port.is_empty()),
            ("--teleop-id", self.teleop_id.is_some()),
            ("--mirror", self.mirror),
            ("--loose", self.loose),
        ]
    }
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
    /// Somebody in another room, who leads the robot of this name.
    Afar(RobotName),
}

impl FromStr for Teleop {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(name) = text.strip_prefix("zenoh:") {
            return name.parse().map(Self::Afar);
        }
        Ok(match text.parse() {
            _ if text.is_empty() => return Err("expected a teleoperator, found nothing in it"),
            _ if text == "scripted" => Self::Scripted,
            Ok(kind) => Self::Device(kind),
            Err(_) => Self::Leader(text.to_owned()),
        })
    }
}

/// The options of `sinew teleop`.
#[derive(Args, Clone)]
#[command(after_help = "The robot follows the leader arm joint by joint, in LeRobot's units, through the safety gate. It moves to the \
        leader's pose slowly and never jumps. It holds its position when the leader stops answering. Ctrl-C ends it; \
        the motors then hold their position, unless --on-exit limp is given.\n\n\
        Examples:\n  \
        sinew teleop --robot so101 --port /dev/ttyACM0 --id blue \\\n      \
        --teleop so101_leader --teleop-port /dev/ttyACM1 --teleop-id black\n  \
        sinew teleop --robot bi_so --port left=/dev/ttyACM0 \\\n      \
        --port right=/dev/ttyACM1 --teleop bi_so_leader \\\n      \
        --teleop-port left=/dev/ttyACM2 --teleop-port right=/dev/ttyACM3 --fps 60\n  \
        sinew teleop --robot so101 --port usb:58FA0834591 --teleop so101_leader \\\n      \
        --teleop-port usb:5A46082310 --seconds 60 --json\n  \
        sinew teleop --robot so101 --port /dev/ttyACM0 --teleop zenoh:kitchen-1 \\\n      \
        --fleet tcp/router.local:7447\n  \
        sinew teleop --robot so101 --to kitchen-1 --fleet tcp/router.local:7447 \\\n      \
        --teleop so101_leader --teleop-port /dev/ttyACM1")]
pub struct TeleopArgs {
    /// A robot by name (see `sinew robots`), or its folder
    #[arg(long, default_value = "so101")]
    pub robot: String,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// Lead the robot of this name, which is in another room and runs with --teleop zenoh:NAME. --robot says what it is
    #[arg(long, value_name = "NAME", help_heading = "Fleet")]
    pub to: Option<RobotName>,
    /// A camera, written as for `sinew record`. Only used with --rerun-connect
    #[arg(long, value_name = "NAME=SOURCE", requires = "rerun_connect", help_heading = "Hardware", hide_short_help = true)]
    pub camera: Vec<CameraAddress>,
    /// Show the robot and its cameras in a running Rerun viewer, for example 127.0.0.1:9876, instead of a table
    #[arg(long, value_name = "ADDR", value_parser = viewer, hide_short_help = true)]
    pub rerun_connect: Option<String>,
    /// Stop after this many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "S", value_parser = above_zero)]
    pub seconds: Option<f64>,
    #[command(flatten)]
    pub realtime: super::RealtimeArgs,
    /// Print a JSON line at the end: the cadence, and for each motor its reads, retries, errors and longest age
    #[arg(long)]
    pub json: bool,
}

impl TeleopArgs {
    /// # Errors
    /// Without a port, as there is nobody to lead in the simulator; and for a robot that is led in another room, with what is for its side.
    pub fn check(&self) -> Result<(), Misuse> {
        let Some(to) = &self.to else {
            if self.hardware.port.is_empty() {
                return Err(Misuse(format!("teleoperating {}: expected --port PORT (`sinew find-port` lists ports)", self.robot)));
            }
            return self.leader.check_fleet();
        };
        let why = "is for the robot's side, and --to leads one that is elsewhere";
        refuse_given(&[("--port", !self.hardware.port.is_empty()), ("--rerun-connect", self.rerun_connect.is_some())], why)?;
        // How a lost port is waited for, and its latency, count for a leader arm, too.
        let theirs = ["--id", "--on-exit", "--fps", "--token"];
        refuse_given(&self.hardware.given().into_iter().filter(|(option, _)| theirs.contains(option)).collect::<Vec<_>>(), why)?;
        if self.leader.fleet.is_none() {
            return Err(Misuse(format!("--to {to}: expected --fleet PLACE with it, where the robot is met")));
        }
        match &self.leader.teleop {
            Some(Teleop::Leader(_)) => Ok(()),
            Some(Teleop::Device(kind)) if !kind.needs_keys() => Ok(()),
            _ => Err(Misuse(format!("--to {to}: expected --teleop with a leader arm, gamepad or spacemouse, which leads it"))),
        }
    }
}
