//! How a dataset is recorded, for every verb that records one.

use clap::{Args, ValueEnum};
use sinew_recorder::{Layout, Overload, RecorderOptions, VideoOptions};

#[derive(Args, Clone, Default)]
pub struct VideoArgs {
    /// h264, which is built in, or what an installed ffmpeg has: av1, hevc, libx264, h264_nvenc, hevc_vaapi, ...
    #[arg(long)]
    pub codec: Option<String>,
    /// Quantiser or constant rate factor: 10 (best; with an encoder of ffmpeg 1) to 51, with av1 to 63
    #[arg(long, value_name = "N")]
    pub quality: Option<u8>,
    /// A key frame every so many frames; without it every 2, so that training can read in any order
    #[arg(long, value_name = "FRAMES")]
    pub gop: Option<u32>,
    /// The pixel format by ffmpeg's name; without it yuv420p
    #[arg(long, value_name = "NAME")]
    pub pix_fmt: Option<String>,
    /// The preset of an encoder of ffmpeg
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
}

impl VideoArgs {
    /// What is said of video; `None` when nothing is.
    pub fn given(&self) -> Option<VideoOptions> {
        let Self { codec, quality, gop, pix_fmt, preset } = self;
        if codec.is_none() && quality.is_none() && gop.is_none() && pix_fmt.is_none() && preset.is_none() {
            return None;
        }
        let usual = VideoOptions::of_encoder(codec.as_deref().unwrap_or(VideoOptions::OPENH264));
        Some(VideoOptions {
            quality: quality.unwrap_or(usual.quality),
            keyframe_interval: gop.unwrap_or(usual.keyframe_interval),
            pixel_format: pix_fmt.clone().unwrap_or(usual.pixel_format),
            preset: preset.clone().or(usual.preset),
            encoder: usual.encoder,
        })
    }
}

#[derive(Args, Clone, Default)]
pub struct RecordingArgs {
    /// Go on with a dataset that exists; it must be of the same robot, rate, features and calibration
    #[arg(long)]
    pub resume: bool,
    /// What becomes of the episode that a killed recorder left; without it you are asked
    #[arg(long, value_enum, requires = "resume")]
    pub unfinished: Option<UnfinishedChoice>,
    /// Go on although a camera is another one than in the last episode
    #[arg(long, requires = "resume")]
    pub other_cameras: bool,
    /// The version of LeRobot's format
    #[arg(long, value_enum, default_value_t)]
    pub layout: LayoutChoice,
    /// What happens to a row whose images the encoders can't take in time; without it drop-tick in real time, and else the encoders are waited for
    #[arg(long, value_enum)]
    pub on_overload: Option<OverloadChoice>,
    /// Leave out what LeRobot has no columns for: times of capture, lateness, what was really sent
    #[arg(long)]
    pub no_telemetry: bool,
    #[command(flatten)]
    pub video: VideoArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnfinishedChoice {
    /// Make an episode of what reached the disk
    Recover,
    /// Leave no trace of it
    Discard,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LayoutChoice {
    #[value(name = "v2.1")]
    V21,
    #[default]
    #[value(name = "v3.0")]
    V30,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OverloadChoice {
    /// Leave the row out, with all its images, and count it
    DropTick,
    /// From then on keep every second row
    LowerRate,
    /// End the recording with the row before
    Stop,
}

impl RecordingArgs {
    /// Its options, and whether each was given.
    pub fn given(&self) -> [(&'static str, bool); 6] {
        [
            ("--resume", self.resume),
            ("--layout", self.layout != LayoutChoice::default()),
            ("--on-overload", self.on_overload.is_some()),
            ("--no-telemetry", self.no_telemetry),
            ("--codec", self.video.codec.is_some()),
            ("--quality", self.video.quality.is_some()),
        ]
    }

    /// What the recorder is told; in real time a session can't wait for an encoder.
    pub fn options(&self, real_time: bool) -> RecorderOptions {
        RecorderOptions {
            layout: match self.layout {
                LayoutChoice::V21 => Layout::V21,
                LayoutChoice::V30 => Layout::V30,
            },
            video: self.video.given().unwrap_or_default(),
            on_overload: match self.on_overload {
                Some(OverloadChoice::DropTick) => Overload::DropTick,
                Some(OverloadChoice::LowerRate) => Overload::LowerRate,
                Some(OverloadChoice::Stop) => Overload::Stop,
                None if real_time => Overload::DropTick,
                None => Overload::Wait,
            },
            telemetry: !self.no_telemetry,
            ..RecorderOptions::default()
        }
    }
}
