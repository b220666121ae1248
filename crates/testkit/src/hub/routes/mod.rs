//! Which request is answered by whom.

pub mod commit;
pub mod info;
pub mod jobs;
pub mod lfs;
pub mod manage;
pub mod oauth;
pub mod resolve;
pub mod search;
pub mod store;
pub mod tree;
pub mod xet;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::http::header::LOCATION;
use hyper::http::{HeaderMap, Method};
use serde_json::json;

use super::access::Caller;
use super::body::Incoming;
use super::clock;
use super::reply::Reply;
use super::repo::{Commit, Repo, RepoKind};
use super::server::{header, rate_limited};
use super::state::{Hub, State};
use super::target::{Target, encode};

/// A request on its way through the routes.
pub struct Call<'a> {
    pub hub: &'a Arc<Hub>,
    pub method: Method,
    pub target: Target,
    /// Path and query, as sent.
    pub full: String,
    pub headers: HeaderMap,
    pub body: Incoming,
    /// Whether it came to the stores' own host.
    pub is_store: bool,
}

/// Requests of the last ten seconds.
#[derive(Debug, Default)]
pub struct Window(VecDeque<Instant>);

impl Window {
    /// How long to wait, where there were too many.
    fn admit(&mut self, limit: u64) -> Option<u64> {
        let now = clock::instant();
        let span = Duration::from_secs(10);
        while self.0.front().is_some_and(|first| now.duration_since(*first) >= span) {
            self.0.pop_front();
        }
        if (self.0.len() as u64) < limit {
            self.0.push_back(now);
            return None;
        }
        self.0.front().map(|first| (span.saturating_sub(now.duration_since(*first))).as_secs() + 1)
    }
}

impl Call<'_> {
    pub fn caller(&self) -> Result<Caller, Reply> {
        self.hub.state().accounts.caller(header(&self.headers, "authorization"))
    }

    pub fn get_or_head(&self) -> Result<(), Reply> {
        self.only(&[Method::GET, Method::HEAD])
    }

    pub fn only(&self, methods: &[Method]) -> Result<(), Reply> {
        if methods.contains(&self.method) { Ok(()) } else { Err(Reply::error(405, None, "Method not allowed")) }
    }

    /// The repository, if this caller may know of it (and read its files, where `is_content`).
    pub fn repo<'s>(&self, state: &'s State, kind: RepoKind, name: &str, is_content: bool) -> Result<&'s Repo, Reply> {
        let caller = state.accounts.caller(header(&self.headers, "authorization"))?;
        let key = (kind, name.to_owned());
        let Some(repo) = state.repos.get(&key) else {
            return Err(match state.moved.get(&key) {
                Some(new) => self.moved(name, new),
                None => Reply::no_repo(&caller),
            });
        };
        state.accounts.may_read(&caller, repo, is_content)?;
        Ok(repo)
    }

    /// The repository, if this caller may write to it.
    pub fn repo_to_write<'s>(&self, state: &'s mut State, kind: RepoKind, name: &str) -> Result<&'s mut Repo, Reply> {
        self.repo(state, kind, name, false)?;
        let caller = state.accounts.caller(header(&self.headers, "authorization"))?;
        state.accounts.may_write(&caller, name.split('/').next().unwrap_or_default())?;
        state.repos.get_mut(&(kind, name.to_owned())).ok_or_else(|| Reply::no_repo(&caller))
    }

    /// A relative redirect from the old name to the new one.
    fn moved(&self, old: &str, new: &str) -> Reply {
        Reply::text(307, format!("Temporary Redirect. Redirecting to {new}")).with(LOCATION, &self.full.replacen(old, new, 1))
    }
}

/// The commit that a revision names.
pub(in super::super) fn commit<'r>(repo: &'r Repo, revision: &str) -> Result<&'r Arc<Commit>, Reply> {
    repo.find(revision).ok_or_else(|| Reply::no_revision(revision))
}

/// The next page's address, as a `Link` header tells it.
pub fn next_page(hub: &Hub, target: &Target, cursor: &str) -> String {
    let kept = target.query.iter().filter(|(name, _)| name != "cursor").map(|(name, value)| (name.as_str(), value.as_str()));
    let query: Vec<String> =
        kept.chain([("cursor", cursor)]).map(|(name, value)| format!("{}={}", encode(name, "[]"), encode(value, ""))).collect();
    let path: Vec<String> = target.parts.iter().map(|part| encode(part, "")).collect();
    format!("<{}/{}?{}>; rel=\"next\"", hub.endpoint, path.join("/"), query.join("&"))
}

fn kind_of(plural: &str) -> Option<RepoKind> {
    RepoKind::ALL.into_iter().find(|kind| kind.plural() == plural)
}

/// The repository that a path is about.
pub fn repo_of(parts: &[String]) -> Option<(RepoKind, String)> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["api", "resolve-cache", kind, owner, name, ..] | ["api", kind, owner, name, ..] => {
            kind_of(kind).map(|kind| (kind, format!("{owner}/{name}")))
        }
        [kind @ ("datasets" | "spaces"), owner, name, ..] => {
            kind_of(kind).map(|kind| (kind, format!("{owner}/{}", name.trim_end_matches(".git"))))
        }
        [owner, name, ..] => Some((RepoKind::Model, format!("{owner}/{}", name.trim_end_matches(".git")))),
        _ => None,
    }
}

/// The answer, or the error that is one.
pub async fn answer(call: &mut Call<'_>) -> Result<Reply, Reply> {
    let parts: Vec<String> = call.target.parts.clone();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["cdn", ..] | ["upload", ..] => return store::answer(call, &parts).await,
        _ if call.is_store => return Err(store::no_such_key()),
        _ => {}
    }
    if let Some(limit) = call.hub.options.requests_per_10_s
        && let Some(wait_s) = call.hub.state().window.admit(limit)
    {
        return Err(rate_limited(wait_s));
    }
    match parts.as_slice() {
        ["api", "whoami-v2"] => {
            call.get_or_head()?;
            let caller = call.caller()?;
            let authorization = header(&call.headers, "authorization").unwrap_or_default();
            Ok(Reply::json(&call.hub.state().accounts.whoami(&caller, authorization)?))
        }
        ["oauth", what] => oauth::answer(call, what).await,
        ["api", "repos", what] => manage::repos(call, what).await,
        ["api", "complete_multipart"] => store::complete(call).await,
        ["api", "jobs", rest @ ..] => jobs::answer(call, rest).await,
        ["api", "validate-yaml"] => Ok(Reply::json(&json!({"errors": [], "warnings": []}))),
        ["api", "telemetry", ..] | ["api", "event", ..] => Ok(Reply::empty(200)),
        ["api", "resolve-cache", kind, owner, name, revision, path @ ..] if kind_of(kind).is_some() => {
            resolve::cached(call, kind_of(kind).unwrap_or(RepoKind::Model), &format!("{owner}/{name}"), revision, &path.join("/"))
        }
        ["api", kind] if kind_of(kind).is_some() => search::answer(call, kind_of(kind).unwrap_or(RepoKind::Model)),
        ["api", kind, owner, name, rest @ ..] if kind_of(kind).is_some() => {
            let (kind, name) = (kind_of(kind).unwrap_or(RepoKind::Model), format!("{owner}/{name}"));
            api(call, kind, &name, rest).await
        }
        [kind @ ("datasets" | "spaces"), owner, name, rest @ ..] => {
            page(call, kind_of(kind).unwrap_or(RepoKind::Model), &format!("{owner}/{name}"), rest).await
        }
        // Repositories of the Hub's beginnings have no owner, and are redirected.
        [name, "resolve" | "raw", _, ..] => {
            let state = call.hub.state();
            Err(match state.moved.get(&(RepoKind::Model, (*name).to_owned())) {
                Some(new) => call.moved(name, new),
                None => Reply::no_repo(&state.accounts.caller(header(&call.headers, "authorization"))?),
            })
        }
        [owner, name, rest @ ..] => page(call, RepoKind::Model, &format!("{owner}/{name}"), rest).await,
        _ => Err(Reply::error(404, None, "Not found")),
    }
}

/// What is not under `/api`.
async fn page(call: &mut Call<'_>, kind: RepoKind, name: &str, rest: &[&str]) -> Result<Reply, Reply> {
    match rest {
        ["resolve", revision, path @ ..] if !path.is_empty() => resolve::resolve(call, kind, name, revision, &path.join("/")),
        ["raw", revision, path @ ..] if !path.is_empty() => resolve::raw(call, kind, name, revision, &path.join("/")),
        ["info", "lfs", "objects", "batch"] if name.ends_with(".git") => lfs::batch(call, kind, name.trim_end_matches(".git")).await,
        ["info", "lfs", "objects", "verify"] if name.ends_with(".git") => lfs::verify(call, kind, name.trim_end_matches(".git")).await,
        _ => Err(Reply::error(404, None, "Not found")),
    }
}

/// What is under `/api/{kind}s/owner/name`.
async fn api(call: &mut Call<'_>, kind: RepoKind, name: &str, rest: &[&str]) -> Result<Reply, Reply> {
    match rest {
        [] => info::answer(call, kind, name, "main"),
        ["revision", revision] => info::answer(call, kind, name, revision),
        ["tree", revision, path @ ..] => tree::list(call, kind, name, revision, path.join("/").trim_matches('/')),
        ["paths-info", revision] => tree::paths_info(call, kind, name, revision).await,
        ["refs"] => info::refs(call, kind, name),
        ["commits", revision] => info::commits(call, kind, name, revision),
        ["auth-check"] => info::auth_check(call, kind, name, false),
        ["auth-check", "write"] => info::auth_check(call, kind, name, true),
        ["runtime"] if kind == RepoKind::Space => info::runtime(call, name),
        ["preupload", revision] => commit::preupload(call, kind, name, revision).await,
        ["commit", revision] => commit::commit(call, kind, name, revision).await,
        ["settings"] => manage::settings(call, kind, name).await,
        ["branch", branch] => manage::branch(call, kind, name, branch).await,
        ["tag", what] => manage::tag(call, kind, name, what).await,
        ["xet-read-token", revision] => xet::token(call, kind, name, revision, false),
        ["xet-write-token", revision] => xet::token(call, kind, name, revision, true),
        _ => Err(Reply::error(404, None, "Not found")),
    }
}
