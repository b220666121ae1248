//! What others did to the repository meanwhile, and what it held before: nobody's work is written over unless it is meant.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use globset::GlobSet;
use sha2::{Digest, Sha256};

use super::commit::{Change, is_same};
use super::notes::{Mode, Stamp};
use super::plan::{self, Local, Planned};
use super::{Plan, Upload, UploadOptions, by_path};
use crate::api::Listing;
use crate::down::hex;
use crate::http::Ask;
use crate::{Hub, HubError, RepoFile};

/// Where a dataset has its tables and videos.
pub(super) const OF_A_DATASET: [&str; 5] = ["data/", "images/", "meta/", "sinew/", "videos/"];
/// Where its episodes are. Other files may be the same in two datasets.
const OF_EPISODES: [&str; 4] = ["data/", "images/", "meta/episodes", "videos/"];
/// Below this a table says too little to tell one dataset from another.
const TELLING_BYTES: u64 = 1 << 10;

fn is_of_episodes(path: &str) -> bool {
    OF_EPISODES.iter().any(|folder| path.starts_with(folder))
}

/// Whether two datasets that have this file are the same: a table of what happened in episodes.
fn is_telling(file: &RepoFile) -> bool {
    let is_table = ["data/", "meta/episodes/"].iter().any(|folder| file.path.starts_with(folder)) && file.path.ends_with(".parquet");
    is_table && file.size_bytes >= TELLING_BYTES
}

impl Hub {
    /// As [`Upload::check_dataset`], by what the folder has, whatever of it is to be sent.
    pub(super) fn check_dataset(
        &self,
        upload: &Upload<'_>,
        folder: &Path,
        options: &UploadOptions,
        before: &Listing,
        head: &str,
    ) -> Result<(), HubError> {
        let local = |file: &RepoFile| {
            let here = folder.join(&file.path);
            let found = std::fs::symlink_metadata(&here).ok().filter(|found| found.is_file() && found.len() == file.size_bytes)?;
            Some(Local { path: file.path.clone(), file: here, stamp: Stamp::of(&found) })
        };
        let mut files: Vec<Local> = before.files.iter().filter(|file| is_telling(file)).filter_map(local).collect();
        files.sort_by_key(|file| file.stamp.size);
        // One that is the same is enough, and most often it is the first.
        let mut is_same_dataset = false;
        for file in files {
            let planned = plan::hash(self, vec![file], upload.journal, &|_, _, _, _| {})?;
            is_same_dataset = planned.iter().any(|planned| before.file(&planned.local.path).is_some_and(|file| is_same(planned, file)));
            if is_same_dataset {
                break;
            }
        }
        self.wait(upload.check_dataset(options, before, head, is_same_dataset))?
    }
}

impl Upload<'_> {
    /// That the branch, which is at `head`, is where this may go on.
    pub async fn check_head(&self, options: &UploadOptions, head: &str) -> Result<(), HubError> {
        self.adopt(head).await?;
        self.check_parent(options, head).await?;
        self.check_base(options, head).await
    }

    /// Takes a commit for ours whose note a kill has cost: the one right after what it was to be made on, that changes what it
    /// was to change and nothing else.
    async fn adopt(&self, head: &str) -> Result<(), HubError> {
        let Some(intent) = self.journal.intent().filter(|intent| intent.parent != head) else { return Ok(()) };
        if !self.head(&intent.parent).await?.1 {
            return Ok(());
        }
        let (before, after) =
            (self.http.list(self.repo, &intent.parent, "", true).await?, self.http.list(self.repo, head, "", true).await?);
        if difference_hash(&before, &after) == intent.changes {
            let is_new = |file: &&RepoFile| before.file(&file.path) != Some(*file);
            after.files.iter().filter(is_new).for_each(|file| self.journal.note_there(&file.path, &file.hash));
            self.journal.note_commit(head, &intent.parent);
        }
        Ok(())
    }

    /// That nobody has changed what the caller knows.
    async fn check_parent(&self, options: &UploadOptions, head: &str) -> Result<(), HubError> {
        match &options.parent {
            // What was committed before a kill is ours.
            Some(parent) if parent != head && !self.journal.leads_from(parent, head) => {
                Err(self.conflict(format!("uploading to {}", self.repo), parent).await?)
            }
            _ => Ok(()),
        }
    }

    /// What was begun before, killed or refused, goes on only from where it began: meanwhile somebody else may have changed
    /// what this would write over. Whoever means it names the branch's commit as the parent.
    async fn check_base(&self, options: &UploadOptions, head: &str) -> Result<(), HubError> {
        if options.parent.is_none() && self.journal.has_lost_its_base() {
            let (found, _) = self.head(head).await?;
            let what = format!(
                "the notes of an upload in .cache/sinew/upload.jsonl have lost where it began, so that it can't be told whether others have \
                 changed something since; it is at {found}: if nothing there is to be kept, give --parent {head}"
            );
            return Err(HubError::Unusable { doing: format!("going on with an upload to {}", self.repo), what });
        }
        let outcome = match self.journal.base() {
            Some(base) if options.parent.is_none() && base != head && !self.journal.leads_from(&base, head) => {
                let doing = format!("going on with the upload to {} (--parent {head} writes over what others did there since)", self.repo);
                Err(self.conflict(doing, &base).await?)
            }
            Some(_) if options.parent.is_none() => Ok(()),
            _ => {
                self.journal.note_base(head);
                Ok(())
            }
        };
        if outcome.is_ok() && (options.parent.is_some() || options.replace) {
            self.journal.note_meant(head);
        }
        outcome
    }

    /// The repository was just made by us, with `head` in it, wherever an earlier one of this name was.
    pub fn begin_in_new(&self, head: &str) {
        self.journal.note_base(head);
        self.journal.note_ours(head);
        self.journal.note_meant(head);
    }

    /// That nothing is written over, or taken away, that was not once there as it was here: it is somebody else's, or newer.
    /// What fits `delete` was named by the caller.
    pub async fn check_files(&self, before: &Listing, head: &str, plan: &Plan<'_>, delete: &GlobSet) -> Result<(), HubError> {
        if self.journal.is_meant(head) {
            return Ok(());
        }
        let there = by_path(before);
        // The Hub adds rules of its own for large files.
        let is_others =
            |path: &&str| *path != ".gitattributes" && there.get(path).is_some_and(|file| !self.journal.is_known(&file.path, &file.hash));
        let changed = plan.changed.iter().map(|file| file.local.path.as_str()).filter(is_others).map(|path| (path, "is another one here"));
        let gone = plan.gone.iter().map(String::as_str).filter(|path| !delete.is_match(path)).filter(is_others);
        let others: Vec<(&str, &str)> = changed.chain(gone.map(|path| (path, "is not here"))).collect();
        let Some((path, found)) = others.first() else { return Ok(()) };
        let more = if others.len() > 1 { format!(", as are {} more", others.len() - 1) } else { String::new() };
        let (at, _) = self.head(head).await?;
        let what = format!(
            "{path} is there and {found}{more}, and did not come from this folder; it is at {at}, and nothing was overwritten; to write over \
             it all the same, give --parent {head}"
        );
        Err(HubError::Unusable { doing: format!("uploading to {}", self.repo), what })
    }

    async fn conflict(&self, doing: String, expected: &str) -> Result<HubError, HubError> {
        let (found, _) = self.head(expected).await?;
        Ok(HubError::Conflict { doing, repo: self.repo.clone(), expected: expected.to_owned(), found })
    }

    /// That the token may write there, as far as the Hub says so before anything is written.
    pub async fn may_write(&self) -> Result<(), HubError> {
        let url = self.http.of_repo(self.repo, ["auth-check", "write"])?;
        let ask = Ask::get(url, format!("asking whether {} may be written to", self.repo)).about(self.repo);
        match self.http.send(&ask).await {
            Err(error @ HubError::Refused { .. }) => Err(error),
            // A Hub that knows no such question says it when something comes.
            _ => Ok(()),
        }
    }

    /// That the repository, at `head` and with the files of `before`, holds no dataset or an earlier state of the one that is here.
    async fn check_dataset(&self, options: &UploadOptions, before: &Listing, head: &str, is_same_dataset: bool) -> Result<(), HubError> {
        let episodes = || before.files.iter().filter(|file| is_of_episodes(&file.path));
        let there: HashMap<&str, &RepoFile> = episodes().map(|file| (file.path.as_str(), file)).collect();
        if options.replace || self.journal.is_ours(head) || there.is_empty() || is_same_dataset {
            self.journal.note_ours(head);
            return Ok(());
        }
        for last in self.journal.lasts() {
            // A commit that is not there any more says nothing.
            let of_last = match self.http.list(self.repo, &last, "", true).await {
                Ok(listing) => listing,
                Err(HubError::NoRevision { .. } | HubError::NoFile { .. } | HubError::NoRepo { .. }) => continue,
                Err(other) => return Err(other),
            };
            if last == head || of_last.files.iter().any(|file| is_telling(file) && there.get(file.path.as_str()) == Some(&file)) {
                self.journal.note_ours(head);
                return Ok(());
            }
        }
        let what = format!(
            "it holds another dataset: none of the tables of its episodes ({}) is in the folder; choose another name, or give --replace (with \
             `sinew record`, --publish-replace) to put this dataset in the place of that one",
            crate::error::files(there.len())
        );
        Err(HubError::Unusable { doing: format!("uploading a dataset to {}", self.repo), what })
    }
}

/// What a commit changes: path and hash of each file, no hash where it goes.
fn hash_of(mut changes: BTreeMap<&str, &str>) -> String {
    // The Hub adds rules of its own for large files.
    changes.remove(".gitattributes");
    let mut hasher = Sha256::new();
    for (path, hash) in changes {
        hasher.update(format!("{path}\0{hash}\n"));
    }
    hex(&hasher.finalize())
}

/// As the Hub names a file that was sent in this way.
pub(super) fn hub_hash(file: &Planned, mode: Mode) -> &str {
    match mode {
        Mode::Inline => file.hashes.git.as_deref().unwrap_or_default(),
        _ => &file.hashes.sha256,
    }
}

/// What `changes` make of a repository.
pub(super) fn changes_hash(changes: &[Change<'_>]) -> String {
    let pair = changes.iter().map(|change| match change {
        Change::Add(file, mode) => (file.local.path.as_str(), hub_hash(file, *mode)),
        Change::Delete(path) => (*path, ""),
    });
    hash_of(pair.collect())
}

/// What was made of `before`, so that `after` came of it.
fn difference_hash(before: &Listing, after: &Listing) -> String {
    let by_path =
        |listing: &'_ Listing| listing.files.iter().map(|file| (file.path.clone(), file.hash.clone())).collect::<BTreeMap<_, _>>();
    let (before, after) = (by_path(before), by_path(after));
    let new = after.iter().filter(|(path, hash)| before.get(*path) != Some(hash)).map(|(path, hash)| (path.as_str(), hash.as_str()));
    let gone = before.keys().filter(|path| !after.contains_key(*path)).map(|path| (path.as_str(), ""));
    hash_of(new.chain(gone).collect())
}
