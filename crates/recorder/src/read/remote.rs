//! A dataset whose files come when they are needed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::DatasetReader;
use crate::ReadError;
use crate::format::info::read_info;
use crate::format::input::{Input, RandomAccess};
use crate::format::layout::{Episode, Version};
use crate::format::schema::{EPISODES, EPISODES_21, EPISODES_STATS_21, FileIndex, INFO, STATS, TASKS, TASKS_21};
use crate::media::video_reader::VideoReader;

/// Brings files of a dataset to its folder, such as from the Hub.
pub trait Fetch: Send + Sync {
    /// Sees to it that the file `relative`, a path with `/`, is in the folder. `false` when the dataset has
    /// no such file.
    ///
    /// # Errors
    /// When the file can't be had.
    fn fetch(&self, relative: &str) -> Result<bool, Box<dyn Error + Send + Sync>>;

    /// The file `relative`, to read parts of it. `None` when it is to be fetched whole: because it is small, or here
    /// already, or parts of it are not to be had. Asked for it again, it answers without delay.
    ///
    /// # Errors
    /// When it can't be found out where the file is.
    fn open(&self, _relative: &str) -> Result<Option<Arc<dyn RandomAccess>>, Box<dyn Error + Send + Sync>> {
        Ok(None)
    }
}

/// A dataset that lies elsewhere.
pub(super) struct Remote {
    pub(super) fetch: Box<dyn Fetch>,
    /// What the last video was like: whether its index comes before its frames.
    index_first: AtomicBool,
    index_last: AtomicBool,
}

/// A footer has some so many bytes for each column of a row group, and for each column whatever the groups.
const FOOTER_BYTES_A_COLUMN: u64 = 160;
/// The index of a video has some so many bytes for each frame, and some for everything else.
const INDEX_BYTES_A_FRAME: u64 = 8;
const INDEX_BYTES: u64 = 20 << 10;
/// An index whose place is not known is looked for with no more than this.
const MOST_GUESSED_BYTES: u64 = 1 << 20;

impl DatasetReader {
    /// Opens a dataset of which the folder `root` may hold a part only: `fetch` brings the tables about
    /// episodes now, rows and videos when they are read.
    ///
    /// # Errors
    /// As [`DatasetReader::open`], and when a file can't be had.
    pub fn open_fetching(root: &Path, fetch: Box<dyn Fetch>) -> Result<Self, ReadError> {
        let get = |relative: &str| get(&*fetch, root, relative);
        get(INFO)?;
        let (version, info) = read_info(root)?;
        get(STATS)?;
        match version {
            Version::V20 | Version::V21 => {
                for file in [TASKS_21, EPISODES_21, EPISODES_STATS_21] {
                    get(file)?;
                }
            }
            Version::V30 => {
                get(TASKS)?;
                let mut index = FileIndex::default();
                while get(&index.table_path(EPISODES))? {
                    index = index.next(info.chunks_size);
                }
            }
        }
        let (index_first, index_last) = (AtomicBool::new(true), AtomicBool::new(true));
        Ok(Self { remote: Some(Remote { fetch, index_first, index_last }), ..Self::open(root)? })
    }

    /// Where the file `relative` is, fetched first where it has to be.
    pub(crate) fn file(&self, relative: &str) -> Result<PathBuf, ReadError> {
        if let Some(remote) = &self.remote {
            get(&*remote.fetch, &self.root, relative)?;
        }
        Ok(self.root.join(relative))
    }

    /// The file `relative` where parts of it are to be read from elsewhere.
    pub(super) fn elsewhere(&self, relative: &str) -> Result<Option<Input>, ReadError> {
        let Some(remote) = &self.remote else { return Ok(None) };
        let opened = remote.fetch.open(relative);
        let opened = opened.map_err(|source| ReadError::Fetch { root: self.root.clone(), file: relative.to_owned(), source })?;
        Ok(opened.map(Input::Elsewhere))
    }

    /// Lets the footer of a table with rows come: at its end, and some so long.
    #[allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]
    pub(super) fn expect_footer(&self, relative: &str, table: &Input) {
        let Ok(size) = table.size_bytes() else { return };
        // Most writers make a row group of each episode.
        let groups = self.episodes.iter().filter(|episode| episode.data_path == relative).count() as u64 + 1;
        let values = self.info.features.len() as u64;
        let bytes = groups.saturating_mul(values).saturating_mul(FOOTER_BYTES_A_COLUMN).saturating_add(FOOTER_BYTES_A_COLUMN * values);
        table.expect(&[size.saturating_sub(bytes.min(8 * MOST_GUESSED_BYTES))..size], true);
    }

    /// The video at `relative`.
    pub(super) fn video(&self, relative: &str) -> Result<VideoReader, ReadError> {
        if let (Some(remote), Some(input)) = (&self.remote, self.elsewhere(relative)?) {
            remote.expect_index(self.frames_in(relative), &input);
            let video = VideoReader::open_from(&self.root.join(relative), input)?;
            remote.index_first.store(video.index_first(), Ordering::Relaxed);
            remote.index_last.store(!video.index_first(), Ordering::Relaxed);
            if !video.needs_path() {
                return Ok(video);
            }
        }
        VideoReader::open(&self.file(relative)?)
    }

    /// How many frames a video has, of all episodes.
    fn frames_in(&self, relative: &str) -> u64 {
        let has = |episode: &&Episode| episode.videos.iter().any(|span| span.path == relative);
        self.episodes.iter().filter(has).fold(0, |frames, episode| frames.saturating_add(episode.length))
    }
}

impl Remote {
    /// Lets the index of a video come, which is at its beginning or its end.
    #[allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]
    fn expect_index(&self, frames: u64, video: &Input) {
        let Ok(size) = video.size_bytes() else { return };
        let bytes = frames.saturating_mul(INDEX_BYTES_A_FRAME).saturating_add(INDEX_BYTES);
        let mut ranges = vec![0..size.min(LEAST_BYTES)];
        if self.index_first.load(Ordering::Relaxed) {
            ranges.push(0..bytes.min(MOST_GUESSED_BYTES).min(size));
        }
        if self.index_last.load(Ordering::Relaxed) {
            ranges.push(size.saturating_sub(bytes.min(MOST_GUESSED_BYTES))..size);
        }
        video.expect(&ranges, true);
    }
}

/// The headers of the first boxes, which say where the index is.
const LEAST_BYTES: u64 = 4 << 10;

fn get(fetch: &dyn Fetch, root: &Path, relative: &str) -> Result<bool, ReadError> {
    fetch.fetch(relative).map_err(|source| ReadError::Fetch { root: root.to_owned(), file: relative.to_owned(), source })
}
