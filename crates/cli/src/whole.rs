//! Files that are there whole or not at all: whoever reads one while it is written, and after a crash or a power cut, finds the old one or
//! the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Who may read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Whoever the system lets.
    Usual,
    /// Its owner alone.
    Owner,
}

/// Writes a file in a folder that is there. Where `path` is a link, what it leads to is meant.
///
/// # Errors
/// When it can't be written; what was there is as it was then.
pub fn write(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut beside = place.clone().into_os_string();
    beside.push(".new");
    let beside = Path::new(&beside);
    let write = || {
        // One that is left there keeps its mode.
        drop(fs::remove_file(beside));
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if readers == Readers::Owner {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let mut file = options.open(beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(beside, &place)?;
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // So that the new name outlives a power cut; not every system lets a folder be opened.
        File::open(folder).map_or(Ok(()), |folder| folder.sync_all())
    };
    write().inspect_err(|_| drop(fs::remove_file(beside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_through_a_link_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        fs::write(folder.path().join("real.new"), "left by somebody who was killed").unwrap();
        write(&link, b"new", Readers::Owner).unwrap();
        assert!(link.is_symlink() && fs::read(&real).unwrap() == b"new");
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&real).unwrap()) & 0o777, 0o600);
        // In the way of a folder it can't be.
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(write(&taken, b"new", Readers::Usual).is_err());
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["link", "real", "taken"]);
    }
}
