//! Sources of pictures that are no devices.

mod files;
mod http;
mod multipart;
mod pace;
mod pattern;
#[cfg(feature = "rtsp")]
mod rtsp;
mod wire;
mod zmq;

pub use files::ImageFiles;
pub use http::HttpMjpeg;
pub(super) use http::Url;
pub use pace::Pace;
pub use pattern::Pattern;
#[cfg(feature = "rtsp")]
pub use rtsp::Rtsp;
pub use zmq::ZmqCamera;
