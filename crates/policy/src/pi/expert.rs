//! π0 and π0.5: the action expert, which turns noise into a chunk of actions.

use candle_core::{Result, Tensor, bail};

use crate::family::Model;
use crate::features::STATE;
use crate::flow::{integrate, step_times, time_embeddings};
use crate::guidance::Guidance;
use crate::nn::{Activation, Built, Linear, add};
use crate::pi::config::{PiConfig, TimeInput};
use crate::pi::gemma::{FixedPast, Gemma, Norms, Past, Size, adaptive_norms};
use crate::pi::paligemma::{PaliGemma, root};
use crate::processor::{Array, Batch};
use crate::sampling::Sampling;
use crate::weights::Loader;

/// π0 or π0.5 with its weights.
#[derive(Debug)]
pub(crate) struct Pi {
    paligemma: PaliGemma,
    expert: Gemma,
    action_in: Linear,
    action_out: Linear,
    timing: Timing,
    /// Steps from noise to actions.
    steps: usize,
    /// Rows of a chunk.
    rows: usize,
    action_width: usize,
    /// The action's width with padding, as the model has it.
    max_action: usize,
}

/// How the expert knows the time. All times are known beforehand, so what depends on nothing else is
/// computed when the model is built.
#[derive(Debug)]
enum Timing {
    /// π0 mixes it into each action; the state is a row before the actions.
    Mixed(Box<Mixed>),
    /// It sets π0.5's norms.
    Adaptive {
        steps: Vec<Norms>,
        /// Those at time 0, for rows that are given, in a model that was trained for it.
        given: Option<Norms>,
    },
}

/// What π0 has for it.
#[derive(Debug)]
struct Mixed {
    state: Linear,
    max_state: usize,
    norms: Norms,
    /// What the mix's first layer makes of the action and, with the bias, of the time of each step:
    /// `[steps, width]`.
    action: Linear,
    times: Tensor,
    out: Linear,
}

impl Pi {
    /// Takes every tensor that inference needs from `loader`.
    ///
    /// # Errors
    /// When one is missing or has another shape than the configuration and the others imply.
    pub(crate) fn build(config: &PiConfig, time: TimeInput, loader: &mut Loader) -> Built<Self> {
        let root = root(loader);
        let paligemma = PaliGemma::new(config, loader, root, false)?;
        let name = format!("{root}paligemma_with_expert.gemma_expert.model");
        let size = Size::of(loader, &name)?.beside(paligemma.language.size);
        let expert = Gemma::new(loader, &name, size, true)?;
        let action_in = Linear::new(loader, &format!("{root}action_in_proj"), [size.width, config.max_action])?;
        let action_out = Linear::new(loader, &format!("{root}action_out_proj"), [config.max_action, size.width])?;
        if !size.width.is_multiple_of(2) {
            let what = format!("the action expert has rows of {} values, expected an even number", size.width);
            return Err(loader.build_error(candle_core::Error::Msg(what)));
        }
        let timing = match time {
            TimeInput::Adaptive => Timing::adaptive(config, loader, root, &name, size)?,
            TimeInput::Mixed => Timing::mixed(config, loader, root, &name, size)?,
        };
        let PiConfig { steps, chunk_size: rows, action_width, max_action, .. } = *config;
        Ok(Self { paligemma, expert, action_in, action_out, timing, steps, rows, action_width, max_action })
    }

    /// Where the actions `x [rows, max_action]`, noisy but for the first `given` rows, are to go at step
    /// `step`.
    fn velocity(&self, x: &Tensor, step: usize, given: usize, past: &mut FixedPast) -> Result<Tensor> {
        let actions = self.action_in.run(x)?;
        let (actions, parts) = match &self.timing {
            Timing::Mixed(mix) => {
                let Mixed { norms, action, times, out, .. } = &**mix;
                let mixed = add(&action.run(&actions)?, &times.narrow(0, step, 1)?)?;
                if given > 0 {
                    bail!("{given} rows are given, expected none: the time is mixed into all alike");
                }
                (out.run(&Activation::Silu.run(&mixed)?)?, vec![(self.rows, norms)])
            }
            Timing::Adaptive { steps, given: clean } => match (steps.get(step), clean) {
                (Some(norms), _) if given == 0 => (actions, vec![(self.rows, norms)]),
                (Some(norms), Some(clean)) if given < self.rows => (actions, vec![(given, clean), (self.rows - given, norms)]),
                _ => bail!("step {step} of {} was asked for with {given} rows of {} given", steps.len(), self.rows),
            },
        };
        self.action_out.run(&self.expert.run_after(&actions, &parts, past)?)
    }
}

/// The name of layer `which` (`in` or `out`) of the network for the time: `wanted`, or `other` in
/// files that were made for the sister policy.
fn time_layer(loader: &Loader, root: &str, [wanted, other]: [&str; 2], which: &str) -> String {
    let [wanted, other] = [wanted, other].map(|name| format!("{root}{name}_{which}"));
    if !loader.has(&format!("{wanted}.weight")) && loader.has(&format!("{other}.weight")) { other } else { wanted }
}

impl Timing {
    fn mixed(config: &PiConfig, loader: &mut Loader, root: &str, expert: &str, size: Size) -> Built<Self> {
        let width = size.width;
        let [first, second] = ["in", "out"].map(|which| time_layer(loader, root, ["action_time_mlp", "time_mlp"], which));
        let weight = loader.tensor(&format!("{first}.weight"), &[width, 2 * width])?;
        let bias = loader.tensor(&format!("{first}.bias"), &[width])?;
        let out = Linear::new(loader, &second, [width, width])?;
        let state = Linear::new(loader, &format!("{root}state_proj"), [width, config.max_state])?;
        let norms = Norms::new(loader, expert, size)?;
        let halves = || -> Result<(Linear, Tensor)> {
            let half = |i: usize| weight.narrow(1, i * width, width);
            let times = time_embeddings(step_times(config.steps), width, config.periods, loader.device())?;
            let times = Linear::from_tensors(&half(1)?, Some(bias.clone()))?.run(&times)?;
            Ok((Linear::from_tensors(&half(0)?, None)?, times))
        };
        let (action, times) =
            if loader.is_dry() { (Linear::stand_in(width, loader)?, bias) } else { halves().map_err(|e| loader.build_error(e))? };
        Ok(Self::Mixed(Box::new(Mixed { state, max_state: config.max_state, norms, action, times, out })))
    }

    fn adaptive(config: &PiConfig, loader: &mut Loader, root: &str, expert: &str, size: Size) -> Built<Self> {
        let width = size.width;
        let layer = |loader: &mut Loader, which| {
            let name = time_layer(loader, root, ["time_mlp", "action_time_mlp"], which);
            Linear::new(loader, &name, [width, width])
        };
        let layers = [layer(loader, "in")?, layer(loader, "out")?];
        let conditions = || -> Result<Tensor> {
            // Behind the steps the time of actions without noise.
            let times = step_times(config.steps).chain((config.trained_delay > 0).then_some(0.0));
            let times = time_embeddings(times, width, config.periods, loader.device())?;
            if loader.is_dry() { Ok(times) } else { layers.iter().try_fold(times, |x, layer| layer.run_then(&x, Activation::Silu)) }
        };
        let conditions = conditions().map_err(|e| loader.build_error(e))?;
        let mut steps = adaptive_norms(loader, expert, size, &conditions)?;
        let given = if config.trained_delay > 0 { steps.pop() } else { None };
        Ok(Self::Adaptive { steps, given })
    }
}

impl Model for Pi {
    fn run(&self, batch: &Batch, sampling: &mut Sampling) -> Result<Array> {
        let prompt = self.paligemma.prompt(batch)?;
        let (_, mut past) = self.paligemma.language.run(&prompt, &self.paligemma.norms, &Past::default(), 0)?;
        let device = prompt.device();
        if let Timing::Mixed(mix) = &self.timing {
            let Mixed { state, max_state, norms, .. } = &**mix;
            // The state looks at nothing that changes from step to step, so its row is past, too.
            let row = batch.tensor(STATE, device)?;
            let row = row.pad_with_zeros(1, 0, max_state.saturating_sub(row.dim(1)?))?;
            (_, past) = self.expert.run(&state.run(&row)?, norms, &past, 0)?;
        }
        let noise = sampling.initial(&[self.rows, self.max_action])?;
        let noise = Tensor::from_vec(noise.values, (self.rows, self.max_action), device)?;
        let guidance = sampling.guidance.as_ref();
        let given = guidance.map_or(0, Guidance::given_rows);
        let mut past = self.expert.fix(&past, self.rows)?;
        let actions = integrate(noise, self.steps, guidance, |x, step| self.velocity(x, step, given, &mut past))?;
        Array::of_rows(&actions.narrow(1, 0, self.action_width)?.contiguous()?)
    }
}
