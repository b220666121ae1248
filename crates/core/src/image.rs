//! Images, and the memory that they are kept in.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use crate::Timestamp;

/// What a camera saw, row-major, top row first: colours or, of a depth camera, distances. The other of the two is empty,
/// so that nobody takes distances for colours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub width: u32,
    pub height: u32,
    /// 8-bit RGB, `[height, width, 3]`.
    pub rgb: Pixels,
    /// Millimetres, u16 little-endian, `[height, width]`; 0 where the distance is not known.
    pub depth_mm: Pixels,
    /// When the shutter fired, on the session's clock.
    pub captured_at: Timestamp,
    /// Counts the camera's images; the same number twice is the same image.
    pub sequence: u64,
}

impl Image {
    pub fn black(width: u32, height: u32) -> Self {
        Self { width, height, rgb: vec![0; width as usize * height as usize * 3].into(), ..Self::default() }
    }

    /// Lets go of the bytes, so that who makes images in place may write to them again; without allocating or freeing, as
    /// long as somebody else has `nothing`.
    pub fn let_go(&mut self, nothing: &Pixels) {
        self.rgb.clone_from(nothing);
        self.depth_mm.clone_from(nothing);
    }
}

/// An image's bytes, read and written as a `Vec<u8>`. Clones share them, so that an image is handed on
/// without being copied; writing to bytes that somebody else has too copies them first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pixels(Arc<Vec<u8>>);

impl From<Vec<u8>> for Pixels {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl Deref for Pixels {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Pixels {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        Arc::make_mut(&mut self.0)
    }
}

/// Memory for images one after another, used again once nobody else has it: what a camera writes to, so
/// that those who look at its images neither copy nor free them.
#[derive(Debug)]
pub struct ImageBuffers {
    bytes: usize,
    buffers: Vec<Pixels>,
}

impl ImageBuffers {
    /// `count` buffers of `bytes` each. There will be more when all are in use at once.
    pub fn new(count: usize, bytes: usize) -> Self {
        Self { bytes, buffers: (0..count).map(|_| vec![0; bytes].into()).collect() }
    }

    /// An image as `write` leaves it, who is given the bytes of some older one.
    pub fn fill(&mut self, write: impl FnOnce(&mut [u8])) -> Pixels {
        let free = self.buffers.iter_mut().position(|buffer| Arc::get_mut(&mut buffer.0).is_some()).unwrap_or_else(|| {
            self.buffers.push(vec![0; self.bytes].into());
            self.buffers.len() - 1
        });
        let buffer = &mut self.buffers[free];
        write(buffer);
        buffer.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_handed_on_is_not_copied_until_somebody_writes() {
        let image = Image::black(4, 2);
        let mut handed_on = image.clone();
        assert_eq!(handed_on.rgb.as_ptr(), image.rgb.as_ptr());
        handed_on.rgb[5] = 7;
        assert_eq!((image.rgb[5], handed_on.rgb[5]), (0, 7));
    }

    #[test]
    fn a_buffer_is_used_again_when_nobody_looks_at_it_any_more() {
        let mut buffers = ImageBuffers::new(1, 3);
        let first = buffers.fill(|rgb| rgb.fill(1));
        let second = buffers.fill(|rgb| rgb.fill(2));
        assert_eq!((&first[..], &second[..]), (&[1; 3][..], &[2; 3][..]), "one that is looked at stays as it is");
        let at = first.as_ptr();
        drop(first);
        let third = buffers.fill(|rgb| rgb[0] = 3);
        assert_eq!((third.as_ptr(), &third[..]), (at, &[3, 1, 1][..]));
    }
}
