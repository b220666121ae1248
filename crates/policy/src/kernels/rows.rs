//! What layers do to each row, or each value, by itself: norms, activations, rotations, pooling.

use std::ops::Range;

use super::conv::{Images, Window};
use super::math::{Activation, activate};
use super::matrix::Matrix;
use super::memory::{Target, written};
use super::simd::{Isa, Kernel, Simd};
use super::threads;

/// What an element-wise kernel costs a value, in multiplications of a matrix product.
const COST: usize = 16;

/// Calls `work` with ranges of rows that together are all of `rows`, each of about `width` values, on
/// all threads.
fn share(rows: usize, width: usize, work: impl Fn(Range<usize>) + Send + Sync) {
    let parts = threads::pieces(rows * width * COST).min(rows.max(1));
    let part = rows.div_ceil(parts).max(1);
    threads::each(rows.div_ceil(part), |i| work(i * part..rows.min((i + 1) * part)));
}

/// How rows are normalised.
#[derive(Clone, Copy)]
pub(crate) enum RowNorm<'a> {
    /// To mean 0 and variance 1, then scaled and shifted.
    Layer { scale: &'a [f32], shift: &'a [f32] },
    /// To a mean square of 1, then scaled.
    RootMeanSquare { scale: &'a [f32] },
}

/// Each row of `x` normalised, to 1e-6 of its largest value; `eps` is added to the variance or the
/// mean square.
pub(crate) fn normalize(isa: Isa, x: Matrix<'_>, norm: RowNorm<'_>, eps: f32) -> Vec<f32> {
    let (RowNorm::Layer { scale, .. } | RowNorm::RootMeanSquare { scale }) = norm;
    assert_eq!(scale.len(), x.width, "factors of a norm");
    if let RowNorm::Layer { shift, .. } = norm {
        assert_eq!(shift.len(), x.width, "shifts of a norm");
    }
    let write = |out: Target<'_>| share(x.rows, x.width, |rows| isa.run(Normalize { x, rows, norm, eps, out }));
    // SAFETY: each row is written.
    unsafe { written(x.rows * x.width, x.width, write) }
}

struct Normalize<'a> {
    x: Matrix<'a>,
    rows: Range<usize>,
    norm: RowNorm<'a>,
    eps: f32,
    out: Target<'a>,
}

impl Kernel for Normalize<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, rows, norm, eps, out } = self;
        for row in rows {
            let values = x.row(row);
            let mean = if let RowNorm::Layer { .. } = norm { sum(s, values) / x.width as f32 } else { 0.0 };
            let variance = sum_of_squares(s, values, mean) / x.width as f32;
            let factor = s.splat(1.0 / (variance + eps).sqrt());
            let mean = s.splat(mean);
            for at in (0..x.width).step_by(S::LANES) {
                let n = S::LANES.min(x.width - at);
                // SAFETY: `n` values from `at` on are inside the row, the factors and the shifts, and
                // the row of the answer is this thread's.
                unsafe {
                    let y = s.mul(s.sub(s.load_up_to(values.as_ptr().add(at), n), mean), factor);
                    let y = match norm {
                        RowNorm::Layer { scale, shift } => {
                            s.fma(y, s.load_up_to(scale.as_ptr().add(at), n), s.load_up_to(shift.as_ptr().add(at), n))
                        }
                        RowNorm::RootMeanSquare { scale } => s.mul(y, s.load_up_to(scale.as_ptr().add(at), n)),
                    };
                    s.store_up_to(out.at(row, at, n), n, y);
                }
            }
        }
    }
}

#[inline(always)]
fn sum<S: Simd>(s: S, values: &[f32]) -> f32 {
    let mut sums = s.splat(0.0);
    for at in (0..values.len()).step_by(S::LANES) {
        // SAFETY: as many values from `at` on are there.
        sums = s.add(sums, unsafe { s.load_up_to(values.as_ptr().add(at), S::LANES.min(values.len() - at)) });
    }
    s.sum(sums)
}

/// The sum of `(x - mean)²`.
#[inline(always)]
fn sum_of_squares<S: Simd>(s: S, values: &[f32], mean: f32) -> f32 {
    let mut sums = s.splat(0.0);
    let whole = values.len() / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: a vector from `at` on is there.
        let centred = s.sub(unsafe { s.load(values.as_ptr().add(at)) }, s.splat(mean));
        sums = s.fma(centred, centred, sums);
    }
    values[whole..].iter().fold(s.sum(sums), |sum, x| sum + (x - mean) * (x - mean))
}

/// Each group of channels of `x [n, channels]` normalised over all rows to mean 0 and variance 1,
/// then each channel scaled and shifted, then `activation`; to 2e-6 of the largest value.
pub(crate) fn group_norm(
    isa: Isa,
    x: Matrix<'_>,
    groups: usize,
    [scale, shift]: [&[f32]; 2],
    eps: f32,
    activation: Activation,
) -> Vec<f32> {
    assert!(groups > 0 && x.width.is_multiple_of(groups), "{groups} groups of {} channels", x.width);
    assert!(scale.len() == x.width && shift.len() == x.width, "factors of {} channels", x.width);
    let width = x.width / groups;
    let write = |out: Target<'_>| {
        threads::each_worth(groups, x.rows * x.width * COST, |group| {
            isa.run(NormalizeGroup { x, first: group * width, width, scale, shift, eps, activation, out });
        });
    };
    // SAFETY: each group's columns are written.
    unsafe { written(x.rows * x.width, x.width, write) }
}

struct NormalizeGroup<'a> {
    x: Matrix<'a>,
    first: usize,
    width: usize,
    scale: &'a [f32],
    shift: &'a [f32],
    eps: f32,
    activation: Activation,
    out: Target<'a>,
}

impl Kernel for NormalizeGroup<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, first, width, scale, shift, eps, activation, out } = self;
        let group = x.columns(first..first + width);
        let count = (x.rows * width) as f64;
        // Networks have tens of thousands of rows, whose sum is no matter for an f32.
        let mean = ((0..x.rows).map(|row| f64::from(sum(s, group.row(row)))).sum::<f64>() / count) as f32;
        let variance = ((0..x.rows).map(|row| f64::from(sum_of_squares(s, group.row(row), mean))).sum::<f64>() / count) as f32;
        let factor = s.splat(1.0 / (variance + eps).sqrt());
        let mean = s.splat(mean);
        for row in 0..x.rows {
            for at in (0..width).step_by(S::LANES) {
                let n = S::LANES.min(width - at);
                // SAFETY: `n` values from `at` on are inside the group's part of the row, of the
                // factors and of the shifts; the group's columns of the answer are this thread's.
                unsafe {
                    let y = s.mul(s.sub(s.load_up_to(group.row(row).as_ptr().add(at), n), mean), factor);
                    let channel = first + at;
                    let y = s.fma(y, s.load_up_to(scale.as_ptr().add(channel), n), s.load_up_to(shift.as_ptr().add(channel), n));
                    s.store_up_to(out.at(row, channel, n), n, activate(s, activation, y));
                }
            }
        }
    }
}

/// `activation(x)`.
pub(crate) fn activated(isa: Isa, x: Matrix<'_>, activation: Activation) -> Vec<f32> {
    let write = |out: Target<'_>| share(x.rows, x.width, |rows| isa.run(Activated { x, rows, activation, out }));
    // SAFETY: each row is written.
    unsafe { written(x.rows * x.width, x.width, write) }
}

struct Activated<'a> {
    x: Matrix<'a>,
    rows: Range<usize>,
    activation: Activation,
    out: Target<'a>,
}

impl Kernel for Activated<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, rows, activation, out } = self;
        for row in rows {
            for at in (0..x.width).step_by(S::LANES) {
                let n = S::LANES.min(x.width - at);
                // SAFETY: `n` values from `at` on are inside the row, and the answer's row is this
                // thread's.
                unsafe {
                    let y = activate(s, activation, s.load_up_to(x.row(row).as_ptr().add(at), n));
                    s.store_up_to(out.at(row, at, n), n, y);
                }
            }
        }
    }
}

/// What becomes of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    Sum,
    Product,
}

/// Sums or products of the values of `x` and `y`, which has as many rows as `x` or one for all of them.
pub(crate) fn combined(isa: Isa, x: Matrix<'_>, y: Matrix<'_>, how: Combine) -> Vec<f32> {
    assert!(y.width == x.width && (y.rows == x.rows || y.rows == 1), "{}x{} with {}x{}", x.rows, x.width, y.rows, y.width);
    let write = |out: Target<'_>| share(x.rows, x.width, |rows| isa.run(Combined { x, y, rows, how, out }));
    // SAFETY: each row is written.
    unsafe { written(x.rows * x.width, x.width, write) }
}

struct Combined<'a> {
    x: Matrix<'a>,
    y: Matrix<'a>,
    rows: Range<usize>,
    how: Combine,
    out: Target<'a>,
}

impl Kernel for Combined<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, y, rows, how, out } = self;
        for row in rows {
            let (x, y) = (x.row(row), y.row(if y.rows == 1 { 0 } else { row }));
            for at in (0..x.len()).step_by(S::LANES) {
                let n = S::LANES.min(x.len() - at);
                // SAFETY: `n` values from `at` on are inside both rows, and the answer's row is this thread's.
                unsafe {
                    let (a, b) = (s.load_up_to(x.as_ptr().add(at), n), s.load_up_to(y.as_ptr().add(at), n));
                    let value = match how {
                        Combine::Sum => s.add(a, b),
                        Combine::Product => s.mul(a, b),
                    };
                    s.store_up_to(out.at(row, at, n), n, value);
                }
            }
        }
    }
}

/// Each head of each row of `x [n, heads · 2 half]` turned: entry `i` of its first half together with
/// entry `i` of its second, by the angle whose cosine and sine are at `[row, i]` of `[n, half]`.
pub(crate) fn rotated(isa: Isa, x: Matrix<'_>, [cos, sin]: [&[f32]; 2], half: usize) -> Vec<f32> {
    assert!(half > 0 && x.width.is_multiple_of(2 * half), "heads of {} in rows of {}", 2 * half, x.width);
    assert!(cos.len() == x.rows * half && sin.len() == cos.len(), "angles of {} rows", x.rows);
    let write = |out: Target<'_>| share(x.rows, x.width, |rows| isa.run(Rotated { x, rows, cos, sin, half, out }));
    // SAFETY: each row is written.
    unsafe { written(x.rows * x.width, x.width, write) }
}

struct Rotated<'a> {
    x: Matrix<'a>,
    rows: Range<usize>,
    cos: &'a [f32],
    sin: &'a [f32],
    half: usize,
    out: Target<'a>,
}

impl Kernel for Rotated<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, rows, cos, sin, half, out } = self;
        for row in rows {
            let (cos, sin) = (&cos[row * half..][..half], &sin[row * half..][..half]);
            for head in (0..x.width).step_by(2 * half) {
                for at in (0..half).step_by(S::LANES) {
                    let n = S::LANES.min(half - at);
                    let (first, second) = (head + at, head + half + at);
                    // SAFETY: `n` values from each place are inside the row and the angles, and the
                    // row of the answer is this thread's.
                    unsafe {
                        let x = x.row(row).as_ptr();
                        let (a, b) = (s.load_up_to(x.add(first), n), s.load_up_to(x.add(second), n));
                        let (cos, sin) = (s.load_up_to(cos.as_ptr().add(at), n), s.load_up_to(sin.as_ptr().add(at), n));
                        s.store_up_to(out.at(row, first, n), n, s.sub(s.mul(a, cos), s.mul(b, sin)));
                        s.store_up_to(out.at(row, second, n), n, s.fma(b, cos, s.mul(a, sin)));
                    }
                }
            }
        }
    }
}

/// The largest value under the window of each channel, `[n, h', w', c]`; padding never counts, and what is not a
/// number is larger than all.
pub(crate) fn max_pool(isa: Isa, x: Images<'_>, axes: [Window; 2]) -> Vec<f32> {
    assert_eq!(x.values.len(), x.count * x.height * x.width * x.channels, "images of {} channels", x.channels);
    let (height, width) = (axes[0].count(x.height), axes[1].count(x.width));
    let lines = x.count * height;
    let write = |out: Target<'_>| {
        share(lines, width * x.channels, |lines| isa.run(MaxPool { x, first: 0, axes, size: [height, width], lines, out }))
    };
    // SAFETY: each position of each line is written.
    unsafe { written(lines * width * x.channels, x.channels, write) }
}

/// Some lines of the answer, each in its place of `out`, on this thread. The values of `x` begin at its line `first`.
pub(super) fn pool_lines(isa: Isa, x: Images<'_>, first: usize, axes: [Window; 2], lines: Range<usize>, out: Target<'_>) {
    let size = [axes[0].count(x.height), axes[1].count(x.width)];
    out.assert_holds(lines.end * size[1], x.channels);
    isa.run(MaxPool { x, first, axes, size, lines, out });
}

struct MaxPool<'a> {
    x: Images<'a>,
    first: usize,
    axes: [Window; 2],
    size: [usize; 2],
    lines: Range<usize>,
    out: Target<'a>,
}

impl Kernel for MaxPool<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, first, axes: [down, across], size: [height, width], lines, out } = self;
        for line in lines {
            let (image, y) = (line / height, line % height);
            let rows = down.inside(y, x.height);
            let end = (image * x.height + rows.end.max(first) - first) * x.width * x.channels;
            assert!(rows.start >= first && end <= x.values.len(), "lines {rows:?} of {} values from line {first} on", x.values.len());
            for position in 0..width {
                let columns = across.inside(position, x.width);
                for at in (0..x.channels).step_by(S::LANES) {
                    let n = S::LANES.min(x.channels - at);
                    let mut largest = s.splat(f32::NEG_INFINITY);
                    for row in rows.clone().step_by(down.dilation) {
                        for column in columns.clone().step_by(across.dilation) {
                            let pixel = ((image * x.height + row - first) * x.width + column) * x.channels;
                            // SAFETY: a pixel inside the images by the assertion above.
                            let value = unsafe { s.load_up_to(x.values.as_ptr().add(pixel + at), n) };
                            // A comparison with what is not a number is never true, so it comes in and stays.
                            let larger = s.where_less(value, largest, largest, value);
                            largest = s.where_less(largest, s.splat(f32::INFINITY), larger, largest);
                        }
                    }
                    // SAFETY: a position of this thread's line.
                    unsafe { s.store_up_to(out.at(line * width + position, at, n), n, largest) };
                }
            }
        }
    }
}

/// Each channel's own convolution: `weights [size, size, channels]`, `bias [channels]`; `[n, h', w', c]`.
pub(crate) fn depthwise(isa: Isa, x: Images<'_>, weights: &[f32], bias: &[f32], window: Window) -> Vec<f32> {
    assert_eq!(x.values.len(), x.count * x.height * x.width * x.channels, "images of {} channels", x.channels);
    assert!(weights.len() == window.size * window.size * x.channels && bias.len() == x.channels, "weights of {} channels", x.channels);
    let (height, width) = (window.count(x.height), window.count(x.width));
    let lines = x.count * height;
    let size = [height, width];
    let write =
        |out: Target<'_>| share(lines, width * x.channels, |lines| isa.run(Depthwise { x, weights, bias, window, size, lines, out }));
    // SAFETY: each position of each line is written.
    unsafe { written(lines * width * x.channels, x.channels, write) }
}

struct Depthwise<'a> {
    x: Images<'a>,
    weights: &'a [f32],
    bias: &'a [f32],
    window: Window,
    size: [usize; 2],
    lines: Range<usize>,
    out: Target<'a>,
}

impl Kernel for Depthwise<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, weights, bias, window, size: [height, width], lines, out } = self;
        // Which of the window's taps a pixel is under, when the window is at a position.
        let tap = |pixel: usize, position: usize| (pixel + window.padding - position * window.stride) / window.dilation;
        for line in lines {
            let (image, y) = (line / height, line % height);
            let rows = window.inside(y, x.height);
            for position in 0..width {
                let columns = window.inside(position, x.width);
                for at in (0..x.channels).step_by(S::LANES) {
                    let n = S::LANES.min(x.channels - at);
                    // SAFETY: `n` channels from `at` on are there.
                    let mut sum = unsafe { s.load_up_to(bias.as_ptr().add(at), n) };
                    for row in rows.clone().step_by(window.dilation) {
                        for column in columns.clone().step_by(window.dilation) {
                            let pixel = ((image * x.height + row) * x.width + column) * x.channels;
                            let weight = (tap(row, y) * window.size + tap(column, position)) * x.channels;
                            // SAFETY: a pixel inside the images, whose size was checked, and a tap of the window.
                            let (value, weight) = unsafe {
                                (s.load_up_to(x.values.as_ptr().add(pixel + at), n), s.load_up_to(weights.as_ptr().add(weight + at), n))
                            };
                            sum = s.fma(value, weight, sum);
                        }
                    }
                    // SAFETY: a position of this thread's line.
                    unsafe { s.store_up_to(out.at(line * width + position, at, n), n, sum) };
                }
            }
        }
    }
}
