//! H.264 by the decoder that is built in.

use std::collections::VecDeque;

use openh264::OpenH264API;
use openh264::decoder::{DecodeOptions, DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use sinew_core::Image;

use super::decode::FrameDecoder;
use super::h264_color::{ToldColor, told_color};
use super::yuv::{ColorSpace, Planes, to_rgb};
use crate::media::mp4_read::{VideoIndex, descend};

/// A decoder and the pictures that it gave ahead of their turn.
pub(super) struct H264Stream {
    decoder: Decoder,
    /// Whether the decoder has seen nothing.
    is_new: bool,
    /// Parameter sets in the form of a byte stream.
    parameters: Vec<u8>,
    /// Bytes of the length in front of each unit.
    length_bytes: usize,
    color: ColorSpace,
    /// A frame in the form of a byte stream.
    stream: Vec<u8>,
    ready: VecDeque<Option<Image>>,
}

impl H264Stream {
    pub(super) fn new(index: &VideoIndex) -> Result<Self, String> {
        // The boxes of a sample entry for video come after 78 bytes of fixed fields.
        let boxes = index.sample_entry.get(8 + 78..).unwrap_or_default();
        let Parameters { length_bytes, stream, color } =
            descend(boxes, &[b"avcC"]).and_then(parameters).ok_or("its avcC box can't be read")?;
        let color = color_space(boxes, color);
        let decoder = Self::decoder()?;
        Ok(Self { decoder, is_new: true, parameters: stream, length_bytes, color, stream: Vec::new(), ready: VecDeque::new() })
    }

    /// 8-bit 4:2:0 in a profile that the decoder knows.
    pub(super) fn knows(index: &VideoIndex) -> bool {
        let boxes = index.sample_entry.get(8 + 78..).unwrap_or_default();
        let profile = descend(boxes, &[b"avcC"]).and_then(|avcc| avcc.get(1));
        matches!(index.codec.as_str(), "avc1" | "avc3") && matches!(profile, Some(66 | 77 | 88 | 100))
    }

    fn decoder() -> Result<Decoder, String> {
        let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
        Decoder::with_api_config(OpenH264API::from_source(), config).map_err(|error| error.to_string())
    }
}

impl FrameDecoder for H264Stream {
    fn restart(&mut self) -> Result<(), String> {
        self.ready.clear();
        // One that was emptied before a stream's end takes nothing more.
        if !self.is_new {
            self.decoder = Self::decoder()?;
            self.is_new = true;
        }
        Ok(())
    }

    fn feed(&mut self, frame: &[u8], is_key: bool, is_wanted: bool) -> Result<(), String> {
        self.is_new = false;
        self.stream.clear();
        if is_key {
            self.stream.extend(&self.parameters);
        }
        let mut rest = frame;
        while !rest.is_empty() {
            let (length, after) = rest.split_at_checked(self.length_bytes).ok_or("a unit has no length")?;
            let length = length.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte));
            let (unit, after) = after.split_at_checked(length).ok_or("a unit is longer than its frame")?;
            self.stream.extend([0, 0, 0, 1]);
            self.stream.extend(unit);
            rest = after;
        }
        let options = DecodeOptions::new().flush_after_decode(Flush::NoFlush);
        let picture = self.decoder.decode_with_options(&self.stream, options).map_err(|error| error.to_string())?;
        if let Some(picture) = picture {
            let image = is_wanted.then(|| to_image(&picture, self.color)).transpose()?;
            self.ready.push_back(image);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let color = self.color;
        let pictures = self.decoder.flush_remaining().map_err(|error| error.to_string())?;
        let images: Vec<Image> = pictures.iter().map(|picture| to_image(picture, color)).collect::<Result<_, String>>()?;
        self.ready.extend(images.into_iter().map(Some));
        Ok(())
    }

    fn next(&mut self) -> Option<Option<Image>> {
        self.ready.pop_front()
    }
}

fn to_image(picture: &DecodedYUV<'_>, color: ColorSpace) -> Result<Image, String> {
    let (width, height) = picture.dimensions();
    let mut image = Image::black(width as u32, height as u32);
    let planes = Planes { y: picture.y(), u: picture.u(), v: picture.v(), strides: picture.strides() };
    to_rgb(&planes, color, width, height, &mut image.rgb).ok_or("a decoded plane is too small")?;
    Ok(image)
}

/// What an avcC box says.
struct Parameters {
    /// Bytes of the length in front of each unit.
    length_bytes: usize,
    /// The parameter sets as a byte stream.
    stream: Vec<u8>,
    color: ToldColor,
}

fn parameters(avcc: &[u8]) -> Option<Parameters> {
    let length_bytes = usize::from(avcc.get(4)? & 3) + 1;
    let (mut stream, mut color) = (Vec::new(), None);
    let mut rest = avcc.get(5..)?;
    // Sequence parameter sets, then picture parameter sets.
    for mask in [31, 255] {
        let (count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..count & mask {
            let (length, after) = rest.split_at_checked(2)?;
            let (set, after) = after.split_at_checked(usize::from(length[0]) << 8 | usize::from(length[1]))?;
            color.get_or_insert_with(|| told_color(set));
            stream.extend([0, 0, 0, 1]);
            stream.extend(set);
            rest = after;
        }
    }
    Some(Parameters { length_bytes, stream, color: color.unwrap_or_default() })
}

/// What the stream says, then what a `colr` box says; BT.601 in limited range, which is what recorders
/// write, where neither does.
fn color_space(boxes: &[u8], told: ToldColor) -> ColorSpace {
    let nclx = descend(boxes, &[b"colr"]).filter(|colr| colr.starts_with(b"nclx"));
    let matrix = nclx.and_then(|colr| Some(u16::from_be_bytes([*colr.get(8)?, *colr.get(9)?])));
    let full_range = nclx.and_then(|colr| colr.get(10)).is_some_and(|flags| flags & 0x80 != 0);
    ColorSpace {
        full_range: told.full_range.unwrap_or(full_range),
        matrix: told.matrix.filter(|matrix| *matrix != 2).or(matrix.and_then(|matrix| u8::try_from(matrix).ok())).unwrap_or(2),
    }
}
