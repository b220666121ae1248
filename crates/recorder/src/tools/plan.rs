//! What an operation would do, before anything is done.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::ToolError;
use super::assembly::Assembly;
use super::output::{Output, Scratch, build_folder, build_in_place};
use crate::progress::Progress;
use crate::{DatasetReader, Version};

/// What an operation would make of which datasets. It can be printed, serialised, and [run](Plan::run).
#[derive(Clone, Serialize)]
pub struct Plan {
    /// Such as "delete 2 episodes".
    pub operation: String,
    pub sources: Vec<PathBuf>,
    /// One, but for a split.
    pub results: Vec<PlannedResult>,
    /// What else changes.
    pub changes: Vec<String>,
    /// Holds what was recovered, until the plan is dropped.
    #[serde(skip)]
    pub(super) scratch: Option<Arc<Scratch>>,
}

/// A dataset that would be made.
#[derive(Clone, Serialize)]
pub struct PlannedResult {
    /// The folder below the output that it goes to; empty when there is one result only.
    pub name: String,
    pub version: Version,
    pub episodes: u64,
    pub frames: u64,
    pub tasks: Vec<String>,
    pub features: Vec<String>,
    #[serde(skip)]
    pub(super) assembly: Assembly,
}

impl PlannedResult {
    /// Where it goes when the output is the folder `output`.
    pub(super) fn folder_in(&self, output: &Path) -> PathBuf {
        if self.name.is_empty() { output.to_owned() } else { output.join(&self.name) }
    }
}

impl Plan {
    pub(super) fn new(operation: String, changes: Vec<String>, results: Vec<(String, Assembly)>) -> Result<Self, ToolError> {
        let mut sources: Vec<PathBuf> = Vec::new();
        for source in results.iter().flat_map(|(_, assembly)| &assembly.sources) {
            if !sources.iter().any(|known| known == source.root()) {
                sources.push(source.root().to_owned());
            }
        }
        let results = results.into_iter().map(|(name, assembly)| PlannedResult {
            name,
            version: assembly.version,
            episodes: assembly.parts.len() as u64,
            frames: assembly.frames(),
            tasks: assembly.tasks(),
            features: assembly.features.keys().cloned().collect(),
            assembly,
        });
        let results: Vec<PlannedResult> = results.collect();
        if results.is_empty() || results.iter().any(|result| result.episodes == 0) {
            return Err(ToolError::Plan { what: operation, why: "a dataset without episodes would result".to_owned() });
        }
        Ok(Self { operation, sources, results, changes, scratch: None })
    }

    /// Does it. The results are built beside their place, checked like [`verify`](crate::verify) does, and
    /// put into place at once, all of them; on an error, or when `progress` says stop, nothing has
    /// changed there.
    /// Returns the folders of the results.
    ///
    /// # Errors
    /// When a source can't be read, a result would not be whole, the output holds something already,
    /// or the disk refuses.
    pub fn run(&self, output: &Output, progress: &mut Progress<'_>) -> Result<Vec<PathBuf>, ToolError> {
        let single = self.results.len() == 1 && self.results[0].name.is_empty();
        match output {
            Output::InPlace if !single || self.sources.len() > 1 => {
                let why = "it makes another dataset and needs a folder for it".to_owned();
                Err(ToolError::Plan { what: self.operation.clone(), why })
            }
            Output::InPlace => {
                let root = &self.sources[0];
                build_in_place(root, &self.results[0], progress)?;
                Ok(vec![root.clone()])
            }
            Output::Folder(folder) => {
                build_folder(folder, &self.results, progress)?;
                Ok(self.results.iter().map(|result| result.folder_in(folder)).collect())
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.operation)?;
        for source in &self.sources {
            writeln!(f, "  from {}", source.display())?;
        }
        for change in &self.changes {
            // A name in it makes no line of its own.
            writeln!(f, "  {}", change.replace('\n', "\\n"))?;
        }
        for result in &self.results {
            let name = if result.name.is_empty() { String::new() } else { format!("{}: ", result.name) };
            let PlannedResult { version, episodes, frames, tasks, .. } = result;
            let plural = |n: u64, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
            let counted = [plural(*episodes, "episode"), plural(*frames, "frame"), plural(tasks.len() as u64, "task")].join(", ");
            writeln!(f, "  result: {name}{counted}, format {version}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}

pub(super) fn open(root: &Path) -> Result<Arc<DatasetReader>, ToolError> {
    Ok(Arc::new(DatasetReader::open(root)?))
}
