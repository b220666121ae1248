//! SmolVLA (Shukor et al. 2025, arXiv 2506.01844), as LeRobot's `SmolVLAPolicy` runs it: the language
//! model of a small vision-language model reads the images, the instruction and the joint state once;
//! beside it, an action expert that looks at its keys and values turns noise into a chunk, step by
//! step.
//!
//! LeRobot pads prompts and stands in for cameras that are not there, and masks what it padded. What
//! is masked changes nothing, so it is left out here.

mod aloha;
mod backbone;
mod config;
mod expert;
mod vlm;

use candle_core::{Device, Result, Tensor, bail};

pub(crate) use config::FAMILY;

use crate::family::Model;
use crate::features::STATE;
use crate::flow::integrate;
use crate::nn::{Built, Embedding, Linear};
use crate::processor::{Array, Batch};
use crate::sampling::Sampling;
use crate::vision::{Padding, SigLip, resize_with_padding};
use crate::weights::Loader;
use config::SmolVlaConfig;
use expert::Expert;
use vlm::Vlm;

/// The network with its weights.
#[derive(Debug)]
pub(crate) struct SmolVla {
    vision: SigLip,
    /// From a square of patches to a token.
    connector: Linear,
    embedding: Embedding,
    state: Linear,
    vlm: Vlm,
    expert: Expert,
    config: SmolVlaConfig,
}

impl SmolVla {
    /// Takes every tensor that inference needs from `loader`.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    fn build(config: &SmolVlaConfig, loader: &mut Loader) -> Built<Self> {
        // A model that was compiled whole when it was saved has a name more.
        let name = if loader.has("model._orig_mod.state_proj.weight") { "model._orig_mod" } else { "model" };
        let vlm = format!("{name}.vlm_with_expert.vlm");
        let (text, vision) = (&config.backbone.text, &config.backbone.vision);
        let square = vision.hidden * config.backbone.scale_factor.pow(2);
        // Where the head shares the table's numbers, safetensors keeps only one of the two names.
        let table = format!("{vlm}.model.text_model.embed_tokens.weight");
        let table = if loader.has(&table) { table } else { format!("{vlm}.lm_head.weight") };
        Ok(Self {
            vision: SigLip::new(loader, &format!("{vlm}.model.vision_model"), vision)?,
            connector: Linear::without_bias(loader, &format!("{vlm}.model.connector.modality_projection.proj"), [text.hidden, square])?,
            embedding: Embedding::new(loader, &table, [text.vocabulary, text.hidden])?,
            state: Linear::new(loader, &format!("{name}.state_proj"), [text.hidden, config.max_state_dim])?,
            vlm: Vlm::new(loader, &format!("{vlm}.model.text_model"), text, config.layers.len())?,
            expert: Expert::new(loader, name, config)?,
            config: config.clone(),
        })
    }

    /// Everything that the language model reads, `[tokens, hidden]`: the images, the instruction, the
    /// state.
    fn prefix(&self, batch: &Batch) -> Result<Tensor> {
        let device = self.expert.device();
        let scale = (self.config.backbone.text.hidden as f64).sqrt();
        let (present, missing): (Vec<&String>, Vec<&String>) =
            self.config.cameras.iter().partition(|camera| batch.features.contains_key(*camera));
        if present.is_empty() {
            bail!("there is an image of none of the cameras, expected one of {} at least", self.config.cameras.join(", "));
        }
        let images = present.into_iter().map(Some).chain(missing.into_iter().take(self.config.empty_cameras).map(|_| None));
        let mut tokens = Vec::new();
        for camera in images {
            if let Some(special) = self.config.image_tokens {
                tokens.push(self.embedding.run(&[special.fake, special.global])?);
            }
            if let Some(camera) = camera {
                tokens.push((self.image(batch, camera, device)? * scale)?);
            }
            if let Some(special) = self.config.image_tokens {
                tokens.push(self.embedding.run(&[special.fake])?);
            }
        }
        let Some(sentence) = &batch.tokens else { bail!("the preprocessor left no tokens, expected a tokenizer_processor in it") };
        let ids: Vec<u32> = sentence.ids.iter().zip(&sentence.mask).filter(|(_, is_there)| **is_there).map(|(id, _)| *id).collect();
        if !ids.is_empty() {
            tokens.push((self.embedding.run(&ids)? * scale)?);
        }
        tokens.push(self.state.run(&self.state_values(batch, device)?)?);
        Tensor::cat(&tokens, 0)
    }

    /// The tokens of one camera's image, `[n, hidden]`.
    fn image(&self, batch: &Batch, camera: &str, device: &Device) -> Result<Tensor> {
        let image = batch.tensor(camera, device)?;
        let image = match (self.config.frame, batch.features.get(camera)) {
            (Some(frame @ [height, width]), Some(Array { shape, values })) if shape.len() == 4 => {
                let pixels = resize_with_padding(values, [shape[1], shape[2]], frame, Padding::LeftTop)?;
                Tensor::from_vec(pixels, (1, height, width, 3), device)?
            }
            _ => image,
        };
        let patches = self.vision.run(&image.affine(2.0, -1.0)?)?;
        // Squares of patches side by side, row by row.
        let (n, hidden) = patches.dims2()?;
        let factor = self.config.backbone.scale_factor;
        let side = n.isqrt() / factor;
        let squares = patches.reshape(&[side, factor, side, factor, hidden][..])?.permute([0, 2, 1, 3, 4])?;
        self.connector.run(&squares.reshape((side * side, factor * factor * hidden))?)
    }

    /// `[1, max_state_dim]`
    fn state_values(&self, batch: &Batch, device: &Device) -> Result<Tensor> {
        let Some(state) = batch.features.get(STATE) else { bail!("the preprocessor left no feature {STATE}") };
        let mut values = state.values.clone();
        if self.config.adapt_to_pi_aloha {
            aloha::decode_state(&mut values);
        }
        values.resize(self.config.max_state_dim, 0.0);
        Tensor::from_vec(values, (1, self.config.max_state_dim), device)
    }
}

impl Model for SmolVla {
    fn run(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Array> {
        let (rows, width) = (self.config.chunk_size, self.config.max_action_dim);
        let memory = self.vlm.run(self.prefix(batch)?)?;
        let mut context = self.expert.context(&memory, rows)?;
        let noise = sampling.initial(&[rows, width])?;
        let noise = Tensor::from_vec(noise.values, (rows, width), self.expert.device())?;
        let chunk =
            integrate(noise, self.config.num_steps, sampling.guidance.as_ref(), |x, step| self.expert.velocity(&mut context, x, step))?;
        let mut answer = Array::of_rows(&chunk.narrow(1, 0, self.config.action_width)?.contiguous()?)?;
        if self.config.adapt_to_pi_aloha {
            answer.values.chunks_exact_mut(self.config.action_width).for_each(aloha::encode_action);
        }
        Ok(answer)
    }
}
