//! A test pattern: colours that change over the picture, a bar that moves, and a number that counts.

use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Clock, Timestamp};

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
        let is_size = (1..=8192).contains(&self.width) && (1..=8192).contains(&self.height);
        if !is_size || !(0.01..=1000.0).contains(&self.fps) {
            let what = format!(
                "expected sides from 1 to 8192 and 0.01 to 1000 pictures a second, found {} by {} at {}",
                self.width, self.height, self.fps
            );
            return Err(SourceError::Unusable { doing: "drawing", source_name: self.name(), what });
        }
        let now = self.clock.now();
        let begun = *self.begun.get_or_insert(now);
        let period_ns = 1e9 / self.fps;
        let next = (now.nanos_since(begun) as f64 / period_ns).ceil() as u64;
        let (width, height) = (self.width as usize, self.height as usize);
        let mut background = vec![0; width * height * 3];
        for (i, pixel) in background.chunks_exact_mut(3).enumerate() {
            let (x, y) = (i % width, i / width);
            pixel.copy_from_slice(&[(x * 255 / width) as u8, (y * 255 / height) as u8, 96]);
        }
        let stream = Stream { width: self.width, height: self.height, format: PixelFormat::Rgb, fps: Some(self.fps) };
        let rgb = background.clone();
        Ok(Box::new(Open { stream, clock: self.clock.clone(), begun, period_ns, next, background, rgb }))
    }
}

struct Open {
    stream: Stream,
    clock: Arc<dyn Clock>,
    begun: Timestamp,
    period_ns: f64,
    /// The number of the next picture.
    next: u64,
    background: Vec<u8>,
    rgb: Vec<u8>,
}

impl Open {
    fn due(&self, number: u64) -> Timestamp {
        self.begun + Duration::from_nanos((number as f64 * self.period_ns) as u64)
    }
}

impl Source for Open {
    fn stream(&self) -> Stream {
        self.stream
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let now = self.clock.now();
        let due = self.due(self.next);
        if now + wait < due {
            self.clock.sleep_until(now + wait);
            return Ok(false);
        }
        self.clock.sleep_until(due);
        // The newest that is due: nobody wants those before it any more.
        let newest = (self.clock.now().nanos_since(self.begun) as f64 / self.period_ns) as u64;
        let number = self.next.max(newest);
        self.next = number + 1;
        let (width, height) = (self.stream.width as usize, self.stream.height as usize);
        self.rgb.copy_from_slice(&self.background);
        let bar = number as usize * 4 % width;
        for row in self.rgb.chunks_exact_mut(width * 3) {
            row[bar * 3..(bar + (width / 16).max(1)).min(width) * 3].fill(230);
        }
        draw_counter(&mut self.rgb, self.stream.width, self.stream.height, number as u32);
        let stride = width * 3;
        debug_assert_eq!(self.rgb.len(), stride * height);
        take(&Picture {
            format: PixelFormat::Rgb,
            width: self.stream.width,
            height: self.stream.height,
            stride,
            bytes: &self.rgb,
            captured_at: self.due(number),
            sequence: number,
        });
        Ok(true)
    }
}
