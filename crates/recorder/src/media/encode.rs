//! Pictures in, encoded frames out: what every encoder is to the recorder.

use std::io::Cursor;

use crate::format::feature::{DatasetSchema, FeatureKind, PictureFeature};
use crate::media::ffmpeg::FfmpegEncoder;
use crate::media::h264::H264Encoder;
use crate::write::options::{RecorderOptions, VideoOptions};
use crate::{Rate, RecordError};

/// Takes an encoded frame: the sample entry that a decoder needs (empty for stills), the bytes, and
/// whether it can be decoded alone.
pub(crate) type Ready<'a> = dyn FnMut(&[u8], &[u8], bool) -> Result<(), RecordError> + 'a;

/// Encodes one episode of one camera. As many frames come out as went in, in their order, but an encoder
/// may hold some back until it is finished.
pub(crate) trait PictureEncoder: Send {
    /// `picture` is in the form of the feature: RGB8 `[height, width, 3]`, or depth in millimetres, u16
    /// little-endian `[height, width]`.
    fn push(&mut self, picture: &[u8], ready: &mut Ready<'_>) -> Result<(), RecordError>;

    fn finish(&mut self, ready: &mut Ready<'_>) -> Result<(), RecordError>;
}

/// The encoder of a feature.
pub(crate) fn encoder_of(feature: &PictureFeature, fps: Rate, options: &RecorderOptions) -> Result<Box<dyn PictureEncoder>, RecordError> {
    let PictureFeature { key, width, height, kind } = feature;
    let (width, height) = (*width, *height);
    Ok(match kind {
        FeatureKind::Image { .. } => Box::new(PngEncoder { camera: key.clone(), width, height, frame: Vec::new() }),
        FeatureKind::Depth { .. } => Box::new(FfmpegEncoder::depth(key, width, height, fps, &options.depth)?),
        _ => {
            let VideoOptions { encoder, quality, keyframe_interval, .. } = &options.video;
            if encoder == VideoOptions::OPENH264 {
                Box::new(H264Encoder::new(key, width, height, fps, *quality, *keyframe_interval)?)
            } else {
                Box::new(FfmpegEncoder::colour(key, width, height, fps, &options.video)?)
            }
        }
    })
}

/// Has the encoder of each camera encode a picture: what can't be had, or not so, is known before anything is to be recorded.
pub(crate) fn try_encoders(schema: &DatasetSchema, options: &RecorderOptions) -> Result<(), RecordError> {
    for picture in schema.pictures() {
        let bytes = picture.width as usize * picture.height as usize * if picture.is_depth() { 2 } else { 3 };
        let mut encoder = encoder_of(&picture, schema.fps, options)?;
        encoder.push(&vec![0; bytes], &mut |_, _, _| Ok(()))?;
        encoder.finish(&mut |_, _, _| Ok(()))?;
    }
    Ok(())
}

/// Lossless stills, which go into the table.
struct PngEncoder {
    camera: String,
    width: u32,
    height: u32,
    frame: Vec<u8>,
}

impl PictureEncoder for PngEncoder {
    fn push(&mut self, picture: &[u8], ready: &mut Ready<'_>) -> Result<(), RecordError> {
        self.frame.clear();
        let mut encoder = png::Encoder::new(Cursor::new(&mut self.frame), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(picture).and_then(|()| writer.finish()));
        written.map_err(|error| RecordError::Encoder {
            camera: self.camera.clone(),
            encoder: "PNG".to_owned(),
            what: error.to_string(),
        })?;
        ready(&[], &self.frame, true)
    }

    fn finish(&mut self, _: &mut Ready<'_>) -> Result<(), RecordError> {
        Ok(())
    }
}
