//! The options of `sinew daemon`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sinew_drivers::camera::CameraAddress;
use sinew_remote::{FleetPlace, RobotName};

use super::values::{address, host_name};
use super::{HardwareArgs, LeaderArgs, Misuse, NEEDS_PORT, RealtimeArgs, RigArgs, above_zero, refuse_given, whole};

#[derive(Args, Clone)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "It owns one robot and offers it to a web page and to programs, over HTTP and WebSocket. It prints the page's \
        address with a token. Nothing moves because it starts. Without --port the robot is in the embedded simulator. Ctrl-C ends it.\n\n\
        Another address than 127.0.0.1 needs a token that is there before: `sinew daemon token` makes it. Without --https nothing is encrypted.\n\n\
        With --fleet it tells its state, events and images over zenoh, too, and takes a stop from there (`sinew fleet`).\n\n\
        Examples:\n  sinew daemon --rig kitchen\n  sinew daemon --robot so101 --port /dev/ttyACM0 --id blue\n  \
        sinew daemon --robot so101 --task pick-place --listen 127.0.0.1:0\n  \
        sinew daemon --rig kitchen --fleet tcp/router.local:7447\n  sinew daemon pair --role operate\n  sinew daemon install --dry-run -- --rig kitchen")]
pub struct DaemonArgs {
    #[command(subcommand)]
    pub command: Option<DaemonCommand>,
    #[command(flatten)]
    pub rig: RigArgs,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A camera, written as for `sinew record`. Give it once for each
    #[arg(long, value_name = "NAME=SOURCE", help_heading = "Hardware")]
    pub camera: Vec<CameraAddress>,
    #[command(flatten)]
    pub leader: LeaderArgs,
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8450", value_parser = address)]
    pub listen: SocketAddr,
    /// Speak HTTPS, with a certificate of its own that it makes once; this machine alone may still speak HTTP
    #[arg(long)]
    pub https: bool,
    /// A name by which this machine is reached, beside IP addresses, localhost and NAME.local. Give it once for each
    #[arg(long, value_name = "NAME", value_parser = host_name, hide_short_help = true)]
    pub host: Vec<String>,
    /// Do not announce it by mDNS, by which others on the network find it where it listens at another address than 127.0.0.1
    #[arg(long, hide_short_help = true)]
    pub no_mdns: bool,
    /// The folder for the token, paired devices and the lock [default: ~/.local/state/sinew]
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    pub state: Option<PathBuf>,
    /// The folder of the datasets that are recorded [default: datasets in the folder of --state]
    #[arg(long, value_name = "DIR")]
    pub datasets: Option<PathBuf>,
    /// What the robot is called in its fleet, and by mDNS: lower-case letters, digits and - [default: this machine's name]
    #[arg(long, value_name = "NAME", hide_short_help = true, help_heading = "Fleet")]
    pub fleet_name: Option<RobotName>,
    /// Be a node of ROS 2, in this ROS_DOMAIN_ID [default: 0], for nodes with RMW_IMPLEMENTATION=rmw_zenoh_cpp. ROS itself is not needed here
    #[arg(long, value_name = "DOMAIN", num_args = 0..=1, default_missing_value = "0", value_parser = whole::<u32>(0..=232), help_heading = "Fleet")]
    pub ros2: Option<u32>,
    /// With --ros2: where rmw_zenohd is, as for --fleet
    #[arg(
        long,
        value_name = "PLACE",
        default_value = "tcp/127.0.0.1:7447",
        requires = "ros2",
        hide_short_help = true,
        help_heading = "Fleet"
    )]
    pub ros2_at: FleetPlace,
    /// With --ros2: take trajectories, while teleoperation with the leader remote runs and nobody has the operator's lease
    #[arg(long, requires = "ros2", hide_short_help = true, help_heading = "Fleet")]
    pub ros2_commands: bool,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
    /// Print a JSON line when it is ready
    #[arg(long, hide_short_help = true)]
    pub json: bool,
}

impl DaemonArgs {
    /// Refuses options that mean nothing in the simulator.
    ///
    /// # Errors
    /// When one was given there.
    pub fn check(&self) -> Result<(), Misuse> {
        self.leader.check_fleet()?;
        if self.leader.fleet.is_none() && self.ros2.is_none() {
            let is_found = !self.listen.ip().is_loopback() && !self.no_mdns;
            let why = "is for --fleet, --ros2, or another --listen than this machine's, where it is found by mDNS";
            refuse_given(&[("--fleet-name", self.fleet_name.is_some() && !is_found)], why)?;
        }
        if !self.hardware.port.is_empty() || self.command.is_some() {
            return Ok(());
        }
        refuse_given(&self.hardware.given(), NEEDS_PORT)?;
        refuse_given(&self.leader.given(), NEEDS_PORT)?;
        refuse_given(&[("--camera", !self.camera.is_empty())], NEEDS_PORT)
    }
}

#[derive(Subcommand, Clone)]
pub enum DaemonCommand {
    /// Show six digits with which another device gets a token
    #[command(after_help = "Example:\n  sinew daemon pair --role look")]
    Pair {
        /// What the device may do
        #[arg(long, value_enum, default_value_t = RoleArg::Operate)]
        role: RoleArg,
        /// The daemon's folder [default: ~/.local/state/sinew]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Print the owner's token, which is made if there is none
    #[command(after_help = "Example:\n  sinew daemon token")]
    Token {
        /// The daemon's folder [default: ~/.local/state/sinew]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// List the daemons on this network, which are found by mDNS
    #[command(after_help = "They listen at another address than 127.0.0.1 and were not started with --no-mdns. Where a network \
        lets no multicast through, none is found: use their addresses.\n\nExamples:\n  sinew daemon find\n  sinew daemon find --json")]
    Find {
        /// How long to wait for answers, in seconds
        #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = above_zero)]
        within: f64,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Show and write what starts the daemon at boot
    #[command(
        after_help = "That is a systemd unit, udev rules, and real-time limits. Options of the daemon stand behind --. It asks before it writes. Files that are there are replaced only if \
        they were written by this command.\n\n\
        Examples:\n  sinew daemon install --dry-run -- --rig kitchen\n  sudo sinew daemon install -- --rig kitchen"
    )]
    Install(InstallArgs),
}

#[derive(Args, Clone)]
pub struct InstallArgs {
    /// The user that the daemon runs as [default: the one who calls sudo]
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// Write below this folder instead of /, for an image of another machine
    #[arg(long, value_name = "DIR", default_value = "/", hide_short_help = true)]
    pub image: PathBuf,
    /// Show it, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Options of the daemon
    #[arg(last = true, value_name = "OPTIONS")]
    pub options: Vec<String>,
}

/// What a device may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// See everything, and stop the robot
    Look,
    /// Move it, too
    Operate,
    /// Pair other devices, too
    Administer,
}
