//! Pictures and video: encoders, mp4 files, decoders, colours.

mod dav1d;
mod decode;
mod decode_av1;
mod decode_ffmpeg;
mod decode_h264;
pub(crate) mod depth;
pub(crate) mod encode;
pub(crate) mod encoder_rate;
pub(crate) mod ffmpeg;
pub(crate) mod h264;
mod h264_color;
mod h264_settings;
pub(crate) mod mp4;
pub(crate) mod mp4_read;
pub(crate) mod picture;
pub(crate) mod video_reader;
mod yuv;
