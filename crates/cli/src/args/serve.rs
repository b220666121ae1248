//! The options of `sinew serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::ComputeArgs;
use super::values::address;

#[derive(Args, Clone)]
#[command(after_help = "Clients speak openpi's websocket protocol: openpi-client, or `sinew rollout --policy ws://HOST:8000`. They send \
        LeRobot's names (observation.state, observation.images.NAME, prompt), in the units of the policy's dataset, and get its actions. \
        Clients take turns. The server keeps nothing of them. Ctrl-C ends it.\n\n\
        /healthz answers 200 once the policy is loaded and warm; /metrics is for Prometheus.\n\n\
        With --zenoh it serves LeRobot's remote inference, too (`sinew rollout --policy zenoh://127.0.0.1:7447/sinew`), to one client at a time.\n\n\
        It listens on 127.0.0.1. Nothing is encrypted, not even the token: to reach it from another machine, use an SSH tunnel \
        (ssh -L 8000:127.0.0.1:8000 GPU), or a proxy with TLS.\n\n\
        Examples:\n  sinew serve\n  sinew rollout --policy ws://127.0.0.1:8000\n  \
        sinew serve lerobot-user/smolvla_so101 --robot so101\n  \
        sinew serve --zenoh tcp/127.0.0.1:7447 --deployment pick\n  \
        SINEW_SERVE_TOKEN=… sinew serve ./checkpoint --listen 10.0.0.7:8000 \\\n      \
        --token-env SINEW_SERVE_TOKEN")]
pub struct ServeArgs {
    /// A checkpoint folder, or owner/name[@revision] on the Hub [default: the demonstration policy]
    pub policy: Option<String>,
    /// The address to listen on. Another than 127.0.0.1 needs --token-env. Port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8000", value_parser = address)]
    pub listen: SocketAddr,
    /// The environment variable with the token that clients have to send
    #[arg(long, value_name = "NAME")]
    pub token_env: Option<String>,
    /// How many clients may be connected at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = super::whole::<u16>(1..=256))]
    pub max_clients: u16,
    /// The robot that the policy is for: clients are told its names, units and rate, and its fit is checked [default: so101 for the demonstration policy]
    #[arg(long)]
    pub robot: Option<String>,
    /// Serve LeRobot's remote inference, too, on this address of zenoh's, such as tcp/127.0.0.1:7447
    ///
    /// Another address than this machine's own needs tls/ and --zenoh-config, or --zenoh-insecure. Port 0 picks a free one.
    #[arg(long, value_name = "PROTOCOL/ADDR:PORT")]
    pub zenoh: Option<String>,
    /// With --zenoh: the name by which clients ask for the policy
    #[arg(long, value_name = "NAME", default_value = "sinew", requires = "zenoh")]
    pub deployment: String,
    /// With --zenoh: zenoh's own configuration (JSON5)
    ///
    /// It has certificates and rights.
    #[arg(long, value_name = "FILE", requires = "zenoh")]
    pub zenoh_config: Option<PathBuf>,
    /// With --zenoh: whoever reaches the address may ask
    ///
    /// Nothing is encrypted then.
    #[arg(long, requires = "zenoh")]
    pub zenoh_insecure: bool,
    /// The instruction for clients that send none
    #[arg(long, value_name = "TEXT")]
    pub instruction: Option<String>,
    /// Print a JSON line when it is ready, and one at the end
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub compute: ComputeArgs,
}
