//! Functions of one value.

use candle_core::{D, Result, Tensor};

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

/// The halves `gate` and `up` of each row of `x [n, 2 dim]` as `activation(gate) * up`, `[n, dim]`.
pub(crate) fn gated(x: &Tensor, activation: Activation) -> Result<Tensor> {
    let dim = x.dim(D::Minus1)? / 2;
    activation.run(&x.narrow(D::Minus1, 0, dim)?.contiguous()?)? * x.narrow(D::Minus1, dim, dim)?
}
