//! `sinew hub card`: shows the card of a repository, or writes one out of what a folder says of itself.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use sinew_hub::{Hub, HubRepo, ModelRef};
use sinew_recorder::DatasetInfo;

use super::repo_of;
use crate::args::{CardArgs, ComputeArgs, misuse, refuse_given};
use crate::text::{self, note, say};
use crate::{Done, licence, source, transfer, wilson};

/// The file that a repository is introduced by.
pub const CARD: &str = "README.md";

pub fn run(args: &CardArgs) -> anyhow::Result<Done> {
    if args.write {
        return write(args);
    }
    let card = match ModelRef::parse(&args.repo)? {
        ModelRef::Local(folder) => {
            let path = folder.join(CARD);
            anyhow::ensure!(!path.exists() || path.is_file(), "reading the card {}: expected a file, found none", path.display());
            std::fs::read_to_string(&path).with_context(|| format!("reading the card {}", path.display()))?
        }
        ModelRef::Hub(_) => {
            let hub = Hub::from_env();
            let repo: HubRepo = repo_of(&hub, &args.repo, args.kind)?;
            hub.read_text(&repo, CARD, &*transfer::shown())?
        }
    };
    let (head, body) = split(&card);
    if args.json {
        text::print_json(&json!({ "metadata": head, "text": body }))?;
    } else {
        head.lines().for_each(|line| say!("  {}", text::in_line(line)));
        say!("{}", text::harmless(body.trim()));
    }
    Ok(Done::Ok)
}

/// The metadata between two lines of dashes at the top, and the text below.
fn split(card: &str) -> (&str, &str) {
    let rest = card.strip_prefix("---\n").or_else(|| card.strip_prefix("---\r\n"));
    let parts = rest.and_then(|rest| rest.split_once("\n---"));
    parts.map_or(("", card), |(head, body)| (head, body.trim_start_matches(['-', '\r', '\n'])))
}

fn write(args: &CardArgs) -> anyhow::Result<Done> {
    let folder = Path::new(&args.repo);
    let path = folder.join(CARD);
    if let Some(licence) = &args.licence {
        if licence.is_empty() || licence.chars().any(|c| c.is_control() || c.is_whitespace()) || licence.len() > 100 {
            misuse!("--licence: expected the Hub's short name of a licence, such as apache-2.0, found {licence:?}");
        }
        if !licence::is_listed(licence) {
            note!(
                "warning: the Hub lists no licence by the name {licence}, so others can't tell what it allows; its names are those such as apache-2.0, mit and other"
            );
        }
    }
    // In a snapshot of the cache it is one, to the content that other commits have as well.
    let is_link = path.symlink_metadata().is_ok_and(|found| found.is_symlink());
    anyhow::ensure!(
        !is_link,
        "writing the card {}: it is a link, and what it leads to is not written; remove the link first",
        path.display()
    );
    let is_dataset = folder.join("meta/info.json").is_file();
    if let Some(there) = there_already(&path)?
        && !args.force
        && !sinew_recorder::is_plain_card(&there)
    {
        anyhow::bail!("writing the card {}: there is one; change it by hand, or write over it with --force", path.display());
    }
    let evaluation = args.evaluation.as_deref().map(Evaluation::read).transpose()?;
    let card = if is_dataset {
        refuse_given(&[("--evaluation", evaluation.is_some())], "is for policies, and this is a dataset")?;
        of_dataset(&DatasetInfo::open(folder)?, args.licence.as_deref())
    } else {
        of_policy(folder, args.licence.as_deref(), evaluation.as_ref())?
    };
    std::fs::write(&path, card).with_context(|| format!("writing {}", path.display()))?;
    if args.licence.is_none() {
        note!("the card states no licence; whoever wants to use it will ask. Give one with --licence, such as apache-2.0");
    }
    if args.json {
        text::print_json(&json!({ "card": path }))?;
    } else {
        say!("{}", path.display());
    }
    Ok(Done::Ok)
}

/// The card that a folder has. What can't be read is nothing that may be written over, nor is anything waited for, such as a pipe.
fn there_already(path: &Path) -> anyhow::Result<Option<String>> {
    let doing = || format!("writing the card {}", path.display());
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        found => anyhow::ensure!(found.with_context(doing)?.is_file(), "{}: expected a file there, or none; remove what is there", doing()),
    }
    let text = String::from_utf8(std::fs::read(path).with_context(doing)?);
    Ok(Some(text.ok().with_context(|| format!("{}: the one that is there is no UTF-8 text; move it away first", doing()))?))
}

/// A text as YAML takes it whatever it holds: JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn of_dataset(info: &DatasetInfo, licence: Option<&str>) -> String {
    let robot = info.robot_type.as_deref().unwrap_or("a robot that it does not name");
    let mut card = String::from("---\n");
    if let Some(licence) = licence {
        let _ = writeln!(card, "license: {}", quoted(licence));
    }
    card += "task_categories:\n- robotics\ntags:\n- LeRobot\n- sinew\n";
    if let Some(robot) = &info.robot_type {
        let _ = writeln!(card, "- {}", quoted(robot));
    }
    card += "configs:\n- config_name: default\n  data_files: data/*/*.parquet\n---\n\n";
    let seconds = info.fps.seconds(info.total_frames);
    let _ = write!(
        card,
        "A dataset of {robot} in the format {} of [LeRobot](https://github.com/huggingface/lerobot), recorded with Sinew.\n\n\
         | | |\n|---|---|\n| robot | {robot} |\n| episodes | {} |\n| frames | {} ({}) |\n| rate | {} Hz |\n",
        info.codebase_version,
        info.total_episodes,
        info.total_frames,
        if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) },
        info.fps,
    );
    for camera in &info.cameras {
        let codec = camera.codec.as_deref().unwrap_or("images");
        let _ = writeln!(card, "| {} | {}×{}, {codec} |", camera.key, camera.width, camera.height);
    }
    let judged = info.episodes.iter().filter_map(|episode| episode.success);
    let (all, good) = judged.fold((0, 0), |(all, good), success| (all + 1, good + u64::from(success)));
    if all > 0 {
        let _ = writeln!(card, "| successful episodes | {good} of {all} |");
    }
    card += "\nTasks:\n\n";
    for task in &info.tasks {
        let _ = writeln!(card, "- {}", text::in_line(task));
    }
    card += "\n```sh\nsinew dataset view OWNER/NAME\nlerobot-train --dataset.repo_id=OWNER/NAME --policy.type=act\n```\n";
    card
}

fn of_policy(folder: &Path, licence: Option<&str>, evaluation: Option<&Evaluation>) -> anyhow::Result<String> {
    let checkpoint = source::open_folder(folder, &ComputeArgs::default())?;
    let info = checkpoint.info();
    let trained: Option<Value> = std::fs::read(folder.join("train_config.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let of_training = |pointer: &str| trained.as_ref()?.pointer(pointer)?.as_str().map(str::to_owned);
    let dataset = of_training("/dataset/repo_id");
    let base = info.adapter_base.clone().or_else(|| of_training("/policy/pretrained_path")).filter(|base| base.matches('/').count() == 1);
    let mut card = String::from("---\n");
    // Those of its own; what its base is under is said by the base, which the card names.
    let own = info.terms.first().map(|terms| terms.licences.as_slice()).unwrap_or_default();
    let licences: Vec<String> = licence.map_or_else(|| own.iter().map(|one| quoted(one)).collect(), |one| vec![quoted(one)]);
    match licences.as_slice() {
        [] => {}
        [one] => card += &format!("license: {one}\n"),
        several => card += &format!("license:\n- {}\n", several.join("\n- ")),
    }
    let _ =
        write!(card, "library_name: lerobot\npipeline_tag: robotics\ntags:\n- robotics\n- lerobot\n- sinew\n- {}\n", quoted(&info.family));
    for (key, names) in [("datasets", &dataset), ("base_model", &base)] {
        if let Some(name) = names {
            let _ = writeln!(card, "{key}:\n- {}", quoted(name));
        }
    }
    if let Some(evaluation) = evaluation {
        card += &evaluation.as_model_index(&info.family);
    }
    let _ = write!(
        card,
        "---\n\nA policy of the family `{}` in the format of LeRobot.\n\n| | |\n|---|---|\n| parameters | {} |\n| action chunk | {} |\n",
        info.family,
        text::count(info.parameters),
        info.chunk_size
    );
    for feature in info.inputs.iter().chain(&info.outputs) {
        let _ = writeln!(card, "| {} | {:?} |", feature.name, feature.shape);
    }
    if let Some(dataset) = &dataset {
        let _ = writeln!(card, "| trained on | {dataset} |");
    }
    if let Some(steps) = trained.as_ref().and_then(|json| json.get("steps")?.as_u64()) {
        let _ = writeln!(card, "| steps | {steps} |");
    }
    if let Some(evaluation) = evaluation {
        let _ = writeln!(card, "\n{}", evaluation.in_words());
    }
    card += "\n```sh\nsinew policy check OWNER/NAME --robot so101\nsinew rollout --policy OWNER/NAME\n```\n";
    Ok(card)
}

/// What `sinew eval --json` said at its end.
struct Evaluation {
    task: String,
    episodes: u64,
    successes: u64,
    commit: Option<String>,
}

impl Evaluation {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let doing = || format!("reading the evaluation {}", path.display());
        let text = std::fs::read_to_string(path).with_context(doing)?;
        let totals =
            text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line.get("success_rate").is_some());
        let totals = totals.context("expected what `sinew eval --json` prints, whose last line has a success_rate").with_context(doing)?;
        let number = |key: &str| totals.get(key).and_then(Value::as_u64);
        let parse = || Some((totals.get("task")?.as_str()?.to_owned(), number("episodes")?, number("successes")?));
        let (task, episodes, successes) = parse().context("expected task, episodes and successes on its last line").with_context(doing)?;
        anyhow::ensure!(episodes > 0 && successes <= episodes, "{}: {successes} successes of {episodes} episodes", doing());
        let commit = totals.get("commit").and_then(Value::as_str).map(str::to_owned);
        Ok(Self { task, episodes, successes, commit })
    }

    /// The Hub's form of a result: https://huggingface.co/docs/hub/model-cards#evaluation-results
    fn as_model_index(&self, name: &str) -> String {
        format!(
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: robotics\n    dataset:\n      name: {}\n      type: simulation\n    \
             metrics:\n    - type: success_rate\n      name: {}\n      value: {:.4}\n",
            quoted(name),
            quoted(&format!("Sinew simulator, {}", self.task)),
            quoted(&format!("Success rate over {} episodes", self.episodes)),
            self.successes as f64 / self.episodes as f64
        )
    }

    fn in_words(&self) -> String {
        let (low, high) = wilson::interval(self.successes, self.episodes);
        let rate = self.successes as f64 / self.episodes as f64 * 1e2;
        let commit = self.commit.as_ref().map_or_else(String::new, |commit| format!(", at commit {commit}"));
        format!(
            "In Sinew's simulator it succeeds at `{}` in {} of {} episodes{commit}: {rate:.1} % (95 % interval {:.1} to {:.1} %, Wilson).",
            self.task,
            self.successes,
            self.episodes,
            low * 1e2,
            high * 1e2
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_card_is_told_from_its_text() {
        assert_eq!(split("---\nlicense: mit\n---\n\n# A card\n"), ("license: mit", "# A card\n"));
        assert_eq!(split("# No head\n---\n"), ("", "# No head\n---\n"));
        assert_eq!(split(""), ("", ""));
    }

    #[test]
    fn an_evaluation_is_read_from_what_eval_prints() {
        let folder = std::env::temp_dir().join(format!("sinew-card-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("eval.jsonl");
        let lines = "{\"seed\":0,\"success\":true}\n{\"task\":\"reach\",\"episodes\":40,\"successes\":30,\"success_rate\":0.75,\"commit\":\"abc\"}\n";
        std::fs::write(&path, lines).unwrap();
        let evaluation = Evaluation::read(&path).unwrap();
        assert!(evaluation.in_words().contains("30 of 40 episodes, at commit abc: 75.0 %"), "{}", evaluation.in_words());
        assert!(evaluation.as_model_index("act").contains("value: 0.7500"));
        std::fs::write(&path, "{\"seed\":0}\n").unwrap();
        assert!(format!("{:#}", Evaluation::read(&path).err().unwrap()).contains("success_rate"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
