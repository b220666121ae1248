//! Planes of luma and colour difference in, RGB out.

/// What the planes' numbers mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ColorSpace {
    /// Luma goes from 0 to 255, and not from 16 to 235.
    pub(crate) full_range: bool,
    /// The number of the matrix, as ISO/IEC 23091-2 has them: 1 is BT.709, 6 is BT.601, 2 is not known.
    pub(crate) matrix: u8,
}

/// Planes at half the resolution of luma in both directions; rows are `strides` bytes apart.
pub(crate) struct Planes<'a> {
    pub(crate) y: &'a [u8],
    pub(crate) u: &'a [u8],
    pub(crate) v: &'a [u8],
    pub(crate) strides: (usize, usize, usize),
}

/// Bits of fraction in the fixed-point factors below.
const BITS: i32 = 14;

impl ColorSpace {
    /// What luma is multiplied by, then what V adds to red, U and V take from green and U adds to blue.
    fn factors(self) -> [i32; 5] {
        let (kr, kb) = match self.matrix {
            1 => (0.2126, 0.0722),
            4 => (0.30, 0.11),
            7 => (0.212, 0.087),
            9 | 10 => (0.2627, 0.0593),
            _ => (0.299, 0.114),
        };
        let kg = 1.0 - kr - kb;
        let (luma, chroma) = if self.full_range { (1.0, 1.0) } else { (255.0 / 219.0, 255.0 / 224.0) };
        let scale = f64::from(1 << BITS);
        let red = 2.0 * (1.0 - kr) * chroma;
        let blue = 2.0 * (1.0 - kb) * chroma;
        [luma, red, blue * kb / kg, red * kr / kg, blue].map(|factor: f64| (factor * scale).round() as i32)
    }
}

/// Writes `[height, width, 3]` to `rgb`, which has that size. Each colour sample holds for 2×2 pixels,
/// as swscale has it. `None` when a plane is too small.
pub(crate) fn to_rgb(planes: &Planes<'_>, color: ColorSpace, width: usize, height: usize, rgb: &mut [u8]) -> Option<()> {
    let [luma, red_v, green_u, green_v, blue_u] = color.factors();
    let black = if color.full_range { 0 } else { 16 };
    let half = 1 << (BITS - 1);
    for (row, out) in rgb.chunks_exact_mut(width * 3).take(height).enumerate() {
        let ys = planes.y.get(row * planes.strides.0..)?.get(..width)?;
        let us = planes.u.get(row / 2 * planes.strides.1..)?.get(..width.div_ceil(2))?;
        let vs = planes.v.get(row / 2 * planes.strides.2..)?.get(..width.div_ceil(2))?;
        for ((out, ys), (u, v)) in out.chunks_mut(6).zip(ys.chunks(2)).zip(us.iter().zip(vs)) {
            let (u, v) = (i32::from(*u) - 128, i32::from(*v) - 128);
            let (r, g, b) = (red_v * v + half, half - green_u * u - green_v * v, blue_u * u + half);
            for (pixel, y) in out.chunks_exact_mut(3).zip(ys) {
                let y = luma * (i32::from(*y) - black);
                pixel[0] = ((y + r) >> BITS).clamp(0, 255) as u8;
                pixel[1] = ((y + g) >> BITS).clamp(0, 255) as u8;
                pixel[2] = ((y + b) >> BITS).clamp(0, 255) as u8;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_come_back_from_where_bt601_puts_them() {
        let color = ColorSpace { full_range: false, matrix: 6 };
        for (yuv, expected) in
            [([81, 90, 240], [255, 0, 0]), ([145, 54, 34], [0, 255, 0]), ([41, 240, 110], [0, 0, 255]), ([126, 128, 128], [128, 128, 128])]
        {
            // Three by three: the last column and row have colour samples of their own.
            let (y, u, v) = ([yuv[0]; 9], [yuv[1]; 4], [yuv[2]; 4]);
            let planes = Planes { y: &y, u: &u, v: &v, strides: (3, 2, 2) };
            let mut rgb = [0; 27];
            to_rgb(&planes, color, 3, 3, &mut rgb).unwrap();
            for pixel in rgb.chunks_exact(3) {
                assert!(pixel.iter().zip(expected).all(|(found, expected)| found.abs_diff(expected) <= 2), "{yuv:?} became {pixel:?}");
            }
        }
        let planes = Planes { y: &[0; 4], u: &[0; 1], v: &[], strides: (2, 1, 1) };
        assert!(to_rgb(&planes, color, 2, 2, &mut [0; 12]).is_none());
    }
}
