//! A result is built beside its place, checked, and then put there at once.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ToolError;
use super::exchange::{beside, is_mount_point, is_within, must_be_movable, resolved, sync_tree, why_not_in_place};
use super::keep::{Sharing, free_bytes};
use super::place::{BUILDING, replace, settle};
use super::plan::PlannedResult;
use super::space::{Space, needed_bytes as needed_by};
use super::state::Origin;
use crate::RecordError;
use crate::commit::{Staging, create_folder, io_error};
use crate::format::schema::INFO;
use crate::progress::Progress;
use crate::tools::verify::verify_with;

/// Where a tool's result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To the place of the dataset itself, which is kept until the next such operation: [`undo`](crate::undo)
    /// brings it back.
    InPlace,
    /// To a folder that is empty or does not exist; several results go to folders in it.
    Folder(PathBuf),
}

/// A folder beside a dataset that one process holds. It is removed when this goes out of scope, unless it was moved.
pub(crate) struct Scratch {
    path: PathBuf,
    held: Staging,
}

/// How often a folder is made that another process removes at the same time.
const TRIES: usize = 10;

impl Scratch {
    /// Makes it, empty, with `what` in its name.
    pub(crate) fn beside(root: &Path, what: &str) -> Result<Self, ToolError> {
        let path = beside(&resolved(root)?, what);
        let mut held = Self::hold(&path);
        for _ in 1..TRIES {
            match &held {
                Err(RecordError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => held = Self::hold(&path),
                _ => break,
            }
        }
        match held {
            Ok(held) => {
                // What a killed process left.
                held.empty()?;
                Ok(Self { path, held })
            }
            Err(RecordError::Busy { .. }) => {
                let why = format!("another process is doing so right now, in {}; nothing was changed", path.display());
                Err(ToolError::Plan { what: format!("write to {}", root.display()), why })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn hold(path: &Path) -> Result<Staging, RecordError> {
        create_folder(path)?;
        Ok(Staging::open(path)?.0)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Something else may have its name by now.
        if self.held.is_at(&self.path) {
            fs::remove_dir_all(&self.path)
                .unwrap_or_else(|error| tracing::warn!(path = %self.path.display(), %error, "an unfinished result stays"));
        }
    }
}

/// Refuses a folder for `results` that holds something, can't be replaced, or is in a source or around one.
pub(super) fn must_take(target: &Path, results: &[PlannedResult]) -> Result<(), ToolError> {
    let refused = |why: String| Err(ToolError::Plan { what: format!("write to {}", target.display()), why });
    for source in results.iter().flat_map(|result| &result.assembly.sources) {
        let root = source.root();
        if is_within(target, root) {
            return refused(format!("it is in the dataset {} itself; name a folder outside of it", root.display()));
        }
        if target.exists() && is_within(root, target) {
            return refused(format!("the dataset {} is in it; name another folder", root.display()));
        }
    }
    if let Some(entry) = fs::read_dir(target).ok().and_then(|mut entries| entries.next()) {
        let found = entry.map_or_else(|error| error.to_string(), |entry| entry.file_name().to_string_lossy().into_owned());
        return Err(ToolError::NotEmpty { root: target.to_owned(), found });
    }
    if is_mount_point(target) {
        return refused("it is a mount point, which can't be replaced; name a folder in it".to_owned());
    }
    Ok(())
}

/// Refuses a dataset that can't be changed in place.
pub(super) fn must_be_replaceable(root: &Path) -> Result<(), ToolError> {
    let what = || format!("change {} in place", root.display());
    why_not_in_place(root).map_or(Ok(()), |why| Err(ToolError::Plan { what: what(), why }))
}

/// Makes all of `results`, checks that each is a whole dataset, and puts them at `target` at once: each
/// in the folder of its name.
pub(super) fn build_folder(target: &Path, results: &[PlannedResult], progress: &mut Progress<'_>) -> Result<(), ToolError> {
    must_take(target, results)?;
    let origins: BTreeMap<&Path, &Origin> =
        results.iter().flat_map(|result| &result.assembly.sources).map(|origin| (origin.root(), origin)).collect();
    let must_be_unchanged = || origins.values().try_for_each(|origin| origin.must_be_unchanged());
    must_be_unchanged()?;
    let is_new = !target.exists();
    create_folder(target)?;
    let target = resolved(target)?;
    let built = Scratch::beside(&target, BUILDING).and_then(|building| {
        // Another process may have been done in the meantime.
        must_take(&target, results)?;
        build(&building, &target, results, false, progress)?;
        // Half of it may be of another dataset.
        must_be_unchanged()?;
        // An empty folder is replaced, and only that.
        Ok(fs::rename(&building.path, &target).map_err(io_error("moving into place", &target))?)
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
pub(super) fn held(root: &Path) -> Result<Staging, ToolError> {
    must_be_replaceable(root)?;
    let (staging, _) = Staging::open(root)?;
    match crate::unfinished(root)? {
        None => Ok(staging),
        Some(_) => {
            let why = "it has an unfinished episode; recover or discard it first".to_owned();
            Err(ToolError::Plan { what: format!("change {} in place", root.display()), why })
        }
    }
}

/// Makes `result`, checks it, and exchanges it with the dataset that it is made of.
pub(super) fn build_in_place(operation: &str, result: &PlannedResult, progress: &mut Progress<'_>) -> Result<(), ToolError> {
    let origin = &result.assembly.sources[0];
    let root = resolved(origin.root())?;
    let held = held(&root)?;
    settle(&root)?;
    // Nobody else writes to it from here on, but it took a while until here.
    origin.must_be_unchanged()?;
    let building = Scratch::beside(&root, BUILDING)?;
    must_be_movable(&root, building.path())?;
    // Nobody is to see more of it while it is built.
    let metadata = fs::metadata(&root).map_err(io_error("reading", &root))?;
    fs::set_permissions(building.path(), metadata.permissions()).map_err(io_error("changing the mode of", building.path()))?;
    build(&building, &root, std::slice::from_ref(result), true, progress)?;
    give_to_owner_of(&metadata, building.path()).map_err(io_error("changing the owner of", building.path()))?;
    sync_tree(building.path())?;
    // Who asks for no lock may have written.
    replace(&root, building.path(), operation, [&held, &building.held], &|| origin.must_be_unchanged())
}

/// Where root changes a dataset of somebody else's, it stays his.
#[cfg(unix)]
fn give_to_owner_of(owned: &fs::Metadata, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, lchown};
    let own = fs::symlink_metadata(path)?;
    if (own.uid(), own.gid()) == (owned.uid(), owned.gid()) || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    lchown(path, Some(owned.uid()), Some(owned.gid()))?;
    if own.is_dir() {
        fs::read_dir(path)?.try_for_each(|entry| give_to_owner_of(owned, &entry?.path()))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn give_to_owner_of(_: &fs::Metadata, _: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Makes `results`, which are for `target`, in the folder `building` and checks them.
fn build(
    building: &Scratch,
    target: &Path,
    results: &[PlannedResult],
    in_place: bool,
    progress: &mut Progress<'_>,
) -> Result<(), ToolError> {
    let sharing = |result: &PlannedResult| Sharing::tried(&result.assembly.sources[0].root().join(INFO), building.path(), in_place);
    let mut needed_bytes = 0;
    for result in results {
        needed_bytes += needed_by(&result.assembly, sharing(result))?;
    }
    let space = Space { needed_bytes, free_bytes: free_bytes(building.path()) };
    if !space.is_enough() {
        return Err(ToolError::Space { root: target.to_owned(), space });
    }
    for result in results {
        let folder = result.folder_in(&building.path);
        create_folder(&folder)?;
        result.assembly.write(&folder, sharing(result), progress)?;
        let scratch = folder.join(".scratch");
        if scratch.exists() {
            fs::remove_dir_all(&scratch).map_err(io_error("removing", &scratch))?;
        }
        let faults = verify_with(&folder, false, progress)?;
        if !faults.is_empty() {
            return Err(ToolError::Unsound { root: result.folder_in(target), faults });
        }
    }
    Ok(())
}
