//! A dataset on disk as far as writing the next episode needs to know it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::ArrayRef;
use parquet::errors::ParquetError;
use serde_json::{Map, Value, json};

use crate::format::card;
use crate::format::columns::Columns;
use crate::format::feature::{DatasetSchema, Feature};
use crate::format::info::{read_json, read_stats, read_tasks};
use crate::format::schema::{
    DATA, EPISODES, FileIndex, INFO, Info, RIG, STATS, TASKS, TICKS, VERSION_21, data_path_21, pretty, video_path_21,
};
use crate::format::stats::FeatureStats;
use crate::format::table::{EpisodeRecord, VideoSpan, default_columns, episodes_file, image_column, rows_file, side_columns, tasks_file};
use crate::write::files::{Change, Staging, io_error};
use crate::write::growing_table::GrowingTable;
use crate::write::options::{Layout, RecorderOptions};
use crate::{ReadError, RecordError, Totals};

const LOG: &str = "meta/sinew_episodes.jsonl";
const EPISODES_21: &str = "meta/episodes.jsonl";
const STATS_21: &str = "meta/episodes_stats.jsonl";
const TASKS_21: &str = "meta/tasks.jsonl";
/// The episodes table begins a new file after so many rows, since it is written anew each time.
const ROWS_PER_EPISODES_FILE: usize = 100;

pub(crate) struct Dataset {
    root: PathBuf,
    schema: DatasetSchema,
    state: State,
}

/// What an episode changes. A commit works on a copy, which becomes the state when it has succeeded.
#[derive(Clone)]
struct State {
    info: Info,
    tasks: Vec<String>,
    /// Over all episodes, in the order of the features; empty before the first.
    stats: Vec<(String, FeatureStats)>,
    data: GrowingTable,
    side: GrowingTable,
    /// The rows of the last episodes file.
    records: Vec<EpisodeRecord>,
    episodes_index: FileIndex,
    /// The contents of files of lines that only grow.
    lines: BTreeMap<&'static str, String>,
}

/// An episode whose videos are on the disk.
pub(crate) struct FinishedEpisode {
    pub(crate) columns: Columns,
    pub(crate) side: Columns,
    /// Sentences in the order in which they came up, and for each row its sentence.
    pub(crate) tasks: Vec<String>,
    pub(crate) task_of_row: Vec<u32>,
    /// In the order of the cameras.
    pub(crate) cameras: Vec<FinishedCamera>,
    /// What Sinew's own file says of the episode.
    pub(crate) note: Map<String, Value>,
}

pub(crate) struct FinishedCamera {
    pub(crate) key: String,
    pub(crate) stats: Option<FeatureStats>,
    pub(crate) place: CameraPlace,
}

pub(crate) enum CameraPlace {
    /// The file's index, the number of the first frame in it, and what commits it.
    Video { file: FileIndex, first_frame: u64, changes: Vec<Change> },
    /// Still images one after another in a file.
    Stills { path: PathBuf, sizes: Vec<u32> },
}

impl Dataset {
    /// An empty one; nothing is written.
    pub(crate) fn create(root: &Path, schema: &DatasetSchema, options: &RecorderOptions) -> Self {
        let state = State {
            info: Info::new(schema, options),
            tasks: Vec::new(),
            stats: Vec::new(),
            data: GrowingTable::new(DATA, FileIndex::default()),
            side: GrowingTable::new(TICKS, FileIndex::default()),
            records: Vec::new(),
            episodes_index: FileIndex::default(),
            lines: BTreeMap::new(),
        };
        Self { root: root.to_owned(), schema: schema.clone(), state }
    }

    /// What Sinew's own file says of the episodes, a JSON object a line.
    pub(crate) fn log(&self) -> &str {
        self.state.lines.get(LOG).map_or("", String::as_str)
    }

    /// One that exists, to be appended to in new files.
    pub(crate) fn open(root: &Path, schema: &DatasetSchema, options: &RecorderOptions) -> Result<Self, RecordError> {
        let mut dataset = Self::create(root, schema, options);
        let state = &mut dataset.state;
        let found = read_any_info(root)?;
        check_same(root, schema, &found, &state.info)?;
        check_rig(root, schema)?;
        let features: Vec<String> =
            state.info.features.iter().filter(|(_, feature)| feature["dtype"] != "string").map(|(name, _)| name.clone()).collect();
        state.info = found;
        for name in [LOG, EPISODES_21, STATS_21, TASKS_21] {
            let path = root.join(name);
            if path.exists() {
                state.lines.insert(name, fs::read_to_string(&path).map_err(|source| ReadError::Io { path, source })?);
            }
        }
        if state.info.codebase_version == VERSION_21 {
            state.tasks = tasks_21(root, state.lines.get(TASKS_21).map_or("", String::as_str))?;
            state.side.index = next_free(&root.join(TICKS), state.info.chunks_size)?;
            return Ok(dataset);
        }
        state.tasks = if state.info.total_tasks > 0 { read_tasks(root)? } else { Vec::new() };
        if state.info.total_episodes > 0 {
            state.stats = read_stats(root, &features)?;
        }
        let chunks_size = state.info.chunks_size;
        state.data.index = next_free(&root.join(DATA), chunks_size)?;
        state.side.index = next_free(&root.join(TICKS), chunks_size)?;
        state.episodes_index = next_free(&root.join(EPISODES), chunks_size)?;
        Ok(dataset)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn layout(&self) -> Layout {
        if self.state.info.codebase_version == VERSION_21 { Layout::V21 } else { Layout::V30 }
    }

    pub(crate) fn chunks_size(&self) -> u64 {
        self.state.info.chunks_size
    }

    pub(crate) fn totals(&self) -> Totals {
        let Info { total_episodes, total_frames, total_tasks, .. } = self.state.info;
        Totals { episodes: total_episodes, frames: total_frames, tasks: total_tasks }
    }

    /// The index of the first video file of `key` that does not exist.
    pub(crate) fn next_video(&self, key: &str) -> Result<FileIndex, RecordError> {
        next_free(&self.root.join("videos").join(key), self.chunks_size())
    }

    /// Where the video of the camera `key` goes that has `file` as its index.
    pub(crate) fn video_path(&self, key: &str, file: FileIndex) -> String {
        match self.layout() {
            Layout::V30 => file.video_path(key),
            Layout::V21 => video_path_21(key, self.totals().episodes, self.chunks_size()),
        }
    }

    /// Commits the dataset as it is without an episode.
    pub(crate) fn commit_empty(&self, staging: &mut Staging) -> Result<(), RecordError> {
        let rig = json!({"version": 1, "rig": self.schema.rig});
        let mut changes = Vec::new();
        if !self.schema.rig.is_empty() {
            changes.push(Change::Write { path: RIG.to_owned(), bytes: pretty(&rig) });
        }
        changes.push(Change::Write { path: card::CARD.to_owned(), bytes: card::TEXT.into() });
        changes.push(Change::Write { path: INFO.to_owned(), bytes: self.state.info.to_json() });
        staging.commit(&changes)?;
        staging.install()?;
        staging.settle()
    }

    /// Commits an episode, which must have a row; [`Staging::install`] has then to be called. On an
    /// error the dataset is as it was.
    pub(crate) fn append(&mut self, staging: &mut Staging, episode: FinishedEpisode, options: &RecorderOptions) -> Result<(), RecordError> {
        let mut state = self.state.clone();
        let length = episode.columns.rows();
        let (episode_index, first_index) = (state.info.total_episodes, state.info.total_frames);
        let sentences: Vec<u64> = episode.tasks.iter().map(|task| state.task_index(task)).collect();
        let tasks: Vec<u64> = episode.task_of_row.iter().map(|task| sentences[*task as usize]).collect();
        let stats = self.schema.ordered(episode.stats(state.info.fps, episode_index, first_index, &tasks));

        let mut changes = Vec::new();
        let rows = self.rows(&episode, (episode_index, first_index), &tasks)?;
        let chunks_size = state.info.chunks_size;
        match self.layout() {
            Layout::V30 => {
                changes.push(state.data.append(&self.root, staging, rows, (options.data_file_bytes, chunks_size))?);
            }
            Layout::V21 => changes.push(Change::Write { path: data_path_21(episode_index, chunks_size), bytes: rows }),
        }
        if !self.schema.side.is_empty() {
            let mut columns = side_columns(episode_index, first_index, length);
            let arrays = episode.side.arrays().map_err(|source| self.parquet_error(TICKS, source.into()))?;
            columns.extend(arrays.into_iter().map(|(feature, array)| (feature.name.clone(), array, None)));
            let rows = rows_file(columns).map_err(|source| self.parquet_error(TICKS, source))?;
            changes.push(state.side.append(&self.root, staging, rows, (options.data_file_bytes, chunks_size))?);
        }
        let mut spans = Vec::new();
        for camera in episode.cameras {
            if let CameraPlace::Video { file, first_frame, changes: of_video } = camera.place {
                let seconds = |frame: u64| frame as f64 / f64::from(state.info.fps);
                spans.push((camera.key, VideoSpan { file, from_s: seconds(first_frame), to_s: seconds(first_frame + length) }));
                // The videos first: frames that no table knows of do no harm.
                changes.splice(0..0, of_video);
            }
        }
        state.info.total_episodes += 1;
        state.info.total_frames += length;
        state.info.total_tasks = state.tasks.len() as u64;
        state.info.splits.insert("train".to_owned(), Value::String(format!("0:{}", state.info.total_episodes)));
        let mut note = Map::new();
        note.insert("episode_index".to_owned(), json!(episode_index));
        note.extend(episode.note);
        note.insert("frames".to_owned(), json!(length));
        state.line(LOG, &Value::Object(note));
        match self.layout() {
            Layout::V30 => {
                if state.records.len() == ROWS_PER_EPISODES_FILE {
                    state.records.clear();
                    state.episodes_index = state.episodes_index.next(chunks_size);
                }
                let (keys, videos) = spans.into_iter().unzip::<_, _, Vec<String>, _>();
                state.records.push(EpisodeRecord {
                    episode_index,
                    tasks: episode.tasks,
                    length,
                    data_file: state.data.index,
                    first_index,
                    videos,
                    stats: stats.clone(),
                    episodes_file: state.episodes_index,
                });
                state.merge_stats(stats);
                let path = state.episodes_index.table_path(EPISODES);
                let table = episodes_file(&state.records, &keys).map_err(|source| self.parquet_error(&path, source))?;
                let tasks = tasks_file(&state.tasks).map_err(|source| self.parquet_error(TASKS, source))?;
                changes.push(Change::Write { path, bytes: table });
                changes.push(Change::Write { path: TASKS.to_owned(), bytes: tasks });
                changes.push(Change::Write { path: STATS.to_owned(), bytes: pretty(&state.stats_json()) });
            }
            Layout::V21 => {
                let known = state.lines.get(TASKS_21).map_or(0, |lines| lines.lines().count());
                for (index, task) in state.tasks.clone().iter().enumerate().skip(known) {
                    state.line(TASKS_21, &json!({"task_index": index, "task": task}));
                }
                state.line(EPISODES_21, &json!({"episode_index": episode_index, "tasks": episode.tasks, "length": length}));
                let stats: Map<String, Value> = stats.into_iter().map(|(name, stats)| (name, stats.to_json_21())).collect();
                state.line(STATS_21, &json!({"episode_index": episode_index, "stats": stats}));
            }
        }
        // info.json comes last: until it is there, a reader sees the dataset as it was.
        let lines = state.lines.iter().map(|(path, lines)| Change::Write { path: (*path).to_owned(), bytes: lines.clone().into_bytes() });
        changes.extend(lines);
        changes.push(Change::Write { path: INFO.to_owned(), bytes: state.info.to_json() });
        staging.commit(&changes)?;
        self.state = state;
        Ok(())
    }

    /// The episode's rows as a parquet file.
    fn rows(&self, episode: &FinishedEpisode, (episode_index, first_index): (u64, u64), tasks: &[u64]) -> Result<Vec<u8>, RecordError> {
        let failed = |source: ParquetError| self.parquet_error(DATA, source);
        let mut arrays: BTreeMap<&str, ArrayRef> = BTreeMap::new();
        for (feature, array) in episode.columns.arrays().map_err(|source| failed(source.into()))? {
            arrays.insert(&feature.name, array);
        }
        for camera in &episode.cameras {
            if let CameraPlace::Stills { path, sizes } = &camera.place {
                let images = read_stills(path, sizes)?;
                arrays.insert(&camera.key, image_column(&images).map_err(|source| failed(source.into()))?);
            }
        }
        let columns = self.schema.features.iter().filter_map(|feature| {
            let array = arrays.remove(feature.name.as_str())?;
            Some((feature.name.clone(), array, Some(feature.hugging_face())))
        });
        let mut columns: Vec<_> = columns.collect();
        columns.extend(default_columns(self.schema.fps, episode_index, first_index, tasks));
        rows_file(columns).map_err(failed)
    }

    fn parquet_error(&self, relative: &str, source: ParquetError) -> RecordError {
        RecordError::Parquet { doing: "writing", path: self.root.join(relative), source }
    }
}

impl FinishedEpisode {
    /// Of every feature that has some, LeRobot's own at the end.
    fn stats(&self, fps: u32, episode_index: u64, first_index: u64, tasks: &[u64]) -> Vec<(String, FeatureStats)> {
        let length = tasks.len() as u64;
        let mut stats = self.columns.stats();
        stats.extend(self.cameras.iter().filter_map(|camera| Some((camera.key.clone(), camera.stats.clone()?))));
        let column = |value: &dyn Fn(u64) -> f64| FeatureStats::of_f64(&(0..length).map(value).collect::<Vec<f64>>(), 1, length);
        stats.extend([
            ("timestamp".to_owned(), column(&|frame| frame as f64 / f64::from(fps))),
            ("frame_index".to_owned(), column(&|frame| frame as f64)),
            ("episode_index".to_owned(), column(&|_| episode_index as f64)),
            ("index".to_owned(), column(&|frame| (first_index + frame) as f64)),
            ("task_index".to_owned(), column(&|frame| tasks[frame as usize] as f64)),
        ]);
        stats
    }
}

impl DatasetSchema {
    /// `stats` in the order of the features.
    fn ordered(&self, mut stats: Vec<(String, FeatureStats)>) -> Vec<(String, FeatureStats)> {
        let place = |name: &str| self.features.iter().position(|feature| feature.name == name).unwrap_or(usize::MAX);
        stats.sort_by_key(|(name, _)| place(name));
        stats
    }
}

impl State {
    /// The index of a sentence, which may be a new one.
    fn task_index(&mut self, task: &str) -> u64 {
        let known = self.tasks.iter().position(|known| known == task);
        known.unwrap_or_else(|| {
            self.tasks.push(task.to_owned());
            self.tasks.len() - 1
        }) as u64
    }

    fn line(&mut self, file: &'static str, value: &Value) {
        let lines = self.lines.entry(file).or_default();
        lines.push_str(&value.to_string());
        lines.push('\n');
    }

    fn merge_stats(&mut self, episode: Vec<(String, FeatureStats)>) {
        if self.stats.is_empty() {
            self.stats = episode;
            return;
        }
        let mut episode: BTreeMap<String, FeatureStats> = episode.into_iter().collect();
        for (name, all) in &mut self.stats {
            if let Some(one) = episode.remove(name) {
                *all = all.merge(&one);
            }
        }
    }

    fn stats_json(&self) -> Map<String, Value> {
        self.stats.iter().map(|(feature, stats)| (feature.clone(), stats.to_json())).collect()
    }
}

/// What info.json of the dataset at `root` says, of either version that can be written.
pub(crate) fn read_any_info(root: &Path) -> Result<Info, ReadError> {
    let path = root.join(INFO);
    if !path.is_file() {
        return Err(ReadError::NotADataset { root: root.to_owned() });
    }
    let text = fs::read_to_string(&path).map_err(|source| ReadError::Io { path: path.clone(), source })?;
    let info: Info = serde_json::from_str(&text).map_err(|source| ReadError::Json { path: path.clone(), source })?;
    if ![crate::format::schema::VERSION, VERSION_21].contains(&info.codebase_version.as_str()) {
        return Err(ReadError::Version { root: root.to_owned(), found: info.codebase_version });
    }
    if info.fps == 0 || info.chunks_size == 0 {
        let what = format!("fps is {} and chunks_size {}, expected above 0", info.fps, info.chunks_size);
        return Err(ReadError::Invalid { path, what });
    }
    Ok(info)
}

/// Refuses to add to a dataset of another kind, and says in what it differs.
fn check_same(root: &Path, schema: &DatasetSchema, found: &Info, expected: &Info) -> Result<(), RecordError> {
    let mismatch = |what: &str, found: String, expected: String| {
        if found == expected {
            Ok(())
        } else {
            Err(RecordError::Mismatch { root: root.to_owned(), what: what.to_owned(), found, expected })
        }
    };
    let path = |path: &Option<String>| format!("{path:?}");
    mismatch("the format's version", found.codebase_version.clone(), expected.codebase_version.clone())?;
    mismatch("robot_type", path(&found.robot_type), path(&expected.robot_type))?;
    mismatch("fps", found.fps.to_string(), expected.fps.to_string())?;
    mismatch("data_path", found.data_path.clone(), expected.data_path.clone())?;
    // LeRobot names a path for videos even where there are none.
    if schema.pictures().iter().any(|picture| picture.is_video()) {
        mismatch("video_path", path(&found.video_path), path(&expected.video_path))?;
    }
    let own = found.own_features().map_err(|name| ReadError::Invalid {
        path: root.join(INFO),
        what: format!("feature {name} is of a kind that can't be recorded"),
    })?;
    let (there, here) = (DatasetSchema::shapes(&own), DatasetSchema::shapes(&schema.features));
    let names: std::collections::BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    for name in names {
        let shown =
            |features: &Map<String, Value>| features.get(name).map_or("missing".to_owned(), |feature| same_names(feature).to_string());
        mismatch(&format!("feature {name}"), shown(&there), shown(&here))?;
    }
    Ok(())
}

/// A camera's dimensions are called "channel" by some and "channels" by others.
fn same_names(feature: &Value) -> Value {
    let mut feature = feature.clone();
    if feature["names"][2] == "channel" {
        feature["names"][2] = json!("channels");
    }
    feature
}

fn check_rig(root: &Path, schema: &DatasetSchema) -> Result<(), RecordError> {
    let there = rig(root)?;
    for (what, expected) in &schema.rig {
        // What wasn't known of the episodes before can't be compared.
        if let Some(found) = there.get(what).and_then(Value::as_str).filter(|found| found != expected) {
            let (what, found, expected) = (what.clone(), found.to_owned(), expected.clone());
            return Err(RecordError::Mismatch { root: root.to_owned(), what, found, expected });
        }
    }
    Ok(())
}

/// With what the dataset at `root` was recorded, by name; empty where it does not say.
pub(crate) fn rig(root: &Path) -> Result<Map<String, Value>, ReadError> {
    let path = root.join(RIG);
    if !path.exists() {
        return Ok(Map::new());
    }
    match read_json(&path)?.get_mut("rig").map(Value::take) {
        Some(Value::Object(rig)) => Ok(rig),
        _ => Err(ReadError::Invalid { path, what: "there is no object \"rig\"".to_owned() }),
    }
}

fn tasks_21(root: &Path, lines: &str) -> Result<Vec<String>, ReadError> {
    let path = root.join(TASKS_21);
    let mut tasks = Vec::new();
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).map_err(|source| ReadError::Json { path: path.clone(), source })?;
        match (value["task_index"].as_u64(), value["task"].as_str()) {
            (Some(index), Some(task)) if index == tasks.len() as u64 => tasks.push(task.to_owned()),
            _ => return Err(ReadError::Invalid { path, what: format!("line {} is {line}", tasks.len()) }),
        }
    }
    Ok(tasks)
}

fn read_stills(path: &Path, sizes: &[u32]) -> Result<Vec<Vec<u8>>, RecordError> {
    let mut file = std::io::BufReader::new(fs::File::open(path).map_err(io_error("reading", path))?);
    let still = |size: &u32| {
        let mut bytes = vec![0; *size as usize];
        file.read_exact(&mut bytes).map_err(io_error("reading", path)).map(|()| bytes)
    };
    sizes.iter().map(still).collect()
}

/// The file index after the last one in `tree`.
fn next_free(tree: &Path, chunks_size: u64) -> Result<FileIndex, RecordError> {
    let mut last = None;
    for (chunk, folder) in numbered(tree, "chunk-")? {
        for (file, _) in numbered(&folder, "file-")? {
            last = last.max(Some(FileIndex { chunk, file }));
        }
    }
    Ok(last.map_or(FileIndex::default(), |last| last.next(chunks_size)))
}

/// The entries of `folder` called `prefix` and a number (and an extension).
fn numbered(folder: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, RecordError> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).map_err(io_error("reading the folder", folder))? {
        let path = entry.map_err(io_error("reading the folder", folder))?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(number) = stem.and_then(|stem| stem.strip_prefix(prefix)).and_then(|number| number.parse().ok()) {
            found.push((number, path));
        }
    }
    Ok(found)
}

/// The features of the dataset, as its writer was given them.
pub(crate) fn schema_of(root: &Path) -> Result<(DatasetSchema, Layout), RecordError> {
    let info = read_any_info(root)?;
    let features: Vec<Feature> = info.own_features().map_err(|name| ReadError::Invalid {
        path: root.join(INFO),
        what: format!("feature {name} is of a kind that can't be recorded"),
    })?;
    let layout = if info.codebase_version == VERSION_21 { Layout::V21 } else { Layout::V30 };
    Ok((DatasetSchema { robot_type: info.robot_type, ..DatasetSchema::new(info.fps, features) }, layout))
}
