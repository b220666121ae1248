//! Functions of one value.

use candle_core::{Result, Tensor};

use super::bridge::{kernels_on, tensor, with_rows};
use crate::kernels::{self, Activation};

impl Activation {
    /// What [`named`](Self::named) knows.
    pub(crate) const NAMES: &str = "silu, gelu, gelu_pytorch_tanh, quick_gelu or relu";

    /// By transformers' name of it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "silu" | "swish" => Some(Self::Silu),
            "gelu" => Some(Self::Gelu),
            "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "quick_gelu" => Some(Self::QuickGelu),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }

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
            Self::QuickGelu => x / ((x * -1.702)?.exp()? + 1.0)?,
            Self::Silu => x.silu(),
            Self::Mish => {
                // ln(1 + eˣ) without overflow.
                let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
                x * softplus.tanh()?
            }
        }
    }
}
