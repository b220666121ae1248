//! Writes what a session did: a LeRobotDataset v3.0 on disk, a recording for the Rerun viewer.

#![forbid(unsafe_code)]

mod dataset;
mod error;
mod files;
mod h264;
mod info;
mod mp4;
mod recorder;
mod rerun_view;
mod schema;
mod stats;
mod table;
mod video;

pub use error::{ReadError, RecordError};
pub use info::{CameraInfo, DatasetInfo, EpisodeInfo};
pub use recorder::{DatasetRecorder, RecorderOptions, Totals, recover};
pub use rerun_view::{RerunView, ViewError};
