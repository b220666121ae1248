//! A dataset on disk as far as writing the next episode needs to know it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use arrow::array::ArrayRef;
use parquet::errors::ParquetError;
use serde_json::{Map, Value, json};

use crate::commit::{Change, Staging, io_error};
use crate::format::card;
use crate::format::columns::Columns;
use crate::format::feature::{DatasetSchema, Feature};
use crate::format::info::{is_linked, read_info};
use crate::format::input;
use crate::format::json::{pretty, pretty_stats, read_json, stats_line};
use crate::format::layout::{Version, dataset_stats};
use crate::format::marks::{self, Marks};
use crate::format::schema::{
    DATA, EPISODES, EPISODES_21, EPISODES_STATS_21, FileIndex, INFO, Info, LOG, RIG, STATS, TASKS, TASKS_21, TICKS, VERSION_21,
    data_path_21, same_names, video_path_21,
};
use crate::format::stats::FeatureStats;
use crate::format::table::{
    EpisodeRecord, VideoSpan, default_columns, episodes_file, image_column, numbered_tasks_file, rows_file, side_columns,
};
use crate::format::tasks::Tasks;
use crate::write::growing_table::{GrowingLines, GrowingTable};
use crate::write::options::{Layout, RecorderOptions};
use crate::{DepthRange, Rate, ReadError, RecordError, Totals};

/// The episodes table begins a new file after so many rows, since it is written anew each time.
const ROWS_PER_EPISODES_FILE: usize = 25;

pub(crate) struct Dataset {
    root: PathBuf,
    schema: DatasetSchema,
    state: State,
}

/// What an episode changes. A commit works on a copy, which becomes the state when it has succeeded.
#[derive(Clone)]
struct State {
    info: Info,
    tasks: Tasks,
    /// Over all episodes, in the order of the features, of those features of which it is known; empty before
    /// the first.
    stats: Vec<(String, FeatureStats)>,
    data: GrowingTable,
    side: GrowingTable,
    /// The rows of the last episodes file.
    records: Vec<EpisodeRecord>,
    /// Whether the episodes table says how episodes ended; `None` before the first.
    has_marks: Option<bool>,
    episodes_index: FileIndex,
    log: GrowingLines,
    lines_21: Lines21,
}

/// What version 2.1 has instead of tables.
#[derive(Clone)]
struct Lines21 {
    tasks: GrowingLines,
    episodes: GrowingLines,
    stats: GrowingLines,
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
            tasks: Tasks::default(),
            stats: Vec::new(),
            data: GrowingTable::new(DATA, FileIndex::default()),
            side: GrowingTable::new(TICKS, FileIndex::default()),
            records: Vec::new(),
            has_marks: None,
            episodes_index: FileIndex::default(),
            log: GrowingLines::new(LOG),
            lines_21: Lines21 {
                tasks: GrowingLines::new(TASKS_21),
                episodes: GrowingLines::new(EPISODES_21),
                stats: GrowingLines::new(EPISODES_STATS_21),
            },
        };
        Self { root: root.to_owned(), schema: schema.clone(), state }
    }

    /// What Sinew's own file says of the episodes, a JSON object a line; empty when there is none.
    pub(crate) fn log(&self) -> Result<String, ReadError> {
        let path = self.root.join(LOG);
        if path.exists() { input::read_text(&path) } else { Ok(String::new()) }
    }

    /// One that exists, to be appended to in new files.
    pub(crate) fn open(root: &Path, staging: &mut Staging, schema: &DatasetSchema, options: &RecorderOptions) -> Result<Self, RecordError> {
        staging.remember(&[INFO, STATS, TASKS, RIG, LOG, TASKS_21, EPISODES_21, EPISODES_STATS_21])?;
        let mut dataset = Self::create(root, schema, options);
        let state = &mut dataset.state;
        let found = info_to_append_to(root)?;
        if is_linked(root) {
            let what = format!("{} is made of links to other files, as in the Hub's cache; copy it to record into it", root.display());
            return Err(RecordError::Setup { what });
        }
        check_same(root, schema, &found, &state.info)?;
        check_rig(root, schema)?;
        let features: Vec<String> =
            state.info.features.iter().filter(|(_, feature)| feature["dtype"] != "string").map(|(name, _)| name.clone()).collect();
        state.info = found;
        state.log = GrowingLines::open(root, LOG)?;
        if state.info.codebase_version == VERSION_21 {
            let lines = |path| GrowingLines::open(root, path);
            state.lines_21 = Lines21 { tasks: lines(TASKS_21)?, episodes: lines(EPISODES_21)?, stats: lines(EPISODES_STATS_21)? };
            state.tasks = Tasks::read_lines(root)?;
            state.side.index = next_free(&root.join(TICKS), state.info.chunks_size)?;
            return Ok(dataset);
        }
        state.tasks = Tasks::read(root)?;
        if state.info.total_episodes > 0
            && let Some(stats) = dataset_stats(root)?
        {
            // What older versions of LeRobot knew: without quantiles, or not of every feature.
            let known = features.into_iter().filter_map(|name| Some((FeatureStats::from_json_in_part(stats.get(&name)?)?, name)));
            state.stats = known.map(|(stats, name)| (name, stats)).collect();
        }
        let chunks_size = state.info.chunks_size;
        state.data.index = next_free(&root.join(DATA), chunks_size)?;
        state.side.index = next_free(&root.join(TICKS), chunks_size)?;
        state.episodes_index = next_free(&root.join(EPISODES), chunks_size)?;
        state.has_marks = (state.info.total_episodes > 0).then(|| marks::has_columns(root));
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
            changes.push(staging.write(RIG, &pretty(&rig))?);
        }
        changes.push(staging.write(card::CARD, card::TEXT.as_bytes())?);
        changes.push(staging.write(INFO, &self.state.info.to_json())?);
        staging.commit(changes)?;
        staging.install()?;
        staging.settle()
    }

    /// Commits an episode, which must have a row; [`Staging::install`] has then to be called. On an
    /// error the dataset is as it was.
    pub(crate) fn append(&mut self, staging: &mut Staging, episode: FinishedEpisode, options: &RecorderOptions) -> Result<(), RecordError> {
        let mut state = self.state.clone();
        let length = episode.columns.rows();
        let (episode_index, first_index) = (state.info.total_episodes, state.info.total_frames);
        let sentences: Vec<u64> = episode.tasks.iter().map(|task| state.tasks.index_of(task)).collect();
        let tasks: Vec<u64> = episode.task_of_row.iter().map(|task| sentences[*task as usize]).collect();
        let stats = self.schema.ordered(episode.stats(state.info.fps, episode_index, first_index, &tasks));

        let mut changes = Vec::new();
        let rows = self.rows(&episode, (episode_index, first_index), &tasks)?;
        let chunks_size = state.info.chunks_size;
        let limits = (options.data_file_bytes, options.file_episodes.unwrap_or(u64::MAX), chunks_size);
        match self.layout() {
            Layout::V30 => {
                changes.push(state.data.append(&self.root, staging, rows, limits)?);
            }
            Layout::V21 => changes.push(staging.write(&data_path_21(episode_index, chunks_size), &rows)?),
        }
        if !self.schema.side.is_empty() {
            let mut columns = side_columns(episode_index, first_index, length);
            let arrays = episode.side.arrays().map_err(|source| self.parquet_error(TICKS, source.into()))?;
            columns.extend(arrays.into_iter().map(|(feature, array)| (feature.name.clone(), array, None)));
            let rows = rows_file(columns).map_err(|source| self.parquet_error(TICKS, source))?;
            changes.push(state.side.append(&self.root, staging, rows, limits)?);
        }
        let mut spans = Vec::new();
        for camera in episode.cameras {
            if let CameraPlace::Video { file, first_frame, changes: of_video } = camera.place {
                let seconds = |frame: u64| state.info.fps.seconds(frame);
                spans.push((camera.key, VideoSpan { file, from_s: seconds(first_frame), to_s: seconds(first_frame + length) }));
                // The videos first: frames that no table knows of do no harm.
                changes.splice(0..0, of_video);
            }
        }
        state.info.total_episodes += 1;
        state.info.total_frames += length;
        state.info.total_tasks = state.tasks.len() as u64;
        state.info.splits.insert("train".to_owned(), Value::String(format!("0:{}", state.info.total_episodes)));
        let marks = Marks::of_note(&episode.note);
        let has_marks = *state.has_marks.get_or_insert(marks.is_some());
        let mut note = Map::new();
        note.insert("episode_index".to_owned(), json!(episode_index));
        note.extend(episode.note);
        note.insert("frames".to_owned(), json!(length));
        changes.push(state.log.append(&self.root, staging, &line(&Value::Object(note)))?);
        let known = self.state.tasks.next_index();
        let new_tasks: Vec<(u64, &str)> = state.tasks.iter().filter(|(index, _)| *index >= known).collect();
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
                    marks: has_marks.then(|| marks.unwrap_or_default()),
                });
                let path = state.episodes_index.table_path(EPISODES);
                let table = episodes_file(&state.records, &keys, Vec::new()).map_err(|source| self.parquet_error(&path, source))?;
                changes.push(staging.write(&path, &table)?);
                if !new_tasks.is_empty() {
                    let tasks = numbered_tasks_file(state.tasks.iter()).map_err(|source| self.parquet_error(TASKS, source))?;
                    changes.push(staging.write(TASKS, &tasks)?);
                }
                state.merge_stats(stats);
                changes.push(staging.write(STATS, &pretty_stats(&state.stats_json()))?);
            }
            Layout::V21 => {
                let lines = new_tasks.iter().map(|(index, task)| line(&json!({"task_index": index, "task": task})));
                let (root, Lines21 { tasks, episodes, stats: of_episodes }) = (&self.root, &mut state.lines_21);
                if !new_tasks.is_empty() {
                    changes.push(tasks.append(root, staging, &lines.collect::<String>())?);
                }
                let entry = json!({"episode_index": episode_index, "tasks": episode.tasks, "length": length});
                changes.push(episodes.append(root, staging, &line(&entry))?);
                let stats: Map<String, Value> = stats.into_iter().map(|(name, stats)| (name, stats.to_json_21())).collect();
                let stats = stats_line(&json!({"episode_index": episode_index, "stats": stats}));
                changes.push(of_episodes.append(root, staging, &(stats + "\n"))?);
            }
        }
        // info.json comes last: until it is there, a reader sees the dataset as it was.
        changes.push(staging.write(INFO, &state.info.to_json())?);
        staging.commit(changes)?;
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
    fn stats(&self, fps: Rate, episode_index: u64, first_index: u64, tasks: &[u64]) -> Vec<(String, FeatureStats)> {
        let length = tasks.len() as u64;
        let mut stats = self.columns.stats();
        stats.extend(self.cameras.iter().filter_map(|camera| Some((camera.key.clone(), camera.stats.clone()?))));
        let column = |value: &dyn Fn(u64) -> f64| FeatureStats::of_f64(&(0..length).map(value).collect::<Vec<f64>>(), 1, length);
        stats.extend([
            ("timestamp".to_owned(), column(&|frame| fps.seconds(frame))),
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
    fn merge_stats(&mut self, episode: Vec<(String, FeatureStats)>) {
        if self.info.total_episodes == 1 {
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

/// A line of a file of JSON objects.
fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// What info.json of the dataset at `root` says, of either version that can be written.
fn info_to_append_to(root: &Path) -> Result<Info, ReadError> {
    match read_info(root)? {
        (Version::V21 | Version::V30, info) => Ok(info),
        (Version::V20, info) => Err(ReadError::Version { root: root.to_owned(), found: info.codebase_version }),
    }
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
    let path = |path: &Option<String>| path.as_ref().map_or_else(|| "not said".to_owned(), |path| format!("{path:?}"));
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
        let [theirs, ours] = [&there, &here].map(|features| features.get(name).map(same_names));
        if theirs != ours {
            let (found, expected) = feature_words(theirs.as_ref(), ours.as_ref());
            return Err(RecordError::Mismatch { root: root.to_owned(), what: format!("feature {name}"), found, expected });
        }
        if schema.pictures().iter().any(|picture| picture.key == *name && picture.is_depth()) {
            let codes = |info: &Info| info.features.get(name).map(DepthRange::in_words).unwrap_or_default();
            mismatch(&format!("the codes of feature {name}"), codes(found), codes(expected))?;
        }
    }
    Ok(())
}

/// Two features of one name that differ, each by what makes the difference: kind and shape, or the names of its channels.
fn feature_words(found: Option<&Value>, expected: Option<&Value>) -> (String, String) {
    let kind = |feature: &Value| {
        let shape: Vec<String> = feature["shape"].as_array().into_iter().flatten().map(ToString::to_string).collect();
        format!("{} of shape {}", feature["dtype"].as_str().unwrap_or("something"), shape.join("×"))
    };
    let names = |feature: &Value| format!("called {}", feature["names"]);
    match (found, expected) {
        (Some(found), Some(expected)) if kind(found) == kind(expected) => (names(found), names(expected)),
        (Some(found), Some(expected)) => (kind(found), kind(expected)),
        (Some(found), None) => (kind(found), "none of that name, as this recording has none".to_owned()),
        (None, Some(expected)) => ("missing".to_owned(), kind(expected)),
        (None, None) => Default::default(),
    }
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
    let info = info_to_append_to(root)?;
    let features: Vec<Feature> = info.own_features().map_err(|name| ReadError::Invalid {
        path: root.join(INFO),
        what: format!("feature {name} is of a kind that can't be recorded"),
    })?;
    let layout = if info.codebase_version == VERSION_21 { Layout::V21 } else { Layout::V30 };
    Ok((DatasetSchema { robot_type: info.robot_type, fps: info.fps, ..DatasetSchema::new(1, features) }, layout))
}
