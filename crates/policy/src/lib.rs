//! From a LeRobot checkpoint folder to actions: opens and checks a checkpoint, surrounds the model
//! with the processors that the checkpoint names, runs it on the CPU, and binds it to a robot.
//!
//! ```
//! use sinew_policy::{Checkpoint, Inputs};
//!
//! # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/act/two_cameras_vae");
//! // Everything that can be wrong with the folder is found here, before the weights are read.
//! let checkpoint = Checkpoint::open(folder)?;
//! let info = checkpoint.info();
//! assert_eq!((info.family.as_str(), info.chunk_size), ("act", 20));
//!
//! // One inference, in the dataset's units and LeRobot's names.
//! let grey = || vec![128; 96 * 128 * 3];
//! let inputs = Inputs::new()
//!     .vector("observation.state", vec![0.0, -40.0, 35.0, 10.0, 0.0, 50.0])
//!     .image("observation.images.front", 96, 128, grey())
//!     .image("observation.images.wrist", 96, 128, grey());
//! let actions = checkpoint.infer(&inputs)?;
//! assert_eq!((actions.rows, actions.width), (20, 6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A robot runs a [`BoundPolicy`], which takes observations in radians and the robot's own order,
//! and exists only where the checkpoint and the robot fit ([`Fit`] shows both sides).
//!
//! What holds here:
//! - Nothing is executed that a checkpoint brings: no pickle is opened, processor steps come from a
//!   closed set, an unknown one is an error that names it.
//! - Nothing is filled in in silence: each tensor, shape, dtype and statistic that is needed must be
//!   there, and no tensor may be left over.
//! - The same inputs give the same bytes, on any number of threads (of one machine: the matrix
//!   product suits itself to the processor).
//! - Cameras are matched by name and go through the model in the order of `config.json`.
//!
//! A family is a folder beside `act` and one value, `family::Family`: its name, how its configuration
//! (`family::Plan`) is read, its processor steps and its prompt. The plan builds the network
//! (`family::Model`). `families` lists the families, a line each.
//!
//! Not here: training, downloading. GPUs are reached through candle (features `cuda` and `metal`); the
//! layers then use its operations instead of the kernels in here.

#![deny(unsafe_code)]

mod act;
mod adapter;
mod bind;
mod card;
mod checkpoint;
mod chunk;
mod clip;
mod config;
mod denoise;
mod device;
mod diffusion;
mod ensemble;
mod error;
mod families;
mod family;
mod features;
mod files;
mod fit;
mod florence;
mod flow;
mod guidance;
mod infer;
mod info;
mod json;
mod kernels;
mod multi_task_dit;
mod nn;
mod output;
mod pi;
mod processor;
mod quantization;
mod quantization_loss;
mod sampling;
mod select;
mod smolvla;
mod tensor_file;
mod together;
mod vision;
mod vqbet;
mod weights;
mod xvla;

pub use bind::BoundPolicy;
pub use checkpoint::{Checkpoint, OpenOptions};
pub use chunk::{Actions, Chunk};
pub use device::{Device, ParseDeviceError};
pub use ensemble::TemporalEnsembler;
pub use error::{BindError, CheckpointError, InferError};
pub use families::FAMILIES;
pub use features::{Feature, FeatureKind, Features};
pub use files::Resources;
pub use fit::{Fit, FitRow};
pub use guidance::{Guidance, GuidanceMode, GuidanceSchedule, GuidanceSettings};
pub use infer::{InferReport, Inputs, Timing};
pub use info::{CameraInfo, FeatureInfo, Info, Terms, TokenizerInfo};
pub use quantization::{ParseQuantizationError, Quantization};
pub use quantization_loss::QuantizationLoss;
pub use select::ActionSelector;
pub use together::Together;

#[cfg(test)]
mod golden;
