//! `sinew completions`

use clap::CommandFactory;

use crate::Done;
use crate::args::Cli;

pub fn run(shell: clap_complete::Shell) -> anyhow::Result<Done> {
    clap_complete::generate(shell, &mut Cli::command(), "sinew", &mut std::io::stdout());
    Ok(Done::Ok)
}
