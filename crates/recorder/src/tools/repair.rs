//! Makes a whole dataset of what can be read of a broken one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use super::ToolError;
use super::assembly::{Assembly, Part};
use super::columns::arrow_type;
use super::output::Scratch;
use super::pages::restore;
use super::plan::Plan;
use super::state::{Origin, State};
use crate::commit::is_pending;
use crate::format::arrays::integers;
use crate::format::info::{parquet_files, read_info};
use crate::format::layout::video_keys;
use crate::format::parquet_read::{footer, read_parquet};
use crate::format::schema::{DATA, Info};
use crate::format::tasks::Tasks;
use crate::media::mp4_read::{VideoIndex, read_video};
use crate::tools::verify::examine;
use crate::{DatasetReader, Episode, EpisodeVideoSpan, Progress, ReadError, Version};

/// What becomes of an episode whose video has fewer frames than it has rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShortVideo {
    /// It goes. Nobody can tell which frames are missing, and every image after the first missing one
    /// would belong to another row.
    #[default]
    DropEpisode,
    /// Its last rows go. Right when recording ended before the video did, wrong when frames were lost
    /// on the way.
    CutRows,
}

/// Rows of one episode in one file.
struct Run {
    path: PathBuf,
    episode: u64,
    length: u64,
    rows_before: u64,
    tasks: Vec<u64>,
}

/// Plans to mend the dataset of version 3.0 in `root`; `None` when [`examine`] finds no fault, and no warning
/// that anything would mend.
///
/// Rows are what counts: those of files without a footer are found by their pages, the episodes table
/// is made anew from them, episodes get their frames from the videos in order, and totals and
/// statistics are computed again. What could not be saved is among the plan's changes.
///
/// # Errors
/// When info.json can't be read, a commit is waiting to be completed by
/// [`recover`](crate::recover), no episode can be saved, or `progress` says stop.
pub fn plan_repair(root: &Path, short_video: ShortVideo, progress: &mut Progress<'_>) -> Result<Option<Plan>, ToolError> {
    let operation = "repair the dataset";
    let (version, info) = read_info(root)?;
    let state = State::of(root)?;
    let refused = |why: &str| ToolError::Plan { what: operation.to_owned(), why: why.to_owned() };
    if version != Version::V30 {
        return Err(refused("only version 3.0 is repaired"));
    }
    if is_pending(root) {
        return Err(refused("a commit is not yet in place; recover the dataset first"));
    }
    let mut changes: Vec<String> = match examine(root, false, progress) {
        Ok(report) => {
            let mended = report.warnings.iter().filter(|warning| warning.mend.is_some());
            let faults = report.faults.iter().map(|fault| format!("fault: {fault}"));
            let found = faults.chain(mended.map(|warning| format!("fault: {}: {}", warning.path.display(), warning.what)));
            found.take(10).collect()
        }
        Err(ToolError::Stopped) => return Err(ToolError::Stopped),
        Err(error) => vec![format!("fault: {error}")],
    };
    if changes.is_empty() {
        return Ok(None);
    }
    let scratch = Arc::new(Scratch::beside(root, "repairing")?);
    let mut runs = Vec::new();
    for path in parquet_files(&root.join(DATA)).unwrap_or_default() {
        runs.extend(runs_of(root, &path, &info, scratch.path(), &mut changes)?);
    }
    runs.sort_by_key(|run| run.episode);
    let tasks = tasks(root, &runs, &mut changes);
    let episodes = episodes(runs, &tasks);
    let videos = Videos::open(root, &info, &mut changes);
    let mut lost = 0;
    let (mut parts, mut kept) = (Vec::new(), Vec::new());
    let spans = known_spans(root, &info);
    let mut places = Places::default();
    for mut episode in episodes {
        let number = episode.episode_index;
        let found = places.place(&videos, &episode, spans.as_ref().and_then(|spans| spans.get(&number)));
        let frames = found.iter().map(|(_, frames)| *frames).min().unwrap_or(episode.length).min(episode.length);
        if frames < episode.length {
            if short_video == ShortVideo::DropEpisode || frames == 0 {
                changes.push(format!("episode {number} goes: its video has {frames} frames for {} rows", episode.length));
                lost += 1;
                continue;
            }
            changes.push(format!("episode {number} loses its last {} rows, of which its video has no frames", episode.length - frames));
        }
        episode.videos = found.into_iter().map(|(span, _)| span).collect();
        parts.push(Part { source: 0, episode: kept.len() as u64, frames });
        kept.push(episode);
    }
    if parts.is_empty() {
        return Err(refused("no episode can be saved"));
    }
    let mut first_index = 0;
    for episode in &mut kept {
        episode.first_index = first_index;
        first_index += episode.length;
    }
    let gone = info.total_episodes.saturating_sub(kept.len() as u64 + lost);
    if gone > 0 {
        changes.push(format!("{gone} episodes of info.json's {} have no rows and are lost", info.total_episodes));
    }
    let info = Info { total_episodes: kept.len() as u64, total_frames: first_index, total_tasks: tasks.len() as u64, ..info };
    let (features, first_tasks) = (info.features.clone(), tasks.words().to_vec());
    let reader = Origin::new(DatasetReader::assemble(root, version, info, tasks, kept), state);
    let assembly = Assembly { parts, features, first_tasks, recompute_images: true, ..Assembly::of_all(reader) };
    let mut plan = Plan::new(operation.to_owned(), changes, vec![(String::new(), assembly)])?;
    plan.scratch = Some(scratch);
    Ok(Some(plan))
}

/// The columns of rows as LeRobot writes them, and the values a row of each column without lists.
fn written_schema(info: &Info) -> Option<(Schema, Vec<u64>)> {
    let (mut fields, mut widths) = (Vec::new(), Vec::new());
    for (key, feature) in info.features.iter().filter(|(_, feature)| feature["dtype"] != "video") {
        let values: u64 = feature["shape"].as_array()?.iter().map(|size| size.as_u64().unwrap_or(1)).product();
        let kind = match feature["dtype"].as_str()? {
            "image" => {
                widths.push(1);
                let fields = vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)];
                DataType::Struct(fields.into())
            }
            _ => arrow_type(feature)?,
        };
        widths.push(if feature["dtype"] == "image" { 1 } else { values });
        fields.push(Field::new(key, kind, true));
    }
    Some((Schema::new(fields), widths))
}

/// The episodes in a file of rows.
fn runs_of(root: &Path, path: &Path, info: &Info, scratch: &Path, changes: &mut Vec<String>) -> Result<Vec<Run>, ToolError> {
    let relative = path.strip_prefix(root).unwrap_or(path).to_owned();
    let readable = footer(path).is_ok();
    let path = if readable {
        relative
    } else {
        let restored = scratch.join(relative.to_string_lossy().replace(['/', '\\'], "-"));
        let Some((schema, widths)) = written_schema(info) else {
            changes.push(format!("{} is lost: it has no footer, and info.json has features of unknown types", relative.display()));
            return Ok(Vec::new());
        };
        let rows = restore(path, &schema, &widths, &restored)?;
        if rows.is_empty() {
            changes.push(format!("{} is lost: it has no footer and no whole row group", relative.display()));
            return Ok(Vec::new());
        }
        changes.push(format!(
            "{} had no footer; {} rows in {} row groups are found by their pages",
            relative.display(),
            rows.iter().sum::<u64>(),
            rows.len()
        ));
        restored
    };
    let mut runs: Vec<Run> = Vec::new();
    let mut row = 0;
    for batch in read_parquet(&root.join(&path), &["episode_index", "frame_index", "task_index"])? {
        let column = |name: &str| integers(&batch, name);
        let (Some(episodes), Some(frames), Some(tasks)) = (column("episode_index"), column("frame_index"), column("task_index")) else {
            changes.push(format!("{} is lost: it has no usable episode_index, frame_index or task_index", path.display()));
            return Ok(Vec::new());
        };
        for ((episode, frame), task) in episodes.into_iter().zip(frames).zip(tasks) {
            match runs.last_mut().filter(|run| run.episode == episode && run.length == frame) {
                Some(run) => {
                    run.length += 1;
                    run.tasks.push(task);
                }
                None => runs.push(Run { path: path.clone(), episode, length: 1, rows_before: row, tasks: vec![task] }),
            }
            row += 1;
        }
    }
    // A run that does not begin with frame 0 is not an episode; nor is a second one of the same number.
    let mut whole: Vec<Run> = Vec::new();
    let reader = row_starts(root, &path)?;
    for run in runs {
        let is_new = whole.iter().all(|known| known.episode != run.episode);
        if is_new && reader.get(run.rows_before as usize) == Some(&0) {
            whole.push(run);
        } else {
            changes.push(format!("{} rows of {} are lost: they make no episode", run.length, path.display()));
        }
    }
    Ok(whole)
}

fn row_starts(root: &Path, path: &Path) -> Result<Vec<u64>, ReadError> {
    let mut frames = Vec::new();
    for batch in read_parquet(&root.join(path), &["frame_index"])? {
        frames.extend(integers(&batch, "frame_index").unwrap_or_default());
    }
    Ok(frames)
}

/// The tasks table, with words for those that rows have and it does not.
fn tasks(root: &Path, runs: &[Run], changes: &mut Vec<String>) -> Tasks {
    let known = Tasks::read(root).unwrap_or_else(|error| {
        changes.push(format!("the tasks table is lost: {error}"));
        Tasks::default()
    });
    let mut lost: Vec<u64> = runs.iter().flat_map(|run| &run.tasks).copied().filter(|task| known.get(*task).is_none()).collect();
    lost.sort_unstable();
    lost.dedup();
    if lost.is_empty() {
        return known;
    }
    changes.extend(lost.iter().take(10).map(|task| format!("the words of task {task} are lost")));
    let unknown = lost.into_iter().map(|task| (task, format!("unknown task {task}")));
    let mut all: Vec<(u64, String)> = known.iter().map(|(task, words)| (task, words.to_owned())).chain(unknown).collect();
    all.sort();
    all.into_iter().unzip::<_, _, Vec<_>, Vec<_>>().into()
}

fn episodes(runs: Vec<Run>, tasks: &Tasks) -> Vec<Episode> {
    let words = |run: &Run| {
        let mut words: Vec<String> = Vec::new();
        for task in run.tasks.iter().filter_map(|task| tasks.get(*task)) {
            if !words.iter().any(|known| known == task) {
                words.push(task.to_owned());
            }
        }
        words
    };
    let episodes = runs.into_iter().map(|run| Episode {
        episode_index: run.episode,
        length: run.length,
        tasks: words(&run),
        first_index: 0,
        data_path: run.path.to_string_lossy().into_owned(),
        rows_before: run.rows_before,
        videos: Vec::new(),
    });
    episodes.collect()
}

/// Where the episodes table says the videos of each episode are, if it can be read.
fn known_spans(root: &Path, info: &Info) -> Option<BTreeMap<u64, Vec<EpisodeVideoSpan>>> {
    let episodes = Version::V30.layout().episodes(root, info).ok()?;
    Some(episodes.into_iter().map(|episode| (episode.episode_index, episode.videos)).collect())
}

/// The video files of each camera, in order.
struct Videos {
    fps: f64,
    cameras: Vec<(String, Vec<(String, VideoIndex)>)>,
}

impl Videos {
    fn open(root: &Path, info: &Info, changes: &mut Vec<String>) -> Self {
        let mut cameras = Vec::new();
        for key in video_keys(info) {
            let mut files = Vec::new();
            for path in video_files(&root.join("videos").join(key)) {
                let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                match read_video(&path) {
                    Ok(index) => files.push((relative, index)),
                    Err(error) => changes.push(format!("{relative} is lost: {error}")),
                }
            }
            cameras.push((key.to_owned(), files));
        }
        Self { fps: f64::from(info.fps), cameras }
    }
}

/// The mp4 files one folder down, in order.
fn video_files(tree: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect()).unwrap_or_default()
    };
    let mut files: Vec<PathBuf> =
        list(tree).iter().flat_map(|chunk| list(chunk)).filter(|path| path.extension().is_some_and(|e| e == "mp4")).collect();
    files.sort();
    files
}

/// How far each camera's frames are given to episodes: the number of the file, and frames in it.
#[derive(Default)]
struct Places {
    next: BTreeMap<String, (usize, u64)>,
}

impl Places {
    /// Of each camera, where the episode's frames are and how many there are.
    fn place(&mut self, videos: &Videos, episode: &Episode, known: Option<&Vec<EpisodeVideoSpan>>) -> Vec<(EpisodeVideoSpan, u64)> {
        let place = |(key, files): &(String, Vec<(String, VideoIndex)>)| {
            let next = self.next.entry(key.clone()).or_default();
            let known = known.and_then(|spans| spans.iter().find(|span| span.key == *key));
            let known = known.and_then(|span| {
                let file = files.iter().position(|(path, _)| *path == span.path)?;
                let first = files[file].1.nearest(span.from_s)?;
                let begins = files[file].1.seconds(first).is_some_and(|found| (found - span.from_s).abs() < 0.5 / videos.fps);
                begins.then_some((file, first))
            });
            if let Some(place) = known {
                *next = place;
            }
            // An episode is never in two files: one that doesn't fit begins the next.
            let left = |(file, first): (usize, u64)| files.get(file).map_or(0, |(_, index)| index.frames().saturating_sub(first));
            if known.is_none() && left(*next) < episode.length && left((next.0 + 1, 0)) > 0 {
                *next = (next.0 + 1, 0);
            }
            let (file, first) = *next;
            let frames = left(*next).min(episode.length);
            next.1 += frames;
            let (path, from_s) = match files.get(file) {
                Some((path, index)) => (path.clone(), index.seconds(first).unwrap_or(0.0)),
                None => (String::new(), 0.0),
            };
            (EpisodeVideoSpan { key: key.clone(), path, from_s, to_s: from_s + frames as f64 / videos.fps }, frames)
        };
        videos.cameras.iter().map(place).collect()
    }
}
