//! Beginning a training: once, whoever begins it and however often.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::json;
use sinew_hub::{Hub, HubError, Job, JobSpec};

use super::check::Dataset;
use super::family::Family;
use super::follow::Training;
use super::machine::Machine;
use super::place::Place;
use super::run::{Run, Standing};
use super::state::{self, Stage, State};
use super::{LABEL, finish, push, shown};
use crate::args::TrainArgs;
use crate::text::{self, say};

/// Sees to it that there is all that the training needs, and remembers it: from then on it is begun. What it brings
/// elsewhere lies below the key, which is remembered before, so that a second try takes the place of a first.
pub fn make_ready(mut state: State, family: &Family, data: &Dataset, out: &Path, hub: &Hub) -> anyhow::Result<State> {
    if let Some(repo) = &state.asked.push {
        state.head_before = push::check(hub, repo, &state.asked.on)?;
    }
    match &state.asked.on {
        Place::Machine(machine) => {
            machine.check_python(&state.asked.python, family)?;
            state.write(out)?;
            machine.check_way_back(&state.folder)?;
            if let Some(root) = &data.root {
                machine.send(root, &super::sent_dataset(&state.folder))?;
            }
        }
        Place::Jobs => state.namespace = Some(hub.whoami(None)?.name),
    }
    state.stage = Stage::Starting;
    state.write(out)?;
    Ok(state)
}

/// Sees to it that the training runs, once, whoever has started it. Nothing is started unless it stands written that
/// it may be: what can't be seen any more is not begun again.
pub fn begin(state: &mut State, out: &Path, hub: &Hub, args: &TrainArgs) -> anyhow::Result<Training> {
    let is_first = state.stage == Stage::Starting;
    if is_first && state::is_cancelled(out) {
        return cancelled(state, out);
    }
    let training = match finish::run_of(state) {
        Some(run) => {
            let standing = if is_first { start(&run, state, out)? } else { run.standing()? };
            if matches!(standing, Standing::None | Standing::Claimed) {
                bail!("{}", run.nothing_there());
            }
            if is_first && state::is_cancelled(out) {
                run.stop()?;
                return cancelled(state, out);
            }
            state.pid = if let Standing::Running { pid } = standing { Some(pid) } else { None };
            Training::Run(run)
        }
        None => {
            let job = match &state.job {
                Some(id) => id.clone(),
                None => begin_job(state, out, hub)?.id,
            };
            state.job = Some(job.clone());
            state.is_job_asked = false;
            if is_first && state::is_cancelled(out) {
                // It is remembered first: where this fails, `--cancel` finds it.
                state.write(out)?;
                hub.cancel_job(&job)?;
                return cancelled(state, out);
            }
            Training::Job(hub.clone(), job)
        }
    };
    // Before anybody is told, who may not be there to hear it.
    state.stage = Stage::Running;
    state.write(out)?;
    match &training {
        // A short one may be over by the time it is asked for.
        Training::Run(run) if is_first || state.pid.is_some() => {
            let process = state.pid.map(|pid| format!(" as process {pid}")).unwrap_or_default();
            let words = format!("runs {}{process}, in {}", run.machine, run.folder);
            tell(args, state, &words, hub, json!({ "pid": state.pid, "folder": run.folder }));
        }
        Training::Run(_) => {}
        Training::Job(_, job) => {
            let page = format!("{}/jobs/{}/{}", hub.options().endpoint, job.namespace, job.id);
            tell(args, state, &format!("runs as the job {page}"), hub, json!({ "job": job, "page": page }));
        }
    }
    Ok(training)
}

fn start(run: &Run, state: &State, out: &Path) -> anyhow::Result<Standing> {
    let standing = run.begin(&state.asked.python, &state.words);
    if run.machine == Machine::Here {
        return standing;
    }
    standing.with_context(|| {
        let out = text::quoted(out);
        let machine = &run.machine;
        format!("starting the training {machine}: it may run all the same; look by `sinew train --attach --out {out}`, end it by --cancel")
    })
}

fn cancelled(state: &mut State, out: &Path) -> anyhow::Result<Training> {
    state.stage = Stage::Failed(super::CANCELLED.to_owned());
    state.write(out)?;
    bail!("training into {}: {}", out.display(), super::CANCELLED)
}

fn tell(args: &TrainArgs, state: &State, words: &str, hub: &Hub, facts: serde_json::Value) {
    if args.json {
        // It runs, whatever can't be hidden in its line.
        let line = shown(&state.words, hub).unwrap_or_else(|error| format!("lerobot-train … ({})", text::chain(&error)));
        let mut event = json!({ "event": "started", "on": state.asked.on, "line": line });
        if let (Some(event), serde_json::Value::Object(facts)) = (event.as_object_mut(), facts) {
            event.extend(facts);
        }
        // It runs, whoever hears of it.
        if let Err(error) = text::print_json(&event) {
            text::note!("telling that it {words}: {error}; it goes on, and `--attach` follows it");
        }
        return;
    }
    say!("{words}");
}

/// How long the Hub may take with a job that was asked for, until it lists it.
const JOB_TAKES: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The job of the run, if there is one. Where one was asked for and nobody has heard of it, it is waited for as long as the Hub may
/// take: whoever asked may have been killed meanwhile.
pub fn find_job(state: &State, namespace: &str, hub: &Hub) -> anyhow::Result<Option<Job>> {
    let looks = if state.is_job_asked { JOB_TAKES.as_millis() / LOOK_EVERY.as_millis() } else { 0 };
    for look in 0..=looks {
        if let Some(job) = hub.jobs_with(namespace, (LABEL, &state.key))?.into_iter().next() {
            return Ok(Some(job));
        }
        if look < looks {
            if look == 0 {
                text::note!("a job was asked for, and the Hub may still be at it: it is looked for during {} s", JOB_TAKES.as_secs());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(None)
}

/// Starts a job, unless one with the key is there: an answer of the Hub may have been lost, or who waited for it.
fn begin_job(state: &mut State, out: &Path, hub: &Hub) -> anyhow::Result<Job> {
    let namespace = state.namespace.clone().context("starting a job: nobody is named who pays for it")?;
    if let Some(job) = find_job(state, &namespace, hub)? {
        return Ok(job);
    }
    if state.stage != Stage::Starting {
        bail!("looking for the job of {namespace} with the label {LABEL}={}: there is none, and none was started", state.key);
    }
    let token = hub.options().token.clone().context("starting a job: no token; run `sinew hub login`, or set HF_TOKEN")?;
    let words = state.words.iter().cloned();
    let spec = JobSpec {
        image: state.asked.image.clone(),
        command: std::iter::once("lerobot-train".to_owned()).chain(words).collect(),
        environment: BTreeMap::from([("PYTHONUNBUFFERED".to_owned(), "1".to_owned())]),
        secrets: BTreeMap::from([("HF_TOKEN".to_owned(), token)]),
        flavor: state.asked.flavor.clone(),
        timeout: Duration::from_secs(state.asked.timeout * 3600),
        labels: BTreeMap::from([(LABEL.to_owned(), state.key.clone()), ("name".to_owned(), format!("{}-{}", state.family, state.key))]),
    };
    // Before, so that nobody asks a second time after a kill.
    state.is_job_asked = true;
    state.write(out)?;
    match hub.run_job(&namespace, &spec) {
        Ok(job) => Ok(job),
        // It may run though nothing was heard of it.
        Err(error) => {
            let is_open = matches!(error, HubError::Broken { .. } | HubError::Server { .. }) && error.is_transient();
            if !is_open {
                state.is_job_asked = false;
                state.write(out)?;
            }
            find_job(state, &namespace, hub).ok().flatten().ok_or_else(|| error.into())
        }
    }
}
