//! Every change that writing a dataset makes to the disk passes here, so that tests can let it fail, or
//! kill the process at it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Takes space: a full disk refuses it.
    Create,
    /// Takes space: a full disk refuses it.
    Write,
    Sync,
    Rename,
    Truncate,
    Remove,
}

#[cfg(not(test))]
fn before(_: Op) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use injected::before;

pub(crate) fn create(options: &fs::OpenOptions, path: &Path) -> io::Result<File> {
    before(Op::Create)?;
    options.open(path)
}

/// Under test a write happens in two halves, so that it can fail or be killed in its midst.
pub(crate) fn write_all(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    before(Op::Write)?;
    let (first, second) = bytes.split_at(if cfg!(test) { bytes.len() / 2 } else { bytes.len() });
    file.write_all(first)?;
    if !second.is_empty() {
        before(Op::Write)?;
        file.write_all(second)?;
    }
    Ok(())
}

/// Waits until the file is on the disk. Under test it only counts: a killed process loses nothing that
/// it has written, and waiting would make thousands of steps slow.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    before(Op::Sync)?;
    if cfg!(test) { Ok(()) } else { file.sync_data() }
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    before(Op::Rename)?;
    fs::rename(from, to)
}

pub(crate) fn hard_link(from: &Path, to: &Path) -> io::Result<()> {
    before(Op::Create)?;
    fs::hard_link(from, to)
}

pub(crate) fn truncate(file: &File, length: u64) -> io::Result<()> {
    before(Op::Truncate)?;
    file.set_len(length)
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    before(Op::Remove)?;
    fs::remove_file(path)
}

#[cfg(test)]
pub(crate) mod injected {
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Op;

    /// `kill:17`, `full:17`, `eio:17` or `short:17`: what happens at the 17th operation of a process.
    pub(crate) const PLAN: &str = "SINEW_RECORDER_TEST_FAULT";
    static COUNT: AtomicU64 = AtomicU64::new(0);

    fn plan() -> &'static Option<(String, u64)> {
        static PLANNED: OnceLock<Option<(String, u64)>> = OnceLock::new();
        PLANNED.get_or_init(|| {
            let text = std::env::var(PLAN).ok()?;
            let (kind, at) = text.split_once(':')?;
            Some((kind.to_owned(), at.parse().ok()?))
        })
    }

    /// Operations of this process so far.
    pub(crate) fn count() -> u64 {
        COUNT.load(Ordering::Relaxed)
    }

    pub(crate) fn before(op: Op) -> io::Result<()> {
        let now = COUNT.fetch_add(1, Ordering::Relaxed);
        let Some((kind, at)) = plan() else { return Ok(()) };
        let takes_space = matches!(op, Op::Create | Op::Write);
        match kind.as_str() {
            "kill" if now == *at => std::process::abort(),
            // A full disk stays full; a broken block or a short write comes once.
            "full" if now >= *at && takes_space => Err(io::Error::from(io::ErrorKind::StorageFull)),
            "short" if now == *at && op == Op::Write => Err(io::Error::from(io::ErrorKind::StorageFull)),
            "eio" if now == *at => Err(io::Error::other("the device answers with an error")),
            _ => Ok(()),
        }
    }
}
