//! Words of `sinew train`.

use std::path::PathBuf;

use clap::Args;

use super::whole;

/// What says how a training is begun, which one that runs knows already.
const BEGINS: [&str; 15] = [
    "policy",
    "from",
    "on",
    "python",
    "steps",
    "batch_size",
    "push",
    "private",
    "flavor",
    "image",
    "timeout",
    "commercial",
    "dry_run",
    "extra",
    "dataset",
];

#[derive(Args)]
#[command(after_help = "Writes the command line for LeRobot's trainer, checks that the dataset has what the policy needs, starts the \
        training, follows it, fetches the checkpoint and checks it. Run again with the same --out, it finds the running \
        training.\n\n\
        Examples:\n  \
        sinew train my_dataset --policy act --on local --python ~/lerobot/bin/python\n  \
        sinew train ada/pushes --from lerobot/smolvla_base --on jobs \\\n      \
        --push ada/smolvla_pushes --steps 20000 --evaluate push\n  \
        sinew train ada/pushes --policy diffusion --on ssh:gpu-box \\\n      \
        --python lerobot/bin/python\n  \
        sinew train ada/pushes --policy act --dry-run -- --policy.chunk_size=50 \\\n      \
        --policy.n_action_steps=50\n  \
        sinew train --attach --out outputs/train/act_pushes\n  \
        sinew train --cancel --out outputs/train/act_pushes")]
pub struct TrainArgs {
    /// The dataset to train on: owner/name[@revision] on the Hub, or a folder
    #[arg(required_unless_present_any = ["attach", "cancel"])]
    pub dataset: Option<String>,
    /// The family of a new policy, for example act, diffusion, smolvla or pi05
    #[arg(long, value_name = "FAMILY")]
    pub policy: Option<String>,
    /// Start from this policy: owner/name on the Hub, or a checkpoint folder
    #[arg(long, value_name = "POLICY")]
    pub from: Option<String>,
    /// Where to train: local, jobs (Hugging Face Jobs, which cost money) or ssh:HOST
    #[arg(long, default_value = "local", value_name = "WHERE")]
    pub on: String,
    /// The Python there that has LeRobot [default: python3]. A job's image has its own
    #[arg(long, value_name = "PATH")]
    pub python: Option<String>,
    /// The folder for the run, its log and the checkpoint [default: outputs/train/FAMILY_DATASET]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The number of training steps
    #[arg(long, default_value_t = 100_000, value_parser = whole::<u64>(1..=1_000_000_000))]
    pub steps: u64,
    /// The number of frames per step
    #[arg(long, default_value_t = 8, value_parser = whole::<u64>(1..=1_000_000))]
    pub batch_size: u64,
    /// Upload the policy to this repository at the end. Required with --on jobs, because a job keeps nothing
    #[arg(long, value_name = "OWNER/NAME")]
    pub push: Option<String>,
    /// Create that repository as private
    #[arg(long, requires = "push")]
    pub private: bool,
    /// The machine of a job [default: a10g-small]
    #[arg(long)]
    pub flavor: Option<String>,
    /// The container image of a job, which must have LeRobot [default: huggingface/lerobot-gpu:latest]
    #[arg(long)]
    pub image: Option<String>,
    /// End a job after this many hours [default: 48]
    #[arg(long, value_name = "HOURS", value_parser = whole::<u64>(1..=720))]
    pub timeout: Option<u64>,
    /// Evaluate the checkpoint on this task of the simulator, and put the result on its card
    #[arg(long, value_name = "TASK")]
    pub evaluate: Option<String>,
    /// The number of episodes for --evaluate
    #[arg(long, default_value_t = 100, value_name = "N", requires = "evaluate", value_parser = whole::<u64>(1..=100_000))]
    pub evaluate_episodes: u64,
    /// Refuse a dataset or policy unless its licence clearly allows commercial use
    #[arg(long)]
    pub commercial: bool,
    /// Check everything, print the command line, and start nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Follow the training in --out again
    #[arg(long, requires = "out", conflicts_with_all = BEGINS, conflicts_with = "cancel")]
    pub attach: bool,
    /// End the training in --out
    #[arg(long, requires = "out", conflicts_with_all = BEGINS, conflicts_with_all = ["evaluate", "evaluate_episodes"])]
    pub cancel: bool,
    /// Print progress and result as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
    /// More options for lerobot-train, after --
    #[arg(last = true, value_name = "WORDS")]
    pub extra: Vec<String>,
}
