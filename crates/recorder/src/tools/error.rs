use std::path::PathBuf;

use thiserror::Error;

use crate::progress::Stopped;
use crate::tools::space::Space;
use crate::{Fault, ReadError, RecordError, ViewError};

/// A tool that could not do its work. The datasets it read are as they were.
#[derive(Debug, Error)]
pub enum ToolError {
    /// What was asked for makes no dataset.
    #[error("planning to {what}: {why}")]
    Plan { what: String, why: String },
    /// The folder that should be written holds something.
    #[error("writing {}: it holds {found} already; name a folder that is empty or does not exist", root.display())]
    NotEmpty { root: PathBuf, found: String },
    /// The file that should be written is there.
    #[error("writing {}: there is {found} already; name another one", path.display())]
    Exists { path: PathBuf, found: &'static str },
    /// The result was not whole, so it was not put into place.
    #[error("checking the result for {}: {}", root.display(), list(faults))]
    Unsound { root: PathBuf, faults: Vec<Fault> },
    /// A plan can't be carried out any more.
    #[error("carrying out what was planned for {}: it has changed since ({}); plan it again", root.display(), what.join(", "))]
    Changed { root: PathBuf, what: Vec<String> },
    /// What was made after the change that should be undone would be lost.
    #[error("undoing the last change of {}: {what}, and would go", root.display())]
    Newer { root: PathBuf, what: String },
    /// There is not room for the result, so it was not begun.
    #[error("writing {}: {space}", root.display())]
    Space { root: PathBuf, space: Space },
    /// The progress callback asked to stop.
    #[error("stopped; nothing was changed")]
    Stopped,
    #[error(transparent)]
    Read(ReadError),
    #[error(transparent)]
    Write(#[from] RecordError),
    #[error(transparent)]
    View(#[from] ViewError),
}

impl From<Stopped> for ToolError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<ReadError> for ToolError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Stopped { .. } => Self::Stopped,
            error => Self::Read(error),
        }
    }
}

fn list(faults: &[Fault]) -> String {
    let shown = faults.iter().take(5).map(Fault::to_string).collect::<Vec<_>>().join("; ");
    if faults.len() > 5 { format!("{shown}; and {} more", faults.len() - 5) } else { shown }
}
