//! VQ-BeT's part of `config.json`, checked.

use serde::Deserialize;

use super::VqBet;
use crate::config::{Camera, ConfigFile, OPTIMIZER_KEYS};
use crate::family::{Family, Interface, Model, Plan};
use crate::features::{Feature, FeatureKind, STATE};
use crate::nn::Built;
use crate::processor::Prompt;
use crate::vision::{KeypointPlan, Norm, ResNetPlan};
use crate::weights::Loader;

/// What no network comes near, so that a false number can't ask for memory.
const MAX_SIZE: usize = 1 << 16;

/// Attention takes memory by the square of this.
const MAX_OBS_STEPS: usize = 1 << 10;

/// A token for the image, the state and the action of each observation step.
pub(crate) const TOKENS_PER_STEP: usize = 3;

/// Everything that shapes the network.
#[derive(Clone, Debug)]
pub(crate) struct VqBetConfig {
    pub n_obs_steps: usize,
    pub chunk_size: usize,
    vision_backbone: String,
    pub encoder: KeypointPlan,
    pub codes: usize,
    pub code_dim: usize,
    pub decoder_dim: usize,
    pub block_size: usize,
    pub input_dim: usize,
    pub output_dim: usize,
    pub layers: usize,
    /// Divides `hidden_dim`.
    pub heads: usize,
    pub hidden_dim: usize,
    /// Above 0.
    pub temperature: f64,
    /// Whether the secondary code is drawn knowing the primary one.
    pub sequentially: bool,
    pub state_width: usize,
    /// The image's feature name.
    pub camera: String,
    /// Height and width.
    pub camera_size: [usize; 2],
    pub action_width: usize,
    /// Features of which the network makes nothing.
    unused: Vec<String>,
}

/// As LeRobot writes it; where a key is absent LeRobot takes these defaults (`VQBeTConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct VqBetJson {
    n_obs_steps: usize,
    n_action_pred_token: usize,
    action_chunk_size: usize,
    vision_backbone: String,
    crop_shape: Option<[usize; 2]>,
    use_group_norm: bool,
    spatial_softmax_num_keypoints: usize,
    vqvae_n_embed: usize,
    vqvae_embedding_dim: usize,
    vqvae_enc_hidden_dim: usize,
    gpt_block_size: usize,
    gpt_input_dim: usize,
    gpt_output_dim: usize,
    gpt_n_layer: usize,
    gpt_n_head: usize,
    gpt_hidden_dim: usize,
    bet_softmax_temperature: f64,
    sequentially_select: bool,
}

impl Default for VqBetJson {
    fn default() -> Self {
        Self {
            n_obs_steps: 5,
            n_action_pred_token: 3,
            action_chunk_size: 5,
            vision_backbone: "resnet18".into(),
            crop_shape: Some([84, 84]),
            use_group_norm: false,
            spatial_softmax_num_keypoints: 32,
            vqvae_n_embed: 16,
            vqvae_embedding_dim: 256,
            vqvae_enc_hidden_dim: 128,
            gpt_block_size: 500,
            gpt_input_dim: 512,
            gpt_output_dim: 512,
            gpt_n_layer: 8,
            gpt_n_head: 8,
            gpt_hidden_dim: 512,
            bet_softmax_temperature: 0.1,
            sequentially_select: false,
        }
    }
}

pub(crate) const FAMILY: Family = Family {
    name: "vqbet",
    plan: |file| Ok(Box::new(VqBetConfig::new(file)?)),
    unused_keys: &[
        OPTIMIZER_KEYS,
        &[
            "crop_is_random",
            "pretrained_backbone_weights",
            "n_vqvae_training_steps",
            "dropout",
            "offset_loss_weight",
            "primary_code_loss_weight",
            "secondary_code_loss_weight",
            "optimizer_vqvae_lr",
            "optimizer_vqvae_weight_decay",
            "scheduler_warmup_steps",
        ],
    ],
    steps: &[],
    prompt: Prompt::None,
};

impl Plan for VqBetConfig {
    fn interface(&self) -> Interface {
        let [height, width] = self.encoder.seen(self.camera_size).map(|side| side.div_ceil(2));
        Interface {
            n_obs_steps: self.n_obs_steps,
            chunk_size: self.chunk_size,
            n_action_steps: self.chunk_size,
            action_width: self.action_width,
            temporal_ensemble_coeff: None,
            guidance: None,
            trained_delay: 0,
            backbone: Some(self.vision_backbone.clone()),
            backbone_source: None,
            // The backbone's first feature maps: 64 channels at half the resolution, in and out of a layer.
            scratch_bytes: 4 * 2 * 64 * (height * width * self.n_obs_steps) as u64,
        }
    }

    fn build(&self, loader: &mut Loader) -> Built<Box<dyn Model>> {
        Ok(Box::new(VqBet::build(self, loader)?))
    }

    /// What only training uses: the encoder of actions and how codes were counted; and masks, which
    /// are always the same.
    fn knows_unused(&self, tensor: &str) -> bool {
        let ends = |ends: &[&str]| ends.iter().any(|end| tensor.ends_with(end));
        if tensor.starts_with("vqbet.rgb_encoder.") {
            return self.encoder.knows_unused(tensor);
        }
        match tensor.strip_prefix("vqbet.action_head.vqvae_model.") {
            Some("discretized" | "vq_layer.freeze_codebook") => true,
            Some(part) if part.starts_with("encoder.") => true,
            Some(part) if part.starts_with("vq_layer.") => ends(&["_codebook.initted", "_codebook.cluster_size", "_codebook.embed_avg"]),
            Some(_) => false,
            None => tensor == "vqbet.select_target_actions_indices" || tensor.starts_with("vqbet.policy.") && ends(&[".attn.bias"]),
        }
    }

    /// LeRobot makes nothing of states beside the robot's.
    fn may_miss(&self, feature: &str) -> bool {
        self.unused.iter().any(|unused| unused == feature)
    }
}

impl VqBetConfig {
    /// # Errors
    /// When a value has the wrong type, or makes no network.
    fn new(file: &ConfigFile) -> Built<Self> {
        let json: VqBetJson = file.parse()?;
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        for (key, size) in [
            ("n_action_pred_token", json.n_action_pred_token),
            ("action_chunk_size", json.action_chunk_size),
            ("spatial_softmax_num_keypoints", json.spatial_softmax_num_keypoints),
            ("vqvae_n_embed", json.vqvae_n_embed),
            ("vqvae_embedding_dim", json.vqvae_embedding_dim),
            ("vqvae_enc_hidden_dim", json.vqvae_enc_hidden_dim),
            ("gpt_block_size", json.gpt_block_size),
            ("gpt_input_dim", json.gpt_input_dim),
            ("gpt_output_dim", json.gpt_output_dim),
            ("gpt_n_head", json.gpt_n_head),
            ("gpt_hidden_dim", json.gpt_hidden_dim),
        ] {
            if !(1..=MAX_SIZE).contains(&size) {
                return fault(key, size.to_string(), "1 to 65536");
            }
        }
        if !(1..=MAX_OBS_STEPS).contains(&json.n_obs_steps) {
            return fault("n_obs_steps", json.n_obs_steps.to_string(), "1 to 1024");
        }
        let tokens = TOKENS_PER_STEP * json.n_obs_steps + json.n_action_pred_token - 1;
        if tokens > json.gpt_block_size {
            return fault("gpt_block_size", json.gpt_block_size.to_string(), &format!("at least {tokens}, as many as there are tokens"));
        }
        if !json.gpt_hidden_dim.is_multiple_of(json.gpt_n_head) {
            let found = format!("{} with {} heads", json.gpt_hidden_dim, json.gpt_n_head);
            return fault("gpt_hidden_dim", found, "a multiple of gpt_n_head");
        }
        if json.bet_softmax_temperature <= 0.0 {
            return fault("bet_softmax_temperature", json.bet_softmax_temperature.to_string(), "above 0");
        }
        let Some(backbone) = ResNetPlan::new(&json.vision_backbone, false) else {
            return fault("vision_backbone", json.vision_backbone, "resnet18, resnet34, resnet50, resnet101 or resnet152");
        };

        let (mut camera, mut state_width) = (None, None);
        let mut unused = Vec::new();
        for (name, feature) in file.inputs.iter() {
            if let Some(only) = Camera::new(name, feature).filter(|_| camera.is_none()) {
                camera = Some(only);
                continue;
            }
            let Feature { kind, shape } = feature;
            match (kind, shape.as_slice()) {
                (FeatureKind::State, [n]) if name == STATE && *n > 0 => state_width = Some(*n),
                (FeatureKind::State, _) if name != STATE => unused.push(name.to_owned()),
                _ => {
                    let expected = "one VISUAL [3, H, W] of at most 8192 a side and observation.state as STATE [D]";
                    return fault(&format!("input_features.{name}"), format!("{kind} {shape:?}"), expected);
                }
            }
        }
        let (Some(camera), Some(state_width)) = (camera, state_width) else {
            return fault("input_features", "not both a camera and observation.state".into(), "one camera and observation.state");
        };
        let camera_size = camera.size();
        if let Some([height, width]) = json.crop_shape
            && !((1..=camera_size[0]).contains(&height) && (1..=camera_size[1]).contains(&width))
        {
            let expected = format!("a height and a width, at most the image's, {camera_size:?}");
            return fault("crop_shape", format!("[{height}, {width}]"), &expected);
        }
        Ok(Self {
            n_obs_steps: json.n_obs_steps,
            chunk_size: json.action_chunk_size,
            vision_backbone: json.vision_backbone,
            encoder: KeypointPlan {
                resize: None,
                crop: json.crop_shape,
                backbone,
                norm: if json.use_group_norm { Norm::Group } else { Norm::Batch },
                keypoints: json.spatial_softmax_num_keypoints,
            },
            codes: json.vqvae_n_embed,
            code_dim: json.vqvae_embedding_dim,
            decoder_dim: json.vqvae_enc_hidden_dim,
            block_size: json.gpt_block_size,
            input_dim: json.gpt_input_dim,
            output_dim: json.gpt_output_dim,
            layers: json.gpt_n_layer,
            heads: json.gpt_n_head,
            hidden_dim: json.gpt_hidden_dim,
            temperature: json.bet_softmax_temperature,
            sequentially: json.sequentially_select,
            state_width,
            camera: camera.name,
            camera_size,
            action_width: file.action_width()?,
            unused,
        })
    }
}
