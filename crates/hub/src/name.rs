//! How repositories are named on the command line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::HubOptions;

/// A text that names neither a local path nor a model on the Hub.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("reading the name {text:?}: {what}; expected owner/name, owner/name@revision or the path of a folder")]
pub struct ParseModelRefError {
    /// The text as it was given.
    pub text: String,
    /// What is wrong with it.
    pub what: String,
}

/// What is said first of a text that a path could be as well.
const NOTHING_HERE: &str = "there is no such file or folder here, and ";

impl ParseModelRefError {
    /// Whether the text may have meant a path, at which there is nothing.
    pub fn may_be_path(&self) -> bool {
        self.what.starts_with(NOTHING_HERE)
    }
}

/// Where a policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelRef {
    /// A folder on this machine; not checked to exist before it is fetched.
    Local(PathBuf),
    /// A repository on the Hub.
    Hub(HubRepo),
}

/// What a repository holds. The Hub keeps each kind under names of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RepoKind {
    #[default]
    Model,
    Dataset,
    Space,
}

impl RepoKind {
    /// As folders of the cache and addresses have it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
            Self::Space => "spaces",
        }
    }

    /// As the Hub's interface says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Space => "space",
        }
    }

    /// What precedes `owner/name` in the addresses of pages and files.
    pub(crate) fn prefix(self) -> Option<&'static str> {
        (self != Self::Model).then(|| self.plural())
    }
}

impl fmt::Display for RepoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Space => "Space",
        })
    }
}

/// What people copy from a browser begins with.
const HOSTS: [&str; 2] = ["https://huggingface.co/", "https://hf.co/"];

/// The rest of the address of a page on the Hub, or on the one that `HF_ENDPOINT` names.
fn of_host(text: &str) -> Option<&str> {
    let known = HOSTS.iter().find_map(|host| text.strip_prefix(host));
    known.or_else(|| text.contains("://").then(|| below(text, &HubOptions::from_env().endpoint)).flatten())
}

fn below<'t>(text: &'t str, endpoint: &str) -> Option<&'t str> {
    text.strip_prefix(endpoint)?.strip_prefix('/')
}

/// A repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubRepo {
    kind: RepoKind,
    owner: String,
    name: String,
    revision: String,
}

impl HubRepo {
    /// The branch that is meant when no revision is given.
    pub const DEFAULT_REVISION: &str = "main";

    /// The user or organisation.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository's name within its owner's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A branch, a tag or a commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    pub fn kind(&self) -> RepoKind {
        self.kind
    }

    /// Whether `text` is the address of a page of the Hub, which [`parse`](Self::parse) reads.
    pub fn is_page(text: &str) -> bool {
        of_host(text).is_some()
    }

    /// `owner/name[@revision]`, of the kind that the caller knows it to be, or the address of its page; local paths are no names here.
    ///
    /// # Errors
    /// When the text is no such name.
    pub fn parse(kind: RepoKind, text: &str) -> Result<Self, ParseModelRefError> {
        let err = |what: String| ParseModelRefError { text: text.to_owned(), what };
        if let Some(page) = of_host(text) {
            return Self::of_page(kind, page).map_err(|fault| err(fault.what));
        }
        let (repo, revision) = text.split_once('@').unwrap_or((text, Self::DEFAULT_REVISION));
        let (owner, name) = repo.split_once('/').ok_or_else(|| err("a name on the Hub has an owner before a slash".into()))?;
        if name.contains('/') {
            return Err(err(format!("{repo} has more than one slash")));
        }
        for (what, part) in [("owner", owner), ("name", name)] {
            if let Some(fault) = name_fault(part) {
                return Err(err(format!("the {what} {part:?} {fault}")));
            }
        }
        if let Some(fault) = revision_fault(revision) {
            return Err(err(format!("the revision {revision:?} {fault}")));
        }
        Ok(Self { kind, owner: owner.to_owned(), name: name.to_owned(), revision: revision.to_owned() })
    }

    /// As [`parse`](Self::parse), of the address of a page on the Hub without its host, such as `datasets/owner/name/tree/v3.0`.
    fn of_page(kind: RepoKind, page: &str) -> Result<Self, ParseModelRefError> {
        let page = page.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let of_kind = |known: &RepoKind| Some((*known, page.strip_prefix(known.prefix()?)?.strip_prefix('/')?));
        let (kind, rest) = RepoKind::ALL.iter().find_map(of_kind).unwrap_or((kind, page));
        let parts: Vec<&str> = rest.splitn(4, '/').collect();
        match parts[..] {
            [owner, name, "tree" | "blob" | "resolve", revision] => {
                // Of a file only the branch is meant.
                let revision = revision.split('/').next().unwrap_or_default();
                let revision = percent_encoding::percent_decode_str(revision).decode_utf8_lossy();
                Self::parse(kind, &format!("{owner}/{name}@{revision}"))
            }
            [_, name, ..] if name.contains('@') => Self::parse(kind, rest),
            [owner, name, ..] => Self::parse(kind, &format!("{owner}/{name}")),
            _ => Self::parse(kind, rest),
        }
    }

    /// The repository of this name of another kind.
    #[must_use]
    pub fn of_kind(self, kind: RepoKind) -> Self {
        Self { kind, ..self }
    }

    /// The same repository at another revision, which is a commit or a name that the Hub gave.
    #[must_use]
    pub(crate) fn at(&self, revision: &str) -> Self {
        Self { revision: revision.to_owned(), ..self.clone() }
    }

    /// Where people look at it.
    pub fn page(&self, endpoint: &str) -> String {
        let prefix = self.kind.prefix().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        format!("{endpoint}/{prefix}{}", self.repo())
    }

    /// `owner/name`, without the revision.
    pub fn repo(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The full commit hash, when the revision is one.
    pub(crate) fn commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(self.revision.as_str())
    }
}

impl ModelRef {
    /// A path that exists, or that starts with `/`, `./`, `../` or `~`, is local; anything else
    /// must be `owner/name` or `owner/name@revision` (`main` when left out).
    ///
    /// # Errors
    /// When the text is none of these.
    pub fn parse(text: &str) -> Result<Self, ParseModelRefError> {
        let err = |what: String| Err(ParseModelRefError { text: text.to_owned(), what });
        if text.trim().is_empty() {
            return err("it is empty".into());
        }
        if let Some(rest) = text.strip_prefix('~') {
            let Some(home) = std::env::home_dir().filter(|_| rest.is_empty() || rest.starts_with('/')) else {
                return err("only the own home folder (~/) is understood, and it must be known".into());
            };
            return Ok(Self::Local(home.join(rest.trim_start_matches('/'))));
        }
        let is_page = HubRepo::is_page(text);
        let looks_local = text == "."
            || text == ".."
            || text.len() > 1 && text.ends_with('/') && !is_page
            || ["/", "./", "../"].iter().any(|prefix| text.starts_with(prefix));
        if looks_local || Path::new(text).exists() {
            return Ok(Self::Local(PathBuf::from(text)));
        }
        let hub = HubRepo::parse(RepoKind::Model, text);
        Ok(Self::Hub(hub.map_err(|fault| ParseModelRefError { what: format!("{NOTHING_HERE}{}", fault.what), ..fault })?))
    }
}

/// The Hub's rules for owners and names, as huggingface_hub's `validate_repo_id` checks them.
fn name_fault(part: &str) -> Option<&'static str> {
    if part.is_empty() {
        return Some("is empty");
    }
    if part.len() > 96 {
        return Some("is longer than 96 characters");
    }
    if !part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Some("holds a character other than letters, digits, '-', '_' and '.'");
    }
    if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) || part.contains("--") || part.contains("..") {
        return Some("begins or ends with '-' or '.', or doubles one of them");
    }
    part.ends_with(".git").then_some("ends in .git")
}

/// git's rules for branches and tags, as far as they keep a revision from being something else as a
/// path in the cache or in a URL.
fn revision_fault(revision: &str) -> Option<&'static str> {
    if revision.is_empty() {
        return Some("is empty");
    }
    if revision.len() > 255 {
        return Some("is longer than 255 characters");
    }
    if revision.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\@".contains(c)) {
        return Some("holds a character that no branch, tag or commit has");
    }
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with('.') || part.contains("..");
    revision.split('/').any(bad_part).then_some("has an empty part, or one that begins or ends with '.' or holds '..'")
}

/// The file that an address below `…/resolve/REVISION/` means, or all of the address's path.
pub(crate) fn file_of(url: &url::Url) -> String {
    let of_file = url.path().split_once("/resolve/").and_then(|(_, rest)| rest.split_once('/')).map(|(_, file)| file);
    percent_encoding::percent_decode_str(of_file.unwrap_or(url.path())).decode_utf8_lossy().into_owned()
}

pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

impl FromStr for ModelRef {
    type Err = ParseModelRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for HubRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.owner, self.name, self.revision)
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::Hub(model) => model.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> HubRepo {
        match ModelRef::parse(text) {
            Ok(ModelRef::Hub(model)) => model,
            other => panic!("{text} is {other:?}, expected a model on the Hub"),
        }
    }

    #[test]
    fn the_address_of_a_page_is_a_name() {
        for (address, expected) in [
            ("https://huggingface.co/bob/act", "bob/act@main"),
            ("https://hf.co/bob/act/", "bob/act@main"),
            ("https://huggingface.co/bob/act/tree/v1.0", "bob/act@v1.0"),
            ("https://huggingface.co/bob/act/blob/main/config.json?download=true", "bob/act@main"),
            ("https://huggingface.co/bob/act/discussions", "bob/act@main"),
            ("https://huggingface.co/bob/act/tree/feat%2Fx", "bob/act@feat/x"),
            ("https://huggingface.co/bob/act@feat/x", "bob/act@feat/x"),
        ] {
            assert_eq!((hub(address).to_string().as_str(), hub(address).kind()), (expected, RepoKind::Model), "{address}");
        }
        let data = HubRepo::parse(RepoKind::Model, "https://huggingface.co/datasets/bob/demos/tree/v3.0").unwrap();
        assert_eq!((data.to_string().as_str(), data.kind()), ("bob/demos@v3.0", RepoKind::Dataset));
        let url = |path: &str| url::Url::parse(&format!("https://hub{path}")).unwrap();
        assert_eq!(file_of(&url("/bob/act/resolve/main/a%20b/c.json")), "a b/c.json");
        assert_eq!(file_of(&url("/api/models/bob/act")), "/api/models/bob/act");
        let own = |text| below(text, "http://127.0.0.1:9000/hub");
        assert_eq!(own("http://127.0.0.1:9000/hub/datasets/bob/demos"), Some("datasets/bob/demos"));
        assert_eq!((own("http://127.0.0.1:9000/hubs/bob/act"), own("http://127.0.0.1:9000/bob/act")), (None, None));
        for none in
            ["https://huggingface.co/", "https://huggingface.co/bob", "https://example.com/bob/act", "https://huggingface.co/bob/.."]
        {
            assert!(HubRepo::parse(RepoKind::Model, none).is_err(), "{none}");
        }
    }

    #[test]
    fn a_name_on_the_hub_has_an_owner_and_may_have_a_revision() {
        let plain = hub("lerobot/act_aloha-sim.v1");
        assert_eq!((plain.owner(), plain.name(), plain.revision()), ("lerobot", "act_aloha-sim.v1", "main"));
        assert_eq!(hub("a/b@refs/pr/3").revision(), "refs/pr/3");
        assert_eq!(hub("a/b@v1.0").repo(), "a/b");
        assert_eq!(hub("a/b").commit(), None);
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(hub(&format!("a/b@{commit}")).commit(), Some(commit));
    }

    #[test]
    fn paths_are_local_whether_they_exist_or_only_look_like_paths() {
        for text in ["/nowhere/at/all", "./nowhere", "../nowhere", ".", "..", "src/name.rs"] {
            assert_eq!(ModelRef::parse(text), Ok(ModelRef::Local(PathBuf::from(text))));
        }
        let Ok(ModelRef::Local(home)) = ModelRef::parse("~/checkpoints/last") else { panic!("~ is local") };
        assert!(home.is_absolute() && home.ends_with("checkpoints/last"), "{}", home.display());
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        let long = format!("{}/b", "a".repeat(97));
        let cases = [
            ("", "empty"),
            ("  ", "empty"),
            ("act_pusht", "an owner before a slash"),
            ("a/b/c", "more than one slash"),
            ("@main", "an owner before a slash"),
            ("a/b@", "the revision \"\" is empty"),
            ("a/b@../../etc", "'..'"),
            ("a/b@v1@v2", "no branch"),
            ("a/b@x y", "no branch"),
            ("a b/c", "letters, digits"),
            ("a--b/c", "doubles"),
            ("-a/c", "begins or ends"),
            ("a/..", "begins or ends"),
            ("a/c.git", ".git"),
            ("~someone/model", "home"),
            (&long, "longer than 96"),
        ];
        for (text, expected) in cases {
            let error = ModelRef::parse(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
