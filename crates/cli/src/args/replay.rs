//! The options of `sinew replay`.

use std::path::PathBuf;

use clap::Args;

use super::{HardwareArgs, Pace, RealtimeArgs, RigArgs};

#[derive(Args, Clone)]
#[command(after_help = "The robot moves slowly to the start of the episode, and then repeats what was recorded, at the dataset's rate \
        and through the safety gate. The dataset must fit the robot: names, their order and their units are compared \
        first.\n\n\
        Examples:\n  \
        sinew replay my_dataset --episode 3 --robot so101 --port /dev/ttyACM0 \\\n      \
        --id blue\n  \
        sinew replay lerobot/svla_so101_pickplace --episode 0 --rig kitchen\n  \
        sinew replay my_dataset --task pick-place --seed 7")]
pub struct ReplayArgs {
    /// A dataset: a folder, or owner/name[@revision] on the Hub
    pub dataset: PathBuf,
    /// The episode to replay, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub episode: u64,
    #[command(flatten)]
    pub rig: RigArgs,
    /// Replay in the embedded simulator. This is the default without --port
    #[arg(long, conflicts_with = "port", hide_short_help = true)]
    pub sim: bool,
    /// Run the simulator in real time, or as fast as the machine can [default: fast]
    #[arg(long, value_enum, conflicts_with = "port")]
    pub pace: Option<Pace>,
    #[arg(long, hide = true, conflicts_with_all = ["pace", "port"])]
    pub real_time: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    #[command(flatten)]
    pub realtime: RealtimeArgs,
    /// Print the result as JSON on standard output
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
