//! Normalisation layers.

use candle_core::{D, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows, with_values};
use super::{Activation, Built};
use crate::kernels::{self, Isa, RowNorm};
use crate::weights::Loader;

/// Normalises each row of `x [n, dim]` to mean 0 and variance 1, then scales and shifts.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Takes `<name>.weight [dim]` and `<name>.bias [dim]`; `eps` is added to the variance.
    pub(crate) fn new(loader: &mut Loader, name: &str, dim: usize, eps: f64) -> Built<Self> {
        let weight = loader.tensor(&format!("{name}.weight"), &[dim])?;
        Ok(Self { weight, bias: loader.tensor(&format!("{name}.bias"), &[dim])?, eps })
    }

    /// One with factors and shifts of another source, `[dim]`.
    pub(crate) fn with(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(isa) = kernels_on(x.device()) {
            return normalize(isa, x, &self.weight, Some(&self.bias), self.eps);
        }
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// Divides each row of `x [n, dim]` by its root mean square, then scales.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    /// Factors, `[dim]`.
    scale: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Takes `<name>.weight [dim]`; `eps` is added to the mean square.
    pub(crate) fn new(loader: &mut Loader, name: &str, dim: usize, eps: f64) -> Built<Self> {
        Ok(Self { scale: loader.tensor(&format!("{name}.weight"), &[dim])?, eps })
    }

    /// The same where the factors are the weights plus one, as in Gemma.
    pub(crate) fn one_plus(loader: &mut Loader, name: &str, dim: usize, eps: f64) -> Built<Self> {
        let norm = Self::new(loader, name, dim, eps)?;
        let scale = (&norm.scale + 1.0).map_err(|e| loader.build_error(e))?;
        Ok(Self { scale, eps })
    }

    /// One with the factors of another source, `[dim]`.
    pub(crate) fn with_scale(scale: Tensor, eps: f64) -> Self {
        Self { scale, eps }
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(isa) = kernels_on(x.device()) {
            return normalize(isa, x, &self.scale, None, self.eps);
        }
        let inverse = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?.recip()?;
        x.broadcast_mul(&inverse)?.broadcast_mul(&self.scale)
    }
}

/// Normalises each group of channels over all rows of `x [n, channels]` to mean 0 and variance 1,
/// then scales and shifts each channel.
#[derive(Debug)]
pub(crate) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
}

/// What PyTorch's `GroupNorm` adds to the variance.
const GROUP_NORM_EPS: f64 = 1e-5;

impl GroupNorm {
    /// Takes `<name>.weight [channels]` and `<name>.bias [channels]`; `groups` divides `channels`.
    pub(crate) fn new(loader: &mut Loader, name: &str, channels: usize, groups: usize) -> Built<Self> {
        let weight = loader.tensor(&format!("{name}.weight"), &[channels])?;
        Ok(Self { weight, bias: loader.tensor(&format!("{name}.bias"), &[channels])?, groups })
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, None)
    }

    /// The activation of the layer's answer.
    pub(crate) fn run_then(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.apply(x, Some(activation))
    }

    fn apply(&self, x: &Tensor, activation: Option<Activation>) -> Result<Tensor> {
        let (n, channels) = x.dims2()?;
        if let Some(isa) = kernels_on(x.device()) {
            let then = activation.unwrap_or(Activation::Identity);
            if self.weight.dims() != [channels] || !channels.is_multiple_of(self.groups.max(1)) {
                bail!("a norm of {} groups with factors {:?} on {x:?}", self.groups, self.weight);
            }
            let run = |scale: &[f32], shift: &[f32]| {
                with_rows(x, |x| kernels::group_norm(isa, x, self.groups, [scale, shift], GROUP_NORM_EPS as f32, then))
            };
            let values = with_values(&self.weight, |scale| with_values(&self.bias, |shift| run(scale, shift)))???;
            return tensor(values, (n, channels));
        }
        let grouped = x.reshape((n, self.groups, channels / self.groups))?;
        let mean = |x: &Tensor| x.mean_keepdim(0)?.mean_keepdim(2);
        let centred = grouped.broadcast_sub(&mean(&grouped)?)?;
        let deviation = (mean(&centred.sqr()?)? + GROUP_NORM_EPS)?.sqrt()?;
        let y = centred.broadcast_div(&deviation)?.reshape((n, channels))?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?;
        activation.map_or(Ok(y.clone()), |activation| activation.run(&y))
    }
}

fn normalize(isa: Isa, x: &Tensor, scale: &Tensor, shift: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let width = [x.dim(D::Minus1)?];
    if scale.dims() != width || shift.is_some_and(|shift| shift.dims() != width) {
        bail!("a norm with factors {scale:?} on {x:?}");
    }
    let run = |norm: RowNorm<'_>| with_rows(x, |x| kernels::normalize(isa, x, norm, eps as f32));
    let values = with_values(scale, |scale| match shift {
        Some(shift) => with_values(shift, |shift| run(RowNorm::Layer { scale, shift }))?,
        None => run(RowNorm::RootMeanSquare { scale }),
    })??;
    tensor(values, x.shape())
}
