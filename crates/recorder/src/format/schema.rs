//! `meta/info.json` and the features of a dataset.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::format::feature::{DatasetSchema, Feature, FeatureKind};
use crate::format::json::pretty;
use crate::format::rate::Rate;
use crate::media::depth::DepthRange;
use crate::media::ffmpeg::DEPTH_PRESET;
use crate::write::options::{Layout, RecorderOptions, VideoOptions};

pub(crate) const VERSION: &str = "v3.0";
pub(crate) const STATE: &str = "observation.state";
pub(crate) const ACTION: &str = "action";
/// Whether a human acted, as LeRobot's dagger strategy names it.
pub(crate) const INTERVENTION: &str = "intervention";
pub(crate) const INFO: &str = "meta/info.json";
pub(crate) const STATS: &str = "meta/stats.json";
pub(crate) const DATA: &str = "data";
pub(crate) const EPISODES: &str = "meta/episodes";
/// A table of Sinew's own, a row for each of the data's.
pub(crate) const TICKS: &str = "sinew/ticks";
pub(crate) const TASKS: &str = "meta/tasks.parquet";
/// What must be the same in every episode; LeRobot ignores it.
pub(crate) const RIG: &str = "meta/sinew.json";

pub(crate) const VERSION_21: &str = "v2.1";
pub(crate) const DATA_PATH_21: &str = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet";
pub(crate) const VIDEO_PATH_21: &str = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4";
pub(crate) const TASKS_21: &str = "meta/tasks.jsonl";
pub(crate) const EPISODES_21: &str = "meta/episodes.jsonl";
pub(crate) const EPISODES_STATS_21: &str = "meta/episodes_stats.jsonl";
/// What Sinew says of each episode, a JSON object a line.
pub(crate) const LOG: &str = "meta/sinew_episodes.jsonl";

/// The columns that every dataset has, in order, with numpy's names of their types.
pub(crate) const DEFAULT_FEATURES: [(&str, &str); 5] =
    [("timestamp", "float32"), ("frame_index", "int64"), ("episode_index", "int64"), ("index", "int64"), ("task_index", "int64")];

/// `meta/info.json` with the keys of LeRobot 0.6.1 in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Info {
    pub(crate) codebase_version: String,
    pub(crate) fps: Rate,
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
    /// Keys of others, which stay; LeRobot drops them when it rewrites the file.
    #[serde(flatten)]
    pub(crate) others: Map<String, Value>,
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
    pub(crate) fn new(schema: &DatasetSchema, options: &RecorderOptions) -> Self {
        let mut features: Map<String, Value> = DatasetSchema::shapes(&schema.features);
        for feature in &schema.features {
            let Some(picture) = feature.picture() else { continue };
            let info = match feature.kind {
                FeatureKind::Image { .. } => json!({"is_depth_map": false}),
                _ => video_info((picture.width, picture.height, schema.fps), picture.is_depth(), &options.video, &options.depth),
            };
            features[&feature.name]["info"] = info;
        }
        for (name, dtype) in DEFAULT_FEATURES {
            features.insert(name.to_owned(), json!({"dtype": dtype, "shape": [1], "names": null}));
        }
        let has_video = schema.pictures().iter().any(|picture| picture.is_video());
        let (version, data_path, video_path) = match options.layout {
            Layout::V30 => (VERSION, default_data_path(), default_video_path()),
            Layout::V21 => (VERSION_21, DATA_PATH_21.to_owned(), Some(VIDEO_PATH_21.to_owned())),
        };
        Self {
            codebase_version: version.to_owned(),
            fps: schema.fps,
            features,
            total_episodes: 0,
            total_frames: 0,
            total_tasks: 0,
            chunks_size: default_chunks_size(),
            data_files_size_in_mb: default_data_files_size_in_mb(),
            video_files_size_in_mb: default_video_files_size_in_mb(),
            data_path,
            video_path: video_path.filter(|_| has_video),
            robot_type: schema.robot_type.clone(),
            splits: Map::new(),
            others: Map::new(),
        }
    }

    /// The features that its writer was given; those that can't be written are named.
    pub(crate) fn own_features(&self) -> Result<Vec<Feature>, String> {
        let own = self.features.iter().filter(|(name, _)| !DEFAULT_FEATURES.iter().any(|(default, _)| default == name));
        own.map(|(name, feature)| Feature::of_json(name, feature).ok_or_else(|| name.clone())).collect()
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        if self.codebase_version != VERSION_21 {
            return pretty(self);
        }
        let videos = self.features.values().filter(|feature| feature["dtype"] == "video").count() as u64;
        let mut info = json!({
            "codebase_version": self.codebase_version,
            "robot_type": self.robot_type,
            "total_episodes": self.total_episodes,
            "total_frames": self.total_frames,
            "total_tasks": self.total_tasks,
            "total_videos": videos * self.total_episodes,
            "total_chunks": self.total_episodes.div_ceil(self.chunks_size),
            "chunks_size": self.chunks_size,
            "fps": self.fps,
            "splits": self.splits,
            "data_path": self.data_path,
            "video_path": self.video_path,
            "features": self.features,
        });
        if let Value::Object(info) = &mut info {
            info.extend(self.others.clone());
        }
        pretty(&info)
    }
}

/// What LeRobot keeps of a video feature, in its order.
pub(crate) fn video_info((width, height, fps): (u32, u32, Rate), is_depth: bool, video: &VideoOptions, depth: &DepthRange) -> Value {
    let VideoOptions { quality, keyframe_interval, pixel_format, preset, .. } = video;
    let preset = preset.as_ref().map_or(Value::Null, |preset| preset.parse::<u64>().map_or_else(|_| json!(preset), |number| json!(number)));
    let (codec, pixel_format, channels, keyframes, quality, preset, extra) = if is_depth {
        ("hevc", "gray12le", 1, 2, Value::Null, json!(DEPTH_PRESET), json!({"x265-params": "lossless=1"}))
    } else {
        (video.codec(), pixel_format.as_str(), 3, *keyframe_interval, json!(quality), preset, json!({}))
    };
    let mut info = json!({
        "video.height": height,
        "video.width": width,
        "video.codec": codec,
        "video.pix_fmt": pixel_format,
        "video.fps": fps,
        "video.channels": channels,
        "has_audio": false,
        "video.g": keyframes,
        "video.crf": quality,
        "video.preset": preset,
        "video.fast_decode": 0,
        "video.video_backend": "pyav",
        "video.extra_options": extra,
        "is_depth_map": is_depth,
    });
    if let (true, Value::Object(info)) = (is_depth, &mut info) {
        info.extend(depth.info());
    }
    info
}

/// The feature of the camera called `name`.
pub(crate) fn camera_key(name: &str) -> String {
    format!("observation.images.{name}")
}

/// Where version 2.1 keeps an episode's rows.
pub(crate) fn data_path_21(episode: u64, chunks_size: u64) -> String {
    format!("data/chunk-{:03}/episode_{episode:06}.parquet", episode / chunks_size)
}

/// Where version 2.1 keeps an episode's video.
pub(crate) fn video_path_21(key: &str, episode: u64, chunks_size: u64) -> String {
    format!("videos/chunk-{:03}/{key}/episode_{episode:06}.mp4", episode / chunks_size)
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

/// Width and height of a camera's images. Mostly they are declared as height, width and channels; names that
/// begin with the channels, or a shape that makes sense in that order only, say that the channels come first,
/// as some converters have it.
pub(crate) fn picture_size(feature: &Value) -> Option<(u64, u64)> {
    let side = |at: usize| feature["shape"][at].as_u64();
    if has_channels_first(feature) { Some((side(2)?, side(1)?)) } else { Some((side(1)?, side(0)?)) }
}

fn has_channels_first(feature: &Value) -> bool {
    let is_channels = |at: usize| feature["names"][at].as_str().map(|name| matches!(name, "channel" | "channels" | "c" | "C"));
    let channels = |at: usize| matches!(feature["shape"][at].as_u64(), Some(1 | 3 | 4));
    match (is_channels(0), is_channels(2)) {
        (Some(true), _) => true,
        (_, Some(true)) => false,
        _ => channels(0) && !channels(2),
    }
}

pub(crate) fn is_camera(feature: &Value) -> bool {
    matches!(feature["dtype"].as_str(), Some("video" | "image"))
}

/// A camera's dimensions are called and ordered differently by some.
pub(crate) fn same_names(feature: &Value) -> Value {
    let mut feature = feature.clone();
    if is_camera(&feature) {
        feature["names"] = json!(["height", "width", "channels"]);
    }
    feature
}

pub(crate) fn is_depth(feature: &Value) -> bool {
    let said = |value: &Value| value["is_depth_map"] == true || value["video.is_depth_map"] == true;
    said(&feature["info"]) || said(&feature["video_info"])
}
