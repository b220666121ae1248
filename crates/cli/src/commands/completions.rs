//! `sinew completions`

use std::io::Write as _;

use anyhow::Context as _;

use crate::Done;
use crate::args;

pub fn run(shell: clap_complete::Shell) -> anyhow::Result<Done> {
    // Into memory first: what generates it panics where a reader has gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "sinew", &mut script);
    std::io::stdout().write_all(&script).and_then(|()| std::io::stdout().flush()).context("writing to standard output")?;
    Ok(Done::Ok)
}
