//! A name becomes verified files: `owner/name[@revision]` on the Hugging Face Hub, or a local path.
//!
//! ```
//! use sinew_hub::ModelRef;
//!
//! let model = ModelRef::parse("someone/act_pick_place@v2")?;
//! assert_eq!(model.to_string(), "someone/act_pick_place@v2");
//! assert!(matches!(ModelRef::parse("./checkpoint")?, ModelRef::Local(_)));
//! // `sinew_hub::fetch_model(&model, |transfer| ...)` then gives the folder with its files.
//! # Ok::<(), sinew_hub::ParseModelRefError>(())
//! ```
//!
//! Downloads land in huggingface_hub's own cache and layout, so a policy that Python has fetched is
//! not fetched again, and the other way round. The environment is huggingface_hub's too: `HF_HOME`,
//! `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` (or the token that its login stored) and
//! `HF_HUB_OFFLINE`.
//!
//! Of a policy's repository only what a policy consists of is fetched, never a pickle; see
//! [`is_policy_file`]. Of a dataset's, each file when it is asked for, or parts of it; see [`HubDataset`].

#![forbid(unsafe_code)]

mod account;
mod api;
mod cache;
mod dataset;
mod down;
mod error;
mod http;
mod hub;
mod jobs;
mod name;
mod options;
mod pace;
mod range;
mod search;
mod stock;
mod up;

pub use account::{Account, DeviceLogin};
pub use api::{Refs, RepoFile, RepoInfo};
pub use dataset::HubDataset;
pub use down::{Download, Downloaded, Fetched, fetch_model, is_policy_file};
pub use error::{CacheHint, Gate, HubError, TokenState};
pub use hub::{Event, Hub, Listener, Resolved, Transfer};
pub use jobs::{Job, JobId, JobSpec, JobStage};
pub use name::{HubRepo, ModelRef, ParseModelRefError, RepoKind};
pub use options::{EndpointLogin, HubOptions, Token};
pub use pace::give_way_by;
pub use range::RemoteFile;
pub use search::{Search, Sort};
pub use stock::{CachedRepo, Flaw, Pruned, Verified};
pub use up::{CheckFolder, Created, PublishState, Publisher, UploadOptions, Uploaded};
