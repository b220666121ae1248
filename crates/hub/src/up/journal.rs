//! What is known of an upload that may be killed at any time: hashes of files, and what of them the Hub has already.
//!
//! A line of JSON for each thing that was learnt, in `.cache/sinew/upload.jsonl` of the folder, which nothing uploads. A
//! line that was cut by a kill is left out, and so are lines of other versions: they cost time, not truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{HubError, HubRepo, RepoKind};

/// A file that was written to so lately may be written to again without its times telling.
const YOUNG: Duration = Duration::from_secs(2);

/// How a file looks from outside. As long as it looks the same, it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub size: u64,
    /// Nanoseconds since 1970.
    modified: u64,
    /// When its content or its name, owner or rights changed; 0 where the system doesn't say.
    changed: u64,
    inode: u64,
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
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum Line {
    Hash {
        path: String,
        stamp: Stamp,
        hashes: Hashes,
    },
    /// What follows is about this repository.
    Target(Target),
    /// The branch was at this commit when the upload began.
    Base {
        commit: String,
    },
    Mode {
        path: String,
        sha256: String,
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
    /// A commit of ours, and what it is based on.
    Commit {
        commit: String,
        parent: String,
    },
}

#[derive(Default)]
struct Known {
    hashes: HashMap<String, (Stamp, Hashes)>,
    target: Option<Target>,
    modes: HashMap<(String, String), Mode>,
    parts: HashMap<String, Parts>,
    sent: BTreeSet<String>,
    offered: BTreeSet<String>,
    base: Option<String>,
    /// Each with its parent.
    commits: Vec<(String, String)>,
}

impl Known {
    fn learn(&mut self, line: Line) {
        match line {
            Line::Hash { path, stamp, hashes } => drop(self.hashes.insert(path, (stamp, hashes))),
            Line::Target(target) => {
                let hashes = std::mem::take(&mut self.hashes);
                if self.target.as_ref().is_some_and(|old| old.is_same_place(&target)) {
                    (self.hashes, self.target) = (hashes, Some(target));
                } else {
                    *self = Self { hashes, target: Some(target), ..Self::default() };
                }
            }
            Line::Base { commit } => self.base = Some(commit),
            Line::Mode { path, sha256, mode } => drop(self.modes.insert((path, sha256), mode)),
            Line::Parts { oid, parts } => drop(self.parts.insert(oid, parts)),
            Line::Part { oid, part, etag } => {
                if let Some(parts) = self.parts.get_mut(&oid) {
                    parts.etags.insert(part, etag);
                }
            }
            Line::NoParts { oid } => drop(self.parts.remove(&oid)),
            Line::Sent { oid } => drop(self.sent.insert(oid)),
            Line::NotSent { oid } => drop(self.sent.remove(&oid)),
            Line::Offer { path } => drop(self.offered.insert(path)),
            Line::Commit { commit, parent } => self.commits.push((commit, parent)),
        }
    }
}

/// See the [module](self). While it is held, nobody else uploads from the folder.
pub(super) struct Journal {
    inner: Mutex<Inner>,
}

struct Inner {
    known: Known,
    path: PathBuf,
    /// `None` in a folder that can't be written to: then a kill costs more.
    file: Option<File>,
}

impl Journal {
    fn path(folder: &Path) -> PathBuf {
        folder.join(".cache").join("sinew").join("upload.jsonl")
    }

    /// Where a folder is to be finished to, if it is one that is being published.
    pub fn target_in(folder: &Path) -> Option<Target> {
        let mut known = Known::default();
        read_lines(&fs::read(Self::path(folder)).ok()?).for_each(|line| known.learn(line));
        known.target.filter(|target| target.is_published)
    }

    pub fn open(folder: &Path) -> Result<Self, HubError> {
        let path = Self::path(folder);
        let mut known = Known::default();
        let file = match open_locked(&path) {
            Ok(mut file) => {
                let mut text = Vec::new();
                file.read_to_end(&mut text).map_err(HubError::io(format!("reading {}", path.display())))?;
                read_lines(&text).for_each(|line| known.learn(line));
                // A line that was cut must not spoil the next.
                let is_cut = text.last().is_some_and(|last| *last != b'\n');
                let mended = file.seek(SeekFrom::End(0)).and_then(|_| if is_cut { file.write_all(b"\n") } else { Ok(()) });
                mended.ok().map(|()| file)
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                let what = "another upload of the same folder is running; wait for it, or end it".to_owned();
                return Err(HubError::Unusable { doing: format!("uploading {}", folder.display()), what });
            }
            Err(err) => {
                tracing::warn!(%err, path = %path.display(), "what was sent is not written down, so a killed upload would begin anew");
                None
            }
        };
        Ok(Self { inner: Mutex::new(Inner { known, path, file }) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, line: Line) {
        let mut inner = self.inner();
        let mut text = serde_json::to_string(&line).unwrap_or_default();
        text.push('\n');
        if let Some(Err(err)) = inner.file.as_mut().map(|file| file.write_all(text.as_bytes())) {
            tracing::warn!(%err, path = %inner.path.display(), "what was sent is not written down any more");
            inner.file = None;
        }
        inner.known.learn(line);
    }

    /// Says where the files go. What was noted for another place is forgotten, but not the hashes.
    pub fn aim(&self, target: &Target) {
        if self.inner().known.target.as_ref() != Some(target) {
            self.note(Line::Target(target.clone()));
        }
    }

    pub fn hashes(&self, path: &str, stamp: &Stamp) -> Option<Hashes> {
        self.inner().known.hashes.get(path).filter(|(of, _)| of == stamp).map(|(_, hashes)| hashes.clone())
    }

    pub fn note_hashes(&self, path: &str, stamp: &Stamp, hashes: &Hashes) {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_nanos(stamp.modified.max(stamp.changed));
        if modified.elapsed().is_ok_and(|age| age > YOUNG) {
            self.note(Line::Hash { path: path.to_owned(), stamp: *stamp, hashes: hashes.clone() });
        }
    }

    pub fn mode(&self, path: &str, sha256: &str) -> Option<Mode> {
        self.inner().known.modes.get(&(path.to_owned(), sha256.to_owned())).copied()
    }

    pub fn note_mode(&self, path: &str, sha256: &str, mode: Mode) {
        self.note(Line::Mode { path: path.to_owned(), sha256: sha256.to_owned(), mode });
    }

    pub fn parts(&self, oid: &str) -> Option<Parts> {
        self.inner().known.parts.get(oid).cloned()
    }

    pub fn note_parts(&self, oid: &str, parts: &Parts) {
        self.note(Line::Parts { oid: oid.to_owned(), parts: parts.clone() });
    }

    pub fn note_part(&self, oid: &str, part: usize, etag: &str) {
        self.note(Line::Part { oid: oid.to_owned(), part, etag: etag.to_owned() });
    }

    pub fn forget_parts(&self, oid: &str) {
        if self.inner().known.parts.contains_key(oid) {
            self.note(Line::NoParts { oid: oid.to_owned() });
        }
    }

    pub fn is_sent(&self, oid: &str) -> bool {
        self.inner().known.sent.contains(oid)
    }

    pub fn note_sent(&self, oid: &str) {
        if !self.is_sent(oid) {
            self.note(Line::Sent { oid: oid.to_owned() });
        }
    }

    pub fn forget_sent(&self, oid: &str) {
        if self.is_sent(oid) {
            self.note(Line::NotSent { oid: oid.to_owned() });
        }
    }

    /// What was offered to go up before its commit, by paths in the folder.
    pub fn offered(&self) -> Vec<String> {
        self.inner().known.offered.iter().cloned().collect()
    }

    pub fn note_offer(&self, path: &str) {
        if !self.inner().known.offered.contains(path) {
            self.note(Line::Offer { path: path.to_owned() });
        }
    }

    pub fn base(&self) -> Option<String> {
        self.inner().known.base.clone()
    }

    pub fn note_base(&self, commit: &str) {
        self.note(Line::Base { commit: commit.to_owned() });
    }

    pub fn note_commit(&self, commit: &str, parent: &str) {
        self.note(Line::Commit { commit: commit.to_owned(), parent: parent.to_owned() });
    }

    /// Whether `head` is what commits of ours alone have made of `base`.
    pub fn leads_from(&self, base: &str, head: &str) -> bool {
        let inner = self.inner();
        let mut at = head;
        for (commit, parent) in inner.known.commits.iter().rev() {
            if at == base {
                return true;
            }
            if commit == at {
                at = parent;
            }
        }
        at == base
    }

    /// Takes it away, and its folders if nothing else is in them.
    pub fn remove(&self) {
        let mut inner = self.inner();
        inner.file = None;
        // What can't be removed is found again, and harms nothing.
        drop(fs::remove_file(&inner.path));
        inner.path.ancestors().skip(1).take(2).for_each(|folder| drop(fs::remove_dir(folder)));
    }

    /// All is done: the hashes stay, the rest is forgotten.
    pub fn finish(&self) -> Result<(), HubError> {
        let mut inner = self.inner();
        inner.known = Known { hashes: std::mem::take(&mut inner.known.hashes), ..Known::default() };
        if inner.file.is_none() {
            return Ok(());
        }
        let mut text = Vec::new();
        for (path, (stamp, hashes)) in &inner.known.hashes {
            let line = Line::Hash { path: path.clone(), stamp: *stamp, hashes: hashes.clone() };
            serde_json::to_writer(&mut text, &line).map_err(|err| HubError::io(format!("writing {}", inner.path.display()))(err.into()))?;
            text.push(b'\n');
        }
        let inner = &mut *inner;
        let written = inner.file.as_mut().map(|file| file.set_len(0).and_then(|()| file.write_all(&text)));
        written.unwrap_or(Ok(())).map_err(HubError::io(format!("writing {}", inner.path.display())))?;
        Ok(())
    }
}

fn open_locked(path: &Path) -> io::Result<File> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut options = File::options();
    options.create(true).read(true).append(true);
    // Addresses of an upload in parts let whoever has them write.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    file.try_lock().map_err(io::Error::from)?;
    Ok(file)
}

fn read_lines(text: &[u8]) -> impl Iterator<Item = Line> {
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target::new("https://hub", &HubRepo::parse(RepoKind::Dataset, name).unwrap(), false, true)
    }

    fn parts() -> Parts {
        Parts { complete: "https://hub/done".into(), part_bytes: 5, urls: vec!["a".into(), "b".into()], etags: BTreeMap::new() }
    }

    #[test]
    fn what_was_learnt_is_known_again_but_for_a_line_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        {
            let journal = Journal::open(folder.path()).unwrap();
            assert!(matches!(Journal::open(folder.path()), Err(HubError::Unusable { .. })));
            journal.aim(&target("a/b"));
            journal.note_parts("oid", &parts());
            journal.note_part("oid", 0, "\"e0\"");
            journal.note_mode("x", "sha", Mode::Inline);
            journal.note_commit("c1", "c0");
            journal.note_commit("c2", "c1");
            journal.note_part("oid", 1, "\"e1\"");
        }
        let path = Journal::path(folder.path());
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 4]).unwrap();
        for _ in 0..2 {
            let journal = Journal::open(folder.path()).unwrap();
            assert_eq!(journal.parts("oid").unwrap().etags, BTreeMap::from([(0, "\"e0\"".to_owned())]));
            assert_eq!(journal.mode("x", "sha"), Some(Mode::Inline));
            assert!(journal.leads_from("c0", "c2") && journal.leads_from("c1", "c2") && !journal.leads_from("c0", "c3"));
            // A new line does not hang on the cut one.
            journal.note_sent("later");
        }
        let journal = Journal::open(folder.path()).unwrap();
        assert!(journal.is_sent("later"));
        assert_eq!(Journal::target_in(folder.path()).and_then(|target| target.repo()).unwrap().repo(), "a/b");
        journal.aim(&target("a/other"));
        assert_eq!((journal.parts("oid"), journal.is_sent("later")), (None, false));
        journal.finish().unwrap();
        assert!(Journal::target_in(folder.path()).is_none());
    }

    #[test]
    fn a_young_file_is_hashed_again_and_another_inode_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "x").unwrap();
        let stamp = || Stamp::of(&fs::metadata(&path).unwrap());
        let journal = Journal::open(folder.path()).unwrap();
        let hashes = Hashes { sha256: "s".into(), git: None };
        journal.note_hashes("f", &stamp(), &hashes);
        assert_eq!(journal.hashes("f", &stamp()), None);
        let old = Stamp { modified: 1, changed: 1, ..stamp() };
        journal.note_hashes("f", &old, &hashes);
        assert_eq!(journal.hashes("f", &old), Some(hashes));
        assert_eq!(journal.hashes("f", &Stamp { inode: old.inode + 1, ..old }), None);
    }
}
