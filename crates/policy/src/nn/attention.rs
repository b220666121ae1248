//! Scaled dot-product attention.

use candle_core::{D, Device, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows, with_values};
use super::linear::Source;
use super::{Built, Linear};
use crate::kernels::{self, Isa};
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
    if let Some(isa) = kernels_on(query.device()) {
        return attend_with_kernel(isa, [query, key, value], heads, mask);
    }
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

fn attend_with_kernel(isa: Isa, [query, key, value]: [&Tensor; 3], heads: Heads, mask: Option<&Mask>) -> Result<Tensor> {
    let (n, width) = query.dims2()?;
    let (m, dim) = (key.dim(0)?, width / heads.query.max(1));
    let is_sound = heads.key > 0 && heads.query.is_multiple_of(heads.key) && heads.query * dim == width;
    let keys = [m, heads.key * dim];
    if !is_sound || m == 0 || key.dims() != keys || value.dims() != keys || mask.is_some_and(|mask| mask.logits.dims() != [n, m]) {
        bail!("attention with {heads:?} of {query:?} over {key:?} and {value:?} under {mask:?}");
    }
    let scale = (dim as f64).powf(-0.5) as f32;
    let run = |mask: Option<&[f32]>| {
        with_rows(query, |query| {
            with_rows(key, |key| {
                with_rows(value, |value| kernels::attention(isa, [query, key, value], [heads.query, heads.key], mask, scale))
            })?
        })?
    };
    let values = match mask {
        None => run(None),
        Some(mask) => with_values(&mask.logits, |mask| run(Some(mask)))?,
    };
    tensor(values?, (n, width))
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
        let mut part = |i: usize| {
            let (weight, bias) = (format!("{name}.in_proj_weight"), Some(format!("{name}.in_proj_bias")));
            Linear::from_sources(loader, &[Source { weight, shape: vec![3 * dim, dim], rows: i * dim..(i + 1) * dim, bias }])
        };
        let (query, key, value) = (part(0)?, part(1)?, part(2)?);
        Ok(Self { query, key, value, out: Linear::new(loader, &format!("{name}.out_proj"), [dim, dim])?, heads })
    }

    /// `query [n, dim]`, `key` and `value [m, dim]`; the answer is `[n, dim]`.
    pub(crate) fn run(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let heads = Heads { query: self.heads, key: self.heads };
        self.out.run(&attend(&self.query.run(query)?, &self.key.run(key)?, &self.value.run(value)?, heads, None)?)
    }
}
