//! Images as a server wants them: scaled with black bars, turned, channels first.

/// Scales images of one size to another, keeping their aspect, with black bars around: as openpi's
/// `image_tools.resize_with_pad` does by Pillow's bilinear filter, to the bit.
#[derive(Clone, Debug)]
pub(crate) struct Fitter {
    from: [usize; 2],
    to: [usize; 2],
    /// The scaled image inside: its size, and where it begins.
    inner: [usize; 2],
    offset: [usize; 2],
    columns: Vec<Taps>,
    rows: Vec<Taps>,
    /// Scaled along rows only.
    narrow: Vec<u8>,
    sums: Vec<i32>,
}

/// Which pixels make one, and how much of each.
#[derive(Clone, Debug)]
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Weights are whole numbers of this share.
const BITS: u32 = 22;
const HALF: i32 = 1 << (BITS - 1);

impl Fitter {
    /// Sizes are `[height, width]`, at least 1.
    pub fn new(from: [usize; 2], to: [usize; 2]) -> Self {
        let ratio = (from[0] as f64 / to[0] as f64).max(from[1] as f64 / to[1] as f64);
        let inner = from.map(|side| ((side as f64 / ratio) as usize).max(1));
        let offset = [0, 1].map(|i| to[i].saturating_sub(inner[i]) / 2);
        Self {
            from,
            to,
            inner,
            offset,
            columns: taps(from[1], inner[1]),
            rows: taps(from[0], inner[0]),
            narrow: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// Appends the scaled image to `out`.
    pub fn fit(&mut self, rgb: &[u8], out: &mut Vec<u8>) {
        if self.from == self.to {
            return out.extend_from_slice(rgb);
        }
        let row_bytes = self.inner[1] * 3;
        self.narrow.resize(self.from[0] * row_bytes, 0);
        for (row, out) in rgb.chunks_exact(self.from[1] * 3).zip(self.narrow.chunks_exact_mut(row_bytes)) {
            let (pixels, _) = row.as_chunks::<3>();
            for (taps, out) in self.columns.iter().zip(out.chunks_exact_mut(3)) {
                let mut sums = [HALF; 3];
                for (pixel, weight) in pixels[taps.first..].iter().zip(&taps.weights) {
                    (0..3).for_each(|i| sums[i] += i32::from(pixel[i]) * weight);
                }
                (0..3).for_each(|i| out[i] = byte(sums[i]));
            }
        }
        let start = out.len();
        out.resize(start + self.to[0] * self.to[1] * 3, 0);
        let image = &mut out[start..];
        for (y, taps) in self.rows.iter().enumerate() {
            self.sums.clear();
            self.sums.resize(row_bytes, HALF);
            for (row, weight) in self.narrow[taps.first * row_bytes..].chunks_exact(row_bytes).zip(&taps.weights) {
                self.sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += i32::from(*value) * weight);
            }
            let at = ((y + self.offset[0]) * self.to[1] + self.offset[1]) * 3;
            image[at..at + row_bytes].iter_mut().zip(&self.sums).for_each(|(out, sum)| *out = byte(*sum));
        }
    }
}

fn byte(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Pillow's triangle filter, which becomes wider where an image becomes smaller.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let one = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weight = |x: usize| (1.0 - ((x as f64 - center + 0.5) * (1.0 / support)).abs()).max(0.0);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let share = |weight: f64| (weight * (1.0 / sum) * f64::from(1 << BITS) + 0.5) as i32;
        Taps { first, weights: weights.into_iter().map(share).collect() }
    };
    (0..to).map(one).collect()
}

/// Turns an image by 180 degrees.
pub(crate) fn turn(rgb: &mut [u8]) {
    let (pixels, _) = rgb.as_chunks_mut::<3>();
    pixels.reverse();
}

/// Appends `rgb` with its channels first.
pub(crate) fn channels_first(rgb: &[u8], out: &mut Vec<u8>) {
    for channel in 0..3 {
        out.extend(rgb.iter().skip(channel).step_by(3));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with edges and slopes, so that every weight counts.
    fn picture(height: usize, width: usize) -> Vec<u8> {
        let at = |y: usize, x: usize, c: usize| ((x * x * (c + 1) + y * 31 + x * y * 7 + 17 * c) % 251) as u8;
        (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| at(y, x, c)))).collect()
    }

    fn fitted(from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
        let mut out = vec![9];
        Fitter::new(from, to).fit(&picture(from[0], from[1]), &mut out);
        assert_eq!((out.remove(0), out.len()), (9, to[0] * to[1] * 3));
        out
    }

    /// What `scripts/check_remote.py --golden` prints, which asks openpi's own function.
    #[test]
    fn images_are_scaled_as_openpi_does_it_to_the_bit() {
        let cases = include!("picture_golden.rs");
        for (from, to, hash, bytes) in cases {
            let image = fitted(from, to);
            let mut fnv = sinew_core::Fnv1a::default();
            fnv.write(&image);
            let middle = (to[0] / 2 * to[1] + to[1] / 2) * 3;
            assert_eq!((&image[middle..middle + 6], fnv.finish()), (&bytes[..], hash), "{from:?} to {to:?}");
        }
    }

    #[test]
    fn the_bars_are_black_and_an_image_that_fits_stays_as_it_is() {
        let image = fitted([48, 64], [56, 56]);
        let row = |y: usize| &image[y * 56 * 3..][..56 * 3];
        assert!(row(6).iter().all(|value| *value == 0) && row(49).iter().all(|value| *value == 0));
        assert!(row(7).iter().any(|value| *value > 0) && row(48).iter().any(|value| *value > 0));
        assert_eq!(fitted([5, 7], [5, 7]), picture(5, 7));
    }

    #[test]
    fn turning_and_splitting_move_every_pixel() {
        let mut image: Vec<u8> = (0..12).collect();
        turn(&mut image);
        assert_eq!(image, [9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2]);
        let mut planes = Vec::new();
        channels_first(&image, &mut planes);
        assert_eq!(planes, [9, 6, 3, 0, 10, 7, 4, 1, 11, 8, 5, 2]);
    }
}
