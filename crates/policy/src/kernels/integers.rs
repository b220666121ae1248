//! Weights and inputs as whole numbers of 8 bits, which are multiplied as such.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{Finish, MOST_ROWS, Place, even_part, share};
use super::matrix::Matrix;
use super::memory::{Aligned, Target};
use super::pack::Packed;
use super::simd::{DotKernel, Dots, Isa, Kernel, Simd};
use super::threads;

/// Codes are in -127..=127.
const MOST: f32 = 127.0;

/// How many inputs share a scale of nothing but their own bytes: the weights of four are neighbours.
const GROUP: usize = 4;

/// Rows of smaller numbers than this count as zeros: the reciprocal of their scale may be infinite.
const SMALLEST: f32 = 1e-30;

/// How many groups of a panel are gone through at a time, so that they stay in the nearest cache.
const GROUPS_AT_ONCE: usize = 256;

/// How many rows one piece of work takes at most.
const MOST_PART: usize = 96;

/// The values of [`Packed`] weights as `code · scale`, with one scale for each column of the panels, by which
/// its largest weight is ±127.
///
/// What a weight loses is at most half a scale, 1/254 of the largest of its column. Weights that are not
/// finite make all answers of their column NaN.
#[derive(Debug)]
pub(super) struct Integers {
    /// Of each panel: the weights of four inputs for one column after the other, then those of the next four.
    codes: Vec<i8>,
    /// One a column.
    scales: Aligned,
    /// Where each column's sums start, so that [`Dots::OFFSET`] falls out of them.
    starts: Vec<i32>,
    depth: usize,
}

impl Integers {
    /// Up to how many inputs sums have room in 32 bits, an offset included.
    pub(super) const MOST_DEPTH: usize = 1 << 16;

    /// Zeros in place of the weights of so many columns.
    pub(super) fn zeros(columns: usize, depth: usize) -> Self {
        let codes = vec![0; columns * depth.next_multiple_of(GROUP)];
        Self { codes, scales: Aligned::zeros(columns), starts: vec![0; columns], depth }
    }

    /// How many groups of inputs there are.
    fn groups(&self) -> usize {
        self.depth.div_ceil(GROUP)
    }

    /// Each panel, to be written.
    pub(super) fn panels(&mut self, isa: Isa) -> impl IndexedParallelIterator<Item = PanelIntegers<'_>> {
        let width = 2 * isa.lanes();
        let size = (width * self.groups() * GROUP).max(1);
        let scales = self.scales.values_mut().par_chunks_mut(width).zip(self.starts.par_chunks_mut(width));
        self.codes.par_chunks_mut(size).zip(scales).map(|(codes, (scales, starts))| PanelIntegers { codes, scales, starts })
    }

    /// `activation(x Wᵀ + b + residual)`, where each row of `x` is rounded as a column of the weights is.
    pub(super) fn product(&self, x: Matrix<'_>, w: &Packed, out: Target<'_>, finish: Finish<'_>) {
        let (isa, width) = (w.isa, w.width());
        let inputs = Inputs::new(isa, x, self.groups());
        let row_part = even_part(x.rows, MOST_PART);
        share([x.rows, row_part], w, |rows, panels| {
            let mut sums = vec![0; rows.len() * width];
            for panel in panels {
                isa.run_dots(Sums { inputs: &inputs, rows: rows.clone(), weights: self, panel, sums: &mut sums });
                let place = Place { w, out, finish, goes_on: false, is_last: true };
                isa.run(Scale { inputs: &inputs, rows: rows.clone(), weights: self, panel, sums: &sums, place });
            }
        });
    }
}

/// The weights of a panel.
pub(super) struct PanelIntegers<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
}

impl PanelIntegers<'_> {
    /// From its values. They were zeros.
    pub(super) fn encode(&mut self, isa: Isa, panel: &[f32]) {
        let Self { codes, scales, starts } = self;
        isa.run_dots(Encode { panel, codes, scales, starts });
    }
}

/// A panel's values to codes and scales.
struct Encode<'a> {
    panel: &'a [f32],
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
}

impl DotKernel for Encode<'_> {
    type Out = ();

    #[inline(always)]
    fn run<D: Dots>(self, _: D) {
        let Self { panel, codes, scales, starts } = self;
        let width = 2 * D::LANES;
        for row in panel.chunks_exact(width) {
            for (most, x) in scales.iter_mut().zip(row) {
                // Once NaN, it stays.
                let x = x.abs();
                *most = if x > *most || x.is_nan() { x } else { *most };
            }
        }
        scales.iter_mut().for_each(|most| *most = if *most < f32::INFINITY { *most / MOST } else { f32::NAN });
        for (input, row) in panel.chunks_exact(width).enumerate() {
            let codes = &mut codes[input / GROUP * GROUP * width..][..GROUP * width];
            let place = D::ORDER[input % GROUP];
            for (lane, (x, scale)) in row.iter().zip(&*scales).enumerate() {
                // What is not a number becomes 0.
                let code = (x / scale).round_ties_even().clamp(-MOST, MOST) as i8;
                codes[lane * GROUP + place] = code;
                starts[lane] -= D::OFFSET * i32::from(code);
            }
        }
    }
}

/// Rows of inputs as `code · scale`, with one scale for each row, by which its largest value is ±127. A row with
/// a value that is not finite has a scale of NaN.
struct Inputs {
    /// As the instruction set keeps them.
    words: Vec<u32>,
    /// From one row to the next, in words.
    stride: usize,
    scales: Vec<f32>,
}

impl Inputs {
    fn new(isa: Isa, x: Matrix<'_>, groups: usize) -> Self {
        struct Bytes;
        impl DotKernel for Bytes {
            type Out = usize;
            #[inline(always)]
            fn run<D: Dots>(self, _: D) -> usize {
                size_of::<D::Input>()
            }
        }
        let stride = groups * isa.run_dots(Bytes);
        let (mut words, mut scales) = (vec![0; x.rows * stride], vec![0.0; x.rows]);
        // Rounding a value costs no more than a few multiplications.
        let part = x.rows.div_ceil(threads::pieces(x.rows * x.width * 16)).max(1);
        let parts = words.par_chunks_mut((part * stride).max(1)).zip(scales.par_chunks_mut(part)).enumerate();
        parts.for_each(|(i, (words, scales))| isa.run_dots(Round { x, first: i * part, stride, words, scales }));
        Self { words, stride, scales }
    }
}

/// Some rows of `x`, from `first` on, to codes and scales.
struct Round<'a> {
    x: Matrix<'a>,
    first: usize,
    stride: usize,
    words: &'a mut [u32],
    scales: &'a mut [f32],
}

impl DotKernel for Round<'_> {
    type Out = ();

    #[inline(always)]
    fn run<D: Dots>(self, _: D) {
        let Self { x, first, stride, words, scales } = self;
        for ((row, words), to_scale) in (first..).zip(words.chunks_exact_mut(stride.max(1))).zip(scales) {
            let row = x.row(row);
            // As whole numbers magnitudes have the same order, with infinity and NaN above all others.
            let largest = f32::from_bits(row.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7fff_ffff)));
            // SAFETY: a row of words holds as many inputs of 8 or 16 bits as its bytes are.
            let to = unsafe {
                std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<D::Input>(), size_of_val(words) / size_of::<D::Input>())
            };
            let (to, padding) = to.split_at_mut(row.len());
            padding.fill(D::input(0));
            if !largest.is_finite() {
                to.fill(D::input(0));
                *to_scale = f32::NAN;
            } else if largest < SMALLEST {
                to.fill(D::input(0));
                *to_scale = 0.0;
            } else {
                let factor = MOST / largest;
                for (to, x) in to.iter_mut().zip(row) {
                    // SAFETY: a finite number between -128 and 128.
                    *to = D::input(unsafe { (x * factor).round_ties_even().to_int_unchecked() });
                }
                *to_scale = largest / MOST;
            }
        }
    }
}

/// The sums of some rows for a panel.
struct Sums<'a> {
    inputs: &'a Inputs,
    rows: Range<usize>,
    weights: &'a Integers,
    panel: usize,
    /// A panel's columns for each row.
    sums: &'a mut [i32],
}

impl DotKernel for Sums<'_> {
    type Out = ();

    #[inline(always)]
    fn run<D: Dots>(self, d: D) {
        let Self { inputs, rows, weights, panel, sums } = self;
        let (width, groups) = (2 * D::LANES, weights.groups());
        let codes = &weights.codes[panel * groups * GROUP * width..][..groups * GROUP * width];
        let starts = &weights.starts[panel * width..][..width];
        sums.chunks_exact_mut(width).for_each(|sums| sums.copy_from_slice(starts));
        let height = even_part(rows.len(), D::ROWS);
        for from in (0..groups).step_by(GROUPS_AT_ONCE) {
            let to = groups.min(from + GROUPS_AT_ONCE);
            let codes = &codes[from * GROUP * width..to * GROUP * width];
            for (i, sums) in sums.chunks_mut(height * width).enumerate() {
                let (row, count) = (rows.start + i * height, sums.len() / width);
                let x = &inputs.words[row * inputs.stride..(row + count) * inputs.stride];
                // SAFETY: words hold inputs, of which each row has four for each group.
                unsafe {
                    let x = x.as_ptr().cast::<D::Input>().add(from * GROUP);
                    let stride = inputs.stride * size_of::<u32>() / size_of::<D::Input>();
                    match count {
                        1 => sum::<D, 1>(d, x, stride, codes, sums),
                        2 => sum::<D, 2>(d, x, stride, codes, sums),
                        3 => sum::<D, 3>(d, x, stride, codes, sums),
                        4 => sum::<D, 4>(d, x, stride, codes, sums),
                        5 => sum::<D, 5>(d, x, stride, codes, sums),
                        6 => sum::<D, 6>(d, x, stride, codes, sums),
                        7 => sum::<D, 7>(d, x, stride, codes, sums),
                        8 => sum::<D, 8>(d, x, stride, codes, sums),
                        9 => sum::<D, 9>(d, x, stride, codes, sums),
                        10 => sum::<D, 10>(d, x, stride, codes, sums),
                        11 => sum::<D, 11>(d, x, stride, codes, sums),
                        _ => sum::<D, 12>(d, x, stride, codes, sums),
                    }
                }
            }
        }
    }
}

/// Adds the products of `R` rows of `x` with the groups of `codes` to `all`.
///
/// # Safety
/// `x` holds `R` rows, `stride` apart, of four inputs for each group.
#[inline(always)]
unsafe fn sum<D: Dots, const R: usize>(d: D, x: *const D::Input, stride: usize, codes: &[i8], all: &mut [i32]) {
    // Smaller sets never ask for so many rows; this keeps their code small.
    if R > D::ROWS {
        return;
    }
    let width = 2 * D::LANES;
    assert_eq!(all.len(), R * width, "sums of {R} rows");
    // SAFETY: two vectors of sums a row, by the assertion; a group is four times two vectors of weights; the inputs are the
    // caller's promise.
    unsafe {
        let place = all.as_mut_ptr();
        let mut sums: [[D::Sums; 2]; R] =
            std::array::from_fn(|i| std::array::from_fn(|side| d.load(place.add(i * width + side * D::LANES))));
        let mut x = x;
        for codes in codes.chunks_exact(GROUP * width) {
            for step in 0..D::STEPS {
                let w = [d.weights(codes.as_ptr(), step), d.weights(codes.as_ptr().add(GROUP * D::LANES), step)];
                for (i, sums) in sums.iter_mut().enumerate() {
                    let x = d.inputs(x.add(i * stride), step);
                    *sums = [d.add(sums[0], x, w[0]), d.add(sums[1], x, w[1])];
                }
            }
            x = x.add(GROUP);
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (side, sums) in sums.into_iter().enumerate() {
                d.store(place.add(i * width + side * D::LANES), sums);
            }
        }
    }
}

/// The answers from a panel's sums.
struct Scale<'a> {
    inputs: &'a Inputs,
    rows: Range<usize>,
    weights: &'a Integers,
    panel: usize,
    sums: &'a [i32],
    place: Place<'a>,
}

impl Kernel for Scale<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { inputs, rows, weights, panel, sums, place } = self;
        let width = 2 * S::LANES;
        let scales = &weights.scales.values()[panel * width..][..width];
        let mut tile = [[s.splat(0.0); 2]; MOST_ROWS];
        for (first, sums) in rows.step_by(MOST_ROWS).zip(sums.chunks(MOST_ROWS * width)) {
            let count = sums.len() / width;
            for (tile, (row, sums)) in tile.iter_mut().zip((first..).zip(sums.chunks_exact(width))) {
                let of_row = s.splat(inputs.scales[row]);
                // SAFETY: sums and scales are two vectors each.
                *tile = unsafe {
                    [0, S::LANES].map(|at| s.mul(s.load_integers(sums.as_ptr().add(at)), s.mul(of_row, s.load(scales.as_ptr().add(at)))))
                };
            }
            // SAFETY: the rows are this thread's, and so are the panel's columns of them.
            unsafe { place.put(s, panel, first, &tile[..count]) };
        }
    }
}
