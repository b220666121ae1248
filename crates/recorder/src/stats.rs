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
use sinew_core::Image;

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
    pub(crate) quantiles: [Vec<f64>; 5],
    /// The values are f32 widened, and are squared as such when merged.
    single: bool,
}

impl FeatureStats {
    /// Of `rows`, `[n, width]` row-major with `n >= 1`.
    pub(crate) fn of_f32(rows: &[f32], width: usize) -> Self {
        let n = rows.len() / width;
        let mut sum = vec![0f32; width];
        let mut sum_of_squares = vec![0f32; width];
        let mut min = vec![f32::INFINITY; width];
        let mut max = vec![f32::NEG_INFINITY; width];
        for row in rows.chunks_exact(width) {
            for (d, &value) in row.iter().enumerate() {
                sum[d] += value;
                sum_of_squares[d] += value * value;
                min[d] = min[d].min(value);
                max[d] = max[d].max(value);
            }
        }
        let mean: Vec<f32> = sum.iter().map(|s| s / n as f32).collect();
        let std = sum_of_squares.iter().zip(&mean).map(|(s, m)| f64::from((s / n as f32 - m * m).max(0.0).sqrt())).collect();
        let mut quantiles: [Vec<f64>; 5] = Default::default();
        for d in 0..width {
            let values = rows.iter().skip(d).step_by(width).map(|&v| (f64::from(v), 1));
            let found = if n < 2 { [f64::from(mean[d]); 5] } else { histogram_quantiles(values, &edges_f32(min[d], max[d]), n as u64) };
            quantiles.iter_mut().zip(found).for_each(|(all, q)| all.push(q));
        }
        let widen = |v: Vec<f32>| v.into_iter().map(f64::from).collect();
        Self { is_image: false, count: n as u64, min: widen(min), max: widen(max), mean: widen(mean), std, quantiles, single: true }
    }

    /// Of a column of numbers, which must not be empty.
    pub(crate) fn of_f64(column: &[f64]) -> Self {
        let n = column.len() as f64;
        let min = column.iter().copied().fold(f64::INFINITY, f64::min);
        let max = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = column.iter().sum::<f64>() / n;
        let std = (column.iter().map(|v| v * v).sum::<f64>() / n - mean * mean).max(0.0).sqrt();
        let quantiles = if column.len() < 2 {
            [mean; 5]
        } else {
            histogram_quantiles(column.iter().map(|&v| (v, 1)), &edges_f64(min, max), column.len() as u64)
        };
        Self {
            is_image: false,
            count: column.len() as u64,
            min: vec![min],
            max: vec![max],
            mean: vec![mean],
            std: vec![std],
            quantiles: quantiles.map(|q| vec![q]),
            single: false,
        }
    }

    /// Those of several columns as one feature's; they must be of the same rows, and at least one.
    pub(crate) fn side_by_side(columns: impl IntoIterator<Item = Self>) -> Self {
        let mut columns = columns.into_iter();
        let mut all = columns.next().unwrap_or_else(|| Self::of_f64(&[]));
        for column in columns {
            all.min.extend(column.min);
            all.max.extend(column.max);
            all.mean.extend(column.mean);
            all.std.extend(column.std);
            all.quantiles.iter_mut().zip(column.quantiles).for_each(|(all, q)| all.extend(q));
        }
        all
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
                Some(values) if self.is_image => values.iter().map(|v| json!([[v]])).collect(),
                Some(values) => json!(values),
            };
            map.insert(key.to_owned(), value);
        }
        Value::Object(map)
    }

    /// Reads what [`Self::to_json`] or LeRobot wrote; `None` when it is anything else.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let is_image = value.get("mean")?.get(0)?.is_array();
        let list = |key: &str| -> Option<Vec<f64>> {
            let list = value.get(key)?.as_array()?;
            list.iter().map(|v| if is_image { v.get(0)?.get(0)?.as_f64() } else { v.as_f64() }).collect()
        };
        let mean = list("mean")?;
        let mut quantiles: [Vec<f64>; 5] = Default::default();
        for (values, (key, _)) in quantiles.iter_mut().zip(QUANTILES) {
            *values = list(key)?;
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
        KEYS.iter().filter_map(|key| stats.values(key)).all(|values| values.len() == width).then_some(stats)
    }
}

/// One image's values, counted by channel and level: all that its statistics depend on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ImageHistogram([[u32; 256]; 3]);

impl ImageHistogram {
    pub(crate) const BYTES: usize = 3 * 256 * 4;

    /// Counts `image`, thinned as LeRobot thins it.
    pub(crate) fn of(image: &Image) -> Self {
        let (width, height) = (image.width as usize, image.height as usize);
        let longer = width.max(height);
        let stride = if longer < 300 { 1 } else { longer / 150 };
        let mut counts = [[0u32; 256]; 3];
        for row in image.rgb.chunks_exact(width * 3).step_by(stride) {
            for pixel in row.chunks_exact(3).step_by(stride) {
                for (channel, &level) in counts.iter_mut().zip(pixel) {
                    channel[usize::from(level)] += 1;
                }
            }
        }
        Self(counts)
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|count| count.to_le_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut counts = [[0u32; 256]; 3];
        for (count, bytes) in counts.iter_mut().flatten().zip(bytes.chunks_exact(4)) {
            *count = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        Self(counts)
    }
}

/// Gathers the sampled images of an episode.
pub(crate) struct ImageStats {
    frames: u64,
    counts: [[u64; 256]; 3],
}

impl ImageStats {
    pub(crate) fn new() -> Self {
        Self { frames: 0, counts: [[0; 256]; 3] }
    }

    pub(crate) fn add(&mut self, image: &ImageHistogram) {
        self.frames += 1;
        for (sum, count) in self.counts.iter_mut().flatten().zip(image.0.iter().flatten()) {
            *sum += u64::from(*count);
        }
    }

    /// The statistics in 0..1; `None` when nothing was added.
    pub(crate) fn finish(&self) -> Option<FeatureStats> {
        let mut stats = FeatureStats {
            is_image: true,
            count: self.frames,
            min: Vec::new(),
            max: Vec::new(),
            mean: Vec::new(),
            std: Vec::new(),
            quantiles: Default::default(),
            single: false,
        };
        for counts in &self.counts {
            let levels = || counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(level, n)| (level as f64, *n));
            let n: u64 = counts.iter().sum();
            let (min, max) = (levels().next()?.0, levels().next_back()?.0);
            let mean = levels().map(|(level, count)| level * count as f64).sum::<f64>() / n as f64;
            let mean_of_squares = levels().map(|(level, count)| level * level * count as f64).sum::<f64>() / n as f64;
            let quantiles = histogram_quantiles(levels(), &edges_f32(min as f32, max as f32), n);
            stats.min.push(min / 255.0);
            stats.max.push(max / 255.0);
            stats.mean.push(mean / 255.0);
            stats.std.push((mean_of_squares - mean * mean).max(0.0).sqrt() / 255.0);
            stats.quantiles.iter_mut().zip(quantiles).for_each(|(all, q)| all.push(q / 255.0));
        }
        Some(stats)
    }
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
