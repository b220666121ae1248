//! Parts of files, by range requests.
//!
//! The Hub answers a request for a large file with an address in a store, which holds for some time. That address is
//! remembered, and asked for again when it does not work any more; only the Hub itself is told the token. All parts of a
//! file are of one version: the commit names it, the Hub says its hash each time that it gives an address, and the
//! store's ETag goes along with each request for a part.

mod parts;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use tokio::sync::{Mutex, Semaphore};
use url::Url;

use crate::api::RepoFile;
use crate::cache::is_hash;
use crate::http::{Ask, host, in_place};
use crate::hub::Event;
use crate::{Hub, HubError, HubRepo, Listener};
use parts::{Coming, Found, Parts};

/// A request asks for at most so much. All that are under way share the link: of larger ones the first would be there as
/// late as the last.
const MOST_BYTES_A_REQUEST: u64 = 256 << 10;
/// What was not announced comes with what follows it, as far as this.
const LEAST_BYTES_A_REQUEST: u64 = 4 << 10;
/// Whoever waits for more has it come in steps of so much, and what is announced beyond it comes when it is read: a
/// file may say of itself that it has any length.
const MOST_BYTES_AT_ONCE: u64 = parts::MOST_BYTES / 2;
/// Ranges this near to each other come in one request.
const SMALL_GAP_BYTES: u64 = 1 << 10;
/// So many requests are under way at a time of what is wanted later, which fills a link of 30 MB/s whose answers take
/// 50 ms.
const AT_A_TIME: usize = 6;

/// How many addresses more a part is asked for at, when one gives nothing.
const ADDRESSES: usize = 4;
/// The pause before the second of them; then it doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// The Hub says with this header of which hash the file is to which it redirects.
const LINKED_ETAG: &str = "x-linked-etag";

/// What the files of one repository share.
pub(crate) struct Ranges {
    hub: Hub,
    repo: HubRepo,
    commit: String,
    parts: Arc<Parts>,
    slots: Arc<Semaphore>,
    streamed_bytes: AtomicU64,
    next_file: AtomicU64,
    listener: Arc<Listener>,
}

impl Ranges {
    pub fn new(hub: Hub, repo: HubRepo, commit: String, listener: Arc<Listener>) -> Self {
        let slots = Arc::new(Semaphore::new(AT_A_TIME));
        let (streamed_bytes, next_file) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { hub, repo, commit, parts: Arc::default(), slots, streamed_bytes, next_file, listener }
    }

    /// The file `path`; `None` where the repository has none.
    pub fn open(self: &Arc<Self>, path: &str) -> Result<Option<RemoteFile>, HubError> {
        let located = match self.hub.wait(self.locate(path))? {
            Ok(located) => located,
            Err(HubError::NoFile { .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        let (file, address) = located;
        let number = self.next_file.fetch_add(1, Ordering::Relaxed);
        Ok(Some(RemoteFile { inner: Arc::new(Inner { ranges: Arc::clone(self), file, number, address: Mutex::new(Some(address)) }) }))
    }

    /// Asks the Hub where a file is, and which.
    async fn locate(&self, path: &str) -> Result<(RepoFile, Address), HubError> {
        let http = self.hub.http()?;
        let doing = format!("looking for {path} of {}", self.repo);
        let url = http.file_url(&self.repo, &self.commit, path)?;
        let ask = Ask {
            stops_at: Some(LINKED_ETAG),
            ..Ask::get(url, doing).about(&self.repo).header(RANGE, HeaderValue::from_static("bytes=0-0"))
        };
        let response = http.send(&ask).await.map_err(|error| match error {
            HubError::NoFile { repo, .. } => HubError::NoFile { repo, path: path.to_owned() },
            other => other,
        })?;
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(found) = text("x-repo-commit").filter(|found| *found != self.commit) {
            let what = format!("it is of commit {found:?}, expected {}", self.commit);
            return Err(HubError::Hostile { doing: ask.doing, host: host(&ask.url), what });
        }
        let is_elsewhere = response.status().is_redirection();
        let (etag, size) = match is_elsewhere {
            true => (text(LINKED_ETAG), text("x-linked-size").and_then(|size| size.parse().ok())),
            false => (text(ETAG.as_str()), content_range(response.headers()).map(|(_, size)| size)),
        };
        let hash = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned()).filter(|hash| is_hash(hash));
        let url = if is_elsewhere { http.target(&ask, &response)? } else { response.url().clone() };
        let file = match (hash, size) {
            (Some(hash), Some(size_bytes)) => RepoFile { path: path.to_owned(), size_bytes, hash },
            // A mirror that does not say it with its redirect says it when it is asked.
            _ => {
                let found = http.some(&self.repo, &self.commit, &[path]).await?;
                let none = || HubError::NoFile { repo: self.repo.clone(), path: path.to_owned() };
                found.file(path).cloned().ok_or_else(none)?
            }
        };
        Ok((file, Address { url, is_store: is_elsewhere, etag: None }))
    }
}

/// A file of a repository at a commit, of which any part can be read without the rest. Clones are the same file.
#[derive(Clone)]
pub struct RemoteFile {
    inner: Arc<Inner>,
}

struct Inner {
    ranges: Arc<Ranges>,
    file: RepoFile,
    /// By which its parts are known.
    number: u64,
    /// Where it was to be had when last asked.
    address: Mutex<Option<Address>>,
}

#[derive(Clone)]
struct Address {
    url: Url,
    /// Whether it is another than the Hub's own for the file.
    is_store: bool,
    /// What the store called the version of which the first part came.
    etag: Option<HeaderValue>,
}

impl RemoteFile {
    /// Path, size and hash, as the Hub has them.
    pub fn file(&self) -> &RepoFile {
        &self.inner.file
    }

    /// Fills `into` with the bytes from `offset` on; waits for those that are under way, and asks for the rest.
    ///
    /// # Errors
    /// When the file has no such bytes, or they can't be had.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), HubError> {
        let Inner { ranges, file, number, .. } = &*self.inner;
        let end = offset.saturating_add(into.len() as u64);
        if end > file.size_bytes {
            let what = format!("it has {} bytes, but bytes {offset} to {end} are wanted", file.size_bytes);
            return Err(HubError::Unusable { doing: self.inner.doing(), what });
        }
        let mut filled = 0;
        while filled < into.len() {
            let at = offset + filled as u64;
            match ranges.parts.find(*number, at)? {
                Found::Bytes { part, skip } => {
                    let bytes = &part[skip..];
                    let count = bytes.len().min(into.len() - filled);
                    into[filled..filled + count].copy_from_slice(&bytes[..count]);
                    filled += count;
                }
                Found::Nothing => {
                    let to =
                        end.max(at.saturating_add(LEAST_BYTES_A_REQUEST)).min(at.saturating_add(MOST_BYTES_AT_ONCE)).min(file.size_bytes);
                    self.begin(at..to, false)?;
                }
            }
        }
        Ok(())
    }

    /// Says that these bytes will be read: those that are neither here nor under way are asked for, all at a time where
    /// they are wanted `now`, else several at a time. Returns at once; whatever goes wrong is told to whoever reads them.
    pub fn expect(&self, ranges: &[Range<u64>], now: bool) {
        let mut left = MOST_BYTES_AT_ONCE;
        for range in coalesced(ranges, self.inner.file.size_bytes) {
            let range = range.start..range.end.min(range.start.saturating_add(left));
            left -= range.end - range.start;
            if range.is_empty() || self.begin(range, !now).is_err() {
                // Where nothing can be begun, reading says why.
                return;
            }
        }
    }

    fn begin(&self, range: Range<u64>, may_queue: bool) -> Result<(), HubError> {
        let Inner { ranges, number, .. } = &*self.inner;
        for coming in ranges.parts.begin(*number, range, MOST_BYTES_A_REQUEST) {
            let inner = Arc::clone(&self.inner);
            ranges.hub.spawn(async move {
                let slots = Arc::clone(&inner.ranges.slots);
                // Nobody closes it; without a slot it would only be faster.
                let _slot = if may_queue { slots.acquire().await.ok() } else { None };
                inner.bring(coming).await;
            })?;
        }
        Ok(())
    }
}

impl Inner {
    fn doing(&self) -> String {
        format!("reading a part of {} of {}", self.file.path, self.ranges.repo)
    }

    async fn bring(&self, coming: Coming) {
        let result = self.part(&coming.range()).await;
        if let Ok(bytes) = &result {
            let new = bytes.len() as u64;
            let streamed_bytes = self.ranges.streamed_bytes.fetch_add(new, Ordering::Relaxed) + new;
            (self.ranges.listener)(Event::Streamed { file: &self.file.path, streamed_bytes });
        }
        coming.done(result);
    }

    async fn part(&self, range: &Range<u64>) -> Result<Vec<u8>, HubError> {
        let mut tries = 0;
        loop {
            let address = self.address().await?;
            match self.part_from(&address, range).await {
                // An address whose time is over is refused like any other; the Hub gives another.
                Err(error) if tries < ADDRESSES && may_be_over(&error, &address) => {
                    tracing::debug!(file = self.file.path, %error, "asking where it is now");
                    let mut known = self.address.lock().await;
                    if known.as_ref().is_some_and(|known| known.url == address.url) {
                        *known = None;
                    }
                    drop(known);
                    if tries > 0 {
                        tokio::time::sleep(PAUSE * 2u32.pow(tries as u32)).await;
                    }
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// Where it is to be had; asked for again where that is not known, by one at a time.
    async fn address(&self) -> Result<Address, HubError> {
        let mut known = self.address.lock().await;
        if let Some(address) = &*known {
            return Ok(address.clone());
        }
        let (file, address) = self.ranges.locate(&self.file.path).await?;
        if file != self.file {
            return Err(self.damaged(
                format!("{} bytes of the hash {}", self.file.size_bytes, self.file.hash),
                format!("{} bytes of the hash {}", file.size_bytes, file.hash),
            ));
        }
        Ok(known.insert(address).clone())
    }

    async fn part_from(&self, address: &Address, range: &Range<u64>) -> Result<Vec<u8>, HubError> {
        let http = self.ranges.hub.http()?;
        let bytes =
            HeaderValue::try_from(format!("bytes={}-{}", range.start, range.end - 1)).map_err(|_odd| self.damaged("a range", "none"))?;
        let mut ask = Ask::get(address.url.clone(), self.doing()).about(&self.ranges.repo).header(RANGE, bytes);
        ask.headers.extend(address.etag.clone().map(|etag| (IF_RANGE, etag)));
        ask.understands = Some(StatusCode::RANGE_NOT_SATISFIABLE);
        let response = http.send(&ask).await?;
        http.check_encoding(&ask, &response)?;
        self.check(&response, range)?;
        let etag = response.headers().get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/")).cloned();
        self.check_version(address, etag).await?;
        let url = response.url().clone();
        let wanted = (range.end - range.start) as usize;
        let bytes = http.body(&ask, response, wanted).await?;
        if bytes.len() < wanted {
            let why = format!("it ended after {} of {wanted} bytes", bytes.len());
            return Err(HubError::Broken { doing: ask.doing, host: host(&url), why });
        }
        Ok(bytes)
    }

    /// Whether an answer is the part that was asked for, of a file of the right size.
    fn check(&self, response: &Response, range: &Range<u64>) -> Result<(), HubError> {
        let expected = || format!("bytes {} to {} of {}", range.start, range.end, self.file.size_bytes);
        if response.status() != StatusCode::PARTIAL_CONTENT {
            let page = in_place(response);
            let is_all = response.status() == StatusCode::OK && page.is_empty();
            let why = if is_all { " (all of it, as it has changed, or parts are not to be had)" } else { &page };
            return Err(self.damaged(expected(), format!("HTTP {}{why}", response.status())));
        }
        match content_range(response.headers()) {
            Some((found, size)) if found == *range && size == self.file.size_bytes => {}
            Some((found, size)) => return Err(self.damaged(expected(), format!("bytes {} to {} of {size}", found.start, found.end))),
            None => return Err(self.damaged(expected(), "a part that does not say which")),
        }
        match response.content_length() {
            Some(length) if length != range.end - range.start => Err(self.damaged(expected(), format!("{length} bytes"))),
            _ => Ok(()),
        }
    }

    /// Whether a part is of the version of which those before from this address were.
    async fn check_version(&self, address: &Address, etag: Option<HeaderValue>) -> Result<(), HubError> {
        let Some(etag) = etag else { return Ok(()) };
        let mut known = self.address.lock().await;
        let Some(known) = known.as_mut().filter(|known| known.url == address.url) else { return Ok(()) };
        let first = known.etag.get_or_insert_with(|| etag.clone());
        let words = |etag: &HeaderValue| String::from_utf8_lossy(etag.as_bytes()).into_owned();
        if *first == etag { Ok(()) } else { Err(self.damaged(format!("the version {}", words(first)), words(&etag))) }
    }

    fn damaged(&self, expected: impl Into<String>, found: impl Into<String>) -> HubError {
        HubError::Damaged { repo: self.ranges.repo.clone(), file: self.file.path.clone(), expected: expected.into(), found: found.into() }
    }
}

/// Whether another address could help.
fn may_be_over(error: &HubError, address: &Address) -> bool {
    match error {
        HubError::Broken { .. } => true,
        HubError::Refused { .. } | HubError::NoRepo { .. } | HubError::NoFile { .. } | HubError::Server { .. } => address.is_store,
        _ => false,
    }
}

/// The bytes that an answer has, and how many the file has.
fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, u64)> {
    let (range, size) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some((first..last.checked_add(1).filter(|end| *end > first)?, size.parse().ok()?))
}

/// Ranges in order, those that touch or nearly do as one, as far as the file has them.
fn coalesced(ranges: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> =
        ranges.iter().map(|range| range.start..range.end.min(size)).filter(|range| !range.is_empty()).collect();
    sorted.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(SMALL_GAP_BYTES) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of ranges may have one")]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_comes_together() {
        assert_eq!(coalesced(&[5000..5001, 0..10, 10..20, 1000..3000, 7..12], 5000), [0..3000]);
        assert_eq!(coalesced(&[0..10, 2000..2010], 2005), [0..10, 2000..2005]);
        assert!(coalesced(&[10..10, 30..40], 20).is_empty());
    }

    #[test]
    fn only_a_whole_content_range_is_one() {
        let headers = |value: &'static str| HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static(value))]);
        assert_eq!(content_range(&headers("bytes 10-99/100")), Some((10..100, 100)));
        for wrong in
            ["bytes 10-9/100", "bytes 10-/100", "bytes 10-99/*", "items 10-99/100", "bytes */100", "bytes 0-18446744073709551615/1"]
        {
            assert_eq!(content_range(&headers(wrong)), None, "{wrong}");
        }
    }
}
