//! A dataset on disk as far as writing the next episode needs to know it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sinew_core::RobotDescription;

use crate::files::{Staging, io_error};
use crate::info::{read_info, read_stats, read_tasks};
use crate::recorder::{EpisodeLog, Totals, camera_tracks};
use crate::schema::{ACTION, DATA, EPISODES, FileIndex, INFO, Info, STATE, STATS, TASKS, TICKS, pretty};
use crate::stats::FeatureStats;
use crate::table::{EpisodeRecord, EpisodeRows, VideoSpan, append_row_groups, data_file, episodes_file, tasks_file, ticks_file};
use crate::video::{EpisodeVideo, VideoFile};
use crate::{ReadError, RecordError};

const LOG: &str = "meta/sinew_episodes.jsonl";
/// The episodes table begins a new file after so many rows, since it is written anew each time.
const ROWS_PER_EPISODES_FILE: usize = 500;

#[derive(Clone, Copy, Debug)]
pub(crate) struct VideoSettings {
    pub(crate) fps: u32,
    pub(crate) quantizer: u8,
    pub(crate) keyframe_interval: u32,
}

pub(crate) struct Dataset {
    root: PathBuf,
    state: State,
}

/// What an episode changes. A commit works on a copy, which becomes the state when it has succeeded.
#[derive(Clone)]
struct State {
    info: Info,
    joints: usize,
    tasks: Vec<String>,
    /// Over all episodes, in the order of the features; empty before the first.
    stats: Vec<(String, FeatureStats)>,
    data: RowFiles,
    ticks: RowFiles,
    cameras: Vec<CameraTrack>,
    /// The rows of the last episodes file.
    records: Vec<EpisodeRecord>,
    episodes_index: FileIndex,
    log: String,
}

/// The files of a table that has a row group an episode.
#[derive(Clone)]
struct RowFiles {
    tree: &'static str,
    /// Bytes of the file that may be appended to.
    current: Option<u64>,
    index: FileIndex,
}

/// One camera's files.
#[derive(Clone)]
pub(crate) struct CameraTrack {
    key: String,
    width: u32,
    height: u32,
    /// The file that may be appended to.
    current: Option<VideoFile>,
    index: FileIndex,
}

impl CameraTrack {
    pub(crate) fn new(key: String, width: u32, height: u32) -> Self {
        Self { key, width, height, current: None, index: FileIndex::default() }
    }
}

impl Dataset {
    /// An empty one; nothing is written.
    pub(crate) fn create(root: &Path, robot: &RobotDescription, video: VideoSettings) -> Self {
        let state = State {
            info: Info::new(robot, video.fps, video.quantizer, video.keyframe_interval),
            joints: robot.joints.len(),
            tasks: Vec::new(),
            stats: Vec::new(),
            data: RowFiles { tree: DATA, current: None, index: FileIndex::default() },
            ticks: RowFiles { tree: TICKS, current: None, index: FileIndex::default() },
            cameras: camera_tracks(robot),
            records: Vec::new(),
            episodes_index: FileIndex::default(),
            log: String::new(),
        };
        Self { root: root.to_owned(), state }
    }

    /// One that exists, to be appended to in new files.
    pub(crate) fn open(root: &Path, robot: &RobotDescription, video: VideoSettings) -> Result<Self, RecordError> {
        let mut dataset = Self::create(root, robot, video);
        let state = &mut dataset.state;
        let found = read_info(root)?;
        let mismatch = |what: &str, found: String, expected: String| {
            if found == expected {
                Ok(())
            } else {
                Err(RecordError::Mismatch { root: root.to_owned(), what: what.to_owned(), found, expected })
            }
        };
        mismatch("robot_type", format!("{:?}", found.robot_type), format!("{:?}", state.info.robot_type))?;
        mismatch("fps", found.fps.to_string(), state.info.fps.to_string())?;
        mismatch("data_path", found.data_path.clone(), state.info.data_path.clone())?;
        mismatch("video_path", format!("{:?}", found.video_path), format!("{:?}", state.info.video_path))?;
        mismatch("the set of features", shapes(&found.features), shapes(&state.info.features))?;
        state.tasks = if found.total_tasks > 0 { read_tasks(root)? } else { Vec::new() };
        let features: Vec<String> = state.info.features.keys().cloned().collect();
        state.info = found;
        if state.info.total_episodes > 0 {
            state.stats = read_stats(root, &features)?;
        }
        let chunks_size = state.info.chunks_size;
        state.data.index = next_free(&root.join(DATA), chunks_size)?;
        state.ticks.index = next_free(&root.join(TICKS), chunks_size)?;
        state.episodes_index = next_free(&root.join(EPISODES), chunks_size)?;
        for camera in &mut state.cameras {
            camera.index = next_free(&root.join("videos").join(&camera.key), chunks_size)?;
        }
        let path = root.join(LOG);
        if path.exists() {
            state.log = fs::read_to_string(&path).map_err(|source| ReadError::Io { path, source })?;
        }
        Ok(dataset)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn fps(&self) -> u32 {
        self.state.info.fps
    }

    pub(crate) fn totals(&self) -> Totals {
        let Info { total_episodes, total_frames, total_tasks, .. } = self.state.info;
        Totals { episodes: total_episodes, frames: total_frames, tasks: total_tasks }
    }

    /// Commits `meta/info.json` alone.
    pub(crate) fn commit_info(&self, staging: &Staging) -> Result<(), RecordError> {
        staging.write(INFO, &self.state.info.to_json())?;
        staging.commit(&[INFO.to_owned()])?;
        staging.install()
    }

    /// Stages an episode and commits it; [`Staging::install`] has then to be called. On an error
    /// the dataset is as it was.
    pub(crate) fn append(
        &mut self,
        staging: &Staging,
        task: &str,
        rows: &EpisodeRows,
        videos: Vec<EpisodeVideo>,
        log: &EpisodeLog,
        join_below_bytes: u64,
    ) -> Result<(), RecordError> {
        let mut state = self.state.clone();
        let mut install = Vec::new();
        let length = (rows.action.len() / state.joints) as u64;
        let (episode_index, first_index) = (state.info.total_episodes, state.info.total_frames);
        let known = state.tasks.iter().position(|known| known == task);
        let task_index = known.unwrap_or_else(|| {
            state.tasks.push(task.to_owned());
            state.tasks.len() - 1
        }) as u64;

        let mut stats = vec![
            (ACTION.to_owned(), FeatureStats::of_f32(&rows.action, state.joints)),
            (STATE.to_owned(), FeatureStats::of_f32(&rows.state, state.joints)),
        ];
        let mut spans = Vec::new();
        for (camera, mut video) in state.cameras.iter_mut().zip(videos) {
            stats.extend(video.stats()?.map(|stats| (camera.key.clone(), stats)));
            let (path, span) = camera.append(&self.root, staging, &mut video, state.info.fps, join_below_bytes, state.info.chunks_size)?;
            install.push(path);
            spans.push(span);
        }
        let column = |value: &dyn Fn(u64) -> f64| FeatureStats::of_f64(&(0..length).map(value).collect::<Vec<f64>>());
        stats.extend([
            ("timestamp".to_owned(), column(&|frame| frame as f64 / f64::from(state.info.fps))),
            ("frame_index".to_owned(), column(&|frame| frame as f64)),
            ("episode_index".to_owned(), column(&|_| episode_index as f64)),
            ("index".to_owned(), column(&|frame| (first_index + frame) as f64)),
            ("task_index".to_owned(), column(&|_| task_index as f64)),
        ]);

        let data = data_file(rows, state.joints, state.info.fps, (episode_index, first_index, task_index));
        install.push(state.data.append(&self.root, staging, data, join_below_bytes, state.info.chunks_size)?);
        let ticks = ticks_file(&rows.ticks, state.joints, episode_index, first_index);
        install.push(state.ticks.append(&self.root, staging, ticks, join_below_bytes, state.info.chunks_size)?);

        if state.records.len() == ROWS_PER_EPISODES_FILE {
            state.records.clear();
            state.episodes_index = state.episodes_index.next(state.info.chunks_size);
        }
        state.records.push(EpisodeRecord {
            episode_index,
            task: task.to_owned(),
            length,
            data_file: state.data.index,
            first_index,
            videos: spans,
            stats: stats.clone(),
            episodes_file: state.episodes_index,
        });
        state.merge_stats(stats);
        state.info.total_episodes += 1;
        state.info.total_frames += length;
        state.info.total_tasks = state.tasks.len() as u64;
        state.info.splits.insert("train".to_owned(), Value::String(format!("0:{}", state.info.total_episodes)));
        // Serialising a struct of plain fields cannot fail.
        state.log.push_str(&serde_json::to_string(log).unwrap_or_default());
        state.log.push('\n');

        // info.json comes last: until it is there, a reader sees the dataset as it was.
        let keys: Vec<String> = state.cameras.iter().map(|camera| camera.key.clone()).collect();
        let episodes = state.episodes_index.table_path(EPISODES);
        for (path, bytes) in [
            (episodes.as_str(), to_bytes(staging, &episodes, episodes_file(&state.records, &keys))?),
            (TASKS, to_bytes(staging, TASKS, tasks_file(&state.tasks))?),
            (STATS, pretty(&state.stats_json())),
            (LOG, state.log.clone().into_bytes()),
            (INFO, state.info.to_json()),
        ] {
            staging.write(path, &bytes)?;
            install.push(path.to_owned());
        }
        staging.commit(&install)?;
        self.state = state;
        Ok(())
    }
}

fn to_bytes(staging: &Staging, relative: &str, made: Result<Vec<u8>, parquet::errors::ParquetError>) -> Result<Vec<u8>, RecordError> {
    let path = staging.path(relative)?;
    made.map_err(|source| RecordError::Parquet { doing: "writing", path, source })
}

impl RowFiles {
    /// Stages the file with the episode's rows in it; answers its path.
    fn append(
        &mut self,
        root: &Path,
        staging: &Staging,
        rows: Result<Vec<u8>, parquet::errors::ParquetError>,
        join_below_bytes: u64,
        chunks_size: u64,
    ) -> Result<String, RecordError> {
        let joined = self.index.table_path(self.tree);
        let rows = to_bytes(staging, &joined, rows)?;
        let size = rows.len() as u64;
        let join = self.current.filter(|before| before + size <= join_below_bytes);
        if self.current.is_some() && join.is_none() {
            self.index = self.index.next(chunks_size);
        }
        let path = self.index.table_path(self.tree);
        let before = join.map(|_| root.join(&joined));
        append_row_groups(before.as_deref(), rows, &staging.path(&path)?)?;
        self.current = Some(join.unwrap_or(0) + size);
        Ok(path)
    }
}

impl State {
    fn merge_stats(&mut self, episode: Vec<(String, FeatureStats)>) {
        if self.stats.is_empty() {
            self.stats = episode;
        } else {
            for ((_, all), (_, one)) in self.stats.iter_mut().zip(&episode) {
                *all = all.merge(one);
            }
        }
    }

    fn stats_json(&self) -> Map<String, Value> {
        self.stats.iter().map(|(feature, stats)| (feature.clone(), stats.to_json())).collect()
    }
}

impl CameraTrack {
    /// Stages the mp4 with the episode in it; answers its path and where in it the episode is.
    fn append(
        &mut self,
        root: &Path,
        staging: &Staging,
        episode: &mut EpisodeVideo,
        fps: u32,
        join_below_bytes: u64,
        chunks_size: u64,
    ) -> Result<(String, VideoSpan), RecordError> {
        let before = self.current.take_if(|file| file.has_room(episode, join_below_bytes));
        if self.current.is_some() {
            self.index = self.index.next(chunks_size);
        }
        let path = self.index.video_path(&self.key);
        let old = root.join(&path);
        let first = before.as_ref().map_or(0, VideoFile::frames);
        let file = before.as_ref().map(|file| (file, old.as_path()));
        let file = VideoFile::write(file, episode, (self.width, self.height, fps), &staging.path(&path)?)?;
        let seconds = |frame: u64| frame as f64 / f64::from(fps);
        let span = VideoSpan { file: self.index, from_s: seconds(first), to_s: seconds(file.frames()) };
        self.current = Some(file);
        Ok((path, span))
    }
}

/// Names, types and shapes of features, for comparison.
fn shapes(features: &Map<String, Value>) -> String {
    let mut lines: Vec<String> =
        features.iter().map(|(name, feature)| format!("{name}: {} {} {}", feature["dtype"], feature["shape"], feature["names"])).collect();
    lines.sort();
    lines.join("; ")
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
