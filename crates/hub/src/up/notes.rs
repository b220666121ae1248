//! What the lines of a [journal](super::journal) say.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{HubRepo, RepoKind};

/// How a file looks from outside. As long as it looks the same, it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub size: u64,
    /// Nanoseconds since 1970.
    pub modified: u64,
    /// When its content or its name, owner or rights changed; 0 where the system doesn't say.
    pub changed: u64,
    pub inode: u64,
}

impl Stamp {
    pub fn of(found: &fs::Metadata) -> Self {
        let ns = |time: io::Result<SystemTime>| {
            let since = time.ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        };
        #[cfg(unix)]
        let (changed, inode) = {
            use std::os::unix::fs::MetadataExt;
            (found.ctime().unsigned_abs().saturating_mul(1_000_000_000).saturating_add(found.ctime_nsec().unsigned_abs()), found.ino())
        };
        #[cfg(not(unix))]
        let (changed, inode) = (0, 0);
        Self { size: found.len(), modified: ns(found.modified()), changed, inode }
    }
}

/// Hashes of a file: as large files are named, and, for one that may be stored in git, as git names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hashes {
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<String>,
}

/// How the Hub wants a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    /// In git, its bytes in the commit itself.
    Inline,
    /// In the store of large files.
    Large,
    /// Not at all: a `.gitignore` says so.
    Ignored,
}

/// A large file that goes up in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parts {
    /// Where it is said that all have come.
    pub complete: String,
    pub part_bytes: u64,
    /// Where each goes.
    pub urls: Vec<String>,
    /// By the part's number from 0: what the store said of it.
    #[serde(skip)]
    pub etags: BTreeMap<usize, String>,
}

/// Where files are to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub endpoint: String,
    kind: String,
    repo: String,
    pub private: bool,
    /// Whether it is published while it is recorded, so that it may be finished later.
    pub is_published: bool,
}

impl Target {
    pub fn new(endpoint: &str, repo: &HubRepo, private: bool, is_published: bool) -> Self {
        Self { endpoint: endpoint.to_owned(), kind: repo.kind().plural().to_owned(), repo: repo.to_string(), private, is_published }
    }

    pub fn repo(&self) -> Option<HubRepo> {
        let kind = RepoKind::ALL.into_iter().find(|kind| kind.plural() == self.kind)?;
        HubRepo::parse(kind, &self.repo).ok()
    }

    fn is_same_place(&self, other: &Self) -> bool {
        (&self.endpoint, &self.kind, &self.repo) == (&other.endpoint, &other.kind, &other.repo)
    }

    /// Whether both are in one repository, on whatever branch.
    fn is_same_repo(&self, other: &Self) -> bool {
        let repo = |target: &Self| target.repo().map(|repo| repo.repo());
        (&self.endpoint, &self.kind) == (&other.endpoint, &other.kind) && repo(self) == repo(other)
    }
}

/// A commit that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    pub parent: String,
    /// What it changes, as [`changes_hash`](super::others::changes_hash) has it.
    pub changes: String,
}

/// What a file of the folder holds, and which secrets were looked for in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Read {
    pub stamp: Stamp,
    pub hashes: Hashes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searched: Option<String>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum Line {
    Hash {
        path: String,
        #[serde(flatten)]
        read: Read,
    },
    /// What follows is about this repository.
    Target(Target),
    /// The branch was at this commit when the upload began.
    Base {
        commit: String,
    },
    /// What the repository holds at this commit is an earlier state of this dataset, or may be replaced.
    Ours {
        commit: String,
    },
    /// Whatever the repository holds at this commit may be written over.
    Meant {
        commit: String,
    },
    /// A file that is there as it was here.
    There {
        path: String,
        /// As the Hub names it.
        hash: String,
    },
    /// Whether the repository was seen to be private.
    Private {
        private: bool,
    },
    Mode {
        path: String,
        sha256: String,
        /// The rules of `.gitignore` that it was told by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rules: Option<String>,
        mode: Mode,
    },
    Parts {
        oid: String,
        parts: Parts,
    },
    Part {
        oid: String,
        part: usize,
        etag: String,
    },
    /// The parts are of no use any more.
    NoParts {
        oid: String,
    },
    /// A store that says of no file whether it has it has this one.
    Sent {
        oid: String,
    },
    NotSent {
        oid: String,
    },
    /// A file that is closed and may go up before its commit.
    Offer {
        path: String,
    },
    /// A commit of ours is on its way.
    Intent(Intent),
    /// A commit of ours, and what it is based on.
    Commit {
        commit: String,
        parent: String,
    },
    /// Nothing comes of what was begun.
    Withdrawn,
    /// All is there, at this commit.
    Done {
        commit: String,
    },
}

/// What is known of one place that files go to.
#[derive(Default)]
pub(super) struct Place {
    pub target: Option<Target>,
    /// Whether something was begun that is not done.
    pub is_open: bool,
    /// The commit that the last upload from here ended with.
    pub last: Option<String>,
    pub base: Option<String>,
    pub ours: Option<String>,
    pub meant: Option<String>,
    /// By path: the hash of what was there as it was here.
    pub there: HashMap<String, String>,
    pub was_private: bool,
    /// By path, SHA-256 and the rules that leave files out.
    pub modes: HashMap<(String, String, Option<String>), Mode>,
    pub parts: HashMap<String, Parts>,
    pub sent: BTreeSet<String>,
    pub offered: BTreeSet<String>,
    pub intent: Option<Intent>,
    /// Each with its parent.
    pub commits: Vec<(String, String)>,
}

impl Place {
    fn lines(&self) -> impl Iterator<Item = Line> {
        let base = self.base.iter().map(|commit| Line::Base { commit: commit.clone() });
        let modes = self.modes.iter().map(|((path, sha256, rules), mode)| Line::Mode {
            path: path.clone(),
            sha256: sha256.clone(),
            rules: rules.clone(),
            mode: *mode,
        });
        let parts = self.parts.iter().flat_map(|(oid, parts)| {
            let etags = parts.etags.iter().map(|(part, etag)| Line::Part { oid: oid.clone(), part: *part, etag: etag.clone() });
            std::iter::once(Line::Parts { oid: oid.clone(), parts: parts.clone() }).chain(etags)
        });
        let commits = self.commits.iter().map(|(commit, parent)| Line::Commit { commit: commit.clone(), parent: parent.clone() });
        let done = self.last.iter().map(|commit| Line::Done { commit: commit.clone() });
        // Once more, where something was begun after it was done.
        let again = self.target.iter().filter(|_| self.is_open && self.last.is_some()).cloned().map(Line::Target);
        (self.target.iter().cloned().map(Line::Target))
            .chain(done)
            .chain(again)
            .chain(self.was_private.then_some(Line::Private { private: true }))
            .chain(self.there.iter().map(|(path, hash)| Line::There { path: path.clone(), hash: hash.clone() }))
            .chain(base)
            .chain(self.ours.iter().map(|commit| Line::Ours { commit: commit.clone() }))
            .chain(self.meant.iter().map(|commit| Line::Meant { commit: commit.clone() }))
            .chain(modes)
            .chain(parts)
            .chain(self.sent.iter().map(|oid| Line::Sent { oid: oid.clone() }))
            .chain(self.offered.iter().map(|path| Line::Offer { path: path.clone() }))
            .chain(commits)
            .chain(self.intent.iter().cloned().map(Line::Intent))
    }
}

/// All that the lines say.
#[derive(Default)]
pub(super) struct Known {
    pub hashes: HashMap<String, Read>,
    /// The last is where files go now; another one waits to be finished, or was.
    places: Vec<Place>,
}

impl Known {
    pub fn here(&mut self) -> &mut Place {
        if self.places.is_empty() {
            self.places.push(Place::default());
        }
        let last = self.places.len() - 1;
        &mut self.places[last]
    }

    /// Where something is to be finished that is published while it is recorded; else where that was done last, and the
    /// commit that it came to.
    pub fn published(&self) -> Option<(Target, Option<String>)> {
        let published = || self.places.iter().rev().filter(|place| place.target.as_ref().is_some_and(|target| target.is_published));
        let open = published().find(|place| place.is_open);
        let place = open.or_else(|| published().find(|place| place.last.is_some()))?;
        Some((place.target.clone()?, place.last.clone().filter(|_| !place.is_open)))
    }

    /// Of a repository the files that were there as they were here, on whatever branch, each with its path and hash.
    ///
    /// # Errors
    /// The other repository that the folder belongs to, where it came from that one, or went there, and never to or from this one.
    pub fn files_of(&self, repo: &HubRepo) -> Result<HashSet<(&str, &str)>, HubRepo> {
        let of = |place: &&Place| place.target.as_ref().and_then(Target::repo);
        let is_of_repo = |place: &&Place| of(place).is_some_and(|other| other.kind() == repo.kind() && other.repo() == repo.repo());
        if !self.places.iter().any(|place| is_of_repo(&place))
            && let Some(other) = self.places.iter().rev().filter(|place| place.last.is_some()).find_map(|place| of(&place))
        {
            return Err(other);
        }
        let files = self.places.iter().filter(is_of_repo).flat_map(|place| &place.there);
        Ok(files.map(|(path, hash)| (path.as_str(), hash.as_str())).collect())
    }

    /// Whether there is nothing to come back to.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty() && self.places.iter().all(|place| !place.is_open && place.last.is_none())
    }

    /// Whether something is being published to this place.
    pub fn is_published_to(&self, target: &Target) -> bool {
        let is_same = |old: &Target| old.is_published && old.is_same_place(target);
        self.places.iter().any(|place| place.is_open && place.target.as_ref().is_some_and(is_same))
    }

    /// Whether an upload to this place has begun and not ended.
    pub fn is_open_for(&self, target: &Target) -> bool {
        self.places.iter().any(|place| place.is_open && place.target.as_ref().is_some_and(|old| old.is_same_place(target)))
    }

    /// The commits that uploads to the same repository ended with.
    pub fn lasts(&mut self) -> Vec<String> {
        let Some(target) = self.here().target.clone() else { return Vec::new() };
        let is_there = |place: &&Place| place.target.as_ref().is_some_and(|other| other.is_same_repo(&target));
        self.places.iter().rev().filter(is_there).filter_map(|place| place.last.clone()).collect()
    }

    /// Whether a file of this hash was there as it was here, on whatever branch of the same repository.
    pub fn was_there(&self, path: &str, hash: &str) -> bool {
        let Some(target) = self.places.last().and_then(|place| place.target.as_ref()) else { return false };
        let is_there = |place: &&Place| place.target.as_ref().is_some_and(|other| other.is_same_repo(target));
        self.places.iter().filter(is_there).any(|place| place.there.get(path).is_some_and(|known| known == hash))
    }

    pub fn lines(&self) -> Vec<Line> {
        let hashes = self.hashes.iter().map(|(path, read)| Line::Hash { path: path.clone(), read: read.clone() });
        hashes.chain(self.places.iter().flat_map(Place::lines)).collect()
    }

    pub fn learn(&mut self, line: Line) {
        let place = match line {
            Line::Hash { path, read } => return drop(self.hashes.insert(path, read)),
            Line::Target(target) => return self.aim(target),
            _ => self.here(),
        };
        match line {
            Line::Hash { .. } | Line::Target(_) => {}
            Line::Base { commit } => place.base = Some(commit),
            Line::Ours { commit } => place.ours = Some(commit),
            Line::Meant { commit } => place.meant = Some(commit),
            Line::There { path, hash } => drop(place.there.insert(path, hash)),
            Line::Private { private } => place.was_private = private,
            Line::Mode { path, sha256, rules, mode } => drop(place.modes.insert((path, sha256, rules), mode)),
            Line::Parts { oid, parts } => drop(place.parts.insert(oid, parts)),
            Line::Part { oid, part, etag } => {
                if let Some(parts) = place.parts.get_mut(&oid) {
                    parts.etags.insert(part, etag);
                }
            }
            Line::NoParts { oid } => drop(place.parts.remove(&oid)),
            Line::Sent { oid } => drop(place.sent.insert(oid)),
            Line::NotSent { oid } => drop(place.sent.remove(&oid)),
            Line::Offer { path } => drop(place.offered.insert(path)),
            Line::Intent(intent) => place.intent = Some(intent),
            Line::Commit { commit, parent } => {
                place.intent = None;
                place.commits.push((commit, parent));
            }
            Line::Withdrawn => place.close(None),
            Line::Done { commit } => place.close(Some(commit)),
        }
    }

    /// What was begun for another place waits there.
    fn aim(&mut self, target: Target) {
        let known = self.places.iter().position(|place| place.target.as_ref().is_none_or(|old| old.is_same_place(&target)));
        let place = known.map_or_else(Place::default, |at| self.places.remove(at));
        self.places.push(Place { target: Some(place.target_with(target)), is_open: true, ..place });
    }
}

impl Place {
    /// Nothing is under way any more; what is there is known all the same.
    fn close(&mut self, done: Option<String>) {
        let old = std::mem::take(self);
        let last = done.or(old.last);
        *self = Self { target: old.target, last, there: old.there, was_private: old.was_private, ..Self::default() };
    }

    /// Whether something went on whose beginning is not known, as after lines of the journal were lost.
    pub fn has_lost_its_base(&self) -> bool {
        let is_under_way = !(self.modes.is_empty() && self.parts.is_empty() && self.sent.is_empty() && self.commits.is_empty());
        self.base.is_none() && self.last.is_none() && (is_under_way || self.intent.is_some())
    }

    /// What is being published stays so, and as private as it was to be, until it is done.
    pub fn target_with(&self, target: Target) -> Target {
        let old = self.target.as_ref().filter(|old| self.is_open && old.is_published && old.is_same_place(&target));
        match old {
            Some(old) => Target { is_published: true, private: old.private || target.private, ..target },
            None => target,
        }
    }
}
