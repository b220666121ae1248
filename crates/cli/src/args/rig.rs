//! The options of `sinew rig`.

use clap::Subcommand;

#[derive(Subcommand)]
pub enum RigCommand {
    /// Ask what hangs on this machine, and write it down
    #[command(
        after_help = "Questions are answered by lines on standard input. The rig is a TOML file in ~/.config/sinew/rigs, whose entries are\n\
        the options of the verbs that are given --rig; what is given beside it goes before the file.\n\n\
        Examples:\n  sinew rig init kitchen\n  sinew teleop --rig kitchen\n  sinew record --rig kitchen --out my_dataset"
    )]
    Init {
        /// What to call it, or the file to write
        name: String,
        /// Replace one that is there
        #[arg(long)]
        force: bool,
    },
    /// List the rigs of this user
    List {
        #[arg(long)]
        json: bool,
    },
    /// Show a rig
    Show { name: String },
}
