//! All that the Hub knows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::access::{Accounts, short_id};
use super::api::HubOptions;
use super::body::Link;
use super::clock;
use super::faults::Faults;
use super::git;
use super::jobs::Jobs;
use super::objects::Objects;
use super::record::{Journal, lock};
use super::repo::{Entry, Gated, Repo, RepoKind, Tree, Words};
use super::routes::oauth::Devices;

/// What becomes LFS in a new repository, as on the Hub.
pub const ATTRIBUTES: &str = "\
*.7z filter=lfs diff=lfs merge=lfs -text
*.arrow filter=lfs diff=lfs merge=lfs -text
*.bin filter=lfs diff=lfs merge=lfs -text
*.gz filter=lfs diff=lfs merge=lfs -text
*.h5 filter=lfs diff=lfs merge=lfs -text
*.mp4 filter=lfs diff=lfs merge=lfs -text
*.npy filter=lfs diff=lfs merge=lfs -text
*.npz filter=lfs diff=lfs merge=lfs -text
*.onnx filter=lfs diff=lfs merge=lfs -text
*.parquet filter=lfs diff=lfs merge=lfs -text
*.pickle filter=lfs diff=lfs merge=lfs -text
*.pkl filter=lfs diff=lfs merge=lfs -text
*.pt filter=lfs diff=lfs merge=lfs -text
*.pth filter=lfs diff=lfs merge=lfs -text
*.rrd filter=lfs diff=lfs merge=lfs -text
*.safetensors filter=lfs diff=lfs merge=lfs -text
*.tar filter=lfs diff=lfs merge=lfs -text
*.zip filter=lfs diff=lfs merge=lfs -text
*.zst filter=lfs diff=lfs merge=lfs -text
";

/// What changes with requests.
#[derive(Debug, Default)]
pub struct State {
    pub repos: BTreeMap<(RepoKind, String), Repo>,
    /// Old name → new name.
    pub moved: BTreeMap<(RepoKind, String), String>,
    pub accounts: Accounts,
    pub faults: Faults,
    pub jobs: Jobs,
    pub devices: Devices,
    pub window: super::routes::Window,
    pub counter: u64,
}

/// Shared by all requests.
#[derive(Debug)]
pub struct Hub {
    pub options: HubOptions,
    pub state: Mutex<State>,
    pub objects: Mutex<Objects>,
    pub journal: Arc<Journal>,
    pub down: Arc<Link>,
    pub up: Arc<Link>,
    /// Where the Hub is, without a slash at the end.
    pub endpoint: String,
    /// Where large files are.
    pub cdn: String,
    /// The port of the other host, if large files are there.
    pub cdn_address: Option<SocketAddr>,
    /// What presigned addresses are signed with.
    pub secret: String,
}

impl Hub {
    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub fn objects(&self) -> MutexGuard<'_, Objects> {
        lock(&self.objects)
    }
}

impl State {
    /// Makes a repository with its first commit.
    pub fn create(&mut self, kind: RepoKind, name: &str, author: &str) -> &mut Repo {
        self.counter += 1;
        let date_s = clock::unix_s();
        let mut repo = Repo {
            kind,
            name: name.to_owned(),
            hex: short_id(&format!("{kind:?} {name} {}", self.counter)),
            commits: Default::default(),
            branches: BTreeMap::new(),
            tags: BTreeMap::new(),
            private: false,
            gated: Gated::No,
            granted: Default::default(),
            likes: 0,
            downloads: 0,
            created_s: date_s,
            made_up: 0,
            sdk: None,
            runtime: serde_json::Value::Null,
        };
        let tree = Tree::from([(".gitattributes".to_owned(), Entry::small(Bytes::from_static(ATTRIBUTES.as_bytes())))]);
        repo.commit("main", tree, &Words { title: "initial commit", author, date_s, ..Words::default() }, false);
        self.moved.remove(&(kind, name.to_owned()));
        let key = (kind, name.to_owned());
        self.repos.remove(&key);
        self.repos.entry(key).or_insert(repo)
    }
}

/// Whether `.gitattributes` of `tree` makes `path` an LFS file.
pub fn is_lfs_by_rule(tree: &Tree, path: &str) -> bool {
    let Some(super::repo::Content::Small(rules)) = tree.get(".gitattributes").map(|entry| &entry.content) else { return false };
    let name = path.rsplit('/').next().unwrap_or(path);
    let rules = String::from_utf8_lossy(rules);
    rules.lines().filter(|line| line.contains("filter=lfs")).filter_map(|line| line.split_whitespace().next()).any(|pattern| {
        let pattern = pattern.replace("**", "*");
        super::faults::fits(&pattern, if pattern.contains('/') { path } else { name })
    })
}

/// The signature of a presigned address.
pub fn sign(secret: &str, what: &str, expires: u64) -> String {
    git::sha256(format!("{secret}\n{what}\n{expires}").as_bytes()).chars().take(40).collect()
}
