//! Weights as whole numbers of 8 bits, a quarter of their size.

use std::ops::Range;

use rayon::prelude::*;

use super::memory::Aligned;
use super::simd::{Isa, Kernel, Simd};

/// How many inputs share a scale.
const BLOCK: usize = 32;
/// Codes are in -127..=127.
const MOST: f32 = 127.0;

/// The values of [`Packed`](super::Packed) weights as `code · scale`: a column of a panel has one scale
/// for each 32 inputs, by which its largest weight there is ±127. The order is that of the panels.
///
/// What a weight loses is at most half a scale, 1/254 of the largest weight beside it. Weights that are
/// not finite make all those beside them NaN.
#[derive(Debug)]
pub(super) struct Codes {
    codes: Vec<i8>,
    /// For each panel and block, one a column.
    scales: Aligned,
    depth: usize,
}

impl Codes {
    /// Zeros in place of so many weights.
    pub(super) fn zeros(isa: Isa, len: usize, depth: usize) -> Self {
        let rows = len / depth.max(1);
        Self { codes: vec![0; len], scales: Aligned::zeros(rows.next_multiple_of(2 * isa.lanes()) * depth.div_ceil(BLOCK)), depth }
    }

    /// Each panel, to be written.
    pub(super) fn panels(&mut self, isa: Isa) -> impl IndexedParallelIterator<Item = PanelCodes<'_>> {
        let width = 2 * isa.lanes();
        let codes = self.codes.par_chunks_mut((width * self.depth).max(1));
        let scales = self.scales.values_mut().par_chunks_mut((width * self.depth.div_ceil(BLOCK)).max(1));
        codes.zip(scales).map(|(codes, scales)| PanelCodes { codes, scales })
    }

    /// The weights of a panel from the first of `columns` on, into `to`, which has two vectors for each.
    #[inline(always)]
    pub(super) fn decode<S: Simd>(&self, s: S, panel: usize, columns: Range<usize>, to: &mut [f32]) {
        let width = 2 * S::LANES;
        assert!(columns.end <= self.depth && to.len() == columns.len() * width, "{columns:?} of {} into {}", self.depth, to.len());
        let blocks = self.depth.div_ceil(BLOCK);
        let mut to = to.chunks_exact_mut(width);
        let mut from = columns.start;
        while from < columns.end {
            let block = from / BLOCK;
            let count = columns.end.min((block + 1) * BLOCK) - from;
            let scales = &self.scales.values()[(panel * blocks + block) * width..][..width];
            let codes = &self.codes[(panel * self.depth + from) * width..][..count * width];
            // SAFETY: scales, codes and places are each two vectors wide.
            unsafe {
                let scales = [s.load(scales.as_ptr()), s.load(scales.as_ptr().add(S::LANES))];
                for (codes, to) in codes.chunks_exact(width).zip(&mut to) {
                    for (side, scale) in scales.into_iter().enumerate() {
                        let code = s.load_codes(codes.as_ptr().add(side * S::LANES));
                        s.store(to.as_mut_ptr().add(side * S::LANES), s.mul(code, scale));
                    }
                }
            }
            from += count;
        }
    }
}

/// The codes of a panel.
pub(super) struct PanelCodes<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
}

impl PanelCodes<'_> {
    /// From its values. They were zeros.
    pub(super) fn encode(&mut self, isa: Isa, panel: &[f32]) {
        let Self { codes, scales } = self;
        isa.run(Encode { panel, codes, scales, width: 2 * isa.lanes() });
    }
}

/// A panel's values to codes and scales.
struct Encode<'a> {
    panel: &'a [f32],
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    width: usize,
}

impl Kernel for Encode<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let blocks = self.panel.chunks(BLOCK * self.width).zip(self.codes.chunks_mut(BLOCK * self.width));
        for ((values, codes), scales) in blocks.zip(self.scales.chunks_exact_mut(self.width)) {
            for row in values.chunks_exact(self.width) {
                for (most, x) in scales.iter_mut().zip(row) {
                    // Once NaN, it stays.
                    let x = x.abs();
                    *most = if x > *most || x.is_nan() { x } else { *most };
                }
            }
            scales.iter_mut().for_each(|most| *most /= MOST);
            for (row, codes) in values.chunks_exact(self.width).zip(codes.chunks_exact_mut(self.width)) {
                for ((x, code), scale) in row.iter().zip(codes).zip(&*scales) {
                    // 0 / 0 is NaN, which becomes 0.
                    *code = (x / scale).round_ties_even() as i8;
                }
            }
        }
    }
}
