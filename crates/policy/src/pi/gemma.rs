//! Gemma (arXiv 2403.08295) as LeRobot's π policies use it: every row may look at every row before
//! and beside it, so no mask is needed where only the rows that count are passed.
//!
//! Dimensions come from the tensors. LeRobot knows two variants, `gemma_300m` and `gemma_2b`, and in
//! both all heads of the query share one head of keys and values. So the rows of `k_proj` are the
//! width of a head, and those of `q_proj` divided by it the number of heads.

use std::collections::VecDeque;

use candle_core::{Result, Tensor, bail};

use crate::CheckpointError;
use crate::nn::{Activation, Built, Gated, Heads, KeyValues, Linear, RmsNorm, Rotary, add, attend, multiply};
use crate::weights::Loader;

/// What Gemma's norms add to the mean square.
const NORM_EPS: f64 = 1e-6;
const ROTARY_BASE: f32 = 10_000.0;

/// What both variants have, for messages about tensors that make no heads.
const USUAL_HEADS: usize = 8;
const USUAL_KEY_SHAPE: [usize; 2] = [256, 2048];

/// The transformer without its norms, whose factors may depend on a condition.
#[derive(Debug)]
pub(crate) struct Gemma {
    layers: Vec<Layer>,
    pub size: Size,
}

/// What the tensors tell of a Gemma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub width: usize,
    pub depth: usize,
    heads: usize,
    head_dim: usize,
    hidden: usize,
}

/// Attention and a gated feed-forward.
#[derive(Debug)]
struct Layer {
    /// Queries (where there is a [`Rest`]), keys and values side by side.
    inputs: Linear,
    /// Not in the last layer of a Gemma of which only keys and values are wanted.
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    out: Linear,
    gate_up: Gated,
    down: Linear,
}

/// The keys (turned to their positions) and values of the rows that were passed so far, by layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    layers: Vec<(Tensor, Tensor)>,
    rows: usize,
}

/// What the rows of a [`Gemma`] look at, by layer.
pub(crate) trait Seen {
    /// Takes in the keys (turned to their positions) and values of rows that follow.
    fn add(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<()>;

    /// What `query` makes of all that there is.
    fn attend(&self, layer: usize, query: &Tensor, heads: Heads) -> Result<Tensor>;
}

impl Seen for Past {
    fn add(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<()> {
        match self.layers.get_mut(layer) {
            Some((keys, values)) => (*keys, *values) = (Tensor::cat(&[&*keys, key], 0)?, Tensor::cat(&[&*values, value], 0)?),
            None => self.layers.push((key.clone(), value.contiguous()?)),
        }
        Ok(())
    }

    fn attend(&self, layer: usize, query: &Tensor, heads: Heads) -> Result<Tensor> {
        match self.layers.get(layer) {
            Some((key, value)) => attend(query, key, value, heads, None),
            None => bail!("there are {} layers in the past, layer {layer} looks at it", self.layers.len()),
        }
    }
}

/// A past that stays while the rows after it change.
#[derive(Debug)]
pub(crate) struct FixedPast {
    layers: Vec<KeyValues>,
    rows: usize,
}

impl Seen for FixedPast {
    fn add(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<()> {
        match self.layers.get_mut(layer) {
            Some(layer) => layer.fill(key, value),
            None => bail!("there are {} layers in the past, layer {layer} adds to it", self.layers.len()),
        }
    }

    fn attend(&self, layer: usize, query: &Tensor, _: Heads) -> Result<Tensor> {
        match self.layers.get(layer) {
            Some(layer) => layer.attend(query, None),
            None => bail!("there are {} layers in the past, layer {layer} looks at it", self.layers.len()),
        }
    }
}

impl Size {
    /// The dimensions of the Gemma whose layers are `<name>.layers.*`.
    ///
    /// # Errors
    /// When a tensor that tells one is missing, or the widths don't make heads.
    pub(crate) fn of(loader: &Loader, name: &str) -> Built<Self> {
        let layer = |tensor: &str| format!("{name}.layers.0.{tensor}.weight");
        let query = layer("self_attn.q_proj");
        let [query_rows, width] = loader.shape(&query)?;
        let key = layer("self_attn.k_proj");
        let [head_dim, _] = loader.shape(&key)?;
        let [hidden, _] = loader.shape(&layer("mlp.gate_proj"))?;
        let wrong = |name, found: [usize; 2], expected: [usize; 2]| CheckpointError::WrongShape {
            path: loader.file().path().to_owned(),
            name,
            found: found.to_vec(),
            expected: expected.to_vec(),
        };
        if width == 0 || head_dim == 0 || !head_dim.is_multiple_of(2) {
            return Err(wrong(key, [head_dim, width], USUAL_KEY_SHAPE));
        }
        if query_rows == 0 || !query_rows.is_multiple_of(head_dim) {
            return Err(wrong(query, [query_rows, width], [USUAL_HEADS * head_dim, width]));
        }
        Ok(Self { width, depth: layers_of(loader, name), heads: query_rows / head_dim, head_dim, hidden })
    }

    /// The same where its keys and values must go with those of `other`.
    pub(crate) fn beside(self, other: Self) -> Self {
        Self { depth: other.depth, head_dim: other.head_dim, ..self }
    }
}

/// How many layers `<name>.layers.*` the file speaks of. Not more than it has tensors, whatever a
/// name says; one that is missing among them is found when it is taken.
pub(crate) fn layers_of(loader: &Loader, name: &str) -> usize {
    let prefix = format!("{name}.layers.");
    let names = loader.file().names();
    let index = |name: &String| name.strip_prefix(&prefix)?.split('.').next()?.parse::<usize>().ok();
    names.iter().filter_map(index).max().map_or(0, |last| last.saturating_add(1)).min(names.len())
}

impl Gemma {
    /// Takes `<name>.layers.*` but for the norms. With `answers` it makes rows, otherwise only what
    /// other rows look at.
    pub(crate) fn new(loader: &mut Loader, name: &str, size: Size, answers: bool) -> Built<Self> {
        let layer = |i| Layer::new(loader, &format!("{name}.layers.{i}"), size, answers || i + 1 < size.depth);
        Ok(Self { layers: (0..size.depth).map(layer).collect::<Built<_>>()?, size })
    }

    /// Passes the rows `x [n, width]`, which follow those of `past` and may look at all of them and
    /// at each other. Answers the last `wanted` rows and the past with the new rows in it.
    ///
    /// # Errors
    /// When rows are wanted of a Gemma that was made without.
    pub(crate) fn run(&self, x: &Tensor, norms: &Norms, past: &Past, wanted: usize) -> Result<(Tensor, Past)> {
        let (mut seen, n) = (past.clone(), x.dim(0)?);
        let answer = self.pass(x, &[(n, norms)], past.rows, &mut seen, wanted)?;
        Ok((answer, Past { rows: past.rows + n, ..seen }))
    }

    /// The past for rows, `rows` at a time, that [`run_after`](Self::run_after) passes.
    pub(crate) fn fix(&self, past: &Past, rows: usize) -> Result<FixedPast> {
        let layers = past.layers.iter().map(|(key, value)| KeyValues::new(key, value, self.heads(), rows));
        Ok(FixedPast { layers: layers.collect::<Result<_>>()?, rows: past.rows })
    }

    /// Passes the rows `x [n, width]`, which follow those of `past`, through norms of their own: each of
    /// `parts` says how many go through which, in their order. Answers all rows.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when `parts` or `past` are of another number of rows.
    pub(crate) fn run_after(&self, x: &Tensor, parts: &[(usize, &Norms)], past: &mut FixedPast) -> Result<Tensor> {
        self.pass(x, parts, past.rows, past, x.dim(0)?)
    }

    fn heads(&self) -> Heads {
        Heads { query: self.size.heads, key: 1 }
    }

    /// Passes `x`, whose first row is at the position `first`.
    fn pass(&self, x: &Tensor, parts: &[(usize, &Norms)], first: usize, seen: &mut impl Seen, wanted: usize) -> Result<Tensor> {
        let n = x.dim(0)?;
        if parts.iter().map(|(rows, _)| rows).sum::<usize>() != n || parts.len() > 1 && wanted != n {
            bail!("{} parts of {n} rows, of which {wanted} are wanted", parts.len());
        }
        let first = first as i64;
        let positions: Vec<i64> = (first..first + n as i64).collect();
        let rotary = Rotary::new(&positions, self.size.head_dim, ROTARY_BASE, x.device())?;
        let key_width = self.size.head_dim;
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let [before, between] = [0, 1].map(|half| Parts::of(parts, |norms| norms.layers.get(index).map(|layer| &layer[half])));
            let inputs = layer.inputs.run(&before.run(&x)?)?;
            let query_width = inputs.dim(1)? - 2 * key_width;
            let key = rotary.run(&inputs.narrow(1, query_width, key_width)?)?;
            seen.add(index, &key, &inputs.narrow(1, query_width + key_width, key_width)?)?;
            // Nothing looks at the last layer's other rows.
            let kept = if index + 1 == self.layers.len() { wanted } else { n };
            match &layer.rest {
                Some(Rest { out, gate_up, down }) if kept > 0 => {
                    let query = rotary.run(&inputs.narrow(1, 0, query_width)?)?.narrow(0, n - kept, kept)?;
                    let attended = seen.attend(index, &query, self.heads())?;
                    x = before.residual(&x.narrow(0, n - kept, kept)?, out, &attended)?;
                    let hidden = gate_up.run(&between.run(&x)?)?;
                    x = between.residual(&x, down, &hidden)?;
                }
                None if kept > 0 => bail!("rows are wanted of a language model that was made without its last layer"),
                _ => x = x.narrow(0, n, 0)?,
            }
        }
        if wanted > 0 { Parts::of(parts, |norms| Some(&norms.last)).run(&x) } else { Ok(x) }
    }
}

impl Layer {
    fn new(loader: &mut Loader, name: &str, size: Size, is_whole: bool) -> Built<Self> {
        let Size { width, heads, head_dim, hidden, .. } = size;
        let [q, k, v] = ["q", "k", "v"].map(|part| format!("{name}.self_attn.{part}_proj"));
        let [gate, up, down] = ["gate", "up", "down"].map(|part| format!("{name}.mlp.{part}_proj"));
        let out = format!("{name}.self_attn.o_proj");
        let query_width = heads * head_dim;
        if !is_whole {
            let unused = [
                (&q, [query_width, width]),
                (&out, [width, query_width]),
                (&gate, [hidden, width]),
                (&up, [hidden, width]),
                (&down, [width, hidden]),
            ];
            for (name, shape) in unused {
                loader.require_in_file(&format!("{name}.weight"), &shape)?;
            }
            return Ok(Self { inputs: Linear::side_by_side(loader, &[(&k, head_dim), (&v, head_dim)], width, false)?, rest: None });
        }
        let inputs = Linear::side_by_side(loader, &[(&q, query_width), (&k, head_dim), (&v, head_dim)], width, false)?;
        let rest = Rest {
            out: Linear::without_bias(loader, &out, [width, query_width])?,
            gate_up: Gated::new(loader, [&gate, &up], [hidden, width], false, Activation::GeluTanh)?,
            down: Linear::without_bias(loader, &down, [width, hidden])?,
        };
        Ok(Self { inputs, rest: Some(rest) })
    }
}

/// All norms of a [`Gemma`]: before and between the two halves of each layer, and the last.
#[derive(Debug)]
pub(crate) struct Norms {
    layers: Vec<[Norm; 2]>,
    last: Norm,
}

/// A norm before half a layer, and how much of that half's answer is added to its input.
#[derive(Debug)]
struct Norm {
    rms: RmsNorm,
    /// What is added to the normalised rows and what the answer is multiplied by, `[1, width]` each.
    shift_gate: Option<(Tensor, Tensor)>,
}

impl Norms {
    /// Takes the norms of `<name>`.
    pub(crate) fn new(loader: &mut Loader, name: &str, size: Size) -> Built<Self> {
        let mut norm =
            |name: &str| -> Built<Norm> { Ok(Norm { rms: RmsNorm::one_plus(loader, name, size.width, NORM_EPS)?, shift_gate: None }) };
        let mut layer = |i| {
            let [before, between] = layer_norms(name, i);
            Ok([norm(&before)?, norm(&between)?])
        };
        Ok(Self { layers: (0..size.depth).map(&mut layer).collect::<Built<_>>()?, last: norm(&format!("{name}.norm"))? })
    }
}

/// The names of the norms of layer `index` of `model`.
fn layer_norms(model: &str, index: usize) -> [String; 2] {
    ["input_layernorm", "post_attention_layernorm"].map(|norm| format!("{model}.layers.{index}.{norm}"))
}

impl Norm {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.rms.run(x)?;
        match &self.shift_gate {
            Some((shift, _)) => add(&y, shift),
            None => Ok(y),
        }
    }

    /// What of the answer `y` is added to the input.
    fn gated(&self, y: &Tensor) -> Result<Tensor> {
        match &self.shift_gate {
            Some((_, gate)) => multiply(y, gate),
            None => Ok(y.clone()),
        }
    }
}

/// The norms that rows go through, with the number of rows of each.
struct Parts<'a>(Vec<(usize, &'a Norm)>);

impl<'a> Parts<'a> {
    fn of(parts: &[(usize, &'a Norms)], norm: impl Fn(&'a Norms) -> Option<&'a Norm>) -> Self {
        Self(parts.iter().filter_map(|(rows, norms)| Some((*rows, norm(norms)?))).collect())
    }

    /// What `f` makes of each part of `x`, one below the other.
    fn each(&self, x: &Tensor, f: impl Fn(&Norm, &Tensor) -> Result<Tensor>) -> Result<Tensor> {
        if let [(_, norm)] = self.0[..] {
            return f(norm, x);
        }
        let mut first = 0;
        let part = |(rows, norm): &(usize, &Norm)| {
            first += rows;
            f(norm, &x.narrow(0, first - rows, *rows)?)
        };
        Tensor::cat(&self.0.iter().map(part).collect::<Result<Vec<_>>>()?, 0)
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        self.each(x, Norm::run)
    }

    /// `x` and the answer of `linear` to `y`.
    fn residual(&self, x: &Tensor, linear: &Linear, y: &Tensor) -> Result<Tensor> {
        match self.0[..] {
            [(_, Norm { shift_gate: None, .. })] => linear.run_onto(y, x),
            _ => add(x, &self.each(&linear.run(y)?, Norm::gated)?),
        }
    }
}

/// The norms of `<name>` in π0.5's action expert, whose factors, shifts and gates are linear in a
/// condition: those under each of the `conditions [n, width]`.
pub(crate) fn adaptive_norms(loader: &mut Loader, name: &str, size: Size, conditions: &Tensor) -> Built<Vec<Norms>> {
    let Size { width, depth, .. } = size;
    let mut norms = |name: &str| -> Built<Vec<Norm>> {
        let dense = Linear::new(loader, &format!("{name}.dense"), [3 * width, width])?;
        if loader.is_dry() {
            return Ok(Vec::new());
        }
        adapted(&dense, conditions).map_err(|e| loader.build_error(e))
    };
    let mut layers = Vec::new();
    for index in 0..depth {
        let [before, between] = layer_norms(name, index).map(|name| norms(&name));
        layers.push(before?.into_iter().zip(between?).collect::<VecDeque<_>>());
    }
    let at = |last| Norms { layers: layers.iter_mut().filter_map(VecDeque::pop_front).map(|(a, b)| [a, b]).collect(), last };
    Ok(norms(&format!("{name}.norm"))?.into_iter().map(at).collect())
}

/// One norm under each of the `conditions`: `dense` answers with factor, shift and gate.
fn adapted(dense: &Linear, conditions: &Tensor) -> Result<Vec<Norm>> {
    let modulations = dense.run(conditions)?;
    let width = modulations.dim(1)? / 3;
    let norm = |row: usize| {
        let part = |i: usize| modulations.narrow(0, row, 1)?.narrow(1, i * width, width)?.contiguous();
        let scale = (part(0)?.squeeze(0)? + 1.0)?;
        Ok(Norm { rms: RmsNorm::with_scale(scale, NORM_EPS), shift_gate: Some((part(1)?, part(2)?)) })
    };
    (0..conditions.dim(0)?).map(norm).collect()
}
