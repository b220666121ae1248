//! A dataset's files, each when it is needed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hf_hub::repository::RepoTreeEntry;

use crate::fetch::{Report, Wanted};
use crate::{Hub, HubError, HubRepo, Transfer};

type OnTransfer = dyn Fn(Transfer<'_>) + Send + Sync;

/// A dataset repository at one commit. Its files come into huggingface_hub's cache one by one, as they
/// are asked for.
pub struct HubDataset {
    hub: Hub,
    repo: HubRepo,
    commit: String,
    /// Sizes by path, once the Hub was asked.
    listing: Mutex<Option<Arc<BTreeMap<String, u64>>>>,
    progress: Arc<OnTransfer>,
}

impl Hub {
    /// Finds out which commit `dataset` is at; offline, which it was at when it was last fetched.
    /// `progress` will be told of each piece of each file that arrives.
    ///
    /// # Errors
    /// When the Hub does not answer, or knows no such dataset or revision; offline, when the cache
    /// doesn't.
    pub fn dataset(&self, dataset: &HubRepo, progress: impl Fn(Transfer<'_>) + Send + Sync + 'static) -> Result<HubDataset, HubError> {
        let repo = dataset.clone().into_dataset();
        let commit = match self.options.offline {
            true => self.cached_commit(&repo)?,
            false => {
                let commit = self.commit_of(&repo, &self.repository(&repo)?)?;
                self.remember(&repo, &commit)?;
                commit
            }
        };
        Ok(HubDataset { hub: self.clone(), repo, commit, listing: Mutex::default(), progress: Arc::new(progress) })
    }
}

impl HubDataset {
    /// Where the files are that were fetched, by their paths in the repository.
    pub fn folder(&self) -> PathBuf {
        self.hub.snapshot_dir(&self.repo, &self.commit)
    }

    /// Sees to it that the file `path` is in the [`folder`](Self::folder). `false` when the dataset has
    /// no such file, or, offline, the cache.
    ///
    /// # Errors
    /// When the file can't be had whole.
    pub fn fetch(&self, path: &str) -> Result<bool, HubError> {
        // hf-hub puts files there when they are whole.
        if self.folder().join(path).is_file() {
            return Ok(true);
        }
        if self.hub.options.offline {
            return Ok(false);
        }
        let remote = self.hub.repository(&self.repo)?;
        let mut listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = match &*listing {
            Some(sizes) => Arc::clone(sizes),
            None => {
                let file = |entry| match entry {
                    RepoTreeEntry::File { path, size, .. } => Some((path, size)),
                    RepoTreeEntry::Directory { .. } => None,
                };
                let entries = self.hub.entries(&self.repo, &remote, &self.commit, true)?;
                Arc::clone(listing.insert(Arc::new(entries.into_iter().filter_map(file).collect())))
            }
        };
        drop(listing);
        let Some(&size_bytes) = sizes.get(path) else { return Ok(false) };
        let file = Wanted { path: path.to_owned(), size_bytes };
        let told = Arc::clone(&self.progress);
        let progress = Arc::new(move |transfer: Transfer<'_>| told(transfer));
        let report = Report { progress, file: file.path.clone(), done_bytes: 0, total_bytes: size_bytes };
        self.hub.fetch_one(&self.repo, &remote, &self.commit, &file, report)?;
        Ok(true)
    }
}
