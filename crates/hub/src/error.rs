//! What can go wrong between a name and its files.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::HubRepo;

/// A repository whose files could not be had.
#[derive(Debug, Error)]
pub enum HubError {
    /// A local path that is not there, or is no folder.
    #[error("opening the model folder {}: {found}", path.display())]
    NoFolder { path: PathBuf, found: &'static str },
    /// `HF_ENDPOINT`, a proxy or the system's certificates cannot be used.
    #[error("preparing requests to {endpoint}: this address, a proxy setting or the system's CA certificates can't be used")]
    Client {
        endpoint: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The Hub knows no such repository. It says the same of private ones that the token can't see.
    #[error("looking up {model} at {endpoint}: no such {}, or it is private and {token}", model.kind())]
    NoModel { model: HubRepo, endpoint: String, token: TokenState },
    /// The repository is there but has no such branch, tag or commit.
    #[error("looking up {model} at {endpoint}: the {} is there, but it has no revision {}", model.kind(), model.revision())]
    NoRevision { model: HubRepo, endpoint: String },
    /// The Hub wants a token, or the owner of the token to accept the terms.
    #[error("fetching {model} from {endpoint}: access refused (HTTP {status}); {token}{gate}")]
    Refused { model: HubRepo, endpoint: String, status: u16, token: TokenState, gate: Gate },
    /// No answer, or an answer that broke off.
    #[error("{doing} from {endpoint}: no answer, or it broke off{hint}")]
    Network {
        doing: String,
        endpoint: String,
        /// What the cache could offer instead.
        hint: CacheHint,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// An answer that is none of the above.
    #[error("{doing} from {endpoint}: unexpected answer")]
    Server {
        doing: String,
        endpoint: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Offline, and the cache does not have it.
    #[error("looking for {model} in the cache (HF_HUB_OFFLINE is set): expected {}, found {found}", looked_for.display())]
    NotCached { model: HubRepo, looked_for: PathBuf, found: &'static str },
    /// A repository without the files of a policy.
    #[error("choosing the files of {model}: expected {expected} at the top of the repository, found {}", found.join(", "))]
    NoPolicy { model: HubRepo, expected: &'static str, found: Vec<String> },
    /// A file that is not what the Hub says it is. It has been removed from the cache.
    #[error(
        "verifying {file} of {model}: expected {expected}, found {found}; it was removed from the cache, so trying again fetches it anew"
    )]
    Damaged { model: HubRepo, file: String, expected: String, found: String },
    /// The disk of the cache is full.
    #[error("writing {file} of {model} ({size_bytes} bytes) to {}: the disk is full; make room there or set HF_HOME to a larger disk", cache.display())]
    DiskFull {
        model: HubRepo,
        file: String,
        size_bytes: u64,
        cache: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Any other trouble with the cache's files.
    #[error("{doing}")]
    Cache {
        doing: String,
        #[source]
        source: io::Error,
    },
}

/// Whether a request carried a token, and what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    Absent,
    Sent,
}

impl std::fmt::Display for TokenState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "no token was sent: set HF_TOKEN to a token that may read it",
            Self::Sent => "the token that was sent (HF_TOKEN or the stored login) may not read it",
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
    /// The folder of the commit that the revision meant when it was last fetched.
    Snapshot(PathBuf),
}

impl std::fmt::Display for CacheHint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Snapshot(path) => write!(f, "; {} holds what was fetched last: set HF_HUB_OFFLINE=1 to use it", path.display()),
        }
    }
}
