//! Reads what a dataset says of itself.

use std::path::Path;

use serde::Serialize;

use crate::ReadError;

/// What `meta/info.json`, the episodes table and the folder say. `Serialize` uses LeRobot's key names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetInfo {
    pub codebase_version: String,
    pub robot_type: Option<String>,
    pub fps: f64,
    pub total_episodes: u64,
    pub total_frames: u64,
    pub total_tasks: u64,
    /// In `task_index` order.
    pub tasks: Vec<String>,
    /// As info.json has them.
    pub features: serde_json::Map<String, serde_json::Value>,
    pub cameras: Vec<CameraInfo>,
    pub episodes: Vec<EpisodeInfo>,
    pub size_on_disk_bytes: u64,
    /// A recorder was killed here or is at work; [`recover`](crate::recover) completes what it left.
    pub unfinished: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CameraInfo {
    /// The feature, `observation.images.front`.
    pub key: String,
    pub width: u64,
    pub height: u64,
    /// `h264`, `av1`, `hevc`; `None` for images in parquet.
    pub codec: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpisodeInfo {
    pub episode_index: u64,
    pub length: u64,
    pub tasks: Vec<String>,
}

impl DatasetInfo {
    pub fn open(root: &Path) -> Result<Self, ReadError> {
        Err(ReadError::NotADataset { root: root.to_owned() })
    }
}
