//! A policy by its name.

use std::path::Path;
use std::sync::Arc;

use sinew_core::RobotDescription;
use sinew_hub::{Event, Hub, HubError, ModelRef, ParseModelRefError};
use sinew_policy::{ActionSelector, Actions, BindError, BoundPolicy, Checkpoint, CheckpointError, InferError, Info, Inputs, OpenOptions};
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

/// A policy of any family, checked. Its weights are read when first needed; clones share them, and have a queue of actions
/// of their own.
#[derive(Clone, Debug)]
pub struct Policy {
    checkpoint: Arc<Checkpoint>,
    selector: ActionSelector,
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
        Self::from_pretrained_of(&Hub::from_env(), name, options, listener)
    }

    /// The same from a Hub with other options than the environment's.
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained).
    pub fn from_pretrained_of(
        hub: &Hub,
        name: &str,
        options: OpenOptions<'_>,
        listener: impl Fn(Event<'_>) + Send + Sync + 'static,
    ) -> Result<Self, PretrainedError> {
        let fetched = hub.fetch(&ModelRef::parse(name)?, &listener)?;
        Ok(Self::open_of(hub, &fetched.folder, options)?)
    }

    /// Opens the checkpoint folder `dir` by `options`. What it refers to (a tokenizer, a backbone's
    /// configuration, the base model of an adapter) and doesn't hold is looked for where [`OpenOptions::resources`] says, on the
    /// Hub unless set.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open(dir: &Path, options: OpenOptions<'_>) -> Result<Self, CheckpointError> {
        Self::open_of(&Hub::from_env(), dir, options)
    }

    fn open_of(hub: &Hub, dir: &Path, options: OpenOptions<'_>) -> Result<Self, CheckpointError> {
        let resources = HubResources(hub.clone());
        let checkpoint = Arc::new(options.or_resources(&resources).open(dir)?);
        Ok(Self { selector: ActionSelector::new(Arc::clone(&checkpoint)), checkpoint })
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

    /// The action `[A]` for one step, in the dataset's units: from the queue that the newest chunk filled, or of a new chunk.
    ///
    /// # Errors
    /// As [`ActionSelector::select_action`].
    pub fn select_action(&mut self, inputs: &Inputs) -> Result<Vec<f32>, InferError> {
        self.selector.select_action(inputs)
    }

    /// Empties the queue of [`select_action`](Self::select_action); for the start of an episode, which goes on with new noise.
    pub fn reset(&mut self) {
        self.selector.reset();
    }

    /// The policy as `robot` runs it: in radians and the robot's joint order.
    ///
    /// # Errors
    /// As [`BoundPolicy::bind`].
    pub fn bind(&self, robot: &RobotDescription) -> Result<BoundPolicy, BindError> {
        BoundPolicy::bind(&self.checkpoint, robot)
    }
}
