//! The options of `sinew lekiwi-host`.

use std::net::IpAddr;

use clap::Args;

use sinew_drivers::camera::CameraAddress;

use super::{HardwareArgs, RealtimeArgs, above_zero, whole};

const NETWORK: &str = "Network";

#[derive(Args, Clone)]
#[command(after_help = "Run this on the LeKiwi's own computer. It replaces LeRobot's lekiwi_host and speaks the same protocol. Commands \
        pass the safety gate. One client commands at a time, all may watch, and a client may leave at any time. 500 ms \
        after the last command the base brakes and the arm holds its position. Ctrl-C ends it.\n\n\
        It listens on 127.0.0.1 and serves clients that know the token. Nothing is encrypted, not even the token. To \
        reach it from another machine, use an SSH tunnel (ssh -L 5555:127.0.0.1:5555 -L 5556:127.0.0.1:5556 KIWI).\n\n\
        Examples:\n  \
        SINEW_TOKEN=… sinew lekiwi-host --port /dev/ttyACM0 --id my_kiwi\n  \
        sinew lekiwi-host --port /dev/ttyACM0 --id my_kiwi --bind 10.0.0.7\n      \
        (a token is made up and shown)\n  \
        sinew lekiwi-host --port /dev/ttyACM0 --id my_kiwi --bind 10.0.0.7 \\\n      \
        --lerobot-clients")]
pub struct LekiwiHostArgs {
    /// A robot by name (see `sinew robots`), or its folder
    #[arg(long, default_value = "lekiwi")]
    pub robot: String,
    /// Stop after this many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "S", value_parser = above_zero)]
    pub seconds: Option<f64>,
    /// Print a JSON line at the end: as for `sinew teleop`, and what the clients did
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A camera for the clients, by its name in robot.toml, for example front=/dev/video0. Give it once for each camera
    #[arg(long, value_name = "NAME=SOURCE", help_heading = "Hardware")]
    pub camera: Vec<CameraAddress>,
    /// The address to listen on [default: 127.0.0.1, which only programs on this machine can reach]
    #[arg(long, value_name = "ADDR", help_heading = NETWORK)]
    pub bind: Option<IpAddr>,
    /// The port for commands. 0 picks a free one
    #[arg(long, value_name = "PORT", help_heading = NETWORK, default_value_t = 5555, value_parser = whole::<u16>(0..=65535))]
    pub command_port: u16,
    /// The port for observations. 0 picks a free one
    #[arg(long, value_name = "PORT", help_heading = NETWORK, default_value_t = 5556, value_parser = whole::<u16>(0..=65535))]
    pub observation_port: u16,
    /// Serve clients without a token, such as LeRobot's. Anyone who can reach --bind can then drive the robot
    #[arg(long, help_heading = NETWORK)]
    pub lerobot_clients: bool,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
}
