//! What the Hub tells of repositories: what they are, what they hold, what they point to.

use hf_hub::repository::{GitRefInfo, GitRefs};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache::{is_hash, path_fault};
use crate::http::{Ask, Http, MAX_ENTRIES, host};
use crate::name::is_commit;
use crate::{HubError, HubRepo, RepoKind};

/// A repository as the Hub describes it. What it doesn't tell is `None` or empty.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "camelCase"), default)]
pub struct RepoInfo {
    /// `owner/name` as its owner writes it.
    pub id: String,
    /// The commit of the revision that was asked for.
    pub sha: Option<String>,
    pub last_modified: Option<String>,
    pub private: bool,
    /// Whether its files need the owner's consent.
    #[serde(deserialize_with = "is_gated")]
    pub gated: bool,
    pub disabled: bool,
    /// In the last 30 days.
    pub downloads: Option<u64>,
    pub likes: Option<u64>,
    pub tags: Vec<String>,
    #[serde(rename(deserialize = "library_name"))]
    pub library: Option<String>,
    /// The metadata at the top of its card, as JSON.
    pub card_data: Option<serde_json::Value>,
}

impl RepoInfo {
    /// The licence that its card states, by the Hub's short name for it; for `other` with the card's own name and link.
    pub fn licence(&self) -> Option<String> {
        let of_card = |key: &str| match self.card_data.as_ref()?.get(key)? {
            // Whoever uses it has to keep all of them.
            serde_json::Value::Array(several) => Some(several.iter().filter_map(|one| one.as_str()).collect::<Vec<_>>().join(" and ")),
            one => one.as_str().map(str::to_owned),
        };
        // One that the Hub has no name for has one of its own.
        let more: Vec<String> = ["license_name", "license_link"].into_iter().filter_map(of_card).collect();
        let stated = of_card("license").map(|licence| match licence.as_str() {
            "other" if !more.is_empty() => format!("other ({})", more.join(", ")),
            _ => licence,
        });
        stated.or_else(|| self.tags.iter().find_map(|tag| tag.strip_prefix("license:").map(str::to_owned)))
    }
}

/// `false`, or a word for how consent is given.
fn is_gated<'de, D: serde::Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Ok(!matches!(serde_json::Value::deserialize(from)?, serde_json::Value::Bool(false) | serde_json::Value::Null))
}

/// A file in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepoFile {
    /// Below the repository's top, with slashes; checked to stay there.
    pub path: String,
    pub size_bytes: u64,
    /// The SHA-256 of a large file; else the SHA-1 by which git names a small one.
    pub hash: String,
}

impl RepoFile {
    /// Whether it is stored beside git, as large files are.
    pub fn is_large(&self) -> bool {
        self.hash.len() == 64
    }
}

/// What is in a repository at a commit.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub files: Vec<RepoFile>,
    /// Folders, where only the top was asked for.
    pub folders: Vec<String>,
}

/// Branches and tags by name, with their commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refs {
    pub branches: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    /// The SHA-256; older answers say `sha256`.
    #[serde(alias = "sha256")]
    oid: String,
    size: u64,
}

impl Http {
    /// The steps of a repository's address in the API.
    pub fn of_repo<'r>(&self, repo: &'r HubRepo, more: impl IntoIterator<Item = &'r str>) -> Result<url::Url, HubError> {
        self.url(["api", repo.kind().plural(), repo.owner(), repo.name()].into_iter().chain(more))
    }

    /// The commit of a repository's revision, and no more.
    pub async fn commit(&self, repo: &HubRepo) -> Result<String, HubError> {
        Ok(self.expanded(repo, &["sha"]).await?.sha.unwrap_or_default())
    }

    pub async fn info(&self, repo: &HubRepo) -> Result<RepoInfo, HubError> {
        let of_all = ["sha", "lastModified", "private", "disabled", "likes", "tags", "cardData"];
        let of_kind: &[&str] = match repo.kind() {
            RepoKind::Model => &["gated", "downloads", "library_name"],
            RepoKind::Dataset => &["gated", "downloads"],
            RepoKind::Space => &[],
        };
        self.expanded(repo, &[&of_all, of_kind].concat()).await
    }

    /// Asks for `fields` alone: without, the answer lists all files.
    async fn expanded(&self, repo: &HubRepo, fields: &[&str]) -> Result<RepoInfo, HubError> {
        let mut url = self.of_repo(repo, ["revision", repo.revision()])?;
        url.query_pairs_mut().extend_pairs(fields.iter().map(|field| ("expand", field)));
        let ask = Ask::get(url, format!("looking up {repo}")).about(repo);
        let info: RepoInfo = self.json(&ask).await?;
        match &info.sha {
            Some(sha) if is_commit(sha) => Ok(info),
            _ => Err(self.server(&ask, &ask.url, "it names no commit")),
        }
    }

    /// The files of a repository at a commit, below `folder` and, unless `all`, only directly there.
    pub async fn list(&self, repo: &HubRepo, commit: &str, folder: &str, all: bool) -> Result<Listing, HubError> {
        let parts = ["tree", commit].into_iter().chain(folder.split('/').filter(|part| !part.is_empty()));
        let mut url = self.of_repo(repo, parts)?;
        if all {
            url.query_pairs_mut().append_pair("recursive", "true");
        }
        let doing = format!("listing the files of {repo}");
        let mut listing = Listing::default();
        let mut next = Some(url);
        while let Some(url) = next.take() {
            let ask = Ask::get(url, doing.clone()).about(repo);
            let (entries, more): (Vec<Entry>, _) = self.page(&ask).await?;
            let refuse = |what: String| HubError::Hostile { doing: doing.clone(), host: host(&ask.url), what };
            if entries.is_empty() && more.is_some() {
                return Err(refuse("a page without entries, and then another".into()));
            }
            for entry in entries {
                listing.take(entry).map_err(refuse)?;
            }
            if listing.files.len() + listing.folders.len() > MAX_ENTRIES {
                return Err(refuse(format!("more than {MAX_ENTRIES} files")));
            }
            next = more;
        }
        Ok(listing)
    }

    /// Those of `paths` that the repository has at a commit, as files.
    pub async fn some(&self, repo: &HubRepo, commit: &str, paths: &[&str]) -> Result<Listing, HubError> {
        let mut listing = Listing::default();
        for paths in paths.chunks(500) {
            let ask = Ask::get(self.of_repo(repo, ["paths-info", commit])?, format!("looking for files of {repo}")).about(repo);
            let (doing, host) = (ask.doing.clone(), host(&ask.url));
            let entries: Vec<Entry> = self.post(ask, &serde_json::json!({"paths": paths, "expand": false})).await?;
            for entry in entries.into_iter().filter(|entry| paths.contains(&entry.path.as_str())) {
                listing.take(entry).map_err(|what| HubError::Hostile { doing: doing.clone(), host: host.clone(), what })?;
            }
        }
        Ok(listing)
    }

    pub async fn refs(&self, repo: &HubRepo) -> Result<Refs, HubError> {
        let ask = Ask::get(self.of_repo(repo, ["refs"])?, format!("listing the branches and tags of {repo}")).about(repo);
        let answer: GitRefs = self.json(&ask).await?;
        let pairs = |refs: Vec<GitRefInfo>| refs.into_iter().map(|it| (it.name, it.target_commit)).collect();
        Ok(Refs { branches: pairs(answer.branches), tags: pairs(answer.tags) })
    }

    /// Sends JSON, and reads JSON.
    pub async fn post<T: DeserializeOwned>(&self, ask: Ask<'_>, body: &serde_json::Value) -> Result<T, HubError> {
        let bytes = body.to_string();
        let make = move || Ok(reqwest::Body::from(bytes.clone()));
        let ask = Ask { method: if ask.method == Method::GET { Method::POST } else { ask.method.clone() }, ..ask };
        self.json(&ask.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).with(&make)).await
    }
}

impl Listing {
    fn take(&mut self, entry: Entry) -> Result<(), String> {
        if let Some(fault) = path_fault(&entry.path) {
            return Err(format!("a file of the name {:?}: {fault}", entry.path));
        }
        match entry.kind.as_str() {
            "directory" => self.folders.push(entry.path),
            "file" => {
                let (hash, size_bytes) = entry.lfs.map_or((entry.oid, entry.size), |lfs| (lfs.oid, lfs.size));
                let hash = hash.strip_prefix("sha256:").unwrap_or(&hash).to_owned();
                if !is_hash(&hash) {
                    return Err(format!("{:?} has no hash, but {hash:?}", entry.path));
                }
                self.files.push(RepoFile { path: entry.path, size_bytes, hash });
            }
            // Links and submodules are nothing that a policy or a dataset has.
            other => tracing::warn!(path = entry.path, kind = other, "left out, as it is no file"),
        }
        Ok(())
    }

    pub fn file(&self, path: &str) -> Option<&RepoFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

impl RepoKind {
    pub const ALL: [Self; 3] = [Self::Model, Self::Dataset, Self::Space];
}
