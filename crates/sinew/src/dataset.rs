//! A dataset by its name.

use std::error::Error;
use std::sync::Arc;

use sinew_hub::{Hub, HubDataset, HubError, Listener, ModelRef, ParseModelRefError};
use sinew_recorder::{DatasetReader, Fetch, ReadError};
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
pub fn open_dataset_of(
    hub: &Hub,
    name: &str,
    listener: Arc<Listener>,
) -> Result<DatasetReader, DatasetError> {
    match ModelRef::parse(name)? {
        ModelRef::Local(folder) => Ok(DatasetReader::open(&folder)?),
        ModelRef::Hub(repo) => {
            let dataset = hub.dataset(&repo, listener)?;
            Ok(DatasetReader::open_fetching(&dataset.folder(), Box::new(OnHub(dataset)))?)
        }
    }
}

struct OnHub(HubDataset);

impl Fetch for OnHub {
    fn fetch(&self, relative: &str) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(self.0.fetch(relative)?)
    }
}
