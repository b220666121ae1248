//! Files of a repository at a commit: several at a time, resumed, and verified before they take their names.

mod blob;
mod folder;
mod policy;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use folder::{Download, Downloaded};
pub use policy::{Fetched, fetch_model, is_policy_file};

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::api::RepoFile;
use crate::cache::{RepoCache, age, lock_file, no_links, not_written, open_own, path_fault};
use crate::hub::{Event, Listener, Transfer};
use crate::pace::on_threads;
use crate::stock::BEGUN_FOR;
use crate::{Hub, HubError, HubRepo};
use blob::Blob;
pub(crate) use blob::{hash_of, hashes_of, hex};
pub(crate) use folder::patterns;

/// How many files travel at a time. Small files wait for the network's answer most of the time.
const AT_A_TIME: usize = 8;

/// Where files go.
pub(crate) enum Place {
    /// huggingface_hub's cache, shared with Python.
    Cache(RepoCache),
    /// A folder of the user's.
    Folder(PathBuf),
}

impl Hub {
    /// Fetches `files` of `repo` at `commit`. What is there already in the right size, in a folder with the right
    /// content, is not fetched again; what was begun goes on where it stopped. Says how many were fetched.
    ///
    /// # Errors
    /// For the first file that can't be had whole. Those that were done stay.
    pub(crate) fn pull(
        &self,
        repo: &HubRepo,
        commit: &str,
        files: &[RepoFile],
        place: &Place,
        listener: &Listener,
    ) -> Result<usize, HubError> {
        check_names(repo, files, &self.options().endpoint)?;
        place.check_names(repo, files)?;
        let missing = place.missing(self, repo, commit, files)?;
        // What an earlier try left did not come now, so nobody is told of it as if it had.
        let begun = place.begun(&missing);
        let to_come: u64 = missing.iter().zip(&begun).map(|(file, begun)| file.size_bytes - begun).sum();
        place.check_space(repo, &missing, to_come)?;
        let http = self.http()?;
        let (done_bytes, total_bytes, next) = (AtomicU64::new(0), AtomicU64::new(to_come), AtomicU64::new(0));
        let first_error = Mutex::new(None);
        let has_failed = || first_error.lock().map_or(true, |slot| slot.is_some());
        let work = || {
            if let Some(first) = self.options().on_thread_start {
                first();
            }
            while !has_failed() {
                let index = next.fetch_add(1, Ordering::Relaxed) as usize;
                let (Some(file), Some(begun)) = (missing.get(index), begun.get(index)) else { break };
                let mut of_file = *begun;
                let mut least = of_file;
                let mut tell = |file_done_bytes: u64| {
                    // What was there is not what it should be, so it has to come as well.
                    if file_done_bytes < least {
                        let more = least - file_done_bytes;
                        total_bytes.fetch_add(more, Ordering::Relaxed);
                        done_bytes.fetch_add(more, Ordering::Relaxed);
                        least = file_done_bytes;
                    }
                    // A file that begins anew takes back what it had told.
                    let done = match file_done_bytes >= of_file {
                        true => done_bytes.fetch_add(file_done_bytes - of_file, Ordering::Relaxed) + (file_done_bytes - of_file),
                        false => done_bytes.fetch_sub(of_file - file_done_bytes, Ordering::Relaxed) - (of_file - file_done_bytes),
                    };
                    of_file = file_done_bytes;
                    let total_bytes = total_bytes.load(Ordering::Relaxed);
                    let transfer =
                        Transfer { file: &file.path, file_done_bytes, file_bytes: file.size_bytes, done_bytes: done, total_bytes };
                    listener(Event::Transfer(transfer));
                };
                let is_cache = matches!(place, Place::Cache(_));
                let blob = Blob { http, repo, commit, file, is_cache, stop: &has_failed };
                let outcome = place.lock(file).and_then(|_held| place.fetch(self, &blob, &mut tell));
                if let Err(error) = outcome {
                    let mut slot = first_error.lock().unwrap_or_else(PoisonError::into_inner);
                    slot.get_or_insert(error);
                }
            }
        };
        on_threads("download", missing.len().min(AT_A_TIME), work);
        match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => {
                place.tidy();
                place.check_all(repo, commit, files)?;
                Ok(missing.len())
            }
            Some(error) => Err(error),
        }
    }
}

/// What is wrong with the disk where `file` is written at `path`, in the cache or in a folder of the user's.
fn disk_fault(repo: &HubRepo, file: &RepoFile, path: &Path, err: io::Error, is_cache: bool) -> HubError {
    let (repo, place, size_bytes) = (repo.clone(), path.parent().unwrap_or(path).to_owned(), file.size_bytes);
    match err.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            HubError::DiskFull { repo, file: file.path.clone(), size_bytes, place, is_cache }
        }
        _ if is_cache => not_written(path, err),
        _ => HubError::Io { doing: format!("writing {}", path.display()), source: err },
    }
}

/// That the names of a repository's files can be names below one folder.
fn check_names(repo: &HubRepo, files: &[RepoFile], endpoint: &str) -> Result<(), HubError> {
    match name_fault(files.iter().map(|file| file.path.as_str())) {
        Some(what) => {
            let what = format!("{what}; `sinew hub download --exclude` leaves one out");
            Err(HubError::Hostile { doing: format!("choosing the files of {repo}"), host: endpoint.to_owned(), what })
        }
        None => Ok(()),
    }
}

/// What is wrong with the names of files: those that some file systems take for one would overwrite each other, and no file lies
/// in a file.
pub(crate) fn name_fault<'p>(paths: impl Iterator<Item = &'p str>) -> Option<String> {
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for path in paths {
        // As Apple's file systems compare names: whatever the case, and however an accent is written.
        let same = normalizer.normalize(&path.to_lowercase()).into_owned();
        let fault = match seen.insert(same, path) {
            Some(other) if other == path => Some("it is named twice".to_owned()),
            Some(other) => Some(format!("some systems take it for {other:?}")),
            None => path_fault(path).map(str::to_owned),
        };
        if let Some(fault) = fault {
            return Some(format!("a file of the name {path:?}: {fault}"));
        }
    }
    seen.iter().find_map(|(path, shown)| {
        let file = path.match_indices('/').find_map(|(at, _)| seen.get(path.split_at(at).0))?;
        Some(format!("a file of the name {file:?}, and one in it, {shown:?}"))
    })
}

impl Place {
    /// What programs note in a folder is not what a repository may write there: another one would believe it.
    fn check_names(&self, repo: &HubRepo, files: &[RepoFile]) -> Result<(), HubError> {
        let is_ours = |file: &&RepoFile| {
            let top = file.path.split('/').next().unwrap_or_default();
            [".cache", PARTIAL].iter().any(|ours| top.eq_ignore_ascii_case(ours))
        };
        match (self, files.iter().find(is_ours)) {
            (Self::Folder(folder), Some(file)) => {
                let top = file.path.split('/').next().unwrap_or_default();
                let what = format!("it would be among what programs note in a folder; leave such files out with --exclude '{top}/*'");
                Err(HubError::Unusable { doing: format!("fetching {} of {repo} to {}", file.path, folder.display()), what })
            }
            _ => Ok(()),
        }
    }

    /// Whoever tidies up the cache while files come may have taken some away again.
    fn check_all(&self, repo: &HubRepo, commit: &str, files: &[RepoFile]) -> Result<(), HubError> {
        let Self::Cache(cache) = self else { return Ok(()) };
        match files.iter().find(|file| !cache.has(commit, &file.path, file.size_bytes)) {
            None => Ok(()),
            Some(file) => {
                let what = format!(
                    "{} was removed from the cache meanwhile; download it again",
                    cache.snapshot(commit).join(&file.path).display()
                );
                Err(HubError::Unusable { doing: format!("fetching {} of {repo}", file.path), what })
            }
        }
    }

    /// The files that are not there, each content once.
    fn missing<'f>(&self, hub: &Hub, repo: &HubRepo, commit: &str, files: &'f [RepoFile]) -> Result<Vec<&'f RepoFile>, HubError> {
        let noted = match self {
            Self::Cache(_) => HashSet::new(),
            Self::Folder(folder) => hub.noted_files(folder, repo)?,
        };
        let mut missing = Vec::new();
        for file in files {
            let is_there = match self {
                Self::Cache(cache) => cache.has(commit, &file.path, file.size_bytes),
                Self::Folder(folder) => {
                    let path = folder.join(&file.path);
                    match fs::symlink_metadata(&path) {
                        Err(err) if err.kind() == io::ErrorKind::NotFound => false,
                        Err(source) => return Err(HubError::Io { doing: format!("looking at {}", path.display()), source }),
                        Ok(found) => {
                            let reading = || HubError::io(format!("reading {}", path.display()));
                            let is_same =
                                found.is_file() && found.len() == file.size_bytes && hash_of(&path, file).map_err(reading())? == file.hash;
                            // As it was left by a download or an upload, it is an older one, and nobody's work.
                            let is_noted = |hash: String| noted.contains(&(file.path.clone(), hash));
                            let is_older = !is_same && found.is_file() && hashes_of(&path).map_err(reading())?.into_iter().any(is_noted);
                            if !is_same && !is_older {
                                let what = format!(
                                    "{} is there already, is another file, and was not left so by Sinew; move it away, or name another folder",
                                    path.display()
                                );
                                return Err(HubError::Unusable { doing: format!("fetching {} of {repo}", file.path), what });
                            }
                            is_same
                        }
                    }
                }
            };
            if !is_there {
                missing.push(file);
            }
        }
        if let Self::Cache(_) = self {
            // Two names of one content are one blob. The second name is made when the first has come.
            let mut hashes = HashSet::new();
            let (first, again): (Vec<_>, Vec<_>) = missing.into_iter().partition(|file| hashes.insert(file.hash.clone()));
            missing = first;
            missing.extend(again);
        }
        Ok(missing)
    }

    fn folder(&self) -> PathBuf {
        match self {
            Self::Cache(cache) => cache.blob(""),
            Self::Folder(folder) => folder.clone(),
        }
    }

    /// Where a file grows.
    fn partial(&self, file: &RepoFile) -> PathBuf {
        match self {
            Self::Cache(cache) => cache.blob(&format!("{}.incomplete", file.hash)),
            Self::Folder(folder) => folder.join(PARTIAL).join(format!("{}.incomplete", file.hash)),
        }
    }

    fn lock(&self, file: &RepoFile) -> Result<fs::File, HubError> {
        match self {
            Self::Cache(cache) => cache.lock(&file.hash),
            Self::Folder(folder) => {
                let path = folder.join(PARTIAL).join(format!("{}.lock", file.hash));
                let lock = || {
                    no_links(folder, &folder.join(PARTIAL))?;
                    no_links(folder, folder.join(&file.path).parent().unwrap_or(folder))?;
                    for _ in 0..MOST_TIDIED {
                        fs::create_dir_all(folder.join(PARTIAL))?;
                        match lock_file(&path) {
                            // Another download to this folder has ended, and has taken it away meanwhile.
                            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                            locked => return locked,
                        }
                    }
                    lock_file(&path)
                };
                lock().map_err(HubError::io(format!("locking {}", path.display())))
            }
        }
    }

    /// What is wrong where `path` is to be written.
    fn fault(&self, path: &Path, err: io::Error) -> HubError {
        match self {
            Self::Cache(_) => not_written(path, err),
            Self::Folder(_) => HubError::Io { doing: format!("writing {}", path.display()), source: err },
        }
    }

    /// Brings one file to its place, unless somebody else did meanwhile.
    fn fetch(&self, hub: &Hub, blob: &Blob<'_>, tell: &mut (dyn FnMut(u64) + Send)) -> Result<(), HubError> {
        let (file, partial) = (blob.file, self.partial(blob.file));
        let place = |from: &Path, to: &Path| {
            let folder = to.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder).and_then(|()| fs::rename(from, to)).map_err(|err| self.fault(to, err))
        };
        match self {
            Self::Cache(cache) => {
                let to = cache.blob(&file.hash);
                if !fs::metadata(&to).is_ok_and(|found| found.len() == file.size_bytes) {
                    self.make_folder(&partial)?;
                    hub.wait(blob.fetch(&partial, tell))??;
                    place(&partial, &to)?;
                }
                let linked = cache.link(blob.commit, &file.path, &file.hash);
                linked.map_err(|err| self.fault(&cache.snapshot(blob.commit).join(&file.path), err))?;
            }
            Self::Folder(folder) => {
                self.make_folder(&partial)?;
                hub.wait(blob.fetch(&partial, tell))??;
                place(&partial, &folder.join(&file.path))?;
            }
        }
        tell(file.size_bytes);
        Ok(())
    }

    /// Brings a file of the cache to its place in the user's folder.
    fn copy(&self, repo: &HubRepo, file: &RepoFile, from: &Path) -> Result<(), HubError> {
        let (partial, to) = (self.partial(file), self.folder().join(&file.path));
        self.make_folder(&partial)?;
        let copied = || {
            // Neither a link nor what an earlier try left is written to.
            match fs::remove_file(&partial) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
            fs::copy(from, &partial).and_then(|_| hash_of(&partial, file))
        };
        let found = copied().map_err(|err| disk_fault(repo, file, &partial, err, false))?;
        if found != file.hash {
            fs::remove_file(&partial).map_err(HubError::io(format!("removing {}", partial.display())))?;
            let what = format!(
                "expected {} with the hash {}, found {found}: the cache is damaged there; `sinew hub cache verify` says what else is",
                from.display(),
                file.hash
            );
            return Err(HubError::Unusable { doing: format!("copying {} of {repo} from the cache", file.path), what });
        }
        let folder = to.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).and_then(|()| fs::rename(&partial, &to)).map_err(HubError::io(format!("writing {}", to.display())))
    }

    fn make_folder(&self, partial: &Path) -> Result<(), HubError> {
        let folder = partial.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|err| self.fault(folder, err))
    }

    /// How many bytes of each file need not come.
    fn begun(&self, files: &[&RepoFile]) -> Vec<u64> {
        let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let mut seen = HashSet::new();
        let of_one = |file: &&RepoFile| match self {
            // The content is here, or comes under another name; only this name is to be made.
            Self::Cache(cache) if !seen.insert(file.hash.clone()) || size(&cache.blob(&file.hash)) == file.size_bytes => file.size_bytes,
            _ => size(&self.partial(file)).min(file.size_bytes),
        };
        files.iter().map(of_one).collect()
    }

    /// A download that can't fit is not begun.
    fn check_space(&self, repo: &HubRepo, missing: &[&RepoFile], needed: u64) -> Result<(), HubError> {
        let folder = self.folder();
        match free_bytes(&folder) {
            Some(free) if free < needed => {
                let largest = missing.iter().max_by_key(|file| file.size_bytes).map_or_else(String::new, |file| file.path.clone());
                let is_cache = matches!(self, Self::Cache(_));
                Err(HubError::DiskFull { repo: repo.clone(), file: largest, size_bytes: needed, place: folder, is_cache })
            }
            _ => Ok(()),
        }
    }

    /// Takes away what was only needed on the way, and what nobody went on with for long.
    fn tidy(&self) {
        let Self::Folder(folder) = self else { return };
        if no_links(folder, &folder.join(PARTIAL)).is_err() {
            return;
        }
        for entry in fs::read_dir(folder.join(PARTIAL)).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_lock = path.extension().is_some_and(|end| end == "lock");
            // Held until it is gone, so that nobody locks what is about to go; whoever waits for it makes another.
            let held = open_own(&path, fs::File::options().read(true)).ok().filter(|lock| lock.try_lock().is_ok());
            if if is_lock { held.is_some() } else { age(&path) > BEGUN_FOR } {
                let _gone = fs::remove_file(path);
            }
        }
        let _others_left = fs::remove_dir(folder.join(PARTIAL));
    }
}

/// How often the folder for what is on the way may go away under a download that begins.
const MOST_TIDIED: usize = 100;
/// What is on the way lies in here, below the folder that it is for.
const PARTIAL: &str = ".sinew-download";

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|folder| folder.exists())?;
    let stat = rustix::fs::statvfs(existing).ok()?;
    // What has no room at all is no disk, such as /proc; writing says what it is instead.
    (stat.f_blocks > 0).then_some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}
