//! LeRobot's processor pipelines: named steps that surround the model, executed in the order of the
//! checkpoint's own JSON. The set of steps is closed, keyed by LeRobot's registry names; a step that
//! is not in it is an error when the checkpoint is opened.

mod batch;
mod image;
mod normalize;
pub(crate) mod old;
mod order;
mod precision;
mod prompt;
mod relative;
mod step;
mod text;
mod tokenizer;

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) use batch::{Array, Batch, Tokens};
pub(crate) use image::ImageChange;
use normalize::Normalizer;
pub(crate) use precision::Precision;
pub(crate) use prompt::{Prompt, StateText};
use relative::RelativeActions;
pub(crate) use step::{COMMON_STEPS, NewStep, Step};
pub(crate) use tokenizer::Tokenizer;

use crate::files::Files;
use crate::info::TokenizerInfo;
use crate::json::{keys_of, parse, read_json};
use crate::tensor_file::TensorFile;
use crate::{CheckpointError, Features, InferError};

/// A pipeline as the checkpoint's JSON describes it.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    steps: Vec<(String, Step)>,
}

#[derive(Deserialize)]
struct PipelineJson {
    steps: Vec<StepJson>,
}

#[derive(Deserialize)]
pub(crate) struct StepJson {
    registry_name: Option<String>,
    class: Option<String>,
    #[serde(default)]
    config: serde_json::Map<String, Value>,
    state_file: Option<String>,
    /// Files or folders that the step brings, by the key of the configuration that names them. LeRobot
    /// writes them since 0.6.1.
    #[serde(default)]
    artifacts: BTreeMap<String, String>,
}

impl StepJson {
    /// The step `name` with an object for a configuration.
    pub(crate) fn new(name: &str, config: Value) -> Self {
        let config = config.as_object().cloned().unwrap_or_default();
        Self { registry_name: Some(name.to_owned()), class: None, config, state_file: None, artifacts: BTreeMap::new() }
    }
}

/// What a step is made from.
pub(crate) struct Source<'a> {
    pub files: &'a Files<'a>,
    /// The pipeline's file.
    pub path: &'a Path,
    pub index: usize,
    name: &'a str,
    config: serde_json::Map<String, Value>,
    artifacts: BTreeMap<String, String>,
    pub state: State<'a>,
    /// The model's inputs for a preprocessor, its outputs for a postprocessor.
    pub features: &'a Features,
    /// The relative-actions step of the preprocessor, for a postprocessor.
    relative: Option<&'a RelativeActions>,
}

/// Where a step's tensors are.
pub(crate) enum State<'a> {
    /// In the file of this name, if in any.
    File(Option<String>),
    /// Among the weights, under names that start with this.
    Weights(&'a TensorFile, &'static str),
}

impl Source<'_> {
    /// The step's configuration. A key that is not one of the step's is passed over, with a word, where its
    /// value says that something is off or not there; newer versions of LeRobot write such.
    ///
    /// # Errors
    /// When a value has the wrong type, or a key that is not one of the step's has another value: it could
    /// change the answer.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        let known = keys_of::<T>();
        let mut config = self.config.clone();
        config.retain(|key, value| {
            let is_passed_over = !known.contains(&key.as_str()) && is_neutral(value);
            if is_passed_over {
                tracing::warn!(path = %self.path.display(), step = self.name, key, %value, "a key that is not known here; it says that something is off");
            }
            !is_passed_over
        });
        serde_json::from_value(Value::Object(config)).map_err(|source| CheckpointError::Step {
            path: self.path.to_owned(),
            index: self.index,
            name: self.name.to_owned(),
            source,
        })
    }

    /// The folder, relative to the checkpoint's, that the step brings for the configuration's `key`; `None`
    /// where it only names something.
    ///
    /// # Errors
    /// When it is not there, not inside the checkpoint's folder, or another than the configuration says.
    pub(crate) fn artifact(&self, key: &str) -> Result<Option<&str>, CheckpointError> {
        let Some(name) = self.artifacts.get(key) else { return Ok(None) };
        let fault = |found: &str, expected: &str| Err(self.fault(&format!("artifacts.{key}"), found.to_owned(), expected));
        if Path::new(name).components().any(|part| !matches!(part, Component::Normal(_))) || name.is_empty() {
            return fault(name, "a path inside the checkpoint's folder");
        }
        if self.config.get(key).and_then(Value::as_str) != Some(name) {
            return fault(name, &format!("what the configuration says of {key}"));
        }
        if !self.files.dir.join(name).is_dir() {
            return fault(&format!("{name}, which is not there"), "a folder in the checkpoint's");
        }
        Ok(Some(name))
    }

    /// An error about the value of `key`.
    pub(crate) fn fault(&self, key: &str, found: String, expected: &str) -> CheckpointError {
        CheckpointError::config(self.path, &format!("{key} of step {} ({})", self.index, self.name), found, expected)
    }
}

/// Whether a value says that something is off or not there.
fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => false,
    }
}

impl Pipeline {
    /// Reads the pipeline `file` of a checkpoint and the files that it names; `features` are the
    /// model's, whose statistics must be there. `known` are the steps that there are; `before` is the
    /// preprocessor, for a postprocessor.
    ///
    /// # Errors
    /// When a file is missing or malformed, a step is unknown or in no sensible place, or a statistic
    /// is missing.
    pub(crate) fn open(
        files: &Files,
        known: &[NewStep],
        file: &str,
        features: &Features,
        before: Option<&Pipeline>,
    ) -> Result<Self, CheckpointError> {
        let path = files.dir.join(file);
        let json: PipelineJson = parse(&path, read_json(&path)?)?;
        Self::new(files, known, &path, json.steps, features, before, None)
    }

    /// The pipeline `steps` of a checkpoint from before the processor files, whose statistics are among
    /// the `weights` under names that start with `prefix`; `path` is the file that errors name.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn old(
        files: &Files,
        known: &[NewStep],
        path: &Path,
        steps: Vec<StepJson>,
        features: &Features,
        before: Option<&Pipeline>,
        weights: (&TensorFile, &'static str),
    ) -> Result<Self, CheckpointError> {
        Self::new(files, known, path, steps, features, before, Some(weights))
    }

    fn new(
        files: &Files,
        known: &[NewStep],
        path: &Path,
        steps: Vec<StepJson>,
        features: &Features,
        before: Option<&Pipeline>,
        weights: Option<(&TensorFile, &'static str)>,
    ) -> Result<Self, CheckpointError> {
        let relative = before.and_then(Self::relative);
        let step = |(index, json): (usize, StepJson)| {
            let name = json.registry_name.or(json.class).unwrap_or_default();
            let StepJson { config, artifacts, .. } = json;
            let state = weights.map_or(State::File(json.state_file), |(file, prefix)| State::Weights(file, prefix));
            let source = Source { files, path, index, name: &name, config, artifacts, state, features, relative };
            let step = Step::new(known, &source)?;
            Ok((name, step))
        };
        let steps: Vec<_> = steps.into_iter().enumerate().map(step).collect::<Result<_, _>>()?;
        order::check(path, &steps, before.map(|before| before.steps.as_slice()))?;
        Ok(Self { steps })
    }

    /// The steps' registry names in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the observation gets its batch axis, without which no model can take it.
    pub(crate) fn adds_batch_axis(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::ToBatch))
    }

    /// The tokenizer of the instruction, where there is one.
    pub(crate) fn tokenizer(&self) -> Option<TokenizerInfo> {
        self.steps.iter().find_map(|(_, step)| match step {
            Step::Tokenize(step) => Some(step.info()),
            _ => None,
        })
    }

    /// What becomes of the instruction.
    pub(crate) fn prompt(&self) -> Prompt {
        prompt::of(&self.steps)
    }

    /// Calls the features of `names` (old name and new) otherwise from now on, as LeRobot's rename map does,
    /// instead of what the checkpoint itself makes of them.
    pub(crate) fn rename(&mut self, names: &[(String, String)]) {
        if names.is_empty() {
            return;
        }
        if !self.steps.iter().any(|(_, step)| matches!(step, Step::Rename(_))) {
            self.steps.insert(0, (step::RENAME.to_owned(), Step::Rename(BTreeMap::new())));
        }
        let mut names = Some(names);
        for (_, step) in &mut self.steps {
            if let Step::Rename(map) = step {
                map.retain(|_, new| names.is_none_or(|names| names.iter().all(|(_, wanted)| new != wanted)));
                map.extend(names.take().into_iter().flatten().cloned());
            }
        }
    }

    /// What `feature` is called when the pipeline is through with it.
    pub(crate) fn renamed<'a>(&'a self, feature: &'a str) -> &'a str {
        self.steps.iter().fold(feature, |name, (_, step)| match step {
            Step::Rename(map) => map.get(name).map_or(name, String::as_str),
            _ => name,
        })
    }

    /// How `feature` is normalised (or the action unnormalised): LeRobot's name of the mode.
    pub(crate) fn mode_of(&self, feature: &str) -> Option<&'static str> {
        self.steps.iter().find_map(|(_, step)| match step {
            Step::Normalize(normalizer) | Step::Unnormalize(normalizer) => normalizer.mode_of(feature),
            _ => None,
        })
    }

    /// A feature that a step of normalisation lists and that is none of `known`.
    pub(crate) fn unknown_feature(&self, known: [&Features; 2]) -> Option<&str> {
        let normalizers = self.steps.iter().filter_map(|(_, step)| match step {
            Step::Normalize(normalizer) | Step::Unnormalize(normalizer) => Some(normalizer),
            _ => None,
        });
        let mut listed = normalizers.flat_map(Normalizer::listed).map(String::as_str);
        listed.find(|name| known.iter().all(|features| features.get(name).is_none()))
    }

    /// Whether a step is told to let `feature` pass as it is.
    pub(crate) fn excludes(&self, feature: &str) -> bool {
        self.steps.iter().any(|(_, step)| match step {
            Step::Normalize(normalizer) | Step::Unnormalize(normalizer) => normalizer.excludes(feature),
            _ => false,
        })
    }

    /// Whether actions are relative to the state.
    pub(crate) fn makes_relative(&self) -> bool {
        self.relative().is_some_and(|relative| relative.enabled)
    }

    fn relative(&self) -> Option<&RelativeActions> {
        self.steps.iter().find_map(|(_, step)| match step {
            Step::Relative(relative) => Some(relative),
            _ => None,
        })
    }

    /// # Errors
    /// When a sentence can't be turned into tokens.
    pub(crate) fn run(&self, batch: &mut Batch) -> Result<(), InferError> {
        self.steps.iter().try_for_each(|(_, step)| step.run(batch))
    }

    /// Takes back what this postprocessor did to actions: what the model would have answered to have
    /// them, had its preprocessor seen [`Batch::state`].
    ///
    /// # Errors
    /// When actions are relative to the state and there is none.
    pub(crate) fn undo(&self, batch: &mut Batch) -> Result<(), InferError> {
        self.steps.iter().rev().try_for_each(|(_, step)| step.undo(batch))
    }
}
