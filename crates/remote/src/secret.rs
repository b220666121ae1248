//! Files with a secret in them: as with ssh's keys, nobody but their owner is to read them.

use std::path::Path;

/// Whether others than its owner can read the file, or write it; what is no file is left to whoever reads it. A group may read what belongs
/// to root, as services have their keys by a group.
///
/// # Errors
/// Who can, and what helps, in words.
#[cfg(unix)]
pub(crate) fn check(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;
    let Some(found) = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file) else { return Ok(()) };
    let may = if found.uid() == 0 { 0o640 } else { 0o600 };
    let mode = found.mode() & 0o777;
    // That it can be executed is odd, and no secret.
    if mode & 0o666 & !may == 0 {
        return Ok(());
    }
    Err(format!(
        "others on this machine can read or write it (mode {mode:o}), and it holds a secret: expected its owner alone; `chmod 600 {}` if nobody \
         has read it, else have another made",
        path.display()
    ))
}

#[cfg(not(unix))]
pub(crate) fn check(_: &Path) -> Result<(), String> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_its_owner_may_read_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(check(&path), Ok(()), "one that is not there");
        std::fs::write(&path, "secret").unwrap();
        let is_root = rustix::process::getuid().is_root();
        for (mode, is_good) in
            [(0o600, true), (0o400, true), (0o700, true), (0o644, false), (0o604, false), (0o620, false), (0o640, is_root)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&path).is_ok(), is_good, "{mode:o}: {:?}", check(&path));
        }
    }
}
