//! The Hub itself, and its cache when it can't be reached.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::api::{Refs, RepoInfo};
use crate::cache::RepoCache;
use crate::http::Http;
use crate::pace::keep_apart;
use crate::{HubError, HubOptions, HubRepo, RepoKind, TokenState};

/// What is told while files come or go.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A revision is this commit. Told once, before anything is fetched.
    Resolved { repo: &'a HubRepo, commit: &'a str },
    /// The Hub was not asked, or did not answer: the commit is the one that the cache knows.
    FromCache { repo: &'a HubRepo, commit: &'a str, why: &'a str },
    /// A local file is read, to know what it holds.
    Reading(Transfer<'a>),
    /// A commit was made, one of so many.
    Committed { repo: &'a HubRepo, commit: &'a str, number: usize, of: usize },
    /// Bytes have arrived, or were sent.
    Transfer(Transfer<'a>),
    /// Nothing has been taken or answered for so long; what is sent is given up after `at_most`. Told once a second.
    Waiting { silent: Duration, at_most: Duration },
    /// A part of a file has arrived that is not fetched whole; `streamed_bytes` counts those of all such files.
    Streamed { file: &'a str, streamed_bytes: u64 },
}

/// How far a transfer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The file that is being transferred, one of several at a time.
    pub file: &'a str,
    pub file_done_bytes: u64,
    pub file_bytes: u64,
    /// Bytes that came or left now, and those that will have; what an earlier try had done is in neither.
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// Who hears of [`Event`]s, on the threads of the transfer.
pub type Listener = dyn Fn(Event<'_>) + Send + Sync;

/// The Hub. Sends nothing before something is asked of it; clones share their connections.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    options: Arc<HubOptions>,
    http: OnceLock<Http>,
    runtime: OnceLock<Option<Runtime>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropped in place, a runtime would wait, which inside another one is a panic.
        if let Some(Some(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hub").field(&self.inner.options).finish()
    }
}

/// A commit, and how it became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub repo: HubRepo,
    pub commit: String,
    /// Why the Hub was not asked, where it was not.
    pub from_cache: Option<String>,
}

impl Hub {
    pub fn new(options: HubOptions) -> Self {
        let options = Arc::new(options.without_login());
        Self { inner: Arc::new(Inner { options, http: OnceLock::new(), runtime: OnceLock::new() }) }
    }

    /// The Hub that the environment names.
    pub fn from_env() -> Self {
        Self::new(HubOptions::from_env())
    }

    pub fn options(&self) -> &HubOptions {
        &self.inner.options
    }

    pub(crate) fn cache(&self, repo: &HubRepo) -> RepoCache {
        RepoCache::of(&self.options().cache_dir, repo)
    }

    pub(crate) fn http(&self) -> Result<&Http, HubError> {
        match self.inner.http.get() {
            Some(http) => Ok(http),
            None => {
                let http = Http::new(Arc::clone(&self.inner.options))?;
                Ok(self.inner.http.get_or_init(|| http))
            }
        }
    }

    fn runtime(&self) -> Result<&Handle, HubError> {
        let options = &self.inner.options;
        let start = || {
            let mut builder = Builder::new_multi_thread();
            if let Some(first) = options.on_thread_start {
                builder.on_thread_start(first);
            }
            // Whatever a thread of it does next, also for Xet.
            builder.on_thread_unpark(keep_apart);
            builder.worker_threads(2).thread_name("hub").enable_all().build().ok()
        };
        let runtime = self.inner.runtime.get_or_init(start).as_ref();
        let refuse = || HubError::Client { endpoint: options.endpoint.clone(), why: "the system gives no thread for it".into() };
        runtime.map(Runtime::handle).ok_or_else(refuse)
    }

    /// Lets `future` be worked on beside everything else.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), HubError> {
        self.runtime()?.spawn(future);
        Ok(())
    }

    /// Waits for what is asked of the Hub. Safe inside another tokio runtime, whose threads must not wait: then a
    /// thread of its own does.
    pub(crate) fn wait<F>(&self, future: F) -> Result<F::Output, HubError>
    where
        F: Future + Send,
        F::Output: Send,
    {
        let handle = self.runtime()?;
        if Handle::try_current().is_err() {
            return Ok(handle.block_on(future));
        }
        std::thread::scope(|scope| scope.spawn(|| handle.block_on(future)).join())
            .map_err(|_panic| HubError::Client { endpoint: self.options().endpoint.clone(), why: "a thread of it panicked".into() })
    }

    /// Says that `doing` can't be done while the user wants nothing sent.
    pub(crate) fn needs_network(&self, doing: impl Into<String>) -> Result<(), HubError> {
        if self.options().offline { Err(HubError::Offline { doing: doing.into() }) } else { Ok(()) }
    }

    /// What the Hub says of a repository.
    ///
    /// # Errors
    /// When there is no such repository or revision, it may not be seen, or the Hub can't be reached.
    pub fn info(&self, repo: &HubRepo) -> Result<RepoInfo, HubError> {
        self.needs_network(format!("looking up {repo}"))?;
        let http = self.http()?;
        self.wait(http.info(repo))?
    }

    fn commit(&self, repo: &HubRepo) -> Result<String, HubError> {
        let http = self.http()?;
        self.wait(http.commit(repo))?
    }

    /// Branches and tags of a repository.
    ///
    /// # Errors
    /// As [`info`](Self::info).
    pub fn refs(&self, repo: &HubRepo) -> Result<Refs, HubError> {
        self.needs_network(format!("listing the branches and tags of {repo}"))?;
        let http = self.http()?;
        self.wait(http.refs(repo))?
    }

    /// Which kind `name` is of, where only one kind has the name. Where the Hub can't be reached, the cache says it.
    ///
    /// # Errors
    /// When several or none have it; else as [`info`](Self::info).
    pub fn kind_of(&self, repo: &HubRepo) -> Result<RepoKind, HubError> {
        let (mut found, mut sent) = (Vec::new(), TokenState::Absent);
        for kind in RepoKind::ALL {
            match self.info(&repo.clone().of_kind(kind)) {
                Ok(_) | Err(HubError::NoRevision { .. }) => found.push(kind),
                Err(HubError::NoRepo { token, .. }) => sent = token,
                Err(other @ (HubError::Offline { .. } | HubError::Unreachable { .. })) => {
                    let is_here = |kind: &RepoKind| {
                        let repo = repo.clone().of_kind(*kind);
                        self.cache(&repo).commit_of(&repo).is_ok()
                    };
                    let mut here = RepoKind::ALL.into_iter().filter(is_here);
                    return here.next().filter(|_| here.next().is_none()).ok_or(other);
                }
                Err(other) => return Err(other),
            }
        }
        let which = |found: String| HubError::WhichKind { name: repo.repo(), endpoint: self.options().endpoint.clone(), found };
        match found[..] {
            [kind] => Ok(kind),
            [] => Err(which(format!("no model, dataset or Space has this name, or it is private and {sent}"))),
            _ => {
                let kinds: Vec<String> = found.iter().map(ToString::to_string).collect();
                Err(which(format!("it is a {}; say which with --type", kinds.join(" and a "))))
            }
        }
    }

    /// Which commit the repository's revision is; when the Hub can't be reached, which it was.
    ///
    /// # Errors
    /// As [`info`](Self::info); offline, when the cache does not know.
    pub fn resolve(&self, repo: &HubRepo) -> Result<Resolved, HubError> {
        let known = self.cache(repo).commit_of(repo);
        let resolved = |commit, from_cache| Ok(Resolved { repo: repo.clone(), commit, from_cache });
        let offline = || "HF_HUB_OFFLINE or --offline is set".to_owned();
        match (self.options().offline, known) {
            (true, Ok(commit)) => resolved(commit, Some(offline())),
            (true, Err((looked_for, found))) => Err(HubError::NotCached { repo: repo.clone(), looked_for, found, why: offline() }),
            (false, known) => match (self.commit(repo), known) {
                (Ok(commit), _) => resolved(commit, None),
                (Err(HubError::Unreachable { endpoint, why, .. }), Ok(commit)) => {
                    resolved(commit, Some(format!("{endpoint} can't be reached: {why}")))
                }
                (Err(other), _) => Err(other),
            },
        }
    }
}
