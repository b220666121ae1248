//! Where a camera's pictures come from: a device, a file, a network, a pattern.

use std::time::Duration;

use sinew_core::Timestamp;
use thiserror::Error;

/// How the bytes of a picture are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// A JPEG a picture, as cameras call it (`MJPG`): tables may be left out.
    Mjpeg,
    /// Two pixels in four bytes: Y0 U Y1 V (`YUYV`).
    Yuyv,
    /// A plane of Y, then one of U and V by turns for 2×2 pixels (`NV12`).
    Nv12,
    /// Three bytes a pixel: red, green, blue (`RGB3`).
    Rgb,
    /// One byte a pixel (`GREY`).
    Grey,
    /// Two bytes a pixel, little-endian, how bright it is (`Y16 `), or how far for a camera that is said to see distances.
    Grey16,
    /// Two bytes a pixel, little-endian, how far it is in millimetres; 0 is unknown (`Z16 `).
    Depth16,
}

/// A picture as its source gives it.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    pub format: PixelFormat,
    pub width: u32,
    pub height: u32,
    /// Bytes from a row to the next one, of the first plane; 0 where rows have none (a JPEG).
    pub stride: usize,
    pub bytes: &'a [u8],
    /// When the shutter fired, as near as the source knows, on the session's clock.
    pub captured_at: Timestamp,
    /// The source's own number of it: what is left out between two was lost.
    pub sequence: u64,
}

/// What a source and its user have agreed on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stream {
    pub width: u32,
    pub height: u32,
    pub format: PixelFormat,
    /// Pictures a second, where the source says so.
    pub fps: Option<f64>,
}

/// A source that gives no picture.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SourceError {
    /// It may give one when it is opened again: unplugged, the other end gone, a device that hangs.
    #[error("{doing} {source_name}: {what}")]
    Lost { doing: &'static str, source_name: String, what: String },
    /// It never will as it is asked: no such device, no permission, a size that it does not have.
    #[error("{doing} {source_name}: {what}")]
    Unusable { doing: &'static str, source_name: String, what: String },
}

/// A source that is open. It lives on its camera's thread.
pub trait Source {
    /// What was agreed on when it was opened.
    fn stream(&self) -> Stream;

    /// Waits at most `wait` for the next picture and hands it to `take`; `false` when none has come.
    ///
    /// # Errors
    /// When it is gone. It is opened anew then.
    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError>;
}

/// Opens a source, and opens it again when it was lost.
pub trait OpenSource: Send {
    /// What its user calls it, such as `usb:200901010001`.
    fn name(&self) -> String;

    /// # Errors
    /// When it is not there ([`SourceError::Lost`]), or can't be used as it is asked.
    fn open(&mut self) -> Result<Box<dyn Source>, SourceError>;
}
