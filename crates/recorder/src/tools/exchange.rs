//! Two folders that change places.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::ToolError;
use crate::commit::disk::{self, rename, sync_folder};
use crate::commit::{io_error, kept_for};
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
    let found = fs::canonicalize(root).map_err(|error| match error.kind() {
        ErrorKind::NotFound => io_error("opening the dataset", root)(std::io::Error::new(error.kind(), "there is no such folder")),
        _ => io_error("opening the folder", root)(error),
    });
    Ok(found?)
}

/// In the name of what is on its way.
pub(super) const MOVING: &str = "moving";

/// Why the dataset in the folder `root`, which is [`resolved`], can't be replaced by another, as far as that can be
/// told without trying; `None` where nothing speaks against it.
pub(super) fn why_not_in_place(root: &Path) -> Option<String> {
    let elsewhere = |why: &str| Some(format!("{why}; name another folder for the result (--out)"));
    let Some(parent) = root.parent().filter(|_| !is_mount_point(root)) else {
        return elsewhere("its folder is a mount point, which can't be renamed");
    };
    if is_linked(root) {
        return elsewhere("its files are links to others, as in the Hub's cache, which are not to be changed");
    }
    if let Some(mounted) = mount_point_below(root, 0) {
        return elsewhere(&format!("{} in it is a mount point, which would go with what is kept for undo", mounted.display()));
    }
    if let Some(dataset) = kept_for(root) {
        return Some(format!("it is what is kept to undo the last change of {}; change that", dataset.display()));
    }
    for folder in [parent, root] {
        match accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Err(Errno::ROFS) => return elsewhere("it is on a file system that is mounted read-only"),
            Err(Errno::ACCESS | Errno::PERM) => {
                return elsewhere(&format!("{} may not be written to by this user", folder.display()));
            }
            _ => {}
        }
    }
    let shares = fs::metadata(parent).and_then(|parent| Ok(keeps_others(&parent, &fs::metadata(root)?, geteuid().as_raw())));
    if shares.unwrap_or(false) {
        return elsewhere(&format!("it belongs to another user, and {} lets only owners rename (it is sticky)", parent.display()));
    }
    None
}

/// A folder in `folder` that is a mount point.
fn mount_point_below(folder: &Path, depth: usize) -> Option<PathBuf> {
    const DEEPEST: usize = 64;
    let entries = fs::read_dir(folder).ok()?.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path());
    let mut folders = folders.filter(|_| depth < DEEPEST);
    folders.find_map(|path| if is_mount_point(&path) { Some(path) } else { mount_point_below(&path, depth + 1) })
}

/// Whether `user` can't rename the folder `root` because the one that it is in is sticky, like `/tmp`.
fn keeps_others(parent: &fs::Metadata, root: &fs::Metadata, user: u32) -> bool {
    const STICKY: u32 = 0o1000;
    parent.mode() & STICKY != 0 && ![0, parent.uid(), root.uid()].contains(&user)
}

/// Refuses a dataset whose folder the file system can't move, before anything is built. `full` is a folder
/// beside it that is not empty.
#[cfg(target_os = "linux")]
pub(super) fn must_be_movable(root: &Path, full: &Path) -> Result<(), ToolError> {
    const OVERLAY: u64 = 0x794c_7630;
    if !rustix::fs::statfs(root).is_ok_and(|found| found.f_type as u64 == OVERLAY) {
        return Ok(());
    }
    // Nothing can take the place of a folder that is not empty; of a lower layer, another error comes before that.
    match fs::rename(root, full) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => Err(immovable(root)),
        Err(_) => Ok(()),
        Ok(()) => Ok(fs::rename(full, root).map_err(io_error("moving back", root))?),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn must_be_movable(_: &Path, _: &Path) -> Result<(), ToolError> {
    Ok(())
}

fn immovable(root: &Path) -> ToolError {
    let why = "its file system can't rename its folder (as overlayfs, in containers, can't for what is in a lower layer); name another folder for the result (--out)";
    ToolError::Plan { what: format!("change {} in place", root.display()), why: why.to_owned() }
}

/// Whether the folder `inner`, of which not all needs to exist, is `outer` or in it, by whatever names.
pub(super) fn is_within(inner: &Path, outer: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let Some(outer) = identity(outer) else { return false };
    let inner = std::path::absolute(inner).unwrap_or_else(|_| inner.to_owned());
    let existing = inner.ancestors().find_map(|path| fs::canonicalize(path).ok());
    existing.is_some_and(|existing| existing.ancestors().any(|path| identity(path) == Some(outer)))
}

/// Whether another file system, or another part of one, begins at `folder`.
#[cfg(target_os = "linux")]
pub(super) fn is_mount_point(folder: &Path) -> bool {
    use rustix::fs::{StatxAttributes, StatxFlags, statx};
    let of_folder = statx(CWD, folder, AtFlags::empty(), StatxFlags::BASIC_STATS);
    of_folder.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_mount_point(folder: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    folder.parent().is_none_or(|parent| device(parent) != device(folder))
}

/// Exchanges two folders beside each other: at any instant, both names stand for one of them, whole.
pub(super) fn exchange(one: &Path, other: &Path) -> Result<(), ToolError> {
    match disk::exchange(one, other) {
        Ok(true) => Ok(()),
        Ok(false) => exchange_by_steps(one, other),
        Err(error) if error.kind() == ErrorKind::CrossesDevices => Err(immovable(other)),
        Err(error) => Err(io_error("exchanging", other)(error).into()),
    }
}

/// The same where the file system cannot do it at once. Killed in between, what was at `other` is beside it,
/// until [`resolved`] or [`settle`](super::place::settle) finds it.
fn exchange_by_steps(one: &Path, other: &Path) -> Result<(), ToolError> {
    let moving = beside(other, MOVING);
    rename(other, &moving).map_err(io_error("moving", other))?;
    if let Err(error) = rename(one, other) {
        rename(&moving, other).map_err(io_error("moving back", other))?;
        return Err(io_error("moving into place", other)(error).into());
    }
    if let Err(error) = rename(&moving, one) {
        rename(other, one).and_then(|()| rename(&moving, other)).map_err(io_error("moving back", other))?;
        return Err(io_error("moving", one)(error).into());
    }
    Ok(())
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

    #[test]
    fn a_sticky_folder_keeps_what_belongs_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("dataset");
        fs::create_dir(&root).unwrap();
        let metadata = |path: &Path| fs::metadata(path).unwrap();
        let owner = metadata(&root).uid();
        assert!(!keeps_others(&metadata(folder.path()), &metadata(&root), owner + 1));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let keeps = |user| keeps_others(&metadata(folder.path()), &metadata(&root), user);
        assert!(keeps(owner + 1) && !keeps(owner) && !keeps(0));
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
