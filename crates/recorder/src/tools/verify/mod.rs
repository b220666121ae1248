//! Checks that the parts of a dataset agree.

mod rows;
mod statistics;
mod videos;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::progress::{Progress, step};
use crate::write::files::{COMMIT, FOLDER};
use crate::{DatasetReader, ReadError, ToolError};

pub(crate) use rows::of_feature;

/// Something in a dataset that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file at fault, relative to the dataset.
    pub path: PathBuf,
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// Checks every row of the tables, every statistic of numbers and the index of every video of the
/// dataset in `root`. No picture is decoded. An empty answer is a good one.
///
/// # Errors
/// When it is no dataset or its tables cannot be read at all.
pub fn verify(root: &Path) -> Result<Vec<Fault>, ReadError> {
    match verify_with(root, false, &mut |_| ControlFlow::Continue(())) {
        Ok(faults) => Ok(faults),
        Err(ToolError::Read(error)) => Err(error),
        // Nobody stops it, and nothing else can happen.
        Err(error) => Err(ReadError::Invalid { path: root.to_owned(), what: error.to_string() }),
    }
}

/// Like [`verify`], and with `deep` decodes every image and holds their mean colours against the
/// statistics.
///
/// - Tables: numbering, times, lengths, tasks, and that every declared column is there with its type,
///   shape and finite values, and no other.
/// - Statistics: of each episode against its rows; of the dataset against those of its episodes.
/// - Videos: every frame whole, at `frame / fps`, as many as there are rows, beginning at a key frame.
///
/// # Errors
/// When it is no dataset, its tables cannot be read at all, or `progress` stops it.
pub fn verify_with(root: &Path, deep: bool, progress: &mut Progress<'_>) -> Result<Vec<Fault>, ToolError> {
    let reader = DatasetReader::open(root)?;
    let mut faults = Vec::new();
    let pending = Path::new(FOLDER).join(COMMIT);
    let is_pending = root.join(&pending).exists();
    if is_pending {
        faults.push(Fault { path: pending, what: "a commit is not yet in place; recovering the dataset completes it".to_owned() });
    }
    if reader.episodes().is_empty() {
        return Ok(faults);
    }
    rows::check_files(&reader, &mut faults)?;
    let mut stored = reader.episode_stats()?;
    let total = reader.episodes().len() as u64;
    let mut sums = statistics::Sums::default();
    for episode in reader.episodes() {
        step(progress, "checking episodes", episode.episode_index, total)?;
        let of_episode = stored.as_mut().map_or(Ok(None), |all| all.of(episode.episode_index))?;
        let computed = rows::check_episode(&reader, episode, &mut faults)?;
        statistics::check_episode(&reader, episode, &computed, of_episode.as_ref(), &mut faults);
        sums.add(&computed, of_episode.as_ref());
        if faults.len() > MOST_FAULTS {
            return Ok(faults);
        }
    }
    step(progress, "checking episodes", total, total)?;
    sums.check(&reader, &mut faults)?;
    videos::check(&reader, is_pending, &mut faults);
    if deep && faults.is_empty() {
        videos::decode_all(&reader, stored.as_mut(), &mut faults, progress)?;
    }
    Ok(faults)
}

/// Enough to see that it is broken.
const MOST_FAULTS: usize = 100;
