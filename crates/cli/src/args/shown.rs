//! The command line as it is read and shown: what holds for all its words, and what `-h` shows of them.

use clap::builder::ValueParser;
use clap::{Arg, Command, CommandFactory as _};

use super::Cli;
use super::values::words;

/// The options that people use, of verbs that have many: those that `-h` shows. `--help` shows all.
pub(super) const USED: [(&str, &[&str]); 9] = [
    ("sinew rollout", &["policy", "robot", "task", "instruction", "episodes", "seconds", "rig", "port", "inference", "out"]),
    (
        "sinew record",
        &[
            "robot",
            "task",
            "instruction",
            "rig",
            "port",
            "camera",
            "teleop",
            "teleop-port",
            "episodes",
            "episode-time",
            "reset-time",
            "out",
        ],
    ),
    ("sinew replay", &["episode", "robot", "task", "rig", "port", "id", "pace"]),
    ("sinew teleop", &["robot", "rig", "port", "id", "teleop", "teleop-port", "teleop-id", "to", "fleet", "seconds"]),
    ("sinew daemon", &["robot", "task", "rig", "port", "teleop", "listen", "fleet"]),
    ("sinew lekiwi-host", &["port", "id", "camera", "bind", "lerobot-clients"]),
    ("sinew train", &["policy", "from", "on", "python", "out", "steps", "batch-size", "push", "dry-run", "attach"]),
    ("sinew emulate", &["link", "id", "fault", "hand", "world", "seconds"]),
    ("sinew hub upload", &["type", "private", "include", "exclude", "message", "replace"]),
];

/// More lines of text below the options are for `--help`.
const FEW: usize = 4;

/// The command line, as everybody reads it: a number may be negative, so that its option says what is wrong with it, and no
/// text is empty.
pub fn command() -> Command {
    careful(Cli::command(), "sinew")
}

fn careful(verb: Command, name: &str) -> Command {
    // That of a text of which nobody asks more.
    let text = format!("{:?}", ValueParser::string());
    let used = USED.iter().find(|(verb, _)| *verb == name).map(|(_, used)| *used);
    let careful_word = |word: Arg| {
        let is_rare = used.is_some_and(|used| word.get_long().is_some_and(|long| !used.contains(&long)));
        let word = if is_rare { word.hide_short_help(true) } else { word };
        if format!("{:?}", word.get_value_parser()) == text { word.value_parser(words) } else { word }
    };
    let verb = brief(verb.allow_negative_numbers(true).mut_args(careful_word), name);
    verb.mut_subcommands(|deeper| {
        let name = format!("{name} {}", deeper.get_name());
        careful(deeper, &name)
    })
}

/// The verb with a short text below the options of `-h`, where it has a long one: its shortest example.
fn brief(verb: Command, name: &str) -> Command {
    let Some(all) = verb.get_after_help().map(ToString::to_string) else { return verb };
    let examples = all.split_once("Examples:\n").or_else(|| all.split_once("Example:\n")).map(|(_, examples)| examples);
    if verb.get_after_long_help().is_some() || all.lines().count() <= FEW && examples.is_none_or(|examples| examples.len() + 12 > all.len())
    {
        return verb;
    }
    let shortest = examples.and_then(|examples| each_example(examples).into_iter().min_by_key(|example| example.lines().count()));
    let example = shortest.map_or_else(String::new, |example| format!("Example:\n{example}\n\n"));
    verb.after_help(format!("{example}More: {name} --help")).after_long_help(all)
}

/// A command each, with the lines on which it goes on.
fn each_example(text: &str) -> Vec<String> {
    let mut examples: Vec<String> = Vec::new();
    for line in text.lines() {
        match examples.last_mut() {
            Some(last) if line.starts_with("      ") => *last += &format!("\n{line}"),
            _ => examples.push(line.to_owned()),
        }
    }
    examples
}
