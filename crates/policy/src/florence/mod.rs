//! What reads images and text in Florence-2 (Xiao et al. 2023, arXiv 2311.06242), as transformers runs it: DaViT,
//! what joins its features to the text, and BART's encoder. The decoder is not here.

mod bart;
mod config;
mod davit;
mod projector;

use candle_core::{Result, Tensor, bail};

pub(crate) use config::{FlorenceJson, FlorencePlan};

use crate::nn::Built;
use crate::weights::Loader;
use bart::BartEncoder;
use davit::Davit;
use projector::Projector;

/// The model with its weights.
#[derive(Debug)]
pub(crate) struct Florence {
    vision: Davit,
    projector: Projector,
    text: BartEncoder,
}

/// How the tensors are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// As in transformers.
    Native,
    /// As in Microsoft's own code, with which the first checkpoints were made.
    Original,
}

impl Florence {
    /// Takes the tensors under `name`, such as `vision_tower.convs.0.conv.weight`, in either layout.
    pub(crate) fn new(loader: &mut Loader, name: &str, plan: &FlorencePlan) -> Built<Self> {
        let only_there = ["image_projection", "language_model.model.encoder.layernorm_embedding.weight"];
        let is_original = only_there.iter().any(|tensor| loader.has(&format!("{name}.{tensor}")));
        let layout = if is_original { Layout::Original } else { Layout::Native };
        Ok(Self {
            vision: Davit::new(loader, &format!("{name}.vision_tower"), &plan.vision, layout)?,
            projector: Projector::new(loader, name, &plan.vision, layout)?,
            text: BartEncoder::new(loader, &format!("{name}.language_model"), &plan.text, layout)?,
        })
    }

    /// From a normalised image `[1, h, w, 3]` to its tokens, `[tokens, width]`.
    pub(crate) fn see(&self, image: &Tensor) -> Result<Tensor> {
        self.projector.run(&self.vision.run(image)?)
    }

    /// What the encoder makes of an image's tokens and a text after them, padding included:
    /// `[tokens + ids.len(), width]`.
    pub(crate) fn read(&self, image: &Tensor, ids: &[u32]) -> Result<Tensor> {
        if ids.is_empty() {
            bail!("a text of no tokens, expected one at least");
        }
        self.text.run(&Tensor::cat(&[image, &self.text.embed(ids)?], 0)?)
    }
}
