//! H.264 by the decoder that is built in.

use std::collections::VecDeque;

use openh264::OpenH264API;
use openh264::decoder::{DecodeOptions, DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use sinew_core::Image;

use super::yuv::{ColorSpace, Planes, to_rgb};
use crate::media::mp4_read::{VideoIndex, descend};

/// A decoder and the pictures that it gave ahead of their turn.
pub(crate) struct H264Stream {
    decoder: Decoder,
    /// Parameter sets in the form of a byte stream.
    parameters: Vec<u8>,
    /// Bytes of the length in front of each unit.
    length_bytes: usize,
    color: ColorSpace,
    pub(crate) ready: VecDeque<Image>,
}

impl H264Stream {
    pub(crate) fn new(index: &VideoIndex) -> Result<Self, String> {
        // The boxes of a sample entry for video come after 78 bytes of fixed fields.
        let boxes = index.sample_entry.get(8 + 78..).unwrap_or_default();
        let (length_bytes, parameters) = descend(boxes, &[b"avcC"]).and_then(parameters).ok_or("its avcC box can't be read")?;
        let color = color_space(boxes);
        let decoder = Self::decoder()?;
        Ok(Self { decoder, parameters, length_bytes, color, ready: VecDeque::new() })
    }

    fn decoder() -> Result<Decoder, String> {
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        Decoder::with_api_config(OpenH264API::from_source(), config).map_err(|error| error.to_string())
    }

    /// Forgets all, to go on at a frame that can be decoded alone.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        self.ready.clear();
        self.decoder = Self::decoder()?;
        Ok(())
    }

    /// Decodes one sample; pictures that are complete join `ready` in the order in which they are shown.
    pub(crate) fn feed(&mut self, sample: &[u8], is_key: bool) -> Result<(), String> {
        let mut stream = if is_key { self.parameters.clone() } else { Vec::new() };
        let mut rest = sample;
        while !rest.is_empty() {
            let (length, after) = rest.split_at_checked(self.length_bytes).ok_or("a unit has no length")?;
            let length = length.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte));
            let (unit, after) = after.split_at_checked(length).ok_or("a unit is longer than its frame")?;
            stream.extend([0, 0, 0, 1]);
            stream.extend(unit);
            rest = after;
        }
        let options = DecodeOptions::new().flush_after_decode(Flush::NoFlush);
        let picture = self.decoder.decode_with_options(&stream, options).map_err(|error| error.to_string())?;
        let picture = picture.map(|picture| to_image(&picture, self.color)).transpose()?;
        self.ready.extend(picture);
        Ok(())
    }

    /// Says that nothing follows.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        let color = self.color;
        let pictures = self.decoder.flush_remaining().map_err(|error| error.to_string())?;
        let images: Vec<Image> = pictures.iter().map(|picture| to_image(picture, color)).collect::<Result<_, String>>()?;
        self.ready.extend(images);
        Ok(())
    }
}

fn to_image(picture: &DecodedYUV<'_>, color: ColorSpace) -> Result<Image, String> {
    let (width, height) = picture.dimensions();
    let mut image = Image::black(width as u32, height as u32);
    let planes = Planes { y: picture.y(), u: picture.u(), v: picture.v(), strides: picture.strides() };
    to_rgb(&planes, color, width, height, &mut image.rgb).ok_or("a decoded plane is too small")?;
    Ok(image)
}

/// The bytes of a unit's length, and the parameter sets as a byte stream.
fn parameters(avcc: &[u8]) -> Option<(usize, Vec<u8>)> {
    let length_bytes = usize::from(avcc.get(4)? & 3) + 1;
    let mut stream = Vec::new();
    let mut rest = avcc.get(5..)?;
    // Sequence parameter sets, then picture parameter sets.
    for mask in [31, 255] {
        let (count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..count & mask {
            let (length, after) = rest.split_at_checked(2)?;
            let (set, after) = after.split_at_checked(usize::from(length[0]) << 8 | usize::from(length[1]))?;
            stream.extend([0, 0, 0, 1]);
            stream.extend(set);
            rest = after;
        }
    }
    Some((length_bytes, stream))
}

/// What a `colr` box says; BT.601 in limited range, which is what recorders write, without one.
fn color_space(boxes: &[u8]) -> ColorSpace {
    let nclx = descend(boxes, &[b"colr"]).filter(|colr| colr.starts_with(b"nclx"));
    let matrix = nclx.and_then(|colr| Some((*colr.get(8)?, *colr.get(9)?)));
    let full_range = nclx.and_then(|colr| colr.get(10)).is_some_and(|flags| flags & 0x80 != 0);
    ColorSpace { full_range, bt709: matrix == Some((0, 1)) }
}
