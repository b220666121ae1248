//! Depth images: 12-bit codes in video, metres in the world.

use std::path::Path;

use serde_json::Value;

use super::{DatasetReader, VideoReader, is_depth, row_time_s};
use crate::ReadError;

/// The greatest code.
const CODES: f64 = 4095.0;

/// How codes stand for distances; LeRobot keeps it in the feature's `info`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthSettings {
    pub min_m: f64,
    pub max_m: f64,
    /// Codes are even in `ln(distance + shift_m)`, and not in the distance.
    pub logarithmic: bool,
    pub shift_m: f64,
}

impl Default for DepthSettings {
    fn default() -> Self {
        Self { min_m: 0.01, max_m: 10.0, logarithmic: true, shift_m: 3.5 }
    }
}

impl DepthSettings {
    /// What a feature of info.json says, LeRobot's defaults where it says nothing.
    pub fn of_feature(feature: &Value) -> Self {
        let number = |key: &str, default: f64| feature["info"][key].as_f64().filter(|value| value.is_finite()).unwrap_or(default);
        let default = Self::default();
        Self {
            min_m: number("video.depth_min", default.min_m),
            max_m: number("video.depth_max", default.max_m),
            logarithmic: feature["info"]["video.use_log"].as_bool().unwrap_or(default.logarithmic),
            shift_m: number("video.shift", default.shift_m),
        }
    }

    /// The distance that a code stands for, in metres.
    pub fn metres(&self, code: u16) -> f64 {
        let share = f64::from(code.min(CODES as u16)) / CODES;
        let distance = if self.logarithmic {
            let (low, high) = ((self.min_m + self.shift_m).ln(), (self.max_m + self.shift_m).ln());
            (share * (high - low) + low).exp() - self.shift_m
        } else {
            share * (self.max_m - self.min_m) + self.min_m
        };
        distance.max(self.min_m).min(self.max_m)
    }
}

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
        let missing = |what: String| ReadError::Missing { root: self.root().to_owned(), what };
        let feature =
            self.features().get(key).filter(|feature| is_depth(feature)).ok_or_else(|| missing(format!("the depth camera {key}")))?;
        let entry = self.episode(episode)?;
        if frame >= entry.length {
            return Err(missing(format!("frame {frame} of episode {episode}, which has {}", entry.length)));
        }
        let span = entry.videos.iter().find(|span| span.key == key).ok_or_else(|| missing(format!("the video of {key}")))?;
        read(&self.root().join(&span.path), span.from_s + row_time_s(frame, self.fps()), DepthSettings::of_feature(feature))
    }
}

fn read(path: &Path, seconds: f64, settings: DepthSettings) -> Result<DepthImage, ReadError> {
    let mut video = VideoReader::open_depth(path)?;
    let number = video.number_at(seconds)?;
    let codes = video.codes(number)?;
    let (width, height) = video.size();
    let millimetres = codes.into_iter().map(|code| (settings.metres(code) * 1e3).round() as f32).collect();
    Ok(DepthImage { width, height, millimetres })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_span_the_range() {
        for settings in [DepthSettings::default(), DepthSettings { logarithmic: false, ..DepthSettings::default() }] {
            assert!((settings.metres(0) - 0.01).abs() < 1e-12);
            assert!((settings.metres(4095) - 10.0).abs() < 1e-12);
            assert!((1..=4095).all(|code| settings.metres(code) > settings.metres(code - 1)));
        }
    }
}
