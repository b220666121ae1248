//! What a policy family is to all that is not in its folder: one value, [`Family`].

use std::fmt;

use candle_core::Result;

use crate::config::ConfigFile;
use crate::guidance::GuidanceSettings;
use crate::nn::Built;
use crate::processor::{Array, Batch, NewStep, Prompt, StepJson};
use crate::sampling::Sampling;
use crate::weights::Loader;

/// A policy family.
#[derive(Debug)]
pub(crate) struct Family {
    /// LeRobot's name of it.
    pub name: &'static str,
    /// Reads and checks its configuration. Every key that it parses is known.
    pub plan: fn(&ConfigFile) -> Built<Box<dyn Plan>>,
    /// The other keys that LeRobot writes for it, of which nothing is made.
    pub unused_keys: &'static [&'static [&'static str]],
    /// The processor steps that only it brings.
    pub steps: &'static [NewStep],
    /// What its models read of the instruction.
    pub prompt: Prompt,
}

/// A family's configuration, checked: everything that is known of a policy before its weights are
/// read.
pub(crate) trait Plan: fmt::Debug + Send + Sync {
    fn interface(&self) -> Interface;

    /// Takes every tensor that inference needs from `loader`, on `loader`'s device.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    fn build(&self, loader: &mut Loader) -> Built<Box<dyn Model>>;

    /// Whether inference has no use for `tensor`, though LeRobot saves it.
    fn knows_unused(&self, tensor: &str) -> bool;

    /// The steps by which a preprocessor from before LeRobot had processor files turned the instruction into
    /// tokens; `None` where they are not known.
    fn old_text_steps(&self) -> Option<Vec<StepJson>> {
        None
    }

    /// Steps that a preprocessor must have, beside those that turn the instruction into tokens.
    fn needed_steps(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the camera `feature` may stay away.
    fn may_miss(&self, _feature: &str) -> bool {
        false
    }

    /// Whether images of any size are taken, because the model makes them fit.
    fn takes_any_image_size(&self) -> bool {
        false
    }

    /// Whether a new chunk can be made to continue another.
    fn takes_guidance(&self) -> bool {
        false
    }
}

/// What a policy is to whoever runs it.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    /// Observations that one answer takes, the last of which is now.
    pub n_obs_steps: usize,
    /// Rows in each answer.
    pub chunk_size: usize,
    /// Rows of an answer that are meant to be executed before the next.
    pub n_action_steps: usize,
    pub action_width: usize,
    pub temporal_ensemble_coeff: Option<f64>,
    /// The checkpoint's own settings for continuing a chunk.
    pub guidance: Option<GuidanceSettings>,
    /// Rows of another chunk that the model was trained to be given.
    pub trained_delay: usize,
    /// The name of the vision (and language) backbone, where there is one.
    pub backbone: Option<String>,
    /// Where the backbone's dimensions are from, if they are not in `config.json`.
    pub backbone_source: Option<String>,
    /// About what the largest intermediates take.
    pub scratch_bytes: u64,
}

/// A network with its weights.
pub(crate) trait Model: fmt::Debug + Send + Sync {
    /// From normalised features with a batch axis of 1 to normalised actions `[1, rows, width]`.
    fn run(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Array>;

    /// The same for several observations at once, each with a sampling of its own; the answers are those of
    /// [`run`](Self::run) to the bit.
    fn run_many(&self, batches: &[Batch], samplings: &mut [Sampling]) -> Result<Vec<Array>> {
        batches.iter().zip(samplings).map(|(batch, sampling)| self.run(batch, sampling)).collect()
    }

    /// Whether several at once take less time than one after the other: where the weights are read for a few rows.
    fn gains_together(&self) -> bool {
        false
    }
}
