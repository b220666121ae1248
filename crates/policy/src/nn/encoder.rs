//! A layer of a transformer that reads: attention among the rows, then a feed-forward layer, each added to
//! what comes in.

use candle_core::{Result, Tensor};

use super::{Activation, Built, Heads, LayerNorm, Linear, Mask, add, attend};
use crate::weights::Loader;

/// What shapes the layers of one transformer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EncoderPlan {
    pub names: EncoderNames,
    pub hidden: usize,
    /// Divides `hidden`.
    pub heads: usize,
    /// The width of the feed-forward layers.
    pub mlp: usize,
    pub activation: Activation,
    /// What the layer norms add to the variance.
    pub eps: f64,
}

/// What the tensors are called, and where the norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EncoderNames {
    /// As in CLIP and SigLIP, which normalise what goes into a part.
    Clip,
    /// As in timm's vision transformers, which do the same; queries, keys and values are one layer.
    Timm,
    /// As in BART, which normalises what comes out of a part and was added.
    Bart,
}

/// What each row looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight<'a> {
    All,
    Some(&'a Mask),
    /// Attention answers 0, as PyTorch's does where all is forbidden.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct EncoderLayer {
    first_norm: LayerNorm,
    /// Queries, keys and values side by side.
    inputs: Linear,
    output: Linear,
    second_norm: LayerNorm,
    rise: Linear,
    fall: Linear,
    heads: Heads,
    activation: Activation,
    norms_first: bool,
}

impl EncoderLayer {
    /// Takes the tensors under `name`, such as `self_attn.q_proj.weight`.
    pub(crate) fn new(loader: &mut Loader, name: &str, plan: EncoderPlan) -> Built<Self> {
        let EncoderPlan { names, hidden, mlp, eps, heads, activation } = plan;
        let [first_norm, output, second_norm, rise, fall] = match names {
            EncoderNames::Clip => ["layer_norm1", "self_attn.out_proj", "layer_norm2", "mlp.fc1", "mlp.fc2"],
            EncoderNames::Timm => ["norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"],
            EncoderNames::Bart => ["self_attn_layer_norm", "self_attn.out_proj", "final_layer_norm", "fc1", "fc2"],
        }
        .map(|part| format!("{name}.{part}"));
        let inputs = if names == EncoderNames::Timm {
            Linear::new(loader, &format!("{name}.attn.qkv"), [3 * hidden, hidden])?
        } else {
            let [query, key, value] = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{name}.self_attn.{part}"));
            Linear::side_by_side(loader, &[(&query, hidden), (&key, hidden), (&value, hidden)], hidden, true)?
        };
        Ok(Self {
            first_norm: LayerNorm::new(loader, &first_norm, hidden, eps)?,
            inputs,
            output: Linear::new(loader, &output, [hidden, hidden])?,
            second_norm: LayerNorm::new(loader, &second_norm, hidden, eps)?,
            rise: Linear::new(loader, &rise, [mlp, hidden])?,
            fall: Linear::new(loader, &fall, [hidden, mlp])?,
            heads: Heads { query: heads, key: heads },
            activation,
            norms_first: names != EncoderNames::Bart,
        })
    }

    /// `x [n, hidden]`, of which each row looks at the others as `sight` says.
    pub(crate) fn run(&self, x: &Tensor, sight: Sight) -> Result<Tensor> {
        if !self.norms_first {
            let x = self.first_norm.run(&self.attended(x, x, sight)?)?;
            return self.second_norm.run(&self.fed_forward(&x, &x)?);
        }
        let x = self.attended(&self.first_norm.run(x)?, x, sight)?;
        self.fed_forward(&self.second_norm.run(&x)?, &x)
    }

    /// What attention makes of `x`, added to `skip`.
    fn attended(&self, x: &Tensor, skip: &Tensor, sight: Sight) -> Result<Tensor> {
        let mask = match sight {
            Sight::All => None,
            Sight::Some(mask) => Some(mask),
            Sight::Nothing => return add(skip, &self.output.of_zeros()?),
        };
        let hidden = x.dim(1)?;
        let inputs = self.inputs.run(x)?;
        let part = |i: usize| inputs.narrow(1, i * hidden, hidden);
        self.output.run_onto(&attend(&part(0)?, &part(1)?, &part(2)?, self.heads, mask)?, skip)
    }

    fn fed_forward(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        self.fall.run_onto(&self.rise.run_then(x, self.activation)?, skip)
    }
}
