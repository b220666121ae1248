//! What a commit changes, as one small file says it: of each change what was there before and what is there after.
//! So it can be made any number of times, and whoever finds it sees how far it was made.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sinew_core::Fnv1a;

use super::lock::inside;
use crate::{ReadError, RecordError};

const VERSION: u32 = 3;
const LARGEST_LOG_BYTES: u64 = 16 << 20;
/// Of a larger file so much of its beginning and of its end is looked at.
const END_BYTES: u64 = 64 << 10;

/// How a file is told from what it was and will be: its length, and a digest of its beginning and its end. Files that
/// grow have their index there, or their last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stamp {
    bytes: u64,
    digest: String,
}

impl Stamp {
    /// Of the file at `path`; `None` when there is none.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(mut file) => Self::of_file(&mut file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of_file(file: &mut File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut digest = Fnv1a::default();
        let mut read = |from: u64| {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(from))?;
            file.take(END_BYTES).read_to_end(&mut bytes)?;
            digest.write(&bytes);
            Ok::<_, io::Error>(())
        };
        read(0)?;
        if length > END_BYTES {
            read(END_BYTES.max(length - END_BYTES))?;
        }
        Ok(Self { bytes: length, digest: format!("{:016x}", digest.finish()) })
    }
}

/// One change. Paths are relative to the dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Step {
    /// A staged file comes to `path`; without `before` there is nothing there yet.
    Put { path: String, staged: String, before: Option<Stamp>, after: Stamp },
    /// Bytes at an offset become others, few enough that no disk tears them.
    Patch { path: String, at: u64, before: Vec<u8>, after: Vec<u8> },
}

/// How far a change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Not,
    Yes,
    /// There is neither what was nor what will be.
    Other,
}

impl Step {
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Put { path, .. } | Self::Patch { path, .. } => path,
        }
    }

    pub(super) fn made(&self, root: &Path) -> io::Result<Made> {
        let path = root.join(self.path());
        Ok(match self {
            Self::Put { before, after, .. } => match Stamp::of(&path)? {
                Some(found) if found == *after => Made::Yes,
                found if found == *before => Made::Not,
                _ => Made::Other,
            },
            Self::Patch { at, before, after, .. } => match bytes_at(&path, *at, after.len())? {
                Some(found) if found == *after => Made::Yes,
                // Some of its bytes may be there already.
                Some(found)
                    if found.iter().zip(before.iter().zip(after)).all(|(found, (before, after))| found == before || found == after) =>
                {
                    Made::Not
                }
                _ => Made::Other,
            },
        })
    }
}

/// `count` bytes of a file from `at` on; `None` when it has not so many, or is not there.
pub(super) fn bytes_at(path: &Path, at: u64, count: usize) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.take(count as u64).read_to_end(&mut bytes)?;
    Ok((bytes.len() == count).then_some(bytes))
}

/// The changes of one commit, in the order in which they are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    version: u32,
    /// Counts the commits since the dataset was opened; staged files have it in their names.
    pub(super) generation: u64,
    pub(super) steps: Vec<Step>,
}

impl Log {
    pub(super) fn new(generation: u64, steps: Vec<Step>) -> Self {
        Self { version: VERSION, generation, steps }
    }

    /// A line of JSON and a line with its digest.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Serialising plain fields to memory cannot fail.
        written(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// The log at `path`; `None` when there is none.
    ///
    /// # Errors
    /// When it can't be read, is not whole, or names what is not in the dataset `root`.
    pub(super) fn read(root: &Path, path: &Path) -> Result<Option<Self>, RecordError> {
        let failed = |source| ReadError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => file.take(LARGEST_LOG_BYTES).read_to_string(&mut text).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error).into()),
        };
        let invalid = |what: String| RecordError::from(ReadError::Invalid { path: path.to_owned(), what });
        let damaged = || {
            invalid(
                "it is no list of changes of this version of Sinew, or damaged; without this file the dataset is as it was before them"
                    .to_owned(),
            )
        };
        let (json, rest) = text.split_once('\n').ok_or_else(damaged)?;
        if rest.trim_end() != digest(json.as_bytes()) {
            return Err(damaged());
        }
        let log: Self = serde_json::from_str(json).map_err(|source| ReadError::Json { path: path.to_owned(), source })?;
        if log.version != VERSION {
            return Err(invalid(format!("its version is {}, expected {VERSION}", log.version)));
        }
        for step in &log.steps {
            inside(root, step.path()).map_err(&invalid)?;
            match step {
                Step::Put { staged, .. } if staged.is_empty() || staged.contains(['/', '\\']) || staged.starts_with('.') => {
                    return Err(invalid(format!("{staged:?} is no name of a staged file")));
                }
                Step::Patch { before, after, .. } if before.len() != after.len() || after.len() > super::LARGEST_PATCH_BYTES => {
                    return Err(invalid(format!("it changes {} bytes to {}", before.len(), after.len())));
                }
                _ => {}
            }
        }
        Ok(Some(log))
    }

    /// How far each change was made.
    pub(super) fn made(&self, root: &Path) -> Result<Vec<Made>, RecordError> {
        let made = |step: &Step| {
            let failed = |source| RecordError::from(ReadError::Io { path: root.join(step.path()), source });
            step.made(root).map_err(failed)
        };
        self.steps.iter().map(made).collect()
    }

    /// The folders whose names change, each once, that of the last change last: what a reader goes by is put there.
    pub(super) fn folders(&self, root: &Path) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = Vec::new();
        for step in self.steps.iter().rev().filter(|step| matches!(step, Step::Put { .. })) {
            let folder = root.join(step.path()).parent().map(Path::to_owned);
            folders.extend(folder.filter(|folder| !folders.contains(folder)));
        }
        folders.reverse();
        folders
    }
}

pub(super) fn written(json: &[u8]) -> Vec<u8> {
    [json, format!("\n{}\n", digest(json)).as_bytes()].concat()
}

fn digest(bytes: &[u8]) -> String {
    let mut digest = Fnv1a::default();
    digest.write(bytes);
    format!("{:016x}", digest.finish())
}
