//! What a test lets happen when the disk is about to be changed: a fault, the end of the process, or a note of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::commit::disk::Op;

/// `kill:17`, `full:17`, `eio:17` or `short:17`: what happens at the 17th operation of a process.
pub(crate) const PLAN: &str = "SINEW_RECORDER_TEST_FAULT";
/// The file that each operation is noted in, a line each.
pub(crate) const TRACE: &str = "SINEW_RECORDER_TEST_TRACE";
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

pub(crate) fn before(op: Op<'_>) -> io::Result<()> {
    let now = COUNT.fetch_add(1, Ordering::Relaxed);
    note(&op);
    let Some((kind, at)) = plan() else { return Ok(()) };
    let takes_space = matches!(op, Op::Create(_) | Op::Write { .. });
    match kind.as_str() {
        "kill" if now == *at => std::process::abort(),
        // A full disk stays full; a broken block or a short write comes once.
        "full" if now >= *at && takes_space => Err(io::Error::from(io::ErrorKind::StorageFull)),
        "short" if now == *at && matches!(op, Op::Write { .. }) => Err(io::Error::from(io::ErrorKind::StorageFull)),
        "eio" if now == *at => Err(io::Error::other("the device answers with an error")),
        _ => Ok(()),
    }
}

/// An operation as the trace has it. A file goes by its number, whatever its name is by then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Noted {
    Create {
        path: String,
    },
    Write {
        file: u64,
        at: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: u64,
        length: u64,
    },
    Sync {
        file: u64,
    },
    CreateFolder {
        path: String,
    },
    SyncFolder {
        path: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Exchange {
        one: String,
        other: String,
    },
    Remove {
        path: String,
    },
    /// What the file of this name is called by in the trace; follows its creation.
    Is {
        path: String,
        file: u64,
    },
    /// So many episodes are committed, as their recorder knows.
    Known {
        episodes: u64,
    },
}

struct Trace {
    out: File,
    /// The number of each file that is open, by its inode, and the next one that is free.
    numbers: HashMap<u64, u64>,
    /// Files that are about to be created and have no number yet.
    created: Vec<String>,
    next: u64,
}

fn trace() -> Option<&'static Mutex<Trace>> {
    static TRACED: OnceLock<Option<Mutex<Trace>>> = OnceLock::new();
    let open = || {
        let out = File::create(std::env::var_os(TRACE)?).unwrap();
        Some(Mutex::new(Trace { out, numbers: HashMap::new(), created: Vec::new(), next: 0 }))
    };
    TRACED.get_or_init(open).as_ref()
}

impl Trace {
    fn put(&mut self, noted: &Noted) {
        let mut line = serde_json::to_vec(noted).unwrap();
        line.push(b'\n');
        self.out.write_all(&line).unwrap();
    }

    /// The number of an open file. Those that were created get their numbers now that they can be told.
    fn number(&mut self, file: &File) -> u64 {
        let inode = file.metadata().unwrap().ino();
        self.tell_created();
        self.numbers[&inode]
    }

    fn tell_created(&mut self) {
        for path in std::mem::take(&mut self.created) {
            // Another thread has noted it and not come to create it.
            let Ok(metadata) = std::fs::metadata(&path) else {
                self.created.push(path);
                continue;
            };
            self.numbers.insert(metadata.ino(), self.next);
            self.put(&Noted::Is { path, file: self.next });
            self.next += 1;
        }
    }
}

fn note(op: &Op<'_>) {
    let Some(trace) = trace() else { return };
    let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let noted = match *op {
        Op::Write { file, at, bytes } => Noted::Write { file: trace.number(file), at, bytes: bytes.to_vec() },
        Op::Truncate { file, length } => Noted::Truncate { file: trace.number(file), length },
        Op::Sync(file) => Noted::Sync { file: trace.number(file) },
        Op::Create(path) => Noted::Create { path: text(path) },
        Op::CreateFolder(path) => Noted::CreateFolder { path: text(path) },
        Op::SyncFolder(path) => Noted::SyncFolder { path: text(path) },
        Op::Rename { from, to } => Noted::Rename { from: text(from), to: text(to) },
        Op::Exchange { one, other } => Noted::Exchange { one: text(one), other: text(other) },
        Op::Remove(path) => Noted::Remove { path: text(path) },
    };
    trace.tell_created();
    if let Noted::Create { path } = &noted {
        trace.created.retain(|known| known != path);
        trace.created.push(path.clone());
    }
    trace.put(&noted);
}

/// Notes that so many episodes are known to be committed.
pub(crate) fn note_known(episodes: u64) {
    if let Some(trace) = trace() {
        let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
        trace.tell_created();
        trace.put(&Noted::Known { episodes });
    }
}
