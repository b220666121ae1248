//! Commits over HTTP: what is to be uploaded how, and the commit itself, a line of JSON for each change.

use bytes::Bytes;
use data_encoding::{BASE64, BASE64_NOPAD};
use hyper::http::Method;
use serde_json::{Value, json};

use super::Call;
use crate::hub::clock;
use crate::hub::reply::Reply;
use crate::hub::repo::{Entry, Repo, RepoKind, Tree, Words};
use crate::hub::server::header;
use crate::hub::state::is_lfs_by_rule;

/// A commit's lines together may have so many bytes.
const MAX_COMMIT: usize = 1 << 30;

/// `POST /api/…/preupload/{revision}`.
pub async fn preupload(call: &mut Call<'_>, kind: RepoKind, name: &str, revision: &str) -> Result<Reply, Reply> {
    call.only(&[Method::POST])?;
    let asked = call.body.json().await?;
    let mut state = call.hub.state();
    let repo = &*call.repo_to_write(&mut state, kind, name)?;
    let commit = super::commit(repo, revision)?;
    let files = asked["files"].as_array().ok_or_else(|| Reply::bad_request("files: expected a list"))?;
    // Rules that come with this very upload hold for it.
    let ignored = asked["gitIgnore"].as_str().unwrap_or_default();
    let mut answers = Vec::new();
    for file in files {
        let (Some(path), Some(size)) = (file["path"].as_str(), file["size"].as_u64()) else {
            return Err(Reply::bad_request("files: expected {path, size, sample}"));
        };
        if file["sample"].as_str().is_some_and(|sample| BASE64.decode(sample.as_bytes()).is_err()) {
            return Err(Reply::bad_request("files: sample is no base64"));
        }
        check_path(path)?;
        let is_lfs = size >= call.hub.options.lfs_from || is_lfs_by_rule(&commit.tree, path);
        let is_ignored = ignored.lines().map(str::trim).any(|rule| {
            !rule.is_empty()
                && !rule.starts_with('#')
                && (rule == path
                    || path.starts_with(&format!("{}/", rule.trim_matches('/')))
                    || crate::hub::faults::fits(rule, path.rsplit('/').next().unwrap_or(path)))
        });
        let mut answer = json!({"path": path, "uploadMode": if is_lfs { "lfs" } else { "regular" }, "shouldIgnore": is_ignored});
        if let Some(entry) = commit.tree.get(path) {
            answer["oid"] = entry.etag().into();
        }
        answers.push(answer);
    }
    Ok(Reply::json(&json!({"files": answers, "commitOid": commit.id})))
}

/// That a path is one that git takes.
fn check_path(path: &str) -> Result<(), Reply> {
    let is_bad = |part: &str| part.is_empty() || part == "." || part == ".." || part == ".git";
    if path.split('/').any(is_bad) || path.contains(['\\', '\0']) {
        return Err(Reply::bad_request(&format!("path: {path:?} can't be a file of a repository")));
    }
    Ok(())
}

/// A line of a commit.
enum Change {
    File(String, Bytes),
    Large { path: String, oid: String, size: Option<u64> },
    Copy { path: String, from: String, revision: Option<String> },
    DeleteFile(String),
    DeleteFolder(String),
}

/// The words and the changes of a commit.
#[derive(Default)]
struct Asked {
    title: String,
    message: String,
    parent: Option<String>,
    changes: Vec<Change>,
}

fn parse(body: &[u8]) -> Result<Asked, Reply> {
    let mut asked = Asked::default();
    let mut has_header = false;
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let line: Value = serde_json::from_slice(line).map_err(|error| Reply::bad_request(&format!("a line is no JSON: {error}")))?;
        let (key, value) = (line["key"].as_str().unwrap_or_default(), &line["value"]);
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        if key == "header" {
            has_header = true;
            asked.title =
                text("summary").filter(|title| !title.is_empty()).ok_or_else(|| Reply::bad_request("header: summary is missing"))?;
            asked.message = text("description").unwrap_or_default();
            asked.parent = text("parentCommit");
            continue;
        }
        let path = text("path").ok_or_else(|| Reply::bad_request(&format!("{key}: path is missing")))?;
        check_path(path.trim_end_matches('/'))?;
        asked.changes.push(match key {
            "file" => {
                let content = text("content").ok_or_else(|| Reply::bad_request("file: content is missing"))?;
                let content = match text("encoding").as_deref() {
                    Some("base64") => BASE64
                        .decode(content.as_bytes())
                        .or_else(|_| BASE64_NOPAD.decode(content.as_bytes()))
                        .map_err(|error| Reply::bad_request(&format!("file: content is no base64: {error}")))?,
                    _ => content.into_bytes(),
                };
                Change::File(path, content.into())
            }
            "lfsFile" => {
                let oid = text("oid").ok_or_else(|| Reply::bad_request("lfsFile: oid is missing"))?;
                Change::Large { path, oid, size: value["size"].as_u64() }
            }
            "copyFile" => {
                let from = text("srcPath").ok_or_else(|| Reply::bad_request("copyFile: srcPath is missing"))?;
                Change::Copy { path, from, revision: text("srcRevision") }
            }
            "deletedFile" | "deletedEntry" => Change::DeleteFile(path),
            "deletedFolder" => Change::DeleteFolder(path.trim_end_matches('/').to_owned()),
            _ => {
                return Err(Reply::bad_request(&format!(
                    "expected header, file, lfsFile, copyFile, deletedFile or deletedFolder, found {key:?}"
                )));
            }
        });
    }
    if !has_header {
        return Err(Reply::bad_request("a commit begins with a header"));
    }
    Ok(asked)
}

fn apply(call: &Call<'_>, repo: &Repo, tree: &mut Tree, change: Change) -> Result<(), Reply> {
    match change {
        Change::File(path, content) => {
            if content.len() as u64 >= call.hub.options.lfs_from {
                return Err(Reply::bad_request(&format!(
                    "Your push was rejected because it contains files larger than {} bytes. Offending files: {path}",
                    call.hub.options.lfs_from
                )));
            }
            put(tree, path, Entry::small(content))
        }
        Change::Large { path, oid, size } => {
            let known = call.hub.objects().get(&oid).map(|object| object.len);
            let Some(len) = known else {
                return Err(Reply::bad_request(&format!(
                    "Your push was rejected because an LFS pointer pointed to a file that does not exist. For instance, this can happen if you used git push --no-verify to push your changes. Offending file: - {path}"
                )));
            };
            if size.is_some_and(|size| size != len) {
                return Err(Reply::bad_request(&format!("lfsFile: {path} has {len} bytes, its pointer says {size:?}")));
            }
            put(tree, path, Entry::lfs(&oid, len))
        }
        Change::Copy { path, from, revision } => {
            let source = match revision {
                Some(revision) => super::commit(repo, &revision)?.tree.get(&from).cloned(),
                None => tree.get(&from).cloned(),
            };
            put(tree, path, source.ok_or_else(|| Reply::no_entry(&from))?)
        }
        Change::DeleteFile(path) => tree.remove(&path).map(drop).ok_or_else(|| Reply::no_entry(&path)),
        Change::DeleteFolder(path) => {
            let before = tree.len();
            let prefix = format!("{path}/");
            tree.retain(|path, _| !path.starts_with(&prefix));
            if tree.len() == before { Err(Reply::no_entry(&path)) } else { Ok(()) }
        }
    }
}

/// Puts a file into a tree; a path can't be a file and a folder at once.
fn put(tree: &mut Tree, path: String, entry: Entry) -> Result<(), Reply> {
    let is_below_file = path.match_indices('/').any(|(at, _)| path.get(..at).is_some_and(|folder| tree.contains_key(folder)));
    let prefix = format!("{path}/");
    let is_folder = tree.range(prefix.clone()..).next().is_some_and(|(other, _)| other.starts_with(&prefix));
    if is_below_file || is_folder {
        return Err(Reply::bad_request(&format!("{path} would be a file and a folder at once")));
    }
    tree.insert(path, entry);
    Ok(())
}

/// `POST /api/…/commit/{revision}`.
pub async fn commit(call: &mut Call<'_>, kind: RepoKind, name: &str, revision: &str) -> Result<Reply, Reply> {
    call.only(&[Method::POST])?;
    // Whoever may not write learns it before he has sent everything.
    call.repo_to_write(&mut call.hub.state(), kind, name)?;
    if !header(&call.headers, "content-type").is_some_and(|kind| kind.starts_with("application/x-ndjson")) {
        return Err(Reply::bad_request("Content-Type: expected application/x-ndjson"));
    }
    let body = call.body.whole(MAX_COMMIT).await?;
    let asked = parse(&body)?;
    drop(body);
    let is_unknown = |change: &Change| matches!(change, Change::Large { oid, .. } if call.hub.objects().get(oid).is_none());
    if asked.changes.iter().any(is_unknown) {
        super::xet::discover(call.hub).await?;
    }
    let caller = call.caller()?;
    let mut state = call.hub.state();
    let repo = call.repo_to_write(&mut state, kind, name)?;
    let branch = revision.strip_prefix("refs/heads/").unwrap_or(revision);
    let Some(head) = repo.branches.get(branch).cloned() else {
        return Err(match repo.find(revision) {
            Some(_) => Reply::bad_request(&format!("{revision} is no branch: only a branch can be committed to")),
            None => Reply::no_revision(revision),
        });
    };
    if let Some(parent) = &asked.parent {
        let parent = repo.find(parent).map_or(parent.as_str(), |commit| commit.id.as_str());
        if parent != head {
            return Err(Reply::error(412, None, "A commit has happened since. Please refresh and try again."));
        }
    }
    let mut tree = super::commit(repo, &head)?.tree.clone();
    for change in asked.changes {
        apply(call, repo, &mut tree, change)?;
    }
    let words = Words { title: &asked.title, message: &asked.message, author: caller.name().unwrap_or_default(), date_s: clock::unix_s() };
    let id = repo.commit(branch, tree, &words, false);
    let url = format!("{}/{}{name}/commit/{id}", call.hub.endpoint, kind.prefix());
    Ok(Reply::json(&json!({"success": true, "commitOid": id, "commitUrl": url, "hookOutput": ""})))
}
