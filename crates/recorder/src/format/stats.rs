//! Statistics as LeRobot 0.6.1 computes them (`src/lerobot/datasets/compute_stats.py`), so that a
//! dataset written here and one written there normalise alike.
//!
//! - Vectors: sums run in f32, row after row, because numpy's do; quantiles come from a histogram of
//!   5000 bins between the least and the greatest value.
//! - Images: a number of frames that grows with the episode is sampled (all of them up to 100), each
//!   thinned by a whole stride when a side has 300 pixels or more. What counts is the RGB image
//!   before it is encoded. An 8-bit image's histogram holds all there is to know, so sums are exact
//!   here, where LeRobot's f32 sums are off by up to 1e-3.
//! - Episodes merge pair by pair: means and variances exactly, quantiles as weighted averages.

use serde_json::{Map, Value, json};

const BINS: usize = 5000;
pub(crate) const QUANTILES: [(&str, f64); 5] = [("q01", 0.01), ("q10", 0.10), ("q50", 0.50), ("q90", 0.90), ("q99", 0.99)];
/// Keys of a feature's statistics in the order LeRobot writes them; `count` is an integer.
pub(crate) const KEYS: [&str; 10] = ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"];

/// Statistics of one feature, a value a dimension (a colour channel for images).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FeatureStats {
    /// Images are written as `[channel][1][1]`, everything else as `[dimension]`.
    pub(crate) is_image: bool,
    /// Rows, or sampled frames.
    pub(crate) count: u64,
    pub(crate) min: Vec<f64>,
    pub(crate) max: Vec<f64>,
    pub(crate) mean: Vec<f64>,
    pub(crate) std: Vec<f64>,
    /// Empty where they are not known.
    pub(crate) quantiles: [Vec<f64>; 5],
    /// The values are f32 widened, and are squared as such when merged.
    single: bool,
}

impl FeatureStats {
    /// Of `rows`, `[n, width]` row-major with `n >= 1`, which count as `count`.
    pub(crate) fn of_f32(rows: &[f32], width: usize, count: u64) -> Self {
        let n = rows.len() / width;
        let mut min = vec![f32::INFINITY; width];
        let mut max = vec![f32::NEG_INFINITY; width];
        for row in rows.chunks_exact(width) {
            for (d, &value) in row.iter().enumerate() {
                min[d] = min[d].min(value);
                max[d] = max[d].max(value);
            }
        }
        let squares: Vec<f32> = rows.iter().map(|value| value * value).collect();
        let mean: Vec<f32> = numpy_sums(rows, width).iter().map(|s| s / n as f32).collect();
        let std = numpy_sums(&squares, width).into_iter().zip(&mean);
        let std = std.map(|(s, m)| f64::from((s / n as f32 - m * m).max(0.0).sqrt())).collect();
        let mut quantiles: [Vec<f64>; 5] = Default::default();
        for d in 0..width {
            let values = rows.iter().skip(d).step_by(width).map(|&v| (f64::from(v), 1));
            let found = if n < 2 { [f64::from(mean[d]); 5] } else { histogram_quantiles(values, &edges_f32(min[d], max[d]), n as u64) };
            quantiles.iter_mut().zip(found).for_each(|(all, q)| all.push(q));
        }
        let widen = |v: Vec<f32>| v.into_iter().map(f64::from).collect();
        let mut stats = Self { is_image: false, count, min: widen(min), max: widen(max), mean: widen(mean), std, quantiles, single: true };
        stats.spoil(|d| rows.iter().skip(d).step_by(width).any(|value| value.is_nan()));
        stats
    }

    /// Of `rows`, `[n, width]` row-major with `n >= 1`, which count as `count`.
    pub(crate) fn of_f64(rows: &[f64], width: usize, count: u64) -> Self {
        let n = (rows.len() / width) as f64;
        let mut stats = Self {
            is_image: false,
            count,
            min: Vec::new(),
            max: Vec::new(),
            mean: Vec::new(),
            std: Vec::new(),
            quantiles: Default::default(),
            single: false,
        };
        for d in 0..width {
            let column = || rows.iter().skip(d).step_by(width).copied();
            let min = column().fold(f64::INFINITY, f64::min);
            let max = column().fold(f64::NEG_INFINITY, f64::max);
            let mean = column().sum::<f64>() / n;
            stats.std.push((column().map(|v| v * v).sum::<f64>() / n - mean * mean).max(0.0).sqrt());
            let quantiles = if n < 2.0 { [mean; 5] } else { histogram_quantiles(column().map(|v| (v, 1)), &edges_f64(min, max), n as u64) };
            stats.min.push(min);
            stats.max.push(max);
            stats.mean.push(mean);
            stats.quantiles.iter_mut().zip(quantiles).for_each(|(all, q)| all.push(q));
        }
        stats.spoil(|d| rows.iter().skip(d).step_by(width).any(|value| value.is_nan()));
        stats
    }

    /// Makes of dimensions with values that are not finite what numpy makes of them: NaN.
    fn spoil(&mut self, has_nan: impl Fn(usize) -> bool) {
        for d in (0..self.mean.len()).filter(|d| !self.mean[*d].is_finite()).collect::<Vec<_>>() {
            let lists = [&mut self.std].into_iter().chain(&mut self.quantiles);
            lists.for_each(|list| list[d] = f64::NAN);
            if has_nan(d) {
                (self.min[d], self.max[d], self.mean[d]) = (f64::NAN, f64::NAN, f64::NAN);
            }
        }
    }

    /// The statistics of two sets of rows taken together.
    pub(crate) fn merge(&self, other: &Self) -> Self {
        let (a, b) = (self.count as f64, other.count as f64);
        let total = a + b;
        let average = |x: &[f64], y: &[f64]| -> Vec<f64> { x.iter().zip(y).map(|(x, y)| (x * a + y * b) / total).collect() };
        let mean = average(&self.mean, &other.mean);
        let std = (0..mean.len())
            .map(|d| {
                let spread = |s: &Self| s.variance(d) + (s.mean[d] - mean[d]).powi(2);
                ((spread(self) * a + spread(other) * b) / total).sqrt()
            })
            .collect();
        let pick = |x: &[f64], y: &[f64], f: fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(*x, *y)).collect();
        Self {
            is_image: self.is_image,
            count: self.count + other.count,
            min: pick(&self.min, &other.min, f64::min),
            max: pick(&self.max, &other.max, f64::max),
            std,
            quantiles: std::array::from_fn(|q| average(&self.quantiles[q], &other.quantiles[q])),
            mean,
            single: false,
        }
    }

    fn variance(&self, d: usize) -> f64 {
        if self.single { f64::from((self.std[d] as f32).powi(2)) } else { self.std[d].powi(2) }
    }

    /// The values under one of [`KEYS`] but `count`.
    pub(crate) fn values(&self, key: &str) -> Option<&[f64]> {
        Some(match key {
            "min" => &self.min,
            "max" => &self.max,
            "mean" => &self.mean,
            "std" => &self.std,
            _ => &self.quantiles[QUANTILES.iter().position(|(name, _)| *name == key)?],
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        for key in KEYS {
            let value = match self.values(key) {
                None => json!([self.count]),
                Some([]) => continue,
                Some(values) if self.is_image => values.iter().map(|v| json!([[v]])).collect(),
                Some(values) => json!(values),
            };
            map.insert(key.to_owned(), value);
        }
        Value::Object(map)
    }

    /// As version 2.1 of the format has it.
    pub(crate) fn to_json_21(&self) -> Value {
        let mut value = self.to_json();
        if let Value::Object(map) = &mut value {
            map.retain(|key, _| !key.starts_with('q'));
        }
        value
    }

    /// Reads what [`Self::to_json`] or LeRobot wrote; `None` when it is anything else, or without quantiles.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        Self::from_json_in_part(value).filter(|stats| stats.quantiles.iter().all(|values| !values.is_empty()))
    }

    /// The same, but quantiles may be missing, as in statistics of LeRobot before 0.4.
    pub(crate) fn from_json_in_part(value: &Value) -> Option<Self> {
        let is_image = value.get("mean")?.get(0)?.is_array();
        // What is not finite is null.
        let number = |value: &Value| if value.is_null() { Some(f64::NAN) } else { value.as_f64() };
        let list = |key: &str| -> Option<Vec<f64>> {
            let list = value.get(key)?.as_array()?;
            list.iter().map(|v| if is_image { number(v.get(0)?.get(0)?) } else { number(v) }).collect()
        };
        let mean = list("mean")?;
        let mut quantiles: [Vec<f64>; 5] = Default::default();
        for (values, (key, _)) in quantiles.iter_mut().zip(QUANTILES) {
            *values = list(key).unwrap_or_default();
        }
        let stats = Self {
            is_image,
            count: value.get("count")?.get(0)?.as_u64()?,
            min: list("min")?,
            max: list("max")?,
            std: list("std")?,
            quantiles,
            mean,
            single: false,
        };
        let width = stats.mean.len();
        let quantiles = stats.quantiles.iter().filter(|values| !values.is_empty());
        let values = [&stats.min, &stats.max, &stats.std].into_iter().chain(quantiles);
        (values.into_iter().all(|values| values.len() == width) && width > 0).then_some(stats)
    }
}

/// One picture's values, counted by channel and level: all that its statistics depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PictureCounts {
    channels: usize,
    /// Of each channel in turn, rising: a level and how many pixels have it.
    levels: Vec<Vec<(u32, u32)>>,
}

impl PictureCounts {
    /// Counts an RGB8 picture, thinned as LeRobot thins it.
    pub(crate) fn of_rgb(rgb: &[u8], width: usize, height: usize) -> Self {
        let stride = thinning(width, height);
        let mut counts = [[0u32; 256]; 3];
        for row in rgb.chunks_exact(width * 3).step_by(stride) {
            for pixel in row.chunks_exact(3).step_by(stride) {
                for (channel, &level) in counts.iter_mut().zip(pixel) {
                    channel[usize::from(level)] += 1;
                }
            }
        }
        Self { channels: 3, levels: counts.iter().map(|channel| present(channel)).collect() }
    }

    /// Counts a picture of depth, u16 little-endian, thinned in the same way.
    pub(crate) fn of_depth(depth: &[u8], width: usize, height: usize) -> Self {
        let stride = thinning(width, height);
        let mut counts = vec![0u32; 1 << 16];
        for row in depth.chunks_exact(width * 2).step_by(stride) {
            for pixel in row.chunks_exact(2).step_by(stride) {
                counts[usize::from(u16::from_le_bytes([pixel[0], pixel[1]]))] += 1;
            }
        }
        Self { channels: 1, levels: vec![present(&counts)] }
    }

    /// Some 1 to 2 kB: of each level the step from the one before and the count, seven bits a byte.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 << 11);
        let mut put = |mut number: u32| {
            while number >= 128 {
                bytes.push(number as u8 | 128);
                number >>= 7;
            }
            bytes.push(number as u8);
        };
        for channel in &self.levels {
            put(channel.len() as u32);
            let mut last = 0;
            for (level, count) in channel {
                put(level - last);
                put(*count);
                last = *level;
            }
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` when it is anything else.
    pub(crate) fn from_bytes(bytes: &[u8], channels: usize) -> Option<Self> {
        let mut bytes = bytes.iter();
        let mut take = || -> Option<u32> {
            let mut number = 0u32;
            for shift in (0..35).step_by(7) {
                let byte = u32::from(*bytes.next()?);
                number |= (byte & 127).checked_shl(shift)?;
                if byte < 128 {
                    return Some(number);
                }
            }
            None
        };
        let mut levels = Vec::new();
        for _ in 0..channels {
            let (length, mut last) = (take()?.min(1 << 16), 0u32);
            let mut channel = Vec::new();
            for _ in 0..length {
                last = last.checked_add(take()?)?;
                channel.push((last, take()?));
            }
            levels.push(channel);
        }
        Some(Self { channels, levels })
    }
}

/// LeRobot looks at every so many pixels of a large picture in each direction.
fn thinning(width: usize, height: usize) -> usize {
    let longer = width.max(height);
    if longer < 300 { 1 } else { longer / 150 }
}

fn present(counts: &[u32]) -> Vec<(u32, u32)> {
    counts.iter().zip(0..).filter(|(count, _)| **count > 0).map(|(count, level)| (level, *count)).collect()
}

/// Gathers the sampled pictures of an episode.
pub(crate) struct PictureStats {
    pictures: u64,
    /// What a level of 1 in the statistics is in the picture.
    scale: f64,
    channels: Vec<std::collections::BTreeMap<u32, u64>>,
}

impl PictureStats {
    pub(crate) fn new() -> Self {
        Self { pictures: 0, scale: 1.0, channels: Vec::new() }
    }

    pub(crate) fn add(&mut self, picture: &PictureCounts) {
        self.pictures += 1;
        // Colours are from 0 to 1, depth stays in its unit.
        self.scale = if picture.channels == 3 { 255.0 } else { 1.0 };
        self.channels.resize_with(picture.channels, Default::default);
        for (sums, levels) in self.channels.iter_mut().zip(&picture.levels) {
            for (level, count) in levels {
                *sums.entry(*level).or_default() += u64::from(*count);
            }
        }
    }

    /// The statistics; `None` when nothing was added.
    pub(crate) fn finish(&self) -> Option<FeatureStats> {
        let mut stats = FeatureStats {
            is_image: true,
            count: self.pictures,
            min: Vec::new(),
            max: Vec::new(),
            mean: Vec::new(),
            std: Vec::new(),
            quantiles: Default::default(),
            single: false,
        };
        if self.channels.is_empty() {
            return None;
        }
        let scale = self.scale;
        for counts in &self.channels {
            let levels = || counts.iter().map(|(level, n)| (f64::from(*level), *n));
            let n: u64 = counts.values().sum();
            let (min, max) = (levels().next()?.0, levels().next_back()?.0);
            let mean = levels().map(|(level, count)| level * count as f64).sum::<f64>() / n as f64;
            let mean_of_squares = levels().map(|(level, count)| level * level * count as f64).sum::<f64>() / n as f64;
            let quantiles = histogram_quantiles(levels(), &edges_f32(min as f32, max as f32), n);
            stats.min.push(min / scale);
            stats.max.push(max / scale);
            stats.mean.push(mean / scale);
            stats.std.push((mean_of_squares - mean * mean).max(0.0).sqrt() / scale);
            stats.quantiles.iter_mut().zip(quantiles).for_each(|(all, q)| all.push(q / scale));
        }
        Some(stats)
    }
}

/// Sums of each column in numpy's order: row after row, but by halves for a single column.
fn numpy_sums(rows: &[f32], width: usize) -> Vec<f32> {
    if width == 1 {
        return vec![pairwise_sum(rows)];
    }
    let mut sums = vec![0f32; width];
    for row in rows.chunks_exact(width) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// numpy's sum of numbers that lie side by side: eight sums in turn up to 128 numbers, halves above.
fn pairwise_sum(values: &[f32]) -> f32 {
    let n = values.len();
    if n < 8 {
        return values.iter().fold(0.0, |sum, value| sum + value);
    }
    if n <= 128 {
        let mut sums = [0f32; 8];
        let (eights, rest) = values.split_at(n - n % 8);
        for eight in eights.chunks_exact(8) {
            sums.iter_mut().zip(eight).for_each(|(sum, value)| *sum += value);
        }
        let [a, b, c, d, e, f, g, h] = sums;
        return rest.iter().fold(((a + b) + (c + d)) + ((e + f) + (g + h)), |sum, value| sum + value);
    }
    let half = n / 2 - n / 2 % 8;
    pairwise_sum(&values[..half]) + pairwise_sum(&values[half..])
}

/// Which frames of an episode of `length` (at least 1) frames the image statistics look at, rising.
pub(crate) fn sampled_frames(length: u64) -> Vec<u64> {
    let least = length.min(100);
    let samples = ((length as f64).powf(0.75) as u64).min(10_000).max(least);
    if samples < 2 {
        return vec![0];
    }
    let step = (length - 1) as f64 / (samples - 1) as f64;
    let mut frames: Vec<u64> = (0..samples).map(|i| (i as f64 * step).round_ties_even() as u64).collect();
    if let Some(last) = frames.last_mut() {
        *last = length - 1;
    }
    frames
}

fn edges_f32(min: f32, max: f32) -> Vec<f64> {
    let (start, stop) = (min - 1e-10, max + 1e-10);
    let step = (stop - start) / BINS as f32;
    let mut edges: Vec<f64> = (0..=BINS).map(|i| f64::from(i as f32 * step + start)).collect();
    edges[BINS] = f64::from(stop);
    edges
}

fn edges_f64(min: f64, max: f64) -> Vec<f64> {
    let (start, stop) = (min - 1e-10, max + 1e-10);
    let step = (stop - start) / BINS as f64;
    let mut edges: Vec<f64> = (0..=BINS).map(|i| i as f64 * step + start).collect();
    edges[BINS] = stop;
    edges
}

/// Quantiles of `(value, how often)` pairs, `n` in all, by linear interpolation within a bin.
fn histogram_quantiles(values: impl Iterator<Item = (f64, u64)>, edges: &[f64], n: u64) -> [f64; 5] {
    let mut bins = vec![0u64; BINS];
    for (value, count) in values {
        // The last bin includes its right edge; a value outside (by rounding) is in no bin.
        let right = edges.partition_point(|edge| *edge <= value);
        if right > 0 && value <= edges[BINS] {
            bins[(right - 1).min(BINS - 1)] += count;
        }
    }
    QUANTILES.map(|(_, q)| {
        let target = q * n as f64;
        let mut before = 0u64;
        for (bin, &count) in bins.iter().enumerate() {
            if (before + count) as f64 >= target {
                if bin == 0 {
                    return edges[0];
                }
                return edges[bin] + (target - before as f64) / count as f64 * (edges[bin + 1] - edges[bin]);
            }
            before += count;
        }
        edges[BINS]
    })
}
