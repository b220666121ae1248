//! A test pattern: colours that change over the picture, a bar that moves, and a number that counts.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, Timestamp};

use super::pace::{Pace, no_rate};
use crate::camera::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream, draw_counter};

/// Draws a pattern of `width` by `height` pixels `fps` times a second by its clock, with the number of each picture in it
/// ([`draw_counter`]): 0 for the first of all, and what it had no time for is left out. Opened again it counts on.
pub struct Pattern {
    width: u32,
    height: u32,
    fps: f64,
    clock: Arc<dyn Clock>,
    /// When the picture 0 was due.
    begun: Option<Timestamp>,
}

impl Pattern {
    pub fn new(width: u32, height: u32, fps: f64, clock: Arc<dyn Clock>) -> Self {
        Self { width, height, fps, clock, begun: None }
    }
}

impl OpenSource for Pattern {
    fn name(&self) -> String {
        "pattern".to_owned()
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let unusable = |what| SourceError::Unusable { doing: "drawing", source_name: "pattern".to_owned(), what };
        if !(1..=8192).contains(&self.width) || !(1..=8192).contains(&self.height) {
            return Err(unusable(format!("expected sides from 1 to 8192, found {} by {}", self.width, self.height)));
        }
        let pace = Pace::new(self.clock.clone(), &mut self.begun, self.fps).ok_or_else(|| unusable(no_rate(self.fps)))?;
        let (width, height) = (self.width as usize, self.height as usize);
        let mut background = vec![0; width * height * 3];
        for (i, pixel) in background.chunks_exact_mut(3).enumerate() {
            let (x, y) = (i % width, i / width);
            pixel.copy_from_slice(&[(x * 255 / width) as u8, (y * 255 / height) as u8, 96]);
        }
        let stream = Stream { width: self.width, height: self.height, format: PixelFormat::Rgb, fps: Some(self.fps) };
        let rgb = background.clone();
        Ok(Box::new(Open { stream, pace, background, rgb }))
    }
}

struct Open {
    stream: Stream,
    pace: Pace,
    background: Vec<u8>,
    rgb: Vec<u8>,
}

impl Source for Open {
    fn stream(&self) -> Stream {
        self.stream
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let Some((number, captured_at)) = self.pace.next(wait) else { return Ok(false) };
        let Stream { width, height, format, .. } = self.stream;
        let columns = width as usize;
        self.rgb.copy_from_slice(&self.background);
        let bar = (number * 4 % u64::from(width)) as usize;
        for row in self.rgb.chunks_exact_mut(columns * 3) {
            row[bar * 3..(bar + (columns / 16).max(1)).min(columns) * 3].fill(230);
        }
        draw_counter(&mut self.rgb, width, height, number as u32);
        take(&Picture { format, width, height, stride: columns * 3, bytes: &self.rgb, captured_at, sequence: number });
        Ok(true)
    }
}
