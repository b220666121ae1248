//! A safetensors file: its header is checked when it is opened, and tensors are read when they are wanted.
//!
//! The file is never mapped into memory: one that is cut short, or whose disk is gone, is an error and no
//! signal, and nothing of it counts as this process's memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::CheckpointError;
use crate::json::open_regular;
use crate::kernels::RowSource;

/// File name endings of formats that run code when they are read.
const PICKLES: [&str; 6] = ["bin", "pt", "pth", "pkl", "pickle", "ckpt"];

pub(crate) fn is_pickle(path: &Path) -> bool {
    path.extension().and_then(|e| e.to_str()).is_some_and(|e| PICKLES.contains(&e.to_ascii_lowercase().as_str()))
}

/// The largest header that is read, as in safetensors' own library.
const HEADER_LIMIT_BYTES: u64 = 100_000_000;
/// How a pointer of Git LFS begins, which stands for a file that was not fetched.
const LFS_PREFIX: &[u8; 8] = b"version ";
/// What says how long the header is.
const PREFIX_BYTES: u64 = 8;

/// Changes to some tensors of a file, which are made while they are read.
pub(crate) trait TensorChanges: fmt::Debug + Send + Sync {
    /// Whether the tensor `name` is changed.
    fn has(&self, name: &str) -> bool;

    /// Changes the `rows` of the tensor `name`, which are `values`.
    ///
    /// # Errors
    /// When what takes their place is no float, or can't be read.
    fn apply(&self, name: &str, rows: Range<usize>, values: &mut [f32]) -> Result<(), CheckpointError>;

    /// The file and the tensors in it that give the tensor `name` NaN or infinity; none where they don't.
    fn not_finite(&self, name: &str) -> Option<(&Path, Vec<String>)>;
}

/// A safetensors file whose header was read and agrees with the file's size.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    file: File,
    len: u64,
    /// Where the tensors begin in the file.
    data_start: u64,
    header: Metadata,
    /// What changes some of the tensors.
    changes: Option<Box<dyn TensorChanges>>,
    /// Names of tensors that share another's numbers in the file, and the other's name.
    shared: BTreeMap<String, String>,
}

impl TensorFile {
    /// # Errors
    /// When the file is a pickle by name, can't be read, ends early, or its header makes no sense (its size
    /// is bounded, and every range checked).
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        if is_pickle(path) {
            return Err(CheckpointError::Pickle { path: path.to_owned() });
        }
        let read = |source| CheckpointError::Read { path: path.to_owned(), source };
        let file = open_regular(path)?;
        let len = file.metadata().map_err(read)?.len();
        let fault = |what: String| CheckpointError::Header { path: path.to_owned(), what };
        if len < PREFIX_BYTES {
            return Err(fault(format!("the file has {len} bytes, expected at least {PREFIX_BYTES}")));
        }
        let mut prefix = [0; PREFIX_BYTES as usize];
        file.read_exact_at(&mut prefix, 0).map_err(read)?;
        if &prefix == LFS_PREFIX {
            return Err(fault(
                "it is a pointer of Git LFS in the place of the file; fetch the file with `git lfs pull` in its folder, or with \
                 `sinew hub download`"
                    .into(),
            ));
        }
        let header_len = u64::from_le_bytes(prefix);
        if header_len > HEADER_LIMIT_BYTES {
            return Err(fault(format!("it is said to have {header_len} bytes, expected at most {HEADER_LIMIT_BYTES}")));
        }
        let data_start = PREFIX_BYTES + header_len;
        if data_start > len {
            return Err(CheckpointError::Truncated { path: path.to_owned(), found: len, expected: data_start });
        }
        let mut header = vec![0; header_len as usize];
        file.read_exact_at(&mut header, PREFIX_BYTES).map_err(read)?;
        let header: Metadata = serde_json::from_slice(&header).map_err(|error| fault(error.to_string()))?;
        let expected = data_start.saturating_add(header.data_len() as u64);
        match expected {
            _ if expected > len => Err(CheckpointError::Truncated { path: path.to_owned(), found: len, expected }),
            _ if expected < len => Err(fault(format!("the file has {len} bytes, its header promises {expected}"))),
            _ => Ok(Self { path: path.to_owned(), file, len, data_start, header, changes: None, shared: BTreeMap::new() }),
        }
    }

    /// The same file with some of its tensors changed.
    pub(crate) fn with_changes(self, changes: impl TensorChanges + 'static) -> Self {
        Self { changes: Some(Box::new(changes)), ..self }
    }

    /// The same file, where a tensor `name` that it does not have is the tensor `other`, without the changes to that.
    pub(crate) fn with_shared(mut self, name: String, other: String) -> Self {
        self.shared.insert(name, other);
        self
    }

    /// The file and the tensors in it whose changes give the tensor `name` NaN or infinity.
    pub(crate) fn not_finite_change(&self, name: &str) -> Option<(&Path, Vec<String>)> {
        self.changes.as_ref()?.not_finite(name)
    }

    /// Whether the tensor `name` is another than its bytes in the file say.
    pub(crate) fn is_adapted(&self, name: &str) -> bool {
        self.changes.as_ref().is_some_and(|changes| changes.has(name))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Tensor names in the order of the file.
    pub(crate) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    pub(crate) fn spec(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name).or_else(|| self.header.info(self.shared.get(name)?))
    }

    /// The file's `__metadata__` entry `key`.
    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// A tensor's bytes in the file, little-endian, row-major.
    ///
    /// # Errors
    /// When they can't be read, or are no longer there.
    pub(crate) fn bytes(&self, info: &TensorInfo) -> Result<Vec<u8>, CheckpointError> {
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end - start];
        self.read_at(start, &mut bytes)?;
        Ok(bytes)
    }

    /// Fills `to` from byte `at` of the tensors on.
    fn read_at(&self, at: usize, to: &mut [u8]) -> Result<(), CheckpointError> {
        let from = self.data_start + at as u64;
        self.file.read_exact_at(to, from).map_err(|source| {
            if source.kind() == std::io::ErrorKind::UnexpectedEof {
                let found = self.file.metadata().map_or(from, |now| now.len());
                return CheckpointError::Truncated { path: self.path.clone(), found, expected: self.len };
            }
            CheckpointError::Read { path: self.path.clone(), source }
        })
    }

    /// The tensor `name` as `f32`, converted where it is another float.
    ///
    /// # Errors
    /// When its dtype is no float, or it can't be read.
    pub(crate) fn floats(&self, name: &str, info: &TensorInfo) -> Result<Vec<f32>, CheckpointError> {
        /// Values that are worth another thread.
        const AT_ONCE: usize = 1 << 18;
        let mut values = vec![0.0; info.shape.iter().product()];
        let is_shared = values.len() > AT_ONCE;
        let rows = info.shape.first().copied().unwrap_or(1);
        let width = values.len() / rows.max(1);
        let part = if is_shared { AT_ONCE.div_ceil(width.max(1)) } else { rows.max(1) };
        let read = |(i, to): (usize, &mut [f32])| {
            let first = i * part;
            self.rows(name, info, first..(first + part).min(rows), to)
        };
        let size = (part * width).max(1);
        if is_shared {
            values.par_chunks_mut(size).enumerate().try_for_each(read)?;
        } else {
            values.chunks_mut(size).enumerate().try_for_each(read)?;
        }
        Ok(values)
    }

    /// Some `rows` of the tensor `name`, along its first axis, as `f32` into `to`, which has their size.
    ///
    /// # Errors
    /// When there are no such rows, its dtype is no float, or they can't be read.
    pub(crate) fn rows(&self, name: &str, info: &TensorInfo, rows: Range<usize>, to: &mut [f32]) -> Result<(), CheckpointError> {
        let size = match info.dtype {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            _ => return Err(self.wrong_dtype(name, info)),
        };
        let width: usize = info.shape.iter().skip(1).product();
        if rows.end > info.shape.first().copied().unwrap_or(1) || to.len() != rows.len() * width {
            let expected = [&[rows.end], info.shape.get(1..).unwrap_or_default()].concat();
            return Err(CheckpointError::WrongShape {
                path: self.path.clone(),
                name: name.to_owned(),
                found: info.shape.clone(),
                expected,
            });
        }
        let start = info.data_offsets.0 + rows.start * width * size;
        let mut buffer = [0; 1 << 14];
        for (i, to) in to.chunks_mut(buffer.len() / size).enumerate() {
            let bytes = &mut buffer[..to.len() * size];
            self.read_at(start + i * (1 << 14), bytes)?;
            match info.dtype {
                Dtype::F64 => to.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, b)| *to = f64::from_le_bytes(*b) as f32),
                Dtype::F32 => to.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, b)| *to = f32::from_le_bytes(*b)),
                Dtype::F16 => to.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, b)| *to = f16::from_le_bytes(*b).to_f32()),
                _ => to.iter_mut().zip(bytes.as_chunks().0).for_each(|(to, b)| *to = bf16::from_le_bytes(*b).to_f32()),
            }
        }
        match &self.changes {
            Some(changes) => changes.apply(name, rows, to),
            None => Ok(()),
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

/// Some rows of a tensor `[rows, ...]` in a file, which are read when they are wanted.
#[derive(Clone, Debug)]
pub(crate) struct FileRows {
    file: Arc<TensorFile>,
    name: String,
    info: TensorInfo,
    rows: Range<usize>,
}

impl FileRows {
    /// # Errors
    /// When there is no such tensor.
    pub(crate) fn new(file: &Arc<TensorFile>, name: &str, rows: Range<usize>) -> Result<Self, CheckpointError> {
        let Some(info) = file.spec(name).cloned() else {
            return Err(CheckpointError::MissingTensor { path: file.path.clone(), name: name.to_owned(), expected: vec![rows.end] });
        };
        Ok(Self { file: Arc::clone(file), name: name.to_owned(), info, rows })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// All of them, one below the other.
    ///
    /// # Errors
    /// When they can't be read.
    pub(crate) fn floats(&self) -> Result<Vec<f32>, CheckpointError> {
        let mut values = vec![0.0; self.rows.len() * self.width()];
        self.read(0..self.rows.len(), &mut values)?;
        Ok(values)
    }
}

impl RowSource for FileRows {
    type Error = CheckpointError;

    fn count(&self) -> usize {
        self.rows.len()
    }

    fn width(&self) -> usize {
        self.info.shape.iter().skip(1).product()
    }

    fn read(&self, rows: Range<usize>, to: &mut [f32]) -> Result<(), CheckpointError> {
        self.file.rows(&self.name, &self.info, self.rows.start + rows.start..self.rows.start + rows.end, to)
    }
}
