//! Whether a dataset's statistics are such that LeRobot scales by them.
//!
//! It leaves what has no statistics as it is and says nothing, so that a policy learns on the wrong scale; what is no
//! number or of another length is told in the middle of the training, or never.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::Value;
use sinew_recorder::DatasetReader;

use super::check::ACTION;
use super::family::Family;

const MEND: &str = "make them by `sinew dataset stats DIR`";

pub fn check(reader: &DatasetReader, family: &Family, cameras: &BTreeSet<&str>) -> anyhow::Result<()> {
    let stats = reader.stats()?.unwrap_or_default();
    for key in cameras {
        ensure!(stats.contains_key(*key), "meta/stats.json has nothing of {key}, which LeRobot looks up; {MEND}");
    }
    for (key, feature) in reader.features() {
        let is_number = !matches!(feature["dtype"].as_str(), Some("image" | "video" | "string" | "language"));
        let norm = match key {
            _ if !is_number => continue,
            key if key.starts_with(ACTION) => family.action,
            key if key.starts_with("observation") => family.state,
            _ => continue,
        };
        let found = stats.get(key).and_then(Value::as_object);
        let missing: Vec<&str> = norm.keys().iter().copied().filter(|it| found.is_none_or(|stats| !stats.contains_key(*it))).collect();
        ensure!(
            missing.is_empty(),
            "{} scales {key} by {} ({}), and meta/stats.json has no {}; {MEND}",
            family.name,
            norm.keys().join(" and "),
            norm.name(),
            missing.join(" and ")
        );
        let width = feature["shape"].as_array().map(|shape| shape.iter().filter_map(Value::as_u64).product::<u64>());
        let mut all = Vec::new();
        for name in norm.keys() {
            let value = found.map_or(&Value::Null, |stats| &stats[*name]);
            let mut numbers = Vec::new();
            ensure!(value.is_array() && flat(value, &mut numbers), "the {name} of {key} in meta/stats.json is not all numbers; {MEND}");
            ensure!(
                width.is_none_or(|width| numbers.len() as u64 == width),
                "the {name} of {key} in meta/stats.json has {} values, expected {}; {MEND}",
                numbers.len(),
                width.unwrap_or_default()
            );
            ensure!(*name != "std" || numbers.iter().all(|it| *it >= 0.0), "the std of {key} in meta/stats.json is below zero; {MEND}");
            all.push(numbers);
        }
        if let ([low, high], [lows, highs]) = (norm.keys(), &all[..]) {
            ensure!(
                *low == "mean" || lows.iter().zip(highs).all(|(low, high)| low <= high),
                "the {low} of {key} in meta/stats.json is above its {high}; {MEND}"
            );
        }
    }
    Ok(())
}

/// Adds the finite numbers of nested arrays; false where there is anything else.
fn flat(value: &Value, numbers: &mut Vec<f64>) -> bool {
    match value {
        Value::Array(values) => values.iter().all(|value| flat(value, numbers)),
        value => value.as_f64().filter(|number| number.is_finite()).map(|number| numbers.push(number)).is_some(),
    }
}
