//! Cameras: each a thread that reads a source of pictures, and the newest picture for a loop that never waits.

mod source;
/// Cameras on Linux. Elsewhere there are none of the machine's own.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub mod v4l2;

pub use source::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream};
