//! Statistics against what they are of.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::rows::Computed;
use super::{Mend, Report};
use crate::format::schema::{DEFAULT_FEATURES, EPISODES, EPISODES_STATS_21, STATS};
use crate::format::stats::{KEYS, QUANTILES};
use crate::{DatasetReader, Episode, ReadError, Version};

/// All numbers in nested lists.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(flat).collect(),
        // What is not finite is null.
        Value::Null => vec![f64::NAN],
        value => value.as_f64().into_iter().collect(),
    }
}

/// How far a statistic may be off. Versions of LeRobot and numpy add up in different orders and in
/// f32, where a deviation is the small difference of large squares; quantiles come from 5000 bins.
fn tolerance(key: &str, all: &dyn Fn(&str) -> f64) -> f64 {
    let size = all("min").abs().max(all("max").abs()).max(1.0);
    match key {
        "count" => 0.0,
        "min" | "max" => 1e-6 * size,
        "mean" => 1e-5 * size,
        "std" => 1e-3 * size,
        _ => 1e-3 * (all("max") - all("min")) + 1e-6 * size,
    }
}

/// Whether `found` is not what is expected. Of values that are not finite, there is nothing to expect.
fn differ(found: f64, expected: f64, tolerance: f64) -> bool {
    expected.is_finite() && !(expected - tolerance..=expected + tolerance).contains(&found)
}

/// JSON has no number that is not finite; what stands for one is read as null.
fn shown(value: f64) -> String {
    if value.is_nan() { "no finite number".to_owned() } else { value.to_string() }
}

/// Says that statistics of a feature are not what they should be. Nothing is made of those of LeRobot's own
/// columns, and its edits leave them as they were.
fn say(report: &mut Report, path: &str, feature: &str, what: String) {
    if DEFAULT_FEATURES.iter().any(|(own, _)| *own == feature) {
        report.warn(path, what, Mend::Stats);
    } else {
        report.fault(path, what);
    }
}

pub(super) fn check_episode(
    reader: &DatasetReader,
    episode: &Episode,
    computed: &Computed,
    stored: Option<&Map<String, Value>>,
    report: &mut Report,
) {
    let Some(stored) = stored else { return };
    let path = if reader.version() == Version::V30 { EPISODES } else { EPISODES_STATS_21 };
    for (feature, expected) in computed {
        let Some(found) = stored.get(feature) else {
            report.warn(path, format!("episode {}: there are no statistics of {feature}", episode.episode_index), Mend::Stats);
            continue;
        };
        for key in KEYS {
            // Versions before quantiles have none.
            let Some(found) = found.get(key).map(flat) else { continue };
            let values =
                |key: &str, d: usize| expected.values(key).and_then(|values| values.get(d)).copied().unwrap_or(expected.count as f64);
            let width = expected.values(key).map_or(1, <[f64]>::len);
            if found.len() != width {
                // Of matrices, versions differ in what they take together.
                let what = format!("episode {}: stats/{feature}/{key} has {} values, expected {width}", episode.episode_index, found.len());
                report.warn(path, what, Mend::Stats);
                break;
            }
            if let Some(d) = (0..width).find(|d| differ(found[*d], values(key, *d), tolerance(key, &|key| values(key, *d)))) {
                let (number, at, expected) = (episode.episode_index, found[d], values(key, d));
                let what = format!("episode {number}: stats/{feature}/{key}[{d}] is {}, its rows give {expected}", shown(at));
                // There are several definitions of a quantile, which differ where rows are few.
                let is_one = QUANTILES.iter().any(|(name, _)| *name == key) && (values("min", d)..=values("max", d)).contains(&at);
                if is_one {
                    report.warn(path, what, Mend::Stats)
                } else {
                    say(report, path, feature, what)
                }
                break;
            }
        }
    }
}

/// The statistics of all episodes together, value by value.
#[derive(Default)]
pub(super) struct Sums {
    features: BTreeMap<String, Sum>,
}

#[derive(Default)]
struct Sum {
    count: f64,
    /// An episode's statistics are not all there.
    is_partial: bool,
    min: Vec<f64>,
    max: Vec<f64>,
    mean: Vec<f64>,
    /// Of squares.
    square: Vec<f64>,
    /// The least and the greatest of each quantile.
    quantiles: BTreeMap<&'static str, Vec<(f64, f64)>>,
}

impl Sums {
    /// Adds an episode: its stored statistics, or those of its rows where none are stored.
    pub(super) fn add(&mut self, computed: &Computed, stored: Option<&Map<String, Value>>) {
        let own: Map<String, Value> = match stored {
            Some(stored) => stored.clone(),
            None => computed.iter().map(|(feature, stats)| (feature.clone(), stats.to_json())).collect(),
        };
        for (feature, stats) in own {
            self.features.entry(feature).or_default().add(&stats);
        }
    }

    pub(super) fn check(&self, reader: &DatasetReader, report: &mut Report) -> Result<(), ReadError> {
        let Some(all) = reader.stats()? else {
            // Version 2.1 has them by episode only. LeRobot opens one of version 3.0 without, but a policy
            // that normalises can't be trained on it.
            if reader.version() != Version::V21 {
                report.warn(STATS, "there are no statistics", Mend::Stats);
            }
            return Ok(());
        };
        for (feature, sum) in self.features.iter().filter(|(feature, _)| reader.features().contains_key(*feature)) {
            match all.get(feature) {
                None => report.warn(STATS, format!("{feature}: there are no statistics of it"), Mend::Stats),
                Some(found) => match sum.fault(found) {
                    Ok(()) => {}
                    Err(Off::Shape(what)) => report.warn(STATS, format!("{feature}: {what}"), Mend::Stats),
                    Err(Off::Value(what)) => say(report, STATS, feature, format!("{feature}: {what}")),
                },
            }
        }
        Ok(())
    }
}

/// In what a statistic is off.
enum Off {
    Shape(String),
    Value(String),
}

impl Sum {
    fn add(&mut self, stats: &Value) {
        let of = |key: &str| stats.get(key).map(flat).unwrap_or_default();
        let count = of("count").first().copied().unwrap_or(1.0);
        let [min, max, mean, std] = ["min", "max", "mean", "std"].map(of);
        if self.count == 0.0 {
            let width = mean.len();
            (self.mean, self.square) = (vec![0.0; width], vec![0.0; width]);
            (self.min, self.max) = (vec![f64::INFINITY; width], vec![f64::NEG_INFINITY; width]);
        }
        self.count += count;
        let width = self.mean.len();
        self.is_partial |= [&min, &max, &mean, &std].iter().any(|values| values.len() != width);
        if self.is_partial {
            return;
        }
        for d in 0..width {
            self.min[d] = self.min[d].min(min[d]);
            self.max[d] = self.max[d].max(max[d]);
            self.mean[d] += mean[d] * count;
            self.square[d] += (std[d] * std[d] + mean[d] * mean[d]) * count;
        }
        for (key, _) in QUANTILES {
            for (d, value) in stats.get(key).map(flat).unwrap_or_default().into_iter().enumerate() {
                let bounds = self.quantiles.entry(key).or_default();
                bounds.resize(bounds.len().max(d + 1), (f64::INFINITY, f64::NEG_INFINITY));
                bounds[d] = (bounds[d].0.min(value), bounds[d].1.max(value));
            }
        }
    }

    fn fault(&self, found: &Value) -> Result<(), Off> {
        for key in KEYS {
            let Some(found) = found.get(key).map(flat) else { continue };
            if key == "count" {
                if found != [self.count] {
                    return Err(Off::Value(format!("count is {found:?}, the episodes have {}", self.count)));
                }
                continue;
            }
            if self.is_partial {
                return Err(Off::Shape("the statistics of an episode are not all there".to_owned()));
            }
            if found.len() != self.mean.len() {
                return Err(Off::Shape(format!("{key} has {} values, expected {}", found.len(), self.mean.len())));
            }
            for (d, found) in found.iter().enumerate() {
                let mean = self.mean[d] / self.count;
                if !mean.is_finite() {
                    continue;
                }
                let values = |key: &str| match key {
                    "min" => self.min[d],
                    "max" => self.max[d],
                    "mean" => mean,
                    _ => (self.square[d] / self.count - mean * mean).max(0.0).sqrt(),
                };
                // How quantiles of episodes are put together differs between versions of LeRobot.
                let (low, high) = match self.quantiles.get(key).and_then(|bounds| bounds.get(d)) {
                    Some(bounds) => *bounds,
                    None if QUANTILES.iter().any(|(name, _)| *name == key) => (self.min[d], self.max[d]),
                    None => (values(key), values(key)),
                };
                let tolerance = tolerance(key, &values);
                if !(low - tolerance..=high + tolerance).contains(found) {
                    return Err(Off::Value(format!("{key}[{d}] is {}, the episodes give {low} to {high}", shown(*found))));
                }
            }
        }
        Ok(())
    }
}
