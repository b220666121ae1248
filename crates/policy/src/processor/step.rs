//! The steps by their registry names.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::normalize::Normalizer;
use super::relative::RelativeActions;
use super::text::{self, Tokenize};
use super::{Batch, Precision, Source};
use crate::features::STATE;
use crate::{CheckpointError, InferError};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Old name to new name.
    Rename(BTreeMap<String, String>),
    /// Adds the batch axis that models expect.
    ToBatch,
    /// Everything is on the CPU already; what is left is the float type.
    Device(Precision),
    Normalize(Normalizer),
    Unnormalize(Normalizer),
    /// Ends the instruction with a line feed.
    Newline,
    /// Writes the state into the instruction, before this ending.
    WriteState(&'static str),
    Tokenize(Box<Tokenize>),
    Relative(RelativeActions),
    Absolute(RelativeActions),
    /// Turns actions into tokens, of which there are none at inference.
    TokenizeActions,
}

pub(super) const RENAME: &str = "rename_observations_processor";

type Open = fn(&Source) -> Result<Step, CheckpointError>;

const STEPS: [(&str, Open); 13] = [
    (RENAME, |source| Ok(Step::Rename(source.parse::<RenameJson>()?.rename_map))),
    ("to_batch_processor", |source| source.parse::<NoConfig>().map(|_| Step::ToBatch)),
    ("device_processor", |source| precision(source).map(Step::Device)),
    ("normalizer_processor", |source| Normalizer::open(source).map(Step::Normalize)),
    ("unnormalizer_processor", |source| Normalizer::open(source).map(Step::Unnormalize)),
    ("smolvla_new_line_processor", |source| source.parse::<NoConfig>().map(|_| Step::Newline)),
    ("pi0_new_line_processor", |source| source.parse::<NoConfig>().map(|_| Step::Newline)),
    ("pi05_prepare_state_tokenizer_processor_step", |source| {
        text::check_write_state(source).map(|()| Step::WriteState(text::STATE_AND_ACTION))
    }),
    ("pi0_fast_prepare_state_tokenizer_processor_step", |source| {
        text::check_write_state(source).map(|()| Step::WriteState(text::STATE_ONLY))
    }),
    ("tokenizer_processor", |source| Ok(Step::Tokenize(Box::new(Tokenize::open(source)?)))),
    ("relative_actions_processor", |source| relative(source).map(Step::Relative)),
    ("absolute_actions_processor", |source| absolute(source).map(Step::Absolute)),
    ("action_tokenizer_processor", |source| source.parse::<ActionTokenizerJson>().map(|_| Step::TokenizeActions)),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoConfig {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RenameJson {
    #[serde(default)]
    rename_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceJson {
    #[serde(rename = "device")]
    _device: Option<String>,
    float_dtype: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AbsoluteJson {
    #[serde(default)]
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "read to refuse other keys")]
struct ActionTokenizerJson {
    trust_remote_code: Option<bool>,
    max_action_tokens: Option<usize>,
    fast_skip_tokens: Option<usize>,
    action_tokenizer_name: Option<String>,
    paligemma_tokenizer_name: Option<String>,
    allow_truncation: Option<bool>,
}

/// The registry names of the steps that are known.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    STEPS.into_iter().map(|(name, _)| name)
}

impl Step {
    /// # Errors
    /// When the step is unknown, or something about it or the files that it names is wrong.
    pub(crate) fn new(source: &Source) -> Result<Self, CheckpointError> {
        match STEPS.iter().find(|(name, _)| *name == source.name) {
            Some((_, open)) => open(source),
            None => Err(CheckpointError::UnknownStep {
                path: source.path.to_owned(),
                index: source.index,
                found: source.name.to_owned(),
                known: names().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// # Errors
    /// When a sentence can't be turned into tokens, or there is no state to add.
    pub(crate) fn run(&self, batch: &mut Batch) -> Result<(), InferError> {
        match self {
            Self::Rename(map) => {
                let old = std::mem::take(&mut batch.features);
                batch.features = old.into_iter().map(|(name, array)| (map.get(&name).cloned().unwrap_or(name), array)).collect();
            }
            Self::ToBatch => batch.features.values_mut().for_each(|array| array.shape.insert(0, 1)),
            Self::Device(precision) => {
                batch.features.values_mut().for_each(|array| precision.round_all(&mut array.values));
                batch.precision = *precision;
            }
            Self::Normalize(normalizer) => normalizer.normalize(batch),
            Self::Unnormalize(normalizer) => normalizer.unnormalize(batch),
            Self::Newline => text::end_with_newline(batch),
            Self::WriteState(ending) => text::write_state(batch, ending),
            Self::Tokenize(step) => step.run(batch).map_err(InferError::Tokenize)?,
            Self::Relative(_) => batch.state = batch.features.get(STATE).cloned(),
            Self::Absolute(step) => step.shift_actions(batch, RelativeActions::make_absolute)?,
            Self::TokenizeActions => {}
        }
        Ok(())
    }

    /// Takes back what a postprocessor's step did to actions.
    ///
    /// # Errors
    /// When there is no state to subtract.
    pub(crate) fn undo(&self, batch: &mut Batch) -> Result<(), InferError> {
        match self {
            // What was rounded stays so.
            Self::Device(precision) => batch.precision = *precision,
            Self::Unnormalize(normalizer) => normalizer.normalize(batch),
            Self::Absolute(step) => step.shift_actions(batch, RelativeActions::make_relative)?,
            Self::Rename(_)
            | Self::ToBatch
            | Self::Normalize(_)
            | Self::Newline
            | Self::WriteState(_)
            | Self::Tokenize(_)
            | Self::Relative(_)
            | Self::TokenizeActions => {}
        }
        Ok(())
    }
}

fn precision(source: &Source) -> Result<Precision, CheckpointError> {
    match source.parse::<DeviceJson>()?.float_dtype.as_deref() {
        None | Some("float32" | "float") => Ok(Precision::F32),
        Some("float16" | "half") => Ok(Precision::F16),
        Some("bfloat16") => Ok(Precision::Bf16),
        Some(other) => {
            Err(source.fault("float_dtype", other.to_owned(), "null, float32, float16 or bfloat16 (nothing is computed in 64 bits here)"))
        }
    }
}

/// # Errors
/// When actions are relative and there is no state for them.
fn relative(source: &Source) -> Result<RelativeActions, CheckpointError> {
    let step: RelativeActions = source.parse()?;
    if step.enabled && source.features.get(STATE).is_none() {
        return Err(source.fault("input_features", format!("no {STATE}"), "one, to which actions are relative"));
    }
    Ok(step)
}

/// # Errors
/// Unless the preprocessor makes relative what this step makes absolute.
fn absolute(source: &Source) -> Result<RelativeActions, CheckpointError> {
    let enabled = source.parse::<AbsoluteJson>()?.enabled;
    let made_relative = source.relative.is_some_and(|step| step.enabled);
    if enabled != made_relative {
        let words = |on: bool| if on { "relative" } else { "absolute" };
        let expected = format!("{made_relative}, as the preprocessor's actions are {}", words(made_relative));
        return Err(source.fault("enabled", enabled.to_string(), &expected));
    }
    Ok(source.relative.cloned().unwrap_or_default())
}
