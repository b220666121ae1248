//! Checkpoints from before LeRobot had processor files: the policy itself normalised, with statistics
//! among its weights. The steps are those that LeRobot's own migration would write.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::StepJson;
use crate::Features;

/// What the names of statistics among the weights start with: of the inputs, and of the outputs.
pub(crate) const INPUTS: &str = "normalize_inputs.buffer_";
pub(crate) const OUTPUTS: &str = "unnormalize_outputs.buffer_";

/// Whether `tensor` is a statistic.
pub(crate) fn is_statistic(tensor: &str) -> bool {
    // The third is a copy of the outputs' for training.
    ["normalize_inputs.", "unnormalize_outputs.", "normalize_targets."].iter().any(|prefix| tensor.starts_with(prefix))
}

/// The tensor with the statistic `stat` of `feature`; the names of modules have no dots.
pub(crate) fn statistic(prefix: &str, feature: &str, stat: &str) -> String {
    format!("{prefix}{}.{stat}", feature.replace('.', "_"))
}

/// The preprocessor; `text` are the steps that turn the instruction into tokens.
pub(crate) fn preprocessor(text: Vec<StepJson>, features: &Features, modes: &BTreeMap<String, String>) -> Vec<StepJson> {
    let mut steps = vec![StepJson::new("rename_observations_processor", json!({})), StepJson::new("to_batch_processor", json!({}))];
    steps.extend(text);
    steps.push(StepJson::new("device_processor", json!({})));
    steps.push(StepJson::new("normalizer_processor", normalizer(features, modes)));
    steps
}

pub(crate) fn postprocessor(features: &Features, modes: &BTreeMap<String, String>) -> Vec<StepJson> {
    vec![StepJson::new("unnormalizer_processor", normalizer(features, modes)), StepJson::new("device_processor", json!({}))]
}

fn normalizer(features: &Features, modes: &BTreeMap<String, String>) -> Value {
    let features: serde_json::Map<String, Value> = features.iter().map(|(name, feature)| (name.to_owned(), json!(feature))).collect();
    json!({"features": features, "norm_map": modes})
}
