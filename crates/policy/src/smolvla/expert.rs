//! The action expert: a transformer beside the language model that turns a noisy chunk and a time
//! into a velocity.

use candle_core::{Device, Result, Tensor};

use super::backbone::TextPlan;
use super::config::SmolVlaConfig;
use super::vlm::{FeedForward, KeyValue, rotary};
use crate::flow::{step_times, time_embeddings};
use crate::nn::{Activation, Built, KeyValues, Linear, Mask, RmsNorm, Rotary, add};
use crate::weights::Loader;

#[derive(Debug)]
pub(super) struct Expert {
    /// From a row of the chunk to the expert's width, through what doesn't depend on the time.
    action_in: Linear,
    /// What each step's time adds to it, `[steps, hidden]`.
    times: Tensor,
    time_out: Linear,
    layers: Vec<Layer>,
    norm: RmsNorm,
    action_out: Linear,
    plan: TextPlan,
}

#[derive(Debug)]
struct Layer {
    /// The layer of the language model that it runs beside.
    beside: usize,
    norm: RmsNorm,
    attention: Attention,
    output: Linear,
    feed_forward: FeedForward,
}

#[derive(Debug)]
enum Attention {
    /// To the language model's tokens and to the rows of the chunk up to one's own: queries, keys and
    /// values side by side.
    Joint(Linear),
    /// To the language model's tokens only, whose keys and values are projected once more.
    Cross(Box<Cross>),
}

#[derive(Debug)]
struct Cross {
    query: Linear,
    key: Linear,
    value: Linear,
}

/// What stays the same through all steps of a chunk.
pub(super) struct Context {
    /// For each layer, the keys and values that come from the language model; where attention is joint,
    /// with room for those of the chunk.
    memory: Vec<KeyValues>,
    /// Positions after the language model's, for joint attention.
    after: Rotary,
    /// Positions from 0, for cross attention.
    alone: Rotary,
    /// Of the rows on the language model's tokens and each other.
    mask: Mask,
}

impl Expert {
    /// Takes the tensors under `name`, which is the whole policy's.
    pub(super) fn new(loader: &mut Loader, name: &str, config: &SmolVlaConfig) -> Built<Self> {
        let (hidden, plan) = (config.expert_hidden, &config.backbone.text);
        let stem = format!("{name}.vlm_with_expert.lm_expert");
        // The feed-forward width follows from no key of the configuration that LeRobot promises.
        let [mlp, _] = loader.shape(&format!("{stem}.layers.0.mlp.gate_proj.weight"))?;
        let layers = config.layers.iter().enumerate().filter_map(|(beside, layer)| Some((beside, layer.expert?, layer.is_cross)));
        let layers = layers.map(|(beside, index, is_cross)| {
            let name = format!("{stem}.layers.{index}");
            let (query, key) = plan.widths();
            let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{name}.self_attn.{part}"));
            Ok(Layer {
                beside,
                norm: RmsNorm::new(loader, &format!("{name}.input_layernorm"), hidden, plan.eps)?,
                attention: if is_cross {
                    Attention::Cross(Box::new(Cross {
                        query: plan.linear(loader, &q, [query, hidden])?,
                        key: plan.linear(loader, &k, [key, key])?,
                        value: plan.linear(loader, &v, [key, key])?,
                    }))
                } else {
                    Attention::Joint(Linear::side_by_side(loader, &[(&q, query), (&k, key), (&v, key)], hidden, plan.attention_bias)?)
                },
                output: plan.linear(loader, &format!("{name}.self_attn.o_proj"), [hidden, query])?,
                feed_forward: FeedForward::new(loader, &name, plan, [hidden, mlp])?,
            })
        });
        let layers = layers.collect::<Built<_>>()?;
        let norm = RmsNorm::new(loader, &format!("{stem}.norm"), hidden, plan.eps)?;
        let (action_in, times) = inputs(loader, name, config)?;
        let time_out = Linear::new(loader, &format!("{name}.action_time_mlp_out"), [hidden, hidden])?;
        let action_out = Linear::new(loader, &format!("{name}.action_out_proj"), [config.max_action_dim, hidden])?;
        Ok(Self { action_in, times, time_out, layers, norm, action_out, plan: plan.clone() })
    }

    pub(super) fn device(&self) -> &Device {
        self.times.device()
    }

    /// Prepares for a chunk of `rows` from the language model's keys and values.
    pub(super) fn context(&self, memory: &[KeyValue], rows: usize) -> Result<Context> {
        let one = |layer: &Layer| {
            let Some((key, value)) = memory.get(layer.beside) else {
                candle_core::bail!("the language model has {} layers, the expert asks for number {}", memory.len(), layer.beside)
            };
            match &layer.attention {
                Attention::Joint(_) => KeyValues::new(key, value, self.plan.heads, rows),
                Attention::Cross(cross) => KeyValues::new(&cross.key.run(key)?, &cross.value.run(value)?, self.plan.heads, 0),
            }
        };
        let tokens = memory.first().map_or(Ok(0), |(key, _)| key.dim(0))?;
        let mask = Mask::new(rows, tokens + rows, self.device(), |query, key| key <= tokens + query)?;
        Ok(Context {
            memory: self.layers.iter().map(one).collect::<Result<_>>()?,
            after: rotary(tokens, rows, self.plan.head_dim, &self.times)?,
            alone: rotary(0, rows, self.plan.head_dim, &self.times)?,
            mask,
        })
    }

    /// The velocity of the chunk `x [rows, max_action_dim]` at step `step`.
    pub(super) fn velocity(&self, context: &mut Context, x: &Tensor, step: usize) -> Result<Tensor> {
        let (query_width, key_width) = self.plan.widths();
        let timed = Activation::Silu.run(&add(&self.action_in.run(x)?, &self.times.narrow(0, step, 1)?)?)?;
        let mut x = self.time_out.run(&timed)?;
        for (layer, memory) in self.layers.iter().zip(&mut context.memory) {
            let normed = layer.norm.run(&x)?;
            let seen = match &layer.attention {
                Attention::Joint(inputs) => {
                    let inputs = inputs.run(&normed)?;
                    let query = context.after.run(&inputs.narrow(1, 0, query_width)?)?;
                    let own = context.after.run(&inputs.narrow(1, query_width, key_width)?)?;
                    memory.fill(&own, &inputs.narrow(1, query_width + key_width, key_width)?)?;
                    memory.attend(&query, Some(&context.mask))?
                }
                Attention::Cross(cross) => {
                    let query = context.alone.run(&cross.query.run(&normed)?)?;
                    memory.attend(&query, None)?
                }
            };
            x = layer.feed_forward.run(&layer.output.run_onto(&seen, &x)?)?;
        }
        self.action_out.run(&self.norm.run(&x)?)
    }
}

/// The first layer of the time MLP takes a row of the chunk, projected, beside the time. Both
/// projections of the row are one; what the time makes of it is known for every step.
fn inputs(loader: &mut Loader, name: &str, config: &SmolVlaConfig) -> Built<(Linear, Tensor)> {
    let (hidden, width) = (config.expert_hidden, config.max_action_dim);
    let projection = loader.tensor(&format!("{name}.action_in_proj.weight"), &[hidden, width])?;
    let projection_bias = loader.tensor(&format!("{name}.action_in_proj.bias"), &[hidden])?;
    let weight = loader.tensor(&format!("{name}.action_time_mlp_in.weight"), &[hidden, 2 * hidden])?;
    let bias = loader.tensor(&format!("{name}.action_time_mlp_in.bias"), &[hidden])?;
    let join = || -> Result<(Linear, Tensor)> {
        let (of_row, of_time) = (weight.narrow(1, 0, hidden)?.contiguous()?, weight.narrow(1, hidden, hidden)?.contiguous()?);
        let joined = of_row.matmul(&projection)?;
        let bias = (projection_bias.unsqueeze(0)?.matmul(&of_row.t()?)? + bias.unsqueeze(0)?)?;
        let times = time_embeddings(step_times(config.num_steps), hidden, config.periods, loader.device())?;
        Ok((Linear::from_tensors(&joined, None)?, times.matmul(&of_time.t()?)?.broadcast_add(&bias)?))
    };
    if loader.is_dry() {
        return Ok((Linear::stand_in(hidden, loader)?, bias));
    }
    join().map_err(|e| loader.build_error(e))
}
