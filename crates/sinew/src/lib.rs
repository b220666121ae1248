//! Sinew as a library: a policy by its name, from the Hugging Face Hub or a folder.
//!
//! ```
//! use sinew::{Inputs, Policy};
//!
//! // Or `owner/name[@revision]`, such as "lerobot/act_aloha_sim_transfer_cube_human".
//! # let name = concat!(env!("CARGO_MANIFEST_DIR"), "/../policy/tests/golden/act/two_cameras_vae");
//! let mut policy = Policy::from_pretrained(name)?;
//! let image = || vec![0; 96 * 128 * 3];
//! let inputs = Inputs::new()
//!     .vector("observation.state", vec![0.0, -40.0, 35.0, 10.0, 0.0, 50.0])
//!     .image("observation.images.front", 96, 128, image())
//!     .image("observation.images.wrist", 96, 128, image());
//!
//! // A chunk of actions, or one action a step from a queue that a chunk fills.
//! let actions = policy.infer(&inputs)?;
//! println!("{} actions of {} numbers", actions.rows, actions.width);
//! assert_eq!(policy.select_action(&inputs)?, actions.row(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `datasets` the same for datasets: [`open_dataset`], [`open_dataset_streaming`].
//!
//! This crate joins what the others keep apart: `sinew-hub` fetches files and knows nothing of
//! policies, `sinew-policy` runs folders and knows nothing of the Hub.

#![forbid(unsafe_code)]

#[cfg(feature = "datasets")]
mod dataset;
mod policy;
mod resources;

#[cfg(feature = "datasets")]
pub use dataset::{
    DatasetError, EpisodeFrames, episode_frames, open_dataset, open_dataset_of, open_dataset_streaming, open_dataset_streaming_of,
};
pub use policy::{Policy, PretrainedError};
pub use sinew_core as core;
pub use sinew_hub::{Event, Hub, HubError, HubOptions, Listener, ModelRef, ParseModelRefError, Transfer};
pub use sinew_policy::{
    ActionSelector, Actions, BindError, BoundPolicy, Checkpoint, CheckpointError, Device, Fit, InferError, Info, Inputs, OpenOptions,
    Quantization, Resources,
};
#[cfg(feature = "datasets")]
pub use sinew_recorder::{DatasetReader, Images, Item, Loader, ReadError, Values, Windows};
