//! `sinew train`: hands a dataset over to LeRobot's own trainer, here, on another machine or on the Hub's, and takes
//! the policy back.
//!
//! Begun again with the same folder it finds what runs: `state` remembers it before it starts, and what starts it
//! (`machine`, the Hub's Jobs by a label) can be told twice without there being two.

mod check;
mod family;
mod finish;
mod follow;
mod line;
mod machine;
mod place;
mod progress;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use sinew_hub::{Hub, HubRepo, Job, JobId, JobSpec, RepoKind};
use sinew_runtime::StopFlag;

use crate::Done;
use crate::args::TrainArgs;
use crate::text::{self, note, say};
use check::{Base, Dataset};
use family::Family;
use follow::{End, Training};
use machine::{Machine, Standing};
use place::Place;
use state::{Asked, Claim, Stage, State};

/// The label by which a job is found.
const LABEL: &str = "sinew-train";

pub fn run(args: &TrainArgs) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    if args.attach || args.cancel {
        let out = args.out.as_deref().context("--out is missing")?;
        let state = State::read(out)?.with_context(|| format!("looking for a training in {}: there is none", out.display()))?;
        return if args.cancel { cancel(state, out, &hub) } else { follow_again(out, &hub, args) };
    }
    let dataset = args.dataset.as_deref().context("the dataset is missing")?;
    let asked = Asked::of(args, dataset)?;
    let out = out_of(args, dataset);
    if let Some(state) = State::read(&out)?.filter(|_| !args.dry_run) {
        ensure!(
            state.asked == asked,
            "training into {}: another training was begun there\n  {}\nlook at it with --attach, or name another folder with --out",
            out.display(),
            shown(&state.words)
        );
        return follow_again(&out, &hub, args);
    }
    let (state, family, data) = prepare(args, asked, dataset, &out, &hub)?;
    if args.dry_run {
        return Ok(Done::Ok);
    }
    let claim = Claim::take(&out)?;
    ensure!(
        State::read(&out)?.is_none() && !out.join("run").exists(),
        "training into {}: somebody has trained there meanwhile, or without `sinew train`; name another folder with --out",
        out.display()
    );
    let state = make_ready(state, &family, &data, &out, &hub)?;
    go_on(state, &claim, &out, &hub, args)
}

/// Goes on with what runs into `out`, as nobody else follows it.
fn follow_again(out: &Path, hub: &Hub, args: &TrainArgs) -> anyhow::Result<Done> {
    let claim = Claim::take(out)?;
    let state = State::read(out)?.with_context(|| format!("looking for a training in {}: there is none any more", out.display()))?;
    go_on(state, &claim, out, hub, args)
}

fn out_of(args: &TrainArgs, dataset: &str) -> PathBuf {
    let policy = args.policy.as_deref().or(args.from.as_deref()).map(check::short_name).unwrap_or_default();
    args.out.clone().unwrap_or_else(|| Path::new("outputs/train").join(format!("{policy}_{}", check::short_name(dataset))))
}

fn shown(words: &[String]) -> String {
    format!("lerobot-train {}", line::line(words.iter().map(String::as_str)))
}

/// Checks what is to be checked of dataset and policy, and writes the line. Nothing is left behind.
fn prepare(args: &TrainArgs, asked: Asked, dataset: &str, out: &Path, hub: &Hub) -> anyhow::Result<(State, Family, Dataset)> {
    let base = args.from.as_deref().map(|from| Base::open(hub, from, args.commercial)).transpose()?;
    let (base, family) = match (base, &args.policy) {
        (None, policy) => (None, Family::named(policy.as_deref().unwrap_or_default())?),
        (Some((base, family)), None) => (Some(base), family),
        (Some((base, family)), Some(policy)) => {
            ensure!(family.name == policy, "going on from {}: it is of the family {}, --policy says {policy}", base.path, family.name);
            (Some(base), family)
        }
    };
    if let (None, Some(advised)) = (&base, family.base) {
        note!("a new {} starts from weights that know nothing of robots; most go on from one: --from {advised}", family.name);
    }
    if let Some(push) = &args.push {
        let repo = HubRepo::parse(RepoKind::Model, push)?;
        ensure!(repo.revision() == HubRepo::DEFAULT_REVISION, "pushing to {push}: LeRobot pushes to the default branch alone");
    }
    let place = &asked.on;
    let wanted = check::Use {
        family: &family,
        base: base.as_ref(),
        renames: line::renames(&args.extra),
        is_commercial: args.commercial,
        is_here: place.is_here(),
    };
    let data = check::dataset(hub, dataset, &wanted)?;
    check_place(place, args, &data, base.as_ref())?;
    let key = format!("{:016x}", fastrand::u64(..));
    let folder = match place {
        Place::Machine(Machine::Here) => std::path::absolute(out).context("finding the folder of the run")?.display().to_string(),
        Place::Machine(Machine::Ssh(_)) => format!("sinew-train/{key}"),
        Place::Jobs => "outputs".to_owned(),
    };
    let sent = sent_dataset(&folder);
    let root = data.root.as_ref().map(|root| root.display().to_string());
    let words = line::words(&line::Wanted {
        args,
        family: &family,
        base: base.as_ref(),
        dataset: &data,
        dataset_root: root.as_deref().map(|root| if place.is_here() { root } else { &sent }),
        output_dir: &format!("{folder}/run"),
    })?;
    if args.json && args.dry_run {
        text::print_json(&json!({
            "event": "line", "line": shown(&words), "words": words, "family": family.name, "dataset": data.repo_id,
            "dataset_commit": data.commit, "found": data.summary, "on": place, "out": out,
        }))?;
    } else if !args.json {
        say!("dataset   {} ({})", data.repo_id, data.summary);
        say!("{}", shown(&words));
    }
    let state = State::new(asked, family.name, data.commit.clone(), key, words, folder);
    Ok((state, family, data))
}

/// Where a dataset that is not on the Hub lies on another machine.
fn sent_dataset(folder: &str) -> String {
    format!("{folder}/dataset")
}

/// Sees to it that there is all that the training needs, and remembers it: from then on it is begun.
fn make_ready(mut state: State, family: &Family, data: &Dataset, out: &Path, hub: &Hub) -> anyhow::Result<State> {
    match &state.asked.on {
        Place::Machine(machine) => {
            machine.check_python(&state.asked.python, family)?;
            if let Some(root) = &data.root {
                machine.send(root, &sent_dataset(&state.folder))?;
            }
            if let (Some(push), false) = (&state.asked.push, state.asked.on.is_here()) {
                note!("pushing to {push} needs a login there (`hf auth login`): the token of this machine stays here");
            }
        }
        Place::Jobs => state.namespace = Some(hub.whoami(None)?.name),
    }
    state.write(out)?;
    Ok(state)
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
        ensure!(
            args.push.is_some(),
            "training on jobs: the machine is wiped when it ends; say where the policy goes with --push OWNER/NAME"
        );
    }
    Ok(())
}

/// Starts what is not started, follows it, and takes what comes of it.
fn go_on(mut state: State, _claim: &Claim, out: &Path, hub: &Hub, args: &TrainArgs) -> anyhow::Result<Done> {
    if let Stage::Failed(why) = &state.stage {
        anyhow::bail!("training into {}: {why}; see {}, and begin anew with another --out", out.display(), log_of(out).display());
    }
    if state.stage != Stage::Trained {
        // A user who goes before there is anything to leave gets it started all the same: it is one request.
        let stop = StopFlag::new();
        stop.escalate_on_signals().context("listening for Ctrl-C")?;
        let training = begin(&mut state, out, hub, args)?;
        let own_log = (!state.asked.on.is_here()).then(|| log_of(out));
        match follow::follow(&training, state.asked.steps, own_log.as_deref(), &stop, args.json)? {
            End::Trained => state.stage = Stage::Trained,
            End::Failed(why) => {
                state.stage = Stage::Failed(why.clone());
                state.write(out)?;
                anyhow::bail!("training {}: {why}; all that it said is in {}", state.asked.on, log_of(out).display());
            }
            End::Left => return leave(state, out, &training),
        }
        state.write(out)?;
        // What follows can be begun again at any time, and nothing of it waits for a word of the user's.
        end_with(stop).context("starting a thread that waits for Ctrl-C")?;
    }
    finish::finish(&mut state, out, hub, args)
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

/// The user goes. What costs nothing here ends; what runs elsewhere goes on.
fn leave(mut state: State, out: &Path, training: &Training) -> anyhow::Result<Done> {
    if let (Training::Run(run), true) = (training, state.asked.on.is_here()) {
        note!("ending the training …");
        let standing = run.stop()?;
        state.stage = match standing {
            Standing::Ended { code: 0 } => Stage::Trained,
            _ => Stage::Failed("it was ended by Ctrl-C".to_owned()),
        };
        state.write(out)?;
        note!("ended; its checkpoints so far are in {}", out.join("run/checkpoints").display());
    } else {
        let out = line::quoted(&out.to_string_lossy());
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

/// Sees to it that the training runs, once, whoever has started it.
fn begin(state: &mut State, out: &Path, hub: &Hub, args: &TrainArgs) -> anyhow::Result<Training> {
    let training = match finish::run_of(state) {
        Some(run) => {
            let was = if state.stage == Stage::Starting { Standing::None } else { run.standing()? };
            let mut words = vec![state.asked.python.clone(), "-m".to_owned(), line::MODULE.to_owned()];
            words.extend(state.words.iter().cloned());
            let standing = if was == Standing::None { run.begin(&words)? } else { was };
            let pid = if let Standing::Running { pid } = standing { Some(pid) } else { None };
            // A short one may be over by the time it is asked for.
            if was == Standing::None || pid.is_some() {
                state.pid = pid;
                let process = pid.map(|pid| format!(" as process {pid}")).unwrap_or_default();
                let words = format!("runs {}{process}, in {}", run.machine, run.folder);
                tell(args, state, &words, json!({ "pid": pid, "folder": run.folder }))?;
            }
            Training::Run(run)
        }
        None => {
            let job = match &state.job {
                Some(id) => id.clone(),
                None => begin_job(state, hub, args)?.id,
            };
            state.job = Some(job.clone());
            let page = format!("{}/jobs/{}/{}", hub.options().endpoint, job.namespace, job.id);
            tell(args, state, &format!("runs as the job {page}"), json!({ "job": job, "page": page }))?;
            Training::Job(hub.clone(), job)
        }
    };
    state.stage = Stage::Running;
    state.write(out)?;
    Ok(training)
}

fn tell(args: &TrainArgs, state: &State, words: &str, facts: serde_json::Value) -> anyhow::Result<()> {
    if args.json {
        let mut event = json!({ "event": "started", "on": state.asked.on, "line": shown(&state.words) });
        if let (Some(event), serde_json::Value::Object(facts)) = (event.as_object_mut(), facts) {
            event.extend(facts);
        }
        return text::print_json(&event);
    }
    say!("{words}");
    Ok(())
}

/// Starts a job, unless one with the key is there: an answer of the Hub may have been lost, or who waited for it.
fn begin_job(state: &State, hub: &Hub, args: &TrainArgs) -> anyhow::Result<Job> {
    let namespace = state.namespace.as_deref().context("starting a job: nobody is named who pays for it")?;
    let there = || -> anyhow::Result<Option<Job>> { Ok(hub.jobs_with(namespace, (LABEL, &state.key))?.into_iter().next()) };
    if let Some(job) = there()? {
        return Ok(job);
    }
    let token = hub.options().token.clone().context("starting a job: no token; run `sinew hub login`, or set HF_TOKEN")?;
    let words = state.words.iter().cloned();
    let spec = JobSpec {
        image: state.asked.image.clone(),
        command: std::iter::once("lerobot-train".to_owned()).chain(words).collect(),
        environment: BTreeMap::from([("PYTHONUNBUFFERED".to_owned(), "1".to_owned())]),
        secrets: BTreeMap::from([("HF_TOKEN".to_owned(), token)]),
        flavor: state.asked.flavor.clone(),
        timeout: Duration::from_secs(args.timeout * 3600),
        labels: BTreeMap::from([(LABEL.to_owned(), state.key.clone()), ("name".to_owned(), format!("{}-{}", state.family, state.key))]),
    };
    match hub.run_job(namespace, &spec) {
        Ok(job) => Ok(job),
        // It may run though nothing was heard of it.
        Err(error) => there().ok().flatten().ok_or_else(|| error.into()),
    }
}

fn cancel(mut state: State, out: &Path, hub: &Hub) -> anyhow::Result<Done> {
    if matches!(state.stage, Stage::Trained | Stage::Failed(_)) {
        say!("it is over already");
        return Ok(Done::Ok);
    }
    match finish::run_of(&state) {
        Some(run) => {
            let standing = run.stop()?;
            ensure!(!matches!(standing, Standing::Running { .. }), "ending the training {}: it goes on", run.machine);
        }
        None => {
            let job: Option<JobId> = match (&state.job, &state.namespace) {
                (Some(job), _) => Some(job.clone()),
                (None, Some(namespace)) => hub.jobs_with(namespace, (LABEL, &state.key))?.into_iter().next().map(|job| job.id),
                (None, None) => None,
            };
            job.as_ref().map(|job| hub.cancel_job(job)).transpose()?;
            state.job = job;
        }
    }
    state.stage = Stage::Failed("it was cancelled".to_owned());
    state.write(out)?;
    say!("ended");
    Ok(Done::Ok)
}
