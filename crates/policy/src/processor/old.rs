//! Checkpoints from before LeRobot had processor files: the policy itself normalised, with statistics
//! among its weights. The steps are those that LeRobot's own migration would write.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Prompt, StepJson};
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

/// The preprocessor; `config` is the policy's. `None` where the family took its text in a way that is
/// not known here.
pub(crate) fn preprocessor(config: &Value, features: &Features, modes: &BTreeMap<String, String>, prompt: Prompt) -> Option<Vec<StepJson>> {
    let mut steps = vec![step("rename_observations_processor", json!({})), step("to_batch_processor", json!({}))];
    match (prompt, config.get("vlm_model_name")) {
        (Prompt::None, _) => {}
        (Prompt::Line, Some(name)) => {
            let or = |key: &str, default: Value| config.get(key).cloned().unwrap_or(default);
            steps.push(step("smolvla_new_line_processor", json!({})));
            let (padding, max_length) = (or("pad_language_to", json!("longest")), or("tokenizer_max_length", json!(48)));
            steps.push(step("tokenizer_processor", json!({"tokenizer_name": name, "padding": padding, "max_length": max_length})));
        }
        _ => return None,
    }
    steps.push(step("device_processor", json!({})));
    steps.push(step("normalizer_processor", normalizer(features, modes)));
    Some(steps)
}

pub(crate) fn postprocessor(features: &Features, modes: &BTreeMap<String, String>) -> Vec<StepJson> {
    vec![step("unnormalizer_processor", normalizer(features, modes)), step("device_processor", json!({}))]
}

fn step(name: &str, config: Value) -> StepJson {
    let config = config.as_object().cloned().unwrap_or_default();
    StepJson { registry_name: Some(name.to_owned()), class: None, config, state_file: None, artifacts: BTreeMap::new() }
}

fn normalizer(features: &Features, modes: &BTreeMap<String, String>) -> Value {
    let features: serde_json::Map<String, Value> = features.iter().map(|(name, feature)| (name.to_owned(), json!(feature))).collect();
    json!({"features": features, "norm_map": modes})
}
