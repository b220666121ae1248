//! Reads what a dataset says of itself.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::ReadError;
use crate::commit::FOLDER;
use crate::format::json::read_json;
use crate::format::layout::{Episode, Version};
use crate::format::marks::{Marks, marks};
use crate::format::rate::Rate;
use crate::format::schema::{INFO, Info, picture_size};
use crate::format::tasks::Tasks;

/// What `meta/info.json`, the tables and the folder say. Serialises with LeRobot's key names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetInfo {
    pub codebase_version: String,
    /// LeRobot's class name of the robot.
    pub robot_type: Option<String>,
    pub fps: Rate,
    pub total_episodes: u64,
    pub total_frames: u64,
    pub total_tasks: u64,
    /// In `task_index` order.
    pub tasks: Vec<String>,
    /// As info.json has them.
    pub features: Map<String, Value>,
    pub cameras: Vec<CameraInfo>,
    /// In `episode_index` order.
    pub episodes: Vec<EpisodeInfo>,
    /// All files of the folder.
    pub size_on_disk_bytes: u64,
    /// A recorder was killed here or is at work; [`recover`](crate::recover) completes what it left.
    pub unfinished: bool,
}

/// A camera of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CameraInfo {
    /// The feature, such as `observation.images.front`.
    pub key: String,
    pub width: u64,
    pub height: u64,
    /// `h264`, `av1` or `hevc`; `None` for images in parquet, or when info.json doesn't say.
    pub codec: Option<String>,
}

/// An episode of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpisodeInfo {
    pub episode_index: u64,
    /// Frames.
    pub length: u64,
    pub tasks: Vec<String>,
    /// Whether it was a success; `None` where that is not known.
    pub success: Option<bool>,
    /// Why it was none, where it says so.
    pub reason: Option<String>,
}

impl DatasetInfo {
    /// Reads the dataset in the folder `root`, Sinew's or LeRobot's, and changes nothing.
    ///
    /// # Errors
    /// When it is no LeRobotDataset of version 2.0, 2.1 or 3.0, or a table can't be read or contradicts info.json.
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        let Tables { info, tasks, episodes, .. } = read_tables(root)?;
        let mut known = marks(root)?;
        let episodes = episodes.into_iter().map(|episode| {
            let Marks { success, reason } = known.remove(&episode.episode_index).unwrap_or_default();
            EpisodeInfo { episode_index: episode.episode_index, length: episode.length, tasks: episode.tasks, success, reason }
        });
        let cameras = info.features.iter().filter_map(|(key, feature)| camera(key, feature)).collect();
        Ok(Self {
            codebase_version: info.codebase_version,
            robot_type: info.robot_type,
            fps: info.fps,
            total_episodes: info.total_episodes,
            total_frames: info.total_frames,
            total_tasks: info.total_tasks,
            tasks: tasks.into_words(),
            features: info.features,
            cameras,
            episodes: episodes.collect(),
            size_on_disk_bytes: size_of(root, 0)?,
            unfinished: root.join(FOLDER).exists(),
        })
    }
}

fn camera(key: &str, feature: &Value) -> Option<CameraInfo> {
    if !matches!(feature["dtype"].as_str(), Some("video" | "image")) {
        return None;
    }
    let (width, height) = picture_size(feature)?;
    let codec = feature["info"]["video.codec"].as_str().or(feature["video_info"]["video.codec"].as_str());
    Some(CameraInfo { key: key.to_owned(), height, width, codec: codec.map(str::to_owned) })
}

fn size_of(folder: &Path, depth: usize) -> Result<u64, ReadError> {
    let failed = |source| ReadError::Io { path: folder.to_owned(), source };
    let mut size = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        // A dataset is five folders deep. Links to folders are not followed; of files, which the Hub's cache
        // links to, the size is theirs.
        let of_file = || fs::metadata(entry.path()).ok().filter(|metadata| metadata.is_file()).map_or(0, |metadata| metadata.len());
        size += if metadata.is_dir() && depth < 8 { size_of(&entry.path(), depth + 1)? } else { of_file() };
    }
    Ok(size)
}

/// What the tables of a dataset say.
pub(crate) struct Tables {
    pub(crate) version: Version,
    pub(crate) info: Info,
    pub(crate) tasks: Tasks,
    /// In `episode_index` order, each beginning where the one before ends.
    pub(crate) episodes: Vec<Episode>,
}

/// The tables of the dataset at `root`, whose episodes agree with info.json.
///
/// # Errors
/// When one can't be read, or they contradict each other.
pub(crate) fn read_tables(root: &Path) -> Result<Tables, ReadError> {
    let (version, info) = read_info(root)?;
    let layout = version.layout();
    let tasks = layout.tasks(root)?;
    let mut episodes = layout.episodes(root, &info)?;
    let invalid = |what: String| Err(ReadError::Invalid { path: root.join(INFO), what });
    if (episodes.len() as u64) < info.total_episodes {
        return invalid(format!("total_episodes is {}, but the episodes table has {} rows", info.total_episodes, episodes.len()));
    }
    // A reader may come between a commit and its last rename; the tables are then ahead.
    episodes.truncate(info.total_episodes as usize);
    let mut next = 0;
    for (at, episode) in episodes.iter().enumerate() {
        if episode.episode_index != at as u64 || episode.first_index != next {
            let (number, first) = (episode.episode_index, episode.first_index);
            return invalid(format!("row {at} of the episodes table is episode {number} from row {first}, expected {at} from {next}"));
        }
        next = next.saturating_add(episode.length);
    }
    if next != info.total_frames {
        return invalid(format!("total_frames is {}, but the episodes have {next} together", info.total_frames));
    }
    Ok(Tables { version, info, tasks, episodes })
}

/// info.json of any version. Whatever it says of sizes and numbers is within bounds that keep the
/// rest from overflowing.
pub(crate) fn read_info(root: &Path) -> Result<(Version, Info), ReadError> {
    let path = root.join(INFO);
    if !path.is_file() {
        return Err(ReadError::NotADataset { root: root.to_owned() });
    }
    let value = read_json(&path)?;
    let text = value["codebase_version"].as_str().unwrap_or("missing");
    let Some(version) = Version::parse(text) else {
        return Err(ReadError::Version { root: root.to_owned(), found: text.to_owned() });
    };
    let mut info: Info = serde_json::from_value(value).map_err(|source| ReadError::Json { path: path.clone(), source })?;
    // Of version 2; they follow from the rest.
    info.others.retain(|key, _| !matches!(key.as_str(), "total_videos" | "total_chunks"));
    let invalid = |what: String| Err(ReadError::Invalid { path: path.clone(), what });
    if info.chunks_size == 0 {
        return invalid(format!("chunks_size is {}, expected above 0", info.chunks_size));
    }
    let totals = [info.total_episodes, info.total_frames, info.total_tasks];
    if totals.iter().any(|total| *total > MOST_FRAMES) {
        return invalid(format!("the totals of episodes, frames and tasks are {totals:?}, expected at most {MOST_FRAMES}"));
    }
    if info.features.len() > MOST_FEATURES {
        return invalid(format!("there are {} features, expected at most {MOST_FEATURES}", info.features.len()));
    }
    for (name, feature) in &info.features {
        // LeRobot reads names with slashes, whose folders are in each other; they must not lead out.
        if name.contains(['\\', '\0']) || name.split('/').any(|part| part.is_empty() || part == ".." || part == ".") {
            return invalid(format!("the feature {name:?} has a name that makes no column or folder"));
        }
        let sizes = feature["shape"].as_array().map(|shape| shape.iter().map(|size| size.as_u64().unwrap_or(u64::MAX)));
        let values = sizes.and_then(|mut sizes| sizes.try_fold(1u64, u64::checked_mul));
        let most = if matches!(feature["dtype"].as_str(), Some("video" | "image")) { MOST_VALUES } else { MOST_NUMBERS };
        if values.is_none_or(|values| values > most) {
            let shape = &feature["shape"];
            return invalid(format!("the feature {name} has the shape {shape}, expected sizes of at most {most} values together"));
        }
    }
    Ok((version, info))
}

const MOST_FRAMES: u64 = 1 << 40;
const MOST_FEATURES: usize = 4096;
/// A picture of 8192x8192 in four channels.
const MOST_VALUES: u64 = 1 << 28;
/// Of a feature that is no picture: a map of depth in a table is smaller.
const MOST_NUMBERS: u64 = 1 << 20;

/// The parquet files one folder down, in the order in which LeRobot reads them.
pub(crate) fn parquet_files(tree: &Path) -> Result<Vec<std::path::PathBuf>, ReadError> {
    let list = |folder: &Path| -> Result<Vec<std::path::PathBuf>, ReadError> {
        let failed = |source| ReadError::Io { path: folder.to_owned(), source };
        let entries = fs::read_dir(folder).map_err(failed)?;
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
    };
    let mut files = Vec::new();
    for folder in list(tree)?.into_iter().filter(|path| path.is_dir()) {
        files.extend(list(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "parquet")));
    }
    files.sort();
    Ok(files)
}

/// Whether the dataset in the folder `root` is made of links, as those in the Hub's cache mostly are, or lies in it.
pub(crate) fn is_linked(root: &Path) -> bool {
    let full = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let name = hub_repository(&full).and_then(Path::file_name);
    name.is_some_and(|name| name.to_string_lossy().starts_with("datasets--"))
        || fs::symlink_metadata(root.join(INFO)).is_ok_and(|metadata| metadata.is_symlink())
}

/// The repository's folder in the Hub's cache for a dataset at `REPOSITORY/snapshots/REVISION`, without links; what
/// files there are links to lies in its `blobs`.
pub(crate) fn hub_repository(root: &Path) -> Option<&Path> {
    root.parent().filter(|parent| parent.ends_with("snapshots"))?.parent()
}
