//! Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

use candle_core::{Device, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows, with_values};
use crate::kernels;

/// Angles for some positions; entry `i` of a head's first half is turned together with entry `i` of
/// its second half.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    /// `[n, 1, dim / 2]`
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// For rows at `positions` with heads of width `dim`: entry `i` turns by `base^(-2i / dim)` a
    /// position.
    pub(crate) fn new(positions: &[i64], dim: usize, base: f32, device: &Device) -> Result<Self> {
        let half = dim / 2;
        let slow = |i: usize| base.powf(-(2.0 * i as f32) / dim as f32);
        let angles: Vec<f32> = positions.iter().flat_map(|at| (0..half).map(move |i| *at as f32 * slow(i))).collect();
        let angles = Tensor::from_vec(angles, (positions.len(), 1, half), device)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()? })
    }

    /// `x [n, heads * dim]`, each head turned.
    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let (n, width) = x.dims2()?;
        let half = self.cos.dim(2)?;
        if let Some(isa) = kernels_on(x.device()) {
            if half == 0 || !width.is_multiple_of(2 * half) || self.cos.dim(0)? != n {
                bail!("angles {:?} for {x:?}", self.cos);
            }
            let run = |cos: &[f32], sin: &[f32]| with_rows(x, |x| kernels::rotated(isa, x, [cos, sin], half));
            let values = with_values(&self.cos, |cos| with_values(&self.sin, |sin| run(cos, sin)))???;
            return tensor(values, (n, width));
        }
        let x = x.reshape((n, width / (2 * half), 2 * half))?;
        let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
        let first = (a.broadcast_mul(&self.cos)? - b.broadcast_mul(&self.sin)?)?;
        let second = (b.broadcast_mul(&self.cos)? + a.broadcast_mul(&self.sin)?)?;
        Tensor::cat(&[first, second], 2)?.reshape((n, width))
    }
}
