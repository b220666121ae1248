//! The options of `sinew lekiwi-host`.

use std::net::IpAddr;

use clap::Args;

use sinew_drivers::camera::CameraAddress;

use super::{HardwareArgs, RealtimeArgs, above_zero};

const NETWORK: &str = "Network";

#[derive(Args, Clone)]
#[command(
    after_help = "It runs on the computer that rides on the LeKiwi, in the place of LeRobot's lekiwi_host, and speaks its protocol. What clients\n\
        want passes the safety gate. One client commands at a time, all may watch; one that goes ends nothing. 500 ms after the\n\
        last command the base is braked, and the arm holds. Ctrl-C ends it in order.\n\n\
        It listens on 127.0.0.1 and serves clients that know the token. The token is not encrypted, nor is anything else: to\n\
        reach it from another machine, an SSH tunnel is best (ssh -L 5555:127.0.0.1:5555 -L 5556:127.0.0.1:5556 KIWI).\n\nExamples:\n  \
        SINEW_TOKEN=… sinew lekiwi-host --port /dev/ttyACM0 --id my_kiwi\n  \
        sinew lekiwi-host --port /dev/ttyACM0 --id my_kiwi --bind 10.0.0.7    (a token is made up and shown)\n  \
        sinew lekiwi-host --port /dev/ttyACM0 --id my_kiwi --bind 10.0.0.7 --lerobot-clients"
)]
pub struct LekiwiHostArgs {
    /// The robot's name (see `sinew robots`) or a folder with its robot.toml
    #[arg(long, default_value = "lekiwi")]
    pub robot: String,
    /// End after so many seconds; without it, when it is told to
    #[arg(long, value_name = "S", value_parser = above_zero)]
    pub seconds: Option<f64>,
    /// How it went as one JSON line on stdout: as of `sinew teleop`, and what clients did
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A camera that clients are shown, by its name in robot.toml, such as front=sim:SOCKET; may be given several times
    #[arg(long, value_name = "NAME=SOURCE", help_heading = "Hardware")]
    pub camera: Vec<CameraAddress>,
    /// The address of this machine to listen on; without it 127.0.0.1, which only programs of this machine reach
    #[arg(long, value_name = "ADDR", help_heading = NETWORK)]
    pub bind: Option<IpAddr>,
    /// Where commands are taken; 0: any port that is free
    #[arg(long, value_name = "PORT", help_heading = NETWORK, default_value_t = 5555)]
    pub command_port: u16,
    /// Where observations are given
    #[arg(long, value_name = "PORT", help_heading = NETWORK, default_value_t = 5556)]
    pub observation_port: u16,
    /// Serve clients that know no token, as LeRobot's don't: whoever reaches --bind can drive the robot
    #[arg(long, help_heading = NETWORK)]
    pub lerobot_clients: bool,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
}
