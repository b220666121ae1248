//! Exponentials and activations of vectors.

use super::simd::Simd;

/// What a layer does to its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    Identity,
    Relu,
    /// The exact one, with the error function.
    Gelu,
    /// The usual approximation by a hyperbolic tangent.
    GeluTanh,
    /// `x / (1 + e^(-1.702 x))`
    QuickGelu,
    Silu,
    Mish,
}

/// Where `exp` begins to answer 0: below the smallest normal number.
const EXP_LOW: f32 = -87.336_54;
/// Above, `exp` answers as for this: 2.4e38, the last before infinity.
const EXP_HIGH: f32 = 88.376_26;

/// `e^x` to a relative 2e-7 in `EXP_LOW..=EXP_HIGH`, 0 below, 2.4e38 above; NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`; `e^r` is its Taylor series up to `r^7`, whose rest is under
/// 6e-9.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    // `max` and `min` answer their second argument where it is NaN.
    let clamped = s.max(s.splat(EXP_LOW), s.min(s.splat(EXP_HIGH), x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with so few bits that its product with `n` is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), clamped);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut y = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        y = s.fma(y, r, s.splat(c));
    }
    s.where_less(x, s.splat(EXP_LOW), s.splat(0.0), s.mul(y, s.pow2(n)))
}

/// Below, [`weight`] answers as for this: a sum of such weights is nothing beside a weight of 1, and no product with one is
/// so small that the CPU takes longer for it.
const WEIGHT_LOW: f32 = -100.0;

/// `2^x` to a relative 3e-7 for `x ≤ 1`, but `2^-100` at least; NaN stays NaN.
///
/// `x = n + r` with `|r| ≤ 1/2`; `2^r` is a polynomial with the least relative error, 8e-8.
#[inline(always)]
pub(super) fn weight<S: Simd>(s: S, x: S::V) -> S::V {
    // `max` answers its second argument where it is NaN.
    let x = s.max(s.splat(WEIGHT_LOW), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    let mut y = s.splat(1.327_647_1e-3);
    for c in [9.675_542e-3, 5.550_713e-2, 0.240_221_2, 0.693_146_94, 1.0] {
        y = s.fma(y, r, s.splat(c));
    }
    s.mul(y, s.pow2(n))
}

/// `1 / (1 + e^-x)`, but `e^-87` at least: CPUs take a hundred times as long for a number that is too small to be normal.
#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    // `min` answers its second argument where it is NaN.
    let negated = s.min(s.splat(87.0), s.sub(s.splat(0.0), x));
    s.div(s.splat(1.0), s.add(s.splat(1.0), exp(s, negated)))
}

/// `1 - erf(x)` for `x ≥ 0` to 1.5e-7, by formula 7.1.26 of Abramowitz and Stegun.
#[inline(always)]
fn erfc<S: Simd>(s: S, x: S::V) -> S::V {
    let t = s.div(s.splat(1.0), s.fma(x, s.splat(0.327_591_1), s.splat(1.0)));
    let mut y = s.splat(1.061_405_4);
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6, 0.0] {
        y = s.fma(y, t, s.splat(c));
    }
    s.mul(y, exp(s, s.mul(x, s.sub(s.splat(0.0), x))))
}

/// GELUs, SiLU and Mish to 4e-7 of the larger of 1 and `|x|`; ReLU exactly. NaN stays NaN.
#[inline(always)]
pub(crate) fn activate<S: Simd>(s: S, activation: Activation, x: S::V) -> S::V {
    match activation {
        Activation::Identity => x,
        Activation::Relu => s.max(s.splat(0.0), x),
        Activation::Gelu => {
            let magnitude = s.max(x, s.sub(s.splat(0.0), x));
            let tail = s.mul(s.splat(0.5), erfc(s, s.mul(magnitude, s.splat(std::f32::consts::FRAC_1_SQRT_2))));
            s.mul(x, s.where_less(x, s.splat(0.0), tail, s.sub(s.splat(1.0), tail)))
        }
        Activation::GeluTanh => {
            // 0.5 (1 + tanh u) = sigmoid(2 u), u = sqrt(2 / π) (x + 0.044715 x³)
            const TWICE: f32 = 2.0 * 0.797_884_6;
            let inner = s.fma(s.mul(s.mul(x, x), x), s.splat(0.044_715), x);
            s.mul(x, sigmoid(s, s.mul(inner, s.splat(TWICE))))
        }
        Activation::QuickGelu => s.mul(x, sigmoid(s, s.mul(x, s.splat(1.702)))),
        Activation::Silu => s.mul(x, sigmoid(s, x)),
        Activation::Mish => {
            // tanh(ln(1 + e^x)) = n / (n + 2), n = e^x (e^x + 2)
            let e = exp(s, s.min(s.splat(20.0), x));
            let n = s.mul(e, s.add(e, s.splat(2.0)));
            s.mul(x, s.div(n, s.add(n, s.splat(2.0))))
        }
    }
}
