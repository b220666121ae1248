//! What the fuzz targets share: a golden checkpoint with one of its files replaced.

use std::path::{Path, PathBuf};

use sinew_policy::Checkpoint;
use tempfile::TempDir;

/// A copy of a golden checkpoint, one file of which is made anew for each run.
pub struct Subject {
    dir: TempDir,
    file: PathBuf,
}

impl Subject {
    /// `case` is a folder under `tests/golden`, `file` a path inside it.
    pub fn new(case: &str, file: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/policy/tests/golden").join(case), dir.path());
        Self { file: dir.path().join(file), dir }
    }

    /// Opens the checkpoint with `bytes` in place of the file. It may refuse; it must not panic.
    pub fn open(&self, bytes: &[u8]) {
        self.write(bytes);
        drop(Checkpoint::open(self.dir.path()));
    }

    /// Puts `bytes` in place of the file.
    pub fn write(&self, bytes: &[u8]) -> &Path {
        std::fs::write(&self.file, bytes).expect("a file in a temporary folder");
        &self.file
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a temporary folder");
    for entry in std::fs::read_dir(from).expect("a golden case") {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).expect("a golden case");
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("a golden file");
        }
    }
}
