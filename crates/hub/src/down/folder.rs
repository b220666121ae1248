//! Any files of any repository, to the cache or to a folder of the user's.

use std::path::PathBuf;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::Place;
use crate::cache::files_below;
use crate::hub::{Event, Listener, Resolved};
use crate::{Hub, HubError, HubRepo};

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
    /// Those that were fetched, and verified; the others were there in the right size.
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
            let here = files_below(&snapshot)?.into_iter().filter_map(|path| {
                let size_bytes = std::fs::metadata(snapshot.join(&path)).ok()?.len();
                let path = path.to_string_lossy().replace('\\', "/");
                ((what.include.is_empty() || include.is_match(&path)) && !exclude.is_match(&path)).then_some(size_bytes)
            });
            let (files, size_bytes) = here.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size));
            if files == 0 {
                return Err(HubError::NotCached { repo: repo.clone(), looked_for: snapshot, found: "nothing that fits", why: why.clone() });
            }
            if let Some(folder) = &what.folder {
                let doing = format!("downloading {repo} to {} ({why})", folder.display());
                let what = format!("a folder is filled by what the Hub lists; what is cached of it is in {}", snapshot.display());
                return Err(HubError::Unusable { doing, what });
            }
            listener(Event::FromCache { repo, commit: &commit, why });
            return Ok(Downloaded { resolved, folder: snapshot, files, fetched_files: 0, size_bytes });
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

    /// One small text of a repository, such as its card, as it is on the Hub now.
    ///
    /// # Errors
    /// When there is no such file, it is no text or longer than a megabyte, or the Hub can't be reached.
    pub fn read_text(&self, repo: &HubRepo, path: &str) -> Result<String, HubError> {
        let doing = format!("reading {path} of {repo}");
        self.needs_network(doing.clone())?;
        let http = self.http()?;
        let commit = self.resolve(repo)?.commit;
        let found = self.wait(http.some(repo, &commit, &[path]))??;
        if found.file(path).is_none() {
            return Err(HubError::NoFile { repo: repo.clone(), path: path.to_owned() });
        }
        let ask = crate::http::Ask::get(http.file_url(repo, &commit, path)?, doing.clone()).about(repo);
        let body = self.wait(async { http.body(&ask, http.send(&ask).await?, 1 << 20).await })??;
        String::from_utf8(body).map_err(|_binary| HubError::Unusable { doing, what: "it is no text".into() })
    }
}

/// Patterns of paths as huggingface_hub has them: `*` stands for slashes too.
pub(crate) fn patterns(globs: &[String]) -> Result<GlobSet, HubError> {
    let mut set = GlobSetBuilder::new();
    let refuse = |err: globset::Error| HubError::Unusable { doing: "reading a pattern".into(), what: err.to_string() };
    for glob in globs {
        // `meta/` means all that is in it, and `*.json` those of every folder, as huggingface_hub has it.
        let glob = if glob.ends_with('/') { format!("{glob}**") } else { glob.clone() };
        set.add(Glob::new(&glob).map_err(refuse)?);
    }
    set.build().map_err(refuse)
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
