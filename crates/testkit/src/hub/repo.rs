//! Repositories: commits, branches, tags, and what a file in one is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use super::git;

/// What kind of repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepoKind {
    /// A policy.
    Model,
    /// A dataset.
    Dataset,
    /// A Space.
    Space,
}

impl RepoKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Model, Self::Dataset, Self::Space];

    /// As in `/api/models`.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }

    /// As in a request's `type`.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.plural().trim_end_matches('s')
    }

    /// What stands before `owner/name` in an address.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
            Self::Space => "spaces/",
        }
    }
}

/// Whether one must ask before one may download.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gated {
    /// Open to all.
    #[default]
    No,
    /// Whoever asks gets it.
    Auto,
    /// The owner decides.
    Manual,
}

impl Gated {
    pub(super) fn json(self) -> Value {
        match self {
            Self::No => Value::Bool(false),
            Self::Auto => "auto".into(),
            Self::Manual => "manual".into(),
        }
    }

    pub(super) fn from_json(value: &Value) -> Self {
        match value.as_str() {
            Some("auto") => Self::Auto,
            Some("manual") => Self::Manual,
            _ => Self::No,
        }
    }
}

/// A file of a revision, as [`FakeHub::tree`](super::FakeHub::tree) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its path in the repository.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its git blob id; of an LFS file the id of its pointer.
    pub oid: String,
    /// Of an LFS file, its SHA-256.
    pub sha256: Option<String>,
}

/// A file in a commit.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Git blob id, of the pointer for an LFS file.
    pub oid: String,
    pub size: u64,
    pub content: Content,
    /// The commit that last changed it, filled in by [`Repo::commit`].
    pub changed: String,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    /// In git.
    Small(Bytes),
    /// In the store of large objects, by its SHA-256.
    Lfs(String),
}

impl Entry {
    pub fn small(content: Bytes) -> Self {
        Self { oid: git::blob_id(&content), size: content.len() as u64, content: Content::Small(content), changed: String::new() }
    }

    pub fn lfs(sha256: &str, size: u64) -> Self {
        let pointer = git::pointer(sha256, size);
        Self { oid: git::blob_id(pointer.as_bytes()), size, content: Content::Lfs(sha256.to_owned()), changed: String::new() }
    }

    pub fn sha256(&self) -> Option<&str> {
        match &self.content {
            Content::Lfs(sha256) => Some(sha256),
            Content::Small(_) => None,
        }
    }

    /// What its ETag is: of an LFS file its SHA-256, else its git blob id.
    pub fn etag(&self) -> &str {
        self.sha256().unwrap_or(&self.oid)
    }
}

pub(super) type Tree = BTreeMap<String, Entry>;

#[derive(Debug)]
pub(super) struct Commit {
    pub id: String,
    pub parent: Option<String>,
    pub title: String,
    pub message: String,
    pub author: String,
    pub date_s: u64,
    pub tree: Tree,
    folders: OnceLock<BTreeMap<String, String>>,
}

impl Commit {
    /// The git tree id of each folder, the root's under "".
    pub fn folders(&self) -> &BTreeMap<String, String> {
        self.folders.get_or_init(|| git::folder_ids(self.tree.iter().map(|(path, entry)| (path.as_str(), entry.oid.as_str()))))
    }
}

#[derive(Debug)]
pub(super) struct Repo {
    pub kind: RepoKind,
    pub name: String,
    pub hex: String,
    pub commits: HashMap<String, Arc<Commit>>,
    pub branches: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    pub private: bool,
    pub gated: Gated,
    /// Who may read a gated one besides its owner.
    pub granted: BTreeSet<String>,
    pub likes: u64,
    pub downloads: u64,
    pub created_s: u64,
    /// So many files more, made up when a list of files is asked for.
    pub made_up: u64,
    pub sdk: Option<String>,
    pub runtime: Value,
}

/// What a new commit says.
#[derive(Clone, Debug, Default)]
pub(super) struct Words<'a> {
    pub title: &'a str,
    pub message: &'a str,
    pub author: &'a str,
    pub date_s: u64,
}

impl Repo {
    pub fn owner(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// The commit that a branch, a tag, a full commit id or a short one of seven digits or more names.
    pub fn find(&self, revision: &str) -> Option<&Arc<Commit>> {
        let revision = revision.strip_prefix("refs/heads/").or_else(|| revision.strip_prefix("refs/tags/")).unwrap_or(revision);
        let id = self.branches.get(revision).or_else(|| self.tags.get(revision)).map_or(revision, String::as_str);
        self.commits.get(id).or_else(|| {
            let is_short = id.len() >= 7 && id.bytes().all(|b| b.is_ascii_hexdigit());
            is_short.then(|| self.commits.iter().find(|(full, _)| full.starts_with(id))).flatten().map(|(_, commit)| commit)
        })
    }

    /// Puts a commit with `tree` on `branch`, on top of what is there or, with `is_forced`, instead of it.
    pub fn commit(&mut self, branch: &str, mut tree: Tree, words: &Words<'_>, is_forced: bool) -> String {
        let parent = self.branches.get(branch).filter(|_| !is_forced).cloned();
        let root = git::folder_ids(tree.iter().map(|(path, entry)| (path.as_str(), entry.oid.as_str())));
        let mut date_s = words.date_s;
        // Two commits in a second with the same words and files are two commits none the less.
        let id = loop {
            let id = git::commit_id(&root[""], parent.as_deref(), words.author, date_s, &format!("{}\n\n{}", words.title, words.message));
            if !self.commits.contains_key(&id) {
                break id;
            }
            date_s += 1;
        };
        let before = parent.as_ref().and_then(|parent| self.commits.get(parent));
        for (path, entry) in &mut tree {
            match before.and_then(|commit| commit.tree.get(path)).filter(|old| old.oid == entry.oid) {
                Some(old) => entry.changed.clone_from(&old.changed),
                None => entry.changed.clone_from(&id),
            }
        }
        let commit = Commit {
            id: id.clone(),
            parent,
            title: words.title.to_owned(),
            message: words.message.to_owned(),
            author: words.author.to_owned(),
            date_s,
            tree,
            folders: OnceLock::from(root),
        };
        self.commits.insert(id.clone(), Arc::new(commit));
        self.branches.insert(branch.to_owned(), id.clone());
        id
    }
}
