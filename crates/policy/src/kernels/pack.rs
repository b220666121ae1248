//! Weights in the order in which the matrix product reads them.

use std::convert::Infallible;
use std::ops::Range;

use rayon::prelude::*;

use super::codes::{Codes, PanelCodes};
use super::halves::{Half, Halves};
use super::integers::{Integers, PanelIntegers};
use super::matrix::Matrix;
use super::memory::{Aligned, Target, with_scratch};
use super::simd::{Isa, Simd};
use super::threads;

/// How many weights are worth packing on several threads.
const WORTH_SHARING: usize = 1 << 18;

/// The weights `[n, depth]` of `y = x Wᵀ + b`, in panels of two vectors of outputs: all outputs of a
/// panel for the first input, then for the second, and so on. The last panel is filled up with zeros.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) isa: Isa,
    kept: Kept,
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

/// The weights of the panels.
#[derive(Debug)]
enum Kept {
    Floats(Aligned),
    Halves(Halves),
    Codes(Codes),
    Integers(Integers),
}

/// How weights are to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In `f32`.
    Floats,
    /// In 16 bits (`bf16` or `f16`) where that changes none of them, else in `f32`.
    Exact,
    /// In about 9 bits each, nearly: see [`Codes`]. Not for convolutions.
    Codes,
    /// In 8 bits each, to be multiplied by inputs that are rounded, too: see [`Integers`]. For [`linear`](super::linear)
    /// alone. Those with too many inputs are kept as if `Exact`.
    Integers,
}

/// Rows of weights that are read when they are packed.
pub(crate) trait RowSource: Sync {
    type Error: Send;

    /// How many rows there are.
    fn count(&self) -> usize;
    /// How many values a row has.
    fn width(&self) -> usize;
    /// Some rows, one below the other.
    ///
    /// # Errors
    /// When they can't be read.
    fn read(&self, rows: Range<usize>, to: &mut [f32]) -> Result<(), Self::Error>;
}

impl RowSource for Matrix<'_> {
    type Error = Infallible;

    fn count(&self) -> usize {
        self.rows
    }

    fn width(&self) -> usize {
        self.width
    }

    fn read(&self, rows: Range<usize>, to: &mut [f32]) -> Result<(), Infallible> {
        to.chunks_exact_mut(self.width.max(1)).zip(rows).for_each(|(to, row)| to.copy_from_slice(self.row(row)));
        Ok(())
    }
}

/// What a column of the panels is packed from.
struct Column<'a> {
    weights: &'a [f32],
    scale: f32,
}

impl Packed {
    /// From the rows of `weights [n, depth]`, in `f32`.
    pub(crate) fn new(isa: Isa, weights: Matrix<'_>, bias: Option<&[f32]>) -> Self {
        Self::of_matrix(isa, weights, Form::Floats, None, bias, |input| input)
    }

    /// From the rows of `weights [n, depth]`, times `scale` and with their inputs in another order: input
    /// `i` of a row becomes input `order(i)`.
    pub(crate) fn reordered(
        isa: Isa,
        weights: Matrix<'_>,
        scale: Option<&[f32]>,
        bias: Option<&[f32]>,
        order: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        Self::of_matrix(isa, weights, Form::Exact, scale, bias, order)
    }

    fn of_matrix(
        isa: Isa,
        weights: Matrix<'_>,
        form: Form,
        scale: Option<&[f32]>,
        bias: Option<&[f32]>,
        order: impl Fn(usize) -> usize + Sync,
    ) -> Self {
        let (n, depth, width) = (weights.rows, weights.width, 2 * isa.lanes());
        assert!(scale.is_none_or(|scale| scale.len() == n), "a scale of {n}");
        let fill = |panel: usize, to: &mut [f32], _: &mut Aligned| {
            let column = |lane: usize| {
                let row = panel * width + lane;
                (row < n).then(|| Column { weights: weights.row(row), scale: scale.map_or(1.0, |scale| scale[row]) })
            };
            Ok::<_, Infallible>(lay_out(width, depth, column, &order, to))
        };
        let Ok(packed) = Self::build(isa, [n, depth], form, padded(bias, n, width), fill);
        packed
    }

    /// From the rows of `weights`, each `[.., depth]`, below each other. They are read a panel at a time, so
    /// that there is no second copy of them.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn read<R: RowSource>(isa: Isa, weights: &[R], bias: Option<&[f32]>, form: Form) -> Result<Self, R::Error> {
        let depth = weights.first().map_or(0, RowSource::width);
        assert!(weights.iter().all(|part| part.width() == depth), "weights of one depth");
        let n: usize = weights.iter().map(RowSource::count).sum();
        let width = 2 * isa.lanes();
        let fill = |panel: usize, to: &mut [f32], rows: &mut Aligned| {
            let rows = rows.at_least(width * depth);
            let wanted = panel * width..n.min((panel + 1) * width);
            let mut first = 0;
            for part in weights {
                let inside = wanted.start.max(first)..wanted.end.min(first + part.count());
                if !inside.is_empty() {
                    let to = &mut rows[(inside.start - wanted.start) * depth..(inside.end - wanted.start) * depth];
                    part.read(inside.start - first..inside.end - first, to)?;
                }
                first += part.count();
            }
            let column = |lane: usize| (lane < wanted.len()).then(|| Column { weights: &rows[lane * depth..][..depth], scale: 1.0 });
            Ok(lay_out(width, depth, column, |input| input, to))
        };
        Self::build(isa, [n, depth], form, padded(bias, n, width), fill)
    }

    /// For `activation(x Gᵀ + g) ⊙ (x Uᵀ + u)`, from the gates and what they scale, `[n, depth]` each.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn gated<R: RowSource>(isa: Isa, both: [&R; 2], bias: [&[f32]; 2], form: Form) -> Result<Self, R::Error> {
        let [(n, depth), up] = both.map(|part| (part.count(), part.width()));
        assert!(up == (n, depth) && bias.iter().all(|bias| bias.len() == n), "gates of {n}x{depth}");
        let lanes = isa.lanes();
        let rows_of = |panel: usize| panel * lanes..n.min((panel + 1) * lanes);
        let mut biases = Aligned::zeros(n.div_ceil(lanes) * 2 * lanes);
        for (panel, to) in biases.values_mut().chunks_exact_mut(2 * lanes).enumerate() {
            let rows = rows_of(panel);
            to.chunks_exact_mut(lanes).zip(bias).for_each(|(to, bias)| to[..rows.len()].copy_from_slice(&bias[rows.clone()]));
        }
        let fill = |panel: usize, to: &mut [f32], rows: &mut Aligned| {
            let wanted = rows_of(panel);
            let (rows, count) = (rows.at_least(2 * lanes * depth), wanted.len());
            for (part, rows) in both.iter().zip(rows.chunks_exact_mut((lanes * depth).max(1))) {
                part.read(wanted.clone(), &mut rows[..count * depth])?;
            }
            let column = |lane: usize| (lane % lanes < count).then(|| Column { weights: &rows[lane * depth..][..depth], scale: 1.0 });
            Ok(lay_out(2 * lanes, depth, column, |input| input, to))
        };
        Ok(Self { is_gated: true, ..Self::build(isa, [n, depth], form, biases, fill)? })
    }

    /// Of one that was made [`empty`](Self::empty): the weights of the outputs from `first` on become
    /// `rows [.., depth]`.
    pub(super) fn set_outputs(&mut self, first: usize, rows: Matrix<'_>) {
        let (n, depth, width) = (self.n, self.depth, self.width());
        assert!(rows.width == depth && first + rows.rows <= n, "outputs {first} to {} of {n}", first + rows.rows);
        let (from, to) = (first / width, (first + rows.rows).div_ceil(width));
        for (panel, values) in self.floats_mut().chunks_mut((width * depth).max(1)).enumerate().take(to).skip(from) {
            let column = |lane: usize| {
                let row = (panel * width + lane).checked_sub(first).filter(|row| *row < rows.rows)?;
                Some(Column { weights: rows.row(row), scale: 1.0 })
            };
            lay_out(width, depth, column, |input| input, values);
        }
    }

    /// The same of the inputs from `first` on: `weight` is `[.., n]`.
    pub(super) fn set_inputs(&mut self, first: usize, weight: Matrix<'_>) {
        let (n, depth, width) = (self.n, self.depth, self.width());
        assert!(weight.width == n && first + weight.rows <= depth, "inputs {first} to {} of {depth}", first + weight.rows);
        self.floats_mut().chunks_mut((width * depth).max(1)).enumerate().for_each(|(panel, values)| {
            let columns = panel * width..n.min((panel + 1) * width);
            for (row, values) in values.chunks_exact_mut(width).skip(first).take(weight.rows).enumerate() {
                values[..columns.len()].copy_from_slice(&weight.row(row)[columns.clone()]);
            }
        });
    }

    /// `n` outputs of `depth` inputs, with weights of zero.
    pub(super) fn empty(isa: Isa, [n, depth]: [usize; 2]) -> Self {
        let bias = padded(None, n, 2 * isa.lanes());
        let kept = Kept::Floats(Aligned::zeros(bias.values().len() * depth));
        Self { isa, kept, bias, n, depth, is_gated: false, is_finite: true }
    }

    /// The values of one that was made [`empty`](Self::empty).
    fn floats_mut(&mut self) -> &mut [f32] {
        match &mut self.kept {
            Kept::Floats(values) => values.values_mut(),
            Kept::Halves(_) | Kept::Codes(_) | Kept::Integers(_) => &mut [],
        }
    }

    /// `fill` writes the weights of a panel over zeros, with room for their rows, and answers whether they
    /// are finite.
    ///
    /// # Errors
    /// Those of `fill`.
    fn build<E: Send>(
        isa: Isa,
        [n, depth]: [usize; 2],
        form: Form,
        bias: Aligned,
        fill: impl Fn(usize, &mut [f32], &mut Aligned) -> Result<bool, E> + Sync,
    ) -> Result<Self, E> {
        let (kept, is_finite) = keep(isa, [bias.values().len(), depth], form, fill)?;
        Ok(Self { isa, kept, bias, n, depth, is_gated: false, is_finite })
    }

    /// `count` times `n` outputs of `depth` inputs, whose panels `fill` writes: the panel of that index
    /// in each of them.
    pub(super) fn filled(isa: Isa, count: usize, [n, depth]: [usize; 2], fill: impl Fn(usize, &[Target<'_>]) + Sync + Send) -> Vec<Self> {
        let panels = n.div_ceil(2 * isa.lanes());
        let mut all: Vec<Self> = (0..count).map(|_| Self::empty(isa, [n, depth])).collect();
        let size = 2 * isa.lanes() * depth;
        let targets: Vec<_> = all.iter_mut().map(|packed| Target::new(packed.floats_mut(), 2 * isa.lanes())).collect();
        threads::each(panels, |panel| {
            fill(panel, &targets.iter().map(|target| target.part(panel * size, 2 * isa.lanes())).collect::<Vec<_>>())
        });
        all
    }

    /// Whether the weights are laid out anew in each product.
    pub(super) fn is_laid_out_anew(&self) -> bool {
        !matches!(self.kept, Kept::Floats(_))
    }

    /// The weights where they are to be multiplied as whole numbers.
    pub(super) fn integers(&self) -> Option<&Integers> {
        match &self.kept {
            Kept::Integers(integers) => Some(integers),
            Kept::Floats(_) | Kept::Halves(_) | Kept::Codes(_) => None,
        }
    }

    /// The weights where they are kept in 16 bits.
    pub(super) fn halves(&self) -> Option<&Halves> {
        match &self.kept {
            Kept::Halves(halves) => Some(halves),
            Kept::Floats(_) | Kept::Codes(_) | Kept::Integers(_) => None,
        }
    }

    /// How many bytes a weight takes.
    #[cfg(test)]
    pub(super) fn weight_bytes(&self) -> f32 {
        match self.kept {
            Kept::Floats(_) => 4.0,
            Kept::Halves(_) => 2.0,
            Kept::Codes(_) => 1.125,
            Kept::Integers(_) => 1.0,
        }
    }

    /// The weights as they were, `[n, depth]`, or as near as they are kept.
    #[cfg(test)]
    pub(super) fn unpacked(&self) -> Vec<f32> {
        let width = self.width();
        let panels: Vec<Vec<f32>> = (0..self.panels()).map(|panel| self.isa.run(Unpack { packed: self, panel })).collect();
        (0..self.n * self.depth).map(|i| panels[i / self.depth / width][i % self.depth * width + i / self.depth % width]).collect()
    }

    /// Columns of a panel.
    pub(super) fn width(&self) -> usize {
        2 * self.isa.lanes()
    }

    pub(super) fn panels(&self) -> usize {
        self.bias.values().len() / self.width()
    }

    /// The weights of a panel for some inputs, two vectors for each; they may be laid out in `scratch`. None where they
    /// are whole numbers.
    #[inline(always)]
    pub(super) fn weights<'a, S: Simd>(&'a self, s: S, panel: usize, columns: Range<usize>, scratch: &'a mut Aligned) -> &'a [f32] {
        let (at, len) = ((panel * self.depth + columns.start) * 2 * S::LANES, columns.len() * 2 * S::LANES);
        match &self.kept {
            Kept::Floats(values) => &values.values()[at..at + len],
            Kept::Halves(halves) => {
                let weights = scratch.at_least(len);
                halves.widen(s, at, weights);
                weights
            }
            Kept::Codes(codes) => {
                let weights = scratch.at_least(len);
                codes.decode(s, panel, columns, weights);
                weights
            }
            Kept::Integers(_) => &[],
        }
    }

    /// What is kept in `f32` of some inputs for the panel after `panel`.
    pub(super) fn next(&self, panel: usize, columns: Range<usize>) -> &[f32] {
        match &self.kept {
            Kept::Floats(values) => {
                let (at, len) = (((panel + 1) * self.depth + columns.start) * self.width(), columns.len() * self.width());
                values.values().get(at..at + len).unwrap_or_default()
            }
            Kept::Halves(_) | Kept::Codes(_) | Kept::Integers(_) => &[],
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

/// The weights of so many `columns` of panels as `fill` writes them, and whether they are finite; see
/// [`Packed::build`].
fn keep<E: Send>(
    isa: Isa,
    [columns, depth]: [usize; 2],
    form: Form,
    fill: impl Fn(usize, &mut [f32], &mut Aligned) -> Result<bool, E> + Sync,
) -> Result<(Kept, bool), E> {
    let (len, size) = (columns * depth, (2 * isa.lanes() * depth).max(1));
    let form = if form == Form::Integers && depth > Integers::MOST_DEPTH { Form::Exact } else { form };
    // Fills a panel for others to make something of. The error is none where they can't.
    let with_panel = |panel: usize, make: &mut dyn FnMut(&[f32]) -> bool| {
        with_scratch(|[rows, values]| {
            let values = values.at_least(size);
            values.fill(0.0);
            let is_finite = fill(panel, values, rows).map_err(Some)?;
            if make(values) { Ok(is_finite) } else { Err(None) }
        })
    };
    match form {
        Form::Floats => {}
        Form::Exact => {
            // What does not fit shows in the first panel, nearly always.
            let mut kinds = vec![Half::Bf16, Half::F16];
            let mut bits = vec![0; size];
            let narrow_first = &mut |values: &[f32]| {
                kinds.retain(|kind| kind.narrow(values, &mut bits));
                true
            };
            if len > 0
                && let Err(Some(error)) = with_panel(0, narrow_first)
            {
                return Err(error);
            }
            for kind in kinds {
                let mut halves = Halves::zeros(kind, len);
                let panels = halves.bits.par_chunks_mut(size).enumerate();
                match all(panels, len, |(panel, bits)| with_panel(panel, &mut |values| kind.narrow(values, bits))) {
                    Ok(is_finite) => return Ok((Kept::Halves(halves), is_finite)),
                    Err(None) => {}
                    Err(Some(error)) => return Err(error),
                }
            }
        }
        Form::Codes => {
            let mut codes = Codes::zeros(isa, len, depth);
            let encode = |(panel, mut codes): (usize, PanelCodes<'_>)| {
                with_panel(panel, &mut |values| {
                    codes.encode(isa, values);
                    true
                })
            };
            return match all(codes.panels(isa).enumerate(), len, encode) {
                Err(Some(error)) => Err(error),
                is_finite => Ok((Kept::Codes(codes), is_finite.unwrap_or(false))),
            };
        }
        Form::Integers => {
            let mut integers = Integers::zeros(columns, depth);
            let encode = |(panel, mut integers): (usize, PanelIntegers<'_>)| {
                with_panel(panel, &mut |values| {
                    integers.encode(isa, values);
                    true
                })
            };
            return match all(integers.panels(isa).enumerate(), len, encode) {
                Err(Some(error)) => Err(error),
                is_finite => Ok((Kept::Integers(integers), is_finite.unwrap_or(false))),
            };
        }
    }
    let mut values = Aligned::zeros(len);
    let panels = values.values_mut().par_chunks_mut(size).enumerate();
    let is_finite = all(panels, len, |(panel, values)| with_scratch(|[rows, _]| fill(panel, values, rows)))?;
    Ok((Kept::Floats(values), is_finite))
}

/// Whether `work` says so of all panels, which have `len` weights together.
fn all<I: IndexedParallelIterator, E: Send>(
    panels: I,
    len: usize,
    work: impl Fn(I::Item) -> Result<bool, E> + Sync + Send,
) -> Result<bool, E> {
    let least = if len >= WORTH_SHARING { 1 } else { usize::MAX };
    panels.with_min_len(least).map(work).try_reduce(|| true, |a, b| Ok(a & b))
}

/// The bias, and zeros for as many columns as the panels of `width` have more.
fn padded(bias: Option<&[f32]>, n: usize, width: usize) -> Aligned {
    let mut padded = Aligned::zeros(n.next_multiple_of(width));
    if let Some(bias) = bias {
        assert_eq!(bias.len(), n, "a bias");
        padded.values_mut()[..n].copy_from_slice(bias);
    }
    padded
}

/// How many inputs are laid out at a time: a cache line of each column, so that neither side is fetched twice.
const AT_ONCE: usize = 16;

/// Writes the columns of a panel; those that there are none for stay as they are. Whether all weights are
/// finite.
fn lay_out<'a>(
    width: usize,
    depth: usize,
    column: impl Fn(usize) -> Option<Column<'a>>,
    order: impl Fn(usize) -> usize,
    to: &mut [f32],
) -> bool {
    // Where they are all there, rows of a known length are written.
    match width {
        8 => lay_out_all::<8>(depth, &column, &order, to),
        16 => lay_out_all::<16>(depth, &column, &order, to),
        32 => lay_out_all::<32>(depth, &column, &order, to),
        _ => None,
    }
    .unwrap_or_else(|| lay_out_some(width, depth, column, order, to))
}

/// The same for panels of `W` columns; none, and nothing written, where a column is not there.
fn lay_out_all<'a, const W: usize>(
    depth: usize,
    column: impl Fn(usize) -> Option<Column<'a>>,
    order: impl Fn(usize) -> usize,
    to: &mut [f32],
) -> Option<bool> {
    let mut columns = [const { Column { weights: &[], scale: 1.0 } }; W];
    for (lane, to) in columns.iter_mut().enumerate() {
        *to = column(lane)?;
    }
    let mut is_finite = true;
    let mut lines = [[0.0; AT_ONCE]; W];
    for first in (0..depth).step_by(AT_ONCE) {
        let inputs = first..depth.min(first + AT_ONCE);
        for (line, Column { weights, scale }) in lines.iter_mut().zip(&columns) {
            for (to, weight) in line.iter_mut().zip(&weights[inputs.clone()]) {
                is_finite &= weight.is_finite();
                *to = weight * scale;
            }
        }
        for (i, input) in inputs.enumerate() {
            let (to, _) = to[order(input) * W..].split_first_chunk_mut::<W>()?;
            *to = std::array::from_fn(|lane| lines[lane][i]);
        }
    }
    Some(is_finite)
}

fn lay_out_some<'a>(
    width: usize,
    depth: usize,
    column: impl Fn(usize) -> Option<Column<'a>>,
    order: impl Fn(usize) -> usize,
    to: &mut [f32],
) -> bool {
    let mut is_finite = true;
    for first in (0..depth).step_by(AT_ONCE) {
        let inputs = first..depth.min(first + AT_ONCE);
        for lane in 0..width {
            if let Some(Column { weights, scale }) = column(lane) {
                for (weight, input) in weights[inputs.clone()].iter().zip(inputs.clone()) {
                    is_finite &= weight.is_finite();
                    to[order(input) * width + lane] = weight * scale;
                }
            }
        }
    }
    is_finite
}

#[cfg(test)]
struct Unpack<'a> {
    packed: &'a Packed,
    panel: usize,
}

#[cfg(test)]
impl super::simd::Kernel for Unpack<'_> {
    type Out = Vec<f32>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<f32> {
        self.packed.weights(s, self.panel, 0..self.packed.depth, &mut Aligned::default()).to_vec()
    }
}
