//! Convolutions of 3×3 by Winograd's F(4×4, 3×3): tiles of 4×4 outputs, each from 36 products in
//! place of 144 (Lavin and Gray 2015, arXiv 1509.09308).

use std::ops::Range;
use std::sync::OnceLock;

use super::conv::{Images, Window};
use super::gemm::{Finish, even_part, multiply_panel};
use super::math::activate;
use super::matrix::Matrix;
use super::memory::{Aligned, Target, with_scratch, with_shared};
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

/// From so many tiles on, the transformed weights are kept: then they are read for each piece of work, else once.
const MANY: usize = 4 * TILES;

/// Weights of a panel that are transformed at a time for each point, as many as stay in the cache until they are multiplied.
const AT_ONCE: usize = 2048;

/// Panels that one piece of work takes where there are few tiles: each time it goes through the inputs of all of them.
const MOST_PANELS: usize = 4;

/// From one point's `n` values to the next one's: a whole number of cache lines, but an odd one. Else the 36 values that a
/// transform reads or writes would share a few places in the nearest cache, which has 8 or 12 lines for each.
fn apart(n: usize) -> usize {
    (n.div_ceil(16) | 1) * 16
}

/// A 3×3 convolution with the weights `[out, 3, 3, channels]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Winograd<'a> {
    pub weights: &'a Packed,
    /// The weights transformed, for each of the 36 points, once there was an image of many tiles.
    pub points: &'a OnceLock<Vec<Packed>>,
    pub channels: usize,
}

impl<'a> Winograd<'a> {
    pub(super) fn fits(axes: [Window; 2]) -> bool {
        axes.iter().all(|axis| (axis.size, axis.stride, axis.dilation) == (3, 1, 1))
    }

    /// How many multiplications a weight takes part in, or what takes as long, for so many images of so many
    /// positions.
    pub(super) fn cost(count: usize, height: usize, width: usize) -> usize {
        /// What the transform of a weight takes.
        const TRANSFORM: usize = 200;
        let tiles = count * height.div_ceil(OUT) * width.div_ceil(OUT);
        tiles * POINTS + if tiles < MANY { TRANSFORM } else { 0 }
    }

    pub(super) fn run(self, x: Images<'_>, [pad_top, pad_left]: [usize; 2], out: Target<'_>, finish: Finish<'_>) {
        let (height, width) = (x.height + 2 * pad_top - 2, x.width + 2 * pad_left - 2);
        let (isa, channels, panels) = (self.weights.isa, self.channels, self.weights.panels());
        out.assert_holds(x.count * height * width, self.weights.n);
        let padding = vec![0.0; channels];
        let (down, across) = (height.div_ceil(OUT), width.div_ceil(OUT));
        let walk = Walk { x, pad_top, pad_left, height, width, down, across, padding: &padding };
        let tiles = x.count * down * across;
        if tiles == 0 {
            return;
        }
        if tiles >= MANY {
            let points = self.points();
            let parts = threads::balanced(tiles.div_ceil(TILES));
            threads::each(parts, |piece| {
                let Range { start: first, end } = threads::part(tiles, parts, piece);
                let count = end - first;
                with_scratch(|[inputs, sums]| {
                    let inputs = inputs.at_least(POINTS * apart(count * channels));
                    let to = Target::new(inputs, apart(count * channels));
                    for slot in 0..count {
                        isa.run(Enter { walk: &walk, tile: first + slot, slot, to });
                    }
                    let tiles = Tiles { w: self, walk: &walk, first, count, panels: 0..panels, inputs, out, finish };
                    isa.run(Whole { tiles, points, sums });
                });
            });
        } else {
            // With few tiles the weights are most of the traffic, and transformed they are four times as many: each thread
            // reads some of them once, and transforms them in its cache.
            with_shared(|inputs| {
                let inputs = inputs.at_least(POINTS * apart(tiles * channels));
                let to = Target::new(inputs, apart(tiles * channels));
                threads::each(tiles, |slot| isa.run(Enter { walk: &walk, tile: slot, slot, to }));
                let inputs = &*inputs;
                let wanted = threads::pieces(POINTS * tiles * channels * self.weights.n).min(2 * rayon::current_num_threads());
                let part = panels.div_ceil(wanted).min(MOST_PANELS);
                threads::each(panels.div_ceil(part), |piece| {
                    let panels = piece * part..panels.min((piece + 1) * part);
                    let tiles = Tiles { w: self, walk: &walk, first: 0, count: tiles, panels, inputs, out, finish };
                    with_scratch(|scratch| isa.run(Strip { tiles, scratch }));
                });
            });
        }
    }

    /// Made when they are first asked for. Not inside of `get_or_init`: while a thread waits for parts of this that others
    /// make, it may take on another inference, which would wait for this one below it. Two may make them; one is kept.
    fn points(self) -> &'a [Packed] {
        if self.points.get().is_none() {
            let Self { weights, channels, .. } = self;
            let fill = |panel: usize, points: &[Target<'_>]| {
                with_scratch(|[taps, _]| weights.isa.run(WeighPanel { weights, panel, channels, points, taps }));
            };
            let made = Packed::filled(weights.isa, POINTS, [weights.n, channels], fill);
            let _ = self.points.set(made);
        }
        self.points.get().map_or(&[], Vec::as_slice)
    }
}

/// The transform of a panel's weights.
struct WeighPanel<'a> {
    weights: &'a Packed,
    panel: usize,
    channels: usize,
    points: &'a [Target<'a>],
    taps: &'a mut Aligned,
}

impl Kernel for WeighPanel<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { weights, panel, channels, points, taps } = self;
        Weigh { taps: weights.weights(s, panel, 0..weights.depth, taps), channels, of: 0..channels, points }.run(s);
    }
}

/// The transform of a panel's weights of some channels, into each point's rows of them.
struct Weigh<'a> {
    /// `[3, 3, channels]`, two vectors each.
    taps: &'a [f32],
    channels: usize,
    of: Range<usize>,
    points: &'a [Target<'a>],
}

impl Kernel for Weigh<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { taps, channels, of, points } = self;
        let width = 2 * S::LANES;
        assert!(
            taps.len() == 9 * channels * width && of.end <= channels && points.len() == POINTS,
            "a panel of 3x3 weights of {channels} channels"
        );
        for channel in of.clone() {
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
                        unsafe { s.store(points[down * IN + across].at(channel - of.start, half, S::LANES), value) };
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
    /// The channels of a pixel there.
    padding: &'a [f32],
}

impl Walk<'_> {
    /// The image, and the first output row and column, of a tile.
    fn place(&self, tile: usize) -> [usize; 3] {
        [tile / (self.down * self.across), tile / self.across % self.down * OUT, tile % self.across * OUT]
    }
}

/// Some tiles, whose inputs are transformed, and the panels of outputs that are wanted of them.
struct Tiles<'a> {
    w: Winograd<'a>,
    walk: &'a Walk<'a>,
    first: usize,
    count: usize,
    panels: Range<usize>,
    /// Each point's rows.
    inputs: &'a [f32],
    out: Target<'a>,
    finish: Finish<'a>,
}

impl Tiles<'_> {
    /// Some channels of a point's rows.
    fn inputs(&self, point: usize, channels: Range<usize>) -> Matrix<'_> {
        let size = self.count * self.w.channels;
        Matrix::dense(&self.inputs[point * apart(size)..][..size], self.w.channels).columns(channels)
    }

    /// How many sums a panel has for each point.
    fn size<S: Simd>(&self) -> usize {
        self.count * 2 * S::LANES
    }

    /// From a point's sums to the next one's. They are one panel after the other, two vectors for each tile.
    fn distance<S: Simd>(&self) -> usize {
        apart(self.panels.len() * self.size::<S>())
    }

    /// The transform of the sums into outputs.
    #[inline(always)]
    fn leave<S: Simd>(&self, s: S, sums: &[f32]) {
        let Self { w, walk, first, count, ref panels, out, finish, .. } = *self;
        for slot in 0..count {
            for (i, panel) in panels.clone().enumerate() {
                for half in 0..2 {
                    let channel = (2 * panel + half) * S::LANES;
                    if channel < w.weights.n {
                        let sums = &sums[(2 * (i * count + slot) + half) * S::LANES..];
                        Leave { w, walk, tile: first + slot, channel, sums, distance: self.distance::<S>(), out, finish }.run(s);
                    }
                }
            }
        }
    }
}

/// The products and the transform of the sums, with weights that are kept.
struct Whole<'a> {
    tiles: Tiles<'a>,
    points: &'a [Packed],
    sums: &'a mut Aligned,
}

impl Kernel for Whole<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tiles, points, sums } = self;
        let (channels, size, distance) = (tiles.w.channels, tiles.size::<S>(), tiles.distance::<S>());
        let sums = sums.at_least(POINTS * distance);
        for (point, (weights, sums)) in points.iter().zip(sums.chunks_exact_mut(distance)).enumerate() {
            for (panel, sums) in tiles.panels.clone().zip(sums.chunks_exact_mut(size)) {
                let mut nothing = Aligned::default();
                let next = weights.next(panel, 0..channels);
                let weights = weights.weights(s, panel, 0..channels, &mut nothing);
                multiply_panel(s, tiles.inputs(point, 0..channels), [weights, next], false, sums, 2 * S::LANES);
            }
        }
        tiles.leave(s, sums);
    }
}

/// The same with weights that are transformed for it.
struct Strip<'a> {
    tiles: Tiles<'a>,
    scratch: &'a mut [Aligned; 2],
}

impl Kernel for Strip<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tiles, scratch: [sums, made] } = self;
        let (width, size, distance) = (2 * S::LANES, tiles.size::<S>(), tiles.distance::<S>());
        let Winograd { weights, channels, .. } = tiles.w;
        let sums = sums.at_least(POINTS * distance);
        let part = even_part(channels, AT_ONCE / width);
        let of_point = apart(part * width);
        let made = made.at_least(POINTS * of_point);
        let mut taps = Aligned::default();
        for from in (0..channels).step_by(part) {
            let of = from..channels.min(from + part);
            for (i, panel) in tiles.panels.clone().enumerate() {
                let target = Target::new(made, width);
                let points: [Target<'_>; POINTS] = std::array::from_fn(|point| target.part(point * of_point, width));
                let taps = weights.weights(s, panel, 0..weights.depth, &mut taps);
                Weigh { taps, channels, of: of.clone(), points: &points }.run(s);
                for (point, weights) in made.chunks_exact(of_point).enumerate() {
                    let weights = &weights[..of.len() * width];
                    let sums = &mut sums[point * distance + i * size..][..size];
                    multiply_panel(s, tiles.inputs(point, of.clone()), [weights, &[]], from > 0, sums, 2 * S::LANES);
                }
            }
        }
        tiles.leave(s, sums);
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
        // Where each input pixel is.
        let mut pixels = [walk.padding.as_ptr(); POINTS];
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let row = (top + i / IN).checked_sub(walk.pad_top).filter(|row| *row < x.height);
            let column = (left + i % IN).checked_sub(walk.pad_left).filter(|column| *column < x.width);
            if let (Some(row), Some(column)) = (row, column) {
                *pixel = x.values[((image * x.height + row) * x.width + column) * x.channels..][..x.channels].as_ptr();
            }
        }
        for channel in (0..x.channels).step_by(S::LANES) {
            let count = S::LANES.min(x.channels - channel);
            let mut half = [[s.splat(0.0); IN]; IN];
            for across in 0..IN {
                let mut line = [s.splat(0.0); IN];
                for (down, value) in line.iter_mut().enumerate() {
                    // SAFETY: `count` channels from there on are those of a pixel, or of the padding.
                    *value = unsafe { s.load_up_to(pixels[down * IN + across].add(channel), count) };
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

/// The transform of a vector of one tile's sums into outputs.
struct Leave<'a> {
    w: Winograd<'a>,
    walk: &'a Walk<'a>,
    tile: usize,
    channel: usize,
    /// The vector at the first point, and `distance` further on at the next.
    sums: &'a [f32],
    distance: usize,
    out: Target<'a>,
    finish: Finish<'a>,
}

impl Kernel for Leave<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { w, walk, tile, channel, sums, distance, out, finish } = self;
        let [image, top, left] = walk.place(tile);
        assert!(sums.len() >= (POINTS - 1) * distance + S::LANES, "sums {distance} apart in {} values", sums.len());
        let n_out = w.weights.n;
        let count = S::LANES.min(n_out - channel);
        let mut half = [[s.splat(0.0); IN]; OUT];
        for across in 0..IN {
            let mut line = [s.splat(0.0); IN];
            for (down, value) in line.iter_mut().enumerate() {
                // SAFETY: inside by the assertion above.
                *value = unsafe { s.load(sums.as_ptr().add((down * IN + across) * distance)) };
            }
            for (half, value) in half.iter_mut().zip(leave(s, line)) {
                half[across] = value;
            }
        }
        // SAFETY: the biases are whole vectors.
        let bias = unsafe { s.load(w.weights.bias()[channel..][..S::LANES].as_ptr()) };
        for (down, line) in half.into_iter().enumerate().take(walk.height - top) {
            for (across, value) in leave(s, line).into_iter().enumerate().take(walk.width - left) {
                let position = (image * walk.height + top + down) * walk.width + left + across;
                let mut value = s.add(value, bias);
                // SAFETY: this tile's own position of the answer; a residual has its layout.
                unsafe {
                    if let Some(residual) = finish.residual {
                        value = s.add(value, s.load_up_to(residual.as_ptr().add(position * n_out + channel), count));
                    }
                    s.store_up_to(out.at(position, channel, count), count, activate(s, finish.activation, value));
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
