//! Diffusion Policy's part of `config.json`, checked.

use std::ops::Range;

use serde::Deserialize;

use super::Diffusion;
use super::unet::FINAL_GROUPS;
use crate::config::{ConfigFile, OPTIMIZER_KEYS, is_image_size};
use crate::denoise::{Observed, ScheduleJson, Scheduler, answered_rows};
use crate::family::{Family, Interface, Model, Plan};
use crate::nn::Built;
use crate::processor::Prompt;
use crate::vision::{KeypointPlan, Norm, ResNetPlan};
use crate::weights::Loader;

/// What no network, trajectory or schedule comes near, so that a false number can't ask for memory.
const MAX_SIZE: usize = 1 << 16;

/// Everything that shapes the network and the way through it.
#[derive(Clone, Debug)]
pub(crate) struct DiffusionConfig {
    pub n_obs_steps: usize,
    pub horizon: usize,
    n_action_steps: usize,
    vision_backbone: String,
    pub encoder: KeypointPlan,
    pub separate_encoders: bool,
    /// One or more, each 1 or more.
    pub down_dims: Vec<usize>,
    /// Odd.
    pub kernel_size: usize,
    pub n_groups: usize,
    /// Even, 4 or more.
    pub diffusion_step_embed_dim: usize,
    pub use_film_scale_modulation: bool,
    pub scheduler: Scheduler,
    pub state_width: usize,
    /// The environment state's feature name and width.
    pub environment: Option<(String, usize)>,
    /// Feature names, in the order of the file; all have images of one size.
    pub cameras: Vec<String>,
    /// Their height and width, if there is a camera.
    pub camera_size: Option<[usize; 2]>,
    pub action_width: usize,
    /// Features of which the network makes nothing.
    unused: Vec<String>,
}

/// As LeRobot writes it; where a key is absent LeRobot takes these defaults (`DiffusionConfig`).
#[derive(Deserialize)]
#[serde(default)]
struct DiffusionJson {
    n_obs_steps: usize,
    horizon: usize,
    n_action_steps: usize,
    vision_backbone: String,
    resize_shape: Option<[usize; 2]>,
    crop_ratio: f64,
    crop_shape: Option<[usize; 2]>,
    use_group_norm: bool,
    spatial_softmax_num_keypoints: usize,
    use_separate_rgb_encoder_per_camera: bool,
    down_dims: Vec<usize>,
    kernel_size: usize,
    n_groups: usize,
    diffusion_step_embed_dim: usize,
    use_film_scale_modulation: bool,
    noise_scheduler_type: String,
    num_train_timesteps: usize,
    beta_schedule: String,
    beta_start: f64,
    beta_end: f64,
    prediction_type: String,
    clip_sample: bool,
    clip_sample_range: f64,
    num_inference_steps: Option<usize>,
}

impl Default for DiffusionJson {
    fn default() -> Self {
        Self {
            n_obs_steps: 2,
            horizon: 64,
            n_action_steps: 32,
            vision_backbone: "resnet18".into(),
            resize_shape: None,
            crop_ratio: 1.0,
            crop_shape: None,
            use_group_norm: false,
            spatial_softmax_num_keypoints: 32,
            use_separate_rgb_encoder_per_camera: true,
            down_dims: vec![512, 1024, 2048],
            kernel_size: 5,
            n_groups: 8,
            diffusion_step_embed_dim: 128,
            use_film_scale_modulation: true,
            noise_scheduler_type: "DDPM".into(),
            num_train_timesteps: 100,
            beta_schedule: "squaredcos_cap_v2".into(),
            beta_start: 0.0001,
            beta_end: 0.02,
            prediction_type: "epsilon".into(),
            clip_sample: true,
            clip_sample_range: 1.0,
            num_inference_steps: None,
        }
    }
}

pub(crate) const FAMILY: Family = Family {
    name: "diffusion",
    plan: |file| Ok(Box::new(DiffusionConfig::new(file)?)),
    unused_keys: &[
        OPTIMIZER_KEYS,
        &[
            "drop_n_last_frames",
            "crop_is_random",
            "pretrained_backbone_weights",
            "gradient_checkpointing",
            "compile_model",
            "compile_mode",
            "do_mask_loss_for_padding",
            "scheduler_name",
            "scheduler_warmup_steps",
        ],
    ],
    steps: &[],
    prompt: Prompt::None,
};

impl Plan for DiffusionConfig {
    fn interface(&self) -> Interface {
        let rows = self.rows().len();
        Interface {
            n_obs_steps: self.n_obs_steps,
            chunk_size: rows,
            n_action_steps: rows,
            action_width: self.action_width,
            temporal_ensemble_coeff: None,
            guidance: None,
            trained_delay: 0,
            backbone_source: None,
            backbone: (!self.cameras.is_empty()).then(|| self.vision_backbone.clone()),
            scratch_bytes: self.scratch_bytes(),
        }
    }

    fn build(&self, loader: &mut Loader) -> Built<Box<dyn Model>> {
        Ok(Box::new(Diffusion::build(self, loader)?))
    }

    fn knows_unused(&self, tensor: &str) -> bool {
        tensor.starts_with("diffusion.rgb_encoder.") && self.encoder.knows_unused(tensor)
    }

    /// LeRobot makes nothing of states beside the robot's.
    fn may_miss(&self, feature: &str) -> bool {
        self.unused.iter().any(|unused| unused == feature)
    }

    fn takes_any_image_size(&self) -> bool {
        self.encoder.resize.is_some()
    }
}

impl DiffusionConfig {
    /// # Errors
    /// When a value has the wrong type, or makes no network.
    fn new(file: &ConfigFile) -> Built<Self> {
        let json: DiffusionJson = file.parse()?;
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        let sizes = [
            ("n_obs_steps", json.n_obs_steps),
            ("horizon", json.horizon),
            ("n_action_steps", json.n_action_steps),
            ("spatial_softmax_num_keypoints", json.spatial_softmax_num_keypoints),
            ("kernel_size", json.kernel_size),
            ("n_groups", json.n_groups),
            ("diffusion_step_embed_dim", json.diffusion_step_embed_dim),
        ];
        let dims = json.down_dims.iter().map(|dim| ("down_dims", *dim));
        for (key, size) in sizes.into_iter().chain(dims) {
            if !(1..=MAX_SIZE).contains(&size) {
                return fault(key, size.to_string(), "1 to 65536");
            }
        }
        let (down_dims, n_groups) = (json.down_dims, json.n_groups);
        if !(1..=16).contains(&down_dims.len()) || !json.horizon.is_multiple_of(1 << down_dims.len()) {
            let found = format!("{} with {} down_dims", json.horizon, down_dims.len());
            return fault("horizon", found, "a multiple of 2 to the power of how many down_dims there are (1 to 16)");
        }
        if json.horizon < json.n_obs_steps {
            return fault("horizon", json.horizon.to_string(), &format!("at least n_obs_steps, {}", json.n_obs_steps));
        }
        if down_dims.iter().any(|dim| !dim.is_multiple_of(n_groups)) || !down_dims[0].is_multiple_of(FINAL_GROUPS) {
            let expected = format!("multiples of n_groups, {n_groups}, and the first of {FINAL_GROUPS}");
            return fault("down_dims", format!("{down_dims:?}"), &expected);
        }
        if json.kernel_size.is_multiple_of(2) {
            return fault("kernel_size", json.kernel_size.to_string(), "odd; with an even one LeRobot's own layers don't fit each other");
        }
        let step_dim = json.diffusion_step_embed_dim;
        if step_dim < 4 || !step_dim.is_multiple_of(2) {
            return fault("diffusion_step_embed_dim", step_dim.to_string(), "even, 4 or more");
        }
        let Some(backbone) = ResNetPlan::new(&json.vision_backbone, false) else {
            return fault("vision_backbone", json.vision_backbone, "resnet18, resnet34, resnet50, resnet101 or resnet152");
        };

        let scheduler = Scheduler::of(
            file,
            ScheduleJson {
                noise_scheduler_type: &json.noise_scheduler_type,
                num_train_timesteps: json.num_train_timesteps,
                beta_schedule: &json.beta_schedule,
                beta_start: json.beta_start,
                beta_end: json.beta_end,
                prediction_type: &json.prediction_type,
                clip_sample: json.clip_sample,
                clip_sample_range: json.clip_sample_range,
                num_inference_steps: json.num_inference_steps,
            },
        )?;

        let Observed { state_width, cameras, camera_size, environment, unused } = Observed::of(file, true)?;
        if cameras.is_empty() && environment.is_none() {
            return fault("input_features", "no camera and no environment state".into(), "at least one of the two");
        }
        if !(json.crop_ratio > 0.0 && json.crop_ratio <= 1.0) {
            return fault("crop_ratio", json.crop_ratio.to_string(), "above 0, at most 1");
        }
        let crop = match json.resize_shape {
            None => json.crop_shape,
            // Rounded down.
            Some(size) => (json.crop_ratio < 1.0).then(|| size.map(|side| (side as f64 * json.crop_ratio) as usize)),
        };
        for (key, size) in [("resize_shape", json.resize_shape), ("crop_shape", crop)] {
            if let Some(size) = size.filter(|size| !is_image_size(*size)) {
                return fault(key, format!("{size:?}"), "a height and a width, each 1 to 8192");
            }
        }
        if let (Some(crop), Some(whole)) = (crop, json.resize_shape.or(camera_size))
            && (crop[0] > whole[0] || crop[1] > whole[1])
        {
            return fault("crop_shape", format!("{crop:?}"), &format!("at most the images' height and width, {whole:?}"));
        }

        Ok(Self {
            n_obs_steps: json.n_obs_steps,
            horizon: json.horizon,
            n_action_steps: json.n_action_steps,
            vision_backbone: json.vision_backbone,
            encoder: KeypointPlan {
                resize: json.resize_shape,
                crop,
                backbone,
                norm: if json.use_group_norm { Norm::Group } else { Norm::Batch },
                keypoints: json.spatial_softmax_num_keypoints,
            },
            separate_encoders: json.use_separate_rgb_encoder_per_camera,
            down_dims,
            kernel_size: json.kernel_size,
            n_groups,
            diffusion_step_embed_dim: step_dim,
            use_film_scale_modulation: json.use_film_scale_modulation,
            scheduler,
            state_width,
            environment,
            cameras,
            camera_size,
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
        let environment = self.environment.as_ref().map_or(0, |(_, n)| *n);
        self.n_obs_steps * (self.state_width + self.cameras.len() * self.encoder.width() + environment)
    }

    /// About what the largest intermediates take: the backbone's first feature maps (64 channels at
    /// half the resolution, in and out of a layer).
    fn scratch_bytes(&self) -> u64 {
        let pixels = self.camera_size.map_or(0, |size| self.encoder.seen(size).map(|side| side.div_ceil(2)).into_iter().product::<usize>());
        let images = if self.separate_encoders { 1 } else { self.cameras.len() } * self.n_obs_steps;
        4 * 2 * 64 * (pixels * images) as u64
    }
}
