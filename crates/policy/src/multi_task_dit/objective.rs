//! How the network's answers take noise to actions.

use candle_core::{Device, Result, Tensor};

use crate::denoise::{Modulations, Scheduler, denoise, linspace};
use crate::sampling::Sampling;

#[derive(Clone, Debug)]
pub(crate) enum Objective {
    /// The network answers the noise, or the actions without it.
    Diffusion(Scheduler),
    /// It answers the velocity with which noise at time 0 becomes actions at time 1; `steps` of equal length
    /// lead there.
    Flow { solver: Solver, steps: usize },
}

/// How a velocity field is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Solver {
    Euler,
    /// Runge and Kutta's of fourth order.
    RungeKutta,
}

impl Solver {
    /// By LeRobot's name of it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "euler" => Some(Self::Euler),
            "rk4" => Some(Self::RungeKutta),
            _ => None,
        }
    }

    /// At which times a step from `time` on that takes `dt` looks at the field.
    fn looks(self, time: f64, dt: f64) -> Vec<f32> {
        match self {
            Self::Euler => vec![time as f32],
            Self::RungeKutta => [time, time + dt / 2.0, time + dt].map(|time| time as f32).to_vec(),
        }
    }

    /// Takes `x` one step on; `velocity(x, i)` is the field at the step's look `i`.
    fn step(self, x: &Tensor, dt: f64, mut velocity: impl FnMut(&Tensor, usize) -> Result<Tensor>) -> Result<Tensor> {
        match self {
            Self::Euler => x + (velocity(x, 0)? * dt)?,
            Self::RungeKutta => {
                let half = |k: &Tensor| x + ((k * dt)? / 2.0)?;
                let first = velocity(x, 0)?;
                let second = velocity(&half(&first)?, 1)?;
                let third = velocity(&half(&second)?, 1)?;
                let fourth = velocity(&(x + (&third * dt)?)?, 2)?;
                x + ((((first + (second * 2.0)?)? + (third * 2.0)?)? + fourth)? * (dt / 6.0))?
            }
        }
    }
}

impl Objective {
    /// A sample of `shape` (rows, width), row-major: `modulations` answers a row for each step, or time, that it
    /// gets, and `network` makes of a noisy sample and such a row its answer.
    pub(crate) fn sample(
        &self,
        sampling: &mut Sampling,
        shape: [usize; 2],
        device: &Device,
        modulations: impl Fn(&[f32]) -> Result<Tensor>,
        network: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Vec<f32>> {
        let (solver, steps) = match self {
            Self::Diffusion(scheduler) => {
                let alone = std::slice::from_mut(sampling);
                let samples = denoise(scheduler, alone, shape, device, |_, steps: &[f32]| modulations(steps), network)?;
                return Ok(samples.into_iter().next().unwrap_or_default());
            }
            Self::Flow { solver, steps } => (*solver, *steps),
        };
        // The grid is rounded to f32, as LeRobot's is.
        let grid = linspace([0.0, 1.0], steps + 1);
        let ways: Vec<(f64, f64)> = grid.windows(2).map(|ends| (f64::from(ends[0]), f64::from(ends[1] - ends[0]))).collect();
        let times: Vec<f32> = ways.iter().flat_map(|(time, dt)| solver.looks(*time, *dt)).collect();
        let looks = times.len() / steps.max(1);
        let mut modulations = Modulations::new(&times, modulations);
        let mut x = Tensor::from_vec(sampling.initial(&shape)?.values, shape.as_slice(), device)?;
        for (step, (_, dt)) in ways.iter().enumerate() {
            x = solver.step(&x, *dt, |x, look| network(x, &modulations.at(step * looks + look)?))?;
        }
        x.flatten_all()?.to_vec1()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field `x' = x + t` from `x(0) = 1` leads to `2 e - 2`.
    #[test]
    fn solvers_follow_a_field_as_far_as_their_order_promises() {
        let solve = |solver, steps| {
            let objective = Objective::Flow { solver, steps };
            let noise = crate::processor::Array { shape: vec![1, 1], values: vec![1.0] };
            let times = |times: &[f32]| Tensor::from_slice(times, (times.len(), 1), &Device::Cpu);
            let mut sampling = Sampling::new(Some(noise), None, 0);
            let end = objective.sample(&mut sampling, [1, 1], &Device::Cpu, times, |x: &Tensor, time: &Tensor| x + time).unwrap();
            (f64::from(end[0]) - (2.0 * std::f64::consts::E - 2.0)).abs()
        };
        // The error falls as 1/n, and as 1/n^4.
        let euler = solve(Solver::Euler, 20) / solve(Solver::Euler, 40);
        assert!((1.9..2.1).contains(&euler), "{euler}");
        let rk4 = solve(Solver::RungeKutta, 2) / solve(Solver::RungeKutta, 4);
        assert!((13.0..17.0).contains(&rk4), "{rk4}");
        assert!(solve(Solver::RungeKutta, 40) < 2e-6);
    }
}
