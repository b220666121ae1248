//! Cameras: each a thread that reads a source of pictures, and the newest picture for a loop that never waits.

mod source;

pub use source::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream};
