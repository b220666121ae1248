//! What lies in the cache: how much, whether it is whole, and what nothing needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use crate::api::RepoFile;
use crate::cache::is_hash;
use crate::down::hash_of;
use crate::name::is_commit;
use crate::{Hub, HubError, HubRepo, RepoKind};

/// A repository in the cache.
#[derive(Clone, Debug, Serialize)]
pub struct CachedRepo {
    pub kind: RepoKind,
    /// `owner/name`.
    pub repo: String,
    pub folder: PathBuf,
    /// Bytes of all blobs, begun ones too.
    pub size_bytes: u64,
    /// Commit → the revisions that mean it.
    pub snapshots: BTreeMap<String, Vec<String>>,
    /// Seconds since something of it was last written.
    pub written_s_ago: u64,
}

/// Something in the cache that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flaw {
    pub path: PathBuf,
    pub what: String,
}

/// What [`Hub::prune_cache`] takes away.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pruned {
    /// Snapshots that no revision means any more, blobs that no snapshot needs, and what was begun.
    pub paths: Vec<PathBuf>,
    pub size_bytes: u64,
}

impl Hub {
    /// All repositories in the cache, by their names.
    ///
    /// # Errors
    /// When the cache's folder can't be read. That there is none is no error.
    pub fn list_cache(&self) -> Result<Vec<CachedRepo>, HubError> {
        let root = &self.options().cache_dir;
        let mut repos = Vec::new();
        for entry in entries(root)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((kind, owner_and_name)) = name.split_once("--") else { continue };
            let Some(kind) = RepoKind::ALL.into_iter().find(|known| known.plural() == kind) else { continue };
            let repo = owner_and_name.replace("--", "/");
            let folder = entry.path();
            let (mut size_bytes, mut newest) = (0, SystemTime::UNIX_EPOCH);
            for blob in entries(&folder.join("blobs"))? {
                let Ok(found) = blob.metadata() else { continue };
                size_bytes += found.len();
                newest = newest.max(found.modified().unwrap_or(newest));
            }
            let mut snapshots: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for snapshot in entries(&folder.join("snapshots"))? {
                snapshots.insert(snapshot.file_name().to_string_lossy().into_owned(), Vec::new());
            }
            for path in files_below(&folder.join("refs"))? {
                let commit = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
                let revision = path.strip_prefix(folder.join("refs")).unwrap_or(&path).display().to_string();
                snapshots.entry(commit).or_default().push(revision);
            }
            let written_s_ago = SystemTime::now().duration_since(newest).map_or(0, |age| age.as_secs());
            repos.push(CachedRepo { kind, repo, folder, size_bytes, snapshots, written_s_ago });
        }
        repos.sort_by(|a, b| a.repo.cmp(&b.repo));
        Ok(repos)
    }

    /// Reads every blob of the cache, or of one repository, and compares it with its name; and every link of a snapshot.
    /// `heard` is told after each blob of its bytes.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub fn verify_cache(&self, only: Option<&HubRepo>, mut heard: impl FnMut(u64)) -> Result<Vec<Flaw>, HubError> {
        let mut flaws = Vec::new();
        for repo in self.list_cache()?.into_iter().filter(|repo| is_meant(repo, only)) {
            for blob in entries(&repo.folder.join("blobs"))? {
                let (path, name) = (blob.path(), blob.file_name().to_string_lossy().into_owned());
                let size_bytes = blob.metadata().map_or(0, |found| found.len());
                if !is_hash(&name) {
                    if !name.ends_with(".incomplete") {
                        flaws.push(Flaw { path, what: "its name is no hash".into() });
                    }
                    continue;
                }
                let like = RepoFile { path: name.clone(), size_bytes, hash: name };
                match hash_of(&path, &like) {
                    Ok(found) if found == like.hash => {}
                    Ok(found) => flaws.push(Flaw { path, what: format!("its content has the hash {found}") }),
                    Err(err) => flaws.push(Flaw { path, what: err.to_string() }),
                }
                heard(size_bytes);
            }
            for (commit, revisions) in &repo.snapshots {
                let folder = repo.folder.join("snapshots").join(commit);
                if !is_commit(commit) || !folder.is_dir() {
                    flaws.push(Flaw { path: folder.clone(), what: format!("{} means it, and it is not there", revisions.join(", ")) });
                }
                for path in files_below(&folder)?.into_iter().filter(|path| !path.exists()) {
                    flaws.push(Flaw { path, what: "it leads to no blob".into() });
                }
            }
        }
        Ok(flaws)
    }

    /// What could be taken away without a revision of the cache losing anything: snapshots that none means, blobs that
    /// none of the others needs, and downloads that were begun longer than a day ago. With `only`, all of that repository.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub fn plan_prune(&self, only: Option<&HubRepo>) -> Result<Pruned, HubError> {
        let mut plan = Pruned::default();
        for repo in self.list_cache()?.into_iter().filter(|repo| is_meant(repo, only)) {
            if only.is_some() {
                plan.size_bytes += repo.size_bytes;
                plan.paths.push(repo.folder);
                continue;
            }
            let mut needed = BTreeSet::new();
            for (commit, revisions) in &repo.snapshots {
                let folder = repo.folder.join("snapshots").join(commit);
                if revisions.is_empty() {
                    plan.paths.push(folder);
                } else {
                    needed.extend(files_below(&folder)?.into_iter().filter_map(|path| path.canonicalize().ok()));
                }
            }
            for blob in entries(&repo.folder.join("blobs"))? {
                let Ok(found) = blob.metadata() else { continue };
                let age_s = found.modified().ok().and_then(|at| at.elapsed().ok()).map_or(0, |age| age.as_secs());
                let is_begun = blob.file_name().to_string_lossy().ends_with(".incomplete");
                let is_needed = blob.path().canonicalize().is_ok_and(|path| needed.contains(&path));
                // What is young may be on its way to its place in another process.
                if !is_needed && (age_s > 86_400 || (!is_begun && age_s > 3_600)) {
                    plan.size_bytes += found.len();
                    plan.paths.push(blob.path());
                }
            }
        }
        Ok(plan)
    }

    /// Does what was planned.
    ///
    /// # Errors
    /// For the first path that can't be removed.
    pub fn prune_cache(&self, plan: &Pruned) -> Result<(), HubError> {
        for path in &plan.paths {
            let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            gone.map_err(HubError::io(format!("removing {}", path.display())))?;
        }
        Ok(())
    }
}

fn is_meant(repo: &CachedRepo, only: Option<&HubRepo>) -> bool {
    only.is_none_or(|only| only.kind() == repo.kind && only.repo() == repo.repo)
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, HubError> {
    let read = || match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other?.collect(),
    };
    read().map_err(HubError::io(format!("reading {}", folder.display())))
}

/// The files and links below a folder; none where there is none.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, HubError> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder)? {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    Ok(files)
}
