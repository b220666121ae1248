//! The numbers that a model draws: noise, and what choices are made by.

use candle_core::Result;

use crate::guidance::Guidance;
use crate::processor::Array;

/// What a model draws its noise from, and what its answer shall continue.
#[derive(Clone, Debug)]
pub(crate) struct Sampling {
    /// The initial noise that the caller gave.
    noise: Option<Array>,
    /// The noise of each later step that the caller gave, `[steps, ...]`.
    step_noise: Option<Array>,
    rng: fastrand::Rng,
    /// What the chunk shall continue.
    pub guidance: Option<Guidance>,
}

impl Sampling {
    pub(crate) fn new(noise: Option<Array>, step_noise: Option<Array>, seed: u64) -> Self {
        Self { noise, step_noise, rng: fastrand::Rng::with_seed(seed), guidance: None }
    }

    /// The noise to begin with, `shape`: what the caller gave, or drawn from N(0, 1).
    ///
    /// # Errors
    /// When what the caller gave has another shape.
    pub(crate) fn initial(&mut self, shape: &[usize]) -> Result<Array> {
        match self.noise.take() {
            Some(noise) if noise.shape == shape => Ok(noise),
            Some(noise) => candle_core::bail!("the input noise has shape {:?}, expected {shape:?}", noise.shape),
            None => Ok(self.draw(shape)),
        }
    }

    /// The noise of step `index`, `shape`, for samplers that add some at each step.
    ///
    /// # Errors
    /// When what the caller gave has another shape or too few steps.
    pub(crate) fn of_step(&mut self, index: usize, shape: &[usize]) -> Result<Array> {
        let Some(given) = &self.step_noise else { return Ok(self.draw(shape)) };
        let len: usize = shape.iter().product();
        match given.values.get(index * len..(index + 1) * len) {
            Some(values) if given.shape.get(1..) == Some(shape) => Ok(Array { shape: shape.to_vec(), values: values.to_vec() }),
            _ => candle_core::bail!("the input noise_steps has shape {:?}, expected [more than {index}, {shape:?}]", given.shape),
        }
    }

    /// A token by its weight, a logarithm: as [`choose`], by a number that is drawn where one is
    /// needed.
    ///
    /// # Errors
    /// As [`choose`].
    pub(crate) fn token(&mut self, weights: &[f32], temperature: f64) -> Result<u32> {
        let number = if temperature > 0.0 { self.rng.f64() } else { 0.0 };
        Ok(choose(weights, temperature, number)? as u32)
    }

    /// Numbers of 0..1 that choices are made by, `shape`: what the caller gave as noise, or drawn.
    ///
    /// # Errors
    /// When what the caller gave has another shape, or is not in 0..1.
    pub(crate) fn numbers(&mut self, shape: &[usize]) -> Result<Array> {
        if self.noise.is_some() {
            let given = self.initial(shape)?;
            return match given.values.iter().find(|value| !(0.0..1.0).contains(*value)) {
                Some(value) => candle_core::bail!("the input noise holds {value}, expected numbers from 0 to below 1, to make choices by"),
                None => Ok(given),
            };
        }
        let values = (0..shape.iter().product()).map(|_| self.rng.f32()).collect();
        Ok(Array { shape: shape.to_vec(), values })
    }

    /// Independent samples of N(0, 1), by Box and Muller's transform.
    fn draw(&mut self, shape: &[usize]) -> Array {
        let len: usize = shape.iter().product();
        let mut values = Vec::with_capacity(len + 1);
        while values.len() < len {
            let radius = (-2.0 * (1.0 - self.rng.f64()).ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * self.rng.f64()).sin_cos();
            values.extend([(radius * cos) as f32, (radius * sin) as f32]);
        }
        values.truncate(len);
        Array { shape: shape.to_vec(), values }
    }
}

/// Which of some options to take by their weights, logarithms: the first of the heaviest at
/// `temperature` 0; otherwise the first up to which the probabilities, which grow with
/// `e^(weight / temperature)`, add up to more than `number` in 0..1.
///
/// # Errors
/// When there is none, or a weight is no number.
pub(crate) fn choose(weights: &[f32], temperature: f64, number: f64) -> Result<usize> {
    if let Some(at) = weights.iter().position(|weight| weight.is_nan()) {
        candle_core::bail!("the weight of option {at} is no number");
    }
    let most = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let likely = |weight: &f32| (f64::from(weight - most) / temperature).exp();
    let index = if temperature > 0.0 {
        let mut left = number * weights.iter().map(likely).sum::<f64>();
        weights.iter().position(|weight| {
            left -= likely(weight);
            left < 0.0
        })
    } else {
        None
    };
    match index.or_else(|| weights.iter().position(|weight| *weight == most)) {
        Some(index) => Ok(index),
        None => candle_core::bail!("there is nothing to choose from"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_chosen_as_often_as_they_are_likely() {
        // Probabilities 1/4, 0, 3/4 at temperature 2.
        let weights = [0.0, -1e30, 2.0 * 3f32.ln()];
        let chosen = |number| choose(&weights, 2.0, number).unwrap();
        assert_eq!([0.0, 0.2, 0.2499, 0.2501, 0.6, 0.9999, 1.0].map(chosen), [0, 0, 0, 2, 2, 2, 2]);
        assert_eq!(choose(&weights, 0.0, 0.1).unwrap(), 2);
        // Nothing overflows.
        assert_eq!(choose(&[-3e38, 3e38], 1e-3, 0.5).unwrap(), 1);
        assert!(choose(&[], 1.0, 0.5).is_err());
        assert!(choose(&[0.0, f32::NAN], 1.0, 0.5).is_err());
    }

    #[test]
    fn drawn_noise_is_standard_normal_and_depends_on_the_seed_alone() {
        let draw = |seed| Sampling::new(None, None, seed).initial(&[50, 401]).unwrap().values;
        let values = draw(3);
        assert_eq!(values, draw(3));
        assert_ne!(values, draw(4));
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
        let far = values.iter().filter(|v| v.abs() > 1.96).count() as f32 / values.len() as f32;
        assert!((far - 0.05).abs() < 0.01, "{far}");
    }
    #[test]
    fn tokens_are_drawn_as_often_as_they_weigh() {
        let weights = [2f32.ln(), f32::NEG_INFINITY, 0.0, 2f32.ln()];
        let mut sampling = Sampling::new(None, None, 1);
        assert_eq!(sampling.token(&weights, 0.0).unwrap(), 0);
        let mut counts = [0; 4];
        (0..10_000).for_each(|_| counts[sampling.token(&weights, 1.0).unwrap() as usize] += 1);
        assert!(counts.iter().zip([4000, 0, 2000, 4000]).all(|(count, expected)| i32::abs(count - expected) < 200), "{counts:?}");
        // At half the temperature the ratios are squares.
        let mut counts = [0; 4];
        (0..10_000).for_each(|_| counts[sampling.token(&weights, 0.5).unwrap() as usize] += 1);
        assert!(counts.iter().zip([4444, 0, 1111, 4444]).all(|(count, expected)| i32::abs(count - expected) < 200), "{counts:?}");
        assert!(sampling.token(&[0.0, f32::NAN], 1.0).is_err() && sampling.token(&[], 0.0).is_err());
    }
}
