//! The file that an answer is written to.

use std::fs::{File, Metadata};
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::InferError;

/// How deep a checkpoint's folder is looked through for files that must stay: an adapter's base lies one below, and a
/// backbone by the name of its repository two.
const DEPTH: usize = 3;

/// # Errors
/// When there is something at `out` that is no file, pipe or character device, or that is `inputs`, `weights` or a file of `folder`.
pub(crate) fn check(out: &Path, inputs: &Path, weights: &Path, folder: &Path) -> Result<(), InferError> {
    let refuse = |what: String| Err(InferError::Write { path: out.to_owned(), what });
    // Links are followed, as they are when it is written to.
    let Ok(there) = std::fs::metadata(out) else { return Ok(()) };
    let kind = there.file_type();
    if !(kind.is_file() || kind.is_fifo() || kind.is_char_device()) {
        let found = if kind.is_dir() { "a folder" } else { "no regular file" };
        return refuse(format!("there is {found}, expected a file, or nothing yet; name another path"));
    }
    let owner = [(inputs, "the file of the inputs"), (weights, "the policy's weights")].into_iter().find(|(path, _)| is(path, &there));
    match owner {
        Some((_, what)) => refuse(format!("it is {what}, expected another file; name another path")),
        None if kind.is_file() && holds(folder, &there, DEPTH) => {
            refuse(format!("it is a file of the checkpoint {}, expected another file; name another path", folder.display()))
        }
        None => Ok(()),
    }
}

fn is(path: &Path, there: &Metadata) -> bool {
    std::fs::metadata(path).is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
}

/// Whether one of the files in `folder`, at most `depth` folders below, is the one that is `there`.
fn holds(folder: &Path, there: &Metadata, depth: usize) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => depth > 0 && holds(&entry.path(), there, depth - 1),
        _ => is(&entry.path(), there),
    })
}

/// Writes `bytes` to `out`, into what is there: links, pipes and permissions stay as they are.
///
/// # Errors
/// When that is not possible.
pub(crate) fn write(out: &Path, bytes: &[u8]) -> Result<(), InferError> {
    let written = File::create(out).and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| InferError::Write { path: out.to_owned(), what: error.to_string() })
}
