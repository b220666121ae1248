//! Words of `sinew hub`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sinew_hub::{RepoKind, Sort};

#[derive(Subcommand)]
pub enum HubCommand {
    /// Download a policy, a dataset or a Space, verified and resumable
    #[command(after_help = "Examples:\n  sinew hub download lerobot/smolvla_base\n  \
        sinew hub download lerobot/svla_so101_pickplace --type dataset --include 'meta/**'\n  \
        sinew hub download someone/act_pick@v2 --out my_policy")]
    Download(DownloadArgs),
    /// Bring a folder to the Hub: a policy, a dataset, or what a Space shows
    #[command(
        after_help = "What the Hub has is not sent again, and a killed upload goes on where it was. Nothing of others is overwritten: when the\n\
        branch has moved meanwhile, it says who moved it. A dataset gets the tag of its version.\n\n\
        Examples:\n  sinew hub upload ./my_dataset me/my_dataset --private\n  \
        sinew hub upload ./checkpoint me/act_pick_place --type policy --include '*.safetensors' --include '*.json'"
    )]
    Upload(UploadArgs),
    /// Send the rest of a dataset that was published while it was recorded, and make all of it visible
    #[command(after_help = "Example:\n  sinew hub finish ./my_dataset")]
    Finish(FinishArgs),
    /// Show a dataset, a Rerun recording or an evaluation to others, as a page on the Hub
    #[command(after_help = "Examples:\n  sinew hub publish-space ./my_dataset someone/my-page\n  \
        sinew hub publish-space outputs/view-1.rrd someone/a-recording --title 'Pick and place'\n  \
        sinew hub publish-space outputs/eval-1.png someone/an-evaluation --results results.jsonl")]
    PublishSpace(SpaceArgs),
    /// What a policy, a dataset or a Space is, and whether it may be used
    #[command(after_help = "Examples:\n  sinew hub info lerobot/smolvla_base\n  sinew hub info lerobot/pusht --type dataset --json")]
    Info {
        #[command(flatten)]
        repo: RepoArgs,
        #[arg(long)]
        json: bool,
    },
    /// Find policies, datasets or Spaces
    #[command(after_help = "Examples:\n  sinew hub search pick --robot so101 --family act\n  \
        sinew hub search --type dataset --robot so101 --sort downloads --limit 5\n  \
        sinew hub search --licence apache-2.0 --family smolvla --json")]
    Search(SearchArgs),
    /// Show the card of a repository, or write one for a folder
    #[command(after_help = "Examples:\n  sinew hub card lerobot/smolvla_base\n  sinew hub card --write my_dataset --licence apache-2.0")]
    Card(CardArgs),
    /// Store a token, so that private and gated repositories can be read and yours can be written
    #[command(after_help = "Examples:\n  sinew hub login\n  sinew hub login --token-from /run/secrets/hf\n  \
        HF_DEVICE_CODE_OAUTH_CLIENT_ID=… sinew hub login --browser")]
    Login(LoginArgs),
    /// Remove the stored token
    Logout {
        #[arg(long)]
        json: bool,
    },
    /// Whose token is used, and what it may do
    Whoami {
        #[arg(long)]
        json: bool,
    },
    /// What lies in the cache that Sinew shares with Python
    Cache {
        #[command(subcommand)]
        command: CacheCommand,
    },
}

/// A repository, by its name and, where two kinds have the name, by its kind.
#[derive(Args)]
pub struct RepoArgs {
    /// owner/name, or owner/name@revision with a branch, a tag or a commit
    pub repo: String,
    /// Needed only where a policy and a dataset have the same name
    #[arg(long = "type", value_enum)]
    pub kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    #[value(alias = "model")]
    Policy,
    Dataset,
    Space,
}

impl From<Kind> for RepoKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Policy => Self::Model,
            Kind::Dataset => Self::Dataset,
            Kind::Space => Self::Space,
        }
    }
}

#[derive(Args)]
pub struct DownloadArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Only files that fit, such as 'meta/**'; may be given again
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No files that fit; may be given again
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// A folder for the files; without it they go to the cache, where other verbs find them
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct UploadArgs {
    pub dir: PathBuf,
    /// owner/name, or owner/name@branch
    pub repo: String,
    /// What it is; without it, what the folder holds
    #[arg(long = "type", value_enum)]
    pub kind: Option<Kind>,
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
    /// Put this dataset in the place of another one that the repository holds
    #[arg(long)]
    pub replace: bool,
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
    /// The commit that the branch must be at, where others have changed it since publishing began
    #[arg(long, value_name = "COMMIT")]
    pub parent: Option<String>,
    /// Put this dataset in the place of another one that the repository holds
    #[arg(long)]
    pub replace: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct SpaceArgs {
    /// A dataset (a folder, or owner/name on the Hub), a recording for Rerun (.rrd) or the picture of an evaluation (.png)
    pub source: PathBuf,
    /// owner/name of the Space, which is made where it is not there
    pub space: String,
    /// The title of the page; without it the Space's name
    #[arg(long)]
    pub title: Option<String>,
    /// Which episodes of a dataset, such as 3,7-9; without it the first 50
    #[arg(long, value_name = "LIST")]
    pub episodes: Option<super::Episodes>,
    /// What `sinew eval --json` printed, to be shown below its picture
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// For the owner's eyes alone
    #[arg(long)]
    pub private: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct SearchArgs {
    /// Words of the name
    pub text: Vec<String>,
    /// What is looked for
    #[arg(long = "type", value_enum, default_value = "policy")]
    pub kind: Kind,
    /// For this robot, such as so101
    #[arg(long)]
    pub robot: Option<String>,
    /// Policies of this family, such as act or smolvla
    #[arg(long)]
    pub family: Option<String>,
    /// With this task among its tags
    #[arg(long)]
    pub task: Option<String>,
    /// With this licence, such as apache-2.0
    #[arg(long, alias = "license")]
    pub licence: Option<String>,
    /// Of this user or organisation
    #[arg(long)]
    pub author: Option<String>,
    /// Which come first
    #[arg(long, value_enum, default_value = "trending")]
    pub sort: Order,
    /// How many at most, 1 to 1000
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Those of other robotics libraries too, not LeRobot's alone
    #[arg(long)]
    pub any_library: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Order {
    Trending,
    Downloads,
    Likes,
    Updated,
    Created,
}

impl From<Order> for Sort {
    fn from(order: Order) -> Self {
        match order {
            Order::Trending => Self::Trending,
            Order::Downloads => Self::Downloads,
            Order::Likes => Self::Likes,
            Order::Updated => Self::Updated,
            Order::Created => Self::Created,
        }
    }
}

#[derive(Args)]
pub struct CardArgs {
    /// owner/name[@revision] on the Hub, or a folder
    pub repo: String,
    /// Needed only where a policy and a dataset have the same name
    #[arg(long = "type", value_enum)]
    pub kind: Option<Kind>,
    /// Write the card of the policy or dataset in this folder, out of what its files say; a card that is there is kept
    #[arg(long, conflicts_with = "kind")]
    pub write: bool,
    /// Write over a card that is there
    #[arg(long, requires = "write")]
    pub force: bool,
    /// The licence that the card states, by the Hub's short name for it
    #[arg(long, alias = "license", requires = "write", value_name = "NAME")]
    pub licence: Option<String>,
    /// What `sinew eval --json` printed, whose success rate the card states
    #[arg(long, requires = "write", value_name = "FILE")]
    pub evaluation: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct LoginArgs {
    /// Read the token from a file, or from standard input with -
    #[arg(long, value_name = "FILE", conflicts_with = "browser")]
    pub token_from: Option<PathBuf>,
    /// Say yes in a browser, which may be on another machine, in place of typing a token
    #[arg(long)]
    pub browser: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum CacheCommand {
    /// Every repository in the cache, its size and its commits
    List {
        #[arg(long)]
        json: bool,
    },
    /// Read every file of the cache and compare it with its hash
    Verify {
        /// Only this repository
        repo: Option<String>,
        #[arg(long = "type", value_enum, default_value = "policy")]
        kind: Kind,
        #[arg(long)]
        json: bool,
    },
    /// Remove what no revision needs: old commits, lone files, downloads that were begun more than a day ago
    #[command(after_help = "Examples:\n  sinew hub cache prune --dry-run\n  sinew hub cache prune --yes\n  \
        sinew hub cache prune lerobot/pi0_base --yes")]
    Prune {
        /// All of this repository, its newest commit too
        repo: Option<String>,
        #[arg(long = "type", value_enum, default_value = "policy")]
        kind: Kind,
        /// Remove without asking
        #[arg(long)]
        yes: bool,
        /// Say what would go, and remove nothing
        #[arg(long)]
        dry_run: bool,
        #[arg(long)]
        json: bool,
    },
}
