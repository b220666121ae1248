//! `sinew hub search`.

use serde_json::json;
use sinew_hub::{Hub, RepoKind, Search};

use crate::Done;
use crate::args::SearchArgs;
use crate::text::{self, say};

pub fn run(args: &SearchArgs) -> anyhow::Result<Done> {
    let kind = RepoKind::from(args.kind);
    let licence = args.licence.as_ref().map(|licence| format!("license:{licence}"));
    // What LeRobot and Sinew write on cards: the library, the family, the robot, the task.
    let library =
        (!args.any_library && kind != RepoKind::Space).then(|| if kind == RepoKind::Model { "lerobot" } else { "LeRobot" }.to_owned());
    let tags = [library, licence, args.family.clone(), args.robot.clone(), args.task.clone()].into_iter().flatten().collect();
    let text = (!args.text.is_empty()).then(|| args.text.join(" "));
    let search = Search { kind, text, author: args.author.clone(), tags, sort: args.sort.into(), limit: usize::from(args.limit) };
    let found = Hub::from_env().search(&search)?;
    if args.json {
        for repo in &found {
            let mut line = serde_json::to_value(repo)?;
            line["licence"] = json!(repo.licence());
            text::print_json(&line)?;
        }
        return Ok(Done::Ok);
    }
    if found.is_empty() {
        say!("no {kind} fits; the tags are those that its owner wrote on its card, so try fewer of them, or --any-library");
        return Ok(Done::Ok);
    }
    let mut rows = vec![["name", "downloads", "likes", "licence", "updated"].map(str::to_owned).to_vec()];
    for repo in &found {
        rows.push(vec![
            repo.id.clone(),
            repo.downloads.map_or_else(|| "?".to_owned(), text::count),
            repo.likes.map_or_else(|| "?".to_owned(), text::count),
            repo.licence().unwrap_or_else(|| "not stated".to_owned()),
            repo.last_modified.as_deref().and_then(|date| date.get(..10)).unwrap_or("?").to_owned(),
        ]);
    }
    say!("{}", text::table(&rows).trim_end());
    Ok(Done::Ok)
}
