//! Functions of one value.

use candle_core::{Result, Tensor};

use super::bridge::{kernels_on, tensor, with_rows};
use crate::kernels;

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
            return tensor(with_rows(x, |x| kernels::activated(isa, x, self.of_kernels()))?, x.shape());
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
