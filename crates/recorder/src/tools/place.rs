//! A dataset's place, and what is kept of what was there before.
//!
//! What is to happen is written down beside the dataset, then two folders are exchanged, and that is the instant at
//! which it has happened. Only after it anything goes of what was kept until then. [`settle`] finds out how far a
//! killed process came, by what the folders look like, and does what was left to do.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ToolError;
use super::exchange::{MOVING, beside, exchange};
use super::state::State;
use crate::commit::disk::{remove_file, remove_folder, rename, sync_folder};
use crate::commit::{Staging, io_error, write_synced};
use crate::format::info::read_info;
use crate::format::json::{pretty, read_json};
use crate::format::schema::INFO;
use crate::{ReadError, RecordError};

/// In the name of the folder that was in the dataset's place.
pub(super) const KEPT: &str = "undo";
/// In the name of the folder that a result is built in.
pub(super) const BUILDING: &str = "building";
/// In the name of the file that says how both folders looked when they changed places.
const NOTE: &str = "undo.json";
/// In the name of the file that becomes the [`NOTE`] once folders have changed places, by which folder is to.
const DRAFTS: [(&str, &str); 2] = [(BUILDING, "building.json"), (KEPT, "undo.new")];
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
    pub(super) fn of(root: &Path) -> Result<Self, ReadError> {
        let (_, info) = read_info(root)?;
        Ok(Self { episodes: info.total_episodes, frames: info.total_frames })
    }
}

/// One of two folders that change places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Side {
    pub(super) contents: Contents,
    pub(super) state: State,
}

impl Side {
    pub(super) fn of(root: &Path) -> Result<Self, ReadError> {
        Ok(Self { contents: Contents::of(root)?, state: State::of(root)? })
    }
}

/// What is written down when folders change places: first the one that was in the dataset's place.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    version: u32,
    pub(super) operation: String,
    sides: [Side; 2],
}

impl Note {
    /// What is known of what is kept for the dataset `root`.
    pub(super) fn read(root: &Path) -> Option<Self> {
        Self::at(&beside(root, NOTE))
    }

    fn at(path: &Path) -> Option<Self> {
        let note: Self = serde_json::from_value(read_json(path).ok()?).ok()?;
        (note.version == 1).then_some(note)
    }

    /// How the folder looked that changed places with one that looks like `state`.
    pub(super) fn opposite(&self, state: &State) -> Option<&Side> {
        let [one, other] = &self.sides;
        if one.state == *state { Some(other) } else { (other.state == *state).then_some(one) }
    }

    /// Whether the exchange of the dataset `root` with `new` has happened. Whoever goes on with the dataset changes
    /// how it looks, but hardly what is beside it.
    fn has_happened(&self, root: &Path, new: &Path) -> bool {
        let looks = |folder: &Path, side: usize| State::of(folder).is_ok_and(|state| state == self.sides[side].state);
        let kept = beside(root, KEPT);
        looks(new, 0) || looks(&kept, 0) || (*new != kept && new.join(INFO).exists() && !looks(new, 1) && looks(root, 1))
    }
}

/// Puts the folder `new`, which is beside the dataset `root`, in its place; what was there is kept. Both
/// are held by locks, in this order, which go with them. `unchanged` is asked last before it happens.
///
/// # Errors
/// When `unchanged` refuses, another folder is at one of the names by now, or the disk refuses. Nothing has changed
/// then.
pub(super) fn replace(
    root: &Path,
    new: &Path,
    operation: &str,
    [held, also_held]: [&Staging; 2],
    unchanged: &dyn Fn() -> Result<(), ToolError>,
) -> Result<(), ToolError> {
    let moved = || {
        let why = "another folder has taken its name in the meantime; nothing was changed".to_owned();
        ToolError::Plan { what: format!("change {} in place", root.display()), why }
    };
    let are_at = |one: &Path, other: &Path| held.is_at(one) && also_held.is_at(other);
    if !are_at(root, new) {
        return Err(moved());
    }
    let draft = draft_for(root, new);
    let note = Note { version: 1, operation: operation.to_owned(), sides: [Side::of(root)?, Side::of(new)?] };
    let exchanged = write_synced(&draft, &pretty(&note)).map_err(ToolError::from).and_then(|()| {
        root.parent().map_or(Ok(()), sync_folder)?;
        unchanged()?;
        if !are_at(root, new) {
            return Err(moved());
        }
        exchange(new, root)?;
        if are_at(new, root) {
            return Ok(());
        }
        // Somebody was faster still: what was at the name gets it back.
        exchange(new, root)?;
        Err(moved())
    });
    let has_happened = are_at(new, root);
    let finished = match has_happened {
        true => finish(root, new, &draft),
        false if held.is_at(root) || also_held.is_at(new) => remove_if_there(&draft),
        // A disk that refuses even to move it back; the next operation sees what is where.
        false => Ok(()),
    };
    match (exchanged, finished) {
        (Err(error), _) if !has_happened => Err(error),
        (_, Ok(())) => Ok(()),
        (_, Err(error)) => {
            take_back(root, new, &draft)?;
            Err(error)
        }
    }
}

fn draft_for(root: &Path, new: &Path) -> PathBuf {
    let [(_, of_new), (_, of_kept)] = DRAFTS;
    beside(root, if new == beside(root, KEPT) { of_kept } else { of_new })
}

/// What is left to do once `new` and the dataset `root` have changed places.
fn finish(root: &Path, new: &Path, draft: &Path) -> Result<(), ToolError> {
    let [kept, forgotten, note] = [KEPT, FORGOTTEN, NOTE].map(|what| beside(root, what));
    if new != kept && new.exists() {
        if kept.exists() {
            remove_folder(&forgotten)?;
            rename(&kept, &forgotten).map_err(io_error("moving", &kept))?;
        }
        rename(new, &kept).map_err(io_error("moving", new))?;
    }
    rename(draft, &note).map_err(io_error("writing", &note))?;
    // It has happened: what can't be done now, the next operation does.
    let gone = root.parent().map_or(Ok(()), sync_folder).and_then(|()| remove_folder(&forgotten));
    gone.unwrap_or_else(|error| tracing::warn!(path = %forgotten.display(), %error, "what was kept before stays"));
    Ok(())
}

/// Undoes an exchange that could not be finished.
fn take_back(root: &Path, new: &Path, draft: &Path) -> Result<(), ToolError> {
    let [kept, forgotten] = [KEPT, FORGOTTEN].map(|what| beside(root, what));
    if *new != kept && !new.exists() {
        rename(&kept, new).map_err(io_error("moving", &kept))?;
    }
    exchange(new, root)?;
    if !kept.exists() && forgotten.exists() {
        rename(&forgotten, &kept).map_err(io_error("moving", &forgotten))?;
    }
    remove_if_there(draft)
}

fn remove_if_there(path: &Path) -> Result<(), ToolError> {
    if path.exists() { Ok(remove_file(path).map_err(io_error("removing", path))?) } else { Ok(()) }
}

/// Completes or forgets what a killed process left beside the dataset `root`, which is held.
pub(super) fn settle(root: &Path) -> Result<(), ToolError> {
    for (new, draft) in DRAFTS {
        let [new, draft, moving] = [new, draft, MOVING].map(|what| beside(root, what));
        if !draft.exists() {
            continue;
        }
        // Where an exchange takes steps, killed before the last.
        if !new.exists() && moving.join(INFO).exists() {
            rename(&moving, &new).map_err(io_error("moving", &moving))?;
        }
        if Note::at(&draft).is_some_and(|note| note.has_happened(root, &new)) {
            finish(root, &new, &draft)?;
        } else {
            remove_if_there(&draft)?;
        }
    }
    Ok(remove_folder(&beside(root, FORGOTTEN))?)
}

/// The same where somebody only looks; whoever is changing the dataset right now settles it himself.
pub(super) fn settle_if_free(root: &Path) -> Result<(), ToolError> {
    if ![DRAFTS[0].1, DRAFTS[1].1, FORGOTTEN].iter().any(|what| beside(root, what).exists()) {
        return Ok(());
    }
    match Staging::open(root) {
        Ok((held, _)) => {
            settle(root)?;
            drop(held);
            Ok(())
        }
        Err(RecordError::Busy { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes what is kept for the dataset `root`, which is held and settled.
pub(super) fn remove(root: &Path) -> Result<(), ToolError> {
    let [kept, forgotten] = [KEPT, FORGOTTEN].map(|what| beside(root, what));
    rename(&kept, &forgotten).map_err(io_error("moving", &kept))?;
    remove_folder(&forgotten)?;
    remove_if_there(&beside(root, NOTE))
}

/// Whether something is kept for the dataset `root`, and where.
pub(super) fn kept(root: &Path) -> Option<PathBuf> {
    Some(beside(root, KEPT)).filter(|kept| kept.join(INFO).exists())
}

/// Locks the folder that is kept for the dataset `root`. Somebody may have opened it while it was in its place.
pub(super) fn hold_kept(root: &Path) -> Result<(PathBuf, Staging), RecordError> {
    let kept = beside(root, KEPT);
    let (held, _) = Staging::open_any(&kept)?;
    Ok((kept, held))
}
