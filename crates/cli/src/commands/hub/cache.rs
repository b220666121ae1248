//! `sinew hub cache`.

use std::collections::BTreeSet;

use indicatif::ProgressBar;
use serde_json::json;
use sinew_hub::{Flaw, Hub, HubRepo, Verified};

use crate::args::{CacheCommand, Kind};
use crate::text::{self, note, say};
use crate::watch::{Answer, Watch};
use crate::{Done, locale, source};

pub fn run(command: &CacheCommand) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    match command {
        CacheCommand::List { json } => list(&hub, *json),
        CacheCommand::Verify { repo, kind, json } => verify(&hub, only(repo.as_deref(), *kind)?.as_ref(), *json),
        CacheCommand::Prune { repo, kind, yes, dry_run, json } => {
            prune(&hub, only(repo.as_deref(), *kind)?.as_ref(), *yes, *dry_run, *json)
        }
    }
}

fn only(repo: Option<&str>, kind: Kind) -> anyhow::Result<Option<HubRepo>> {
    let Some(text) = repo else { return Ok(None) };
    let repo = source::hub_repo(kind.into(), text)?;
    // Commits share their blobs, so that one alone is neither verified nor removed.
    anyhow::ensure!(
        !text.contains('@'),
        "looking for {text} in the cache: expected a whole repository, {}, found a revision of it",
        repo.repo()
    );
    Ok(Some(repo))
}

fn tell(flaws: &[Flaw]) {
    flaws.iter().for_each(|flaw| say!("{}: {}", flaw.path.display(), text::in_line(&flaw.what)));
}

fn list(hub: &Hub, json: bool) -> anyhow::Result<Done> {
    let repos = hub.list_cache()?;
    if json {
        return repos.iter().try_for_each(text::print_json).map(|()| Done::Ok);
    }
    if repos.is_empty() {
        say!("nothing is in {}", hub.options().cache_dir.display());
        return Ok(Done::Ok);
    }
    let mut rows = vec![["name", "type", "size", "commits", "revisions"].map(str::to_owned).to_vec()];
    for repo in &repos {
        let mut revisions: Vec<&str> = repo.snapshots.values().flatten().map(String::as_str).collect();
        revisions.sort_unstable();
        rows.push(vec![
            repo.repo.clone(),
            repo.kind.to_string(),
            text::bytes(repo.size_bytes),
            repo.snapshots.len().to_string(),
            revisions.join(", "),
        ]);
    }
    say!("{}", text::table(&rows).trim_end());
    repos.iter().for_each(|repo| tell(&repo.odd));
    let total = repos.iter().map(|repo| repo.size_bytes).sum();
    say!(
        "{} in {} below {}",
        text::bytes(total),
        if repos.len() == 1 { "1 repository".to_owned() } else { format!("{} repositories", repos.len()) },
        hub.options().cache_dir.display()
    );
    Ok(Done::Ok)
}

fn verify(hub: &Hub, only: Option<&HubRepo>, json: bool) -> anyhow::Result<Done> {
    let total = hub.find_cached(only)?.iter().map(|repo| repo.size_bytes).sum();
    let bar = ProgressBar::new(total).with_style(locale::bar("verifying {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}"));
    let mut read = 0;
    let verified = hub.verify_cache(only, |size_bytes| {
        read += size_bytes;
        bar.set_position(read);
    })?;
    bar.finish_and_clear();
    let Verified { flaws, unverified, unnamed } = &verified;
    if json {
        text::print_json(&json!({ "size_bytes": read, "flaws": flaws, "unverified": unverified, "unnamed": unnamed }))?;
    } else {
        tell(flaws);
        tell(unverified);
        let reasons: BTreeSet<&str> = unnamed.iter().map(|flaw| flaw.what.as_str()).collect();
        for why in reasons {
            let snapshots = text::plural(unnamed.iter().filter(|flaw| flaw.what == why).count() as u64, "commit");
            note!("which file has which content was not compared with the Hub for {snapshots}: {}", text::in_line(why));
        }
        let not = if unverified.is_empty() { String::new() } else { format!(", {} files not verified", unverified.len()) };
        say!("{} read, {}{not}", text::bytes(read), text::plural(flaws.len() as u64, "flaw"));
        if !flaws.is_empty() {
            say!("remove what is named here, and the next download fetches it anew");
        }
    }
    // What nobody knows to be whole is not said to be.
    Ok(if flaws.is_empty() && unverified.is_empty() { Done::Ok } else { Done::Refused })
}

fn prune(hub: &Hub, only: Option<&HubRepo>, yes: bool, dry_run: bool, json: bool) -> anyhow::Result<Done> {
    let mut plan = hub.plan_prune(only)?;
    if !json {
        plan.paths.iter().for_each(|path| say!("{}", path.display()));
        plan.kept.iter().for_each(|kept| note!("{} stays, as it can't be read: {}", kept.path.display(), text::in_line(&kept.what)));
        say!("{} in {} places", text::bytes(plan.size_bytes), plan.paths.len());
    }
    let may = !plan.paths.is_empty()
        && !dry_run
        && (yes || Watch::start()?.ask("Remove them?", "use --yes, or --dry-run to look only")? == Answer::Yes);
    if may {
        // A download may have begun before the question was answered, and need some of it.
        let now = hub.plan_prune(only)?;
        plan.paths.retain(|path| now.paths.contains(path));
        hub.prune_cache(&plan)?;
    }
    if json {
        text::print_json(&json!({ "removed": may, "paths": plan.paths, "size_bytes": plan.size_bytes, "kept": plan.kept }))?;
    } else if may {
        say!("removed");
    } else if !plan.paths.is_empty() {
        say!("nothing was removed");
    }
    Ok(Done::Ok)
}
