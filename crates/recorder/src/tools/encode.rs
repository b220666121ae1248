//! Images encoded as video, as far as a tool needs it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::ToolError;
use super::mux::{Clip, ClipSample};
use super::videos::Source;
use crate::commit::io_error;
use crate::format::feature::{Feature, FeatureKind};
use crate::format::schema::picture_size;
use crate::media::encode::encoder_of;
use crate::progress::{Progress, Step, step};
use crate::{ReadError, RecordError, RecorderOptions, VideoOptions};

/// Encodes an episode of the camera `key`; encoded frames go to the new file `scratch`.
pub(super) fn clip(
    source: &Source<'_>,
    key: &str,
    options: &VideoOptions,
    scratch: &Path,
    progress: &mut Progress<'_>,
) -> Result<Clip, ToolError> {
    let reader = source.reader;
    let side = |side: u64| u16::try_from(side).unwrap_or(0);
    let (width, height) = picture_size(&reader.features()[key]).map_or((0, 0), |(width, height)| (side(width), side(height)));
    let invalid = |what: String| ReadError::Invalid { path: reader.root().to_owned(), what };
    let built_in = options.encoder == VideoOptions::OPENH264;
    if width.min(height) == 0 || (built_in && (!width.is_multiple_of(2) || !height.is_multiple_of(2) || width.max(height) > 3840)) {
        return Err(invalid(format!("{key} is {width}x{height}; the built-in encoder takes even sizes up to 3840")).into());
    }
    let kind = FeatureKind::Video { height: height.into(), width: width.into() };
    let picture = Feature { name: key.to_owned(), kind, names: serde_json::Value::Null }.picture();
    let picture = picture.ok_or_else(|| invalid(format!("{key} has no images")))?;
    let options = RecorderOptions { video: options.clone(), ..RecorderOptions::default() };
    let mut encoder = encoder_of(&picture, reader.fps(), &options)?;

    let file = File::create(scratch).map_err(io_error("creating", scratch))?;
    let mut out = BufWriter::new(file);
    let mut clip = Clip { path: scratch.to_owned(), sample_entry: Vec::new(), size: (width, height), samples: Vec::new() };
    let mut offset = 0;
    let mut ready = |entry: &[u8], bytes: &[u8], is_key: bool| -> Result<(), RecordError> {
        clip.sample_entry.clear();
        clip.sample_entry.extend(entry);
        clip.samples.push(ClipSample { offset, bytes: bytes.len() as u32, is_key, rank: clip.samples.len() as u32 });
        offset += bytes.len() as u64;
        out.write_all(bytes).map_err(io_error("writing", scratch))
    };
    let mut images = reader.images(source.episode, key, 0..source.frames)?;
    for frame in 0..source.frames {
        if frame.is_multiple_of(16) {
            step(progress, "encoding video", frame, source.frames)?;
        }
        let now = Step { doing: "encoding video", done: frame, total: source.frames };
        let Some(image) = images.next_while(&mut || progress(now)) else { break };
        let image = image?;
        if (image.width, image.height) != (width.into(), height.into()) {
            return Err(invalid(format!("frame {frame} of {key} is {}x{}, expected {width}x{height}", image.width, image.height)).into());
        }
        encoder.push(&image.rgb, &mut ready)?;
    }
    encoder.finish(&mut ready)?;
    out.flush().map_err(io_error("writing", scratch))?;
    if clip.samples.len() as u64 != source.frames {
        let what = format!("{} frames came back of {}", clip.samples.len(), source.frames);
        return Err(RecordError::Encoder { camera: key.to_owned(), encoder: options.video.encoder, what }.into());
    }
    Ok(clip)
}
