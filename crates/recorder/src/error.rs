//! What can go wrong when a dataset is written or read.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A dataset that could not be recorded. What was committed before stays whole.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The output folder holds something; nothing was touched.
    #[error("creating a dataset in {}: the folder holds {found} already; name one that is empty or does not exist", root.display())]
    NotEmpty { root: PathBuf, found: String },
    /// Another process writes this dataset.
    #[error("opening the dataset {} for writing: another process is recording into it", root.display())]
    Busy { root: PathBuf },
    /// It is what was in a dataset's place before the last change, kept to be brought back.
    #[error(
        "opening {} for writing: it is what is kept to undo the last change of {}, and goes with the next one; open that instead (`cd` to it again, if you were in it)",
        root.display(), dataset.display()
    )]
    Kept { root: PathBuf, dataset: PathBuf },
    /// Another program has written a file since this one read it; nothing was changed.
    #[error("committing to the dataset: {} was changed by another program in the meantime; nothing of it was overwritten", path.display())]
    Changed { path: PathBuf },
    /// A commit was begun, and somebody wrote before it could be completed.
    #[error(
        "completing the commit that {} lists: {} is neither what it was before nor what it was to be, so another program has written it; nothing was changed. Remove the list to keep the dataset as it is now, and see `sinew dataset verify`",
        log.display(), path.display()
    )]
    Contradiction { log: PathBuf, path: PathBuf },
    /// A robot, rate or option that no dataset can be made of.
    #[error("setting up a dataset: {what}")]
    Setup { what: String },
    /// The dataset to be resumed was made with another robot, rate or set of features.
    #[error("resuming the dataset {}: {what} is {found} there, expected {expected}", root.display())]
    Mismatch { root: PathBuf, what: String, found: String, expected: String },
    /// A frame that does not fit the dataset. The episode cannot be kept.
    #[error("recording frame {frame} of episode {episode}: {what}")]
    Frame { episode: u64, frame: u64, what: String },
    /// `begin`, `frame` and `end` were called in another order than that.
    #[error("{call}: {what}")]
    OutOfOrder { call: &'static str, what: &'static str },
    /// The disk is full, gone or refuses.
    #[error("{doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{doing} {}", path.display())]
    Parquet {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: parquet::errors::ParquetError,
    },
    #[error("encoding a frame of {camera} as H.264")]
    Encode {
        camera: String,
        #[source]
        source: openh264::Error,
    },
    /// An encoder that can't be had, or failed; says what it said.
    #[error("encoding {camera} with {encoder}: {what}")]
    Encoder { camera: String, encoder: String, what: String },
    /// Encoders can't keep up, and the recorder was told to stop then.
    #[error(
        "recording frame {frame} of episode {episode}: {camera} has {waiting} images waiting for its encoder; the episode can be saved as it is"
    )]
    Overload { episode: u64, frame: u64, camera: String, waiting: usize },
    /// An episode that was not finished waits to be recovered or discarded.
    #[error("beginning an episode in {}: episode {episode} was not finished and has {rows} rows; recover or discard it first", root.display())]
    Unfinished { root: PathBuf, episode: u64, rows: u64 },
    /// The dataset that should be resumed or repaired cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What there is instead of a dataset.
fn why_not(root: &Path) -> &'static str {
    if root.is_dir() {
        "expected a LeRobotDataset, found a folder without meta/info.json"
    } else if root.exists() {
        "expected a folder, found a file"
    } else {
        "no such folder"
    }
}

/// A dataset that could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("reading the dataset {}: {}", root.display(), why_not(root))]
    NotADataset { root: PathBuf },
    #[error("reading the dataset {}: codebase_version is {found}, which this cannot be done with; v2.0, v2.1 and v3.0 are read, v3.0 is appended to", root.display())]
    Version { root: PathBuf, found: String },
    /// A file that was to be fetched.
    #[error("fetching {file} of the dataset in {}", root.display())]
    Fetch {
        root: PathBuf,
        file: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("reading {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("reading {} as JSON", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("reading {} as parquet", path.display())]
    Parquet {
        path: PathBuf,
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A video or image that cannot be decoded.
    #[error("decoding {}: {what}", path.display())]
    Decode { path: PathBuf, what: String },
    /// Whoever asked for an image did not want to wait for it any longer.
    #[error("decoding {}: stopped, as was asked", path.display())]
    Stopped { path: PathBuf },
    /// What is asked for is not in the dataset.
    #[error("looking up {what} in the dataset {}", root.display())]
    Missing { root: PathBuf, what: String },
    /// Episodes are counted from 0.
    #[error("looking up episode {episode} in the dataset {}: it has {count} episodes, counted from 0", root.display())]
    NoEpisode { root: PathBuf, episode: u64, count: usize },
    /// A file that can be read but says something that cannot be.
    #[error("checking {}: {what}", path.display())]
    Invalid { path: PathBuf, what: String },
}
