//! The repository that a policy is pushed to: what it holds before, and whether anything new came.

use anyhow::{Context, bail, ensure};
use sinew_hub::{Hub, HubError, HubRepo, RepoKind};

use super::machine::Machine;
use super::place::Place;
use crate::source;
use crate::text::note;

fn parse(push: &str) -> anyhow::Result<HubRepo> {
    let repo = source::hub_repo(RepoKind::Model, push)?;
    ensure!(repo.revision() == HubRepo::DEFAULT_REVISION, "pushing to {push}: LeRobot pushes to the default branch alone");
    Ok(repo)
}

/// Checks, as far as the Hub tells, that who will push may write to `push`; its commit now, `None` where there is no such
/// repository yet.
pub fn check(hub: &Hub, push: &str, place: &Place) -> anyhow::Result<Option<String>> {
    let repo = parse(push)?;
    let doing = || format!("looking whether {push} can be pushed to");
    if let Place::Machine(Machine::Ssh(_)) = place {
        // It is pushed with the login of that machine, of which nothing is known here.
        note!("pushing to {push} needs a login on {place} (`hf auth login`): the token of this machine stays here");
    } else {
        let account = hub.whoami(None).with_context(doing)?;
        ensure!(
            repo.owner() == account.name || account.organisations.iter().any(|name| name == repo.owner()),
            "{}: the token is of {}, who is in {}; expected the owner {}",
            doing(),
            account.name,
            if account.organisations.is_empty() { "no organisation".to_owned() } else { account.organisations.join(", ") },
            repo.owner()
        );
        ensure!(account.rights.as_deref() != Some("read"), "{}: the token of {} may only read", doing(), account.name);
    }
    match hub.info(&repo) {
        Ok(info) => Ok(info.sha),
        // The Hub makes it, and what may not be seen is not this owner's.
        Err(HubError::NoRepo { .. }) => Ok(None),
        Err(error) => Err(error).with_context(doing),
    }
}

/// The commit that the training has pushed.
///
/// # Errors
/// When there is nothing that was not there `before`, or what is there was not made by the run in `output_dir`, as LeRobot
/// says in its train_config.json.
pub fn pushed(hub: &Hub, push: &str, before: Option<&str>, output_dir: &str) -> anyhow::Result<String> {
    let doing = || format!("looking for the policy in {push}");
    let commit = hub.info(&parse(push)?).with_context(doing)?.sha.with_context(|| format!("{}: it has no commit", doing()))?;
    if Some(commit.as_str()) == before {
        bail!("{}: it is as it was before the training (commit {commit}); nothing was pushed", doing());
    }
    let config = hub
        .read_text(&source::hub_repo(RepoKind::Model, &format!("{push}@{commit}"))?, "train_config.json", &|_| {})
        .with_context(doing)?;
    let config: serde_json::Value = serde_json::from_str(&config).with_context(doing)?;
    ensure!(
        config["output_dir"] == output_dir,
        "{}: commit {commit} holds the policy of another training (its output_dir is {}, expected {output_dir:?})",
        doing(),
        config["output_dir"]
    );
    Ok(commit)
}
