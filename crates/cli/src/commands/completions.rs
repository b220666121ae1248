//! `sinew completions`

use std::io::Write as _;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command};
use sinew_core::Role;

use crate::{Done, args, text};

pub fn run(shell: clap_complete::Shell) -> anyhow::Result<Done> {
    // Into memory first: what generates it panics where a reader has gone.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(&args::command())?, "sinew", &mut script);
    let mut out = text::raw_stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(Done::Ok)
}

/// The verb as a shell is to offer it: without what is hidden, and with the names of the tasks and robots.
fn shown(verb: &Command) -> anyhow::Result<Command> {
    let mut robots = Vec::new();
    for name in sinew_sim::robots::list() {
        if sinew_sim::robots::get(name)?.description.role == Role::Robot {
            robots.push(fixed(name));
        }
    }
    Ok(without_hidden(verb, &robots))
}

/// clap's names are of the program's whole life, as this one's is.
fn fixed(text: &str) -> &'static str {
    text.to_owned().leak()
}

fn without_hidden(verb: &Command, robots: &[&'static str]) -> Command {
    let named = |arg: &Arg| match arg.get_long() {
        Some("task") => arg.clone().value_parser(PossibleValuesParser::new(sinew_sim::tasks::list().iter().map(|task| task.name()))),
        Some("robot") => arg.clone().value_parser(PossibleValuesParser::new(robots.to_vec())),
        _ => arg.clone(),
    };
    let mut shown = Command::new(fixed(verb.get_name()))
        .args(verb.get_arguments().filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())).map(named))
        .subcommands(verb.get_subcommands().filter(|deeper| !deeper.is_hide_set()).map(|deeper| without_hidden(deeper, robots)));
    if let Some(about) = verb.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(version) = verb.get_version() {
        shown = shown.version(fixed(version));
    }
    shown
}
