//! Sources of pictures that are no devices.

mod files;
mod http;
mod multipart;
mod pace;
mod pattern;
mod wire;
mod zmq;

pub use files::ImageFiles;
pub use http::HttpMjpeg;
pub(super) use http::Url;
pub use pattern::Pattern;
pub use zmq::ZmqCamera;
