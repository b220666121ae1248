//! The layers that models are made of, on candle, on one sample at a time: rows of tokens are
//! `[n, dim]`, sequences `[t, channels]`, images `[n, h, w, channels]`.

mod activation;
mod attention;
mod bridge;
mod conv;
mod elementwise;
mod encoder;
mod gated;
mod held;
mod linear;
mod norm;
mod rotary;

pub(crate) use attention::{Attention, Heads, KeyValues, Mask, attend};
pub(crate) use conv::{Conv, Conv1d, ConvTranspose1d, Depthwise, each_of, max_pool};
pub(crate) use elementwise::{add, multiply};
pub(crate) use encoder::{EncoderLayer, EncoderNames, EncoderPlan, Sight};
pub(crate) use gated::Gated;
pub(crate) use linear::{Embedding, Linear};
pub(crate) use norm::{GroupNorm, LayerNorm, RmsNorm};
pub(crate) use rotary::Rotary;

use crate::CheckpointError;
pub(crate) use crate::kernels::{Activation, Window};

/// What building a layer answers.
pub(crate) type Built<T> = Result<T, CheckpointError>;
