//! Linear layers and look-up tables.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, DType, Device, Result, Tensor, bail};

use super::bridge::{kernels_on, tensor, with_rows, with_values, with_width};
use super::{Activation, Built};
use crate::kernels::{self, Isa, Matrix, Packed};
use crate::weights::{Loader, TensorFile};

/// `y = x Wᵀ + b` over the rows of `x [n, in]`.
#[derive(Debug)]
pub(crate) struct Linear {
    weights: Weights,
    /// `[out]`
    bias: Option<Tensor>,
    n_out: usize,
}

#[derive(Debug)]
enum Weights {
    /// With the bias.
    Packed(Box<Packed>),
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
        let n_out = sources.iter().map(|source| source.rows.len()).sum();
        let n_in: usize = sources.first().map_or(0, |source| source.shape[1..].iter().product());
        let is_quantized = loader.quantizes(n_out * n_in);
        let mut values = Vec::new();
        let mut biases = Vec::new();
        for source in sources {
            let bias_shape = &source.shape[..1];
            biases.extend(source.bias.as_ref().map(|name| loader.tensor(name, bias_shape)).transpose()?.map(|bias| (bias, &source.rows)));
            values.push((loader.weights(&source.weight, &source.shape)?, source));
        }
        let build = |isa: Option<Isa>| -> Result<Self> {
            let biases = biases.iter().map(|(bias, rows)| bias.narrow(0, rows.start, rows.len())).collect::<Result<Vec<_>>>()?;
            let bias = if biases.is_empty() { None } else { Some(Tensor::cat(&biases, 0)?) };
            if let Some(isa) = isa {
                let parts =
                    values.iter().map(|(values, source)| Matrix::dense(values, values.len() / source.shape[0]).rows(source.rows.clone()));
                let parts = parts.collect::<Vec<_>>();
                let packed = pack(isa, &parts, bias.as_ref())?;
                let packed = if is_quantized { packed.quantized() } else { packed };
                return Ok(Self { weights: Weights::Packed(Box::new(packed)), bias, n_out });
            }
            let parts = values.iter().map(|(values, source)| {
                let weight = Tensor::from_slice(values, (source.shape[0], ()), loader.device())?;
                weight.narrow(0, source.rows.start, source.rows.len())
            });
            Ok(Self { weights: Weights::Plain(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?), bias, n_out })
        };
        if loader.is_dry() {
            return Self::stand_in(n_out, loader);
        }
        let built = build(kernels_on(loader.device())).map_err(|e| loader.build_error(e))?;
        if !matches!(&built.weights, Weights::Packed(packed) if packed.is_finite) {
            values.iter().for_each(|(values, source)| loader.note_not_finite(&source.weight, values));
        }
        Ok(built)
    }

    /// One that was not computed, for [`Loader::check`].
    pub(crate) fn stand_in(n_out: usize, loader: &Loader) -> Built<Self> {
        let nothing = Tensor::zeros(0, DType::F32, loader.device()).map_err(|e| loader.build_error(e))?;
        Ok(Self { weights: Weights::Plain(nothing), bias: None, n_out })
    }

    /// From `weight [out, in]` and `bias [out]`.
    pub(crate) fn from_tensors(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        let n_out = weight.dim(0)?;
        let weights = match kernels_on(weight.device()) {
            Some(isa) => Weights::Packed(Box::new(with_rows(weight, |weight| pack(isa, &[weight], bias.as_ref()))??)),
            None => Weights::Plain(weight.contiguous()?),
        };
        Ok(Self { weights, bias, n_out })
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weights {
            Weights::Packed(weights) => self.kernel(weights, x, None, kernels::Activation::Identity),
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
            Weights::Packed(weights) => self.kernel(weights, x, None, activation.of_kernels()),
            Weights::Plain(_) => activation.run(&self.run(x)?),
        }
    }

    /// The layer's answer added to `skip [n, out]`.
    pub(crate) fn run_onto(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        match &self.weights {
            Weights::Packed(weights) => self.kernel(weights, x, Some(skip), kernels::Activation::Identity),
            Weights::Plain(_) => self.run(x)? + skip,
        }
    }

    fn kernel(&self, weights: &Packed, x: &Tensor, skip: Option<&Tensor>, activation: kernels::Activation) -> Result<Tensor> {
        let shape = with_width(x, self.n_out);
        if x.dim(D::Minus1)? != weights.depth || skip.is_some_and(|skip| skip.dims() != shape) {
            bail!("a linear layer from {} to {} on {x:?}, added to {skip:?}", weights.depth, self.n_out);
        }
        let values = match skip {
            None => with_rows(x, |x| kernels::linear(x, weights, None, activation))?,
            Some(skip) => with_values(skip, |skip| with_rows(x, |x| kernels::linear(x, weights, Some(skip), activation)))??,
        };
        tensor(values, shape)
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

fn pack(isa: Isa, weights: &[Matrix<'_>], bias: Option<&Tensor>) -> Result<Packed> {
    match bias {
        Some(bias) => with_values(bias, |bias| Packed::new(isa, weights, Some(bias))),
        None => Ok(Packed::new(isa, weights, None)),
    }
}

/// A table `[entries, dim]` whose rows are read from the file when they are looked up.
#[derive(Debug)]
pub(crate) struct Embedding {
    file: Arc<TensorFile>,
    name: String,
    entries: usize,
    dim: usize,
    device: Device,
}

impl Embedding {
    /// Takes the tensor `name [entries, dim]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [entries, dim]: [usize; 2]) -> Built<Self> {
        loader.require_in_file(name, &[entries, dim])?;
        let (file, device) = (Arc::clone(loader.file()), loader.device().clone());
        Ok(Self { file, name: name.to_owned(), entries, dim, device })
    }

    /// How many entries the table has.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    /// `[ids.len(), dim]`
    pub(crate) fn run(&self, ids: &[u32]) -> Result<Tensor> {
        let mut values = Vec::with_capacity(ids.len() * self.dim);
        for id in ids {
            if *id as usize >= self.entries {
                candle_core::bail!("token {id} is not in the table {}, which has {} entries", self.name, self.entries);
            }
            values.extend(self.file.row(&self.name, *id as usize, self.dim).map_err(candle_core::Error::wrap)?);
        }
        Tensor::from_vec(values, (ids.len(), self.dim), &self.device)
    }
}
