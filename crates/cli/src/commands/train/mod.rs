//! `sinew train`: hands a dataset over to LeRobot's own trainer, here, on another machine or on the Hub's, and takes
//! the policy back.
//!
//! Begun again with the same folder it finds what runs: `state` remembers it before it starts, and what starts it
//! (`machine`, the Hub's Jobs by a label) can be told twice without there being two.

mod begin;
mod cancel;
mod check;
mod family;
mod finish;
mod follow;
mod line;
mod machine;
mod place;
mod progress;
mod push;
mod run;
mod state;
mod stats;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use sinew_hub::Hub;
use sinew_runtime::StopFlag;

use crate::Done;
use crate::args::{RigArgs, TrainArgs, misuse, refuse_given};
use crate::rig::Scenario;
use crate::text::{self, note, say};
use crate::transfer;
use check::{Base, Dataset};
use family::Family;
use follow::{End, Training};
use machine::Machine;
use place::Place;
use run::Standing;
use state::{Asked, Claim, Stage, State};

/// The label by which a job is found.
const LABEL: &str = "sinew-train";
/// Why a training is no longer.
const CANCELLED: &str = "it was cancelled";

pub fn run(args: &TrainArgs) -> anyhow::Result<Done> {
    let hub = transfer::hub(None);
    if args.attach || args.cancel {
        let out = args.out.as_deref().context("--out is missing")?;
        ensure!(State::read(out)?.is_some(), "looking for a training in {}: there is none", out.display());
        return if args.cancel { cancel::cancel(out, &hub, args.json) } else { follow_again(out, &hub, args) };
    }
    let dataset = args.dataset.as_deref().context("the dataset is missing")?;
    let asked = Asked::of(args, dataset)?;
    let out = out_of(args, dataset);
    let mut earlier = None;
    if let Some(state) = State::read(&out)?.filter(|_| !args.dry_run) {
        ensure!(
            state.asked == asked,
            "training into {}: another training was begun there\n  {}\nlook at it with --attach, or name another folder with --out",
            out.display(),
            shown(&state.words, &hub)?
        );
        if state.stage != Stage::Preparing {
            return follow_again(&out, &hub, args);
        }
        earlier = Some(state.key);
    }
    let (state, family, data) = prepare(args, asked, (dataset, earlier.clone()), &out, &hub)?;
    if args.dry_run {
        return Ok(Done::Ok);
    }
    let claim = Claim::take(&out)?;
    let is_free = State::read(&out)?.is_none_or(|state| state.stage == Stage::Preparing && Some(state.key) == earlier);
    ensure!(
        is_free && !out.join("run").exists(),
        "training into {}: somebody has trained there meanwhile, or without `sinew train`; name another folder with --out",
        out.display()
    );
    let state = begin::make_ready(state, &family, &data, &out, &hub)?;
    go_on(state, &claim, &out, &hub, args)
}

/// Goes on with what runs into `out`, as nobody else follows it.
fn follow_again(out: &Path, hub: &Hub, args: &TrainArgs) -> anyhow::Result<Done> {
    if let Some(task) = &args.evaluate {
        // Before hours are waited for it.
        Scenario::of(&RigArgs { task: Some(task.clone()), ..RigArgs::default() })?;
    }
    let claim = Claim::take(out)?;
    let state = State::read(out)?.with_context(|| format!("looking for a training in {}: there is none any more", out.display()))?;
    go_on(state, &claim, out, hub, args)
}

fn out_of(args: &TrainArgs, dataset: &str) -> PathBuf {
    let policy = args.policy.as_deref().or(args.from.as_deref()).map(check::short_name).unwrap_or_default();
    args.out.clone().unwrap_or_else(|| Path::new("outputs/train").join(format!("{policy}_{}", check::short_name(dataset))))
}

/// The line as it is told, with none of the user's tokens in it.
fn shown(words: &[String], hub: &Hub) -> anyhow::Result<String> {
    let words = masked(words, hub)?;
    Ok(format!("lerobot-train {}", line::line(words.iter().map(String::as_str))))
}

fn masked(words: &[String], hub: &Hub) -> anyhow::Result<Vec<String>> {
    Ok(words.iter().map(|word| hub.options().masked(word)).collect::<Result<_, _>>()?)
}

/// Checks what is to be checked of dataset and policy, and writes the line, with the key of an earlier try where there was
/// one. Nothing is left behind.
fn prepare(
    args: &TrainArgs,
    asked: Asked,
    (dataset, key): (&str, Option<String>),
    out: &Path,
    hub: &Hub,
) -> anyhow::Result<(State, Family, Dataset)> {
    let base = args.from.as_deref().map(|from| Base::open(hub, from, args.commercial)).transpose()?;
    let (base, family) = match (base, &args.policy) {
        (None, Some(policy)) => (None, Family::named(policy)?),
        (None, None) => misuse!("training on {dataset}: expected --policy FAMILY for a new policy, or --from POLICY to go on from one"),
        (Some((base, family)), None) => (Some(base), family),
        (Some((base, family)), Some(policy)) => {
            ensure!(family.name == policy, "going on from {}: it is of the family {}, --policy says {policy}", base.path, family.name);
            (Some(base), family)
        }
    };
    if let (None, Some(advised)) = (&base, family.base) {
        note!("a new {} starts from weights that know nothing of robots; most go on from one: --from {advised}", family.name);
    }
    if let (Some(repo), true) = (&args.push, args.dry_run) {
        push::check(hub, repo, &asked.on)?;
    }
    let place = &asked.on;
    let wanted = check::Use {
        family: &family,
        base: base.as_ref(),
        extra: &args.extra,
        evaluate: args.evaluate.as_deref(),
        is_commercial: args.commercial,
        is_here: place.is_here(),
    };
    let data = check::dataset(hub, dataset, &wanted)?;
    check_place(place, args, &data, base.as_ref())?;
    let key = key.unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
    let folder = match place {
        Place::Machine(Machine::Here) => {
            let out = std::path::absolute(out).context("finding the folder of the run")?;
            line::path_in_words(&out)?.to_owned()
        }
        Place::Machine(Machine::Ssh(_)) => format!("sinew-train/{key}"),
        Place::Jobs => format!("outputs/{key}"),
    };
    let sent = sent_dataset(&folder);
    let root = data.root.as_deref().map(line::path_in_words).transpose()?;
    let words = line::words(&line::Wanted {
        args,
        family: &family,
        base: base.as_ref(),
        dataset: &data,
        dataset_root: root.map(|root| if place.is_here() { root } else { &sent }),
        output_dir: &format!("{folder}/run"),
    })?;
    if args.json && args.dry_run {
        text::print_json(&json!({
            "event": "line", "line": shown(&words, hub)?, "words": masked(&words, hub)?, "family": family.name, "dataset": data.repo_id,
            "dataset_commit": data.commit, "found": data.summary, "on": place, "out": out,
        }))?;
    } else if !args.json {
        say!("dataset   {} ({})", data.repo_id, data.summary);
        say!("{}", shown(&words, hub)?);
    }
    let state = State::new(asked, family.name, data.commit.clone(), key, words, folder);
    Ok((state, family, data))
}

/// Where a dataset that is not on the Hub lies on another machine.
fn sent_dataset(folder: &str) -> String {
    format!("{folder}/dataset")
}

/// What a place can't do.
fn check_place(place: &Place, args: &TrainArgs, data: &Dataset, base: Option<&Base>) -> anyhow::Result<()> {
    if let (Some(base), false) = (base.filter(|base| base.is_local), place.is_here()) {
        anyhow::bail!("going on from {} on {place}: that folder is here; put it on the Hub by `sinew hub upload`", base.path);
    }
    if *place == Place::Jobs {
        ensure!(
            data.root.is_none(),
            "training on jobs on a folder that is here: put it on the Hub first by `sinew hub upload {} OWNER/NAME --type dataset`",
            args.dataset.as_deref().unwrap_or("DIR")
        );
        if args.push.is_none() {
            misuse!("training on jobs: the machine is wiped when it ends; say where the policy goes with --push OWNER/NAME");
        }
        let why = "is for training here or over ssh: a job's image has its own Python; name another image with --image";
        refuse_given(&[("--python", args.python.is_some())], why)?;
    } else {
        let of_jobs = [("--flavor", args.flavor.is_some()), ("--image", args.image.is_some()), ("--timeout", args.timeout.is_some())];
        refuse_given(&of_jobs, "is for --on jobs")?;
    }
    Ok(())
}

/// Starts what is not started, follows it, and takes what comes of it.
fn go_on(mut state: State, _claim: &Claim, out: &Path, hub: &Hub, args: &TrainArgs) -> anyhow::Result<Done> {
    if let Stage::Failed(why) = &state.stage {
        anyhow::bail!("training into {}: {why}; see {}, and begin anew with another --out", out.display(), log_of(out).display());
    }
    ensure!(
        state.stage != Stage::Preparing,
        "looking again at the training into {}: it has not begun; say all its words again, without --attach",
        out.display()
    );
    if state.stage != Stage::Trained {
        // A user who goes before there is anything to leave gets it started all the same: it is one request.
        let stop = StopFlag::new();
        stop.escalate_on_signals().context("listening for Ctrl-C")?;
        let training = begin::begin(&mut state, out, hub, args)?;
        let own_log = (!state.asked.on.is_here()).then(|| log_of(out));
        match follow::follow(&training, state.asked.steps, own_log.as_deref(), &stop, args.json)? {
            End::Trained => state.stage = Stage::Trained,
            End::Failed(why) if has_policy(&training, &state)? => {
                note!("{why}; the policy of the last step is there and is taken");
                (state.stage, state.trouble) = (Stage::Trained, Some(why));
            }
            End::Failed(why) => {
                let why = if state::is_cancelled(out) { CANCELLED.to_owned() } else { why };
                state.stage = Stage::Failed(why.clone());
                state.write(out)?;
                anyhow::bail!("training {}: {why}; all that it said is in {}", state.asked.on, log_of(out).display());
            }
            // Whose terminal has gone, or who wanted it to wait, has not said that it is to end.
            End::Left => return leave(state, out, &training, stop.was_hung_up() || stop.was_suspended()),
        }
        state.write(out)?;
        // What follows can be begun again at any time, and nothing of it waits for a word of the user's.
        end_with(stop).context("starting a thread that waits for Ctrl-C")?;
    }
    finish::finish(&mut state, out, hub, args)
}

/// Whether the policy of the last step is whole, whatever came after it, such as a push that failed.
fn has_policy(training: &Training, state: &State) -> anyhow::Result<bool> {
    match training {
        Training::Run(run) => Ok(run.last_step()? == Some(state.asked.steps)),
        Training::Job(..) => Ok(false),
    }
}

fn end_with(stop: StopFlag) -> std::io::Result<()> {
    #[allow(clippy::exit, reason = "what is left is files that are whole or begun, and both are found again")]
    let wait = move || {
        while !stop.is_requested() {
            std::thread::sleep(Duration::from_millis(100));
        }
        std::process::exit(crate::INTERRUPTED.into());
    };
    std::thread::Builder::new().name("stop".into()).spawn(wait).map(drop)
}

fn log_of(out: &Path) -> PathBuf {
    out.join("train.log")
}

/// The user goes. What costs nothing here ends, unless it was the terminal that went; what runs elsewhere goes on.
fn leave(mut state: State, out: &Path, training: &Training, goes_on: bool) -> anyhow::Result<Done> {
    if let (Training::Run(run), true, false) = (training, state.asked.on.is_here(), goes_on) {
        note!("ending the training …");
        state.stage = match run.stop()? {
            Standing::Ended { code: 0 } => Stage::Trained,
            Standing::Running { pid } => anyhow::bail!("ending the training: process {pid} goes on"),
            _ => Stage::Failed("its user ended it (Ctrl-C)".to_owned()),
        };
        if state.stage != Stage::Trained && has_policy(training, &state)? {
            note!("the policy of the last step is there; say the same again to take it");
            (state.stage, state.trouble) = (Stage::Trained, Some("it was ended before all was pushed".to_owned()));
        }
        state.write(out)?;
        let checkpoints = out.join("run/checkpoints");
        match checkpoints.is_dir() {
            true => note!("ended; its checkpoints so far are in {}", checkpoints.display()),
            false => note!("ended, before its first checkpoint"),
        }
    } else {
        let out = text::quoted(out);
        note!("it goes on {}. Look again: sinew train --attach --out {out}", on(&state.asked.on));
        note!("End it:      sinew train --cancel --out {out}");
    }
    Ok(Done::Interrupted)
}

fn on(place: &Place) -> String {
    match place {
        Place::Machine(machine) => machine.to_string(),
        Place::Jobs => "on the Hub's machines".to_owned(),
    }
}
