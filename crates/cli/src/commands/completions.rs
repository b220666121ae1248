//! `sinew completions`

use std::io::Write as _;

use clap::CommandFactory;

use crate::Done;
use crate::args::Cli;

pub fn run(shell: clap_complete::Shell) -> anyhow::Result<Done> {
    // Into memory first: what generates it panics where a reader has gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sinew", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Done::Ok)
}
