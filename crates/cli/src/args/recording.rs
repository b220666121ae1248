//! How a dataset is recorded, for every verb that records one.

use clap::{Args, ValueEnum};
use sinew_recorder::{Layout, Overload, RecorderOptions, VideoOptions};

use super::{MANY, whole};

#[derive(Args, Clone, Default)]
pub struct VideoArgs {
    /// The video codec: h264 is built in; with ffmpeg installed also av1, hevc, libx264, h264_nvenc, hevc_vaapi and others [default: h264]
    #[arg(long, hide_short_help = true, help_heading = "Recording")]
    pub codec: Option<String>,
    /// The quantiser or constant rate factor, from 10 (best; 1 with an encoder of ffmpeg) to 51, or 63 for av1
    #[arg(long, value_name = "N", value_parser = whole::<u8>(1..=63), hide_short_help = true, help_heading = "Recording")]
    pub quality: Option<u8>,
    /// Put a key frame every N frames, 1 to 1000000 [default: 2, so that training can read in any order]
    #[arg(long, value_name = "FRAMES", value_parser = whole::<u32>(1..=MANY), hide_short_help = true, help_heading = "Recording")]
    pub gop: Option<u32>,
    /// The pixel format, by ffmpeg's name [default: yuv420p]
    #[arg(long, value_name = "NAME", hide_short_help = true, help_heading = "Recording")]
    pub pix_fmt: Option<String>,
    /// The preset of an ffmpeg encoder
    #[arg(long, value_name = "NAME", hide_short_help = true, help_heading = "Recording")]
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
    /// Continue an existing dataset of the same robot, rate, features and calibration
    #[arg(long, hide_short_help = true, help_heading = "Recording")]
    pub resume: bool,
    /// What to do with an episode that a killed recorder left behind [default: ask]
    #[arg(long, value_enum, requires = "resume", hide_short_help = true, help_heading = "Recording")]
    pub unfinished: Option<UnfinishedChoice>,
    /// Continue even if a camera is a different one than in the last episode
    #[arg(long, requires = "resume", hide_short_help = true, help_heading = "Recording")]
    pub other_cameras: bool,
    /// The version of LeRobot's dataset format
    #[arg(long, value_enum, default_value_t, hide_short_help = true, help_heading = "Recording")]
    pub layout: LayoutChoice,
    /// What to do when the encoders are too slow for a row of images [default: drop-tick in real time, else wait]
    #[arg(long, value_enum, hide_short_help = true, help_heading = "Recording")]
    pub on_overload: Option<OverloadChoice>,
    /// Leave out the columns that LeRobot does not have: capture times, lateness, and the commands that were sent
    #[arg(long, hide_short_help = true, help_heading = "Recording")]
    pub no_telemetry: bool,
    #[command(flatten)]
    pub video: VideoArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnfinishedChoice {
    /// Keep what reached the disk as an episode
    Recover,
    /// Remove it
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
    /// Leave out the row with all its images, and count it
    DropTick,
    /// Keep only every second row from then on
    LowerRate,
    /// Stop the recording
    Stop,
}

impl RecordingArgs {
    /// Its options, and whether each was given.
    pub fn given(&self) -> [(&'static str, bool); 9] {
        [
            ("--resume", self.resume),
            ("--layout", self.layout != LayoutChoice::default()),
            ("--on-overload", self.on_overload.is_some()),
            ("--no-telemetry", self.no_telemetry),
            ("--codec", self.video.codec.is_some()),
            ("--quality", self.video.quality.is_some()),
            ("--gop", self.video.gop.is_some()),
            ("--pix-fmt", self.video.pix_fmt.is_some()),
            ("--preset", self.video.preset.is_some()),
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
