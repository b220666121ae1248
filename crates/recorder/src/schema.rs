//! `meta/info.json` and the features of a dataset.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sinew_core::RobotDescription;

pub(crate) const VERSION: &str = "v3.0";
pub(crate) const STATE: &str = "observation.state";
pub(crate) const ACTION: &str = "action";
pub(crate) const INFO: &str = "meta/info.json";
pub(crate) const STATS: &str = "meta/stats.json";
pub(crate) const DATA: &str = "data";
pub(crate) const EPISODES: &str = "meta/episodes";
/// A table of Sinew's own, a row for each of the data's.
pub(crate) const TICKS: &str = "sinew/ticks";
pub(crate) const TASKS: &str = "meta/tasks.parquet";

/// The columns that every dataset has, in order, with numpy's names of their types.
pub(crate) const DEFAULT_FEATURES: [(&str, &str); 5] =
    [("timestamp", "float32"), ("frame_index", "int64"), ("episode_index", "int64"), ("index", "int64"), ("task_index", "int64")];

/// `meta/info.json` with the keys of LeRobot 0.6.1 in its order. Keys of others are tolerated when
/// read; LeRobot drops them when it rewrites the file, and so does Sinew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Info {
    pub(crate) codebase_version: String,
    pub(crate) fps: u32,
    pub(crate) features: Map<String, Value>,
    #[serde(default)]
    pub(crate) total_episodes: u64,
    #[serde(default)]
    pub(crate) total_frames: u64,
    #[serde(default)]
    pub(crate) total_tasks: u64,
    #[serde(default = "default_chunks_size")]
    pub(crate) chunks_size: u64,
    #[serde(default = "default_data_files_size_in_mb")]
    pub(crate) data_files_size_in_mb: u64,
    #[serde(default = "default_video_files_size_in_mb")]
    pub(crate) video_files_size_in_mb: u64,
    #[serde(default = "default_data_path")]
    pub(crate) data_path: String,
    #[serde(default = "default_video_path")]
    pub(crate) video_path: Option<String>,
    #[serde(default)]
    pub(crate) robot_type: Option<String>,
    #[serde(default)]
    pub(crate) splits: Map<String, Value>,
}

fn default_chunks_size() -> u64 {
    1000
}

fn default_data_files_size_in_mb() -> u64 {
    100
}

fn default_video_files_size_in_mb() -> u64 {
    200
}

fn default_data_path() -> String {
    "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet".to_owned()
}

fn default_video_path() -> Option<String> {
    Some("videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4".to_owned())
}

impl Info {
    /// Of an empty dataset.
    pub(crate) fn new(robot: &RobotDescription, fps: u32, quantizer: u8, keyframe_interval: u32) -> Self {
        let names = robot.feature_names();
        let joints = json!({"dtype": "float32", "shape": [names.len()], "names": names});
        let mut features = Map::new();
        features.insert(ACTION.to_owned(), joints.clone());
        features.insert(STATE.to_owned(), joints);
        for camera in &robot.cameras {
            let feature = json!({
                "dtype": "video",
                "shape": [camera.height, camera.width, 3],
                "names": ["height", "width", "channels"],
                "info": {
                    "video.height": camera.height,
                    "video.width": camera.width,
                    "video.codec": "h264",
                    "video.pix_fmt": "yuv420p",
                    "video.fps": fps,
                    "video.channels": 3,
                    "has_audio": false,
                    "video.g": keyframe_interval,
                    "video.crf": quantizer,
                    "video.preset": null,
                    "video.fast_decode": 0,
                    "video.video_backend": "pyav",
                    "video.extra_options": {},
                    "is_depth_map": false,
                },
            });
            features.insert(camera_key(&camera.name), feature);
        }
        for (name, dtype) in DEFAULT_FEATURES {
            features.insert(name.to_owned(), json!({"dtype": dtype, "shape": [1], "names": null}));
        }
        Self {
            codebase_version: VERSION.to_owned(),
            fps,
            features,
            total_episodes: 0,
            total_frames: 0,
            total_tasks: 0,
            chunks_size: default_chunks_size(),
            data_files_size_in_mb: default_data_files_size_in_mb(),
            video_files_size_in_mb: default_video_files_size_in_mb(),
            data_path: default_data_path(),
            video_path: default_video_path(),
            robot_type: Some(robot.lerobot_robot_type.clone()),
            splits: Map::new(),
        }
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        pretty(self)
    }
}

/// JSON indented by four spaces, as LeRobot writes it.
pub(crate) fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
    debug_assert!(written.is_ok(), "writing to memory a value whose keys are strings cannot fail");
    bytes
}

/// The feature of the camera called `name`.
pub(crate) fn camera_key(name: &str) -> String {
    format!("observation.images.{name}")
}

/// A chunk folder and a file in it, counted the way LeRobot does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileIndex {
    pub(crate) chunk: u64,
    pub(crate) file: u64,
}

impl FileIndex {
    pub(crate) fn next(self, chunks_size: u64) -> Self {
        if self.file + 1 < chunks_size { Self { file: self.file + 1, ..self } } else { Self { chunk: self.chunk + 1, file: 0 } }
    }

    /// Of a table's file in the folder `tree`.
    pub(crate) fn table_path(self, tree: &str) -> String {
        format!("{tree}/{self}.parquet")
    }

    pub(crate) fn video_path(self, key: &str) -> String {
        format!("videos/{key}/{self}.mp4")
    }
}

impl std::fmt::Display for FileIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chunk-{:03}/file-{:03}", self.chunk, self.file)
    }
}
