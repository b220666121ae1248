//! Opening the files of a dataset, which strangers may have made: what is no file is not waited for, and what is too
//! large is not read.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::ReadError;

/// A file that lies elsewhere, such as on the Hub, of which any part can be read.
pub trait RandomAccess: Send + Sync {
    /// Its length.
    fn size_bytes(&self) -> u64;

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When there are no such bytes, or they can't be had.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Says that these bytes will be read, so that all of them can come together: `now`, or later, so that what is wanted
    /// now need not wait for them. Returns at once.
    fn expect(&self, ranges: &[Range<u64>], now: bool);
}

/// A file of a dataset, opened: one of this machine's, or one that lies elsewhere.
#[derive(Clone)]
pub(crate) enum Input {
    Here(Arc<File>),
    Elsewhere(Arc<dyn RandomAccess>),
}

impl Input {
    /// # Errors
    /// As [`open`].
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        Ok(Self::Here(Arc::new(open(path)?)))
    }

    pub(crate) fn size_bytes(&self) -> io::Result<u64> {
        match self {
            Self::Here(file) => Ok(file.metadata()?.len()),
            Self::Elsewhere(file) => Ok(file.size_bytes()),
        }
    }

    pub(crate) fn is_elsewhere(&self) -> bool {
        matches!(self, Self::Elsewhere(_))
    }

    /// Fills `into` with the bytes from `at` on.
    pub(crate) fn read_exact_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Here(file) => file.read_exact_at(into, at),
            Self::Elsewhere(file) if at.saturating_add(into.len() as u64) > file.size_bytes() => Err(io::ErrorKind::UnexpectedEof.into()),
            Self::Elsewhere(file) => file.read_at(at, into),
        }
    }

    /// Fills `into` from byte `at` on, as far as there are bytes.
    pub(crate) fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let there = self.size_bytes()?.saturating_sub(at).min(into.len() as u64) as usize;
        self.read_exact_at(at, &mut into[..there]).map(|()| there)
    }

    /// Says which bytes will be read, as [`RandomAccess::expect`]. Here it makes no difference.
    pub(crate) fn expect(&self, ranges: &[Range<u64>], now: bool) {
        if let Self::Elsewhere(file) = self {
            file.expect(ranges, now);
        }
    }
}

impl Length for Input {
    fn len(&self) -> u64 {
        self.size_bytes().unwrap_or(0)
    }
}

impl ChunkReader for Input {
    type T = BufReader<InputFrom>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        // What was read ahead of from elsewhere might not be what is wanted, and would have to be fetched.
        let ahead = if self.is_elsewhere() { 1 } else { 8 << 10 };
        Ok(BufReader::with_capacity(ahead, InputFrom { input: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // A damaged file may say any length.
        if start.saturating_add(length as u64) > self.len() {
            return Err(ParquetError::EOF(format!(
                "expected {length} bytes from byte {start} on, found {}",
                self.len().saturating_sub(start)
            )));
        }
        let mut bytes = vec![0; length];
        self.read_exact_at(start, &mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads a file from one place on.
pub(crate) struct InputFrom {
    input: Input,
    at: u64,
}

impl Read for InputFrom {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = match &self.input {
            Input::Here(file) => file.read_at(into, self.at)?,
            Input::Elsewhere(_) => self.input.read_at(self.at, into)?,
        };
        self.at += count as u64;
        Ok(count)
    }
}

/// Of JSON and lines of it.
pub(crate) const LARGEST_TEXT: u64 = 256 << 20;

/// # Errors
/// When it can't be opened or is no file. A pipe is not opened: that would wait for somebody who writes to it.
pub(crate) fn open(path: &Path) -> Result<File, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() {
        let found = if kind.is_dir() { "a folder" } else { "a pipe, a socket or a device" };
        return Err(ReadError::Invalid { path: path.to_owned(), what: format!("it is {found}, expected a file") });
    }
    File::open(path).map_err(failed)
}

/// # Errors
/// As [`open`], and when it has more than `most` bytes.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let failed = |source| ReadError::Io { path: path.to_owned(), source };
    let file = open(path)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > most {
        return Err(ReadError::Invalid { path: path.to_owned(), what: format!("it has {length} bytes, expected at most {most}") });
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(most).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// # Errors
/// As [`open`], and when it is larger than [`LARGEST_TEXT`] or no UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, ReadError> {
    String::from_utf8(read(path, LARGEST_TEXT)?)
        .map_err(|error| ReadError::Invalid { path: path.to_owned(), what: format!("it is no UTF-8: {}", error.utf8_error()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        assert!(open(&pipe).unwrap_err().to_string().contains("it is a pipe, a socket or a device, expected a file"));
        assert!(open(folder.path()).unwrap_err().to_string().contains("it is a folder"));
        assert!(open(Path::new("/dev/zero")).is_err());
        let file = folder.path().join("file");
        fs::write(&file, "words").unwrap();
        assert_eq!(read_text(&file).unwrap(), "words");
        assert!(read(&file, 4).unwrap_err().to_string().contains("it has 5 bytes, expected at most 4"));
    }
}
