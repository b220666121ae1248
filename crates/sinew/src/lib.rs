//! Sinew as a library: a policy by its name, from the Hugging Face Hub or a folder.
//!
//! ```no_run
//! use sinew::{Inputs, Policy};
//!
//! let policy = Policy::from_pretrained("lerobot/act_aloha_sim_transfer_cube_human")?;
//! let image = vec![0; 480 * 640 * 3];
//! let inputs = Inputs::new().vector("observation.state", vec![0.0; 14]).image("observation.images.top", 480, 640, image);
//! let actions = policy.infer(&inputs)?;
//! println!("{} actions of {} numbers", actions.rows, actions.width);
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
pub use sinew_hub::{Event, Listener, ModelRef, Transfer};
pub use sinew_policy::{Actions, BoundPolicy, Checkpoint, Device, Fit, Inputs, OpenOptions, Quantization};
#[cfg(feature = "datasets")]
pub use sinew_recorder::{DatasetReader, Item, Loader, Windows};
