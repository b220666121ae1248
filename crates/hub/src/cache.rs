//! huggingface_hub's cache: blobs by their hash, snapshots of links to them, and what each revision was last.
//!
//! The layout is that of huggingface_hub's `file_download.py`: `models--owner--name/{blobs,snapshots,refs}`, locks beside
//! in `.locks`. A blob is named as the Hub's ETag: the SHA-256 of large files, the id of git's blob for small ones.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::name::is_commit;
use crate::{HubError, HubRepo};

/// What a process that was killed left on its way is surely left after this time: names are changed within milliseconds.
pub(crate) const LEFT_AFTER: Duration = Duration::from_secs(3600);

/// A repository's folder in the cache.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    root: PathBuf,
    dir: PathBuf,
    folder_name: String,
}

impl RepoCache {
    pub fn of(cache_dir: &Path, repo: &HubRepo) -> Self {
        let folder_name = format!("{}--{}--{}", repo.kind().plural(), repo.owner(), repo.name());
        Self { root: cache_dir.to_owned(), dir: cache_dir.join(&folder_name), folder_name }
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    pub fn blob(&self, hash: &str) -> PathBuf {
        self.dir.join("blobs").join(hash)
    }

    pub fn reference(&self, revision: &str) -> PathBuf {
        self.dir.join("refs").join(revision)
    }

    /// The commit that `revision` was at when it was last fetched, or what is there instead.
    pub fn commit_of(&self, repo: &HubRepo) -> Result<String, (PathBuf, &'static str)> {
        if let Some(commit) = repo.commit() {
            return Ok(commit.to_owned());
        }
        let path = self.reference(repo.revision());
        match read_small(&path, 1 << 10).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()) {
            Ok(commit) if is_commit(&commit) => Ok(commit),
            Ok(_) => Err((path, "a file that holds no commit hash")),
            Err(_) => Err((path, "nothing")),
        }
    }

    /// Writes down which commit the revision means, for use without the Hub. Python reads the same file. A cache that may
    /// only be read has the files all the same.
    pub fn remember(&self, repo: &HubRepo, commit: &str) -> Result<(), HubError> {
        if repo.commit().is_some() || self.commit_of(repo).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        let path = self.reference(repo.revision());
        let folder = path.parent().unwrap_or(&self.dir);
        match no_links(&self.dir, folder).and_then(|()| write_whole(&path, commit.as_bytes())) {
            // One of the name `a` that has become `a/b`, or the other way round, is in its own way; Python goes on as well.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied
                        | io::ErrorKind::ReadOnlyFilesystem
                        | io::ErrorKind::AlreadyExists
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::IsADirectory
                        | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                tracing::warn!(path = %path.display(), %error, "not written down; without the Hub, {repo} is what it was before");
                Ok(())
            }
            written => written.map_err(HubError::io(format!("writing {}", path.display()))),
        }
    }

    /// Whether the snapshot has `path` with as many bytes as the Hub says.
    pub fn has(&self, commit: &str, path: &str, size_bytes: u64) -> bool {
        fs::metadata(self.snapshot(commit).join(path)).is_ok_and(|found| found.is_file() && found.len() == size_bytes)
    }

    /// Gives the blob `hash` the name `path` in the snapshot of `commit`. Whoever does holds its [`lock`](Self::lock).
    pub fn link(&self, commit: &str, path: &str, hash: &str) -> io::Result<PathBuf> {
        let name = self.snapshot(commit).join(path);
        let folder = name.parent().unwrap_or(&self.dir);
        no_links(&self.dir, folder)?;
        fs::create_dir_all(folder)?;
        let up = Path::new(path).components().count() + 1;
        let target: PathBuf = std::iter::repeat_n(Component::ParentDir, up).collect::<PathBuf>().join("blobs").join(hash);
        if fs::read_link(&name).is_ok_and(|is| is == target) {
            return Ok(name);
        }
        // Named by the content, so that what a killed process left is in the way of nobody but the next who makes the same.
        let fresh = name.with_file_name(format!(".{hash}.new"));
        match fs::remove_file(&fresh) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let made = make_link(&target, &self.blob(hash), &fresh).and_then(|()| fs::rename(&fresh, &name));
        made.inspect_err(|_failed| drop(fs::remove_file(&fresh)))?;
        Ok(name)
    }

    /// Holds what huggingface_hub holds while it writes the blob `hash`. The kernel lets it go when its holder dies.
    ///
    /// # Errors
    /// Where the lock can't be had, and where a link is in the place of the folder of blobs.
    pub fn lock(&self, hash: &str) -> Result<File, HubError> {
        let blobs = self.dir.join("blobs");
        no_links(&self.dir, &blobs).map_err(HubError::io(format!("writing to {}", blobs.display())))?;
        let folder = self.root.join(".locks").join(&self.folder_name);
        let path = folder.join(format!("{hash}.lock"));
        let lock = || {
            no_links(&self.root, &folder)?;
            fs::create_dir_all(&folder)?;
            lock_file(&path)
        };
        lock().map_err(|err| not_written(&path, err))
    }
}

/// How long a lock is waited for until it is said who holds it.
const LOCK_QUIET: Duration = Duration::from_secs(2);
const LOCK_LOOK: Duration = Duration::from_millis(20);

/// Makes and locks the file at `path`, and says who has it where that takes long. Whoever tidies up may take it away before it is
/// locked: then another is made.
pub(crate) fn lock_file(path: &Path) -> io::Result<File> {
    loop {
        let file = open_own(path, File::options().create(true).truncate(false).write(true))?;
        let mut looks = LOCK_QUIET.as_millis() / LOCK_LOOK.as_millis();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(fs::TryLockError::WouldBlock) if looks > 0 => {
                    looks -= 1;
                    std::thread::sleep(LOCK_LOOK);
                }
                Err(fs::TryLockError::WouldBlock) => {
                    let who = holder(&file).map_or_else(|| "another process".to_owned(), |pid| format!("the process {pid}"));
                    tracing::warn!("{who} has {}, and is waited for; Ctrl-C ends the waiting", path.display());
                    file.lock()?;
                    break;
                }
                Err(fs::TryLockError::Error(err)) => return Err(err),
            }
        }
        if is_same(path, &file) {
            return Ok(file);
        }
    }
}

#[cfg(unix)]
fn is_same(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |found: &fs::Metadata| (found.dev(), found.ino());
    fs::symlink_metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|here| id(&here) == id(&there)))
}

#[cfg(not(unix))]
fn is_same(path: &Path, _file: &File) -> bool {
    path.exists()
}

/// The process that has locked a file, as the kernel tells it: `1: FLOCK ADVISORY WRITE 4711 fd:01:1234 0 EOF`.
fn holder(file: &File) -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        let inode = format!(":{}", std::os::unix::fs::MetadataExt::ino(&file.metadata().ok()?));
        let locks = fs::read_to_string("/proc/locks").ok()?;
        let words = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.filter(|words| words.get(1) == Some(&"FLOCK")).find_map(|words| {
            words.get(5).filter(|id| id.ends_with(&inode))?;
            words.get(4)?.parse().ok()
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        None
    }
}

/// Why `path` in the cache could not be written. Where this user may not, it says whose the cache is, and what to do.
pub(crate) fn not_written(path: &Path, source: io::Error) -> HubError {
    let doing = format!("writing {}", path.display());
    let why = match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "the disk may only be read".to_owned(),
        io::ErrorKind::PermissionDenied => {
            let there = path.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(path);
            format!("{} {}", there.display(), owner_of(there).unwrap_or_else(|| "may not be written to".into()))
        }
        _ => return HubError::Io { doing, source },
    };
    HubError::Unusable { doing, what: format!("{why}; set HF_HOME to a folder of your own") }
}

/// Whose a folder is that this user may not write to.
#[cfg(unix)]
fn owner_of(folder: &Path) -> Option<String> {
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder).ok()?);
    if owner == rustix::process::geteuid().as_raw() {
        return Some("is yours, and may only be read".into());
    }
    Some(format!("belongs to the user {owner}"))
}

#[cfg(not(unix))]
fn owner_of(_folder: &Path) -> Option<String> {
    None
}

/// Refuses a link in the place of a folder on the way from `root` down to `folder`, so that nothing is written where it leads.
/// `root` itself may be one: whoever has it on another disk has said so.
pub(crate) fn no_links(root: &Path, folder: &Path) -> io::Result<()> {
    let is_link = |path: &&Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match folder.ancestors().take_while(|path| *path != root).find(is_link) {
        Some(link) => {
            let what = format!("{} is a link, and nothing is written where it leads; put a folder in its place", link.display());
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
        None => Ok(()),
    }
}

/// A link; where the file system has none, another name of the same file, or a copy. Nothing has the name `name` yet.
fn make_link(target: &Path, blob: &Path, name: &Path) -> io::Result<()> {
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(target, name);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(target, name);
    linked.or_else(|_none| fs::hard_link(blob, name)).or_else(|_none| fs::copy(blob, name).map(drop))
}

/// Writes a small file so that its name never stands for a part of it, and takes away what was left of earlier tries.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, false)
}

/// The same for what nobody else may read at any moment, and what can't be had again: it is on the disk before it has its name.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write(path, bytes, true)
}

fn write(path: &Path, bytes: &[u8], is_secret: bool) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let begin: String = name.chars().take(60).collect();
    let begin = format!(".{begin}-");
    let fresh = path.with_file_name(format!("{begin}{}-{}.new", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let written = (|| {
        // One of another process that had this one's number, long ago.
        let _gone = fs::remove_file(&fresh);
        let mut options = File::options();
        #[cfg(unix)]
        if is_secret {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        let mut file = options.write(true).create_new(true).open(&fresh)?;
        file.write_all(bytes)?;
        if is_secret {
            file.sync_all()?;
        }
        fs::rename(&fresh, path)
    })();
    written.inspect_err(|_failed| drop(fs::remove_file(&fresh)))?;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with(&begin) && is_leftover(name)) && age(&entry.path()) > LEFT_AFTER {
            // Somebody else may have been faster.
            let _gone = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Whether a file's name is one that [`RepoCache::link`] or [`write_whole`] give for a moment.
pub(crate) fn is_leftover(name: &str) -> bool {
    let Some(begin) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new")) else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut ends = begin.rsplitn(3, '-');
    is_hash(begin) || ends.next().is_some_and(is_number) && ends.next().is_some_and(is_number) && ends.next().is_some()
}

/// The time since a file, or the link itself, was written; none where that is in the future.
pub(crate) fn age(path: &Path) -> Duration {
    let written = fs::symlink_metadata(path).and_then(|found| found.modified());
    written.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

/// The files and links below a folder, by their paths in it, but for what is on its way; none where there is no folder.
pub(crate) fn files_below(folder: &Path) -> Result<BTreeSet<PathBuf>, HubError> {
    let mut files = all_below(folder)?;
    files.retain(|path| !path.file_name().is_some_and(|name| is_leftover(&name.to_string_lossy())));
    Ok(files)
}

/// The same with what is on its way, or was left there.
pub(crate) fn all_below(folder: &Path) -> Result<BTreeSet<PathBuf>, HubError> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(inner) = folders.pop() {
        for entry in entries(&inner)? {
            let path = entry.path();
            // Blobs are reached by links, folders are folders.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Ok(relative) = path.strip_prefix(folder) {
                files.insert(relative.to_owned());
            }
        }
    }
    Ok(files)
}

/// What is in a folder; nothing where there is none.
pub(crate) fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, HubError> {
    let read = || match fs::read_dir(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other?.collect(),
    };
    read().map_err(HubError::io(format!("reading {}", folder.display())))
}

/// A file that is small when it is what it should be. One that never ends, or never begins, is an error at once.
pub(crate) fn read_small(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let refuse = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    // Opening a pipe would wait for whoever writes to it.
    if !fs::metadata(path)?.is_file() {
        return refuse("it is no regular file".into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes { refuse(format!("it has more than {most_bytes} bytes")) } else { Ok(bytes) }
}

/// Neither waits for the other end of a pipe, nor goes where a link leads.
pub(crate) fn unfollowed(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        std::os::unix::fs::OpenOptionsExt::custom_flags(options, (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed());
    }
    options
}

/// Opens a regular file of our own, or makes it, without waiting for anybody: a link is not followed to what it names, and a
/// pipe in the file's place waits for no other end.
pub(crate) fn open_own(path: &Path, options: &mut fs::OpenOptions) -> io::Result<File> {
    let refuse = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    match unfollowed(options).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Err(err) => match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => refuse("it is a link, which is not followed; remove it"),
            Ok(found) if !found.is_file() => refuse("it is no regular file; remove it"),
            _ => Err(err),
        },
        Ok(_) => refuse("it is no regular file; remove it"),
    }
}

/// Why `path`, as a listing of the Hub has it, can't become a path below a folder on this machine.
pub(crate) fn path_fault(path: &str) -> Option<&'static str> {
    if path.is_empty() || path.len() > 1024 {
        return Some("it is empty, or longer than 1024 bytes");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Some("it holds a backslash or a control character");
    }
    if path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
        return Some("it would be among what git keeps for itself");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..") || part.len() > 255) {
        return Some("it leaves its folder, or has an empty or overlong part");
    }
    // On Windows this would name a drive or a stream.
    (cfg!(windows) && path.contains(':')).then_some("it holds a colon")
}

/// Whether a text is a hash as the Hub names blobs, so that it may become a file's name.
pub(crate) fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RepoKind;
    use crate::error::innermost;

    #[test]
    fn only_paths_below_a_folder_are_paths() {
        for path in
            ["config.json", "meta/info.json", "videos/observation.images.top/chunk-000/file-000.mp4", ".gitattributes", "a b/ü.json"]
        {
            assert_eq!(path_fault(path), None, "{path}");
        }
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\\b", "a\nb", ".git/config", ".Git/config", "./a"] {
            assert!(path_fault(path).is_some(), "{path:?}");
        }
    }

    #[test]
    fn hashes_are_lower_case_and_of_the_right_length() {
        assert!(is_hash(&"a".repeat(40)) && is_hash(&"0".repeat(64)));
        for text in [&"A".repeat(40), &"a".repeat(41), &format!("../{}", "a".repeat(37)), ""] {
            assert!(!is_hash(text), "{text}");
        }
    }

    /// A cache with one blob that says "new", and its hash.
    fn cached() -> (tempfile::TempDir, RepoCache, String) {
        let root = tempfile::tempdir().unwrap();
        let repo = HubRepo::parse(RepoKind::Dataset, "a/b").unwrap();
        let cache = RepoCache::of(root.path(), &repo);
        let hash = "a".repeat(40);
        fs::create_dir_all(cache.blob(&hash).parent().unwrap()).unwrap();
        fs::write(cache.blob(&hash), "new").unwrap();
        (root, cache, hash)
    }

    #[test]
    fn a_link_replaces_what_was_in_its_place() {
        let (_root, cache, hash) = cached();
        for _ in 0..2 {
            let name = cache.link("c0ffee", "meta/info.json", &hash).unwrap();
            assert_eq!(fs::read_to_string(&name).unwrap(), "new");
            assert_eq!(fs::read_link(&name).unwrap(), Path::new("../../../blobs").join(&hash));
        }
        fs::remove_file(cache.snapshot("c0ffee").join("meta/info.json")).unwrap();
        fs::write(cache.snapshot("c0ffee").join("meta/info.json"), "old and cut").unwrap();
        assert_eq!(fs::read_to_string(cache.link("c0ffee", "meta/info.json", &hash).unwrap()).unwrap(), "new");
    }

    #[test]
    #[cfg(unix)]
    fn nothing_is_written_through_a_link_in_a_folders_place() {
        let repo = HubRepo::parse(RepoKind::Dataset, "a/b").unwrap();
        let (commit, hash) = ("c".repeat(40), "a".repeat(40));
        for linked in ["blobs", "snapshots", "snapshots/COMMIT", "snapshots/COMMIT/meta", "refs"] {
            let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let cache = RepoCache::of(root.path(), &repo);
            let link = cache.dir.join(linked.replace("COMMIT", &commit));
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(outside.path(), &link).unwrap();
            let told = match linked {
                "blobs" => innermost(&cache.lock(&hash).map(drop).unwrap_err()),
                "refs" => innermost(&cache.remember(&repo, &commit).unwrap_err()),
                _ => cache.link(&commit, "meta/info.json", &hash).unwrap_err().to_string(),
            };
            assert!(told.contains(&format!("{} is a link", link.display())), "{linked}: {told}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{linked}");
        }
    }

    #[test]
    fn only_names_of_a_moment_are_leftovers() {
        for name in [".main-17-0.new", ".a-b-17-0.new", &format!(".{}.new", "a".repeat(64))] {
            assert!(is_leftover(name), "{name}");
        }
        for name in ["main", ".new", ".a.new", ".17-0.new", ".a-b-0.new", "a-1-2.new", ".gitattributes", &format!("{}.new", "a".repeat(64))]
        {
            assert!(!is_leftover(name), "{name}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let (root, cache, hash) = cached();
        fs::create_dir_all(cache.snapshot("c0ffee")).unwrap();
        std::os::unix::fs::symlink("nowhere", cache.snapshot("c0ffee").join(format!(".{hash}.new"))).unwrap();
        cache.link("c0ffee", "info.json", &hash).unwrap();
        assert_eq!(all_below(&cache.snapshot("c0ffee")).unwrap(), BTreeSet::from(["info.json".into()]));

        let refs = root.path().join("refs");
        fs::create_dir(&refs).unwrap();
        for (name, age_s) in [(".main-1-0.new", 7200), (".main-2-0.new", 0), (".other-1-0.new", 7200)] {
            let file = File::create(refs.join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age_s)).unwrap();
        }
        write_whole(&refs.join("main"), b"x").unwrap();
        let names = [".main-2-0.new", ".other-1-0.new", "main"].map(PathBuf::from);
        assert_eq!(all_below(&refs).unwrap(), BTreeSet::from(names));
        assert_eq!(files_below(&refs).unwrap(), BTreeSet::from(["main".into()]));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_never_ends_is_no_small_file() {
        assert!(read_small(Path::new("/dev/zero"), 10).unwrap_err().to_string().contains("no regular file"));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), [0; 11]).unwrap();
        assert!(read_small(&folder.path().join("f"), 10).unwrap_err().to_string().contains("more than 10 bytes"));
        assert_eq!(read_small(&folder.path().join("f"), 11).unwrap().len(), 11);
    }

    #[test]
    fn a_reference_is_written_whole_and_once() {
        let root = tempfile::tempdir().unwrap();
        let repo = HubRepo::parse(RepoKind::Model, "a/b@refs/pr/3").unwrap();
        let cache = RepoCache::of(root.path(), &repo);
        assert!(cache.commit_of(&repo).is_err());
        let commit = "0123456789abcdef0123456789abcdef01234567";
        cache.remember(&repo, commit).unwrap();
        assert_eq!(cache.commit_of(&repo).unwrap(), commit);
        assert_eq!(fs::read_to_string(root.path().join("models--a--b/refs/refs/pr/3")).unwrap(), commit);
        // A branch that became a folder of branches, and one that was such a folder.
        for (first, then) in [("feat", "feat/sub"), ("fix/sub", "fix")] {
            for name in [first, then] {
                cache.remember(&HubRepo::parse(RepoKind::Model, &format!("a/b@{name}")).unwrap(), commit).unwrap();
            }
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_lock_whose_file_was_taken_away_is_no_lock() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.lock");
        let held = lock_file(&path).unwrap();
        assert_eq!(holder(&held), cfg!(target_os = "linux").then(std::process::id));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| lock_file(&path).unwrap());
            std::thread::sleep(Duration::from_millis(100));
            fs::remove_file(&path).unwrap();
            drop(held);
            let other = other.join().unwrap();
            assert!(is_same(&path, &other));
        });
    }
}
