//! What an operation would do, before anything is done.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::ToolError;
use super::assembly::Assembly;
use super::exchange::{is_within, resolved};
use super::keep::{Sharing, free_bytes};
use super::others::Others;
use super::output::{Output, Scratch, build_folder, build_in_place, must_be_replaceable, must_take};
use super::space::{self, Space};
use super::state::Origin;
use super::videos::between_key_frames;
use crate::Version;
use crate::progress::Progress;

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
    pub(super) fn new(operation: String, mut changes: Vec<String>, mut results: Vec<(String, Assembly)>) -> Result<Self, ToolError> {
        for (name, assembly) in results.iter_mut().filter(|(_, assembly)| !assembly.parts.is_empty()) {
            let mut notes = Vec::new();
            assembly.others = Others::of(assembly, &mut notes)?;
            let encoded = between_key_frames(assembly).map_err(|why| ToolError::Plan { what: operation.clone(), why })?;
            notes.extend(encoded.into_iter().map(|(key, (parts, encoder))| {
                format!(
                    "{key}: {parts} of {} episodes begin or end between key frames and are encoded anew by {encoder}",
                    assembly.parts.len()
                )
            }));
            let prefix = if name.is_empty() { String::new() } else { format!("{name}: ") };
            changes.extend(notes.into_iter().map(|note| format!("{prefix}{note}")));
        }
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

    /// About how much room the results take at `output`.
    ///
    /// # Errors
    /// When a source's files can't be listed.
    pub fn space(&self, output: &Output) -> Result<Space, ToolError> {
        let (folder, in_place) = match output {
            Output::InPlace => (self.sources[0].as_path(), true),
            Output::Folder(folder) => (folder.as_path(), false),
        };
        let mut needed_bytes = 0;
        for result in &self.results {
            needed_bytes += space::needed_bytes(&result.assembly, Sharing::expected(folder, in_place))?;
        }
        let exists = folder.ancestors().find(|folder| folder.exists());
        Ok(Space { needed_bytes, free_bytes: free_bytes(exists.unwrap_or(Path::new("."))) })
    }

    /// Whether the results can go to `output`, as far as that can be told before; [`Self::run`] asks that first.
    ///
    /// # Errors
    /// Why they can't.
    pub fn check(&self, output: &Output) -> Result<(), ToolError> {
        let single = self.results.len() == 1 && self.results[0].name.is_empty();
        match output {
            Output::InPlace if !single || self.sources.len() > 1 => {
                let why = "it makes another dataset and needs a folder for it".to_owned();
                Err(ToolError::Plan { what: self.operation.clone(), why })
            }
            Output::InPlace => must_be_replaceable(&resolved(&self.sources[0])?),
            Output::Folder(folder) => must_take(folder, &self.results),
        }
    }

    /// Does it. The results are built beside their place, checked like [`verify`](crate::verify) does, and
    /// put into place at once, all of them; on an error, or when `progress` says stop, nothing has
    /// changed there.
    /// Returns the folders of the results.
    ///
    /// # Errors
    /// When a source can't be read or has changed since the plan was made ([`ToolError::Changed`]), a result would not be whole, the output holds something already,
    /// or the disk refuses.
    pub fn run(&self, output: &Output, progress: &mut Progress<'_>) -> Result<Vec<PathBuf>, ToolError> {
        self.check(output)?;
        match output {
            Output::InPlace => {
                let source = &self.sources[0];
                let root = resolved(source)?;
                // Whoever is in it is in what is kept afterwards, and so is every name that begins there.
                let is_in_it = env::current_dir().is_ok_and(|folder| is_within(&folder, &root));
                build_in_place(&self.operation, &self.results[0], progress)?;
                Ok(vec![if is_in_it { root } else { source.clone() }])
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

pub(super) fn open(root: &Path) -> Result<Origin, ToolError> {
    // One that a killed process left without its name gets it back.
    if !root.exists() {
        resolved(root)?;
    }
    Ok(Origin::open(root)?)
}
