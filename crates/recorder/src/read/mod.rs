//! Reads datasets of every version, whole or in part.

mod depth;
mod loader;
mod recent;
mod remote;
mod rows;
mod stats;
mod stills;
mod videos;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::{Map, Value};
use sinew_core::Image;

use crate::{Rate, ReadError};

use crate::format::info::{Tables, read_tables};
use crate::format::layout::{Episode, Version, dataset_stats};
use crate::format::marks;
use crate::format::schema::{Info, is_camera};
use crate::format::tasks::Tasks;
use crate::media::picture;
use crate::media::video_reader::VideoReader;
use crate::progress::{Waiting, patient};

pub use depth::DepthImage;
pub use loader::{Item, Loader, Values, Windows};
pub use remote::Fetch;
use remote::Remote;
use rows::{FOOTER_BYTES, Footers};
pub use stats::EpisodeStats;

/// A dataset of version 2.0, 2.1 or 3.0 in a folder, opened for reading. Nothing is changed.
///
/// Rows come as arrow tables with the columns of info.json; images are decoded at the exact time of
/// their row, or it is an error. [`Loader`] puts both together for training.
pub struct DatasetReader {
    root: PathBuf,
    version: Version,
    info: Info,
    tasks: Tasks,
    episodes: Vec<Episode>,
    footers: Mutex<Footers>,
    /// Where it is, if not here.
    remote: Option<Remote>,
}

impl DatasetReader {
    /// Opens the dataset in the folder `root`, Sinew's or LeRobot's, or a snapshot in the Hub's cache.
    ///
    /// # Errors
    /// When it is no LeRobotDataset of such a version, or its tables can't be read or contradict
    /// each other.
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        let Tables { version, info, tasks, episodes } = read_tables(root)?;
        Ok(Self::assemble(root, version, info, tasks, episodes))
    }

    /// Of parts that are known to be right; paths of episodes may also be absolute.
    pub(crate) fn assemble(root: &Path, version: Version, info: Info, tasks: Tasks, episodes: Vec<Episode>) -> Self {
        Self { root: root.to_owned(), version, info, tasks, episodes, footers: Mutex::new(Footers::new(FOOTER_BYTES)), remote: None }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    /// Rows a second.
    pub fn fps(&self) -> Rate {
        self.info.fps
    }

    /// LeRobot's class name of the robot.
    pub fn robot_type(&self) -> Option<&str> {
        self.info.robot_type.as_deref()
    }

    /// As info.json has them: name to dtype, shape and names.
    pub fn features(&self) -> &Map<String, Value> {
        &self.info.features
    }

    /// The features with images, be they video or not.
    pub fn cameras(&self) -> impl Iterator<Item = &str> {
        self.info.features.iter().filter(|(_, feature)| is_camera(feature)).map(|(key, _)| key.as_str())
    }

    /// Instruction sentences in `task_index` order.
    pub fn tasks(&self) -> &[String] {
        self.tasks.words()
    }

    /// In `episode_index` order.
    pub fn episodes(&self) -> &[Episode] {
        &self.episodes
    }

    pub fn total_frames(&self) -> u64 {
        self.info.total_frames
    }

    /// meta/stats.json: statistics of the whole dataset by feature; `None` when there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn stats(&self) -> Result<Option<Map<String, Value>>, ReadError> {
        dataset_stats(&self.root)
    }

    /// The episode that row `index` of the dataset belongs to.
    pub fn episode_of(&self, index: u64) -> Option<&Episode> {
        let after = self.episodes.partition_point(|episode| episode.first_index <= index);
        self.episodes.get(after.checked_sub(1)?).filter(|episode| index - episode.first_index < episode.length)
    }

    /// An episode by its number.
    ///
    /// # Errors
    /// When there is no such episode.
    pub fn episode(&self, episode: u64) -> Result<&Episode, ReadError> {
        let missing = || ReadError::NoEpisode { root: self.root.clone(), episode, count: self.episodes.len() };
        self.episodes.get(episode as usize).ok_or_else(missing)
    }

    /// The seed of an episode's scene, where Sinew recorded it in its simulator.
    ///
    /// # Errors
    /// When the file that has it can't be read.
    pub fn seed_of(&self, episode: u64) -> Result<Option<u64>, ReadError> {
        Ok(marks::notes(&self.root)?.get(&episode).and_then(|note| note.get("seed")?.as_u64()))
    }

    /// The images of one camera in frames `frames` of an episode, one after another.
    ///
    /// # Errors
    /// When there is no such camera or its video can't be opened; the items are errors where a frame
    /// is missing at its time or can't be decoded.
    pub fn images(&self, episode: u64, key: &str, frames: Range<u64>) -> Result<Images, ReadError> {
        let entry = self.episode(episode)?;
        let feature = self.info.features.get(key).filter(|feature| is_camera(feature));
        let feature = feature.ok_or_else(|| ReadError::Missing { root: self.root.clone(), what: format!("the camera {key}") })?;
        if frames.end > entry.length || frames.start > frames.end {
            let what = format!("frames {frames:?} of episode {episode}, which has {}", entry.length);
            return Err(ReadError::Missing { root: self.root.clone(), what });
        }
        if feature["dtype"] == "image" {
            let only = |name: &str| name == key;
            let batch = if frames.is_empty() { None } else { Some(self.columns(episode, frames.clone(), &only)?) };
            let encoded = batch.and_then(|batch| batch.column_by_name(key).and_then(picture::encoded));
            let path = self.root.join(&entry.data_path);
            let encoded = match encoded {
                Some(encoded) => encoded,
                None if frames.is_empty() => Vec::new(),
                None => return Err(ReadError::Invalid { path, what: format!("there is no column {key} of images") }),
            };
            return Ok(Images { frames, source: Source::Encoded { path, encoded } });
        }
        let span = entry.videos.iter().find(|span| span.key == key);
        let span = span.ok_or_else(|| ReadError::Missing { root: self.root.clone(), what: format!("the video of {key}") })?;
        let video = self.video(&span.path)?;
        Ok(Images { frames, source: Source::Video { video: Box::new(video), from_s: span.from_s, fps: self.info.fps } })
    }

    /// One image.
    ///
    /// # Errors
    /// As [`Self::images`].
    pub fn image(&self, episode: u64, key: &str, frame: u64) -> Result<Image, ReadError> {
        let missing = || ReadError::Missing { root: self.root.clone(), what: format!("frame {frame} of episode {episode}") };
        self.images(episode, key, frame..frame.saturating_add(1))?.next().unwrap_or_else(|| Err(missing()))
    }

    /// The instruction of a row that has `task_index`.
    pub(crate) fn task_of(&self, task_index: u64) -> Result<&str, ReadError> {
        let missing = || ReadError::Missing {
            root: self.root.clone(),
            what: format!("task {task_index}, which is none of its {},", self.tasks.len()),
        };
        self.tasks.get(task_index).ok_or_else(missing)
    }
}

/// Of a video that lies elsewhere, so much may be under way or wait to be decoded.
const AHEAD_BYTES: u64 = 4 << 20;

/// Consecutive images of one camera.
pub struct Images {
    frames: Range<u64>,
    source: Source,
}

enum Source {
    Video { video: Box<VideoReader>, from_s: f64, fps: Rate },
    Encoded { path: PathBuf, encoded: Vec<Vec<u8>> },
}

impl Images {
    /// The next one, for as long as `waiting` wants to wait.
    pub(crate) fn next_while(&mut self, waiting: &mut Waiting<'_>) -> Option<Result<Image, ReadError>> {
        let left = self.frames.end - self.frames.start;
        let frame = self.frames.next()?;
        Some(match &mut self.source {
            Source::Video { video, from_s, fps } => {
                let seconds = |frame: u64| *from_s + row_time_s(frame, *fps);
                video.expect(seconds(frame)..seconds(self.frames.end.saturating_sub(1)), AHEAD_BYTES);
                video.frame_at_while(seconds(frame), waiting)
            }
            Source::Encoded { path, encoded } => {
                let at = encoded.len() - left as usize;
                picture::decode(&encoded[at])
                    .map_err(|what| ReadError::Decode { path: path.clone(), what: format!("frame {frame}: {what}") })
            }
        })
    }
}

impl Iterator for Images {
    type Item = Result<Image, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_while(&mut patient)
    }
}

/// The time of a row as the data has it: rounded to f32.
pub(crate) fn row_time_s(frame: u64, fps: Rate) -> f64 {
    f64::from(fps.seconds(frame) as f32)
}
