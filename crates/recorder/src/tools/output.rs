//! A result is built beside its place, checked, and then put there at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::ToolError;
use super::exchange::{beside, is_mount_point, resolved, sync_tree, why_not_in_place};
use super::keep::{Sharing, free_bytes};
use super::plan::PlannedResult;
use super::space::{Space, needed_bytes as needed_by};
use super::state::Origin;
use super::undo::replace;
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
    if is_mount_point(target) {
        let why = "it is a mount point, which can't be replaced; name a folder in it".to_owned();
        return Err(ToolError::Plan { what: format!("write to {}", target.display()), why });
    }
    let origins: BTreeMap<&Path, &Origin> =
        results.iter().flat_map(|result| &result.assembly.sources).map(|origin| (origin.root(), origin)).collect();
    let must_be_unchanged = || origins.values().try_for_each(|origin| origin.must_be_unchanged());
    must_be_unchanged()?;
    let is_new = !target.exists();
    create_folder(target)?;
    let target = resolved(target)?;
    let built = build(&target, results, false, progress).and_then(|building| {
        // Half of it may be of another dataset.
        must_be_unchanged()?;
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
pub(super) fn held(root: &Path) -> Result<Staging, ToolError> {
    let refused = |why: &str| ToolError::Plan { what: format!("change {} in place", root.display()), why: why.to_owned() };
    if let Some(why) = why_not_in_place(root) {
        return Err(refused(why));
    }
    let (staging, _) = Staging::open(root)?;
    match crate::unfinished(root)? {
        None => Ok(staging),
        Some(_) => Err(refused("it has an unfinished episode; recover or discard it first")),
    }
}

/// Makes `result`, checks it, and exchanges it with the dataset that it is made of.
pub(super) fn build_in_place(operation: &str, result: &PlannedResult, progress: &mut Progress<'_>) -> Result<(), ToolError> {
    let origin = &result.assembly.sources[0];
    let root = resolved(origin.root())?;
    let held = held(&root)?;
    // Nobody else writes to it from here on, but it took a while until here.
    origin.must_be_unchanged()?;
    let building = build(&root, std::slice::from_ref(result), true, progress)?;
    sync_tree(building.path())?;
    replace(&root, building.path(), operation, held)
}

/// Makes `results` beside `target` and checks them.
fn build(target: &Path, results: &[PlannedResult], in_place: bool, progress: &mut Progress<'_>) -> Result<Scratch, ToolError> {
    let building = Scratch::beside(target, "building")?;
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
        let folder = result.folder_in(&building.0);
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
    Ok(building)
}
