//! Which commit a policy's name stands for: the one that was fetched last or, after that has failed to start three times, the last good
//! one. It is decided when a work begins, and is kept in a file that survives the process.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sinew_core::service::{PolicyName, PolicyUsed};
use sinew_hub::{Fetched, Hub, HubError, HubOptions, HubRepo, ModelRef, RepoKind};
use sinew_runtime::Fault;

use super::lock;
use crate::text::note;
use crate::whole::{self, Readers};
use crate::{source, text, transfer};

/// After so many failed starts in a row the last good commit is used.
const MOST_FAILED: u32 = 3;
/// More names than this are not remembered.
const MOST_NAMES: usize = 200;
const MOST_BYTES: u64 = 1 << 20;

/// What policies' names stand for.
pub struct Policies {
    path: PathBuf,
    kept: Mutex<BTreeMap<String, Kept>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// The commit that was fetched last, as of the last start.
    fetched: String,
    failed_starts: u32,
    trouble: Option<String>,
    last_good: Option<String>,
    /// A start of `fetched` has begun, and nobody knows yet how it comes out.
    is_starting: bool,
}

impl Kept {
    /// The commit that runs in the place of the one that was fetched.
    fn in_place(&self) -> Option<&String> {
        self.last_good.as_ref().filter(|good| self.failed_starts >= MOST_FAILED && **good != self.fetched)
    }
}

/// A policy that is to start: which commit, and its files or why they can't be had.
pub struct Located {
    pub used: PolicyUsed,
    pub files: Result<Fetched, HubError>,
}

/// What went wrong was the policy's: it could not be opened, or does not fit the robot.
#[derive(Debug)]
pub struct Unfit(pub anyhow::Error);

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unfit {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Policies {
    /// Those that the file at `path` remembers. A start that the last process did not come to the end of has failed.
    pub fn open(path: PathBuf) -> Self {
        let kept = read(&path).unwrap_or_else(|error| {
            note!("{}; which commits of policies were good is not known", text::chain(&error));
            BTreeMap::new()
        });
        let policies = Self { path, kept: Mutex::new(by_key(kept)) };
        let unknown: Vec<PolicyUsed> = lock(&policies.kept)
            .iter()
            .filter(|(_, kept)| kept.is_starting)
            .map(|(name, kept)| PolicyUsed { name: name.clone(), commit: kept.fetched.clone(), instead_of: None })
            .collect();
        unknown.iter().for_each(|used| policies.failed(used, "the daemon was gone before its first answers"));
        policies
    }

    /// The commit that `name` stands for now, and its files. What was fetched is not asked for again; what never was is fetched.
    ///
    /// # Errors
    /// When no commit of it is known here, and the Hub tells none.
    pub fn locate(&self, name: &str) -> anyhow::Result<Located> {
        let repo = source::hub_repo_of(RepoKind::Model, name)?;
        let (cache, hub) = (cache(), transfer::hub(None));
        let commit = match cache.resolve(&repo) {
            Ok(known) => known.commit,
            Err(_) => {
                let fetched = hub.fetch(&ModelRef::Hub(repo.clone()), &*transfer::shown())?;
                fetched.resolved.context("fetching a policy: the Hub told no commit")?.commit
            }
        };
        let used = self.choose(name, &commit);
        if let Some(fetched) = &used.instead_of {
            let trouble = lock(&self.kept).get(key(name)).and_then(|kept| kept.trouble.clone()).unwrap_or_default();
            let (fetched, good) = (short(fetched), short(&used.commit));
            note!("{name}: commit {fetched} failed to start {MOST_FAILED} times ({trouble}); the last good one, {good}, runs in its place");
        }
        let exactly = ModelRef::Hub(HubRepo::parse(RepoKind::Model, &format!("{}@{}", repo.repo(), used.commit))?);
        let files = match cache.fetch(&exactly, &*transfer::silent()) {
            Err(HubError::NotCached { .. }) => hub.fetch(&exactly, &*transfer::shown()),
            here => here,
        };
        Ok(Located { used, files })
    }

    /// What another process is to be told, so that it takes the same commit: `owner/name@commit`, where one is known here.
    pub fn pinned(&self, name: &str) -> String {
        let repo = source::hub_repo_of(RepoKind::Model, name).ok();
        let known = repo.and_then(|repo| cache().resolve(&repo).ok());
        known.map_or_else(|| name.to_owned(), |known| format!("{}@{}", known.repo.repo(), self.choose(name, &known.commit).commit))
    }

    /// Of a name, when `fetched` is the commit that was fetched last.
    fn choose(&self, name: &str, fetched: &str) -> PolicyUsed {
        let all = lock(&self.kept);
        let in_place = all.get(key(name)).filter(|kept| kept.fetched == fetched).and_then(Kept::in_place);
        match in_place {
            Some(good) => PolicyUsed { name: name.to_owned(), commit: good.clone(), instead_of: Some(fetched.to_owned()) },
            None => PolicyUsed { name: name.to_owned(), commit: fetched.to_owned(), instead_of: None },
        }
    }

    /// A start begins. Until [`good`](Self::good), [`failed`](Self::failed) or [`rest`](Self::rest) the file says so.
    pub fn begin(&self, used: &PolicyUsed) {
        // Who names a commit means that one and no other.
        let names_it = used.name.rsplit_once('@').is_some_and(|(_, revision)| revision == used.commit);
        if used.instead_of.is_some() || names_it {
            return;
        }
        self.change(|all| {
            if all.len() >= MOST_NAMES && !all.contains_key(key(&used.name)) {
                all.pop_first();
            }
            let kept = all.entry(key(&used.name).to_owned()).or_default();
            if kept.fetched != used.commit {
                *kept = Kept { fetched: used.commit.clone(), last_good: kept.last_good.take(), ..Kept::default() };
            }
            kept.is_starting = true;
        });
    }

    /// Its first answers have come.
    pub fn good(&self, used: &PolicyUsed) {
        self.change_of(used, |kept| {
            *kept = Kept { fetched: used.commit.clone(), last_good: Some(used.commit.clone()), ..Kept::default() };
        });
    }

    /// The start has failed, and it was the policy's fault.
    pub fn failed(&self, used: &PolicyUsed, why: &str) {
        let mut told = None;
        self.change_of(used, |kept| {
            kept.failed_starts = kept.failed_starts.saturating_add(1);
            (kept.trouble, kept.is_starting) = (Some(why.to_owned()), false);
            told = Some((kept.failed_starts, kept.in_place().cloned()));
        });
        let (name, commit) = (&used.name, short(&used.commit));
        match told {
            Some((count, Some(good))) => note!(
                "{name}: commit {commit} failed to start {count} times in a row; from now on the last good one, {}, runs in its place, until {name} is fetched again",
                short(&good)
            ),
            Some((count, None)) => note!("{name}: commit {commit} failed to start, {count} in a row: {why}"),
            None => {}
        }
    }

    /// No start is under way any more.
    pub fn rest(&self) {
        if lock(&self.kept).values().any(|kept| kept.is_starting) {
            self.change(|all| all.values_mut().for_each(|kept| kept.is_starting = false));
        }
    }

    /// It was fetched, so that what is here now is tried anew.
    pub fn fetched(&self, name: &str) {
        if lock(&self.kept).get(key(name)).is_some_and(|kept| kept.failed_starts > 0) {
            self.change(|all| {
                all.entry(key(name).to_owned()).and_modify(|kept| (kept.failed_starts, kept.trouble) = (0, None));
            });
        }
    }

    /// What the names of a repository stand for.
    pub fn names_of(&self, repo: &str) -> Vec<PolicyName> {
        let all = lock(&self.kept).clone();
        let of = all.into_iter().filter(|(name, _)| name.split('@').next() == Some(repo));
        let cache = cache();
        let shown = of.map(|(name, kept)| {
            let known = HubRepo::parse(RepoKind::Model, &name).ok().and_then(|repo| cache.resolve(&repo).ok());
            let fetched = known.map_or_else(|| kept.fetched.clone(), |known| known.commit);
            let PolicyUsed { name, commit, instead_of } = self.choose(&name, &fetched);
            let (failed_starts, trouble) = if fetched == kept.fetched { (kept.failed_starts, kept.trouble) } else { (0, None) };
            PolicyName { name, commit, instead_of, last_good: kept.last_good, failed_starts, trouble }
        });
        shown.collect()
    }

    /// Changes what is known of the commit that `used` is, where it is the one that was fetched.
    fn change_of(&self, used: &PolicyUsed, change: impl FnOnce(&mut Kept)) {
        self.change(|all| {
            if let Some(kept) = all.get_mut(key(&used.name)).filter(|kept| used.instead_of.is_none() && kept.fetched == used.commit) {
                change(kept);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Kept>)) {
        let mut all = lock(&self.kept);
        let before = all.clone();
        change(&mut all);
        if *all != before
            && let Err(error) =
                serde_json::to_vec_pretty(&*all).map_err(Into::into).and_then(|all| whole::write(&self.path, &all, Readers::Usual))
        {
            note!(
                "writing {}: {error}; which commits of policies were good is not known when the daemon starts again",
                self.path.display()
            );
        }
    }
}

/// What a policy is remembered by: a repository without a branch means its branch `main`.
fn key(name: &str) -> &str {
    name.strip_suffix("@main").unwrap_or(name)
}

/// What a file has by names that mean the same becomes one: what has failed more often counts.
fn by_key(kept: BTreeMap<String, Kept>) -> BTreeMap<String, Kept> {
    let mut all = BTreeMap::new();
    for (name, kept) in kept {
        match all.entry(key(&name).to_owned()) {
            Entry::Vacant(free) => drop(free.insert(kept)),
            Entry::Occupied(mut taken) if taken.get().failed_starts < kept.failed_starts => drop(taken.insert(kept)),
            Entry::Occupied(_) => {}
        }
    }
    all
}

/// The Hub's cache, whatever the Hub has meanwhile.
fn cache() -> Hub {
    Hub::new(HubOptions { offline: true, ..HubOptions::from_env() })
}

fn short(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Kept>> {
    let doing = || format!("reading {}", path.display());
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(doing),
        Ok(found) if found.len() > MOST_BYTES => anyhow::bail!("{}: found {} bytes, expected at most {MOST_BYTES}", doing(), found.len()),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).with_context(doing)?;
    serde_json::from_slice(&bytes).with_context(doing)
}

/// Whether the files are at fault, and not the way to them.
pub fn is_of_files(error: &HubError) -> bool {
    use HubError::{Broken, Damaged, Hostile, NoFile, NoPolicy, Unusable};
    matches!(error, Broken { .. } | Damaged { .. } | Hostile { .. } | NoFile { .. } | NoPolicy { .. } | Unusable { .. })
}

/// Whether the policy is at fault, and not the robot, a disk or a human.
pub fn is_of_policy(fault: &Fault) -> bool {
    match fault {
        Fault::Policy { .. } | Fault::Answer { .. } | Fault::Unanswered { .. } | Fault::NoContinuation { .. } => true,
        Fault::Outrun { .. } | Fault::Starved { .. } => true,
        Fault::Panic { who, .. } => *who == "policy",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    const C: &str = "cccccccccccccccccccccccccccccccccccccccc";
    const NAME: &str = "ada/act";

    fn start(policies: &Policies, fetched: &str) -> PolicyUsed {
        let used = policies.choose(NAME, fetched);
        policies.begin(&used);
        used
    }

    #[test]
    fn after_three_failed_starts_the_last_good_commit_runs_until_another_is_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let policies = Policies::open(folder.path().join("policies.json"));
        policies.good(&start(&policies, A));
        for _ in 0..3 {
            let used = start(&policies, B);
            assert_eq!((used.commit.as_str(), &used.instead_of), (B, &None));
            policies.failed(&used, "it is broken");
        }
        let used = start(&policies, B);
        assert_eq!((used.commit.as_str(), used.instead_of.as_deref()), (A, Some(B)));
        // Whatever comes of that one, what was fetched has still failed.
        policies.good(&used);
        policies.failed(&used, "it is broken, too");
        assert_eq!(policies.choose(NAME, B).commit, A);
        let kept = lock(&policies.kept)[NAME].clone();
        assert_eq!((kept.failed_starts, kept.trouble.as_deref()), (3, Some("it is broken")));
        let again = Policies::open(folder.path().join("policies.json"));
        assert_eq!(again.choose(NAME, B).instead_of.as_deref(), Some(B));
        // A newer one is tried, and the same one when it was fetched anew.
        assert_eq!(again.choose(NAME, C).commit, C);
        again.fetched(NAME);
        assert_eq!((again.choose(NAME, B).commit.as_str(), again.choose(NAME, B).instead_of), (B, None));
        again.good(&start(&again, C));
        assert_eq!(lock(&again.kept)[NAME].last_good.as_deref(), Some(C));
    }

    #[test]
    fn a_name_and_the_name_with_its_main_branch_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policies.json");
        let policies = Policies::open(path.clone());
        policies.good(&start(&policies, A));
        for name in [NAME, "ada/act@main", NAME] {
            let used = policies.choose(name, B);
            assert_eq!((used.name.as_str(), used.commit.as_str()), (name, B));
            policies.begin(&used);
            policies.failed(&used, "no");
        }
        assert_eq!([NAME, "ada/act@main"].map(|name| policies.choose(name, B).commit), [A; 2]);
        assert_eq!(policies.choose("ada/act@dev", B).commit, B, "another branch is another name");
        policies.fetched("ada/act@main");
        assert_eq!(policies.choose(NAME, B).commit, B);
        // A file of former days.
        let old = std::fs::read_to_string(&path).unwrap().replace("\"ada/act\"", "\"ada/act@main\"");
        std::fs::write(&path, old).unwrap();
        assert_eq!(lock(&Policies::open(path).kept)[NAME].last_good.as_deref(), Some(A));
    }

    #[test]
    fn failures_count_in_a_row_and_without_a_good_one_there_is_none_to_go_back_to() {
        let folder = tempfile::tempdir().unwrap();
        let policies = Policies::open(folder.path().join("policies.json"));
        for _ in 0..5 {
            policies.failed(&start(&policies, A), "no");
        }
        assert_eq!((policies.choose(NAME, A).commit.as_str(), policies.choose(NAME, A).instead_of), (A, None));
        policies.good(&start(&policies, A));
        policies.failed(&start(&policies, B), "no");
        policies.failed(&start(&policies, B), "no");
        policies.good(&start(&policies, B));
        policies.failed(&start(&policies, B), "no");
        assert_eq!(lock(&policies.kept)[NAME].failed_starts, 1);
    }

    #[test]
    fn a_start_that_the_process_did_not_survive_has_failed_and_one_that_was_stopped_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policies.json");
        let failed = || lock(&Policies::open(path.clone()).kept)[NAME].failed_starts;
        let policies = Policies::open(path.clone());
        policies.good(&start(&policies, A));
        start(&policies, B);
        assert_eq!((failed(), failed()), (1, 1), "counted once");
        let policies = Policies::open(path.clone());
        start(&policies, B);
        policies.rest();
        assert_eq!(failed(), 1);
        let policies = Policies::open(path.clone());
        start(&policies, B);
        drop(Policies::open(path.clone()));
        let policies = Policies::open(path.clone());
        start(&policies, B);
        assert_eq!(Policies::open(path.clone()).choose(NAME, B).commit, A);
    }

    #[test]
    fn a_commit_that_is_named_is_the_one_that_runs_and_a_broken_file_is_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policies.json");
        let policies = Policies::open(path.clone());
        let used = policies.choose(&format!("{NAME}@{A}"), A);
        policies.begin(&used);
        policies.failed(&used, "no");
        assert!(lock(&policies.kept).is_empty() && !path.exists());
        std::fs::write(&path, "{").unwrap();
        let policies = Policies::open(path.clone());
        policies.good(&start(&policies, A));
        assert_eq!(lock(&Policies::open(path).kept)[NAME].last_good.as_deref(), Some(A));
    }
}
