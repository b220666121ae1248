//! `config.toml`: options that a user wants always, and the rig that is meant where none is named.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Arg, Command};
use toml::{Table, Value};

use crate::args::Misuse;
use crate::rig_file;
use crate::whole::{self, Readers};

/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 20;
const FILE: &str = "config.toml";
/// The key of the rig.
const RIG: &str = "rig";
/// Options of every verb that has them.
const ALL: &str = "all";

/// What the file holds.
#[derive(Debug, Default)]
pub struct Config {
    path: PathBuf,
    table: Table,
}

/// Where a user's own files of sinew are.
///
/// # Errors
/// When nothing says where his files are.
pub fn folder() -> anyhow::Result<PathBuf> {
    let config = user_folder("XDG_CONFIG_HOME", ".config");
    Ok(config.context("looking for the configuration: neither XDG_CONFIG_HOME nor HOME is set")?.join("sinew"))
}

/// The user's folder that `variable` names, else `name` in his home; nothing where neither is set.
pub fn user_folder(variable: &str, name: &str) -> Option<PathBuf> {
    let set = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(variable).or_else(|| set("HOME").map(|home| home.join(name)))
}

/// A value as it is typed on a command line.
fn typed(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The verb of `cli` that `name` ("rollout", "hub upload") names.
fn verb<'a>(cli: &'a Command, name: &str) -> Option<&'a Command> {
    name.split(' ').try_fold(cli, |verb, word| verb.find_subcommand(word))
}

fn option<'a>(verb: &'a Command, name: &str) -> Option<&'a Arg> {
    verb.get_arguments().find(|arg| arg.get_long() == Some(name) || arg.get_all_aliases().unwrap_or_default().contains(&name))
}

fn each_verb(verb: &Command, has: &mut impl FnMut(&Command)) {
    has(verb);
    verb.get_subcommands().for_each(|deeper| each_verb(deeper, has));
}

impl Config {
    /// Reads the file in `folder`; nothing where there is none.
    ///
    /// # Errors
    /// When it holds something else, or names what `cli` doesn't know.
    pub fn read(folder: &Path, cli: &Command) -> anyhow::Result<Self> {
        let config = Self::read_unchecked(folder)?;
        config.check(cli).with_context(|| format!("reading the configuration {}", config.path.display()))?;
        Ok(config)
    }

    /// The same, whatever it names: for whoever mends it.
    ///
    /// # Errors
    /// When it can't be read, or is no TOML.
    pub fn read_unchecked(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        let doing = || format!("reading the configuration {}", path.display());
        let size = match std::fs::metadata(&path) {
            Ok(data) => data,
            // HOME may be no folder, as services have it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self { path, table: Table::new() });
            }
            Err(error) => return Err(error).with_context(doing),
        };
        let what = if size.is_dir() { "a folder" } else { "something else" };
        ensure!(size.is_file(), "{}: expected a file, found {what}", doing());
        ensure!(size.len() <= MOST_BYTES, "{}: expected at most {MOST_BYTES} bytes, found {}", doing(), size.len());
        let table: Table = std::fs::read_to_string(&path).with_context(doing)?.parse().with_context(doing)?;
        Ok(Self { path, table })
    }

    /// # Errors
    /// When it names what `cli` doesn't know.
    pub fn check(&self, cli: &Command) -> anyhow::Result<()> {
        self.table.iter().try_for_each(|(key, value)| Self::check_entry(cli, key, value))
    }

    /// That every option takes its value, and that the rig is there.
    ///
    /// # Errors
    /// When one does not.
    pub fn check_values(&self, cli: &Command) -> anyhow::Result<()> {
        for (key, _) in self.entries() {
            self.check_value(cli, &key).with_context(|| format!("{key} in {}", self.path.display()))?;
        }
        Ok(())
    }

    fn check_entry(cli: &Command, key: &str, value: &Value) -> anyhow::Result<()> {
        match (key, value) {
            (RIG, Value::String(_)) => {}
            (RIG, other) => bail!("{RIG} is {other}, expected the name of a rig, such as \"kitchen\""),
            (name, Value::Table(options)) => {
                ensure!(name == ALL || verb(cli, name).is_some(), "[{name}] is no verb; expected one such as [rollout], or [{ALL}]");
                for (option, value) in options {
                    Self::check_option(cli, name, option, value)?;
                }
            }
            (name, _) => bail!("{name} is unknown; expected {RIG}, or tables of options such as [rollout]"),
        }
        Ok(())
    }

    fn check_option(cli: &Command, name: &str, option_name: &str, value: &Value) -> anyhow::Result<()> {
        let mut known = false;
        if name == ALL {
            each_verb(cli, &mut |verb| known |= option(verb, option_name).is_some());
        } else {
            known = verb(cli, name).is_some_and(|verb| option(verb, option_name).is_some());
        }
        ensure!(
            !["yes", "force"].contains(&option_name),
            "[{name}] {option_name}: it can't be a default, as it says yes to what can't be undone"
        );
        let who = if name == ALL { "no verb has an".to_owned() } else { format!("sinew {name} has no") };
        ensure!(known, "[{name}] {option_name}: {who} option --{option_name}");
        let is_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(|value| typed(value).is_some()));
        ensure!(
            typed(value).is_some() || is_list(value),
            "[{name}] {option_name} is {value}, expected a text, a number, true, false or a list"
        );
        Ok(())
    }

    /// That there is such a thing as `key` ("rig", "rollout.pace"), and that it takes its value. The rest of the file may be wrong.
    fn check_value(&self, cli: &Command, key: &str) -> anyhow::Result<()> {
        let Some((name, set)) = key.split_once('.') else {
            self.table.get(key).map_or(Ok(()), |value| Self::check_entry(cli, key, value))?;
            return match (key, self.rig(), self.path.parent()) {
                (RIG, Some(rig), Some(folder)) => {
                    let rigs = folder.join("rigs");
                    rig_file::look(&rig_file::path_of(rig, &rigs), &rigs)
                }
                _ => Ok(()),
            };
        };
        if let Some(value) = self.table.get(name).and_then(|options| options.get(set)) {
            let only = Value::Table(Table::from_iter([(set.to_owned(), value.clone())]));
            Self::check_entry(cli, name, &only)?;
        }
        let Some(verb) = verb(cli, name) else { return Ok(()) };
        if let (Some(arg), Some(value)) = (option(verb, set), self.table.get(name).and_then(|options| options.get(set))) {
            let is_flag = !arg.get_action().takes_values();
            ensure!(!is_flag || value.is_bool(), "--{set} takes no value: expected true or false, found {value}");
            // Of what goes with another option, both are to be set; the whole file is looked at.
            let set_too = |arg: &Arg| arg.get_long().is_some_and(|long| self.options_of(name).iter().any(|(known, _)| known == long));
            ensure!(
                set != "camera" || self.rig().is_some() || verb.get_arguments().any(|arg| arg.get_long() == Some("port") && set_too(arg)),
                "--camera is for a robot behind --port; set [{name}] port too, or store both in a rig (`sinew rig init NAME`)"
            );
        }
        let words = self.words(verb, name, |other| other != set);
        let line = std::iter::once(OsString::from("sinew")).chain(words);
        match verb.clone().try_get_matches_from(line) {
            Err(error) if matches!(error.kind(), clap::error::ErrorKind::InvalidValue | clap::error::ErrorKind::ValueValidation) => {
                let told = error.to_string();
                bail!("{}", told.lines().next().unwrap_or_default().trim_start_matches("error: "))
            }
            _ => Ok(()),
        }
    }

    /// An empty one, where the file in `folder` can't be read.
    pub fn empty(folder: &Path) -> Self {
        Self { path: folder.join(FILE), table: Table::new() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rig that is meant where none is named.
    pub fn rig(&self) -> Option<&str> {
        self.table.get(RIG).and_then(Value::as_str)
    }

    /// The options of the verb that is called `name`: those of its own, then those of all.
    fn options_of(&self, name: &str) -> Vec<(String, Value)> {
        let mut options: Vec<(String, Value)> = Vec::new();
        for table in [name, ALL].into_iter().filter_map(|key| self.table.get(key)?.as_table()) {
            let new = table.iter().filter(|(option, _)| !options.iter().any(|(known, _)| known == *option)).collect::<Vec<_>>();
            options.extend(new.into_iter().map(|(option, value)| (option.clone(), value.clone())));
        }
        options
    }

    /// Words for the options of `verb`, called `name`, that `is_given` doesn't know already.
    pub fn words(&self, verb: &Command, name: &str, is_given: impl Fn(&str) -> bool) -> Vec<OsString> {
        let mut words = Vec::new();
        for (name, value) in self.options_of(name) {
            let Some(arg) = option(verb, &name) else { continue };
            let clashes = verb.get_arg_conflicts_with(arg).iter().any(|other| other.get_long().is_some_and(&is_given));
            if is_given(&name) || clashes {
                continue;
            }
            match value {
                Value::Boolean(wanted) if !arg.get_action().takes_values() => words.extend(wanted.then(|| format!("--{name}").into())),
                Value::Array(list) => words.extend(list.iter().filter_map(typed).map(|value| format!("--{name}={value}").into())),
                value => words.extend(typed(&value).map(|value| OsString::from(format!("--{name}={value}")))),
            }
        }
        words
    }

    /// Everything that it says, as keys with dots.
    pub fn entries(&self) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        for (key, value) in &self.table {
            match value {
                Value::Table(options) => {
                    entries.extend(options.iter().map(|(option, value)| (format!("{key}.{option}"), value.to_string())))
                }
                value => entries.push((key.clone(), value.to_string())),
            }
        }
        entries
    }

    /// Sets `key` ("rig", "rollout.inference") to what `text` says, or removes it, and writes the file.
    ///
    /// # Errors
    /// When `cli` knows no such thing, or the disk refuses; the file is then as it was.
    pub fn set(mut self, cli: &Command, key: &str, text: Option<&str>) -> anyhow::Result<()> {
        let doing = || format!("setting {key} in {}", self.path.display());
        // What is no number and no truth value is a text.
        let value = text.map(|text| match format!("x = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("x")) {
            Some(value @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Array(_))) => value,
            _ => Value::String(text.to_owned()),
        });
        let mut table = self.table.clone();
        if text.is_none() {
            let is_set = match key.split_once('.') {
                None => table.contains_key(key),
                Some((name, option)) => table.get(name).is_some_and(|options| options.get(option).is_some()),
            };
            let known: Vec<String> = self.entries().into_iter().map(|(key, _)| key).collect();
            let known = if known.is_empty() { "nothing is".to_owned() } else { format!("there are {}", known.join(", ")) };
            ensure!(is_set, "removing {key} from {}: it is not set there; {known}", self.path.display());
        }
        match key.split_once('.') {
            None => drop(match value {
                Some(value) => table.insert(key.to_owned(), value),
                None => table.remove(key),
            }),
            Some((name, option)) => {
                let options = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
                let options = options.as_table_mut().with_context(doing)?;
                match value {
                    Some(value) => drop(options.insert(option.to_owned(), value)),
                    None => drop(options.remove(option)),
                }
                let is_empty = options.is_empty();
                if is_empty {
                    table.remove(name);
                }
            }
        }
        let path = self.path.clone();
        self.table = table;
        // What is unknown can be taken away, one after the other.
        if text.is_some() {
            self.check_value(cli, key).map_err(|error| Misuse(format!("setting {key}: {error}")))?;
        }
        let text = toml::to_string(&self.table).with_context(|| format!("setting {key}"))?;
        let writing = || format!("writing {}", path.display());
        std::fs::create_dir_all(path.parent().context("a path without a folder")?).with_context(writing)?;
        whole::write(&path, text.as_bytes(), Readers::Usual).with_context(writing)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

    use super::*;
    use crate::args;

    fn of(text: &str) -> Config {
        let config = Config { path: PathBuf::from("config.toml"), table: text.parse().unwrap() };
        config.check(&args::command()).unwrap();
        config
    }

    fn words(config: &Config, name: &str, given: &[&str]) -> String {
        let cli = args::command();
        let words = config.words(verb(&cli, name).unwrap(), name, |option| given.contains(&option));
        words.iter().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_verb_gets_its_own_options_then_those_of_all_and_none_that_it_is_given() {
        let config =
            of("rig = \"kitchen\"\n[all]\nthreads = 2\ncommercial = true\n[rollout]\nthreads = 1\nrealtime = true\nreconnect = 0.5\n\
            [\"policy bench\"]\nrepeat = 3\n");
        assert_eq!(config.rig(), Some("kitchen"));
        assert_eq!(words(&config, "rollout", &[]), "--realtime --reconnect=0.5 --threads=1 --commercial");
        assert_eq!(words(&config, "rollout", &["threads", "realtime"]), "--reconnect=0.5 --commercial");
        assert_eq!(words(&config, "eval", &[]), "--commercial --threads=2");
        assert_eq!(words(&config, "policy bench", &[]), "--repeat=3 --commercial --threads=2");
        assert_eq!(words(&config, "robots", &[]), "");
        // What contradicts something that is given stays away.
        assert_eq!(words(&of("[rollout]\nno-record = true\n"), "rollout", &["out"]), "");
    }

    #[test]
    fn what_is_unknown_is_named() {
        for (text, says) in [
            ("colour = 3", "colour is unknown"),
            ("rig = 3", "rig is 3, expected the name"),
            ("[dance]\nx = 1", "[dance] is no verb"),
            ("[rollout]\nspeed = 1", "[rollout] speed: sinew rollout has no option --speed"),
            ("[all]\nspeed = 1", "[all] speed: no verb has an option --speed"),
            ("[rollout]\nthreads = {a = 1}", "expected a text, a number"),
        ] {
            let config = Config { path: PathBuf::new(), table: text.parse().unwrap() };
            let error = format!("{:#}", config.check(&args::command()).unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_set_is_read_and_what_is_wrong_changes_nothing() {
        let (folder, cli) = (tempfile::tempdir().unwrap(), args::command());
        let read = || Config::read(folder.path(), &cli).unwrap();
        let error = format!("{:#}", read().set(&cli, "rig", Some("kitchen")).unwrap_err());
        assert!(error.contains("there is no such file"), "{error}");
        let error = format!("{:#}", read().set(&cli, "rollout.camera", Some("front=pattern")).unwrap_err());
        assert!(error.contains("--camera is for a robot behind --port"), "{error}");
        std::fs::create_dir(folder.path().join("rigs")).unwrap();
        std::fs::write(folder.path().join("rigs/kitchen.toml"), "").unwrap();
        read().set(&cli, "rig", Some("kitchen")).unwrap();
        read().set(&cli, "rollout.inference", Some("rtc")).unwrap();
        read().set(&cli, "all.threads", Some("2")).unwrap();
        assert!(read().set(&cli, "rollout.colour", Some("red")).is_err());
        for (key, value, says) in [
            ("rollout.pace", "slow", "invalid value 'slow'"),
            ("rollout.seconds", "nan", "invalid value 'nan'"),
            ("rollout.no-record", "yes", "expected true or false"),
            ("all.yes", "true", "can't be a default"),
        ] {
            let error = format!("{:#}", read().set(&cli, key, Some(value)).unwrap_err());
            assert!(error.contains(says), "{key}: {error}");
        }
        let entries: Vec<String> = read().entries().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(entries, ["all.threads=2", "rig=\"kitchen\"", "rollout.inference=\"rtc\""]);
        let wrong = Config { path: folder.path().join(FILE), table: "[rollout]\nseed = \"abc\"".parse().unwrap() };
        assert!(format!("{:#}", wrong.check_values(&cli).unwrap_err()).contains("invalid value 'abc'"));
        read().set(&cli, "rollout.inference", None).unwrap();
        assert_eq!(read().entries().len(), 2);
        std::fs::write(read().path(), "rig = ").unwrap();
        assert!(format!("{:#}", Config::read(folder.path(), &cli).unwrap_err()).contains("reading the configuration"));
    }
}
