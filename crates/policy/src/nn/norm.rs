//! Normalisation layers.

use candle_core::{D, Result, Tensor};

use super::Built;
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

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
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
        let (n, channels) = x.dims2()?;
        let grouped = x.reshape((n, self.groups, channels / self.groups))?;
        let mean = |x: &Tensor| x.mean_keepdim(0)?.mean_keepdim(2);
        let centred = grouped.broadcast_sub(&mean(&grouped)?)?;
        let deviation = (mean(&centred.sqr()?)? + GROUP_NORM_EPS)?.sqrt()?;
        centred.broadcast_div(&deviation)?.reshape((n, channels))?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}
