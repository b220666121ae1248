//! What `sinew hub` takes.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sinew_hub::RepoKind;

#[derive(Subcommand)]
pub enum HubCommand {
    /// Bring a folder to the Hub: a policy, a dataset, or what a Space shows
    #[command(after_help = "What the Hub has is not sent again, and a killed upload goes on where it was. Nothing of others is overwritten: when the\n\
        branch has moved meanwhile, it says who moved it. A dataset gets the tag of its version.\n\n\
        Examples:\n  sinew hub upload ./my_dataset me/my_dataset --private\n  \
        sinew hub upload ./checkpoint me/act_pick_place --type policy --include '*.safetensors' --include '*.json'")]
    Upload(UploadArgs),
    /// Send the rest of a dataset that was published while it was recorded, and make all of it visible
    #[command(after_help = "Example:\n  sinew hub finish ./my_dataset")]
    Finish(FinishArgs),
}

#[derive(Args)]
pub struct UploadArgs {
    pub dir: PathBuf,
    /// owner/name, or owner/name@branch
    pub repo: String,
    /// What it is; without it, what the folder holds
    #[arg(long = "type", value_enum)]
    pub kind: Option<KindChoice>,
    /// For the owner's eyes alone
    #[arg(long)]
    pub private: bool,
    /// Only files whose paths fit, such as '*.json' or 'data/'; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Not these files; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Delete such files of the repository that the folder doesn't have; may be given several times
    #[arg(long, value_name = "GLOB")]
    pub delete: Vec<String>,
    /// The commit's title
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// The commit that the branch must be at, or nothing is changed
    #[arg(long, value_name = "COMMIT")]
    pub parent: Option<String>,
    /// Megabytes a second to send at most
    #[arg(long, value_name = "MB/S", value_parser = super::above_zero)]
    pub limit: Option<f64>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct FinishArgs {
    pub dir: PathBuf,
    /// The commit's title
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindChoice {
    Policy,
    Dataset,
    Space,
}

impl From<KindChoice> for RepoKind {
    fn from(choice: KindChoice) -> Self {
        match choice {
            KindChoice::Policy => Self::Model,
            KindChoice::Dataset => Self::Dataset,
            KindChoice::Space => Self::Space,
        }
    }
}
