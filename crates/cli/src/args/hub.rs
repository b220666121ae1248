//! Words of `sinew hub`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use sinew_hub::{RepoKind, Sort};

use super::whole;

#[derive(Subcommand)]
pub enum HubCommand {
    /// Download a policy, a dataset or a Space, verified and resumable
    #[command(after_help = "Examples:\n  \
        sinew hub download lerobot/smolvla_base\n  \
        sinew hub download lerobot/svla_so101_pickplace --type dataset \\\n      \
        --include 'meta/**'\n  \
        sinew hub download someone/act_pick@v2 --out my_policy")]
    Download(DownloadArgs),
    /// Upload a folder to the Hub: a policy, a dataset, or the files of a Space
    #[command(
        after_help = "Files that the Hub has are not sent again, and a killed upload continues where it stopped. Other people's work \
        is never overwritten: if the branch has moved, the upload stops and says who moved it. A dataset gets the tag \
        of its version.\n\n\
        Examples:\n  \
        sinew hub upload ./my_dataset me/my_dataset --private\n  \
        sinew hub upload ./checkpoint me/act_pick_place --type policy \\\n      \
        --include '*.safetensors' --include '*.json'"
    )]
    Upload(UploadArgs),
    /// Complete the upload of a dataset that was recorded with --publish, and make it visible
    #[command(after_help = "Example:\n  sinew hub finish ./my_dataset")]
    Finish(FinishArgs),
    /// Publish a dataset, a Rerun recording or an evaluation as a page on the Hub
    #[command(after_help = "Examples:\n  \
        sinew hub publish-space ./my_dataset someone/my-page\n  \
        sinew hub publish-space outputs/view-1.rrd someone/a-recording \\\n      \
        --title 'Pick and place'\n  \
        sinew hub publish-space outputs/eval-1.png someone/an-evaluation \\\n      \
        --results results.jsonl")]
    PublishSpace(SpaceArgs),
    /// Show what a policy, a dataset or a Space is, and whether you may use it
    #[command(after_help = "Examples:\n  sinew hub info lerobot/smolvla_base\n  sinew hub info lerobot/pusht --type dataset --json")]
    Info {
        #[command(flatten)]
        repo: RepoArgs,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Search for policies, datasets or Spaces
    #[command(after_help = "Examples:\n  sinew hub search pick --robot so101 --family act\n  \
        sinew hub search --type dataset --robot so101 --sort downloads --limit 5\n  \
        sinew hub search --licence apache-2.0 --family smolvla --json")]
    Search(SearchArgs),
    /// Show the card of a repository, or write one for a folder
    #[command(after_help = "Examples:\n  sinew hub card lerobot/smolvla_base\n  sinew hub card --write my_dataset --licence apache-2.0")]
    Card(CardArgs),
    /// Store a token, to read private and gated repositories and to write your own
    #[command(after_help = "Examples:\n  sinew hub login\n  sinew hub login --token-from /run/secrets/hf\n  \
        HF_DEVICE_CODE_OAUTH_CLIENT_ID=… sinew hub login --browser")]
    Login(LoginArgs),
    /// Remove the stored token
    #[command(after_help = "Example:\n  sinew hub logout")]
    Logout {
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Show whose token is used, and what it may do
    #[command(after_help = "Example:\n  sinew hub whoami")]
    Whoami {
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Manage the cache that Sinew shares with Python
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
    /// Whether it is a policy or a dataset. Give it only if both have this name
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
    /// Only files that match, for example 'meta/**'. Give it once for each pattern
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave out files that match. Give it once for each pattern
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Write the files to this folder [default: the cache, where other verbs find them]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct UploadArgs {
    /// The folder to upload
    pub dir: PathBuf,
    /// owner/name, or owner/name@branch
    pub repo: String,
    /// Whether it is a policy or a dataset. Give it only if both have this name
    #[arg(long = "type", value_enum)]
    pub kind: Option<Kind>,
    /// Create the repository as private
    #[arg(long)]
    pub private: bool,
    /// Only files that match, for example 'meta/**'. Give it once for each pattern
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave out files that match. Give it once for each pattern
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Delete files in the repository that match and that the folder does not have. Give it once for each pattern
    #[arg(long, value_name = "GLOB")]
    pub delete: Vec<String>,
    /// The title of the commit
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Upload only if the branch is at this commit. Its files are then replaced, even those that others changed
    #[arg(long, value_name = "COMMIT")]
    pub parent: Option<String>,
    /// Replace another dataset that the repository holds
    #[arg(long)]
    pub replace: bool,
    /// Limit the upload to this many megabytes per second
    #[arg(long, value_name = "MB/S", value_parser = super::values::above_zero)]
    pub limit: Option<f64>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct FinishArgs {
    /// The folder of the dataset
    pub dir: PathBuf,
    /// The title of the commit
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Complete the upload although others have changed the branch to this commit meanwhile
    #[arg(long, value_name = "COMMIT")]
    pub parent: Option<String>,
    /// Replace another dataset that the repository holds
    #[arg(long)]
    pub replace: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct SpaceArgs {
    /// What to show: a dataset (a folder, or owner/name on the Hub), a Rerun recording (.rrd), or the picture of an evaluation (.png)
    pub source: PathBuf,
    /// The Space, as owner/name. It is created if it does not exist
    pub space: String,
    /// The title of the page [default: the name of the Space]
    #[arg(long)]
    pub title: Option<String>,
    /// Which episodes of a dataset to show, for example 3,7-9 [default: the first 50]
    #[arg(long, value_name = "LIST")]
    pub episodes: Option<super::Episodes>,
    /// The output of `sinew eval --json`, which is shown below the picture
    #[arg(long, value_name = "FILE")]
    pub results: Option<PathBuf>,
    /// Publish only if the Space is at this commit. The page is then replaced, even one that somebody else wrote
    #[arg(long, value_name = "COMMIT")]
    pub parent: Option<String>,
    /// Create the repository as private
    #[arg(long)]
    pub private: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct SearchArgs {
    /// Words in the name
    pub text: Vec<String>,
    /// Whether it is a policy or a dataset. Give it only if both have this name
    #[arg(long = "type", value_enum, default_value = "policy")]
    pub kind: Kind,
    /// Only for this robot, for example so101
    #[arg(long)]
    pub robot: Option<String>,
    /// Only policies of this family, for example act or smolvla
    #[arg(long)]
    pub family: Option<String>,
    /// Only with this task among the tags
    #[arg(long)]
    pub task: Option<String>,
    /// Only with this licence, for example apache-2.0
    #[arg(long, alias = "license")]
    pub licence: Option<String>,
    /// Only from this user or organisation
    #[arg(long)]
    pub author: Option<String>,
    /// The order of the results
    #[arg(long, value_enum, default_value = "trending")]
    pub sort: Order,
    /// The maximum number of results, 1 to 1000
    #[arg(long, default_value_t = 20, value_parser = whole::<u16>(1..=1000))]
    pub limit: u16,
    /// Include repositories of robotics libraries other than LeRobot
    #[arg(long)]
    pub any_library: bool,
    /// Print the result as JSON on standard output
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
    /// Whether it is a policy or a dataset. Give it only if both have this name
    #[arg(long = "type", value_enum)]
    pub kind: Option<Kind>,
    /// Write a card for the policy or dataset in this folder from what its files say. An existing card is kept
    #[arg(long, conflicts_with = "kind")]
    pub write: bool,
    /// Overwrite an existing card
    #[arg(long, requires = "write")]
    pub force: bool,
    /// The licence to put on the card, by the Hub's short name, for example apache-2.0
    #[arg(long, alias = "license", requires = "write", value_name = "NAME")]
    pub licence: Option<String>,
    /// The output of `sinew eval --json`. The card then states the success rate
    #[arg(long, requires = "write", value_name = "FILE")]
    pub evaluation: Option<PathBuf>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct LoginArgs {
    /// Read the token from this file, or from standard input if it is -
    #[arg(long, value_name = "FILE", conflicts_with = "browser")]
    pub token_from: Option<PathBuf>,
    /// Confirm the login in a browser, which may be on another machine, instead of typing a token
    #[arg(long)]
    pub browser: bool,
    /// Print the result as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub enum CacheCommand {
    /// List the repositories in the cache, with their sizes and commits
    #[command(after_help = "Example:\n  sinew hub cache list")]
    List {
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Read every file in the cache and compare it with its hash
    #[command(after_help = "Example:\n  sinew hub cache verify lerobot/pi0_base")]
    Verify {
        /// Only this repository
        repo: Option<String>,
        /// Whether it is a policy or a dataset. Give it only if both have this name
        #[arg(long = "type", value_enum, default_value = "policy")]
        kind: Kind,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Remove what no revision needs: old commits, unused files, and downloads that stopped more than a day ago
    #[command(after_help = "Examples:\n  sinew hub cache prune --dry-run\n  sinew hub cache prune --yes\n  \
        sinew hub cache prune lerobot/pi0_base --yes")]
    Prune {
        /// Remove all of this repository, including its newest commit
        repo: Option<String>,
        /// Whether it is a policy or a dataset. Give it only if both have this name
        #[arg(long = "type", value_enum, default_value = "policy")]
        kind: Kind,
        /// Remove without asking
        #[arg(long)]
        yes: bool,
        /// Show what would be removed, and remove nothing
        #[arg(long)]
        dry_run: bool,
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
}
