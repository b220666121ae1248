//! The loader that builds a model from a tensor file.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;

use crate::device::has_kernels;
use crate::error::bare;
use crate::kernels::Form;
use crate::tensor_file::{FileRows, TensorFile};
use crate::{CheckpointError, Quantization};

/// Hands a model under construction its tensors, each asked for by name and shape.
///
/// A model is built twice by the same code: first from stand-ins that take no memory
/// ([`Loader::check`]), which finds every missing, misshapen or superfluous tensor by looking at the
/// header alone, then from the weights ([`Loader::load`]). So the check cannot disagree with the load.
pub(crate) struct Loader {
    file: Arc<TensorFile>,
    device: Device,
    dry: bool,
    quantization: Option<Quantization>,
    /// Whether what would be quantised stays in the file instead.
    leaves_quantized: bool,
    used: BTreeSet<String>,
    /// Of these, the ones that stay in the file.
    in_file: BTreeSet<String>,
    needs: Needs,
    /// Tensors with NaN or infinity.
    not_finite: Vec<String>,
}

/// What a model takes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// How many numbers it has.
    pub parameters: u64,
    /// How many of them stay in the file, to be read from there when they are used, if ever.
    pub in_file: u64,
    /// How many bytes its weights take less than in `f32`.
    pub saved_bytes: u64,
}

impl Loader {
    pub(crate) fn check(file: &Arc<TensorFile>) -> Self {
        Self {
            file: Arc::clone(file),
            device: Device::Cpu,
            dry: true,
            quantization: None,
            leaves_quantized: false,
            used: BTreeSet::new(),
            in_file: BTreeSet::new(),
            needs: Needs::default(),
            not_finite: Vec::new(),
        }
    }

    /// The tensors are made on `device`.
    pub(crate) fn load(file: &Arc<TensorFile>, device: &Device) -> Self {
        Self { dry: false, device: device.clone(), ..Self::check(file) }
    }

    /// The same for a model whose weights are to be quantised.
    pub(crate) fn quantizing(self, quantization: Option<Quantization>) -> Self {
        Self { quantization, ..self }
    }

    /// The same for one whose weights, as they are, stay in the file where `quantization` would take them,
    /// to be read for each product: slow, but the model takes no more memory than the quantised one.
    pub(crate) fn leaving(self, quantization: Quantization) -> Self {
        Self { quantization: Some(quantization), leaves_quantized: true, ..self }
    }

    fn quantizes(&self, weights: usize) -> bool {
        self.quantization.is_some_and(|quantization| quantization.takes(weights))
    }

    /// Whether a layer of so many weights leaves them in the file.
    pub(crate) fn stays_in_file(&self, weights: usize) -> bool {
        self.leaves_quantized && self.quantizes(weights)
    }

    /// How a layer of so many weights, which is about to be made, is to keep them.
    pub(crate) fn form(&self, weights: usize) -> Form {
        match self.quantization {
            Some(quantization) if quantization.takes(weights) && !self.leaves_quantized => quantization.form(),
            _ => Form::Exact,
        }
    }

    pub(crate) fn file(&self) -> &Arc<TensorFile> {
        &self.file
    }

    /// Where the model is to live.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Whether this is the check, in which tensors are stand-ins not worth computing with.
    pub(crate) fn is_dry(&self) -> bool {
        self.dry
    }

    /// The shape the file gives for `name`, for dimensions that the configuration doesn't tell.
    ///
    /// # Errors
    /// When there is no such tensor; `expected` is its rank.
    pub(crate) fn shape<const RANK: usize>(&self, name: &str) -> Result<[usize; RANK], CheckpointError> {
        let Some(info) = self.file.spec(name) else {
            return Err(self.missing(name, &[0; RANK]));
        };
        <[usize; RANK]>::try_from(info.shape.as_slice()).map_err(|_| CheckpointError::WrongShape {
            path: self.file.path().to_owned(),
            name: name.to_owned(),
            found: info.shape.clone(),
            expected: vec![0; RANK],
        })
    }

    /// Whether the file has a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.spec(name).is_some()
    }

    /// Notes that the model needs the tensor `name`, and checks it.
    ///
    /// # Errors
    /// When it is not there or has another shape or a dtype that is no float.
    pub(crate) fn require(&mut self, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
        let Some(info) = self.file.spec(name) else {
            return Err(self.missing(name, shape));
        };
        if info.shape != shape {
            let (found, expected) = (info.shape.clone(), shape.to_vec());
            return Err(CheckpointError::WrongShape { path: self.file.path().to_owned(), name: name.to_owned(), found, expected });
        }
        self.file.require_float(name)?;
        if self.used.insert(name.to_owned()) {
            self.needs.parameters += count(shape);
        }
        Ok(())
    }

    /// The same for a tensor that stays in the file.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn require_in_file(&mut self, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
        let is_new = !self.used.contains(name);
        self.require(name, shape)?;
        if is_new {
            self.needs.in_file += count(shape);
            self.in_file.insert(name.to_owned());
        }
        Ok(())
    }

    /// The same for one that does not, or no longer.
    fn require_in_memory(&mut self, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
        self.require(name, shape)?;
        if self.in_file.remove(name) {
            self.needs.in_file -= count(shape);
        }
        Ok(())
    }

    /// The tensor `name` as `f32`.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, CheckpointError> {
        let values = self.weights(name, shape)?;
        self.note_not_finite(name, &values);
        let tensor = if self.dry {
            Tensor::zeros((), DType::F32, &self.device).and_then(|zero| zero.broadcast_as(shape))
        } else {
            Tensor::from_slice(&values, shape, &self.device)
        };
        tensor.map_err(|source| self.build_error(source))
    }

    /// The same, `[len]`, as plain values; none in the check.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, CheckpointError> {
        let values = self.weights(name, &[len])?;
        self.note_not_finite(name, &values);
        Ok(values.to_vec())
    }

    /// The values of the tensor `name`; none in the check. Whoever takes them sees whether all are finite
    /// while he walks over them, and calls [`note_not_finite`](Self::note_not_finite) where they aren't.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn weights(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, CheckpointError> {
        self.require_in_memory(name, shape)?;
        match self.file.spec(name) {
            Some(info) if !self.dry => self.file.floats(name, info),
            _ => Ok(Vec::new()),
        }
    }

    /// Some `rows` of the tensor `name`, which a layer is to read itself, and to keep in a `form`. Whether
    /// all are finite is up to it, as with [`weights`](Self::weights).
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn rows(&mut self, name: &str, shape: &[usize], rows: Range<usize>, form: Form) -> Result<FileRows, CheckpointError> {
        self.require_in_memory(name, shape)?;
        let size = [rows.len(), shape.iter().skip(1).product()].map(|n: usize| n as u64);
        let is_half = self.file.spec(name).is_some_and(|info| info.dtype != Dtype::F32) && !self.file.is_adapted(name);
        self.needs.saved_bytes += match (form, self.quantization) {
            (Form::Codes | Form::Integers, Some(quantization)) => quantization.saved_bytes(size),
            (Form::Exact, _) if is_half && has_kernels(&self.device) => 2 * size[0] * size[1],
            _ => 0,
        };
        FileRows::new(&self.file, name, rows)
    }

    /// Remembers `name` if there are NaN or infinities among its `values`.
    pub(crate) fn note_not_finite(&mut self, name: &str, values: &[f32]) {
        // Their exponents are all ones. Without an early end the loop takes many values at a time.
        const EXPONENT: u32 = 0x7f80_0000;
        if values.iter().fold(false, |found, value| found | (value.to_bits() & EXPONENT == EXPONENT)) {
            self.not_finite.push(name.to_owned());
        }
    }

    /// # Errors
    /// When a tensor that was loaded holds NaN or infinity.
    pub(crate) fn check_finite(&self) -> Result<(), CheckpointError> {
        if self.not_finite.is_empty() {
            return Ok(());
        }
        // An adapter's own numbers first: without them the base may be as good as ever.
        let (path, names) = self
            .not_finite
            .iter()
            .find_map(|name| self.file.not_finite_change(name))
            .unwrap_or_else(|| (self.file.path(), self.not_finite.clone()));
        Err(CheckpointError::NotFinite { path: path.to_owned(), names })
    }

    pub(crate) fn build_error(&self, source: candle_core::Error) -> CheckpointError {
        CheckpointError::Build { path: self.file.path().to_owned(), source: bare(source) }
    }

    fn missing(&self, name: &str, expected: &[usize]) -> CheckpointError {
        // A part of a policy may have been compiled when it was saved.
        const COMPILED: &str = "_orig_mod.";
        if self.file.names().iter().any(|found| found.contains(COMPILED) && found.replace(COMPILED, "") == name) {
            return CheckpointError::Wrapped { path: self.file.path().to_owned(), prefix: COMPILED, by: "torch.compile" };
        }
        CheckpointError::MissingTensor { path: self.file.path().to_owned(), name: name.to_owned(), expected: expected.to_vec() }
    }

    /// What the model asked for; an error when the file holds tensors that it did not
    /// ask for and that `is_known_unused` doesn't name.
    ///
    /// # Errors
    /// [`CheckpointError::UnusedTensors`].
    pub(crate) fn finish(self, is_known_unused: impl Fn(&str) -> bool) -> Result<Needs, CheckpointError> {
        let names: Vec<String> = self.file.names().into_iter().filter(|name| !self.used.contains(name) && !is_known_unused(name)).collect();
        if names.is_empty() { Ok(self.needs) } else { Err(CheckpointError::UnusedTensors { path: self.file.path().to_owned(), names }) }
    }
}

fn count(shape: &[usize]) -> u64 {
    shape.iter().product::<usize>() as u64
}
