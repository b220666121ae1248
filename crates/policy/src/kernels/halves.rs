//! Weights of 16 bits, half the size of `f32`, widened when they are multiplied.

use half::f16;

use super::simd::Simd;

/// How far ahead of the weights that are summed others are asked for, in values. Memory is far away, and a processor by itself doesn't look
/// ahead beyond a page of 4 kB.
const AHEAD: usize = 2048;

/// Which 16 bits stand for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Bf16,
    F16,
}

impl Half {
    /// Writes `values` in this form, and answers whether each comes back as it was.
    pub(super) fn narrow(self, values: &[f32], to: &mut [u16]) -> bool {
        match self {
            Self::Bf16 => {
                if values.iter().fold(0, |bits, value| bits | value.to_bits()) & 0xffff != 0 {
                    return false;
                }
                to.iter_mut().zip(values).for_each(|(to, value)| *to = (value.to_bits() >> 16) as u16);
                true
            }
            Self::F16 => values.iter().zip(to).all(|(value, to)| {
                let half = f16::from_f32(*value);
                *to = half.to_bits();
                half.to_f32().to_bits() == value.to_bits()
            }),
        }
    }
}

/// The values of [`Packed`](super::Packed) weights in 16 bits, in the order of the panels.
#[derive(Debug)]
pub(super) struct Halves {
    pub(super) bits: Vec<u16>,
    kind: Half,
}

impl Halves {
    pub(super) fn zeros(kind: Half, len: usize) -> Self {
        Self { bits: vec![0; len], kind }
    }

    /// The values from `at` on, into `to`, which is whole vectors.
    #[inline(always)]
    pub(super) fn widen<S: Simd>(&self, s: S, at: usize, to: &mut [f32]) {
        let bits = &self.bits[at..at + to.len()];
        assert!(to.len().is_multiple_of(S::LANES), "{} values in vectors of {}", to.len(), S::LANES);
        for (bits, to) in bits.chunks_exact(S::LANES).zip(to.chunks_exact_mut(S::LANES)) {
            // SAFETY: both are a vector's values.
            unsafe {
                let values = match self.kind {
                    Half::Bf16 => s.load_bf16(bits.as_ptr()),
                    Half::F16 => s.load_f16(bits.as_ptr()),
                };
                s.store(to.as_mut_ptr(), values);
            }
        }
    }

    /// The sums of `x` with the pairs of vectors from `at` on, one for each of its values.
    #[inline(always)]
    pub(super) fn sums<S: Simd>(&self, s: S, at: usize, x: &[f32]) -> [S::V; 2] {
        let bits = &self.bits[at..at + x.len() * 2 * S::LANES];
        match self.kind {
            Half::Bf16 => sums_of::<S, true>(s, bits, x),
            Half::F16 => sums_of::<S, false>(s, bits, x),
        }
    }
}

#[inline(always)]
fn sums_of<S: Simd, const IS_BF16: bool>(s: S, bits: &[u16], x: &[f32]) -> [S::V; 2] {
    let mut sums = [s.splat(0.0); 2];
    for (pair, x) in bits.chunks_exact(2 * S::LANES).zip(x) {
        let pair = pair.as_ptr();
        s.prefetch(pair.wrapping_add(AHEAD).cast());
        // SAFETY: a pair is two vectors.
        unsafe {
            let second = pair.add(S::LANES);
            let weights = if IS_BF16 { [s.load_bf16(pair), s.load_bf16(second)] } else { [s.load_f16(pair), s.load_f16(second)] };
            let x = s.splat(*x);
            sums = [s.fma(x, weights[0], sums[0]), s.fma(x, weights[1], sums[1])];
        }
    }
    sums
}
