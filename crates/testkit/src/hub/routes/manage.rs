//! Repositories, branches and tags: made, moved, changed and deleted.

use hyper::http::Method;
use serde_json::{Value, json};

use super::Call;
use crate::hub::access::Caller;
use crate::hub::clock;
use crate::hub::reply::Reply;
use crate::hub::repo::{Gated, RepoKind};

fn kind_in(body: &Value) -> Result<RepoKind, Reply> {
    match body["type"].as_str() {
        None => Ok(RepoKind::Model),
        Some(word) => RepoKind::ALL
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or_else(|| Reply::bad_request(&format!("type: expected model, dataset or space, found {word}"))),
    }
}

fn is_private(body: &Value) -> Option<bool> {
    body["private"].as_bool().or_else(|| body["visibility"].as_str().map(|visibility| visibility == "private"))
}

fn name_in(body: &Value, caller: &Caller) -> Result<String, Reply> {
    let name = body["name"].as_str().ok_or_else(|| Reply::bad_request("name: expected a text"))?;
    let full = match (name.contains('/'), body["organization"].as_str().or(caller.name())) {
        (true, _) => name.to_owned(),
        (false, Some(owner)) => format!("{owner}/{name}"),
        (false, None) => return Err(Reply::error(401, None, "Invalid username or password.")),
    };
    check_name(&full)?;
    Ok(full)
}

/// Names that the Hub takes: letters, digits and `-._`, not at the ends, not doubled, 96 of them at most.
fn check_name(full: &str) -> Result<(), Reply> {
    let is_good = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
            && !part.ends_with(".git")
    };
    let parts: Vec<&str> = full.split('/').collect();
    if parts.len() != 2 || full.len() > 96 || !parts.into_iter().all(is_good) {
        return Err(Reply::bad_request(&format!("Invalid repo name: {full}")));
    }
    Ok(())
}

/// `/api/repos/create`, `/api/repos/delete`, `/api/repos/move`.
pub async fn repos(call: &mut Call<'_>, what: &str) -> Result<Reply, Reply> {
    let method = if what == "delete" { Method::DELETE } else { Method::POST };
    call.only(&[method])?;
    let body = call.body.json().await?;
    let caller = call.caller()?;
    let kind = kind_in(&body)?;
    let mut state = call.hub.state();
    match what {
        "create" => {
            let name = name_in(&body, &caller)?;
            let owner = name.split('/').next().unwrap_or_default();
            state.accounts.may_write(&caller, owner)?;
            let url = format!("{}/{}{name}", call.hub.endpoint, kind.prefix());
            if state.repos.contains_key(&(kind, name.clone())) {
                let mut reply =
                    Reply::json(&json!({"error": format!("You already created this {} repo: {name}", kind.word()), "url": url}));
                reply.status = hyper::http::StatusCode::CONFLICT;
                return Err(reply.with_x("x-error-message", &format!("You already created this {} repo: {name}", kind.word())));
            }
            let sdk = body["sdk"].as_str().map(str::to_owned);
            if kind == RepoKind::Space && !sdk.as_deref().is_some_and(|sdk| ["gradio", "streamlit", "docker", "static"].contains(&sdk)) {
                return Err(Reply::bad_request(&format!("sdk: expected gradio, streamlit, docker or static, found {sdk:?}")));
            }
            let repo = state.create(kind, &name, caller.name().unwrap_or_default());
            repo.private = is_private(&body).unwrap_or(false);
            repo.sdk = sdk;
            Ok(Reply::json(&json!({"url": url, "name": name, "id": repo.hex})))
        }
        "delete" => {
            let name = name_in(&body, &caller)?;
            call.repo_to_write(&mut state, kind, &name)?;
            state.repos.remove(&(kind, name));
            Ok(Reply::text(200, "OK"))
        }
        "move" => {
            let (Some(from), Some(to)) = (body["fromRepo"].as_str(), body["toRepo"].as_str()) else {
                return Err(Reply::bad_request("fromRepo, toRepo: expected texts"));
            };
            check_name(to)?;
            call.repo_to_write(&mut state, kind, from)?;
            state.accounts.may_write(&caller, to.split('/').next().unwrap_or_default())?;
            if state.repos.contains_key(&(kind, to.to_owned())) {
                return Err(Reply::error(409, None, &format!("{to} exists already")));
            }
            if let Some(mut repo) = state.repos.remove(&(kind, from.to_owned())) {
                repo.name = to.to_owned();
                state.repos.insert((kind, to.to_owned()), repo);
                state.moved.insert((kind, from.to_owned()), to.to_owned());
            }
            Ok(Reply::json(&json!({"success": true})))
        }
        _ => Err(Reply::error(404, None, "Not found")),
    }
}

/// `PUT /api/…/settings`.
pub async fn settings(call: &mut Call<'_>, kind: RepoKind, name: &str) -> Result<Reply, Reply> {
    call.only(&[Method::PUT])?;
    let body = call.body.json().await?;
    let mut state = call.hub.state();
    let repo = call.repo_to_write(&mut state, kind, name)?;
    if let Some(private) = is_private(&body) {
        repo.private = private;
    }
    if !body["gated"].is_null() {
        repo.gated = Gated::from_json(&body["gated"]);
    }
    Ok(Reply::json(&json!({"private": repo.private, "gated": repo.gated.json()})))
}

/// `POST` and `DELETE` of `/api/…/branch/{branch}`.
pub async fn branch(call: &mut Call<'_>, kind: RepoKind, name: &str, branch: &str) -> Result<Reply, Reply> {
    call.only(&[Method::POST, Method::DELETE])?;
    let body = call.body.json().await?;
    let mut state = call.hub.state();
    let repo = call.repo_to_write(&mut state, kind, name)?;
    if call.method == Method::DELETE {
        if branch == "main" {
            return Err(Reply::error(403, None, "The main branch can't be deleted"));
        }
        return repo.branches.remove(branch).map(|_| Reply::text(200, "OK")).ok_or_else(|| Reply::no_revision(branch));
    }
    if repo.branches.contains_key(branch) {
        return Err(Reply::error(409, None, &format!("Reference already exists: {branch}")));
    }
    let id = super::commit(repo, body["startingPoint"].as_str().unwrap_or("main"))?.id.clone();
    if body["emptyBranch"].as_bool() == Some(true) {
        let author = repo.owner().to_owned();
        let words = crate::hub::repo::Words { title: "initial commit", author: &author, date_s: clock::unix_s(), ..Default::default() };
        repo.commit(branch, Default::default(), &words, true);
    } else {
        repo.branches.insert(branch.to_owned(), id);
    }
    Ok(Reply::text(200, "OK"))
}

/// `POST /api/…/tag/{revision}` makes one, `DELETE /api/…/tag/{tag}` deletes it.
pub async fn tag(call: &mut Call<'_>, kind: RepoKind, name: &str, what: &str) -> Result<Reply, Reply> {
    call.only(&[Method::POST, Method::DELETE])?;
    let body = call.body.json().await?;
    let mut state = call.hub.state();
    let repo = call.repo_to_write(&mut state, kind, name)?;
    if call.method == Method::DELETE {
        return repo.tags.remove(what).map(|_| Reply::text(200, "OK")).ok_or_else(|| Reply::no_revision(what));
    }
    let tag = body["tag"].as_str().filter(|tag| !tag.is_empty()).ok_or_else(|| Reply::bad_request("tag: expected a text"))?;
    if repo.tags.contains_key(tag) {
        return Err(Reply::error(409, None, &format!("Tag reference exists already: {tag}")));
    }
    let id = super::commit(repo, what)?.id.clone();
    repo.tags.insert(tag.to_owned(), id);
    Ok(Reply::text(200, "OK"))
}
