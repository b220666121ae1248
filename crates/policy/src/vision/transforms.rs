//! torchvision's `Resize` and `CenterCrop`.

use candle_core::{Result, Tensor};

/// Which input values make an output value, along one axis.
#[derive(Debug)]
struct Taps {
    first: usize,
    /// Of `first` and those after it; their sum is 1.
    weights: Vec<f32>,
}

/// For each output position of an axis of `from` pixels that becomes one of `to` pixels: a triangle
/// around the position, as wide as two input or two output pixels, whichever are larger.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f32 / to as f32;
    let reach = scale.max(1.0);
    let one = |i: usize| {
        let centre = scale * (i as f32 + 0.5);
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |at: usize| (1.0 - ((at as f32 - centre + 0.5) / reach).abs()).max(0.0);
        let weights: Vec<f32> = (first..end).map(weight).collect();
        let sum: f32 = weights.iter().sum();
        Taps { first, weights: weights.into_iter().map(|w| w / sum).collect() }
    };
    (0..to).map(one).collect()
}

/// `images [n, h, w, c]` to `[n, height, width, c]`: bilinear with antialiasing, whatever that does to
/// the aspect ratio.
fn resize(images: &Tensor, [height, width]: [usize; 2]) -> Result<Tensor> {
    let (n, h, w, c) = images.dims4()?;
    if [h, w] == [height, width] {
        return Ok(images.clone());
    }
    let values: Vec<f32> = images.flatten_all()?.to_vec1()?;
    // Every row of pixels, then every column, a pixel's channels together.
    let narrowed = along(&values, &taps(w, width), w, c);
    let resized = along(&narrowed, &taps(h, height), h, width * c);
    Tensor::from_vec(resized, (n, height, width, c), images.device())
}

/// `images [n, h, w, c]` resized, and of that the middle, where each is wanted; sizes are height and width.
///
/// # Errors
/// When the images are smaller than their middle is to be.
pub(crate) fn resize_and_crop(images: &Tensor, to: Option<[usize; 2]>, crop: Option<[usize; 2]>) -> Result<Tensor> {
    let images = to.map_or_else(|| Ok(images.clone()), |size| resize(images, size))?;
    crop.map_or_else(|| Ok(images.clone()), |size| center_crop(&images, size))
}

/// Resizes the middle axis of `values [.., len, inner]`.
fn along(values: &[f32], taps: &[Taps], len: usize, inner: usize) -> Vec<f32> {
    let lines = values.chunks_exact(len * inner);
    let mut out = vec![0.0; lines.len() * taps.len() * inner];
    for (line, out) in lines.zip(out.chunks_exact_mut(taps.len() * inner)) {
        for (Taps { first, weights }, out) in taps.iter().zip(out.chunks_exact_mut(inner)) {
            for (weight, from) in weights.iter().zip(line[first * inner..].chunks_exact(inner)) {
                for (out, from) in out.iter_mut().zip(from) {
                    *out += weight * from;
                }
            }
        }
    }
    out
}

/// The middle of `images [n, h, w, c]`: `[n, height, width, c]`. An odd margin is split to the even
/// side, as Python rounds.
///
/// # Errors
/// When the images are smaller.
fn center_crop(images: &Tensor, [height, width]: [usize; 2]) -> Result<Tensor> {
    let (_, h, w, _) = images.dims4()?;
    let (Some(rows), Some(columns)) = (h.checked_sub(height), w.checked_sub(width)) else {
        candle_core::bail!("cropping {w}x{h} images to {width}x{height}: they are smaller");
    };
    let before = |margin: usize| (margin as f64 / 2.0).round_ties_even() as usize;
    images.narrow(1, before(rows), height)?.narrow(2, before(columns), width)?.contiguous()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::Device;

    use super::*;
    use crate::tensor_file::TensorFile;

    #[test]
    fn resizing_and_cropping_agree_with_torchvision() {
        let file =
            TensorFile::open(&Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden/diffusion/resize.safetensors"))
                .unwrap();
        let cases: Vec<String> = file.names().into_iter().filter_map(|name| name.strip_suffix(".image").map(str::to_owned)).collect();
        assert_eq!(cases.len(), 6);
        for case in cases {
            let read = |what: &str| {
                let name = format!("{case}.{what}");
                let info = file.spec(&name).unwrap();
                Tensor::from_vec(file.floats(&name, info).unwrap(), info.shape.as_slice(), &Device::Cpu).unwrap()
            };
            let delta = |ours: &Tensor, theirs: &Tensor| {
                assert_eq!(ours.dims(), theirs.dims(), "{case}");
                (ours - theirs).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap()
            };
            let (resized, cropped) = (read("resized"), read("cropped"));
            let size = |x: &Tensor| [x.dims()[1], x.dims()[2]];
            let ours = resize(&read("image"), size(&resized)).unwrap();
            assert!(delta(&ours, &resized) < 1e-6, "{case}: {}", delta(&ours, &resized));
            assert_eq!(delta(&center_crop(&resized, size(&cropped)).unwrap(), &cropped), 0.0, "{case}");
            assert!(center_crop(&cropped, size(&cropped).map(|n| n + 1)).is_err());
        }
    }
}
