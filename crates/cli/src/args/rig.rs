//! The options of `sinew rig`.

use clap::Subcommand;

#[derive(Subcommand)]
pub enum RigCommand {
    /// Ask what is connected to this machine, and store it
    #[command(
        after_help = "The rig is a TOML file in ~/.config/sinew/rigs. Its entries are used as options by verbs that get --rig. Options on the \
        command line win.\n\n\
        Examples:\n  sinew rig init kitchen\n  sinew teleop --rig kitchen\n  sinew record --rig kitchen --out my_dataset"
    )]
    Init {
        /// The name of the rig, or the file to write
        name: String,
        /// Replace a rig that exists
        #[arg(long)]
        force: bool,
    },
    /// List the rigs of this user
    #[command(after_help = "Example:\n  sinew rig list")]
    List {
        /// Print the result as JSON on standard output
        #[arg(long)]
        json: bool,
    },
    /// Show a rig
    #[command(after_help = "Example:\n  sinew rig show kitchen")]
    Show {
        /// The name of the rig, or its file
        name: String,
    },
}
