//! Each kernel, on each instruction set of this CPU, against sums in `f64` as slow as can be.

use proptest::prelude::*;

use super::conv::ConvMethod;
use super::math::{Activation, activate, exp, weight};
use super::simd::{Kernel, Simd};
use super::*;

/// Values in -1..1 that are the same in every run.
pub(super) fn values(n: usize, seed: u64) -> Vec<f32> {
    // SplitMix64: neighbouring seeds have nothing in common.
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn attention(isa: Isa, [query, key, value]: [Matrix<'_>; 3], [heads, key_heads]: [usize; 2], mask: Option<&[f32]>, scale: f32) -> Vec<f32> {
    KeyValues::new(isa, [key, value], key_heads, 0).attend(query, heads, mask, scale)
}

const ACTIVATIONS: [Activation; 7] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Silu,
    Activation::Mish,
];

/// The error function, to 1e-15: its Taylor series, or the continued fraction of its complement.
fn erf(x: f64) -> f64 {
    if x < 0.0 {
        return -erf(-x);
    }
    if x > 3.0 {
        let fraction = (1..60).rev().fold(x, |rest, k| x + f64::from(k) / 2.0 / rest);
        return 1.0 - (-x * x).exp() / (fraction * std::f64::consts::PI.sqrt());
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        Activation::QuickGelu => x / (1.0 + (-1.702 * x).exp()),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Mish => x * x.exp().ln_1p().tanh(),
    }
}

/// Panics unless `ours` is within `tolerance` of `expected`, value by value.
#[track_caller]
fn assert_near(ours: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), expected.len(), "{what}");
    for (at, (ours, expected)) in ours.iter().zip(expected).enumerate() {
        assert!((f64::from(*ours) - expected).abs() <= tolerance, "{what}: {ours} at {at}, expected {expected} ± {tolerance:e}");
    }
}

fn max_delta(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Runs a function of vectors over values.
struct Map<'a> {
    x: &'a [f32],
    function: Function,
}

enum Function {
    Exponential,
    Weight,
    Activation(Activation),
}

impl Kernel for Map<'_> {
    type Out = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        let mut out = vec![0.0; self.x.len()];
        for at in (0..self.x.len()).step_by(S::LANES) {
            let n = S::LANES.min(self.x.len() - at);
            // SAFETY: `n` values from `at` on are inside both.
            unsafe {
                let x = s.load_up_to(self.x.as_ptr().add(at), n);
                let y = match self.function {
                    Function::Exponential => exp(s, x),
                    Function::Weight => weight(s, x),
                    Function::Activation(activation) => activate(s, activation, x),
                };
                s.store_up_to(out.as_mut_ptr().add(at), n, y);
            }
        }
        out
    }
}

#[test]
fn exponentials_and_activations_keep_their_bounds() {
    let x: Vec<f32> = (-87_300..=88_300).map(|i| i as f32 * 1e-3).collect();
    for isa in Isa::available() {
        for (x, y) in x.iter().zip(isa.run(Map { x: &x, function: Function::Exponential })) {
            let expected = f64::from(*x).exp();
            assert!((f64::from(y) / expected - 1.0).abs() < 2e-7, "{isa:?}: e^{x} = {y}, expected {expected}");
        }
        let ends =
            isa.run(Map { x: &[-88.0, f32::MIN, f32::NEG_INFINITY, 0.0, 89.0, f32::INFINITY, f32::NAN], function: Function::Exponential });
        assert_eq!(ends[..4], [0.0, 0.0, 0.0, 1.0], "{isa:?}");
        assert!(ends[4] > 2e38 && ends[4] == ends[5] && ends[4].is_finite() && ends[6].is_nan(), "{isa:?}: {ends:?}");
        for activation in ACTIVATIONS {
            for (x, y) in x.iter().zip(isa.run(Map { x: &x, function: Function::Activation(activation) })) {
                let expected = exact(activation, f64::from(*x));
                let bound = 4e-7 * f64::from(x.abs()).max(1.0);
                assert!((f64::from(y) - expected).abs() <= bound, "{isa:?} {activation:?}({x}) = {y}, expected {expected}");
            }
            let nan = isa.run(Map { x: &[f32::NAN], function: Function::Activation(activation) });
            assert!(nan[0].is_nan(), "{isa:?} {activation:?} hides what is not a number");
            for y in isa.run(Map { x: &[-88.0, -100.0, -1e4, -1e30], function: Function::Activation(activation) }) {
                assert!(!y.is_subnormal(), "{isa:?} {activation:?} answers {y:e}, with which CPUs are slow");
            }
        }
    }
}

#[test]
fn weights_of_attention_keep_their_bounds() {
    let x: Vec<f32> = (-99_999..=1000).map(|i| i as f32 * 1e-3).collect();
    for isa in Isa::available() {
        for (x, y) in x.iter().zip(isa.run(Map { x: &x, function: Function::Weight })) {
            let expected = f64::from(*x).exp2();
            assert!((f64::from(y) / expected - 1.0).abs() < 3e-7, "{isa:?}: 2^{x} = {y}, expected {expected}");
        }
        let ends = isa.run(Map { x: &[0.0, -101.0, f32::MIN, f32::NEG_INFINITY, f32::NAN], function: Function::Weight });
        assert_eq!(ends[..4], [1.0, 2f32.powi(-100), 2f32.powi(-100), 2f32.powi(-100)], "{isa:?}");
        assert!(ends[4].is_nan(), "{isa:?} hides what is not a number");
    }
}

/// `activation(x Wᵀ + b + residual)` in `f64`.
fn slow_linear(x: Matrix<'_>, w: &[f32], bias: &[f32], residual: Option<&[f32]>, activation: Activation) -> Vec<f64> {
    let n = bias.len();
    let mut out = Vec::new();
    for row in 0..x.rows {
        for column in 0..n {
            let products = x.row(row).iter().zip(&w[column * x.width..]).map(|(a, b)| f64::from(*a) * f64::from(*b));
            let added = residual.map_or(0.0, |r| f64::from(r[row * n + column]));
            out.push(exact(activation, products.sum::<f64>() + f64::from(bias[column]) + added));
        }
    }
    out
}

fn read(isa: Isa, weights: &[Matrix<'_>], bias: Option<&[f32]>, form: Form) -> Packed {
    let Ok(packed) = Packed::read(isa, weights, bias, form);
    packed
}

fn gated(isa: Isa, both: [&Matrix<'_>; 2], bias: [&[f32]; 2], form: Form) -> Packed {
    let Ok(packed) = Packed::gated(isa, both, bias, form);
    packed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Widened in the kernel or before: the same bits. Rows come from several parts. A row alone is summed by a kernel of its own.
    #[test]
    fn weights_of_16_bits_multiply_as_the_same_ones_in_32(
        m in prop_oneof![Just(1usize), 2usize..30], n in 1usize..100, depth in 1usize..1300, is_gated in any::<bool>(), is_bf16 in any::<bool>(), cut in 0usize..100,
        odd in any::<bool>(), seed in any::<u64>(),
    ) {
        let (x, bias) = (values(m * depth, seed), values(n, seed ^ 2));
        let mut w: Vec<f32> = values(n * depth, seed ^ 1).iter().enumerate().map(|(i, w)| {
            // Down to numbers that are subnormal in 16 bits.
            let w = w * [1.0, 3e-5, 1e-7, 0.0][i % 4];
            if is_bf16 { half::bf16::from_f32(w).to_f32() } else { half::f16::from_f32(w).to_f32() }
        }).collect();
        if odd {
            w[n * depth - 1] = 0.1;
        }
        let w = Matrix::dense(&w, depth);
        let cut = cut.min(n);
        for isa in Isa::available() {
            let [ours, expected] = [Form::Exact, Form::Floats].map(|form| {
                if is_gated { gated(isa, [&w, &w], [&bias, &bias], form) } else { read(isa, &[w.rows(0..cut), w.rows(cut..n)], Some(&bias), form) }
            });
            prop_assert_eq!((ours.weight_bytes(), expected.weight_bytes()), (if odd { 4.0 } else { 2.0 }, 4.0));
            let all: Vec<u32> = (0..n).flat_map(|row| w.row(row).iter().map(|w| w.to_bits())).collect();
            if !is_gated {
                prop_assert!(ours.unpacked().iter().zip(&all).all(|(a, b)| a.to_bits() == *b), "{:?} {}x{}", isa, n, depth);
            }
            let [ours, expected] = [ours, expected].map(|w| linear(Matrix::dense(&x, depth), &w, None, Activation::Silu));
            prop_assert!(ours.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{:?} {}x{}x{}", isa, m, n, depth);
        }
    }

    #[test]
    fn products_are_exact_sums(
        m in 1usize..60, n in 1usize..90, depth in prop_oneof![1usize..70, 500usize..530, 1020usize..1100],
        (margin, has_residual, activation) in (0usize..9, any::<bool>(), 0usize..6), seed in any::<u64>(),
    ) {
        let (x, w, bias) = (values(m * (depth + margin), seed), values(n * depth, seed ^ 1), values(n, seed ^ 2));
        let residual = has_residual.then(|| values(m * n, seed ^ 3));
        let x = Matrix { values: &x, rows: m, width: depth, stride: depth + margin };
        let expected = slow_linear(x, &w, &bias, residual.as_deref(), ACTIVATIONS[activation]);
        for isa in Isa::available() {
            let packed = Packed::new(isa, Matrix::dense(&w, depth), Some(&bias));
            prop_assert!(packed.is_finite);
            let ours = linear(x, &packed, residual.as_deref(), ACTIVATIONS[activation]);
            assert_near(&ours, &expected, 1e-4, &format!("{isa:?} {m}x{n}x{depth}"));
        }
    }

    #[test]
    fn quantized_weights_are_near_and_multiply_as_others_do(
        m in 1usize..30, n in 1usize..100, depth in 1usize..1300, is_gated in any::<bool>(), seed in any::<u64>(),
    ) {
        let (x, bias) = (values(m * depth, seed), values(n, seed ^ 2));
        // Neighbouring blocks of very different sizes, some of nothing but zeros.
        let w: Vec<f32> = values(n * depth, seed ^ 1).iter().enumerate().map(|(i, w)| w * ((i % depth / 32 % 3) as f32 * 10.0)).collect();
        for isa in Isa::available() {
            let rounded = read(isa, &[Matrix::dense(&w, depth)], Some(&bias), Form::Codes).unpacked();
            for (ours, theirs) in rounded.chunks(depth).zip(w.chunks(depth)).flat_map(|(ours, theirs)| ours.chunks(32).zip(theirs.chunks(32))) {
                let largest = theirs.iter().fold(0f32, |most, w| most.max(w.abs()));
                prop_assert!(max_delta(ours, theirs) <= largest / 253.9, "{:?}: {:?} for {:?}", isa, ours, theirs);
            }
            let [ours, expected] = [(&w, Form::Codes), (&rounded, Form::Floats)].map(|(w, form)| {
                let w = Matrix::dense(w, depth);
                if is_gated { gated(isa, [&w, &w], [&bias, &bias], form) } else { read(isa, &[w], Some(&bias), form) }
            }).map(|w| linear(Matrix::dense(&x, depth), &w, None, Activation::Silu));
            prop_assert!(ours.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{:?} {}x{}x{}", isa, m, n, depth);
        }
    }

    #[test]
    fn gates_scale_what_they_gate(m in 1usize..30, n in 1usize..70, depth in 1usize..600, activation in 0usize..6, seed in any::<u64>()) {
        let (x, gate, up) = (values(m * depth, seed), values(n * depth, seed ^ 1), values(n * depth, seed ^ 2));
        let bias = [values(n, seed ^ 3), values(n, seed ^ 4)];
        let x = Matrix::dense(&x, depth);
        let gates = slow_linear(x, &gate, &bias[0], None, ACTIVATIONS[activation]);
        let ups = slow_linear(x, &up, &bias[1], None, Activation::Identity);
        for isa in Isa::available() {
            let packed = gated(isa, [&Matrix::dense(&gate, depth), &Matrix::dense(&up, depth)], [&bias[0], &bias[1]], Form::Exact);
            for (ours, (gate, up)) in linear(x, &packed, None, ACTIVATIONS[activation]).iter().zip(gates.iter().zip(&ups)) {
                // Each of the two is off by as much as any product may be.
                let tolerance = 1e-4 * (gate.abs() + up.abs()) + 1e-6;
                prop_assert!((f64::from(*ours) - gate * up).abs() <= tolerance, "{:?} {}x{}x{}: {} for {} times {}", isa, m, n, depth, ours, gate, up);
            }
        }
    }

    #[test]
    fn convolutions_are_exact_sums(
        (count, height, width) in (1usize..3, 1usize..20, 1usize..20), (channels, n_out) in (1usize..40, 1usize..40),
        sizes in (1usize..6, 1usize..6), strides in (1usize..4, 1usize..4), paddings in (0usize..4, 0usize..4),
        dilations in (1usize..3, 1usize..3), (is_plain, has_residual, is_scaled) in any::<(bool, bool, bool)>(), seed in any::<u64>(),
    ) {
        let axis = |size, stride, padding, dilation| if is_plain { Window { size: 3, stride: 1, padding, dilation: 1 } } else { Window { size, stride, padding, dilation } };
        let axes = [axis(sizes.0, strides.0, paddings.0, dilations.0), axis(sizes.1, strides.1, paddings.1, dilations.1)];
        let (h_out, w_out) = (axes[0].count(height), axes[1].count(width));
        prop_assume!(h_out * w_out > 0);
        let taps = axes[0].size * axes[1].size;
        let (x, w, bias) = (values(count * height * width * channels, seed), values(n_out * taps * channels, seed ^ 1), values(n_out, seed ^ 2));
        let residual = has_residual.then(|| values(count * h_out * w_out * n_out, seed ^ 3));
        let scale = is_scaled.then(|| values(n_out, seed ^ 4));
        let mut expected = Vec::new();
        for position in 0..count * h_out * w_out {
            let (image, y, at) = (position / (h_out * w_out), position / w_out % h_out, position % w_out);
            for o in 0..n_out {
                let mut sum = f64::from(bias[o]) + residual.as_ref().map_or(0.0, |r| f64::from(r[position * n_out + o]));
                for tap in 0..taps {
                    let (ky, kx) = (tap / axes[1].size, tap % axes[1].size);
                    let row = (y * axes[0].stride + ky * axes[0].dilation).checked_sub(axes[0].padding).filter(|row| *row < height);
                    let column = (at * axes[1].stride + kx * axes[1].dilation).checked_sub(axes[1].padding).filter(|column| *column < width);
                    if let (Some(row), Some(column)) = (row, column) {
                        let pixel = &x[((image * height + row) * width + column) * channels..][..channels];
                        let weights = w[o * taps * channels..][..taps * channels].iter().skip(tap).step_by(taps);
                        let products = pixel.iter().zip(weights).map(|(a, b)| f64::from(*a) * f64::from(*b));
                        sum += products.sum::<f64>() * scale.as_ref().map_or(1.0, |scale| f64::from(scale[o]));
                    }
                }
                expected.push(sum.max(0.0));
            }
        }
        let images = Images { values: &x, count, height, width, channels };
        for isa in Isa::available() {
            let conv = Conv::new(isa, &w, scale.as_deref(), &bias, channels, axes);
            let what = format!("{isa:?} {count}x{height}x{width}x{channels} to {n_out} by {axes:?}");
            assert_near(&conv.run_by(ConvMethod::Patches, images, residual.as_deref(), Activation::Relu), &expected, 5e-5, &what);
            if conv.can_pool() {
                assert_near(&conv.run_by(ConvMethod::Direct, images, residual.as_deref(), Activation::Relu), &expected, 5e-5, &format!("directly, {what}"));
            }
            if is_plain {
                // Its transforms add and subtract numbers several times as large.
                let ours = conv.run_by(ConvMethod::Winograd, images, residual.as_deref(), Activation::Relu);
                assert_near(&ours, &expected, 1e-4, &format!("Winograd, {what}"));
            }
        }
    }

    #[test]
    fn transposed_convolutions_spread_each_row(
        t in 1usize..20, channels in 1usize..40, n_out in 1usize..40, size in 1usize..6, stride in 1usize..4, padding in 0usize..3, seed in any::<u64>(),
    ) {
        prop_assume!((t - 1) * stride + size > 2 * padding);
        let (x, w, bias) = (values(t * channels, seed), values(channels * n_out * size, seed ^ 1), values(n_out, seed ^ 2));
        let rows = (t - 1) * stride + size - 2 * padding;
        let mut expected: Vec<f64> = (0..rows * n_out).map(|i| f64::from(bias[i % n_out])).collect();
        for (at, tap) in (0..t).flat_map(|at| (0..size).map(move |tap| (at, tap))) {
            let Some(row) = (at * stride + tap).checked_sub(padding).filter(|row| *row < rows) else { continue };
            for (i, o) in (0..channels).flat_map(|i| (0..n_out).map(move |o| (i, o))) {
                expected[row * n_out + o] += f64::from(x[at * channels + i]) * f64::from(w[(i * n_out + o) * size + tap]);
            }
        }
        for isa in Isa::available() {
            let conv = ConvTranspose::new(isa, &w, &bias, [channels, n_out, size], stride, padding);
            assert_near(&conv.run(&x), &expected, 5e-5, &format!("{isa:?} {t}x{channels} to {n_out}, {size} by {stride}, {padding}"));
        }
    }

    #[test]
    fn attention_is_a_weighted_mean(
        (n, m, dim) in (1usize..120, 1usize..90, 1usize..40), (key_heads, group) in (1usize..4, 1usize..4), has_mask in any::<bool>(), seed in any::<u64>(),
    ) {
        let heads = key_heads * group;
        let (q, kv) = (values(n * heads * dim, seed), values(m * 2 * key_heads * dim, seed ^ 1));
        let query = Matrix::dense(&q, heads * dim);
        let both = Matrix::dense(&kv, 2 * key_heads * dim);
        let (key, value) = (both.columns(0..key_heads * dim), both.columns(key_heads * dim..2 * key_heads * dim));
        // Each query sees its own share of the keys, and the last none: then it looks at all alike.
        let mask: Option<Vec<f32>> = has_mask.then(|| {
            values(n * m, seed ^ 2).iter().enumerate().map(|(i, x)| if *x > 0.0 || i / m + 1 == n { -2.38e38 } else { *x }).collect()
        });
        let scale = 3.0 / (dim as f32).sqrt();
        let mut expected = vec![0.0; n * heads * dim];
        for (row, head) in (0..n).flat_map(|row| (0..heads).map(move |head| (row, head))) {
            let at = head / group * dim;
            let logits: Vec<f64> = (0..m).map(|j| {
                let products = (0..dim).map(|i| f64::from(query.row(row)[head * dim + i]) * f64::from(key.row(j)[at + i]));
                let logit = products.sum::<f64>() * f64::from(scale);
                // The sum of a large mask and a logit is the mask, in f32 as in the reference.
                mask.as_ref().map_or(logit, |mask| if mask[row * m + j] < -1e38 { f64::from(mask[row * m + j]) } else { logit + f64::from(mask[row * m + j]) })
            }).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for i in 0..dim {
                let mixed: f64 = weights.iter().enumerate().map(|(j, weight)| weight * f64::from(value.row(j)[at + i])).sum();
                expected[(row * heads + head) * dim + i] = mixed / sum;
            }
        }
        for isa in Isa::available() {
            let ours = attention(isa, [query, key, value], [heads, key_heads], mask.as_deref(), scale);
            assert_near(&ours, &expected, 2e-6, &format!("{isa:?} {n}x{m}x{dim}, {heads} over {key_heads}"));
            // The same bits where the last rows are filled in, over others.
            let kept = m - seed as usize % m;
            let mut filled = KeyValues::new(isa, [key.rows(0..kept), value.rows(0..kept)], key_heads, m - kept);
            filled.set_last([value.rows(kept..m), key.rows(kept..m)]);
            filled.set_last([key.rows(kept..m), value.rows(kept..m)]);
            let again = filled.attend(query, heads, mask.as_deref(), scale);
            assert!(again.iter().zip(&ours).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?} {kept} of {n}x{m}x{dim}");
        }
    }

    #[test]
    fn norms_rotations_and_pooling_are_what_they_say(
        n in 1usize..20, (groups, width) in (1usize..5, 1usize..50), activation in 0usize..6, seed in any::<u64>(),
    ) {
        let dim = groups * width;
        let (x, scale, shift) = (values(n * (dim + 3), seed), values(dim, seed ^ 1), values(dim, seed ^ 2));
        let x = Matrix { values: &x, rows: n, width: dim, stride: dim + 3 };
        let eps = 1e-5f32;
        let deviation = |values: &[f32], is_centred: bool| {
            let count = values.len() as f64;
            let mean = if is_centred { values.iter().map(|x| f64::from(*x)).sum::<f64>() / count } else { 0.0 };
            (mean, (values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / count + f64::from(eps)).sqrt())
        };
        let mut layer = Vec::new();
        let mut square = Vec::new();
        for row in 0..n {
            let ((mean, spread), (_, size)) = (deviation(x.row(row), true), deviation(x.row(row), false));
            for (i, x) in x.row(row).iter().enumerate() {
                layer.push((f64::from(*x) - mean) / spread * f64::from(scale[i]) + f64::from(shift[i]));
                square.push(f64::from(*x) / size * f64::from(scale[i]));
            }
        }
        let spreads: Vec<(f64, f64)> = (0..groups).map(|group| {
            deviation(&(0..n).flat_map(|row| x.columns(group * width..(group + 1) * width).row(row)).copied().collect::<Vec<_>>(), true)
        }).collect();
        let grouped: Vec<f64> = (0..n * dim).map(|i| {
            let (mean, spread) = spreads[i % dim / width];
            let y = (f64::from(x.row(i / dim)[i % dim]) - mean) / spread * f64::from(scale[i % dim]) + f64::from(shift[i % dim]);
            exact(ACTIVATIONS[activation], y)
        }).collect();
        // Near-constant rows enlarge the rounding of their mean by 1 / sqrt(eps).
        let tolerance = 3e-5;
        for isa in Isa::available() {
            let what = format!("{isa:?} {n}x{dim}");
            assert_near(&normalize(isa, x, RowNorm::Layer { scale: &scale, shift: &shift }, eps), &layer, tolerance, &what);
            assert_near(&normalize(isa, x, RowNorm::RootMeanSquare { scale: &scale }, eps), &square, tolerance, &what);
            assert_near(&group_norm(isa, x, groups, [&scale, &shift], eps, ACTIVATIONS[activation]), &grouped, tolerance, &what);
        }

        let heads = Matrix::dense(&scale, dim).columns(0..dim / 2 * 2);
        if let (1.., angle) = (dim / 2, values(dim, seed ^ 5)) {
            let half = dim / 2;
            let (cos, sin): (Vec<f32>, Vec<f32>) = angle[..half].iter().map(|a| (a.cos(), a.sin())).unzip();
            let turned: Vec<f64> = (0..2 * half).map(|i| {
                let (a, b) = (f64::from(scale[i % half]), f64::from(scale[half + i % half]));
                let (cos, sin) = (f64::from(cos[i % half]), f64::from(sin[i % half]));
                if i < half { a * cos - b * sin } else { b * cos + a * sin }
            }).collect();
            for isa in Isa::available() {
                assert_near(&rotated(isa, heads, [&cos, &sin], half), &turned, 3e-7, &format!("{isa:?} {dim}"));
            }
        }
    }

    #[test]
    fn pooling_finds_the_largest_and_never_the_padding(
        (height, width, channels) in (1usize..12, 1usize..12, 1usize..20), size in 1usize..5, stride in 1usize..4, padding in 0usize..3, dilation in 1usize..3, seed in any::<u64>(),
    ) {
        // PyTorch wants the padding to be at most half the window.
        prop_assume!(padding <= size / 2);
        let axis = Window { size, stride, padding, dilation };
        let (h_out, w_out) = (axis.count(height), axis.count(width));
        prop_assume!(h_out * w_out > 0);
        let x: Vec<f32> = values(height * width * channels, seed).iter().map(|x| x - 2.0).collect();
        let at = |position: usize, tap: usize, n: usize| (position * stride + tap * dilation).checked_sub(padding).filter(|at| *at < n);
        let expected: Vec<f64> = (0..h_out * w_out * channels).map(|i| {
            let taps = (0..size * size).filter_map(|tap| {
                let (row, column) = (at(i / channels / w_out, tap / size, height)?, at(i / channels % w_out, tap % size, width)?);
                Some(f64::from(x[(row * width + column) * channels + i % channels]))
            });
            taps.fold(f64::NEG_INFINITY, f64::max)
        }).collect();
        for isa in Isa::available() {
            let ours = max_pool(isa, Images { values: &x, count: 1, height, width, channels }, [axis; 2]);
            prop_assert!(ours.iter().zip(&expected).all(|(a, b)| f64::from(*a) == *b), "{:?} {:?}: {:?}", isa, axis, ours);
        }
    }
}

/// Images of few tiles and of many, whose weights are transformed anew or kept.
#[test]
fn winograds_convolutions_are_near_the_others() {
    for (count, height, width, channels, n_out) in [(1, 15, 20, 300, 70), (1, 30, 40, 40, 100), (3, 37, 41, 33, 65)] {
        let (x, w) = (values(count * height * width * channels, 1), values(n_out * 9 * channels, 2));
        let x = Images { values: &x, count, height, width, channels };
        let skip = values(count * height * width * n_out, 3);
        for isa in Isa::available() {
            let conv = Conv::new(isa, &w, None, &vec![0.5; n_out], channels, [Window::new(3, 1, 1); 2]);
            let [expected, ours] =
                [ConvMethod::Direct, ConvMethod::Winograd].map(|method| conv.run_by(method, x, Some(&skip), Activation::Relu));
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            // On sums of up to 2700 products.
            assert_near(&ours, &expected, 4e-4, &format!("{isa:?} {count}x{height}x{width}x{channels} to {n_out}"));
        }
    }
}

/// In one piece and in several, which share lines.
#[test]
fn convolutions_are_pooled_as_whole_images_are() {
    for (count, height, width, channels, n_out) in [(2, 61, 45, 3, 20), (1, 480, 300, 3, 64), (1, 300, 333, 5, 70)] {
        for (size, stride, pool) in [(7, 2, Window::new(3, 2, 1)), (3, 1, Window::new(2, 3, 1)), (2, 1, Window::new(5, 1, 2))] {
            let (axes, x) = ([Window::new(size, stride, 1); 2], values(count * height * width * channels, 1));
            let w = values(n_out * size * size * channels, 2);
            let x = Images { values: &x, count, height, width, channels };
            for isa in Isa::available() {
                let conv = Conv::new(isa, &w, None, &vec![-1.0; n_out], channels, axes);
                let [h, w] = conv.size(height, width);
                let whole = conv.run_by(ConvMethod::Direct, x, None, Activation::Relu);
                let whole = max_pool(isa, Images { values: &whole, count, height: h, width: w, channels: n_out }, [pool; 2]);
                let ours = conv.run_pooled(x, Activation::Relu, [pool; 2]);
                let is_same = ours.len() == whole.len() && ours.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(is_same, "{isa:?} {height}x{width}, {pool:?}");
            }
        }
    }
}

#[test]
fn depthwise_convolutions_are_near_the_exact_ones() {
    for (size, stride, padding, dilation) in [(3, 1, 1, 1), (3, 2, 1, 1), (2, 1, 0, 2), (5, 3, 2, 1)] {
        let window = Window { size, stride, padding, dilation };
        let (count, height, width, channels) = (2, 7, 6, 21);
        let (x, weights, bias) = (values(count * height * width * channels, 8), values(size * size * channels, 9), values(channels, 10));
        let (h, w) = (window.count(height), window.count(width));
        let place = |position: usize, tap: usize, n: usize| (position * stride + tap * dilation).checked_sub(padding).filter(|at| *at < n);
        let mut expected = Vec::new();
        for i in 0..count * h * w * channels {
            let (channel, column, row, image) = (i % channels, i / channels % w, i / channels / w % h, i / channels / w / h);
            let mut sum = f64::from(bias[channel]);
            for tap in 0..size * size {
                if let (Some(y), Some(x_at)) = (place(row, tap / size, height), place(column, tap % size, width)) {
                    let value = x[((image * height + y) * width + x_at) * channels + channel];
                    sum += f64::from(value) * f64::from(weights[tap * channels + channel]);
                }
            }
            expected.push(sum);
        }
        for isa in Isa::available() {
            let ours = depthwise(isa, Images { values: &x, count, height, width, channels }, &weights, &bias, window);
            assert_near(&ours, &expected, 2e-6, &format!("{isa:?} {window:?}"));
        }
    }
}

/// As many rows as a camera's first feature map has, around a mean that is not 0.
#[test]
fn group_norms_of_many_rows_are_as_exact_as_of_few() {
    let (rows, dim, groups) = (76_800, 16, 4);
    let x: Vec<f32> = values(rows * dim, 5).iter().map(|x| x + 3.0).collect();
    let (scale, shift) = (values(dim, 6), values(dim, 7));
    let x = Matrix::dense(&x, dim);
    let width = dim / groups;
    let moments: Vec<(f64, f64)> = (0..groups)
        .map(|group| {
            let of_group: Vec<f64> = (0..rows).flat_map(|row| x.row(row)[group * width..][..width].iter().map(|x| f64::from(*x))).collect();
            let mean = of_group.iter().sum::<f64>() / of_group.len() as f64;
            (mean, (of_group.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / of_group.len() as f64 + f64::from(1e-5f32)).sqrt())
        })
        .collect();
    let expected: Vec<f64> = (0..rows * dim)
        .map(|i| {
            let (mean, spread) = moments[i % dim / width];
            (f64::from(x.row(i / dim)[i % dim]) - mean) / spread * f64::from(scale[i % dim]) + f64::from(shift[i % dim])
        })
        .collect();
    for isa in Isa::available() {
        let ours = group_norm(isa, x, groups, [&scale, &shift], 1e-5, Activation::Identity);
        assert_near(&ours, &expected, 1e-6, &format!("{isa:?}"));
    }
}

/// Large enough that every kernel is shared out.
#[test]
fn answers_are_the_same_bytes_on_any_number_of_threads() {
    let (x, w, bias) = (values(300 * 1100, 1), values(256 * 1100, 2), values(256, 3));
    let all = |isa: Isa| {
        let rows = Matrix::dense(&x, 1100);
        let packed = |form| read(isa, &[Matrix::dense(&w, 1100)], Some(&bias), form);
        let mut answers = linear(rows, &packed(Form::Floats), None, Activation::Gelu);
        answers.extend(linear(rows, &packed(Form::Codes), None, Activation::Silu));
        answers.extend(linear(rows, &packed(Form::Integers), None, Activation::Silu));
        answers.extend(attention(isa, [rows; 3], [11, 11], None, 0.1));
        answers.extend(normalize(isa, rows, RowNorm::Layer { scale: &x[..1100], shift: &w[..1100] }, 1e-5));
        answers.extend(group_norm(isa, rows, 4, [&x[..1100], &w[..1100]], 1e-5, Activation::Mish));
        let conv = Conv::new(isa, &w[..32 * 9 * 32], None, &bias[..32], 32, [Window { size: 3, stride: 1, padding: 1, dilation: 1 }; 2]);
        let images = Images { values: &x[..2 * 60 * 70 * 32], count: 2, height: 60, width: 70, channels: 32 };
        // Of many tiles and of few.
        let few = Images { values: &x[..40 * 30 * 32], count: 1, height: 40, width: 30, channels: 32 };
        for method in [ConvMethod::Patches, ConvMethod::Direct, ConvMethod::Winograd] {
            answers.extend(conv.run_by(method, images, None, Activation::Identity));
            answers.extend(conv.run_by(method, few, None, Activation::Identity));
        }
        answers
    };
    for isa in Isa::available() {
        let on = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| all(isa));
        let alone = on(1);
        for threads in [2, 3, 7] {
            let together = on(threads);
            assert!(alone.iter().zip(&together).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?} on {threads} threads");
        }
    }
}

/// Every one of them, on every instruction set.
#[test]
fn numbers_of_16_bits_are_widened_exactly() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let floats: [Vec<f32>; 2] = [
        all.iter().map(|bits| half::bf16::from_bits(*bits).to_f32()).collect(),
        all.iter().map(|bits| half::f16::from_bits(*bits).to_f32()).collect(),
    ];
    for isa in Isa::available() {
        for (expected, kind) in floats.iter().zip(["bf16", "f16"]) {
            // Numbers that are not fit either way, but once one is not, its bits may differ.
            let clean: Vec<f32> = expected.iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect();
            let packed = read(isa, &[Matrix::dense(&clean, 256)], None, Form::Exact);
            assert_eq!(packed.weight_bytes(), 2.0, "{isa:?} {kind}");
            assert!(packed.unpacked().iter().zip(&clean).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa:?} {kind}");
        }
    }
}

/// A NaN in the input must reach the answer, or a broken camera or weight would go unnoticed.
#[test]
fn what_is_not_a_number_is_not_hidden() {
    let mut x = values(40 * 64, 1);
    x[70] = f32::NAN;
    let rows = Matrix::dense(&x, 64);
    for isa in Isa::available() {
        let packed = Packed::new(isa, rows, None);
        assert!(!packed.is_finite, "{isa:?}");
        let clean = values(64, 2);
        let coded = read(isa, &[rows], None, Form::Codes);
        assert!(!coded.is_finite, "{isa:?}");
        assert!(linear(Matrix::dense(&clean, 64), &coded, None, Activation::Relu).iter().any(|y| y.is_nan()), "{isa:?}");
        assert!(linear(rows, &packed, None, Activation::Relu).iter().any(|y| y.is_nan()), "{isa:?}");
        assert!(attention(isa, [rows; 3], [4, 4], None, 1.0).iter().any(|y| y.is_nan()), "{isa:?}");
        assert!(normalize(isa, rows, RowNorm::RootMeanSquare { scale: &clean }, 1e-5)[64..128].iter().all(|y| y.is_nan()), "{isa:?}");
        assert!(group_norm(isa, rows, 4, [&clean, &clean], 1e-5, Activation::Relu).iter().any(|y| y.is_nan()), "{isa:?}");
        // One in each place of a window, beside numbers larger and smaller than all.
        for at in 0..9 {
            let mut image = values(3 * 3 * 20, 3);
            image[at * 20 + 17] = f32::NAN;
            image[(at + 4) % 9 * 20 + 17] = f32::MAX;
            let axis = Window { size: 3, stride: 1, padding: 0, dilation: 1 };
            let pooled = max_pool(isa, Images { values: &image, count: 1, height: 3, width: 3, channels: 20 }, [axis; 2]);
            let found: Vec<usize> = (0..20).filter(|channel| pooled[*channel].is_nan()).collect();
            assert_eq!(found, [17], "{isa:?}: in place {at}");
        }
    }
}
