//! LeRobot's processor pipelines: named steps that surround the model, executed in the order of the
//! checkpoint's own JSON. The set of steps is closed, keyed by LeRobot's registry names; a step that
//! is not in it is an error when the checkpoint is opened.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::{parse, read_json};
use crate::normalize::Normalizer;
use crate::{CheckpointError, Features};

/// Floats with a shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Array {
    /// A model's answer `rows [n, width]` with its batch axis: `[1, n, width]`.
    pub(crate) fn of_rows(rows: &Tensor) -> candle_core::Result<Self> {
        let (n, width) = rows.dims2()?;
        Ok(Self { shape: vec![1, n, width], values: rows.flatten_all()?.to_vec1()? })
    }
}

/// What flows through a pipeline: features by name (before the model: the observation; after it:
/// the action) and the instruction.
///
/// Vectors are `[D]`, images `[H, W, 3]` in 0..1 (channels last, whatever `config.json` says); with
/// a leading axis of observation steps, oldest first, where the policy takes several; with a batch
/// axis of 1 before all once the step for it has run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Batch {
    pub features: BTreeMap<String, Array>,
    /// The instruction sentence.
    pub task: String,
    /// The sentence as the tokenizer step left it.
    pub tokens: Option<Tokens>,
    /// The state as the relative-actions step saw it, which the absolute-actions step adds.
    pub state: Option<Array>,
}

/// A sentence in a tokenizer's numbers, with padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    /// `false` for padding.
    pub mask: Vec<bool>,
}

impl Batch {
    /// The feature `name` on `device`.
    pub(crate) fn tensor(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        match self.features.get(name) {
            Some(Array { shape, values }) => Tensor::from_slice(values, shape.as_slice(), device),
            None => candle_core::bail!("the preprocessor left no feature {name}"),
        }
    }
}

/// The registry names of the steps that [`Step::new`] knows.
const KNOWN_STEPS: [&str; 5] =
    ["rename_observations_processor", "to_batch_processor", "device_processor", "normalizer_processor", "unnormalizer_processor"];

#[derive(Clone, Debug)]
enum Step {
    /// Old name to new name.
    Rename(BTreeMap<String, String>),
    /// Adds the batch axis that models expect.
    ToBatch,
    /// Nothing to do: everything is on the CPU and `f32` already.
    Device,
    Normalize(Normalizer),
    Unnormalize(Normalizer),
}

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
struct StepJson {
    registry_name: Option<String>,
    class: Option<String>,
    #[serde(default)]
    config: serde_json::Map<String, Value>,
    state_file: Option<String>,
}

#[derive(Deserialize)]
struct RenameJson {
    rename_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct DeviceJson {
    float_dtype: Option<String>,
}

impl Pipeline {
    /// Reads `dir/file` and the state files it names; `features` are the model's, whose statistics
    /// must be there.
    ///
    /// # Errors
    /// When a file is missing or malformed, a step is unknown, or a statistic is missing.
    pub(crate) fn open(dir: &Path, file: &str, features: &Features) -> Result<Self, CheckpointError> {
        let path = dir.join(file);
        let json: PipelineJson = parse(&path, read_json(&path)?)?;
        let step = |(index, step): (usize, StepJson)| {
            let name = step.registry_name.clone().or(step.class.clone()).unwrap_or_default();
            Step::new(dir, &path, index, step, features).map(|step| (name, step))
        };
        Ok(Self { steps: json.steps.into_iter().enumerate().map(step).collect::<Result<_, _>>()? })
    }

    /// The steps' registry names in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the observation gets its batch axis, without which no model can take it.
    pub(crate) fn adds_batch_axis(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Step::ToBatch))
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

    pub(crate) fn run(&self, batch: &mut Batch) {
        for (_, step) in &self.steps {
            step.run(batch);
        }
    }
}

impl Step {
    fn new(dir: &Path, path: &Path, index: usize, json: StepJson, features: &Features) -> Result<Self, CheckpointError> {
        let name = json.registry_name.or(json.class).unwrap_or_default();
        let config = Value::Object(json.config);
        let normalizer = |config| Normalizer::open(dir, path, config, json.state_file.as_deref(), features);
        match name.as_str() {
            "rename_observations_processor" => Ok(Self::Rename(parse::<RenameJson>(path, config)?.rename_map)),
            "to_batch_processor" => Ok(Self::ToBatch),
            "device_processor" => match parse::<DeviceJson>(path, config)?.float_dtype.as_deref() {
                None | Some("float32" | "float") => Ok(Self::Device),
                Some(other) => Err(CheckpointError::Config {
                    path: path.to_owned(),
                    key: format!("float_dtype of step {index}"),
                    found: other.to_owned(),
                    expected: "null or float32".into(),
                }),
            },
            "normalizer_processor" => Ok(Self::Normalize(normalizer(config)?)),
            "unnormalizer_processor" => Ok(Self::Unnormalize(normalizer(config)?)),
            _ => Err(CheckpointError::UnknownStep { path: path.to_owned(), index, found: name, known: KNOWN_STEPS.join(", ") }),
        }
    }

    fn run(&self, batch: &mut Batch) {
        match self {
            Self::Rename(map) => {
                let old = std::mem::take(&mut batch.features);
                batch.features = old.into_iter().map(|(name, array)| (map.get(&name).cloned().unwrap_or(name), array)).collect();
            }
            Self::ToBatch => batch.features.values_mut().for_each(|array| array.shape.insert(0, 1)),
            Self::Device => {}
            Self::Normalize(normalizer) => normalizer.normalize(batch),
            Self::Unnormalize(normalizer) => normalizer.unnormalize(batch),
        }
    }
}
