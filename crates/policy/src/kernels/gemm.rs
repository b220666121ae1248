//! The matrix product under every layer: `y = activation(x Wᵀ + b + residual)` on packed weights.

use std::hint::black_box;
use std::ops::Range;

use super::halves::Halves;
use super::math::{Activation, activate};
use super::matrix::Matrix;
use super::memory::{Aligned, Target, with_scratch, written};
use super::pack::Packed;
use super::simd::{Kernel, Simd};
use super::threads;

/// How many inputs are summed in registers before the sums go to memory, at most: as many as keep a panel
/// and the rows that meet it in the caches.
const MOST_DEPTH: usize = 512;

/// How many weights of a panel there are then, at most.
const MOST_WEIGHTS: usize = 12 << 10;

/// How many inputs of a panel are laid out at once where few rows meet it.
const AT_ONCE: usize = 128;

/// Panels that one piece of work takes at least, where the threads have enough of them: each piece reads its rows of `x`.
const LEAST_PANELS: usize = 4;

/// How many values of `x` one piece of work goes through at a time.
const MOST_VALUES: usize = 1 << 17;

/// Splits `n` into the fewest even parts of at most `most`, and says how big a part is.
pub(super) fn even_part(n: usize, most: usize) -> usize {
    n.div_ceil(n.div_ceil(most).max(1)).max(1)
}

/// Where a product gets its left side, row by row.
pub(super) trait Rows: Sync {
    /// Some columns of some rows, and the distance from one row to the next. They may be laid out in
    /// `scratch`.
    fn block<'a>(&'a self, rows: Range<usize>, columns: Range<usize>, scratch: &'a mut Aligned) -> (&'a [f32], usize);
}

impl Rows for Matrix<'_> {
    fn block<'a>(&'a self, rows: Range<usize>, columns: Range<usize>, _: &'a mut Aligned) -> (&'a [f32], usize) {
        (&self.values[rows.start * self.stride + columns.start..], self.stride)
    }
}

/// What happens to the sums.
#[derive(Clone, Copy)]
pub(super) struct Finish<'a> {
    pub activation: Activation,
    /// Added before the activation; laid out as the result is.
    pub residual: Option<&'a [f32]>,
}

impl Finish<'_> {
    pub(super) const NOTHING: Self = Self { activation: Activation::Identity, residual: None };
}

/// `activation(x Wᵀ + b + residual)` for `x [m, depth]`, as `[m, n]`.
///
/// Against the exact sums the error is at most `depth` times 6e-8 of the sum of magnitudes.
pub(crate) fn linear(x: Matrix<'_>, w: &Packed, residual: Option<&[f32]>, activation: Activation) -> Vec<f32> {
    assert_eq!(x.width, w.depth, "the width of rows");
    assert!(residual.is_none_or(|r| r.len() == x.rows * w.n), "a residual of {}x{}", x.rows, w.n);
    // SAFETY: the product writes each of the rows of `n`.
    unsafe {
        written(x.rows * w.n, w.n, |out| {
            let finish = Finish { activation, residual };
            match w.integers() {
                Some(integers) => integers.product(x, w, out, finish),
                None => product(&x, x.rows, w, out, finish),
            }
        })
    }
}

/// The product with all `m` rows of `x`, shared out over the threads.
pub(super) fn product(x: &dyn Rows, m: usize, w: &Packed, out: Target<'_>, finish: Finish<'_>) {
    out.assert_holds(m, w.n);
    assert!(finish.residual.is_none_or(|r| m == 0 || r.len() >= (m - 1) * out.stride + w.n), "a residual of {m}x{}", w.n);
    let row_part = even_part(m, (MOST_VALUES / w.depth.clamp(1, most_depth(w))).max(24));
    share([m, row_part], w, |rows, panels| {
        with_scratch(|[scratch, weights]| {
            if let (1, Some(halves)) = (rows.len(), w.halves()) {
                let (values, _) = x.block(rows.clone(), 0..w.depth, scratch);
                return w.isa.run(OneRow { x: &values[..w.depth], row: rows.start, w, halves, panels, out, finish });
            }
            for columns in passes(w) {
                let (values, stride) = x.block(rows.clone(), columns.clone(), scratch);
                let pass = Pass { x: values, stride, rows: rows.clone(), w, panels: panels.clone(), columns, out, finish };
                w.isa.run(Run { pass, weights });
            }
        });
    });
}

/// Calls `work` with rows and panels that together are all `m` rows, at most `row_part` at a time, of all panels.
pub(super) fn share([m, row_part]: [usize; 2], w: &Packed, work: impl Fn(Range<usize>, Range<usize>) + Send + Sync) {
    let panels = w.panels();
    let row_parts = m.div_ceil(row_part);
    let wanted = threads::pieces(m * w.n * w.depth).div_ceil(row_parts.max(1));
    let enough = (panels / LEAST_PANELS).max(rayon::current_num_threads());
    let parts = threads::balanced(wanted.min(enough)).min(panels.max(1));
    threads::each(row_parts * parts, |piece| {
        let row = piece / parts * row_part;
        work(row..m.min(row + row_part), threads::part(panels, parts, piece % parts));
    });
}

/// The whole product `x Wᵀ` on this thread, for kernels made of many small ones.
pub(super) fn multiply(x: Matrix<'_>, w: &Packed, out: Target<'_>) {
    out.assert_holds(x.rows, w.n);
    for columns in passes(w) {
        let values = x.values.get(columns.start..).unwrap_or_default();
        let (rows, panels, finish) = (0..x.rows, 0..w.panels(), Finish::NOTHING);
        let pass = Pass { x: values, stride: x.stride, rows, w, panels, columns, out, finish };
        w.isa.run(Run { pass, weights: &mut Aligned::default() });
    }
}

fn most_depth(w: &Packed) -> usize {
    MOST_DEPTH.min(MOST_WEIGHTS / w.width())
}

/// The inputs that each pass sums over: at least one pass, and for gated weights only one, as half
/// their sums have no place in the answer.
fn passes(w: &Packed) -> impl Iterator<Item = Range<usize>> {
    let depth = w.depth;
    let part = if w.is_gated { depth.max(1) } else { even_part(depth, most_depth(w)) };
    (0..depth.max(1)).step_by(part).map(move |from| from..depth.min(from + part))
}

/// The sums over some inputs, for some rows and panels, added to those of the passes before.
struct Pass<'a> {
    /// From the first of `rows` and `columns` on.
    x: &'a [f32],
    stride: usize,
    rows: Range<usize>,
    w: &'a Packed,
    panels: Range<usize>,
    columns: Range<usize>,
    out: Target<'a>,
    finish: Finish<'a>,
}

struct Run<'a> {
    pass: Pass<'a>,
    /// Where weights are laid out that are kept in another form.
    weights: &'a mut Aligned,
}

/// The largest [`Simd::ROWS`].
pub(super) const MOST_ROWS: usize = 12;

/// A few rows of one panel.
pub(super) type Tile<V> = [[V; 2]; MOST_ROWS];

impl Kernel for Run<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { pass, weights: scratch } = self;
        let (rows, depth) = (pass.rows.len(), pass.columns.len());
        if rows == 0 {
            return;
        }
        let Pass { x, stride, w, out, finish, .. } = pass;
        let place = Place { w, out, finish, goes_on: pass.columns.start > 0, is_last: pass.columns.end == w.depth };
        assert!(x.len() >= (rows - 1) * stride + depth, "{rows} rows with stride {stride} in {} values", x.len());
        let height = even_part(rows, S::ROWS);
        // Where weights serve one tile alone, they are laid out a few at a time, in the nearest cache.
        let step = if pass.w.is_laid_out_anew() && rows <= height { AT_ONCE } else { depth.max(1) };
        let mut tile = [[s.splat(0.0); 2]; MOST_ROWS];
        for panel in pass.panels.clone() {
            for from in (0..depth.max(1)).step_by(step) {
                let to = depth.min(from + step);
                let weights = pass.w.weights(s, panel, pass.columns.start + from..pass.columns.start + to, scratch);
                let next = pass.w.next(panel, pass.columns.start + from..pass.columns.start + to);
                for first in (0..rows).step_by(height) {
                    let ahead = Ahead::new(next, first / height, rows.div_ceil(height), to - from);
                    let count = height.min(rows - first);
                    let x = &x[first * stride + from..];
                    // SAFETY: `count` rows are inside `x` by the assertion above, pairs of vectors for the
                    // columns from `from` to `to` are the weights, and the result's rows are this thread's own.
                    unsafe {
                        match count {
                            1 => sum::<S, 1>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            2 => sum::<S, 2>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            3 => sum::<S, 3>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            4 => sum::<S, 4>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            5 => sum::<S, 5>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            6 => sum::<S, 6>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            7 => sum::<S, 7>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            8 => sum::<S, 8>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            9 => sum::<S, 9>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            10 => sum::<S, 10>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            11 => sum::<S, 11>(s, x, stride, weights, ahead, from > 0, &mut tile),
                            _ => sum::<S, 12>(s, x, stride, weights, ahead, from > 0, &mut tile),
                        }
                        if to < depth {
                            continue;
                        }
                        let row = pass.rows.start + first;
                        place.put(s, panel, row, &tile[..count]);
                    }
                }
            }
        }
    }
}

/// One row times some panels of weights in 16 bits. Each weight is needed once, so the time is that of reading them from memory: they are
/// read in their order, and widened on the way into the sums. The sums are those of [`Run`], to the bit.
struct OneRow<'a> {
    x: &'a [f32],
    row: usize,
    w: &'a Packed,
    halves: &'a Halves,
    panels: Range<usize>,
    out: Target<'a>,
    finish: Finish<'a>,
}

impl Kernel for OneRow<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, row, w, halves, panels, out, finish } = self;
        let place = Place { w, out, finish, goes_on: false, is_last: true };
        for panel in panels {
            let mut sums = [s.splat(0.0); 2];
            for columns in passes(w) {
                let goes_on = columns.start > 0;
                let part = halves.sums(s, (panel * w.depth + columns.start) * 2 * S::LANES, &x[columns]);
                sums = if goes_on { [s.add(part[0], sums[0]), s.add(part[1], sums[1])] } else { part };
            }
            // SAFETY: the row's columns of these panels are this thread's own.
            unsafe { place.put(s, panel, row, &[sums]) };
        }
    }
}

/// Where the weights are that will be needed after those of a panel. They come from far away, and each of the products of the
/// rows with the panel asks for as many of them as the others, so that the memory is never asked for more than it can give.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    place: *const u8,
    /// Bytes from one request to the next: less than a cache line where there are many rows.
    step: usize,
}

impl Ahead {
    /// What the tile of index `tile` of so many asks for of `next`, at each of `depth` inputs.
    fn new(next: &[f32], tile: usize, tiles: usize, depth: usize) -> Self {
        // Else the compiler divides in the innermost loop.
        let step = black_box(size_of_val(next).div_ceil((tiles * depth).max(1)));
        Self { place: next.as_ptr().cast::<u8>().wrapping_add(tile * depth * step), step }
    }

    #[inline(always)]
    fn go_on<S: Simd>(&mut self, s: S) {
        s.prefetch(self.place);
        self.place = self.place.wrapping_add(self.step);
    }
}

/// How many inputs the innermost loop takes at a time, so that where the rows are is worked out once for all of them.
const UNROLLED: usize = 4;

/// With more rows than this it takes one at a time: the sums would no longer stay in registers.
const MOST_UNROLLED_ROWS: usize = 9;

/// Adds the products of `R` rows of `x` with all of `weights`, which are pairs of vectors, to `sums`.
///
/// # Safety
/// `x` holds `R` rows, `stride` apart, of as many values as there are pairs.
#[inline(always)]
unsafe fn add_products<S: Simd, const R: usize>(
    s: S,
    mut x: *const f32,
    stride: usize,
    weights: &[f32],
    mut ahead: Ahead,
    sums: &mut [[S::V; 2]; R],
) {
    let (pair, count) = (2 * S::LANES, weights.len() / (2 * S::LANES));
    let blocks = if R <= MOST_UNROLLED_ROWS { count / UNROLLED } else { 0 };
    let mut weights = weights.as_ptr();
    // SAFETY: there are `count` pairs, and as many values of each row by the caller's promise.
    unsafe {
        for _ in 0..blocks {
            // As a loop, these would keep the sums in memory.
            add_products_of_one(s, x, stride, weights, &mut ahead, sums);
            add_products_of_one(s, x.add(1), stride, weights.add(pair), &mut ahead, sums);
            add_products_of_one(s, x.add(2), stride, weights.add(2 * pair), &mut ahead, sums);
            add_products_of_one(s, x.add(3), stride, weights.add(3 * pair), &mut ahead, sums);
            (x, weights) = (x.add(UNROLLED), weights.add(UNROLLED * pair));
        }
        for _ in blocks * UNROLLED..count {
            add_products_of_one(s, x, stride, weights, &mut ahead, sums);
            (x, weights) = (x.add(1), weights.add(pair));
        }
    }
}

/// The same for one input of each row.
///
/// # Safety
/// `x` holds `R` values, `stride` apart, and `weights` a pair of vectors.
#[inline(always)]
unsafe fn add_products_of_one<S: Simd, const R: usize>(
    s: S,
    x: *const f32,
    stride: usize,
    weights: *const f32,
    ahead: &mut Ahead,
    sums: &mut [[S::V; 2]; R],
) {
    ahead.go_on(s);
    // SAFETY: the caller's promise.
    let w = unsafe { [s.load(weights), s.load(weights.add(S::LANES))] };
    for (i, sums) in sums.iter_mut().enumerate() {
        // SAFETY: as above.
        let x = s.splat(unsafe { *x.add(i * stride) });
        *sums = [s.fma(x, w[0], sums[0]), s.fma(x, w[1], sums[1])];
    }
}

/// The sums of `R` rows of `x` with all of `weights`, which are pairs of vectors; `goes_on` from those that
/// the tile holds.
///
/// # Safety
/// `x` holds `R` rows, `stride` apart, of as many values as there are pairs.
#[inline(always)]
unsafe fn sum<S: Simd, const R: usize>(
    s: S,
    x: &[f32],
    stride: usize,
    weights: &[f32],
    ahead: Ahead,
    goes_on: bool,
    tile: &mut Tile<S::V>,
) {
    // Smaller sets never ask for so many rows; this keeps their code small.
    if R > S::ROWS {
        return;
    }
    let mut sums = [[s.splat(0.0); 2]; R];
    if goes_on {
        sums.copy_from_slice(&tile[..R]);
    }
    // SAFETY: the caller's promise.
    unsafe { add_products(s, x.as_ptr(), stride, weights, ahead, &mut sums) };
    // Without an address that is known elsewhere, the compiler would keep the sums themselves in the
    // tile, in memory, in the loop above.
    black_box(&mut *tile);
    for (tile, sums) in tile.iter_mut().zip(sums) {
        *tile = sums;
    }
}

/// Puts the product of `x` with all of `weights`, pairs of vectors, into `to`, two vectors for each row, whose rows are
/// `distance` apart; or adds it to what is there, where it `goes_on`. `next` are the weights that will be needed after these.
#[inline(always)]
pub(super) fn multiply_panel<S: Simd>(s: S, x: Matrix<'_>, [weights, next]: [&[f32]; 2], goes_on: bool, to: &mut [f32], distance: usize) {
    let Matrix { values: x, rows, width: depth, stride } = x;
    let pair = 2 * S::LANES;
    let fits = weights.len() == depth * pair && x.len() >= (rows - 1) * stride + depth && to.len() >= (rows - 1) * distance + pair;
    assert!(fits, "{rows} rows of {depth} inputs");
    let height = even_part(rows, S::ROWS);
    for first in (0..rows).step_by(height) {
        let count = height.min(rows - first);
        let ahead = Ahead::new(next, first / height, rows.div_ceil(height), depth);
        // SAFETY: `count` rows from `first` on are inside both by the assertion above.
        unsafe {
            let (x, to) = (x.as_ptr().add(first * stride), to.as_mut_ptr().add(first * distance));
            let strides = [stride, distance];
            match count {
                1 => put_sums::<S, 1>(s, x, strides, weights, ahead, goes_on, to),
                2 => put_sums::<S, 2>(s, x, strides, weights, ahead, goes_on, to),
                3 => put_sums::<S, 3>(s, x, strides, weights, ahead, goes_on, to),
                4 => put_sums::<S, 4>(s, x, strides, weights, ahead, goes_on, to),
                5 => put_sums::<S, 5>(s, x, strides, weights, ahead, goes_on, to),
                6 => put_sums::<S, 6>(s, x, strides, weights, ahead, goes_on, to),
                7 => put_sums::<S, 7>(s, x, strides, weights, ahead, goes_on, to),
                8 => put_sums::<S, 8>(s, x, strides, weights, ahead, goes_on, to),
                9 => put_sums::<S, 9>(s, x, strides, weights, ahead, goes_on, to),
                10 => put_sums::<S, 10>(s, x, strides, weights, ahead, goes_on, to),
                11 => put_sums::<S, 11>(s, x, strides, weights, ahead, goes_on, to),
                _ => put_sums::<S, 12>(s, x, strides, weights, ahead, goes_on, to),
            }
        }
    }
}

/// The same for `R` rows.
///
/// # Safety
/// `x` holds the rows, `stride` apart, of as many values as there are pairs, and there is room for their sums, `distance` apart.
#[inline(always)]
unsafe fn put_sums<S: Simd, const R: usize>(
    s: S,
    x: *const f32,
    [stride, distance]: [usize; 2],
    weights: &[f32],
    ahead: Ahead,
    goes_on: bool,
    to: *mut f32,
) {
    // Smaller sets never ask for so many rows; this keeps their code small.
    if R > S::ROWS {
        return;
    }
    let mut sums = [[s.splat(0.0); 2]; R];
    if goes_on {
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: what is there is as long as the product.
            *sums = unsafe { [s.load(to.add(i * distance)), s.load(to.add(i * distance + S::LANES))] };
        }
    }
    // SAFETY: the caller's promise.
    unsafe { add_products(s, x, stride, weights, ahead, &mut sums) };
    for (i, [first, second]) in sums.into_iter().enumerate() {
        // SAFETY: room for the product is the caller's promise.
        unsafe {
            s.store(to.add(i * distance), first);
            s.store(to.add(i * distance + S::LANES), second);
        }
    }
}

/// Where sums go, and what happens to them there.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub w: &'a Packed,
    pub out: Target<'a>,
    pub finish: Finish<'a>,
    /// Whether they are added to those of the inputs before.
    pub goes_on: bool,
    /// Whether there are no more inputs.
    pub is_last: bool,
}

impl Place<'_> {
    /// Puts the sums of `panel` for the rows from `row` on.
    ///
    /// # Safety
    /// No other thread touches these rows, nor the panel's columns of them.
    #[inline(always)]
    pub(super) unsafe fn put<S: Simd>(&self, s: S, panel: usize, row: usize, tile: &[[S::V; 2]]) {
        // SAFETY: the caller's promise.
        unsafe { if self.w.is_gated { self.store_gated(s, panel, row, tile) } else { self.store(s, panel, row, tile) } }
    }

    /// # Safety
    /// As for `put`.
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, s: S, panel: usize, row: usize, tile: &[[S::V; 2]]) {
        let bias = self.w.bias_of(panel);
        for side in 0..2 {
            let column = (2 * panel + side) * S::LANES;
            if column >= self.w.n {
                break;
            }
            let count = S::LANES.min(self.w.n - column);
            for (row, sums) in (row..).zip(tile) {
                // SAFETY: the values at the row and column are this thread's; a residual has the
                // result's layout; a panel has two vectors of biases.
                unsafe {
                    let to = self.out.at(row, column, count);
                    let mut y = sums[side];
                    if self.goes_on {
                        y = s.add(y, s.load_up_to(to, count));
                    }
                    if self.is_last {
                        y = s.add(y, s.load(bias.as_ptr().add(side * S::LANES)));
                        if let Some(residual) = self.finish.residual {
                            y = s.add(y, s.load_up_to(residual.as_ptr().add(row * self.out.stride + column), count));
                        }
                        y = activate(s, self.finish.activation, y);
                    }
                    s.store_up_to(to, count, y);
                }
            }
        }
    }

    /// # Safety
    /// As for `put`.
    #[inline(always)]
    unsafe fn store_gated<S: Simd>(&self, s: S, panel: usize, row: usize, tile: &[[S::V; 2]]) {
        let bias = self.w.bias_of(panel);
        let column = panel * S::LANES;
        let count = S::LANES.min(self.w.n - column);
        for (row, sums) in (row..).zip(tile) {
            // SAFETY: as in `store`.
            unsafe {
                let gate = s.add(sums[0], s.load(bias.as_ptr()));
                let up = s.add(sums[1], s.load(bias.as_ptr().add(S::LANES)));
                s.store_up_to(self.out.at(row, column, count), count, s.mul(activate(s, self.finish.activation, gate), up));
            }
        }
    }
}
