//! PaliGemma (arXiv 2407.07726): images through SigLIP and a projection, then the prompt, are the
//! rows of a Gemma.

use candle_core::{Device, Result, Tensor, bail};

use crate::CheckpointError;
use crate::nn::{Built, Embedding, Linear};
use crate::pi::config::PiConfig;
use crate::pi::gemma::{Gemma, Norms, Size, layers_of};
use crate::processor::Batch;
use crate::vision::{Padding, PatchPositions, SigLip, SigLipPlan, resize_with_padding};
use crate::weights::Loader;

/// LeRobot always makes the vision tower with these.
const VISION_HEADS: usize = 16;
const VISION_NORM_EPS: f64 = 1e-6;

/// Along a side of an image; attention takes time by the fourth power of this. LeRobot has 16.
const MAX_PATCHES: usize = 128;

#[derive(Debug)]
pub(crate) struct PaliGemma {
    cameras: Vec<String>,
    /// Of the square into which images are fitted, in pixels.
    side: usize,
    vision: SigLip,
    projection: Linear,
    /// The table of tokens.
    tokens: Embedding,
    pub language: Gemma,
    pub norms: Norms,
    device: Device,
}

/// What all names in the file begin with: LeRobot saves `model.`, files converted from OpenPI have
/// nothing.
pub(crate) fn root(loader: &Loader) -> &'static str {
    let is_bare = |name: &String| name.starts_with("paligemma_with_expert.");
    if loader.file().names().iter().any(is_bare) { "" } else { "model." }
}

impl PaliGemma {
    /// Takes `<root>paligemma_with_expert.paligemma.*` but for the language model's head. `answers` is
    /// as for [`Gemma::new`].
    pub(crate) fn new(config: &PiConfig, loader: &mut Loader, root: &str, answers: bool) -> Built<Self> {
        let name = format!("{root}paligemma_with_expert.paligemma.model");
        let size = Size::of(loader, &format!("{name}.language_model"))?;
        let plan = vision_plan(loader, &format!("{name}.vision_tower.vision_model"), config.side)?;
        let vision = SigLip::new(loader, &format!("{name}.vision_tower.vision_model"), &plan)?;
        let projection = Linear::new(loader, &format!("{name}.multi_modal_projector.linear"), [size.width, plan.hidden])?;
        let table = table(loader, root);
        let [entries, _] = loader.shape(&table)?;
        let tokens = Embedding::new(loader, &table, [entries, size.width])?;
        let language = Gemma::new(loader, &format!("{name}.language_model"), size, answers)?;
        let norms = Norms::new(loader, &format!("{name}.language_model"), size)?;
        Ok(Self {
            cameras: config.cameras.clone(),
            side: config.side,
            vision,
            projection,
            tokens,
            language,
            norms,
            device: loader.device().clone(),
        })
    }

    /// How many tokens there are.
    pub(crate) fn entries(&self) -> usize {
        self.tokens.entries()
    }

    /// The rows of all images in order and of the prompt, `[n, width]`. A camera without an image and
    /// the padding of the prompt have none: LeRobot has rows for them that nothing looks at and that
    /// count for no position.
    ///
    /// # Errors
    /// When there is no image at all, or no prompt.
    pub(crate) fn prompt(&self, batch: &Batch) -> Result<Tensor> {
        let mut rows = Vec::new();
        for camera in &self.cameras {
            let Some(image) = batch.features.get(camera) else { continue };
            let [1, height, width, 3] = image.shape[..] else {
                bail!("the preprocessor left {camera} with shape {:?}, expected [1, height, width, 3]", image.shape);
            };
            let fitted = resize_with_padding(&image.values, [height, width], [self.side; 2], Padding::Centred)?;
            let pixels: Vec<f32> = fitted.into_iter().map(|value| value * 2.0 - 1.0).collect();
            let pixels = Tensor::from_vec(pixels, (1, self.side, self.side, 3), &self.device)?;
            rows.push(self.projection.run(&self.vision.run(&pixels)?)?);
        }
        if rows.is_empty() {
            bail!("no image was given, expected at least one of {}", self.cameras.join(", "));
        }
        let Some(tokens) = &batch.tokens else {
            bail!("the preprocessor left no tokens, expected it to tokenize the task");
        };
        let ids: Vec<u32> = tokens.ids.iter().zip(&tokens.mask).filter(|(_, counts)| **counts).map(|(id, _)| *id).collect();
        rows.push(self.embed(&ids)?);
        Tensor::cat(&rows, 0)
    }

    /// The rows of `ids`, `[ids.len(), width]`.
    pub(crate) fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        self.tokens.run(ids)? * (self.language.size.width as f64).sqrt()
    }
}

/// The name of the table of tokens. It may be missing where the language model's head is there, whose
/// weight is the same.
fn table(loader: &Loader, root: &str) -> String {
    let table = format!("{root}paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight");
    let head = head(root);
    if !loader.has(&table) && loader.has(&head) { head } else { table }
}

/// The name of the language model's head.
fn head(root: &str) -> String {
    format!("{root}paligemma_with_expert.paligemma.lm_head.weight")
}

/// Takes the language model's head: from token rows to a weight for each token. Where it is missing
/// its weight is that of the table.
pub(crate) fn language_head(loader: &mut Loader, root: &str, paligemma: &PaliGemma) -> Built<Linear> {
    let head = head(root);
    let name = if loader.has(&head) { head } else { table(loader, root) };
    let name = name.strip_suffix(".weight").unwrap_or(&name);
    Linear::without_bias(loader, name, [paligemma.entries(), paligemma.language.size.width])
}

/// What shapes the vision tower `name`, from its tensors.
fn vision_plan(loader: &Loader, name: &str, side: usize) -> Built<SigLipPlan> {
    let patch = format!("{name}.embeddings.patch_embedding.weight");
    let [hidden, channels, height, width] = loader.shape(&patch)?;
    let [mlp, _] = loader.shape(&format!("{name}.encoder.layers.0.mlp.fc1.weight"))?;
    let sizes = side.div_ceil(MAX_PATCHES)..=side;
    if hidden == 0 || !hidden.is_multiple_of(VISION_HEADS) || channels != 3 || height != width || !sizes.contains(&height) {
        let size = height.clamp(*sizes.start(), side);
        return Err(CheckpointError::WrongShape {
            path: loader.file().path().to_owned(),
            name: patch,
            found: vec![hidden, channels, height, width],
            expected: vec![hidden.next_multiple_of(VISION_HEADS).max(VISION_HEADS), 3, size, size],
        });
    }
    Ok(SigLipPlan {
        image_size: side,
        patch_size: height,
        hidden,
        layers: layers_of(loader, &format!("{name}.encoder")),
        heads: VISION_HEADS,
        mlp,
        eps: VISION_NORM_EPS,
        positions: PatchPositions::Fixed,
    })
}
