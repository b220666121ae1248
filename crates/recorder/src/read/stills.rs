//! Images that lie in the table of rows, read as few as are wanted.

use std::collections::BTreeMap;
use std::ops::Range;

use sinew_core::Image;

use super::{DatasetReader, Episode};
use crate::ReadError;
use crate::media::picture;

/// The cameras with such images, and the encoded images of some rows: those around the one that was asked
/// for last.
pub(super) struct Stills {
    keys: Vec<String>,
    episode: u64,
    frames: Range<u64>,
    encoded: BTreeMap<String, Vec<Vec<u8>>>,
}

/// When rows are asked for one after another, so many are read at once, as far as they have so many bytes.
const ROWS_AT_ONCE: u64 = 32;
const BYTES_AT_ONCE: u64 = 8 << 20;

impl Stills {
    pub(super) fn of(cameras: &[String], reader: &DatasetReader) -> Self {
        let is_still = |key: &&String| reader.features().get(*key).is_some_and(|feature| feature["dtype"] == "image");
        let keys = cameras.iter().filter(is_still).cloned().collect();
        Self { keys, episode: u64::MAX, frames: 0..0, encoded: BTreeMap::new() }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key)
    }

    /// The image of one frame.
    pub(super) fn image(&mut self, reader: &DatasetReader, episode: &Episode, key: &str, frame: u64) -> Result<Image, ReadError> {
        if self.episode != episode.episode_index || !self.frames.contains(&frame) {
            self.read(reader, episode, frame)?;
        }
        let path = || reader.root().join(&episode.data_path);
        let encoded = self.encoded.get(key).and_then(|images| images.get((frame - self.frames.start) as usize));
        let encoded = encoded.ok_or_else(|| ReadError::Invalid { path: path(), what: format!("there is no column {key} of images") })?;
        picture::decode(encoded).map_err(|what| ReadError::Decode { path: path(), what: format!("{key}, frame {frame}: {what}") })
    }

    fn read(&mut self, reader: &DatasetReader, episode: &Episode, frame: u64) -> Result<(), ReadError> {
        let goes_on = self.episode == episode.episode_index && self.frames.end == frame;
        let bytes: usize = self.encoded.values().flatten().map(Vec::len).sum();
        let bytes_a_row = (bytes as u64 / (self.frames.end - self.frames.start).max(1)).max(1);
        let rows = if goes_on { ROWS_AT_ONCE.min(BYTES_AT_ONCE / bytes_a_row).max(1) } else { 1 };
        let frames = frame..episode.length.min(frame + rows);
        // What is half read is not there.
        self.frames = 0..0;
        self.encoded.clear();
        let batch = reader.columns(episode.episode_index, frames.clone(), &|name| self.has(name))?;
        for key in &self.keys {
            let images = batch.column_by_name(key).and_then(picture::encoded).ok_or_else(|| ReadError::Invalid {
                path: reader.root().join(&episode.data_path),
                what: format!("the column {key} of episode {} holds no images", episode.episode_index),
            })?;
            self.encoded.insert(key.clone(), images);
        }
        (self.episode, self.frames) = (episode.episode_index, frames);
        Ok(())
    }
}
