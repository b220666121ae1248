//! `sinew config`, and `--explain`.

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};

use crate::args::{Cli, ConfigCommand};
use crate::config::{self, Config};
use crate::rig_file::Expanded;
use crate::text::say;
use crate::{Done, text};

pub fn run(command: Option<&ConfigCommand>, json: bool) -> anyhow::Result<Done> {
    let cli = Cli::command();
    let folder = config::folder()?;
    match command {
        Some(ConfigCommand::Set { key, value }) => Config::read(&folder, &cli)?.set(&cli, key, Some(value))?,
        Some(ConfigCommand::Unset { key }) => Config::read_unchecked(&folder)?.set(&cli, key, None)?,
        None => {}
    }
    let config = Config::read(&folder, &cli)?;
    let entries = config.entries();
    if json {
        text::print_json(
            &serde_json::json!({ "path": config.path(), "entries": entries.iter().cloned().collect::<std::collections::BTreeMap<_, _>>() }),
        )?;
        return Ok(Done::Ok);
    }
    say!("{}", config.path().display());
    if entries.is_empty() {
        say!("  empty; `sinew config set KEY VALUE` sets a default");
    }
    entries.iter().for_each(|(key, value)| say!("  {key} = {value}"));
    Ok(Done::Ok)
}

/// The value of each option of the verb that `matches` is of, and where it comes from; `line` says what came from files.
pub fn explain(matches: &ArgMatches, line: &Expanded) -> anyhow::Result<Done> {
    let cli = Cli::command();
    let (mut verb, mut matches) = (&cli, matches);
    while let Some((name, deeper)) = matches.subcommand() {
        let Some(found) = verb.find_subcommand(name) else { break };
        (verb, matches) = (found, deeper);
    }
    let mut rows = vec![["option", "value", "from"].map(str::to_owned).to_vec()];
    for arg in verb.get_arguments().filter(|arg| !["help", "version", "explain"].contains(&arg.get_id().as_str())) {
        let id = arg.get_id().as_str();
        let Some(source) = matches.value_source(id) else { continue };
        let values: Vec<String> = matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect();
        let is_flag = !arg.get_action().takes_values();
        if is_flag && values == ["false"] {
            continue;
        }
        let name = arg.get_long().map_or_else(|| id.to_uppercase(), |long| format!("--{long}"));
        let from = match source {
            ValueSource::DefaultValue => "the default".to_owned(),
            ValueSource::EnvVariable => "the environment".to_owned(),
            _ => line.source_of(&name).map_or_else(|| "the command line".to_owned(), |(_, from)| from.clone()),
        };
        rows.push(vec![name, if is_flag { "yes".to_owned() } else { values.join(", ") }, from]);
    }
    say!("{}", text::table(&rows).trim_end());
    Ok(Done::Ok)
}
