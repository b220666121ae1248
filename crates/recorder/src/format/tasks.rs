//! The instruction sentences of a dataset.

use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use serde::Deserialize;

use crate::ReadError;
use crate::format::arrays::{integers, strings};
use crate::format::json;
use crate::format::parquet_read::read_whole;
use crate::format::schema::{TASKS, TASKS_21};

/// Sentences by `task_index`: mostly from 0 on without a gap, but programs that drop tasks leave some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tasks {
    /// Rising, none twice.
    indices: Vec<u64>,
    words: Vec<String>,
}

impl Tasks {
    /// Version 3.0's table in the dataset at `root`; rows may be in any order.
    ///
    /// # Errors
    /// When it can't be read, or two rows disagree.
    pub(crate) fn read(root: &Path) -> Result<Self, ReadError> {
        let path = root.join(TASKS);
        if !path.exists() {
            return Ok(Self::default());
        }
        let invalid = |what: &str| ReadError::Invalid { path: path.clone(), what: what.to_owned() };
        let mut tasks = Vec::new();
        for batch in read_whole(&path)? {
            let indices = integers(&batch, "task_index").ok_or_else(|| invalid("there is no column task_index of whole numbers"))?;
            let words = words(&batch).ok_or_else(|| invalid("there is no column task of strings"))?;
            tasks.extend(indices.into_iter().zip(words));
        }
        Self::of(tasks).map_err(|what| invalid(&what))
    }

    /// Whether row i of version 3.0's table is task i.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn is_in_order(root: &Path) -> Result<bool, ReadError> {
        let path = root.join(TASKS);
        let mut next = 0;
        for batch in if path.exists() { read_whole(&path)? } else { Vec::new() } {
            let indices = integers(&batch, "task_index").unwrap_or_default();
            if !indices.iter().zip(next..).all(|(index, row)| *index == row) {
                return Ok(false);
            }
            next += indices.len() as u64;
        }
        Ok(true)
    }

    /// The older versions' table in the dataset at `root`; lines may be in any order.
    ///
    /// # Errors
    /// When it can't be read, or two lines disagree.
    pub(crate) fn read_lines(root: &Path) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Line {
            task_index: u64,
            task: String,
        }
        let path = root.join(TASKS_21);
        if !path.exists() {
            return Ok(Self::default());
        }
        let lines: Vec<Line> = json::read_lines(&path)?;
        let tasks = lines.into_iter().map(|line| (line.task_index, line.task));
        Self::of(tasks.collect()).map_err(|what| ReadError::Invalid { path, what })
    }

    fn of(mut tasks: Vec<(u64, String)>) -> Result<Self, String> {
        tasks.sort();
        tasks.dedup();
        match tasks.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(format!("task_index {} is both {:?} and {:?}", pair[0].0, pair[0].1, pair[1].1)),
            None => Ok(tasks.into_iter().unzip::<_, _, Vec<_>, Vec<_>>().into()),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// In `task_index` order.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    pub(crate) fn into_words(self) -> Vec<String> {
        self.words
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &str)> {
        self.indices.iter().copied().zip(self.words.iter().map(String::as_str))
    }

    pub(crate) fn get(&self, index: u64) -> Option<&str> {
        let at = self.indices.binary_search(&index).ok()?;
        self.words.get(at).map(String::as_str)
    }

    /// The index of a sentence, which may be a new one.
    pub(crate) fn index_of(&mut self, task: &str) -> u64 {
        if let Some(at) = self.words.iter().position(|known| known == task) {
            return self.indices[at];
        }
        let index = self.next_index();
        self.indices.push(index);
        self.words.push(task.to_owned());
        index
    }

    /// The least that is above all.
    pub(crate) fn next_index(&self) -> u64 {
        self.indices.last().map_or(0, |last| last.saturating_add(1))
    }
}

impl From<(Vec<u64>, Vec<String>)> for Tasks {
    fn from((indices, words): (Vec<u64>, Vec<String>)) -> Self {
        Self { indices, words }
    }
}

impl From<Vec<String>> for Tasks {
    /// From 0 on.
    fn from(words: Vec<String>) -> Self {
        Self { indices: (0..words.len() as u64).collect(), words }
    }
}

/// The column of sentences, which is pandas' index: some call it otherwise, but there is no other of text.
fn words(batch: &RecordBatch) -> Option<Vec<String>> {
    let schema = batch.schema();
    let of_text = || schema.fields().iter().position(|field| *field.data_type() == DataType::Utf8);
    let named = batch.column_by_name("task").and_then(strings);
    named.or_else(|| strings(batch.column(of_text()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_told_by_their_index() {
        let pair = |index, word: &str| (index, word.to_owned());
        let mut tasks = Tasks::of(vec![pair(3, "push"), pair(0, "pick"), pair(3, "push")]).unwrap();
        assert_eq!((tasks.get(0), tasks.get(1), tasks.get(3)), (Some("pick"), None, Some("push")));
        assert_eq!((tasks.index_of("push"), tasks.index_of("wait"), tasks.len()), (3, 4, 3));
        assert_eq!(tasks.words(), ["pick", "push", "wait"]);
        assert!(Tasks::of(vec![pair(1, "a"), pair(1, "b")]).unwrap_err().contains("task_index 1 is both \"a\" and \"b\""));
    }
}
