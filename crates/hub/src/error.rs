//! What can go wrong between a name and its files, on the way down and on the way up.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::HubRepo;

/// What could not be had from the Hub, or brought to it.
#[derive(Debug, Error)]
pub enum HubError {
    /// A local path that is not there, or is no folder.
    #[error("opening the model folder {}: {found}", path.display())]
    NoFolder { path: PathBuf, found: &'static str },
    /// `HF_ENDPOINT`, a proxy or the certificates cannot be used.
    #[error("preparing requests to {endpoint}: {why}")]
    Client { endpoint: String, why: String },
    /// The Hub knows no such repository. It says the same of private ones that the token can't see.
    #[error("looking up {repo} at {endpoint}: no such {}, or it is private and {token}", repo.kind())]
    NoRepo { repo: HubRepo, endpoint: String, token: TokenState },
    /// The repository is there but has no such branch, tag or commit.
    #[error("looking up {repo} at {endpoint}: the {} is there, but it has no revision {}", repo.kind(), repo.revision())]
    NoRevision { repo: HubRepo, endpoint: String },
    /// The repository is there but has no such file.
    #[error("looking for {path} in {repo}: there is no such file")]
    NoFile { repo: HubRepo, path: String },
    /// A name that both a policy and a dataset have, or none.
    #[error("looking up {name} at {endpoint}: {found}")]
    WhichKind { name: String, endpoint: String, found: String },
    /// The Hub wants a token, or the owner of the token to accept the terms.
    #[error("{doing}: access refused by {endpoint} (HTTP {status}){}; {token}{gate}", quoted(said))]
    Refused { doing: String, endpoint: String, status: u16, said: String, token: TokenState, gate: Gate },
    /// Nobody answers at all: no network, no such host, nothing that listens.
    #[error("{doing}: {endpoint} can't be reached ({why}){hint}")]
    Unreachable {
        doing: String,
        endpoint: String,
        why: String,
        /// What the cache could offer instead.
        hint: CacheHint,
    },
    /// An answer that broke off, came too slowly, or whose retries are used up.
    #[error("{doing}: the answer of {host} broke off ({why})")]
    Broken { doing: String, host: String, why: String },
    /// The Hub has had too many requests.
    #[error("{doing}: {endpoint} takes no more requests for now (HTTP 429){}", wait(*retry_after))]
    Busy { doing: String, endpoint: String, retry_after: Option<Duration> },
    /// Somebody else has changed what was to be changed.
    #[error("{doing}: {repo} has changed meanwhile: expected it at commit {expected}, found {found}; nothing was overwritten")]
    Conflict { doing: String, repo: HubRepo, expected: String, found: String },
    /// An answer that is none of the above.
    #[error("{doing}: unexpected answer from {host}: {what}")]
    Server { doing: String, host: String, what: String },
    /// An answer that would do harm if it were believed.
    #[error("{doing}: refused what {host} answered: {what}")]
    Hostile { doing: String, host: String, what: String },
    /// Offline, and the cache does not have it.
    #[error("looking for {repo} in the cache ({why}): expected {}, found {found}", looked_for.display())]
    NotCached { repo: HubRepo, looked_for: PathBuf, found: &'static str, why: String },
    /// Something that needs the Hub while HF_HUB_OFFLINE or --offline is set.
    #[error("{doing}: HF_HUB_OFFLINE or --offline is set, and this needs the Hub")]
    Offline { doing: String },
    /// A repository without the files of a policy.
    #[error("choosing the files of {repo}: expected {expected} at the top of the repository, found {}", found.join(", "))]
    NoPolicy { repo: HubRepo, expected: &'static str, found: Vec<String> },
    /// A file that is not what the Hub says it is, twice in a row. Nothing of it stays.
    #[error("verifying {file} of {repo}: expected {expected}, found {found}; nothing of it was kept, so trying again fetches it anew")]
    Damaged { repo: HubRepo, file: String, expected: String, found: String },
    /// A local file that changes while it is sent.
    #[error("sending {}: it has changed meanwhile ({what}); send it again when nobody writes to it", path.display())]
    Changed { path: PathBuf, what: String },
    /// A pattern of paths that is none.
    #[error("reading the pattern {pattern:?}: {why}")]
    Pattern { pattern: String, why: String },
    /// What the user gave can't be sent or asked for.
    #[error("{doing}: {what}")]
    Unusable { doing: String, what: String },
    /// The disk of the cache, or of the folder that the user named, is full.
    #[error("writing {file} of {repo} ({size_bytes} bytes) to {}: the disk is full; make room there{}", place.display(), elsewhere(*is_cache))]
    DiskFull { repo: HubRepo, file: String, size_bytes: u64, place: PathBuf, is_cache: bool },
    /// Any other trouble with files here.
    #[error("{doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
}

impl HubError {
    /// Whether trying again later may help, without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Busy { .. } => true,
            Self::Server { what, .. } => {
                let status = what.strip_prefix("HTTP ").and_then(|what| what.get(..3)?.parse().ok());
                status.is_some_and(may_pass)
            }
            _ => false,
        }
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// Whether an HTTP status may be another one when the same is asked again. What has no room (507), knows no such request (501, 505)
/// or wants a login first (511) says the same again.
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 425 | 429) || (500..600).contains(&status) && !matches!(status, 501 | 505 | 507 | 511)
}

/// Whether a request carried a token, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    Absent,
    Sent,
    /// It was sent, and the Hub knows no such token.
    Unknown,
    /// It was sent with something that changes the Hub, and is known there.
    MayNotWrite,
    /// A name and a password of `HF_ENDPOINT` were sent in place of one.
    Login,
    /// What was refused has nothing to do with it.
    NotMeant,
}

impl std::fmt::Display for TokenState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "no token was sent: run `sinew hub login`, or set HF_TOKEN",
            Self::Sent => "the token that was sent (HF_TOKEN or the stored login) doesn't allow it",
            Self::Unknown => "the token that was sent (HF_TOKEN or the stored login) is not valid: run `sinew hub login`, or set HF_TOKEN",
            Self::Login => "the name and the password in HF_ENDPOINT, which were sent in place of a token, don't allow it",
            Self::NotMeant => "another token does not help",
            Self::MayNotWrite => "the token that was sent (HF_TOKEN or the stored login) may not write there: it needs the right to write",
        })
    }
}

/// Whether the owner asks for terms to be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// The page on which to accept.
    Gated(String),
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open => Ok(()),
            Self::Gated(page) => write!(f, "; it is gated: accept its terms at {page}"),
        }
    }
}

/// Whether an older answer lies in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheHint {
    Nothing,
    /// The folder of the commit that the revision meant when it was last fetched, which lacks something.
    Snapshot(PathBuf),
}

impl std::fmt::Display for CacheHint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Snapshot(path) => write!(f, "; the cache has a part of it in {}", path.display()),
        }
    }
}

/// "1 file", "2 files".
pub(crate) fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

fn elsewhere(is_cache: bool) -> &'static str {
    if is_cache { " or set HF_HOME to a larger disk" } else { ", or name a folder on a larger disk" }
}

fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said:?}") }
}

fn wait(retry_after: Option<Duration>) -> String {
    retry_after.map(|wait| format!("; it asks to wait {} s", wait.as_secs())).unwrap_or_default()
}

/// What an error and its causes say, in one line: the innermost cause knows the most.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
