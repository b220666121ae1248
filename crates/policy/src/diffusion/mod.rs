//! Diffusion Policy (Chi et al. 2023, arXiv 2303.04137) as LeRobot's `DiffusionPolicy` runs it: a
//! network removes noise step by step from a trajectory of actions, knowing the last observations.

mod config;
mod unet;

use candle_core::{Device, Result, Tensor};

use config::DiffusionConfig;
pub(crate) use config::FAMILY;
use unet::Unet;

use crate::denoise::denoise;
use crate::family::Model;
use crate::features::STATE;
use crate::nn::Built;
use crate::processor::{Array, Batch};
use crate::sampling::Sampling;
use crate::vision::KeypointEncoder;
use crate::weights::Loader;

/// The network with its weights.
#[derive(Debug)]
pub(crate) struct Diffusion {
    config: DiffusionConfig,
    /// One for all cameras, or one each in their order.
    encoders: Vec<KeypointEncoder>,
    unet: Unet,
    device: Device,
}

impl Diffusion {
    /// Takes every tensor that inference needs from `loader`.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    pub(crate) fn build(config: &DiffusionConfig, loader: &mut Loader) -> Built<Self> {
        let name = "diffusion.rgb_encoder";
        let encoders = match config.camera_size {
            None => Vec::new(),
            Some(size) if config.separate_encoders => {
                let encoder = |i| KeypointEncoder::new(loader, &format!("{name}.{i}"), &config.encoder, size);
                (0..config.cameras.len()).map(encoder).collect::<Built<_>>()?
            }
            Some(size) => vec![KeypointEncoder::new(loader, name, &config.encoder, size)?],
        };
        let unet = Unet::new(loader, config, config.observed_width())?;
        Ok(Self { config: config.clone(), encoders, unet, device: loader.device().clone() })
    }

    /// The features of all observation steps, oldest first, each step's state, cameras and environment
    /// in a row: `[1, n]`.
    fn observe(&self, batch: &Batch) -> Result<Tensor> {
        let steps = self.config.n_obs_steps;
        let vector = |name: &str| batch.tensor(name, &self.device)?.reshape((steps, ()));
        let mut parts = vec![vector(STATE)?];
        let images = self.config.cameras.iter().map(|name| self.images(batch, name)).collect::<Result<Vec<_>>>()?;
        match self.encoders.as_slice() {
            [] => {}
            [shared] if !self.config.separate_encoders => {
                let features = shared.run(&Tensor::cat(&images, 0)?)?;
                for camera in 0..images.len() {
                    parts.push(features.narrow(0, camera * steps, steps)?);
                }
            }
            own => {
                for (encoder, images) in own.iter().zip(&images) {
                    parts.push(encoder.run(images)?);
                }
            }
        }
        if let Some((name, _)) = &self.config.environment {
            parts.push(vector(name)?);
        }
        Tensor::cat(&parts, 1)?.reshape((1, ()))
    }

    /// A camera's images, as the encoders take them: `[n_obs_steps, h, w, 3]`.
    fn images(&self, batch: &Batch, camera: &str) -> Result<Tensor> {
        let images = batch.tensor(camera, &self.device)?;
        let [.., height, width, channels] = *images.dims() else {
            candle_core::bail!("{camera} is no image: {:?}", images.shape());
        };
        self.config.encoder.prepare(&images.reshape(((), height, width, channels))?)
    }
}

impl Model for Diffusion {
    fn run(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Array> {
        let mut answers = self.run_many(std::slice::from_ref(batch), std::slice::from_mut(sampling))?;
        answers.pop().ok_or_else(|| candle_core::Error::Msg("there is no answer".to_owned()))
    }

    /// A trajectory has a few rows, for which all of the network's weights are read at each step: those of several
    /// observations are read once. Images are many rows, and each observation's are seen by themselves.
    fn run_many(&self, batches: &[Batch], samplings: &mut [Sampling]) -> Result<Vec<Array>> {
        let observed = batches.iter().map(|batch| self.observe(batch)).collect::<Result<Vec<_>>>()?;
        let shape = [self.config.horizon, self.config.action_width];
        let modulations = |index: usize, timesteps: &[f32]| self.unet.modulations(timesteps, &observed[index]);
        let network = |x: &Tensor, modulation: &Tensor| self.unet.run(x, modulation);
        let samples = denoise(&self.config.scheduler, samplings, shape, &self.device, modulations, network)?;
        // The trajectory begins at the oldest observation.
        let [_, width] = shape;
        let rows = self.config.rows();
        let answer =
            |sample: Vec<f32>| Array { shape: vec![1, rows.len(), width], values: sample[rows.start * width..rows.end * width].to_vec() };
        Ok(samples.into_iter().map(answer).collect())
    }

    fn gains_together(&self) -> bool {
        true
    }
}
