//! Lists of repositories, out of what is there.

use std::cmp::Ordering;

use hyper::http::header::LINK;
use serde_json::{Map, Value};

use super::{Call, info, next_page};
use crate::hub::access::{Caller, Rights};
use crate::hub::reply::Reply;
use crate::hub::repo::{Gated, RepoKind};

/// What a plain list tells of each.
const PLAIN: [&str; 14] = [
    "_id",
    "id",
    "modelId",
    "author",
    "private",
    "gated",
    "downloads",
    "likes",
    "trendingScore",
    "tags",
    "library_name",
    "pipeline_tag",
    "createdAt",
    "sdk",
];
/// What a full one tells besides.
const FULL: [&str; 4] = ["sha", "lastModified", "siblings", "disabled"];

/// `GET /api/models`, `/api/datasets`, `/api/spaces`.
pub fn answer(call: &Call<'_>, kind: RepoKind) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let target = &call.target;
    let caller = call.caller()?;
    let expands: Vec<&str> = target.all("expand").collect();
    let full = target.is_on("full");
    let with_files = full && kind == RepoKind::Model || expands.contains(&"siblings");
    let state = call.hub.state();
    let mut found: Vec<Map<String, Value>> = Vec::new();
    for repo in state.repos.values().filter(|repo| repo.kind == kind) {
        let is_owner = state.accounts.owns(&caller, repo.owner()) && !matches!(caller, Caller::User { rights: Rights::None, .. });
        if repo.private && !is_owner {
            continue;
        }
        let Some(commit) = repo.find("main") else { continue };
        let card = info::card_of(commit);
        let tags = info::tags_of(repo, commit, &card);
        let name = repo.name.to_lowercase();
        let is_named = target.all("search").flat_map(str::split_whitespace).all(|word| name.contains(&word.to_lowercase()));
        let has_tag = |wanted: &str| tags.iter().any(|tag| tag == wanted);
        let mut wanted = target.all("filter").chain(target.all("pipeline_tag")).flat_map(|filter| filter.split(','));
        let fits = is_named
            && target.all("author").all(|author| author == repo.owner())
            && wanted.all(has_tag)
            && target.get("gated").is_none_or(|_| target.is_on("gated") == (repo.gated != Gated::No));
        if fits {
            found.push(info::all(repo, commit, with_files, false));
        }
    }
    let sort = target.get("sort").unwrap_or("trendingScore");
    let key = match sort {
        "likes" | "downloads" | "lastModified" | "createdAt" | "trendingScore" => sort,
        "last_modified" => "lastModified",
        "created_at" => "createdAt",
        "trending_score" | "trending" => "trendingScore",
        _ => return Err(Reply::bad_request(&format!("Invalid sort parameter: {sort}"))),
    };
    let is_rising = target.get("direction") == Some("1");
    // As names lie in order, equal ones stay so.
    found.sort_by(|one, other| {
        let order = compare(&one[key], &other[key]);
        if is_rising { order } else { order.reverse() }
    });
    let limit = target.get("limit").map_or(Ok(call.hub.options.page), str::parse).map_err(|_| Reply::bad_request("Invalid limit"))?;
    let page = limit.min(call.hub.options.page).max(1);
    let first: usize = target.get("cursor").map_or(Ok(0), str::parse).map_err(|_| Reply::bad_request("Invalid cursor"))?;
    let total = found.len();
    let values: Vec<Value> = found
        .into_iter()
        .skip(first)
        .take(page)
        .map(|mut repo| {
            if !expands.is_empty() {
                return Value::Object(info::expanded(target, repo));
            }
            let with_card = target.is_on("cardData") || full;
            repo.retain(|key, _| {
                let key = key.as_str();
                PLAIN.contains(&key) || (full || kind == RepoKind::Dataset) && FULL.contains(&key) || with_card && key == "cardData"
            });
            Value::Object(repo)
        })
        .collect();
    let end = first.saturating_add(page);
    let reply = Reply::json(&Value::Array(values));
    Ok(if end < total { reply.with(LINK, &next_page(call.hub, target, &end.to_string())) } else { reply })
}

fn compare(one: &Value, other: &Value) -> Ordering {
    match (one.as_u64(), other.as_u64()) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => one.as_str().cmp(&other.as_str()),
    }
}
