//! The π policies' part of `config.json`, checked.

use std::sync::Arc;

use serde::Deserialize;

use crate::config::ConfigFile;
use crate::family::{Interface, Model, Plan};
use crate::features::{Feature, FeatureKind, STATE};
use crate::guidance::GuidanceSettings;
use crate::nn::Built;
use crate::pi::expert::Pi;
use crate::pi::fast::PiFast;
use crate::pi::tokens::ActionTokens;
use crate::weights::Loader;

/// Of the square into which images are fitted: 128 patches of 14 pixels.
const MAX_SIDE: usize = 1792;
/// The rows of a chunk, the steps to it and (of π0-FAST) the widths of state and action are in no
/// tensor's shape; nobody needs as many.
const MAX_ROWS: usize = 4096;
const MAX_WIDTH: usize = 4096;
const MAX_STEPS: usize = 1000;
const MAX_TOKENS: usize = 1 << 14;

/// Everything that shapes the network and is not in the tensors' shapes.
#[derive(Clone, Debug)]
pub(crate) struct PiConfig {
    pub kind: Kind,
    /// The names of the language model's variant and of the action expert's.
    variants: [String; 2],
    /// The side of the square into which images are fitted, in pixels.
    pub side: usize,
    /// In the order of the file.
    pub cameras: Vec<String>,
    pub chunk_size: usize,
    pub n_action_steps: usize,
    /// The state and the action padded.
    pub max_state: usize,
    pub max_action: usize,
    pub action_width: usize,
    /// Steps from noise to actions.
    pub steps: usize,
    /// The shortest and the longest period of the time's embedding.
    pub periods: [f64; 2],
    guidance: Option<GuidanceSettings>,
    /// Rows of another chunk that the model was trained to be given.
    pub trained_delay: usize,
    tokenizer_max_length: usize,
}

/// Which of the family.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// π0 and π0.5
    Flow(TimeInput),
    Fast(FastConfig),
}

/// How the action expert knows the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeInput {
    /// π0: mixed into each action.
    Mixed,
    /// π0.5: it sets the norms.
    Adaptive,
}

/// What π0-FAST has of its own.
#[derive(Clone, Debug)]
pub(crate) struct FastConfig {
    /// At most this many tokens are written.
    pub max_decoding_steps: usize,
    /// 0 takes the likeliest token, otherwise tokens are drawn.
    pub temperature: f64,
    pub tokens: Arc<ActionTokens>,
}

/// As LeRobot writes it; where a key is absent LeRobot takes these defaults (`PI0Config`,
/// `PI05Config`, `PI0FastConfig`): what all three have.
#[derive(Deserialize)]
#[serde(default)]
struct PiJson {
    n_obs_steps: usize,
    paligemma_variant: String,
    action_expert_variant: String,
    dtype: String,
    chunk_size: usize,
    n_action_steps: usize,
    max_state_dim: usize,
    max_action_dim: usize,
    image_resolution: [usize; 2],
    rtc_config: Option<GuidanceSettings>,
    tokenizer_max_length: Option<usize>,
}

impl Default for PiJson {
    fn default() -> Self {
        Self {
            n_obs_steps: 1,
            paligemma_variant: "gemma_2b".into(),
            action_expert_variant: "gemma_300m".into(),
            dtype: "float32".into(),
            chunk_size: 50,
            n_action_steps: 50,
            max_state_dim: 32,
            max_action_dim: 32,
            image_resolution: [224, 224],
            rtc_config: None,
            tokenizer_max_length: None,
        }
    }
}

/// What only those have that carry noise to actions.
#[derive(Deserialize)]
#[serde(default)]
struct FlowJson {
    num_inference_steps: usize,
    min_period: f64,
    max_period: f64,
}

impl Default for FlowJson {
    fn default() -> Self {
        Self { num_inference_steps: 10, min_period: 4e-3, max_period: 4.0 }
    }
}

/// What only π0.5 has, since LeRobot 0.6.1.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Pi05Json {
    rtc_training_max_delay: usize,
    use_visual_memory: bool,
    use_proprioceptive_memory: bool,
}

/// What only π0-FAST has.
#[derive(Deserialize)]
#[serde(default)]
struct FastJson {
    temperature: f64,
    max_decoding_steps: usize,
}

impl Default for FastJson {
    fn default() -> Self {
        Self { temperature: 0.0, max_decoding_steps: 256 }
    }
}

impl FastConfig {
    /// # Errors
    /// When a value has the wrong type, or there are no tokens for actions.
    pub(crate) fn new(file: &ConfigFile) -> Built<Self> {
        let json: FastJson = file.parse()?;
        if json.temperature < 0.0 || !json.temperature.is_finite() {
            return Err(file.fault("temperature", json.temperature.to_string(), "0 or more"));
        }
        if !(1..=MAX_TOKENS).contains(&json.max_decoding_steps) {
            return Err(file.fault("max_decoding_steps", json.max_decoding_steps.to_string(), "1 to 16384"));
        }
        let tokens = Arc::new(ActionTokens::open(file)?);
        Ok(Self { max_decoding_steps: json.max_decoding_steps, temperature: json.temperature, tokens })
    }
}

impl PiConfig {
    /// # Errors
    /// When a value has the wrong type, or makes no network.
    pub(crate) fn new(file: &ConfigFile, kind: Kind) -> Built<Self> {
        let json: PiJson = file.parse()?;
        let flow: FlowJson = if matches!(kind, Kind::Flow(_)) { file.parse()? } else { FlowJson::default() };
        let own: Pi05Json = if matches!(kind, Kind::Flow(TimeInput::Adaptive)) { file.parse()? } else { Pi05Json::default() };
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        let PiJson { chunk_size, n_action_steps, max_state_dim, max_action_dim, .. } = json;
        if json.n_obs_steps != 1 {
            return fault("n_obs_steps", json.n_obs_steps.to_string(), "1");
        }
        for (key, variant) in [("paligemma_variant", &json.paligemma_variant), ("action_expert_variant", &json.action_expert_variant)] {
            if !["gemma_300m", "gemma_2b"].contains(&variant.as_str()) {
                return fault(key, variant.clone(), "gemma_300m or gemma_2b");
            }
        }
        if !["float32", "bfloat16"].contains(&json.dtype.as_str()) {
            return fault("dtype", json.dtype, "float32 or bfloat16");
        }
        if !(1..=MAX_ROWS).contains(&chunk_size) {
            return fault("chunk_size", chunk_size.to_string(), "1 to 4096");
        }
        if !(1..=chunk_size).contains(&n_action_steps) {
            return fault("n_action_steps", n_action_steps.to_string(), "1 to chunk_size");
        }
        for (key, width) in [("max_state_dim", max_state_dim), ("max_action_dim", max_action_dim)] {
            if !(1..=MAX_WIDTH).contains(&width) {
                return fault(key, width.to_string(), "1 to 4096");
            }
        }
        if !(1..=MAX_STEPS).contains(&flow.num_inference_steps) {
            return fault("num_inference_steps", flow.num_inference_steps.to_string(), "1 to 1000");
        }
        for (key, period) in [("min_period", flow.min_period), ("max_period", flow.max_period)] {
            if !(period > 0.0 && period.is_finite()) {
                return fault(key, period.to_string(), "more than 0");
            }
        }
        let [height, width] = json.image_resolution;
        if height != width || !(1..=MAX_SIDE).contains(&height) {
            return fault("image_resolution", format!("[{height}, {width}]"), "a square of at most 1792 a side");
        }
        let trained_delay = own.rtc_training_max_delay;
        if trained_delay >= chunk_size {
            return fault("rtc_training_max_delay", trained_delay.to_string(), "less than chunk_size");
        }
        if let Some(settings) = json.rtc_config {
            settings.check(file, trained_delay)?;
        }
        for (key, is_used) in [("use_visual_memory", own.use_visual_memory), ("use_proprioceptive_memory", own.use_proprioceptive_memory)] {
            if is_used {
                return fault(key, "true".into(), "false; a memory of past observations is not supported");
            }
        }
        let state_width = match file.inputs.get(STATE) {
            Some(Feature { kind: FeatureKind::State, shape }) if shape.len() == 1 && shape[0] > 0 => shape[0],
            other => {
                let found = other.map_or("not there".into(), |f| format!("{} {:?}", f.kind, f.shape));
                return fault("input_features.observation.state", found, "a STATE of shape [D] with 1 entry or more");
            }
        };
        if state_width > max_state_dim {
            return fault("max_state_dim", max_state_dim.to_string(), &format!("{state_width} or more, the width of observation.state"));
        }
        let action_width = file.action_width()?;
        if action_width > max_action_dim {
            return fault("max_action_dim", max_action_dim.to_string(), &format!("{action_width} or more, the width of action"));
        }
        let cameras: Vec<String> = file.cameras()?.into_iter().map(|camera| camera.name).collect();
        if cameras.is_empty() {
            return fault("input_features", "no camera".into(), "at least one VISUAL");
        }
        Ok(Self {
            kind,
            variants: [json.paligemma_variant, json.action_expert_variant],
            side: height,
            cameras,
            chunk_size,
            n_action_steps,
            max_state: max_state_dim,
            max_action: max_action_dim,
            action_width,
            steps: flow.num_inference_steps,
            periods: [flow.min_period, flow.max_period],
            guidance: json.rtc_config,
            trained_delay,
            tokenizer_max_length: json.tokenizer_max_length.unwrap_or(200).min(MAX_TOKENS),
        })
    }

    /// About what the largest intermediates take: the attention and the feed-forward of the language
    /// model over all images and the prompt, and those of the vision tower over one image.
    fn scratch_bytes(&self) -> u64 {
        let patches = (self.side / 14).pow(2) as u64;
        let tokens = patches * self.cameras.len() as u64 + self.tokenizer_max_length as u64;
        let hidden = if self.variants[0] == "gemma_2b" { 16_384 } else { 4096 };
        4 * (tokens * (8 * tokens + 3 * hidden)).max(patches * (16 * patches + 2 * 4304))
    }
}

impl Plan for PiConfig {
    fn interface(&self) -> Interface {
        let [language, expert] = &self.variants;
        // π0-FAST decodes as many rows as are executed.
        let (chunk_size, backbone) = match self.kind {
            Kind::Fast(_) => (self.n_action_steps, format!("PaliGemma with {language}")),
            _ => (self.chunk_size, format!("PaliGemma with {language}, {expert} for actions")),
        };
        Interface {
            n_obs_steps: 1,
            chunk_size,
            n_action_steps: self.n_action_steps,
            action_width: self.action_width,
            temporal_ensemble_coeff: None,
            guidance: self.guidance,
            trained_delay: self.trained_delay,
            backbone: Some(backbone),
            backbone_source: None,
            scratch_bytes: self.scratch_bytes(),
        }
    }

    fn build(&self, loader: &mut Loader) -> Built<Box<dyn Model>> {
        match &self.kind {
            Kind::Flow(time) => Ok(Box::new(Pi::build(self, *time, loader)?)),
            Kind::Fast(fast) => Ok(Box::new(PiFast::build(self, fast, loader)?)),
        }
    }

    /// The heads of language models that only training uses, and what π0.5 checkpoints made from π0's
    /// still have of it.
    fn knows_unused(&self, tensor: &str) -> bool {
        let name = tensor.strip_prefix("model.").unwrap_or(tensor);
        let is_head =
            || name == "paligemma_with_expert.paligemma.lm_head.weight" || name == "paligemma_with_expert.gemma_expert.lm_head.weight";
        let is_plain_norm = || name.starts_with("paligemma_with_expert.gemma_expert.") && name.ends_with("norm.weight");
        match self.kind {
            Kind::Flow(TimeInput::Mixed) => is_head(),
            Kind::Flow(TimeInput::Adaptive) => is_head() || is_plain_norm() || name.starts_with("state_proj."),
            Kind::Fast(_) => false,
        }
    }

    /// LeRobot puts a masked image in the place of a missing one. Features that are neither images
    /// nor the state have no part in the answer.
    fn may_miss(&self, feature: &str) -> bool {
        feature != STATE
    }

    fn takes_any_image_size(&self) -> bool {
        true
    }

    fn takes_guidance(&self) -> bool {
        !matches!(self.kind, Kind::Fast(_))
    }
}
