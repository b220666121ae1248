//! The meta folder of a result.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::ToolError;
use super::others::Others;
use crate::commit::{create_folder, io_error, write_synced};
use crate::format::json::{pretty, pretty_stats, stats_line};
use crate::format::schema::{
    DATA_PATH_21, EPISODES, EPISODES_21, EPISODES_STATS_21, FileIndex, INFO, Info, STATS, TASKS, TASKS_21, VIDEO_PATH_21,
};
use crate::format::stats::FeatureStats;
use crate::format::table::{EpisodeRecord, episodes_file, tasks_file};
use crate::{RecordError, Version};

/// The episodes table begins a new file after so many rows.
const ROWS_PER_EPISODES_FILE: usize = 1000;

pub(super) struct Meta<'a> {
    pub(super) root: &'a Path,
    pub(super) version: Version,
    /// Of the first source.
    pub(super) info: &'a Info,
    pub(super) features: &'a Map<String, Value>,
    pub(super) tasks: &'a [String],
    pub(super) records: &'a mut [EpisodeRecord],
    pub(super) video_keys: &'a [String],
    pub(super) others: &'a Others,
}

impl Meta<'_> {
    pub(super) fn write(&mut self) -> Result<(), ToolError> {
        create_folder(&self.root.join("meta"))?;
        let mut total: Vec<(String, FeatureStats)> = Vec::new();
        for record in self.records.iter() {
            for (feature, stats) in &record.stats {
                match total.iter_mut().find(|(known, _)| known == feature) {
                    Some((_, all)) => *all = all.merge(stats),
                    None => total.push((feature.clone(), stats.clone())),
                }
            }
        }
        let stats: Map<String, Value> = total.into_iter().map(|(feature, stats)| (feature, stats.to_json())).collect();
        if self.version == Version::V30 {
            self.write_tables()?;
        } else {
            self.write_lines()?;
        }
        if self.version != Version::V21 || self.others.has_stats_file {
            self.write_file(STATS, &pretty_stats(&stats))?;
        }
        // Last, since it is what makes the folder a dataset.
        self.write_file(INFO, &self.info_json())
    }

    fn write_file(&self, relative: &str, bytes: &[u8]) -> Result<(), ToolError> {
        Ok(write_synced(&self.root.join(relative), bytes)?)
    }

    fn write_tables(&mut self) -> Result<(), ToolError> {
        let failed = |relative: &str| {
            let path = self.root.join(relative);
            move |source| RecordError::Parquet { doing: "writing", path, source }
        };
        let tasks = tasks_file(self.tasks).map_err(failed(TASKS))?;
        let mut index = FileIndex::default();
        let mut tables = Vec::new();
        let mut first = 0;
        for records in self.records.chunks_mut(ROWS_PER_EPISODES_FILE) {
            records.iter_mut().for_each(|record| record.episodes_file = index);
            let relative = index.table_path(EPISODES);
            let more = self.others.columns(first, first + records.len());
            first += records.len();
            tables.push((episodes_file(records, self.video_keys, more).map_err(failed(&relative))?, relative));
            index = index.next(self.info.chunks_size);
        }
        self.write_file(TASKS, &tasks)?;
        for (bytes, relative) in tables {
            let path = self.root.join(&relative);
            if let Some(parent) = path.parent() {
                create_folder(parent)?;
            }
            self.write_file(&relative, &bytes)?;
        }
        Ok(())
    }

    fn write_lines(&self) -> Result<(), ToolError> {
        let lines = |values: &mut dyn Iterator<Item = Value>| values.map(|value| format!("{value}\n")).collect::<String>();
        let tasks = lines(&mut self.tasks.iter().enumerate().map(|(index, task)| json!({"task_index": index, "task": task})));
        let records = || self.records.iter();
        let episodes = lines(&mut records().enumerate().map(|(number, record)| {
            let line = json!({"episode_index": record.episode_index, "tasks": record.tasks, "length": record.length});
            // Serialised from a map with three keys.
            let mut line = if let Value::Object(line) = line { line } else { Map::new() };
            line.extend(self.others.line(number));
            Value::Object(line)
        }));
        self.write_file(TASKS_21, tasks.as_bytes())?;
        self.write_file(EPISODES_21, episodes.as_bytes())?;
        if self.version == Version::V21 {
            let line = |record: &EpisodeRecord| {
                let stats: Map<String, Value> = record.stats.iter().map(|(feature, stats)| (feature.clone(), stats.to_json())).collect();
                stats_line(&json!({"episode_index": record.episode_index, "stats": stats})) + "\n"
            };
            let stats: String = records().map(line).collect();
            let path = self.root.join(EPISODES_STATS_21);
            fs::write(&path, stats).map_err(io_error("writing", &path))?;
        }
        Ok(())
    }

    fn info_json(&self) -> Vec<u8> {
        let has_videos = !self.video_keys.is_empty();
        let episodes = self.records.len() as u64;
        let frames: u64 = self.records.iter().map(|record| record.length).sum();
        let (data_path, video_path) = match self.version {
            Version::V30 => (
                "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
                "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            ),
            _ => (DATA_PATH_21, VIDEO_PATH_21),
        };
        let mut splits = Map::new();
        splits.insert("train".to_owned(), format!("0:{episodes}").into());
        let info = Info {
            codebase_version: self.version.as_str().to_owned(),
            features: self.features.clone(),
            total_episodes: episodes,
            total_frames: frames,
            total_tasks: self.tasks.len() as u64,
            data_path: data_path.to_owned(),
            video_path: has_videos.then(|| video_path.to_owned()),
            splits,
            others: Map::new(),
            ..self.info.clone()
        };
        let chunks_size = info.chunks_size;
        // Serialising a struct of plain fields cannot fail.
        let mut value = serde_json::to_value(info).unwrap_or_default();
        if let Value::Object(map) = &mut value {
            if self.version != Version::V30 {
                map.shift_remove("data_files_size_in_mb");
                map.shift_remove("video_files_size_in_mb");
                map.insert("total_videos".to_owned(), (episodes * self.video_keys.len() as u64).into());
                map.insert("total_chunks".to_owned(), episodes.div_ceil(chunks_size).into());
            }
            self.others.complete_info(map);
        }
        pretty(&value)
    }
}
