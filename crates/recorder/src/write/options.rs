//! How a dataset is written.

use serde_json::{Map, Value as Json};

use crate::RecordError;
use crate::format::feature::{DatasetSchema, FeatureKind, PictureFeature};
use crate::media::depth::DepthRange;

/// How a dataset is written. The default is right for training.
#[derive(Clone, Debug, PartialEq)]
pub struct RecorderOptions {
    /// Which version of LeRobot's format.
    pub layout: Layout,
    pub video: VideoOptions,
    /// What the codes of depth cameras stand for.
    pub depth: DepthRange,
    /// A data file that has so many bytes is not added to; LeRobot's own limit.
    pub data_file_bytes: u64,
    /// A video that has so many bytes is not added to; LeRobot's own limit.
    pub video_file_bytes: u64,
    /// A data file or video that has so many episodes is not added to, so that it can go elsewhere while others are
    /// recorded. By their size alone unless given.
    pub file_episodes: Option<u64>,
    /// Images of one camera that may wait for its encoder.
    pub queue_frames: usize,
    /// What happens when that many wait.
    pub on_overload: Overload,
    /// Whether what LeRobot has no columns for (times of capture, lateness, what was really sent) is
    /// written, to a table that LeRobot ignores.
    pub telemetry: bool,
    /// Whether rows have LeRobot's column `intervention`: that a human acted.
    pub interventions: bool,
    /// What the robot's calibration is, in any words; an episode with another can't be added.
    pub calibration: Option<String>,
    /// What is kept with each episode in `meta/sinew_episodes.jsonl`, beside what the recorder knows itself.
    pub note: Map<String, Json>,
    /// Time that the encoder is made to take for a frame at least.
    #[cfg(test)]
    pub(crate) frame_takes: std::time::Duration,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            layout: Layout::V30,
            video: VideoOptions::default(),
            depth: DepthRange::default(),
            data_file_bytes: 100 << 20,
            video_file_bytes: 200 << 20,
            file_episodes: None,
            queue_frames: 16,
            on_overload: Overload::Wait,
            telemetry: true,
            interventions: false,
            calibration: None,
            note: Map::new(),
            #[cfg(test)]
            frame_takes: std::time::Duration::ZERO,
        }
    }
}

/// A version of LeRobot's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// v3.0: episodes share files.
    V30,
    /// v2.1: a table and a video an episode, JSON lines for the rest.
    V21,
}

/// What happens to a row when an encoder can't keep up. A row and its images stay one unit in each
/// case, and what is left out is counted in the episode's line of `meta/sinew_episodes.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// Wait for the encoder: for sources that can wait, such as a simulator.
    Wait,
    /// Leave the row out.
    DropTick,
    /// From then on keep every second row of what was kept until then, in even steps.
    LowerRate,
    /// Refuse the row: the episode ends with the row before, and can be saved.
    Stop,
}

/// How video of RGB images is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VideoOptions {
    /// [`Self::OPENH264`], which is built in, or an encoder of the installed ffmpeg: `libsvtav1`,
    /// `libx264`, `libx265`, `h264_nvenc`, `hevc_vaapi`, … `av1`, `h264` and `hevc` stand for the first
    /// three of these as in LeRobot, except that `h264` is the one that is built in.
    pub encoder: String,
    /// The quantiser or constant rate factor, 1 (best; 10 for the built-in H.264) to 63 (to 51 for H.264 and HEVC).
    pub quality: u8,
    /// A key frame every so many frames; small, so that training can read frames in any order.
    pub keyframe_interval: u32,
    /// ffmpeg's name; openh264 writes yuv420p only.
    pub pixel_format: String,
    /// ffmpeg's `-preset`; `None` is the encoder's own (12 for libsvtav1).
    pub preset: Option<String>,
}

impl VideoOptions {
    /// The encoder that is built in: H.264, constrained baseline.
    pub const OPENH264: &'static str = "openh264";

    /// What an encoder is used with when nothing else is said.
    pub fn of_encoder(name: &str) -> Self {
        let (encoder, quality, preset) = match name {
            "h264" | Self::OPENH264 => (Self::OPENH264, 24, None),
            "av1" | "libsvtav1" => ("libsvtav1", 30, Some("12")),
            "hevc" | "libx265" => ("libx265", 28, Some("ultrafast")),
            "libx264" => ("libx264", 23, Some("veryfast")),
            other => (other, 28, None),
        };
        Self {
            encoder: encoder.to_owned(),
            quality,
            keyframe_interval: 2,
            pixel_format: "yuv420p".to_owned(),
            preset: preset.map(str::to_owned),
        }
    }

    /// LeRobot's name of what the encoder writes.
    pub(crate) fn codec(&self) -> &'static str {
        if self.encoder.contains("av1") {
            "av1"
        } else if self.encoder.contains("265") || self.encoder.contains("hevc") {
            "hevc"
        } else {
            "h264"
        }
    }
}

impl Default for VideoOptions {
    fn default() -> Self {
        Self::of_encoder(Self::OPENH264)
    }
}

/// The finest quantizer of openh264, so that no picture takes more bytes than it has room for.
pub(crate) const FINEST: u8 = 10;

/// Refuses what no dataset can be made of.
pub(crate) fn check_setup(schema: &DatasetSchema, options: &RecorderOptions) -> Result<(), RecordError> {
    let VideoOptions { encoder, quality, keyframe_interval, pixel_format, preset } = &options.video;
    let is_openh264 = encoder == VideoOptions::OPENH264;
    let least = if is_openh264 { FINEST } else { 1 };
    let most = if options.video.codec() == "av1" { 63 } else { 51 };
    let picture_fault = |picture: &PictureFeature| {
        let PictureFeature { key, width, height, kind } = picture;
        let (least, longest) = (*width.min(height), *width.max(height));
        if !matches!(kind, FeatureKind::Video { .. }) || !is_openh264 {
            return None;
        }
        if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
            return Some(format!(
                "camera {key} is {width}x{height}, expected even numbers (openh264 halves the colour planes); images take odd ones, and encoders of ffmpeg with the pixel format yuv444p"
            ));
        }
        (least < 16 || longest > 3840 || least > 2160).then(|| format!("camera {key} is {width}x{height}, expected 16x16 to 3840x2160"))
    };
    let fault = schema.fault().or_else(|| options.depth.fault());
    let fault = fault.or_else(|| {
        if !(least..=most).contains(quality) {
            let finer = if is_openh264 { " (finer ones need an encoder of ffmpeg)" } else { "" };
            Some(format!("the quality is {quality}, expected {least} to {most}{finer}"))
        } else if *keyframe_interval == 0 {
            Some("the key frame interval is 0, expected 1 or more".to_owned())
        } else if is_openh264 && pixel_format != "yuv420p" {
            Some(format!("the pixel format is {pixel_format}, but openh264 writes yuv420p only"))
        } else if let Some(preset) = preset.as_ref().filter(|_| is_openh264) {
            Some(format!("the preset is {preset}, but openh264 has none; encoders of ffmpeg do"))
        } else {
            schema.pictures().iter().find_map(picture_fault)
        }
    });
    fault.map_or(Ok(()), |what| Err(RecordError::Setup { what }))
}
