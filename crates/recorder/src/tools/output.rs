//! A result is built beside its place, checked, and then put there at once.

use std::fs;
use std::path::{Path, PathBuf};

use super::ToolError;
use super::plan::PlannedResult;
use crate::commit::{FOLDER, Staging, create_folder, io_error};
use crate::progress::Progress;
use crate::tools::verify::verify_with;

/// Where a tool's result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the place of the dataset itself, which is kept until the next such operation: [`undo`]
    /// brings it back.
    InPlace,
    /// To a folder that is empty or does not exist; several results go to folders in it.
    Folder(PathBuf),
}

/// The folder beside `root` with `what` in its name.
fn beside(root: &Path, what: &str) -> PathBuf {
    let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    root.with_file_name(format!(".{name}.{what}"))
}

/// A folder without links and dots, so that its name and its parent can be told.
fn resolved(root: &Path) -> Result<PathBuf, ToolError> {
    Ok(fs::canonicalize(root).map_err(io_error("opening the folder", root))?)
}

/// A folder beside a dataset that is removed when this goes out of scope, unless it was moved.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, empty, with `what` in its name.
    pub(crate) fn beside(root: &Path, what: &str) -> Result<Self, ToolError> {
        let path = beside(&resolved(root)?, what);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io_error("removing", &path))?;
        }
        create_folder(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.exists() {
            fs::remove_dir_all(&self.0)
                .unwrap_or_else(|error| tracing::warn!(path = %self.0.display(), %error, "an unfinished result stays"));
        }
    }
}

/// Makes all of `results`, checks that each is a whole dataset, and puts them at `target` at once: each
/// in the folder of its name.
pub(super) fn build_folder(target: &Path, results: &[PlannedResult], progress: &mut Progress<'_>) -> Result<(), ToolError> {
    if let Some(entry) = fs::read_dir(target).ok().and_then(|mut entries| entries.next()) {
        let found = entry.map_or_else(|error| error.to_string(), |entry| entry.file_name().to_string_lossy().into_owned());
        return Err(ToolError::NotEmpty { root: target.to_owned(), found });
    }
    let is_new = !target.exists();
    create_folder(target)?;
    let target = resolved(target)?;
    let built = build(&target, results, progress).and_then(|building| {
        // An empty folder is replaced.
        Ok(fs::rename(&building.0, &target).map_err(io_error("moving into place", &target))?)
    });
    built.inspect_err(|_| {
        if is_new {
            // Empty, and gone if something else took its place.
            let _ = fs::remove_dir(&target);
        }
    })
}

/// Keeps everybody else from recording into the dataset; an episode that waits to be recovered is not
/// to be lost either.
fn held(root: &Path) -> Result<Staging, ToolError> {
    let (staging, _) = Staging::open(root)?;
    match crate::unfinished(root)? {
        None => Ok(staging),
        Some(_) => Err(ToolError::Plan {
            what: format!("change {} in place", root.display()),
            why: "it has an unfinished episode; recover or discard it first".to_owned(),
        }),
    }
}

/// Makes `result`, checks it, and exchanges it with the dataset at `root`.
pub(super) fn build_in_place(root: &Path, result: &PlannedResult, progress: &mut Progress<'_>) -> Result<(), ToolError> {
    let root = resolved(root)?;
    let staging = held(&root)?;
    let building = build(&root, std::slice::from_ref(result), progress)?;
    let undo = beside(&root, "undo");
    if undo.exists() {
        fs::remove_dir_all(&undo).map_err(io_error("removing", &undo))?;
    }
    fs::rename(&building.0, &undo).map_err(io_error("moving", &undo))?;
    swap(&undo, &root, staging)
}

/// Makes `results` beside `target` and checks them.
fn build(target: &Path, results: &[PlannedResult], progress: &mut Progress<'_>) -> Result<Scratch, ToolError> {
    let building = Scratch::beside(target, "building")?;
    for result in results {
        let folder = result.folder_in(&building.0);
        create_folder(&folder)?;
        result.assembly.write(&folder, progress)?;
        let scratch = folder.join(".scratch");
        if scratch.exists() {
            fs::remove_dir_all(&scratch).map_err(io_error("removing", &scratch))?;
        }
        let faults = verify_with(&folder, false, progress)?;
        if !faults.is_empty() {
            return Err(ToolError::Unsound { root: result.folder_in(target), faults });
        }
    }
    Ok(building)
}

/// Brings back what was in `root` before the last operation in place; doing it twice changes nothing.
///
/// # Errors
/// When there is nothing to bring back, someone is recording into it, or the disk refuses.
pub fn undo(root: &Path) -> Result<(), ToolError> {
    let root = resolved(root)?;
    let undo = beside(&root, "undo");
    if !undo.join(crate::format::schema::INFO).exists() {
        return Err(ToolError::Plan {
            what: format!("undo the last operation on {}", root.display()),
            why: "there is none to undo".to_owned(),
        });
    }
    let staging = held(&root)?;
    swap(&undo, &root, staging)
}

/// Exchanges the folder `undo` and the dataset `root`, on which `held` is the lock; the lock's folder,
/// which goes with what was in `root`, is removed.
fn swap(undo: &Path, root: &Path, held: Staging) -> Result<(), ToolError> {
    exchange(undo, root)?;
    drop(held);
    let lock = undo.join(FOLDER);
    if lock.exists() {
        fs::remove_dir_all(&lock).map_err(io_error("removing", &lock))?;
    }
    Ok(())
}

/// Exchanges two folders: at any instant, both names stand for one of them, whole.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn exchange(one: &Path, other: &Path) -> Result<(), ToolError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // The file system cannot.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => exchange_by_steps(one, other),
        Err(error) => Err(io_error("exchanging", other)(error.into()).into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn exchange(one: &Path, other: &Path) -> Result<(), ToolError> {
    exchange_by_steps(one, other)
}

/// The same where the file system cannot do it at once: killed in between, what was at `other` is
/// beside it under a name that ends in `.moving`.
fn exchange_by_steps(one: &Path, other: &Path) -> Result<(), ToolError> {
    let moving = beside(other, "moving");
    fs::rename(other, &moving).map_err(io_error("moving", other))?;
    if let Err(error) = fs::rename(one, other) {
        fs::rename(&moving, other).map_err(io_error("moving back", other))?;
        return Err(io_error("moving into place", other)(error).into());
    }
    Ok(fs::rename(&moving, one).map_err(io_error("moving", one))?)
}
