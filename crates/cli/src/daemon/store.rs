//! Datasets in the daemon's folder, and policies in the cache.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use sinew_core::check_name;
use sinew_core::service::{DatasetItem, EpisodeItem, PolicyItem, Refusal};
use sinew_hub::{Hub, RepoKind};
use sinew_recorder::{DatasetInfo, DatasetReader};
use sinew_remote::{Address, Protocol};

use super::Owned;
use super::board::jpeg;
use super::policies::Policies;
use crate::args::is_server;
use crate::text;

pub const DEMONSTRATION: &str = "the demonstration policy";
/// More datasets than this are not listed.
const MOST_DATASETS: usize = 500;

/// For the log's readers.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A name that leads nowhere else.
fn is_plain(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    check_name(name).is_ok() && name.chars().all(is_good)
}

/// `owner/name[@revision]`.
pub fn is_of_hub(name: &str) -> bool {
    let (repo, revision) = name.split_once('@').map_or((name, None), |(repo, revision)| (repo, Some(revision)));
    repo.split_once('/').is_some_and(|(owner, name)| is_plain(owner) && is_plain(name)) && revision.is_none_or(is_plain)
}

/// What is fetched, or measured by a process of its own, is named by its place on the Hub.
pub fn check_of_hub(what: &str, name: &str) -> Result<(), Refusal> {
    if is_of_hub(name) { Ok(()) } else { Err(Refusal::Bad(format!("the {what} {name:?}: expected owner/name[@revision] on the Hub"))) }
}

/// Where something is published is named without a revision: it goes to the repository's own branch.
pub fn check_repo(repo: &str) -> Result<(), Refusal> {
    let is_good = is_of_hub(repo) && !repo.contains('@');
    if is_good { Ok(()) } else { Err(Refusal::Bad(format!("the repository {repo:?}: expected owner/name on the Hub"))) }
}

/// Of what some servers answer nobody knows which joint it is for, and the interface has no words for it.
pub fn check_says_names(policy: &str) -> Result<(), Refusal> {
    let address = policy.parse::<Address>().ok();
    match address.filter(|address| matches!(address.protocol(), Protocol::Endpoint | Protocol::Groot)) {
        Some(_) => Err(Refusal::Bad(format!(
            "the policy {policy}: its server does not say which joints its answers are for; expected ws://, wss://, zenoh:// or zenoh+tls://"
        ))),
        None => Ok(()),
    }
}

/// A policy is named by its place on the Hub, or as a server: nobody on the network chooses a file of this machine.
pub fn check_policy(policy: &str) -> Result<(), Refusal> {
    if is_of_hub(policy) {
        return Ok(());
    }
    if is_server(policy) {
        return policy.parse::<Address>().map(drop).map_err(|error| Refusal::Bad(error.to_string()));
    }
    Err(Refusal::Bad(format!("the policy {policy:?}: expected owner/name[@revision] on the Hub, or a server such as ws://HOST:8000")))
}

impl Owned {
    /// Where the dataset of that name is, or would be.
    pub(super) fn place_of(&self, name: &str) -> Result<PathBuf, Refusal> {
        if is_plain(name) {
            return Ok(self.datasets.join(name));
        }
        Err(Refusal::Bad(format!("the dataset {name:?}: expected a name of letters, digits, dots, hyphens and underscores")))
    }

    /// What a verb calls the dataset: its folder here, or its name on the Hub.
    pub(super) fn dataset_or_hub(&self, name: &str) -> Result<String, Refusal> {
        if is_of_hub(name) {
            return Ok(name.to_owned());
        }
        let place = self.place_of(name)?;
        if !place.is_dir() {
            return Err(Refusal::Missing(format!("there is no dataset {name}")));
        }
        Ok(place.display().to_string())
    }
}

fn failed(doing: &str, error: impl Into<anyhow::Error>) -> Refusal {
    Refusal::Failed(format!("{doing}: {}", text::chain(&error.into())))
}

pub fn datasets(folder: &Path) -> Result<Vec<DatasetItem>, Refusal> {
    let doing = format!("reading the folder {}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(|error| failed(&doing, error))?;
    let named = entries.flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = named.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_plain(name)).collect();
    names.sort();
    let item = |name: String| match DatasetInfo::open(&folder.join(&name)) {
        Ok(info) => DatasetItem {
            name,
            episodes: info.total_episodes,
            frames: info.total_frames,
            fps: info.fps.hz(),
            robot_type: info.robot_type,
            trouble: None,
            is_unfinished: info.unfinished,
        },
        Err(error) => DatasetItem {
            name,
            episodes: 0,
            frames: 0,
            fps: 0.0,
            robot_type: None,
            trouble: Some(text::chain(&error.into())),
            is_unfinished: false,
        },
    };
    Ok(names.into_iter().take(MOST_DATASETS).map(item).collect())
}

fn open(root: &Path) -> Result<DatasetReader, Refusal> {
    if !root.is_dir() {
        return Err(Refusal::Missing(format!("there is no dataset {}", root.file_name().unwrap_or_default().to_string_lossy())));
    }
    DatasetReader::open(root).map_err(|error| failed("reading the dataset", error))
}

pub fn episodes(root: &Path) -> Result<Vec<EpisodeItem>, Refusal> {
    let dataset = open(root)?;
    let item = |(index, episode): (usize, &sinew_recorder::Episode)| EpisodeItem {
        index: index as u64,
        frames: episode.length,
        seconds: dataset.fps().seconds(episode.length),
        instructions: episode.tasks.clone(),
    };
    Ok(dataset.episodes().iter().enumerate().map(item).collect())
}

/// From the middle of the episode, of the first camera.
pub fn thumbnail(root: &Path, episode: u64) -> Result<Vec<u8>, Refusal> {
    let dataset = open(root)?;
    let camera = dataset.cameras().next().ok_or_else(|| Refusal::Missing("the dataset has no images".to_owned()))?.to_owned();
    let entry = dataset.episode(episode).map_err(|_| Refusal::Missing(format!("there is no episode {episode}")))?;
    let image = dataset.image(episode, &camera, entry.length / 2).map_err(|error| failed("reading the image", error))?;
    let jpeg = jpeg(&image, 75).ok_or_else(|| Refusal::Failed("compressing the image: it has no pixels".to_owned()))?;
    Ok(jpeg.to_vec())
}

/// The demonstration policy, and those in the Hub's cache.
pub fn policies(known: &Policies) -> Result<Vec<PolicyItem>, Refusal> {
    let cached = Hub::from_env().list_cache().map_err(|error| failed("reading the Hub's cache", error))?;
    let own = PolicyItem { policy: None, title: DEMONSTRATION.to_owned(), commits: Vec::new(), size_bytes: 0, names: Vec::new() };
    let models = cached.into_iter().filter(|repo| repo.kind == RepoKind::Model).map(|repo| PolicyItem {
        title: repo.repo.clone(),
        names: known.names_of(&repo.repo),
        policy: Some(repo.repo),
        commits: repo.snapshots.into_keys().collect(),
        size_bytes: repo.size_bytes,
    });
    Ok(std::iter::once(own).chain(models).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for good in ["cubes", "a", "A-b_c.d", "2026-01-01"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", ".", "..", "../x", "/x", "a/b", "a b", "-x", ".hidden", "a\u{0}", "ä", &"x".repeat(101)] {
            assert!(!is_plain(bad), "{bad}");
        }
        for good in ["owner/name", "owner/name@main", "o/n@0a1b", "ws://host:8000", "groot://h:5555"] {
            assert!(check_policy(good).is_ok(), "{good}");
        }
        for bad in
            ["", "name", "/etc/passwd", "./x", "../../x", "~/x", "a/b/c", "-a/b", "a/b@", "--device/x", "a/..", "ws://x\u{0}y", "ws://"]
        {
            assert!(check_policy(bad).is_err(), "{bad}");
        }
        assert!(check_of_hub("policy", "ws://host:8000").is_err() && check_of_hub("dataset", "owner/name").is_ok());
        assert!(check_says_names("https://a").is_err() && check_says_names("ws://a").is_ok() && check_says_names("owner/name").is_ok());
    }
}
