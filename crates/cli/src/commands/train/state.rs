//! What is remembered of a run, so that whoever comes later finds it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sinew_hub::JobId;

use super::place::Place;
use crate::args::TrainArgs;
use crate::whole::{self, Readers};

const FILE: &str = "train.json";
/// The mark of `--cancel`.
const CANCEL: &str = ".train.cancel";
const VERSION: u32 = 1;
/// After how many hours a job is ended where nothing is said.
const TIMEOUT_H: u64 = 48;

/// What the user asked for: who asks for the same again means the same run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    pub dataset: String,
    pub policy: Option<String>,
    pub from: Option<String>,
    pub on: Place,
    pub python: String,
    pub steps: u64,
    pub batch_size: u64,
    pub push: Option<String>,
    pub private: bool,
    pub flavor: String,
    pub image: String,
    /// After how many hours a job is ended.
    pub timeout: u64,
    pub extra: Vec<String>,
}

/// A folder by its whole path: the same words mean another one elsewhere. A name on the Hub stays.
fn whole(name: &str) -> String {
    let path = Path::new(name);
    if path.exists() {
        std::path::absolute(path).map_or_else(|_| name.to_owned(), |path| path.display().to_string())
    } else {
        name.to_owned()
    }
}

impl Asked {
    pub fn of(args: &TrainArgs, dataset: &str) -> anyhow::Result<Self> {
        let TrainArgs { policy, from, on, python, steps, batch_size, push, private, flavor, image, timeout, extra, .. } = args;
        let or = |said: &Option<String>, default: &str| said.clone().unwrap_or_else(|| default.to_owned());
        Ok(Self {
            dataset: whole(dataset),
            policy: policy.clone(),
            from: from.as_deref().map(whole),
            on: on.parse()?,
            python: or(python, "python3"),
            steps: *steps,
            batch_size: *batch_size,
            push: push.clone(),
            private: *private,
            flavor: or(flavor, "a10g-small"),
            image: or(image, "huggingface/lerobot-gpu:latest"),
            timeout: timeout.unwrap_or(TIMEOUT_H),
            extra: extra.clone(),
        })
    }
}

/// How far it came, as far as is known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// What it needs is being brought where it is to run; nothing has begun.
    Preparing,
    /// It is about to be started; it may run already.
    Starting,
    Running,
    Trained,
    Failed(String),
}

/// The file `train.json` in the folder of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    pub asked: Asked,
    pub family: String,
    /// Of a dataset on the Hub.
    pub dataset_commit: Option<String>,
    /// Letters that no other run has: the process and the job are known by them.
    pub key: String,
    /// The words after `lerobot-train`.
    pub words: Vec<String>,
    /// Where it runs: the folder on the machine that trains.
    pub folder: String,
    /// Who owns the job: known before there is one.
    pub namespace: Option<String>,
    pub job: Option<JobId>,
    /// Whether a job was asked for, and nobody has heard yet what came of it.
    #[serde(default)]
    pub is_job_asked: bool,
    pub pid: Option<u32>,
    pub stage: Stage,
    /// What went wrong after the policy was whole: it was not pushed as it should have been.
    pub trouble: Option<String>,
    /// The commit of the repository to push to, before there was a training; `None` where it had none.
    pub head_before: Option<String>,
    /// The folder of the policy here, when it is there.
    pub checkpoint: Option<PathBuf>,
    /// The commit of the policy, of one that was pushed.
    pub policy_commit: Option<String>,
}

impl State {
    pub fn new(asked: Asked, family: &str, dataset_commit: Option<String>, key: String, words: Vec<String>, folder: String) -> Self {
        Self {
            version: VERSION,
            asked,
            family: family.to_owned(),
            dataset_commit,
            key,
            words,
            folder,
            namespace: None,
            job: None,
            is_job_asked: false,
            pid: None,
            stage: Stage::Preparing,
            trouble: None,
            head_before: None,
            checkpoint: None,
            policy_commit: None,
        }
    }

    /// What is remembered in the folder `out`; `None` when nothing is.
    pub fn read(out: &Path) -> anyhow::Result<Option<Self>> {
        let path = out.join(FILE);
        let doing = || format!("reading what runs from {}", path.display());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err).with_context(doing),
        };
        let state: Self = serde_json::from_slice(&bytes).with_context(doing)?;
        ensure!(state.version == VERSION, "{}: it is of version {}, expected {VERSION}", doing(), state.version);
        Ok(Some(state))
    }

    /// Writes it down whole, or leaves what was there.
    pub fn write(&self, out: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        // The words may hold a key that the user gave, such as a logger's.
        whole::write(&out.join(FILE), &text, Readers::Owner)
            .with_context(|| format!("remembering what runs in {}", out.join(FILE).display()))
    }
}

/// A folder that nobody else trains into, as long as this is held. A dead holder holds nothing. Only who holds it writes
/// the state.
pub struct Claim {
    _lock: File,
}

impl Claim {
    pub fn take(out: &Path) -> anyhow::Result<Self> {
        Self::try_take(out)?.with_context(|| format!("training into {}: another `sinew train` is at it", out.display()))
    }

    /// `None` where somebody holds it.
    pub fn try_take(out: &Path) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(out).with_context(|| format!("making the folder {}", out.display()))?;
        let path = out.join(".train.lock");
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _lock: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(err)) => Err(err).with_context(|| format!("locking {}", path.display())),
        }
    }
}

/// That the training is to end, for whoever starts it at this moment.
pub fn mark_cancelled(out: &Path) -> anyhow::Result<()> {
    let path = out.join(CANCEL);
    File::create(&path).map(drop).with_context(|| format!("making {}", path.display()))
}

/// The training could not be ended, and goes on.
pub fn unmark_cancelled(out: &Path) {
    // One that is not there needs not to be removed.
    let _ = fs::remove_file(out.join(CANCEL));
}

pub fn is_cancelled(out: &Path) -> bool {
    out.join(CANCEL).exists()
}
