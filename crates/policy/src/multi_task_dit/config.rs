//! Multi-Task DiT's part of `config.json`, checked.

use std::ops::Range;

use serde::Deserialize;

use super::MultiTaskDit;
use super::objective::{Objective, Solver};
use crate::clip::{ClipTextPlan, ClipVisionPlan, Found};
use crate::config::{ConfigFile, OPTIMIZER_KEYS, is_image_size};
use crate::denoise::{Observed, ScheduleJson, Scheduler, answered_rows};
use crate::family::{Family, Interface, Model, Plan};
use crate::nn::Built;
use crate::processor::Prompt;
use crate::weights::Loader;

/// What no network, trajectory or schedule comes near, so that a false number can't ask for memory.
const MAX_SIZE: usize = 1 << 16;

/// Everything that shapes the network and the way through it.
#[derive(Clone, Debug)]
pub(crate) struct MultiTaskDitConfig {
    pub n_obs_steps: usize,
    pub horizon: usize,
    n_action_steps: usize,
    pub objective: Objective,
    pub hidden_dim: usize,
    pub num_layers: usize,
    /// Divides `hidden_dim`.
    pub num_heads: usize,
    pub use_positional_encoding: bool,
    /// Even, 4 or more.
    pub timestep_embed_dim: usize,
    /// Of the rotary positions, where there are such.
    pub rope_base: Option<f32>,
    /// Height and width to resize images to, and of the middle that is left after that.
    pub resize: Option<[usize; 2]>,
    pub crop: Option<[usize; 2]>,
    vision_encoder_name: String,
    text_encoder_name: String,
    /// Where there are cameras.
    pub vision: Option<Found<ClipVisionPlan>>,
    pub text: Found<ClipTextPlan>,
    pub separate_encoders: bool,
    pub state_width: usize,
    /// Feature names, in the order of the file; all have images of one size.
    pub cameras: Vec<String>,
    pub action_width: usize,
    /// Features of which the network makes nothing.
    unused: Vec<String>,
}

/// As LeRobot writes it; where a key is absent LeRobot takes these defaults (`MultiTaskDiTConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct MultiTaskDitJson {
    n_obs_steps: usize,
    horizon: usize,
    n_action_steps: usize,
    objective: String,
    noise_scheduler_type: String,
    num_train_timesteps: usize,
    beta_schedule: String,
    beta_start: f64,
    beta_end: f64,
    prediction_type: String,
    clip_sample: bool,
    clip_sample_range: f64,
    num_inference_steps: Option<usize>,
    num_integration_steps: usize,
    integration_method: String,
    hidden_dim: usize,
    num_layers: usize,
    num_heads: usize,
    use_positional_encoding: bool,
    timestep_embed_dim: usize,
    use_rope: bool,
    rope_base: f64,
    vision_encoder_name: String,
    use_separate_rgb_encoder_per_camera: bool,
    image_resize_shape: Option<[usize; 2]>,
    image_crop_shape: Option<[usize; 2]>,
    text_encoder_name: String,
}

impl Default for MultiTaskDitJson {
    fn default() -> Self {
        Self {
            n_obs_steps: 2,
            horizon: 32,
            n_action_steps: 24,
            objective: "diffusion".into(),
            noise_scheduler_type: "DDPM".into(),
            num_train_timesteps: 100,
            beta_schedule: "squaredcos_cap_v2".into(),
            beta_start: 0.0001,
            beta_end: 0.02,
            prediction_type: "epsilon".into(),
            clip_sample: true,
            clip_sample_range: 1.0,
            num_inference_steps: None,
            num_integration_steps: 100,
            integration_method: "euler".into(),
            hidden_dim: 512,
            num_layers: 6,
            num_heads: 8,
            use_positional_encoding: false,
            timestep_embed_dim: 256,
            use_rope: true,
            rope_base: 10_000.0,
            vision_encoder_name: "openai/clip-vit-base-patch16".into(),
            use_separate_rgb_encoder_per_camera: false,
            image_resize_shape: None,
            image_crop_shape: Some([224, 224]),
            text_encoder_name: "openai/clip-vit-base-patch16".into(),
        }
    }
}

pub(crate) const FAMILY: Family = Family {
    name: "multi_task_dit",
    plan: |file| Ok(Box::new(MultiTaskDitConfig::new(file)?)),
    unused_keys: &[
        OPTIMIZER_KEYS,
        &[
            "drop_n_last_frames",
            "sigma_min",
            "timestep_sampling_strategy",
            "timestep_sampling_s",
            "timestep_sampling_alpha",
            "timestep_sampling_beta",
            "dropout",
            "vision_encoder_lr_multiplier",
            "image_crop_is_random",
            // The preprocessor has these.
            "tokenizer_max_length",
            "tokenizer_padding",
            "tokenizer_padding_side",
            "tokenizer_truncation",
            "scheduler_name",
            "scheduler_warmup_steps",
            "do_mask_loss_for_padding",
        ],
    ],
    steps: &[],
    prompt: Prompt::Plain,
};

impl Plan for MultiTaskDitConfig {
    fn interface(&self) -> Interface {
        let rows = self.rows().len();
        let (backbone, source) = match &self.vision {
            Some(vision) => (&self.vision_encoder_name, &vision.source),
            None => (&self.text_encoder_name, &self.text.source),
        };
        Interface {
            n_obs_steps: self.n_obs_steps,
            chunk_size: rows,
            n_action_steps: rows,
            action_width: self.action_width,
            temporal_ensemble_coeff: None,
            guidance: None,
            trained_delay: 0,
            backbone: Some(backbone.clone()),
            backbone_source: Some(source.clone()),
            scratch_bytes: self.scratch_bytes(),
        }
    }

    fn build(&self, loader: &mut Loader) -> Built<Box<dyn Model>> {
        Ok(Box::new(MultiTaskDit::build(self, loader)?))
    }

    /// The norm of the features that CLIP compares with texts.
    fn knows_unused(&self, tensor: &str) -> bool {
        tensor.starts_with("observation_encoder.vision_encoder") && tensor.contains(".vision_model.post_layernorm.")
    }

    /// LeRobot makes nothing of other vectors than the robot's state.
    fn may_miss(&self, feature: &str) -> bool {
        self.unused.iter().any(|unused| unused == feature)
    }

    fn takes_any_image_size(&self) -> bool {
        self.resize.is_some()
    }
}

impl MultiTaskDitConfig {
    /// # Errors
    /// When a value has the wrong type, or makes no network.
    fn new(file: &ConfigFile) -> Built<Self> {
        let json: MultiTaskDitJson = file.parse()?;
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        for (key, size) in [
            ("n_obs_steps", json.n_obs_steps),
            ("horizon", json.horizon),
            ("n_action_steps", json.n_action_steps),
            ("hidden_dim", json.hidden_dim),
            ("num_layers", json.num_layers),
            ("num_heads", json.num_heads),
            ("timestep_embed_dim", json.timestep_embed_dim),
        ] {
            if !(1..=MAX_SIZE).contains(&size) {
                return fault(key, size.to_string(), "1 to 65536");
            }
        }
        if json.horizon < json.n_obs_steps {
            return fault("horizon", json.horizon.to_string(), &format!("at least n_obs_steps, {}", json.n_obs_steps));
        }
        let (hidden, heads) = (json.hidden_dim, json.num_heads);
        if !hidden.is_multiple_of(heads) {
            return fault("hidden_dim", format!("{hidden} with {heads} heads"), "a multiple of num_heads");
        }
        if json.use_rope && !(hidden / heads).is_multiple_of(2) {
            return fault("hidden_dim", format!("{hidden} with {heads} heads"), "an even number for each head, which use_rope needs");
        }
        if json.use_rope && !(json.rope_base.is_finite() && json.rope_base > 0.0) {
            return fault("rope_base", json.rope_base.to_string(), "a number above 0");
        }
        if json.timestep_embed_dim < 4 || !json.timestep_embed_dim.is_multiple_of(2) {
            return fault("timestep_embed_dim", json.timestep_embed_dim.to_string(), "even, 4 or more");
        }
        for (key, name) in [("vision_encoder_name", &json.vision_encoder_name), ("text_encoder_name", &json.text_encoder_name)] {
            if !name.to_lowercase().contains("clip") {
                return fault(key, name.clone(), "a CLIP, with clip in its name");
            }
        }
        let objective = json.objective(file)?;

        let Observed { state_width, cameras, camera_size, unused, .. } = Observed::of(file, false)?;
        let (resize, crop) = json.resize_and_crop(file, camera_size)?;
        let vision = match camera_size {
            None => None,
            Some(size) => {
                let vision = ClipVisionPlan::find(file, "vision_encoder_name", &json.vision_encoder_name)?;
                let (side, seen) = (vision.plan.image_size, crop.or(resize).unwrap_or(size));
                if seen != [side; 2] {
                    let expected = format!("what makes images of {side}x{side} of them, which {} takes", json.vision_encoder_name);
                    return fault("image_crop_shape", format!("such that images become {}x{}", seen[1], seen[0]), &expected);
                }
                Some(vision)
            }
        };
        Ok(Self {
            n_obs_steps: json.n_obs_steps,
            horizon: json.horizon,
            n_action_steps: json.n_action_steps,
            objective,
            hidden_dim: hidden,
            num_layers: json.num_layers,
            num_heads: heads,
            use_positional_encoding: json.use_positional_encoding,
            timestep_embed_dim: json.timestep_embed_dim,
            rope_base: json.use_rope.then_some(json.rope_base as f32),
            resize,
            crop,
            text: ClipTextPlan::find(file, "text_encoder_name", &json.text_encoder_name)?,
            vision_encoder_name: json.vision_encoder_name,
            text_encoder_name: json.text_encoder_name,
            vision,
            separate_encoders: json.use_separate_rgb_encoder_per_camera,
            state_width,
            cameras,
            action_width: file.action_width()?,
            unused,
        })
    }

    /// Which rows of the trajectory are the answer: from now on, at most to its end.
    pub(crate) fn rows(&self) -> Range<usize> {
        answered_rows(self.n_obs_steps, self.n_action_steps, self.horizon)
    }

    /// How many features the network gets of all observation steps.
    pub(crate) fn observed_width(&self) -> usize {
        let image = self.vision.as_ref().map_or(0, |vision| vision.plan.layer.hidden);
        self.n_obs_steps * (self.state_width + self.cameras.len() * image + self.hidden_dim)
    }

    /// About what the largest intermediates take: the queries, keys and values and the feed-forward layer over
    /// one image, or over one text.
    fn scratch_bytes(&self) -> u64 {
        let of = |rows: usize, layer: &crate::nn::EncoderPlan| 4 * rows as u64 * (4 * layer.hidden + 2 * layer.mlp) as u64;
        let image = self.vision.as_ref().map_or(0, |vision| of(vision.plan.rows(), &vision.plan.layer));
        image.max(of(self.text.plan.positions, &self.text.plan.layer))
    }
}

impl MultiTaskDitJson {
    fn objective(&self, file: &ConfigFile) -> Built<Objective> {
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        match self.objective.as_str() {
            "diffusion" => {
                if !(0.0 <= self.beta_start && self.beta_start <= self.beta_end && self.beta_end <= 1.0) {
                    let found = format!("{} with beta_end {}", self.beta_start, self.beta_end);
                    return fault("beta_start", found, "0 to beta_end, and that at most 1");
                }
                let scheduler = Scheduler::of(
                    file,
                    ScheduleJson {
                        noise_scheduler_type: &self.noise_scheduler_type,
                        num_train_timesteps: self.num_train_timesteps,
                        beta_schedule: &self.beta_schedule,
                        beta_start: self.beta_start,
                        beta_end: self.beta_end,
                        prediction_type: &self.prediction_type,
                        clip_sample: self.clip_sample,
                        clip_sample_range: self.clip_sample_range,
                        num_inference_steps: self.num_inference_steps,
                    },
                )?;
                Ok(Objective::Diffusion(scheduler))
            }
            "flow_matching" => {
                let Some(solver) = Solver::named(&self.integration_method) else {
                    return fault("integration_method", self.integration_method.clone(), "euler or rk4");
                };
                let steps = self.num_integration_steps;
                if !(1..=MAX_SIZE).contains(&steps) {
                    return fault("num_integration_steps", steps.to_string(), "1 to 65536");
                }
                Ok(Objective::Flow { solver, steps })
            }
            other => fault("objective", other.to_owned(), "diffusion or flow_matching"),
        }
    }

    /// Height and width that images are resized to, and of the middle that is taken of that, where LeRobot takes
    /// one: it lets go of a crop that is larger than the images.
    fn resize_and_crop(&self, file: &ConfigFile, camera_size: Option<[usize; 2]>) -> Built<(Option<[usize; 2]>, Option<[usize; 2]>)> {
        let (resize, crop) = (self.image_resize_shape, self.image_crop_shape);
        for (key, size) in [("image_resize_shape", resize), ("image_crop_shape", crop)] {
            if let Some(size) = size.filter(|size| !is_image_size(*size)) {
                return Err(file.fault(key, format!("{size:?}"), "a height and a width, each 1 to 8192"));
            }
        }
        let whole = resize.or(camera_size);
        let fits = |crop: &[usize; 2]| whole.is_none_or(|whole| crop[0] <= whole[0] && crop[1] <= whole[1]);
        if let Some(crop) = crop.filter(|crop| !fits(crop)) {
            tracing::warn!(path = %file.path.display(), ?crop, images = ?whole, "images are smaller than image_crop_shape, so they are not cropped, as in LeRobot");
        }
        Ok((resize, crop.filter(fits)))
    }
}
