//! Noise schedules and samplers: DDPM (Ho et al. 2020, arXiv 2006.11239) and DDIM without added noise
//! (Song et al. 2020, arXiv 2010.02502). Everything is computed in `f32` and in the order in which
//! Hugging Face's diffusers does, because `1 - ᾱ` keeps only a few digits where `ᾱ` is close to 1.

use std::f64::consts::FRAC_PI_2;

use candle_core::Result;

use crate::config::ConfigFile;
use crate::nn::Built;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sampler {
    Ddpm,
    Ddim,
}

impl Sampler {
    /// By LeRobot's name of it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "DDPM" => Some(Self::Ddpm),
            "DDIM" => Some(Self::Ddim),
            _ => None,
        }
    }
}

/// How the variance `β` of the added noise grows over the training steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Betas {
    Linear,
    ScaledLinear,
    SquaredCosine,
    Laplace,
    Sigmoid,
}

impl Betas {
    /// By diffusers' name of it; its DDIM has fewer than its DDPM.
    pub(crate) fn named(name: &str, sampler: Sampler) -> Option<Self> {
        match (name, sampler) {
            ("linear", _) => Some(Self::Linear),
            ("scaled_linear", _) => Some(Self::ScaledLinear),
            ("squaredcos_cap_v2", _) => Some(Self::SquaredCosine),
            ("laplace", Sampler::Ddpm) => Some(Self::Laplace),
            ("sigmoid", Sampler::Ddpm) => Some(Self::Sigmoid),
            _ => None,
        }
    }

    /// `β` of each of `n` steps; the cosine and Laplace's don't depend on `range`.
    fn of_steps(self, n: usize, range: [f64; 2]) -> Vec<f32> {
        let [start, end] = range;
        match self {
            Self::Linear => linspace(range, n),
            Self::ScaledLinear => linspace([start.sqrt(), end.sqrt()], n).into_iter().map(|root| root * root).collect(),
            Self::SquaredCosine => from_kept(n, |t| ((t + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)),
            Self::Laplace => from_kept(n, |t| {
                let lambda = -0.5 * 1f64.copysign(0.5 - t) * (1.0 - 2.0 * (0.5 - t).abs() + 1e-6).ln();
                (lambda.exp() / (1.0 + lambda.exp())).sqrt()
            }),
            Self::Sigmoid => {
                linspace([-6.0, 6.0], n).into_iter().map(|x| (1.0 / (1.0 + (-x).exp())) * (end - start) as f32 + start as f32).collect()
            }
        }
    }
}

/// PyTorch's `linspace`: from both ends towards the middle.
pub(crate) fn linspace([start, end]: [f64; 2], n: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (n.max(2) - 1) as f32;
    (0..n).map(|i| if i < n / 2 || n == 1 { start + step * i as f32 } else { end - step * (n - 1 - i) as f32 }).collect()
}

/// Such that `kept(t)` is the part of the variance that is still the signal's at time `t` in 0..1.
fn from_kept(n: usize, kept: impl Fn(f64) -> f64) -> Vec<f32> {
    let at = |i: usize| kept(i as f64 / n as f64);
    (0..n).map(|i| (1.0 - at(i + 1) / at(i)).min(0.999) as f32).collect()
}

/// What the network answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prediction {
    Noise,
    Sample,
}

impl Prediction {
    /// By LeRobot's name of it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "epsilon" => Some(Self::Noise),
            "sample" => Some(Self::Sample),
            _ => None,
        }
    }
}

/// What LeRobot's configurations say of a scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScheduleJson<'a> {
    pub noise_scheduler_type: &'a str,
    pub num_train_timesteps: usize,
    pub beta_schedule: &'a str,
    pub beta_start: f64,
    pub beta_end: f64,
    pub prediction_type: &'a str,
    pub clip_sample: bool,
    pub clip_sample_range: f64,
    pub num_inference_steps: Option<usize>,
}

/// More training steps than any schedule has; they bound what is allocated.
const MAX_TRAIN_STEPS: usize = 1 << 16;

/// The way from noise to a sample.
#[derive(Clone, Debug)]
pub(crate) struct Scheduler {
    sampler: Sampler,
    prediction: Prediction,
    /// Samples are kept within plus and minus this, 0 or more.
    clip: Option<f32>,
    /// `ᾱ` of each training step: the part of the variance that is still the signal's.
    kept: Vec<f32>,
    steps: usize,
}

impl Scheduler {
    /// # Errors
    /// When `json`, which is part of `file`, makes no scheduler.
    pub(crate) fn of(file: &ConfigFile, json: ScheduleJson) -> Built<Self> {
        let fault = |key: &str, found: String, expected: &str| Err(file.fault(key, found, expected));
        let train_steps = json.num_train_timesteps;
        if !(1..=MAX_TRAIN_STEPS).contains(&train_steps) {
            return fault("num_train_timesteps", train_steps.to_string(), "1 to 65536");
        }
        let Some(sampler) = Sampler::named(json.noise_scheduler_type) else {
            return fault("noise_scheduler_type", json.noise_scheduler_type.to_owned(), "DDPM or DDIM");
        };
        let Some(betas) = Betas::named(json.beta_schedule, sampler) else {
            let expected = "linear, scaled_linear or squaredcos_cap_v2; laplace or sigmoid with DDPM";
            return fault("beta_schedule", format!("{} with {}", json.beta_schedule, json.noise_scheduler_type), expected);
        };
        let Some(prediction) = Prediction::named(json.prediction_type) else {
            return fault("prediction_type", json.prediction_type.to_owned(), "epsilon or sample");
        };
        if json.clip_sample && json.clip_sample_range < 0.0 {
            return fault("clip_sample_range", json.clip_sample_range.to_string(), "0 or more");
        }
        let clip = json.clip_sample.then_some(json.clip_sample_range as f32);
        let steps = json.num_inference_steps.unwrap_or(train_steps);
        if !(1..=train_steps).contains(&steps) {
            return fault("num_inference_steps", steps.to_string(), &format!("1 to num_train_timesteps, {train_steps}"));
        }
        let range = [json.beta_start, json.beta_end];
        match Self::new(sampler, betas, range, prediction, clip, train_steps, steps) {
            Some(scheduler) => Ok(scheduler),
            None => fault(
                "beta_start and beta_end",
                format!("{range:?}"),
                "numbers with which each step adds some noise and leaves some signal",
            ),
        }
    }

    /// `train_steps` is 1 or more, `steps` at most as many, and `beta_range` the first and the last
    /// `β`. `None` when some `ᾱ` is not between 0 and 1, with which no step can be computed.
    fn new(
        sampler: Sampler,
        betas: Betas,
        beta_range: [f64; 2],
        prediction: Prediction,
        clip: Option<f32>,
        train_steps: usize,
        steps: usize,
    ) -> Option<Self> {
        let multiply = |product: &mut f64, beta: f32| {
            *product *= f64::from(1.0 - beta);
            Some(*product as f32)
        };
        let kept: Vec<f32> = betas.of_steps(train_steps, beta_range).into_iter().scan(1.0, multiply).collect();
        kept.iter().all(|kept| *kept > 0.0 && *kept < 1.0).then_some(Self { sampler, prediction, clip, kept, steps })
    }

    fn stride(&self) -> usize {
        self.kept.len() / self.steps
    }

    /// The training steps to go through, in this order.
    pub(crate) fn timesteps(&self) -> Vec<usize> {
        (0..self.steps).rev().map(|i| i * self.stride()).collect()
    }

    /// Takes `sample` from `timestep` to the next one by the network's `answer`, which is as long.
    /// `noise` is asked for as many values where the sampler adds some: DDPM at all steps but the
    /// last.
    pub(crate) fn step(&self, timestep: usize, answer: &[f32], sample: &mut [f32], noise: impl FnOnce() -> Result<Vec<f32>>) -> Result<()> {
        let kept = self.kept[timestep];
        let kept_next = timestep.checked_sub(self.stride()).map_or(1.0, |next| self.kept[next]);
        let (lost, lost_next) = (1.0 - kept, 1.0 - kept_next);
        let clipped = |x: f32| self.clip.map_or(x, |range| x.clamp(-range, range));
        // The sample without noise, and the noise.
        let parts = |answer: f32, sample: f32| match self.prediction {
            Prediction::Noise => (clipped((sample - lost.sqrt() * answer) / kept.sqrt()), answer),
            Prediction::Sample => (clipped(answer), (sample - kept.sqrt() * answer) / lost.sqrt()),
        };
        match self.sampler {
            Sampler::Ddim => {
                for (sample, answer) in sample.iter_mut().zip(answer) {
                    let (clean, noise) = parts(*answer, *sample);
                    *sample = kept_next.sqrt() * clean + lost_next.sqrt() * noise;
                }
            }
            Sampler::Ddpm => {
                let alpha = kept / kept_next;
                let beta = 1.0 - alpha;
                let (of_clean, of_sample) = (kept_next.sqrt() * beta / lost, alpha.sqrt() * lost_next / lost);
                for (sample, answer) in sample.iter_mut().zip(answer) {
                    *sample = of_clean * parts(*answer, *sample).0 + of_sample * *sample;
                }
                if timestep > 0 {
                    let deviation = (lost_next / lost * beta).max(1e-20).sqrt();
                    for (sample, noise) in sample.iter_mut().zip(noise()?) {
                        *sample += deviation * noise;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use serde::Deserialize;

    use super::*;
    use crate::tensor_file::TensorFile;

    #[derive(Deserialize)]
    struct Config {
        noise_scheduler_type: String,
        num_train_timesteps: usize,
        num_inference_steps: usize,
        beta_schedule: String,
        #[serde(default = "first_beta")]
        beta_start: f64,
        #[serde(default = "last_beta")]
        beta_end: f64,
        #[serde(default = "epsilon")]
        prediction_type: String,
        #[serde(default = "yes")]
        clip_sample: bool,
        #[serde(default = "one")]
        clip_sample_range: f64,
    }

    // As diffusers' own defaults.
    fn first_beta() -> f64 {
        0.0001
    }
    fn last_beta() -> f64 {
        0.02
    }
    fn epsilon() -> String {
        "epsilon".into()
    }
    fn yes() -> bool {
        true
    }
    fn one() -> f64 {
        1.0
    }

    #[test]
    fn every_step_of_every_schedule_agrees_with_diffusers() {
        let file = TensorFile::open(
            &Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden/diffusion/schedulers.safetensors"),
        )
        .unwrap();
        let configs: BTreeMap<String, Config> = serde_json::from_str(file.metadata("configs").unwrap()).unwrap();
        assert!(configs.len() > 50);
        for (label, config) in configs {
            let read = |what: &str| {
                let name = format!("{label}.{what}");
                file.floats(&name, file.spec(&name).unwrap()).unwrap()
            };
            let sampler = Sampler::named(&config.noise_scheduler_type).unwrap();
            let betas = Betas::named(&config.beta_schedule, sampler).unwrap();
            let prediction = Prediction::named(&config.prediction_type).unwrap();
            let clip = config.clip_sample.then_some(config.clip_sample_range as f32);
            let range = [config.beta_start, config.beta_end];
            let scheduler =
                Scheduler::new(sampler, betas, range, prediction, clip, config.num_train_timesteps, config.num_inference_steps).unwrap();
            for (i, (ours, theirs)) in scheduler.kept.iter().zip(read("kept")).enumerate() {
                assert!((ours - theirs).abs() <= 1e-6 * theirs, "{label}: kept {i} is {ours}, theirs {theirs}");
            }
            let timesteps: Vec<f32> = scheduler.timesteps().into_iter().map(|t| t as f32).collect();
            assert_eq!(timesteps, read("timesteps"), "{label}");

            let mut sample = read("start");
            let width = sample.len();
            let (outputs, noise, samples) = (read("outputs"), read("noise"), read("samples"));
            for (i, timestep) in scheduler.timesteps().into_iter().enumerate() {
                let row = i * width..(i + 1) * width;
                let drawn = || Ok(noise[row.clone()].to_vec());
                scheduler.step(timestep, &outputs[row.clone()], &mut sample, drawn).unwrap();
                for (ours, theirs) in sample.iter().zip(&samples[row.clone()]) {
                    // Where almost no signal is kept, one rounding of it is a large part of the sample.
                    assert!(
                        (ours - theirs).abs() <= 1e-5 * theirs.abs().max(1.0),
                        "{label}: step {i} (t {timestep}) is {ours}, theirs {theirs}"
                    );
                }
            }
        }
    }

    #[test]
    fn schedules_without_noise_or_without_signal_are_refused() {
        let scheduler = |range| Scheduler::new(Sampler::Ddim, Betas::Linear, range, Prediction::Noise, None, 10, 5);
        assert!(scheduler([0.1, 0.2]).is_some());
        assert!(scheduler([0.0, 0.2]).is_none());
        assert!(scheduler([0.1, 1.0]).is_none());
        assert!(scheduler([0.1, -3.0]).is_none());
        assert!(Scheduler::new(Sampler::Ddim, Betas::ScaledLinear, [-0.1, 0.2], Prediction::Noise, None, 10, 5).is_none());
    }
}
