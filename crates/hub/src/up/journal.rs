//! What is known of an upload that may be killed at any time: hashes of files, and what of them the Hub has already.
//!
//! A line of JSON for each thing that was learnt, in `.cache/sinew/upload.jsonl` of the folder, which nothing uploads. A
//! line that was cut by a kill is left out, and so are lines of other versions: they cost time, not truth.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::notes::{Hashes, Intent, Known, Line, Mode, Parts, Read, Stamp, Target};
use super::plan::open_regular;
use crate::cache::unfollowed;
use crate::{HubError, RepoFile};

/// A file that was written to so lately may be written to again without its times telling.
const YOUNG: Duration = Duration::from_secs(2);

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

    /// What is noted in a folder now, whoever is at work there.
    pub fn known_in(folder: &Path) -> io::Result<Known> {
        let path = Self::path(folder);
        let mut known = Known::default();
        match check_way(&path).and_then(|()| read_all(open_regular(&path)?)) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            text => read_lines(&text?).for_each(|line| known.learn(line)),
        }
        Ok(known)
    }

    /// Where a folder was published to while it was recorded, and the commit that has all of it, if that is done.
    pub fn published_in(folder: &Path) -> Result<Option<(Target, Option<String>)>, HubError> {
        let doing = || format!("reading {}", Self::path(folder).display());
        Ok(Self::known_in(folder).map_err(HubError::io(doing()))?.published())
    }

    pub fn open(folder: &Path) -> Result<Self, HubError> {
        let path = Self::path(folder);
        let mut known = Known::default();
        let file = match open_locked(&path) {
            Ok(mut file) => {
                let text = read_all(&file).map_err(HubError::io(format!("reading {}", path.display())))?;
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
            Err(err) if err.kind() == io::ErrorKind::InvalidInput => {
                return Err(HubError::Unusable { doing: format!("uploading {}", folder.display()), what: err.to_string() });
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

    /// Says where the files go, and whether something was being published there already. What was noted for another place waits
    /// until it is that place's turn.
    pub fn aim(&self, target: &Target) -> bool {
        let (is_published, is_aimed) = {
            let mut inner = self.inner();
            let is_published = inner.known.is_published_to(target);
            let place = inner.known.here();
            (is_published, place.is_open && place.target.as_ref() == Some(&place.target_with(target.clone())))
        };
        if !is_aimed {
            self.note(Line::Target(target.clone()));
        }
        is_published
    }

    /// What a file holds, if it was searched for the same secrets.
    pub fn hashes(&self, path: &str, stamp: &Stamp, searched: Option<&str>) -> Option<Hashes> {
        let inner = self.inner();
        let read = inner.known.hashes.get(path).filter(|read| read.stamp == *stamp && read.searched.as_deref() == searched);
        read.map(|read| read.hashes.clone())
    }

    pub fn note_hashes(&self, path: &str, stamp: &Stamp, hashes: &Hashes, searched: Option<&str>) {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_nanos(stamp.modified.max(stamp.changed));
        if modified.elapsed().is_ok_and(|age| age > YOUNG) {
            let read = Read { stamp: *stamp, hashes: hashes.clone(), searched: searched.map(str::to_owned) };
            self.note(Line::Hash { path: path.to_owned(), read });
        }
    }

    pub fn mode(&self, path: &str, sha256: &str, rules: Option<&str>) -> Option<Mode> {
        let key = (path.to_owned(), sha256.to_owned(), rules.map(str::to_owned));
        self.inner().known.here().modes.get(&key).copied()
    }

    pub fn note_mode(&self, path: &str, sha256: &str, rules: Option<&str>, mode: Mode) {
        self.note(Line::Mode { path: path.to_owned(), sha256: sha256.to_owned(), rules: rules.map(str::to_owned), mode });
    }

    pub fn parts(&self, oid: &str) -> Option<Parts> {
        self.inner().known.here().parts.get(oid).cloned()
    }

    pub fn note_parts(&self, oid: &str, parts: &Parts) {
        self.note(Line::Parts { oid: oid.to_owned(), parts: parts.clone() });
        parts.etags.iter().for_each(|(part, etag)| self.note_part(oid, *part, etag));
    }

    pub fn note_part(&self, oid: &str, part: usize, etag: &str) {
        self.note(Line::Part { oid: oid.to_owned(), part, etag: etag.to_owned() });
    }

    pub fn forget_parts(&self, oid: &str) {
        if self.parts(oid).is_some() {
            self.note(Line::NoParts { oid: oid.to_owned() });
        }
    }

    pub fn is_sent(&self, oid: &str) -> bool {
        self.inner().known.here().sent.contains(oid)
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
        self.inner().known.here().offered.iter().cloned().collect()
    }

    pub fn note_offer(&self, path: &str) {
        let is_known = self.inner().known.here().offered.contains(path);
        if !is_known {
            self.note(Line::Offer { path: path.to_owned() });
        }
    }

    /// The commit that the branch must be at: where this began, or else where the last upload from here ended.
    pub fn base(&self) -> Option<String> {
        let mut inner = self.inner();
        let place = inner.known.here();
        place.base.clone().or_else(|| place.last.clone())
    }

    pub fn has_lost_its_base(&self) -> bool {
        self.inner().known.here().has_lost_its_base()
    }

    pub fn note_base(&self, commit: &str) {
        self.note(Line::Base { commit: commit.to_owned() });
    }

    /// Whether the dataset that the repository holds at `head` was found to be this one, or may be replaced by it.
    pub fn is_ours(&self, head: &str) -> bool {
        let ours = self.inner().known.here().ours.clone();
        ours.is_some_and(|commit| self.leads_from(&commit, head))
    }

    pub fn note_ours(&self, head: &str) {
        if !self.is_ours(head) {
            self.note(Line::Ours { commit: head.to_owned() });
        }
    }

    /// Whether all that the repository holds at `head` may be written over.
    pub fn is_meant(&self, head: &str) -> bool {
        let meant = self.inner().known.here().meant.clone();
        meant.is_some_and(|commit| self.leads_from(&commit, head))
    }

    pub fn note_meant(&self, head: &str) {
        if !self.is_meant(head) {
            self.note(Line::Meant { commit: head.to_owned() });
        }
    }

    /// Whether the repository's file of this hash was once there as it was here.
    pub fn is_known(&self, path: &str, hash: &str) -> bool {
        self.inner().known.was_there(path, hash)
    }

    pub fn note_there(&self, path: &str, hash: &str) {
        let is_noted = self.inner().known.here().there.get(path).is_some_and(|known| known == hash);
        if !is_noted {
            self.note(Line::There { path: path.to_owned(), hash: hash.to_owned() });
        }
    }

    /// Whether it was said that the repository is to be for its owner alone.
    pub fn is_private(&self) -> bool {
        self.inner().known.here().target.as_ref().is_some_and(|target| target.private)
    }

    /// Whether the repository was private when it was seen last.
    pub fn was_private(&self) -> bool {
        self.inner().known.here().was_private
    }

    pub fn note_private(&self, private: bool) {
        if self.was_private() != private {
            self.note(Line::Private { private });
        }
    }

    /// `files` came from `target` at `commit`. An upload that has begun there goes on as if they had not.
    pub fn came_from(&self, target: &Target, commit: &str, files: &[RepoFile]) {
        if self.inner().known.is_open_for(target) {
            return;
        }
        self.aim(target);
        files.iter().for_each(|file| self.note_there(&file.path, &file.hash));
        self.finish(commit);
    }

    /// The commits that uploads from here to this repository ended with.
    pub fn lasts(&self) -> Vec<String> {
        self.inner().known.lasts()
    }

    pub fn intent(&self) -> Option<Intent> {
        self.inner().known.here().intent.clone()
    }

    pub fn note_intent(&self, intent: &Intent) {
        self.note(Line::Intent(intent.clone()));
    }

    pub fn note_commit(&self, commit: &str, parent: &str) {
        self.note(Line::Commit { commit: commit.to_owned(), parent: parent.to_owned() });
    }

    /// Whether `head` is what commits of ours alone have made of `base`.
    pub fn leads_from(&self, base: &str, head: &str) -> bool {
        let mut inner = self.inner();
        let mut at = head;
        for (commit, parent) in inner.known.here().commits.iter().rev() {
            if at == base {
                return true;
            }
            if commit == at {
                at = parent;
            }
        }
        at == base
    }

    /// Nothing comes of what was begun by the last [`aim`](Self::aim). Nothing is left of the file if it is of no use.
    pub fn withdraw(&self) {
        self.note(Line::Withdrawn);
        let mut inner = self.inner();
        if !inner.known.is_empty() {
            return;
        }
        inner.file = None;
        // What can't be removed is found again, and harms nothing.
        drop(fs::remove_file(&inner.path));
        inner.path.ancestors().skip(1).take(2).for_each(|folder| drop(fs::remove_dir(folder)));
    }

    /// All is there, at `commit`: the hashes stay, and what waits for other places; the rest is forgotten.
    pub fn finish(&self, commit: &str) {
        self.note(Line::Done { commit: commit.to_owned() });
        let mut inner = self.inner();
        if inner.file.is_none() {
            return;
        }
        // A kill leaves the one or the other, whole.
        let fresh = inner.path.with_extension("new");
        let write = || {
            let mut text = Vec::new();
            for line in inner.known.lines() {
                serde_json::to_writer(&mut text, &line)?;
                text.push(b'\n');
            }
            drop(fs::remove_file(&fresh));
            let mut file = private(File::options().create_new(true)).read(true).append(true).open(&fresh)?;
            file.try_lock().map_err(io::Error::from)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &inner.path)?;
            Ok::<_, io::Error>(file)
        };
        match write() {
            Ok(file) => inner.file = Some(file),
            // The longer one says the same.
            Err(err) => tracing::debug!(%err, path = %inner.path.display(), "what was sent is still written down"),
        }
    }
}

/// More than the notes of any folder have.
const MAX_BYTES: u64 = 256 << 20;

/// That neither the journal nor one of its two folders is a link, which would lead to files of somebody else.
fn check_way(path: &Path) -> io::Result<()> {
    let is_link = |step: &&Path| step.symlink_metadata().is_ok_and(|found| found.is_symlink());
    match path.ancestors().take(3).find(is_link) {
        Some(link) => Err(refused(format!("{} is a link; take it away, so that what was sent can be noted there", link.display()))),
        None => Ok(()),
    }
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn read_all(file: impl io::Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    let too_long = || Err(refused(format!("it has more than {} MiB, which is no journal of an upload", MAX_BYTES >> 20)));
    if text.len() as u64 > MAX_BYTES { too_long() } else { Ok(text) }
}

fn open_locked(path: &Path) -> io::Result<File> {
    check_way(path)?;
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    loop {
        let mut options = File::options();
        private(options.create(true)).read(true).append(true);
        let file = unfollowed(&mut options).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(refused(format!("{} is no regular file; take it away, so that what was sent can be noted there", path.display())));
        }
        file.try_lock().map_err(io::Error::from)?;
        // Whoever held it until now may have put another in its place.
        if fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|here| Stamp::of(&here).inode == Stamp::of(&there).inode)) {
            return Ok(file);
        }
    }
}

/// Addresses of an upload in parts let whoever has them write.
fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

fn read_lines(text: &[u8]) -> impl Iterator<Item = Line> {
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{HubRepo, RepoKind};

    fn target(name: &str, is_published: bool) -> Target {
        Target::new("https://hub", &HubRepo::parse(RepoKind::Dataset, name).unwrap(), false, is_published)
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
            journal.aim(&target("a/b", true));
            journal.note_parts("oid", &parts());
            journal.note_part("oid", 0, "\"e0\"");
            journal.note_mode("x", "sha", Some("rules"), Mode::Inline);
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
            assert_eq!((journal.mode("x", "sha", Some("rules")), journal.mode("x", "sha", None)), (Some(Mode::Inline), None));
            assert!(journal.leads_from("c0", "c2") && journal.leads_from("c1", "c2") && !journal.leads_from("c0", "c3"));
            // A new line does not hang on the cut one.
            journal.note_sent("later");
        }
        let journal = Journal::open(folder.path()).unwrap();
        assert!(journal.is_sent("later"));
        drop(journal);
        let published = || Journal::published_in(folder.path()).unwrap().map(|(target, done)| (target.repo().unwrap().repo(), done));
        assert_eq!(published(), Some(("a/b".to_owned(), None)));
        // Another place has notes of its own, and takes none away.
        let journal = Journal::open(folder.path()).unwrap();
        journal.aim(&target("a/other", false));
        assert_eq!((journal.parts("oid"), journal.is_sent("later")), (None, false));
        journal.note_base("b0");
        journal.finish("b1");
        assert_eq!((journal.base(), journal.lasts()), (Some("b1".to_owned()), vec!["b1".to_owned()]));
        drop(journal);
        assert_eq!(published(), Some(("a/b".to_owned(), None)));
        let journal = Journal::open(folder.path()).unwrap();
        // Sent there by another verb, it is published all the same.
        journal.aim(&target("a/b", false));
        assert!(journal.is_sent("later") && journal.parts("oid").unwrap().etags.len() == 1 && journal.leads_from("c0", "c2"));
        assert_eq!(published(), Some(("a/b".to_owned(), None)));
        assert!(journal.aim(&target("a/b", true)));
        journal.finish("c3");
        assert!(!journal.aim(&target("a/new", true)));
        journal.withdraw();
        assert_eq!(published(), Some(("a/b".to_owned(), Some("c3".to_owned()))));
        assert!(matches!(Journal::open(folder.path()), Err(HubError::Unusable { .. })));
    }

    #[test]
    fn a_young_file_is_hashed_again_and_another_inode_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "x").unwrap();
        let stamp = || Stamp::of(&fs::metadata(&path).unwrap());
        let journal = Journal::open(folder.path()).unwrap();
        let hashes = Hashes { sha256: "s".into(), git: None };
        journal.note_hashes("f", &stamp(), &hashes, None);
        assert_eq!(journal.hashes("f", &stamp(), None), None);
        let old = Stamp { modified: 1, changed: 1, ..stamp() };
        journal.note_hashes("f", &old, &hashes, Some("s1"));
        assert_eq!((journal.hashes("f", &old, None), journal.hashes("f", &old, Some("s2"))), (None, None));
        assert_eq!(journal.hashes("f", &old, Some("s1")), Some(hashes));
        assert_eq!(journal.hashes("f", &Stamp { inode: old.inode + 1, ..old }, Some("s1")), None);
    }
}
