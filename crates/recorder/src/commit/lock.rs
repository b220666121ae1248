//! One process at a time holds a dataset.
//!
//! The lock is a file in the folder `.sinew`, which is there as long as somebody needs it. All three, the dataset's
//! folder, `.sinew` and the lock, are held open: what is held is these, whatever they are called by now. A lock
//! whose name has come to stand for another file guards nothing, and is asked for again.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;

use crate::RecordError;
use crate::commit::disk::{io_error, sync_folder};

/// The folder in a dataset that is not the dataset.
pub(crate) const FOLDER: &str = ".sinew";
const LOCK: &str = "lock";
/// How often the three are opened again because one was exchanged or removed in between.
const TRIES: usize = 100;

/// Holds a dataset until it goes out of scope.
#[derive(Debug)]
pub(crate) struct Lock {
    root: OwnedFd,
    folder: OwnedFd,
    file: File,
}

impl Lock {
    /// Takes the lock of the dataset in the folder `root`.
    ///
    /// # Errors
    /// When another has it, the file system knows no locks, or `.sinew` is no folder.
    pub(crate) fn take(root: &Path) -> Result<Self, RecordError> {
        let path = root.join(FOLDER).join(LOCK);
        for _ in 0..TRIES {
            let lock = match Self::open(root) {
                Ok(Some(lock)) => lock,
                Ok(None) => continue,
                Err(error) => return Err(io_error("opening for writing", &path)(error.into())),
            };
            match lock.file.try_lock() {
                Ok(()) if lock.is_at(root).map_err(|error| io_error("locking", &path)(error.into()))? => return Ok(lock),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(RecordError::Busy { root: root.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(RecordError::Io { doing: "locking", path, source }),
            }
        }
        Err(RecordError::Busy { root: root.to_owned() })
    }

    /// `None` when one of them was removed just now.
    fn open(root: &Path) -> Result<Option<Self>, Errno> {
        let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_fd = openat(CWD, root, folder, Mode::empty())?;
        match mkdirat(&root_fd, FOLDER, Mode::from_raw_mode(0o777)) {
            // So that a restart after a power cut finds what will be in it. What can't be seen onto the disk now
            // is said when the first file in it can't be either.
            Ok(()) => drop(sync_folder(root)),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        let gone = |error: Errno| if error == Errno::NOENT { Ok(None) } else { Err(error) };
        let folder = match openat(&root_fd, FOLDER, folder | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(folder) => folder,
            Err(error) => return gone(error),
        };
        let lock = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&folder, LOCK, lock, Mode::from_raw_mode(0o666)) {
            Ok(file) => Ok(Some(Self { root: root_fd, folder, file: File::from(file) })),
            Err(error) => gone(error),
        }
    }

    /// Whether all three still go by the names by which they were found.
    pub(crate) fn is_at(&self, root: &Path) -> Result<bool, Errno> {
        let same = |one: &dyn AsFd, other: Result<Stat, Errno>| -> Result<bool, Errno> {
            let one = fstat(one.as_fd())?;
            match other {
                Ok(other) => Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)),
                Err(Errno::NOENT) => Ok(false),
                Err(error) => Err(error),
            }
        };
        Ok(same(&self.root, statat(CWD, root, AtFlags::empty()))?
            && same(&self.folder, statat(&self.root, FOLDER, AtFlags::SYMLINK_NOFOLLOW))?
            && same(&self.file, statat(&self.folder, LOCK, AtFlags::SYMLINK_NOFOLLOW))?)
    }

    /// Whether `.sinew` holds `name`, wherever the dataset's folder is by now.
    pub(crate) fn has(&self, name: &str) -> bool {
        statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Empties the folder that is held but for `.sinew`.
    pub(crate) fn empty(&self) -> io::Result<()> {
        Ok(remove_all_but(&self.root, FOLDER)?)
    }

    /// Removes `.sinew`, wherever the dataset's folder is by now, and gives the dataset free.
    ///
    /// # Errors
    /// When the disk refuses; whoever takes the lock next removes it.
    pub(crate) fn remove(self) -> io::Result<()> {
        let removed = remove_all_but(&self.folder, LOCK)
            .and_then(|()| unlinkat(&self.folder, LOCK, AtFlags::empty()))
            // Another may have made a lock of his own in the meantime; it stays.
            .and_then(|()| unlinkat(&self.root, FOLDER, AtFlags::REMOVEDIR).or_else(|error| ignore(error, Errno::NOTEMPTY)));
        Ok(removed?)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is just being started has it open as well.
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the dataset's lock is released when all who have it open close it");
        }
    }
}

fn ignore(error: Errno, expected: Errno) -> Result<(), Errno> {
    if error == expected { Ok(()) } else { Err(error) }
}

/// Empties a folder but for the file `kept`.
fn remove_all_but(folder: &OwnedFd, kept: &str) -> Result<(), Errno> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) || name.to_bytes() == kept.as_bytes() {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            kind => kind,
        };
        if kind == FileType::Directory {
            let inner = openat(folder, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            remove_all_but(&inner, "")?;
            unlinkat(folder, name, AtFlags::REMOVEDIR)?;
        } else {
            unlinkat(folder, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// The dataset for which the folder `root` is kept, to be brought back by `undo`; `None` where it is no such folder.
/// The file that says what it is is beside it.
pub(crate) fn kept_for(root: &Path) -> Option<PathBuf> {
    let root = std::fs::canonicalize(root).ok()?;
    let name = root.file_name()?.to_str()?;
    let dataset = name.strip_prefix('.')?.strip_suffix(".undo")?;
    root.with_file_name(format!("{name}.json")).exists().then(|| root.with_file_name(dataset))
}

/// Where `relative` is in the dataset `root`.
///
/// # Errors
/// When it leads out of the dataset, by its words or through a link.
pub(crate) fn inside(root: &Path, relative: &str) -> Result<PathBuf, String> {
    use std::path::Component;
    let mut path = root.to_owned();
    if relative.is_empty() || relative.contains('\0') {
        return Err(format!("{relative:?} names no file"));
    }
    for part in Path::new(relative).components() {
        let Component::Normal(part) = part else { return Err(format!("{relative} leads out of the dataset")) };
        path.push(part);
        if path.is_symlink() {
            return Err(format!("{} is a link; a dataset that is written has real folders and files", path.display()));
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn one_holds_it_and_the_folder_goes_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::take(folder.path()).unwrap();
        assert!(matches!(Lock::take(folder.path()), Err(RecordError::Busy { .. })));
        fs::create_dir_all(folder.path().join(".sinew/stage/deep")).unwrap();
        fs::write(folder.path().join(".sinew/stage/deep/file"), "x").unwrap();
        lock.remove().unwrap();
        assert!(!folder.path().join(FOLDER).exists());
        drop(Lock::take(folder.path()).unwrap());
        assert!(Lock::take(folder.path()).is_ok(), "dropping it frees the dataset");
    }

    #[test]
    fn what_is_held_is_the_folder_and_not_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        [&one, &other].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        let of_one = Lock::take(&one).unwrap();
        let of_other = Lock::take(&other).unwrap();
        let moving = folder.path().join("moving");
        for (from, to) in [(&one, &moving), (&other, &one), (&moving, &other)] {
            fs::rename(from, to).unwrap();
        }
        of_one.remove().unwrap();
        assert!(one.join(FOLDER).exists() && !other.join(FOLDER).exists(), "it removes its own folder, not the one that has its name");
        assert!(matches!(Lock::take(&one), Err(RecordError::Busy { .. })));
        drop(of_other);
        assert!(Lock::take(&one).is_ok());
    }

    #[test]
    fn a_lock_whose_name_stands_for_another_file_guards_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::open(folder.path()).unwrap().unwrap();
        fs::remove_file(folder.path().join(".sinew/lock")).unwrap();
        assert!(!lock.is_at(folder.path()).unwrap());
        let other = Lock::take(folder.path()).unwrap();
        lock.file.try_lock().unwrap();
        assert!(!lock.is_at(folder.path()).unwrap() && other.is_at(folder.path()).unwrap());
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join("videos")).unwrap();
        for bad in ["", "..", "../escaped", "/etc/escaped", "meta/../../escaped", "videos", "videos/a/b.mp4", "a\0b"] {
            assert!(inside(&root, bad).is_err(), "{bad}");
        }
        assert_eq!(inside(&root, "meta/info.json").unwrap(), root.join("meta/info.json"));
        fs::remove_file(root.join("videos")).unwrap();
        std::os::unix::fs::symlink(folder.path(), root.join(FOLDER)).unwrap();
        assert!(Lock::take(&root).is_err());
    }
}
