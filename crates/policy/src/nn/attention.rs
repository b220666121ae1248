//! Scaled dot-product attention.

use candle_core::{D, Device, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows, with_values};
use super::linear::Source;
use super::{Built, Linear};
use crate::kernels::{self, Matrix};
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

/// The keys and values that queries look at, laid out once however often they are looked at.
#[derive(Debug)]
pub(crate) struct KeyValues {
    heads: Heads,
    /// How many rows there are, those of the room included.
    rows: usize,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Packed(kernels::KeyValues),
    /// For candle's own operations: the key and the value that stay, and both with what follows them.
    Plain {
        first: [Tensor; 2],
        all: [Tensor; 2],
    },
}

impl KeyValues {
    /// From `key` and `value`, `[m, heads.key * d]`, and with room for `more` rows after them.
    pub(crate) fn new(key: &Tensor, value: &Tensor, heads: Heads, more: usize) -> Result<Self> {
        let (m, width) = key.dims2()?;
        if heads.key == 0 || !heads.query.is_multiple_of(heads.key) || !width.is_multiple_of(heads.key) || value.dims() != [m, width] {
            bail!("{heads:?} of {key:?} and {value:?}");
        }
        let kept = match kernels_on(key.device()) {
            Some(isa) => Kept::Packed(with_both(key, value, |both| kernels::KeyValues::new(isa, both, heads.key, more))?),
            None => {
                let first = [key.clone(), value.clone()];
                Kept::Plain { all: first.clone(), first }
            }
        };
        Ok(Self { heads, rows: m + more, kept })
    }

    /// Fills the room with `key` and `value`, `[more, heads.key * d]`.
    pub(crate) fn fill(&mut self, key: &Tensor, value: &Tensor) -> Result<()> {
        if value.dims() != key.dims() || key.dim(0)? > self.rows {
            bail!("{key:?} and {value:?} for the last of {} rows", self.rows);
        }
        match &mut self.kept {
            Kept::Packed(packed) => with_both(key, value, |both| packed.set_last(both)),
            Kept::Plain { first: [keys, values], all } => {
                *all = [Tensor::cat(&[&*keys, key], 0)?, Tensor::cat(&[&*values, value], 0)?];
                Ok(())
            }
        }
    }

    /// Attention of `query [n, heads.query * d]`, with logits scaled by `d^-0.5`. The answer is
    /// `[n, heads.query * d]`.
    pub(crate) fn attend(&self, query: &Tensor, mask: Option<&Mask>) -> Result<Tensor> {
        let Self { heads, rows, kept } = self;
        let (n, width) = query.dims2()?;
        let dim = width / heads.query.max(1);
        if *rows == 0 || heads.query * dim != width || mask.is_some_and(|mask| mask.logits.dims() != [n, *rows]) {
            bail!("attention with {heads:?} of {query:?} over {rows} keys under {mask:?}");
        }
        let scale = (dim as f64).powf(-0.5);
        match kept {
            Kept::Packed(packed) => {
                let run = |mask: Option<&[f32]>| with_rows(query, |query| packed.attend(query, heads.query, mask, scale as f32));
                let values = match mask {
                    None => run(None),
                    Some(mask) => with_values(&mask.logits, |mask| run(Some(mask)))?,
                };
                tensor(values?, (n, width))
            }
            Kept::Plain { all: [key, value], .. } => {
                let split = |x: &Tensor, count: usize| -> Result<Tensor> { x.reshape(((), count, dim))?.transpose(0, 1)?.contiguous() };
                let shared = |x: &Tensor| -> Result<Tensor> {
                    let x = split(x, heads.key)?;
                    let (count, m, dim) = x.dims3()?;
                    let group = heads.query / heads.key;
                    if group == 1 { Ok(x) } else { x.unsqueeze(1)?.expand((count, group, m, dim))?.reshape((count * group, m, dim)) }
                };
                let (q, k, v) = (split(query, heads.query)?, shared(key)?, shared(value)?);
                let mut logits = (q * scale)?.matmul(&k.t()?)?;
                if let Some(mask) = mask {
                    logits = logits.broadcast_add(&mask.logits)?;
                }
                softmax(&logits)?.matmul(&v)?.transpose(0, 1)?.reshape((n, width))
            }
        }
    }
}

/// Calls `work` with the rows of both.
fn with_both<R>(key: &Tensor, value: &Tensor, work: impl FnOnce([Matrix<'_>; 2]) -> R) -> Result<R> {
    with_rows(key, |key| with_rows(value, |value| work([key, value])))?
}

/// [`KeyValues::attend`] for those that are looked at once.
pub(crate) fn attend(query: &Tensor, key: &Tensor, value: &Tensor, heads: Heads, mask: Option<&Mask>) -> Result<Tensor> {
    KeyValues::new(key, value, heads, 0)?.attend(query, mask)
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
        self.out.run(&self.seen(query, key, value)?)
    }

    /// The answer added to `skip [n, dim]`.
    pub(crate) fn run_onto(&self, query: &Tensor, key: &Tensor, value: &Tensor, skip: &Tensor) -> Result<Tensor> {
        self.out.run_onto(&self.seen(query, key, value)?, skip)
    }

    fn seen(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let heads = Heads { query: self.heads, key: self.heads };
        attend(&self.query.run(query)?, &self.key.run(key)?, &self.value.run(value)?, heads, None)
    }
}
