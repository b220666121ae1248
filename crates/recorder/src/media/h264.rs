//! RGB images in, H.264 frames out.

use openh264::OpenH264API;
use openh264::encoder::{BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, RateControlMode, VuiConfig};
use openh264::formats::YUVSlices;

use crate::media::encode::{PictureEncoder, Ready};
use crate::media::h264_settings::{set_quantizer, use_cabac};
use crate::media::mp4::avc1_entry;
use crate::{Rate, RecordError};

/// How much coarser frames between key frames are quantized. Where nothing moves they repeat the key frame
/// as it is, in place of encoding the sensor's noise anew; x264, which LeRobot uses, does so more strongly.
const BETWEEN_KEYS: u8 = 6;

/// Encodes one episode of one camera. The first frame, and then every `keyframe_interval`-th, can be
/// decoded alone; there are no B-frames; the same images give the same bytes.
pub(crate) struct H264Encoder {
    camera: String,
    width: usize,
    height: usize,
    encoder: Encoder,
    /// That of the last picture; `None` before the first.
    in_use: Option<u8>,
    /// Of key frames.
    quantizer: u8,
    keyframe_interval: u32,
    /// Pictures since the last key frame, itself included.
    since_key: u32,
    /// Luma, then both chroma planes at half the resolution.
    yuv: Vec<u8>,
    annex_b: Vec<u8>,
    /// The frame in the form that mp4 wants: each unit behind its length in four bytes.
    frame: Vec<u8>,
    /// The parameter sets, which come with every key frame.
    sps: Vec<u8>,
    pps: Vec<u8>,
    entry: Vec<u8>,
}

impl H264Encoder {
    /// `width` and `height` must be even.
    pub(crate) fn new(
        camera: &str,
        width: u32,
        height: u32,
        fps: Rate,
        quantizer: u8,
        keyframe_interval: u32,
    ) -> Result<Self, RecordError> {
        // Without rate control no frame is ever skipped, which would shift every later image against its row.
        let config = EncoderConfig::new()
            .rate_control_mode(RateControlMode::Off)
            .skip_frames(false)
            .bitrate(BitRate::from_bps(100_000_000))
            .max_frame_rate(FrameRate::from_hz(fps.hz() as f32))
            .intra_frame_period(IntraFramePeriod::from_num_frames(keyframe_interval))
            .complexity(Complexity::Low)
            .scene_change_detect(false)
            .adaptive_quantization(false)
            .background_detection(false)
            // More threads would cut the picture into slices by the machine's number of cores.
            .num_threads(1)
            .vui(VuiConfig::bt601());
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config)
            .map_err(|source| RecordError::Encode { camera: camera.to_owned(), source })?;
        let (width, height) = (width as usize, height as usize);
        Ok(Self {
            camera: camera.to_owned(),
            width,
            height,
            encoder,
            in_use: None,
            quantizer,
            keyframe_interval: keyframe_interval.max(1),
            since_key: 0,
            yuv: vec![0; width * height * 3 / 2],
            annex_b: Vec::new(),
            frame: Vec::new(),
            sps: Vec::new(),
            pps: Vec::new(),
            entry: Vec::new(),
        })
    }

    /// Encodes the picture in hand into `annex_b`.
    fn encode(&mut self) -> Result<FrameType, RecordError> {
        let (width, height) = (self.width, self.height);
        let (luma, chroma) = self.yuv.split_at(width * height);
        let (u, v) = chroma.split_at(chroma.len() / 2);
        let planes = YUVSlices::new((luma, u, v), (width, height), (width, width / 2, width / 2));
        let stream = self.encoder.encode(&planes).map_err(|source| RecordError::Encode { camera: self.camera.clone(), source })?;
        self.annex_b.clear();
        stream.write_vec(&mut self.annex_b);
        Ok(stream.frame_type())
    }

    fn failed(&self, what: String) -> RecordError {
        RecordError::Encoder { camera: self.camera.clone(), encoder: "openh264".to_owned(), what }
    }

    /// As [`encode`](Self::encode), at this quantizer.
    fn encode_at(&mut self, quantizer: u8) -> Result<FrameType, RecordError> {
        if self.in_use.is_none() {
            // It can't be told anything before it has seen a picture.
            self.encode()?;
            use_cabac(&mut self.encoder).map_err(|error| self.failed(format!("choosing arithmetic coding: error {error}")))?;
        }
        if self.in_use != Some(quantizer) {
            set_quantizer(&mut self.encoder, quantizer).map_err(|error| self.failed(format!("setting the quantizer: error {error}")))?;
            self.in_use = Some(quantizer);
        }
        self.encode()
    }
}

impl PictureEncoder for H264Encoder {
    fn push(&mut self, picture: &[u8], ready: &mut Ready<'_>) -> Result<(), RecordError> {
        rgb_to_yuv420(picture, self.width, &mut self.yuv);
        let coarser = if self.since_key == 0 { 0 } else { BETWEEN_KEYS };
        let kind = self.encode_at((self.quantizer + coarser).min(51))?;
        self.since_key = (self.since_key + 1) % self.keyframe_interval;

        self.frame.clear();
        for unit in units(&self.annex_b) {
            match unit.first().map(|header| header & 31) {
                Some(7) => self.sps = unit.to_vec(),
                Some(8) => self.pps = unit.to_vec(),
                _ => {
                    self.frame.extend((unit.len() as u32).to_be_bytes());
                    self.frame.extend(unit);
                }
            }
        }
        if self.frame.is_empty() || self.sps.is_empty() || self.pps.is_empty() {
            return Err(self.failed(format!("the encoder answered {} bytes of kind {kind:?} and no picture", self.annex_b.len())));
        }
        if self.entry.is_empty() {
            self.entry = avc1_entry(self.width as u16, self.height as u16, &self.sps, &self.pps);
        }
        ready(&self.entry, &self.frame, kind == FrameType::IDR)
    }

    fn finish(&mut self, _: &mut Ready<'_>) -> Result<(), RecordError> {
        Ok(())
    }
}

/// The units between the start codes (00 00 01, or 00 00 00 01) of a byte stream.
fn units(annex_b: &[u8]) -> Vec<&[u8]> {
    let mut units = Vec::new();
    let mut start = None;
    let mut at = 0;
    while at + 3 <= annex_b.len() {
        if annex_b[at..at + 3] == [0, 0, 1] {
            if let Some(start) = start {
                units.push(trim_zeros(&annex_b[start..at]));
            }
            start = Some(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    units.extend(start.map(|start| trim_zeros(&annex_b[start..])));
    units
}

/// A unit never ends in a zero byte; those before a start code are padding.
fn trim_zeros(unit: &[u8]) -> &[u8] {
    let end = unit.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &unit[..end]
}

/// BT.601 in limited range (luma 16..235), chroma the mean of 2×2 pixels, in 16-bit fixed point.
/// `rgb` is `[height, width, 3]` with both even; `yuv` holds the planes one after another.
fn rgb_to_yuv420(rgb: &[u8], width: usize, yuv: &mut [u8]) {
    let height = rgb.len() / (width * 3);
    let (luma, chroma) = yuv.split_at_mut(width * height);
    let (us, vs) = chroma.split_at_mut(width * height / 4);
    let rows = rgb.chunks_exact(width * 6).zip(luma.chunks_exact_mut(width * 2));
    let chroma_rows = us.chunks_exact_mut(width / 2).zip(vs.chunks_exact_mut(width / 2));
    for ((rgb, luma), (us, vs)) in rows.zip(chroma_rows) {
        let (upper, lower) = rgb.split_at(width * 3);
        let (luma_upper, luma_lower) = luma.split_at_mut(width);
        let pairs = upper.chunks_exact(6).zip(lower.chunks_exact(6));
        let lumas = luma_upper.chunks_exact_mut(2).zip(luma_lower.chunks_exact_mut(2));
        for (((upper, lower), (y_upper, y_lower)), (u, v)) in pairs.zip(lumas).zip(us.iter_mut().zip(vs)) {
            let (mut r, mut g, mut b) = (0, 0, 0);
            for (pixels, ys) in [(upper, y_upper), (lower, y_lower)] {
                for (pixel, y) in pixels.chunks_exact(3).zip(ys) {
                    let [red, green, blue] = [i32::from(pixel[0]), i32::from(pixel[1]), i32::from(pixel[2])];
                    *y = (((16_829 * red + 33_039 * green + 6_416 * blue + 32_768) >> 16) + 16) as u8;
                    r += red;
                    g += green;
                    b += blue;
                }
            }
            // The sums are of four pixels, hence two bits more to shift.
            *u = (((-9_714 * r - 19_071 * g + 28_784 * b + 131_072) >> 18) + 128) as u8;
            *v = (((28_784 * r - 24_103 * g - 4_681 * b + 131_072) >> 18) + 128) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_and_the_primaries_land_where_bt601_puts_them() {
        // Y, U, V of each colour in limited range, from the standard's equations.
        for (rgb, expected) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [81, 90, 240]),
            ([0, 255, 0], [145, 54, 34]),
            ([0, 0, 255], [41, 240, 110]),
        ] {
            let mut yuv = [0; 6];
            rgb_to_yuv420(&[rgb, rgb, rgb, rgb].concat(), 2, &mut yuv);
            for (found, expected) in [(yuv[0], expected[0]), (yuv[4], expected[1]), (yuv[5], expected[2])] {
                assert!(found.abs_diff(expected) <= 1, "{rgb:?} became {yuv:?}, expected {expected}");
            }
        }
    }

    #[test]
    fn units_are_split_at_both_kinds_of_start_code() {
        let stream = [0, 0, 0, 1, 0x67, 9, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 1, 2];
        assert_eq!(units(&stream), [&[0x67, 9][..], &[0x68], &[0x65, 1, 2]]);
        assert!(units(&[1, 2]).is_empty());
    }

    /// How many bytes each frame takes and whether it is a key frame: 20 of grey with `noise` on it, given 32 random bits.
    fn sizes(quantizer: u8, keyframe_interval: u32, noise: impl Fn(u32) -> u8) -> Vec<(usize, bool)> {
        let mut encoder = H264Encoder::new("front", 128, 96, 30.into(), quantizer, keyframe_interval).unwrap();
        let mut rgb = vec![0; 128 * 96 * 3];
        let mut state = 1u32;
        let mut sizes = Vec::new();
        for _ in 0..20 {
            for byte in &mut rgb {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = noise(state >> 8);
            }
            encoder
                .push(&rgb, &mut |_, bytes, is_key| {
                    sizes.push((bytes.len(), is_key));
                    Ok(())
                })
                .unwrap();
        }
        sizes
    }

    #[test]
    fn key_frames_come_when_they_are_due_and_none_is_skipped_even_on_noise() {
        for (quantizer, interval) in [(24, 2), (51, 2), (10, 3), (30, 1)] {
            for (index, (_, is_key)) in sizes(quantizer, interval, |bits| bits as u8).into_iter().enumerate() {
                assert_eq!(is_key, index % interval as usize == 0, "frame {index} of {quantizer}, {interval}");
            }
        }
    }

    /// The room is for twice as much as what is raw.
    #[test]
    fn the_least_predictable_pictures_fit_into_the_room_there_is() {
        let raw = 128 * 96 * 3 / 2;
        let most = |noise: &dyn Fn(u32) -> u8| sizes(crate::write::options::FINEST, 2, noise).into_iter().map(|(bytes, _)| bytes).max();
        let noises: [&dyn Fn(u32) -> u8; 3] =
            [&|bits| bits as u8, &|bits| if bits & 1 == 0 { 0 } else { 255 }, &|bits| (bits as u8) & 0x81];
        for noise in noises {
            assert!(most(noise).is_some_and(|most| most < raw), "{:?} of {raw}", most(noise));
        }
    }

    #[test]
    fn a_sensors_noise_is_not_encoded_again_between_key_frames() {
        let frames = sizes(24, 2, |bits| 100 + (bits % 30) as u8);
        let total = |of_keys| frames.iter().filter(|(_, is_key)| *is_key == of_keys).map(|(bytes, _)| bytes).sum::<usize>();
        assert!(total(false) * 4 < total(true), "{frames:?}");
    }
}
