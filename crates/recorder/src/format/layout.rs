//! Where each version of the format keeps what.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::template::fill;
use crate::ReadError;

use crate::format::arrays::{floats, integers, lists_of_strings};
use crate::format::info::parquet_files;
use crate::format::json::{read_json, read_lines};
use crate::format::parquet_read::read_parquet;
use crate::format::schema::{EPISODES, EPISODES_21, INFO, Info};
use crate::format::tasks::Tasks;

/// Versions of the format that can be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    #[serde(rename = "v2.0")]
    V20,
    #[serde(rename = "v2.1")]
    V21,
    #[serde(rename = "v3.0")]
    V30,
}

impl Version {
    /// Of info.json's `codebase_version`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::V20, Self::V21, Self::V30].into_iter().find(|version| version.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V20 => "v2.0",
            Self::V21 => "v2.1",
            Self::V30 => "v3.0",
        }
    }

    pub(crate) fn layout(self) -> &'static dyn Layout {
        match self {
            Self::V20 | Self::V21 => &OneFileAnEpisode,
            Self::V30 => &SharedFiles,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An episode and where its parts are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Episode {
    pub episode_index: u64,
    /// Frames.
    pub length: u64,
    pub tasks: Vec<String>,
    /// The dataset's rows before it: the `index` of its first row.
    pub first_index: u64,
    /// The table of its rows, relative to the dataset.
    pub data_path: String,
    /// Rows of that file before the episode's.
    pub rows_before: u64,
    /// One a feature with videos, in the order of the features.
    pub videos: Vec<EpisodeVideoSpan>,
}

/// Where the images of one camera in one episode are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpisodeVideoSpan {
    /// The feature.
    pub key: String,
    /// Relative to the dataset.
    pub path: String,
    /// When the first frame is shown, in the file's time.
    pub from_s: f64,
    /// When the last frame ends.
    pub to_s: f64,
}

/// What differs between the versions.
pub(crate) trait Layout: Sync {
    /// None where there is no such table.
    fn tasks(&self, root: &Path) -> Result<Tasks, ReadError>;

    /// In `episode_index` order, as many as the tables have.
    fn episodes(&self, root: &Path, info: &Info) -> Result<Vec<Episode>, ReadError>;
}

pub(crate) fn video_keys(info: &Info) -> impl Iterator<Item = &str> {
    info.features.iter().filter(|(_, feature)| feature["dtype"] == "video").map(|(key, _)| key.as_str())
}

fn invalid(path: &Path, what: String) -> ReadError {
    ReadError::Invalid { path: path.to_owned(), what }
}

fn filled(root: &Path, template: &str, numbers: &[(&str, u64)], key: Option<&str>) -> Result<String, ReadError> {
    fill(template, numbers, key).map_err(|what| invalid(&root.join(INFO), what))
}

/// v3.0: several episodes a file, tables in parquet.
struct SharedFiles;

impl Layout for SharedFiles {
    fn tasks(&self, root: &Path) -> Result<Tasks, ReadError> {
        Tasks::read(root)
    }

    fn episodes(&self, root: &Path, info: &Info) -> Result<Vec<Episode>, ReadError> {
        let keys: Vec<&str> = video_keys(info).collect();
        let video_path = info.video_path.as_deref();
        let of_video =
            |key: &str| ["chunk_index", "file_index", "from_timestamp", "to_timestamp"].map(|what| format!("videos/{key}/{what}"));
        let plain = ["episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index", "dataset_to_index", "tasks"];
        let names: Vec<String> = plain.iter().map(|name| (*name).to_owned()).chain(keys.iter().flat_map(|key| of_video(key))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut episodes: Vec<Episode> = Vec::new();
        if info.total_episodes == 0 && !root.join(EPISODES).exists() {
            return Ok(episodes);
        }
        // The first row of each data file, where its episodes begin to count.
        let mut first_rows: BTreeMap<String, u64> = BTreeMap::new();
        for path in parquet_files(&root.join(EPISODES))? {
            for batch in read_parquet(&path, &names)? {
                let missing = |name: &str| invalid(&path, format!("there is no usable column {name}"));
                let integer = |name: &str| integers(&batch, name).ok_or_else(|| missing(name));
                let seconds = |name: &str| floats(&batch, name).ok_or_else(|| missing(name));
                let [index, chunk, file, from, to] =
                    [integer(plain[0])?, integer(plain[2])?, integer(plain[3])?, integer(plain[4])?, integer(plain[5])?];
                // LeRobot can do without the length.
                let length = match batch.column_by_name(plain[1]) {
                    Some(_) => integer(plain[1])?,
                    None => from.iter().zip(&to).map(|(from, to)| to.wrapping_sub(*from)).collect(),
                };
                let tasks = batch.column_by_name("tasks").and_then(lists_of_strings);
                let mut spans = Vec::new();
                for key in &keys {
                    let [chunk, file, begin, end] = of_video(key);
                    spans.push((*key, integer(&chunk)?, integer(&file)?, seconds(&begin)?, seconds(&end)?));
                }
                for row in 0..batch.num_rows() {
                    if to[row].checked_sub(from[row]) != Some(length[row]) {
                        let what =
                            format!("episode {} has rows {} to {}, but its length is {}", index[row], from[row], to[row], length[row]);
                        return Err(invalid(&path, what));
                    }
                    let numbers = [("chunk_index", chunk[row]), ("file_index", file[row])];
                    let data_path = filled(root, &info.data_path, &numbers, None)?;
                    let first = first_rows.entry(data_path.clone()).or_insert(from[row]);
                    let rows_before = from[row].checked_sub(*first);
                    let rows_before = rows_before
                        .ok_or_else(|| invalid(&path, format!("episode {} begins before one that is listed earlier", index[row])))?;
                    let mut videos = Vec::new();
                    for (key, chunk, file, begin, end) in &spans {
                        let template = video_path
                            .ok_or_else(|| invalid(&root.join(INFO), "there is no video_path, but a video feature".to_owned()))?;
                        let path = filled(root, template, &[("chunk_index", chunk[row]), ("file_index", file[row])], Some(key))?;
                        videos.push(EpisodeVideoSpan { key: (*key).to_owned(), path, from_s: begin[row], to_s: end[row] });
                    }
                    let tasks = tasks.as_ref().map(|tasks| tasks[row].clone()).unwrap_or_default();
                    episodes.push(Episode {
                        episode_index: index[row],
                        length: length[row],
                        tasks,
                        first_index: from[row],
                        data_path,
                        rows_before,
                        videos,
                    });
                }
            }
        }
        Ok(episodes)
    }
}

/// v2.0 and v2.1: a file an episode, tables in lines of JSON.
struct OneFileAnEpisode;

impl Layout for OneFileAnEpisode {
    fn tasks(&self, root: &Path) -> Result<Tasks, ReadError> {
        Tasks::read_lines(root)
    }

    fn episodes(&self, root: &Path, info: &Info) -> Result<Vec<Episode>, ReadError> {
        #[derive(Deserialize)]
        struct Line {
            episode_index: u64,
            length: u64,
            #[serde(default)]
            tasks: Vec<String>,
        }
        let path = root.join(EPISODES_21);
        if info.total_episodes == 0 && !path.exists() {
            return Ok(Vec::new());
        }
        let mut lines: Vec<Line> = read_lines(&path)?;
        lines.sort_by_key(|line| line.episode_index);
        let mut first_index = 0u64;
        let mut episodes = Vec::new();
        for Line { episode_index, length, tasks } in lines {
            let numbers = [("episode_chunk", episode_index / info.chunks_size), ("episode_index", episode_index)];
            let mut videos = Vec::new();
            for key in video_keys(info) {
                let template = info.video_path.as_deref();
                let template =
                    template.ok_or_else(|| invalid(&root.join(INFO), "there is no video_path, but a video feature".to_owned()))?;
                let path = filled(root, template, &numbers, Some(key))?;
                videos.push(EpisodeVideoSpan { key: key.to_owned(), path, from_s: 0.0, to_s: info.fps.seconds(length) });
            }
            let data_path = filled(root, &info.data_path, &numbers, None)?;
            episodes.push(Episode { episode_index, length, tasks, first_index, data_path, rows_before: 0, videos });
            let next = first_index.checked_add(length);
            first_index = next.ok_or_else(|| invalid(&path, format!("the length of episode {episode_index} is {length}")))?;
        }
        Ok(episodes)
    }
}

/// The statistics of the whole dataset by feature; `None` when there is no such file.
pub(crate) fn dataset_stats(root: &Path) -> Result<Option<Map<String, Value>>, ReadError> {
    let path = root.join(crate::format::schema::STATS);
    if !path.exists() {
        return Ok(None);
    }
    match read_json(&path)? {
        Value::Object(stats) => Ok(Some(stats)),
        _ => Err(invalid(&path, "it holds no object".to_owned())),
    }
}
