//! The episode that was being recorded when a process was killed or something failed.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::commit::{EPISODE, FOLDER, Staging, entries, io_error, is_pending};
use crate::format::card::CARD;
use crate::format::columns::Columns;
use crate::format::feature::{DatasetSchema, Feature};
use crate::format::info::read_info;
use crate::format::schema::{INFO, RIG};
use crate::write::dataset::{Dataset, FinishedEpisode, schema_of};
use crate::write::growing_video::cut_tails;
use crate::write::journal::{self, Beginning, FrameMark, JOURNAL, Journal, Record, digest};
use crate::write::lane::{Output, Target};
use crate::write::options::{Layout, RecorderOptions};
use crate::write::writer::{DatasetWriter, Totals};
use crate::{ReadError, RecordError};

/// An episode that was not finished.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unfinished {
    /// The episode that it would be.
    pub episode_index: u64,
    /// Rows all of whose images are there.
    pub rows: u64,
    pub duration_s: f64,
    /// Instruction sentences in the order in which they came up.
    pub tasks: Vec<String>,
    /// What it was begun with.
    pub note: Map<String, Json>,
}

/// What the journal says, as far as it is whole.
struct Journalled<'a> {
    rows: Vec<&'a [u8]>,
    cameras: Vec<JournalledCamera<'a>>,
}

#[derive(Default)]
struct JournalledCamera<'a> {
    entry: &'a [u8],
    frames: Vec<(FrameMark, &'a [u8])>,
}

impl<'a> Journalled<'a> {
    fn of(beginning: &Beginning, bytes: &'a [u8]) -> Self {
        let cameras = beginning.cameras.iter().map(|_| JournalledCamera::default()).collect();
        let mut found = Self { rows: Vec::new(), cameras };
        for record in journal::records(bytes) {
            match record {
                Record::Row(values) => found.rows.push(values),
                Record::Entry { camera, entry } => {
                    if let Some(camera) = found.cameras.get_mut(usize::from(camera)) {
                        camera.entry = entry;
                    }
                }
                Record::Frame { camera, frame, counts } => {
                    if let Some(camera) = found.cameras.get_mut(usize::from(camera)) {
                        camera.frames.push((frame, counts));
                    }
                }
            }
        }
        found
    }

    /// Rows all of whose images are there.
    fn rows(&self) -> usize {
        self.cameras.iter().map(|camera| camera.frames.len()).chain([self.rows.len()]).min().unwrap_or(0)
    }
}

/// A row's task, and what follows it.
fn task_of(row: &[u8]) -> Option<(&str, &[u8])> {
    let length = u32::from_le_bytes(*row.first_chunk()?) as usize;
    let (task, rest) = row.get(4..)?.split_at_checked(length)?;
    Some((std::str::from_utf8(task).ok()?, rest))
}

/// The unfinished episode of the dataset at `root`; changes nothing.
///
/// # Errors
/// When the journal, or the dataset's info.json, can't be read.
pub fn unfinished(root: &Path) -> Result<Option<Unfinished>, ReadError> {
    find(root)
}

pub(crate) fn find(root: &Path) -> Result<Option<Unfinished>, ReadError> {
    let Some((beginning, bytes)) = journal::read(root, &root.join(FOLDER).join(EPISODE))? else { return Ok(None) };
    // One that was committed before its journal could be removed.
    if is_pending(root) || beginning.episode_index != read_info(root)?.1.total_episodes {
        return Ok(None);
    }
    let found = Journalled::of(&beginning, &bytes);
    let rows = found.rows();
    let mut tasks: Vec<String> = Vec::new();
    for (task, _) in found.rows[..rows].iter().filter_map(|row| task_of(row)) {
        if !tasks.iter().any(|known| known == task) {
            tasks.push(task.to_owned());
        }
    }
    let (episode_index, note) = (beginning.episode_index, beginning.note);
    let duration_s = beginning.fps.seconds(rows as u64);
    Ok((rows > 0).then_some(Unfinished { episode_index, rows: rows as u64, duration_s, tasks, note }))
}

pub(crate) fn must_be_a_dataset(root: &Path) -> Result<(), RecordError> {
    if root.join(INFO).exists() || root.join(FOLDER).exists() {
        return Ok(());
    }
    Err(ReadError::NotADataset { root: root.to_owned() }.into())
}

/// Locks the dataset at `root`, completes or removes what a killed process left, and says whether
/// there was something, and which episode waits.
pub(crate) fn open(root: &Path) -> Result<(Staging, bool, Option<Unfinished>), RecordError> {
    let (staging, mut had_something) = Staging::open(root)?;
    had_something |= staging.episode_folder().exists();
    // Killed while the dataset was created.
    let waiting = if root.join(INFO).exists() { find(root)? } else { None };
    let mut keep = Vec::new();
    if waiting.is_some() {
        keep.extend(journal::read(root, &staging.episode_folder())?.into_iter().flat_map(|(beginning, _)| beginning.cameras));
    } else {
        staging.remove_episode()?;
    }
    cut_tails(root, &keep.into_iter().map(|(path, _)| path).collect::<Vec<_>>())?;
    Ok((staging, had_something, waiting))
}

/// Completes or removes what a killed recorder left in the dataset at `root`. `true` when there was
/// something. An unfinished episode is left as it is: see [`recover_unfinished`] and
/// [`discard_unfinished`].
///
/// # Errors
/// When `root` is no dataset, someone is recording into it, or the disk refuses.
pub fn recover(root: &Path) -> Result<bool, RecordError> {
    must_be_a_dataset(root)?;
    if !root.join(FOLDER).exists() {
        return Ok(false);
    }
    open(root).map(|(_, had_something, _)| had_something)
}

/// Removes what is in the folder of a dataset that was begun and has neither an episode nor an unfinished one: what a
/// recording leaves that failed before its first. `false` where it has one, or a file that no beginning puts there; then
/// nothing is removed.
///
/// # Errors
/// When `root` is no dataset, someone is recording into it, or the disk refuses.
pub fn remove_begun(root: &Path) -> Result<bool, RecordError> {
    must_be_a_dataset(root)?;
    let (staging, _, waiting) = open(root)?;
    let has_episodes = root.join(INFO).exists() && read_info(root)?.1.total_episodes > 0;
    if waiting.is_some() || has_episodes || !is_but_begun(root, root)? {
        return Ok(false);
    }
    staging.empty()?;
    Ok(true)
}

/// Whether there is nothing in `folder` of the dataset at `root` but what a beginning puts there.
fn is_but_begun(root: &Path, folder: &Path) -> Result<bool, RecordError> {
    for path in entries(folder)? {
        let is_fine = match path.strip_prefix(root) {
            Ok(name) if name == Path::new(FOLDER) => true,
            Ok(name) if [INFO, RIG, CARD].iter().any(|known| name == Path::new(known)) => true,
            _ => path.is_dir() && !path.is_symlink() && is_but_begun(root, &path)?,
        };
        if !is_fine {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes an episode of the unfinished one of the dataset at `root`, if it has one.
///
/// # Errors
/// When `root` is no dataset, someone is recording into it, or the disk refuses; the episode then
/// waits on.
pub fn recover_unfinished(root: &Path) -> Result<Totals, RecordError> {
    writer_of(root)?.recover_unfinished()
}

/// Removes the unfinished episode of the dataset at `root`, if it has one.
///
/// # Errors
/// When `root` is no dataset, someone is recording into it, or the disk refuses.
pub fn discard_unfinished(root: &Path) -> Result<(), RecordError> {
    writer_of(root)?.discard_unfinished()
}

/// A writer of whatever the dataset at `root` holds.
fn writer_of(root: &Path) -> Result<DatasetWriter, RecordError> {
    must_be_a_dataset(root)?;
    let (mut staging, _, waiting) = open(root)?;
    let (mut schema, layout) = schema_of(root)?;
    if let Some((beginning, _)) = journal::read(root, &staging.episode_folder())? {
        schema.side = beginning.side.iter().filter_map(|(name, feature)| Feature::of_json(name, feature)).collect();
    }
    if let Some(what) = schema.fault() {
        return Err(RecordError::Setup { what });
    }
    let options = RecorderOptions { layout, ..RecorderOptions::default() };
    let dataset = Dataset::open(root, &mut staging, &schema, &options)?;
    DatasetWriter::new(&schema, options, dataset, staging, waiting)
}

impl DatasetWriter {
    /// Where the frames of the waiting episode's camera `at` are, which were written to `path`. In the layout 2.1 an episode
    /// has a video to itself, whose name the recovered one is to have: the one that was begun makes room for it.
    fn source(&self, at: usize, path: &str) -> Result<PathBuf, RecordError> {
        let begun = self.root().join(path);
        let aside = self.staging.episode_folder().join(format!("begun-{at}.mp4"));
        if self.dataset.layout() != Layout::V21 || !path.ends_with(".mp4") || !(begun.exists() || aside.exists()) {
            return Ok(begun);
        }
        // One that is aside already was put there by a try that was killed, and `begun` is what came of that.
        if !aside.exists() {
            std::fs::rename(&begun, &aside).map_err(io_error("setting aside", &begun))?;
        } else if begun.exists() {
            std::fs::remove_file(&begun).map_err(io_error("removing", &begun))?;
        }
        Ok(aside)
    }

    /// Commits what there is of the unfinished episode; it stays where it is.
    pub(crate) fn unfinished_to_episode(&mut self) -> Result<(), RecordError> {
        let folder = self.staging.episode_folder();
        let Some((beginning, bytes)) = journal::read(self.root(), &folder)? else { return Ok(()) };
        let schema = self.schema().clone();
        for (what, found, expected) in [("features", &beginning.features, &schema.features), ("side table", &beginning.side, &schema.side)]
        {
            let expected = DatasetSchema::shapes(expected);
            if *found != expected {
                let (found, expected) = (Json::from(found.clone()).to_string(), Json::from(expected).to_string());
                let what = format!("the unfinished episode's {what}");
                return Err(RecordError::Mismatch { root: self.root().to_owned(), what, found, expected });
            }
        }
        let found = Journalled::of(&beginning, &bytes);
        let invalid = |what: String| RecordError::from(ReadError::Invalid { path: folder.join(JOURNAL), what });
        let pictures = schema.pictures();
        if pictures.len() != found.cameras.len() {
            return Err(invalid(format!("it has {} cameras, expected {}", found.cameras.len(), pictures.len())));
        }
        let sources = beginning.cameras.iter().enumerate().map(|(at, (path, _))| self.source(at, path));
        let sources = sources.collect::<Result<Vec<PathBuf>, _>>()?;
        let mut rows = found.rows();
        for ((camera, (_, start)), source) in found.cameras.iter().zip(&beginning.cameras).zip(&sources) {
            rows = whole_frames(source, *start, &camera.frames[..rows])?;
        }

        // What the frames are copied with has a journal too, for the statistics alone.
        let copying = Arc::new(Journal::in_file(self.staging.stage()?, &beginning)?);
        self.forget_videos()?;
        let mut ends = Vec::new();
        for (at, (picture, camera)) in pictures.iter().zip(&found.cameras).enumerate() {
            let target = if picture.is_video() { Target::Video(self.video(at, picture)?) } else { Target::Stills(self.staging.stage()?) };
            let mut output = Output::new(at as u16, copying.clone(), target);
            let mut frames = frames_of(&sources[at], beginning.cameras[at].1)?;
            for (frame, counts) in &camera.frames[..rows] {
                output.frame(camera.entry, &frames(frame.size)?, frame.is_key, counts)?;
            }
            ends.push(output.close(picture)?);
        }

        let (mut columns, mut side) = (Columns::new(&schema.features), Columns::new(&schema.side));
        let (mut tasks, mut task_of_row): (Vec<String>, Vec<u32>) = (Vec::new(), Vec::new());
        for (number, row) in found.rows[..rows].iter().enumerate() {
            let unreadable = || invalid(format!("row {number} can't be read"));
            let (task, mut rest) = task_of(row).ok_or_else(unreadable)?;
            columns.push(&mut rest).and_then(|()| side.push(&mut rest)).ok_or_else(unreadable)?;
            let known = tasks.iter().position(|known| known == task);
            task_of_row.push(known.unwrap_or(tasks.len()) as u32);
            if known.is_none() {
                tasks.push(task.to_owned());
            }
        }
        let mut note = beginning.note.clone();
        note.insert("recovered".to_owned(), json!(true));
        self.commit(FinishedEpisode { columns, side, tasks, task_of_row, cameras: Vec::new(), note }, ends)
    }
}

/// Reads the frames that lie one after another from `start` on, by their sizes.
fn frames_of(path: &Path, start: u64) -> Result<impl FnMut(u32) -> Result<Vec<u8>, RecordError> + use<>, RecordError> {
    let mut file = BufReader::new(File::open(path).map_err(io_error("reading", path))?);
    file.seek(SeekFrom::Start(start)).map_err(io_error("reading", path))?;
    let path = path.to_owned();
    Ok(move |size: u32| {
        let mut bytes = Vec::new();
        let read = (&mut file).take(u64::from(size)).read_to_end(&mut bytes).map_err(io_error("reading", &path))?;
        if read < size as usize {
            let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(io_error("reading", &path)(ended));
        }
        Ok(bytes)
    })
}

/// How many of `frames` are in the file as they were written, from the first on.
fn whole_frames(path: &Path, start: u64, frames: &[(FrameMark, &[u8])]) -> Result<usize, RecordError> {
    let mut read = frames_of(path, start)?;
    // What can't be read was not written.
    Ok(frames.iter().take_while(|(frame, _)| read(frame.size).is_ok_and(|bytes| digest(&bytes) == frame.digest)).count())
}
