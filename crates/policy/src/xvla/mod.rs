//! X-VLA (Zheng et al. 2025, arXiv 2510.10274) as LeRobot's `XVLAPolicy` runs it: Florence-2 reads the first
//! image and the instruction, and each other image by itself; a transformer that also reads prompts that were
//! learned for the robot takes noise to actions, which it answers anew at every step.

mod action;
mod config;
mod transformer;

use candle_core::{Device, Result, Tensor, bail};

pub(crate) use config::FAMILY;
use config::XvlaConfig;
use transformer::{Domain, Transformer};

use crate::family::Model;
use crate::features::STATE;
use crate::florence::Florence;
use crate::nn::Built;
use crate::processor::{Array, Batch};
use crate::sampling::Sampling;
use crate::vision::{Padding, resize_with_padding};
use crate::weights::Loader;

/// The network with its weights.
#[derive(Debug)]
pub(crate) struct Xvla {
    config: XvlaConfig,
    florence: Florence,
    transformer: Transformer,
    device: Device,
}

impl Xvla {
    /// Takes every tensor that inference needs from `loader`.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    fn build(config: &XvlaConfig, loader: &mut Loader) -> Built<Self> {
        Ok(Self {
            florence: Florence::new(loader, "model.vlm", &config.florence)?,
            transformer: Transformer::new(loader, "model.transformer", config)?,
            device: loader.device().clone(),
            config: config.clone(),
        })
    }

    /// What is read of the first image and the text, `[n, width]`, and of the other images, `[m, width]`.
    fn read(&self, batch: &Batch) -> Result<(Tensor, Tensor)> {
        let Some(tokens) = &batch.tokens else { bail!("the preprocessor left no tokens") };
        let mut images = Vec::new();
        for camera in self.config.cameras.iter().filter(|camera| batch.features.contains_key(*camera)) {
            images.push(self.florence.see(&self.image(batch, camera)?)?);
        }
        let Some((first, others)) = images.split_first() else {
            bail!("there is an image of none of the cameras, expected one of {} at least", self.config.cameras.join(", "));
        };
        let missing = self.config.num_image_views.saturating_sub(images.len());
        let mut others = others.to_vec();
        others.extend(vec![first.zeros_like()?; missing]);
        let others = if others.is_empty() { first.narrow(0, 0, 0)? } else { Tensor::cat(&others, 0)? };
        Ok((self.florence.read(first, &tokens.ids)?, others))
    }

    /// `[1, h, w, 3]`
    fn image(&self, batch: &Batch, camera: &str) -> Result<Tensor> {
        let image = batch.tensor(camera, &self.device)?;
        let (Some(frame @ [height, width]), Some(Array { shape, values })) = (self.config.frame, batch.features.get(camera)) else {
            return Ok(image);
        };
        let (_, h, w, _) = image.dims4()?;
        if shape.len() != 4 || [h, w] == frame {
            return Ok(image);
        }
        let pixels = resize_with_padding(values, [h, w], frame, Padding::LeftTop)?;
        Tensor::from_vec(pixels, (1, height, width, 3), &self.device)
    }

    /// The state cut to what the model takes, or filled up with zeros: `[proprio]`.
    fn state(&self, batch: &Batch) -> Result<Vec<f32>> {
        if self.config.proprio == 0 {
            return Ok(Vec::new());
        }
        let Some(state) = batch.features.get(STATE) else { bail!("the preprocessor left no feature {STATE}") };
        let mut values = state.values.clone();
        values.resize(self.config.proprio, 0.0);
        Ok(values)
    }
}

impl Model for Xvla {
    fn run(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Array> {
        let XvlaConfig { actions, chunk_size, steps, .. } = self.config;
        let domain: Domain = self.transformer.domain(batch.domain)?;
        let (text, images) = self.read(batch)?;
        let context = self.transformer.context(&domain, &text, &images)?;
        let mut state = self.state(batch)?;
        actions.hide_grippers(&mut state);
        let noise = sampling.initial(&[chunk_size, actions.model_width])?.values;
        let mut answer = vec![0.0; noise.len()];
        for step in (1..=steps).rev() {
            let time = (step as f64 / steps as f64) as f32;
            let mut noisy: Vec<f32> = noise.iter().zip(&answer).map(|(noise, action)| noise * time + action * (1.0 - time)).collect();
            noisy.chunks_exact_mut(actions.model_width).for_each(|row| actions.hide_grippers(row));
            answer = self.transformer.run(&domain, &context, &noisy, &state, time)?;
        }
        let values = answer.chunks_exact(actions.model_width).flat_map(|row| actions.finished(row)).collect();
        Ok(Array { shape: vec![1, chunk_size, actions.width], values })
    }
}
