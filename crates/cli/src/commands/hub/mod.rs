//! `sinew hub`: what comes from the Hugging Face Hub, and who asks it.

mod cache;
pub mod card;
mod download;
mod finish;
mod info;
mod login;
mod search;
mod space;
pub mod upload;
pub mod whole;

use anyhow::Context;
use sinew_hub::{Hub, HubRepo, RepoKind};
use sinew_runtime::before_it_ends;

use crate::Done;
use crate::args::{HubCommand, Kind};
use crate::source;
use crate::text::note;

pub fn run(command: &HubCommand) -> anyhow::Result<Done> {
    if matches!(command, HubCommand::Download(_) | HubCommand::Upload(_) | HubCommand::Finish(_)) {
        before_it_ends(|| note!("\nstopped; the same command goes on from here")).context("listening for Ctrl-C")?;
    }
    match command {
        HubCommand::Download(args) => download::run(args),
        HubCommand::Upload(args) => upload::run(args),
        HubCommand::Finish(args) => finish::run(args),
        HubCommand::PublishSpace(args) => space::run(args),
        HubCommand::Info { repo, json } => info::run(repo, *json),
        HubCommand::Search(args) => search::run(args),
        HubCommand::Card(args) => card::run(args),
        HubCommand::Login(args) => login::run(args),
        HubCommand::Logout { json } => login::logout(*json),
        HubCommand::Whoami { json } => login::whoami(*json),
        HubCommand::Cache { command } => cache::run(command),
    }
}

/// The repository that is meant; the Hub is asked for its kind only where the user doesn't say it.
fn repo_of(hub: &Hub, name: &str, kind: Option<Kind>) -> anyhow::Result<HubRepo> {
    let repo = match kind {
        Some(kind) => source::hub_repo_of(kind.into(), name)?,
        None => source::hub_repo(RepoKind::Model, name)?,
    };
    Ok(match kind {
        Some(_) => repo,
        // The address of a dataset's or a Space's page says it.
        None if repo.kind() != RepoKind::Model => repo,
        None => {
            let kind = hub.kind_of(&repo)?;
            repo.of_kind(kind)
        }
    })
}
