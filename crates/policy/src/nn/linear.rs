//! Linear layers and look-up tables.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::{Activation, Built};
use crate::weights::{Loader, TensorFile};

/// `y = x Wᵀ + b` over the rows of `x [n, in]`.
#[derive(Debug)]
pub(crate) struct Linear {
    /// `[out, in]`
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `<name>.weight [out, in]` and `<name>.bias [out]`.
    pub(crate) fn new(loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2]) -> Built<Self> {
        let weight = loader.tensor(&format!("{name}.weight"), &[n_out, n_in])?;
        let bias = loader.tensor(&format!("{name}.bias"), &[n_out])?;
        Ok(Self::from_tensors(weight, Some(bias)))
    }

    /// Takes `<name>.weight [out, in]` alone.
    pub(crate) fn without_bias(loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2]) -> Built<Self> {
        Ok(Self::from_tensors(loader.tensor(&format!("{name}.weight"), &[n_out, n_in])?, None))
    }

    /// Several layers that take the same input, as one whose answer is theirs side by side:
    /// `layers` are their names and output widths.
    pub(crate) fn side_by_side(loader: &mut Loader, layers: &[(&str, usize)], n_in: usize, has_bias: bool) -> Built<Self> {
        let mut weights = Vec::new();
        let mut biases = Vec::new();
        for (name, n_out) in layers {
            weights.push(loader.tensor(&format!("{name}.weight"), &[*n_out, n_in])?);
            if has_bias {
                biases.push(loader.tensor(&format!("{name}.bias"), &[*n_out])?);
            }
        }
        let join = || -> Result<Self> {
            let bias = if has_bias { Some(Tensor::cat(&biases, 0)?) } else { None };
            Ok(Self::from_tensors(Tensor::cat(&weights, 0)?, bias))
        };
        if loader.is_dry() {
            // The shapes were checked above; joining stand-ins would make them real.
            return Ok(Self::from_tensors(weights.swap_remove(0), None));
        }
        join().map_err(|e| loader.build_error(e))
    }

    /// The same from a convolution of size 1, whose weight is `[out, in, 1, 1]`.
    pub(crate) fn pointwise(loader: &mut Loader, name: &str, [n_out, n_in]: [usize; 2]) -> Built<Self> {
        let weight = loader.tensor(&format!("{name}.weight"), &[n_out, n_in, 1, 1])?;
        let weight = weight.reshape((n_out, n_in)).map_err(|e| loader.build_error(e))?;
        Ok(Self::from_tensors(weight, Some(loader.tensor(&format!("{name}.bias"), &[n_out])?)))
    }

    /// `weight [out, in]`, `bias [out]`.
    pub(crate) fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    pub(crate) fn run(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.matmul(&self.weight.t()?)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// The activation of the layer's answer.
    pub(crate) fn run_then(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        activation.run(&self.run(x)?)
    }

    /// The layer's answer added to `skip [n, out]`.
    pub(crate) fn run_onto(&self, x: &Tensor, skip: &Tensor) -> Result<Tensor> {
        self.run(x)? + skip
    }

    /// What it answers to zeros: `[1, out]`.
    pub(crate) fn of_zeros(&self) -> Result<Tensor> {
        match &self.bias {
            Some(bias) => bias.unsqueeze(0),
            None => self.weight.narrow(1, 0, 1)?.t()?.zeros_like(),
        }
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
