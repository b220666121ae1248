//! `sinew hub cache`.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sinew_hub::{Hub, HubRepo, Verified};

use crate::Done;
use crate::args::{CacheCommand, Kind};
use crate::text::{self, say};
use crate::watch::{Answer, Watch};

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
    Ok(repo.map(|repo| HubRepo::parse(kind.into(), repo)).transpose()?)
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
    let total = repos.iter().map(|repo| repo.size_bytes).sum();
    say!("{} in {} repositories below {}", text::bytes(total), repos.len(), hub.options().cache_dir.display());
    Ok(Done::Ok)
}

fn verify(hub: &Hub, only: Option<&HubRepo>, json: bool) -> anyhow::Result<Done> {
    let total = hub.list_cache()?.iter().filter(|repo| repo.is_meant(only)).map(|repo| repo.size_bytes).sum();
    let bar = ProgressBar::new(total)
        .with_style(ProgressStyle::with_template("verifying {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?);
    let mut read = 0;
    let verified = hub.verify_cache(only, |size_bytes| {
        read += size_bytes;
        bar.set_position(read);
    })?;
    bar.finish_and_clear();
    let Verified { flaws, unverified } = &verified;
    if json {
        text::print_json(&json!({ "size_bytes": read, "flaws": flaws, "unverified": unverified }))?;
    } else {
        for flaw in flaws.iter().chain(unverified) {
            say!("{}: {}", flaw.path.display(), flaw.what);
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
    let plan = hub.plan_prune(only)?;
    if !json {
        plan.paths.iter().for_each(|path| say!("{}", path.display()));
        say!("{} in {} places", text::bytes(plan.size_bytes), plan.paths.len());
    }
    let may = !plan.paths.is_empty()
        && !dry_run
        && (yes || Watch::start()?.ask("Remove them?", "use --yes, or --dry-run to look only")? == Answer::Yes);
    if may {
        hub.prune_cache(&plan)?;
    }
    if json {
        text::print_json(&json!({ "removed": may, "paths": plan.paths, "size_bytes": plan.size_bytes }))?;
    } else if may {
        say!("removed");
    } else if !plan.paths.is_empty() {
        say!("nothing was removed");
    }
    Ok(Done::Ok)
}
