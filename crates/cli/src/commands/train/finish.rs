//! What follows a training: the checkpoint comes here, is checked, and shows what it can.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use sinew_hub::{Download, Hub, HubRepo, RepoKind, UploadOptions};

use super::machine::Machine;
use super::place::Place;
use super::run::Run;
use super::state::State;
use super::{line, push};
use crate::args::{CameraArgs, CardArgs, TrainArgs};
use crate::commands::{hub, policy};
use crate::text::{self, note, say};
use crate::{Done, transfer};

/// Where a run keeps the checkpoint of its last step, below LeRobot's folder (its `common/train_utils.py`).
const LAST: &str = "checkpoints/last/pretrained_model";
/// What of a repository is no policy: checkpoints on the way, and what could be a pickle.
const NO_POLICY: [&str; 7] = ["checkpoints/*", "*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.pickle"];

/// Brings the checkpoint, checks it, and evaluates it where that is asked for.
pub fn finish(state: &mut State, out: &Path, hub: &Hub, args: &TrainArgs) -> anyhow::Result<Done> {
    if let (None, None, Some(repo)) = (&state.policy_commit, &state.trouble, &state.asked.push) {
        match push::pushed(hub, repo, state.head_before.as_deref(), &format!("{}/run", state.folder)) {
            Ok(commit) => state.policy_commit = Some(commit),
            // The policy is where it was trained.
            Err(error) if matches!(state.asked.on, Place::Machine(_)) => state.trouble = Some(text::chain(&error).replace('\n', " ")),
            Err(error) => return Err(error),
        }
        state.write(out)?;
    }
    let folder = match &state.checkpoint {
        Some(folder) if folder.join("config.json").is_file() => folder.clone(),
        _ => bring(state, out, hub)?,
    };
    check_family(&folder, &state.family)?;
    state.checkpoint = Some(folder.clone());
    state.write(out)?;
    let name = folder.to_string_lossy().into_owned();
    let checked = policy::check(Some(&name), None, &CameraArgs::default(), args.json)?;
    let evaluation = match &args.evaluate {
        Some(task) if checked == Done::Ok => Some(evaluate(&folder, task, args.evaluate_episodes, state, out)?),
        _ => None,
    };
    if let Some((path, _)) = &evaluation {
        let card = CardArgs {
            repo: name.clone(),
            kind: None,
            write: true,
            force: true,
            licence: None,
            evaluation: Some(path.clone()),
            json: args.json,
        };
        hub::card::run(&card)?;
        if let Some(push) = state.asked.push.as_ref().filter(|_| state.policy_commit.is_some()) {
            push_card(&folder, push, hub)?;
        }
    }
    let totals = evaluation.map(|(_, totals)| totals);
    if args.json {
        text::print_json(&json!({
            "event": "done", "checkpoint": folder, "family": state.family, "dataset": state.asked.dataset,
            "dataset_commit": state.dataset_commit, "steps": state.asked.steps,
            "pushed_to": state.asked.push.as_ref().filter(|_| state.policy_commit.is_some()), "trouble": state.trouble,
            "policy_commit": state.policy_commit, "is_usable": checked == Done::Ok, "evaluation": totals,
        }))?;
    } else {
        if let Some(totals) = &totals {
            let percent = |at: &str| totals.pointer(at).and_then(Value::as_f64).unwrap_or_default() * 1e2;
            say!(
                "success   {} of {} = {:.1} % (95 % interval {:.1} to {:.1} %, Wilson)",
                totals["successes"],
                totals["episodes"],
                percent("/success_rate"),
                percent("/success_rate_interval/0"),
                percent("/success_rate_interval/1")
            );
        }
        say!("checkpoint {name}");
    }
    let Some(trouble) = &state.trouble else { return Ok(checked) };
    note!("after the last step: {trouble}");
    let Some(push) = &state.asked.push else { return Ok(checked) };
    note!("the policy is whole; whether it was pushed is not known: do it by `sinew hub upload {} {push}`", line::quoted(&name));
    Ok(Done::Refused)
}

/// That the policy is of the family that was asked for: what else lies there is not what was trained.
fn check_family(folder: &Path, family: &str) -> anyhow::Result<()> {
    let doing = || format!("looking at the policy in {}", folder.display());
    let text = std::fs::read_to_string(folder.join("config.json")).with_context(doing)?;
    let config: Value = serde_json::from_str(&text).with_context(doing)?;
    ensure!(config["type"] == family, "{}: expected the family {family}, found {}", doing(), text::in_line(&config["type"].to_string()));
    Ok(())
}

/// Puts the card where the policy was pushed; what else is there stays as it is.
fn push_card(folder: &Path, push: &str, hub: &Hub) -> anyhow::Result<()> {
    let repo = HubRepo::parse(RepoKind::Model, push)?;
    // In the place of the one that was pushed with the policy.
    let parent = hub.info(&repo).ok().and_then(|info| info.sha);
    let options = UploadOptions { include: vec![hub::card::CARD.to_owned()], parent, ..UploadOptions::default() };
    let by_hand = || {
        let folder = text::quoted(folder);
        format!("putting the card on the Hub; do it by `sinew hub upload {folder} {push} --include {}`", hub::card::CARD)
    };
    let uploaded = hub.upload(folder, &repo, &options, &*transfer::silent()).with_context(by_hand)?;
    note!("the card with the evaluation is on the Hub as commit {} of {push}", uploaded.commit);
    Ok(())
}

fn bring(state: &State, out: &Path, hub: &Hub) -> anyhow::Result<PathBuf> {
    let here = std::path::absolute(out.join("pretrained_model")).context("finding the folder of the checkpoint")?;
    let last = format!("{}/run/{LAST}", state.folder);
    match &state.asked.on {
        Place::Machine(Machine::Here) => {
            let folder = PathBuf::from(last);
            ensure!(folder.join("config.json").is_file(), "looking for the checkpoint: there is none in {}", folder.display());
            // The link moves on where somebody trains further.
            folder.canonicalize().with_context(|| format!("finding {}", folder.display()))
        }
        Place::Machine(machine) => {
            machine.fetch(&last, &here)?;
            Ok(here)
        }
        Place::Jobs => {
            let push = state.asked.push.as_deref().context("looking for the checkpoint: the job was to push it nowhere")?;
            let commit = state.policy_commit.as_deref().context("looking for the checkpoint: nothing is known of its commit")?;
            let repo = HubRepo::parse(RepoKind::Model, &format!("{push}@{commit}"))?;
            let what = Download { include: Vec::new(), exclude: NO_POLICY.map(str::to_owned).to_vec(), folder: Some(here.clone()) };
            hub.download(&repo, &what, &*transfer::shown())?;
            Ok(here)
        }
    }
}

/// What `sinew eval --json` says of the checkpoint: the file, and its last line.
fn evaluate(folder: &Path, task: &str, episodes: u64, state: &State, out: &Path) -> anyhow::Result<(PathBuf, Value)> {
    let doing = || format!("evaluating {} at {task}", folder.display());
    let path = out.join("evaluation.jsonl");
    let pictures = out.join("evaluation.png");
    let own = std::env::current_exe().with_context(doing)?;
    let mut command = Command::new(own);
    command.args(["eval", "--json", "--task", task, "--episodes", &episodes.to_string()]);
    command.arg("--policy").arg(folder).arg("--contact-sheet").arg(&pictures);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().with_context(doing)?;
    ensure!(output.status.success(), "{}: `sinew eval` ended with {}", doing(), output.status);
    let said = String::from_utf8(output.stdout).with_context(doing)?;
    let mut lines: Vec<Value> = said.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(doing)?;
    let totals = lines.last_mut().with_context(doing)?;
    // A folder has no commit; what was pushed out of it has one.
    if let Some(commit) = &state.policy_commit {
        totals["commit"] = json!(commit);
    }
    let totals = totals.clone();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok((path, totals))
}

/// The run of a state, where it is one of a machine.
pub fn run_of(state: &State) -> Option<Run> {
    let Place::Machine(machine) = &state.asked.on else { return None };
    Some(Run { machine: machine.clone(), folder: state.folder.clone(), key: state.key.clone() })
}
