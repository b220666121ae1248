//! Two folders that change places.

use std::fs;
use std::path::{Path, PathBuf};

use super::ToolError;
use crate::commit::disk::sync_folder;
use crate::commit::io_error;
use crate::format::info::is_linked;
use crate::format::schema::INFO;

/// The folder or file beside `root` with `what` in its name.
pub(super) fn beside(root: &Path, what: &str) -> PathBuf {
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    root.with_file_name(format!(".{name}.{what}"))
}

/// A folder without links and dots, so that its name and its parent can be told. Where a process was
/// killed between the steps of an exchange, its folder gets its name back.
pub(super) fn resolved(root: &Path) -> Result<PathBuf, ToolError> {
    let moving = beside(root, MOVING);
    if !root.exists() && moving.join(INFO).exists() {
        fs::rename(&moving, root).map_err(io_error("moving back", root))?;
    }
    Ok(fs::canonicalize(root).map_err(io_error("opening the folder", root))?)
}

/// In the name of what is on its way.
const MOVING: &str = "moving";

/// Why the dataset in the folder `root`, which is [`resolved`], can't be replaced by another; `None`
/// where it can.
pub(super) fn why_not_in_place(root: &Path) -> Option<&'static str> {
    if root.file_name().is_none() || is_mount_point(root) {
        return Some("its folder is a mount point, which can't be renamed; name another folder for the result");
    }
    is_linked(root)
        .then_some("its files are links to others, as in the Hub's cache, which are not to be changed; name another folder for the result")
}

/// Whether another file system, or another part of one, begins at `folder`.
#[cfg(target_os = "linux")]
pub(super) fn is_mount_point(folder: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    let of_folder = statx(CWD, folder, AtFlags::empty(), StatxFlags::BASIC_STATS);
    of_folder.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(all(unix, not(target_os = "linux")))]
pub(super) fn is_mount_point(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    folder.parent().is_none_or(|parent| device(parent) != device(folder))
}

#[cfg(not(unix))]
pub(super) fn is_mount_point(_: &Path) -> bool {
    false
}

/// Exchanges two folders beside each other: at any instant, both names stand for one of them, whole.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(super) fn exchange(one: &Path, other: &Path) -> Result<(), ToolError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(other.parent().map_or(Ok(()), sync_folder)?),
        // The file system cannot.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => exchange_by_steps(one, other),
        Err(error) => Err(io_error("exchanging", other)(error.into()).into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(super) fn exchange(one: &Path, other: &Path) -> Result<(), ToolError> {
    exchange_by_steps(one, other)
}

/// The same where the file system cannot do it at once. Killed in between, what was at `other` is beside it,
/// until [`resolved`] finds it.
fn exchange_by_steps(one: &Path, other: &Path) -> Result<(), ToolError> {
    let moving = beside(other, MOVING);
    fs::rename(other, &moving).map_err(io_error("moving", other))?;
    if let Err(error) = fs::rename(one, other) {
        fs::rename(&moving, other).map_err(io_error("moving back", other))?;
        return Err(io_error("moving into place", other)(error).into());
    }
    fs::rename(&moving, one).map_err(io_error("moving", one))?;
    Ok(other.parent().map_or(Ok(()), sync_folder)?)
}

/// Waits until everything in the folder `root` is on the disk.
pub(super) fn sync_tree(root: &Path) -> Result<(), ToolError> {
    #[cfg(target_os = "linux")]
    {
        // One call for the whole file system, instead of one a file.
        let folder = fs::File::open(root).map_err(io_error("opening the folder", root))?;
        if rustix::fs::syncfs(&folder).is_ok() {
            return Ok(());
        }
    }
    for entry in fs::read_dir(root).map_err(io_error("reading the folder", root))? {
        let path = entry.map_err(io_error("reading the folder", root))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            fs::File::open(&path).and_then(|file| file.sync_all()).map_err(io_error("writing", &path))?;
        }
    }
    Ok(sync_folder(root)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_change_places_where_it_takes_steps() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        let make = |root: &Path| {
            fs::create_dir_all(root.join("meta")).unwrap();
            fs::write(root.join(INFO), root.to_string_lossy().as_bytes()).unwrap();
        };
        make(&one);
        make(&other);
        let said = |root: &Path| PathBuf::from(fs::read_to_string(root.join(INFO)).unwrap());
        exchange_by_steps(&one, &other).unwrap();
        assert_eq!((said(&one), said(&other)), (other.clone(), one.clone()));
        // Killed after the first step.
        fs::rename(&other, beside(&other, MOVING)).unwrap();
        assert_eq!(said(&resolved(&other).unwrap()), one);
        // The second fails.
        assert!(exchange_by_steps(&folder.path().join("none"), &other).is_err());
        assert_eq!(said(&other), one);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_can_t_be_replaced_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(why_not_in_place(Path::new("/proc")).unwrap().contains("mount point"));
        assert_eq!(why_not_in_place(folder.path()), None);
        fs::create_dir(folder.path().join("meta")).unwrap();
        std::os::unix::fs::symlink("../../blobs/1", folder.path().join(INFO)).unwrap();
        assert!(why_not_in_place(folder.path()).unwrap().contains("the Hub's cache"));
    }
}
