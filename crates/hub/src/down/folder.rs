//! Any files of any repository, to the cache or to a folder of the user's.

use std::io;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{Place, check_names, hash_of, hashes_of};
use crate::cache::{files_below, is_hash, read_small};
use crate::hub::{Event, Listener, Resolved, Transfer};
use crate::{Hub, HubError, HubRepo, RepoFile};

/// What of a repository is downloaded, and where to.
#[derive(Clone, Debug, Default)]
pub struct Download {
    /// Only files that fit one of these, such as `meta/**` or `*.json`; all where there is none.
    pub include: Vec<String>,
    /// No file that fits one of these.
    pub exclude: Vec<String>,
    /// A folder of the user's in place of the cache.
    pub folder: Option<PathBuf>,
}

/// What a download has brought.
#[derive(Clone, Debug)]
pub struct Downloaded {
    pub resolved: Resolved,
    /// Where the files are, by their paths in the repository.
    pub folder: PathBuf,
    pub files: usize,
    /// Those that were fetched, or copied from the cache, and verified; the others were there.
    pub fetched_files: usize,
    pub size_bytes: u64,
}

impl Hub {
    /// Downloads files of `repo` whole and verified; those that are there already are not fetched again.
    ///
    /// # Errors
    /// When the Hub can't be reached, has no such repository or no such file, or a file can't be had whole.
    pub fn download(&self, repo: &HubRepo, what: &Download, listener: &Listener) -> Result<Downloaded, HubError> {
        let (include, exclude) = (patterns(&what.include)?, patterns(&what.exclude)?);
        let resolved = self.resolve(repo).map_err(|err| self.hint(repo, err))?;
        let commit = resolved.commit.clone();
        if let Some(why) = &resolved.from_cache {
            // Which files the repository has, only the Hub knows: what is here is all that can be had.
            let snapshot = self.cache(repo).snapshot(&commit);
            let mut here = cached_files(&snapshot)?;
            here.retain(|file| (what.include.is_empty() || include.is_match(&file.path)) && !exclude.is_match(&file.path));
            if here.is_empty() {
                return Err(HubError::NotCached { repo: repo.clone(), looked_for: snapshot, found: "nothing that fits", why: why.clone() });
            }
            listener(Event::FromCache { repo, commit: &commit, why });
            if what.folder.is_none() {
                check_cached(repo, &snapshot, &here, listener)?;
            }
            let size_bytes = here.iter().map(|file| file.size_bytes).sum();
            let (folder, fetched_files) = match &what.folder {
                Some(folder) => (folder.clone(), self.copy_cached(repo, &commit, here.clone(), folder, listener)?),
                None => (snapshot, 0),
            };
            return Ok(Downloaded { resolved, folder, files: here.len(), fetched_files, size_bytes });
        }
        listener(Event::Resolved { repo, commit: &commit });
        let http = self.http()?;
        let mut files = self.wait(http.list(repo, &commit, "", true))??.files;
        files.retain(|file| (what.include.is_empty() || include.is_match(&file.path)) && !exclude.is_match(&file.path));
        if files.is_empty() {
            let what = "no file of it fits what is asked for".to_owned();
            return Err(HubError::Unusable { doing: format!("downloading {repo}"), what });
        }
        let cache = self.cache(repo);
        let (place, folder) = match &what.folder {
            Some(folder) => (Place::Folder(folder.clone()), folder.clone()),
            None => (Place::Cache(cache.clone()), cache.snapshot(&commit)),
        };
        let fetched_files = self.pull(repo, &commit, &files, &place, listener)?;
        if let Some(folder) = &what.folder {
            self.note_download(folder, repo, &commit, &files);
        }
        let is_whole = what.include.is_empty() && what.exclude.is_empty();
        if what.folder.is_none() && (is_whole || cache.commit_of(repo).is_err()) {
            cache.remember(repo, &commit)?;
        }
        let size_bytes = files.iter().map(|file| file.size_bytes).sum();
        Ok(Downloaded { resolved, folder, files: files.len(), fetched_files, size_bytes })
    }

    /// One small text of a repository, such as its card, as it is on the Hub now; as the cache has it, where the Hub can't be asked.
    ///
    /// # Errors
    /// When there is no such file, it is no text or longer than a megabyte, or the Hub can't be reached and the cache lacks it.
    pub fn read_text(&self, repo: &HubRepo, path: &str, listener: &Listener) -> Result<String, HubError> {
        let doing = format!("reading {path} of {repo}");
        let resolved = self.resolve(repo)?;
        let commit = resolved.commit;
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|_binary| HubError::Unusable { doing: doing.clone(), what: "it is no text".into() })
        };
        if let Some(why) = resolved.from_cache {
            let cached = self.cache(repo).snapshot(&commit).join(path);
            return match read_small(&cached, MAX_TEXT_BYTES) {
                Ok(bytes) => {
                    listener(Event::FromCache { repo, commit: &commit, why: &why });
                    text(bytes)
                }
                Err(err) if err.kind() == io::ErrorKind::NotFound => {
                    Err(HubError::NotCached { repo: repo.clone(), looked_for: cached, found: "nothing", why })
                }
                Err(source) => Err(HubError::Io { doing: format!("reading {}", cached.display()), source }),
            };
        }
        let http = self.http()?;
        let found = self.wait(http.some(repo, &commit, &[path]))??;
        if found.file(path).is_none() {
            return Err(HubError::NoFile { repo: repo.clone(), path: path.to_owned() });
        }
        let ask = crate::http::Ask::get(http.file_url(repo, &commit, path)?, doing.clone()).about(repo);
        text(self.wait(async { http.body(&ask, http.send(&ask).await?, MAX_TEXT_BYTES as usize).await })??)
    }

    /// Copies files of the cache to a folder of the user's, each verified before it takes its name. Says how many were not there.
    fn copy_cached(
        &self,
        repo: &HubRepo,
        commit: &str,
        mut files: Vec<RepoFile>,
        folder: &Path,
        listener: &Listener,
    ) -> Result<usize, HubError> {
        let (cache, place) = (self.cache(repo), Place::Folder(folder.to_owned()));
        let snapshot = cache.snapshot(commit);
        for file in files.iter_mut().filter(|file| file.hash.is_empty()) {
            // No link to a blob says it. It is verified by what was read.
            let path = snapshot.join(&file.path);
            check_there(repo, &path)?;
            let [_, sha256] = hashes_of(&path).map_err(HubError::io(format!("reading {}", path.display())))?;
            file.hash = sha256;
        }
        check_names(repo, &files, "the cache")?;
        place.check_names(repo, &files)?;
        files.iter().try_for_each(|file| check_there(repo, &snapshot.join(&file.path)))?;
        let missing = place.missing(self, repo, commit, &files)?;
        let total_bytes = missing.iter().map(|file| file.size_bytes).sum();
        place.check_space(repo, &missing, total_bytes)?;
        let mut done_bytes = 0;
        for file in &missing {
            let _held = place.lock(file)?;
            place.copy(repo, file, &snapshot.join(&file.path))?;
            done_bytes += file.size_bytes;
            let (file_done_bytes, file_bytes) = (file.size_bytes, file.size_bytes);
            listener(Event::Transfer(Transfer { file: &file.path, file_done_bytes, file_bytes, done_bytes, total_bytes }));
        }
        place.tidy();
        self.note_download(folder, repo, commit, &files);
        Ok(missing.len())
    }
}

/// The longest text that is read.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// The files of a snapshot, with the hashes that their links say; an empty one where a file is no link. One whose content is gone is
/// among them.
fn cached_files(snapshot: &Path) -> Result<Vec<RepoFile>, HubError> {
    let of = |path: PathBuf| {
        let full = snapshot.join(&path);
        let size_bytes = match std::fs::metadata(&full) {
            Ok(found) => found.is_file().then_some(found.len())?,
            Err(_gone) => 0,
        };
        let hash = std::fs::read_link(&full).ok().and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
        let path = path.to_string_lossy().replace('\\', "/");
        Some(RepoFile { path, size_bytes, hash: hash.filter(|hash| is_hash(hash)).unwrap_or_default() })
    };
    Ok(files_below(snapshot)?.into_iter().filter_map(of).collect())
}

/// That the cache has the content of a file, whose name is there.
fn check_there(repo: &HubRepo, path: &Path) -> Result<(), HubError> {
    let what = match std::fs::metadata(path) {
        Ok(_) => return Ok(()),
        Err(err) if err.kind() == io::ErrorKind::NotFound => "the cache has its name, and its content is gone".to_owned(),
        Err(err) => err.to_string(),
    };
    Err(damaged(repo, path, &what))
}

fn damaged(repo: &HubRepo, path: &Path, what: &str) -> HubError {
    let what = format!("{}: {what}; with a network, `sinew hub download {}` brings it again", path.display(), repo.repo());
    HubError::Unusable { doing: format!("taking {repo} from the cache"), what }
}

/// That the files of the cache hold what their links say.
fn check_cached(repo: &HubRepo, snapshot: &Path, files: &[RepoFile], listener: &Listener) -> Result<(), HubError> {
    let (mut done_bytes, total_bytes) = (0, files.iter().map(|file| file.size_bytes).sum());
    for file in files {
        let path = snapshot.join(&file.path);
        check_there(repo, &path)?;
        // Of a copy nothing here says what it should be.
        if !file.hash.is_empty() {
            let found = hash_of(&path, file).map_err(HubError::io(format!("reading {}", path.display())))?;
            if found != file.hash {
                return Err(damaged(repo, &path, &format!("its content has the hash {found}, expected {}", file.hash)));
            }
        }
        done_bytes += file.size_bytes;
        let (file_done_bytes, file_bytes) = (file.size_bytes, file.size_bytes);
        listener(Event::Reading(Transfer { file: &file.path, file_done_bytes, file_bytes, done_bytes, total_bytes }));
    }
    Ok(())
}

/// Patterns of paths as huggingface_hub has them: `*` stands for slashes too.
pub(crate) fn patterns(globs: &[String]) -> Result<GlobSet, HubError> {
    let mut set = GlobSetBuilder::new();
    let refuse = |pattern: &str, err: &globset::Error| HubError::Pattern { pattern: pattern.to_owned(), why: err.kind().to_string() };
    for glob in globs {
        // `meta/` means all that is in it, and `*.json` those of every folder, as huggingface_hub has it.
        let whole = if glob.ends_with('/') { format!("{glob}**") } else { glob.clone() };
        set.add(Glob::new(&whole).map_err(|err| refuse(glob, &err))?);
    }
    set.build().map_err(|err| refuse(err.glob().unwrap_or_default(), &err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_python_client() {
        let fits = |glob: &str, path: &str| patterns(&[glob.to_owned()]).unwrap().is_match(path);
        assert!(fits("*.json", "config.json") && fits("*.json", "meta/info.json"));
        assert!(fits("meta/", "meta/episodes/chunk-000/file-000.parquet") && fits("meta/**", "meta/info.json"));
        assert!(!fits("meta/*.json", "data/info.json") && !fits("config.json", "other/config.json"));
        assert!(patterns(&["[".to_owned()]).is_err());
    }
}
