//! What it costs in accuracy to keep weights in fewer bits.

use std::fmt;

use serde::Serialize;

use crate::infer::Inputs;
use crate::{Checkpoint, InferError};

/// How far one answer by quantised weights is from the answer to the same inputs, with the same noise,
/// by the weights as they are in the file. In the dataset's units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct QuantizationLoss {
    /// The largest difference between two numbers of the answers.
    pub max_delta: f32,
    /// The square root of the mean of the squared differences.
    pub rms_delta: f32,
    /// From the smallest to the largest number of the answer by full weights.
    pub range: f32,
}

impl QuantizationLoss {
    /// The largest difference as a part of the range.
    pub fn share(&self) -> f32 {
        if self.max_delta == 0.0 { 0.0 } else { self.max_delta / self.range }
    }
}

impl fmt::Display for QuantizationLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max_delta, rms_delta, range } = self;
        let share = self.share() * 100.0;
        write!(f, "at most {max_delta:.2e} off, {share:.2} % of the {range:.2} that the answer ranges over ({rms_delta:.1e} in the mean)")
    }
}

impl Checkpoint {
    /// Answers `inputs` by the weights as they are in the file and by the quantised ones; `None` where
    /// the checkpoint was not opened with [`OpenOptions::quantize`](crate::OpenOptions::quantize).
    ///
    /// The weights as they are are read a layer at a time, again for each product, so that this takes little
    /// more memory than the quantised ones do, and several times as long as an answer.
    ///
    /// # Errors
    /// As [`infer`](Checkpoint::infer).
    pub fn quantization_loss(&self, inputs: &Inputs) -> Result<Option<QuantizationLoss>, InferError> {
        let Some(quantization) = self.quantization else { return Ok(None) };
        let full = {
            let batch = self.preprocessed(inputs)?;
            let (answer, observed) = self.normalized_by(&*self.build(|loader| loader.leaving(quantization))?, batch, inputs, None)?;
            self.unnormalized(answer, observed)?.values
        };
        let ours = self.infer(inputs)?.values;
        let deltas = || ours.iter().zip(&full).map(|(ours, full)| (ours - full).abs());
        let squares: f64 = deltas().map(|delta| f64::from(delta).powi(2)).sum();
        Ok(Some(QuantizationLoss {
            max_delta: deltas().fold(0.0, f32::max),
            rms_delta: (squares / full.len().max(1) as f64).sqrt() as f32,
            range: full.iter().copied().fold(f32::MIN, f32::max) - full.iter().copied().fold(f32::MAX, f32::min),
        }))
    }
}
