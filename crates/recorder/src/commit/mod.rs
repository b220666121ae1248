//! Changing many files as if they were one.
//!
//! New files are staged in `.sinew/stage`, under names that no other commit has, and seen onto the disk. Then a log of
//! the changes is written as `.sinew/commit`: that is the instant at which all of them have happened. Before it, a
//! restart finds the dataset as it was; after it, a restart makes the changes that are left to make. All that is left
//! then are renames, and bytes to be overwritten that are too few to be torn: a full disk can't stop them.
//!
//! The log says of each change what was there before and what is there after. A change that was made is not made
//! again; where there is neither the one nor the other somebody else has written, and what he wrote stays. Once the
//! changes are made, a thread sees them onto the disk and removes the log. Nothing is staged before that has ended.

pub(crate) mod disk;
mod lock;
mod log;

use std::collections::BTreeMap;
use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::{ReadError, RecordError};
use disk::{exchange, remove_file, remove_folder, rename, sync_all, sync_folder};
use lock::Lock;
use log::{Log, Made, Stamp, Step, bytes_at};

pub(crate) use disk::{OutFile, create_folder, io_error, write_synced};
pub(crate) use lock::{FOLDER, inside, kept_for};

pub(crate) const COMMIT: &str = "commit";
const STAGE: &str = "stage";
/// Holds the episode that is being recorded.
pub(crate) const EPISODE: &str = "episode";
/// Of a header of a box, aligned to its length.
const LARGEST_PATCH_BYTES: usize = 16;

/// One change of a commit. Paths are relative to the dataset.
#[derive(Debug)]
pub(crate) enum Change {
    /// Overwrites bytes at an offset by as many others; 16 at most, in one sector of the disk.
    Patch { path: String, at: u64, before: Vec<u8>, after: Vec<u8> },
    /// A staged file takes the place of what is at `path`. It is seen onto the disk by the commit.
    Put { path: String, staged: OutFile },
}

/// The part of a dataset's folder that is not the dataset, held by one process at a time.
pub(crate) struct Staging {
    root: PathBuf,
    /// Until it goes out of scope.
    lock: Option<Lock>,
    generation: u64,
    /// How many files this generation has staged.
    staged: u64,
    /// Sees the last commit onto the disk.
    settling: Option<JoinHandle<Result<(), RecordError>>>,
    /// Of files that grow: the staged file that is the file as it was one commit ago, and nobody else's. Without
    /// one there is none yet, or the file system can't keep one.
    twins: BTreeMap<String, Option<PathBuf>>,
    /// What this process has read or written last at each place; nothing where it is not named.
    known: BTreeMap<String, Option<Stamp>>,
    /// A commit may or may not come to be at the next start: nothing can follow it.
    in_doubt: bool,
}

impl Staging {
    /// Locks the dataset at `root`, then completes or removes what a killed process left, except for
    /// an unfinished episode. Says whether there was something.
    ///
    /// # Errors
    /// When another process has it, it is what is kept of another dataset, or the disk refuses.
    pub(crate) fn open(root: &Path) -> Result<(Self, bool), RecordError> {
        match kept_for(root) {
            Some(dataset) => Err(RecordError::Kept { root: root.to_owned(), dataset }),
            None => Self::open_any(root),
        }
    }

    /// The same for tools, which may also have what is kept of a dataset.
    pub(crate) fn open_any(root: &Path) -> Result<(Self, bool), RecordError> {
        let mut staging = Self {
            root: root.to_owned(),
            lock: Some(Lock::take(root)?),
            generation: 0,
            staged: 0,
            settling: None,
            twins: BTreeMap::new(),
            known: BTreeMap::new(),
            in_doubt: false,
        };
        let had_something = [COMMIT, STAGE].iter().any(|name| staging.folder().join(name).exists());
        staging.make(true)?;
        staging.settle()?;
        staging.clear()?;
        Ok((staging, had_something))
    }

    /// Whether what is held is what goes by the name `path` now.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.is_at(path).unwrap_or(false))
    }

    /// Removes everything in the folder that is held but for what a recorder keeps there of its own.
    pub(crate) fn empty(&self) -> Result<(), RecordError> {
        self.lock.as_ref().map_or(Ok(()), |lock| lock.empty().map_err(io_error("emptying", &self.root)))
    }

    fn folder(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    fn commit_path(&self) -> PathBuf {
        self.folder().join(COMMIT)
    }

    /// The folder of the episode that is being recorded.
    pub(crate) fn episode_folder(&self) -> PathBuf {
        self.folder().join(EPISODE)
    }

    /// Remembers what is at `paths` now: a commit will replace that and nothing else.
    pub(crate) fn remember(&mut self, paths: &[&str]) -> Result<(), ReadError> {
        for path in paths {
            let at = self.root.join(path);
            self.known.insert((*path).to_owned(), Stamp::of(&at).map_err(|source| ReadError::Io { path: at, source })?);
        }
        Ok(())
    }

    /// Where the next staged file goes, under a name of its own.
    fn next_staged(&mut self) -> Result<PathBuf, RecordError> {
        if self.staged == 0 {
            self.settle()?;
            self.generation += 1;
            create_folder(&self.folder().join(STAGE))?;
        }
        self.staged += 1;
        Ok(self.folder().join(STAGE).join(format!("{}-{}", self.generation, self.staged)))
    }

    /// A new staged file, empty.
    pub(crate) fn stage(&mut self) -> Result<OutFile, RecordError> {
        OutFile::create_new(&self.next_staged()?)
    }

    /// A staged file for `relative`, which grows, and whether it is its twin: the file as it was one commit ago,
    /// which nobody reads. It is empty otherwise.
    pub(crate) fn stage_growing(&mut self, relative: &str) -> Result<(OutFile, bool), RecordError> {
        let path = self.next_staged()?;
        let Some(twin) = self.twins.insert(relative.to_owned(), None).flatten() else { return Ok((OutFile::create_new(&path)?, false)) };
        rename(&twin, &path).map_err(io_error("moving", &twin))?;
        Ok((OutFile::open(&path)?, true))
    }

    /// A staged file of `bytes`, to be put at `relative`.
    pub(crate) fn write(&mut self, relative: &str, bytes: &[u8]) -> Result<Change, RecordError> {
        let mut staged = self.stage()?;
        staged.append(bytes)?;
        Ok(Change::Put { path: relative.to_owned(), staged })
    }

    /// Makes `changes` the dataset's; [`Self::install`] is then to be called. When this returns an error, nothing
    /// has changed.
    pub(crate) fn commit(&mut self, changes: Vec<Change>) -> Result<(), RecordError> {
        self.settle()?;
        if mem::take(&mut self.staged) == 0 {
            self.generation += 1;
        }
        if self.in_doubt {
            return Err(RecordError::OutOfOrder { call: "committing", what: "the disk refused to say whether the commit before happened" });
        }
        let files: Vec<&OutFile> =
            changes.iter().filter_map(|change| if let Change::Put { staged, .. } = change { Some(staged) } else { None }).collect();
        sync_all(&files)?;
        if !files.is_empty() {
            sync_folder(&self.folder().join(STAGE))?;
        }
        let steps = changes.iter().map(|change| self.step(change)).collect::<Result<_, _>>()?;
        self.write_log(&Log::new(self.generation, steps))
    }

    fn step(&self, change: &Change) -> Result<Step, RecordError> {
        let invalid = |path: &str, what: String| RecordError::from(ReadError::Invalid { path: self.root.join(path), what });
        match change {
            Change::Patch { path, at, before, after } => {
                let at_path = inside(&self.root, path).map_err(|what| invalid(path, what))?;
                let found = bytes_at(&at_path, *at, before.len()).map_err(io_error("reading", &at_path))?;
                if found.as_ref() != Some(before) || before.len() != after.len() || after.len() > LARGEST_PATCH_BYTES {
                    return Err(RecordError::Changed { path: at_path });
                }
                Ok(Step::Patch { path: path.clone(), at: *at, before: before.clone(), after: after.clone() })
            }
            Change::Put { path, staged } => {
                let to = inside(&self.root, path).map_err(|what| invalid(path, what))?;
                // Now: after the commit only what can hardly fail should be left to do.
                to.parent().map_or(Ok(()), create_folder)?;
                let before = Stamp::of(&to).map_err(io_error("reading", &to))?;
                if self.known.get(path).unwrap_or(&None) != &before {
                    return Err(RecordError::Changed { path: to });
                }
                let from = staged.path();
                let after = Stamp::of(from).map_err(io_error("reading", from))?;
                let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let after = after.ok_or_else(|| io_error("reading", from)(std::io::ErrorKind::NotFound.into()))?;
                Ok(Step::Put { path: path.clone(), staged: name, before, after })
            }
        }
    }

    fn write_log(&mut self, log: &Log) -> Result<(), RecordError> {
        let (path, temporary) = (self.commit_path(), self.folder().join("commit.new"));
        let mut file = OutFile::create(&temporary)?;
        file.append(&log.to_bytes())?;
        file.sync()?;
        rename(&temporary, &path).map_err(io_error("writing", &path))?;
        let Err(error) = sync_folder(&self.folder()) else { return Ok(()) };
        // It may be on the disk or not. It is not to be, and that has to be on the disk.
        let withdrawn = remove_file(&path).map_err(io_error("removing", &path)).and_then(|()| sync_folder(&self.folder()));
        self.in_doubt = withdrawn.is_err();
        Err(error)
    }

    /// Whether a commit is not yet in place. Until then nothing that it needs may be touched.
    pub(crate) fn is_pending(&self) -> bool {
        self.in_doubt || is_pending(&self.root)
    }

    /// Makes the committed changes, if any are left to make.
    pub(crate) fn install(&mut self) -> Result<(), RecordError> {
        // While they are being settled they are made.
        if self.settling.is_some() { Ok(()) } else { self.make(false) }
    }

    /// Makes the changes of the log. `anew` also writes again what was overwritten: the disk may have failed to
    /// take it.
    fn make(&mut self, anew: bool) -> Result<(), RecordError> {
        let path = self.commit_path();
        let Some(log) = Log::read(&self.root, &path)? else { return Ok(()) };
        self.generation = self.generation.max(log.generation);
        let made = log.made(&self.root)?;
        let other = made.iter().position(|made| *made == Made::Other);
        if let (Some(other), true) = (other, made.contains(&Made::Not)) {
            return Err(RecordError::Contradiction { log: path, path: self.root.join(log.steps[other].path()) });
        }
        for (step, made) in log.steps.iter().zip(made) {
            let to = self.root.join(step.path());
            match step {
                Step::Patch { at, after, .. } if made == Made::Not || (made == Made::Yes && anew) => {
                    OutFile::open(&to)?.write_at(*at, after)?;
                }
                Step::Put { path, staged, after, .. } if made == Made::Not => {
                    let from = self.folder().join(STAGE).join(staged);
                    if Stamp::of(&from).map_err(io_error("reading", &from))?.as_ref() != Some(after) {
                        return Err(RecordError::Contradiction { log: self.commit_path(), path: from });
                    }
                    to.parent().map_or(Ok(()), create_folder)?;
                    let twin = self.twins.get_mut(path).filter(|_| to.exists());
                    match twin {
                        Some(twin) if exchange(&from, &to).map_err(io_error("moving into place", &to))? => *twin = Some(from),
                        _ => rename(&from, &to).map_err(io_error("moving into place", &to))?,
                    }
                    self.known.insert(path.clone(), Some(after.clone()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Begins to see the changes of the last commit onto the disk.
    pub(crate) fn settle_later(&mut self) {
        let root = self.root.clone();
        self.settling = Some(std::thread::spawn(move || settle(&root)));
    }

    /// Waits until the last commit is on the disk.
    ///
    /// # Errors
    /// When the disk refuses, also after what it was to take was written again.
    pub(crate) fn settle(&mut self) -> Result<(), RecordError> {
        match self.settling.take().map(JoinHandle::join) {
            Some(Ok(Ok(()))) => Ok(()),
            // One that the disk refused to put into place is not to be forgotten.
            None => self.make(false).and_then(|()| settle(&self.root)),
            // Once more, here: a passing fault must not stop the recording. A disk that failed to take something
            // forgets it, so it gets it again.
            Some(_) => self.make(true).and_then(|()| settle(&self.root)),
        }
    }

    /// The file `relative` does not grow any more.
    pub(crate) fn forget_twin(&mut self, relative: &str) {
        self.twins.remove(relative);
    }

    /// Removes what is staged but the twins, unless a commit needs it.
    pub(crate) fn clear(&mut self) -> Result<(), RecordError> {
        if self.settling.is_some() || self.is_pending() {
            return Ok(());
        }
        for path in entries(&self.folder().join(STAGE))? {
            if !self.twins.values().flatten().any(|twin| *twin == path) {
                remove_file(&path).map_err(io_error("removing", &path))?;
            }
        }
        Ok(())
    }

    /// Removes the episode that was being recorded, journal last.
    pub(crate) fn remove_episode(&self) -> Result<(), RecordError> {
        remove_folder(&self.episode_folder())
    }

    /// Removes what is of no more use. A commit that is not yet in place and an unfinished episode stay.
    fn leave(&mut self) -> Result<(), RecordError> {
        // Another dataset may be at its place by now: nothing is done there.
        if self.is_at(&self.root) {
            self.settle()?;
        } else if let Some(settling) = self.settling.take() {
            drop(settling.join());
        }
        let Some(lock) = self.lock.take() else { return Ok(()) };
        if self.in_doubt || [COMMIT, EPISODE].iter().any(|name| lock.has(name)) {
            return Ok(());
        }
        lock.remove().map_err(io_error("removing", &self.folder()))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Whatever cannot be removed now is removed by whoever opens the dataset next.
        if let Err(error) = self.leave() {
            tracing::debug!(%error, "the staging area stays");
        }
    }
}

/// Whether the dataset at `root` has a commit that is not yet in place.
pub(crate) fn is_pending(root: &Path) -> bool {
    let path = root.join(FOLDER).join(COMMIT);
    match Log::read(root, &path) {
        Ok(None) => false,
        Ok(Some(log)) => log.made(root).is_ok_and(|made| made.contains(&Made::Not)),
        Err(_) => true,
    }
}

/// Waits until the changes of the commit, which are made, are on the disk, then forgets it.
fn settle(root: &Path) -> Result<(), RecordError> {
    let path = root.join(FOLDER).join(COMMIT);
    let Some(log) = Log::read(root, &path)? else { return Ok(()) };
    let patched: std::collections::BTreeSet<&str> =
        log.steps.iter().filter(|step| matches!(step, Step::Patch { .. })).map(Step::path).collect();
    // One that somebody has removed since has nothing to be seen onto the disk.
    let files = patched.into_iter().map(|path| root.join(path)).filter(|path| path.exists());
    let files = files.map(|path| OutFile::open(&path)).collect::<Result<Vec<_>, _>>()?;
    sync_all(&files.iter().collect::<Vec<_>>())?;
    // Files that were put were on the disk before the commit; their names may not be.
    log.folders(root).iter().filter(|folder| folder.exists()).try_for_each(|folder| sync_folder(folder))?;
    remove_file(&path).map_err(io_error("removing", &path))
}

/// The entries of a folder, none where there is no folder.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let failed = |error| io_error("reading the folder", folder)(error);
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::log::written;

    /// A log as somebody may have written it.
    pub(crate) struct Written(Vec<u8>);

    impl Written {
        /// One that puts a file at `path`.
        pub(crate) fn of(version: u32, path: &str) -> Self {
            let stamp = serde_json::json!({"bytes": 3, "digest": "0"});
            let step = serde_json::json!({"kind": "put", "path": path, "staged": "1-1", "before": null, "after": stamp});
            Self(written(serde_json::json!({"version": version, "generation": 1, "steps": [step]}).to_string().as_bytes()))
        }

        pub(crate) fn damaged() -> Self {
            let mut log = Self::of(3, "meta/info.json");
            log.0[20] ^= 1;
            log
        }

        pub(crate) fn bytes(&self) -> &[u8] {
            &self.0
        }
    }
}
