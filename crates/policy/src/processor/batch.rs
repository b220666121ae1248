//! What flows through a pipeline.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::Precision;

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
    /// What the features are in LeRobot, to which their values are rounded.
    pub precision: Precision,
    /// The instruction sentence.
    pub task: String,
    /// The sentence as the tokenizer step left it.
    pub tokens: Option<Tokens>,
    /// Which of the robots that it was trained with a model is to think of, where it has several.
    pub domain: usize,
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
