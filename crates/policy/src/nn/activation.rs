//! Functions of one value.

use candle_core::{D, Result, Tensor};

use super::bridge::{kernels_on, tensor, with_rows, with_width};
use crate::kernels::{self, Matrix};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Relu,
    /// The exact one, with the error function.
    Gelu,
    /// PyTorch's `approximate="tanh"`.
    GeluTanh,
    Silu,
    /// `x tanh(ln(1 + eˣ))`
    Mish,
}

impl Activation {
    pub(crate) fn run(self, x: &Tensor) -> Result<Tensor> {
        if let Some(isa) = kernels_on(x.device()) {
            return tensor(with_rows(x, |x| kernels::activated(isa, x, self.of_kernels(), None))?, x.shape());
        }
        match self {
            Self::Relu => x.relu(),
            Self::Gelu => x.gelu_erf(),
            Self::GeluTanh => x.gelu(),
            Self::Silu => x.silu(),
            Self::Mish => {
                // ln(1 + eˣ) without overflow.
                let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
                x * softplus.tanh()?
            }
        }
    }
}

impl Activation {
    pub(super) fn of_kernels(self) -> kernels::Activation {
        match self {
            Self::Relu => kernels::Activation::Relu,
            Self::Gelu => kernels::Activation::GeluErf,
            Self::GeluTanh => kernels::Activation::GeluTanh,
            Self::Silu => kernels::Activation::Silu,
            Self::Mish => kernels::Activation::Mish,
        }
    }
}

/// The halves `gate` and `up` of each row of `x [n, 2 dim]` as `activation(gate) * up`, `[n, dim]`.
pub(crate) fn gated(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let dim = x.dim(D::Minus1)? / 2;
    if let Some(isa) = kernels_on(x.device()) {
        let kernel = |x: Matrix<'_>| kernels::activated(isa, x.columns(0..dim), activation.of_kernels(), Some(x.columns(dim..2 * dim)));
        return tensor(with_rows(x, kernel)?, with_width(x, dim));
    }
    activation.run(&x.narrow(D::Minus1, 0, dim)?.contiguous()?)? * x.narrow(D::Minus1, dim, dim)?
}
