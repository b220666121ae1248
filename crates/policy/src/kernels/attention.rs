//! Scaled dot-product attention, a block of queries of one head at a time.

use rayon::prelude::*;

use super::gemm::{even_part, multiply, multiply_panel};
use super::math::weight;
use super::matrix::Matrix;
use super::memory::{Aligned, Target, with_scratch, written};
use super::pack::Packed;
use super::simd::{Isa, Kernel, Simd};
use super::threads;

/// How many logits one piece of work holds at a time.
const MOST_LOGITS: usize = 1 << 16;

/// What laying out a value costs, in multiplications of a matrix product.
const COST: usize = 16;

/// How many queries one piece of work takes at a time.
const MOST_QUERIES: usize = 96;

/// The keys and values that queries look at, in the order in which they are read.
#[derive(Debug)]
pub(crate) struct KeyValues {
    isa: Isa,
    /// Of each head, its keys `[m, d]` and its values `[d, m]`.
    heads: Vec<[Packed; 2]>,
    rows: usize,
}

impl KeyValues {
    /// From `key` and `value`, `[m, heads d]`, and with room for `more` rows after them.
    pub(crate) fn new(isa: Isa, [key, value]: [Matrix<'_>; 2], heads: usize, more: usize) -> Self {
        let (rows, dim) = (key.rows + more, key.width / heads);
        assert_heads([key, value], heads);
        let head = |head: usize| {
            let mut both = [Packed::empty(isa, [rows, dim]), Packed::empty(isa, [dim, rows])];
            set(&mut both, 0, [key, value].map(|rows| rows.columns(head * dim..(head + 1) * dim)));
            both
        };
        let heads = if is_shared(key) { (0..heads).into_par_iter().map(head).collect() } else { (0..heads).map(head).collect() };
        Self { isa, heads, rows }
    }

    /// Makes `key` and `value` the last rows.
    pub(crate) fn set_last(&mut self, [key, value]: [Matrix<'_>; 2]) {
        assert!(key.rows <= self.rows, "{} rows among {}", key.rows, self.rows);
        assert_heads([key, value], self.heads.len());
        let (first, dim) = (self.rows - key.rows, key.width / self.heads.len());
        let set = |(head, both): (usize, &mut [Packed; 2])| {
            set(both, first, [key, value].map(|rows| rows.columns(head * dim..(head + 1) * dim)));
        };
        if is_shared(key) {
            self.heads.par_iter_mut().enumerate().for_each(set);
        } else {
            self.heads.iter_mut().enumerate().for_each(set);
        }
    }

    /// Softmax of `scale q kᵀ + mask`, times `v`, for each head.
    ///
    /// `query` is `[n, heads d]`, of which each head of the keys serves as many neighbouring ones; `mask`
    /// is `[n, m]`. The answer is `[n, heads d]`, to 2e-6 of the largest value.
    pub(crate) fn attend(&self, query: Matrix<'_>, heads: usize, mask: Option<&[f32]>, scale: f32) -> Vec<f32> {
        let (n, m, dim, key_heads) = (query.rows, self.rows, query.width / heads, self.heads.len());
        assert!(m > 0 && query.width == heads * dim, "attention of {n} queries over {m} keys");
        assert!(heads.is_multiple_of(key_heads) && self.heads.iter().all(|[key, _]| key.depth == dim), "{heads} heads over {key_heads}");
        assert!(mask.is_none_or(|mask| mask.len() == n * m), "a mask of {n}x{m}");
        let part = even_part(n, (MOST_LOGITS / m).clamp(12, MOST_QUERIES));
        let parts = n.div_ceil(part);
        let work = |out: Target<'_>| {
            threads::each_worth(heads * parts, 2 * n * m * dim * heads, |piece| {
                let (head, first) = (piece / parts, piece % parts * part);
                let count = part.min(n - first);
                let query = query.columns(head * dim..(head + 1) * dim).rows(first..first + count);
                let [key, value] = &self.heads[head * key_heads / heads];
                let mask = mask.map(|mask| &mask[first * m..(first + count) * m]);
                let out = out.part(first * heads * dim + head * dim, heads * dim);
                with_scratch(|[logits, _]| self.isa.run(Block { query, key, value, mask, scale, out, logits }));
            });
        };
        // SAFETY: the blocks together write each row of each head.
        unsafe { written(n * heads * dim, heads * dim, work) }
    }
}

fn assert_heads([key, value]: [Matrix<'_>; 2], heads: usize) {
    let fits = value.rows == key.rows && key.width.is_multiple_of(heads) && value.width == key.width;
    assert!(fits, "keys and values of {heads} heads");
}

/// Whether keys and values of that size are worth laying out on several threads.
fn is_shared(key: Matrix<'_>) -> bool {
    threads::pieces(2 * key.rows * key.width * COST) > 1
}

/// Puts `key` and `value` of one head from row `first` on.
fn set([keys, values]: &mut [Packed; 2], first: usize, [key, value]: [Matrix<'_>; 2]) {
    keys.set_outputs(first, key);
    values.set_inputs(first, value);
}

/// Some queries of one head.
struct Block<'a> {
    query: Matrix<'a>,
    key: &'a Packed,
    value: &'a Packed,
    mask: Option<&'a [f32]>,
    scale: f32,
    out: Target<'a>,
    logits: &'a mut Aligned,
}

impl Kernel for Block<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { query, key, value, mask, scale, out, logits } = self;
        let (n, m, dim) = (query.rows, key.n, value.n);
        // An odd number of cache lines, else the rows share a few places in the cache.
        let stride = (m.next_multiple_of(key.width()).div_ceil(16) | 1) * 16;
        let logits = logits.at_least(n * stride);
        let mut nothing = Aligned::default();
        for panel in 0..key.panels() {
            let keys = key.weights(s, panel, 0..dim, &mut nothing);
            multiply_panel(s, query, [keys, &[]], false, &mut logits[panel * key.width()..], stride);
        }
        let mut sums = [0.0; MOST_QUERIES];
        for (row, logits) in logits.chunks_exact_mut(stride).enumerate() {
            sums[row] = weigh(s, logits, m, mask.map(|mask| &mask[row * m..][..m]), scale);
        }
        multiply(Matrix { values: logits, rows: n, width: m, stride }, value, out);
        for (row, sum) in sums.iter().enumerate().take(n) {
            let factor = s.splat(1.0 / sum);
            for column in (0..dim).step_by(S::LANES) {
                let count = S::LANES.min(dim - column);
                // SAFETY: this block's own values, just written.
                unsafe {
                    let at = out.at(row, column, count);
                    s.store_up_to(at, count, s.mul(s.load_up_to(at, count), factor));
                }
            }
        }
    }
}

/// Makes `e^(scale x + mask - largest)` of the first `m` of a row of logits, and answers their sum.
/// The row is longer by what makes it whole vectors, which become next to nothing.
#[inline(always)]
fn weigh<S: Simd>(s: S, logits: &mut [f32], m: usize, mask: Option<&[f32]>, scale: f32) -> f32 {
    let whole = m.next_multiple_of(S::LANES);
    let logits = &mut logits[..whole];
    // What turns the logits into exponents of 2. Those that were masked are scaled already: their product with more than
    // that would be infinite.
    let factor = if let Some(mask) = mask {
        for at in (0..whole).step_by(S::LANES) {
            // SAFETY: a vector from `at` on is inside, and so are the first of its lanes in the mask.
            unsafe {
                let place = logits.as_mut_ptr().add(at);
                let mask = s.load_up_to(mask.as_ptr().add(at), S::LANES.min(m - at));
                s.store(place, s.add(s.mul(s.load(place), s.splat(scale)), mask));
            }
        }
        std::f32::consts::LOG2_E
    } else {
        scale * std::f32::consts::LOG2_E
    };
    logits[m..].fill(f32::NEG_INFINITY);
    let mut largest = s.splat(f32::NEG_INFINITY);
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: a vector from `at` on is inside.
        largest = s.max(unsafe { s.load(logits.as_ptr().add(at)) }, largest);
    }
    let largest = s.splat(s.largest(largest));
    let mut sum = s.splat(0.0);
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: a vector from `at` on is inside.
        unsafe {
            let place = logits.as_mut_ptr().add(at);
            let x = weight(s, s.mul(s.sub(s.load(place), largest), s.splat(factor)));
            s.store(place, x);
            sum = s.add(sum, x);
        }
    }
    s.sum(sum)
}
