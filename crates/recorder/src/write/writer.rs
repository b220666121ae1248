//! Writes a dataset of any features, row by row.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::commit::disk::sync_folder;
use crate::commit::{FOLDER, OutFile, Staging, create_folder, entries};
use crate::format::columns::{Columns, encode, misfit};
use crate::format::feature::{DatasetSchema, PictureFeature, Value};
use crate::format::info::read_info;
use crate::format::schema::FileIndex;
use crate::media::encode::encoder_of;
use crate::media::mp4::Track;
use crate::write::dataset::{CameraPlace, Dataset, FinishedCamera, FinishedEpisode};
use crate::write::growing_video::{GrowingVideo, cut_tails};
use crate::write::journal::{Beginning, JOURNAL, Journal, VERSION};
use crate::write::lane::{Lane, LaneEnd, Target};
use crate::write::options::{Layout, Overload, RecorderOptions, check_setup};
use crate::write::syncer::Syncer;
use crate::write::unfinished::{self, Unfinished};
use crate::{ReadError, RecordError};

/// What a dataset holds by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub episodes: u64,
    pub frames: u64,
    pub tasks: u64,
}

/// What a row holds.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The instruction sentence, LeRobot's `task`.
    pub task: &'a str,
    /// A value for each feature, in their order.
    pub values: &'a [Value<'a>],
    /// A value for each column of the side table.
    pub side: &'a [Value<'a>],
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Kept,
    /// Left out with all its images, and counted: see [`Overload`].
    Dropped,
}

/// Writes episodes into a LeRobotDataset.
///
/// An episode is committed whole when [`save_episode`](Self::save_episode) returns, or not at all: a
/// process that is killed, or a disk that is full, at any moment loses nothing that was committed. The
/// rows of the episode that was being recorded are kept beside the dataset, to be recovered as an
/// episode or discarded. One process at a time writes a dataset.
pub struct DatasetWriter {
    // First, so that it ends before the dataset is free for others.
    episode: Option<OpenEpisode>,
    schema: DatasetSchema,
    pictures: Vec<PictureFeature>,
    options: RecorderOptions,
    pub(crate) dataset: Dataset,
    pub(crate) staging: Staging,
    cameras: Vec<CameraFiles>,
    unfinished: Option<Unfinished>,
}

/// A camera's videos.
struct CameraFiles {
    /// The file that may be added to, and its index; without one, the index that it would get.
    current: Option<Box<GrowingVideo>>,
    index: FileIndex,
}

struct OpenEpisode {
    journal: Arc<Journal>,
    lanes: Vec<Lane>,
    syncer: Syncer,
    columns: Columns,
    side: Columns,
    tasks: Vec<String>,
    task_of_row: Vec<u32>,
    note: Map<String, Json>,
    /// Rows that were left out since the last one that was kept.
    left_out: u64,
    dropped: u64,
    keep_every: u64,
    /// Something went wrong after which nothing can be added.
    failed: bool,
    row: Vec<u8>,
}

impl DatasetWriter {
    /// Starts a dataset in the folder `root`, which must be empty or not exist; or goes on with one that was
    /// started there and has no episode yet.
    ///
    /// # Errors
    /// When the folder holds something (then nothing is touched), the schema or an option makes no
    /// dataset, an encoder can't be had, or the disk refuses.
    pub fn create(root: &Path, schema: &DatasetSchema, options: RecorderOptions) -> Result<Self, RecordError> {
        check_setup(schema, &options)?;
        create_folder(root)?;
        // A process may have been killed while it started one: its commit is completed now, or there are but folders.
        let was_started = root.join(FOLDER).is_dir();
        if was_started {
            drop(Staging::open(root)?);
        }
        if let Some(found) = occupied_by(root, was_started)? {
            if read_info(root).is_ok_and(|(_, info)| info.total_episodes == 0) {
                return Self::resume(root, schema, options);
            }
            return Err(RecordError::NotEmpty { root: root.to_owned(), found });
        }
        let (mut staging, _) = Staging::open(root)?;
        let dataset = Dataset::create(root, schema, &options);
        dataset.commit_empty(&mut staging)?;
        Self::new(schema, options, dataset, staging, None)
    }

    /// Goes on with a dataset that Sinew or LeRobot wrote with the same robot, rate and features. Like
    /// LeRobot it begins new data and video files. An episode that was not finished is offered by
    /// [`Self::unfinished`], and has to be recovered or discarded first.
    ///
    /// # Errors
    /// When `root` is no such dataset, was made with another robot, rate, calibration or set of
    /// features, or is being written by someone else.
    pub fn resume(root: &Path, schema: &DatasetSchema, options: RecorderOptions) -> Result<Self, RecordError> {
        check_setup(schema, &options)?;
        unfinished::must_be_a_dataset(root)?;
        let (mut staging, _, unfinished) = unfinished::open(root)?;
        let dataset = Dataset::open(root, &mut staging, schema, &options)?;
        Self::new(schema, options, dataset, staging, unfinished)
    }

    pub(crate) fn new(
        schema: &DatasetSchema,
        options: RecorderOptions,
        dataset: Dataset,
        staging: Staging,
        unfinished: Option<Unfinished>,
    ) -> Result<Self, RecordError> {
        let pictures = schema.pictures();
        let mut writer =
            Self { schema: schema.clone(), pictures, options, dataset, staging, cameras: Vec::new(), episode: None, unfinished };
        writer.forget_videos()?;
        Ok(writer)
    }

    /// The dataset's folder.
    pub fn root(&self) -> &Path {
        self.dataset.root()
    }

    /// What is committed by now.
    pub fn totals(&self) -> Totals {
        self.dataset.totals()
    }

    /// What Sinew's own file says of the committed episodes, a JSON object a line.
    pub(crate) fn log(&self) -> Result<String, ReadError> {
        self.dataset.log()
    }

    /// Rows of the episode that is being recorded.
    pub fn rows(&self) -> u64 {
        self.episode.as_ref().map_or(0, |episode| episode.columns.rows())
    }

    /// Takes no more rows of this episode: one is missing.
    pub(crate) fn fail(&mut self) {
        if let Some(episode) = &mut self.episode {
            episode.failed = true;
        }
    }

    pub fn schema(&self) -> &DatasetSchema {
        &self.schema
    }

    /// The episode that waits to be recovered or discarded: a killed process or a fault left it.
    pub fn unfinished(&self) -> Option<&Unfinished> {
        self.unfinished.as_ref()
    }

    /// Begins an episode. `note` is kept with it in `meta/sinew_episodes.jsonl`. An episode that was
    /// begun and not saved is discarded.
    ///
    /// # Errors
    /// When an unfinished episode waits, an encoder can't be started, or the disk refuses.
    pub fn begin_episode(&mut self, note: Map<String, Json>) -> Result<(), RecordError> {
        self.discard_episode()?;
        if let Some(unfinished) = &self.unfinished {
            let (episode, rows) = (unfinished.episode_index, unfinished.rows);
            return Err(RecordError::Unfinished { root: self.root().to_owned(), episode, rows });
        }
        // In case the last commit was left half in place by a disk that refused.
        self.staging.install()?;
        self.staging.clear()?;
        let begun = self.open_episode(note);
        if begun.is_err() {
            // The files that were begun are cut, as far as the disk lets it.
            let undone =
                self.staging.remove_episode().and_then(|()| cut_tails(self.dataset.root(), &[])).and_then(|()| self.forget_videos());
            undone.unwrap_or_else(|error| tracing::warn!(%error, "what is left of an episode that could not be begun stays for now"));
        }
        self.episode = Some(begun?);
        Ok(())
    }

    fn open_episode(&mut self, note: Map<String, Json>) -> Result<OpenEpisode, RecordError> {
        let folder = self.staging.episode_folder();
        create_folder(&folder)?;
        let mut targets = Vec::new();
        for (at, picture) in self.pictures.clone().iter().enumerate() {
            targets.push(if picture.is_video() {
                Target::Video(self.video(at, picture)?)
            } else {
                Target::Stills(OutFile::create(&folder.join(format!("stills-{at}")))?)
            });
        }
        let root = self.dataset.root();
        let place = |target: &Target| match target {
            Target::Video(video) => (video.relative().to_owned(), video.next_offset()),
            Target::Stills(file) => (file.path().strip_prefix(root).unwrap_or(file.path()).to_string_lossy().into_owned(), 0),
        };
        let beginning = Beginning {
            version: VERSION,
            episode_index: self.totals().episodes,
            fps: self.schema.fps,
            features: DatasetSchema::shapes(&self.schema.features),
            side: DatasetSchema::shapes(&self.schema.side),
            note: note.clone(),
            cameras: targets.iter().map(place).collect(),
        };
        let journal = Arc::new(Journal::create(&folder.join(JOURNAL), &beginning)?);
        sync_folder(&folder)?;
        let mut files = vec![journal.again()?];
        files.extend(targets.iter().map(Target::again).collect::<Result<Vec<_>, _>>()?);
        let mut lanes = Vec::new();
        for ((camera, picture), target) in (0u16..).zip(&self.pictures).zip(targets) {
            let encoder = encoder_of(picture, self.schema.fps, &self.options)?;
            lanes.push(Lane::start(camera, picture, encoder, (journal.clone(), target), &self.options)?);
        }
        Ok(OpenEpisode {
            journal,
            lanes,
            syncer: Syncer::start(files),
            columns: Columns::new(&self.schema.features),
            side: Columns::new(&self.schema.side),
            tasks: Vec::new(),
            task_of_row: Vec::new(),
            note,
            left_out: 0,
            dropped: 0,
            keep_every: 1,
            failed: false,
            row: Vec::new(),
        })
    }

    /// The file that the next episode of a camera goes to, with the episode begun.
    pub(crate) fn video(&mut self, camera: usize, picture: &PictureFeature) -> Result<Box<GrowingVideo>, RecordError> {
        let alone = self.dataset.layout() == Layout::V21;
        let files = &mut self.cameras[camera];
        let mut current = files.current.take();
        if current
            .as_ref()
            .is_some_and(|file| alone || file.is_full(self.options.video_file_bytes, self.options.file_episodes.unwrap_or(u64::MAX)))
        {
            current = None;
            files.index = files.index.next(self.dataset.chunks_size());
        }
        let mut video = match current {
            Some(video) => video,
            None => {
                let path = self.dataset.video_path(&picture.key, files.index);
                let track = Track { width: picture.width as u16, height: picture.height as u16, fps: self.schema.fps };
                Box::new(GrowingVideo::create(self.dataset.root(), path, track)?)
            }
        };
        video.begin()?;
        Ok(video)
    }

    /// Adds a row to the episode: all of it and its images, or nothing.
    ///
    /// # Errors
    /// When the row does not fit the features (the episode stays as it was), encoders can't keep up
    /// and the options say to stop then (the same), or an encoder or the disk fails (the episode can
    /// then be discarded; otherwise it waits to be recovered).
    pub fn add_row(&mut self, row: &Row<'_>) -> Result<Taken, RecordError> {
        let number = self.dataset.totals().episodes;
        let Some(episode) = self.episode.as_mut().filter(|episode| !episode.failed) else {
            return Err(RecordError::OutOfOrder { call: "recording a frame", what: "no episode was begun, or it failed" });
        };
        let frame = episode.columns.rows();
        if let Some(what) = unfit(&self.schema, row) {
            return Err(RecordError::Frame { episode: number, frame, what });
        }
        if frame > 0 && episode.left_out + 1 < episode.keep_every {
            return Ok(episode.leave_out());
        }
        let full = episode.lanes.iter().zip(&self.pictures).find(|(lane, _)| lane.waiting() >= self.options.queue_frames.max(1));
        if let Some((lane, picture)) = full {
            match self.options.on_overload {
                Overload::Wait => {}
                Overload::DropTick => return Ok(episode.leave_out()),
                Overload::LowerRate => {
                    episode.keep_every = episode.keep_every.saturating_mul(2);
                    return Ok(episode.leave_out());
                }
                Overload::Stop => {
                    let (camera, waiting) = (picture.key.clone(), lane.waiting());
                    return Err(RecordError::Overload { episode: number, frame, camera, waiting });
                }
            }
        }
        let added = episode.add(row);
        episode.failed = added.is_err();
        added.map(|()| Taken::Kept)
    }

    /// Commits the episode. `note` joins what it was begun with.
    ///
    /// # Errors
    /// When there is no episode or it has no row (it is then over), or an encoder or the disk fails
    /// (it then waits to be recovered or discarded).
    pub fn save_episode(&mut self, note: Map<String, Json>) -> Result<Totals, RecordError> {
        match &self.episode {
            None => return Err(RecordError::OutOfOrder { call: "committing an episode", what: "none was begun" }),
            Some(episode) if episode.failed => {
                self.give_up()?;
                return Err(RecordError::OutOfOrder { call: "committing an episode", what: "one of its frames could not be recorded" });
            }
            Some(episode) if episode.columns.rows() == 0 => {
                self.discard_episode()?;
                return Err(RecordError::OutOfOrder { call: "committing an episode", what: "it has no frame" });
            }
            Some(_) => {}
        }
        let committed = self.close_and_commit(note);
        if committed.is_err() {
            self.give_up()?;
        }
        committed.map(|()| self.totals())
    }

    fn close_and_commit(&mut self, note: Map<String, Json>) -> Result<(), RecordError> {
        let Some(mut episode) = self.episode.take() else { return Ok(()) };
        episode.lanes.iter_mut().for_each(Lane::close);
        let ends: Vec<_> = episode.lanes.iter_mut().map(Lane::join).collect();
        episode.syncer.stop()?;
        let ends = ends.into_iter().collect::<Result<Vec<LaneEnd>, _>>()?;
        let OpenEpisode { columns, side, tasks, task_of_row, note: mut all, dropped, keep_every, .. } = episode;
        all.extend(note);
        all.insert("dropped_ticks".to_owned(), json!(dropped));
        all.insert("kept_every".to_owned(), json!(keep_every));
        self.commit(FinishedEpisode { columns, side, tasks, task_of_row, cameras: Vec::new(), note: all }, ends)?;
        // After a good commit nothing is left but scratch; if it stays now, it goes with the next.
        self.staging.remove_episode().unwrap_or_else(|error| tracing::warn!(%error, "an episode's scratch files stay for now"));
        Ok(())
    }

    /// Commits an episode whose cameras have come to `ends`.
    pub(crate) fn commit(&mut self, mut episode: FinishedEpisode, ends: Vec<LaneEnd>) -> Result<(), RecordError> {
        let mut videos = Vec::new();
        for ((picture, files), end) in self.pictures.iter().zip(&self.cameras).zip(ends) {
            let LaneEnd { target, samples, closed } = end;
            let lost = || RecordError::OutOfOrder { call: "committing an episode", what: "an encoder's thread did not close it" };
            let closed = closed.ok_or_else(lost)?;
            let (place, video) = match target {
                Target::Video(video) => {
                    let (file, first_frame) = (files.index, closed.first_frame);
                    (CameraPlace::Video { file, first_frame, changes: closed.changes }, Some(video))
                }
                Target::Stills(file) => (CameraPlace::Stills { path: file.path().to_owned(), sizes: samples.sizes }, None),
            };
            episode.cameras.push(FinishedCamera { key: picture.key.clone(), stats: closed.stats, place });
            videos.push(video);
        }
        self.dataset.append(&mut self.staging, episode, &self.options)?;
        self.staging.install()?;
        self.staging.settle_later();
        for (files, video) in self.cameras.iter_mut().zip(videos) {
            files.current = video;
        }
        Ok(())
    }

    /// Ends the episode and leaves no trace of it. Does nothing when there is none.
    ///
    /// # Errors
    /// When the disk refuses; what is left is removed when the dataset is opened the next time.
    pub fn discard_episode(&mut self) -> Result<(), RecordError> {
        let Some(mut episode) = self.episode.take() else { return Ok(()) };
        episode.lanes.iter_mut().for_each(Lane::discard);
        let ends: Vec<_> = episode.lanes.iter_mut().map(Lane::join).collect();
        // What could not be seen onto the disk is removed now.
        let _ = episode.syncer.stop();
        drop(episode);
        // Without its journal the episode is gone; the rest is cleaning up.
        self.staging.remove_episode()?;
        let mut is_lost = false;
        for (files, end) in self.cameras.iter_mut().zip(ends) {
            match end.map(|end| end.target) {
                Ok(Target::Video(video)) => match video.discard() {
                    Ok(video) => files.current = video.map(Box::new),
                    Err(_) => is_lost = true,
                },
                Ok(Target::Stills(_)) => {}
                Err(_) => is_lost = true,
            }
        }
        if is_lost {
            // What is known of the videos is not to be relied on; they are cut once more, and others begun.
            self.forget_videos()?;
            cut_tails(self.dataset.root(), &[])?;
        }
        Ok(())
    }

    /// Ends an episode that failed and keeps what there is of it to be recovered.
    fn give_up(&mut self) -> Result<(), RecordError> {
        drop(self.episode.take());
        if self.staging.is_pending() {
            // It is committed, and put into place by the next episode or the next start.
            return self.forget_videos();
        }
        self.staging.clear()?;
        self.unfinished = unfinished::find(self.dataset.root())?;
        if self.unfinished.is_none() {
            self.staging.remove_episode()?;
            cut_tails(self.dataset.root(), &[])?;
        }
        self.forget_videos()
    }

    /// New files from here on.
    pub(crate) fn forget_videos(&mut self) -> Result<(), RecordError> {
        let files = |picture: &PictureFeature| -> Result<CameraFiles, RecordError> {
            Ok(CameraFiles { current: None, index: self.dataset.next_video(&picture.key)? })
        };
        self.cameras = self.pictures.iter().map(files).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Makes an episode of what there is of the unfinished one: the rows all of whose images are there.
    /// Answers what the dataset then holds. Does nothing when there is none.
    ///
    /// # Errors
    /// When it was recorded with other features, or the disk refuses; it then waits on.
    pub fn recover_unfinished(&mut self) -> Result<Totals, RecordError> {
        if self.unfinished.is_some() {
            self.discard_episode()?;
            self.unfinished_to_episode()?;
            self.discard_unfinished()?;
        }
        Ok(self.totals())
    }

    /// Leaves no trace of the unfinished episode. Does nothing when there is none.
    ///
    /// # Errors
    /// When the disk refuses; what is left is removed when the dataset is opened the next time.
    pub fn discard_unfinished(&mut self) -> Result<(), RecordError> {
        if self.unfinished.take().is_some() {
            self.staging.remove_episode()?;
            cut_tails(self.dataset.root(), &[])?;
        }
        Ok(())
    }
}

impl OpenEpisode {
    fn leave_out(&mut self) -> Taken {
        self.left_out += 1;
        self.dropped += 1;
        Taken::Dropped
    }

    fn add(&mut self, row: &Row<'_>) -> Result<(), RecordError> {
        self.syncer.check()?;
        self.left_out = 0;
        let known = self.tasks.iter().position(|task| task == row.task);
        self.task_of_row.push(known.unwrap_or(self.tasks.len()) as u32);
        if known.is_none() {
            self.tasks.push(row.task.to_owned());
        }
        self.row.clear();
        encode(&Value::Text(row.task), &mut self.row);
        row.values.iter().chain(row.side).for_each(|value| encode(value, &mut self.row));
        self.journal.row(&self.row)?;
        let mut rest = &self.row[4 + row.task.len()..];
        if self.columns.push(&mut rest).and_then(|()| self.side.push(&mut rest)).is_none() {
            return Err(RecordError::OutOfOrder { call: "recording a frame", what: "its values don't fit the columns" });
        }
        let pictures = row.values.iter().filter_map(|value| match value {
            Value::Rgb(picture) | Value::DepthMm(picture) => Some(*picture),
            _ => None,
        });
        self.lanes.iter_mut().zip(pictures).try_for_each(|(lane, picture)| lane.push(picture.clone()))
    }
}

/// What is in the folder `root` besides the folder of the lock, and, where `folders` don't count, besides empty folders.
fn occupied_by(root: &Path, folders: bool) -> Result<Option<String>, RecordError> {
    for path in entries(root)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_folder = folders && path.is_dir() && !path.is_symlink();
        if name != FOLDER && (!is_folder || occupied_by(&path, true)?.is_some()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Why `row` is none of a dataset of `schema`.
fn unfit(schema: &DatasetSchema, row: &Row<'_>) -> Option<String> {
    for (what, features, values) in [("", &schema.features, row.values), (" for the side table", &schema.side, row.side)] {
        if features.len() != values.len() {
            return Some(format!("it has {} values{what}, expected {}", values.len(), features.len()));
        }
        if let Some(what) = features.iter().zip(values).find_map(|(feature, value)| misfit(feature, value)) {
            return Some(what);
        }
    }
    row.task.is_empty().then(|| "it has no task".to_owned())
}
