//! Brings back what was in a dataset's place before the last change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ToolError;
use super::exchange::{beside, exchange, resolved};
use super::output::held;
use super::state::{Found, State, files_of};
use crate::commit::disk::sync_folder;
use crate::commit::{Staging, io_error, write_synced};
use crate::format::info::read_info;
use crate::format::json::{pretty, read_json};
use crate::format::schema::INFO;
use crate::{ReadError, RecordError};

/// In the name of the folder that was in the dataset's place.
pub(super) const KEPT: &str = "undo";
/// In the name of the file that says how both folders looked when they changed places.
const NOTE: &str = "undo.json";
/// In the name of a folder that is being removed.
const FORGOTTEN: &str = "forgotten";

/// How much a dataset holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    pub episodes: u64,
    pub frames: u64,
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: u64, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
        write!(f, "{}, {}", plural(self.episodes, "episode"), plural(self.frames, "frame"))
    }
}

impl Contents {
    fn of(root: &Path) -> Result<Self, ReadError> {
        let (_, info) = read_info(root)?;
        Ok(Self { episodes: info.total_episodes, frames: info.total_frames })
    }
}

/// One of two folders that change places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Side {
    contents: Contents,
    state: State,
}

impl Side {
    fn of(root: &Path) -> Result<Self, ReadError> {
        Ok(Self { contents: Contents::of(root)?, state: State::of(root)? })
    }
}

/// What is written down when folders change places. It is written before, so either side may be in
/// the dataset's place.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    version: u32,
    operation: String,
    sides: [Side; 2],
}

impl Note {
    fn read(root: &Path) -> Option<Self> {
        let note: Self = serde_json::from_value(read_json(&beside(root, NOTE)).ok()?).ok()?;
        (note.version == 1).then_some(note)
    }

    /// How the folder looked that changed places with one that looks like `state`.
    fn opposite(&self, state: &State) -> Option<&Side> {
        let [one, other] = &self.sides;
        if one.state == *state { Some(other) } else { (other.state == *state).then_some(one) }
    }
}

/// Puts the folder `new`, which is beside the dataset `root`, in its place; what was there is kept. Both
/// are held by locks, which go with them.
pub(super) fn replace(root: &Path, new: &Path, operation: &str, held: Staging) -> Result<(), ToolError> {
    let kept = beside(root, KEPT);
    // Somebody may have opened it while it was in the dataset's place. A result that is new, nobody has.
    let is_new = new != kept;
    let before = if is_new { None } else { Some(hold(&kept)?) };
    let note = Note { version: 1, operation: operation.to_owned(), sides: [Side::of(root)?, Side::of(new)?] };
    if is_new {
        remove(root)?;
    }
    let path = beside(root, NOTE);
    let draft = beside(root, "undo.new");
    write_synced(&draft, &pretty(&note))?;
    fs::rename(&draft, &path).map_err(io_error("writing", &path))?;
    if is_new {
        fs::rename(new, &kept).map_err(io_error("moving", &kept))?;
    }
    root.parent().map_or(Ok(()), sync_folder)?;
    let exchanged = before.map_or_else(|| hold(&kept).map_err(ToolError::from), Ok).and_then(|also_held| {
        exchange(&kept, root)?;
        Ok(also_held)
    });
    match exchanged {
        // Only now: whoever opens one of them from here on finds it where it stays.
        Ok(also_held) => {
            drop((held, also_held));
            Ok(())
        }
        Err(error) => {
            // What was not put in place is not what was there before.
            if is_new {
                remove(root)?;
            }
            Err(error)
        }
    }
}

/// Locks a folder that only tools write to.
fn hold(root: &Path) -> Result<Staging, RecordError> {
    Ok(Staging::open(root)?.0)
}

/// Removes what is kept for the dataset `root`.
fn remove(root: &Path) -> Result<(), ToolError> {
    let (kept, forgotten) = (beside(root, KEPT), beside(root, FORGOTTEN));
    // First what a process left that was killed here.
    for path in [&forgotten, &kept] {
        if path.exists() {
            if path == &kept {
                fs::rename(&kept, &forgotten).map_err(io_error("moving", &kept))?;
            }
            fs::remove_dir_all(&forgotten).map_err(io_error("removing", &forgotten))?;
        }
    }
    let note = beside(root, NOTE);
    if note.exists() { Ok(fs::remove_file(&note).map_err(io_error("removing", &note))?) } else { Ok(()) }
}

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
    let kept = beside(&root, KEPT);
    if !kept.join(INFO).exists() {
        return Err(ToolError::Plan {
            what: format!("undo the last operation on {}", root.display()),
            why: "there is none to undo".to_owned(),
        });
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
        let now = plan_undo(&self.root)?;
        if let Some(what) = now.newer().filter(|_| !lose_newer) {
            return Err(ToolError::Newer { root: self.root.clone(), what });
        }
        let what = self.states.iter().zip(&now.states).flat_map(|(then, now)| then.differences(now)).collect::<Vec<_>>();
        if !what.is_empty() {
            return Err(ToolError::Changed { root: self.root.clone(), what });
        }
        let operation = self.operation.as_deref().unwrap_or("the change before");
        let operation = operation.strip_prefix(UNDO).map_or_else(|| format!("{UNDO}{operation}"), str::to_owned);
        replace(&self.root, &beside(&self.root, KEPT), &operation, held)
    }
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
}

/// What is kept of the dataset in `root` since the last change in place; `None` when there is nothing.
///
/// # Errors
/// When it can't be read.
pub fn kept_for_undo(root: &Path) -> Result<Option<Kept>, ToolError> {
    let root = resolved(root)?;
    let folder = beside(&root, KEPT);
    if !folder.join(INFO).exists() {
        return Ok(None);
    }
    let (mut bytes, mut own_bytes) = (0, 0);
    let here = files_of(&root)?;
    let shared: std::collections::BTreeSet<_> = here.iter().filter_map(|found| identity(&found.metadata)).collect();
    for Found { metadata, .. } in files_of(&folder)? {
        bytes += metadata.len();
        let is_shared = identity(&metadata).is_some_and(|file| shared.contains(&file));
        own_bytes += if is_shared { 0 } else { metadata.len() };
    }
    let operation = Note::read(&root).map(|note| note.operation);
    Ok(Some(Kept { operation, contents: Contents::of(&folder)?, folder, bytes, own_bytes }))
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

/// Removes what is kept of the dataset in `root` for [`undo`], and says what it was.
///
/// # Errors
/// When there is nothing, someone is changing the dataset or recording into it, or the disk refuses.
pub fn forget_undo(root: &Path) -> Result<Kept, ToolError> {
    let root = resolved(root)?;
    let held = held(&root)?;
    let what = || format!("forget what is kept of {}", root.display());
    let kept = kept_for_undo(&root)?.ok_or_else(|| ToolError::Plan { what: what(), why: "there is nothing".to_owned() })?;
    remove(&root)?;
    drop(held);
    Ok(kept)
}
