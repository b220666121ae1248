//! ACT, the Action Chunking Transformer (Zhao et al. 2023, arXiv 2304.13705), as LeRobot's
//! `ACTPolicy` runs it: ResNet feature maps of all cameras, the joint state and a latent of zeros
//! are the tokens of a transformer encoder; a decoder asks it for one action per row of the chunk.

mod config;

use candle_core::{Device, Result, Tensor};

use config::ActConfig;
pub(crate) use config::FAMILY;

use crate::config::Camera;
use crate::family::Model;
use crate::features::STATE;
use crate::nn::{Activation, Attention, Built, LayerNorm, Linear, add};
use crate::processor::{Array, Batch};
use crate::sampling::Sampling;
use crate::vision::{Names, Norm, ResNet};
use crate::weights::Loader;

/// What PyTorch's `LayerNorm` adds to the variance.
const LAYER_NORM_EPS: f64 = 1e-5;

/// The network with its weights.
#[derive(Debug)]
pub(crate) struct Act {
    cameras: Option<CameraInput>,
    latent: Linear,
    state: Option<Linear>,
    /// The environment state's feature and its projection.
    environment: Option<(String, Linear)>,
    /// Of every token of the encoder, `[tokens, dim]`: learned for the vectors, sines for the maps.
    token_positions: Tensor,
    encoder: Vec<EncoderLayer>,
    encoder_norm: Option<LayerNorm>,
    /// `[chunk, dim]`
    row_positions: Tensor,
    /// The decoder's rows when they first look at the tokens, `[chunk, dim]`. They start as zeros, so what they make of each
    /// other is the same for all observations.
    first_rows: Tensor,
    decoder: Vec<DecoderLayer>,
    decoder_norm: LayerNorm,
    action: Linear,
}

/// The cameras share one backbone.
#[derive(Debug)]
struct CameraInput {
    cameras: Vec<Camera>,
    backbone: ResNet,
    /// A convolution of size 1, which is a linear layer over the pixels of the map.
    projection: Linear,
}

impl Act {
    /// Takes every tensor that inference needs from `loader`.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    pub(crate) fn build(config: &ActConfig, loader: &mut Loader) -> Built<Self> {
        let dim = config.dim_model;
        let cameras = if config.has_cameras() {
            let backbone = ResNet::new(loader, "model.backbone", config.backbone, Names::Words, Norm::Batch)?;
            let name = "model.encoder_img_feat_input_proj";
            let projection = Linear::pointwise(loader, name, [dim, backbone.width], 2)?;
            Some(CameraInput { cameras: config.cameras.clone(), backbone, projection })
        } else {
            None
        };
        let latent = Linear::new(loader, "model.encoder_latent_input_proj", [dim, config.latent_dim])?;
        let state = config.state_width.map(|n| Linear::new(loader, "model.encoder_robot_state_input_proj", [dim, n])).transpose()?;
        let environment = match &config.environment {
            Some((name, n)) => Some((name.clone(), Linear::new(loader, "model.encoder_env_state_input_proj", [dim, *n])?)),
            None => None,
        };
        let learned = loader.tensor("model.encoder_1d_feature_pos_embed.weight", &[config.vector_tokens(), dim])?;
        let token_positions = token_positions(config, &learned).map_err(|e| loader.build_error(e))?;
        let encoder = (0..config.n_encoder_layers).map(|i| EncoderLayer::new(config, loader, i)).collect::<Built<_>>()?;
        let encoder_norm = config.pre_norm.then(|| LayerNorm::new(loader, "model.encoder.norm", dim, LAYER_NORM_EPS)).transpose()?;
        let row_positions = loader.tensor("model.decoder_pos_embed.weight", &[config.chunk_size, dim])?;
        let decoder = (0..config.n_decoder_layers).map(|i| DecoderLayer::new(config, loader, i)).collect::<Built<Vec<_>>>()?;
        let first_rows = match decoder.first() {
            Some(layer) if !loader.is_dry() => {
                let rows = row_positions.zeros_like().and_then(|zeros| layer.run_among_rows(&zeros, &row_positions));
                rows.map_err(|e| loader.build_error(e))?
            }
            _ => row_positions.zeros_like().map_err(|e| loader.build_error(e))?,
        };
        let decoder_norm = LayerNorm::new(loader, "model.decoder.norm", dim, LAYER_NORM_EPS)?;
        let action = Linear::new(loader, "model.action_head", [config.action_width, dim])?;
        Ok(Self {
            cameras,
            latent,
            state,
            environment,
            token_positions,
            encoder,
            encoder_norm,
            row_positions,
            first_rows,
            decoder,
            decoder_norm,
            action,
        })
    }
}

impl Model for Act {
    fn run(&self, batch: &Batch, _: &mut Sampling) -> Result<Array> {
        let device = self.token_positions.device();
        let mut tokens = vec![self.latent.of_zeros()?];
        if let Some(state) = &self.state {
            tokens.push(state.run(&batch.tensor(STATE, device)?)?);
        }
        if let Some((name, environment)) = &self.environment {
            tokens.push(environment.run(&batch.tensor(name, device)?)?);
        }
        if let Some(cameras) = &self.cameras {
            tokens.push(cameras.run(batch, device)?);
        }
        let mut x = Tensor::cat(&tokens, 0)?;
        for layer in &self.encoder {
            x = layer.run(&x, &self.token_positions)?;
        }
        if let Some(norm) = &self.encoder_norm {
            x = norm.run(&x)?;
        }
        let keys = add(&x, &self.token_positions)?;
        let mut rows = self.first_rows.clone();
        for (i, layer) in self.decoder.iter().enumerate() {
            if i > 0 {
                rows = layer.run_among_rows(&rows, &self.row_positions)?;
            }
            rows = layer.run_over_tokens(&rows, &self.row_positions, &x, &keys)?;
        }
        Array::of_rows(&self.action.run(&self.decoder_norm.run(&rows)?)?)
    }
}

impl CameraInput {
    /// The tokens of all cameras in order, `[tokens, dim]`. Neighbours with images of one size go
    /// through the backbone together.
    fn run(&self, batch: &Batch, device: &Device) -> Result<Tensor> {
        let mut tokens = Vec::new();
        for group in self.cameras.chunk_by(|a, b| (a.height, a.width) == (b.height, b.width)) {
            let images = group.iter().map(|camera| batch.tensor(&camera.name, device)).collect::<Result<Vec<_>>>()?;
            let maps = self.backbone.run(&Tensor::cat(&images, 0)?)?;
            tokens.push(self.projection.run(&maps.reshape(((), self.backbone.width))?)?);
        }
        Tensor::cat(&tokens, 0)
    }
}

/// The learned positions of the vectors, then a pattern of sines for each camera's map.
fn token_positions(config: &ActConfig, learned: &Tensor) -> Result<Tensor> {
    let mut parts = vec![learned.clone()];
    for camera in &config.cameras {
        let [height, width] = config.backbone.map_size([camera.height, camera.width]);
        parts.push(Tensor::from_vec(map_positions(height, width, config.dim_model), (height * width, config.dim_model), learned.device())?);
    }
    Tensor::cat(&parts, 0)
}

/// `[height * width, dim]`: half of `dim` tells the row, half the column, as sines and cosines in
/// turn of angles that run up to 2π along the axis, at falling frequencies.
fn map_positions(height: usize, width: usize, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let along = |index: usize, count: usize, out: &mut Vec<f32>| {
        let angle = (index + 1) as f32 / (count as f32 + 1e-6) * std::f32::consts::TAU;
        for i in 0..half {
            let slowed = angle / 10_000f32.powf((2 * (i / 2)) as f32 / half as f32);
            out.push(if i % 2 == 0 { slowed.sin() } else { slowed.cos() });
        }
    };
    let mut out = Vec::with_capacity(height * width * dim);
    for position in 0..height * width {
        along(position / width, height, &mut out);
        along(position % width, width, &mut out);
    }
    out
}

/// The two linear layers at the end of each transformer layer.
#[derive(Debug)]
struct FeedForward {
    rise: Linear,
    fall: Linear,
    activation: Activation,
}

impl FeedForward {
    fn new(config: &ActConfig, loader: &mut Loader, name: &str) -> Built<Self> {
        let (dim, hidden) = (config.dim_model, config.dim_feedforward);
        let rise = Linear::new(loader, &format!("{name}.linear1"), [hidden, dim])?;
        let fall = Linear::new(loader, &format!("{name}.linear2"), [dim, hidden])?;
        Ok(Self { rise, fall, activation: config.activation })
    }

    /// The answer to `x` added to `skip`.
    fn run_onto(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        self.fall.run_onto(&self.rise.run_then(x, self.activation)?, skip)
    }
}

/// A layer norm that stands before its sublayer (`pre_norm`) or after the sum with its input.
#[derive(Debug)]
struct Residual {
    norm: LayerNorm,
    pre_norm: bool,
}

impl Residual {
    fn new(config: &ActConfig, loader: &mut Loader, name: &str) -> Built<Self> {
        Ok(Self { norm: LayerNorm::new(loader, name, config.dim_model, LAYER_NORM_EPS)?, pre_norm: config.pre_norm })
    }

    /// `sublayer` adds what it makes of its first argument to its second.
    fn run(&self, x: &Tensor, sublayer: impl FnOnce(&Tensor, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if self.pre_norm { sublayer(&self.norm.run(x)?, x) } else { self.norm.run(&sublayer(x, x)?) }
    }
}

#[derive(Debug)]
struct EncoderLayer {
    attention: Attention,
    feed_forward: FeedForward,
    residuals: [Residual; 2],
}

impl EncoderLayer {
    fn new(config: &ActConfig, loader: &mut Loader, index: usize) -> Built<Self> {
        let name = format!("model.encoder.layers.{index}");
        Ok(Self {
            attention: Attention::new(loader, &format!("{name}.self_attn"), config.dim_model, config.n_heads)?,
            feed_forward: FeedForward::new(config, loader, &name)?,
            residuals: [Residual::new(config, loader, &format!("{name}.norm1"))?, Residual::new(config, loader, &format!("{name}.norm2"))?],
        })
    }

    fn run(&self, x: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let [first, second] = &self.residuals;
        let x = first.run(x, |x, skip| {
            let placed = add(x, positions)?;
            self.attention.run_onto(&placed, &placed, x, skip)
        })?;
        second.run(&x, |x, skip| self.feed_forward.run_onto(x, skip))
    }
}

#[derive(Debug)]
struct DecoderLayer {
    self_attention: Attention,
    cross_attention: Attention,
    feed_forward: FeedForward,
    residuals: [Residual; 3],
}

impl DecoderLayer {
    fn new(config: &ActConfig, loader: &mut Loader, index: usize) -> Built<Self> {
        let name = format!("model.decoder.layers.{index}");
        Ok(Self {
            self_attention: Attention::new(loader, &format!("{name}.self_attn"), config.dim_model, config.n_heads)?,
            cross_attention: Attention::new(loader, &format!("{name}.multihead_attn"), config.dim_model, config.n_heads)?,
            feed_forward: FeedForward::new(config, loader, &name)?,
            residuals: [
                Residual::new(config, loader, &format!("{name}.norm1"))?,
                Residual::new(config, loader, &format!("{name}.norm2"))?,
                Residual::new(config, loader, &format!("{name}.norm3"))?,
            ],
        })
    }

    /// Lets the rows look at each other.
    fn run_among_rows(&self, x: &Tensor, positions: &Tensor) -> Result<Tensor> {
        let [first, ..] = &self.residuals;
        first.run(x, |x, skip| {
            let placed = add(x, positions)?;
            self.self_attention.run_onto(&placed, &placed, x, skip)
        })
    }

    /// The rest of the layer, after [`run_among_rows`](Self::run_among_rows). `memory` is the encoder's answer, `keys` the same
    /// with positions.
    fn run_over_tokens(&self, x: &Tensor, positions: &Tensor, memory: &Tensor, keys: &Tensor) -> Result<Tensor> {
        let [_, second, third] = &self.residuals;
        let x = second.run(x, |x, skip| self.cross_attention.run_onto(&add(x, positions)?, keys, memory, skip))?;
        third.run(&x, |x, skip| self.feed_forward.run_onto(x, skip))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tensor_file::TensorFile;

    #[test]
    fn maps_have_lerobots_positions() {
        let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden/parts/map_positions.safetensors");
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.names().len(), 5);
        for name in file.names() {
            let info = file.spec(&name).unwrap();
            let [height, width, dim] = info.shape[..] else { panic!("{name}: {info:?}") };
            let theirs = file.floats(&name, info).unwrap();
            let ours = map_positions(height, width, dim);
            assert_eq!(ours.len(), theirs.len(), "{name}");
            let delta = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(delta < 1e-6, "{name}: {delta}");
        }
    }
}
