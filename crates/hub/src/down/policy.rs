//! Of a policy's repository, the files that a policy consists of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Place;
use crate::api::{Listing, RepoFile};
use crate::cache::path_fault;
use crate::hub::{Event, Listener, Resolved};
use crate::{CacheHint, Hub, HubError, HubRepo, ModelRef};

/// A policy's folder, and for one of the Hub the commit that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub folder: PathBuf,
    pub resolved: Option<Resolved>,
}

/// Fetches `model` as the environment says (`HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`,
/// `HF_HUB_OFFLINE`) and returns the folder that holds its files. `listener` is called on threads
/// of the download; of a folder on this machine it hears nothing.
///
/// # Errors
/// When the files can't be had whole; see [`HubError`].
pub fn fetch_model(model: &ModelRef, listener: impl Fn(Event<'_>) + Send + Sync + 'static) -> Result<Fetched, HubError> {
    Hub::from_env().fetch(model, &listener)
}

/// Whether `path`, relative to a repository's top, is one of the files a policy consists of: its
/// configuration, weights (safetensors only, never a pickle), processors, tokenizer and card.
/// Checkpoints in sub-folders are not part of the policy; what the processors name is fetched beside.
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
        && (NAMES.contains(&path) || is_weights(path) || path.ends_with(".safetensors.index.json") || is_processor(path))
}

/// The longest JSON of processors that is searched for names; LeRobot's have some kilobytes.
const MAX_PROCESSOR_BYTES: u64 = 4 << 20;

fn is_processor(path: &str) -> bool {
    path.starts_with("policy_") && path.ends_with(".json")
}

fn is_weights(path: &str) -> bool {
    path.ends_with(".safetensors")
}

/// Whether a file is one whose loading runs code.
fn is_pickle(path: &str) -> bool {
    [".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py", ".so"].iter().any(|end| path.ends_with(end))
}

/// Whether a file is weights as PyTorch pickles them.
fn is_pickled_weights(path: &str) -> bool {
    !path.contains('/') && [".bin", ".pt", ".pth", ".ckpt"].iter().any(|end| path.ends_with(end)) && !path.starts_with("optimizer")
}

impl Hub {
    /// As [`fetch_model`], with this Hub's options instead of the environment's.
    ///
    /// # Errors
    /// As [`fetch_model`].
    pub fn fetch(&self, model: &ModelRef, listener: &Listener) -> Result<Fetched, HubError> {
        match model {
            ModelRef::Local(path) if path.is_dir() => Ok(Fetched { folder: path.clone(), resolved: None }),
            ModelRef::Local(path) => {
                let found = if path.exists() { "a file, expected a folder" } else { "there is no such folder" };
                Err(HubError::NoFolder { path: path.clone(), found })
            }
            ModelRef::Hub(repo) => self.fetch_policy(repo, listener),
        }
    }

    fn fetch_policy(&self, repo: &HubRepo, listener: &Listener) -> Result<Fetched, HubError> {
        let resolved = self.resolve(repo).map_err(|err| self.hint(repo, err))?;
        let (cache, commit) = (self.cache(repo), &resolved.commit);
        let folder = cache.snapshot(commit);
        if let Some(why) = &resolved.from_cache {
            if let Some(lacking) = lacks(&folder) {
                return Err(HubError::NotCached {
                    repo: repo.clone(),
                    looked_for: folder.join(lacking),
                    found: "nothing",
                    why: why.clone(),
                });
            }
            listener(Event::FromCache { repo, commit, why });
            return Ok(Fetched { folder, resolved: Some(resolved) });
        }
        listener(Event::Resolved { repo, commit });
        let http = self.http()?;
        let top = self.wait(http.list(repo, commit, "", false))??;
        let files = policy_files(repo, &top)?;
        let place = Place::Cache(cache.clone());
        // The processors first, as they may name more.
        let (processors, mut others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| is_processor(&file.path));
        self.pull(repo, commit, &processors, &place, listener)?;
        let named = named_by(&folder, &processors);
        for name in named.iter().filter(|name| top.folders.contains(name)) {
            others.extend(self.wait(http.list(repo, commit, name, true))??.files);
        }
        others.extend(named.iter().filter_map(|name| top.file(name).cloned()));
        let is_deeper = |name: &&str| name.split_once('/').is_some_and(|(first, _)| top.folders.iter().any(|folder| folder == first));
        let deeper: Vec<&str> = named.iter().map(String::as_str).filter(is_deeper).collect();
        if !deeper.is_empty() {
            others.extend(self.wait(http.some(repo, commit, &deeper))??.files);
        }
        others.retain(|file| !is_pickle(&file.path));
        // Once more, as all must be there at the end.
        others.extend(processors);
        others.sort_by(|a, b| a.path.cmp(&b.path));
        others.dedup_by(|a, b| a.path == b.path);
        self.pull(repo, commit, &others, &place, listener)?;
        cache.remember(repo, commit)?;
        Ok(Fetched { folder, resolved: Some(resolved) })
    }

    /// One file of a repository that a policy refers to, such as its tokenizer: `None` when the
    /// repository has no such file. A copy in the cache is taken without asking the Hub whether
    /// there is a newer one; nothing else of the repository is fetched.
    ///
    /// # Errors
    /// As [`fetch_model`].
    pub fn fetch_file(&self, repo: &HubRepo, path: &str) -> Result<Option<PathBuf>, HubError> {
        let cache = self.cache(repo);
        let known = cache.commit_of(repo);
        let cached = known.as_ref().ok().map(|commit| cache.snapshot(commit).join(path)).filter(|cached| cached.is_file());
        if cached.is_some() {
            return Ok(cached);
        }
        let resolved = self.resolve(repo)?;
        if let Some(why) = resolved.from_cache {
            let looked_for = cache.snapshot(&resolved.commit).join(path);
            // Offline, what the cache lacks is not there; without a network, nobody knows.
            let is_told = self.options().offline;
            return if is_told { Ok(None) } else { Err(HubError::NotCached { repo: repo.clone(), looked_for, found: "nothing", why }) };
        }
        let commit = &resolved.commit;
        let http = self.http()?;
        let found = self.wait(http.some(repo, commit, &[path]))??;
        let Some(file) = found.file(path) else { return Ok(None) };
        self.pull(repo, commit, std::slice::from_ref(file), &Place::Cache(cache.clone()), &|_| {})?;
        if known.is_err() {
            cache.remember(repo, commit)?;
        }
        Ok(Some(cache.snapshot(commit).join(path)))
    }

    /// Adds to an error of the network what the cache has.
    pub(crate) fn hint(&self, repo: &HubRepo, err: HubError) -> HubError {
        match err {
            HubError::Unreachable { doing, endpoint, why, .. } => {
                let cache = self.cache(repo);
                let snapshot = cache.commit_of(repo).ok().map(|commit| cache.snapshot(&commit)).filter(|snapshot| snapshot.is_dir());
                HubError::Unreachable { doing, endpoint, why, hint: snapshot.map_or(CacheHint::Nothing, CacheHint::Snapshot) }
            }
            other => other,
        }
    }
}

/// What a cached policy lacks to be one.
fn lacks(folder: &Path) -> Option<&'static str> {
    if !folder.join("config.json").is_file() {
        return Some("config.json");
    }
    let has_weights = fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|entry| is_weights(&entry.file_name().to_string_lossy()) && entry.path().is_file()));
    (!has_weights).then_some("*.safetensors")
}

fn policy_files(repo: &HubRepo, top: &Listing) -> Result<Vec<RepoFile>, HubError> {
    let files: Vec<RepoFile> = top.files.iter().filter(|file| is_policy_file(&file.path)).cloned().collect();
    for (expected, is_it) in [("config.json", is_config as fn(&str) -> bool), ("*.safetensors", is_weights)] {
        if !files.iter().any(|file| is_it(&file.path)) {
            let pickles: Vec<&str> = top.files.iter().map(|file| file.path.as_str()).filter(|path| is_pickled_weights(path)).collect();
            if let (false, "*.safetensors") = (pickles.is_empty(), expected) {
                let what = format!(
                    "refused {}: a pickle, which runs code of whoever made it when it is loaded; the repository has no weights as \
                     *.safetensors, so ask its owner for them",
                    pickles.join(", ")
                );
                return Err(HubError::Unusable { doing: format!("choosing the files of {repo}"), what });
            }
            let mut found: Vec<String> = top.folders.iter().map(|folder| format!("{folder}/")).collect();
            found.extend(top.files.iter().map(|file| match is_pickle(&file.path) {
                true => format!("{} (a pickle, which is never loaded)", file.path),
                false => file.path.clone(),
            }));
            found.sort();
            found.truncate(20);
            return Err(HubError::NoPolicy { repo: repo.clone(), expected, found });
        }
    }
    Ok(files)
}

fn is_config(path: &str) -> bool {
    path == "config.json"
}

/// Every text in the processors' configurations that could be the name of a file or a folder of the same repository.
/// A step of LeRobot's may keep files beside its JSON, and names them there by their relative path.
fn named_by(folder: &Path, processors: &[RepoFile]) -> BTreeSet<String> {
    fn collect(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::String(text) => {
                let name = text.trim_end_matches('/').trim_start_matches("./");
                if path_fault(name).is_none() {
                    names.insert(name.to_owned());
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, names)),
            Value::Object(values) => values.values().for_each(|value| collect(value, names)),
            _ => {}
        }
    }
    let mut names = BTreeSet::new();
    for file in processors {
        // One that can't be read is told when the policy is loaded, with what is wrong.
        if file.size_bytes > MAX_PROCESSOR_BYTES {
            continue;
        }
        let json = fs::read(folder.join(&file.path)).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        json.iter().filter_map(|json| json.get("steps")).for_each(|steps| collect(steps, &mut names));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_the_processors_name_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let json = r#"{"name": "x", "steps": [
            {"registry_name": "tokenizer_processor", "config": {"tokenizer_name": "someone/else", "artifacts": {"tokenizer": "tokenizer_step_2/"}}},
            {"state_file": "./states/one.safetensors", "config": {"evil": "../../etc/passwd", "list": ["extra/vocab.json"]}}]}"#;
        fs::write(folder.path().join("policy_preprocessor.json"), json).unwrap();
        let file = RepoFile { path: "policy_preprocessor.json".into(), size_bytes: 0, hash: String::new() };
        let names = named_by(folder.path(), &[file]);
        for name in ["tokenizer_step_2", "states/one.safetensors", "extra/vocab.json", "someone/else"] {
            assert!(names.contains(name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("..")), "{names:?}");
    }
}
