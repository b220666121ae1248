//! Tensor files: a mapped safetensors file whose header is checked, and the loader that builds a
//! model from it.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use memmap2::{Advice, Mmap, UncheckedAdvice};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use crate::adapter::Adapter;
use crate::{CheckpointError, Quantization};

/// File name endings of formats that run code when they are read.
const PICKLES: [&str; 6] = ["bin", "pt", "pth", "pkl", "pickle", "ckpt"];

pub(crate) fn is_pickle(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| PICKLES.contains(&e.to_ascii_lowercase().as_str()))
}

/// A safetensors file whose header was read and agrees with the file's size.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    map: Mmap,
    /// Where the tensors begin in the file.
    data_start: usize,
    header: Metadata,
    /// What changes some of the tensors.
    adapter: Option<Box<Adapter>>,
}

impl TensorFile {
    /// # Errors
    /// When the file is a pickle by name, can't be read, ends early, or its header makes no sense
    /// (the `safetensors` crate bounds its size to 100 MB and checks every range).
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        if is_pickle(path) {
            return Err(CheckpointError::Pickle { path: path.to_owned() });
        }
        let read = |source| CheckpointError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        // SAFETY: the map is private and read-only. What is left is another process truncating or
        // rewriting the file while the map lives, which would be undefined behaviour; checkpoints are
        // written once (the Hub's cache and LeRobot replace files, they don't change them), and
        // reading gigabytes into memory to copy them again is the alternative.
        #[allow(unsafe_code, reason = "mapping a file")]
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        let (header_len, header) = SafeTensors::read_metadata(&map).map_err(|error| header_error(path, &map, &error))?;
        Ok(Self { path: path.to_owned(), map, data_start: 8 + header_len, header, adapter: None })
    }

    /// The same file with some of its tensors changed.
    pub(crate) fn with_adapter(self, adapter: Adapter) -> Self {
        Self { adapter: Some(Box::new(adapter)), ..self }
    }

    /// Whether the tensor `name` is another than its bytes in the file say.
    pub(crate) fn is_adapted(&self, name: &str) -> bool {
        self.adapter.as_ref().is_some_and(|adapter| adapter.changes(name))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Tensor names in the order of the file.
    pub(crate) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub(crate) fn spec(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    /// The file's `__metadata__` entry `key`.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// A tensor's bytes in the file, little-endian, row-major.
    pub(crate) fn bytes(&self, info: &TensorInfo) -> &[u8] {
        let (start, end) = info.data_offsets;
        // The header was checked against the file's size, so the range is there.
        self.map.get(self.data_start + start..self.data_start + end).unwrap_or_default()
    }

    /// The tensor `name` as `f32`, converted from half precision where it is that.
    ///
    /// # Errors
    /// When its dtype is no float of at most 32 bits.
    pub(crate) fn floats(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>, CheckpointError> {
        let rows = info.shape.first().copied().unwrap_or(1);
        self.widened(name, info, self.bytes(info), 0..rows)
    }

    /// Row `index` of the table `name [entries, width]`, as `f32`.
    ///
    /// # Errors
    /// When there is no such tensor or row, or its dtype is no float of at most 32 bits.
    pub(crate) fn row(&self, name: &str, index: usize, width: usize) -> Result<Vec<f32>, CheckpointError> {
        let missing =
            || CheckpointError::MissingTensor { path: self.path.clone(), name: name.to_owned(), expected: vec![index + 1, width] };
        let info = self.spec(name).ok_or_else(missing)?;
        let bytes = self.bytes(info);
        let stride = bytes.len() / info.shape.first().copied().unwrap_or(1).max(1);
        self.widened(name, info, bytes.get(index * stride..(index + 1) * stride).ok_or_else(missing)?, index..index + 1)
    }

    /// Some `rows` of a tensor, from their `bytes`.
    fn widened(&self, name: &str, info: &TensorInfo, bytes: &[u8], rows: Range<usize>) -> Result<Vec<f32>, CheckpointError> {
        let mut values: Vec<f32> = match info.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            _ => return Err(self.wrong_dtype(name, info)),
        };
        if let Some(adapter) = &self.adapter {
            adapter.apply(name, rows, &mut values)?;
        }
        Ok(values)
    }

    /// Tells the kernel that some bytes of the file will be read now, all of them.
    fn want(&self, range: &Range<usize>) {
        // Under this the call costs more than the page faults that it saves.
        #[cfg(target_os = "linux")]
        if range.len() >= 1 << 20
            && let Err(error) = self.map.advise_range(Advice::PopulateRead, range.start, range.len())
        {
            tracing::debug!(path = %self.path.display(), %error, "reading the weights page by page");
        }
    }

    /// Tells the kernel that some bytes of the file won't be read again soon.
    fn release(&self, range: &Range<usize>) {
        // SAFETY: the map is read-only and of a file, so pages that go are read from the file again.
        #[cfg(unix)]
        #[allow(unsafe_code, reason = "the advice is one that could lose writes of other maps")]
        let advised = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
        #[cfg(unix)]
        if let Err(error) = advised {
            tracing::debug!(path = %self.path.display(), %error, "keeping pages of the weights");
        }
    }

    /// # Errors
    /// When the tensor `name` is there and no float of at most 32 bits.
    pub(crate) fn require_float(&self, name: &str) -> Result<(), CheckpointError> {
        match self.spec(name) {
            Some(info) if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) => Err(self.wrong_dtype(name, info)),
            _ => Ok(()),
        }
    }

    fn wrong_dtype(&self, name: &str, info: &TensorInfo) -> CheckpointError {
        CheckpointError::WrongDtype { path: self.path.clone(), name: name.to_owned(), found: format!("{:?}", info.dtype) }
    }
}

/// A tensor's values as `f32`. When it goes, so do the pages of the file that it brought into memory.
pub(crate) enum Values {
    Mapped { file: Arc<TensorFile>, range: Range<usize> },
    Owned(Vec<f32>),
}

impl Values {
    fn new(file: &Arc<TensorFile>, name: &str, info: &TensorInfo) -> Result<Self, CheckpointError> {
        let range = file.data_start + info.data_offsets.0..file.data_start + info.data_offsets.1;
        // The file is little-endian, and a crooked header may put its tensors anywhere.
        let is_as_it_is = cfg!(target_endian = "little") && range.start.is_multiple_of(align_of::<f32>());
        if info.dtype == Dtype::F32 && is_as_it_is && !file.is_adapted(name) && range.end <= file.map.len() {
            file.want(&range);
            return Ok(Self::Mapped { file: Arc::clone(file), range });
        }
        let values = file.floats(name, info);
        file.release(&range);
        Ok(Self::Owned(values?))
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Owned(values) => values,
            Self::Mapped { file, range } => {
                let bytes = &file.map[range.clone()];
                // SAFETY: any bytes are floats; the map begins at a page and `range` at a multiple of
                // four, as `new` has seen; the length rounds down.
                #[allow(unsafe_code, reason = "reading floats where they are")]
                unsafe {
                    std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<f32>())
                }
            }
        }
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        if let Self::Mapped { file, range } = self {
            file.release(range);
        }
    }
}

fn header_error(path: &Path, map: &[u8], error: &SafeTensorError) -> CheckpointError {
    let path = path.to_owned();
    let found = map.len() as u64;
    let header_len = map.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    match (error, header_len) {
        (SafeTensorError::InvalidHeaderLength, Some(n)) => CheckpointError::Truncated { path, found, expected: n.saturating_add(8) },
        (SafeTensorError::MetadataIncompleteBuffer, Some(n)) => {
            // The header is whole, so its own ranges say how long the file should be.
            let header = map.get(8..8 + n as usize).unwrap_or_default();
            let data = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(header)
                .ok()
                .and_then(|entries| entries.values().filter_map(|entry| entry.get("data_offsets")?.get(1)?.as_u64()).max());
            let expected = n.saturating_add(8).saturating_add(data.unwrap_or(0));
            if expected > found {
                CheckpointError::Truncated { path, found, expected }
            } else {
                CheckpointError::Header { path, what: format!("the file has {found} bytes, its header promises {expected}") }
            }
        }
        (error, _) => CheckpointError::Header { path, what: error.to_string() },
    }
}

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
    used: BTreeSet<String>,
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
    /// How many weights of layers are quantised.
    pub quantized: u64,
}

impl Loader {
    pub(crate) fn check(file: &Arc<TensorFile>) -> Self {
        Self {
            file: Arc::clone(file),
            device: Device::Cpu,
            dry: true,
            quantization: None,
            used: BTreeSet::new(),
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

    /// Whether a layer of so many weights, which is about to be made, is to quantise them.
    pub(crate) fn quantizes(&mut self, weights: usize) -> bool {
        let is_quantized = self.quantization.is_some_and(|quantization| quantization.takes(weights));
        self.needs.quantized += if is_quantized { weights as u64 } else { 0 };
        is_quantized
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
            path: self.file.path.clone(),
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
            return Err(CheckpointError::WrongShape { path: self.file.path.clone(), name: name.to_owned(), found, expected });
        }
        self.file.require_float(name)?;
        if self.used.insert(name.to_owned()) {
            self.needs.parameters += shape.iter().product::<usize>() as u64;
        }
        Ok(())
    }

    /// The same for a tensor that stays in the file.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn require_in_file(&mut self, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
        let before = self.needs.parameters;
        self.require(name, shape)?;
        self.needs.in_file += self.needs.parameters - before;
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

    /// The values of the tensor `name`, in the file itself where they are `f32` there; none in the
    /// check. Whoever takes them sees whether all are finite while he walks over them, and calls
    /// [`note_not_finite`](Self::note_not_finite) where they aren't.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) fn weights(&mut self, name: &str, shape: &[usize]) -> Result<Values, CheckpointError> {
        self.require(name, shape)?;
        match self.file.spec(name) {
            Some(info) if !self.dry => Values::new(&self.file, name, info),
            _ => Ok(Values::Owned(Vec::new())),
        }
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
        Err(CheckpointError::NotFinite { path: self.file.path.clone(), names: self.not_finite.clone() })
    }

    pub(crate) fn build_error(&self, source: candle_core::Error) -> CheckpointError {
        CheckpointError::Build { path: self.file.path.clone(), source }
    }

    fn missing(&self, name: &str, expected: &[usize]) -> CheckpointError {
        CheckpointError::MissingTensor { path: self.file.path.clone(), name: name.to_owned(), expected: expected.to_vec() }
    }

    /// What the model asked for; an error when the file holds tensors that it did not
    /// ask for and that `is_known_unused` doesn't name.
    ///
    /// # Errors
    /// [`CheckpointError::UnusedTensors`].
    pub(crate) fn finish(self, is_known_unused: impl Fn(&str) -> bool) -> Result<Needs, CheckpointError> {
        let names: Vec<String> = self.file.names().into_iter().filter(|name| !self.used.contains(name) && !is_known_unused(name)).collect();
        if names.is_empty() { Ok(self.needs) } else { Err(CheckpointError::UnusedTensors { path: self.file.path.clone(), names }) }
    }
}
