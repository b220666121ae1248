//! Linear layers and look-up tables.

use std::ops::Range;

use candle_core::{D, DType, Device, Error, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows, with_values, with_width};
use super::held::Held;
use super::{Activation, Built};
use crate::kernels::{self, Form, Packed, RowSource as _};
use crate::tensor_file::FileRows;
use crate::weights::Loader;

/// `y = x Wᵀ + b` over the rows of `x [n, in]`.
#[derive(Debug)]
pub(crate) struct Linear {
    weights: Weights,
    /// `[out]`
    bias: Option<Tensor>,
    n_in: usize,
    n_out: usize,
}

#[derive(Debug)]
enum Weights {
    /// With the bias.
    Packed(Held),
    /// `[out, in]`
    Plain(Tensor),
}

/// Where a layer, or a part of its outputs, comes from.
pub(super) struct Source {
    /// The name of a tensor `[out, in]`, of which `rows` are taken.
    pub weight: String,
    pub shape: Vec<usize>,
    pub rows: Range<usize>,
    /// The name of a tensor `[out]`.
    pub bias: Option<String>,
}

impl Source {
    fn new(name: &str, [n_out, n_in]: [usize; 2], has_bias: bool) -> Self {
        let bias = has_bias.then(|| format!("{name}.bias"));
        Self { weight: format!("{name}.weight"), shape: vec![n_out, n_in], rows: 0..n_out, bias }
    }
}

impl Linear {
    /// Takes `<name>.weight [out, in]` and `<name>.bias [out]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, size: [usize; 2]) -> Built<Self> {
        Self::from_sources(loader, &[Source::new(name, size, true)])
    }

    /// Takes `<name>.weight [out, in]` alone.
    pub(crate) fn without_bias(loader: &mut Loader, name: &str, size: [usize; 2]) -> Built<Self> {
        Self::from_sources(loader, &[Source::new(name, size, false)])
    }

    /// Several layers that take the same input, as one whose answer is theirs side by side:
    /// `layers` are their names and output widths.
    pub(crate) fn side_by_side(loader: &mut Loader, layers: &[(&str, usize)], n_in: usize, has_bias: bool) -> Built<Self> {
        let sources = layers.iter().map(|(name, n_out)| Source::new(name, [*n_out, n_in], has_bias));
        Self::from_sources(loader, &sources.collect::<Vec<_>>())
    }

    /// The same from a convolution of size 1 along so many `axes`, whose weight is `[out, in, 1, ..]`.
    pub(crate) fn pointwise(loader: &mut Loader, name: &str, size: [usize; 2], axes: usize) -> Built<Self> {
        let source = Source::new(name, size, true);
        Self::from_sources(loader, &[Source { shape: [&size[..], &vec![1; axes]].concat(), ..source }])
    }

    /// The rows of several tensors below each other; all have a bias or none has.
    pub(super) fn from_sources(loader: &mut Loader, sources: &[Source]) -> Built<Self> {
        let n_out: usize = sources.iter().map(|source| source.rows.len()).sum();
        let n_in: usize = sources.first().map_or(0, |source| source.shape[1..].iter().product());
        let form = loader.form(n_out * n_in);
        let mut parts = Vec::new();
        let mut biases = Vec::new();
        for Source { weight, shape, rows, bias } in sources {
            if let Some(name) = bias {
                let bias = loader.tensor(name, &shape[..1])?;
                biases.push(bias.narrow(0, rows.start, rows.len()).map_err(|e| loader.build_error(e))?);
            }
            parts.push(loader.rows(weight, shape, rows.clone(), form)?);
        }
        if loader.is_dry() {
            return Self::stand_in(n_out, loader);
        }
        let bias = if biases.is_empty() { None } else { Some(Tensor::cat(&biases, 0).map_err(|e| loader.build_error(e))?) };
        let weights = match kernels_on(loader.device()) {
            Some(isa) => {
                let bias = bias.as_ref().map(Tensor::to_vec1::<f32>).transpose().map_err(|e| loader.build_error(e))?;
                let rows = parts.clone();
                let pack = move || Packed::read(isa, &rows, bias.as_deref(), form);
                Weights::Packed(Held::new(loader, n_out * n_in, &parts, pack)?)
            }
            None => {
                let mut tensors = Vec::new();
                for part in &parts {
                    let values = part.floats()?;
                    loader.note_not_finite(part.name(), &values);
                    let shape = (part.count(), part.width());
                    tensors.push(Tensor::from_vec(values, shape, loader.device()).map_err(|e| loader.build_error(e))?);
                }
                Weights::Plain(Tensor::cat(&tensors, 0).map_err(|e| loader.build_error(e))?)
            }
        };
        Ok(Self { weights, bias, n_in, n_out })
    }

    /// One that was not computed, for [`Loader::check`].
    pub(crate) fn stand_in(n_out: usize, loader: &Loader) -> Built<Self> {
        let nothing = Tensor::zeros(0, DType::F32, loader.device()).map_err(|e| loader.build_error(e))?;
        Ok(Self { weights: Weights::Plain(nothing), bias: None, n_in: 0, n_out })
    }

    /// From `weight [out, in]` and `bias [out]`.
    pub(crate) fn from_tensors(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (n_out, n_in) = weight.dims2()?;
        let weights = match kernels_on(weight.device()) {
            Some(isa) => {
                let bias = bias.as_ref().map(Tensor::to_vec1::<f32>).transpose()?;
                let Ok(packed) = with_rows(weight, |weight| Packed::read(isa, &[weight], bias.as_deref(), Form::Exact))?;
                Weights::Packed(Held::Here(Box::new(packed)))
            }
            None => Weights::Plain(weight.contiguous()?),
        };
        Ok(Self { weights, bias, n_in, n_out })
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weights {
            Weights::Packed(weights) => self.kernel(weights, x, None, Activation::Identity),
            Weights::Plain(weight) => {
                let y = x.matmul(&weight.t()?)?;
                match &self.bias {
                    Some(bias) => y.broadcast_add(bias),
                    None => Ok(y),
                }
            }
        }
    }

    /// The activation of the layer's answer.
    pub(crate) fn run_then(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match &self.weights {
            Weights::Packed(weights) => self.kernel(weights, x, None, activation),
            Weights::Plain(_) => activation.run(&self.run(x)?),
        }
    }

    /// The layer's answer added to `skip [n, out]`.
    pub(crate) fn run_onto(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        match &self.weights {
            Weights::Packed(weights) => self.kernel(weights, x, Some(skip), Activation::Identity),
            Weights::Plain(_) => self.run(x)? + skip,
        }
    }

    fn kernel(&self, weights: &Held, x: &Tensor, skip: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
        let shape = with_width(x, self.n_out);
        if x.dim(D::Minus1)? != self.n_in || skip.is_some_and(|skip| skip.dims() != shape) {
            bail!("a linear layer from {} to {} on {x:?}, added to {skip:?}", self.n_in, self.n_out);
        }
        let run = |skip: Option<&[f32]>| weights.with(|weights| with_rows(x, |x| kernels::linear(x, weights, skip, activation)))?;
        let values = match skip {
            None => run(None),
            Some(skip) => with_values(skip, |skip| run(Some(skip)))?,
        };
        tensor(values?, shape)
    }

    /// What it answers to zeros: `[1, out]`.
    pub(crate) fn of_zeros(&self) -> Result<Tensor> {
        match (&self.bias, &self.weights) {
            (Some(bias), _) => bias.unsqueeze(0),
            (None, Weights::Plain(weight)) => Tensor::zeros((1, self.n_out), weight.dtype(), weight.device()),
            (None, Weights::Packed(_)) => Tensor::zeros((1, self.n_out), DType::F32, &Device::Cpu),
        }
    }
}

/// A table `[entries, dim]` whose rows are read from the file when they are looked up.
#[derive(Debug)]
pub(crate) struct Embedding {
    rows: FileRows,
    device: Device,
}

impl Embedding {
    /// Takes the tensor `name [entries, dim]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [entries, dim]: [usize; 2]) -> Built<Self> {
        loader.require_in_file(name, &[entries, dim])?;
        Ok(Self { rows: FileRows::new(loader.file(), name, 0..entries)?, device: loader.device().clone() })
    }

    /// How many entries the table has.
    pub(crate) fn entries(&self) -> usize {
        self.rows.count()
    }

    /// `[ids.len(), dim]`
    pub(crate) fn run(&self, ids: &[u32]) -> Result<Tensor> {
        let (entries, dim) = (self.rows.count(), self.rows.width());
        let mut values = vec![0.0; ids.len() * dim];
        for (id, row) in ids.iter().map(|id| *id as usize).zip(values.chunks_exact_mut(dim.max(1))) {
            if id >= entries {
                bail!("token {id} is not in the table {}, which has {entries} entries", self.rows.name());
            }
            self.rows.read(id..id + 1, row).map_err(Error::wrap)?;
        }
        Tensor::from_vec(values, (ids.len(), dim), &self.device)
    }
}
