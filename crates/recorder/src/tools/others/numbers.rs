//! Columns of rows whose values are numbers of words in another table: annotations of tasks, and subtasks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::Value;

use crate::format::arrays::{integers, strings};
use crate::format::cast::cast;
use crate::format::parquet_read::{read_parquet, read_whole};
use crate::tools::ToolError;
use crate::tools::assembly::{Assembly, place};
use crate::tools::columns::int64;
use crate::tools::rows::{close, table_writer};
use crate::tools::state::Origin;
use crate::{ReadError, RecordError};

/// The words of subtasks, by number.
pub(super) const SUBTASKS: &str = "meta/subtasks.parquet";
/// The column of their numbers.
const SUBTASK: &str = "subtask_index";
/// What the columns are called whose numbers are those of tasks, as GR00T has them.
const ANNOTATION: &str = "annotation.";

#[derive(Clone, Default)]
pub(super) struct Numbers {
    /// Columns with numbers of tasks.
    annotations: Vec<String>,
    /// What they say in the episodes of the result.
    tasks: Vec<String>,
    /// The subtasks of all sources, and of each source the new numbers.
    subtasks: Option<(Vec<String>, Vec<Vec<u64>>)>,
}

impl Numbers {
    pub(super) fn of(assembly: &Assembly, notes: &mut Vec<String>) -> Result<Self, ToolError> {
        let mut numbers = Self { subtasks: subtasks(assembly, notes)?, ..Self::default() };
        let is_number = |feature: &Value| feature["dtype"].as_str().is_some_and(|dtype| dtype.contains("int"));
        let is_one = |feature: &Value| feature["shape"].as_array().is_none_or(|shape| shape.iter().all(|size| *size == 1));
        let found = assembly.features.iter().filter(|(key, feature)| key.starts_with(ANNOTATION) && is_number(feature) && is_one(feature));
        let keys: Vec<&String> = found.map(|(key, _)| key).collect();
        // Where no task changes its number, nothing has to be known.
        if keys.is_empty() || (assembly.renumbers_nothing() && assembly.renamed_tasks.is_empty()) {
            return Ok(numbers);
        }
        for key in keys {
            match named_tasks(assembly, key)? {
                Some(tasks) => {
                    for task in &tasks {
                        place(task, &mut numbers.tasks);
                    }
                    numbers.annotations.push(key.clone());
                }
                None => notes.push(format!("{key} is kept as it is: its values are not all numbers of tasks")),
            }
        }
        Ok(numbers)
    }

    /// Tasks that the result needs beside those of its rows.
    pub(super) fn tasks(&self) -> Vec<String> {
        self.tasks.clone()
    }

    /// Whether the file at `path` is made anew.
    pub(super) fn writes(&self, path: &Path) -> bool {
        self.subtasks.is_some() && path == Path::new(SUBTASKS)
    }

    pub(super) fn renumbered(
        &self,
        assembly: &Assembly,
        source: usize,
        key: &str,
        column: ArrayRef,
        tasks: &mut Vec<String>,
    ) -> Result<ArrayRef, ToolError> {
        let reader = &assembly.sources[source];
        let invalid = |what: String| ReadError::Invalid { path: reader.root().to_owned(), what: format!("the column {key}: {what}") };
        let new_number = |old: u64, tasks: &mut Vec<String>| -> Result<u64, ReadError> {
            if self.annotations.iter().any(|annotation| annotation == key) {
                return Ok(place(assembly.renamed(reader.task_of(old)?), tasks));
            }
            let of_source = self.subtasks.as_ref().and_then(|(_, numbers)| numbers[source].get(old as usize));
            of_source.copied().ok_or_else(|| invalid(format!("there is no subtask {old}")))
        };
        let is_subtask = key == SUBTASK && self.subtasks.is_some();
        if !is_subtask && !self.annotations.iter().any(|annotation| annotation == key) {
            return Ok(column);
        }
        let old = cast(&column, &DataType::Int64).filter(|values| values.null_count() == 0);
        let old = old.and_then(|old| batch_of(key, old)).and_then(|batch| integers(&batch, key));
        let old = old.ok_or_else(|| invalid("it holds no whole numbers".to_owned()))?;
        let new: Vec<u64> = old.into_iter().map(|old| new_number(old, tasks)).collect::<Result<_, _>>()?;
        cast(&int64(new), column.data_type()).ok_or_else(|| invalid("its type is too small for the new numbers".to_owned()).into())
    }

    /// Writes the table of subtasks, where it is made anew, into the result's folder `root`.
    pub(super) fn write(&self, root: &Path) -> Result<(), ToolError> {
        let Some((words, _)) = &self.subtasks else { return Ok(()) };
        let path = root.join(SUBTASKS);
        let columns: [(&str, ArrayRef); 2] =
            [(SUBTASK, int64(0..words.len() as u64)), ("subtask", Arc::new(StringArray::from_iter_values(words)))];
        let fields: Vec<Field> = columns.iter().map(|(name, values)| Field::new(*name, values.data_type().clone(), true)).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, values)| values).collect());
        let failed = |source| RecordError::Parquet { doing: "writing", path: path.clone(), source };
        let batch = batch.map_err(|error| failed(error.into()))?;
        let mut writer = table_writer(&path, &batch)?;
        writer.write(&batch).map_err(failed)?;
        close(&path, writer)
    }
}

fn batch_of(name: &str, column: ArrayRef) -> Option<RecordBatch> {
    let schema = Schema::new(vec![Field::new(name, column.data_type().clone(), true)]);
    RecordBatch::try_new(Arc::new(schema), vec![column]).ok()
}

/// The tasks that the column `key` names in the parts of `assembly`; `None` where a value is no task's
/// number.
fn named_tasks(assembly: &Assembly, key: &str) -> Result<Option<Vec<String>>, ReadError> {
    let mut tasks = Vec::new();
    for (number, source) in assembly.sources.iter().enumerate() {
        let parts: BTreeSet<u64> = assembly.parts.iter().filter(|part| part.source == number).map(|part| part.episode).collect();
        let episodes = parts.iter().filter_map(|episode| source.episodes().get(*episode as usize));
        let wanted: BTreeSet<u64> = episodes.clone().map(|episode| episode.episode_index).collect();
        let paths: BTreeSet<&str> = episodes.map(|episode| episode.data_path.as_str()).collect();
        for path in paths {
            for batch in read_parquet(&source.root().join(path), &[key, "episode_index"])? {
                let (Some(values), Some(of)) = (integers(&batch, key), integers(&batch, "episode_index")) else {
                    return Ok(None);
                };
                for value in values.into_iter().zip(of).filter(|(_, episode)| wanted.contains(episode)).map(|(value, _)| value) {
                    let Some(task) = source.tasks().get(value as usize) else { return Ok(None) };
                    place(assembly.renamed(task), &mut tasks);
                }
            }
        }
    }
    Ok(Some(tasks))
}

/// The subtasks of several sources as one list, where they are not the same.
fn subtasks(assembly: &Assembly, notes: &mut Vec<String>) -> Result<Option<(Vec<String>, Vec<Vec<u64>>)>, ToolError> {
    if assembly.sources.len() < 2 || !assembly.features.contains_key(SUBTASK) {
        return Ok(None);
    }
    let lists: Vec<Option<Vec<String>>> = assembly.sources.iter().map(subtasks_of).collect::<Result<_, _>>()?;
    if lists.iter().all(|list| *list == lists[0]) {
        return Ok(None);
    }
    let (mut words, mut numbers) = (Vec::new(), Vec::new());
    for (source, list) in assembly.sources.iter().zip(lists) {
        let what = || format!("join the subtasks of {} datasets", assembly.sources.len());
        let why = || format!("{} has no {SUBTASKS} that can be read, but numbers of subtasks", source.root().display());
        let list = list.ok_or_else(|| ToolError::Plan { what: what(), why: why() })?;
        numbers.push(list.iter().map(|word| place(word, &mut words)).collect());
    }
    notes.push(format!("{SUBTASKS}: the lists become one of {} subtasks, which rows are numbered by anew", words.len()));
    Ok(Some((words, numbers)))
}

/// The words of a source's subtasks by number; `None` where there are none in a form that is known.
fn subtasks_of(source: &Origin) -> Result<Option<Vec<String>>, ReadError> {
    let path = source.root().join(SUBTASKS);
    if !path.exists() {
        return Ok(None);
    }
    let mut words: Vec<Option<String>> = Vec::new();
    for batch in read_whole(&path)? {
        let names = batch.column_by_name("subtask").or_else(|| batch.column_by_name("__index_level_0__"));
        let (Some(numbers), Some(names)) = (integers(&batch, SUBTASK), names.and_then(strings)) else { return Ok(None) };
        for (number, name) in numbers.into_iter().zip(names) {
            let number = number as usize;
            // A number is not larger than rows of a table can be many.
            if number >= 1 << 20 {
                return Ok(None);
            }
            if words.len() <= number {
                words.resize(number + 1, None);
            }
            words[number] = Some(name);
        }
    }
    Ok(words.into_iter().collect())
}
