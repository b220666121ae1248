//! Checks that the parts of a dataset agree.

mod rows;
mod statistics;
mod videos;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::commit::{COMMIT, FOLDER, is_pending};
use crate::format::schema::TASKS;
use crate::format::tasks::Tasks;
use crate::progress::{Progress, step};
use crate::{DatasetReader, ReadError, ToolError, Version};

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

/// Something in a dataset that LeRobot and Sinew do without or pass over, and that is better otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The file that it is about, relative to the dataset.
    pub path: PathBuf,
    pub what: String,
    pub mend: Option<Mend>,
}

/// What does away with a [`Warning`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mend {
    /// [`plan_stats`](crate::plan_stats), `sinew dataset stats`.
    Stats,
    /// [`plan_repair`](crate::plan_repair), `sinew dataset repair`.
    Repair,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)?;
        match self.mend {
            Some(Mend::Stats) => f.write_str("; `sinew dataset stats` computes them anew"),
            Some(Mend::Repair) => f.write_str("; `sinew dataset repair` mends it"),
            None => Ok(()),
        }
    }
}

/// LeRobot takes the words of task i from row i, whatever number stands there.
pub(super) const TASKS_OUT_OF_ORDER: &str =
    "its rows are not in the order of task_index; LeRobot 0.6.1 goes by the row and reads other words, until an edit puts them in order";

/// What was found in a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// None in a dataset that is whole.
    pub faults: Vec<Fault>,
    pub warnings: Vec<Warning>,
}

impl Report {
    pub(super) fn fault(&mut self, path: impl Into<PathBuf>, what: impl Into<String>) {
        self.faults.push(Fault { path: path.into(), what: what.into() });
    }

    pub(super) fn warn(&mut self, path: impl Into<PathBuf>, what: impl Into<String>, mend: impl Into<Option<Mend>>) {
        // What is the same in every episode is said once or twice.
        if self.warnings.len() < MOST_FAULTS {
            self.warnings.push(Warning { path: path.into(), what: what.into(), mend: mend.into() });
        }
    }

    /// Whether there are so many faults that more would tell nobody anything.
    fn is_enough(&self) -> bool {
        self.faults.len() > MOST_FAULTS
    }
}

/// Checks every row of the tables, every statistic of numbers and the index of every video of the
/// dataset in `root`. No picture is decoded. An empty answer is a good one; [`examine`] has warnings as well.
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

/// What can be known of the dataset in `root` without reading its rows: that each file is there and whole at its end, tables have a row
/// and videos a frame, at its time, for every row of their episodes.
///
/// # Errors
/// When it is no dataset or the tables in `meta` cannot be read at all.
pub fn verify_files(root: &Path) -> Result<Vec<Fault>, ReadError> {
    let reader = DatasetReader::open(root)?;
    let mut report = Report::default();
    rows::check_tables(&reader, &mut report)?;
    videos::check(&reader, is_pending(root), &mut report);
    Ok(report.faults)
}

/// The faults that [`examine`] finds.
///
/// # Errors
/// As [`examine`].
pub fn verify_with(root: &Path, deep: bool, progress: &mut Progress<'_>) -> Result<Vec<Fault>, ToolError> {
    Ok(examine(root, deep, progress)?.faults)
}

/// Like [`verify`], with warnings, and with `deep` decodes every image and holds their mean colours against
/// the statistics.
///
/// - Tables: numbering, times, lengths, tasks, and that every declared column is there with its type
///   and shape, and no other.
/// - Statistics: of each episode against its rows; of the dataset against those of its episodes. Of LeRobot's
///   own columns they are a warning, since its edits leave them as they were and nothing uses them.
/// - Videos: a frame for every row, at the row's time.
///
/// # Errors
/// When it is no dataset, its tables cannot be read at all, or `progress` stops it.
pub fn examine(root: &Path, deep: bool, progress: &mut Progress<'_>) -> Result<Report, ToolError> {
    let reader = DatasetReader::open(root)?;
    let mut report = Report::default();
    let pending = Path::new(FOLDER).join(COMMIT);
    let is_pending = is_pending(root);
    if is_pending {
        report.fault(pending, "a commit is not yet in place; recovering the dataset completes it");
    }
    if reader.episodes().is_empty() {
        return Ok(report);
    }
    rows::check_files(&reader, &mut report)?;
    if reader.version() == Version::V30 && !Tasks::is_in_order(root)? {
        report.warn(TASKS, TASKS_OUT_OF_ORDER, None);
    }
    let mut stored = reader.episode_stats()?;
    let total = reader.episodes().len() as u64;
    let mut sums = statistics::Sums::default();
    for episode in reader.episodes() {
        step(progress, "checking episodes", episode.episode_index, total)?;
        let of_episode = stored.as_mut().map_or(Ok(None), |all| all.of(episode.episode_index))?;
        let computed = rows::check_episode(&reader, episode, &mut report)?;
        statistics::check_episode(&reader, episode, &computed, of_episode.as_ref(), &mut report);
        sums.add(&computed, of_episode.as_ref());
        if report.is_enough() {
            return Ok(report);
        }
    }
    step(progress, "checking episodes", total, total)?;
    sums.check(&reader, &mut report)?;
    videos::check(&reader, is_pending, &mut report);
    if deep && report.faults.is_empty() {
        videos::decode_all(&reader, stored.as_mut(), &mut report, progress)?;
    }
    Ok(report)
}

/// Enough to see that it is broken.
const MOST_FAULTS: usize = 100;
