//! Files.

use bytes::Bytes;
use hyper::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, IF_RANGE, LINK, LOCATION, RANGE,
};

use super::{Call, commit, store};
use crate::hub::git;
use crate::hub::range::{Asked, asked};
use crate::hub::reply::{Content, Reply};
use crate::hub::repo::{Commit, Content as FileContent, Entry, RepoKind};
use crate::hub::server::header;
use crate::hub::target::encode;

/// What the Hub lets browsers read, which clients may look at too.
const EXPOSED: &str =
    "X-Repo-Commit,X-Request-Id,X-Error-Code,X-Error-Message,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag,X-Xet-Hash";

fn find<'c>(commit: &'c Commit, path: &str) -> Result<&'c Entry, Reply> {
    commit.tree.get(path).ok_or_else(|| Reply::no_entry(path).with_x("x-repo-commit", &commit.id))
}

/// `GET` and `HEAD` of `…/resolve/{revision}/{path}`.
pub fn resolve(call: &Call<'_>, kind: RepoKind, name: &str, revision: &str, path: &str) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let mut state = call.hub.state();
    let repo = call.repo(&state, kind, name, true)?;
    let commit = commit(repo, revision)?.clone();
    let entry = find(&commit, path)?;
    if call.method == hyper::http::Method::GET
        && let Some(repo) = state.repos.get_mut(&(kind, name.to_owned()))
    {
        repo.downloads += 1;
    }
    drop(state);
    let etag = format!("\"{}\"", entry.etag());
    let head = |reply: Reply| {
        reply.with_x("x-repo-commit", &commit.id).with_x("access-control-expose-headers", EXPOSED).with(ACCEPT_RANGES, "bytes")
    };
    match &entry.content {
        FileContent::Lfs(sha256) => {
            let location = store::presign_get(call.hub, sha256, path);
            let mut reply = head(Reply::text(302, format!("Found. Redirecting to {location}")))
                .with(LOCATION, &location)
                .with_x("x-linked-size", &entry.size.to_string())
                .with_x("x-linked-etag", &etag);
            let xet = call.hub.objects().get(sha256).and_then(|object| object.xet.clone());
            if let Some(xet) = xet.filter(|_| call.hub.options.xet.is_some()) {
                let route = format!("{}/api/{}/{name}/xet-read-token/{}", call.hub.endpoint, kind.plural(), commit.id);
                reply = reply.with_x("x-xet-hash", &xet).with(LINK, &format!("<{route}>; rel=\"xet-auth\""));
            }
            Ok(reply)
        }
        FileContent::Small(_) if call.hub.options.resolve_cache => {
            let path = path.split('/').map(|part| encode(part, "")).collect::<Vec<_>>().join("/");
            let location = format!("/api/resolve-cache/{}/{name}/{}/{path}", kind.plural(), commit.id);
            Ok(head(Reply::text(307, format!("Temporary Redirect. Redirecting to {location}")))
                .with(LOCATION, &location)
                .with_x("x-linked-size", &entry.size.to_string())
                .with_x("x-linked-etag", &etag)
                .with(ETAG, &etag))
        }
        FileContent::Small(bytes) => Ok(head(ranged(call, Content::Bytes(bytes.clone()), &etag)).with(CONTENT_TYPE, content_type(path))),
    }
}

/// Where a small file really is, if that is told by a redirect.
pub fn cached(call: &Call<'_>, kind: RepoKind, name: &str, revision: &str, path: &str) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let state = call.hub.state();
    let commit = commit(call.repo(&state, kind, name, true)?, revision)?;
    let entry = find(commit, path)?;
    let FileContent::Small(bytes) = &entry.content else { return Err(Reply::no_entry(path)) };
    let reply = ranged(call, Content::Bytes(bytes.clone()), &format!("\"{}\"", entry.etag()));
    Ok(reply.with_x("x-repo-commit", &commit.id).with(ACCEPT_RANGES, "bytes").with(CONTENT_TYPE, content_type(path)))
}

/// `GET …/raw/{revision}/{path}`: what git holds, of a large file its pointer.
pub fn raw(call: &Call<'_>, kind: RepoKind, name: &str, revision: &str, path: &str) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let state = call.hub.state();
    let commit = commit(call.repo(&state, kind, name, true)?, revision)?;
    let entry = find(commit, path)?;
    let bytes = match &entry.content {
        FileContent::Small(bytes) => bytes.clone(),
        FileContent::Lfs(sha256) => Bytes::from(git::pointer(sha256, entry.size)),
    };
    let reply = ranged(call, Content::Bytes(bytes), &format!("\"{}\"", entry.oid));
    Ok(reply.with_x("x-repo-commit", &commit.id).with(CONTENT_TYPE, "text/plain; charset=utf-8"))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("json" | "md" | "txt" | "gitattributes" | "yaml" | "html" | "py") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// All of `content`, or the part of it that `Range` and `If-Range` ask for, or 304.
pub fn ranged(call: &Call<'_>, content: Content, etag: &str) -> Reply {
    let is_known = header(&call.headers, IF_NONE_MATCH.as_str())
        .is_some_and(|known| known.split(',').any(|known| known.trim() == etag || known.trim() == "*"));
    if is_known {
        return Reply::empty(304).with(ETAG, etag);
    }
    let len = content.len().unwrap_or(0);
    let still_fits = header(&call.headers, IF_RANGE.as_str()).is_none_or(|known| known == etag);
    let range = header(&call.headers, RANGE.as_str()).filter(|_| still_fits);
    let reply = match asked(range, len) {
        Asked::Whole => Reply::new(200, content),
        Asked::Beyond => Reply::empty(416).with(CONTENT_RANGE, &format!("bytes */{len}")),
        Asked::Part(from, count) => {
            let part = match content {
                Content::Bytes(bytes) => Content::Bytes(bytes.slice(from as usize..(from + count) as usize)),
                Content::File { path, from: begin, .. } => Content::File { path, from: begin + from, len: count },
                stream @ Content::Stream(_) => stream,
            };
            Reply::new(206, part).with(CONTENT_RANGE, &format!("bytes {from}-{}/{len}", from + count - 1))
        }
    };
    reply.with(ETAG, etag)
}

/// For a browser to name the file by.
pub fn disposition(reply: Reply, name: &str) -> Reply {
    reply.with(CONTENT_DISPOSITION, &format!("inline; filename*=UTF-8''{0}; filename=\"{0}\";", encode(name, "")))
}
