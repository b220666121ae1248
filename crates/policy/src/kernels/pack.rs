//! Weights in the order in which the matrix product reads them.

use std::ops::Range;

use rayon::prelude::*;

use super::codes::Codes;
use super::matrix::Matrix;
use super::memory::{Aligned, Target};
use super::simd::{Isa, Simd};
use super::threads;

/// How many weights are worth packing on several threads.
const WORTH_SHARING: usize = 1 << 18;

/// The weights `[n, depth]` of `y = x Wᵀ + b`, in panels of two vectors of outputs: all outputs of a
/// panel for the first input, then for the second, and so on. The last panel is filled up with zeros.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) isa: Isa,
    values: Aligned,
    /// What stands for the values where they are not kept.
    codes: Option<Codes>,
    /// One a column of the panels.
    bias: Aligned,
    /// How many outputs there are.
    pub(crate) n: usize,
    /// How many inputs there are.
    pub(crate) depth: usize,
    /// Whether a panel holds a vector of gates and one of the values that they scale, so that a
    /// panel gives one vector of outputs.
    pub(super) is_gated: bool,
    /// Whether no weight is NaN or infinite.
    pub(crate) is_finite: bool,
}

/// What a column of the panels is packed from.
struct Column<'a> {
    weights: &'a [f32],
    scale: f32,
    bias: f32,
}

impl Packed {
    /// From the rows of `weights`, each `[.., depth]`, below each other.
    pub(crate) fn new(isa: Isa, weights: &[Matrix<'_>], bias: Option<&[f32]>) -> Self {
        let depth = weights.first().map_or(0, |part| part.width);
        let rows: Vec<&[f32]> = weights.iter().flat_map(|part| (0..part.rows).map(|row| part.row(row))).collect();
        assert!(weights.iter().all(|part| part.width == depth), "weights of one depth");
        assert!(bias.is_none_or(|bias| bias.len() == rows.len()), "a bias of {}", rows.len());
        let column =
            |column: usize| rows.get(column).map(|row| Column { weights: row, scale: 1.0, bias: bias.map_or(0.0, |bias| bias[column]) });
        Self::from_columns(isa, [rows.len(), depth], rows.len().div_ceil(2 * isa.lanes()), column, |input| input)
    }

    /// From the rows of `weights`, times `scale` and with their inputs in another order: input `i` of a
    /// row becomes input `order(i)`.
    pub(crate) fn reordered(
        isa: Isa,
        weights: Matrix<'_>,
        scale: Option<&[f32]>,
        bias: Option<&[f32]>,
        order: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        let (n, depth) = (weights.rows, weights.width);
        assert!([scale, bias].iter().flatten().all(|values| values.len() == n), "a scale and a bias of {n}");
        let at = |values: Option<&[f32]>, row: usize, default| values.map_or(default, |values| values[row]);
        let column =
            |row: usize| (row < n).then(|| Column { weights: weights.row(row), scale: at(scale, row, 1.0), bias: at(bias, row, 0.0) });
        Self::from_columns(isa, [n, depth], n.div_ceil(2 * isa.lanes()), column, order)
    }

    /// From `weight [depth, n]`: the transpose of what [`Packed::new`] takes.
    pub(crate) fn transposed(isa: Isa, weight: Matrix<'_>) -> Self {
        let (n, depth) = (weight.width, weight.rows);
        let mut packed = Self::empty(isa, [n, depth], n.div_ceil(2 * isa.lanes()));
        let width = packed.width();
        packed.values.values_mut().chunks_mut((width * depth).max(1)).enumerate().for_each(|(panel, values)| {
            let columns = panel * width..n.min((panel + 1) * width);
            for (row, values) in values.chunks_exact_mut(width).enumerate() {
                values[..columns.len()].copy_from_slice(&weight.row(row)[columns.clone()]);
            }
        });
        packed
    }

    /// For `activation(x Gᵀ + g) ⊙ (x Uᵀ + u)`, from `gate` and `up [n, depth]`.
    pub(crate) fn gated(isa: Isa, gate: Matrix<'_>, up: Matrix<'_>, bias: [&[f32]; 2]) -> Self {
        let (n, depth) = (gate.rows, gate.width);
        assert!(up.rows == n && up.width == depth, "gates of {n}x{depth}");
        let lanes = isa.lanes();
        let column = |column: usize| {
            let (panel, lane) = (column / (2 * lanes), column % (2 * lanes));
            let (row, side) = (panel * lanes + lane % lanes, lane / lanes);
            (row < n).then(|| Column { weights: [gate, up][side].row(row), scale: 1.0, bias: bias[side][row] })
        };
        Self { is_gated: true, ..Self::from_columns(isa, [n, depth], n.div_ceil(lanes), column, |input| input) }
    }

    fn empty(isa: Isa, [n, depth]: [usize; 2], panels: usize) -> Self {
        let width = 2 * isa.lanes();
        let (values, bias) = (Aligned::zeros(panels * width * depth), Aligned::zeros(panels * width));
        Self { isa, values, codes: None, bias, n, depth, is_gated: false, is_finite: true }
    }

    /// `column` gives what a column of the panels is made from, `None` for filling; `order` the place of
    /// each of its weights.
    fn from_columns<'a>(
        isa: Isa,
        size: [usize; 2],
        panels: usize,
        column: impl Fn(usize) -> Option<Column<'a>> + Sync,
        order: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        let mut packed = Self::empty(isa, size, panels);
        let (width, depth) = (packed.width(), packed.depth);
        for (at, bias) in packed.bias.values_mut().iter_mut().enumerate() {
            *bias = column(at).map_or(0.0, |column| column.bias);
        }
        // Whether all weights of the panel are finite.
        let fill = |(panel, values): (usize, &mut [f32])| {
            // A cache line of each column at a time, so that neither side is fetched twice.
            const AT_ONCE: usize = 16;
            let mut is_finite = true;
            for first in (0..depth).step_by(AT_ONCE) {
                let inputs = first..depth.min(first + AT_ONCE);
                for lane in 0..width {
                    if let Some(Column { weights, scale, .. }) = column(panel * width + lane) {
                        for (weight, input) in weights[inputs.clone()].iter().zip(inputs.clone()) {
                            is_finite &= weight.is_finite();
                            values[order(input) * width + lane] = weight * scale;
                        }
                    }
                }
            }
            is_finite
        };
        let is_shared = panels * width * depth >= WORTH_SHARING;
        let size = (width * depth).max(1);
        packed.is_finite = if is_shared {
            packed.values.values_mut().par_chunks_mut(size).enumerate().map(fill).reduce(|| true, |a, b| a & b)
        } else {
            packed.values.values_mut().chunks_mut(size).enumerate().map(fill).fold(true, |a, b| a & b)
        };
        packed
    }

    /// `count` times `n` outputs of `depth` inputs, whose panels `fill` writes: the panel of that index
    /// in each of them.
    pub(super) fn filled(isa: Isa, count: usize, [n, depth]: [usize; 2], fill: impl Fn(usize, &[Target<'_>]) + Sync + Send) -> Vec<Self> {
        let panels = n.div_ceil(2 * isa.lanes());
        let mut all: Vec<Self> = (0..count).map(|_| Self::empty(isa, [n, depth], panels)).collect();
        let size = 2 * isa.lanes() * depth;
        let targets: Vec<_> = all.iter_mut().map(|packed| Target::new(packed.values.values_mut(), 2 * isa.lanes())).collect();
        threads::each(panels, |panel| {
            fill(panel, &targets.iter().map(|target| target.part(panel * size, 2 * isa.lanes())).collect::<Vec<_>>())
        });
        all
    }

    /// The same weights in about 9 bits each, nearly: see [`Codes`]. Not for convolutions.
    pub(crate) fn quantized(self) -> Self {
        let codes = Codes::new(self.isa, self.values.values(), self.depth);
        Self { values: Aligned::default(), codes: Some(codes), ..self }
    }

    /// Whether the weights are laid out anew in each product.
    pub(super) fn is_quantized(&self) -> bool {
        self.codes.is_some()
    }

    /// The weights as they were, `[n, depth]`, or as near as they are kept.
    #[cfg(test)]
    pub(super) fn unpacked(&self) -> Vec<f32> {
        let width = self.width();
        let value = |panel, input, column| match &self.codes {
            None => self.panel(panel, input)[column],
            Some(codes) => codes.value(width, panel, input, column),
        };
        (0..self.n * self.depth).map(|i| value(i / self.depth / width, i % self.depth, i / self.depth % width)).collect()
    }

    /// Columns of a panel.
    pub(super) fn width(&self) -> usize {
        2 * self.isa.lanes()
    }

    pub(super) fn panels(&self) -> usize {
        self.bias.values().len() / self.width()
    }

    /// The weights of a panel from input `first` on.
    pub(super) fn panel(&self, panel: usize, first: usize) -> &[f32] {
        let size = self.width() * self.depth;
        &self.values.values()[panel * size + first * self.width()..(panel + 1) * size]
    }

    /// The weights of a panel for some inputs, two vectors for each; they may be laid out in `scratch`.
    #[inline(always)]
    pub(super) fn weights<'a, S: Simd>(&'a self, s: S, panel: usize, columns: Range<usize>, scratch: &'a mut Aligned) -> &'a [f32] {
        let len = columns.len() * 2 * S::LANES;
        match &self.codes {
            None => &self.panel(panel, columns.start)[..len],
            Some(codes) => {
                let weights = scratch.at_least(len);
                codes.decode(s, panel, columns, weights);
                weights
            }
        }
    }

    /// The biases, then zeros.
    pub(super) fn bias(&self) -> &[f32] {
        self.bias.values()
    }

    pub(super) fn bias_of(&self, panel: usize) -> &[f32] {
        &self.bias.values()[panel * self.width()..][..self.width()]
    }
}
