//! ACT's part of `config.json`, checked.

use serde::Deserialize;
use serde_json::Value;

use crate::CheckpointError;
use crate::act::Act;
use crate::config::{Camera, ConfigFile};
use crate::family::{Family, Interface, Model, Plan};
use crate::features::{Feature, FeatureKind, STATE};
use crate::nn::{Activation, Built};
use crate::processor::Prompt;
use crate::vision::ResNetPlan;
use crate::weights::Loader;

/// Attention takes memory by the square of this; four 4K cameras would be twice as many.
const MAX_CAMERA_TOKENS: usize = 1 << 14;

/// Everything that shapes the network.
#[derive(Clone, Debug)]
pub(crate) struct ActConfig {
    pub chunk_size: usize,
    pub n_action_steps: usize,
    pub temporal_ensemble_coeff: Option<f64>,
    pub vision_backbone: String,
    pub backbone: ResNetPlan,
    pub pre_norm: bool,
    pub dim_model: usize,
    pub n_heads: usize,
    pub dim_feedforward: usize,
    pub activation: Activation,
    pub n_encoder_layers: usize,
    pub n_decoder_layers: usize,
    pub latent_dim: usize,
    pub state_width: Option<usize>,
    /// The environment state's feature name and width.
    pub environment: Option<(String, usize)>,
    /// In the order of the file.
    pub cameras: Vec<Camera>,
    pub action_width: usize,
    /// Features of which the network makes nothing.
    unused: Vec<String>,
}

/// As LeRobot writes it; where a key is absent LeRobot takes these defaults (`ACTConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct ActJson {
    n_obs_steps: usize,
    chunk_size: usize,
    n_action_steps: usize,
    temporal_ensemble_coeff: Option<f64>,
    vision_backbone: String,
    replace_final_stride_with_dilation: Value,
    pre_norm: bool,
    dim_model: usize,
    n_heads: usize,
    dim_feedforward: usize,
    feedforward_activation: String,
    n_encoder_layers: usize,
    n_decoder_layers: usize,
    latent_dim: usize,
}

impl Default for ActJson {
    fn default() -> Self {
        Self {
            n_obs_steps: 1,
            chunk_size: 100,
            n_action_steps: 100,
            temporal_ensemble_coeff: None,
            vision_backbone: "resnet18".into(),
            replace_final_stride_with_dilation: Value::Bool(false),
            pre_norm: false,
            dim_model: 512,
            n_heads: 8,
            dim_feedforward: 3200,
            feedforward_activation: "relu".into(),
            n_encoder_layers: 4,
            n_decoder_layers: 1,
            latent_dim: 32,
        }
    }
}

pub(crate) const FAMILY: Family = Family {
    name: "act",
    plan: |file| Ok(Box::new(ActConfig::new(file)?)),
    unused_keys: &[&[
        "pretrained_backbone_weights",
        "use_vae",
        "n_vae_encoder_layers",
        "dropout",
        "kl_weight",
        "optimizer_weight_decay",
        "optimizer_lr_backbone",
    ]],
    steps: &[],
    prompt: Prompt::None,
};

impl Plan for ActConfig {
    fn interface(&self) -> Interface {
        Interface {
            n_obs_steps: 1,
            chunk_size: self.chunk_size,
            n_action_steps: self.n_action_steps,
            action_width: self.action_width,
            temporal_ensemble_coeff: self.temporal_ensemble_coeff,
            guidance: None,
            trained_delay: 0,
            backbone_source: None,
            backbone: self.has_cameras().then(|| self.vision_backbone.clone()),
            scratch_bytes: self.scratch_bytes(),
        }
    }

    fn build(&self, loader: &mut Loader) -> Built<Box<dyn Model>> {
        Ok(Box::new(Act::build(self, loader)?))
    }

    /// The tensors that only training uses.
    fn knows_unused(&self, tensor: &str) -> bool {
        tensor.starts_with("model.vae_encoder") || tensor.starts_with("model.backbone.") && tensor.ends_with(".num_batches_tracked")
    }

    /// LeRobot makes nothing of states beside the robot's.
    fn may_miss(&self, feature: &str) -> bool {
        self.unused.iter().any(|unused| unused == feature)
    }
}

impl ActConfig {
    /// # Errors
    /// When a value has the wrong type, or makes no network.
    fn new(file: &ConfigFile) -> Result<Self, CheckpointError> {
        let json: ActJson = file.parse()?;
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        let ActJson { chunk_size, n_action_steps, dim_model, n_heads, .. } = json;
        if json.n_obs_steps != 1 {
            return fault("n_obs_steps", json.n_obs_steps.to_string(), "1");
        }
        if chunk_size == 0 {
            return fault("chunk_size", "0".into(), "1 or more");
        }
        if !(1..=chunk_size).contains(&n_action_steps) {
            return fault("n_action_steps", n_action_steps.to_string(), "1 to chunk_size");
        }
        if json.temporal_ensemble_coeff.is_some() && n_action_steps != 1 {
            return fault("n_action_steps", n_action_steps.to_string(), "1, as temporal_ensemble_coeff is set");
        }
        if json.temporal_ensemble_coeff.is_some_and(|c| !c.is_finite()) {
            return fault("temporal_ensemble_coeff", "not finite".into(), "a finite number");
        }
        if n_heads == 0 || dim_model == 0 || !dim_model.is_multiple_of(n_heads) || !dim_model.is_multiple_of(4) {
            return fault("dim_model", format!("{dim_model} with {n_heads} heads"), "a multiple of n_heads and of 4");
        }
        let activation = match json.feedforward_activation.as_str() {
            "relu" => Activation::Relu,
            "gelu" => Activation::Gelu,
            // LeRobot accepts the word, but its second linear layer then gets half of what it takes.
            "glu" => {
                return fault("feedforward_activation", "glu".into(), "relu or gelu; with glu LeRobot's own layers don't fit each other");
            }
            other => return fault("feedforward_activation", other.into(), "relu or gelu"),
        };
        let dilate = match &json.replace_final_stride_with_dilation {
            Value::Bool(dilate) => *dilate,
            Value::Number(n) if n.as_u64().is_some_and(|n| n <= 1) => n.as_u64() == Some(1),
            // As Python takes it.
            Value::Null => false,
            other => return fault("replace_final_stride_with_dilation", other.to_string(), "true, false, 0 or 1"),
        };
        let Some(backbone) = ResNetPlan::new(&json.vision_backbone, dilate) else {
            let expected = "resnet18, resnet34, resnet50, resnet101 or resnet152 (the first two without dilation)";
            return fault(
                "vision_backbone",
                format!("{} with replace_final_stride_with_dilation {dilate}", json.vision_backbone),
                expected,
            );
        };

        let (mut cameras, mut state_width, mut environment) = (Vec::new(), None, None);
        let mut unused = Vec::new();
        for (name, feature) in file.inputs.iter() {
            if let Some(camera) = Camera::new(name, feature) {
                cameras.push(camera);
                continue;
            }
            let Feature { kind, shape } = feature;
            match (kind, shape.as_slice()) {
                (FeatureKind::State, [n]) if name == STATE && *n > 0 => state_width = Some(*n),
                (FeatureKind::State, _) if name != STATE => unused.push(name.to_owned()),
                (FeatureKind::Env, [n]) if environment.is_none() && *n > 0 => environment = Some((name.to_owned(), *n)),
                _ => {
                    let expected = "VISUAL [3, H, W] of at most 8192 a side, observation.state as STATE [D], or one ENV [D]";
                    return fault(&format!("input_features.{name}"), format!("{kind} {shape:?}"), expected);
                }
            }
        }
        let tokens: usize = cameras.iter().map(|camera| backbone.map_size(camera.size()).into_iter().product::<usize>()).sum();
        if tokens > MAX_CAMERA_TOKENS {
            return fault("input_features", format!("{tokens} tokens' worth of images"), "at most 16384, a token for each 32x32 pixels");
        }
        if cameras.is_empty() && environment.is_none() {
            return fault("input_features", "no camera and no environment state".into(), "at least one of the two");
        }
        let action_width = file.action_width()?;
        Ok(Self {
            chunk_size,
            n_action_steps,
            temporal_ensemble_coeff: json.temporal_ensemble_coeff,
            vision_backbone: json.vision_backbone,
            backbone,
            pre_norm: json.pre_norm,
            dim_model,
            n_heads,
            dim_feedforward: json.dim_feedforward,
            activation,
            n_encoder_layers: json.n_encoder_layers,
            n_decoder_layers: json.n_decoder_layers,
            latent_dim: json.latent_dim,
            state_width,
            environment,
            cameras,
            action_width,
            unused,
        })
    }

    pub(crate) fn has_cameras(&self) -> bool {
        !self.cameras.is_empty()
    }

    /// Tokens before those of the cameras: latent, state, environment.
    pub(crate) fn vector_tokens(&self) -> usize {
        1 + usize::from(self.state_width.is_some()) + usize::from(self.environment.is_some())
    }

    /// About what the largest intermediates take: the backbone's first feature maps (64 channels at
    /// half the resolution, in and out of a layer) and the attention of the encoder.
    fn scratch_bytes(&self) -> u64 {
        let pixels: usize = self.cameras.iter().map(|camera| camera.height.div_ceil(2) * camera.width.div_ceil(2)).sum();
        let cells = |camera: &Camera| self.backbone.map_size(camera.size()).into_iter().product::<usize>();
        let tokens = self.vector_tokens() + self.cameras.iter().map(cells).sum::<usize>();
        4 * 2 * (pixels as u64 * 64 + self.n_heads as u64 * (tokens as u64).pow(2))
    }
}
