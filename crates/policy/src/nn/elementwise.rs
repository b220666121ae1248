//! Sums and products of two tensors, value by value. Candle shares out long ones over threads of its own, which
//! spin for a while after each; on the CPU these take the kernels' threads.

use candle_core::{Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows};
use crate::kernels::{self, Combine};

/// `a + b`, where `b` has the shape of `a [.., width]` or is one row `[width]` or `[1, width]` for all.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    combine(a, b, Combine::Sum)
}

/// `a ⊙ b`, where `b` is as in [`add`].
pub(crate) fn multiply(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    combine(a, b, Combine::Product)
}

fn combine(a: &Tensor, b: &Tensor, how: Combine) -> Result<Tensor> {
    let Some(isa) = kernels_on(a.device()) else {
        return match how {
            Combine::Sum => a.broadcast_add(b),
            Combine::Product => a.broadcast_mul(b),
        };
    };
    let width = a.dims().last().copied().unwrap_or(1);
    if a.dims() != b.dims() && (b.elem_count() != width || b.dims().last() != Some(&width)) {
        bail!("{how:?} of {a:?} and {b:?}");
    }
    tensor(with_rows(a, |a| with_rows(b, |b| kernels::combined(isa, a, b, how)))??, a.shape())
}
