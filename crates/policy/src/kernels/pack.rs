//! Weights in the order in which the matrix product reads them.

use rayon::prelude::*;

use super::matrix::Matrix;
use super::memory::Aligned;
use super::simd::Isa;

/// How many weights are worth packing on several threads.
const WORTH_SHARING: usize = 1 << 18;

/// The weights `[n, depth]` of `y = x Wᵀ + b`, in panels of two vectors of outputs: all outputs of a
/// panel for the first input, then for the second, and so on. The last panel is filled up with zeros.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) isa: Isa,
    values: Aligned,
    /// One a column of the panels.
    bias: Aligned,
    /// How many outputs there are.
    pub(crate) n: usize,
    /// How many inputs there are.
    pub(crate) depth: usize,
    /// Whether a panel holds a vector of gates and one of the values that they scale, so that a
    /// panel gives one vector of outputs.
    pub(super) is_gated: bool,
}

impl Packed {
    /// From the rows of `weights`, each `[.., depth]`, below each other.
    pub(crate) fn new(isa: Isa, weights: &[Matrix<'_>], bias: Option<&[f32]>) -> Self {
        let depth = weights.first().map_or(0, |part| part.width);
        let rows: Vec<&[f32]> = weights.iter().flat_map(|part| (0..part.rows).map(|row| part.row(row))).collect();
        assert!(weights.iter().all(|part| part.width == depth), "weights of one depth");
        assert!(bias.is_none_or(|bias| bias.len() == rows.len()), "a bias of {}", rows.len());
        let column = |column: usize| rows.get(column).map(|row| (*row, bias.map_or(0.0, |bias| bias[column])));
        Self::from_columns(isa, [rows.len(), depth], rows.len().div_ceil(2 * isa.lanes()), column)
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
    pub(crate) fn gated(isa: Isa, gate: Matrix<'_>, up: Matrix<'_>, bias: Option<[&[f32]; 2]>) -> Self {
        let (n, depth) = (gate.rows, gate.width);
        assert!(up.rows == n && up.width == depth, "gates of {n}x{depth}");
        let lanes = isa.lanes();
        let column = |column: usize| {
            let (panel, lane) = (column / (2 * lanes), column % (2 * lanes));
            let (row, side) = (panel * lanes + lane % lanes, lane / lanes);
            (row < n).then(|| ([gate, up][side].row(row), bias.map_or(0.0, |b| b[side][row])))
        };
        Self { is_gated: true, ..Self::from_columns(isa, [n, depth], n.div_ceil(lanes), column) }
    }

    fn empty(isa: Isa, [n, depth]: [usize; 2], panels: usize) -> Self {
        let width = 2 * isa.lanes();
        Self { isa, values: Aligned::zeros(panels * width * depth), bias: Aligned::zeros(panels * width), n, depth, is_gated: false }
    }

    /// `column` gives the weights and the bias of a column of the panels, `None` for filling.
    fn from_columns<'a>(isa: Isa, size: [usize; 2], panels: usize, column: impl Fn(usize) -> Option<(&'a [f32], f32)> + Sync) -> Self {
        let mut packed = Self::empty(isa, size, panels);
        let (width, depth) = (packed.width(), packed.depth);
        for (at, bias) in packed.bias.values_mut().iter_mut().enumerate() {
            *bias = column(at).map_or(0.0, |(_, bias)| bias);
        }
        let fill = |(panel, values): (usize, &mut [f32])| {
            // A cache line of each column at a time, so that neither side is fetched twice.
            const AT_ONCE: usize = 16;
            for (part, values) in values.chunks_mut(AT_ONCE * width).enumerate() {
                for lane in 0..width {
                    if let Some((weights, _)) = column(panel * width + lane) {
                        for (values, weight) in values.chunks_exact_mut(width).zip(&weights[part * AT_ONCE..]) {
                            values[lane] = *weight;
                        }
                    }
                }
            }
        };
        let panels = packed.values.values_mut().chunks_mut((width * depth).max(1));
        if panels.len() * width * depth < WORTH_SHARING {
            panels.enumerate().for_each(fill)
        } else {
            panels.enumerate().par_bridge().for_each(fill)
        }
        packed
    }

    /// The weights as they were, `[n, depth]`.
    pub(super) fn unpacked(&self) -> Vec<f32> {
        let width = self.width();
        (0..self.n * self.depth).map(|i| self.panel(i / self.depth / width, i % self.depth)[i / self.depth % width]).collect()
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

    /// The biases, then zeros.
    pub(super) fn bias(&self) -> &[f32] {
        self.bias.values()
    }

    pub(super) fn bias_of(&self, panel: usize) -> &[f32] {
        &self.bias.values()[panel * self.width()..][..self.width()]
    }
}
