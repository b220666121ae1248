//! Repositories and tags: made, moved, and taken away.

use std::io::Read as _;
use std::path::Path;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use super::plan::open_regular;
use crate::http::{Ask, Http};
use crate::{Hub, HubError, HubRepo, RepoKind};

/// Whether a repository had to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Now,
    /// It was there, with whatever visibility it has.
    Before,
}

impl Hub {
    /// Makes a repository, if there is none of this name and kind. A Space is made a static one.
    ///
    /// # Errors
    /// When the token may not do so, or the Hub can't be reached.
    pub fn create(&self, repo: &HubRepo, private: bool) -> Result<Created, HubError> {
        let doing = format!("making the {} {}", repo.kind(), repo.repo());
        self.needs_network(doing.clone())?;
        let mut body = json!({"type": repo.kind().word(), "name": repo.name(), "organization": repo.owner(), "private": private});
        if repo.kind() == RepoKind::Space {
            body["sdk"] = "static".into();
        }
        let http = self.http()?;
        let ask = Ask { understands: Some(StatusCode::CONFLICT), ..Ask::new(Method::POST, http.url(["api", "repos", "create"])?, doing) };
        let response = self.wait(send_json(http, ask, &body))??;
        Ok(if response.status() == StatusCode::CONFLICT { Created::Before } else { Created::Now })
    }

    /// Makes the branch that `repo` names of what the main one has.
    pub(super) fn branch(&self, repo: &HubRepo) -> Result<(), HubError> {
        let http = self.http()?;
        let url = http.of_repo(repo, ["branch", repo.revision()])?;
        let ask = Ask { understands: Some(StatusCode::CONFLICT), ..Ask::new(Method::POST, url, format!("making the branch {repo}")) };
        self.wait(send_json(http, ask, &json!({})))?.map(drop)
    }

    /// Shows a repository to its owner alone, or to everybody.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn set_private(&self, repo: &HubRepo, private: bool) -> Result<(), HubError> {
        let doing = format!("making {} {}", repo.repo(), if private { "private" } else { "public" });
        self.needs_network(doing.clone())?;
        let http = self.http()?;
        let ask = Ask::new(Method::PUT, http.of_repo(repo, ["settings"])?, doing).about(repo);
        self.wait(send_json(http, ask, &json!({"private": private})))?.map(drop)
    }

    /// Gives the commit that `repo`'s revision is the name `tag`.
    ///
    /// # Errors
    /// When another commit has the name ([`HubError::Conflict`]); else as [`create`](Self::create).
    pub fn tag(&self, repo: &HubRepo, tag: &str) -> Result<(), HubError> {
        let doing = format!("tagging {repo} as {tag}");
        self.needs_network(doing.clone())?;
        let http = self.http()?;
        let ask = Ask::new(Method::POST, http.of_repo(repo, ["tag", repo.revision()])?, doing.clone()).about(repo);
        let ask = Ask { understands: Some(StatusCode::CONFLICT), ..ask };
        let response = self.wait(send_json(http, ask, &json!({"tag": tag})))??;
        if response.status() != StatusCode::CONFLICT {
            return Ok(());
        }
        let wanted = self.info(repo)?.sha.unwrap_or_default();
        match self.tagged(repo, tag)? {
            Some(commit) if commit == wanted => Ok(()),
            found => {
                let found = format!("the tag at {}", found.as_deref().unwrap_or("no commit"));
                Err(HubError::Conflict { doing, repo: repo.clone(), expected: wanted, found })
            }
        }
    }

    /// Takes a tag away; the commit stays. `false` when there was none.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn delete_tag(&self, repo: &HubRepo, tag: &str) -> Result<bool, HubError> {
        let doing = format!("deleting the tag {tag} of {}", repo.repo());
        self.needs_network(doing.clone())?;
        let http = self.http()?;
        let ask = Ask::new(Method::DELETE, http.of_repo(repo, ["tag", tag])?, doing);
        let ask = Ask { understands: Some(StatusCode::NOT_FOUND), ..ask };
        Ok(self.wait(http.send(&ask))??.status() != StatusCode::NOT_FOUND)
    }

    fn tagged(&self, repo: &HubRepo, tag: &str) -> Result<Option<String>, HubError> {
        Ok(self.refs(repo)?.tags.into_iter().find(|(name, _)| name == tag).map(|(_, commit)| commit))
    }

    /// Sees to it that `tag` is at `commit`, wherever it was. LeRobot opens the version of a dataset by its tag, so a stale
    /// one shows an old dataset.
    pub(super) fn move_tag(&self, repo: &HubRepo, tag: &str, commit: &str) -> Result<(), HubError> {
        match self.tagged(repo, tag)? {
            Some(at) if at == commit => return Ok(()),
            Some(_) => drop(self.delete_tag(repo, tag)?),
            None => {}
        }
        self.tag(&repo.at(commit), tag)?;
        match self.tagged(repo, tag)? {
            Some(at) if at == commit => Ok(()),
            found => {
                let found = found.unwrap_or_else(|| "no such tag".into());
                let doing = format!("verifying the tag {tag} of {}", repo.repo());
                Err(HubError::Conflict { doing, repo: repo.clone(), expected: commit.to_owned(), found })
            }
        }
    }
}

/// Sends JSON.
async fn send_json(http: &Http, ask: Ask<'_>, body: &serde_json::Value) -> Result<Response, HubError> {
    let bytes = body.to_string();
    let make = move || Ok(reqwest::Body::from(bytes.clone()));
    http.send(&ask.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).with(&make)).await
}

/// More than the description of any dataset has.
const MAX_INFO_BYTES: u64 = 64 << 20;

/// The version of LeRobot's format that a dataset is of, which is also the name of its tag.
pub(super) fn dataset_version(folder: &Path) -> Result<String, HubError> {
    let path = folder.join("meta").join("info.json");
    let refuse = |what: String| HubError::Unusable { doing: format!("uploading the dataset {}", folder.display()), what };
    // A link may lead there.
    let read = || {
        let mut text = Vec::new();
        open_regular(&std::fs::canonicalize(&path)?)?.take(MAX_INFO_BYTES).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let bytes = read().map_err(|err| refuse(format!("expected LeRobot's meta/info.json in it, found none ({err})")))?;
    let info: serde_json::Value = serde_json::from_slice(&bytes).map_err(|err| refuse(format!("its meta/info.json is no JSON: {err}")))?;
    let version = info.get("codebase_version").and_then(|version| version.as_str()).unwrap_or_default();
    let is_version = version.strip_prefix('v').is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit() || c == '.'));
    match is_version {
        true => Ok(version.to_owned()),
        false => Err(refuse(format!("expected a codebase_version such as \"v3.0\" in its meta/info.json, found {version:?}"))),
    }
}
