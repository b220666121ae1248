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
use crate::format::info::hub_repository;
use crate::format::input::{self, LARGEST_TEXT};
use crate::format::schema::INFO;
use crate::{DatasetReader, ReadError};

/// Where programs keep what they note of a place, such as what was uploaded from it.
pub(super) const CACHE: &str = ".cache";

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
        for Found { path, metadata, .. } in files_of(root)? {
            // What programs note of the place is no part of the dataset.
            if path.starts_with(CACHE) {
                continue;
            }
            let digest = digests.entry(name(&path)).or_default();
            digest.write(path.as_os_str().as_encoded_bytes());
            digest.write(&[0]);
            digest.write(&metadata.len().to_le_bytes());
            let time = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            digest.write(&time.as_nanos().to_le_bytes());
        }
        // Two commits may follow each other faster than a file's time can tell.
        let path = root.join(INFO);
        digests.entry(INFO.to_owned()).or_default().write(&input::read(&path, LARGEST_TEXT)?);
        Ok(Self(digests.into_iter().map(|(name, digest)| (name, digest.finish())).collect()))
    }

    /// What is not the same in both, such as `meta/info.json`.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        names.into_iter().filter(|name| self.0.get(*name) != other.0.get(*name)).cloned().collect()
    }
}

/// What a name in a dataset's folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file, or a link to one of the dataset's own.
    File,
    /// A link to a file elsewhere.
    Elsewhere,
    /// A link to a folder or to nothing, a pipe, a socket or a device.
    Other,
}

/// A name in a dataset's folder.
pub(crate) struct Found {
    /// Relative to the folder.
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    /// Of what a link leads to, where it leads to something.
    pub(crate) metadata: Metadata,
}

impl Found {
    pub(crate) fn bytes(&self) -> u64 {
        if self.kind == Kind::File { self.metadata.len() } else { 0 }
    }
}

/// All names in the folder `root` of a dataset but those of folders, in their order, without what a recorder keeps
/// there of its own. Links to folders are not followed.
pub(crate) fn files_of(root: &Path) -> Result<Vec<Found>, ReadError> {
    let failed = |source| ReadError::Io { path: root.to_owned(), source };
    let own = fs::canonicalize(root).map_err(failed)?;
    let mut homes = vec![own.clone()];
    homes.extend(hub_repository(&own).map(|repository| repository.join("blobs")));
    let mut found = Vec::new();
    find_below(root, Path::new(""), 0, &homes, &mut found)?;
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// More folders in each other than any dataset has.
const DEEPEST: usize = 64;

fn find_below(root: &Path, below: &Path, depth: usize, homes: &[PathBuf], found: &mut Vec<Found>) -> Result<(), ReadError> {
    let folder = root.join(below);
    let failed = |source| ReadError::Io { path: folder.clone(), source };
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if depth == 0 && name == FOLDER {
            continue;
        }
        let path = below.join(name);
        let full = root.join(&path);
        let itself = fs::symlink_metadata(&full).map_err(|source| ReadError::Io { path: full.clone(), source })?;
        if itself.is_dir() {
            if depth == DEEPEST {
                let what = format!("it has more than {DEEPEST} folders in each other");
                return Err(ReadError::Invalid { path: full, what });
            }
            find_below(root, &path, depth + 1, homes, found)?;
            continue;
        }
        let is_link = itself.is_symlink();
        let metadata = if is_link { fs::metadata(&full).unwrap_or(itself) } else { itself };
        let is_at_home = || fs::canonicalize(&full).is_ok_and(|leads_to| homes.iter().any(|home| leads_to.starts_with(home)));
        let kind = match metadata.is_file() {
            true if !is_link || is_at_home() => Kind::File,
            true => Kind::Elsewhere,
            false => Kind::Other,
        };
        found.push(Found { path, kind, metadata });
    }
    Ok(())
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
