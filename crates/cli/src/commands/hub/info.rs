//! `sinew hub info`.

use serde_json::json;
use sinew_hub::{Hub, HubRepo, RepoInfo, RepoKind};
use sinew_policy::Terms;

use super::repo_of;
use crate::Done;
use crate::args::RepoArgs;
use crate::licence::{self, Licence};
use crate::text::{self, say};

pub fn run(args: &RepoArgs, json: bool) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    let repo = repo_of(&hub, &args.repo, args.kind)?;
    let info = hub.info(&repo)?;
    let terms = terms(&hub, &info);
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

/// What its card states, and for an adapter its base's card: without the base it is nothing. A base that can't be asked
/// about states nothing.
fn terms(hub: &Hub, info: &RepoInfo) -> Vec<Terms> {
    let of = |info: Option<&RepoInfo>, by: String| {
        let licences = info.and_then(RepoInfo::licence).into_iter().collect();
        Terms { by, licences, more: Vec::new() }
    };
    let mut terms = vec![of(Some(info), "its card".into())];
    for base in info.tags.iter().filter_map(|tag| tag.strip_prefix("base_model:adapter:")) {
        let found = HubRepo::parse(RepoKind::Model, base).ok().and_then(|repo| hub.info(&repo).ok());
        terms.push(of(found.as_ref(), format!("the card of its base {base}")));
    }
    terms
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
