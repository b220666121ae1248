//! Functions of one value.

use candle_core::{Result, Tensor};

use super::bridge::{kernels_on, tensor, with_rows};
use crate::kernels::{self, Activation};

impl Activation {
    /// The activation of each value of `x`.
    pub(crate) fn run(self, x: &Tensor) -> Result<Tensor> {
        if let Some(isa) = kernels_on(x.device()) {
            return tensor(with_rows(x, |x| kernels::activated(isa, x, self))?, x.shape());
        }
        match self {
            Self::Identity => Ok(x.clone()),
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
