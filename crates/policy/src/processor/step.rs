//! The steps by their registry names.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::image::{ImageChange, ImageStep};
use super::normalize::Normalizer;
use super::relative::RelativeActions;
use super::text::{self, Tokenize};
use super::{Batch, Precision, Source, StateText};
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
    Images(ImageStep),
    /// Says which of a model's robots this is.
    Domain(usize),
    Normalize(Normalizer),
    Unnormalize(Normalizer),
    /// Ends the instruction with a line feed.
    Newline,
    /// Makes a text of the instruction and the state.
    WriteState(&'static StateText),
    Tokenize(Box<Tokenize>),
    Relative(RelativeActions),
    Absolute(RelativeActions),
    /// What it does is of use in training alone.
    Nothing,
}

pub(super) const RENAME: &str = "rename_observations_processor";

/// A step's registry name, and how it is made.
pub(crate) type NewStep = (&'static str, fn(&Source) -> Result<Step, CheckpointError>);

/// The steps that are no family's own.
pub(crate) const COMMON_STEPS: &[NewStep] = &[
    (RENAME, |source| Ok(Step::Rename(source.parse::<RenameJson>()?.rename_map))),
    ("to_batch_processor", |source| source.parse::<NoConfig>().map(|_| Step::ToBatch)),
    ("device_processor", |source| precision(source).map(Step::Device)),
    ("normalizer_processor", |source| Normalizer::open(source).map(Step::Normalize)),
    ("unnormalizer_processor", |source| Normalizer::open(source).map(Step::Unnormalize)),
    ("tokenizer_processor", |source| Ok(Step::Tokenize(Box::new(Tokenize::open(source)?)))),
    ("relative_actions_processor", |source| relative(source).map(Step::Relative)),
    ("absolute_actions_processor", |source| absolute(source).map(Step::Absolute)),
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
struct DomainJson {
    #[serde(default)]
    domain_id: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AbsoluteJson {
    #[serde(default)]
    enabled: bool,
}

impl Step {
    /// The step of `known` that `source` names.
    ///
    /// # Errors
    /// When the step is unknown, or something about it or the files that it names is wrong.
    pub(super) fn new(known: &[NewStep], source: &Source) -> Result<Self, CheckpointError> {
        match known.iter().find(|(name, _)| *name == source.name) {
            Some((_, open)) => open(source),
            None => Err(CheckpointError::UnknownStep {
                path: source.path.to_owned(),
                index: source.index,
                found: source.name.to_owned(),
                known: known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// A step that ends the instruction with a line feed.
    ///
    /// # Errors
    /// When it has a configuration.
    pub(crate) fn newline(source: &Source) -> Result<Self, CheckpointError> {
        source.parse::<NoConfig>().map(|_| Self::Newline)
    }

    /// A step that makes `text` of the instruction and the state.
    ///
    /// # Errors
    /// When the text is not the task, or there is no state to write into it.
    pub(crate) fn write_state(source: &Source, text: &'static StateText) -> Result<Self, CheckpointError> {
        text::check_write_state(source).map(|()| Self::WriteState(text))
    }

    /// A step that does `change` to images.
    ///
    /// # Errors
    /// When its configuration is another step's.
    pub(crate) fn images(source: &Source, change: ImageChange) -> Result<Self, CheckpointError> {
        ImageStep::open(source, change).map(Self::Images)
    }

    /// A step that says which of a model's robots this is.
    ///
    /// # Errors
    /// When its configuration is another step's.
    pub(crate) fn domain(source: &Source) -> Result<Self, CheckpointError> {
        Ok(Self::Domain(source.parse::<DomainJson>()?.domain_id))
    }

    /// # Errors
    /// When a sentence can't be turned into tokens, there is no state to add, or an image has values that it
    /// can't have at a step.
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
            Self::Images(step) => step.run(batch)?,
            Self::Domain(domain) => batch.domain = *domain,
            Self::Normalize(normalizer) => normalizer.normalize(batch),
            Self::Unnormalize(normalizer) => normalizer.unnormalize(batch),
            Self::Newline => text::end_with_newline(batch),
            Self::WriteState(text) => text::write_state(batch, text.ending),
            Self::Tokenize(step) => step.run(batch).map_err(InferError::Tokenize)?,
            Self::Relative(_) => batch.state = batch.features.get(STATE).cloned(),
            Self::Absolute(step) => step.shift_actions(batch, RelativeActions::make_absolute)?,
            Self::Nothing => {}
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
            | Self::Images(_)
            | Self::Domain(_)
            | Self::Normalize(_)
            | Self::Newline
            | Self::WriteState(_)
            | Self::Tokenize(_)
            | Self::Relative(_)
            | Self::Nothing => {}
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
