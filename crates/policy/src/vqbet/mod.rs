//! VQ-BeT (Lee et al. 2024, arXiv 2403.03181) as LeRobot's `VQBeTPolicy` runs it: a transformer over
//! the last observations names two codes of a learned vocabulary of action chunks, one refining the
//! other, and an offset from what they stand for.
//!
//! LeRobot also predicts chunks for the observations before and the steps after, which only training
//! looks at, and which the one that is executed doesn't depend on: they are left out.

mod config;
mod gpt;

use candle_core::{Device, Result, Tensor};

pub(crate) use config::FAMILY;
use config::{TOKENS_PER_STEP, VqBetConfig};
use gpt::Gpt;

use crate::family::Model;
use crate::features::STATE;
use crate::nn::{Activation, Built, Linear};
use crate::processor::{Array, Batch};
use crate::sampling::{Sampling, choose};
use crate::vision::KeypointEncoder;
use crate::weights::Loader;

/// A primary and a secondary code.
const CODEBOOKS: usize = 2;

/// The network with its weights.
#[derive(Debug)]
pub(crate) struct VqBet {
    config: VqBetConfig,
    encoder: KeypointEncoder,
    image: Linear,
    state: Linear,
    /// What asks for an action, `[1, input]`.
    question: Tensor,
    gpt: Gpt,
    head: CodeHead,
    /// For each codebook and code, an offset of the whole chunk.
    offsets: Linear,
    /// `[codes, code_dim]` each.
    codebooks: [Tensor; CODEBOOKS],
    decoder: [Linear; 3],
    device: Device,
}

/// How likely each code is.
#[derive(Debug)]
enum CodeHead {
    /// Of both codebooks side by side.
    AtOnce(Linear),
    /// The second layer also gets which primary code was drawn.
    InTurn([Linear; CODEBOOKS]),
}

impl VqBet {
    /// Takes every tensor that inference needs from `loader`.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    pub(crate) fn build(config: &VqBetConfig, loader: &mut Loader) -> Built<Self> {
        let VqBetConfig { codes, input_dim, output_dim, decoder_dim, .. } = *config;
        let chunk = config.chunk_size * config.action_width;
        let encoder = KeypointEncoder::new(loader, "vqbet.rgb_encoder", &config.encoder, config.camera_size)?;
        let question = loader.tensor("vqbet.action_token", &[1, 1, input_dim])?;
        let head = "vqbet.action_head";
        let bins = |name: &str| format!("{head}.map_to_cbet_preds_{name}.0");
        let code_head = if config.sequentially {
            CodeHead::InTurn([
                Linear::new(loader, &bins("primary_bin"), [codes, output_dim])?,
                Linear::new(loader, &bins("secondary_bin"), [codes, output_dim + codes])?,
            ])
        } else {
            CodeHead::AtOnce(Linear::new(loader, &bins("bin"), [CODEBOOKS * codes, output_dim])?)
        };
        let mut codebook = |i: usize| {
            let name = format!("{head}.vqvae_model.vq_layer.layers.{i}._codebook.embed");
            let book = loader.tensor(&name, &[1, codes, config.code_dim])?;
            book.squeeze(0).map_err(|e| loader.build_error(e))
        };
        let codebooks = [codebook(0)?, codebook(1)?];
        let mut decoder =
            |i: usize, [n_out, n_in]: [usize; 2]| Linear::new(loader, &format!("{head}.vqvae_model.decoder.{i}"), [n_out, n_in]);
        let decoder =
            [decoder(0, [decoder_dim, config.code_dim])?, decoder(2, [decoder_dim, decoder_dim])?, decoder(4, [chunk, decoder_dim])?];
        Ok(Self {
            encoder,
            image: Linear::new(loader, "vqbet.rgb_feature_projector.0", [input_dim, config.encoder.width()])?,
            state: Linear::new(loader, "vqbet.state_projector.0", [input_dim, config.state_width])?,
            question: question.squeeze(0).map_err(|e| loader.build_error(e))?,
            gpt: Gpt::new(loader, "vqbet.policy", config, TOKENS_PER_STEP * config.n_obs_steps)?,
            head: code_head,
            offsets: Linear::new(loader, &bins("offset"), [CODEBOOKS * codes * chunk, output_dim])?,
            codebooks,
            decoder,
            config: config.clone(),
            device: loader.device().clone(),
        })
    }

    /// Image, state and question of each observation step, oldest first: `[3 * n_obs_steps, input]`.
    fn tokens(&self, batch: &Batch) -> Result<Tensor> {
        let steps = self.config.n_obs_steps;
        let images = batch.tensor(&self.config.camera, &self.device)?;
        let [.., height, width, channels] = *images.dims() else {
            candle_core::bail!("{} is no image: {:?}", self.config.camera, images.shape());
        };
        let images = self.config.encoder.prepare(&images.reshape((steps, height, width, channels))?)?;
        let images = self.image.run(&self.encoder.run(&images)?)?;
        let states = self.state.run(&batch.tensor(STATE, &self.device)?.reshape((steps, ()))?)?;
        let questions = self.question.broadcast_as(states.shape())?.contiguous()?;
        Tensor::stack(&[images, states, questions], 1)?.reshape((TOKENS_PER_STEP * steps, ()))
    }

    /// Draws a code from each codebook: the first up to which the probabilities of `feature
    /// [1, output]` add up to more than that codebook's number in 0..1.
    fn draw(&self, feature: &Tensor, numbers: &[f32]) -> Result<[usize; CODEBOOKS]> {
        let codes = self.config.codes;
        let pick = |logits: &Tensor, number: f32| choose(&logits.flatten_all()?.to_vec1()?, self.config.temperature, number.into());
        match &self.head {
            CodeHead::AtOnce(both) => {
                let logits = both.run(feature)?;
                Ok([pick(&logits.narrow(1, 0, codes)?, numbers[0])?, pick(&logits.narrow(1, codes, codes)?, numbers[1])?])
            }
            CodeHead::InTurn([first, second]) => {
                let primary = pick(&first.run(feature)?, numbers[0])?;
                let chosen: Vec<f32> = (0..codes).map(|code| f32::from(u8::from(code == primary))).collect();
                let feature = Tensor::cat(&[feature, &Tensor::from_vec(chosen, (1, codes), &self.device)?], 1)?;
                Ok([primary, pick(&second.run(&feature)?, numbers[1])?])
            }
        }
    }
}

impl Model for VqBet {
    fn run(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Array> {
        let feature = self.gpt.last(&self.tokens(batch)?)?;
        let chosen = self.draw(&feature, &sampling.numbers(&[CODEBOOKS, 1])?.values)?;
        let VqBetConfig { codes, chunk_size, action_width, .. } = self.config;
        let offsets = self.offsets.run(&feature)?.reshape((CODEBOOKS * codes, chunk_size * action_width))?;
        let [primary, secondary] = chosen;
        let offset = (offsets.narrow(0, primary, 1)? + offsets.narrow(0, codes + secondary, 1)?)?;
        let code = (self.codebooks[0].narrow(0, primary, 1)? + self.codebooks[1].narrow(0, secondary, 1)?)?;
        let [rise, middle, fall] = &self.decoder;
        let hidden = middle.run_then(&rise.run_then(&code, Activation::Relu)?, Activation::Relu)?;
        Array::of_rows(&fall.run_onto(&hidden, &offset)?.reshape((chunk_size, action_width))?)
    }
}
