//! `sinew config`, and `--explain`.

use std::collections::BTreeMap;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};

use crate::args::{self, ConfigCommand};
use crate::config::{self, Config};
use crate::rig_file::Expanded;
use crate::text::say;
use crate::{Done, text};

pub fn run(command: Option<&ConfigCommand>, json: bool) -> anyhow::Result<Done> {
    let cli = args::command();
    let folder = config::folder()?;
    match command {
        Some(ConfigCommand::Set { key, value }) => Config::read_unchecked(&folder)?.set(&cli, key, Some(value))?,
        Some(ConfigCommand::Unset { key }) => Config::read_unchecked(&folder)?.set(&cli, key, None)?,
        None => {}
    }
    // What is wrong with it is part of what it is.
    let (config, problem) = match Config::read_unchecked(&folder) {
        Ok(config) => {
            let problem = config.check(&cli).and_then(|()| config.check_values(&cli)).err();
            (config, problem)
        }
        Err(error) => (Config::empty(&folder), Some(error)),
    };
    let entries = config.entries();
    let done = if problem.is_some() { Done::Refused } else { Done::Ok };
    let problem = problem.as_ref().map(text::chain);
    if json {
        let entries: BTreeMap<_, _> = entries.iter().cloned().collect();
        text::print_json(&serde_json::json!({ "path": config.path(), "entries": entries, "problem": problem }))?;
        return Ok(done);
    }
    say!("{}", config.path().display());
    if entries.is_empty() && problem.is_none() {
        say!("  empty; `sinew config set KEY VALUE` sets a default");
    }
    entries.iter().for_each(|(key, value)| say!("  {key} = {value}"));
    if let Some(problem) = problem {
        say!("problem   {problem}");
        say!("          no verb that reads it runs; `sinew config unset KEY` removes a key, or edit or remove the file");
    }
    Ok(done)
}

/// What the help of `arg` says of its default, where the program finds it itself: `[default: ...]`.
fn default_in_words(arg: &Arg) -> Option<String> {
    let help = arg.get_help()?.to_string();
    let (_, rest) = help.split_once("[default: ").or_else(|| help.split_once("[default "))?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// The value of each option of the verb that `matches` is of, and where it comes from; `line` says what came from files.
pub fn explain(matches: &ArgMatches, line: &Expanded) -> anyhow::Result<Done> {
    let cli = args::command();
    let (mut verb, mut matches) = (&cli, matches);
    while let Some((name, deeper)) = matches.subcommand() {
        let Some(found) = verb.find_subcommand(name) else { break };
        (verb, matches) = (found, deeper);
    }
    let mut rows = vec![["option", "value", "from"].map(str::to_owned).to_vec()];
    for arg in verb.get_arguments().filter(|arg| !["help", "version", "explain"].contains(&arg.get_id().as_str())) {
        let id = arg.get_id().as_str();
        let is_flag = !arg.get_action().takes_values();
        let values: Vec<String> = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect();
        let name = arg.get_long().map_or_else(|| id.to_uppercase(), |long| format!("--{long}"));
        let source = matches.value_source(id);
        if arg.is_hide_set() && matches!(source, None | Some(ValueSource::DefaultValue)) {
            continue;
        }
        let (value, from) = match source {
            None => default_in_words(arg).map_or(("-".to_owned(), "not given"), |value| (value, "the default")),
            Some(ValueSource::DefaultValue) if is_flag => ("no".to_owned(), "the default"),
            Some(ValueSource::DefaultValue) => (values.join(", "), "the default"),
            Some(source) => {
                let value = if is_flag { "yes".to_owned() } else { values.join(", ") };
                let said = if source == ValueSource::EnvVariable { "the environment" } else { "the command line" };
                (value, line.source_of(&name).map_or(said, |(_, from)| from))
            }
        };
        rows.push(vec![name, value, from.to_owned()]);
    }
    // Whoever wants JSON reads nothing else.
    if verb.get_arguments().any(|arg| arg.get_id() == "json") && matches.get_flag("json") {
        let options: Vec<_> =
            rows[1..].iter().map(|row| serde_json::json!({ "option": row[0], "value": row[1], "from": row[2] })).collect();
        text::print_json(&serde_json::json!({ "options": options }))?;
    } else if rows.len() == 1 {
        say!("no option: name a verb, for example `sinew rollout --explain`");
    } else {
        say!("{}", text::table(&rows).trim_end());
    }
    Ok(Done::Ok)
}
