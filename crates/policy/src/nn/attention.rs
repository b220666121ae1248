//! Scaled dot-product attention.

use candle_core::{D, Device, Result, Tensor};

use super::{Built, Linear};
use crate::weights::Loader;

/// How the columns of the queries, and of the keys and values, fall into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    pub query: usize,
    /// Of keys and values; divides `query`, and each serves as many neighbouring heads of the query.
    pub key: usize,
}

/// Which keys each query may look at.
#[derive(Clone, Debug)]
pub(crate) struct Mask {
    /// `[n, m]`, added to the logits: 0 or a very large negative number, which makes a query that
    /// may look at nothing look at everything alike, as in LeRobot.
    logits: Tensor,
}

const FORBIDDEN: f32 = -2.381_976_3e38;

impl Mask {
    /// Query `i` of `n` may look at key `j` of `m` where `may_look(i, j)`.
    pub(crate) fn new(n: usize, m: usize, device: &Device, may_look: impl Fn(usize, usize) -> bool) -> Result<Self> {
        let logit = |at: usize| if may_look(at / m, at % m) { 0.0 } else { FORBIDDEN };
        Ok(Self { logits: Tensor::from_vec((0..n * m).map(logit).collect::<Vec<f32>>(), (n, m), device)? })
    }
}

/// Attention of `query [n, heads.query * d]` over `key` and `value [m, heads.key * d]`, with logits
/// scaled by `d^-0.5`. The answer is `[n, heads.query * d]`.
pub(crate) fn attend(query: &Tensor, key: &Tensor, value: &Tensor, heads: Heads, mask: Option<&Mask>) -> Result<Tensor> {
    let (n, width) = query.dims2()?;
    let dim = width / heads.query;
    let split = |x: &Tensor, count: usize| -> Result<Tensor> { x.reshape(((), count, dim))?.transpose(0, 1)?.contiguous() };
    let shared = |x: &Tensor| -> Result<Tensor> {
        let x = split(x, heads.key)?;
        let (count, m, dim) = x.dims3()?;
        let group = heads.query / heads.key;
        if group == 1 { Ok(x) } else { x.unsqueeze(1)?.expand((count, group, m, dim))?.reshape((count * group, m, dim)) }
    };
    let (q, k, v) = (split(query, heads.query)?, shared(key)?, shared(value)?);
    let mut logits = (q * (dim as f64).powf(-0.5))?.matmul(&k.t()?)?;
    if let Some(mask) = mask {
        logits = logits.broadcast_add(&mask.logits)?;
    }
    softmax(&logits)?.matmul(&v)?.transpose(0, 1)?.reshape((n, width))
}

/// Over the last axis.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

/// PyTorch's `MultiheadAttention` without masks.
#[derive(Debug)]
pub(crate) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    /// Takes `<name>.in_proj_weight [3 dim, dim]`, `in_proj_bias` and `out_proj`.
    pub(crate) fn new(loader: &mut Loader, name: &str, dim: usize, heads: usize) -> Built<Self> {
        let weight = loader.tensor(&format!("{name}.in_proj_weight"), &[3 * dim, dim])?;
        let bias = loader.tensor(&format!("{name}.in_proj_bias"), &[3 * dim])?;
        let part =
            |i: usize| -> Result<Linear> { Ok(Linear::from_tensors(weight.narrow(0, i * dim, dim)?, Some(bias.narrow(0, i * dim, dim)?))) };
        let [query, key, value] = [part(0), part(1), part(2)].map(|p| p.map_err(|e| loader.build_error(e)));
        Ok(Self { query: query?, key: key?, value: value?, out: Linear::new(loader, &format!("{name}.out_proj"), [dim, dim])?, heads })
    }

    /// `query [n, dim]`, `key` and `value [m, dim]`; the answer is `[n, dim]`.
    pub(crate) fn run(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let heads = Heads { query: self.heads, key: self.heads };
        self.out.run(&attend(&self.query.run(query)?, &self.key.run(key)?, &self.value.run(value)?, heads, None)?)
    }
}
