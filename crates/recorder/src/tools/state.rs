//! What a dataset's folder looks like at one time, to see later whether it still does.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sinew_core::Fnv1a;

use super::ToolError;
use crate::commit::FOLDER;
use crate::format::schema::INFO;
use crate::{DatasetReader, ReadError};

/// Names, lengths and times of all files of a dataset and what info.json says, a number for each
/// `meta/info.json`, `data/chunk-000` and so on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct State(BTreeMap<String, u64>);

impl State {
    /// Of the dataset in the folder `root`, as it is now.
    pub(crate) fn of(root: &Path) -> Result<Self, ReadError> {
        let mut digests: BTreeMap<String, Fnv1a> = BTreeMap::new();
        let name = |path: &Path| path.components().take(2).map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        for (path, metadata) in files_of(root)? {
            let digest = digests.entry(name(&path)).or_default();
            digest.write(path.as_os_str().as_encoded_bytes());
            digest.write(&[0]);
            digest.write(&metadata.len().to_le_bytes());
            let time = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            digest.write(&time.as_nanos().to_le_bytes());
        }
        // Two commits may follow each other faster than a file's time can tell.
        let path = root.join(INFO);
        digests.entry(INFO.to_owned()).or_default().write(&fs::read(&path).map_err(|source| ReadError::Io { path, source })?);
        Ok(Self(digests.into_iter().map(|(name, digest)| (name, digest.finish())).collect()))
    }

    /// What is not the same in both, such as `meta/info.json`.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

/// All files of the dataset in the folder `root` in the order of their names, relative to it, without
/// what a recorder keeps there of its own. Links are followed.
pub(crate) fn files_of(root: &Path) -> Result<Vec<(PathBuf, Metadata)>, ReadError> {
    let mut files = files_below(root, Path::new(""), 0)?;
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(files)
}

/// More folders in each other than any dataset has; ends what links to itself.
const DEEPEST: usize = 12;

fn files_below(root: &Path, below: &Path, depth: usize) -> Result<Vec<(PathBuf, Metadata)>, ReadError> {
    let folder = root.join(below);
    let failed = |source| ReadError::Io { path: folder.clone(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if depth == 0 && name == FOLDER {
            continue;
        }
        let relative = below.join(name);
        // A link to nowhere is nobody's file.
        let Ok(metadata) = fs::metadata(root.join(&relative)) else { continue };
        if !metadata.is_dir() {
            files.push((relative, metadata));
        } else if depth < DEEPEST {
            files.extend(files_below(root, &relative, depth + 1)?);
        }
    }
    Ok(files)
}

/// A dataset that a plan is made of, and how it looked before it was read.
#[derive(Clone)]
pub(crate) struct Origin {
    reader: Arc<DatasetReader>,
    state: Arc<State>,
}

impl Origin {
    pub(crate) fn open(root: &Path) -> Result<Self, ReadError> {
        // First how it looks: what changes while it is read is then seen later.
        let state = State::of(root)?;
        Ok(Self::new(DatasetReader::open(root)?, state))
    }

    /// Of a dataset that looked like `state` before it was read.
    pub(crate) fn new(reader: DatasetReader, state: State) -> Self {
        Self { reader: Arc::new(reader), state: Arc::new(state) }
    }

    /// Refuses a dataset that does not look as it did.
    pub(crate) fn must_be_unchanged(&self) -> Result<(), ToolError> {
        let what = State::of(self.root())?.differences(&self.state);
        if what.is_empty() { Ok(()) } else { Err(ToolError::Changed { root: self.root().to_owned(), what }) }
    }
}

impl Deref for Origin {
    type Target = DatasetReader;

    fn deref(&self) -> &DatasetReader {
        &self.reader
    }
}
