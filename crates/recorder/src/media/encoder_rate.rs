//! How fast an encoder is on this machine.

use std::time::{Duration, Instant};

use super::encode::encoder_of;
use crate::format::feature::{FeatureKind, PictureFeature};
use crate::write::options::{RecorderOptions, VideoOptions};
use crate::{Rate, RecordError};

/// Pictures of `width` by `height` that the encoder of `video` takes in a second on this machine, over half a second of a moving
/// pattern.
///
/// # Errors
/// When the encoder can't be had, or not so.
pub fn encoder_rate(video: &VideoOptions, width: u32, height: u32) -> Result<f64, RecordError> {
    const PATTERNS: usize = 8;
    let picture = PictureFeature { key: "a pattern".to_owned(), width, height, kind: FeatureKind::Video { height, width } };
    let options = RecorderOptions { video: video.clone(), ..RecorderOptions::default() };
    let mut encoder = encoder_of(&picture, Rate::from(30), &options)?;
    let size = width as usize * height as usize * 3;
    // Smooth with some grain, as a camera's are.
    let pattern =
        |at: usize| (0..size).map(|i| ((i / 3 + 7 * at) % 251) as u8 ^ ((i * 2_654_435_761) >> 29) as u8 & 3).collect::<Vec<u8>>();
    let pictures: Vec<Vec<u8>> = (0..PATTERNS).map(pattern).collect();
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(500) {
        encoder.push(&pictures[count % PATTERNS], &mut |_, _, _| Ok(()))?;
        count += 1;
    }
    encoder.finish(&mut |_, _, _| Ok(()))?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
