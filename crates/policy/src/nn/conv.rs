//! Convolutions and pooling, channels last.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::Built;
use crate::weights::Loader;

/// How a convolution or a pooling walks over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub size: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl Window {
    pub(crate) fn new(size: usize, stride: usize, dilation: usize) -> Self {
        Self { size, stride, padding: dilation * (size - 1) / 2, dilation }
    }

    /// How many positions it takes along an axis of `n` pixels.
    pub(crate) fn count(&self, n: usize) -> usize {
        (n + 2 * self.padding).saturating_sub(self.dilation * (self.size - 1) + 1) / self.stride + 1
    }

    /// The input pixel under tap `k` of output position `at`, or `None` in the padding.
    fn pixel(&self, at: usize, k: usize, n: usize) -> Option<usize> {
        (at * self.stride + k * self.dilation).checked_sub(self.padding).filter(|i| *i < n)
    }
}

/// A convolution with bias over `x [n, h, w, in]`, channels last, as a matrix product of the patches
/// under the window with the weights.
#[derive(Debug)]
pub(crate) struct Conv {
    /// `[size * size * in, out]`, a view of `[out, size * size * in]`.
    weight: Tensor,
    bias: Tensor,
    window: Window,
}

/// How many values of patches are laid out at a time: enough for the matrix product to be fast, few
/// enough to stay in the cache until it reads them.
const PATCH_VALUES: usize = 1 << 18;

impl Conv {
    /// From PyTorch's `weight [out, in, size, size]`.
    pub(crate) fn new(weight: &Tensor, bias: Tensor, window: Window) -> Result<Self> {
        let n_out = weight.dim(0)?;
        let weight = weight.permute((0, 2, 3, 1))?.contiguous()?.reshape((n_out, ()))?.t()?;
        Ok(Self { weight, bias, window })
    }

    /// One with the right dimensions that was not computed, for [`Loader::check`].
    pub(crate) fn stand_in(weight: Tensor, bias: Tensor, window: Window) -> Self {
        Self { weight, bias, window }
    }

    /// Takes `<name>.weight [out, in, size, size]` and, where `has_bias`, `<name>.bias [out]`.
    pub(crate) fn named(loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2], window: Window, has_bias: bool) -> Built<Self> {
        let weight = loader.tensor(&format!("{name}.weight"), &[n_out, n_in, window.size, window.size])?;
        let bias = if has_bias {
            loader.tensor(&format!("{name}.bias"), &[n_out])?
        } else {
            Tensor::zeros(n_out, candle_core::DType::F32, loader.device()).map_err(|e| loader.build_error(e))?
        };
        if loader.is_dry() {
            return Ok(Self::stand_in(weight, bias, window));
        }
        Self::new(&weight, bias, window).map_err(|e| loader.build_error(e))
    }

    /// `x [n, h, w, in]` to `[n, h', w', out]`.
    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (n, h, w, channels) = x.dims4()?;
        let (h_out, w_out) = (self.window.count(h), self.window.count(w));
        let product = |patches: Tensor| patches.matmul(&self.weight)?.broadcast_add(&self.bias);
        let rows = if self.window.size == 1 && self.window.stride == 1 {
            product(x.reshape(((), channels))?)?
        } else {
            let x = x.contiguous()?;
            let total = n * h_out * w_out;
            let step = (PATCH_VALUES / (self.window.size * self.window.size * channels)).max(64);
            let tile = |first: usize| {
                let positions = first..(first + step).min(total);
                product(x.apply_op1_no_bwd(&Patches { window: self.window, positions })?)
            };
            Tensor::cat(&(0..total).step_by(step).map(tile).collect::<Result<Vec<_>>>()?, 0)?
        };
        rows.reshape((n, h_out, w_out, ()))
    }

    /// The same with negative values cut.
    pub(crate) fn run_relu(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x)?.relu()
    }

    /// The convolution of `x` added to `skip [n, h', w', out]`, with negative values cut.
    pub(crate) fn run_onto_relu(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        (self.run(x)? + skip)?.relu()
    }
}

/// A convolution with bias over a sequence `x [t, in]`.
#[derive(Debug)]
pub(crate) struct Conv1d {
    /// `[out, in, size]`
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl Conv1d {
    /// Takes `<name>.weight [out, in, size]` and `<name>.bias [out]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [n_out, n_in, size]: [usize; 3], stride: usize, padding: usize) -> Built<Self> {
        let weight = loader.tensor(&format!("{name}.weight"), &[n_out, n_in, size])?;
        Ok(Self { weight, bias: loader.tensor(&format!("{name}.bias"), &[n_out])?, stride, padding })
    }

    /// `x [t, in]` to `[t', out]`.
    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.t()?.contiguous()?.unsqueeze(0)?.conv1d(&self.weight, self.padding, self.stride, 1, 1)?;
        y.squeeze(0)?.t()?.contiguous()?.broadcast_add(&self.bias)
    }
}

/// A transposed convolution with bias over a sequence `x [t, in]`.
#[derive(Debug)]
pub(crate) struct ConvTranspose1d {
    /// `[in, out, size]`
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    padding: usize,
}

impl ConvTranspose1d {
    /// Takes `<name>.weight [in, out, size]` and `<name>.bias [out]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [n_in, n_out, size]: [usize; 3], stride: usize, padding: usize) -> Built<Self> {
        let weight = loader.tensor(&format!("{name}.weight"), &[n_in, n_out, size])?;
        Ok(Self { weight, bias: loader.tensor(&format!("{name}.bias"), &[n_out])?, stride, padding })
    }

    /// `x [t, in]` to `[(t - 1) * stride - 2 * padding + size, out]`.
    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.t()?.contiguous()?.unsqueeze(0)?.conv_transpose1d(&self.weight, self.padding, 0, self.stride, 1, 1)?;
        y.squeeze(0)?.t()?.contiguous()?.broadcast_add(&self.bias)
    }
}

/// `[n, h, w, c]` to `[positions, size * size * c]`: the pixels under the window at some of its
/// positions, zeros for padding.
struct Patches {
    window: Window,
    /// Counted through all images, row by row.
    positions: Range<usize>,
}

/// `[n, h, w, c]` to `[n, h', w', c]`: the largest value under the window.
struct MaxPool(Window);

/// Calls `visit(output position, tap, input offset)` for each tap of each position that is not in
/// the padding; offsets are in values.
fn taps(window: Window, positions: Range<usize>, [_, h, w, c]: [usize; 4], mut visit: impl FnMut(usize, usize, usize)) {
    let (h_out, w_out) = (window.count(h), window.count(w));
    for position in positions {
        let (x, y, image) = (position % w_out, position / w_out % h_out, position / (w_out * h_out));
        for ky in 0..window.size {
            let Some(row) = window.pixel(y, ky, h) else { continue };
            for kx in 0..window.size {
                if let Some(column) = window.pixel(x, kx, w) {
                    visit(position, ky * window.size + kx, ((image * h + row) * w + column) * c);
                }
            }
        }
    }
}

fn image_floats<'a>(name: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<(&'a [f32], [usize; 4])> {
    let (CpuStorage::F32(values), Some((start, end)), [n, h, w, c]) = (storage, layout.contiguous_offsets(), layout.dims()) else {
        bail!("{name} takes contiguous f32 of shape [n, h, w, c], found {layout:?}");
    };
    Ok((&values[start..end], [*n, *h, *w, *c]))
}

impl CustomOp1 for Patches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (values, dims) = image_floats(self.name(), storage, layout)?;
        let [.., c] = dims;
        let Self { window, positions } = self;
        let width = window.size * window.size * c;
        let mut out = vec![0.0; positions.len() * width];
        taps(*window, positions.clone(), dims, |position, tap, from| {
            out[(position - positions.start) * width + tap * c..][..c].copy_from_slice(&values[from..from + c]);
        });
        Ok((CpuStorage::F32(out), (positions.len(), width).into()))
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (values, dims) = image_floats(self.name(), storage, layout)?;
        let [n, h, w, c] = dims;
        let (h_out, w_out) = (self.0.count(h), self.0.count(w));
        let mut out = vec![f32::NEG_INFINITY; n * h_out * w_out * c];
        taps(self.0, 0..n * h_out * w_out, dims, |position, _, from| {
            for (most, value) in out[position * c..][..c].iter_mut().zip(&values[from..from + c]) {
                *most = most.max(*value);
            }
        });
        Ok((CpuStorage::F32(out), (n, h_out, w_out, c).into()))
    }
}

/// The largest value under `window`, over `x [n, h, w, c]`.
pub(crate) fn max_pool(x: &Tensor, window: Window) -> Result<Tensor> {
    x.contiguous()?.apply_op1_no_bwd(&MaxPool(window))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Candle's own convolution and pooling are the reference.
    #[test]
    fn convolutions_and_pooling_agree_with_candles() {
        let device = Device::Cpu;
        let ramp = |shape: &[usize], step: f32| {
            let n: usize = shape.iter().product();
            Tensor::from_vec((0..n).map(|i| (i as f32 * step).sin()).collect::<Vec<_>>(), shape, &device).unwrap()
        };
        for (size, stride, dilation, (h, w)) in
            [(3, 1, 1, (7, 5)), (3, 2, 1, (7, 6)), (7, 2, 1, (9, 13)), (1, 1, 1, (3, 4)), (1, 2, 1, (5, 4)), (3, 1, 2, (6, 5))]
        {
            let window = Window::new(size, stride, dilation);
            let x = ramp(&[2, 3, h, w], 0.37);
            let weight = ramp(&[4, 3, size, size], 0.11);
            let bias = ramp(&[4], 1.0);
            let theirs = x
                .conv2d(&weight, window.padding, stride, dilation, 1)
                .unwrap()
                .broadcast_add(&bias.reshape((1, 4, 1, 1)).unwrap())
                .unwrap();
            let last = |x: &Tensor| x.permute((0, 2, 3, 1)).unwrap();
            let ours = Conv::new(&weight, bias, window).unwrap().run(&last(&x)).unwrap();
            let delta = (ours - last(&theirs)).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(delta < 1e-5, "size {size} stride {stride} dilation {dilation}: {delta}");
        }
    }

    #[test]
    fn pooling_never_takes_the_padding() {
        let x = Tensor::from_vec(vec![-1.0f32, -2.0, -3.0, -4.0], (1, 2, 2, 1), &Device::Cpu).unwrap();
        let pooled = max_pool(&x, Window::new(3, 2, 1)).unwrap();
        assert_eq!(pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [-1.0]);
    }
}
