//! What is made of a picture: a part of it, at another size, turned.
//!
//! LeRobot's cameras turn alone (`rotation`), and their width and height are those of the turned image
//! (`lerobot/cameras/opencv/camera_opencv.py` of LeRobot 0.6.1); so are a description's.

use std::fmt;

use sinew_core::CameraDescription;
use thiserror::Error;

/// A part of a picture as it comes, pixels from its top left corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Crop {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}:{}", self.x, self.y, self.width, self.height)
    }
}

/// What is done to pictures before they are turned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShapeOptions {
    pub crop: Option<Crop>,
    /// Whether what has another size than the description's is brought to it: colours between each other, distances as the
    /// nearest pixel has them, as a mean of near and far is a place where nothing is. Without, it is an error.
    pub resize: bool,
}

/// A picture that can't become what is described.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ShapeError {
    #[error("cutting {crop} (X:Y:W:H) out of a picture: it has {width} by {height} pixels")]
    Crop { crop: Crop, width: u32, height: u32 },
    #[error("expected pictures of {expected} pixels{}, found {found}", turned(*.rotation_deg))]
    Size { expected: Size, rotation_deg: u32, found: Size },
}

fn turned(rotation_deg: u32) -> String {
    if rotation_deg == 0 { String::new() } else { format!(" before they are turned by {rotation_deg} degrees") }
}

/// Width and height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u32, pub u32);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.0, self.1)
    }
}

/// The size that a camera's pictures must have before they are turned.
pub fn size_before_rotation(camera: &CameraDescription) -> (u32, u32) {
    if camera.rotation_deg % 180 == 90 { (camera.height, camera.width) } else { (camera.width, camera.height) }
}

/// Makes a description's images of pictures.
#[derive(Debug)]
pub(super) struct Shape {
    options: ShapeOptions,
    /// Before turning.
    wanted: (u32, u32),
    rotation_deg: u32,
    is_depth: bool,
    cut: Vec<u8>,
    scaled: Vec<u8>,
    scaler: Option<Scaler>,
}

impl Shape {
    pub fn new(options: ShapeOptions, camera: &CameraDescription) -> Self {
        let wanted = size_before_rotation(camera);
        let CameraDescription { rotation_deg, depth: is_depth, .. } = *camera;
        Self { options, wanted, rotation_deg, is_depth, cut: Vec::new(), scaled: Vec::new(), scaler: None }
    }

    /// Of the pictures that images are made of.
    pub fn pixel_bytes(&self) -> usize {
        if self.is_depth { 2 } else { 3 }
    }

    /// Whether pictures of this size can become what is wanted.
    ///
    /// # Errors
    /// When they can't.
    pub fn check(&self, width: u32, height: u32) -> Result<(), ShapeError> {
        let left = match self.options.crop {
            None => (width, height),
            Some(crop) => {
                let fits = |from: u32, length: u32, of: u32| length > 0 && from.checked_add(length).is_some_and(|end| end <= of);
                if !fits(crop.x, crop.width, width) || !fits(crop.y, crop.height, height) {
                    return Err(ShapeError::Crop { crop, width, height });
                }
                (crop.width, crop.height)
            }
        };
        if left == self.wanted || self.options.resize {
            return Ok(());
        }
        Err(ShapeError::Size { expected: Size(self.wanted.0, self.wanted.1), rotation_deg: self.rotation_deg, found: Size(left.0, left.1) })
    }

    /// Whether pictures of this size stay as they are.
    pub fn keeps(&self, width: u32, height: u32) -> bool {
        self.options.crop.is_none() && self.rotation_deg == 0 && self.wanted == (width, height)
    }

    /// Makes `out` of `pixels` (RGB, or the distances of a depth camera), whose size was [`check`](Self::check)ed.
    pub fn make(&mut self, pixels: &[u8], width: u32, height: u32, out: &mut [u8]) {
        let (pixel_bytes, mut pixels, mut size) = (self.pixel_bytes(), pixels, (width, height));
        if let Some(crop) = self.options.crop {
            cut(pixels, width, pixel_bytes, crop, &mut self.cut);
            (pixels, size) = (&self.cut, (crop.width, crop.height));
        }
        if size != self.wanted && self.is_depth {
            take_nearest(pixels, size, self.wanted, &mut self.scaled);
            pixels = &self.scaled;
        } else if size != self.wanted {
            if self.scaler.as_ref().is_none_or(|scaler| (scaler.from, scaler.to) != (size, self.wanted)) {
                self.scaler = Some(Scaler::new(size, self.wanted));
            }
            if let Some(scaler) = &mut self.scaler {
                scaler.scale(pixels, &mut self.scaled);
            }
            pixels = &self.scaled;
        }
        let turn = if self.is_depth { turn::<2> } else { turn::<3> };
        turn(pixels, self.wanted.0 as usize, self.rotation_deg, out);
    }
}

fn cut(pixels: &[u8], width: u32, pixel_bytes: usize, crop: Crop, out: &mut Vec<u8>) {
    out.clear();
    for row in pixels.chunks_exact(width as usize * pixel_bytes).skip(crop.y as usize).take(crop.height as usize) {
        out.extend_from_slice(&row[crop.x as usize * pixel_bytes..(crop.x + crop.width) as usize * pixel_bytes]);
    }
}

/// Brings distances to another size: each is that of the pixel in whose place it lies.
fn take_nearest(mm: &[u8], from: (u32, u32), to: (u32, u32), out: &mut Vec<u8>) {
    // The pixel that the middle of the new one lies in.
    let place = |at: u32, from: u32, to: u32| ((2 * at as usize + 1) * from as usize) / (2 * to as usize);
    let (distances, _) = mm.as_chunks::<2>();
    out.clear();
    for y in 0..to.1 {
        let row = &distances[place(y, from.1, to.1) * from.0 as usize..][..from.0 as usize];
        (0..to.0).for_each(|x| out.extend_from_slice(&row[place(x, from.0, to.0)]));
    }
}

/// Turns an image of `width` columns of pixels of `BYTES` clockwise.
fn turn<const BYTES: usize>(pixels: &[u8], width: usize, rotation_deg: u32, out: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks::<BYTES>();
    let (turned, _) = out.as_chunks_mut::<BYTES>();
    let height = pixels.len() / width.max(1);
    match rotation_deg {
        180 => turned.iter_mut().zip(pixels.iter().rev()).for_each(|(to, from)| *to = *from),
        90 | 270 => {
            // In squares, so that neither side leaves the cache.
            const SIDE: usize = 16;
            for y in (0..height).step_by(SIDE) {
                for x in (0..width).step_by(SIDE) {
                    for y in y..(y + SIDE).min(height) {
                        for x in x..(x + SIDE).min(width) {
                            let to = if rotation_deg == 90 { x * height + (height - 1 - y) } else { (width - 1 - x) * height + y };
                            turned[to] = pixels[y * width + x];
                        }
                    }
                }
            }
        }
        _ => turned.copy_from_slice(pixels),
    }
}

/// What one row or column of the result is made of: where it begins in the picture, and how much counts what follows, of 2^14.
#[derive(Debug)]
struct Taps {
    from: usize,
    weights: Vec<i32>,
}

/// Brings images to another size: linear between pixels where they become more, and the mean of those that one stands for
/// where they become fewer (a triangle as wide as that needs, as Pillow's `BILINEAR`).
#[derive(Debug)]
struct Scaler {
    from: (u32, u32),
    to: (u32, u32),
    columns: Vec<Taps>,
    rows: Vec<Taps>,
    /// Rows of the picture, at the new width.
    narrow: Vec<u8>,
}

const ONE: i32 = 1 << 14;

fn taps(from: u32, to: u32) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    let reach = scale.max(1.0);
    let of = |i: u32| {
        let centre = (f64::from(i) + 0.5) * scale;
        let first = (centre - reach).floor().max(0.0) as u32;
        let last = ((centre + reach).ceil() as u32).min(from);
        let weights: Vec<f64> = (first..last).map(|at| (1.0 - ((f64::from(at) + 0.5 - centre) / reach).abs()).max(0.0)).collect();
        let sum: f64 = weights.iter().sum();
        let mut weights: Vec<i32> = weights.iter().map(|weight| (weight / sum * f64::from(ONE)).round() as i32).collect();
        // A plain area stays as bright as it was.
        let left = ONE - weights.iter().sum::<i32>();
        if let Some(most) = weights.iter_mut().max() {
            *most += left;
        }
        Taps { from: first as usize, weights }
    };
    (0..to).map(of).collect()
}

/// A picture `rgb` of 8-bit RGB at another size: as `resize=yes` makes it, each pixel the mean of those that it covers, weighted
/// by a triangle. Sizes are width and height, none of them 0.
pub fn resized(rgb: &[u8], from: (u32, u32), to: (u32, u32)) -> Vec<u8> {
    let mut out = Vec::new();
    Scaler::new(from, to).scale(rgb, &mut out);
    out
}

impl Scaler {
    fn new(from: (u32, u32), to: (u32, u32)) -> Self {
        Self { from, to, columns: taps(from.0, to.0), rows: taps(from.1, to.1), narrow: Vec::new() }
    }

    fn scale(&mut self, rgb: &[u8], out: &mut Vec<u8>) {
        let byte = |sum: i32| ((sum + ONE / 2) >> 14).clamp(0, 255) as u8;
        let row_bytes = self.to.0 as usize * 3;
        self.narrow.resize(self.from.1 as usize * row_bytes, 0);
        for (row, out) in rgb.chunks_exact(self.from.0 as usize * 3).zip(self.narrow.chunks_exact_mut(row_bytes)) {
            let (pixels, _) = row.as_chunks::<3>();
            for (taps, out) in self.columns.iter().zip(out.chunks_exact_mut(3)) {
                let mut sums = [0; 3];
                for (pixel, weight) in pixels[taps.from..].iter().zip(&taps.weights) {
                    (0..3).for_each(|i| sums[i] += i32::from(pixel[i]) * weight);
                }
                (0..3).for_each(|i| out[i] = byte(sums[i]));
            }
        }
        out.resize(self.to.1 as usize * row_bytes, 0);
        let mut sums = vec![0_i32; row_bytes];
        for (taps, out) in self.rows.iter().zip(out.chunks_exact_mut(row_bytes)) {
            sums.fill(0);
            for (row, weight) in self.narrow[taps.from * row_bytes..].chunks_exact(row_bytes).zip(&taps.weights) {
                sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += i32::from(*value) * weight);
            }
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = byte(*sum));
        }
    }
}

#[cfg(test)]
mod tests;
