//! From a model's name to its files, in huggingface_hub's cache.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClientSync, HFError, HFRepositorySync, RepoTypeAny};
use sha2::{Digest, Sha256};

use crate::error::{CacheHint, Gate, TokenState};
use crate::model_ref::is_commit;
use crate::{HubError, HubRepo, ModelRef, RepoKind};

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The file that is being fetched.
    pub file: &'a str,
    /// Bytes that have arrived, of all files that had to be fetched.
    pub done_bytes: u64,
    /// Size of all files that have to be fetched.
    pub total_bytes: u64,
}

/// Fetches `model` as the environment says (`HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`,
/// `HF_HUB_OFFLINE`) and returns the folder that holds its files. `progress` is called on a thread
/// of the download; it is not called when nothing has to be fetched.
///
/// # Errors
/// When the files can't be had whole; see [`HubError`].
pub fn fetch_model(model: &ModelRef, progress: impl Fn(Transfer<'_>) + Send + Sync + 'static) -> Result<PathBuf, HubError> {
    Hub::new(HubOptions::from_env()).fetch(model, progress)
}

/// Whether `path`, relative to a repository's top, is one of the files a policy consists of: its
/// configuration, weights (safetensors only, never a pickle), processors, tokenizer and card.
/// Checkpoints in sub-folders are not part of the policy.
pub fn is_policy_file(path: &str) -> bool {
    const NAMES: [&str; 11] = [
        "config.json",
        "adapter_config.json",
        "processor_config.json",
        "README.md",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
    ];
    !path.contains(['/', '\\'])
        && (NAMES.contains(&path)
            || path.ends_with(".safetensors")
            || path.ends_with(".safetensors.index.json")
            || (path.starts_with("policy_") && path.ends_with(".json")))
}

/// Where the Hub is, and where its files are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubOptions {
    /// `https://huggingface.co`, or a mirror.
    pub endpoint: String,
    /// The folder that holds `models--owner--name` folders.
    pub cache_dir: PathBuf,
    pub token: Option<String>,
    /// Answer from the cache and send nothing.
    pub offline: bool,
    /// How often a request is sent again when the server is busy or out of reach.
    pub retries: usize,
}

impl HubOptions {
    /// The environment's options, by the names and rules of huggingface_hub (its `constants.py`).
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name), std::env::home_dir())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let home = home.unwrap_or_else(|| PathBuf::from("."));
        let path = |name: &str| {
            let path = PathBuf::from(set(name)?);
            Some(path.strip_prefix("~").map(|rest| home.join(rest)).unwrap_or(path))
        };
        let hf_home = path("HF_HOME").unwrap_or_else(|| path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache")).join("huggingface"));
        let is_true = |name: &str| text(name).is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()));
        let stored_token = || fs::read_to_string(path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"))).ok();
        let token = (!is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN")).then(|| text("HF_TOKEN").or_else(stored_token)).flatten();
        Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()).trim_end_matches('/').to_owned(),
            cache_dir: path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| hf_home.join("hub")),
            token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            offline: is_true("HF_HUB_OFFLINE"),
            retries: 3,
        }
    }
}

/// The Hub, or its cache when offline. Sends nothing before something is asked of it.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(crate) options: HubOptions,
}

/// A file of a repository.
pub(crate) struct Wanted {
    pub path: String,
    pub size_bytes: u64,
}

/// A repository and the connection to it.
pub(crate) struct Remote {
    client: HFClientSync,
    repo: HFRepositorySync<RepoTypeAny>,
}

impl Hub {
    pub fn new(options: HubOptions) -> Self {
        Self { options }
    }

    /// As [`fetch_model`], with these options instead of the environment's.
    ///
    /// # Errors
    /// As [`fetch_model`].
    pub fn fetch(&self, model: &ModelRef, progress: impl Fn(Transfer<'_>) + Send + Sync + 'static) -> Result<PathBuf, HubError> {
        match model {
            ModelRef::Local(path) if path.is_dir() => Ok(path.clone()),
            ModelRef::Local(path) => {
                let found = if path.exists() { "a file, expected a folder" } else { "there is nothing there" };
                Err(HubError::NoFolder { path: path.clone(), found })
            }
            ModelRef::Hub(model) if self.options.offline => self.cached(model),
            ModelRef::Hub(model) => self.download(model, progress),
        }
    }

    fn repo_dir(&self, model: &HubRepo) -> PathBuf {
        self.options.cache_dir.join(format!("{}--{}--{}", model.kind().plural(), model.owner(), model.name()))
    }

    pub(crate) fn snapshot_dir(&self, model: &HubRepo, commit: &str) -> PathBuf {
        self.repo_dir(model).join("snapshots").join(commit)
    }

    /// What the cache holds for `model`, without asking the Hub.
    fn cached(&self, model: &HubRepo) -> Result<PathBuf, HubError> {
        let snapshot = self.snapshot_dir(model, &self.cached_commit(model)?);
        let config = snapshot.join("config.json");
        if config.is_file() {
            return Ok(snapshot);
        }
        Err(HubError::NotCached { model: model.clone(), looked_for: config, found: "nothing" })
    }

    /// The commit that `model` was at when it was last fetched.
    pub(crate) fn cached_commit(&self, model: &HubRepo) -> Result<String, HubError> {
        if let Some(commit) = model.commit() {
            return Ok(commit.to_owned());
        }
        let path = self.repo_dir(model).join("refs").join(model.revision());
        let found = match fs::read_to_string(&path).map(|text| text.trim().to_owned()) {
            Ok(commit) if is_commit(&commit) => return Ok(commit),
            Ok(_) => "a file that holds no commit hash",
            Err(_) => "nothing",
        };
        Err(HubError::NotCached { model: model.clone(), looked_for: path, found })
    }

    fn download(&self, model: &HubRepo, progress: impl Fn(Transfer<'_>) + Send + Sync + 'static) -> Result<PathBuf, HubError> {
        let repo = self.repository(model)?;
        let commit = self.commit_of(model, &repo)?;
        let files = self.policy_files(model, &repo, &commit)?;
        let snapshot = self.snapshot_dir(model, &commit);
        let is_missing = |file: &&Wanted| fs::metadata(snapshot.join(&file.path)).map_or(true, |found| found.len() != file.size_bytes);
        let missing: Vec<&Wanted> = files.iter().filter(is_missing).collect();
        let total_bytes = missing.iter().map(|file| file.size_bytes).sum();
        let progress = std::sync::Arc::new(progress);
        let mut done_bytes = 0;
        for file in missing {
            let report = Report { progress: progress.clone(), file: file.path.clone(), done_bytes, total_bytes };
            self.fetch_one(model, &repo, &commit, file, report)?;
            done_bytes += file.size_bytes;
        }
        self.remember(model, &commit)?;
        Ok(snapshot)
    }

    /// One file of a repository that a policy refers to, such as its tokenizer: `None` when the
    /// repository has no such file. A copy in the cache is taken without asking the Hub whether
    /// there is a newer one; nothing else of the repository is fetched.
    ///
    /// # Errors
    /// As [`fetch_model`].
    pub fn fetch_file(&self, model: &HubRepo, path: &str) -> Result<Option<PathBuf>, HubError> {
        if let Some(cached) = self.cached_commit(model).ok().map(|commit| self.snapshot_dir(model, &commit).join(path))
            && cached.is_file()
        {
            return Ok(Some(cached));
        }
        if self.options.offline {
            return self.cached_commit(model).map(|_| None);
        }
        let repo = self.repository(model)?;
        let commit = self.commit_of(model, &repo)?;
        let entries = self.entries(model, &repo, &commit, false)?;
        let size_of = |entry| match entry {
            RepoTreeEntry::File { path: name, size, .. } if name == path => Some(size),
            _ => None,
        };
        let Some(size_bytes) = entries.into_iter().find_map(size_of) else { return Ok(None) };
        let file = Wanted { path: path.to_owned(), size_bytes };
        let report =
            Report { progress: std::sync::Arc::new(|_: Transfer<'_>| {}), file: file.path.clone(), done_bytes: 0, total_bytes: size_bytes };
        let fetched = self.fetch_one(model, &repo, &commit, &file, report)?;
        self.remember(model, &commit)?;
        Ok(Some(fetched))
    }

    /// Fetches `file` into the cache, checked, and answers its path there.
    pub(crate) fn fetch_one<F: Fn(Transfer<'_>) + Send + Sync + 'static>(
        &self,
        model: &HubRepo,
        remote: &Remote,
        commit: &str,
        file: &Wanted,
        report: Report<F>,
    ) -> Result<PathBuf, HubError> {
        // A file of the wrong size is in the way; hf-hub would take it for the right one.
        let is_in_the_way = self.snapshot_dir(model, commit).join(&file.path).exists();
        let request = remote.repo.download_file().filename(&file.path).revision(commit).force_download(is_in_the_way).progress(report);
        let fetched = request.send().map_err(|err| self.explain_file(model, file, err))?;
        self.verify(model, file, &fetched)?;
        Ok(fetched)
    }

    /// The commit that the Hub's `model` is at.
    pub(crate) fn commit_of(&self, model: &HubRepo, remote: &Remote) -> Result<String, HubError> {
        let looking_up = || format!("looking up {model}");
        let (owner, name, revision) = (model.owner(), model.name(), model.revision());
        let sha = match model.kind() {
            RepoKind::Model => remote.client.model(owner, name).info().revision(revision).send().map(|info| info.sha),
            RepoKind::Dataset => remote.client.dataset(owner, name).info().revision(revision).send().map(|info| info.sha),
        };
        let sha = sha.map_err(|err| self.explain(model, looking_up(), err))?;
        sha.filter(|sha| is_commit(sha)).ok_or_else(|| self.unexpected(looking_up(), "it names no commit"))
    }

    /// What is at the top of the repository, or all of it.
    pub(crate) fn entries(&self, model: &HubRepo, remote: &Remote, commit: &str, all: bool) -> Result<Vec<RepoTreeEntry>, HubError> {
        let request = remote.repo.list_tree().revision(commit).recursive(all);
        request.send().map_err(|err| self.explain(model, format!("listing the files of {model}"), err))
    }

    pub(crate) fn repository(&self, model: &HubRepo) -> Result<Remote, HubError> {
        let HubOptions { endpoint, cache_dir, token, retries, .. } = &self.options;
        let mut builder = hf_hub::HFClient::builder()
            .endpoint(endpoint)
            .cache_dir(cache_dir)
            .retry_max_attempts(*retries)
            .user_agent(concat!("sinew/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            builder = builder.token(token);
        }
        let client: HFClientSync =
            builder.build_sync().map_err(|err| HubError::Client { endpoint: endpoint.clone(), source: err.into() })?;
        let kind = match model.kind() {
            RepoKind::Model => RepoTypeAny::Model,
            RepoKind::Dataset => RepoTypeAny::Dataset,
        };
        Ok(Remote { repo: client.repository(kind, model.owner(), model.name()), client })
    }

    fn policy_files(&self, model: &HubRepo, remote: &Remote, commit: &str) -> Result<Vec<Wanted>, HubError> {
        let mut names = Vec::new();
        let mut files = Vec::new();
        for entry in self.entries(model, remote, commit, false)? {
            match entry {
                RepoTreeEntry::File { path, size, .. } => {
                    names.push(path.clone());
                    if is_policy_file(&path) {
                        files.push(Wanted { path, size_bytes: size });
                    }
                }
                RepoTreeEntry::Directory { path, .. } => names.push(format!("{path}/")),
            }
        }
        for (expected, is_it) in [("config.json", is_config as fn(&str) -> bool), ("*.safetensors", is_weights)] {
            if !files.iter().any(|file| is_it(&file.path)) {
                names.truncate(20);
                return Err(HubError::NoPolicy { model: model.clone(), expected, found: names });
            }
        }
        Ok(files)
    }

    /// Checks a fetched file against what the Hub said of it: its size, and for large files its
    /// SHA-256, which is the name of the blob that the snapshot's link points to.
    fn verify(&self, model: &HubRepo, file: &Wanted, fetched: &Path) -> Result<(), HubError> {
        let doing = || format!("verifying {} of {model}", file.path);
        let cache_err = |source| HubError::Cache { doing: doing(), source };
        let blob = fetched.canonicalize().map_err(cache_err)?;
        let found_bytes = fs::metadata(&blob).map_err(cache_err)?.len();
        let damage = if found_bytes != file.size_bytes {
            Some((format!("{} bytes", file.size_bytes), format!("{found_bytes} bytes")))
        } else {
            match blob.file_name().and_then(|name| name.to_str()).filter(|name| is_sha256(name)) {
                None => None,
                Some(expected) => {
                    let found = sha256(&blob).map_err(cache_err)?;
                    (found != expected).then(|| (format!("SHA-256 {expected}"), found))
                }
            }
        };
        let Some((expected, found)) = damage else { return Ok(()) };
        for path in [fetched, &blob] {
            match fs::remove_file(path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(cache_err(err)),
                _ => {}
            }
        }
        Err(HubError::Damaged { model: model.clone(), file: file.path.clone(), expected, found })
    }

    /// Writes down which commit the revision means, for offline use. Done last, so that a reference
    /// never leads to a half-fetched snapshot.
    pub(crate) fn remember(&self, model: &HubRepo, commit: &str) -> Result<(), HubError> {
        if model.commit().is_some() {
            return Ok(());
        }
        let path = self.repo_dir(model).join("refs").join(model.revision());
        let write = || -> io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, commit)
        };
        write().map_err(|source| HubError::Cache { doing: format!("writing {}", path.display()), source })
    }

    fn unexpected(&self, doing: String, what: impl Into<Box<dyn Error + Send + Sync>>) -> HubError {
        HubError::Server { doing, endpoint: self.options.endpoint.clone(), source: what.into() }
    }

    fn explain_file(&self, model: &HubRepo, file: &Wanted, err: HFError) -> HubError {
        if let Some(kind) = disk_full(&err) {
            return HubError::DiskFull {
                model: model.clone(),
                file: file.path.clone(),
                size_bytes: file.size_bytes,
                cache: self.options.cache_dir.clone(),
                source: kind.into(),
            };
        }
        self.explain(model, format!("fetching {} of {model}", file.path), err)
    }

    fn explain(&self, model: &HubRepo, doing: String, err: HFError) -> HubError {
        let endpoint = self.options.endpoint.clone();
        let token = if self.options.token.is_some() { TokenState::Sent } else { TokenState::Absent };
        let answer = match &err {
            HFError::Http { context } | HFError::AuthRequired { context } | HFError::Forbidden { context } => Some(context),
            HFError::RepoNotFound { context, .. } | HFError::RevisionNotFound { context, .. } => context.as_ref(),
            _ => None,
        };
        if let Some(answer) = answer {
            let model = model.clone();
            match (answer.status.as_u16(), answer.error_code.as_deref()) {
                (_, Some("RevisionNotFound")) => return HubError::NoRevision { model, endpoint },
                (404, _) | (_, Some("RepoNotFound")) => return HubError::NoModel { model, endpoint, token },
                (status @ (401 | 403), code) => {
                    let gate = if code == Some("GatedRepo") { Gate::Gated(page(&endpoint, &model)) } else { Gate::Open };
                    return HubError::Refused { model, endpoint, status, token, gate };
                }
                _ => {}
            }
        }
        match err {
            HFError::Request { .. } | HFError::Xet { .. } => {
                let hint = self.cached(model).map_or(CacheHint::Nothing, CacheHint::Snapshot);
                HubError::Network { doing, endpoint, hint, source: err.into() }
            }
            HFError::Io(source) => HubError::Cache { doing, source },
            err => self.unexpected(doing, err),
        }
    }
}

/// Where people look at a repository.
fn page(endpoint: &str, repo: &HubRepo) -> String {
    match repo.kind() {
        RepoKind::Model => format!("{endpoint}/{}", repo.repo()),
        RepoKind::Dataset => format!("{endpoint}/datasets/{}", repo.repo()),
    }
}

fn is_config(path: &str) -> bool {
    path == "config.json"
}

fn is_weights(path: &str) -> bool {
    path.ends_with(".safetensors")
}

fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The kind of the I/O error somewhere in `err`'s chain that says that the disk is full.
fn disk_full(err: &HFError) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(err);
    while let Some(err) = cause {
        let io_err = match err.downcast_ref::<HFError>() {
            // Transparent: the I/O error itself would not show up in the chain.
            Some(HFError::Io(io_err)) => Some(io_err),
            _ => err.downcast_ref::<io::Error>(),
        };
        let kind = io_err.map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return kind;
        }
        cause = err.source();
    }
    None
}

/// Turns hf-hub's events for one file into [`Transfer`]s.
pub(crate) struct Report<F> {
    pub progress: std::sync::Arc<F>,
    pub file: String,
    /// Of the files before this one.
    pub done_bytes: u64,
    pub total_bytes: u64,
}

impl<F: Fn(Transfer<'_>) + Send + Sync> ProgressHandler for Report<F> {
    fn on_progress(&self, event: &ProgressEvent) {
        let bytes = match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => files.iter().map(|file| file.bytes_completed).sum(),
            ProgressEvent::Download(DownloadEvent::AggregateProgress { bytes_completed, .. }) => *bytes_completed,
            _ => return,
        };
        (self.progress)(Transfer { file: &self.file, done_bytes: self.done_bytes + bytes, total_bytes: self.total_bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> HubOptions {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        HubOptions::from_variables(lookup, Some(PathBuf::from("/home-of-user")))
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_keeps_it() {
        let cases: [(&[(&str, &str)], &str); 6] = [
            (&[], "/home-of-user/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/xdg")], "/xdg/huggingface/hub"),
            (&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/xdg")], "/hf/hub"),
            (&[("HF_HOME", "~/hf")], "/home-of-user/hf/hub"),
            (&[("HF_HUB_CACHE", "/cache"), ("HF_HOME", "/hf")], "/cache"),
            (&[("HF_HOME", "")], "/home-of-user/.cache/huggingface/hub"),
        ];
        for (variables, expected) in cases {
            assert_eq!(options(variables).cache_dir, PathBuf::from(expected), "{variables:?}");
        }
    }

    #[test]
    fn the_environment_sets_endpoint_token_and_offline() {
        let defaults = options(&[]);
        assert_eq!((defaults.endpoint.as_str(), defaults.token, defaults.offline), ("https://huggingface.co", None, false));
        let set = options(&[("HF_ENDPOINT", "https://mirror/"), ("HF_TOKEN", " hf_x\n"), ("HF_HUB_OFFLINE", "yes")]);
        assert_eq!((set.endpoint.as_str(), set.token.as_deref(), set.offline), ("https://mirror", Some("hf_x"), true));
        assert!(!options(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert_eq!(options(&[("HF_TOKEN", "hf_x"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
    }

    #[test]
    fn the_stored_login_is_a_token() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("token"), "hf_stored\n").unwrap();
        assert_eq!(options(&[("HF_HOME", home.path().to_str().unwrap())]).token.as_deref(), Some("hf_stored"));
    }

    #[test]
    fn only_files_of_a_policy_are_wanted_and_no_pickle() {
        for wanted in ["config.json", "model.safetensors", "policy_preprocessor_step_3_normalizer_processor.safetensors"] {
            assert!(is_policy_file(wanted), "{wanted}");
        }
        for wanted in ["policy_preprocessor.json", "README.md", "tokenizer.json", "model.safetensors.index.json"] {
            assert!(is_policy_file(wanted), "{wanted}");
        }
        for other in
            ["pytorch_model.bin", "optimizer.pt", "a.pkl", "train_config.json", "checkpoints/1/model.safetensors", ".gitattributes"]
        {
            assert!(!is_policy_file(other), "{other}");
        }
    }

    #[test]
    fn a_full_disk_is_told_from_other_trouble() {
        let full = HFError::Io(io::ErrorKind::StorageFull.into());
        assert_eq!(disk_full(&full), Some(io::ErrorKind::StorageFull));
        let nested = HFError::xet(hf_hub::XetOperation::Download, io::Error::from(io::ErrorKind::QuotaExceeded));
        assert_eq!(disk_full(&nested), Some(io::ErrorKind::QuotaExceeded));
        assert_eq!(disk_full(&HFError::Io(io::ErrorKind::PermissionDenied.into())), None);
    }
}
