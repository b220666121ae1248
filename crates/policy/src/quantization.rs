//! Weights in fewer bits, for less memory or time.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;

use crate::kernels::Form;

/// A way to keep a policy's weights smaller than they are in its file. Answers then differ from
/// LeRobot's by more than rounding: [`Checkpoint::quantization_loss`](crate::Checkpoint::quantization_loss) measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Quantization {
    /// The weights of linear layers as whole numbers of 8 bits, with an `f32` scale for every 32 inputs
    /// of an output: 1.125 bytes a weight. They are multiplied in `f32`. Convolutions, norms and layers
    /// of fewer than 65,536 weights, such as the first and the last, stay as they are.
    Q8,
    /// Weights and inputs of the same layers as whole numbers of 8 bits, which are multiplied as such: an `f32`
    /// scale for each output of the weights, one for each row of inputs. 1 byte a weight, faster than `f32`, and less
    /// accurate than `Q8`.
    Int8,
}

impl Quantization {
    /// Of how many weights a layer must have to be quantised.
    const FEWEST: usize = 1 << 16;

    /// Whether a layer of so many weights is quantised.
    pub(crate) fn takes(self, weights: usize) -> bool {
        weights >= Self::FEWEST
    }

    /// What `outputs` times `inputs` weights in `f32` take more than quantised ones.
    pub(crate) fn saved_bytes(self, [outputs, inputs]: [u64; 2]) -> u64 {
        match self {
            // 4 bytes less 1.125.
            Self::Q8 => outputs * inputs * 23 / 8,
            // An output has a scale and a sum of its weights.
            Self::Int8 => (outputs * inputs * 3).saturating_sub(outputs * 8),
        }
    }

    /// How a layer that is quantised keeps its weights.
    pub(crate) fn form(self) -> Form {
        match self {
            Self::Q8 => Form::Codes,
            Self::Int8 => Form::Integers,
        }
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Q8 => "q8",
            Self::Int8 => "int8",
        })
    }
}

/// A name that is no quantisation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("reading the quantisation {0:?}: expected q8 or int8")]
pub struct ParseQuantizationError(String);

impl FromStr for Quantization {
    type Err = ParseQuantizationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "q8" => Ok(Self::Q8),
            "int8" => Ok(Self::Int8),
            _ => Err(ParseQuantizationError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantisations_are_read_as_they_are_written() {
        for quantization in [Quantization::Q8, Quantization::Int8] {
            assert_eq!(quantization.to_string().parse(), Ok(quantization));
        }
        for wrong in ["", "Q8", "q4", "q8 ", "INT8", "int4"] {
            assert!(wrong.parse::<Quantization>().is_err(), "{wrong}");
        }
    }
}
