//! Changing many files as if they were one.
//!
//! A commit is a list of changes: new contents of small files, staged files to be moved into place,
//! and bytes to be overwritten that are too few to be torn. Writing the list as `.sinew/commit` is the
//! instant at which all of them have happened: before it, a restart finds the dataset as it was; after
//! it, a restart makes the changes that are left to make. Each can be made twice.
//!
//! The list holds the small files whole, so one wait for the disk commits them all. Once the changes
//! are made it is called `.sinew/installed`, until a thread of its own has seen them on the disk.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::write::fault;
use crate::{ReadError, RecordError};

pub(crate) const FOLDER: &str = ".sinew";
pub(crate) const COMMIT: &str = "commit";
const INSTALLED: &str = "installed";
const STAGE: &str = "stage";
const TWIN: &str = "twin";
/// Holds the episode that is being recorded.
pub(crate) const EPISODE: &str = "episode";
const LOCK: &str = "lock";
const VERSION: u32 = 2;

/// One change of a commit. Paths are relative to the dataset.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// Overwrites `bytes` at an offset; 16 bytes at most, in one sector of the disk.
    Patch { path: String, at: u64, bytes: Vec<u8> },
    /// Moves the staged file into place. What was there stays as the file's twin.
    Move { path: String },
    /// The new contents of a small file.
    Write { path: String, bytes: Vec<u8> },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    changes: Vec<ChangeHeader>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeHeader {
    kind: Kind,
    path: String,
    at: u64,
    /// How many of the bytes after the header belong to it.
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Patch,
    Move,
    Write,
}

/// The part of a dataset's folder that is not the dataset, held by one process at a time.
pub(crate) struct Staging {
    root: PathBuf,
    /// Locked while this lives.
    lock: File,
    /// Sees the last commit onto the disk.
    settling: Option<JoinHandle<Result<(), RecordError>>>,
    /// Files whose twins are theirs as they were one commit ago, and nobody else's.
    twins: BTreeSet<String>,
}

impl Staging {
    /// Locks the dataset at `root`, then completes or removes what a killed process left, except for
    /// an unfinished episode. Says whether there was something.
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
        let mut staging = Self { root: root.to_owned(), lock, settling: None, twins: BTreeSet::new() };
        let had_something = [COMMIT, INSTALLED, STAGE].iter().any(|name| folder.join(name).exists());
        staging.install()?;
        staging.settle()?;
        staging.clear()?;
        remove_folder(&folder.join(TWIN))?;
        Ok((staging, had_something))
    }

    /// The folder of the episode that is being recorded.
    pub(crate) fn episode_folder(&self) -> PathBuf {
        self.root.join(FOLDER).join(EPISODE)
    }

    /// Where the new contents of `relative` go; makes the folder.
    pub(crate) fn path(&self, relative: &str) -> Result<PathBuf, RecordError> {
        self.below(STAGE, relative)
    }

    fn below(&self, place: &str, relative: &str) -> Result<PathBuf, RecordError> {
        let path = self.root.join(FOLDER).join(place).join(relative);
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
        }
        Ok(path)
    }

    /// Makes the twin of `relative` its staged file, if it has one: the file as it was one commit ago,
    /// which nobody reads.
    pub(crate) fn stage_twin(&mut self, relative: &str) -> Result<Option<PathBuf>, RecordError> {
        if !self.twins.remove(relative) {
            return Ok(None);
        }
        let (twin, stage) = (self.below(TWIN, relative)?, self.path(relative)?);
        fault::rename(&twin, &stage).map_err(io_error("moving", &twin))?;
        Ok(Some(stage))
    }

    /// Makes `changes` the dataset's. When this returns an error, nothing has changed.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Result<(), RecordError> {
        self.settle()?;
        for change in changes {
            // Folders now: after the commit only what can hardly fail should be left to do.
            if let Some(parent) = self.root.join(change.path()).parent() {
                create_folder(parent)?;
            }
            if let Change::Move { path } = change {
                sync_folder(self.path(path)?.parent())?;
            }
        }
        let folder = self.root.join(FOLDER);
        let temporary = folder.join("commit.new");
        write_synced(&temporary, &encode(changes))?;
        let path = folder.join(COMMIT);
        fault::rename(&temporary, &path).map_err(io_error("writing", &path))?;
        let Err(error) = sync_folder(Some(&folder)) else { return Ok(()) };
        match fault::remove_file(&path) {
            Ok(()) => Err(error),
            // There it is, and everyone sees it. The disk is asked again when it is settled.
            Err(_) => Ok(()),
        }
    }

    /// Whether a commit is not yet in place. Until then nothing that it needs may be touched.
    pub(crate) fn is_pending(&self) -> bool {
        is_pending(&self.root)
    }

    /// Makes the committed changes, if any are left to make.
    pub(crate) fn install(&mut self) -> Result<(), RecordError> {
        let folder = self.root.join(FOLDER);
        let (commit, installed) = (folder.join(COMMIT), folder.join(INSTALLED));
        // One that is already made is made again when it may not have reached the disk.
        let path = if commit.exists() {
            &commit
        } else if installed.exists() && self.settling.is_none() {
            &installed
        } else {
            return Ok(());
        };
        for change in read_commit(path)? {
            self.make(&change)?;
        }
        if path == &commit {
            fault::rename(&commit, &installed).map_err(io_error("renaming", &commit))?;
        }
        Ok(())
    }

    fn make(&mut self, change: &Change) -> Result<(), RecordError> {
        let to = self.root.join(change.path());
        if let Some(parent) = to.parent() {
            create_folder(parent)?;
        }
        match change {
            Change::Patch { at, bytes, .. } => OutFile::open(&to)?.write_at(*at, bytes),
            Change::Write { bytes, .. } => {
                let temporary = self.root.join(FOLDER).join("write");
                OutFile::create(&temporary)?.append(bytes)?;
                fault::rename(&temporary, &to).map_err(io_error("moving into place", &to))
            }
            Change::Move { path } => {
                let from = self.path(path)?;
                if !from.exists() && to.exists() {
                    // Moved before the process was killed.
                    return Ok(());
                }
                let twin = self.below(TWIN, path)?;
                self.twins.remove(path);
                let kept = to.exists() && (!twin.exists() || fault::remove_file(&twin).is_ok()) && fault::hard_link(&to, &twin).is_ok();
                fault::rename(&from, &to).map_err(io_error("moving into place", &to))?;
                // Only now is the twin another file than the one in place.
                if kept {
                    self.twins.insert(path.clone());
                }
                Ok(())
            }
        }
    }

    /// Begins to see the changes of the last commit onto the disk.
    pub(crate) fn settle_later(&mut self) {
        let root = self.root.clone();
        self.settling = Some(std::thread::spawn(move || settle(&root)));
    }

    /// Waits until the last commit is on the disk.
    pub(crate) fn settle(&mut self) -> Result<(), RecordError> {
        match self.settling.take().map(JoinHandle::join) {
            Some(Ok(Ok(()))) => Ok(()),
            // Once more, here: a passing fault must not stop the recording.
            _ => settle(&self.root),
        }
    }

    /// Removes what is staged, unless a commit needs it.
    pub(crate) fn clear(&self) -> Result<(), RecordError> {
        if self.is_pending() {
            return Ok(());
        }
        remove_folder(&self.root.join(FOLDER).join(STAGE))
    }

    /// Removes the episode that was being recorded, journal last.
    pub(crate) fn remove_episode(&self) -> Result<(), RecordError> {
        remove_folder(&self.episode_folder())
    }
}

impl Staging {
    /// Removes what is of no more use. A commit that is not yet in place and an unfinished episode stay.
    fn leave(&mut self) -> Result<(), RecordError> {
        let folder = self.root.join(FOLDER);
        self.settle()?;
        if [COMMIT, INSTALLED, EPISODE].iter().any(|name| folder.join(name).exists()) {
            return Ok(());
        }
        self.clear()?;
        fs::remove_dir_all(&folder).map_err(io_error("removing", &folder))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Whatever cannot be removed now is removed by whoever opens the dataset next.
        if let Err(error) = self.leave() {
            tracing::debug!(%error, "the staging area stays");
        }
        // Closing the file is not enough: a process that is just being started has it open as well.
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(%error, "the dataset's lock is released when all who have it open close it");
        }
    }
}

/// Whether the dataset at `root` has a commit that is not yet in place.
pub(crate) fn is_pending(root: &Path) -> bool {
    root.join(FOLDER).join(COMMIT).exists()
}

impl Change {
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Patch { path, .. } | Self::Move { path } | Self::Write { path, .. } => path,
        }
    }
}

fn encode(changes: &[Change]) -> Vec<u8> {
    let headers = changes.iter().map(|change| {
        let (kind, at, bytes) = match change {
            Change::Patch { at, bytes, .. } => (Kind::Patch, *at, bytes.len()),
            Change::Move { .. } => (Kind::Move, 0, 0),
            Change::Write { bytes, .. } => (Kind::Write, 0, bytes.len()),
        };
        ChangeHeader { kind, path: change.path().to_owned(), at, bytes: bytes as u64 }
    });
    let header = Header { version: VERSION, changes: headers.collect() };
    // Serialising plain fields to memory cannot fail.
    let mut bytes = serde_json::to_vec(&header).unwrap_or_default();
    bytes.push(b'\n');
    for change in changes {
        if let Change::Patch { bytes: content, .. } | Change::Write { bytes: content, .. } = change {
            bytes.extend(content);
        }
    }
    bytes
}

fn read_commit(path: &Path) -> Result<Vec<Change>, RecordError> {
    let bytes = fs::read(path).map_err(io_error("reading", path))?;
    let invalid = |what: String| RecordError::from(ReadError::Invalid { path: path.to_owned(), what });
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| invalid("it has no header".to_owned()))?;
    let header: Header = serde_json::from_slice(&bytes[..end]).map_err(|source| ReadError::Json { path: path.to_owned(), source })?;
    if header.version != VERSION {
        return Err(invalid(format!("its version is {}, expected {VERSION}", header.version)));
    }
    let mut rest = &bytes[end + 1..];
    let mut changes = Vec::new();
    for ChangeHeader { kind, path: relative, at, bytes } in header.changes {
        if relative.is_empty() || !Path::new(&relative).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(invalid(format!("{relative} leads out of the dataset")));
        }
        let (content, after) = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| rest.split_at_checked(bytes))
            .ok_or_else(|| invalid("it is cut short".to_owned()))?;
        rest = after;
        let bytes = content.to_vec();
        changes.push(match kind {
            Kind::Patch => Change::Patch { path: relative, at, bytes },
            Kind::Move => Change::Move { path: relative },
            Kind::Write => Change::Write { path: relative, bytes },
        });
    }
    Ok(changes)
}

/// Waits until the changes of the installed commit are on the disk, then forgets it.
fn settle(root: &Path) -> Result<(), RecordError> {
    let installed = root.join(FOLDER).join(INSTALLED);
    if !installed.exists() {
        return Ok(());
    }
    let mut folders = BTreeSet::new();
    for change in read_commit(&installed)? {
        let path = root.join(change.path());
        // Moved files were on the disk before the commit.
        if !matches!(change, Change::Move { .. }) {
            OutFile::open(&path)?.sync()?;
        }
        folders.extend(path.parent().map(Path::to_owned));
    }
    for folder in &folders {
        sync_folder(Some(folder))?;
    }
    fault::remove_file(&installed).map_err(io_error("removing", &installed))
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct OutFile {
    path: PathBuf,
    file: File,
}

impl OutFile {
    /// An empty one, in place of one that may be there.
    pub(crate) fn create(path: &Path) -> Result<Self, RecordError> {
        let mut options = File::options();
        let file = fault::create(options.read(true).write(true).create(true).truncate(true), path).map_err(io_error("creating", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// One that must not be there yet.
    pub(crate) fn create_new(path: &Path) -> Result<Self, RecordError> {
        let mut options = File::options();
        let file = fault::create(options.read(true).write(true).create_new(true), path).map_err(io_error("creating", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// One that exists.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        let file = File::options().read(true).write(true).open(path).map_err(io_error("opening", path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes where the last write ended.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        fault::write_all(&mut self.file, bytes).map_err(io_error("writing", &self.path))
    }

    /// Writes at an offset; the next [`Self::append`] goes on from its end.
    pub(crate) fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), RecordError> {
        self.file.seek(SeekFrom::Start(at)).map_err(io_error("writing", &self.path))?;
        self.append(bytes)
    }

    /// Cuts or lengthens the file (by zeros).
    pub(crate) fn set_len(&mut self, length: u64) -> Result<(), RecordError> {
        fault::truncate(&self.file, length).map_err(io_error("cutting", &self.path))
    }

    /// Copies bytes `from..to` of another file to where the last write ended.
    pub(crate) fn copy_from(&mut self, path: &Path, from: u64, to: u64) -> Result<(), RecordError> {
        let mut source = File::open(path).map_err(io_error("reading", path))?;
        source.seek(SeekFrom::Start(from)).map_err(io_error("reading", path))?;
        let mut source = io::Read::take(source, to - from);
        let mut buffer = vec![0; (1 << 18).min((to - from) as usize)];
        loop {
            let read = io::Read::read(&mut source, &mut buffer).map_err(io_error("reading", path))?;
            if read == 0 {
                break;
            }
            self.append(&buffer[..read])?;
        }
        if source.limit() > 0 {
            let what = format!("{} bytes expected from {from} on, {} are missing", to - from, source.limit());
            return Err(io_error("reading", path)(io::Error::new(io::ErrorKind::UnexpectedEof, what)));
        }
        Ok(())
    }

    pub(crate) fn sync(&self) -> Result<(), RecordError> {
        fault::sync(&self.file).map_err(io_error("writing", &self.path))
    }

    /// The same open file, for a thread that sees it onto the disk.
    pub(crate) fn again(&self) -> Result<Self, RecordError> {
        let file = self.file.try_clone().map_err(io_error("opening", &self.path))?;
        Ok(Self { path: self.path.clone(), file })
    }
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { doing, path, source }
}

pub(crate) fn create_folder(path: &Path) -> Result<(), RecordError> {
    fs::create_dir_all(path).map_err(io_error("creating the folder", path))
}

fn remove_folder(path: &Path) -> Result<(), RecordError> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("removing", path)(error)),
    }
}

/// Writes a file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let mut file = OutFile::create(path)?;
    file.append(bytes)?;
    file.sync()
}

/// Waits until a folder's list of names is on the disk.
pub(crate) fn sync_folder(path: Option<&Path>) -> Result<(), RecordError> {
    let Some(path) = path else { return Ok(()) };
    if cfg!(unix) {
        File::open(path).and_then(|folder| fault::sync(&folder)).map_err(io_error("writing the folder", path))?;
    }
    Ok(())
}
