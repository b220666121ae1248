//! What is in a dataset that is not the format's: files, keys and columns of other programs and of the user.
//! They are kept, numbered anew where that is understood, and what can't be kept is said before.

mod columns;
mod files;
mod numbers;

use std::path::Path;

use arrow::array::ArrayRef;
use serde_json::{Map, Value};

use self::columns::EpisodeColumn;
use self::files::OtherFile;
use self::numbers::Numbers;
use super::ToolError;
use super::assembly::Assembly;
use super::keep::Sharing;
use super::side::keeps_rows;
use crate::commit::{create_folder, write_synced};
use crate::format::info::parquet_files;
use crate::format::input::{self, LARGEST_TEXT};
use crate::format::json::read_json;
use crate::format::parquet_read::footer;
use crate::format::schema::{DATA, INFO, RIG, STATS, TASKS, TICKS};
use crate::format::stats::KEYS;
use crate::format::tasks::Tasks;
use crate::tools::verify::TASKS_OUT_OF_ORDER;
use crate::{ReadError, Version};

/// What goes with a result.
#[derive(Clone, Default)]
pub(crate) struct Others {
    /// Words of tasks that rows name beside their own.
    pub(super) tasks: Vec<String>,
    /// Whether Sinew's rows beside the tables go with it.
    pub(super) keeps_ticks: bool,
    /// Whether statistics are kept in the file of the other versions as well.
    pub(super) has_stats_file: bool,
    /// Keys of info.json.
    info: Map<String, Value>,
    columns: Vec<EpisodeColumn>,
    files: Vec<OtherFile>,
    numbers: Numbers,
}

const SPLITS: &str = "splits";

impl Others {
    /// What is beside the format in the sources of `assembly`; `notes` are told what can't be kept.
    pub(super) fn of(assembly: &Assembly, notes: &mut Vec<String>) -> Result<Self, ToolError> {
        let sources = &assembly.sources;
        let numbers = Numbers::of(assembly, notes)?;
        let has_ticks = sources.iter().any(|source| source.root().join(TICKS).exists());
        let keeps_ticks = has_ticks && keeps_rows(assembly).unwrap_or(false);
        let others = Self {
            tasks: numbers.tasks(),
            keeps_ticks,
            has_stats_file: sources.iter().all(|source| source.version() != Version::V30 && source.root().join(STATS).exists()),
            info: info_keys(assembly, notes),
            columns: columns::of(assembly, notes),
            files: files::of(assembly, &numbers, notes)?,
            numbers,
        };
        if has_ticks && !keeps_ticks {
            notes.push(match sources.len() {
                1 => format!("{TICKS} is left out: it has not a row for every row, or can't be read"),
                _ => format!("{TICKS} is left out: not every dataset has it in the same columns"),
            });
        }
        undeclared_columns(assembly, notes);
        assembly.sources.iter().try_for_each(|source| more_than_the_format(source, notes))?;
        Ok(others)
    }

    /// Puts into the result's info.json what others keep there.
    pub(super) fn complete_info(&self, info: &mut Map<String, Value>) {
        info.extend(self.info.clone());
    }

    /// The columns of the episodes table for episodes `first` to `end`, and what they hold.
    pub(super) fn columns(&self, first: usize, end: usize) -> Vec<(String, ArrayRef)> {
        self.columns.iter().filter_map(|column| column.rows(first, end)).collect()
    }

    /// The same of one episode as keys of its line.
    pub(super) fn line(&self, episode: usize) -> impl Iterator<Item = (String, Value)> {
        self.columns.iter().filter_map(move |column| column.value(episode))
    }

    /// A column of a source's rows with numbers that are right in the result.
    pub(super) fn renumbered(
        &self,
        assembly: &Assembly,
        source: usize,
        key: &str,
        column: ArrayRef,
        tasks: &mut Vec<String>,
    ) -> Result<ArrayRef, ToolError> {
        self.numbers.renumbered(assembly, source, key, column, tasks)
    }

    /// Writes the files into the result's folder `root`.
    pub(super) fn write(&self, assembly: &Assembly, root: &Path, sharing: Sharing) -> Result<(), ToolError> {
        create_folder(&root.join("meta"))?;
        for file in &self.files {
            file.write(assembly, root, sharing)?;
        }
        self.numbers.write(root)?;
        // What the rig was, if it was the same throughout.
        let rigs: Vec<Option<Vec<u8>>> =
            assembly.sources.iter().map(|source| input::read(&source.root().join(RIG), LARGEST_TEXT).ok()).collect();
        if let Some(Some(rig)) = rigs.first().filter(|first| rigs.iter().all(|rig| rig == *first)) {
            write_synced(&root.join(RIG), rig)?;
        }
        Ok(())
    }
}

/// The names of two datasets that are not the same in something.
fn between(assembly: &Assembly, one: usize, other: usize) -> String {
    format!("{} and {}", assembly.sources[one].root().display(), assembly.sources[other].root().display())
}

/// Keys of info.json that others made, as far as all sources agree, and the splits of the result.
fn info_keys(assembly: &Assembly, notes: &mut Vec<String>) -> Map<String, Value> {
    let all: Vec<&Map<String, Value>> = assembly.sources.iter().map(|source| &source.info().others).collect();
    let mut kept = Map::new();
    for (number, keys) in all.iter().enumerate() {
        for (key, value) in *keys {
            if all[..number].iter().any(|before| before.contains_key(key)) {
                continue;
            }
            match all.iter().position(|other| other.get(key) != Some(value)) {
                None => drop(kept.insert(key.clone(), value.clone())),
                Some(other) => {
                    notes.push(format!("{key} of {INFO} is left out: it is not the same in {}", between(assembly, number, other)));
                }
            }
        }
    }
    let splits = assembly.sources.first().map(|source| &source.info().splits).filter(|splits| splits.keys().any(|name| name != "train"));
    let in_order = assembly.sources.len() == 1 && assembly.parts.is_sorted_by(|one, other| one.episode < other.episode);
    match splits {
        Some(splits) if in_order => {
            let before = |episode: u64| assembly.parts.iter().filter(|part| part.episode < episode).count();
            let mut moved = Map::new();
            for (name, range) in splits {
                let range = range.as_str().and_then(|range| range.split_once(':'));
                let range = range.and_then(|(first, end)| Some((before(first.parse().ok()?), before(end.parse().ok()?))));
                match range {
                    Some((first, end)) if first < end => drop(moved.insert(name.clone(), format!("{first}:{end}").into())),
                    _ => notes.push(format!("the split {name} is left out: none of its episodes stays, or it is no range")),
                }
            }
            kept.insert(SPLITS.to_owned(), Value::Object(moved));
        }
        Some(splits) => {
            let names = splits.keys().cloned().collect::<Vec<_>>().join(", ");
            notes.push(format!("the splits {names} of {INFO} are left out: the episodes do not stay in their order"));
        }
        None => {}
    }
    kept
}

/// What the tables of tasks and statistics hold beside what the format has there, and what is only in the wrong order.
fn more_than_the_format(source: &super::state::Origin, notes: &mut Vec<String>) -> Result<(), ReadError> {
    if source.version() == Version::V30 && source.root().join(TASKS).exists() {
        let (_, footer) = footer(&source.root().join(TASKS))?;
        let names = footer.schema().fields().iter().map(|field| field.name().as_str());
        let more = names.filter(|name| !["task_index", "task"].contains(name) && !name.starts_with("__index_level"));
        // A table may call its sentences otherwise.
        let has_task = footer.schema().field_with_name("task").is_ok();
        notes.extend(more.filter(|_| has_task).map(|name| format!("the column {name} of {TASKS} is left out")));
        if !Tasks::is_in_order(source.root())? {
            notes.push(format!("{TASKS}: {TASKS_OUT_OF_ORDER}"));
        }
    }
    let stats = source.root().join(STATS);
    let stats = if stats.exists() { read_json(&stats)? } else { Value::Null };
    for (feature, values) in stats.as_object().into_iter().flatten() {
        let keys = values.as_object().into_iter().flat_map(Map::keys).filter(|key| !KEYS.contains(&key.as_str()));
        match source.features().contains_key(feature) {
            true => notes.extend(keys.map(|key| format!("{key} of {feature} in {STATS} is left out"))),
            false => notes.push(format!("{feature} in {STATS} is left out: it is no feature")),
        }
    }
    Ok(())
}

/// Columns of rows that info.json does not declare can't go with them. A few files tell.
fn undeclared_columns(assembly: &Assembly, notes: &mut Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    for source in &assembly.sources {
        for path in parquet_files(&source.root().join(DATA)).unwrap_or_default().iter().take(8) {
            let Ok((_, footer)) = footer(path) else { continue };
            for field in footer.schema().fields() {
                if !source.features().contains_key(field.name()) && !names.contains(field.name()) {
                    names.push(field.name().clone());
                }
            }
        }
    }
    notes.extend(names.into_iter().map(|name| format!("the column {name} of the rows is left out: {INFO} does not declare it")));
}
