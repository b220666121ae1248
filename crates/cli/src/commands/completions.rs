//! `sinew completions`

use std::io::Write as _;

use crate::{Done, args, text};

pub fn run(shell: clap_complete::Shell) -> anyhow::Result<Done> {
    // Into memory first: what generates it panics where a reader has gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "sinew", &mut script);
    let mut out = text::raw_stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(Done::Ok)
}
