//! Images in files: a folder of them one after another, or one that stands still.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use image::{ImageReader, RgbImage};
use sinew_core::{Clock, Timestamp};

use super::pace::{Pace, no_rate};
use crate::camera::{OpenSource, Picture, PixelFormat, Source, SourceError, Stream};

/// The images (`.png`, `.jpg`, `.jpeg`) of a folder in a loop, in the order that a reader of their names expects (`2` before `10`),
/// or one image again and again; `fps` a second by its clock. Opened again it goes on where it would be by then.
pub struct ImageFiles {
    path: PathBuf,
    fps: f64,
    clock: Arc<dyn Clock>,
    begun: Option<Timestamp>,
}

impl ImageFiles {
    pub fn new(path: PathBuf, fps: f64, clock: Arc<dyn Clock>) -> Self {
        Self { path, fps, clock, begun: None }
    }

    /// Whether a file is called as an image is. What is neither that nor a folder is a video.
    pub fn is_image(path: &Path) -> bool {
        let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
        matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg"))
    }
}

fn unusable(path: &Path, what: impl ToString) -> SourceError {
    SourceError::Unusable { doing: "reading", source_name: format!("file:{}", path.display()), what: what.to_string() }
}

impl OpenSource for ImageFiles {
    fn name(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let failed = |error: io::Error| unusable(&self.path, error);
        let mut paths = Vec::new();
        if fs::metadata(&self.path).map_err(failed)?.is_dir() {
            for entry in fs::read_dir(&self.path).map_err(failed)? {
                let path = entry.map_err(failed)?.path();
                if Self::is_image(&path) {
                    paths.push(path);
                }
            }
            paths.sort_by(|a, b| natural(&name_of(a), &name_of(b)));
        } else {
            paths.push(self.path.clone());
        }
        let first = paths.first().ok_or_else(|| unusable(&self.path, "expected images (.png, .jpg, .jpeg) in the folder, found none"))?;
        let image = read(first)?;
        let pace = Pace::new(self.clock.clone(), &mut self.begun, self.fps).ok_or_else(|| unusable(&self.path, no_rate(self.fps)))?;
        let stream = Stream { width: image.width(), height: image.height(), format: PixelFormat::Rgb, fps: Some(self.fps) };
        Ok(Box::new(Open { paths, stream, pace, at: 0, image }))
    }
}

struct Open {
    paths: Vec<PathBuf>,
    stream: Stream,
    pace: Pace,
    /// Which of the paths `image` is.
    at: usize,
    image: RgbImage,
}

impl Source for Open {
    fn stream(&self) -> Stream {
        self.stream
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let Some((number, captured_at)) = self.pace.next(wait) else { return Ok(false) };
        let at = (number % self.paths.len() as u64) as usize;
        if at != self.at {
            (self.at, self.image) = (at, read(&self.paths[at])?);
        }
        let (width, height) = self.image.dimensions();
        let bytes = self.image.as_raw();
        take(&Picture { format: PixelFormat::Rgb, width, height, stride: width as usize * 3, bytes, captured_at, sequence: number });
        Ok(true)
    }
}

fn read(path: &Path) -> Result<RgbImage, SourceError> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|error| unusable(path, error))?;
    reader.decode().map(|image| image.to_rgb8()).map_err(|error| unusable(path, error))
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Numbers in names count as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a_left, mut b_left) = (a, b);
    loop {
        let (a_number, a_rest) = leading_digits(a_left);
        let (b_number, b_rest) = leading_digits(b_left);
        if !a_number.is_empty() && !b_number.is_empty() {
            let (a_value, b_value) = (a_number.trim_start_matches('0'), b_number.trim_start_matches('0'));
            let order = a_value.len().cmp(&b_value.len()).then_with(|| a_value.cmp(b_value));
            if order != Ordering::Equal {
                return order;
            }
            (a_left, b_left) = (a_rest, b_rest);
            continue;
        }
        let (mut a_chars, mut b_chars) = (a_left.chars(), b_left.chars());
        match (a_chars.next(), b_chars.next()) {
            (Some(x), Some(y)) if x == y => (a_left, b_left) = (a_chars.as_str(), b_chars.as_str()),
            // Such as `7` and `07`.
            (None, None) => return a.cmp(b),
            (x, y) => return x.cmp(&y),
        }
    }
}

fn leading_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        let mut names = ["b2.png", "a10.png", "a2.png", "a02.png", "a1x.png", "a1.png", "a"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "a1.png", "a1x.png", "a02.png", "a2.png", "a10.png", "b2.png"]);
    }
}
