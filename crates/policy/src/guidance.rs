//! What a new chunk shall continue, and how strongly: LeRobot's real-time chunking.

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::CheckpointError;
use crate::chunk::{Actions, Chunk};
use crate::config::ConfigFile;

/// How strongly each row of a new chunk is held to the previous chunk. With a delay of `d` rows and
/// a horizon of `h`, the first `d` rows are held fully and those from `h` on not at all (but for
/// [`Zeros`](Self::Zeros)); the schedule says what is between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum GuidanceSchedule {
    /// Not held.
    Zeros,
    /// Held fully.
    Ones,
    /// Falling in equal steps.
    #[default]
    Linear,
    /// Falling faster at first.
    Exp,
}

/// By what a new chunk is made to continue the previous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuidanceMode {
    /// The field is bent towards the previous chunk: for every flow policy.
    #[default]
    Guided,
    /// The rows that will have been executed are given, and the others follow from them: for policies
    /// that were trained with such rows. Of the settings only the mode counts.
    Trained,
}

/// LeRobot's `RTCConfig`, as far as it shapes the answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuidanceSettings {
    /// Whether the checkpoint asks for it.
    pub enabled: bool,
    pub mode: GuidanceMode,
    #[serde(rename = "prefix_attention_schedule")]
    pub schedule: GuidanceSchedule,
    /// The most that the pull towards the previous chunk is multiplied by; more than 0.
    pub max_guidance_weight: f64,
    /// Rows of the previous chunk that the new one is compared with.
    pub execution_horizon: usize,
}

impl Default for GuidanceSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            mode: GuidanceMode::Guided,
            schedule: GuidanceSchedule::Linear,
            max_guidance_weight: 10.0,
            execution_horizon: 10,
        }
    }
}

impl GuidanceSettings {
    /// Whether the weight is a number above 0.
    pub(crate) fn has_weight(&self) -> bool {
        self.max_guidance_weight > 0.0
    }

    /// # Errors
    /// Unless a checkpoint that was trained with `trained_delay` rows given can have these settings.
    pub(crate) fn check(&self, file: &ConfigFile, trained_delay: usize) -> Result<(), CheckpointError> {
        if !self.has_weight() {
            return Err(file.fault("rtc_config.max_guidance_weight", self.max_guidance_weight.to_string(), "a number above 0"));
        }
        if self.enabled && self.mode == GuidanceMode::Trained && trained_delay == 0 {
            return Err(file.fault("rtc_config.mode", "trained".into(), "guided, or a π0.5 with rtc_training_max_delay above 0"));
        }
        Ok(())
    }
}

/// What a new chunk shall continue.
#[derive(Clone, Debug, PartialEq)]
pub struct Guidance {
    /// The rows of the previous chunk that are not executed yet; the first is for the new chunk's first
    /// tick. At most as many as a chunk has, and as wide as the action or the model's own action. Where
    /// actions are relative to the state, [`Chunk::actions`] counts, which is made relative to the
    /// state that the new chunk sees; elsewhere [`Chunk::normalized`].
    pub previous: Chunk,
    /// Rows that will have been executed before the new chunk is there.
    pub inference_delay: usize,
    pub settings: GuidanceSettings,
}

impl Guidance {
    /// Rows at the beginning of the new chunk that are given.
    pub(crate) fn given_rows(&self) -> usize {
        match self.settings.mode {
            GuidanceMode::Guided => 0,
            GuidanceMode::Trained => self.inference_delay,
        }
    }

    /// The previous rows, padded with zeros to `[rows, width]`.
    pub(crate) fn padded(&self, (rows, width): (usize, usize), device: &Device) -> candle_core::Result<Tensor> {
        let Actions { rows: have, width: wide, values } = &self.previous.normalized;
        if *have > rows || *wide > width || *wide == 0 || values.len() != have * wide {
            candle_core::bail!(
                "the previous chunk is {} values as {have}x{wide}, expected at most {rows} rows of at most {width}",
                values.len()
            );
        }
        let mut padded = vec![0.0; rows * width];
        for (to, from) in padded.chunks_exact_mut(width).zip(values.chunks_exact(*wide)) {
            to[..*wide].copy_from_slice(from);
        }
        Tensor::from_vec(padded, (rows, width), device)
    }

    /// The weight of each row of a chunk of `total` rows.
    pub(crate) fn weights(&self, total: usize) -> Vec<f32> {
        let end = self.settings.execution_horizon.min(self.previous.normalized.rows);
        let start = self.inference_delay.min(end);
        let between = |i: usize| falling(i - start, end - start);
        let weight = |i: usize| match self.settings.schedule {
            _ if i < start => 1.0,
            _ if i >= end => 0.0,
            GuidanceSchedule::Zeros => 0.0,
            GuidanceSchedule::Ones => 1.0,
            GuidanceSchedule::Linear => between(i),
            GuidanceSchedule::Exp => between(i) * (between(i).exp_m1() / (std::f64::consts::E - 1.0) as f32),
        };
        (0..total).map(weight).collect()
    }

    /// How much of the pull is applied at `time`, which is in (0, 1].
    pub(crate) fn strength(&self, time: f64) -> f32 {
        let most = self.settings.max_guidance_weight as f32;
        let tau = (1.0 - time) as f32;
        let left = 1.0 - tau;
        let inverse_variance = (left * left + tau * tau) / (left * left);
        let odds = left / tau;
        let odds = if odds.is_infinite() { most } else { odds };
        (odds * inverse_variance).min(most)
    }
}

/// Entry `i` of `count` that fall from 1 to 0 in equal steps, both ends left out.
fn falling(i: usize, count: usize) -> f32 {
    let (steps, at) = (count + 2, i + 1);
    let step = -1.0 / (steps - 1) as f32;
    // The far half is counted from its end, as in torch.linspace.
    if at < steps / 2 { 1.0 + step * at as f32 } else { -step * (steps - at - 1) as f32 }
}
