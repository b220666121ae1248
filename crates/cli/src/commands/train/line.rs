//! The words of `lerobot-train`, as LeRobot 0.6.1 has them (`configs/train.py`, `configs/default.py`,
//! `configs/policies.py`).

use std::path::Path;

use anyhow::{Context, ensure};

use super::check::{Base, Dataset};
use super::family::Family;
use crate::args::{TrainArgs, misuse};

/// The version whose words these are.
pub const LEROBOT: &str = "0.6.1";
/// The module behind the command `lerobot-train`: so it runs in the Python that the user names.
pub const MODULE: &str = "lerobot.scripts.lerobot_train";
/// LeRobot's own `log_freq`.
const LOG_EVERY: u64 = 200;

/// Words that say what `sinew train` says itself; twice they would contradict each other.
const OURS: [&str; 15] = [
    "dataset",
    "policy",
    "dataset.repo_id",
    "dataset.root",
    "dataset.revision",
    "policy.type",
    "policy.path",
    "policy.push_to_hub",
    "policy.repo_id",
    "policy.private",
    "output_dir",
    "steps",
    "batch_size",
    "resume",
    "config_path",
];

/// What the words are made of.
pub struct Wanted<'a> {
    pub args: &'a TrainArgs,
    pub family: &'a Family,
    pub base: Option<&'a Base>,
    pub dataset: &'a Dataset,
    /// Where the dataset's folder is on the machine that trains, of one that is not on the Hub.
    pub dataset_root: Option<&'a str>,
    /// LeRobot's folder for the run, on that machine; it must not exist.
    pub output_dir: &'a str,
}

/// The words after `lerobot-train`.
///
/// # Errors
/// When a further word says again what is said already, or a value can't be said.
pub fn words(wanted: &Wanted<'_>) -> anyhow::Result<Vec<String>> {
    let Wanted { args, family, base, dataset, dataset_root, output_dir } = wanted;
    check_extra(&args.extra)?;
    let mut words = vec![word("dataset.repo_id", &dataset.repo_id)?];
    words.extend(dataset_root.map(|root| word("dataset.root", root)).transpose()?);
    words.extend(dataset.commit.as_ref().map(|commit| format!("--dataset.revision={commit}")));
    words.push(match base {
        // This one alone is no YAML: LeRobot takes it out of the line before draccus reads it (`get_path_arg`).
        Some(base) => format!("--policy.path={}", base.path),
        None => format!("--policy.type={}", family.name),
    });
    match &args.push {
        Some(repo) => {
            words.extend(["--policy.push_to_hub=true".to_owned(), word("policy.repo_id", repo)?]);
            words.extend(args.private.then(|| "--policy.private=true".to_owned()));
        }
        None => words.push("--policy.push_to_hub=false".to_owned()),
    }
    words.push(word("output_dir", output_dir)?);
    words.push(format!("--steps={}", args.steps));
    words.push(format!("--batch_size={}", args.batch_size));
    if !names(&args.extra).any(|name| name == "log_freq") {
        // A short run would end before it has said how large the loss is.
        words.push(format!("--log_freq={}", (args.steps / 10).clamp(1, LOG_EVERY)));
    }
    words.extend(args.extra.iter().cloned());
    Ok(words)
}

/// The word that gives LeRobot exactly `value`: draccus 0.11.6 reads every value as YAML, in which ` #`, `: `, a colon at
/// the end, a line feed and more mean something.
fn word(name: &str, value: &str) -> anyhow::Result<String> {
    // draccus takes it for the name of a file to read in its place.
    ensure!(!value.starts_with("include"), "writing --{name}={value}: LeRobot can't be given a value that begins with \"include\"");
    let is_plain = value.contains('/')
        && value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+=@".contains(c));
    if is_plain {
        return Ok(format!("--{name}={value}"));
    }
    let mut word = format!("--{name}=\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => word.extend(['\\', c]),
            // What PyYAML refuses, takes for the end of a line, or drops.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                word.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => word.push(c),
        }
    }
    word.push('"');
    Ok(word)
}

/// A path as a word of the line.
///
/// # Errors
/// When it is no text: what would be shown in its place is another path.
pub fn path_in_words(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("writing the path {} into the line: it is not UTF-8", path.display()))
}

fn names(extra: &[String]) -> impl Iterator<Item = &str> {
    extra.iter().filter_map(|word| word.strip_prefix("--")?.split('=').next())
}

/// The value that the further words give to `name`.
pub fn said<'a>(extra: &'a [String], name: &str) -> Option<&'a str> {
    let of = |(at, word): (usize, &'a String)| match word.strip_prefix("--")?.split_once('=') {
        Some((it, value)) => (it == name).then_some(value),
        None => (word.strip_prefix("--") == Some(name)).then(|| extra.get(at + 1).map_or("", String::as_str)),
    };
    extra.iter().enumerate().rev().find_map(of)
}

fn check_extra(extra: &[String]) -> anyhow::Result<()> {
    for (at, word) in extra.iter().enumerate() {
        // A value may stand alone after the name that it is for.
        let is_value = at > 0 && extra[at - 1].starts_with("--") && !extra[at - 1].contains('=');
        if !(word.starts_with("--") && word.len() > 2 || is_value && !word.starts_with("--")) {
            misuse!("the further word {word:?}: lerobot-train takes words like --name=value");
        }
    }
    let keeps = said(extra, "save_checkpoint").is_none_or(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on"));
    if !keeps {
        misuse!("the further word --save_checkpoint: without a checkpoint there is nothing to take back");
    }
    if let Some(name) = names(extra).into_iter().find(|name| OURS.contains(name) || name.starts_with("job.") || *name == "job") {
        misuse!("the further word --{name}: sinew train says that itself; use its own options (see `sinew train --help`)");
    }
    Ok(())
}

/// A word as a POSIX shell takes it whatever it holds.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,/:=@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Words as a line for a POSIX shell.
pub fn line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_a_shell_as_they_are() {
        let words = ["--a=b", "it's", "$(rm -rf /)", "", "a b", "`x`", "--rename_map={\"a\": \"b\"}"];
        let script = format!("printf '%s\\0' {}", line(words));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let heard: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().split_terminator('\0').collect();
        assert_eq!(heard, words);
    }

    #[test]
    fn a_further_word_does_not_contradict() {
        let extra = |words: &[&str]| check_extra(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        for ours in ["--steps=3", "--output_dir", "--job.target=a10g-small", "--resume=true", "--policy.type=act"] {
            assert!(extra(&[ours]).is_err(), "{ours}");
        }
        assert!(extra(&["--policy.chunk_size=10", "--seed", "10"]).is_ok());
        for other in
            [&["steps=3"][..], &["--seed=1", "10"], &["10"], &["-x"], &["--"], &["--save_checkpoint=false"], &["--save_checkpoint", "no"]]
        {
            assert!(extra(other).is_err(), "{other:?}");
        }
    }

    /// The values on the right came out of draccus 0.11.6 with PyYAML 6.0.4 for the words on the left (`parse_string`).
    #[test]
    fn a_value_reaches_lerobot_as_it_is() {
        for (value, expected) in [
            ("/data/a b", r#"--x="/data/a b""#),
            ("/data/plain-1.0_x", "--x=/data/plain-1.0_x"),
            ("/data/run #3", r#"--x="/data/run #3""#),
            ("/data/a: b", r#"--x="/data/a: b""#),
            ("/data/end:", r#"--x="/data/end:""#),
            ("/data/a\tb", r#"--x="/data/a\u0009b""#),
            ("/data/a\nb", r#"--x="/data/a\u000ab""#),
            ("/data/trailing ", r#"--x="/data/trailing ""#),
            (r#"/data/"a"\n"#, r#"--x="/data/\"a\"\\n""#),
            ("/data/it's", r#"--x="/data/it's""#),
            ("/data/größe 🤖", r#"--x="/data/größe 🤖""#),
            ("/data/\u{85}\u{2028}\u{7f}", r#"--x="/data/\u0085\u2028\u007f""#),
            ("12", r#"--x="12""#),
        ] {
            assert_eq!(word("x", value).unwrap(), expected);
        }
        assert!(word("x", "includes/me").is_err());
    }
}
