//! Commits over HTTP: a line of JSON for each file, and the commit that it is based on.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Upload;
use super::lfs::BATCH;
use super::notes::Mode;
use super::plan::{Planned, SMALL_BYTES};
use super::send::read_chunk;
use crate::down::hex;
use crate::http::{Ask, host, in_place};
use crate::name::is_commit;
use crate::{HubError, RepoFile};

/// More would take the Hub longer than its gateways wait.
const MAX_FILES: usize = 1000;
/// As many bytes of small files, before they are encoded.
const MAX_INLINE_BYTES: u64 = 20 << 20;
/// The longest wait for a Hub that takes no more commits for now.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// One change.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    Add(&'a Planned, Mode),
    Delete(&'a str),
}

impl Change<'_> {
    fn inline_bytes(&self) -> u64 {
        match self {
            Self::Add(file, Mode::Inline) => file.local.stamp.size,
            _ => 0,
        }
    }

    pub fn path(&self) -> &str {
        match self {
            Self::Add(file, _) => &file.local.path,
            Self::Delete(path) => path,
        }
    }

    /// Rules for files come first; what names other files comes last, and so do deletions.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Add(file, _) => match file.local.path.as_str() {
                ".gitattributes" => 0,
                "README.md" | "config.json" => 2,
                path if path.starts_with("meta/") || path.ends_with(".index.json") => 2,
                _ => 1,
            },
            Self::Delete(_) => 3,
        }
    }

    /// Whether `file`, as the Hub lists it, is what this makes of it.
    fn is_done(&self, file: Option<&RepoFile>) -> bool {
        match (self, file) {
            (Self::Add(planned, _), Some(file)) => is_same(planned, file),
            (Self::Delete(_), None) => true,
            _ => false,
        }
    }
}

/// Whether the Hub's file has the content of the one here.
pub(super) fn is_same(planned: &Planned, file: &RepoFile) -> bool {
    let hash = if file.is_large() { Some(&planned.hashes.sha256) } else { planned.hashes.git.as_ref() };
    file.size_bytes == planned.local.stamp.size && hash == Some(&file.hash)
}

/// Which of `changes`, sorted by rank, go together: one commit where they fit, else what names other files in the last.
#[allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]
pub(super) fn pack(changes: &[Change<'_>], all_at_once: bool) -> Vec<Range<usize>> {
    if changes.is_empty() {
        return Vec::new();
    }
    let fits = |range: &Range<usize>| {
        range.len() <= MAX_FILES && changes[range.clone()].iter().map(Change::inline_bytes).sum::<u64>() <= MAX_INLINE_BYTES
    };
    if all_at_once || fits(&(0..changes.len())) {
        return vec![0..changes.len()];
    }
    let named = changes.partition_point(|change| change.rank() < 2);
    let mut packs = Vec::new();
    for part in [0..named, named..changes.len()] {
        let mut begin = part.start;
        let mut bytes = 0;
        for at in part.clone() {
            bytes += changes[at].inline_bytes();
            if at > begin && (at - begin == MAX_FILES || bytes > MAX_INLINE_BYTES) {
                packs.push(begin..at);
                (begin, bytes) = (at, changes[at].inline_bytes());
            }
        }
        if begin < part.end {
            packs.push(begin..part.end);
        }
    }
    packs
}

#[derive(Deserialize)]
struct Preupload {
    files: Vec<PreuploadFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreuploadFile {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

impl Upload<'_> {
    /// How the Hub wants each of `files`.
    pub async fn modes(&self, files: &[&Planned], git_ignore: Option<&str>) -> Result<Vec<Mode>, HubError> {
        // Told by other rules, it says nothing.
        let rules = git_ignore.map(|rules| hex(&Sha256::digest(rules)));
        let mode = |file: &&Planned| self.journal.mode(&file.local.path, &file.hashes.sha256, rules.as_deref());
        let known: Vec<Option<Mode>> = files.iter().map(mode).collect();
        let unknown: Vec<&Planned> = files.iter().zip(&known).filter(|(_, known)| known.is_none()).map(|(file, _)| *file).collect();
        for files in unknown.chunks(BATCH) {
            let entries: Vec<_> = files.iter().map(|file| entry(file)).collect::<Result<_, _>>()?;
            let mut body = json!({"files": entries});
            if let Some(rules) = git_ignore {
                body["gitIgnore"] = rules.into();
            }
            let ask = Ask::new(
                Method::POST,
                self.http.of_repo(self.repo, ["preupload", self.repo.revision()])?,
                format!("asking how {} wants its files", self.repo),
            );
            let (url, ask) = (ask.url.clone(), ask.about(self.repo));
            let answer: Preupload = self.http.post(ask, &body).await?;
            for file in files {
                let told = answer.files.iter().find(|told| told.path == file.local.path);
                let mode = match told {
                    Some(told) if told.should_ignore => Mode::Ignored,
                    // A store of objects takes no empty one.
                    Some(_) if file.local.stamp.size == 0 => Mode::Inline,
                    Some(told) if told.upload_mode == "regular" && file.local.stamp.size <= SMALL_BYTES => Mode::Inline,
                    Some(told) if matches!(told.upload_mode.as_str(), "lfs" | "regular") => Mode::Large,
                    other => {
                        let found = other.map_or_else(|| "nothing".to_owned(), |told| format!("{:?}", told.upload_mode));
                        let what = format!("how to send {}: expected lfs or regular, found {found}", file.local.path);
                        return Err(HubError::Server { doing: format!("uploading to {}", self.repo), host: host(&url), what });
                    }
                };
                self.journal.note_mode(&file.local.path, &file.hashes.sha256, rules.as_deref(), mode);
            }
        }
        Ok(files.iter().map(|file| mode(file).unwrap_or(Mode::Large)).collect())
    }

    /// Makes one commit on top of `parent`, and of nothing else. One whose answer was lost is found, not made twice.
    pub async fn commit(&self, changes: &[Change<'_>], parent: &str, message: &str) -> Result<String, HubError> {
        let doing = format!("committing {} to {}", crate::error::files(changes.len()), self.repo);
        let body = bytes::Bytes::from(lines(changes, parent, message)?);
        let make = || Ok(reqwest::Body::from(body.clone()));
        let (mut tries, begin) = (0, Instant::now());
        loop {
            let url = self.http.of_repo(self.repo, ["commit", self.repo.revision()])?;
            let ask = Ask::new(Method::POST, url, doing.clone()).about(self.repo).with(&make);
            let ask = Ask { may_repeat: false, understands: Some(StatusCode::PRECONDITION_FAILED), pulse: Some(Arc::default()), ..ask };
            self.http.limit.take(body.len()).await;
            self.count(body.len());
            let answer = self.http.send(&ask.header(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))).await;
            let error = match answer {
                Ok(response) if response.status() == StatusCode::PRECONDITION_FAILED => None,
                Ok(response) => {
                    let ask = Ask::new(Method::POST, response.url().clone(), doing.clone());
                    match self.read_commit(&ask, response).await {
                        Ok(commit) => return Ok(commit),
                        Err(error) => Some(error),
                    }
                }
                Err(error) if error.is_transient() => Some(error),
                Err(error) => return Err(error),
            };
            // Whether it was made is seen by what the branch is at.
            let is_lasting = error.as_ref().is_some_and(|error| !error.is_transient());
            let is_over = is_lasting || begin.elapsed() > self.http.most_silence();
            let head = self.http.info(self.repo).await?.sha.unwrap_or_default();
            if head != parent {
                let (found, is_next) = self.head(parent).await?;
                if is_next && self.is_done(changes, &head).await? {
                    return Ok(head);
                }
                return Err(HubError::Conflict { doing, repo: self.repo.clone(), expected: parent.to_owned(), found });
            }
            let pause = match &error {
                Some(HubError::Busy { retry_after, .. }) => retry_after.unwrap_or(Duration::from_secs(10)),
                _ => Duration::from_millis(500) * 2u32.pow(tries.min(6) as u32),
            };
            tries += 1;
            if tries > self.http.options().retries || pause > MAX_PAUSE || is_over {
                let stale = || {
                    let what = format!(
                        "it says (HTTP 412) that somebody has changed {} meanwhile, {tries} times, and shows it at {head}, where it was; \
                         nothing was committed; try again later",
                        self.repo
                    );
                    HubError::Server { doing: doing.clone(), host: self.http.options().endpoint.clone(), what }
                };
                return Err(error.unwrap_or_else(stale));
            }
            tracing::debug!(?error, ?pause, "committing again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn read_commit(&self, ask: &Ask<'_>, response: reqwest::Response) -> Result<String, HubError> {
        let page = in_place(&response);
        let body = self.http.body(ask, response, 1 << 20).await?;
        if !page.is_empty() {
            return Err(self.http.server(ask, &ask.url, format!("expected a commitOid, found an answer{page}")));
        }
        let commit =
            serde_json::from_slice::<serde_json::Value>(&body).ok().and_then(|answer| Some(answer.get("commitOid")?.as_str()?.to_owned()));
        commit.filter(|commit| is_commit(commit)).ok_or_else(|| self.http.server(ask, &ask.url, "expected a commitOid"))
    }

    /// Who is at the branch's head with what, in words, and whether that is the commit right after `parent`.
    pub async fn head(&self, parent: &str) -> Result<(String, bool), HubError> {
        #[derive(Deserialize)]
        struct Commit {
            id: String,
            #[serde(default)]
            title: String,
            #[serde(default)]
            authors: Vec<Author>,
        }
        #[derive(Deserialize)]
        struct Author {
            #[serde(default)]
            user: String,
        }
        let mut url = self.http.of_repo(self.repo, ["commits", self.repo.revision()])?;
        url.query_pairs_mut().append_pair("limit", "2");
        let ask = Ask::get(url, format!("looking who changed {}", self.repo)).about(self.repo);
        let commits: Vec<Commit> = self.http.json(&ask).await?;
        let Some(head) = commits.first() else { return Ok(("no commit".into(), false)) };
        let by = head.authors.iter().map(|author| author.user.as_str()).filter(|user| !user.is_empty()).collect::<Vec<_>>().join(", ");
        let title: String = head.title.chars().filter(|c| !c.is_control()).take(80).collect();
        let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
        Ok((format!("{} ({title:?}{by})", head.id), commits.get(1).is_some_and(|before| before.id == parent)))
    }

    async fn is_done(&self, changes: &[Change<'_>], commit: &str) -> Result<bool, HubError> {
        let paths: Vec<&str> = changes.iter().map(Change::path).collect();
        let found = self.http.some(self.repo, commit, &paths).await?;
        let by_path: std::collections::HashMap<&str, &RepoFile> = found.files.iter().map(|file| (file.path.as_str(), file)).collect();
        Ok(changes.iter().all(|change| change.is_done(by_path.get(change.path()).copied())))
    }
}

fn entry(file: &Planned) -> Result<serde_json::Value, HubError> {
    let size = file.local.stamp.size;
    let sample = file.local.open().and_then(|mut open| read_chunk(&mut open, size.min(512), 512));
    let sample = sample.map_err(|err| file.local.blame(HubError::io(format!("reading {}", file.local.file.display()))(err)))?;
    Ok(json!({"path": file.local.path, "size": size, "sample": BASE64.encode(&sample)}))
}

fn lines(changes: &[Change<'_>], parent: &str, message: &str) -> Result<String, HubError> {
    let mut text = String::new();
    let line = |text: &mut String, key: &str, value: serde_json::Value| {
        text.push_str(&json!({"key": key, "value": value}).to_string());
        text.push('\n');
    };
    let (title, more) = message.split_once('\n').unwrap_or((message, ""));
    line(&mut text, "header", json!({"summary": title, "description": more.trim(), "parentCommit": parent}));
    for change in changes {
        match change {
            Change::Delete(path) => line(&mut text, "deletedFile", json!({"path": path})),
            Change::Add(file, Mode::Inline) => {
                let reading = HubError::io(format!("reading {}", file.local.file.display()));
                let content = file.local.open().and_then(|mut open| read_chunk(&mut open, file.local.stamp.size, usize::MAX));
                let content = content.map_err(|err| file.local.blame(reading(err)))?;
                if hex(&Sha256::digest(&content)) != file.hashes.sha256 {
                    let what = "it holds something else now".to_owned();
                    return Err(file.local.blame(HubError::Changed { path: file.local.file.clone(), what }));
                }
                // Put together by hand, so that the content is there once.
                let path = json!(file.local.path);
                text.push_str(&format!(r#"{{"key":"file","value":{{"path":{path},"encoding":"base64","content":""#));
                BASE64.encode_append(&content, &mut text);
                text.push_str("\"}}\n");
            }
            Change::Add(file, _) => {
                line(
                    &mut text,
                    "lfsFile",
                    json!({"path": file.local.path, "algo": "sha256", "oid": file.hashes.sha256, "size": file.local.stamp.size}),
                );
            }
        }
    }
    Ok(text)
}
