//! The recorder: frames in, committed episodes out.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, Interventions, JointUnits, Outcome, RobotDescription, SinkError};

use crate::RecordError;
use crate::dataset::{CameraTrack, Dataset, VideoSettings};
use crate::files::{FOLDER, Staging, create_folder};
use crate::h264::FrameEncoder;
use crate::schema::camera_key;
use crate::table::EpisodeRows;
use crate::video::EpisodeVideo;

/// How a dataset is written. The default is right for training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// H.264 quantiser, 1 (best) to 51.
    pub quantizer: u8,
    /// A key frame every so many frames; small, so that training can read frames in any order.
    pub keyframe_interval: u32,
    /// An episode joins the last data or video file while that stays below so many bytes, and
    /// begins a new one otherwise. Joining copies the file, so more is slower between episodes and
    /// means fewer files.
    pub join_below_bytes: u64,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self { quantizer: 24, keyframe_interval: 2, join_below_bytes: 32 << 20 }
    }
}

/// What a dataset holds by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub episodes: u64,
    pub frames: u64,
    pub tasks: u64,
}

/// Writes episodes into a LeRobotDataset v3.0.
///
/// An episode is committed whole when [`end`](FrameSink::end) returns, or not at all: a process that
/// is killed, or a disk that is full, at any moment loses at most the episode that was being
/// recorded. One process at a time writes a dataset.
pub struct DatasetRecorder {
    robot: RobotDescription,
    units: JointUnits,
    options: RecorderOptions,
    dataset: Dataset,
    staging: Staging,
    episode: Episode,
}

enum Episode {
    None,
    Open(Box<OpenEpisode>),
    /// A frame could not be recorded; what there was is gone.
    Failed,
}

struct OpenEpisode {
    task: String,
    rows: EpisodeRows,
    /// In the order of the robot's cameras.
    videos: Vec<EpisodeVideo>,
    last_tick: Option<u64>,
    log: EpisodeLog,
}

/// A line of `meta/sinew_episodes.jsonl`: what LeRobot's tables have no place for. LeRobot ignores
/// the file.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct EpisodeLog {
    episode_index: u64,
    attempt: u64,
    seed: u64,
    /// `success`, `failure` or `undecided`.
    outcome: &'static str,
    failure: Option<String>,
    frames: u64,
    /// Ticks without a row: the session missed them or could not hand them over in time. Rows are
    /// numbered as if there were no gap.
    missing_ticks: u64,
    lost_frames: u64,
    starved_ticks: u64,
    /// How many joints' goals each limit changed, over all ticks.
    limited_non_finite: u64,
    limited_position: u64,
    limited_velocity: u64,
    limited_step: u64,
}

impl DatasetRecorder {
    /// Starts a dataset of `robot` at `fps` frames a second in the folder `root`, which must be
    /// empty or not exist.
    ///
    /// Cameras are written as H.264 in 4:2:0, so their sizes must be even.
    ///
    /// # Errors
    /// When the folder holds something (then nothing is touched), the robot or an option makes no
    /// dataset, or the disk refuses.
    pub fn create(root: &Path, robot: &RobotDescription, fps: u32, options: RecorderOptions) -> Result<Self, RecordError> {
        check_setup(robot, fps, options)?;
        create_folder(root)?;
        let mut entries =
            std::fs::read_dir(root).map_err(|source| RecordError::Io { doing: "reading the folder", path: root.to_owned(), source })?;
        if let Some(entry) = entries.next() {
            let found = entry.map_or_else(|error| error.to_string(), |entry| entry.file_name().to_string_lossy().into_owned());
            return Err(RecordError::NotEmpty { root: root.to_owned(), found });
        }
        let (staging, _) = Staging::open(root)?;
        let dataset = Dataset::create(root, robot, video_settings(fps, options));
        dataset.commit_info(&staging)?;
        Ok(Self::new(robot, options, dataset, staging))
    }

    /// Goes on with a dataset that Sinew or LeRobot wrote with the same robot and rate. Like LeRobot
    /// it begins new data and video files.
    ///
    /// # Errors
    /// When `root` is no such dataset, was made with another robot, rate or set of features, or is
    /// being written by someone else.
    pub fn resume(root: &Path, robot: &RobotDescription, fps: u32, options: RecorderOptions) -> Result<Self, RecordError> {
        check_setup(robot, fps, options)?;
        recoverable(root)?;
        let (staging, _) = Staging::open(root)?;
        let dataset = Dataset::open(root, robot, video_settings(fps, options))?;
        Ok(Self::new(robot, options, dataset, staging))
    }

    fn new(robot: &RobotDescription, options: RecorderOptions, dataset: Dataset, staging: Staging) -> Self {
        Self { robot: robot.clone(), units: JointUnits::of(robot), options, dataset, staging, episode: Episode::None }
    }

    /// The dataset's folder.
    pub fn root(&self) -> &Path {
        self.dataset.root()
    }

    /// What is committed by now.
    pub fn totals(&self) -> Totals {
        self.dataset.totals()
    }

    fn begin_episode(&mut self, start: &EpisodeStart) -> Result<(), RecordError> {
        self.episode = Episode::None;
        // In case the last commit was left half in place by a disk that refused.
        self.staging.install()?;
        self.staging.clear()?;
        let scratch = self.staging.path("scratch/episode")?;
        create_folder(&scratch)?;
        let videos = self
            .robot
            .cameras
            .iter()
            .map(|camera| {
                let RecorderOptions { quantizer, keyframe_interval, .. } = self.options;
                let encoder =
                    FrameEncoder::new(&camera.name, camera.width, camera.height, self.dataset.fps(), quantizer, keyframe_interval)?;
                EpisodeVideo::begin(&scratch, &camera.name, encoder)
            })
            .collect::<Result<_, RecordError>>()?;
        let log = EpisodeLog { attempt: start.attempt, seed: start.seed, ..EpisodeLog::default() };
        self.episode =
            Episode::Open(Box::new(OpenEpisode { task: start.task.clone(), rows: EpisodeRows::default(), videos, last_tick: None, log }));
        Ok(())
    }

    fn push(&mut self, frame: &Frame) -> Result<(), RecordError> {
        let Episode::Open(episode) = &mut self.episode else {
            return Err(RecordError::OutOfOrder { call: "recording a frame", what: "no episode was begun, or it failed" });
        };
        let number = episode.log.frames;
        let fault = |what: String| RecordError::Frame { episode: self.dataset.totals().episodes, frame: number, what };
        if let Some(what) = misfit(&self.robot, frame) {
            return Err(fault(what));
        }
        match episode.last_tick {
            Some(last) if frame.tick <= last => return Err(fault(format!("its tick is {}, after {last}", frame.tick))),
            Some(last) => episode.log.missing_ticks += frame.tick - last - 1,
            None => {}
        }
        episode.last_tick = Some(frame.tick);
        for (image, video) in frame.observation.images.iter().zip(&mut episode.videos) {
            video.push(image)?;
        }
        for (radians, column) in [
            (&frame.wanted_rad, &mut episode.rows.action),
            (&frame.observation.position_rad, &mut episode.rows.state),
            (&frame.applied_rad, &mut episode.rows.ticks.applied_action),
        ] {
            let start = column.len();
            column.resize(start + radians.len(), 0.0);
            self.units.to_dataset(radians, &mut column[start..]);
        }
        let ticks = &mut episode.rows.ticks;
        ticks.tick.push(frame.tick);
        ticks.lateness_ns.push(frame.lateness_ns);
        ticks.limited_joints.push(u64::from(frame.interventions.total()));
        ticks.starved.push(frame.starved);
        let log = &mut episode.log;
        log.frames += 1;
        log.starved_ticks += u64::from(frame.starved);
        let Interventions { non_finite, position, velocity, step } = frame.interventions;
        log.limited_non_finite += u64::from(non_finite);
        log.limited_position += u64::from(position);
        log.limited_velocity += u64::from(velocity);
        log.limited_step += u64::from(step);
        Ok(())
    }

    fn end_episode(&mut self, end: &EpisodeEnd) -> Result<(), RecordError> {
        let episode = match std::mem::replace(&mut self.episode, Episode::None) {
            _ if !end.keep => return self.staging.clear(),
            Episode::Open(episode) => *episode,
            Episode::Failed => {
                self.staging.clear()?;
                return Err(RecordError::OutOfOrder { call: "committing an episode", what: "one of its frames could not be recorded" });
            }
            Episode::None => return Err(RecordError::OutOfOrder { call: "committing an episode", what: "none was begun" }),
        };
        if episode.log.frames == 0 {
            self.staging.clear()?;
            return Err(RecordError::OutOfOrder { call: "committing an episode", what: "it has no frame" });
        }
        let OpenEpisode { task, rows, videos, mut log, .. } = episode;
        log.episode_index = self.dataset.totals().episodes;
        log.lost_frames = end.lost_frames;
        (log.outcome, log.failure) = match &end.outcome {
            Outcome::Success => ("success", None),
            Outcome::Failure(why) => ("failure", Some(why.clone())),
            Outcome::Running => ("undecided", None),
        };
        let committed = self.dataset.append(&self.staging, &task, &rows, videos, &log, self.options.join_below_bytes);
        // After a failed commit this frees the disk; after a good one nothing is left but scratch.
        self.staging.install()?;
        self.staging.clear()?;
        committed
    }
}

fn video_settings(fps: u32, options: RecorderOptions) -> VideoSettings {
    VideoSettings { fps, quantizer: options.quantizer, keyframe_interval: options.keyframe_interval }
}

/// Completes or removes what a killed recorder left in the dataset at `root`. `true` when there was
/// something.
///
/// # Errors
/// When `root` is no dataset, someone is recording into it, or the disk refuses.
pub fn recover(root: &Path) -> Result<bool, RecordError> {
    recoverable(root)?;
    if !root.join(FOLDER).exists() {
        return Ok(false);
    }
    Staging::open(root).map(|(_, had_something)| had_something)
}

fn recoverable(root: &Path) -> Result<(), RecordError> {
    if root.join(crate::schema::INFO).exists() || root.join(FOLDER).exists() {
        return Ok(());
    }
    Err(crate::ReadError::NotADataset { root: root.to_owned() }.into())
}

fn check_setup(robot: &RobotDescription, fps: u32, options: RecorderOptions) -> Result<(), RecordError> {
    let fault = |what: String| Err(RecordError::Setup { robot: robot.name.clone(), what });
    if !(1..=1000).contains(&fps) {
        return fault(format!("the rate is {fps} frames a second, expected 1 to 1000"));
    }
    if !(1..=51).contains(&options.quantizer) {
        return fault(format!("the quantiser is {}, expected 1 to 51", options.quantizer));
    }
    if options.keyframe_interval == 0 {
        return fault("the key frame interval is 0, expected 1 or more".to_owned());
    }
    for camera in &robot.cameras {
        let (name, width, height) = (&camera.name, camera.width, camera.height);
        if name.is_empty() || name.contains(['/', '\\', '\0']) {
            return fault(format!("camera {name:?}: its name makes no feature"));
        }
        if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
            return fault(format!("camera {name} is {width}x{height}, expected even numbers (H.264 halves the colour planes)"));
        }
        if width.min(height) < 16 || width.max(height) > 3840 || width.min(height) > 2160 {
            return fault(format!("camera {name} is {width}x{height}, expected 16x16 to 3840x2160"));
        }
    }
    Ok(())
}

/// Why `frame` makes no row of a dataset of `robot`.
fn misfit(robot: &RobotDescription, frame: &Frame) -> Option<String> {
    for (what, values) in [
        ("the wanted action", &frame.wanted_rad),
        ("the applied action", &frame.applied_rad),
        ("the observed position", &frame.observation.position_rad),
    ] {
        if values.len() != robot.joints.len() {
            return Some(format!("{what} has {} values, expected {}", values.len(), robot.joints.len()));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Some(format!("{what} of joint {} is {}", robot.joints[at].name, values[at]));
        }
    }
    let images = &frame.observation.images;
    if images.len() != robot.cameras.len() {
        return Some(format!("it has {} images, expected {}", images.len(), robot.cameras.len()));
    }
    for (image, camera) in images.iter().zip(&robot.cameras) {
        let expected = camera.width as usize * camera.height as usize * 3;
        if (image.width, image.height) != (camera.width, camera.height) || image.rgb.len() != expected {
            return Some(format!(
                "the image of camera {} is {}x{} in {} bytes, expected {}x{} in {expected}",
                camera.name,
                image.width,
                image.height,
                image.rgb.len(),
                camera.width,
                camera.height,
            ));
        }
    }
    None
}

/// The cameras of `robot` as the dataset keeps them.
pub(crate) fn camera_tracks(robot: &RobotDescription) -> Vec<CameraTrack> {
    robot.cameras.iter().map(|camera| CameraTrack::new(camera_key(&camera.name), camera.width, camera.height)).collect()
}

fn sink_error(doing: String) -> impl FnOnce(RecordError) -> SinkError {
    move |source| SinkError { doing, source: source.into() }
}

impl DatasetRecorder {
    fn describe(&self, doing: &str) -> String {
        format!("{doing} episode {} of the dataset {}", self.dataset.totals().episodes, PathBuf::from(self.root()).display())
    }
}

impl FrameSink for DatasetRecorder {
    fn begin(&mut self, episode: &EpisodeStart) -> Result<(), SinkError> {
        let doing = self.describe("beginning");
        self.begin_episode(episode).map_err(sink_error(doing))
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        self.push(frame).map_err(|error| {
            self.episode = Episode::Failed;
            // What is left is removed by `end`, by the next `begin`, or when the dataset is opened.
            self.staging.clear().unwrap_or_else(|error| tracing::warn!(%error, "a failed episode's files stay for now"));
            sink_error(self.describe("recording"))(error)
        })
    }

    fn end(&mut self, end: &EpisodeEnd) -> Result<(), SinkError> {
        let doing = self.describe(if end.keep { "committing" } else { "dropping" });
        self.end_episode(end).map_err(sink_error(doing))
    }
}
