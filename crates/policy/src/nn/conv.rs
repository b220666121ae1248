//! Convolutions and pooling, channels last.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_values};
use super::{Activation, Built};
use crate::kernels::{self, ConvTranspose, Images, Isa, Window};
use crate::weights::Loader;

/// A convolution with bias over `x [n, h, w, in]`, channels last.
#[derive(Debug)]
pub(crate) struct Conv {
    weights: Weights<kernels::Conv>,
    window: Window,
}

#[derive(Debug)]
enum Weights<Kernel> {
    Packed(Box<Kernel>),
    /// As PyTorch has them, and the bias `[out]`.
    Plain(Tensor, Tensor),
}

impl<Kernel> Weights<Kernel> {
    /// Takes `<name>.weight` of `shape`; `pack` makes the kernel of it. `scale` and `bias` are of each
    /// output.
    fn load(
        loader: &mut Loader,
        name: &str,
        shape: &[usize],
        scale: Option<&[f32]>,
        bias: &[f32],
        pack: impl FnOnce(Isa, &[f32]) -> Kernel,
        is_finite: impl FnOnce(&Kernel) -> bool,
    ) -> Built<Self> {
        let name = format!("{name}.weight");
        let values = loader.weights(&name, shape)?;
        if loader.is_dry() {
            let nothing = Tensor::zeros(0, DType::F32, loader.device()).map_err(|e| loader.build_error(e))?;
            return Ok(Self::Plain(nothing.clone(), nothing));
        }
        let weights = match kernels_on(loader.device()) {
            Some(isa) => Self::Packed(Box::new(pack(isa, &values))),
            None => plain(loader.device(), &values, shape, scale, bias).map_err(|e| loader.build_error(e))?,
        };
        if !matches!(weights, Self::Packed(ref kernel) if is_finite(kernel)) {
            loader.note_not_finite(&name, &values);
        }
        Ok(weights)
    }
}

impl Conv {
    /// Takes `<name>.weight [out, in, size, size]` and, where `has_bias`, `<name>.bias [out]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2], window: Window, has_bias: bool) -> Built<Self> {
        let bias = if has_bias { loader.vector(&format!("{name}.bias"), n_out)? } else { vec![0.0; n_out] };
        Self::scaled(loader, name, [n_out, n_in], window, None, &bias)
    }

    /// Takes `<name>.weight [out, in, size, size]`; what it makes of an input is multiplied by `scale
    /// [out]`, then `bias [out]` is added.
    pub(crate) fn scaled(
        loader: &mut Loader,
        name: &str,
        [n_out, n_in]: [usize; 2],
        window: Window,
        scale: Option<&[f32]>,
        bias: &[f32],
    ) -> Built<Self> {
        let pack = |isa, weight: &[f32]| kernels::Conv::new(isa, weight, scale, bias, n_in, [window; 2]);
        let shape = [n_out, n_in, window.size, window.size];
        let weights = Weights::load(loader, name, &shape, scale, bias, pack, kernels::Conv::is_finite)?;
        Ok(Self { weights, window })
    }

    /// `x [n, h, w, in]` to `[n, h', w', out]`.
    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, None, None)
    }

    /// The same with negative values cut.
    pub(crate) fn run_relu(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, None, Some(Activation::Relu))
    }

    /// The largest values under `pool` of what [`run_relu`](Self::run_relu) answers.
    pub(crate) fn run_relu_pooled(&self, x: &Tensor, pool: Window) -> Result<Tensor> {
        let (n, h, w, channels) = x.dims4()?;
        let (h_out, w_out) = (pool.count(self.window.count(h)), pool.count(self.window.count(w)));
        match &self.weights {
            Weights::Packed(conv) if channels == conv.channels() && h_out * w_out > 0 && conv.can_pool() => {
                let values = with_values(x, |x| conv.run_pooled(images(x, [n, h, w, channels]), Activation::Relu, [pool; 2]))?;
                tensor(values, (n, h_out, w_out, conv.n_out()))
            }
            // They say what does not fit, too.
            Weights::Packed(_) | Weights::Plain(..) => max_pool(&self.run_relu(x)?, pool),
        }
    }

    /// The convolution of `x` added to `skip [n, h', w', out]`, with negative values cut.
    pub(crate) fn run_onto_relu(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        self.apply(x, Some(skip), Some(Activation::Relu))
    }

    fn apply(&self, x: &Tensor, skip: Option<&Tensor>, activation: Option<Activation>) -> Result<Tensor> {
        let (n, h, w, channels) = x.dims4()?;
        let (h_out, w_out) = (self.window.count(h), self.window.count(w));
        let conv = match &self.weights {
            Weights::Packed(conv) => conv,
            Weights::Plain(weight, bias) => {
                let Window { stride, padding, dilation, .. } = self.window;
                let y = x.permute((0, 3, 1, 2))?.contiguous()?.conv2d(weight, padding, stride, dilation, 1)?;
                let mut y = y.permute((0, 2, 3, 1))?.broadcast_add(bias)?;
                if let Some(skip) = skip {
                    y = (y + skip)?;
                }
                return activation.map_or(Ok(y.clone()), |activation| activation.run(&y));
            }
        };
        let shape = (n, h_out, w_out, conv.n_out());
        if channels != conv.channels() || h_out * w_out == 0 || skip.is_some_and(|skip| skip.dims4().is_ok_and(|dims| dims != shape)) {
            bail!("a convolution with {:?} from {} to {} channels on {x:?}, added to {skip:?}", self.window, conv.channels(), conv.n_out());
        }
        let activation = activation.unwrap_or(Activation::Identity);
        let run = |skip: Option<&[f32]>| with_values(x, |x| conv.run(images(x, [n, h, w, channels]), skip, activation));
        let values = match skip {
            None => run(None),
            Some(skip) => with_values(skip, |skip| run(Some(skip)))?,
        };
        tensor(values?, shape)
    }
}

/// Weights for candle's own operations: of `shape`, of which the first axis is multiplied by `scale`.
fn plain<Kernel>(device: &Device, values: &[f32], shape: &[usize], scale: Option<&[f32]>, bias: &[f32]) -> Result<Weights<Kernel>> {
    let mut weight = Tensor::from_slice(values, shape, device)?;
    if let Some(scale) = scale {
        let mut per_output = vec![1; shape.len()];
        per_output[0] = scale.len();
        weight = weight.broadcast_mul(&Tensor::from_slice(scale, per_output, device)?)?;
    }
    Ok(Weights::Plain(weight, Tensor::from_slice(bias, bias.len(), device)?))
}

fn images(values: &[f32], [count, height, width, channels]: [usize; 4]) -> Images<'_> {
    Images { values, count, height, width, channels }
}

/// What `work` answers for each of `count` equal parts of the rows of `x`, below each other; it gets the part's index, too.
pub(crate) fn each_of(x: &Tensor, count: usize, work: impl Fn(usize, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if count == 1 {
        return work(0, x);
    }
    let rows = x.dim(0)? / count.max(1);
    Tensor::cat(&(0..count).map(|part| work(part, &x.narrow(0, part * rows, rows)?)).collect::<Result<Vec<_>>>()?, 0)
}

/// A convolution with bias over sequences of one length, below each other: `x [n t, in]`.
#[derive(Debug)]
pub(crate) struct Conv1d {
    weights: Weights<kernels::Conv>,
    stride: usize,
    padding: usize,
}

impl Conv1d {
    /// Takes `<name>.weight [out, in, size]` and `<name>.bias [out]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [n_out, n_in, size]: [usize; 3], stride: usize, padding: usize) -> Built<Self> {
        let bias = loader.vector(&format!("{name}.bias"), n_out)?;
        let along = Window { size, stride, padding, dilation: 1 };
        let pack = |isa, weight: &[f32]| kernels::Conv::new(isa, weight, None, &bias, n_in, [Window::FLAT, along]);
        let weights = Weights::load(loader, name, &[n_out, n_in, size], None, &bias, pack, kernels::Conv::is_finite)?;
        Ok(Self { weights, stride, padding })
    }

    /// `count` sequences `x [count t, in]` to `[count t', out]`.
    pub(crate) fn run(&self, x: &Tensor, count: usize) -> Result<Tensor> {
        let (rows, channels) = x.dims2()?;
        match &self.weights {
            Weights::Packed(conv) => {
                let t = rows / count.max(1);
                let [_, t_out] = conv.size(1, t);
                if channels != conv.channels() || t_out == 0 || t * count != rows {
                    bail!("a convolution from {} to {} channels on {count} sequences, {x:?}", conv.channels(), conv.n_out());
                }
                let run = |x: &[f32]| conv.run(images(x, [count, 1, t, channels]), None, Activation::Identity);
                tensor(with_values(x, run)?, (count * t_out, conv.n_out()))
            }
            Weights::Plain(weight, bias) => each_of(x, count, |_, x| {
                let y = x.t()?.contiguous()?.unsqueeze(0)?.conv1d(weight, self.padding, self.stride, 1, 1)?;
                y.squeeze(0)?.t()?.contiguous()?.broadcast_add(bias)
            }),
        }
    }
}

/// A transposed convolution with bias over sequences of one length, below each other: `x [n t, in]`.
#[derive(Debug)]
pub(crate) struct ConvTranspose1d {
    weights: Weights<ConvTranspose>,
    stride: usize,
    padding: usize,
}

impl ConvTranspose1d {
    /// Takes `<name>.weight [in, out, size]` and `<name>.bias [out]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [n_in, n_out, size]: [usize; 3], stride: usize, padding: usize) -> Built<Self> {
        let bias = loader.vector(&format!("{name}.bias"), n_out)?;
        let shape = [n_in, n_out, size];
        let pack = |isa, weight: &[f32]| ConvTranspose::new(isa, weight, &bias, shape, stride, padding);
        let weights = Weights::load(loader, name, &shape, None, &bias, pack, ConvTranspose::is_finite)?;
        Ok(Self { weights, stride, padding })
    }

    /// `count` sequences `x [count t, in]`, each to `[(t - 1) * stride - 2 * padding + size, out]`.
    pub(crate) fn run(&self, x: &Tensor, count: usize) -> Result<Tensor> {
        each_of(x, count, |_, x| self.run_one(x))
    }

    fn run_one(&self, x: &Tensor) -> Result<Tensor> {
        let (t, channels) = x.dims2()?;
        match &self.weights {
            Weights::Packed(conv) => {
                if channels != conv.channels() || t == 0 {
                    bail!("a transposed convolution from {} to {} channels on {x:?}", conv.channels(), conv.n_out());
                }
                tensor(with_values(x, |x| conv.run(x))?, (conv.count(t), conv.n_out()))
            }
            Weights::Plain(weight, bias) => {
                let y = x.t()?.contiguous()?.unsqueeze(0)?.conv_transpose1d(weight, self.padding, 0, self.stride, 1, 1)?;
                y.squeeze(0)?.t()?.contiguous()?.broadcast_add(bias)
            }
        }
    }
}

/// A convolution with bias of each channel by itself, over `x [n, h, w, channels]`.
#[derive(Debug)]
pub(crate) struct Depthwise {
    /// `[size, size, channels]`
    weights: Tensor,
    bias: Tensor,
    window: Window,
}

impl Depthwise {
    /// Takes `<name>.weight [channels, 1, size, size]` and `<name>.bias [channels]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, channels: usize, window: Window) -> Built<Self> {
        let weights = loader.tensor(&format!("{name}.weight"), &[channels, 1, window.size, window.size])?;
        let bias = loader.tensor(&format!("{name}.bias"), &[channels])?;
        let weights = if loader.is_dry() { Ok(weights) } else { weights.squeeze(1).and_then(|w| w.permute((1, 2, 0))?.contiguous()) };
        Ok(Self { weights: weights.map_err(|e| loader.build_error(e))?, bias, window })
    }

    /// To `[n, h', w', channels]`.
    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (n, h, w, channels) = x.dims4()?;
        let (h_out, w_out) = (self.window.count(h), self.window.count(w));
        if self.bias.dims() != [channels] || h_out * w_out == 0 {
            bail!("a convolution of {:?} channels under {:?} on {x:?}", self.bias.dims(), self.window);
        }
        let Some(isa) = kernels_on(x.device()) else {
            let Window { stride, padding, dilation, .. } = self.window;
            let weights = self.weights.permute((2, 0, 1))?.unsqueeze(1)?.contiguous()?;
            let y = x.permute((0, 3, 1, 2))?.contiguous()?.conv2d(&weights, padding, stride, dilation, channels)?;
            return y.permute((0, 2, 3, 1))?.contiguous()?.broadcast_add(&self.bias);
        };
        let run =
            |x: &[f32], weights: &[f32], bias: &[f32]| kernels::depthwise(isa, images(x, [n, h, w, channels]), weights, bias, self.window);
        let values = with_values(x, |x| with_values(&self.weights, |weights| with_values(&self.bias, |bias| run(x, weights, bias))))???;
        tensor(values, (n, h_out, w_out, channels))
    }
}

/// The largest value under `window`, over `x [n, h, w, c]`.
pub(crate) fn max_pool(x: &Tensor, window: Window) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let (h_out, w_out) = (window.count(h), window.count(w));
    if h_out * w_out == 0 {
        bail!("pooling under {window:?} of {x:?}");
    }
    if let Some(isa) = kernels_on(x.device()) {
        let pool = |x: &[f32]| kernels::max_pool(isa, images(x, [n, h, w, c]), [window; 2]);
        return tensor(with_values(x, pool)?, (n, h_out, w_out, c));
    }
    // The largest of all taps, each a strided view of the image within a border of the smallest values.
    let smallest = f64::from(f32::MIN);
    let Window { size, stride, padding, dilation } = window;
    let reach = |count: usize| (count - 1) * stride + dilation * (size - 1) + 1;
    let pad = |x: &Tensor, axis: usize, n: usize, count: usize| {
        let border = |width: usize| -> Result<Tensor> {
            let mut dims = x.dims().to_vec();
            dims[axis] = width;
            Tensor::full(smallest as f32, dims, x.device())
        };
        // One more stride behind, so that every tap's view can be cut to whole strides.
        Tensor::cat(&[border(padding)?, x.clone(), border((reach(count) + stride).saturating_sub(padding + n))?], axis)
    };
    let x = pad(&pad(x, 1, h, h_out)?, 2, w, w_out)?;
    let view = |x: &Tensor, axis: usize, tap: usize, count: usize| -> Result<Tensor> {
        let x = x.narrow(axis, tap * dilation, count * stride)?;
        let mut dims = x.dims().to_vec();
        dims.splice(axis..=axis, [count, stride]);
        x.contiguous()?.reshape(dims)?.narrow(axis + 1, 0, 1)?.squeeze(axis + 1)
    };
    let mut largest: Option<Tensor> = None;
    for down in 0..size {
        let rows = view(&x, 1, down, h_out)?;
        for across in 0..size {
            let tap = view(&rows, 2, across, w_out)?;
            // What is not a number stays so: a maximum alone may hide it.
            largest = Some(largest.map_or(Ok(tap.clone()), |most| most.maximum(&tap)? + most.sub(&most)? + tap.sub(&tap)?)?);
        }
    }
    largest.ok_or_else(|| candle_core::Error::Msg(format!("pooling under {window:?}")))
}

#[cfg(test)]
mod tests {
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
            let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let isa = kernels_on(&device).unwrap();
            let packed = kernels::Conv::new(isa, &values(&weight), None, &values(&bias), 3, [window; 2]);
            let ours = Conv { weights: Weights::Packed(Box::new(packed)), window }.run(&last(&x)).unwrap();
            let delta = (ours - last(&theirs)).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(delta < 2e-5, "size {size} stride {stride} dilation {dilation}: {delta}");
        }
    }

    #[test]
    fn pooling_never_takes_the_padding() {
        let x = Tensor::from_vec(vec![-1.0f32, -2.0, -3.0, -4.0], (1, 2, 2, 1), &Device::Cpu).unwrap();
        let pooled = max_pool(&x, Window::new(3, 2, 1)).unwrap();
        assert_eq!(pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [-1.0]);
    }
}
