//! Lists of files.

use bytes::Bytes;
use hyper::http::Method;
use hyper::http::header::LINK;
use serde_json::{Value, json};

use super::{Call, commit, next_page};
use crate::hub::clock::iso;
use crate::hub::git;
use crate::hub::objects::Objects;
use crate::hub::reply::{Content, Reply};
use crate::hub::repo::{Commit, Entry, Repo, RepoKind};
use crate::hub::server::header;
use crate::hub::target::pairs;

/// Files a page where each is told with its last commit.
const EXPANDED_PAGE: usize = 50;

fn last_commit(repo: &Repo, id: &str) -> Value {
    repo.commits.get(id).map_or(Value::Null, |commit| json!({"id": commit.id, "title": commit.title, "date": iso(commit.date_s)}))
}

fn file(repo: &Repo, objects: &Objects, path: &str, entry: &Entry, is_expanded: bool) -> Value {
    let mut value = json!({"type": "file", "oid": entry.oid, "size": entry.size, "path": path});
    if let Some(sha256) = entry.sha256() {
        value["lfs"] = json!({"oid": sha256, "size": entry.size, "pointerSize": git::pointer(sha256, entry.size).len()});
        if let Some(xet) = objects.get(sha256).and_then(|object| object.xet.as_ref()) {
            value["xetHash"] = xet.as_str().into();
        }
    }
    if is_expanded {
        value["lastCommit"] = last_commit(repo, &entry.changed);
        value["securityFileStatus"] = json!({"status": "safe", "avScan": null, "pickleImportScan": null});
    }
    value
}

fn folder(repo: &Repo, commit: &Commit, path: &str, is_expanded: bool) -> Value {
    let mut value = json!({"type": "directory", "oid": commit.folders().get(path), "size": 0, "path": path});
    if is_expanded {
        let prefix = format!("{path}/");
        let newest = commit.tree.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)).map(|(_, entry)| &entry.changed);
        let newest = newest.filter_map(|id| repo.commits.get(id)).max_by_key(|commit| commit.date_s);
        value["lastCommit"] = newest.map_or(Value::Null, |commit| last_commit(repo, &commit.id));
    }
    value
}

/// A file that is made up while the list is made.
pub fn made_up(index: u64) -> (String, String) {
    let path = format!("made-up/{index:08}.bin");
    let oid = git::blob_id(path.as_bytes());
    (path, oid)
}

/// `GET /api/…/tree/{revision}/{folder}`.
pub fn list(call: &Call<'_>, kind: RepoKind, name: &str, revision: &str, under: &str) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let state = call.hub.state();
    let repo = call.repo(&state, kind, name, false)?;
    let commit = commit(repo, revision)?;
    let (recursive, expanded) = (call.target.is_on("recursive"), call.target.is_on("expand"));
    let prefix = if under.is_empty() { String::new() } else { format!("{under}/") };
    let is_made_up_here = repo.made_up > 0 && (under == "made-up" || under.is_empty() && recursive);
    if !under.is_empty() && !commit.folders().contains_key(under) && !is_made_up_here {
        return Err(Reply::no_entry(under).with_x("x-repo-commit", &commit.id));
    }
    let limit = call.target.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let page = limit.min(call.hub.options.page).min(if expanded { EXPANDED_PAGE } else { usize::MAX }).max(1);
    let first: usize = call.target.get("cursor").map_or(Ok(0), str::parse).map_err(|_| Reply::bad_request("Invalid cursor"))?;

    let mut items: Vec<(&str, Option<&Entry>)> = Vec::new();
    for path in commit.folders().keys().filter(|path| !path.is_empty()) {
        if path.strip_prefix(&prefix).is_some_and(|rest| recursive || !rest.contains('/')) {
            items.push((path, None));
        }
    }
    for (path, entry) in &commit.tree {
        if path.strip_prefix(&prefix).is_some_and(|rest| recursive || !rest.contains('/')) {
            items.push((path, Some(entry)));
        }
    }
    items.sort_by_key(|(path, _)| *path);
    let objects = call.hub.objects();
    let mut values: Vec<Value> = items
        .iter()
        .skip(first)
        .take(page)
        .map(|(path, entry)| match entry {
            Some(entry) => file(repo, &objects, path, entry, expanded),
            None => folder(repo, commit, path, expanded),
        })
        .collect();
    let mut total = items.len();
    if is_made_up_here {
        let begin = first.saturating_sub(items.len()) as u64;
        let more = (page - values.len()) as u64;
        values.extend((begin..repo.made_up.min(begin + more)).map(|index| {
            let (path, oid) = made_up(index);
            json!({"type": "file", "oid": oid, "size": path.len(), "path": path})
        }));
        total += usize::try_from(repo.made_up).unwrap_or(usize::MAX - total);
    }
    let end = first.saturating_add(page);
    let reply = Reply::json(&Value::Array(values)).with_x("x-repo-commit", &commit.id);
    Ok(if end < total { reply.with(LINK, &next_page(call.hub, &call.target, &end.to_string())) } else { reply })
}

/// `POST /api/…/paths-info/{revision}`, as a form or as JSON.
pub async fn paths_info(call: &mut Call<'_>, kind: RepoKind, name: &str, revision: &str) -> Result<Reply, Reply> {
    call.only(&[Method::POST])?;
    let is_form = header(&call.headers, "content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let (paths, expanded): (Vec<String>, bool) = if is_form {
        let body = call.body.whole(64 << 20).await?;
        let form = pairs(&String::from_utf8_lossy(&body));
        let is_on = form.iter().any(|(name, value)| name == "expand" && ["true", "True", "1"].contains(&value.as_str()));
        (form.into_iter().filter(|(name, _)| name == "paths" || name == "paths[]").map(|(_, path)| path).collect(), is_on)
    } else {
        let body = call.body.json().await?;
        let paths = match &body["paths"] {
            Value::Array(paths) => paths.iter().filter_map(|path| path.as_str().map(str::to_owned)).collect(),
            Value::String(path) => vec![path.clone()],
            _ => return Err(Reply::bad_request("paths: expected a list of texts")),
        };
        (paths, body["expand"].as_bool().unwrap_or(false))
    };
    let state = call.hub.state();
    let repo = call.repo(&state, kind, name, false)?;
    let commit = commit(repo, revision)?;
    let objects = call.hub.objects();
    let values = paths.iter().filter_map(|path| {
        let path = path.trim_matches('/');
        match commit.tree.get(path) {
            Some(entry) => Some(file(repo, &objects, path, entry, expanded)),
            None if !path.is_empty() && commit.folders().contains_key(path) => Some(folder(repo, commit, path, expanded)),
            None => None,
        }
    });
    Ok(Reply::json(&values.collect()).with_x("x-repo-commit", &commit.id))
}

/// Puts more paths into a list of files, for a fault.
pub fn add_names(reply: &mut Reply, paths: &[String]) {
    let Content::Bytes(bytes) = &reply.content else { return };
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return };
    match &mut value {
        Value::Array(files) => {
            files.extend(
                paths.iter().map(|path| json!({"type": "file", "oid": git::blob_id(path.as_bytes()), "size": path.len(), "path": path})),
            );
        }
        Value::Object(info) => {
            let Some(Value::Array(siblings)) = info.get_mut("siblings") else { return };
            siblings.extend(paths.iter().map(|path| json!({"rfilename": path})));
        }
        _ => return,
    }
    reply.content = Content::Bytes(Bytes::from(value.to_string()));
}
