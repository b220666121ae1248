//! Flow matching: actions are where a learned velocity field carries noise, from time 1 down to 0
//! (Lipman et al. 2022, arXiv 2210.02747). Real-time chunking makes the new chunk continue the one that
//! is being executed, as LeRobot does it: by bending the field (Black et al. 2025, arXiv 2506.07339),
//! or, in models that were trained for it, by giving the rows that will be executed meanwhile as they
//! are (Black et al. 2025, arXiv 2512.05964).

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::guidance::{Guidance, GuidanceMode};

/// A guidance made ready for a chunk.
enum Hold<'a> {
    Pull(Pull<'a>),
    /// The rows that are given, `[given, width]`.
    Given(Tensor),
}

impl<'a> Hold<'a> {
    /// `None` where nothing is held.
    fn new(guidance: &'a Guidance, size: (usize, usize), device: &Device) -> Result<Option<Self>> {
        if guidance.settings.mode == GuidanceMode::Guided {
            return Ok(Some(Self::Pull(Pull::new(guidance, size, device)?)));
        }
        let (given, have) = (guidance.given_rows(), guidance.previous.normalized.rows);
        if given > have || given >= size.0 {
            bail!(
                "{given} rows are to be given, expected at most the {have} that are left of the previous chunk, and fewer than {}",
                size.0
            );
        }
        let previous = guidance.padded(size, device)?;
        Ok(if given > 0 { Some(Self::Given(previous.narrow(0, 0, given)?)) } else { None })
    }

    /// `x` with the given rows as they are.
    fn restore(&self, x: Tensor) -> Result<Tensor> {
        match self {
            Self::Pull(_) => Ok(x),
            Self::Given(rows) => {
                let given = rows.dim(0)?;
                Tensor::cat(&[rows, &x.narrow(0, given, x.dim(0)? - given)?], 0)
            }
        }
    }
}

/// The previous rows padded with zeros, `[rows, width]`, and the weight of each row, `[rows, 1]`.
struct Pull<'a> {
    guidance: &'a Guidance,
    previous: Tensor,
    weights: Tensor,
}

impl<'a> Pull<'a> {
    fn new(guidance: &'a Guidance, size: (usize, usize), device: &Device) -> Result<Self> {
        if !guidance.settings.has_weight() {
            bail!("the greatest weight of the guidance is {}, expected a number above 0", guidance.settings.max_guidance_weight);
        }
        let previous = guidance.padded(size, device)?;
        let weights = Tensor::from_vec(guidance.weights(size.0), (size.0, 1), device)?;
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
/// field at step `i`, whose time is [`step_time`]; for rows that are [given](Guidance::given_rows) it is 0.
pub(crate) fn integrate(
    noise: Tensor,
    steps: usize,
    guidance: Option<&Guidance>,
    mut velocity: impl FnMut(&Tensor, usize) -> Result<Tensor>,
) -> Result<Tensor> {
    let hold = guidance.map(|guidance| Hold::new(guidance, noise.dims2()?, noise.device())).transpose()?.flatten();
    let restore = |x: Tensor| match &hold {
        Some(hold) => hold.restore(x),
        None => Ok(x),
    };
    let mut x = restore(noise)?;
    for step in 0..steps {
        let mut v = velocity(&x, step)?;
        if let Some(Hold::Pull(pull)) = &hold {
            v = pull.bend(&x, &v, step_time(step, steps))?;
        }
        x = restore((x + (v * (-1.0 / steps as f64))?)?)?;
    }
    Ok(x)
}

/// The time at which step `step` of `steps` looks at the field.
fn step_time(step: usize, steps: usize) -> f64 {
    1.0 + step as f64 * (-1.0 / steps as f64)
}

/// The times of all `steps`.
pub(crate) fn step_times(steps: usize) -> impl Iterator<Item = f64> {
    (0..steps).map(move |step| step_time(step, steps))
}

/// The `times` as sines and cosines of `width / 2` periods each, from `shortest` to `longest` by a
/// constant factor: `[times, width]`. `width` is even.
pub(crate) fn time_embeddings(
    times: impl IntoIterator<Item = f64>,
    width: usize,
    [shortest, longest]: [f64; 2],
    device: &Device,
) -> Result<Tensor> {
    let half = width / 2;
    let pace = |i: usize| {
        let fraction = if half > 1 { i as f64 / (half - 1) as f64 } else { 0.0 };
        1.0 / (shortest * (longest / shortest).powf(fraction)) * 2.0 * std::f64::consts::PI
    };
    let (mut values, mut rows) = (Vec::new(), 0);
    for time in times {
        // LeRobot rounds the time to f32 before it goes on in f64.
        let time = f64::from(time as f32);
        values.extend((0..half).map(|i| (pace(i) * time).sin() as f32));
        values.extend((0..half).map(|i| (pace(i) * time).cos() as f32));
        rows += 1;
    }
    Tensor::from_vec(values, (rows, 2 * half), device)?.to_dtype(DType::F32)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::chunk::{Actions, Chunk};
    use crate::guidance::GuidanceSettings;
    use crate::tensor_file::TensorFile;

    fn golden(name: &str) -> TensorFile {
        TensorFile::open(&Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("tests/golden/parts").join(name)).unwrap()
    }

    fn read(file: &TensorFile, name: &str) -> Tensor {
        let info = file.spec(name).unwrap();
        Tensor::from_vec(file.floats(name, info).unwrap(), info.shape.as_slice(), &Device::Cpu).unwrap()
    }

    fn delta(a: &Tensor, b: &Tensor) -> f32 {
        (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
    }

    /// Rows in a model's terms, with nothing made of them.
    fn chunk(rows: usize, width: usize, values: Vec<f32>) -> Chunk {
        let normalized = Actions { rows, width, values };
        Chunk { actions: normalized.clone(), normalized }
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
            let previous = chunk(rows, width, previous.flatten_all().unwrap().to_vec1().unwrap());
            for schedule in ["ZEROS", "ONES", "LINEAR", "EXP"] {
                let settings = GuidanceSettings {
                    schedule: serde_json::from_value(schedule.into()).unwrap(),
                    max_guidance_weight: words[2],
                    execution_horizon: words[1] as usize,
                    ..GuidanceSettings::default()
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
            let ours = time_embeddings(step_times(words[0] as usize), words[1] as usize, [words[2], words[3]], &Device::Cpu).unwrap();
            let delta = delta(&ours, &read(&file, &name));
            assert!(delta < 1e-7, "{name}: {delta}");
        }
    }

    #[test]
    fn a_previous_chunk_that_is_too_large_and_a_weight_that_is_none_are_refused() {
        let noise = || Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap();
        for (rows, width, len) in [(5, 3, 15), (4, 4, 16), (2, 3, 5), (2, 0, 0)] {
            for mode in [GuidanceMode::Guided, GuidanceMode::Trained] {
                let settings = GuidanceSettings { mode, ..GuidanceSettings::default() };
                let guidance = Guidance { previous: chunk(rows, width, vec![0.0; len]), inference_delay: 0, settings };
                assert!(integrate(noise(), 2, Some(&guidance), |x, _| Ok(x.clone())).is_err(), "{mode:?} {rows}x{width}");
            }
        }
        for most in [0.0, -1.0, f64::NAN] {
            let settings = GuidanceSettings { max_guidance_weight: most, ..GuidanceSettings::default() };
            let guidance = Guidance { previous: chunk(1, 3, vec![0.0; 3]), inference_delay: 0, settings };
            assert!(integrate(noise(), 2, Some(&guidance), |x, _| Ok(x.clone())).is_err(), "{most}");
        }
    }

    #[test]
    fn given_rows_stay_as_they_are_and_are_those_that_are_left() {
        let noise = || Tensor::ones((4, 3), DType::F32, &Device::Cpu).unwrap();
        let settings = GuidanceSettings { mode: GuidanceMode::Trained, ..GuidanceSettings::default() };
        let run = |rows: usize, given| {
            let previous = chunk(rows, 2, (0..2 * rows).map(|value| value as f32 + 5.0).collect());
            let guidance = Guidance { previous, inference_delay: given, settings };
            let mut seen = Vec::new();
            let chunk = integrate(noise(), 2, Some(&guidance), |x, _| {
                seen.push(x.to_vec2::<f32>()?);
                Ok(x.clone())
            });
            chunk.map(|chunk| (chunk.to_vec2::<f32>().unwrap(), seen))
        };
        let (chunk, seen) = run(3, 2).unwrap();
        let given = [[5.0, 6.0, 0.0], [7.0, 8.0, 0.0]];
        assert!(seen.iter().chain([&chunk]).all(|x| x[..2] == given), "{seen:?} {chunk:?}");
        // Halved twice.
        assert_eq!(chunk[2..], [[0.25; 3]; 2]);
        assert_eq!(run(3, 0).unwrap().0, [[0.25; 3]; 4]);
        assert!(run(3, 3).is_ok() && run(2, 3).is_err() && run(4, 4).is_err());
    }
}
