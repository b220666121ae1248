//! X-VLA's part of `config.json`, checked.

use serde::Deserialize;

use super::Xvla;
use super::action::{ActionSpace, NAMES};
use crate::config::{Camera, ConfigFile, OPTIMIZER_KEYS, is_image_size};
use crate::family::{Family, Interface, Model, Plan};
use crate::features::{Feature, FeatureKind, IMAGES, STATE};
use crate::florence::{FlorenceJson, FlorencePlan};
use crate::nn::Built;
use crate::processor::{ImageChange, Prompt, Step};
use crate::weights::Loader;

/// More than any network or robot has; they bound what is allocated.
const MAX_SIZE: usize = 1 << 16;
const MAX_STEPS: usize = 1024;
const MAX_VIEWS: usize = 64;

/// More rows of actions, or numbers in one, than any robot has.
const MAX_ROWS: usize = 4096;

/// More places than Florence-2 sees in any image: it takes 768x768 pixels, which are 192x192 places.
const MAX_PLACES: usize = 1 << 20;

/// Everything that shapes the network.
#[derive(Clone, Debug)]
pub(crate) struct XvlaConfig {
    pub chunk_size: usize,
    n_action_steps: usize,
    pub florence: FlorencePlan,
    pub hidden_size: usize,
    pub depth: usize,
    /// Divides `hidden_size`.
    pub num_heads: usize,
    pub mlp: usize,
    pub num_domains: usize,
    pub len_soft_prompts: usize,
    pub dim_time: usize,
    pub max_len_seq: usize,
    pub use_hetero_proj: bool,
    pub actions: ActionSpace,
    /// Denoising steps, 1 or more.
    pub steps: usize,
    /// How many numbers of the state the model gets.
    pub proprio: usize,
    /// Height and width of the images that the model sees; as they come where there is none.
    pub frame: Option<[usize; 2]>,
    /// The cameras' features, in order.
    pub cameras: Vec<String>,
    /// How many images are stood in for at least.
    pub num_image_views: usize,
    /// Whether other features than cameras are given to the model.
    needs_state: bool,
    /// The most places of any map of an image.
    places: usize,
}

/// As LeRobot writes it; where a key is absent LeRobot takes these defaults (`XVLAConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct XvlaJson {
    n_obs_steps: usize,
    chunk_size: usize,
    n_action_steps: usize,
    dtype: String,
    florence_config: Option<FlorenceJson>,
    hidden_size: usize,
    depth: usize,
    num_heads: usize,
    mlp_ratio: f64,
    num_domains: usize,
    len_soft_prompts: usize,
    dim_time: usize,
    max_len_seq: usize,
    use_hetero_proj: bool,
    action_mode: String,
    num_denoising_steps: usize,
    use_proprio: bool,
    max_state_dim: usize,
    max_action_dim: usize,
    domain_feature_key: Option<String>,
    /// Height and width.
    resize_imgs_with_padding: Option<[usize; 2]>,
    num_image_views: Option<usize>,
    empty_cameras: usize,
}

impl Default for XvlaJson {
    fn default() -> Self {
        Self {
            n_obs_steps: 1,
            chunk_size: 32,
            n_action_steps: 32,
            dtype: "float32".into(),
            florence_config: None,
            hidden_size: 1024,
            depth: 24,
            num_heads: 16,
            mlp_ratio: 4.0,
            num_domains: 30,
            len_soft_prompts: 32,
            dim_time: 32,
            max_len_seq: 512,
            use_hetero_proj: false,
            action_mode: "ee6d".into(),
            num_denoising_steps: 10,
            use_proprio: true,
            max_state_dim: 32,
            max_action_dim: 20,
            domain_feature_key: None,
            resize_imgs_with_padding: None,
            num_image_views: None,
            empty_cameras: 0,
        }
    }
}

/// The steps without which images and domains would be others than those of the training.
const NEEDED_STEPS: [&str; 2] = ["xvla_imagenet_normalize", "xvla_add_domain_id"];

pub(crate) const FAMILY: Family = Family {
    name: "xvla",
    plan: |file| Ok(Box::new(XvlaConfig::new(file)?)),
    unused_keys: &[
        OPTIMIZER_KEYS,
        &[
            // The preprocessor has these.
            "tokenizer_name",
            "tokenizer_max_length",
            "tokenizer_padding_side",
            "pad_language_to",
            "freeze_vision_encoder",
            "freeze_language_encoder",
            "train_policy_transformer",
            "train_soft_prompts",
            "optimizer_grad_clip_norm",
            "optimizer_soft_prompt_lr_scale",
            "optimizer_soft_prompt_warmup_lr_scale",
            "scheduler_warmup_steps",
            "scheduler_decay_steps",
            "scheduler_decay_lr",
        ],
    ],
    steps: &[
        ("xvla_image_scale", |source| Step::images(source, ImageChange::ToBytes)),
        ("xvla_image_to_float", |source| Step::images(source, ImageChange::FromBytes { checks: true })),
        ("xvla_imagenet_normalize", |source| Step::images(source, ImageChange::ByImageNet)),
        ("xvla_add_domain_id", Step::domain),
    ],
    prompt: Prompt::Plain,
};

impl Plan for XvlaConfig {
    fn interface(&self) -> Interface {
        Interface {
            n_obs_steps: 1,
            chunk_size: self.chunk_size,
            n_action_steps: self.n_action_steps,
            action_width: self.actions.width,
            temporal_ensemble_coeff: None,
            guidance: None,
            trained_delay: 0,
            backbone: Some("Florence-2".into()),
            backbone_source: None,
            scratch_bytes: self.scratch_bytes(),
        }
    }

    fn build(&self, loader: &mut Loader) -> Built<Box<dyn Model>> {
        Ok(Box::new(Xvla::build(self, loader)?))
    }

    /// The other name of the table of tokens, and what only writing text would use.
    fn knows_unused(&self, tensor: &str) -> bool {
        let Some(rest) = tensor.strip_prefix("model.vlm.language_model.") else { return false };
        ["shared.weight", "model.shared.weight", "final_logits_bias"].contains(&rest)
    }

    fn needed_steps(&self) -> &'static [&'static str] {
        &NEEDED_STEPS
    }

    /// LeRobot leaves out any camera whose image is not there, as long as there is one, and makes nothing of
    /// vectors beside the robot's state.
    fn may_miss(&self, feature: &str) -> bool {
        feature != STATE || !self.needs_state
    }

    fn takes_any_image_size(&self) -> bool {
        self.frame.is_some()
    }
}

impl XvlaConfig {
    /// # Errors
    /// When a value has the wrong type, or makes no network.
    fn new(file: &ConfigFile) -> Built<Self> {
        let json: XvlaJson = file.parse()?;
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        for (key, size) in [
            ("hidden_size", json.hidden_size),
            ("depth", json.depth),
            ("num_heads", json.num_heads),
            ("num_domains", json.num_domains),
            ("max_len_seq", json.max_len_seq),
        ] {
            if !(1..=MAX_SIZE).contains(&size) {
                return fault(key, size.to_string(), "1 to 65536");
            }
        }
        for (key, size, most) in [
            ("len_soft_prompts", json.len_soft_prompts, MAX_SIZE),
            ("dim_time", json.dim_time, MAX_ROWS),
            ("max_state_dim", json.max_state_dim, MAX_ROWS),
            ("max_action_dim", json.max_action_dim, MAX_ROWS),
            ("num_denoising_steps", json.num_denoising_steps, MAX_STEPS),
            ("empty_cameras", json.empty_cameras, MAX_VIEWS),
            ("num_image_views", json.num_image_views.unwrap_or(0), MAX_VIEWS),
        ] {
            if size > most {
                return fault(key, size.to_string(), &format!("at most {most}"));
            }
        }
        if json.n_obs_steps != 1 {
            return fault("n_obs_steps", json.n_obs_steps.to_string(), "1");
        }
        if !(1..=MAX_ROWS).contains(&json.chunk_size) {
            return fault("chunk_size", json.chunk_size.to_string(), "1 to 4096");
        }
        if !(1..=json.chunk_size).contains(&json.n_action_steps) {
            return fault("n_action_steps", json.n_action_steps.to_string(), "1 to chunk_size");
        }
        if json.dtype != "float32" && json.dtype != "bfloat16" {
            return fault("dtype", json.dtype, "float32 or bfloat16");
        }
        let (hidden, heads) = (json.hidden_size, json.num_heads);
        if !hidden.is_multiple_of(heads) {
            return fault("hidden_size", format!("{hidden} with {heads} heads"), "a multiple of num_heads");
        }
        let mlp = hidden as f64 * json.mlp_ratio;
        if !(1.0..=MAX_SIZE as f64).contains(&mlp) {
            return fault("mlp_ratio", json.mlp_ratio.to_string(), "what makes 1 to 65536 of hidden_size");
        }
        if json.num_image_views == Some(0) {
            return fault("num_image_views", "0".into(), "null, or 1 or more");
        }
        if let Some(key) = json.domain_feature_key.as_deref().filter(|key| file.inputs.get(key).is_some()) {
            return fault("domain_feature_key", key.to_owned(), "null; a robot's domain is that of the step xvla_add_domain_id here");
        }
        let width = file.action_width()?;
        let Some(actions) = ActionSpace::named(&json.action_mode, width, json.max_action_dim) else {
            return fault("action_mode", json.action_mode, NAMES);
        };
        if actions.width != width {
            let expected = format!("{} values, which action_mode {} makes", actions.width, json.action_mode);
            return fault("output_features.action", format!("{width} values"), &expected);
        }
        if actions.model_width < width {
            return fault("max_action_dim", actions.model_width.to_string(), &format!("at least the action's width, {width}"));
        }
        let proprio = if json.use_proprio { json.max_state_dim } else { 0 };
        if proprio < actions.least_state_width() || actions.state_width.is_some_and(|wide| wide != proprio) {
            let found = if json.use_proprio { proprio.to_string() } else { "0, as use_proprio is false".into() };
            let expected = match actions.state_width {
                Some(wide) => format!("{wide}, which action_mode {} needs", json.action_mode),
                None => format!("at least {}, which action_mode {} needs", actions.least_state_width(), json.action_mode),
            };
            return fault("max_state_dim", found, &expected);
        }
        let Some(florence) = json.florence_config else {
            return fault("florence_config", "not there".into(), "a vision_config and a text_config");
        };
        let below = |key: &str, found: String, expected: &str| file.fault(&format!("florence_config.{key}"), found, expected);
        let florence = FlorencePlan::new(florence, &below)?;

        match file.inputs.get(STATE) {
            Some(Feature { kind: FeatureKind::State, shape }) if shape.len() == 1 && (1..=MAX_SIZE).contains(&shape[0]) => {}
            None if !json.use_proprio => {}
            other => {
                let found = other.map_or("not there".into(), |f| format!("{} {:?}", f.kind, f.shape));
                return fault("input_features.observation.state", found, "a STATE of shape [D]");
            }
        }
        let cameras = file.cameras()?;
        if cameras.is_empty() {
            return fault("input_features", "no camera".into(), "at least one");
        }
        if let Some(frame) = json.resize_imgs_with_padding.filter(|frame| !is_image_size(*frame)) {
            return fault("resize_imgs_with_padding", format!("{frame:?}"), "a height and a width, each 1 to 8192");
        }
        if let (None, Some(other)) = (
            json.resize_imgs_with_padding,
            cameras.iter().find(|camera| camera.size() != cameras[0].size() && !is_empty_camera(&camera.name)),
        ) {
            let expected = format!("a size as that of {}, or resize_imgs_with_padding", cameras[0].name);
            return fault(&format!("input_features.{}", other.name), format!("a {}x{} image", other.width, other.height), &expected);
        }
        let size = json.resize_imgs_with_padding.unwrap_or(cameras[0].size());
        let Some((map, places)) = florence.vision.places(size) else {
            let found = format!("images of {}x{}", size[1], size[0]);
            return fault("florence_config.vision_config.patch_size", found, "patches that are no larger than what they are taken of");
        };
        if places > MAX_PLACES {
            let found = format!("{places} places of an image of {}x{}", size[1], size[0]);
            return fault("florence_config.vision_config.patch_stride", found, "at most 1048576");
        }
        if map[0].max(map[1]) > florence.vision.positions {
            let found = format!("{} for a map of {}x{}", florence.vision.positions, map[1], map[0]);
            return fault("florence_config.vision_config.max_position_embeddings", found, "no fewer than the map's sides");
        }
        // LeRobot counts the cameras of the file, then adds those that are empty.
        let num_image_views = json.num_image_views.unwrap_or(0).max(cameras.len() + json.empty_cameras);
        let rows = json.chunk_size + num_image_views * (1 + map[0] * map[1]) + 1;
        if rows > json.max_len_seq {
            let expected = format!("at least {rows}: the rows of actions and of {num_image_views} images, and a token of text");
            return fault("max_len_seq", json.max_len_seq.to_string(), &expected);
        }
        let mut cameras: Vec<String> = cameras.into_iter().map(|Camera { name, .. }| name).collect();
        for index in 0..json.empty_cameras {
            let name = format!("{IMAGES}empty_camera_{index}");
            if !cameras.contains(&name) {
                cameras.push(name);
            }
        }
        Ok(Self {
            chunk_size: json.chunk_size,
            n_action_steps: json.n_action_steps,
            florence,
            hidden_size: hidden,
            depth: json.depth,
            num_heads: heads,
            mlp: mlp as usize,
            num_domains: json.num_domains,
            len_soft_prompts: json.len_soft_prompts,
            dim_time: json.dim_time,
            max_len_seq: json.max_len_seq,
            use_hetero_proj: json.use_hetero_proj,
            actions,
            steps: json.num_denoising_steps.max(1),
            proprio,
            frame: json.resize_imgs_with_padding,
            cameras,
            num_image_views,
            needs_state: json.use_proprio,
            places,
        })
    }

    /// About what the largest intermediates take: the first stage of the vision tower, or the transformer.
    fn scratch_bytes(&self) -> u64 {
        let stage = self.florence.vision.stages.first().map_or(0, |stage| 5 * stage.width + stage.mlp);
        let vision = self.places * stage;
        let rows = self.max_len_seq + self.len_soft_prompts;
        4 * vision.max(rows * (5 * self.hidden_size + self.mlp)) as u64
    }
}

/// Whether LeRobot made this feature up for a camera that stays away.
fn is_empty_camera(name: &str) -> bool {
    name.strip_prefix(IMAGES).is_some_and(|name| name.starts_with("empty_camera_"))
}
