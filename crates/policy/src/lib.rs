//! From a LeRobot checkpoint folder to actions.

#![deny(unsafe_code)]

mod act;
mod bind;
mod checkpoint;
mod error;
mod features;
mod infer;
mod info;
mod nn;
mod normalize;
mod processor;
mod weights;

pub use act::TemporalEnsembler;
pub use bind::{BoundPolicy, Fit, FitRow};
pub use checkpoint::Checkpoint;
pub use error::{BindError, CheckpointError, InferError};
pub use features::{Feature, FeatureKind, Features};
pub use infer::{Actions, InferReport, Inputs};
pub use info::{CameraInfo, FeatureInfo, Info};

/// The policy families that can be run, by LeRobot's names.
pub const FAMILIES: [&str; 1] = ["act"];
