//! Words of `sinew train`.

use std::path::PathBuf;

use clap::Args;

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
#[command(
    after_help = "Writes the line for LeRobot's own trainer, checks that the dataset has what the policy needs, starts it, follows it,\n\
    brings the checkpoint and checks it. Begun again with the same --out it finds what runs already.\n\n\
    Examples:\n  sinew train my_dataset --policy act --on local --python ~/lerobot/bin/python\n  \
    sinew train ada/pushes --from lerobot/smolvla_base --on jobs --push ada/smolvla_pushes --steps 20000 --evaluate push\n  \
    sinew train ada/pushes --policy diffusion --on ssh:gpu-box --python lerobot/bin/python\n  \
    sinew train ada/pushes --policy act --dry-run -- --policy.chunk_size=50 --policy.n_action_steps=50\n  \
    sinew train --attach --out outputs/train/act_pushes\n  sinew train --cancel --out outputs/train/act_pushes"
)]
pub struct TrainArgs {
    /// A dataset to learn from: owner/name[@revision] on the Hub, or a folder
    #[arg(required_unless_present_any = ["attach", "cancel"])]
    pub dataset: Option<String>,
    /// The family of a new policy, such as act, diffusion, smolvla or pi05
    #[arg(long, value_name = "FAMILY", required_unless_present_any = ["from", "attach", "cancel"])]
    pub policy: Option<String>,
    /// A policy to go on from: owner/name on the Hub, or a checkpoint folder
    #[arg(long, value_name = "POLICY")]
    pub from: Option<String>,
    /// Where: local, jobs (Hugging Face Jobs, which cost money) or ssh:HOST
    #[arg(long, default_value = "local", value_name = "WHERE")]
    pub on: String,
    /// The Python that has LeRobot, there; a job's image has its own [default: python3]
    #[arg(long, value_name = "PATH")]
    pub python: Option<String>,
    /// A folder for the run, its log and the checkpoint; without it outputs/train/FAMILY_DATASET
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How many updates
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub steps: u64,
    /// Frames an update looks at
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub batch_size: u64,
    /// Upload the policy to this repository when it is trained; needed on jobs, which keep nothing
    #[arg(long, value_name = "OWNER/NAME")]
    pub push: Option<String>,
    /// Make that repository a private one
    #[arg(long, requires = "push")]
    pub private: bool,
    /// The machine of a job [default: a10g-small]
    #[arg(long)]
    pub flavor: Option<String>,
    /// The image of a job, with LeRobot in it [default: huggingface/lerobot-gpu:latest]
    #[arg(long)]
    pub image: Option<String>,
    /// After how many hours a job is ended, whatever it does [default: 48]
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=720))]
    pub timeout: Option<u64>,
    /// Evaluate the checkpoint at this task of the simulator, and put the result on its card
    #[arg(long, value_name = "TASK")]
    pub evaluate: Option<String>,
    /// Over how many episodes
    #[arg(long, default_value_t = 100, value_name = "N", requires = "evaluate", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub evaluate_episodes: u64,
    /// Refuse a dataset or a policy whose licence doesn't surely allow to earn money with it
    #[arg(long)]
    pub commercial: bool,
    /// Check, print the line, and start nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Look again at the run of --out
    #[arg(long, requires = "out", conflicts_with_all = BEGINS, conflicts_with = "cancel")]
    pub attach: bool,
    /// End the run of --out
    #[arg(long, requires = "out", conflicts_with_all = BEGINS, conflicts_with_all = ["evaluate", "evaluate_episodes"])]
    pub cancel: bool,
    /// JSON lines: how far it is, and what came of it
    #[arg(long)]
    pub json: bool,
    /// Further words for lerobot-train, after --
    #[arg(last = true, value_name = "WORDS")]
    pub extra: Vec<String>,
}
