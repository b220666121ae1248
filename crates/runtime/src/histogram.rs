//! A histogram of durations in fixed memory.

use serde::{Serialize, Serializer};

/// Buckets to a power of two: a quantile is at most 1/32 too high.
const PER_OCTAVE: u64 = 32;
const BUCKETS: usize = 64 * PER_OCTAVE as usize;

/// Counts durations in nanoseconds. Recording is a few instructions and never allocates. Negative
/// durations count as 0. Serialised as its [`TimeStats`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: Box<[u64; BUCKETS]>,
    count: u64,
    sum_ns: u128,
    max_ns: u64,
}

/// What [`Histogram::stats`] says; all 0 when nothing was recorded. Quantiles are upper bounds, at
/// most 1/32 above the true value; `max_ns` is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TimeStats {
    pub count: u64,
    pub mean_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { buckets: Box::new([0; BUCKETS]), count: 0, sum_ns: 0, max_ns: 0 }
    }

    pub fn record(&mut self, duration_ns: i64) {
        let ns = u64::try_from(duration_ns).unwrap_or(0);
        self.buckets[bucket(ns)] += 1;
        self.count += 1;
        self.sum_ns += u128::from(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets.iter()) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// The duration that a share `q` (0..1) of those recorded does not exceed; 0 when there is none.
    pub fn quantile_ns(&self, q: f64) -> u64 {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(index).min(self.max_ns);
            }
        }
        self.max_ns
    }

    pub fn stats(&self) -> TimeStats {
        TimeStats {
            count: self.count,
            mean_ns: u64::try_from(self.sum_ns / u128::from(self.count.max(1))).unwrap_or(u64::MAX),
            p50_ns: self.quantile_ns(0.5),
            p99_ns: self.quantile_ns(0.99),
            p999_ns: self.quantile_ns(0.999),
            max_ns: self.max_ns,
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.stats().serialize(serializer)
    }
}

/// Values below 32 have a bucket each; above, a bucket covers 1/32 of its power of two.
fn bucket(ns: u64) -> usize {
    if ns < PER_OCTAVE {
        return ns as usize;
    }
    let shift = ns.ilog2() - PER_OCTAVE.ilog2();
    (u64::from(shift) * PER_OCTAVE + (ns >> shift)) as usize
}

/// The largest value of a bucket.
fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * PER_OCTAVE {
        return index;
    }
    let shift = index / PER_OCTAVE - 1;
    (((index % PER_OCTAVE + PER_OCTAVE) << shift) - 1) + (1 << shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_a_known_distribution() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|us| histogram.record(us * 1000));
        let stats = histogram.stats();
        assert_eq!((stats.count, stats.mean_ns, stats.max_ns), (1000, 500_500, 1_000_000));
        for (found, exact) in [(stats.p50_ns, 500_000), (stats.p99_ns, 990_000), (stats.p999_ns, 999_000)] {
            assert!(found >= exact && found <= exact + exact / 32, "{found} for {exact}");
        }
    }

    #[test]
    fn nothing_recorded_is_all_zero_and_a_negative_duration_is_zero() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.stats(), TimeStats::default());
        histogram.record(-5);
        assert_eq!(histogram.stats(), TimeStats { count: 1, ..TimeStats::default() });
    }

    proptest! {
        #[test]
        fn any_duration_falls_into_a_bucket_whose_bound_is_near(ns in 0..=i64::MAX) {
            let ns = ns.unsigned_abs();
            let bound = upper_bound(bucket(ns));
            prop_assert!(bound >= ns && bound - ns <= ns / PER_OCTAVE);
        }

        #[test]
        fn merging_is_recording_both(a in prop::collection::vec(0..1_000_000i64, 0..50), b in prop::collection::vec(0..1_000_000i64, 0..50)) {
            let of = |values: &[i64]| {
                let mut histogram = Histogram::new();
                values.iter().for_each(|v| histogram.record(*v));
                histogram
            };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }
    }
}
