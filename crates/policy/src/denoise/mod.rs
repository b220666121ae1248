//! From noise to actions, step by step: what policies share whose network is modulated by the step and by the
//! observation.

mod observed;
mod scheduler;

use candle_core::{Device, Result, Tensor, bail};

pub(crate) use observed::{Observed, answered_rows};
pub(crate) use scheduler::{ScheduleJson, Scheduler, linspace};

use crate::sampling::Sampling;

/// For how many steps the modulations are computed together: one pass over the weights serves all of them.
const STEPS_TOGETHER: usize = 32;

/// A network's modulations at the steps of a way, computed many at a time.
pub(crate) struct Modulations<'a, Make> {
    steps: &'a [f32],
    make: Make,
    /// Those that were computed last, and the index of the first of them.
    rows: Option<(usize, Tensor)>,
}

impl<'a, Make: Fn(&[f32]) -> Result<Tensor>> Modulations<'a, Make> {
    /// `make` answers a row for each step that it gets.
    pub(crate) fn new(steps: &'a [f32], make: Make) -> Self {
        Self { steps, make, rows: None }
    }

    /// At step `index`: `[1, width]`.
    pub(crate) fn at(&mut self, index: usize) -> Result<Tensor> {
        let first = index / STEPS_TOGETHER * STEPS_TOGETHER;
        let rows = match self.rows.take() {
            Some((at, rows)) if at == first => rows,
            _ => match self.steps.get(first..self.steps.len().min(first + STEPS_TOGETHER)) {
                Some(steps) => (self.make)(steps)?,
                None => bail!("there is no step {index}, there are {}", self.steps.len()),
            },
        };
        let row = rows.narrow(0, index - first, 1)?;
        self.rows = Some((first, rows));
        Ok(row)
    }
}

/// Takes noise of `shape` (rows, width) to a sample for each of `samplings`, by a network that is asked at each of the
/// scheduler's steps: `modulations` answers a row for each step that it gets, for the sample of that index, and `network`
/// makes of the noisy samples, one below the other, and the step's row of each what the scheduler goes on from. The answers
/// are row-major.
pub(crate) fn denoise(
    scheduler: &Scheduler,
    samplings: &mut [Sampling],
    shape: [usize; 2],
    device: &Device,
    modulations: impl Fn(usize, &[f32]) -> Result<Tensor>,
    network: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> Result<Vec<Vec<f32>>> {
    let [rows, width] = shape;
    let (count, len) = (samplings.len(), (rows * width).max(1));
    let mut samples = Vec::with_capacity(count * len);
    for sampling in samplings.iter_mut() {
        samples.extend(sampling.initial(&shape)?.values);
    }
    let timesteps = scheduler.timesteps();
    let steps: Vec<f32> = timesteps.iter().map(|timestep| *timestep as f32).collect();
    let modulations = &modulations;
    let mut modulations: Vec<_> =
        (0..count).map(|sample| Modulations::new(&steps, move |steps: &[f32]| modulations(sample, steps))).collect();
    for (index, timestep) in timesteps.into_iter().enumerate() {
        let x = Tensor::from_slice(&samples, (count * rows, width), device)?;
        let modulation = modulations.iter_mut().map(|modulations| modulations.at(index)).collect::<Result<Vec<_>>>()?;
        let answers: Vec<f32> = network(&x, &Tensor::cat(&modulation, 0)?)?.flatten_all()?.to_vec1()?;
        for ((sample, answer), sampling) in samples.chunks_exact_mut(len).zip(answers.chunks_exact(len)).zip(samplings.iter_mut()) {
            scheduler.step(timestep, answer, sample, || Ok(sampling.of_step(index, &shape)?.values))?;
        }
    }
    Ok(samples.chunks_exact(len).map(<[f32]>::to_vec).collect())
}

/// Steps, or times, as sines, then cosines, of falling frequency: `[steps.len(), dim]`; `dim` is even, 4 or
/// more.
pub(crate) fn step_embeddings(steps: &[f32], dim: usize, device: &Device) -> Result<Tensor> {
    let half = dim / 2;
    let slower = -(10_000f64.ln() / (half - 1) as f64) as f32;
    let frequencies: Vec<f32> = (0..half).map(|i| (i as f32 * slower).exp()).collect();
    Tensor::from_vec(waves(steps, &frequencies, [f32::sin, f32::cos]), (steps.len(), 2 * half), device)
}

/// For each step, `first` of its product with each frequency, then `second` of them.
pub(crate) fn waves(steps: &[f32], frequencies: &[f32], [first, second]: [fn(f32) -> f32; 2]) -> Vec<f32> {
    let of = |step: f32, wave: fn(f32) -> f32| frequencies.iter().map(move |frequency| wave(step * frequency));
    steps.iter().flat_map(|step| of(*step, first).chain(of(*step, second))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tensor_file::TensorFile;

    #[test]
    fn steps_are_embedded_as_lerobot_does() {
        let file = TensorFile::open(
            &Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden/diffusion/step_embedding.safetensors"),
        )
        .unwrap();
        let read = |name: &str| file.floats(name, file.spec(name).unwrap()).unwrap();
        let timesteps = read("timesteps");
        for dim in [4, 6, 128] {
            let ours: Vec<f32> = step_embeddings(&timesteps, dim, &Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let theirs = read(&dim.to_string());
            assert_eq!(ours.len(), theirs.len());
            for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                assert!((ours - theirs).abs() < 1e-4, "{dim}: value {i} is {ours}, theirs {theirs}");
            }
        }
    }

    #[test]
    fn modulations_are_those_of_their_step_and_computed_many_at_a_time() {
        let steps: Vec<f32> = (0..70).map(|i| i as f32 * 0.5).collect();
        let calls = std::cell::Cell::new(0);
        let mut rows = Modulations::new(&steps, |steps: &[f32]| {
            calls.set(calls.get() + 1);
            Tensor::from_slice(steps, (steps.len(), 1), &Device::Cpu)
        });
        for (index, step) in steps.iter().enumerate() {
            assert_eq!(rows.at(index).unwrap().to_vec2::<f32>().unwrap(), [[*step]]);
        }
        assert_eq!(calls.get(), 3);
        assert!(rows.at(70).is_err() && rows.at(200).is_err());
    }
}
