//! Opening the files of a dataset, which strangers may have made: what is no file is not waited for, and what is too
//! large is not read.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::ReadError;

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
