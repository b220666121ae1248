//! Statistics against what they are of.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Fault;
use super::rows::Computed;
use crate::format::schema::{EPISODES, STATS};
use crate::format::stats::{KEYS, QUANTILES};
use crate::{DatasetReader, Episode, ReadError, Version};

/// All numbers in nested lists.
fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(flat).collect(),
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

pub(super) fn check_episode(
    reader: &DatasetReader,
    episode: &Episode,
    computed: &Computed,
    stored: Option<&Map<String, Value>>,
    faults: &mut Vec<Fault>,
) {
    let Some(stored) = stored else { return };
    for (feature, expected) in computed {
        let Some(found) = stored.get(feature) else {
            let what = format!("episode {}: there are no statistics of {feature}", episode.episode_index);
            faults.push(Fault { path: EPISODES.into(), what });
            continue;
        };
        for key in KEYS {
            // Versions before quantiles have none.
            let Some(found) = found.get(key).map(flat) else { continue };
            let values =
                |key: &str, d: usize| expected.values(key).and_then(|values| values.get(d)).copied().unwrap_or(expected.count as f64);
            let width = expected.values(key).map_or(1, <[f64]>::len);
            let off = (found.len() != width).then_some(0).or_else(|| {
                (0..width).find(|d| (found[*d] - values(key, *d)).abs() > tolerance(key, &|key| values(key, *d)) || !found[*d].is_finite())
            });
            if let Some(d) = off {
                let (found, expected) = (found.get(d), values(key, d));
                let what = format!("episode {}: stats/{feature}/{key}[{d}] is {found:?}, its rows give {expected}", episode.episode_index);
                let path = if reader.version() == Version::V30 { EPISODES } else { "meta/episodes_stats.jsonl" };
                faults.push(Fault { path: path.into(), what });
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

    pub(super) fn check(&self, reader: &DatasetReader, faults: &mut Vec<Fault>) -> Result<(), ReadError> {
        let Some(all) = reader.stats()? else {
            // Version 2.1 has them by episode only. LeRobot opens one of version 3.0 without, but a policy
            // that normalises can't be trained on it.
            if reader.version() == Version::V21 {
                return Ok(());
            }
            faults.push(Fault { path: STATS.into(), what: "there is none".to_owned() });
            return Ok(());
        };
        for (feature, sum) in self.features.iter().filter(|(feature, _)| reader.features().contains_key(*feature)) {
            let what = match all.get(feature) {
                None => Some("there are no statistics of it".to_owned()),
                Some(found) => sum.fault(found),
            };
            faults.extend(what.map(|what| Fault { path: STATS.into(), what: format!("{feature}: {what}") }));
        }
        Ok(())
    }
}

impl Sum {
    fn add(&mut self, stats: &Value) {
        let count = flat(&stats["count"]).first().copied().unwrap_or(1.0);
        let [min, max, mean, std] = ["min", "max", "mean", "std"].map(|key| flat(&stats[key]));
        if self.count == 0.0 {
            let width = mean.len();
            (self.mean, self.square) = (vec![0.0; width], vec![0.0; width]);
            (self.min, self.max) = (vec![f64::INFINITY; width], vec![f64::NEG_INFINITY; width]);
        }
        self.count += count;
        for d in 0..self.mean.len().min(min.len()).min(max.len()).min(mean.len()).min(std.len()) {
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

    fn fault(&self, found: &Value) -> Option<String> {
        for key in KEYS {
            let Some(found) = found.get(key).map(flat) else { continue };
            if key == "count" {
                if found != [self.count] {
                    return Some(format!("count is {found:?}, the episodes have {}", self.count));
                }
                continue;
            }
            for (d, found) in found.iter().enumerate() {
                if d >= self.mean.len() {
                    return Some(format!("{key} has more than {} values", self.mean.len()));
                }
                let mean = self.mean[d] / self.count;
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
                    return Some(format!("{key}[{d}] is {found}, the episodes give {low} to {high}"));
                }
            }
        }
        None
    }
}
