//! What lies in the cache: how much, whether it is whole, and what nothing needs.
//!
//! Where there are no links, files of snapshots are copies, or, as huggingface_hub has it, moved there, so that no blob is
//! left. Then nothing here says what they should be, and the Hub is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::api::{Listing, RepoFile};
use crate::cache::{LEFT_AFTER, age, all_below, entries, files_below, is_hash, is_leftover, read_small};
use crate::down::{hash_of, hashes_of};
use crate::name::is_commit;
use crate::{Hub, HubError, HubRepo, RepoKind};

/// What was begun longer ago is not gone on with.
pub(crate) const BEGUN_FOR: Duration = Duration::from_secs(86_400);

/// A repository in the cache.
#[derive(Clone, Debug, Serialize)]
pub struct CachedRepo {
    pub kind: RepoKind,
    /// `owner/name`.
    pub repo: String,
    pub folder: PathBuf,
    /// Bytes of all blobs, begun ones too, and of files of snapshots that are none.
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

/// What [`Hub::verify_cache`] found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    pub flaws: Vec<Flaw>,
    /// Files of which nobody says what they should be, and why.
    pub unverified: Vec<Flaw>,
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
            let mut count = |found: &fs::Metadata| {
                size_bytes += found.len();
                newest = newest.max(found.modified().unwrap_or(newest));
            };
            for blob in entries(&folder.join("blobs"))? {
                blob.metadata().iter().for_each(&mut count);
            }
            let blobs = blobs_of(&folder)?;
            let mut snapshots: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for snapshot in entries(&folder.join("snapshots"))? {
                own_files(&snapshot.path(), &blobs)?.iter().for_each(|(_, found)| count(found));
                snapshots.insert(snapshot.file_name().to_string_lossy().into_owned(), Vec::new());
            }
            for revision in files_below(&folder.join("refs"))? {
                let path = folder.join("refs").join(&revision);
                let commit = read_small(&path, 1 << 10).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
                snapshots.entry(commit.unwrap_or_default()).or_default().push(revision.display().to_string());
            }
            let written_s_ago = SystemTime::now().duration_since(newest).map_or(0, |age| age.as_secs());
            repos.push(CachedRepo { kind, repo, folder, size_bytes, snapshots, written_s_ago });
        }
        repos.sort_by(|a, b| a.repo.cmp(&b.repo));
        Ok(repos)
    }

    /// Reads every blob of the cache, or of one repository, and compares it with its name; every link of a snapshot; and
    /// every file of a snapshot that is no link to a blob: it must be as a blob says, or as the Hub says, which is asked for
    /// it alone. `heard` is told after each file of its bytes.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub fn verify_cache(&self, only: Option<&HubRepo>, mut heard: impl FnMut(u64)) -> Result<Verified, HubError> {
        let mut verified = Verified::default();
        // A Hub that is silent is asked once.
        let mut silent = None;
        for repo in self.list_cache()?.into_iter().filter(|repo| repo.is_meant(only)) {
            let names = check_blobs(&repo.folder, &mut verified.flaws, &mut heard)?;
            let blobs = blobs_of(&repo.folder)?;
            for (commit, revisions) in &repo.snapshots {
                let folder = repo.folder.join("snapshots").join(commit);
                if !is_commit(commit) || !folder.is_dir() {
                    let what = format!("{} means it, and it is not there", revisions.join(", "));
                    verified.flaws.push(Flaw { path: folder, what });
                    continue;
                }
                for path in files_below(&folder)?.into_iter().map(|path| folder.join(path)).filter(|path| !path.exists()) {
                    verified.flaws.push(Flaw { path, what: "it leads to no blob".into() });
                }
                let mut tree = None;
                for (path, found) in own_files(&folder, &blobs)? {
                    let full = folder.join(&path);
                    let hashes = match size_of(&full).and_then(|_| hashes_of(&full)) {
                        Ok(hashes) => hashes,
                        Err(err) => {
                            verified.flaws.push(Flaw { path: full, what: err.to_string() });
                            continue;
                        }
                    };
                    heard(found.len());
                    if hashes.iter().any(|hash| names.contains(hash)) {
                        continue;
                    }
                    let tree = tree.get_or_insert_with(|| self.tree(&repo, commit, &mut silent));
                    let path = path.to_string_lossy().replace('\\', "/");
                    match tree.as_ref().map(|tree| tree.get(&path)) {
                        Ok(Some(expected)) if hashes.contains(expected) => {}
                        Ok(Some(expected)) => {
                            let found = &hashes[usize::from(expected.len() == 64)];
                            let what = format!("its content has the hash {found}, the Hub has {expected}");
                            verified.flaws.push(Flaw { path: full, what });
                        }
                        Ok(None) => verified.flaws.push(Flaw { path: full, what: "the Hub has no such file at this commit".into() }),
                        Err(why) => {
                            let what = format!("it is no link to a blob, and what it should be is not known: {why}");
                            verified.unverified.push(Flaw { path: full, what });
                        }
                    }
                }
            }
        }
        Ok(verified)
    }

    /// The hashes of a repository's files at a commit, as the Hub has them, or why it does not say.
    fn tree(&self, repo: &CachedRepo, commit: &str, silent: &mut Option<String>) -> Result<HashMap<String, String>, String> {
        if let Some(why) = silent {
            return Err(why.clone());
        }
        let named = HubRepo::parse(repo.kind, &repo.repo).map_err(|err| err.to_string())?.at(commit);
        let ask = || {
            self.needs_network(format!("listing the files of {named}"))?;
            let http = self.http()?;
            self.wait(http.list(&named, commit, "", true))?
        };
        match ask() {
            Ok(Listing { files, .. }) => Ok(files.into_iter().map(|file| (file.path, file.hash)).collect()),
            Err(err) => {
                if matches!(err, HubError::Unreachable { .. } | HubError::Client { .. } | HubError::Offline { .. }) {
                    *silent = Some(err.to_string());
                }
                Err(err.to_string())
            }
        }
    }

    /// What could be taken away without a revision of the cache losing anything: snapshots that none means, blobs that
    /// none of the others needs, downloads that were begun longer than a day ago, and what processes that were killed left. With `only`, all of that repository.
    ///
    /// # Errors
    /// When a folder can't be read.
    pub fn plan_prune(&self, only: Option<&HubRepo>) -> Result<Pruned, HubError> {
        let mut plan = Pruned::default();
        for repo in self.list_cache()?.into_iter().filter(|repo| repo.is_meant(only)) {
            if only.is_some() {
                plan.size_bytes += repo.size_bytes;
                plan.paths.push(repo.folder);
                continue;
            }
            let (mut needed, blobs) = (BTreeSet::new(), blobs_of(&repo.folder)?);
            let mut left = BTreeSet::from([repo.folder.join("refs")]);
            for (commit, revisions) in &repo.snapshots {
                let folder = repo.folder.join("snapshots").join(commit);
                if revisions.is_empty() {
                    plan.size_bytes += own_files(&folder, &blobs)?.iter().map(|(_, found)| found.len()).sum::<u64>();
                    plan.paths.push(folder);
                } else if is_commit(commit) {
                    needed.extend(files_below(&folder)?.into_iter().filter_map(|path| folder.join(path).canonicalize().ok()));
                    left.insert(folder);
                }
            }
            for folder in left {
                let paths = all_below(&folder)?.into_iter().map(|path| folder.join(path));
                plan.paths
                    .extend(paths.filter(|path| {
                        path.file_name().is_some_and(|name| is_leftover(&name.to_string_lossy())) && age(path) > LEFT_AFTER
                    }));
            }
            for blob in entries(&repo.folder.join("blobs"))? {
                let Ok(found) = blob.metadata() else { continue };
                let age = age(&blob.path());
                let is_begun = blob.file_name().to_string_lossy().ends_with(".incomplete");
                let is_needed = blob.path().canonicalize().is_ok_and(|path| needed.contains(&path));
                // What is young may be on its way to its place in another process.
                if !is_needed && (age > BEGUN_FOR || (!is_begun && age > LEFT_AFTER)) {
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

impl CachedRepo {
    /// Whether it is the repository that the user named, where he named one.
    pub fn is_meant(&self, only: Option<&HubRepo>) -> bool {
        only.is_none_or(|only| only.kind() == self.kind && only.repo() == self.repo)
    }
}

/// By which two names of one file are told to be that.
#[derive(PartialEq, Eq, Hash)]
enum FileId {
    #[cfg(unix)]
    Number(u64, u64),
    #[cfg(not(unix))]
    Path(PathBuf),
}

fn id_of(path: &Path) -> io::Result<FileId> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map(|found| FileId::Number(found.dev(), found.ino()))
    }
    #[cfg(not(unix))]
    path.canonicalize().map(FileId::Path)
}

fn blobs_of(folder: &Path) -> Result<HashSet<FileId>, HubError> {
    Ok(entries(&folder.join("blobs"))?.iter().filter_map(|blob| id_of(&blob.path()).ok()).collect())
}

/// Compares each blob with its name; all names that are hashes.
fn check_blobs(folder: &Path, flaws: &mut Vec<Flaw>, heard: &mut impl FnMut(u64)) -> Result<HashSet<String>, HubError> {
    let mut names = HashSet::new();
    for blob in entries(&folder.join("blobs"))? {
        let (path, name) = (blob.path(), blob.file_name().to_string_lossy().into_owned());
        if !is_hash(&name) {
            if !name.ends_with(".incomplete") {
                flaws.push(Flaw { path, what: "its name is no hash".into() });
            }
            continue;
        }
        names.insert(name.clone());
        let like = |size_bytes| RepoFile { path: name.clone(), size_bytes, hash: name.clone() };
        match size_of(&path).and_then(|size_bytes| Ok((size_bytes, hash_of(&path, &like(size_bytes))?))) {
            Ok((size_bytes, found)) => {
                if found != name {
                    flaws.push(Flaw { path, what: format!("its content has the hash {found}") });
                }
                heard(size_bytes);
            }
            Err(err) => flaws.push(Flaw { path, what: err.to_string() }),
        }
    }
    Ok(names)
}

/// The files of a snapshot that are no blobs by another name, by their paths in it.
fn own_files(snapshot: &Path, blobs: &HashSet<FileId>) -> Result<Vec<(PathBuf, fs::Metadata)>, HubError> {
    let of_own = |path: PathBuf| {
        let full = snapshot.join(&path);
        let is_blob = blobs.contains(&id_of(&full).ok()?);
        (!is_blob).then_some((path, fs::metadata(full).ok()?))
    };
    Ok(files_below(snapshot)?.into_iter().filter_map(of_own).collect())
}

/// The size of what can be read to its end.
fn size_of(path: &Path) -> io::Result<u64> {
    let found = fs::metadata(path)?;
    if found.is_file() { Ok(found.len()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file")) }
}
