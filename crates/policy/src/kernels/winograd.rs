//! Convolutions of 3×3 by Winograd's F(4×4, 3×3): tiles of 4×4 outputs, each from 36 products in
//! place of 144 (Lavin and Gray 2015, arXiv 1509.09308).

use super::conv::{Images, Window};
use super::gemm::{Finish, multiply};
use super::math::activate;
use super::matrix::Matrix;
use super::memory::{Aligned, Target, with_scratch};
use super::pack::Packed;
use super::simd::{Kernel, Simd};
use super::threads;

/// Outputs along a tile's side.
const OUT: usize = 4;
/// Inputs along a tile's side.
const IN: usize = 6;
/// Products a tile.
const POINTS: usize = IN * IN;

/// Tiles that one piece of work takes from start to end: enough for the products to be fast, few
/// enough for what lies between the steps to stay in the cache.
const TILES: usize = 24;

/// From one point's `n` values to the next one's: a whole number of cache lines, but an odd one. Else the 36 values that a
/// transform reads or writes would share a few places in the nearest cache, which has 8 or 12 lines for each.
fn apart(n: usize) -> usize {
    (n.div_ceil(16) | 1) * 16
}

/// Packed weights of a 3×3 convolution, transformed, for each of the 36 points.
#[derive(Debug)]
pub(super) struct Winograd {
    points: Vec<Packed>,
    bias: Aligned,
    channels: usize,
    n_out: usize,
}

impl Winograd {
    /// Outputs along a tile's side.
    pub(super) const OUT: usize = OUT;
    /// Products a tile.
    pub(super) const POINTS: usize = POINTS;

    pub(super) fn fits(axes: [Window; 2]) -> bool {
        axes.iter().all(|axis| (axis.size, axis.stride, axis.dilation) == (3, 1, 1))
    }

    /// From the weights `[out, 3, 3, channels]` with their bias.
    pub(super) fn new(weights: &Packed, channels: usize) -> Self {
        let (isa, n_out) = (weights.isa, weights.n);
        let mut bias = Aligned::zeros(n_out.next_multiple_of(isa.lanes()));
        bias.values_mut()[..n_out].copy_from_slice(&weights.bias()[..n_out]);
        let points = Packed::filled(isa, POINTS, [n_out, channels], |panel, points| isa.run(Weigh { weights, channels, panel, points }));
        Self { points, bias, channels, n_out }
    }

    pub(super) fn run(&self, x: Images<'_>, [pad_top, pad_left]: [usize; 2], out: Target<'_>, finish: Finish<'_>) {
        let (height, width) = (x.height + 2 * pad_top - 2, x.width + 2 * pad_left - 2);
        out.assert_holds(x.count * height * width, self.n_out);
        let walk = Walk { x, pad_top, pad_left, height, width, down: height.div_ceil(OUT), across: width.div_ceil(OUT) };
        let tiles = x.count * walk.down * walk.across;
        let isa = self.points[0].isa;
        if tiles >= 4 * TILES {
            let parts = tiles.div_ceil(TILES);
            threads::each(parts, |part| {
                let first = part * TILES;
                let count = TILES.min(tiles - first);
                with_scratch(|[inputs, sums]| {
                    let inputs = inputs.at_least(POINTS * apart(count * self.channels));
                    let sums = sums.at_least(POINTS * apart(count * self.n_out));
                    isa.run(Whole { w: self, walk: &walk, first, count, inputs, sums, out, finish });
                });
            });
        } else {
            // With few tiles the weights are most of the traffic: each thread reads some of them once.
            let [of_inputs, of_sums] = [self.channels, self.n_out].map(|channels| apart(tiles * channels));
            let (mut inputs, mut sums) = (Aligned::zeros(POINTS * of_inputs), Aligned::zeros(POINTS * of_sums));
            let target = Target::new(inputs.values_mut(), of_inputs);
            threads::each(tiles, |tile| isa.run(Enter { walk: &walk, tile, slot: tile, to: target }));
            let target = Target::new(sums.values_mut(), self.n_out);
            threads::each(POINTS, |point| {
                let x = Matrix::dense(&inputs.values()[point * of_inputs..][..tiles * self.channels], self.channels);
                multiply(x, &self.points[point], target.part(point * of_sums, self.n_out));
            });
            let sums = sums.values();
            threads::each(tiles, |tile| isa.run(Leave { w: self, walk: &walk, tile, slot: tile, slots: tiles, sums, out, finish }));
        }
    }
}

/// The transform of a panel's weights, into the same panel of each point.
struct Weigh<'a> {
    weights: &'a Packed,
    channels: usize,
    panel: usize,
    points: &'a [Target<'a>],
}

impl Kernel for Weigh<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, channels, panel, points } = self;
        let mut scratch = Aligned::default();
        let taps = weights.weights(s, panel, 0..weights.depth, &mut scratch);
        let width = 2 * S::LANES;
        assert_eq!(taps.len(), 9 * channels * width, "a panel of 3x3 weights of {channels} channels");
        for channel in 0..channels {
            for half in [0, S::LANES] {
                let mut rows = [[s.splat(0.0); IN]; 3];
                for (down, row) in rows.iter_mut().enumerate() {
                    // SAFETY: inside by the assertion above.
                    let tap =
                        |across: usize| unsafe { s.load(taps.as_ptr().add(((down * 3 + across) * channels + channel) * width + half)) };
                    *row = weigh(s, [tap(0), tap(1), tap(2)]);
                }
                for across in 0..IN {
                    for (down, value) in weigh(s, [rows[0][across], rows[1][across], rows[2][across]]).into_iter().enumerate() {
                        // SAFETY: this panel's own place in the point.
                        unsafe { s.store(points[down * IN + across].at(channel, half, S::LANES), value) };
                    }
                }
            }
        }
    }
}

/// The tiles of some images.
struct Walk<'a> {
    x: Images<'a>,
    pad_top: usize,
    pad_left: usize,
    /// Of the answer.
    height: usize,
    width: usize,
    /// Tiles an image.
    down: usize,
    across: usize,
}

impl Walk<'_> {
    /// The image, and the first output row and column, of a tile.
    fn place(&self, tile: usize) -> [usize; 3] {
        [tile / (self.down * self.across), tile / self.across % self.down * OUT, tile % self.across * OUT]
    }
}

/// All three steps for some tiles.
struct Whole<'a> {
    w: &'a Winograd,
    walk: &'a Walk<'a>,
    first: usize,
    count: usize,
    inputs: &'a mut [f32],
    sums: &'a mut [f32],
    out: Target<'a>,
    finish: Finish<'a>,
}

impl Kernel for Whole<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { w, walk, first, count, inputs, sums, out, finish } = self;
        let [of_inputs, of_sums] = [w.channels, w.n_out].map(|channels| apart(count * channels));
        let target = Target::new(inputs, of_inputs);
        for slot in 0..count {
            Enter { walk, tile: first + slot, slot, to: target }.run(s);
        }
        let target = Target::new(sums, w.n_out);
        for (point, weights) in w.points.iter().enumerate() {
            let x = Matrix::dense(&inputs[point * of_inputs..][..count * w.channels], w.channels);
            multiply(x, weights, target.part(point * of_sums, w.n_out));
        }
        for slot in 0..count {
            Leave { w, walk, tile: first + slot, slot, slots: count, sums, out, finish }.run(s);
        }
    }
}

/// The transform of one tile's inputs, into row `slot` of each point's rows.
struct Enter<'a> {
    walk: &'a Walk<'a>,
    tile: usize,
    slot: usize,
    /// All rows of a point are one row here.
    to: Target<'a>,
}

impl Kernel for Enter<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { walk, tile, slot, to } = self;
        let x = walk.x;
        let [image, top, left] = walk.place(tile);
        // Where each input pixel is; `None` in the padding.
        let mut pixels = [None; POINTS];
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let row = (top + i / IN).checked_sub(walk.pad_top).filter(|row| *row < x.height);
            let column = (left + i % IN).checked_sub(walk.pad_left).filter(|column| *column < x.width);
            if let (Some(row), Some(column)) = (row, column) {
                *pixel = Some(((image * x.height + row) * x.width + column) * x.channels);
            }
        }
        for channel in (0..x.channels).step_by(S::LANES) {
            let count = S::LANES.min(x.channels - channel);
            let mut half = [[s.splat(0.0); IN]; IN];
            for across in 0..IN {
                let mut line = [s.splat(0.0); IN];
                for (down, value) in line.iter_mut().enumerate() {
                    if let Some(pixel) = pixels[down * IN + across] {
                        // SAFETY: the channels of a pixel inside the images, whose size was checked.
                        *value = unsafe { s.load_up_to(x.values.as_ptr().add(pixel + channel), count) };
                    }
                }
                for (half, value) in half.iter_mut().zip(enter(s, line)) {
                    half[across] = value;
                }
            }
            for (down, line) in half.into_iter().enumerate() {
                for (across, value) in enter(s, line).into_iter().enumerate() {
                    // SAFETY: this tile's own row of the point.
                    unsafe { s.store_up_to(to.at(down * IN + across, slot * x.channels + channel, count), count, value) };
                }
            }
        }
    }
}

/// The transform of one tile's sums into outputs.
struct Leave<'a> {
    w: &'a Winograd,
    walk: &'a Walk<'a>,
    tile: usize,
    slot: usize,
    slots: usize,
    sums: &'a [f32],
    out: Target<'a>,
    finish: Finish<'a>,
}

impl Kernel for Leave<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { w, walk, tile, slot, slots, sums, out, finish } = self;
        let [image, top, left] = walk.place(tile);
        let distance = apart(slots * w.n_out);
        assert!(sums.len() >= POINTS * distance, "sums of {slots} tiles");
        for channel in (0..w.n_out).step_by(S::LANES) {
            let count = S::LANES.min(w.n_out - channel);
            let mut half = [[s.splat(0.0); IN]; OUT];
            for across in 0..IN {
                let mut line = [s.splat(0.0); IN];
                for (down, value) in line.iter_mut().enumerate() {
                    let at = (down * IN + across) * distance + slot * w.n_out + channel;
                    // SAFETY: inside by the assertion above.
                    *value = unsafe { s.load_up_to(sums.as_ptr().add(at), count) };
                }
                for (half, value) in half.iter_mut().zip(leave(s, line)) {
                    half[across] = value;
                }
            }
            // SAFETY: the biases are a whole number of vectors.
            let bias = unsafe { s.load(w.bias.values().as_ptr().add(channel)) };
            for (down, line) in half.into_iter().enumerate().take(walk.height - top) {
                for (across, value) in leave(s, line).into_iter().enumerate().take(walk.width - left) {
                    let position = (image * walk.height + top + down) * walk.width + left + across;
                    let mut value = s.add(value, bias);
                    // SAFETY: this tile's own position of the answer; a residual has its layout.
                    unsafe {
                        if let Some(residual) = finish.residual {
                            value = s.add(value, s.load_up_to(residual.as_ptr().add(position * w.n_out + channel), count));
                        }
                        s.store_up_to(out.at(position, channel, count), count, activate(s, finish.activation, value));
                    }
                }
            }
        }
    }
}

// The points at which polynomials are multiplied: 0, ±NEAR, ±FAR and infinity. Being each other's
// inverses, they keep all factors near 1, and lose a quarter of what the whole numbers 0, ±1, ±2 do.
const NEAR: f32 = std::f32::consts::FRAC_1_SQRT_2;
const FAR: f32 = std::f32::consts::SQRT_2;

/// `G g` for three values.
#[inline(always)]
fn weigh<S: Simd>(s: S, g: [S::V; 3]) -> [S::V; IN] {
    let even = [s.fma(s.splat(0.5), g[2], g[0]), s.fma(s.splat(2.0), g[2], g[0])];
    let odd = [s.mul(s.splat(NEAR), g[1]), s.mul(s.splat(FAR), g[1])];
    let (near, far) = (s.splat(-2.0 / 3.0), s.splat(1.0 / 6.0));
    [
        g[0],
        s.mul(near, s.add(even[0], odd[0])),
        s.mul(near, s.sub(even[0], odd[0])),
        s.mul(far, s.add(even[1], odd[1])),
        s.mul(far, s.sub(even[1], odd[1])),
        g[2],
    ]
}

/// `Bᵀ d` for six values.
#[inline(always)]
fn enter<S: Simd>(s: S, d: [S::V; IN]) -> [S::V; IN] {
    let (half, two, both) = (s.splat(-0.5), s.splat(-2.0), s.splat(-2.5));
    let even = [s.fma(two, d[2], d[4]), s.fma(half, d[2], d[4])];
    let odd = [s.mul(s.splat(NEAR), s.fma(two, d[1], d[3])), s.mul(s.splat(FAR), s.fma(half, d[1], d[3]))];
    [
        s.fma(both, d[2], s.add(d[0], d[4])),
        s.add(even[0], odd[0]),
        s.sub(even[0], odd[0]),
        s.add(even[1], odd[1]),
        s.sub(even[1], odd[1]),
        s.fma(both, d[3], s.add(d[1], d[5])),
    ]
}

/// `Aᵀ m` for six values.
#[inline(always)]
fn leave<S: Simd>(s: S, m: [S::V; IN]) -> [S::V; OUT] {
    let even = [s.add(m[1], m[2]), s.add(m[3], m[4])];
    let odd = [s.mul(s.splat(NEAR), s.sub(m[1], m[2])), s.mul(s.splat(FAR), s.sub(m[3], m[4]))];
    [
        s.add(m[0], s.add(even[0], even[1])),
        s.add(odd[0], odd[1]),
        s.fma(s.splat(0.5), even[0], s.mul(s.splat(2.0), even[1])),
        s.fma(s.splat(0.5), odd[0], s.fma(s.splat(2.0), odd[1], m[5])),
    ]
}
