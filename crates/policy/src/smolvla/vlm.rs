//! The language model: a Llama, of which only the keys and values are of use.

use candle_core::{Result, Tensor};

use super::backbone::TextPlan;
use crate::nn::{Built, Gated, Linear, Mask, RmsNorm, Rotary, attend};
use crate::weights::Loader;

/// The base of the rotary embedding, which LeRobot takes for any backbone.
const ROTARY_BASE: f32 = 10_000.0;

/// What a layer leaves for the action expert: the keys, turned, and the values of every token,
/// `[tokens, key heads * head width]`.
pub(super) type KeyValue = (Tensor, Tensor);

#[derive(Debug)]
pub(super) struct Vlm {
    layers: Vec<Layer>,
    plan: TextPlan,
}

#[derive(Debug)]
struct Layer {
    norm: RmsNorm,
    /// Keys and values side by side; before them the queries, if there is a `rest`.
    inputs: Linear,
    /// What comes after the keys and values. The last layer has none.
    rest: Option<(Linear, FeedForward)>,
}

impl Vlm {
    /// Takes the first `count` layers under `name`.
    pub(super) fn new(loader: &mut Loader, name: &str, plan: &TextPlan, count: usize) -> Built<Self> {
        let layer = |index| Layer::new(loader, &format!("{name}.layers.{index}"), plan, index + 1 == count);
        Ok(Self { layers: (0..count).map(layer).collect::<Built<_>>()?, plan: plan.clone() })
    }

    /// Reads `tokens [n, hidden]`, of which all see all but the last, which only the last sees; every
    /// layer's keys and values.
    pub(super) fn run(&self, tokens: Tensor) -> Result<Vec<KeyValue>> {
        let n = tokens.dim(0)?;
        let rotary = rotary(0, n, self.plan.head_dim, &tokens)?;
        let mask = Mask::new(n, n, tokens.device(), |query, key| key + 1 < n || query + 1 == n)?;
        let (query_width, key_width) = self.plan.widths();
        let mut x = tokens;
        let mut memory = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let inputs = layer.inputs.run(&layer.norm.run(&x)?)?;
            let before = if layer.rest.is_some() { query_width } else { 0 };
            let key = rotary.run(&inputs.narrow(1, before, key_width)?)?;
            let value = inputs.narrow(1, before + key_width, key_width)?;
            if let Some((output, feed_forward)) = &layer.rest {
                let query = rotary.run(&inputs.narrow(1, 0, query_width)?)?;
                let seen = attend(&query, &key, &value, self.plan.heads, Some(&mask))?;
                x = feed_forward.run(&output.run_onto(&seen, &x)?)?;
            }
            memory.push((key, value.contiguous()?));
        }
        Ok(memory)
    }
}

impl Layer {
    fn new(loader: &mut Loader, name: &str, plan: &TextPlan, is_last: bool) -> Built<Self> {
        let (query, key) = plan.widths();
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{name}.self_attn.{part}"));
        let all = [(q.as_str(), query), (k.as_str(), key), (v.as_str(), key)];
        let parts = if is_last { &all[1..] } else { &all };
        let norm = RmsNorm::new(loader, &format!("{name}.input_layernorm"), plan.hidden, plan.eps)?;
        let inputs = Linear::side_by_side(loader, parts, plan.hidden, plan.attention_bias)?;
        let rest = if is_last {
            None
        } else {
            let output = plan.linear(loader, &format!("{name}.self_attn.o_proj"), [plan.hidden, query])?;
            Some((output, FeedForward::new(loader, name, plan, [plan.hidden, plan.mlp])?))
        };
        Ok(Self { norm, inputs, rest })
    }
}

impl TextPlan {
    /// How wide queries are, and keys and values.
    pub(super) fn widths(&self) -> (usize, usize) {
        (self.heads.query * self.head_dim, self.heads.key * self.head_dim)
    }

    /// A layer of the attention.
    pub(super) fn linear(&self, loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2]) -> Built<Linear> {
        Linear::side_by_side(loader, &[(name, n_out)], n_in, self.attention_bias)
    }
}

/// The rotary embedding of `count` neighbouring positions from `first`.
pub(super) fn rotary(first: usize, count: usize, head_dim: usize, like: &Tensor) -> Result<Rotary> {
    let positions: Vec<i64> = (first as i64..).take(count).collect();
    Rotary::new(&positions, head_dim, ROTARY_BASE, like.device())
}

/// The second half of a layer, with its norm and residual.
#[derive(Debug)]
pub(super) struct FeedForward {
    norm: RmsNorm,
    rise: Gated,
    fall: Linear,
}

impl FeedForward {
    /// Takes `<name>.post_attention_layernorm` and `<name>.mlp`.
    pub(super) fn new(loader: &mut Loader, name: &str, plan: &TextPlan, [hidden, mlp]: [usize; 2]) -> Built<Self> {
        let [gate, up] = ["gate_proj", "up_proj"].map(|part| format!("{name}.mlp.{part}"));
        Ok(Self {
            norm: RmsNorm::new(loader, &format!("{name}.post_attention_layernorm"), hidden, plan.eps)?,
            rise: Gated::new(loader, [&gate, &up], [mlp, hidden], plan.mlp_bias, plan.activation)?,
            fall: Linear::side_by_side(loader, &[(&format!("{name}.mlp.down_proj"), hidden)], mlp, plan.mlp_bias)?,
        })
    }

    /// `x [n, hidden]`
    pub(super) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let risen = self.rise.run(&self.norm.run(x)?)?;
        self.fall.run_onto(&risen, x)
    }
}
