//! The packed weights of a layer.

use std::fmt;

use candle_core::{Error, Result};

use super::Built;
use crate::kernels::Packed;
use crate::tensor_file::FileRows;
use crate::weights::Loader;

/// Packed weights: in memory, or in the file, from where they are read for each product.
pub(super) enum Held {
    Here(Box<Packed>),
    InFile(Box<dyn Fn() -> Built<Packed> + Send + Sync>),
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(packed) => packed.fmt(f),
            Self::InFile(_) => f.write_str("InFile"),
        }
    }
}

impl Held {
    /// Of a layer whose so many weights `pack` reads from `parts`; not for the check.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) fn new(
        loader: &mut Loader,
        weights: usize,
        parts: &[FileRows],
        pack: impl Fn() -> Built<Packed> + Send + Sync + 'static,
    ) -> Built<Self> {
        if loader.stays_in_file(weights) {
            return Ok(Self::InFile(Box::new(pack)));
        }
        let packed = pack()?;
        if !packed.is_finite {
            parts.iter().try_for_each(|part| part.floats().map(|values| loader.note_not_finite(part.name(), &values)))?;
        }
        Ok(Self::Here(Box::new(packed)))
    }

    /// What `work` makes of them.
    ///
    /// # Errors
    /// When they can't be read.
    pub(super) fn with<R>(&self, work: impl FnOnce(&Packed) -> R) -> Result<R> {
        match self {
            Self::Here(packed) => Ok(work(packed)),
            Self::InFile(pack) => Ok(work(&pack().map_err(Error::wrap)?)),
        }
    }
}
