//! What a checkpoint refers to, from the Hub.

use std::error::Error;
use std::path::PathBuf;

use sinew_hub::{Hub, HubError, HubRepo, ModelRef};
use sinew_policy::Resources;

type Found = Result<Option<PathBuf>, Box<dyn Error + Send + Sync>>;

/// The Hub, and its cache before it.
#[derive(Clone, Debug)]
pub(crate) struct HubResources(pub Hub);

impl Resources for HubResources {
    fn find(&self, repo: &str, file: &str) -> Found {
        match hub_model(repo) {
            Some(model) => answer(self.0.fetch_file(&model, file)),
            None => Ok(None),
        }
    }

    fn folder(&self, repo: &str, revision: Option<&str>) -> Found {
        let name = revision.map_or_else(|| repo.to_owned(), |revision| format!("{repo}@{revision}"));
        match hub_model(&name) {
            Some(model) => answer(self.0.fetch(&ModelRef::Hub(model), &|_| {}).map(|fetched| Some(fetched.folder))),
            None => Ok(None),
        }
    }
}

/// `None` where `name` can't be a repository of the Hub, such as a path on another machine.
fn hub_model(name: &str) -> Option<HubRepo> {
    match ModelRef::parse(name) {
        Ok(ModelRef::Hub(model)) => Some(model),
        _ => None,
    }
}

fn answer(found: Result<Option<PathBuf>, HubError>) -> Found {
    match found {
        Err(HubError::NoRepo { .. }) => Ok(None),
        other => other.map_err(Into::into),
    }
}
