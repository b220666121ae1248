//! What a repository is: its card, files, branches, tags and commits.

use hyper::http::header::LINK;
use serde_json::{Map, Value, json};

use super::{Call, commit, next_page, tree::made_up};
use crate::hub::card;
use crate::hub::clock::iso;
use crate::hub::git;
use crate::hub::reply::Reply;
use crate::hub::repo::{Commit, Content, Repo, RepoKind};
use crate::hub::server::header;
use crate::hub::target::Target;

/// The metadata of a commit's card.
pub fn card_of(commit: &Commit) -> Value {
    match commit.tree.get("README.md").map(|entry| &entry.content) {
        Some(Content::Small(text)) => card::metadata(&String::from_utf8_lossy(text)),
        _ => Value::Null,
    }
}

/// The tags by which a repository is found: those of its card, and those that follow from other entries and files.
pub fn tags_of(repo: &Repo, commit: &Commit, card: &Value) -> Vec<String> {
    let mut tags = card::texts(card, "tags");
    for key in ["library_name", "pipeline_tag", "sdk"] {
        tags.extend(card::texts(card, key));
    }
    let prefixes: &[(&str, &str)] = match repo.kind {
        RepoKind::Model => &[("license", "license"), ("datasets", "dataset"), ("base_model", "base_model"), ("language", "")],
        _ => &[
            ("license", "license"),
            ("task_categories", "task_categories"),
            ("size_categories", "size_categories"),
            ("language", "language"),
        ],
    };
    for (key, prefix) in prefixes {
        tags.extend(card::texts(card, key).into_iter().map(|text| if prefix.is_empty() { text } else { format!("{prefix}:{text}") }));
    }
    let has = |ending: &str| commit.tree.keys().any(|path| path.ends_with(ending));
    if repo.kind == RepoKind::Model && has(".safetensors") {
        tags.push("safetensors".to_owned());
    }
    if repo.kind == RepoKind::Dataset && has(".parquet") {
        tags.push("format:parquet".to_owned());
    }
    tags.push("region:us".to_owned());
    let mut seen = std::collections::BTreeSet::new();
    tags.retain(|tag| seen.insert(tag.clone()));
    tags
}

/// Everything that is told of a repository at a commit, with its files' sizes and ids where `with_blobs`.
pub fn all(repo: &Repo, commit: &Commit, with_files: bool, with_blobs: bool) -> Map<String, Value> {
    let card = card_of(commit);
    let mut info = Map::new();
    let mut put = |key: &str, value: Value| drop(info.insert(key.to_owned(), value));
    put("_id", repo.hex.as_str().into());
    put("id", repo.name.as_str().into());
    if repo.kind == RepoKind::Model {
        put("modelId", repo.name.as_str().into());
    }
    put("author", repo.owner().into());
    put("sha", commit.id.as_str().into());
    put("lastModified", iso(commit.date_s).into());
    put("createdAt", iso(repo.created_s).into());
    put("private", repo.private.into());
    put("gated", repo.gated.json());
    put("disabled", false.into());
    put("downloads", repo.downloads.into());
    put("downloadsAllTime", repo.downloads.into());
    put("likes", repo.likes.into());
    put("trendingScore", (repo.likes / 10).into());
    put("tags", tags_of(repo, commit, &card).into());
    put("usedStorage", commit.tree.values().map(|entry| entry.size).sum::<u64>().into());
    for key in ["library_name", "pipeline_tag"] {
        if let Some(value) = card.get(key).filter(|_| repo.kind == RepoKind::Model) {
            put(key, value.clone());
        }
    }
    if repo.kind == RepoKind::Space {
        put("sdk", repo.sdk.as_deref().map(Value::from).or_else(|| card.get("sdk").cloned()).unwrap_or_else(|| "static".into()));
        put("subdomain", repo.name.replace('/', "-").into());
        put("host", format!("https://{}.static.hf.space", repo.name.replace('/', "-")).into());
        put("runtime", runtime_of(repo));
        put("models", Value::Array(Vec::new()));
        put("datasets", Value::Array(Vec::new()));
    }
    if let Value::Object(entries) = &card {
        if let Some(index) = entries.get("model-index") {
            put("model-index", index.clone());
        }
        put("cardData", card.clone());
    }
    if with_files {
        let file = |(path, entry): (&String, &crate::hub::repo::Entry)| {
            let mut file = json!({"rfilename": path});
            if with_blobs {
                file["size"] = entry.size.into();
                file["blobId"] = entry.oid.as_str().into();
                if let Some(sha256) = entry.sha256() {
                    file["lfs"] = json!({"sha256": sha256, "size": entry.size, "pointerSize": git::pointer(sha256, entry.size).len()});
                }
            }
            file
        };
        let mut siblings: Vec<Value> = commit.tree.iter().map(file).collect();
        siblings.extend((0..repo.made_up).map(|index| json!({"rfilename": made_up(index).0})));
        put("siblings", siblings.into());
    }
    info
}

/// What `expand` asks for, of all that there is; all of it where nothing is asked for.
pub fn expanded(target: &Target, info: Map<String, Value>) -> Map<String, Value> {
    let asked: Vec<&str> = target.all("expand").collect();
    if asked.is_empty() {
        return info;
    }
    let always = ["_id", "id", "modelId", "private"];
    info.into_iter().filter(|(key, _)| always.contains(&key.as_str()) || asked.contains(&key.as_str())).collect()
}

/// `GET /api/…/owner/name` and `…/revision/{revision}`.
pub fn answer(call: &Call<'_>, kind: RepoKind, name: &str, revision: &str) -> Result<Reply, Reply> {
    if call.method == hyper::http::Method::HEAD || call.get_or_head().is_ok() {
        let state = call.hub.state();
        let repo = call.repo(&state, kind, name, false)?;
        let commit = commit(repo, revision)?;
        let asked: Vec<&str> = call.target.all("expand").collect();
        let with_files = asked.is_empty() || asked.contains(&"siblings");
        let info = all(repo, commit, with_files, call.target.is_on("blobs"));
        return Ok(Reply::json(&Value::Object(expanded(&call.target, info))));
    }
    Err(Reply::error(405, None, "Method not allowed"))
}

/// `GET /api/…/refs`.
pub fn refs(call: &Call<'_>, kind: RepoKind, name: &str) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let state = call.hub.state();
    let repo = call.repo(&state, kind, name, false)?;
    let list = |refs: &std::collections::BTreeMap<String, String>, folder: &str| -> Value {
        refs.iter().map(|(name, id)| json!({"name": name, "ref": format!("refs/{folder}/{name}"), "targetCommit": id})).collect()
    };
    let mut value = json!({"tags": list(&repo.tags, "tags"), "branches": list(&repo.branches, "heads"), "converts": []});
    if call.target.is_on("include_prs") {
        value["pullRequests"] = Value::Array(Vec::new());
    }
    Ok(Reply::json(&value))
}

/// `GET /api/…/commits/{revision}`, the newest first.
pub fn commits(call: &Call<'_>, kind: RepoKind, name: &str, revision: &str) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let state = call.hub.state();
    let repo = call.repo(&state, kind, name, false)?;
    let mut next = Some(commit(repo, revision)?);
    let mut all = Vec::new();
    while let Some(commit) = next {
        all.push(commit);
        next = commit.parent.as_ref().and_then(|parent| repo.commits.get(parent));
    }
    let page = call.target.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(50).min(call.hub.options.page).max(1);
    let first: usize = call.target.get("cursor").map_or(Ok(0), str::parse).map_err(|_| Reply::bad_request("Invalid cursor"))?;
    let is_formatted = call.target.all("expand").any(|what| what == "formatted");
    let values = all.iter().skip(first).take(page).map(|commit| {
        let mut value = json!({
            "id": commit.id, "title": commit.title, "message": commit.message, "date": iso(commit.date_s),
            "authors": [{"user": commit.author}],
        });
        if is_formatted {
            value["formatted"] = json!({"title": commit.title, "message": commit.message});
        }
        value
    });
    let reply = Reply::json(&values.collect()).with_x("x-total-count", &all.len().to_string());
    let end = first.saturating_add(page);
    Ok(if end < all.len() { reply.with(LINK, &next_page(call.hub, &call.target, &end.to_string())) } else { reply })
}

/// `GET /api/…/auth-check`: whether one may read the files, or write.
pub fn auth_check(call: &Call<'_>, kind: RepoKind, name: &str, is_write: bool) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let state = call.hub.state();
    let repo = call.repo(&state, kind, name, true)?;
    if is_write {
        let caller = state.accounts.caller(header(&call.headers, "authorization"))?;
        state.accounts.may_write(&caller, repo.owner())?;
    }
    Ok(Reply::json(&json!({"success": true})))
}

fn runtime_of(repo: &Repo) -> Value {
    if repo.runtime.is_null() {
        json!({"stage": "RUNNING", "hardware": {"current": null, "requested": null}, "storage": null, "replicas": {"requested": 1, "current": 1}})
    } else {
        repo.runtime.clone()
    }
}

/// `GET /api/spaces/…/runtime`.
pub fn runtime(call: &Call<'_>, name: &str) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let state = call.hub.state();
    Ok(Reply::json(&runtime_of(call.repo(&state, RepoKind::Space, name, false)?)))
}
