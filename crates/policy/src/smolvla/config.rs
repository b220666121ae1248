//! SmolVLA's part of `config.json`, checked.

use serde::Deserialize;
use serde_json::{Value, json};

use super::SmolVla;
use super::backbone::Backbone;
use crate::config::{Camera, ConfigFile, OPTIMIZER_KEYS, is_image_size};
use crate::family::{Family, Interface, Model, Plan};
use crate::features::{Feature, FeatureKind, IMAGES, STATE};
use crate::guidance::GuidanceSettings;
use crate::json::{parse, read_json};
use crate::nn::Built;
use crate::processor::{Prompt, Step, StepJson};
use crate::weights::Loader;

/// More rows, steps or cameras than any robot has; they bound what is allocated.
const MAX_ROWS: usize = 4096;
const MAX_STEPS: usize = 1024;
const MAX_EMPTY_CAMERAS: usize = 64;

/// The registry name of the step that ends the instruction with a line feed.
const NEWLINE: &str = "smolvla_new_line_processor";

/// The joints of the Aloha robot's two arms.
const ALOHA_JOINTS: usize = 14;

/// Everything that shapes the network.
#[derive(Clone, Debug)]
pub(crate) struct SmolVlaConfig {
    pub chunk_size: usize,
    pub n_action_steps: usize,
    /// What state and action are padded to.
    pub max_state_dim: usize,
    pub max_action_dim: usize,
    pub action_width: usize,
    /// Height and width of the images that the tower sees; as they come where there is none.
    pub frame: Option<[usize; 2]>,
    /// The cameras' features, in order.
    pub cameras: Vec<String>,
    /// How many cameras that stay away are told to the model.
    pub empty_cameras: usize,
    pub adapt_to_pi_aloha: bool,
    pub num_steps: usize,
    /// The shortest and longest period of the time's sines.
    pub periods: [f64; 2],
    /// The numbers of the tokens around an image and of the one that starts a whole image.
    pub image_tokens: Option<ImageTokens>,
    pub vlm_model_name: String,
    pub backbone: Backbone,
    pub expert_hidden: usize,
    /// One for each layer of the language model that is used.
    pub layers: Vec<LayerPlan>,
    pub guidance: Option<GuidanceSettings>,
    /// How checkpoints from before the processor files pad the instruction, and to which length.
    old_padding: [Value; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageTokens {
    /// Before and after an image.
    pub fake: u32,
    /// Between the first of them and the image.
    pub global: u32,
}

/// What the action expert does beside a layer of the language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerPlan {
    /// The number of the expert's layer that runs here, if one does.
    pub expert: Option<usize>,
    /// Whether that layer looks at the language model's keys and values alone (through projections
    /// of its own), rather than at them and at the chunk.
    pub is_cross: bool,
}

/// As LeRobot writes it; where a key is absent LeRobot takes these defaults (`SmolVLAConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct SmolVlaJson {
    chunk_size: usize,
    n_action_steps: usize,
    max_state_dim: usize,
    max_action_dim: usize,
    /// Width and height.
    resize_imgs_with_padding: Option<[usize; 2]>,
    empty_cameras: usize,
    adapt_to_pi_aloha: bool,
    use_delta_joint_actions_aloha: bool,
    /// Of the tokenizer in checkpoints from before the processor files.
    tokenizer_max_length: Value,
    pad_language_to: Value,
    num_steps: usize,
    use_cache: bool,
    vlm_model_name: String,
    add_image_special_tokens: bool,
    attention_mode: String,
    num_expert_layers: i64,
    num_vlm_layers: i64,
    self_attn_every_n_layers: i64,
    expert_width_multiplier: f64,
    min_period: f64,
    max_period: f64,
    rtc_config: Option<GuidanceSettings>,
}

impl Default for SmolVlaJson {
    fn default() -> Self {
        Self {
            chunk_size: 50,
            n_action_steps: 50,
            max_state_dim: 32,
            max_action_dim: 32,
            resize_imgs_with_padding: Some([512, 512]),
            empty_cameras: 0,
            adapt_to_pi_aloha: false,
            use_delta_joint_actions_aloha: false,
            tokenizer_max_length: 48.into(),
            pad_language_to: "longest".into(),
            num_steps: 10,
            use_cache: true,
            vlm_model_name: "HuggingFaceTB/SmolVLM2-500M-Video-Instruct".into(),
            add_image_special_tokens: false,
            attention_mode: "cross_attn".into(),
            num_expert_layers: -1,
            num_vlm_layers: 16,
            self_attn_every_n_layers: 2,
            expert_width_multiplier: 0.75,
            min_period: 4e-3,
            max_period: 4.0,
            rtc_config: None,
        }
    }
}

pub(crate) const FAMILY: Family = Family {
    name: "smolvla",
    plan: |file| Ok(Box::new(SmolVlaConfig::new(file)?)),
    unused_keys: &[
        OPTIMIZER_KEYS,
        &[
            "freeze_vision_encoder",
            "train_expert_only",
            "train_state_proj",
            "optimizer_grad_clip_norm",
            "scheduler_warmup_steps",
            "scheduler_decay_steps",
            "scheduler_decay_lr",
            "load_vlm_weights",
            "prefix_length",
            "compile_model",
            "compile_mode",
        ],
    ],
    steps: &[(NEWLINE, Step::newline)],
    prompt: Prompt::Line,
};

impl Plan for SmolVlaConfig {
    fn interface(&self) -> Interface {
        Interface {
            n_obs_steps: 1,
            chunk_size: self.chunk_size,
            n_action_steps: self.n_action_steps,
            action_width: self.action_width,
            temporal_ensemble_coeff: None,
            guidance: self.guidance,
            trained_delay: 0,
            backbone: Some(self.vlm_model_name.clone()),
            backbone_source: Some(self.backbone.source.clone()),
            scratch_bytes: self.scratch_bytes(),
        }
    }

    fn build(&self, loader: &mut Loader) -> Built<Box<dyn Model>> {
        Ok(Box::new(SmolVla::build(self, loader)?))
    }

    /// The heads and layers that only training, or only the language model by itself, would use.
    fn knows_unused(&self, tensor: &str) -> bool {
        let models = ["model.vlm_with_expert.", "model._orig_mod.vlm_with_expert."];
        let Some(rest) = models.iter().find_map(|prefix| tensor.strip_prefix(prefix)) else { return false };
        if rest == "lm_expert.lm_head.weight" || rest == "lm_expert.embed_tokens.weight" {
            return true;
        }
        let Some(rest) = rest.strip_prefix("vlm.") else { return false };
        if rest == "lm_head.weight" || rest == "model.text_model.norm.weight" {
            return true;
        }
        let layer = rest.strip_prefix("model.text_model.layers.").and_then(|rest| rest.split_once('.'));
        layer.is_some_and(|(index, part)| {
            let makes_keys = ["input_layernorm.", "self_attn.k_proj.", "self_attn.v_proj."].iter().any(|name| part.starts_with(name));
            let last = self.layers.len() - 1;
            index.parse::<usize>().is_ok_and(|index| index > last || index == last && !makes_keys)
        })
    }

    fn old_text_steps(&self) -> Option<Vec<StepJson>> {
        let [padding, max_length] = &self.old_padding;
        let tokenizer = json!({"tokenizer_name": self.vlm_model_name, "padding": padding, "max_length": max_length});
        Some(vec![StepJson::new(NEWLINE, json!({})), StepJson::new("tokenizer_processor", tokenizer)])
    }

    /// LeRobot leaves out any camera whose image is not there, as long as there is one.
    fn may_miss(&self, feature: &str) -> bool {
        self.cameras.iter().any(|camera| camera == feature)
    }

    fn takes_any_image_size(&self) -> bool {
        self.frame.is_some()
    }

    fn takes_guidance(&self) -> bool {
        true
    }
}

impl SmolVlaConfig {
    /// # Errors
    /// When a value has the wrong type, or makes no network.
    fn new(file: &ConfigFile) -> Built<Self> {
        let json: SmolVlaJson = file.parse()?;
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        let SmolVlaJson { chunk_size, n_action_steps, num_steps, empty_cameras, .. } = json;
        if !(1..=MAX_ROWS).contains(&chunk_size) {
            return fault("chunk_size", chunk_size.to_string(), "1 to 4096");
        }
        if !(1..=chunk_size).contains(&n_action_steps) {
            return fault("n_action_steps", n_action_steps.to_string(), "1 to chunk_size");
        }
        if !(1..=MAX_STEPS).contains(&num_steps) {
            return fault("num_steps", num_steps.to_string(), "1 to 1024");
        }
        if empty_cameras > MAX_EMPTY_CAMERAS {
            return fault("empty_cameras", empty_cameras.to_string(), "at most 64");
        }
        if json.use_delta_joint_actions_aloha {
            return fault("use_delta_joint_actions_aloha", "true".into(), "false; LeRobot has no such thing yet");
        }
        if !json.use_cache {
            return fault("use_cache", "false".into(), "true; without the cache LeRobot's own layers don't fit each other");
        }
        let is_period = |period: f64| period.is_finite() && period > 0.0;
        if !is_period(json.min_period) || !is_period(json.max_period) {
            return fault("min_period", format!("{} with max_period {}", json.min_period, json.max_period), "two numbers above 0");
        }
        if let Some(rtc) = json.rtc_config {
            rtc.check(file, 0)?;
        }

        let backbone = Backbone::find(file, &json.vlm_model_name)?;
        let width = (backbone.text.hidden as f64 * json.expert_width_multiplier) as usize;
        if !json.expert_width_multiplier.is_finite() || width == 0 || !width.is_multiple_of(2) || width > 1 << 20 {
            let found = format!("{} of {}", json.expert_width_multiplier, backbone.text.hidden);
            return fault("expert_width_multiplier", found, "what makes an even width for the action expert");
        }
        let layers = layer_plans(&json, &backbone, width).map_err(|(key, found, expected)| file.fault(key, found, expected))?;

        let cameras = cameras(file, &json, &backbone)?;
        let action_width = file.action_width()?;
        if action_width > json.max_action_dim {
            return fault("output_features.action", format!("{action_width} values"), "at most max_action_dim");
        }
        let state_width = match file.inputs.get(STATE) {
            Some(Feature { kind: FeatureKind::State, shape }) if shape.len() == 1 && (1..=json.max_state_dim).contains(&shape[0]) => {
                shape[0]
            }
            other => {
                let found = other.map_or("not there".into(), |f| format!("{} {:?}", f.kind, f.shape));
                return fault("input_features.observation.state", found, "a STATE of shape [D] with 1 to max_state_dim entries");
            }
        };
        if json.adapt_to_pi_aloha && (state_width < ALOHA_JOINTS || action_width < ALOHA_JOINTS) {
            let found = format!("true with {state_width} joints and {action_width} actions");
            return fault("adapt_to_pi_aloha", found, "false, but for the 14 joints of an Aloha");
        }
        let image_tokens = json.add_image_special_tokens.then(|| ImageTokens::find(file, &json.vlm_model_name)).transpose()?;
        Ok(Self {
            chunk_size,
            n_action_steps,
            max_state_dim: json.max_state_dim,
            max_action_dim: json.max_action_dim,
            action_width,
            frame: json.resize_imgs_with_padding.map(|[width, height]| [height, width]),
            cameras,
            empty_cameras,
            adapt_to_pi_aloha: json.adapt_to_pi_aloha,
            num_steps,
            periods: [json.min_period, json.max_period],
            image_tokens,
            vlm_model_name: json.vlm_model_name,
            backbone,
            expert_hidden: width,
            layers,
            guidance: json.rtc_config,
            old_padding: [json.pad_language_to, json.tokenizer_max_length],
        })
    }

    /// About what the largest intermediates take: the queries, keys and values and the feed-forward
    /// layer of the vision tower.
    fn scratch_bytes(&self) -> u64 {
        let vision = &self.backbone.vision;
        let [height, width] = self.frame.unwrap_or([vision.image_size; 2]);
        let patches = (height / vision.patch_size) * (width / vision.patch_size);
        4 * patches as u64 * (4 * vision.hidden + 2 * vision.mlp) as u64
    }
}

/// The layers of the language model up to the last one that the expert looks at.
///
/// # Errors
/// The key, what was found and what was expected, where LeRobot's layers would not fit each other.
fn layer_plans(
    json: &SmolVlaJson,
    backbone: &Backbone,
    expert_hidden: usize,
) -> Result<Vec<LayerPlan>, (&'static str, String, &'static str)> {
    let text = &backbone.text;
    let all = match usize::try_from(json.num_vlm_layers) {
        Ok(n) if n > 0 => n.min(text.layers),
        _ => text.layers,
    };
    let experts = match usize::try_from(json.num_expert_layers) {
        Ok(n) if n > 0 => n,
        _ => all,
    };
    if all == 0 || all > 1 << 12 {
        return Err(("num_vlm_layers", all.to_string(), "1 to 4096"));
    }
    if !all.is_multiple_of(experts) {
        return Err(("num_expert_layers", experts.to_string(), "a divisor of num_vlm_layers"));
    }
    let every = usize::try_from(json.self_attn_every_n_layers).ok().filter(|n| *n > 0);
    let has_cross = json.attention_mode.contains("cross");
    let is_cross = |index: usize| has_cross && every.is_none_or(|n| !index.is_multiple_of(n));
    let stride = all / experts;
    let mut plans = Vec::new();
    for index in 0..all {
        let plan = LayerPlan { expert: index.is_multiple_of(stride).then_some(index / stride), is_cross: is_cross(index) };
        let misfit = match plan.expert {
            // LeRobot shapes a layer of the expert by its own number, and uses it by the language
            // model's.
            Some(expert) => is_cross(expert) != plan.is_cross && expert_hidden != text.heads.key * text.head_dim,
            None => !plan.is_cross,
        };
        if misfit {
            let found = format!("{experts} of {all} with self_attn_every_n_layers {}", json.self_attn_every_n_layers);
            return Err(("num_expert_layers", found, "a combination whose layers fit each other; these fail in LeRobot, too"));
        }
        plans.push(plan);
    }
    plans.truncate((experts - 1) * stride + 1);
    Ok(plans)
}

/// The cameras in order: those of the file, then LeRobot's names for empty ones.
fn cameras(file: &ConfigFile, json: &SmolVlaJson, backbone: &Backbone) -> Built<Vec<String>> {
    let mut cameras = Vec::new();
    let is_frame = |[width, height]: [usize; 2]| is_image_size([height, width]) && backbone.tokens([height, width]).is_some();
    if let Some([width, height]) = json.resize_imgs_with_padding.filter(|frame| !is_frame(*frame)) {
        let expected = format!(
            "as many patches of {} pixels as a square of them has, whose side is a multiple of {}, at most 16384",
            backbone.vision.patch_size, backbone.scale_factor
        );
        return Err(file.fault("resize_imgs_with_padding", format!("{width}x{height}"), &expected));
    }
    for Camera { name, height, width } in file.cameras()? {
        if json.resize_imgs_with_padding.is_none() && backbone.tokens([height, width]).is_none() {
            let expected = "an image whose patches are as many as a square's, or resize_imgs_with_padding";
            return Err(file.fault(&format!("input_features.{name}"), format!("a {width}x{height} image"), expected));
        }
        cameras.push(name);
    }
    for index in 0..json.empty_cameras {
        let name = format!("{IMAGES}empty_camera_{index}");
        if !cameras.contains(&name) {
            cameras.push(name);
        }
    }
    if cameras.is_empty() {
        return Err(file.fault("input_features", "no camera".into(), "at least one"));
    }
    Ok(cameras)
}

impl ImageTokens {
    /// As the backbone's tokenizer names and numbers them.
    fn find(file: &ConfigFile, backbone: &str) -> Built<Self> {
        let open = |name: &str| -> Built<_> {
            let path = file.files.find(backbone, name, "the tokens around images")?;
            Ok((read_json(&path)?, path))
        };
        let (config, config_path) = open("tokenizer_config.json")?;
        let (tokenizer, path) = open("tokenizer.json")?;
        let added: Vec<AddedToken> = parse(&path, tokenizer.get("added_tokens").cloned().unwrap_or(Value::Array(Vec::new())))?;
        let id = |key: &str| {
            // The name stands at the top or among the extra special tokens, as a text or an object.
            let named = config.get(key).or_else(|| config.get("extra_special_tokens")?.get(key));
            let content = named.and_then(|name| name.as_str().or_else(|| name.get("content")?.as_str()));
            let Some(content) = content else {
                let expected = "the token around images, which add_image_special_tokens asks for";
                return Err(crate::CheckpointError::Config {
                    path: config_path.clone(),
                    key: key.to_owned(),
                    found: "not there".into(),
                    expected: expected.into(),
                });
            };
            added.iter().find(|token| token.content == content).map(|token| token.id).ok_or_else(|| crate::CheckpointError::Config {
                path: path.clone(),
                key: "added_tokens".into(),
                found: format!("{} tokens without {content}", added.len()),
                expected: format!("{content}, which add_image_special_tokens asks for"),
            })
        };
        Ok(Self { fake: id("fake_image_token")?, global: id("global_image_token")? })
    }
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
}
