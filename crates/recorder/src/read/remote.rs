//! A dataset whose files come when they are needed.

use std::error::Error;
use std::path::{Path, PathBuf};

use super::DatasetReader;
use crate::ReadError;
use crate::format::info::read_info;
use crate::format::layout::Version;
use crate::format::schema::{EPISODES, EPISODES_21, EPISODES_STATS_21, FileIndex, INFO, STATS, TASKS, TASKS_21};

/// Brings files of a dataset to its folder, such as from the Hub.
pub trait Fetch: Send + Sync {
    /// Sees to it that the file `relative`, a path with `/`, is in the folder. `false` when the dataset has
    /// no such file.
    ///
    /// # Errors
    /// When the file can't be had.
    fn fetch(&self, relative: &str) -> Result<bool, Box<dyn Error + Send + Sync>>;
}

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
        Ok(Self { fetch: Some(fetch), ..Self::open(root)? })
    }

    /// Where the file `relative` is, fetched first where it has to be.
    pub(crate) fn file(&self, relative: &str) -> Result<PathBuf, ReadError> {
        if let Some(fetch) = &self.fetch {
            get(&**fetch, &self.root, relative)?;
        }
        Ok(self.root.join(relative))
    }
}

fn get(fetch: &dyn Fetch, root: &Path, relative: &str) -> Result<bool, ReadError> {
    fetch.fetch(relative).map_err(|source| ReadError::Fetch { root: root.to_owned(), file: relative.to_owned(), source })
}
