//! Large files into the Xet store, by Hugging Face's own client for it.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use url::Url;
use xet::xet_session::{Sha256Policy, XetConfig, XetSession, XetSessionBuilder, XetUploadCommit};

use super::Upload;
use super::plan::Planned;
use super::send::read_chunk;
use crate::HubError;
use crate::down::hex;
use crate::error::innermost;
use crate::http::{Ask, host};
use crate::pace::stalls;

/// What is sent together, and is known to be there when it is through.
const GROUP_BYTES: u64 = 512 << 20;
const GROUP_FILES: usize = 128;
/// How many files are cut into pieces at a time.
const AT_A_TIME: usize = 2;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    access_token: String,
    exp: u64,
    cas_url: String,
}

/// As hf-xet's options have it.
fn in_ms(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

impl Upload<'_> {
    /// Sends `files`. `false` when the Hub has no Xet for this repository after all; then nothing was sent.
    pub async fn send_xet(&self, files: &[&Planned]) -> Result<bool, HubError> {
        let mut session = None;
        let mut files = files;
        while !files.is_empty() {
            let mut bytes = 0;
            let fitting = files.iter().take(GROUP_FILES).take_while(|file| {
                bytes += file.local.stamp.size;
                bytes <= GROUP_BYTES
            });
            let (group, rest) = files.split_at(fitting.count().max(1));
            let Some(token) = self.xet_token().await? else { return Ok(false) };
            if session.is_none() {
                session = Some(self.xet_session()?);
            }
            if let Some(session) = &session {
                self.send_group(session, &token, group).await?;
            }
            group.iter().for_each(|file| self.journal.note_sent(&file.hashes.sha256));
            files = rest;
        }
        Ok(true)
    }

    fn xet_url(&self) -> Result<Url, HubError> {
        self.http.of_repo(self.repo, ["xet-write-token", self.repo.revision()])
    }

    async fn xet_token(&self) -> Result<Option<Token>, HubError> {
        let doing = format!("asking where large files of {} go", self.repo);
        let ask = Ask { understands: Some(StatusCode::NOT_FOUND), ..Ask::get(self.xet_url()?, doing) };
        let response = self.http.send(&ask).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = self.http.body(&ask, response, 1 << 20).await?;
        let odd = |what: String| self.http.server(&ask, &ask.url, what);
        let token: Token = serde_json::from_slice(&body).map_err(|err| odd(format!("expected a token for its Xet store: {err}")))?;
        let is_safe = Url::parse(&token.cas_url)
            .is_ok_and(|store| store.scheme() == "https" || (ask.url.scheme() == "http" && store.scheme() == "http"));
        if is_safe { Ok(Some(token)) } else { Err(odd("the address of its Xet store is none of https".into())) }
    }

    fn xet_session(&self) -> Result<XetSession, HubError> {
        // Beside the cache of files, where Python's client keeps its own.
        let cache = self.http.options().cache_dir.with_file_name("xet");
        let refuse = |err: &(dyn std::error::Error + 'static)| HubError::Client {
            endpoint: self.http.options().endpoint.clone(),
            why: innermost(err),
        };
        // Its own limits are 60 s for a connection, 300 s for an answer and minutes of pauses between tries.
        let config = XetConfig::new()
            .with_config("client.retry_max_attempts", 3)
            .and_then(|config| config.with_config("client.retry_base_delay", "1s"))
            .and_then(|config| config.with_config("client.connect_timeout", in_ms(self.http.options().timeout)))
            .and_then(|config| config.with_config("client.read_timeout", in_ms(self.http.patience())))
            .map_err(|err| refuse(&err))?;
        XetSessionBuilder::new_with_config(config)
            .with_cache_dir(cache)
            .with_tokio_handle(Handle::current())
            .build()
            .map_err(|err| refuse(&err))
    }

    async fn send_group(&self, session: &XetSession, token: &Token, files: &[&Planned]) -> Result<(), HubError> {
        let store = Url::parse(&token.cas_url).map_or_else(|_| token.cas_url.clone(), |url| host(&url));
        let broken = |err: xet::XetError| HubError::Broken {
            doing: format!("sending {} to the Xet store of {}", crate::error::files(files.len()), self.repo),
            host: store.clone(),
            // Its addresses are long, and may be signed.
            why: innermost(&err).split(" for url (").next().unwrap_or_default().to_owned(),
        };
        let mut headers = HeaderMap::new();
        if let Some(bearer) = self.http.options().token.as_ref().and_then(|token| token.bearer()) {
            headers.insert(AUTHORIZATION, bearer);
        }
        let silent = || HubError::Broken {
            doing: format!("sending {} to the Xet store of {}", crate::error::files(files.len()), self.repo),
            host: store.clone(),
            why: format!("nothing was taken or answered for {:.1} s", self.http.patience().as_secs_f64()),
        };
        let build = session
            .new_upload_commit()
            .map_err(&broken)?
            .with_endpoint(token.cas_url.clone())
            .with_token_info(token.access_token.clone(), token.exp)
            .with_token_refresh_url(self.xet_url()?.to_string(), headers)
            .build();
        let commit = tokio::time::timeout(self.http.patience(), build).await.map_err(|_| silent())?.map_err(&broken)?;
        let fed = AtomicU64::new(0);
        let sent = || {
            let progress = commit.progress();
            let shard = progress.shard.unwrap_or_default();
            let of_shards = shard.total_shard_bytes_upload_completed + shard.total_shard_validation_entries_completed;
            let sent = fed.load(Ordering::Relaxed) + progress.total_transfer_bytes_completed + of_shards;
            self.of_xet.store(sent, Ordering::Relaxed);
            sent
        };
        let work = async {
            let sends: Vec<_> = files.iter().map(|file| self.feed(&commit, file, &fed, &broken)).collect();
            futures_util::stream::iter(sends).buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
            commit.commit().await.map_err(&broken)
        };
        let outcome = match select(pin!(work), pin!(stalls(sent, self.http.patience()))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(silent()),
        };
        let report = outcome.inspect_err(|_failed| {
            self.count(usize::try_from(commit.progress().total_transfer_bytes_completed).unwrap_or(usize::MAX));
            // Nobody waits for it.
            drop(commit.abort());
        })?;
        self.count(usize::try_from(report.progress.total_transfer_bytes_completed).unwrap_or(usize::MAX));
        files.iter().try_for_each(|file| file.local.check())
    }

    async fn feed(
        &self,
        commit: &XetUploadCommit,
        file: &Planned,
        fed: &AtomicU64,
        broken: &impl Fn(xet::XetError) -> HubError,
    ) -> Result<(), HubError> {
        let local = &file.local;
        local.check()?;
        let meter = self.meter(local);
        let policy = Sha256Policy::from_hex(&file.hashes.sha256);
        let stream = commit.upload_stream(Some(local.path.clone()), policy).await.map_err(broken)?;
        let reading = || format!("reading {}", local.file.display());
        let mut open = local.open().map_err(|err| local.blame(HubError::io(reading())(err)))?;
        let mut hasher = Sha256::new();
        let mut left = local.stamp.size;
        while left > 0 {
            let chunk =
                read_chunk(&mut open, left, self.http.limit.chunk_bytes()).map_err(|err| local.blame(HubError::io(reading())(err)))?;
            // What the store has already counts too, as nobody here knows of it.
            self.http.limit.take(chunk.len()).await;
            hasher.update(&chunk);
            left -= chunk.len() as u64;
            meter.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            let bytes = chunk.len() as u64;
            stream.write(chunk).await.map_err(broken)?;
            fed.fetch_add(bytes, Ordering::Relaxed);
        }
        if hex(&hasher.finalize()) != file.hashes.sha256 {
            stream.abort();
            let what = "what was sent has another hash than what was read before".to_owned();
            return Err(local.blame(HubError::Changed { path: local.file.clone(), what }));
        }
        stream.finish().await.map(drop).map_err(broken)
    }
}
