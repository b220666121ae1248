//! Multi-Task DiT (arXiv 2507.05331) as LeRobot's `MultiTaskDiTPolicy` runs it: CLIP reads the images and the
//! instruction; knowing that and the states, a transformer over the rows of the trajectory takes it from noise
//! to actions, by diffusion or by flow matching.

mod config;
mod objective;
mod transformer;

use candle_core::{Device, Result, Tensor, bail};

pub(crate) use config::FAMILY;
use config::MultiTaskDitConfig;
use transformer::Transformer;

use crate::clip::{ClipText, ClipVision};
use crate::family::Model;
use crate::features::STATE;
use crate::nn::{Built, Linear};
use crate::processor::{Array, Batch};
use crate::sampling::Sampling;
use crate::vision::resize_and_crop;
use crate::weights::Loader;

/// The network with its weights.
#[derive(Debug)]
pub(crate) struct MultiTaskDit {
    config: MultiTaskDitConfig,
    /// One for all cameras, or one each in their order; none without cameras.
    vision: Vec<ClipVision>,
    text: ClipText,
    /// From the text's features to those that the transformer gets.
    projection: Linear,
    transformer: Transformer,
    device: Device,
}

impl MultiTaskDit {
    /// Takes every tensor that inference needs from `loader`.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    fn build(config: &MultiTaskDitConfig, loader: &mut Loader) -> Built<Self> {
        let name = "observation_encoder";
        let vision = match &config.vision {
            None => Vec::new(),
            Some(plan) if config.separate_encoders => {
                let encoder = |i| ClipVision::new(loader, &format!("{name}.vision_encoders.{i}.model.vision_model"), &plan.plan);
                (0..config.cameras.len()).map(encoder).collect::<Built<_>>()?
            }
            Some(plan) => vec![ClipVision::new(loader, &format!("{name}.vision_encoder.model.vision_model"), &plan.plan)?],
        };
        let text = &config.text.plan;
        Ok(Self {
            vision,
            text: ClipText::new(loader, &format!("{name}.text_encoder.text_encoder.text_model"), text)?,
            projection: Linear::new(loader, &format!("{name}.text_encoder.projection"), [config.hidden_dim, text.layer.hidden])?,
            transformer: Transformer::new(loader, "noise_predictor", config)?,
            device: loader.device().clone(),
            config: config.clone(),
        })
    }

    /// The features of all observation steps, oldest first, each step's state, cameras and text in a row:
    /// `[1, n]`.
    fn observe(&self, batch: &Batch) -> Result<Tensor> {
        let steps = self.config.n_obs_steps;
        let mut parts = vec![batch.tensor(STATE, &self.device)?.reshape((steps, ()))?];
        for (i, camera) in self.config.cameras.iter().enumerate() {
            let Some(encoder) = self.vision.get(i).or(self.vision.first()) else { bail!("there is no vision encoder") };
            parts.push(encoder.run(&self.images(batch, camera)?)?);
        }
        let Some(tokens) = &batch.tokens else { bail!("the preprocessor left no tokens") };
        let text = self.projection.run(&self.text.run(tokens)?)?;
        parts.push(text.broadcast_as((steps, self.config.hidden_dim))?.contiguous()?);
        Tensor::cat(&parts, 1)?.reshape((1, ()))
    }

    /// A camera's images, as the encoders take them: `[n_obs_steps, h, w, 3]`.
    fn images(&self, batch: &Batch, camera: &str) -> Result<Tensor> {
        let images = batch.tensor(camera, &self.device)?;
        let [.., height, width, channels] = *images.dims() else { bail!("{camera} is no image: {:?}", images.shape()) };
        resize_and_crop(&images.reshape(((), height, width, channels))?, self.config.resize, self.config.crop)
    }
}

impl Model for MultiTaskDit {
    fn run(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Array> {
        let observed = self.observe(batch)?;
        let shape = [self.config.horizon, self.config.action_width];
        let modulations = |steps: &[f32]| self.transformer.modulations(steps, &observed);
        let network = |x: &Tensor, modulation: &Tensor| self.transformer.run(x, modulation);
        let sample = self.config.objective.sample(sampling, shape, &self.device, modulations, network)?;
        // The trajectory begins at the oldest observation.
        let [_, width] = shape;
        let rows = self.config.rows();
        let values = sample[rows.start * width..rows.end * width].to_vec();
        Ok(Array { shape: vec![1, rows.len(), width], values })
    }
}
