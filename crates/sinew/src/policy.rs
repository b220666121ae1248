//! A policy by its name.

use std::path::Path;
use std::sync::Arc;

use sinew_core::RobotDescription;
use sinew_hub::{Event, Hub, HubError, ModelRef, ParseModelRefError};
use sinew_policy::{Actions, BindError, BoundPolicy, Checkpoint, CheckpointError, InferError, Info, Inputs, OpenOptions};
use thiserror::Error;

use crate::resources::HubResources;

/// A name that did not become a policy.
#[derive(Debug, Error)]
pub enum PretrainedError {
    #[error(transparent)]
    Name(#[from] ParseModelRefError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A policy of any family, checked. Its weights are read when first needed; clones share them.
#[derive(Clone, Debug)]
pub struct Policy {
    checkpoint: Arc<Checkpoint>,
}

impl Policy {
    /// `name` is `owner/name[@revision]` on the Hub, or a folder. Downloads land in
    /// huggingface_hub's cache, by its environment variables.
    ///
    /// # Errors
    /// When the name makes no sense, the files can't be had, or they are no policy that can be run.
    pub fn from_pretrained(name: &str) -> Result<Self, PretrainedError> {
        Self::from_pretrained_with(name, OpenOptions::new(), |_| {})
    }

    /// As [`from_pretrained`](Self::from_pretrained), opened by `options`; `listener` is told which commit it is and of each piece that arrives.
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained).
    pub fn from_pretrained_with(
        name: &str,
        options: OpenOptions<'_>,
        listener: impl Fn(Event<'_>) + Send + Sync + 'static,
    ) -> Result<Self, PretrainedError> {
        let fetched = Hub::from_env().fetch(&ModelRef::parse(name)?, &listener)?;
        Ok(Self::open(&fetched.folder, options)?)
    }

    /// Opens the checkpoint folder `dir` by `options`. What it refers to (a tokenizer, a backbone's
    /// configuration, the base model of an adapter) and doesn't hold is looked for on the Hub.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open(dir: &Path, options: OpenOptions<'_>) -> Result<Self, CheckpointError> {
        let resources = HubResources(Hub::from_env());
        Ok(Self { checkpoint: Arc::new(options.resources(&resources).open(dir)?) })
    }

    /// The checkpoint itself.
    pub fn checkpoint(&self) -> &Arc<Checkpoint> {
        &self.checkpoint
    }

    /// What the policy is.
    pub fn info(&self) -> &Info {
        self.checkpoint.info()
    }

    /// Runs the policy once, in the dataset's units.
    ///
    /// # Errors
    /// As [`Checkpoint::infer`].
    pub fn infer(&self, inputs: &Inputs) -> Result<Actions, InferError> {
        self.checkpoint.infer(inputs)
    }

    /// The policy as `robot` runs it: in radians and the robot's joint order.
    ///
    /// # Errors
    /// As [`BoundPolicy::bind`].
    pub fn bind(&self, robot: &RobotDescription) -> Result<BoundPolicy, BindError> {
        BoundPolicy::bind(&self.checkpoint, robot)
    }
}
