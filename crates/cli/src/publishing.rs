//! A recording goes to the Hub while it is made.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use sinew_hub::{Hub, HubRepo, Publisher, RepoKind, UploadOptions, Uploaded};
use sinew_recorder::closed_files;
use sinew_runtime::StopFlag;

use crate::args::PublishArgs;
use crate::commands::hub::whole;
use crate::text::{self, note};
use crate::{source, transfer};

/// What sends a dataset's files as they are closed.
pub struct Publishing {
    hub: Hub,
    publisher: Option<Publisher>,
    root: PathBuf,
    offered: Vec<String>,
    has_episode: bool,
    private: bool,
    replace: bool,
}

impl Publishing {
    /// Where the options ask for it. The recorder must have begun, as it wants a folder of its own.
    pub fn begin(root: &Path, args: &PublishArgs) -> anyhow::Result<Option<Self>> {
        let Some(repo) = args.repo()? else { return Ok(None) };
        let hub = transfer::hub(args.publish_limit);
        let (private, replace) = (args.publish_private, args.publish_replace);
        let publisher = Some(Publisher::open(&hub, root, &repo, UploadOptions { private, replace, ..UploadOptions::default() })?);
        Ok(Some(Self { hub, publisher, root: root.to_owned(), offered: Vec::new(), has_episode: false, private, replace }))
    }

    /// An episode was committed.
    pub fn offer(&mut self) {
        self.has_episode = true;
        let Some(publisher) = &self.publisher else { return };
        for path in closed_files(&self.root) {
            if !self.offered.contains(&path) {
                publisher.offer(&path);
                self.offered.push(path);
            }
        }
    }

    /// Sends the rest when nothing is recorded any more. What can't be sent now can be later, also where `stop` is told to
    /// from now on.
    pub fn finish(mut self, stop: &StopFlag, is_json: bool) -> anyhow::Result<Option<(Hub, Uploaded)>> {
        let Some(publisher) = self.publisher.take_if(|_| self.has_episode) else { return Ok(None) };
        let check = whole::check(RepoKind::Dataset, true);
        let options = UploadOptions { private: self.private, replace: self.replace, check, ..UploadOptions::default() };
        let listener = if is_json { transfer::silent() } else { transfer::shown() };
        let root = text::quoted(&self.root);
        let told = || (stop.level(), stop.is_abandoned(), stop.was_hung_up());
        let before = told();
        let work = std::thread::Builder::new().name("finish".into()).spawn(move || publisher.finish(&options, &*listener));
        let work = work.with_context(|| format!("beginning to finish the upload of {root}"))?;
        while !work.is_finished() {
            if told() != before {
                // What has gone is noted in the folder, so that the end of this process costs nothing of it.
                note!("\nthe recording is whole, and not shown on the Hub yet; to go on with that: sinew hub finish {root}");
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        match work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok(uploaded) => Ok(Some((self.hub.clone(), uploaded))),
            Err(error) => {
                match error.is_transient() {
                    true => note!("the recording is whole; once the Hub can be reached: sinew hub finish {root}"),
                    false => note!("the recording is whole; to show it, see what is wrong, then: sinew hub finish {root}"),
                }
                Err(error.into())
            }
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        // Without an episode there is nothing to come back to.
        if let Some(publisher) = self.publisher.take_if(|_| !self.has_episode) {
            publisher.withdraw();
        }
    }
}

impl PublishArgs {
    fn repo(&self) -> anyhow::Result<Option<HubRepo>> {
        Ok(self.publish.as_deref().map(|repo| source::hub_repo(RepoKind::Dataset, repo)).transpose()?)
    }

    /// That the name is one, and that there is a token, before anything moves.
    pub fn check(&self) -> anyhow::Result<()> {
        let Some(repo) = self.repo()? else { return Ok(()) };
        Ok(Hub::from_env().needs_token(format!("publishing to {repo}"))?)
    }
}
