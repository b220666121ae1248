//! The layers that models are made of, on candle, on one sample at a time.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor, bail};

use crate::CheckpointError;
use crate::weights::Loader;

/// What PyTorch's `LayerNorm` adds to the variance.
const LAYER_NORM_EPS: f64 = 1e-5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Relu,
    /// The exact one, with the error function.
    Gelu,
}

impl Activation {
    pub(crate) fn run(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Relu => x.relu(),
            Self::Gelu => x.gelu_erf(),
        }
    }
}

/// `y = x Wᵀ + b` over the rows of `x [n, in]`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// Takes `<name>.weight [out, in]` and `<name>.bias [out]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2]) -> std::result::Result<Self, CheckpointError> {
        Ok(Self {
            weight: loader.tensor(&format!("{name}.weight"), &[n_out, n_in])?,
            bias: loader.tensor(&format!("{name}.bias"), &[n_out])?,
        })
    }

    /// The same from a convolution of size 1, whose weight is `[out, in, 1, 1]`.
    pub(crate) fn pointwise(loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2]) -> std::result::Result<Self, CheckpointError> {
        let weight = loader.tensor(&format!("{name}.weight"), &[n_out, n_in, 1, 1])?;
        let weight = weight.reshape((n_out, n_in)).map_err(|e| loader.build_error(e))?;
        Ok(Self { weight, bias: loader.tensor(&format!("{name}.bias"), &[n_out])? })
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }

    /// What it answers to zeros: `[1, out]`.
    pub(crate) fn of_zeros(&self) -> Result<Tensor> {
        self.bias.unsqueeze(0)
    }
}

/// Normalises each row of `x [n, dim]` to mean 0 and variance 1, then scales and shifts.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(crate) fn new(loader: &mut Loader, name: &str, dim: usize) -> std::result::Result<Self, CheckpointError> {
        Ok(Self { weight: loader.tensor(&format!("{name}.weight"), &[dim])?, bias: loader.tensor(&format!("{name}.bias"), &[dim])? })
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + LAYER_NORM_EPS)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// PyTorch's `MultiheadAttention` without masks.
#[derive(Debug)]
pub(crate) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    /// Takes `<name>.in_proj_weight [3 dim, dim]`, `in_proj_bias` and `out_proj`.
    pub(crate) fn new(loader: &mut Loader, name: &str, dim: usize, heads: usize) -> std::result::Result<Self, CheckpointError> {
        let weight = loader.tensor(&format!("{name}.in_proj_weight"), &[3 * dim, dim])?;
        let bias = loader.tensor(&format!("{name}.in_proj_bias"), &[3 * dim])?;
        let part =
            |i: usize| -> Result<Linear> { Ok(Linear { weight: weight.narrow(0, i * dim, dim)?, bias: bias.narrow(0, i * dim, dim)? }) };
        let [query, key, value] = [part(0), part(1), part(2)].map(|p| p.map_err(|e| loader.build_error(e)));
        Ok(Self { query: query?, key: key?, value: value?, out: Linear::new(loader, &format!("{name}.out_proj"), [dim, dim])?, heads })
    }

    /// `query [n, dim]`, `key` and `value [m, dim]`; the answer is `[n, dim]`.
    pub(crate) fn run(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let split = |x: Tensor| -> Result<Tensor> {
            let (n, dim) = x.dims2()?;
            x.reshape((n, self.heads, dim / self.heads))?.transpose(0, 1)?.contiguous()
        };
        let q = split(self.query.run(query)?)?;
        let k = split(self.key.run(key)?)?;
        let v = split(self.value.run(value)?)?;
        let scale = (q.dim(D::Minus1)? as f64).powf(-0.5);
        let mixed = softmax(&(q * scale)?.matmul(&k.t()?)?)?.matmul(&v)?;
        let (_, n, _) = mixed.dims3()?;
        self.out.run(&mixed.transpose(0, 1)?.reshape((n, ()))?)
    }
}

/// Over the last axis.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

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

    /// The answer is `[n, h', w', out]`, with negative values cut where `relu`.
    pub(crate) fn run(&self, x: &Tensor, relu: bool) -> Result<Tensor> {
        let (n, h, w, channels) = x.dims4()?;
        let (h_out, w_out) = (self.window.count(h), self.window.count(w));
        let product = |patches: Tensor| {
            let rows = patches.matmul(&self.weight)?.broadcast_add(&self.bias)?;
            if relu { rows.relu() } else { Ok(rows) }
        };
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
            let ours = Conv::new(&weight, bias, window).unwrap().run(&last(&x), false).unwrap();
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
