//! Files that a result takes over as they are: shared with their source where the file system can, copied
//! where it can't.

use std::fs::{self, File};
use std::path::Path;

use super::ToolError;
use crate::commit::{create_folder, io_error};

/// How files may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// The file system lets two files have the same bytes on the disk until one is written to.
    pub(super) clones: bool,
    /// Two names may stand for the same video. Only where one of the folders is kept: what changes one in place
    /// changes both. Other programs write to tables in place, but to no video.
    pub(super) links: bool,
    /// The result takes the place of its source.
    pub(super) in_place: bool,
    /// The file system of the result; files of another one can't be shared.
    pub(super) device: Option<u64>,
}

impl Sharing {
    /// What can be done between the file `from` and the folder `to`, tried out there.
    pub(super) fn tried(from: &Path, to: &Path, in_place: bool) -> Self {
        let trial = to.join(".trial");
        let succeeds = |way: fn(&Path, &Path) -> bool| {
            let done = way(from, &trial);
            // It may not have been made.
            let _ = fs::remove_file(&trial);
            done
        };
        let clones = succeeds(clone);
        Self { clones, links: in_place && succeeds(|from, to| fs::hard_link(from, to).is_ok()), in_place, device: device_of(to) }
    }

    /// What can be expected, without trying, in the folder `root`.
    pub(super) fn expected(root: &Path, in_place: bool) -> Self {
        Self { clones: false, links: in_place && has_links(root), in_place, device: device_of(root) }
    }

    /// Whether `file` is expected to take no room of its own.
    pub(super) fn shares(self, file: &Path) -> bool {
        (self.clones || self.links && Self::is_linked(file)) && device_of(file) == self.device
    }

    /// A video that is a link may be somebody else's, who goes on writing to it.
    fn is_linked(file: &Path) -> bool {
        file.extension().is_some_and(|kind| kind == "mp4") && !file.is_symlink()
    }

    /// Makes the new file `to` of the file `from`.
    pub(super) fn take(self, from: &Path, to: &Path) -> Result<(), ToolError> {
        if let Some(parent) = to.parent() {
            create_folder(parent)?;
        }
        let links = self.links && Self::is_linked(from);
        // Of a link, what it leads to.
        let from = fs::canonicalize(from).map_err(io_error("reading", from))?;
        if self.clones && clone(&from, to) {
            return Ok(());
        }
        if links && fs::hard_link(&from, to).is_ok() {
            return Ok(());
        }
        fs::copy(&from, to).map_err(io_error("copying", &from))?;
        Ok(File::open(to).and_then(|file| file.sync_all()).map_err(io_error("writing", to))?)
    }
}

/// Makes `to` a file that shares the bytes of `from`; where that can't be, there is none.
#[cfg(target_os = "linux")]
fn clone(from: &Path, to: &Path) -> bool {
    let (Ok(source), Ok(target)) = (File::open(from), File::create_new(to)) else { return false };
    let cloned = rustix::fs::ioctl_ficlone(&target, &source).is_ok();
    let is_done = cloned && source.metadata().and_then(|metadata| target.set_permissions(metadata.permissions())).is_ok();
    if !is_done {
        // Whoever copies makes it anew.
        let _ = fs::remove_file(to);
    }
    is_done
}

#[cfg(not(target_os = "linux"))]
fn clone(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(unix)]
fn device_of(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|metadata| metadata.dev())
}

#[cfg(not(unix))]
fn device_of(_: &Path) -> Option<u64> {
    None
}

/// Whether the file system of `folder` knows several names of a file; FAT and exFAT do not.
#[cfg(target_os = "linux")]
fn has_links(folder: &Path) -> bool {
    const FAT: u64 = 0x4d44;
    const EXFAT: u64 = 0x2011_bab0;
    rustix::fs::statfs(folder).is_ok_and(|found| ![FAT, EXFAT].contains(&(found.f_type as u64)))
}

#[cfg(not(target_os = "linux"))]
fn has_links(_: &Path) -> bool {
    cfg!(unix)
}

/// How much may still be written to the file system of `folder`; `None` where that is not known.
#[cfg(unix)]
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_shared_or_copied_but_always_there() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::write(&from, "frames").unwrap();
        let tried = Sharing::tried(&from, folder.path(), true);
        let none = Sharing { clones: false, links: false, in_place: false, device: device_of(folder.path()) };
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no trial stays");
        for (number, sharing) in [none, Sharing { clones: true, ..none }, tried].into_iter().enumerate() {
            let to = folder.path().join(number.to_string()).join("to");
            sharing.take(&from, &to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), "frames");
        }
        assert!(free_bytes(folder.path()).unwrap() > 0);
    }
}
