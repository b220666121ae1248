//! Where a checkpoint's files are, and those that it only names: tokenizers, backbones, base models.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::CheckpointError;

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// A way to files of the Hub's repositories, which the caller brings (this crate never goes online).
pub trait Resources: fmt::Debug + Send + Sync {
    /// The path of `file` of the repository `repo` (`owner/name`) on this machine; `None` where there
    /// is no such repository or file.
    ///
    /// # Errors
    /// When that could not be found out.
    fn find(&self, repo: &str, file: &str) -> Result<Option<PathBuf>, Box<dyn Error + Send + Sync>>;

    /// A folder with the whole of the checkpoint `repo` at `revision` (at the newest without one);
    /// `None` where there is no such repository.
    ///
    /// # Errors
    /// When that could not be found out.
    fn folder(&self, _repo: &str, _revision: Option<&str>) -> Result<Option<PathBuf>, Box<dyn Error + Send + Sync>> {
        Ok(None)
    }
}

/// A checkpoint's folder, and the way to what is not in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    pub dir: &'a Path,
    pub resources: Option<&'a dyn Resources>,
}

impl Files<'_> {
    /// The path of `file` of `repo`, a folder or a repository that the checkpoint names: in the
    /// checkpoint's folder under that name or without it, or on the Hub; never in the current folder, where
    /// anything may lie. `None` where it is in none of them.
    ///
    /// # Errors
    /// When the Hub's files could not be asked for.
    pub(crate) fn look_for(&self, repo: &str, file: &str) -> Result<Option<PathBuf>, CheckpointError> {
        match self.local(repo, file).into_iter().find(|path| path.is_file()) {
            Some(path) => Ok(Some(path)),
            None => self.ask(repo, file),
        }
    }

    /// The path of `file` that goes with the file at `path`, which [`find`](Self::find) found in
    /// `repo`; `None` where there is none.
    ///
    /// # Errors
    /// When the Hub's files could not be asked for.
    pub(crate) fn beside(&self, path: &Path, repo: &str, file: &str) -> Result<Option<PathBuf>, CheckpointError> {
        let sibling = path.with_file_name(file);
        let is_local = path.file_name().is_some_and(|name| self.local(repo, &name.to_string_lossy()).iter().any(|local| local == path));
        if sibling.is_file() {
            Ok(Some(sibling))
        } else if is_local {
            Ok(None)
        } else {
            self.ask(repo, file)
        }
    }

    fn ask(&self, repo: &str, file: &str) -> Result<Option<PathBuf>, CheckpointError> {
        let Some(resources) = self.resources else { return Ok(None) };
        resources.find(repo, file).map_err(|source| CheckpointError::Resource {
            dir: self.dir.to_owned(),
            what: format!("{file} of {repo}"),
            source,
        })
    }

    /// [`look_for`](Self::look_for) where the file is needed; `purpose` is what for.
    ///
    /// # Errors
    /// [`CheckpointError::NotFound`] lists where was looked.
    pub(crate) fn find(&self, repo: &str, file: &str, purpose: &str) -> Result<PathBuf, CheckpointError> {
        self.look_for(repo, file)?.ok_or_else(|| {
            let mut looked: Vec<String> = self.local(repo, file).iter().map(|path| path.display().to_string()).collect();
            looked.push(self.hub_words(repo));
            CheckpointError::NotFound { dir: self.dir.to_owned(), what: format!("{file} of {repo} ({purpose})"), looked }
        })
    }

    /// The Hub's repository `repo` in words, for a list of where something was looked for.
    pub(crate) fn hub_words(&self, repo: &str) -> String {
        match self.resources {
            Some(_) => format!("the Hub's {repo}"),
            None => format!("(not on the Hub: no way to {repo} was given)"),
        }
    }

    fn local(&self, repo: &str, file: &str) -> Vec<PathBuf> {
        let mut paths = vec![self.dir.join(repo).join(file)];
        // The checkpoint's own configuration is no backbone's.
        if file != CONFIG {
            paths.push(self.dir.join(file));
        }
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_checkpoint_names_is_not_looked_for_in_the_current_folder() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { dir: dir.path(), resources: None };
        // Tests run in the crate's folder.
        assert!(Path::new("src/lib.rs").is_file());
        assert_eq!(files.look_for("src", "lib.rs").unwrap(), None);
        assert!(files.find("src", "lib.rs", "a test").unwrap_err().to_string().contains("no way to src was given"));
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/lib.rs"), "").unwrap();
        assert_eq!(files.look_for("src", "lib.rs").unwrap(), Some(dir.path().join("src/lib.rs")));
    }
}
