//! What of this machine is published: which folder goes up. The Hub's cache has a policy's files as links, which an upload refuses, so
//! that its files are put into a folder of their own first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sinew_core::service::Refusal;
use sinew_hub::{Hub, HubRepo, RepoKind};

use super::{Owned, lock, store};
use crate::text;

/// In the folder of datasets; no dataset is called so.
const FOLDER: &str = ".publish";

/// A folder with the files of a policy, which goes with this.
pub struct Staged {
    snapshot: PathBuf,
    pub folder: PathBuf,
}

impl Staged {
    /// Puts the files there, as further names of the same bytes where the disk can.
    pub fn fill(&self) -> anyhow::Result<()> {
        // Of a daemon that was killed.
        drop(fs::remove_dir_all(&self.folder));
        fill(&self.snapshot, &self.folder).with_context(|| format!("putting the policy's files into {}", self.folder.display()))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
        // Empty, if it was the last one.
        drop(self.folder.parent().map(fs::remove_dir));
    }
}

fn fill(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (place, kind) = (to.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() {
            fill(&entry.path(), &place)?;
            continue;
        }
        let file = fs::canonicalize(entry.path())?;
        if !file.is_file() {
            bail!("{} is no file", entry.path().display());
        }
        match fs::hard_link(&file, &place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error.into()),
            // Another disk, or one that has no such thing.
            Err(_) => drop(fs::copy(&file, &place)?),
            Ok(()) => {}
        }
    }
    Ok(())
}

impl Owned {
    /// The folder of a dataset that may go up now.
    pub(super) fn dataset_to_publish(&self, dataset: &str) -> Result<PathBuf, Refusal> {
        let place = self.place_of(dataset)?;
        if !place.is_dir() {
            return Err(Refusal::Missing(format!("there is no dataset {dataset}")));
        }
        let is_recorded = lock(&self.current).as_ref().is_some_and(|current| current.work.dataset.as_deref() == Some(dataset));
        if is_recorded {
            return Err(Refusal::Conflict(format!("{dataset} is in use; publish it when what runs has ended")));
        }
        Ok(place)
    }

    /// A folder of a policy's own, which is to be filled, for one that is in the cache.
    pub(super) fn policy_to_publish(&self, policy: &str, repo: &str) -> Result<Staged, Refusal> {
        store::check_of_hub("policy", policy)?;
        let missing = |why: String| Refusal::Missing(format!("publishing {policy}: {why}"));
        let parsed = HubRepo::parse(RepoKind::Model, policy).map_err(|error| Refusal::Bad(error.to_string()))?;
        let found = Hub::from_env().find_cached(Some(&parsed)).map_err(|error| missing(text::chain(&error.into())))?;
        let [cached] = &found[..] else { return Err(missing("it is not on this machine".to_owned())) };
        let revision = policy.split_once('@').map(|(_, revision)| revision);
        let wanted = revision.unwrap_or(HubRepo::DEFAULT_REVISION);
        let is_meant = |(commit, revisions): &(&String, &Vec<String>)| *commit == wanted || revisions.iter().any(|name| name == wanted);
        let commits: Vec<&String> = cached.snapshots.keys().collect();
        let commit = match (cached.snapshots.iter().find(is_meant), &commits[..]) {
            (Some((commit, _)), _) => commit,
            (None, [only]) if revision.is_none() => only,
            (None, _) => {
                let there = commits.iter().map(|commit| commit.as_str()).collect::<Vec<_>>().join(", ");
                return Err(missing(format!("expected one of its commits on this machine as @COMMIT; there are: {there}")));
            }
        };
        let name = format!("{}--{commit}--{}", parsed.repo().replace('/', "--"), repo.replace('/', "--"));
        Ok(Staged { snapshot: cached.folder.join("snapshots").join(commit), folder: self.datasets.join(FOLDER).join(name) })
    }
}
