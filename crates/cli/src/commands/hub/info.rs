//! `sinew hub info`.

use serde_json::json;
use sinew_hub::{Hub, RepoInfo, RepoKind};

use super::repo_of;
use crate::Done;
use crate::args::RepoArgs;
use crate::licence::Licence;
use crate::text::{self, say};

pub fn run(args: &RepoArgs, json: bool) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    let repo = repo_of(&hub, &args.repo, args.kind)?;
    let info = hub.info(&repo)?;
    let licence = Licence::of(info.licence().as_deref());
    let page = repo.page(&hub.options().endpoint);
    if json {
        let mut line = serde_json::to_value(&info)?;
        line["type"] = json!(repo.kind());
        line["page"] = json!(page);
        line["licence"] = json!(info.licence());
        line["commercial_use"] = json!(licence.allows_commercial_use());
        text::print_json(&line)?;
        return Ok(Done::Ok);
    }
    say!("{}", describe(&repo.kind(), &info, &licence, &page));
    Ok(Done::Ok)
}

fn describe(kind: &RepoKind, info: &RepoInfo, licence: &Licence, page: &str) -> String {
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
        ("licence", Some(licence.in_words())),
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
