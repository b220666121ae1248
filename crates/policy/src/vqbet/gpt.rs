//! VQ-BeT's transformer: a small GPT-2.

use candle_core::{Result, Tensor};

use super::config::VqBetConfig;
use crate::nn::{Activation, Built, Heads, LayerNorm, Linear, Mask, add, attend};
use crate::weights::Loader;

/// What PyTorch's `LayerNorm` adds to the variance.
const LAYER_NORM_EPS: f64 = 1e-5;

#[derive(Debug)]
pub(crate) struct Gpt {
    input: Linear,
    /// Of the first tokens, `[tokens, hidden]`.
    positions: Tensor,
    mask: Mask,
    blocks: Vec<Block>,
    norm: LayerNorm,
    output: Linear,
}

impl Gpt {
    /// For sequences of `tokens`, at most the configuration's block size.
    pub(crate) fn new(loader: &mut Loader, name: &str, config: &VqBetConfig, tokens: usize) -> Built<Self> {
        let dim = config.hidden_dim;
        let positions = loader.tensor(&format!("{name}.transformer.wpe.weight"), &[config.block_size, dim])?;
        let mask = Mask::new(tokens, tokens, loader.device(), |query, key| key <= query);
        Ok(Self {
            input: Linear::new(loader, &format!("{name}.transformer.wte"), [dim, config.input_dim])?,
            positions: positions.narrow(0, 0, tokens).map_err(|e| loader.build_error(e))?,
            mask: mask.map_err(|e| loader.build_error(e))?,
            blocks: (0..config.layers)
                .map(|i| Block::new(loader, &format!("{name}.transformer.h.{i}"), dim, config.heads))
                .collect::<Built<_>>()?,
            norm: LayerNorm::new(loader, &format!("{name}.transformer.ln_f"), dim, LAYER_NORM_EPS)?,
            output: Linear::without_bias(loader, &format!("{name}.lm_head"), [config.output_dim, dim])?,
        })
    }

    /// What the last of `x [tokens, input]` becomes, having seen the others: `[1, output]`.
    pub(crate) fn last(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = add(&self.input.run(x)?, &self.positions)?;
        for block in &self.blocks {
            x = block.run(&x, &self.mask)?;
        }
        self.output.run(&self.norm.run(&x.narrow(0, x.dim(0)? - 1, 1)?)?)
    }
}

/// Attention to the tokens before and a feed-forward layer, each behind a norm and around a sum.
#[derive(Debug)]
struct Block {
    attention_norm: LayerNorm,
    /// Queries, keys and values side by side.
    attention: Linear,
    attention_out: Linear,
    norm: LayerNorm,
    rise: Linear,
    fall: Linear,
    heads: usize,
}

impl Block {
    fn new(loader: &mut Loader, name: &str, dim: usize, heads: usize) -> Built<Self> {
        Ok(Self {
            attention_norm: LayerNorm::new(loader, &format!("{name}.ln_1"), dim, LAYER_NORM_EPS)?,
            attention: Linear::new(loader, &format!("{name}.attn.c_attn"), [3 * dim, dim])?,
            attention_out: Linear::new(loader, &format!("{name}.attn.c_proj"), [dim, dim])?,
            norm: LayerNorm::new(loader, &format!("{name}.ln_2"), dim, LAYER_NORM_EPS)?,
            rise: Linear::new(loader, &format!("{name}.mlp.0"), [4 * dim, dim])?,
            fall: Linear::new(loader, &format!("{name}.mlp.2"), [dim, 4 * dim])?,
            heads,
        })
    }

    fn run(&self, x: &Tensor, mask: &Mask) -> Result<Tensor> {
        let dim = x.dim(1)?;
        let all = self.attention.run(&self.attention_norm.run(x)?)?;
        let part = |i: usize| all.narrow(1, i * dim, dim)?.contiguous();
        let heads = Heads { query: self.heads, key: self.heads };
        let x = self.attention_out.run_onto(&attend(&part(0)?, &part(1)?, &part(2)?, heads, Some(mask))?, x)?;
        self.fall.run_onto(&self.rise.run_then(&self.norm.run(&x)?, Activation::Gelu)?, &x)
    }
}
