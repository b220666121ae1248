//! Fits images of any size into a frame without distortion.

use candle_core::{Result, bail};

/// Where the room goes that the resized image leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// All of it to the left and above.
    LeftTop,
    /// On both sides alike; an odd row or column goes below or to the right.
    Centred,
}

/// The image `pixels [height, width, channels]`, as large as fits into `frame` (height, width), the
/// rest zeros. Pixels are interpolated linearly between the four nearest, whatever the scale (no
/// antialiasing), with pixel centres at half integers, as PyTorch's `interpolate` does.
///
/// # Errors
/// When the image is so long that nothing of its other side would remain.
pub(crate) fn resize_with_padding(pixels: &[f32], [h, w]: [usize; 2], frame: [usize; 2], padding: Padding) -> Result<Vec<f32>> {
    let [height, width] = frame;
    if h * w == 0 || !pixels.len().is_multiple_of(h * w) {
        bail!("an image of {} values can't be {w}x{h}", pixels.len());
    }
    if [h, w] == frame {
        return Ok(pixels.to_vec());
    }
    let channels = pixels.len() / (h * w);
    let ratio = (w as f64 / width as f64).max(h as f64 / height as f64);
    // Truncation is LeRobot's rounding.
    let (rows, columns) = ((h as f64 / ratio) as usize, (w as f64 / ratio) as usize);
    if rows == 0 || columns == 0 {
        bail!("resizing a {w}x{h} image to fit {width}x{height} leaves {columns}x{rows} pixels of it");
    }
    let (top, left) = match padding {
        Padding::LeftTop => (height - rows, width - columns),
        Padding::Centred => ((height - rows) / 2, (width - columns) / 2),
    };
    let across = taps(w, columns);
    let down = taps(h, rows);
    let mut out = vec![0.0; height * width * channels];
    // Two source rows, resized along x, are kept from one target row to the next.
    let mut kept: [(usize, Vec<f32>); 2] = [(usize::MAX, Vec::new()), (usize::MAX, Vec::new())];
    let line = |y: usize, line: &mut Vec<f32>| {
        let row = &pixels[y * w * channels..][..w * channels];
        line.clear();
        for tap in &across {
            let (a, b) = (&row[tap.first * channels..][..channels], &row[tap.second * channels..][..channels]);
            line.extend(a.iter().zip(b).map(|(a, b)| a * (1.0 - tap.share) + b * tap.share));
        }
    };
    for (y, tap) in down.iter().enumerate() {
        if kept[1].0 == tap.first {
            kept.swap(0, 1);
        }
        for (slot, wanted) in kept.iter_mut().zip([tap.first, tap.second]) {
            if slot.0 != wanted {
                line(wanted, &mut slot.1);
                slot.0 = wanted;
            }
        }
        let target = &mut out[((top + y) * width + left) * channels..][..columns * channels];
        for (value, (a, b)) in target.iter_mut().zip(kept[0].1.iter().zip(&kept[1].1)) {
            *value = a * (1.0 - tap.share) + b * tap.share;
        }
    }
    Ok(out)
}

/// The two source pixels of a target pixel, and the second's share.
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

/// Along an axis that goes from `n` to `count` pixels.
fn taps(n: usize, count: usize) -> Vec<Tap> {
    let scale = n as f32 / count as f32;
    let tap = |i: usize| {
        let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
        let first = (at as usize).min(n - 1);
        Tap { first, second: (first + 1).min(n - 1), share: at - first as f32 }
    };
    (0..count).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tensor_file::TensorFile;

    #[test]
    fn images_fit_frames_as_lerobot_makes_them() {
        let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden/parts/resize.safetensors");
        let file = TensorFile::open(&path).unwrap();
        let images: Vec<String> = file.names().into_iter().filter(|name| name.ends_with(".image")).collect();
        assert_eq!(images.len(), 5);
        for image in images {
            let label = image.strip_suffix(".image").unwrap();
            let sizes: Vec<usize> = label.split(' ').map(|word| word.parse().unwrap()).collect();
            let pixels: Vec<f32> = file.bytes(file.spec(&image).unwrap()).unwrap().iter().map(|value| f32::from(*value) / 255.0).collect();
            for (padding, name) in [(Padding::LeftTop, "left_top"), (Padding::Centred, "centred")] {
                let ours = resize_with_padding(&pixels, [sizes[0], sizes[1]], [sizes[2], sizes[3]], padding).unwrap();
                let name = format!("{label}.{name}");
                let theirs = file.floats(&name, file.spec(&name).unwrap()).unwrap();
                assert_eq!(ours.len(), theirs.len(), "{name}");
                let delta = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(delta < 1e-6, "{name}: {delta}");
            }
        }
    }

    #[test]
    fn an_image_of_the_frames_size_is_left_alone() {
        let pixels: Vec<f32> = (0..24).map(|i| i as f32).collect();
        assert_eq!(resize_with_padding(&pixels, [2, 4], [2, 4], Padding::Centred).unwrap(), pixels);
    }

    #[test]
    fn room_goes_where_the_padding_says() {
        let ones = vec![1.0; 8];
        let left_top = resize_with_padding(&ones, [2, 4], [5, 4], Padding::LeftTop).unwrap();
        assert_eq!(left_top.iter().position(|v| *v == 1.0), Some(12));
        let centred = resize_with_padding(&ones, [2, 4], [5, 4], Padding::Centred).unwrap();
        assert_eq!(centred.iter().position(|v| *v == 1.0), Some(4));
        assert_eq!(centred.iter().filter(|v| **v == 1.0).count(), 8);
    }

    #[test]
    fn a_sliver_is_refused() {
        let error = resize_with_padding(&vec![0.0; 9000], [1, 9000], [64, 64], Padding::LeftTop).unwrap_err();
        assert!(error.to_string().contains("9000x1"), "{error}");
    }
}
