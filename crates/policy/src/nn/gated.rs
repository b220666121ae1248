//! Two linear layers of one input, of which one opens and closes the other.

use candle_core::{D, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows, with_width};
use super::{Activation, Built, Linear};
use crate::kernels::{self, Matrix, Packed};
use crate::weights::Loader;

/// `activation(gate(x)) ⊙ up(x)` over the rows of `x [n, in]`.
#[derive(Debug)]
pub(crate) struct Gated {
    weights: Weights,
    activation: Activation,
    n_out: usize,
}

#[derive(Debug)]
enum Weights {
    Packed(Box<Packed>),
    /// Gate and up side by side.
    Plain(Linear),
}

impl Gated {
    /// Takes `<gate>.weight` and `<up>.weight [out, in]`, and where `has_bias` their `bias [out]`.
    pub(crate) fn new(
        loader: &mut Loader,
        [gate, up]: [&str; 2],
        [n_out, n_in]: [usize; 2],
        has_bias: bool,
        activation: Activation,
    ) -> Built<Self> {
        let isa = match kernels_on(loader.device()) {
            Some(isa) if !loader.is_dry() => isa,
            _ => {
                let both = Linear::side_by_side(loader, &[(gate, n_out), (up, n_out)], n_in, has_bias)?;
                return Ok(Self { weights: Weights::Plain(both), activation, n_out });
            }
        };
        let is_quantized = loader.quantizes(2 * n_out * n_in);
        let mut part = |name: &str| -> Built<_> {
            let bias = if has_bias { loader.vector(&format!("{name}.bias"), n_out)? } else { vec![0.0; n_out] };
            let name = format!("{name}.weight");
            Ok((loader.weights(&name, &[n_out, n_in])?, bias, name))
        };
        let parts = [part(gate)?, part(up)?];
        let [gate, up] = parts.each_ref().map(|(values, ..)| Matrix::dense(values, n_in));
        let packed = Packed::gated(isa, gate, up, parts.each_ref().map(|(_, bias, _)| bias.as_slice()));
        if !packed.is_finite {
            parts.iter().for_each(|(values, _, name)| loader.note_not_finite(name, values));
        }
        let packed = if is_quantized { packed.quantized() } else { packed };
        Ok(Self { weights: Weights::Packed(Box::new(packed)), activation, n_out })
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weights {
            Weights::Packed(weights) if x.dim(D::Minus1)? != weights.depth => {
                bail!("gated linear layers from {} to {} on {x:?}", weights.depth, self.n_out)
            }
            Weights::Packed(weights) => {
                let values = with_rows(x, |x| kernels::linear(x, weights, None, self.activation.of_kernels()))?;
                tensor(values, with_width(x, self.n_out))
            }
            Weights::Plain(both) => {
                let both = both.run(x)?;
                let half = |i: usize| both.narrow(D::Minus1, i * self.n_out, self.n_out)?.contiguous();
                self.activation.run(&half(0)?)? * half(1)?
            }
        }
    }
}
