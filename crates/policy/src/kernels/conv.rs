//! Convolutions over channels-last images and sequences, as products of the patches under the
//! window with packed weights; the patches are laid out a piece at a time, in the cache.

use std::ops::Range;
use std::sync::OnceLock;

use super::direct::Direct;
use super::gemm::{Finish, Rows, product};
use super::math::Activation;
use super::matrix::Matrix;
use super::memory::{Aligned, Target, written};
use super::pack::Packed;
use super::simd::Isa;
use super::winograd::Winograd;

/// How a window walks along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub size: usize,
    pub stride: usize,
    pub padding: usize,
    pub dilation: usize,
}

impl Window {
    /// The axis that a sequence lacks: one pixel, seen once.
    pub(crate) const FLAT: Self = Self { size: 1, stride: 1, padding: 0, dilation: 1 };

    /// A window that leaves as many positions as there are pixels, where `stride` is 1 and `size` odd.
    pub(crate) fn new(size: usize, stride: usize, dilation: usize) -> Self {
        Self { size, stride, padding: dilation * (size - 1) / 2, dilation }
    }

    /// How many positions the window takes along `n` pixels; none where it is larger than they are.
    pub(crate) fn count(self, n: usize) -> usize {
        let reach = self.dilation * (self.size - 1) + 1;
        (n + 2 * self.padding).checked_sub(reach).map_or(0, |rest| rest / self.stride + 1)
    }

    /// The first pixel under the window at `position`, and the one after the last, of `n`.
    pub(super) fn inside(self, position: usize, n: usize) -> Range<usize> {
        let start = position * self.stride;
        let end = (start + self.dilation * (self.size - 1) + 1).saturating_sub(self.padding).min(n);
        let first = if start >= self.padding {
            start - self.padding
        } else {
            (self.dilation - (self.padding - start) % self.dilation) % self.dilation
        };
        first..end
    }
}

/// Packed weights `[out, size, size, in]` of a convolution.
#[derive(Debug)]
pub(crate) struct Conv {
    weights: Packed,
    /// Those of [`Winograd`], once they are needed.
    points: OnceLock<Vec<Packed>>,
    /// Down and across.
    axes: [Window; 2],
    channels: usize,
}

/// Images side by side in memory, channels last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Images<'a> {
    pub values: &'a [f32],
    pub count: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
}

impl Conv {
    /// From PyTorch's `weight [out, in, size, size]`, with windows of `axes`; `scale [out]` multiplies
    /// the weights.
    pub(crate) fn new(isa: Isa, weight: &[f32], scale: Option<&[f32]>, bias: &[f32], channels: usize, axes: [Window; 2]) -> Self {
        let taps = axes[0].size * axes[1].size;
        let weight = Matrix::dense(weight, taps * channels);
        let places: Vec<usize> = (0..weight.width).map(|i| i % taps * channels + i / taps).collect();
        let weights = Packed::reordered(isa, weight, scale, Some(bias), |input| places[input]);
        Self { weights, points: OnceLock::new(), axes, channels }
    }

    /// Whether no weight it was made from is NaN or infinite.
    pub(crate) fn is_finite(&self) -> bool {
        self.weights.is_finite
    }

    /// Channels of the images.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// Channels of the answer.
    pub(crate) fn n_out(&self) -> usize {
        self.weights.n
    }

    /// Height and width of the answer.
    pub(crate) fn size(&self, height: usize, width: usize) -> [usize; 2] {
        [self.axes[0].count(height), self.axes[1].count(width)]
    }

    /// `activation(conv(x) + b + residual)`, `[n, h', w', out]`; the residual has the same shape.
    pub(crate) fn run(&self, x: Images<'_>, residual: Option<&[f32]>, activation: Activation) -> Vec<f32> {
        let [height, width] = self.size(x.height, x.width);
        let method = if self.is_winograd_faster(x.count, height, width) { ConvMethod::Winograd } else { self.plain_method() };
        self.run_by(method, x, residual, activation)
    }

    /// The faster one of those that do all multiplications.
    pub(super) fn plain_method(&self) -> ConvMethod {
        /// Weights that stay in a core's cache: a band of lines goes through all of them, and there are more bands than
        /// blocks of patches.
        const IN_CACHE: usize = 1 << 19;
        let is_small = self.weights.n * self.weights.depth <= IN_CACHE;
        if is_small && self.axes != [Window::FLAT; 2] && Direct::fits(self.axes) { ConvMethod::Direct } else { ConvMethod::Patches }
    }

    /// The same by a method; some are for windows alone that [`Winograd::fits`] or [`Direct::fits`].
    pub(super) fn run_by(&self, method: ConvMethod, x: Images<'_>, residual: Option<&[f32]>, activation: Activation) -> Vec<f32> {
        let n_out = self.n_out();
        assert_eq!(x.values.len(), x.count * x.height * x.width * self.channels, "images of {} channels", self.channels);
        let [height, width] = self.size(x.height, x.width);
        let positions = x.count * height * width;
        assert!(residual.is_none_or(|r| r.len() == positions * n_out), "a residual of {positions}x{n_out}");
        let finish = Finish { activation, residual };
        let write = |out: Target<'_>| match method {
            ConvMethod::Patches if self.axes == [Window::FLAT; 2] => {
                product(&Matrix::dense(x.values, self.channels), positions, &self.weights, out, finish);
            }
            ConvMethod::Patches => product(&Patches { x, axes: self.axes, height, width }, positions, &self.weights, out, finish),
            ConvMethod::Direct => self.direct(x).run(out, finish),
            ConvMethod::Winograd => {
                let winograd = Winograd { weights: &self.weights, points: &self.points, channels: self.channels };
                winograd.run(x, [self.axes[0].padding, self.axes[1].padding], out, finish);
            }
        };
        // SAFETY: each method writes every channel of every position.
        unsafe { written(positions * n_out, n_out, write) }
    }

    /// Whether [`run_pooled`](Self::run_pooled) can do it.
    pub(crate) fn can_pool(&self) -> bool {
        Direct::fits(self.axes)
    }

    /// The largest values under `pool` of `activation(conv(x) + b)`, `[n, h', w', out]`, some lines at a time, so that the
    /// images between the two don't leave the cache. For windows that [`can_pool`](Self::can_pool).
    pub(crate) fn run_pooled(&self, x: Images<'_>, activation: Activation, pool: [Window; 2]) -> Vec<f32> {
        assert_eq!(x.values.len(), x.count * x.height * x.width * self.channels, "images of {} channels", self.channels);
        let [height, width] = self.size(x.height, x.width);
        let n_out = self.n_out();
        let finish = Finish { activation, residual: None };
        // SAFETY: all positions of all images are written.
        unsafe {
            written(x.count * pool[0].count(height) * pool[1].count(width) * n_out, n_out, |out| {
                self.direct(x).run_pooled(out, finish, pool)
            })
        }
    }

    fn direct<'a>(&'a self, x: Images<'a>) -> Direct<'a> {
        let [height, width] = self.size(x.height, x.width);
        Direct { weights: &self.weights, axes: self.axes, x, height, width }
    }

    fn is_winograd_faster(&self, count: usize, height: usize, width: usize) -> bool {
        Winograd::fits(self.axes) && Winograd::cost(count, height, width) < count * height * width * 9
    }
}

/// How to compute a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConvMethod {
    Patches,
    Direct,
    Winograd,
}

/// The pixels under a window at each of its positions, as rows of a matrix: tap by tap, channel by
/// channel, zeros for padding.
struct Patches<'a> {
    x: Images<'a>,
    axes: [Window; 2],
    /// Positions down and across.
    height: usize,
    width: usize,
}

/// Room for `rows` of `width` values, and how far apart they are.
fn rows_in(scratch: &mut Aligned, rows: usize, width: usize) -> (&mut [f32], usize) {
    // A whole number of cache lines, but an odd one: else rows would share their places there.
    let stride = (width.div_ceil(16) | 1) * 16;
    (scratch.at_least(rows * stride), stride)
}

impl Rows for Patches<'_> {
    fn block<'a>(&'a self, rows: Range<usize>, columns: Range<usize>, scratch: &'a mut Aligned) -> (&'a [f32], usize) {
        let (values, stride) = rows_in(scratch, rows.len(), columns.len());
        // Taps that are neighbours in memory are copied together.
        let [_, across] = self.axes;
        let taps = if across.dilation == 1 { across.size } else { 1 };
        let run = taps * self.x.channels;
        let mut column = columns.start;
        while column < columns.end {
            let (index, within) = (column / run, column % run);
            let piece = TapRun {
                down: index * taps / across.size,
                across: index * taps % across.size,
                within,
                count: (run - within).min(columns.end - column),
            };
            self.lay_out(rows.clone(), &piece, &mut values[column - columns.start..], stride);
            column += piece.count;
        }
        (scratch.values(), stride)
    }
}

/// Values of a patch that are neighbours in the image.
struct TapRun {
    /// The tap where they begin.
    down: usize,
    across: usize,
    /// Values before them in that tap.
    within: usize,
    count: usize,
}

impl Patches<'_> {
    /// Copies one run of each patch, to places `stride` apart.
    fn lay_out(&self, rows: Range<usize>, run: &TapRun, to: &mut [f32], stride: usize) {
        let [down, across] = self.axes;
        let line = self.x.width * self.x.channels;
        let (mut x, mut y, mut image) =
            (rows.start % self.width, rows.start / self.width % self.height, rows.start / (self.width * self.height));
        for slot in 0..rows.len() {
            let to = &mut to[slot * stride..][..run.count];
            let row = (y * down.stride + run.down * down.dilation).checked_sub(down.padding).filter(|row| *row < self.x.height);
            if let Some(row) = row {
                // Where the run begins in its line of the image; before that and behind it is padding.
                let pixel = (x * across.stride + run.across * across.dilation) as isize - across.padding as isize;
                let from = pixel * self.x.channels as isize + run.within as isize;
                let start = (image * self.x.height + row) * line;
                if from >= 0 && from as usize + run.count <= line {
                    copy(&self.x.values[start + from as usize..][..run.count], to);
                } else {
                    let before = (-from).clamp(0, run.count as isize) as usize;
                    let end = (line as isize - from).clamp(before as isize, run.count as isize) as usize;
                    to[..before].fill(0.0);
                    to[end..].fill(0.0);
                    if before < end {
                        let first = start + (from + before as isize) as usize;
                        to[before..end].copy_from_slice(&self.x.values[first..first + end - before]);
                    }
                }
            } else {
                to.fill(0.0);
            }
            x += 1;
            if x == self.width {
                (x, y) = (0, y + 1);
                if y == self.height {
                    (y, image) = (0, image + 1);
                }
            }
        }
    }
}

/// `copy_from_slice` without a call for the short runs of images with few channels.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    const SHORT: usize = 64;
    if from.len() > SHORT {
        to.copy_from_slice(from);
        return;
    }
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks::<8>(), to.as_chunks_mut::<8>());
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
}

/// Weights `[in, out, size]` of a transposed convolution over a sequence.
///
/// The answer's rows fall into `stride` classes by which taps reach them; each class is a convolution
/// of its own with every `stride`-th tap.
#[derive(Debug)]
pub(crate) struct ConvTranspose {
    /// By `(row + padding) % stride`.
    classes: Vec<Packed>,
    size: usize,
    stride: usize,
    padding: usize,
    channels: usize,
    n_out: usize,
}

impl ConvTranspose {
    /// Channels of the sequence.
    pub(crate) fn channels(&self) -> usize {
        self.channels
    }

    /// Channels of the answer.
    pub(crate) fn n_out(&self) -> usize {
        self.n_out
    }

    /// Whether no weight it was made from is NaN or infinite.
    pub(crate) fn is_finite(&self) -> bool {
        self.classes.iter().all(|class| class.is_finite)
    }

    /// From `weight [in, out, size]`.
    pub(crate) fn new(isa: Isa, weight: &[f32], bias: &[f32], [channels, n_out, size]: [usize; 3], stride: usize, padding: usize) -> Self {
        assert_eq!(weight.len(), channels * n_out * size, "weights of {channels}x{n_out}x{size}");
        let class = |class: usize| {
            // Inputs in their order meet the taps in the opposite one.
            let taps: Vec<usize> = (class..size).step_by(stride).rev().collect();
            let mut rows = vec![0.0; n_out * taps.len() * channels];
            for (o, row) in rows.chunks_exact_mut((taps.len() * channels).max(1)).enumerate() {
                for (i, value) in row.iter_mut().enumerate() {
                    *value = weight[(i % channels * n_out + o) * size + taps[i / channels]];
                }
            }
            {
                let depth = taps.len() * channels;
                Packed::new(isa, Matrix { values: &rows, rows: n_out, width: depth, stride: depth }, Some(bias))
            }
        };
        Self { classes: (0..stride).map(class).collect(), size, stride, padding, channels, n_out }
    }

    /// How many rows the answer to `t` rows has.
    pub(crate) fn count(&self, t: usize) -> usize {
        ((t.max(1) - 1) * self.stride + self.size).saturating_sub(2 * self.padding)
    }

    /// `x [t, in]` to `[count(t), out]`.
    pub(crate) fn run(&self, x: &[f32]) -> Vec<f32> {
        let t = x.len() / self.channels;
        let rows = self.count(t);
        let write = |out: Target<'_>| {
            for (class, w) in self.classes.iter().enumerate() {
                // The first row of the class, and the input under its last tap.
                let first = (class + self.stride - self.padding % self.stride) % self.stride;
                let count = rows.saturating_sub(first).div_ceil(self.stride);
                let newest = (first + self.padding - class) / self.stride;
                let taps = w.depth / self.channels;
                let x = Taps { values: x, channels: self.channels, newest, taps };
                if count > 0 {
                    product(&x, count, w, out.part(first * self.n_out, self.stride * self.n_out), Finish::NOTHING);
                }
            }
        };
        // SAFETY: the classes together hold every row, and each product writes all of its rows.
        unsafe { written(rows * self.n_out, self.n_out, write) }
    }
}

/// The rows of a sequence under a few taps, of which the last is over row `newest` at position 0.
struct Taps<'a> {
    values: &'a [f32],
    channels: usize,
    newest: usize,
    taps: usize,
}

impl Rows for Taps<'_> {
    fn block<'a>(&'a self, rows: Range<usize>, columns: Range<usize>, scratch: &'a mut Aligned) -> (&'a [f32], usize) {
        let (values, stride) = rows_in(scratch, rows.len(), columns.len());
        for (row, values) in rows.zip(values.chunks_exact_mut(stride)) {
            let mut column = columns.start;
            while column < columns.end {
                let (tap, within) = (column / self.channels, column % self.channels);
                let count = (self.channels - within).min(columns.end - column);
                let to = &mut values[column - columns.start..][..count];
                // Rows before the sequence and behind it are zeros.
                let at = (row + self.newest + 1 + tap).checked_sub(self.taps).map(|at| at * self.channels + within);
                match at.and_then(|at| self.values.get(at..at + count)) {
                    Some(from) => to.copy_from_slice(from),
                    None => to.fill(0.0),
                }
                column += count;
            }
        }
        (scratch.values(), stride)
    }
}
