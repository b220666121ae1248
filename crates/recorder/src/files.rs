//! Changing many files as if they were one.
//!
//! New contents are staged under `.sinew/stage/` at the paths they are meant for. Writing
//! `.sinew/commit.json`, the list of those paths, is the instant at which the change has happened:
//! before it, a restart removes the stage; after it, a restart moves the remaining files into place.
//! Moves are renames, so every file is at any instant the whole old one or the whole new one.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{ReadError, RecordError};

pub(crate) const FOLDER: &str = ".sinew";
pub(crate) const COMMIT: &str = "commit.json";
const STAGE: &str = "stage";
const LOCK: &str = "lock";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Commit {
    version: u32,
    /// Relative to the dataset, in the order in which they are moved.
    install: Vec<String>,
}

/// The staging area of one dataset, held by one process at a time.
pub(crate) struct Staging {
    root: PathBuf,
    /// Locked while this lives.
    _lock: File,
}

impl Staging {
    /// Locks the dataset at `root`, then completes or removes what a killed process left. Says
    /// whether there was something.
    pub(crate) fn open(root: &Path) -> Result<(Self, bool), RecordError> {
        let folder = root.join(FOLDER);
        create_folder(&folder)?;
        let path = folder.join(LOCK);
        let lock = loop {
            let lock = File::options().write(true).create(true).truncate(false).open(&path).map_err(io_error("creating", &path))?;
            match lock.try_lock() {
                // Whoever held it may have removed it in the meantime; a removed file guards nothing.
                Ok(()) if !path.exists() => create_folder(&folder)?,
                Ok(()) => break lock,
                Err(TryLockError::WouldBlock) => return Err(RecordError::Busy { root: root.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(RecordError::Io { doing: "locking", path, source }),
            }
        };
        let staging = Self { root: root.to_owned(), _lock: lock };
        let had_something = folder.join(COMMIT).exists() || folder.join(STAGE).exists();
        staging.install()?;
        staging.clear()?;
        Ok((staging, had_something))
    }

    /// Where the new contents of `relative` go; makes the folder.
    pub(crate) fn path(&self, relative: &str) -> Result<PathBuf, RecordError> {
        let path = self.root.join(FOLDER).join(STAGE).join(relative);
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
        }
        Ok(path)
    }

    /// Stages `bytes` as the new contents of `relative`.
    pub(crate) fn write(&self, relative: &str, bytes: &[u8]) -> Result<(), RecordError> {
        let path = self.path(relative)?;
        write_synced(&path, bytes)
    }

    /// Makes the staged files' contents those of the dataset. When this returns an error, nothing
    /// has changed.
    pub(crate) fn commit(&self, install: &[String]) -> Result<(), RecordError> {
        for relative in install {
            // Folders now: after the commit only renames should be left to do.
            if let Some(parent) = self.root.join(relative).parent() {
                create_folder(parent)?;
            }
            sync_folder(self.path(relative)?.parent())?;
        }
        let folder = self.root.join(FOLDER);
        let commit = Commit { version: 1, install: install.to_vec() };
        // Serialising strings to memory cannot fail.
        let json = serde_json::to_vec(&commit).unwrap_or_default();
        let temporary = folder.join("commit.json.new");
        write_synced(&temporary, &json)?;
        checkpoint();
        let path = folder.join(COMMIT);
        fs::rename(&temporary, &path).map_err(io_error("writing", &path))?;
        checkpoint();
        sync_folder(Some(&folder))
    }

    /// Moves committed files into place, if any are left to move.
    pub(crate) fn install(&self) -> Result<(), RecordError> {
        let folder = self.root.join(FOLDER);
        let path = folder.join(COMMIT);
        let json = match fs::read(&path) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("reading", &path)(error)),
        };
        let commit: Commit = serde_json::from_slice(&json).map_err(|source| ReadError::Json { path: path.clone(), source })?;
        if commit.version != 1 {
            return Err(ReadError::Invalid { path, what: format!("its version is {}, expected 1", commit.version) }.into());
        }
        let mut folders: Vec<PathBuf> = Vec::new();
        for relative in &commit.install {
            if !Path::new(relative).components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(ReadError::Invalid { path, what: format!("{relative} leads out of the dataset") }.into());
            }
            let (from, to) = (self.path(relative)?, self.root.join(relative));
            let parent = to.parent().unwrap_or(&self.root).to_owned();
            create_folder(&parent)?;
            match fs::rename(&from, &to) {
                Ok(()) => {}
                // Moved before the process was killed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => {}
                Err(error) => return Err(io_error("moving into place", &to)(error)),
            }
            checkpoint();
            if !folders.contains(&parent) {
                folders.push(parent);
            }
        }
        for parent in &folders {
            sync_folder(Some(parent))?;
        }
        fs::remove_file(&path).map_err(io_error("removing", &path))?;
        checkpoint();
        sync_folder(Some(&folder))
    }

    /// Removes what is staged.
    pub(crate) fn clear(&self) -> Result<(), RecordError> {
        let path = self.root.join(FOLDER).join(STAGE);
        match fs::remove_dir_all(&path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("removing", &path)(error)),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Whatever cannot be removed now is removed by whoever opens the dataset next; a commit that
        // is not yet in place stays.
        let folder = self.root.join(FOLDER);
        if folder.join(COMMIT).exists() {
            return;
        }
        if let Err(error) = self.clear().and_then(|()| fs::remove_dir_all(&folder).map_err(io_error("removing", &folder))) {
            tracing::debug!(%error, "the staging area stays");
        }
    }
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { doing, path, source }
}

pub(crate) fn create_folder(path: &Path) -> Result<(), RecordError> {
    fs::create_dir_all(path).map_err(io_error("creating the folder", path))
}

/// Writes a file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let mut file = File::create(path).map_err(io_error("creating", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("writing", path))?;
    checkpoint();
    Ok(())
}

/// Waits until a folder's list of names is on the disk.
fn sync_folder(path: Option<&Path>) -> Result<(), RecordError> {
    let Some(path) = path else { return Ok(()) };
    if cfg!(unix) {
        File::open(path).and_then(|folder| folder.sync_all()).map_err(io_error("writing the folder", path))?;
    }
    Ok(())
}

/// A place at which tests kill the process.
#[cfg(not(test))]
pub(crate) fn checkpoint() {}

#[cfg(test)]
pub(crate) use crash::checkpoint;

#[cfg(test)]
pub(crate) mod crash {
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Checkpoints left before the process aborts; negative for never.
    pub(crate) static REMAINING: AtomicI64 = AtomicI64::new(-1);

    pub(crate) fn checkpoint() {
        if REMAINING.load(Ordering::Relaxed) >= 0 && REMAINING.fetch_sub(1, Ordering::Relaxed) == 0 {
            std::process::abort();
        }
    }
}
