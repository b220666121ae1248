//! Two linear layers of one input, of which one opens and closes the other.

use candle_core::{D, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows, with_width};
use super::held::Held;
use super::{Activation, Built, Linear};
use crate::kernels::{self, Packed};
use crate::weights::Loader;

/// `activation(gate(x)) ⊙ up(x)` over the rows of `x [n, in]`.
#[derive(Debug)]
pub(crate) struct Gated {
    weights: Weights,
    activation: Activation,
    n_in: usize,
    n_out: usize,
}

#[derive(Debug)]
enum Weights {
    Packed(Held),
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
                return Ok(Self { weights: Weights::Plain(both), activation, n_in, n_out });
            }
        };
        let form = loader.form(2 * n_out * n_in);
        let mut part = |name: &str| -> Built<_> {
            let bias = if has_bias { loader.vector(&format!("{name}.bias"), n_out)? } else { vec![0.0; n_out] };
            Ok((loader.rows(&format!("{name}.weight"), &[n_out, n_in], 0..n_out, form)?, bias))
        };
        let [(gate, gate_bias), (up, up_bias)] = [part(gate)?, part(up)?];
        let parts = [gate.clone(), up.clone()];
        let pack = move || Packed::gated(isa, [&gate, &up], [&gate_bias, &up_bias], form);
        let weights = Weights::Packed(Held::new(loader, 2 * n_out * n_in, &parts, pack)?);
        Ok(Self { weights, activation, n_in, n_out })
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weights {
            Weights::Packed(_) if x.dim(D::Minus1)? != self.n_in => {
                bail!("gated linear layers from {} to {} on {x:?}", self.n_in, self.n_out)
            }
            Weights::Packed(weights) => {
                let activation = self.activation;
                let values = weights.with(|weights| with_rows(x, |x| kernels::linear(x, weights, None, activation)))??;
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
