//! Every change that writing a dataset makes to the disk passes here, so that tests can let it fail, kill
//! the process at it, or keep what was done to see what a power cut would have left of it.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::RecordError;

/// What is about to happen.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "tests look at what happens to what"))]
pub(crate) enum Op<'a> {
    /// Takes space: a full disk refuses it.
    Create(&'a Path),
    /// Takes space: a full disk refuses it.
    Write {
        file: &'a File,
        at: u64,
        bytes: &'a [u8],
    },
    /// Cuts or lengthens.
    Truncate {
        file: &'a File,
        length: u64,
    },
    Sync(&'a File),
    CreateFolder(&'a Path),
    SyncFolder(&'a Path),
    Rename {
        from: &'a Path,
        to: &'a Path,
    },
    /// Each takes the other's name.
    Exchange {
        one: &'a Path,
        other: &'a Path,
    },
    /// A file, or an empty folder.
    Remove(&'a Path),
}

#[cfg(not(test))]
fn before(_: Op<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use crate::tests::injected::before;

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    before(Op::Rename { from, to })?;
    fs::rename(from, to)
}

/// Exchanges two files at once, so that at any instant both names stand for one of them. `false` where the file
/// system can't; nothing has happened then.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    before(Op::Exchange { one, other })?;
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    Ok(false)
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    before(Op::Remove(path))?;
    fs::remove_file(path)
}

/// Makes a folder and those that it is in, and waits until their names are on the disk.
pub(crate) fn create_folder(path: &Path) -> Result<(), RecordError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_folder(parent)?;
    }
    let created = before(Op::CreateFolder(path)).and_then(|()| fs::create_dir(path));
    match created {
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        created => created.map_err(io_error("creating the folder", path)),
    }?;
    parent.map_or(Ok(()), sync_folder)
}

/// Removes a folder and all that is in it, if it is there; links are removed, not followed.
pub(crate) fn remove_folder(path: &Path) -> Result<(), RecordError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("removing", path)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(io_error("removing", path))?;
        let is_folder = entry.file_type().map_err(io_error("removing", path))?.is_dir();
        let entry = entry.path();
        if is_folder { remove_folder(&entry)? } else { remove_file(&entry).map_err(io_error("removing", &entry))? }
    }
    before(Op::Remove(path)).and_then(|()| fs::remove_dir(path)).map_err(io_error("removing", path))
}

/// Waits until a folder's list of names is on the disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), RecordError> {
    let synced = before(Op::SyncFolder(path)).and_then(|()| {
        let folder = File::open(path)?;
        if cfg!(test) { Ok(()) } else { sync_names(&folder) }
    });
    synced.map_err(io_error("writing the folder", path))
}

fn sync_names(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
        // A file system that has nothing to write for folders says so.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        result => result,
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct OutFile {
    path: PathBuf,
    file: File,
    /// Where the next bytes go.
    at: u64,
}

impl OutFile {
    /// An empty one, in place of one that may be there.
    pub(crate) fn create(path: &Path) -> Result<Self, RecordError> {
        Self::opened(path, File::options().read(true).write(true).create(true).truncate(true))
    }

    /// One that must not be there yet.
    pub(crate) fn create_new(path: &Path) -> Result<Self, RecordError> {
        Self::opened(path, File::options().read(true).write(true).create_new(true))
    }

    fn opened(path: &Path, options: &fs::OpenOptions) -> Result<Self, RecordError> {
        let file = before(Op::Create(path)).and_then(|()| options.open(path)).map_err(io_error("creating", path))?;
        Ok(Self { path: path.to_owned(), file, at: 0 })
    }

    /// One that exists, to be written from its beginning.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordError> {
        let file = File::options().read(true).write(true).open(path).map_err(io_error("opening", path))?;
        Ok(Self { path: path.to_owned(), file, at: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes where the last write ended.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        // Under test a write happens in two halves, so that it can fail or be killed in its midst.
        let (first, second) = bytes.split_at(if cfg!(test) { bytes.len() / 2 } else { bytes.len() });
        for half in [first, second] {
            if !half.is_empty() {
                self.write(half).map_err(io_error("writing", &self.path))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        before(Op::Write { file: &self.file, at: self.at, bytes })?;
        self.file.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes at an offset; the next [`Self::append`] goes on from its end.
    pub(crate) fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), RecordError> {
        self.at = self.file.seek(SeekFrom::Start(at)).map_err(io_error("writing", &self.path))?;
        self.append(bytes)
    }

    /// Cuts or lengthens the file (by zeros).
    pub(crate) fn set_len(&mut self, length: u64) -> Result<(), RecordError> {
        let cut = before(Op::Truncate { file: &self.file, length }).and_then(|()| self.file.set_len(length));
        cut.map_err(io_error("cutting", &self.path))
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

    /// Waits until the file's contents are on the disk. After an error they may not be there although a second
    /// wait succeeds (the system forgets pages that it could not write): they have to be written again.
    pub(crate) fn sync(&self) -> Result<(), RecordError> {
        // Under test it only counts: a killed process loses nothing that it has written, and waiting would make
        // thousands of steps slow.
        let synced = before(Op::Sync(&self.file)).and_then(|()| if cfg!(test) { Ok(()) } else { self.file.sync_data() });
        synced.map_err(io_error("writing", &self.path))
    }

    /// The same open file, for a thread that sees it onto the disk.
    pub(crate) fn again(&self) -> Result<Self, RecordError> {
        let file = self.file.try_clone().map_err(io_error("opening", &self.path))?;
        Ok(Self { path: self.path.clone(), file, at: self.at })
    }
}

/// Writes a file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let mut file = OutFile::create(path)?;
    file.append(bytes)?;
    file.sync()
}

/// Waits until all of `files` are on the disk: at once, since a disk that is asked for several together is faster.
pub(crate) fn sync_all(files: &[&OutFile]) -> Result<(), RecordError> {
    if cfg!(test) || files.len() < 2 {
        return files.iter().try_for_each(|file| file.sync());
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = files.iter().map(|file| scope.spawn(|| file.sync())).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

pub(crate) fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { doing, path, source }
}
