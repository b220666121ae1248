//! The words of `lerobot-train`, as LeRobot 0.6.1 has them (`configs/train.py`, `configs/default.py`,
//! `configs/policies.py`).

use anyhow::ensure;

use super::check::{Base, Dataset};
use super::family::Family;
use crate::args::TrainArgs;

/// The version whose words these are.
pub const LEROBOT: &str = "0.6.1";
/// The module behind the command `lerobot-train`: so it runs in the Python that the user names.
pub const MODULE: &str = "lerobot.scripts.lerobot_train";
/// LeRobot's own `log_freq`.
const LOG_EVERY: u64 = 200;

/// Words that say what `sinew train` says itself; twice they would contradict each other.
const OURS: [&str; 13] = [
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
/// When a further word says again what is said already.
pub fn words(wanted: &Wanted<'_>) -> anyhow::Result<Vec<String>> {
    let Wanted { args, family, base, dataset, dataset_root, output_dir } = wanted;
    check_extra(&args.extra)?;
    let mut words = vec![format!("--dataset.repo_id={}", dataset.repo_id)];
    words.extend(dataset_root.map(|root| format!("--dataset.root={root}")));
    words.extend(dataset.commit.as_ref().map(|commit| format!("--dataset.revision={commit}")));
    words.push(match base {
        Some(base) => format!("--policy.path={}", base.path),
        None => format!("--policy.type={}", family.name),
    });
    match &args.push {
        Some(repo) => {
            words.extend(["--policy.push_to_hub=true".to_owned(), format!("--policy.repo_id={repo}")]);
            words.extend(args.private.then(|| "--policy.private=true".to_owned()));
        }
        None => words.push("--policy.push_to_hub=false".to_owned()),
    }
    words.push(format!("--output_dir={output_dir}"));
    words.push(format!("--steps={}", args.steps));
    words.push(format!("--batch_size={}", args.batch_size));
    if !names(&args.extra).any(|name| name == "log_freq") {
        // A short run would end before it has said how large the loss is.
        words.push(format!("--log_freq={}", (args.steps / 10).clamp(1, LOG_EVERY)));
    }
    words.extend(args.extra.iter().cloned());
    Ok(words)
}

/// Whether the further words give cameras other names.
pub fn renames(extra: &[String]) -> bool {
    names(extra).any(|name| name == "rename_map")
}

fn names(extra: &[String]) -> impl Iterator<Item = &str> {
    extra.iter().filter_map(|word| word.strip_prefix("--")?.split('=').next())
}

fn check_extra(extra: &[String]) -> anyhow::Result<()> {
    for name in names(extra) {
        ensure!(
            !OURS.contains(&name) && !name.starts_with("job.") && name != "job",
            "the further word --{name}: sinew train says that itself; use its own options (see `sinew train --help`)"
        );
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
        let extra = |word: &str| check_extra(&[word.to_owned()]);
        for ours in ["--steps=3", "--output_dir", "--job.target=a10g-small", "--resume=true", "--policy.type=act"] {
            assert!(extra(ours).is_err(), "{ours}");
        }
        assert!(extra("--policy.chunk_size=10").is_ok() && extra("10").is_ok());
    }
}
