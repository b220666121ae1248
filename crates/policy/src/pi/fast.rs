//! π0-FAST: the language model writes actions as tokens, one after the other.

use candle_core::{Result, Tensor};

use crate::family::Model;
use crate::nn::{Built, Linear};
use crate::pi::config::{FastConfig, PiConfig};
use crate::pi::gemma::Past;
use crate::pi::paligemma::{PaliGemma, language_head, root};
use crate::processor::{Array, Batch};
use crate::sampling::Sampling;
use crate::weights::Loader;

/// π0-FAST with its weights.
#[derive(Debug)]
pub(crate) struct PiFast {
    paligemma: PaliGemma,
    head: Linear,
    writing: FastConfig,
    rows: usize,
    action_width: usize,
}

impl PiFast {
    /// Takes every tensor that inference needs from `loader`.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    pub(crate) fn build(config: &PiConfig, fast: &FastConfig, loader: &mut Loader) -> Built<Self> {
        let root = root(loader);
        let paligemma = PaliGemma::new(config, loader, root, true)?;
        Ok(Self {
            head: language_head(loader, root, &paligemma)?,
            paligemma,
            writing: fast.clone(),
            rows: config.n_action_steps,
            action_width: config.action_width,
        })
    }

    /// The tokens that follow the prompt, up to the end of the actions or as many as there may be.
    fn decode(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Vec<u32>> {
        let (PaliGemma { language, norms, .. }, FastConfig { tokens, temperature, max_decoding_steps }) = (&self.paligemma, &self.writing);
        let begin = self.paligemma.embed(&[tokens.begin])?;
        let mut rows = Tensor::cat(&[self.paligemma.prompt(batch)?, begin], 0)?;
        let mut past = Past::default();
        let mut written = Vec::new();
        while written.len() < *max_decoding_steps {
            let (last, now) = language.run(&rows, norms, &past, 1)?;
            let weights: Vec<f32> = self.head.run(&last)?.flatten_all()?.to_vec1()?;
            let token = sampling.token(&weights, *temperature)?;
            if token == tokens.end {
                break;
            }
            written.push(token);
            rows = self.paligemma.embed(&[token])?;
            past = now;
        }
        Ok(written)
    }
}

impl Model for PiFast {
    fn run(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Array> {
        let written = self.decode(batch, sampling)?;
        let values = self.writing.tokens.actions(&written, self.rows, self.action_width)?;
        Ok(Array { shape: vec![1, self.rows, self.action_width], values })
    }
}
