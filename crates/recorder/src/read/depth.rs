//! Depth images: 12-bit codes in video, metres in the world.

use std::path::Path;

use super::{DatasetReader, row_time_s};
use crate::format::schema::is_depth;
use crate::media::video_reader::VideoReader;
use crate::progress::{Waiting, patient};
use crate::{DepthRange, ReadError};

/// A picture of distances, row-major, top row first.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthImage {
    pub width: u32,
    pub height: u32,
    /// Whole millimetres, as LeRobot gives them.
    pub millimetres: Vec<f32>,
}

impl DatasetReader {
    /// The distances that the depth camera `key` saw in one frame of an episode.
    ///
    /// # Errors
    /// When there is no such frame or depth video, or ffmpeg is missing.
    pub fn depth(&self, episode: u64, key: &str, frame: u64) -> Result<DepthImage, ReadError> {
        self.depth_while(episode, key, frame, &mut patient)
    }

    /// As [`Self::depth`], for as long as `waiting` wants to wait.
    pub(crate) fn depth_while(&self, episode: u64, key: &str, frame: u64, waiting: &mut Waiting<'_>) -> Result<DepthImage, ReadError> {
        let missing = |what: String| ReadError::Missing { root: self.root().to_owned(), what };
        let feature =
            self.features().get(key).filter(|feature| is_depth(feature)).ok_or_else(|| missing(format!("the depth camera {key}")))?;
        let entry = self.episode(episode)?;
        if frame >= entry.length {
            return Err(missing(format!("frame {frame} of episode {episode}, which has {}", entry.length)));
        }
        let span = entry.videos.iter().find(|span| span.key == key).ok_or_else(|| missing(format!("the video of {key}")))?;
        read(&self.file(&span.path)?, span.from_s + row_time_s(frame, self.fps()), DepthRange::of_feature(feature), waiting)
    }
}

fn read(path: &Path, seconds: f64, range: DepthRange, waiting: &mut Waiting<'_>) -> Result<DepthImage, ReadError> {
    let mut video = VideoReader::open_depth(path)?;
    let number = video.number_at(seconds)?;
    let codes = video.codes(number, waiting)?;
    let (width, height) = video.size();
    let millimetres = codes.into_iter().map(|code| (range.metres(code) * 1e3).round() as f32).collect();
    Ok(DepthImage { width, height, millimetres })
}
