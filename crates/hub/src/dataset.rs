//! A dataset's files, each when it is needed.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::api::{Listing, RepoFile};
use crate::cache::files_below;
use crate::down::Place;
use crate::hub::{Event, Resolved};
use crate::range::{Ranges, RemoteFile};
use crate::{Hub, HubError, HubRepo, RepoKind};

/// The folder of the tables about episodes. It is listed once, so that none of its files has to be looked for.
const TABLES: &str = "meta";
/// The files of the table of episodes, of which a recording has one for each 25 episodes. Whoever wants one wants all, so
/// they come several at a time.
const EPISODES: &str = "meta/episodes/";
/// So many files are kept open for parts of them to be read.
const MOST_OPEN: usize = 256;

/// A dataset repository at one commit. Its files come into huggingface_hub's cache one by one, as they
/// are asked for.
pub struct HubDataset {
    hub: Hub,
    resolved: Resolved,
    /// What the snapshot of an earlier commit has, and this one does not have yet. Until it has, the revision means
    /// the earlier one to whoever has no network.
    owed: Mutex<Option<BTreeSet<PathBuf>>>,
    listener: Arc<crate::Listener>,
    tables: OnceLock<Listing>,
    ranges: Arc<Ranges>,
    open: Mutex<HashMap<String, RemoteFile>>,
}

impl Hub {
    /// Finds out which commit `dataset` is at; without the Hub, which it was at when it was last fetched.
    /// `listener` will be told of each piece of each file that arrives.
    ///
    /// # Errors
    /// When the Hub does not answer, or knows no such dataset or revision; offline, when the cache
    /// doesn't.
    pub fn dataset(&self, dataset: &HubRepo, listener: Arc<crate::Listener>) -> Result<HubDataset, HubError> {
        let repo = dataset.clone().of_kind(RepoKind::Dataset);
        let resolved = self.resolve(&repo).map_err(|err| self.hint(&repo, err))?;
        match &resolved.from_cache {
            Some(why) => listener(Event::FromCache { repo: &repo, commit: &resolved.commit, why }),
            None => listener(Event::Resolved { repo: &repo, commit: &resolved.commit }),
        }
        let cache = self.cache(&repo);
        let owed = match cache.commit_of(&repo) {
            Ok(known) if known != resolved.commit => Some(files_below(&cache.snapshot(&known))?),
            Ok(_) => None,
            Err(_) => Some(BTreeSet::new()),
        };
        let ranges = Arc::new(Ranges::new(self.clone(), repo, resolved.commit.clone(), Arc::clone(&listener)));
        let (tables, open) = (OnceLock::new(), Mutex::default());
        Ok(HubDataset { hub: self.clone(), resolved, owed: Mutex::new(owed), listener, tables, ranges, open })
    }
}

impl HubDataset {
    /// Where the files are that were fetched, by their paths in the repository.
    pub fn folder(&self) -> PathBuf {
        self.hub.cache(&self.resolved.repo).snapshot(&self.resolved.commit)
    }

    /// The commit that is read.
    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// Sees to it that the file `path` is in the [`folder`](Self::folder). `false` when the dataset has
    /// no such file, or, without the Hub, the cache.
    ///
    /// # Errors
    /// When the file can't be had whole.
    pub fn fetch(&self, path: &str) -> Result<bool, HubError> {
        // Files get their names when they are whole.
        if self.folder().join(path).is_file() {
            return Ok(true);
        }
        if self.resolved.from_cache.is_some() {
            return Ok(false);
        }
        let (repo, commit) = (&self.resolved.repo, &self.resolved.commit);
        let Some(file) = self.look_up(path)? else { return Ok(false) };
        let cache = self.hub.cache(repo);
        let mut files = vec![file];
        if path.starts_with(EPISODES) {
            let of_table = |file: &&RepoFile| file.path != path && file.path.starts_with(EPISODES) && file.path.ends_with(".parquet");
            files.extend(self.tables.get().iter().flat_map(|tables| tables.files.iter().filter(of_table).cloned()));
        }
        self.hub.pull(repo, commit, &files, &Place::Cache(cache.clone()), &*self.listener)?;
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(paths) = &mut *owed {
            for file in &files {
                paths.remove(Path::new(&file.path));
            }
            if paths.is_empty() {
                cache.remember(repo, commit)?;
                *owed = None;
            }
        }
        Ok(true)
    }

    /// What the Hub says of the file `path`.
    fn look_up(&self, path: &str) -> Result<Option<RepoFile>, HubError> {
        let (repo, commit) = (&self.resolved.repo, &self.resolved.commit);
        let http = self.hub.http()?;
        if path.strip_prefix(TABLES).is_none_or(|below| !below.starts_with('/')) {
            return Ok(self.hub.wait(http.some(repo, commit, &[path]))??.file(path).cloned());
        }
        if self.tables.get().is_none() {
            let listing = match self.hub.wait(http.list(repo, commit, TABLES, true))? {
                Err(HubError::NoFile { .. }) => Listing::default(),
                listing => listing?,
            };
            // Somebody else may have listed it meanwhile, and found the same.
            drop(self.tables.set(listing));
        }
        Ok(self.tables.get().and_then(|tables| tables.file(path)).cloned())
    }

    /// The file `path` for reading parts of it. `None` when the dataset has no such file, when it lies in the
    /// [`folder`](Self::folder) whole, where it is better read, or when the Hub is not asked.
    ///
    /// # Errors
    /// When the Hub does not say where the file is.
    pub fn open(&self, path: &str) -> Result<Option<RemoteFile>, HubError> {
        if self.resolved.from_cache.is_some() || self.folder().join(path).is_file() {
            return Ok(None);
        }
        let open = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open().get(path) {
            return Ok(Some(file.clone()));
        }
        let Some(file) = self.ranges.open(path)? else { return Ok(None) };
        let mut open = open();
        if open.len() >= MOST_OPEN {
            open.clear();
        }
        // Of two who open it at a time, both get the one whose parts are known.
        Ok(Some(open.entry(path.to_owned()).or_insert(file).clone()))
    }
}
