//! huggingface_hub's cache: blobs by their hash, snapshots of links to them, and what each revision was last.
//!
//! The layout is that of huggingface_hub's `file_download.py`: `models--owner--name/{blobs,snapshots,refs}`, locks beside
//! in `.locks`. A blob is named as the Hub's ETag: the SHA-256 of large files, the id of git's blob for small ones.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::name::is_commit;
use crate::{HubError, HubRepo};

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
        match fs::read_to_string(&path).map(|text| text.trim().to_owned()) {
            Ok(commit) if is_commit(&commit) => Ok(commit),
            Ok(_) => Err((path, "a file that holds no commit hash")),
            Err(_) => Err((path, "nothing")),
        }
    }

    /// Writes down which commit the revision means, for use without the Hub. Python reads the same file.
    pub fn remember(&self, repo: &HubRepo, commit: &str) -> Result<(), HubError> {
        if repo.commit().is_some() || self.commit_of(repo).is_ok_and(|known| known == commit) {
            return Ok(());
        }
        let path = self.reference(repo.revision());
        write_whole(&path, commit.as_bytes()).map_err(HubError::io(format!("writing {}", path.display())))
    }

    /// Whether the snapshot has `path` with as many bytes as the Hub says.
    pub fn has(&self, commit: &str, path: &str, size_bytes: u64) -> bool {
        fs::metadata(self.snapshot(commit).join(path)).is_ok_and(|found| found.is_file() && found.len() == size_bytes)
    }

    /// Gives the blob `hash` the name `path` in the snapshot of `commit`.
    pub fn link(&self, commit: &str, path: &str, hash: &str) -> io::Result<PathBuf> {
        let name = self.snapshot(commit).join(path);
        let folder = name.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder)?;
        let up = Path::new(path).components().count() + 1;
        let target: PathBuf = std::iter::repeat_n(Component::ParentDir, up).collect::<PathBuf>().join("blobs").join(hash);
        if fs::read_link(&name).is_ok_and(|is| is == target) {
            return Ok(name);
        }
        let fresh = fresh_beside(&name);
        let made = make_link(&target, &self.blob(hash), &fresh).and_then(|()| fs::rename(&fresh, &name));
        made.inspect_err(|_failed| drop(fs::remove_file(&fresh)))?;
        Ok(name)
    }

    /// Holds what huggingface_hub holds while it writes the blob `hash`. The kernel lets it go when its holder dies.
    pub fn lock(&self, hash: &str) -> io::Result<File> {
        let folder = self.root.join(".locks").join(&self.folder_name);
        fs::create_dir_all(&folder)?;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join(format!("{hash}.lock")))?;
        file.lock()?;
        Ok(file)
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

/// A name beside `path` that no other thread or process takes.
fn fresh_beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name.chars().take(60).collect();
    path.with_file_name(format!(".{name}-{}-{}.new", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Writes a small file so that its name never stands for a part of it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let fresh = fresh_beside(path);
    let written = fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, path));
    written.inspect_err(|_failed| drop(fs::remove_file(&fresh)))
}

/// Why `path`, as a listing of the Hub has it, can't become a path below a folder on this machine.
pub(crate) fn path_fault(path: &str) -> Option<&'static str> {
    if path.is_empty() || path.len() > 1024 {
        return Some("it is empty, or longer than 1024 bytes");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return Some("it holds a backslash or a control character");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | ".." | ".git") || part.len() > 255) {
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

    #[test]
    fn only_paths_below_a_folder_are_paths() {
        for path in
            ["config.json", "meta/info.json", "videos/observation.images.top/chunk-000/file-000.mp4", ".gitattributes", "a b/ü.json"]
        {
            assert_eq!(path_fault(path), None, "{path}");
        }
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/", "a\\b", "a\nb", ".git/config", "./a"] {
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

    #[test]
    fn a_link_replaces_what_was_in_its_place() {
        let root = tempfile::tempdir().unwrap();
        let repo = HubRepo::parse(RepoKind::Dataset, "a/b").unwrap();
        let cache = RepoCache::of(root.path(), &repo);
        let hash = "a".repeat(40);
        fs::create_dir_all(cache.blob(&hash).parent().unwrap()).unwrap();
        fs::write(cache.blob(&hash), "new").unwrap();
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
    fn a_reference_is_written_whole_and_once() {
        let root = tempfile::tempdir().unwrap();
        let repo = HubRepo::parse(RepoKind::Model, "a/b@refs/pr/3").unwrap();
        let cache = RepoCache::of(root.path(), &repo);
        assert!(cache.commit_of(&repo).is_err());
        let commit = "0123456789abcdef0123456789abcdef01234567";
        cache.remember(&repo, commit).unwrap();
        assert_eq!(cache.commit_of(&repo).unwrap(), commit);
        assert_eq!(fs::read_to_string(root.path().join("models--a--b/refs/refs/pr/3")).unwrap(), commit);
    }
}
