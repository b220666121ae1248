//! What others did to the repository meanwhile, and what it held before: nobody's work is written over unless it is meant.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};

use super::commit::{Change, is_same};
use super::notes::Mode;
use super::plan::Planned;
use super::{Upload, UploadOptions};
use crate::api::Listing;
use crate::down::hex;
use crate::http::Ask;
use crate::{HubError, RepoFile};

/// Where a dataset has its tables and videos.
pub(super) const OF_A_DATASET: [&str; 5] = ["data/", "images/", "meta/", "sinew/", "videos/"];
/// Where its episodes are. Other files may be the same in two datasets.
const OF_EPISODES: [&str; 3] = ["data/", "images/", "videos/"];

pub(super) fn is_of_episodes(path: &str) -> bool {
    OF_EPISODES.iter().any(|folder| path.starts_with(folder))
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
        match self.journal.base() {
            Some(base) if options.parent.is_none() && base != head && !self.journal.leads_from(&base, head) => {
                let doing = format!("going on with an upload to {}; to change it all the same, give --parent {head}", self.repo);
                Err(self.conflict(doing, &base).await?)
            }
            Some(_) if options.parent.is_none() => Ok(()),
            _ => {
                self.journal.note_base(head);
                Ok(())
            }
        }
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

    /// That the repository, at `head` and with the files of `before`, holds no dataset or an earlier state of the one whose
    /// files, or some of them, are `here`.
    pub async fn check_dataset(&self, options: &UploadOptions, before: &Listing, head: &str, here: &[Planned]) -> Result<(), HubError> {
        let episodes = || before.files.iter().filter(|file| is_of_episodes(&file.path));
        let there: HashMap<&str, &RepoFile> = episodes().map(|file| (file.path.as_str(), file)).collect();
        let is_there = |planned: &Planned| there.get(planned.local.path.as_str()).is_some_and(|file| is_same(planned, file));
        if options.replace || self.journal.is_ours() || there.is_empty() || here.iter().any(is_there) {
            self.journal.note_ours();
            return Ok(());
        }
        for last in self.journal.lasts() {
            // A commit that is not there any more says nothing.
            let of_last = match self.http.list(self.repo, &last, "", true).await {
                Ok(listing) => listing,
                Err(HubError::NoRevision { .. } | HubError::NoFile { .. } | HubError::NoRepo { .. }) => continue,
                Err(other) => return Err(other),
            };
            if last == head || of_last.files.iter().any(|file| there.get(file.path.as_str()) == Some(&file)) {
                self.journal.note_ours();
                return Ok(());
            }
        }
        let what = format!(
            "it holds another dataset: none of the {} files of its episodes is in the folder; choose another name, or give --replace (with \
             `sinew record`, --publish-replace) to put this dataset in the place of that one",
            there.len()
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

/// What `changes` make of a repository.
pub(super) fn changes_hash(changes: &[Change<'_>]) -> String {
    let pair = changes.iter().map(|change| match change {
        Change::Add(file, Mode::Inline) => (file.local.path.as_str(), file.hashes.git.as_deref().unwrap_or_default()),
        Change::Add(file, _) => (file.local.path.as_str(), file.hashes.sha256.as_str()),
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
