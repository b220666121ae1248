//! AV1 by a decoder in this process.

use std::collections::VecDeque;

use sinew_core::Image;

use super::dav1d::Dav1d;
use super::decode::FrameDecoder;
use super::yuv::{ColorSpace, Planes, to_rgb};
use crate::media::mp4_read::{VideoIndex, descend};

/// A decoder and the pictures that it gave ahead of their turn.
pub(super) struct Av1Stream {
    decoder: Dav1d,
    /// What the file says before all frames: usually the sequence header.
    header: Vec<u8>,
    ready: VecDeque<Option<Image>>,
}

impl Av1Stream {
    pub(super) fn new(index: &VideoIndex) -> Result<Self, String> {
        let header = configuration(index).and_then(|av1c| av1c.get(4..)).ok_or("its av1C box can't be read")?.to_vec();
        let decoder = Dav1d::new(u32::from(index.width) * u32::from(index.height))?;
        Ok(Self { decoder, header, ready: VecDeque::new() })
    }

    /// 8-bit 4:2:0, which is what the decoder knows.
    pub(super) fn knows(index: &VideoIndex) -> bool {
        // The bits: tier, high_bitdepth, twelve_bit, monochrome, subsampling_x, subsampling_y and two more.
        index.codec == "av01" && configuration(index).and_then(|av1c| av1c.get(2)).is_some_and(|bits| bits >> 2 & 0b11111 == 0b00011)
    }
}

fn configuration(index: &VideoIndex) -> Option<&[u8]> {
    // The boxes of a sample entry for video come after 78 bytes of fixed fields.
    descend(index.sample_entry.get(8 + 78..)?, &[b"av1C"])
}

impl FrameDecoder for Av1Stream {
    fn restart(&mut self) -> Result<(), String> {
        self.ready.clear();
        self.decoder.flush();
        // It may be left out; then the first frame has it.
        if self.header.is_empty() { Ok(()) } else { self.decoder.decode(&self.header, &mut |_| Ok(())) }
    }

    fn feed(&mut self, frame: &[u8], _is_key: bool, is_wanted: bool) -> Result<(), String> {
        let ready = &mut self.ready;
        self.decoder.decode(frame, &mut |picture| {
            if !is_wanted {
                ready.push_back(None);
                return Ok(());
            }
            let (width, height) = (picture.width, picture.height);
            let mut image = Image::black(width as u32, height as u32);
            let ([y, u, v], [luma, chroma]) = (picture.planes, picture.strides);
            let color = ColorSpace { full_range: picture.full_range, matrix: picture.matrix };
            let planes = Planes { y, u, v, strides: (luma, chroma, chroma) };
            to_rgb(&planes, color, width, height, &mut image.rgb).ok_or("a decoded plane is too small")?;
            ready.push_back(Some(image));
            Ok(())
        })
    }

    fn finish(&mut self) -> Result<(), String> {
        // It holds nothing back.
        Ok(())
    }

    fn next(&mut self) -> Option<Option<Image>> {
        self.ready.pop_front()
    }
}
