//! Pictures of any format, as RGB, and pictures of distances as what they are.

use thiserror::Error;

use super::jpeg::{self, Jpeg};
use super::{Picture, PixelFormat};

/// No picture has a longer side.
pub(super) const MOST_SIDE: u32 = 8192;

/// A picture that is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("reading {format}: {what}")]
    Broken { format: &'static str, what: String },
    #[error("reading {format}: expected {expected} bytes for {width} by {height}, found {found}")]
    Short { format: &'static str, width: u32, height: u32, expected: usize, found: usize },
    /// Nothing is wrong with it, but nobody has said how it is to be shown.
    #[error(
        "reading a picture of depths as colours: expected a nearest and a farthest distance to show as greys (depth=NEAR:FAR in \
         millimetres), or a depth camera (depth=yes), found neither"
    )]
    NoDepthRange,
    #[error("reading distances: expected them in Z16 or Y16, found {format}")]
    NoDepth { format: &'static str },
}

/// How what has no colours is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeOptions {
    /// How many bits of a [`PixelFormat::Grey16`] say something, 8 to 16: cameras of 10 or 12 bits leave the upper ones 0. The
    /// upper 8 of them are shown. The scale stays as it is, so that one bright spot does not change all else.
    pub grey16_bits: u8,
    /// The nearest and the farthest distance that a [`PixelFormat::Depth16`] is shown for, metres. The nearest is white, the
    /// farthest is nearly black (1 of 255), and black is what is unknown. What is nearer or farther is shown as these are.
    pub depth_range_m: Option<(f32, f32)>,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self { grey16_bits: 16, depth_range_m: None }
    }
}

/// Reads pictures. Colours that come as Y, U and V are those of ITU-R BT.601 with Y from 16 to 235, which is what USB video
/// devices send unless they say otherwise (UVC 1.5, 3.9.2.6: colour matching descriptor, matrix SMPTE 170M), and what OpenCV takes
/// them for. A JPEG's are of the whole range, as JFIF has it.
#[derive(Debug, Default)]
pub struct Decoder {
    options: DecodeOptions,
    jpeg: Jpeg,
}

impl Decoder {
    pub fn new(options: DecodeOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Width and height that `picture` has: what its header says for a JPEG.
    ///
    /// # Errors
    /// When a JPEG has no header, or the size is none.
    pub fn size(&self, picture: &Picture<'_>) -> Result<(u32, u32), DecodeError> {
        let format = name(picture.format);
        let (width, height) = match picture.format {
            PixelFormat::Mjpeg => return jpeg::size(picture.bytes),
            _ => (picture.width, picture.height),
        };
        let broken = |what| Err(DecodeError::Broken { format, what });
        if !(1..=MOST_SIDE).contains(&width) || !(1..=MOST_SIDE).contains(&height) {
            return broken(format!("expected a size from 1 to {MOST_SIDE}, found {width} by {height}"));
        }
        match picture.format {
            PixelFormat::Yuyv if width % 2 != 0 => broken(format!("expected an even width, found {width}")),
            PixelFormat::Nv12 if width % 2 != 0 || height % 2 != 0 => {
                broken(format!("expected an even width and height, found {width} by {height}"))
            }
            _ => Ok((width, height)),
        }
    }

    /// Reads the distances of `picture` into `mm`, whose length is `width * height * 2` of its [`size`](Self::size): millimetres, u16
    /// little-endian, row by row, 0 where the camera has none. What a [`PixelFormat::Depth16`] or [`PixelFormat::Grey16`] counts
    /// is taken for millimetres, as LeRobot 0.6.1 does (`cameras/realsense/camera_realsense.py`, `read_depth`): the unit of Intel's D400
    /// cameras unless they are set to another one. The kernel says nothing of it.
    ///
    /// # Errors
    /// When it has no distances, or is not whole.
    pub fn distances(&self, picture: &Picture<'_>, mm: &mut [u8]) -> Result<(), DecodeError> {
        if !matches!(picture.format, PixelFormat::Depth16 | PixelFormat::Grey16) {
            return Err(DecodeError::NoDepth { format: name(picture.format) });
        }
        let rows = self.rows(picture)?;
        let row_bytes = rows.row_bytes;
        if mm.len() != row_bytes * rows.count {
            return Err(rows.short(picture));
        }
        for (y, out) in mm.chunks_exact_mut(row_bytes).enumerate() {
            out.copy_from_slice(rows.at(y));
        }
        Ok(())
    }

    /// Reads `picture` into `rgb`, whose length is `width * height * 3` of its [`size`](Self::size), row by row.
    ///
    /// # Errors
    /// When it is not whole, or not what it says that it is. `rgb` may then hold a part of it.
    pub fn decode(&mut self, picture: &Picture<'_>, rgb: &mut [u8]) -> Result<(), DecodeError> {
        if picture.format == PixelFormat::Mjpeg {
            return self.jpeg.decode(picture.bytes, rgb);
        }
        let rows = self.rows(picture)?;
        let columns = picture.width as usize;
        if rgb.len() != columns * rows.count * 3 {
            return Err(rows.short(picture));
        }
        let depth = match (picture.format, self.options.depth_range_m) {
            (PixelFormat::Depth16, None) => return Err(DecodeError::NoDepthRange),
            (_, range) => range.unwrap_or((0.0, 1.0)),
        };
        let shift = self.options.grey16_bits.clamp(8, 16) - 8;
        for (y, out) in rgb.chunks_exact_mut(columns * 3).enumerate() {
            let row = rows.at(y);
            match picture.format {
                PixelFormat::Mjpeg => {}
                PixelFormat::Rgb => out.copy_from_slice(row),
                PixelFormat::Yuyv => yuyv_row(row, out),
                PixelFormat::Nv12 => nv12_row(row, rows.at(rows.count + y / 2), out),
                PixelFormat::Grey => grey_row(row.iter().copied(), out),
                PixelFormat::Grey16 => grey_row(words(row).map(|word| (word >> shift).min(255) as u8), out),
                PixelFormat::Depth16 => grey_row(words(row).map(|mm| depth_shown(mm, depth)), out),
            }
        }
        Ok(())
    }

    /// The rows of a `picture` that is no JPEG.
    fn rows<'a>(&self, picture: &Picture<'a>) -> Result<Rows<'a>, DecodeError> {
        let (width, height) = self.size(picture)?;
        let (columns, count) = (width as usize, height as usize);
        let row_bytes = columns
            * match picture.format {
                PixelFormat::Mjpeg | PixelFormat::Nv12 | PixelFormat::Grey => 1,
                PixelFormat::Yuyv | PixelFormat::Grey16 | PixelFormat::Depth16 => 2,
                PixelFormat::Rgb => 3,
            };
        let stride = if picture.stride == 0 { row_bytes } else { picture.stride };
        let all_rows = if picture.format == PixelFormat::Nv12 { count + count / 2 } else { count };
        let expected = stride.saturating_mul(all_rows - 1).saturating_add(row_bytes);
        let rows = Rows { bytes: picture.bytes, row_bytes, stride, count, expected };
        if stride < row_bytes || picture.bytes.len() < expected { Err(rows.short(picture)) } else { Ok(rows) }
    }
}

/// Where the rows of a picture are in its bytes.
struct Rows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
    stride: usize,
    /// Of the first plane.
    count: usize,
    /// How many bytes there have to be.
    expected: usize,
}

impl<'a> Rows<'a> {
    fn at(&self, y: usize) -> &'a [u8] {
        &self.bytes[y * self.stride..y * self.stride + self.row_bytes]
    }

    fn short(&self, picture: &Picture<'_>) -> DecodeError {
        let (format, Picture { width, height, .. }) = (name(picture.format), *picture);
        DecodeError::Short { format, width, height, expected: self.expected, found: self.bytes.len() }
    }
}

/// What an image of distances looks like: greys as [`DecodeOptions::depth_range_m`] has them, three bytes a pixel, for the
/// nearest and the farthest distance of `mm` itself, which are given in millimetres; `None` where no distance is known. For a picture
/// by itself: one after another would change as a whole when one thing moves.
pub fn show_distances(mm: &[u8]) -> (Vec<u8>, Option<(u16, u16)>) {
    let known = || words(mm).filter(|mm| *mm != 0);
    let range = known().min().zip(known().max());
    let (near, far) = range.unwrap_or((0, 1));
    let metres = (f32::from(near) * 1e-3, f32::from(far) * 1e-3);
    (words(mm).flat_map(|mm| [depth_shown(mm, metres); 3]).collect(), range)
}

fn name(format: PixelFormat) -> &'static str {
    match format {
        PixelFormat::Mjpeg => "a JPEG",
        PixelFormat::Yuyv => "a picture in YUYV",
        PixelFormat::Nv12 => "a picture in NV12",
        PixelFormat::Rgb => "a picture in RGB",
        PixelFormat::Grey => "a picture in greys",
        PixelFormat::Grey16 => "a picture in greys of 16 bits",
        PixelFormat::Depth16 => "a picture of depths",
    }
}

fn words(row: &[u8]) -> impl Iterator<Item = u16> + '_ {
    row.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]]))
}

fn grey_row(greys: impl Iterator<Item = u8>, out: &mut [u8]) {
    for (pixel, grey) in out.chunks_exact_mut(3).zip(greys) {
        pixel.fill(grey);
    }
}

fn depth_shown(mm: u16, (near_m, far_m): (f32, f32)) -> u8 {
    if mm == 0 {
        return 0;
    }
    let way = (far_m - f32::from(mm) * 1e-3) / (far_m - near_m).max(1e-3);
    // What is not finite becomes 0 here.
    (1.0 + way.clamp(0.0, 1.0) * 254.0).round() as u8
}

/// How many pixels are turned at once.
const LANES: usize = 32;

/// Turns Y, U and V of pixels into RGB. In 16 bits, so that the compiler makes vectors of it: the upper half of a product with
/// a factor of 2^13, which is within 1 of what OpenCV says.
#[inline]
fn turn(y: &[u8; LANES], u: &[u8; LANES], v: &[u8; LANES], out: &mut [u8]) {
    let upper = |a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16;
    let (mut red, mut green, mut blue) = ([0_u8; LANES], [0_u8; LANES], [0_u8; LANES]);
    for i in 0..LANES {
        // 32 times what is wanted: 1.164383·2^14, 1.596027·2^13 and so on.
        let luma = upper((i16::from(y[i]) - 16) << 7, 19_077) + 16;
        let (u, v) = ((i16::from(u[i]) - 128) << 8, (i16::from(v[i]) - 128) << 8);
        let byte = |value: i16| (value >> 5).clamp(0, 255) as u8;
        red[i] = byte(luma + upper(v, 13_075));
        green[i] = byte(luma - upper(u, 3_209) - upper(v, 6_660));
        blue[i] = byte(luma + upper(u, 16_525));
    }
    for (i, pixel) in out.chunks_exact_mut(3).enumerate().take(LANES) {
        (pixel[0], pixel[1], pixel[2]) = (red[i], green[i], blue[i]);
    }
}

fn yuyv_row(row: &[u8], out: &mut [u8]) {
    for (pixels, out) in row.chunks(LANES * 2).zip(out.chunks_mut(LANES * 3)) {
        let mut whole = [0; LANES * 2];
        // The last ones of a row may be fewer.
        let pixels: &[u8; LANES * 2] = match pixels.try_into() {
            Ok(pixels) => pixels,
            Err(_) => {
                whole[..pixels.len()].copy_from_slice(pixels);
                &whole
            }
        };
        let (mut y, mut u, mut v) = ([0; LANES], [0; LANES], [0; LANES]);
        for i in 0..LANES {
            y[i] = pixels[2 * i];
            u[i] = pixels[(i & !1) * 2 + 1];
            v[i] = pixels[(i & !1) * 2 + 3];
        }
        turn(&y, &u, &v, out);
    }
}

fn nv12_row(luma: &[u8], chroma: &[u8], out: &mut [u8]) {
    for ((luma, chroma), out) in luma.chunks(LANES).zip(chroma.chunks(LANES)).zip(out.chunks_mut(LANES * 3)) {
        let (mut y, mut colours) = ([0; LANES], [0; LANES]);
        y[..luma.len()].copy_from_slice(luma);
        colours[..chroma.len()].copy_from_slice(chroma);
        let (mut u, mut v) = ([0; LANES], [0; LANES]);
        for i in 0..LANES {
            u[i] = colours[i & !1];
            v[i] = colours[i | 1];
        }
        turn(&y, &u, &v, out);
    }
}

/// A row of three planes, where two pixels of two rows share their colours.
#[cfg(feature = "rtsp")]
pub(super) fn i420_row(luma: &[u8], u: &[u8], v: &[u8], out: &mut [u8]) {
    const HALF: usize = LANES / 2;
    for (((luma, u), v), out) in luma.chunks(LANES).zip(u.chunks(HALF)).zip(v.chunks(HALF)).zip(out.chunks_mut(LANES * 3)) {
        let (mut y, mut u_all, mut v_all) = ([0; LANES], [0; LANES], [0; LANES]);
        y[..luma.len()].copy_from_slice(luma);
        u_all.iter_mut().enumerate().for_each(|(i, value)| *value = u.get(i / 2).copied().unwrap_or(128));
        v_all.iter_mut().enumerate().for_each(|(i, value)| *value = v.get(i / 2).copied().unwrap_or(128));
        turn(&y, &u_all, &v_all, out);
    }
}

#[cfg(test)]
mod tests;
