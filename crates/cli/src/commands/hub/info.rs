//! `sinew hub info`.

use serde_json::json;
use sinew_hub::{Hub, HubError, HubRepo, RepoInfo, RepoKind};
use sinew_policy::Terms;

use super::repo_of;
use crate::Done;
use crate::args::RepoArgs;
use crate::licence::{self, Licence};
use crate::text::{self, say};
use crate::transfer;

pub fn run(args: &RepoArgs, json: bool) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    let repo = repo_of(&hub, &args.repo, args.kind)?;
    let info = hub.info(&repo)?;
    let terms = terms(&hub, &repo, &info);
    let page = repo.page(&hub.options().endpoint);
    if json {
        let mut line = serde_json::to_value(&info)?;
        line["type"] = json!(repo.kind());
        line["page"] = json!(page);
        line["licence"] = json!(info.licence());
        line["commercial_use"] = json!(Licence::of_terms(&terms).0.allows_commercial_use());
        text::print_json(&line)?;
        return Ok(Done::Ok);
    }
    say!("{}", describe(&repo.kind(), &info, &terms, &page));
    Ok(Done::Ok)
}

/// The configuration of a policy, which may state a licence as well.
const CONFIG: &str = "config.json";

/// What its card and its configuration state, and for an adapter those of its base: without the base it is nothing. A base
/// that can't be asked about states nothing.
fn terms(hub: &Hub, repo: &HubRepo, info: &RepoInfo) -> Vec<Terms> {
    let of = |by: String, licence: Option<String>| Terms { by, licences: licence.into_iter().collect(), more: Vec::new() };
    let of_config = |repo: &HubRepo, of_whom: &str| match config_licence(hub, repo) {
        Ok(None) => None,
        Ok(licence) => Some(of(format!("{of_whom} {CONFIG}"), licence)),
        Err(_) => Some(of(format!("{of_whom} {CONFIG}, which could not be read"), None)),
    };
    let mut terms = vec![of("its card".into(), info.licence())];
    if repo.kind() == RepoKind::Model {
        terms.extend(of_config(repo, "its"));
    }
    for base in info.tags.iter().filter_map(|tag| tag.strip_prefix("base_model:adapter:")) {
        let repo = HubRepo::parse(RepoKind::Model, base).ok();
        let found = repo.as_ref().and_then(|repo| hub.info(repo).ok());
        terms.push(of(format!("the card of its base {base}"), found.as_ref().and_then(RepoInfo::licence)));
        if let (Some(repo), Some(_)) = (&repo, found) {
            terms.extend(of_config(repo, &format!("its base {base}'s")));
        }
    }
    terms
}

/// The licence that a repository's configuration states; none where it states none, or there is no such file.
fn config_licence(hub: &Hub, repo: &HubRepo) -> anyhow::Result<Option<String>> {
    let text = match hub.read_text(repo, CONFIG, &*transfer::silent()) {
        Err(HubError::NoFile { .. }) => return Ok(None),
        text => text?,
    };
    let config: serde_json::Value = serde_json::from_str(&text)?;
    let stated = config.get("license").filter(|value| !value.is_null());
    let stated = stated.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    Ok(stated.filter(|licence| !licence.trim().is_empty()))
}

fn describe(kind: &RepoKind, info: &RepoInfo, terms: &[Terms], page: &str) -> String {
    let yes = |it: bool, words: &str| if it { words.to_owned() } else { String::new() };
    let access = [
        yes(info.private, "private"),
        yes(info.gated, &format!("gated: ask for access at {page}")),
        yes(info.disabled, "disabled by the Hub"),
    ];
    let access: Vec<String> = access.into_iter().filter(|word| !word.is_empty()).collect();
    let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), text::count);
    let of_card = |key: &str| -> Option<String> {
        let value = info.card_data.as_ref()?.get(key)?;
        let texts: Vec<&str> = match value {
            serde_json::Value::Array(values) => values.iter().filter_map(|value| value.as_str()).collect(),
            one => one.as_str().into_iter().collect(),
        };
        (!texts.is_empty()).then(|| texts.join(", "))
    };
    let facts = [
        ("name", Some(format!("{} ({kind})", info.id))),
        ("commit", info.sha.clone()),
        ("updated", info.last_modified.clone()),
        ("licence", Some(licence::in_words(terms))),
        ("access", (!access.is_empty()).then(|| access.join(", "))),
        ("used", Some(format!("{} downloads in 30 days, {} likes", number(info.downloads), number(info.likes)))),
        ("library", info.library.clone()),
        ("base", of_card("base_model")),
        ("datasets", of_card("datasets")),
        (
            "tags",
            (!info.tags.is_empty())
                .then(|| info.tags.iter().filter(|tag| !tag.contains(':')).take(20).cloned().collect::<Vec<_>>().join(", ")),
        ),
        ("page", Some(page.to_owned())),
    ];
    let lines = facts.into_iter().filter_map(|(name, fact)| Some(format!("{name:9} {}", text::in_line(&fact?))));
    lines.collect::<Vec<_>>().join("\n")
}
