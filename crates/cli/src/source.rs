//! From what `--policy` says to a checkpoint that is ready to run.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use sinew::{DatasetReader, OpenOptions, Policy};
use sinew_hub::{Fetched, HubRepo, ModelRef, RepoKind};
use sinew_policy::{Checkpoint, Device};
use sinew_runtime::{Role, place};

use crate::args::{ComputeArgs, Misuse, is_server};
use crate::licence::{self, Licence};
use crate::{demo_policy, text, transfer};

/// A checkpoint and what to call it.
pub struct NamedCheckpoint {
    pub name: String,
    /// The commit, of one of the Hub.
    pub commit: Option<String>,
    pub checkpoint: Arc<Checkpoint>,
    pub device: Device,
}

/// Opens the checkpoint that `policy` names to run as `compute` says; without a name the demonstration policy.
pub fn open(policy: Option<&str>, compute: &ComputeArgs) -> anyhow::Result<NamedCheckpoint> {
    open_fetched(find(policy)?, compute)
}

/// As [`open`], of what [`find`] has found.
pub fn open_fetched((name, Fetched { folder, resolved }): (String, Fetched), compute: &ComputeArgs) -> anyhow::Result<NamedCheckpoint> {
    let commit = resolved.map(|resolved| resolved.commit);
    let named = NamedCheckpoint { name, commit, checkpoint: open_folder(&folder, compute)?, device: compute.device };
    let (licence, by) = Licence::of_terms(&named.checkpoint.info().terms);
    licence.check(by, &format!("running {}", named.name), compute.commercial)?;
    Ok(named)
}

/// What to call the policy that `policy` names, and its folder, after it was fetched from the Hub
/// where that is needed.
pub fn find(policy: Option<&str>) -> anyhow::Result<(String, Fetched)> {
    match policy {
        None => Ok(("the demonstration policy".to_owned(), Fetched { folder: demo_policy::folder()?, resolved: None })),
        Some(policy) if is_server(policy) => {
            let why = format!(
                "{policy} is a server; this verb needs a folder, or owner/name on the Hub. Servers are for rollout and policy check"
            );
            Err(Misuse(why).into())
        }
        Some(policy) => Ok((policy.to_owned(), locate(policy)?)),
    }
}

/// Opens a checkpoint folder to run as `compute` says.
pub fn open_folder(folder: &Path, compute: &ComputeArgs) -> anyhow::Result<Arc<Checkpoint>> {
    let options =
        OpenOptions::new().device(compute.device).quantize(compute.quantize).allow_nan(compute.allow_nan).rename(&compute.cameras.rename);
    Ok(Arc::clone(Policy::open(folder, options)?.checkpoint()))
}

/// The repository that `text` names, where a folder is none.
///
/// # Errors
/// When it is no such name.
pub fn hub_repo(kind: RepoKind, text: &str) -> Result<HubRepo, Misuse> {
    HubRepo::parse(kind, text).map_err(|error| Misuse(error.to_string()))
}

/// The same where the user says the kind, which an address has to be of.
///
/// # Errors
/// As [`hub_repo`], and when it is the address of another kind's page.
pub fn hub_repo_of(kind: RepoKind, text: &str) -> Result<HubRepo, Misuse> {
    let repo = hub_repo(kind, text)?;
    match repo.kind() == kind {
        true => Ok(repo),
        false => Err(Misuse(format!("{text} is the page of a {}, expected a {kind}", repo.kind()))),
    }
}

fn locate(policy: &str) -> anyhow::Result<Fetched> {
    Ok(transfer::hub(None).fetch(&ModelRef::parse(policy)?, &*transfer::shown())?)
}

/// Opens the dataset that `name` names: a folder, or `owner/name[@revision]` on the Hub.
pub fn open_dataset(name: &Path) -> anyhow::Result<DatasetReader> {
    Ok(sinew::open_dataset_of(&transfer::hub(None), &name.to_string_lossy(), transfer::shown())?)
}

/// As [`open_dataset`], for those who read few episodes: of one on the Hub only the parts of files come that are read.
pub fn open_dataset_streaming(name: &Path) -> anyhow::Result<DatasetReader> {
    Ok(sinew::open_dataset_streaming_of(&transfer::hub(None), &name.to_string_lossy(), transfer::shown())?)
}

impl NamedCheckpoint {
    /// What is kept with each episode that it makes: what ran, at which commit.
    pub fn note(&self) -> serde_json::Value {
        serde_json::json!({ "name": self.name, "commit": self.commit })
    }

    /// What is about to run, on what, in a few lines.
    pub fn banner(&self, threads: usize) -> String {
        let info = self.checkpoint.info();
        let in_memory = info.quantization.map_or(String::new(), |quantization| format!(" as {quantization}"));
        format!(
            "policy    {} ({}, {} parameters, {}{in_memory}, licence {})\n\
             device    {}, {threads} thread{} for inference",
            self.name,
            info.family,
            text::count(info.parameters),
            info.dtype,
            licence::in_words(&info.terms),
            self.device,
            if threads == 1 { "" } else { "s" },
        )
    }
}

/// Threads for a policy that thinks beside a control loop: what the user says, else all cores but one.
pub fn threads_beside_control(wanted: Option<usize>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    wanted.unwrap_or_else(|| (cores - 1).max(1))
}

/// Makes what is to think beside a control loop: it, and the threads that it starts, run when the loop and those who
/// record have nothing to do.
pub fn beside_control<T: Send>(make: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let making = std::thread::Builder::new().name("inference".into()).spawn_scoped(scope, || {
            place(Role::Inference);
            make()
        });
        let making = making.context("starting the policy's threads")?;
        making.join().map_err(|_panic| anyhow::anyhow!("starting the policy's threads: one panicked"))?
    })
}

/// Threads for each of several policies that keep the cores busy together: what the user says, else one.
pub fn threads_beside_others(wanted: Option<usize>) -> usize {
    wanted.unwrap_or(1)
}

/// Threads for all inference in this process, before the first is made; all cores unless given.
pub fn set_threads(threads: Option<usize>) -> anyhow::Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("setting the threads of inference")
}
