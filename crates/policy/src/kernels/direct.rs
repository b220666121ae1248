//! Convolutions without patches: the pixels under a window's line are neighbours in the image, and so are those of the
//! next position, `stride` pixels on. Some lines with their padding are copied to the cache, and multiplied from there.

use std::hint::black_box;
use std::ops::Range;

use super::conv::{Images, Window};
use super::gemm::{Finish, MOST_ROWS, Place, Tile, even_part};
use super::memory::{Aligned, Target, with_scratch};
use super::pack::Packed;
use super::rows::pool_lines;
use super::simd::{Kernel, Simd};
use super::threads;

/// How many inputs are summed in registers before the sums go to memory.
const MOST_DEPTH: usize = 576;

/// How many values of the images one piece of work copies at a time, if that is more than a line.
const MOST_VALUES: usize = 1 << 17;

/// How many values there are between a convolution and the pooling that follows, if that is more than a line.
const MOST_BETWEEN: usize = 1 << 18;

/// So many multiplications make it worth copying a value.
const COPIED: usize = 512;

/// Positions that make it worth reading all weights.
const LEAST_POSITIONS: usize = 64;

/// A convolution with the weights `[out, size, size, channels]`.
#[derive(Clone, Copy)]
pub(super) struct Direct<'a> {
    pub weights: &'a Packed,
    /// Down and across.
    pub axes: [Window; 2],
    pub x: Images<'a>,
    /// Of the answer.
    pub height: usize,
    pub width: usize,
}

impl Direct<'_> {
    /// Whether the pixels under a line of the window are neighbours.
    pub(super) fn fits([_, across]: [Window; 2]) -> bool {
        across.dilation == 1 || across.size == 1
    }

    /// Lines of an image under `lines` of the answer, those of the padding included.
    fn under(&self, lines: usize) -> usize {
        let [down, _] = self.axes;
        lines.saturating_sub(1) * down.stride + (down.size - 1) * down.dilation + 1
    }

    /// Values of a padded line of an image.
    fn line(&self) -> usize {
        (self.x.width + 2 * self.axes[1].padding) * self.x.channels
    }

    pub(super) fn run(self, out: Target<'_>, finish: Finish<'_>) {
        let (n, panels, positions) = (self.weights.n, self.weights.panels(), self.height * self.width);
        out.assert_holds(self.x.count * positions, n);
        if self.x.count * positions == 0 {
            return;
        }
        let [down, _] = self.axes;
        let most = (MOST_VALUES / (self.line() * down.stride)).max(LEAST_POSITIONS.div_ceil(self.width));
        let wanted = threads::pieces(positions * n * self.weights.depth);
        let least = LEAST_POSITIONS.div_ceil(self.width);
        let lines = even_part(self.height, most.min(self.height.div_ceil(wanted).max(least)));
        let per_image = threads::balanced(self.height.div_ceil(lines)).min(self.height);
        let bands = self.x.count * per_image;
        let worth = lines * self.width * self.weights.depth * n / (self.under(lines) * self.line() * COPIED);
        let parts = wanted.div_ceil(bands).min(worth.max(1)).max(rayon::current_num_threads().div_ceil(bands)).clamp(1, panels);
        let part = panels.div_ceil(parts);
        let parts = panels.div_ceil(part);
        threads::each(bands * parts, |piece| {
            let (band, first) = (piece / parts, piece % parts * part);
            let (image, lines) = (band / per_image, threads::part(self.height, per_image, band % per_image));
            let panels = first..panels.min(first + part);
            let position = (image * self.height + lines.start) * self.width;
            let residual = finish.residual.map(|residual| &residual[position * n..]);
            let out = out.part(position * n, n);
            with_scratch(|[rows, weights]| {
                self.weights.isa.run(Band {
                    conv: self,
                    image,
                    lines,
                    panels,
                    out,
                    finish: Finish { residual, ..finish },
                    rows,
                    scratch: weights,
                });
            });
        });
    }

    /// The largest values under `pool` of the answer, `[n, h', w', out]`.
    pub(super) fn run_pooled(self, out: Target<'_>, finish: Finish<'_>, pool: [Window; 2]) {
        let n = self.weights.n;
        let [height, width] = [pool[0].count(self.height), pool[1].count(self.width)];
        out.assert_holds(self.x.count * height * width, n);
        // Lines that two pieces need are computed twice.
        let lines = even_part(height, (MOST_BETWEEN / (self.width * n * pool[0].stride)).max(1));
        let bands = height.div_ceil(lines);
        threads::each(self.x.count * bands, |piece| {
            let (image, first) = (piece / bands, piece % bands * lines);
            let lines = first..height.min(first + lines);
            let needed = pool[0].inside(lines.start, self.height).start..pool[0].inside(lines.end - 1, self.height).end;
            with_scratch(|[rows, between]| {
                let between = between.at_least(needed.len() * self.width * n);
                let to = Target::new(between, n);
                let panels = 0..self.weights.panels();
                self.weights.isa.run(Band {
                    conv: self,
                    image,
                    lines: needed.clone(),
                    panels,
                    out: to,
                    finish,
                    rows,
                    scratch: &mut Aligned::default(),
                });
                let images = Images { values: between, count: 1, height: self.height, width: self.width, channels: n };
                pool_lines(self.weights.isa, images, needed.start, pool, lines, out.part(image * height * width * n, n));
            });
        });
    }
}

/// Some lines of the answer, for some panels.
struct Band<'a> {
    conv: Direct<'a>,
    image: usize,
    lines: Range<usize>,
    panels: Range<usize>,
    /// From the first of the lines on, as the residual is.
    out: Target<'a>,
    finish: Finish<'a>,
    /// For the lines of the image.
    rows: &'a mut Aligned,
    /// For weights that are kept in another form.
    scratch: &'a mut Aligned,
}

impl Kernel for Band<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { conv, image, lines, panels, out, finish, rows, scratch } = self;
        let [down, across] = conv.axes;
        let (channels, line, depth) = (conv.x.channels, conv.line(), conv.weights.depth);
        let rows = rows.at_least(conv.under(lines.len()) * line);
        copy_lines(&conv, image, lines.start * down.stride, rows, line);
        let (segment, step) = (across.size * channels, across.stride * channels);
        assert!(depth == down.size * segment && rows.len() >= conv.under(lines.len()) * line, "inputs of {depth}");
        let part = even_part(depth, MOST_DEPTH);
        let group = even_part(conv.width, S::ROWS);
        let mut tile = [[s.splat(0.0); 2]; MOST_ROWS];
        for from in (0..depth).step_by(part) {
            let columns = from..depth.min(from + part);
            let runs = runs(columns.clone(), segment, down.dilation * line);
            let place = Place { w: conv.weights, out, finish, goes_on: from > 0, is_last: columns.end == depth };
            for panel in panels.clone() {
                let weights = conv.weights.weights(s, panel, columns.clone(), scratch);
                for at in 0..lines.len() {
                    for position in (0..conv.width).step_by(group) {
                        let count = group.min(conv.width - position);
                        let x = &rows[at * down.stride * line + position * step..];
                        let sums = Sums { x, step, runs: &runs, weights };
                        // SAFETY: the last value under the window at the last position is the last of its line, whose end is
                        // inside of `rows` by the assertion above; the result's rows are this thread's own.
                        unsafe {
                            match count {
                                1 => sums.put::<S, 1>(s, &mut tile),
                                2 => sums.put::<S, 2>(s, &mut tile),
                                3 => sums.put::<S, 3>(s, &mut tile),
                                4 => sums.put::<S, 4>(s, &mut tile),
                                5 => sums.put::<S, 5>(s, &mut tile),
                                6 => sums.put::<S, 6>(s, &mut tile),
                                7 => sums.put::<S, 7>(s, &mut tile),
                                8 => sums.put::<S, 8>(s, &mut tile),
                                9 => sums.put::<S, 9>(s, &mut tile),
                                10 => sums.put::<S, 10>(s, &mut tile),
                                11 => sums.put::<S, 11>(s, &mut tile),
                                _ => sums.put::<S, 12>(s, &mut tile),
                            }
                            place.put(s, panel, at * conv.width + position, &tile[..count]);
                        }
                    }
                }
            }
        }
    }
}

/// Copies the lines of an image from `first` on, counted with its padding, to rows of `line` values.
fn copy_lines(conv: &Direct<'_>, image: usize, first: usize, to: &mut [f32], line: usize) {
    let [down, across] = conv.axes;
    let Images { values, height, width, channels, .. } = conv.x;
    let (margin, size) = (across.padding * channels, width * channels);
    for (row, to) in (first..).zip(to.chunks_exact_mut(line)) {
        match row.checked_sub(down.padding).filter(|row| *row < height) {
            Some(row) => {
                to[..margin].fill(0.0);
                to[margin..margin + size].copy_from_slice(&values[(image * height + row) * size..][..size]);
                to[margin + size..].fill(0.0);
            }
            None => to.fill(0.0),
        }
    }
}

/// Inputs that are neighbours in an image.
struct Run {
    /// After the first one under the window.
    offset: usize,
    count: usize,
}

/// Those of some columns, where each line under the window has `segment` of them and is `distance` after the one before.
fn runs(columns: Range<usize>, segment: usize, distance: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut column = columns.start;
    while column < columns.end {
        let count = (segment - column % segment).min(columns.end - column);
        runs.push(Run { offset: column / segment * distance + column % segment, count });
        column += count;
    }
    runs
}

/// What some positions of a line are summed from.
struct Sums<'a> {
    /// From the first value under the window at the first position on.
    x: &'a [f32],
    /// From one position to the next.
    step: usize,
    runs: &'a [Run],
    /// Pairs of vectors for the inputs of all runs.
    weights: &'a [f32],
}

impl Sums<'_> {
    /// The sums of `R` positions.
    ///
    /// # Safety
    /// `x` holds the runs at each of them.
    #[inline(always)]
    unsafe fn put<S: Simd, const R: usize>(&self, s: S, tile: &mut Tile<S::V>) {
        // Smaller sets never ask for so many rows; this keeps their code small.
        if R > S::ROWS {
            return;
        }
        let mut sums = [[s.splat(0.0); 2]; R];
        let mut rest = self.weights;
        for run in self.runs {
            let weights;
            (weights, rest) = rest.split_at(run.count * 2 * S::LANES);
            let mut x = self.x[run.offset..].as_ptr();
            for weights in weights.chunks_exact(2 * S::LANES) {
                // SAFETY: a pair is two vectors; `x` holds the run at each position by the caller's promise.
                unsafe {
                    let w = [s.load(weights.as_ptr()), s.load(weights.as_ptr().add(S::LANES))];
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let x = s.splat(*x.add(i * self.step));
                        *sums = [s.fma(x, w[0], sums[0]), s.fma(x, w[1], sums[1])];
                    }
                    x = x.add(1);
                }
            }
        }
        // As in a product: else the sums would be kept in the tile.
        black_box(&mut *tile);
        for (tile, sums) in tile.iter_mut().zip(sums) {
            *tile = sums;
        }
    }
}
