//! The options of `sinew replay`.

use std::path::PathBuf;

use clap::Args;

use super::{HardwareArgs, Misuse, NEEDS_PORT, Pace, RealtimeArgs, refuse_given, values::seed, whole};

#[derive(Args, Clone)]
#[command(after_help = "The robot moves slowly to the start of the episode, and then repeats what was recorded, at the dataset's rate \
        and through the safety gate. The dataset must fit the robot: names, their order and their units are compared \
        first. In the simulator, the scene is the one in which the episode was recorded, where it was recorded there.\n\n\
        Examples:\n  \
        sinew replay my_dataset --episode 3 --robot so101 --port /dev/ttyACM0 \\\n      \
        --id blue\n  \
        sinew replay lerobot/svla_so101_pickplace --episode 0 --rig kitchen\n  \
        sinew replay my_dataset --episode 7")]
pub struct ReplayArgs {
    /// A dataset: a folder, or owner/name[@revision] on the Hub
    pub dataset: PathBuf,
    /// The episode to replay, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole::<u64>(0..=u64::MAX))]
    pub episode: u64,
    /// A robot by name (see `sinew robots`), or its folder
    #[arg(long, default_value = "so101")]
    pub robot: String,
    /// The simulator's task, whose scene is set: reach, push, pick-place or sort [default: the one that was recorded]
    #[arg(long)]
    pub task: Option<String>,
    /// The seed of the simulator's scene [default: the one that was recorded, else 0]
    #[arg(long, value_parser = seed)]
    pub seed: Option<u64>,
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
    /// Refuses options that mean nothing beside the others.
    ///
    /// # Errors
    /// When one was given.
    pub fn check(&self) -> Result<(), Misuse> {
        if self.is_simulated() {
            return refuse_given(&self.hardware.given(), NEEDS_PORT);
        }
        let scene = [("--task", self.task.is_some()), ("--seed", self.seed.is_some())];
        refuse_given(&scene, "sets a scene of the simulator, and --port names a robot")
    }

    /// Whether there is no robot behind a port.
    pub fn is_simulated(&self) -> bool {
        self.hardware.port.is_empty()
    }

    pub fn is_real_time(&self) -> bool {
        !self.is_simulated() || self.real_time || self.pace == Some(Pace::Real)
    }
}
