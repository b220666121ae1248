//! What takes the time on a CPU: matrix products, convolutions, attention and norms, on slices of
//! `f32`.
//!
//! Every kernel is written once over [`simd::Simd`] and compiled for AVX-512, AVX2 with FMA, NEON
//! and plain arrays; [`Isa::chosen`] says which one runs. Matrices that stay are packed when they are
//! loaded ([`Packed`]). Work is shared out over the threads of rayon's current pool by outputs, never
//! by summands, so that the answers are the same bytes on any number of threads. A kernel that is
//! given sizes which don't fit panics: the layers check them.

#![allow(unsafe_code, reason = "vectors are loaded from, and threads write to, places inside slices whose bounds are checked once")]

mod attention;
mod codes;
mod conv;
mod direct;
mod gemm;
mod halves;
#[cfg(test)]
mod integer_tests;
mod integers;
mod math;
mod matrix;
mod memory;
mod pack;
mod rows;
mod simd;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
mod threads;
mod winograd;

pub(crate) use attention::KeyValues;
pub(crate) use conv::{Conv, ConvTranspose, Images, Window};
pub(crate) use gemm::linear;
pub(crate) use math::Activation;
pub(crate) use matrix::Matrix;
pub(crate) use pack::{Form, Packed, RowSource};
pub(crate) use rows::{Combine, RowNorm, activated, combined, depthwise, group_norm, max_pool, normalize, rotated};
pub(crate) use simd::Isa;
