//! The float types that a device step may cast to. Values stay `f32` here; what a narrower type would
//! lose is rounded away after each operation, as in LeRobot.

use half::{bf16, f16};

/// What a value of the pipeline is in LeRobot at this point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Precision {
    #[default]
    F32,
    F16,
    Bf16,
}

impl Precision {
    pub(crate) fn round_all(self, values: &mut [f32]) {
        match self {
            Self::F32 => {}
            Self::F16 => values.iter_mut().for_each(|value| *value = AsF16::round(*value)),
            Self::Bf16 => values.iter_mut().for_each(|value| *value = AsBf16::round(*value)),
        }
    }
}

/// Rounding to a type, known at compile time, for loops over images.
pub(crate) trait Round {
    fn round(value: f32) -> f32;
}

pub(crate) struct AsF32;
pub(crate) struct AsF16;
pub(crate) struct AsBf16;

impl Round for AsF32 {
    fn round(value: f32) -> f32 {
        value
    }
}

impl Round for AsF16 {
    fn round(value: f32) -> f32 {
        f16::from_f32(value).to_f32()
    }
}

impl Round for AsBf16 {
    fn round(value: f32) -> f32 {
        bf16::from_f32(value).to_f32()
    }
}
