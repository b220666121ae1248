//! A dataset by its name.

use std::error::Error;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use sinew_hub::{Hub, HubDataset, HubError, Listener, ModelRef, ParseModelRefError, RemoteFile};
use sinew_recorder::{DatasetReader, Fetch, Item, Loader, RandomAccess, ReadError, Windows};
use thiserror::Error;

/// A name that did not become a dataset.
#[derive(Debug, Error)]
pub enum DatasetError {
    #[error(transparent)]
    Name(#[from] ParseModelRefError),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Opens the dataset `name` for reading: `owner/name[@revision]` on the Hub, or a folder. Of one on the
/// Hub only the tables about its episodes are fetched now, into huggingface_hub's cache; each file of
/// rows or video when it is first read. `listener` is told which commit it is and of each
/// piece that arrives.
///
/// ```no_run
/// use std::sync::Arc;
/// use sinew::{Loader, Windows, open_dataset};
///
/// let dataset = open_dataset("lerobot/svla_so101_pickplace", Arc::new(|_| {}))?;
/// let mut loader = Loader::new(&dataset, &Windows::default())?;
/// let first_of_episode_3 = loader.item(dataset.episode(3)?.first_index)?;
/// println!("{}: {} images", first_of_episode_3.task, first_of_episode_3.images.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the name makes no sense, the files can't be had, or they are no dataset that can be read.
pub fn open_dataset(name: &str, listener: Arc<Listener>) -> Result<DatasetReader, DatasetError> {
    open_dataset_of(&Hub::from_env(), name, listener)
}

/// The same from a Hub with other options than the environment's.
///
/// # Errors
/// As [`open_dataset`].
pub fn open_dataset_of(hub: &Hub, name: &str, listener: Arc<Listener>) -> Result<DatasetReader, DatasetError> {
    open(hub, name, listener, false)
}

/// As [`open_dataset`], but of a dataset on the Hub only those parts of the files of rows and video come that are read: of
/// an episode its rows, and the groups of pictures that hold the frames asked for. They are kept in memory for a while
/// (some 128 MB) and not on disk, so what is read again later comes again. A file that is in the cache is read there. What
/// only an installed ffmpeg decodes, and rows with more than 48 MB of images to a row group, come with their whole files.
///
/// ```no_run
/// use std::sync::Arc;
/// use sinew::{Windows, episode_frames, open_dataset_streaming};
///
/// let dataset = open_dataset_streaming("lerobot/svla_so101_pickplace", Arc::new(|_| {}))?;
/// for item in episode_frames(&dataset, 3, &Windows::default())? {
///     let item = item?;
///     println!("{:.2} s: {:?}", item.timestamp_s, item.values["action"]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`open_dataset`].
pub fn open_dataset_streaming(name: &str, listener: Arc<Listener>) -> Result<DatasetReader, DatasetError> {
    open_dataset_streaming_of(&Hub::from_env(), name, listener)
}

/// The same from a Hub with other options than the environment's.
///
/// # Errors
/// As [`open_dataset`].
pub fn open_dataset_streaming_of(hub: &Hub, name: &str, listener: Arc<Listener>) -> Result<DatasetReader, DatasetError> {
    open(hub, name, listener, true)
}

fn open(hub: &Hub, name: &str, listener: Arc<Listener>, is_streamed: bool) -> Result<DatasetReader, DatasetError> {
    match ModelRef::parse(name)? {
        ModelRef::Local(folder) => Ok(DatasetReader::open(&folder)?),
        ModelRef::Hub(repo) => {
            let dataset = hub.dataset(&repo, listener)?;
            Ok(DatasetReader::open_fetching(&dataset.folder(), Box::new(OnHub { dataset, is_streamed }))?)
        }
    }
}

struct OnHub {
    dataset: HubDataset,
    is_streamed: bool,
}

impl Fetch for OnHub {
    fn fetch(&self, relative: &str) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(self.dataset.fetch(relative)?)
    }

    fn open(&self, relative: &str) -> Result<Option<Arc<dyn RandomAccess>>, Box<dyn Error + Send + Sync>> {
        let file = if self.is_streamed { self.dataset.open(relative)? } else { None };
        Ok(file.map(|file| Arc::new(Streamed(file)) as Arc<dyn RandomAccess>))
    }
}

struct Streamed(RemoteFile);

impl RandomAccess for Streamed {
    fn size_bytes(&self) -> u64 {
        self.0.file().size_bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, into).map_err(io::Error::other)
    }

    fn expect(&self, ranges: &[Range<u64>], now: bool) {
        self.0.expect(ranges, now);
    }
}

/// What of an episode's images, of each camera, may be under way or wait to be decoded: a link of 100 MB/s with an answer
/// after 50 ms has 5 MB under way.
const AHEAD_BYTES: u64 = 6 << 20;

/// The items of an episode, one after another, of a dataset that lies elsewhere: while one is decoded, the next are under way.
pub struct EpisodeFrames<'a> {
    loader: Loader<'a>,
    episode: u64,
    first_index: u64,
    frames: Range<u64>,
}

/// Reads an episode from its first frame to its last, `windows` around each.
///
/// # Errors
/// When there is no such episode, or as [`Loader::new`].
pub fn episode_frames<'a>(dataset: &'a DatasetReader, episode: u64, windows: &Windows) -> Result<EpisodeFrames<'a>, ReadError> {
    let entry = dataset.episode(episode)?;
    Ok(EpisodeFrames { loader: Loader::new(dataset, windows)?, episode, first_index: entry.first_index, frames: 0..entry.length })
}

impl Iterator for EpisodeFrames<'_> {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = self.frames.next()?;
        let item = self.loader.item(self.first_index + frame);
        // After it, as reading the first item opens the videos.
        Some(item.and_then(|item| self.loader.expect(self.episode, frame..self.frames.end, AHEAD_BYTES).map(|()| item)))
    }
}
