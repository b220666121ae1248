//! The options of `sinew replay`.

use std::path::PathBuf;

use clap::Args;

use super::{HardwareArgs, RealtimeArgs, RigArgs};

#[derive(Args, Clone)]
#[command(
    after_help = "The robot comes slowly to where the episode begins, and then does what was recorded, tick by tick at the dataset's rate,\n\
        through the safety gate. The dataset must be of such a robot: its names, their order and their units are compared first.\n\n\
        Examples:\n  \
        sinew replay my_dataset --episode 3 --robot so101 --port /dev/ttyACM0 --id blue\n  \
        sinew replay lerobot/svla_so101_pickplace --episode 0 --rig kitchen\n  \
        sinew replay my_dataset --sim --task pick-place --seed 7"
)]
pub struct ReplayArgs {
    /// A dataset's folder, or owner/name[@revision] on the Hub
    pub dataset: PathBuf,
    /// The episode, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub episode: u64,
    #[command(flatten)]
    pub rig: RigArgs,
    /// In the embedded simulator, as fast as the machine can
    #[arg(long, required_unless_present = "port", conflicts_with = "port")]
    pub sim: bool,
    /// In the simulator: real time
    #[arg(long, requires = "sim")]
    pub real_time: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
    /// How it went as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}
