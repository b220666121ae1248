//! Flow matching: actions are where a learned velocity field carries noise, from time 1 down to 0
//! (Lipman et al. 2022, arXiv 2210.02747). Real-time chunking bends the field so that the new chunk
//! continues the one that is being executed (Black et al. 2025, arXiv 2506.07339), as LeRobot does
//! it.

use candle_core::{DType, Device, Result, Tensor, bail};
use serde::{Deserialize, Serialize};

use crate::infer::Actions;

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

/// LeRobot's `RTCConfig`, as far as it shapes the answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuidanceSettings {
    /// Whether the checkpoint asks for it.
    pub enabled: bool,
    #[serde(rename = "prefix_attention_schedule")]
    pub schedule: GuidanceSchedule,
    /// The most that the pull towards the previous chunk is multiplied by; more than 0.
    pub max_guidance_weight: f64,
    /// Rows of the previous chunk that the new one is compared with.
    pub execution_horizon: usize,
}

impl Default for GuidanceSettings {
    fn default() -> Self {
        Self { enabled: true, schedule: GuidanceSchedule::Linear, max_guidance_weight: 10.0, execution_horizon: 10 }
    }
}

impl GuidanceSettings {
    /// Whether the weight is a number above 0.
    pub(crate) fn has_weight(&self) -> bool {
        self.max_guidance_weight > 0.0
    }
}

/// What a new chunk shall continue.
#[derive(Clone, Debug, PartialEq)]
pub struct Guidance {
    /// The rows of the previous chunk that are not executed yet, as the model gave them (before the
    /// postprocessor); the first is for the new chunk's first tick. At most as many as a chunk has,
    /// and as wide as the action or the model's own action.
    pub previous: Actions,
    /// Rows that will have been executed before the new chunk is there.
    pub inference_delay: usize,
    pub settings: GuidanceSettings,
}

impl Guidance {
    /// The weight of each row of a chunk of `total` rows.
    fn weights(&self, total: usize) -> Vec<f32> {
        let end = self.settings.execution_horizon.min(self.previous.rows);
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
    fn strength(&self, time: f64) -> f32 {
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

/// A guidance made ready for a chunk: the previous rows padded with zeros, `[rows, width]`, and the
/// weight of each row, `[rows, 1]`.
struct Pull<'a> {
    guidance: &'a Guidance,
    previous: Tensor,
    weights: Tensor,
}

impl<'a> Pull<'a> {
    fn new(guidance: &'a Guidance, (rows, width): (usize, usize), device: &Device) -> Result<Self> {
        let Actions { rows: have, width: wide, values } = &guidance.previous;
        if *have > rows || *wide > width || *wide == 0 || values.len() != have * wide {
            bail!("the previous chunk is {} values as {have}x{wide}, expected at most {rows} rows of at most {width}", values.len());
        }
        if !guidance.settings.has_weight() {
            bail!("the greatest weight of the guidance is {}, expected a number above 0", guidance.settings.max_guidance_weight);
        }
        let mut padded = vec![0.0; rows * width];
        for (to, from) in padded.chunks_exact_mut(width).zip(values.chunks_exact(*wide)) {
            to[..*wide].copy_from_slice(from);
        }
        let previous = Tensor::from_vec(padded, (rows, width), device)?;
        let weights = Tensor::from_vec(guidance.weights(rows), (rows, 1), device)?;
        Ok(Self { guidance, previous, weights })
    }

    /// `velocity` at `x` and `time`, bent towards the previous chunk.
    fn bend(&self, x: &Tensor, velocity: &Tensor, time: f64) -> Result<Tensor> {
        let end = (x - (velocity * time)?)?;
        let error = (&self.previous - end)?.broadcast_mul(&self.weights)?;
        velocity - (error * f64::from(self.guidance.strength(time)))?
    }
}

/// Carries `noise [rows, width]` from time 1 to 0 in `steps` equal steps; `velocity(x, i)` is the
/// field at step `i`, whose time is [`step_time`].
pub(crate) fn integrate(
    noise: Tensor,
    steps: usize,
    guidance: Option<&Guidance>,
    mut velocity: impl FnMut(&Tensor, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let pull = guidance.map(|guidance| Pull::new(guidance, noise.dims2()?, noise.device())).transpose()?;
    let mut x = noise;
    for step in 0..steps {
        let mut v = velocity(&x, step)?;
        if let Some(pull) = &pull {
            v = pull.bend(&x, &v, step_time(step, steps))?;
        }
        x = (x + (v * (-1.0 / steps as f64))?)?;
    }
    Ok(x)
}

/// The time at which step `step` of `steps` looks at the field.
pub(crate) fn step_time(step: usize, steps: usize) -> f64 {
    1.0 + step as f64 * (-1.0 / steps as f64)
}

/// The times of all `steps` as sines and cosines of `width / 2` periods each, from `shortest` to
/// `longest` by a constant factor: `[steps, width]`. `width` is even.
pub(crate) fn time_embeddings(steps: usize, width: usize, [shortest, longest]: [f64; 2], device: &Device) -> Result<Tensor> {
    let half = width / 2;
    let pace = |i: usize| {
        let fraction = if half > 1 { i as f64 / (half - 1) as f64 } else { 0.0 };
        1.0 / (shortest * (longest / shortest).powf(fraction)) * 2.0 * std::f64::consts::PI
    };
    let mut values = Vec::with_capacity(steps * width);
    for step in 0..steps {
        // LeRobot rounds the time to f32 before it goes on in f64.
        let time = f64::from(step_time(step, steps) as f32);
        values.extend((0..half).map(|i| (pace(i) * time).sin() as f32));
        values.extend((0..half).map(|i| (pace(i) * time).cos() as f32));
    }
    Tensor::from_vec(values, (steps, 2 * half), device)?.to_dtype(DType::F32)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::weights::TensorFile;

    fn golden(name: &str) -> TensorFile {
        TensorFile::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parts").join(name)).unwrap()
    }

    fn read(file: &TensorFile, name: &str) -> Tensor {
        let info = file.spec(name).unwrap();
        Tensor::from_vec(file.floats(name, info).unwrap(), info.shape.as_slice(), &Device::Cpu).unwrap()
    }

    fn delta(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    fn vector(values: Vec<f32>) -> Tensor {
        let n = values.len();
        Tensor::from_vec(values, n, &Device::Cpu).unwrap()
    }

    #[test]
    fn guidance_agrees_with_lerobots_step_by_step() {
        let file = golden("guidance.safetensors");
        for label in ["usual", "short", "late", "whole", "odd"] {
            let words: Vec<f64> = file.metadata(label).unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
            let [noise, velocities, previous] = ["noise", "velocities", "previous"].map(|what| read(&file, &format!("{label}.{what}")));
            let (steps, (rows, width)) = (velocities.dim(0).unwrap(), previous.dims2().unwrap());
            let previous = Actions { rows, width, values: previous.flatten_all().unwrap().to_vec1().unwrap() };
            for schedule in ["ZEROS", "ONES", "LINEAR", "EXP"] {
                let settings = GuidanceSettings {
                    schedule: serde_json::from_value(schedule.into()).unwrap(),
                    max_guidance_weight: words[2],
                    execution_horizon: words[1] as usize,
                    enabled: true,
                };
                let guidance = Guidance { previous: previous.clone(), inference_delay: words[0] as usize, settings };
                let expected = |what: &str| read(&file, &format!("{label}.{schedule}.{what}"));
                let check = |what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f32| {
                    let delta = delta(ours, theirs);
                    assert!(delta <= tolerance, "{label} {schedule} {what}: {delta}");
                };
                check("weights", &vector(guidance.weights(noise.dim(0).unwrap())), &expected("weights"), 1e-6);
                let strengths = (0..steps).map(|step| guidance.strength(step_time(step, steps))).collect();
                check("strengths", &vector(strengths), &expected("strengths"), 1e-5);

                // The same velocities whatever the chunk is, so that each step is checked by itself.
                let pull = Pull::new(&guidance, noise.dims2().unwrap(), &Device::Cpu).unwrap();
                let guided = expected("guided");
                let chunk = integrate(noise.clone(), steps, Some(&guidance), |x, step| {
                    let velocity = velocities.get(step)?;
                    let bent = pull.bend(x, &velocity, step_time(step, steps))?;
                    check("velocity", &bent, &guided.get(step)?, 1e-4);
                    Ok(velocity)
                });
                check("chunk", &chunk.unwrap(), &expected("chunk"), 1e-5);
            }
        }
    }

    #[test]
    fn times_are_embedded_as_lerobot_does() {
        let file = golden("time_embedding.safetensors");
        assert_eq!(file.names().len(), 3);
        for name in file.names() {
            let words: Vec<f64> = name.split(' ').map(|word| word.parse().unwrap()).collect();
            let ours = time_embeddings(words[0] as usize, words[1] as usize, [words[2], words[3]], &Device::Cpu).unwrap();
            let delta = delta(&ours, &read(&file, &name));
            assert!(delta < 1e-7, "{name}: {delta}");
        }
    }

    #[test]
    fn a_previous_chunk_that_is_too_large_and_a_weight_that_is_none_are_refused() {
        let noise = || Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
        for (rows, width, len) in [(5, 3, 15), (4, 4, 16), (2, 3, 5), (2, 0, 0)] {
            let previous = Actions { rows, width, values: vec![0.0; len] };
            let guidance = Guidance { previous, inference_delay: 0, settings: GuidanceSettings::default() };
            assert!(integrate(noise(), 2, Some(&guidance), |x, _| Ok(x.clone())).is_err(), "{rows}x{width}");
        }
        for most in [0.0, -1.0, f64::NAN] {
            let settings = GuidanceSettings { max_guidance_weight: most, ..GuidanceSettings::default() };
            let previous = Actions { rows: 1, width: 3, values: vec![0.0; 3] };
            let guidance = Guidance { previous, inference_delay: 0, settings };
            assert!(integrate(noise(), 2, Some(&guidance), |x, _| Ok(x.clone())).is_err(), "{most}");
        }
    }
}
