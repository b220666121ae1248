//! The transformer over the rows of a trajectory, each layer of which is scaled, shifted and gated by the step
//! and the observation (Peebles and Xie 2022, arXiv 2212.09748).

use candle_core::{Result, Tensor};

use super::config::MultiTaskDitConfig;
use crate::denoise::step_embeddings;
use crate::nn::{Activation, Attention, Built, Heads, LayerNorm, Linear, Rotary, add, attend, multiply};
use crate::weights::Loader;

/// What the layer norms add to the variance.
const EPS: f64 = 1e-6;

/// Shift, scale and gate of the attention, then of the feed-forward layer.
const PARTS: usize = 6;

#[derive(Debug)]
pub(crate) struct Transformer {
    step_dim: usize,
    /// The two layers over the embedded step.
    step: [Linear; 2],
    /// The modulations of all layers side by side.
    modulation: Linear,
    input: Linear,
    /// `[horizon, hidden]`
    positions: Option<Tensor>,
    layers: Vec<Layer>,
    output: Linear,
    hidden: usize,
}

impl Transformer {
    pub(crate) fn new(loader: &mut Loader, name: &str, config: &MultiTaskDitConfig) -> Built<Self> {
        let (hidden, horizon, step_dim) = (config.hidden_dim, config.horizon, config.timestep_embed_dim);
        let layers = (0..config.num_layers).map(|i| format!("{name}.transformer_blocks.{i}"));
        let modulations: Vec<String> = layers.clone().map(|layer| format!("{layer}.adaLN_modulation.1")).collect();
        let modulations: Vec<(&str, usize)> = modulations.iter().map(|layer| (layer.as_str(), PARTS * hidden)).collect();
        let positions = config.use_positional_encoding.then(|| loader.tensor(&format!("{name}.pos_embedding"), &[1, horizon, hidden]));
        let positions = positions.transpose()?.map(|table| table.squeeze(0)).transpose().map_err(|e| loader.build_error(e))?;
        let rotary = match config.rope_base {
            None => None,
            Some(base) => {
                // None in the check, which has not seen yet whether the file has so wide a network.
                let rows: Vec<i64> = (0..if loader.is_dry() { 0 } else { horizon as i64 }).collect();
                let rotary = Rotary::new(&rows, hidden / config.num_heads, base, loader.device());
                Some(rotary.map_err(|e| loader.build_error(e))?)
            }
        };
        Ok(Self {
            step_dim,
            step: [
                Linear::new(loader, &format!("{name}.time_mlp.1"), [2 * step_dim, step_dim])?,
                Linear::new(loader, &format!("{name}.time_mlp.3"), [step_dim, 2 * step_dim])?,
            ],
            modulation: Linear::side_by_side(loader, &modulations, step_dim + config.observed_width(), true)?,
            input: Linear::new(loader, &format!("{name}.input_proj"), [hidden, config.action_width])?,
            positions,
            layers: layers.map(|layer| Layer::new(loader, &layer, config, rotary.clone())).collect::<Built<_>>()?,
            output: Linear::new(loader, &format!("{name}.output_proj"), [config.action_width, hidden])?,
            hidden,
        })
    }

    /// How every layer is modulated at each of some steps, or times, `[steps.len(), width]`, with the
    /// observation's features `observed [1, n]`.
    pub(crate) fn modulations(&self, steps: &[f32], observed: &Tensor) -> Result<Tensor> {
        let embedded = step_embeddings(steps, self.step_dim, observed.device())?;
        let [rise, fall] = &self.step;
        let features = fall.run_then(&rise.run_then(&embedded, Activation::Gelu)?, Activation::Gelu)?;
        let observed = observed.broadcast_as((steps.len(), observed.dim(1)?))?;
        self.modulation.run(&Activation::Silu.run(&Tensor::cat(&[features, observed.contiguous()?], 1)?)?)
    }

    /// The trajectory `x [rows, width]` to the network's answer of the same shape; `modulation` is one row of
    /// [`modulations`](Self::modulations).
    pub(crate) fn run(&self, x: &Tensor, modulation: &Tensor) -> Result<Tensor> {
        let mut x = self.input.run(x)?;
        if let Some(positions) = &self.positions {
            x = add(&x, positions)?;
        }
        for (i, layer) in self.layers.iter().enumerate() {
            let width = PARTS * self.hidden;
            x = layer.run(&x, &modulation.narrow(1, i * width, width)?)?;
        }
        self.output.run(&x)
    }
}

#[derive(Debug)]
struct Layer {
    attention: SelfAttention,
    rise: Linear,
    fall: Linear,
    hidden: usize,
}

#[derive(Debug)]
enum SelfAttention {
    Plain(Attention),
    Rotary {
        /// Queries, keys and values side by side.
        inputs: Linear,
        output: Linear,
        rotary: Rotary,
        heads: Heads,
    },
}

impl Layer {
    fn new(loader: &mut Loader, name: &str, config: &MultiTaskDitConfig, rotary: Option<Rotary>) -> Built<Self> {
        let (hidden, heads) = (config.hidden_dim, config.num_heads);
        let attention = match rotary {
            None => SelfAttention::Plain(Attention::new(loader, &format!("{name}.multihead_attn"), hidden, heads)?),
            Some(rotary) => SelfAttention::Rotary {
                inputs: Linear::new(loader, &format!("{name}.attn.qkv_proj"), [3 * hidden, hidden])?,
                output: Linear::new(loader, &format!("{name}.attn.out_proj"), [hidden, hidden])?,
                rotary,
                heads: Heads { query: heads, key: heads },
            },
        };
        Ok(Self {
            attention,
            rise: Linear::new(loader, &format!("{name}.mlp.0"), [4 * hidden, hidden])?,
            fall: Linear::new(loader, &format!("{name}.mlp.2"), [hidden, 4 * hidden])?,
            hidden,
        })
    }

    /// `x [rows, hidden]`, `modulation [1, 6 hidden]`.
    fn run(&self, x: &Tensor, modulation: &Tensor) -> Result<Tensor> {
        let part = |i: usize| modulation.narrow(1, i * self.hidden, self.hidden);
        // A norm whose factors and shifts are those parts.
        let norm = |shift: usize, scale: usize| {
            Ok::<_, candle_core::Error>(LayerNorm::with((part(scale)? + 1.0)?.flatten_all()?, part(shift)?.flatten_all()?, EPS))
        };
        let attended = self.attention.run(&norm(0, 1)?.run(x)?)?;
        let x = add(&multiply(&attended, &part(2)?)?, x)?;
        let risen = self.rise.run_then(&norm(3, 4)?.run(&x)?, Activation::GeluTanh)?;
        add(&multiply(&self.fall.run(&risen)?, &part(5)?)?, &x)
    }
}

impl SelfAttention {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(attention) => attention.run(x, x, x),
            Self::Rotary { inputs, output, rotary, heads } => {
                let hidden = x.dim(1)?;
                let inputs = inputs.run(x)?;
                let part = |i: usize| inputs.narrow(1, i * hidden, hidden);
                let (query, key) = (rotary.run(&part(0)?.contiguous()?)?, rotary.run(&part(1)?.contiguous()?)?);
                output.run(&attend(&query, &key, &part(2)?, *heads, None)?)
            }
        }
    }
}
