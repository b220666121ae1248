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
use crate::error::innermost;
use crate::name::is_commit;
use crate::{Hub, HubError, HubRepo, RepoKind};

/// What was begun longer ago is not gone on with.
pub(crate) const BEGUN_FOR: Duration = Duration::from_secs(86_400);
/// So many of the repositories that are there are named where another one was meant.
const MOST_NAMED: usize = 10;

/// Why something that nothing needs is kept.
const BEHIND_A_LINK: &str = "a symbolic link is on the way to it, and nothing behind a link is removed";

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
    /// What is there and belongs to no repository, or can't be read. It was passed over.
    pub odd: Vec<Flaw>,
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
    /// Snapshots whose names could not be compared with the Hub's list, and why: each content is one that the repository
    /// had, and nobody says that it has the right name.
    pub unnamed: Vec<Flaw>,
}

/// What [`Hub::prune_cache`] takes away.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pruned {
    /// Snapshots that no revision means any more, blobs that no snapshot needs, and what was begun.
    pub paths: Vec<PathBuf>,
    pub size_bytes: u64,
    /// Repositories that can't be read, so that nobody knows what they need, and why.
    pub kept: Vec<Flaw>,
}

impl Hub {
    /// All repositories in the cache, by their names. What is in the way there is told and passed over.
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
            if !entry.path().is_dir() {
                tracing::warn!(path = %entry.path().display(), "it has the name of a repository, and is no folder; passed over");
                continue;
            }
            repos.push(CachedRepo::look(kind, owner_and_name.replace("--", "/"), entry.path()));
        }
        repos.sort_by(|a, b| a.repo.cmp(&b.repo));
        Ok(repos)
    }

    /// The repositories in the cache that the user means: all, or the one that he named.
    ///
    /// # Errors
    /// As [`list_cache`](Self::list_cache); when the one that he named is not there, which says what is.
    pub fn find_cached(&self, only: Option<&HubRepo>) -> Result<Vec<CachedRepo>, HubError> {
        let all = self.list_cache()?;
        let Some(only) = only else { return Ok(all) };
        let named = |repo: &CachedRepo| format!("the {} {}", repo.kind, repo.repo);
        let (meant, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|repo| repo.kind == only.kind() && repo.repo == only.repo());
        if !meant.is_empty() {
            return Ok(meant);
        }
        let alike = others.iter().find(|repo| repo.repo.eq_ignore_ascii_case(&only.repo()));
        let found = match alike {
            Some(alike) => format!("there is {}", named(alike)),
            None if others.is_empty() => "nothing is there".to_owned(),
            None => {
                let more = if others.len() > MOST_NAMED { format!(" and {} more", others.len() - MOST_NAMED) } else { String::new() };
                format!("there are {}{more}", others.iter().take(MOST_NAMED).map(named).collect::<Vec<_>>().join(", "))
            }
        };
        let doing = format!("looking for the {} {} in the cache {}", only.kind(), only.repo(), self.options().cache_dir.display());
        Err(HubError::Unusable { doing, what: format!("it is not there; {found}") })
    }

    /// Reads every blob of the cache, or of one repository, and compares it with its name; and asks the Hub which content each name in a snapshot
    /// stands for. A file that is no link to a blob must be as the Hub says; where that does not answer, as a blob says.
    /// `heard` is told after each file of its bytes.
    ///
    /// # Errors
    /// As [`find_cached`](Self::find_cached).
    pub fn verify_cache(&self, only: Option<&HubRepo>, mut heard: impl FnMut(u64)) -> Result<Verified, HubError> {
        let mut verified = Verified::default();
        // A Hub that is silent is asked once.
        let mut silent = None;
        for repo in &self.find_cached(only)? {
            verified.flaws.extend(repo.odd.iter().cloned());
            // What can't be listed was told above.
            let names = check_blobs(&repo.folder, &mut verified.flaws, &mut heard).unwrap_or_default();
            for (commit, revisions) in &repo.snapshots {
                let folder = repo.folder.join("snapshots").join(commit);
                if !is_commit(commit) || !folder.is_dir() {
                    let what = format!("{} means it, and it is not there", revisions.join(", "));
                    verified.flaws.push(Flaw { path: folder, what });
                    continue;
                }
                let Ok(paths) = files_below(&folder) else { continue };
                let tree = self.tree(repo, commit, &mut silent);
                if let Err(why) = &tree {
                    verified.unnamed.push(Flaw { path: folder.clone(), what: why.clone() });
                }
                for path in paths {
                    let full = folder.join(&path);
                    let name = path.to_string_lossy().replace('\\', "/");
                    let expected = tree.as_ref().map(|tree| tree.get(&name));
                    match check_name(&repo.folder, &full, expected, &names, &mut heard) {
                        Ok(()) => {}
                        Err(Doubt::Flaw(what)) => verified.flaws.push(Flaw { path: full, what }),
                        Err(Doubt::Unknown(what)) => verified.unverified.push(Flaw { path: full, what }),
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
            // Not only of this repository, so told without its name.
            Err(HubError::Offline { .. }) => Err(silent.insert("HF_HUB_OFFLINE or --offline is set".into()).clone()),
            Err(HubError::Unreachable { endpoint, why, .. }) => Err(silent.insert(format!("{endpoint} can't be reached ({why})")).clone()),
            Err(err @ HubError::Client { .. }) => Err(silent.insert(err.to_string()).clone()),
            Err(err) => Err(err.to_string()),
        }
    }

    /// What could be taken away without a revision of the cache losing anything: snapshots that none means, blobs that
    /// none of the others needs, downloads that were begun longer than a day ago, and what processes that were killed left.
    /// What may belong to a download that is running stays, and so does all of a repository that can't be read. With `only`, all
    /// of that repository.
    ///
    /// # Errors
    /// As [`find_cached`](Self::find_cached).
    pub fn plan_prune(&self, only: Option<&HubRepo>) -> Result<Pruned, HubError> {
        let mut plan = Pruned::default();
        for repo in self.find_cached(only)? {
            if only.is_some() {
                plan.size_bytes += repo.size_bytes;
                plan.paths.push(repo.folder);
                continue;
            }
            if let Some(unread) = repo.odd.iter().find(|odd| odd.path.starts_with(repo.folder.join("refs"))) {
                plan.kept.push(Flaw { path: repo.folder, what: format!("{}: {}", unread.path.display(), unread.what) });
                continue;
            }
            match plan_of(&repo) {
                Ok(of_repo) => match of_repo.paths.iter().find(|path| !self.is_in_cache(path)) {
                    Some(path) => plan.kept.push(Flaw { path: path.clone(), what: BEHIND_A_LINK.into() }),
                    None => {
                        plan.size_bytes += of_repo.size_bytes;
                        plan.paths.extend(of_repo.paths);
                    }
                },
                Err(err) => plan.kept.push(Flaw { path: repo.folder.clone(), what: innermost(&err) }),
            }
        }
        Ok(plan)
    }

    /// Does what was planned. What went meanwhile is gone.
    ///
    /// # Errors
    /// For the first path that can't be removed, or to which a link leads by now.
    pub fn prune_cache(&self, plan: &Pruned) -> Result<(), HubError> {
        for path in &plan.paths {
            let doing = format!("removing {}", path.display());
            let gone = match fs::symlink_metadata(path) {
                Ok(_) if !self.is_in_cache(path) => {
                    return Err(HubError::Unusable { doing, what: BEHIND_A_LINK.into() });
                }
                Ok(found) if found.is_dir() => fs::remove_dir_all(path),
                Ok(_) => fs::remove_file(path),
                Err(err) => Err(err),
            };
            match gone {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(HubError::io(doing))?,
            }
        }
        Ok(())
    }

    /// Whether `path` is where it seems to be, below the cache, and no link on the way leads elsewhere.
    fn is_in_cache(&self, path: &Path) -> bool {
        let root = &self.options().cache_dir;
        let Some((parent, inside)) = path.parent().and_then(|parent| Some((parent, parent.strip_prefix(root).ok()?))) else { return false };
        // What is gone is nowhere else.
        let Ok(parent) = parent.canonicalize() else { return true };
        root.canonicalize().is_ok_and(|root| root.join(inside) == parent)
    }
}

fn plan_of(repo: &CachedRepo) -> Result<Pruned, HubError> {
    let mut plan = Pruned::default();
    let (mut needed, blobs) = (BTreeSet::new(), blobs_of(&repo.folder)?);
    let mut left = BTreeSet::from([repo.folder.join("refs")]);
    let begun = entries(&repo.folder.join("blobs"))?;
    // Whoever fetches a large file writes nothing else for long.
    let is_running = begun.iter().any(|blob| is_begun(blob) && age(&blob.path()) <= LEFT_AFTER);
    for (commit, revisions) in &repo.snapshots {
        let folder = repo.folder.join("snapshots").join(commit);
        // A download gives a snapshot its files before a revision means it.
        let is_young = || Ok::<_, HubError>(is_running || all_below(&folder)?.iter().any(|path| age(&folder.join(path)) <= LEFT_AFTER));
        if revisions.is_empty() && !is_young()? {
            plan.size_bytes += own_files(&folder, &blobs)?.iter().map(|(_, found)| found.len()).sum::<u64>();
            plan.paths.push(folder);
        } else if is_commit(commit) {
            needed.extend(files_below(&folder)?.into_iter().filter_map(|path| folder.join(path).canonicalize().ok()));
            left.insert(folder);
        }
    }
    for folder in left {
        let paths = all_below(&folder)?.into_iter().map(|path| folder.join(path));
        plan.paths.extend(
            paths.filter(|path| path.file_name().is_some_and(|name| is_leftover(&name.to_string_lossy())) && age(path) > LEFT_AFTER),
        );
    }
    for blob in begun {
        let Ok(found) = blob.metadata() else { continue };
        let age = age(&blob.path());
        let is_needed = blob.path().canonicalize().is_ok_and(|path| needed.contains(&path));
        // What is young may be on its way to its place in another process.
        let is_left = if is_begun(&blob) { age > BEGUN_FOR } else { age > LEFT_AFTER && !is_running };
        if !is_needed && is_left {
            plan.size_bytes += found.len();
            plan.paths.push(blob.path());
        }
    }
    Ok(plan)
}

fn is_begun(blob: &fs::DirEntry) -> bool {
    blob.file_name().to_string_lossy().ends_with(".incomplete")
}

/// What there is to say against a file of a snapshot.
enum Doubt {
    Flaw(String),
    /// Nobody says what it should be.
    Unknown(String),
}

/// Whether the file `full` of a snapshot of the repository in `folder` is what the Hub says that is `expected` there, or why the
/// Hub says nothing. `names` are those of the blobs.
fn check_name(
    folder: &Path,
    full: &Path,
    expected: Result<Option<&String>, &String>,
    names: &HashSet<String>,
    heard: &mut impl FnMut(u64),
) -> Result<(), Doubt> {
    if !full.exists() {
        return Err(Doubt::Flaw("it leads to no blob".into()));
    }
    let flaw = |err: io::Error| Doubt::Flaw(err.to_string());
    let size_bytes = size_of(full).map_err(flaw)?;
    let target = full.canonicalize().map_err(flaw)?;
    let is_blob = folder.join("blobs").canonicalize().is_ok_and(|blobs| target.parent() == Some(&blobs));
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // A blob's content was compared with its name already.
    let by_name = is_blob && names.contains(&name) && expected.is_ok_and(|hash| hash.is_some_and(|hash| hash.len() == name.len()));
    let hashes = if by_name || (is_blob && expected.is_err()) {
        vec![name]
    } else {
        let hashes = hashes_of(full).map_err(flaw)?;
        heard(if is_blob { 0 } else { size_bytes });
        hashes.to_vec()
    };
    match expected {
        Ok(Some(expected)) if hashes.contains(expected) => Ok(()),
        Ok(Some(expected)) => {
            let found = hashes.iter().find(|hash| hash.len() == expected.len()).map_or("?", String::as_str);
            Err(Doubt::Flaw(format!("its content has the hash {found}, the Hub has {expected}")))
        }
        Ok(None) => Err(Doubt::Flaw("the Hub has no such file at this commit".into())),
        Err(_) if hashes.iter().any(|hash| names.contains(hash)) => Ok(()),
        Err(why) => Err(Doubt::Unknown(format!("it is no link to a blob, and what it should be is not known: {why}"))),
    }
}

impl CachedRepo {
    /// What is in a repository's folder. What can't be read is kept for whoever wants to tell it.
    fn look(kind: RepoKind, repo: String, folder: PathBuf) -> Self {
        let mut odd = Vec::new();
        let (mut size_bytes, mut newest) = (0, SystemTime::UNIX_EPOCH);
        let mut count = |found: &fs::Metadata| {
            size_bytes += found.len();
            newest = newest.max(found.modified().unwrap_or(newest));
        };
        let blobs = kept(entries(&folder.join("blobs")), &folder.join("blobs"), &mut odd);
        blobs.iter().filter_map(|blob| blob.metadata().ok()).for_each(|found| count(&found));
        let ids = blobs.iter().filter_map(|blob| id_of(&blob.path()).ok()).collect();
        let mut snapshots: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for snapshot in kept(entries(&folder.join("snapshots")), &folder.join("snapshots"), &mut odd) {
            let path = snapshot.path();
            if !path.is_dir() {
                odd.push(Flaw { path, what: "it is no snapshot's folder".into() });
                continue;
            }
            kept(own_files(&path, &ids), &path, &mut odd).iter().for_each(|(_, found)| count(found));
            snapshots.insert(snapshot.file_name().to_string_lossy().into_owned(), Vec::new());
        }
        for revision in kept(files_below(&folder.join("refs")), &folder.join("refs"), &mut odd) {
            let path = folder.join("refs").join(&revision);
            match read_small(&path, 1 << 10).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()) {
                Ok(commit) => snapshots.entry(commit).or_default().push(revision.display().to_string()),
                Err(err) => odd.push(Flaw { path, what: format!("it says no commit: {err}") }),
            }
        }
        let written_s_ago = SystemTime::now().duration_since(newest).map_or(0, |age| age.as_secs());
        Self { kind, repo, folder, size_bytes, snapshots, written_s_ago, odd }
    }
}

/// What was found, or nothing where it can't be read, which is kept.
fn kept<T: Default>(found: Result<T, HubError>, path: &Path, odd: &mut Vec<Flaw>) -> T {
    found.unwrap_or_else(|err| {
        odd.push(Flaw { path: path.to_owned(), what: format!("it can't be read: {}", innermost(&err)) });
        T::default()
    })
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
