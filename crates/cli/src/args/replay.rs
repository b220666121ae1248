//! The options of `sinew replay`.

use std::path::PathBuf;

use clap::Args;

use super::{HardwareArgs, Pace, RealtimeArgs, RigArgs};

#[derive(Args, Clone)]
#[command(
    after_help = "The robot comes slowly to where the episode begins, and then does what was recorded, tick by tick at the dataset's rate,\n\
        through the safety gate. The dataset must be of such a robot: its names, their order and their units are compared first.\n\n\
        Examples:\n  \
        sinew replay my_dataset --episode 3 --robot so101 --port /dev/ttyACM0 --id blue\n  \
        sinew replay lerobot/svla_so101_pickplace --episode 0 --rig kitchen\n  \
        sinew replay my_dataset --task pick-place --seed 7"
)]
pub struct ReplayArgs {
    /// A dataset's folder, or owner/name[@revision] on the Hub
    pub dataset: PathBuf,
    /// The episode, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub episode: u64,
    #[command(flatten)]
    pub rig: RigArgs,
    /// In the embedded simulator, which is where it replays without --port
    #[arg(long, conflicts_with = "port")]
    pub sim: bool,
    /// On which clock the simulator runs; without it fast
    #[arg(long, value_enum, conflicts_with = "port")]
    pub pace: Option<Pace>,
    #[arg(long, hide = true, conflicts_with_all = ["pace", "port"])]
    pub real_time: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
    /// How it went as one JSON line on stdout
    #[arg(long)]
    pub json: bool,
}

impl ReplayArgs {
    /// Whether there is no robot behind a port.
    pub fn is_simulated(&self) -> bool {
        self.hardware.port.is_empty()
    }

    pub fn is_real_time(&self) -> bool {
        !self.is_simulated() || self.real_time || self.pace == Some(Pace::Real)
    }
}
