//! Brings back what was in a dataset's place before the last change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::ToolError;
use super::exchange::{resolved, why_not_in_place};
use super::output::held;
use super::place::{Contents, Note, Side, hold_kept, kept, remove, replace, settle, settle_if_free};
use super::state::{CACHE, Found, State, files_of};
use crate::commit::{create_folder, io_error, write_synced};

/// What undoing the last change in place would do, before anything is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UndoPlan {
    pub root: PathBuf,
    /// What was done, such as "delete 2 of 5 episodes"; `None` where that is not known.
    pub operation: Option<String>,
    pub brings_back: Contents,
    /// What is there now, which is then what is kept.
    pub takes_away: Contents,
    /// Episodes that were recorded since, first and behind the last, and their frames.
    pub newer_episodes: Option<(u64, u64)>,
    pub newer_frames: u64,
    /// What else was changed since, such as `README.md`.
    pub changed: Vec<String>,
    /// Whether it is known what was changed since.
    pub is_known: bool,
    #[serde(skip)]
    states: [State; 2],
}

/// Plans to bring back what was in `root` before the last change in place. Doing it twice changes nothing.
///
/// # Errors
/// When there is nothing to bring back, or a dataset can't be read.
pub fn plan_undo(root: &Path) -> Result<UndoPlan, ToolError> {
    let root = resolved(root)?;
    settle_if_free(&root)?;
    let refused = |why: String| ToolError::Plan { what: format!("undo the last operation on {}", root.display()), why };
    let kept = kept(&root).ok_or_else(|| refused("there is none to undo".to_owned()))?;
    if let Some(why) = why_not_in_place(&root) {
        return Err(refused(why));
    }
    let (here, back) = (Side::of(&root)?, Side::of(&kept)?);
    let note = Note::read(&root);
    let then = note.as_ref().and_then(|note| note.opposite(&back.state));
    let (mut newer_episodes, mut newer_frames, mut changed) = (None, 0, Vec::new());
    match then {
        Some(then) if then.state == here.state => {}
        Some(then) if then.contents.episodes < here.contents.episodes => {
            newer_episodes = Some((then.contents.episodes, here.contents.episodes));
            newer_frames = here.contents.frames.saturating_sub(then.contents.frames);
        }
        Some(then) => changed = then.state.differences(&here.state),
        None => {}
    }
    let is_known = then.is_some();
    Ok(UndoPlan {
        operation: note.map(|note| note.operation),
        brings_back: back.contents,
        takes_away: here.contents,
        newer_episodes,
        newer_frames,
        changed,
        is_known,
        states: [here.state, back.state],
        root,
    })
}

impl UndoPlan {
    /// What would be lost that was made since the last change; `None` where nothing would.
    pub fn newer(&self) -> Option<String> {
        let frames = self.newer_frames;
        if let Some((first, end)) = self.newer_episodes {
            return Some(match end - first {
                1 => format!("episode {first} ({frames} frames) was recorded since"),
                2 => format!("episodes {first} and {} ({frames} frames) were recorded since", first + 1),
                _ => format!("episodes {first} to {} ({frames} frames) were recorded since", end - 1),
            });
        }
        if !self.is_known {
            return Some("whether something was changed since is not known".to_owned());
        }
        (!self.changed.is_empty()).then(|| format!("something was changed since: {}", self.changed.join(", ")))
    }

    /// Does it. What was made since the last change goes only where `lose_newer` says so.
    ///
    /// # Errors
    /// When something is newer and may not go, a dataset has changed since this was planned, someone is
    /// recording into it, or the disk refuses.
    pub fn run(&self, lose_newer: bool) -> Result<(), ToolError> {
        let held = held(&self.root)?;
        settle(&self.root)?;
        let now = plan_undo(&self.root)?;
        if let Some(what) = now.newer().filter(|_| !lose_newer) {
            return Err(ToolError::Newer { root: self.root.clone(), what });
        }
        must_be_same(&self.root, &self.states, &now.states)?;
        let operation = self.operation.as_deref().unwrap_or("the change before");
        let operation = operation.strip_prefix(UNDO).map_or_else(|| format!("{UNDO}{operation}"), str::to_owned);
        let (kept, also_held) = hold_kept(&self.root)?;
        take_along(&self.root, &kept)?;
        let unchanged = || must_be_same(&self.root, &self.states, &[State::of(&self.root)?, State::of(&kept)?]);
        // Both are held until each is where it stays.
        replace(&self.root, &kept, &operation, [&held, &also_held], &unchanged)
    }
}

/// What was uploaded from the place was so whatever is in it: the notes stay there.
fn take_along(root: &Path, back: &Path) -> Result<(), ToolError> {
    let [from, to] = [root, back].map(|side| side.join(CACHE).join("sinew"));
    let names = match fs::read_dir(&from) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io_error("reading", &from))?,
    };
    create_folder(&to)?;
    for entry in names {
        let path = entry.map_err(io_error("reading", &from))?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
        let bytes = fs::read(&path).map_err(io_error("reading", &path))?;
        write_synced(&to.join(name), &bytes)?;
    }
    Ok(())
}

fn must_be_same(root: &Path, then: &[State], now: &[State]) -> Result<(), ToolError> {
    let what: Vec<_> = then.iter().zip(now).flat_map(|(then, now)| then.differences(now)).collect();
    if what.is_empty() { Ok(()) } else { Err(ToolError::Changed { root: root.to_owned(), what }) }
}

/// Before what was undone.
const UNDO: &str = "undo: ";

impl fmt::Display for UndoPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "undo the last change of {}", self.root.display())?;
        if let Some(operation) = &self.operation {
            writeln!(f, "  it was: {operation}")?;
        }
        writeln!(f, "  brings back {}", self.brings_back)?;
        writeln!(f, "  takes away  {}, which is then what is kept", self.takes_away)?;
        self.newer().map_or(Ok(()), |newer| writeln!(f, "  {newer}, and would go"))
    }
}

/// Brings back what was in `root` before the last change in place, unless something was made since;
/// doing it twice changes nothing.
///
/// # Errors
/// As [`plan_undo`] and [`UndoPlan::run`].
pub fn undo(root: &Path) -> Result<(), ToolError> {
    plan_undo(root)?.run(false)
}

/// What is kept of a dataset for [`undo`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Where it is.
    pub folder: PathBuf,
    /// What was done then; `None` where that is not known.
    pub operation: Option<String>,
    pub contents: Contents,
    /// Of all its files.
    pub bytes: u64,
    /// Of those that it does not share with the dataset: what [`forget_undo`] frees.
    pub own_bytes: u64,
    #[serde(skip)]
    root: PathBuf,
    #[serde(skip)]
    state: State,
}

impl Kept {
    /// Removes it, if it is still what this says.
    ///
    /// # Errors
    /// [`ToolError::Changed`] when something else is kept by now. When someone is changing the dataset or recording
    /// into it, or the disk refuses.
    pub fn forget(&self) -> Result<(), ToolError> {
        let held = held(&self.root)?;
        settle(&self.root)?;
        let now = kept_for_undo(&self.root)?;
        let mut what = self.state.differences(&now.as_ref().map(|now| now.state.clone()).unwrap_or_default());
        if now.is_some_and(|now| now.operation != self.operation) {
            what.push("what was done".to_owned());
        }
        if !what.is_empty() {
            return Err(ToolError::Changed { root: self.folder.clone(), what });
        }
        remove(&self.root)?;
        drop(held);
        Ok(())
    }
}

/// What is kept of the dataset in `root` since the last change in place; `None` when there is nothing.
///
/// # Errors
/// When it can't be read.
pub fn kept_for_undo(root: &Path) -> Result<Option<Kept>, ToolError> {
    let root = resolved(root)?;
    // Where nothing can be written, what is there is what is kept.
    settle_if_free(&root).unwrap_or_else(|error| tracing::debug!(%error, "what a killed process left stays"));
    let Some(folder) = kept(&root) else { return Ok(None) };
    let (mut bytes, mut own_bytes) = (0, 0);
    let here = files_of(&root)?;
    let shared: std::collections::BTreeSet<_> = here.iter().filter_map(|found| identity(&found.metadata)).collect();
    for Found { metadata, .. } in files_of(&folder)? {
        bytes += metadata.len();
        let is_shared = identity(&metadata).is_some_and(|file| shared.contains(&file));
        own_bytes += if is_shared { 0 } else { metadata.len() };
    }
    let operation = Note::read(&root).map(|note| note.operation);
    let Side { contents, state } = Side::of(&folder)?;
    Ok(Some(Kept { operation, contents, folder, bytes, own_bytes, root, state }))
}

/// What tells a file from every other of the machine.
#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> Option<(u64, u64)> {
    None
}

/// Removes what is kept of the dataset in `root` for [`undo`], whatever it is, and says what it was.
///
/// # Errors
/// When there is nothing, someone is changing the dataset or recording into it, or the disk refuses.
pub fn forget_undo(root: &Path) -> Result<Kept, ToolError> {
    let refused = || ToolError::Plan { what: format!("forget what is kept of {}", root.display()), why: "there is nothing".to_owned() };
    let kept = kept_for_undo(root)?.ok_or_else(refused)?;
    kept.forget()?;
    Ok(kept)
}
