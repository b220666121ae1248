//! Large files into the Hub's store: git LFS's batches, whole files and files in parts, as huggingface_hub's `lfs.py`
//! speaks them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::notes::Parts;
use super::plan::{Meter, Planned};
use super::send::{Slice, read_chunk};
use super::{Upload, WITHOUT_XET};
use crate::down::hex;
use crate::http::{Ask, host, in_place, in_words, message_of};
use crate::pace::PIECE_BYTES;
use crate::{HubError, HubRepo};

const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// As many as huggingface_hub asks for at once.
pub(super) const BATCH: usize = 256;
/// How often a file is begun anew because the store has forgotten, or refuses, what it was told.
const MAX_BEGINS: usize = 4;
/// The most parts that S3 knows of a file.
const MAX_PARTS: u64 = 10_000;

#[derive(Deserialize)]
struct Batch {
    transfer: Option<String>,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    error: Option<ObjectError>,
}

#[derive(Deserialize)]
struct ObjectError {
    #[serde(default)]
    message: String,
}

#[derive(Clone, Deserialize)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Clone, Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, serde_json::Value>>,
}

/// What the Hub says of files that are to be uploaded.
pub(super) struct Answer {
    /// Whether they are to go to the Xet store, which is asked itself whether it has them.
    pub is_xet: bool,
    /// By SHA-256; those that it has are not among them.
    wanted: HashMap<String, Wanted>,
}

impl Answer {
    pub fn wants(&self, sha256: &str) -> bool {
        self.is_xet || self.wanted.contains_key(sha256)
    }
}

#[derive(Clone)]
pub(super) struct Wanted {
    upload: Action,
    verify: Option<Action>,
}

/// Why a part was not taken.
enum Trouble {
    /// The address is of no use any more: the Hub is asked for another.
    Stale(HubError),
    Lasting(HubError),
}

impl Trouble {
    /// A store that knows the upload no more, or one of its parts, says 400 or 404, and 403 where its time is over.
    fn of(error: HubError) -> Self {
        match &error {
            HubError::Server { what, .. } if ["HTTP 400", "HTTP 403", "HTTP 404"].iter().any(|status| what.starts_with(status)) => {
                Self::Stale(error)
            }
            _ => Self::Lasting(error),
        }
    }
}

impl From<HubError> for Trouble {
    fn from(error: HubError) -> Self {
        Self::Lasting(error)
    }
}

impl Upload<'_> {
    /// Asks which of `files` the store lacks, and how they are to go there.
    pub async fn batch(&self, files: &[&Planned], transfers: &[&str]) -> Result<Answer, HubError> {
        let mut url = self.http.url(git_path(self.repo))?;
        // The last step is the repository's name with `.git`.
        let name = format!("{}.git", self.repo.name());
        url.path_segments_mut().map_err(|()| self.odd_endpoint())?.pop().push(&name).extend(["info", "lfs", "objects", "batch"]);
        let objects: Vec<_> =
            files.iter().map(|file| serde_json::json!({"oid": file.hashes.sha256, "size": file.local.stamp.size})).collect();
        let body = serde_json::json!({
            "operation": "upload", "transfers": transfers, "objects": objects, "hash_algo": "sha256",
            "ref": {"name": self.repo.revision()},
        });
        let ask = Ask::new(Method::POST, url.clone(), format!("asking which files {} lacks", self.repo)).about(self.repo);
        let answer: Batch = self.post_lfs(ask, &body).await?;
        let server = |what: String| HubError::Server { doing: format!("asking which files {} lacks", self.repo), host: host(&url), what };
        let mut wanted = HashMap::new();
        for object in answer.objects {
            if let Some(error) = object.error {
                let of = files.iter().find(|file| file.hashes.sha256 == object.oid).map_or(object.oid.as_str(), |file| &file.local.path);
                return Err(server(format!("it does not take {of}: {:?}", error.message)));
            }
            if let Some(Actions { upload: Some(upload), verify }) = object.actions {
                wanted.insert(object.oid, Wanted { upload, verify });
            }
        }
        match answer.transfer.as_deref() {
            Some("xet") if transfers.contains(&"xet") => Ok(Answer { is_xet: true, wanted }),
            Some("basic" | "multipart") | None => Ok(Answer { is_xet: false, wanted }),
            Some(other) => Err(server(format!("it chose the transfer {other:?}, which was not offered"))),
        }
    }

    async fn post_lfs<T: serde::de::DeserializeOwned>(&self, ask: Ask<'_>, body: &serde_json::Value) -> Result<T, HubError> {
        let bytes = body.to_string();
        let make = move || Ok(reqwest::Body::from(bytes.clone()));
        let kind = HeaderValue::from_static(LFS_JSON);
        self.http.json(&ask.header(ACCEPT, kind.clone()).header(CONTENT_TYPE, kind).with(&make)).await
    }

    /// Sends a file as the Hub wants it. What of it was sent before is not sent again, as long as the store knows it.
    pub async fn send_large(&self, file: &Planned, answer: &Answer) -> Result<(), HubError> {
        let Some(mut wanted) = answer.wanted.get(&file.hashes.sha256).cloned() else { return Ok(()) };
        let meter = self.meter(&file.local);
        let (mut begins, mut most_kept) = (1, 0);
        loop {
            file.local.check()?;
            let outcome = match wanted.upload.header.as_ref().and_then(|header| header.get("chunk_size")).and_then(number) {
                Some(part_bytes) => self.send_parts(file, &wanted, part_bytes, &meter).await,
                None => self.send_whole(file, &wanted, &meter).await,
            };
            file.local.check()?;
            match outcome {
                Ok(()) => break,
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Stale(error)) if begins == MAX_BEGINS => return Err(error),
                Err(Trouble::Stale(error)) => {
                    tracing::debug!(file = file.local.path, %error, "asking for another address");
                }
            }
            let oid = &file.hashes.sha256;
            let again = self.batch(&[file], WITHOUT_XET).await?;
            match again.wanted.get(oid) {
                Some(again) => {
                    wanted = again.clone();
                    // The last time nothing is trusted.
                    let parts = self.journal.parts(oid).filter(|_| begins + 1 < MAX_BEGINS).and_then(|parts| parts.again(&wanted.upload));
                    self.journal.forget_parts(oid);
                    let kept = parts.as_ref().map_or(0, |parts| parts.etags.len());
                    begins = if kept > most_kept { 1 } else { begins + 1 };
                    most_kept = most_kept.max(kept);
                    // Those of the same upload that are there stay there.
                    if let Some(parts) = parts {
                        self.journal.note_parts(oid, &parts);
                    }
                }
                // It has come after all, and the answer that said so was lost.
                None => break,
            }
        }
        if let Some(verify) = &wanted.verify {
            let ask = Ask::new(Method::POST, self.href(&verify.href)?, format!("verifying {}", file.local.path)).about(self.repo);
            let body = serde_json::json!({"oid": file.hashes.sha256, "size": file.local.stamp.size});
            let ask = Ask { headers: headers(verify), ..ask };
            let bytes = body.to_string();
            let make = move || Ok(reqwest::Body::from(bytes.clone()));
            let ask =
                Ask { pulse: Some(Arc::default()), ..ask.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).with(&make) };
            self.http.send(&ask).await?;
        }
        self.journal.forget_parts(&file.hashes.sha256);
        meter.done.store(meter.bytes, Ordering::Relaxed);
        Ok(())
    }

    async fn send_whole(&self, file: &Planned, wanted: &Wanted, meter: &Arc<Meter>) -> Result<(), Trouble> {
        let slice = Slice::new(&file.local, 0, file.local.stamp.size, &Sha256::new(), meter, &self.http.limit);
        self.put(&slice, self.href(&wanted.upload.href)?, headers(&wanted.upload)).await?;
        self.check_sent(file, slice.hash())
    }

    async fn send_parts(&self, file: &Planned, wanted: &Wanted, part_bytes: u64, meter: &Arc<Meter>) -> Result<(), Trouble> {
        let (oid, size) = (&file.hashes.sha256, file.local.stamp.size);
        let known = self.journal.parts(oid).filter(|parts| is_sound(parts, size));
        let parts = match known {
            Some(parts) => parts,
            None => {
                let parts =
                    Parts { complete: wanted.upload.href.clone(), part_bytes, urls: part_urls(&wanted.upload), etags: BTreeMap::new() };
                if !is_sound(&parts, size) {
                    let what =
                        format!("{} addresses for parts of {part_bytes} bytes of {} ({size} bytes)", parts.urls.len(), file.local.path);
                    return Err(Trouble::Lasting(self.server("sending a file in parts", what)));
                }
                self.journal.note_parts(oid, &parts);
                parts
            }
        };
        let mut etags = parts.etags.clone();
        let mut hasher = Sha256::new();
        for (at, url) in parts.urls.iter().enumerate() {
            let from = at as u64 * parts.part_bytes;
            let len = parts.part_bytes.min(size - from);
            if etags.contains_key(&at) {
                // Not sent again, but it must still be what it was.
                read_into(file, from, len, &mut hasher)?;
                meter.done.store(from + len, Ordering::Relaxed);
                continue;
            }
            let slice = Slice::new(&file.local, from, len, &hasher, meter, &self.http.limit);
            let response = self.put(&slice, self.href(url)?, HeaderMap::new()).await?;
            let Some(etag) = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()) else {
                return Err(Trouble::Lasting(self.server("sending a file in parts", "a part was taken without an ETag".into())));
            };
            self.journal.note_part(oid, at, etag);
            etags.insert(at, etag.to_owned());
            hasher = slice.hash();
        }
        self.check_sent(file, hasher)?;
        let told: Vec<_> = etags.iter().map(|(at, etag)| serde_json::json!({"partNumber": at + 1, "etag": etag})).collect();
        let bytes = serde_json::json!({"oid": oid, "parts": told}).to_string();
        let make = move || Ok(reqwest::Body::from(bytes.clone()));
        let kind = HeaderValue::from_static(LFS_JSON);
        let ask = Ask::new(Method::POST, self.href(&parts.complete)?, format!("joining the parts of {}", file.local.path));
        let ask = Ask { pulse: Some(Arc::default()), ..ask.header(ACCEPT, kind.clone()).header(CONTENT_TYPE, kind).with(&make) };
        match self.http.send(&ask).await {
            Ok(_) => Ok(()),
            // This address has a time of its own too, at the Hub itself.
            Err(error @ HubError::Refused { status: 403, .. }) => Err(Trouble::Stale(error)),
            Err(error) => Err(Trouble::of(error)),
        }
    }

    async fn put(&self, slice: &Slice<'_>, url: Url, headers: HeaderMap) -> Result<Response, Trouble> {
        let make = || slice.body();
        let doing = format!("sending {}", slice.local.path);
        // The closure borrows the slice, and a body is made for each try.
        let ask = Ask { is_presigned: true, headers, ..Ask::new(Method::PUT, url, doing.clone()) };
        let mut ask = slice.ask(ask, &make);
        ask.understands = Some(StatusCode::FORBIDDEN);
        match self.http.send(&ask).await {
            Ok(response) if response.status() == StatusCode::FORBIDDEN => {
                let url = response.url().clone();
                let said = self.http.body(&ask, response, 64 << 10).await.map(|body| message_of(&body)).unwrap_or_default();
                let said = self.http.without_secrets(&ask, &said);
                let what = in_words(StatusCode::FORBIDDEN, &said.chars().take(300).collect::<String>());
                Err(Trouble::Stale(HubError::Server { doing, host: host(&url), what }))
            }
            Ok(response) => {
                let server = |what: String| HubError::Server { doing: doing.clone(), host: host(response.url()), what };
                let page = in_place(&response);
                if !page.is_empty() {
                    return Err(Trouble::Lasting(server(format!("expected that it takes the file, found an answer{page}"))));
                }
                match slice.given() {
                    given if given < slice.len => {
                        let what = format!("it answered HTTP {} after {given} of {} bytes", response.status(), slice.len);
                        Err(Trouble::Lasting(slice.local.blame(server(what))))
                    }
                    _ => Ok(response),
                }
            }
            Err(error) => Err(Trouble::of(slice.local.blame(error))),
        }
    }

    /// That what was sent is what was meant.
    fn check_sent(&self, file: &Planned, sent: Sha256) -> Result<(), Trouble> {
        if hex(&sent.finalize()) == file.hashes.sha256 {
            return Ok(());
        }
        let what = "what was sent has another hash than what was read before".to_owned();
        Err(Trouble::Lasting(file.local.blame(HubError::Changed { path: file.local.file.clone(), what })))
    }

    /// An address that the Hub gives. Behind a mirror it still names itself.
    fn href(&self, href: &str) -> Result<Url, HubError> {
        const HUB: &str = "https://huggingface.co/";
        let endpoint = &self.http.options().endpoint;
        let own = href.strip_prefix(HUB).map(|rest| format!("{endpoint}/{rest}"));
        let url = Url::parse(own.as_deref().unwrap_or(href)).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let is_safe = |url: &Url| url.scheme() == "https" || !endpoint.starts_with("https:");
        url.filter(is_safe).ok_or_else(|| self.server("sending files", "an address to send to that is none of https".into()))
    }

    fn server(&self, doing: &str, what: String) -> HubError {
        HubError::Server { doing: format!("{doing} to {}", self.repo), host: self.http.options().endpoint.clone(), what }
    }

    fn odd_endpoint(&self) -> HubError {
        HubError::Client { endpoint: self.http.options().endpoint.clone(), why: "HF_ENDPOINT can't have a path".into() }
    }
}

fn git_path(repo: &HubRepo) -> impl Iterator<Item = &str> {
    repo.kind().prefix().into_iter().chain([repo.owner(), repo.name()])
}

fn number(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).filter(|bytes| *bytes > 0)
}

/// The addresses of an upload's parts, in order.
fn part_urls(action: &Action) -> Vec<String> {
    let numbered = |(name, value): (&String, &serde_json::Value)| Some((name.parse::<u64>().ok()?, value.as_str()?.to_owned()));
    let mut urls: Vec<(u64, String)> = action.header.iter().flatten().filter_map(numbered).collect();
    urls.sort();
    urls.into_iter().map(|(_, url)| url).collect()
}

impl Parts {
    /// With the addresses of `action`, if that is about the same upload, whose older addresses have expired.
    fn again(self, action: &Action) -> Option<Self> {
        let urls = part_urls(action);
        let is_same = |(old, new): (&String, &String)| unsigned(old).is_some_and(|old| unsigned(new) == Some(old));
        let is_all = urls.len() == self.urls.len() && self.urls.iter().zip(&urls).all(is_same);
        (is_all && is_same((&self.complete, &action.href))).then(|| Self { complete: action.href.clone(), urls, ..self })
    }
}

/// An address without what says until when it holds, and who signed it.
fn unsigned(url: &str) -> Option<(String, Vec<(String, String)>)> {
    let url = Url::parse(url).ok()?;
    let is_of_signature = |name: &str| {
        let name = name.to_lowercase();
        matches!(name.as_str(), "expiration" | "expires" | "signature") || (name.starts_with("x-amz-") && name != "x-amz-copy-source")
    };
    let query = url.query_pairs().into_owned().filter(|(name, _)| !is_of_signature(name)).collect();
    Some((format!("{}{}", host(&url), url.path()), query))
}

fn is_sound(parts: &Parts, size: u64) -> bool {
    parts.part_bytes > 0 && size.div_ceil(parts.part_bytes) == parts.urls.len() as u64 && parts.urls.len() as u64 <= MAX_PARTS
}

/// The headers that the Hub wants with a file.
fn headers(action: &Action) -> HeaderMap {
    let pair = |(name, value): (&String, &serde_json::Value)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value.as_str()?).ok()?))
    };
    action.header.iter().flatten().filter_map(pair).collect()
}

fn read_into(file: &Planned, from: u64, len: u64, hasher: &mut Sha256) -> Result<(), HubError> {
    use std::io::{Seek, SeekFrom};
    let mut read = || {
        let mut open = file.local.open()?;
        open.seek(SeekFrom::Start(from))?;
        let mut left = len;
        while left > 0 {
            let chunk = read_chunk(&mut open, left, PIECE_BYTES)?;
            hasher.update(&chunk);
            left -= chunk.len() as u64;
        }
        Ok(())
    };
    read().map_err(|err| file.local.blame(HubError::io(format!("reading {}", file.local.file.display()))(err)))
}
