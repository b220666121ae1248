//! A folder becomes a commit: what the Hub lacks is sent, and only that, whatever was interrupted before.
//!
//! The order is: list the folder and the repository, hash, ask how the Hub wants each file, send large ones to its store,
//! commit, list it back. The [journal] lets a killed upload go on.

mod commit;
mod journal;
mod keys;
mod lfs;
mod notes;
mod others;
mod plan;
mod publish;
mod repo;
mod send;
mod xet;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use futures_util::{StreamExt, TryStreamExt};
use globset::GlobSet;

pub use publish::{PublishState, Publisher};
pub use repo::Created;

use crate::api::Listing;
use crate::down::{name_fault, patterns};
use crate::error::files as files_in_words;
use crate::http::Http;
use crate::hub::{Event, Listener, Transfer};
use crate::{Account, Hub, HubError, HubRepo, RepoFile, RepoKind, TokenState};
use commit::{Change, is_same, pack};
use journal::Journal;
use notes::{Intent, Mode, Target};
use others::{OF_A_DATASET, changes_hash, hub_hash};
use plan::{Local, Meter, Planned};

/// How many files are sent at a time. More would lose more when an upload is killed.
const AT_A_TIME: usize = 4;

/// What stands still for so long is told.
const QUIET: Duration = Duration::from_secs(5);

/// The stores of git LFS. The Hub chooses: in parts where it can, as less is lost then by a kill.
const WITHOUT_XET: &[&str] = &["multipart", "basic"];

/// Says what is wrong with a folder that is to be uploaded.
pub type CheckFolder = dyn Fn(&Path) -> Result<(), String> + Send + Sync;

/// What of a folder is uploaded, and how.
#[derive(Default)]
pub struct UploadOptions {
    /// Patterns of paths, as [`Download`](crate::Download) has them; all files if empty.
    pub include: Vec<String>,
    /// Patterns of paths that stay here.
    pub exclude: Vec<String>,
    /// Patterns of files of the repository that are deleted unless the folder has them.
    pub delete: Vec<String>,
    /// The commit's title, and after a line break its description.
    pub message: Option<String>,
    /// The commit that the branch must be at. Whatever it holds may be written over; without it, only what came from the folder.
    pub parent: Option<String>,
    /// Whether another dataset that the repository holds may be replaced.
    pub replace: bool,
    /// Whether the repository, if it is made, is for its owner alone. One that is there and public is refused then.
    pub private: bool,
    /// Asked before anything is sent.
    pub check: Option<Box<CheckFolder>>,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub repo: HubRepo,
    /// The commit that holds the folder.
    pub commit: String,
    /// The commits that were made, none where the Hub had it all.
    pub commits: Vec<String>,
    /// Files of the folder that are in the commit.
    pub files: usize,
    /// Files that were not there before, or were others.
    pub changed_files: usize,
    /// Of all files that are in the commit.
    pub total_bytes: u64,
    /// What this call sent, beginnings that broke off included.
    pub bytes_sent: u64,
    /// Files that are never sent (locks, caches) or that a `.gitignore` leaves out.
    pub left_out: Vec<String>,
    /// Whether the repository had to be made.
    pub created: Created,
    /// The tag of the dataset's version, which is at the commit.
    pub tag: Option<String>,
}

/// How a folder goes up, beside what the user wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By as many commits as are good.
    Plain,
    /// By one commit, which shows all of it at once.
    AtOnce,
    /// It is there: that is looked at, and nothing is sent.
    Look,
}

impl Hub {
    /// Brings the folder to the branch that `repo` names, which is made with the repository if need be. Killed and
    /// called again, it sends nothing that the Hub has. A dataset gets the tag of its version.
    ///
    /// # Errors
    /// When the branch has moved since the last upload from here ([`HubError::Conflict`]) or holds another file than the folder that
    /// did not come from it, a file changes meanwhile ([`HubError::Changed`]), the token
    /// may not write, the repository holds another dataset, or the folder is not fit to be sent.
    pub fn upload(&self, folder: &Path, repo: &HubRepo, options: &UploadOptions, listener: &Listener) -> Result<Uploaded, HubError> {
        plan::check_options(self.options(), repo, options)?;
        let journal = self.journal_for(folder, repo, options.private)?;
        self.upload_with(folder, repo, options, listener, &journal, Way::Plain)
    }

    /// Notes that `files` of `folder` are those of `repo` at `commit`, so that an upload from there can go on from that commit.
    pub(crate) fn note_download(&self, folder: &Path, repo: &HubRepo, commit: &str, files: &[RepoFile]) {
        match Journal::open(folder) {
            Ok(journal) => journal.came_from(&Target::new(&self.options().endpoint, repo, false, false), commit, files),
            // The files are there; an upload from here asks for --parent.
            Err(err) => tracing::debug!(%err, "where the files come from is not written down"),
        }
    }

    /// The files of `folder` as they came from `repo` or went there, each with its path and hash.
    ///
    /// # Errors
    /// When the folder belongs to another repository.
    pub(crate) fn noted_files(&self, folder: &Path, repo: &HubRepo) -> Result<HashSet<(String, String)>, HubError> {
        // Notes that can't be read say nothing: then what is there is not known.
        let Ok(known) = Journal::known_in(folder) else { return Ok(HashSet::new()) };
        match known.files_of(repo) {
            Ok(files) => Ok(files.into_iter().map(|(path, hash)| (path.to_owned(), hash.to_owned())).collect()),
            Err(other) => {
                let what =
                    format!("what is there belongs to the {} {}, and both would be mixed; name another folder", other.kind(), other.repo());
                Err(HubError::Unusable { doing: format!("downloading the {} {repo} to {}", repo.kind(), folder.display()), what })
            }
        }
    }

    fn journal_for(&self, folder: &Path, repo: &HubRepo, private: bool) -> Result<Journal, HubError> {
        self.needs_network(format!("uploading {} to {repo}", folder.display()))?;
        if !folder.is_dir() {
            let what = format!("expected a folder at {}, found {}", folder.display(), if folder.exists() { "a file" } else { "nothing" });
            return Err(HubError::Unusable { doing: format!("uploading to {repo}"), what });
        }
        let journal = Journal::open(folder)?;
        journal.aim(&Target::new(&self.options().endpoint, repo, private, false));
        Ok(journal)
    }

    fn upload_with(
        &self,
        folder: &Path,
        repo: &HubRepo,
        options: &UploadOptions,
        listener: &Listener,
        journal: &Journal,
        way: Way,
    ) -> Result<Uploaded, HubError> {
        let refuse = |what: String| HubError::Unusable { doing: format!("uploading {} to {repo}", folder.display()), what };
        self.needs_token(format!("uploading {} to {repo}", folder.display()))?;
        // Whatever can be refused is, before anything is made there.
        let version = if repo.kind() == RepoKind::Dataset { Some(repo::dataset_version(folder)?) } else { None };
        if let Some(check) = &options.check {
            check(folder).map_err(refuse)?;
        }
        // Everybody opens a dataset by the tag, so that a branch of its own must not move it.
        let tag = version.filter(|_| repo.revision() == HubRepo::DEFAULT_REVISION);
        let (files, mut left_out) = plan::walk(folder, options)?;
        if files.is_empty() {
            return Err(refuse("there is nothing in the folder to upload".into()));
        }
        let http = self.http()?;
        let there = self.wait(look_up(http, repo, journal))??;
        let upload = Upload::new(http, repo, journal, listener);
        if let Some(head) = there.as_ref().filter(|_| way != Way::Look) {
            self.wait(upload.check_head(options, head))??;
        }
        let planned = plan::hash(self, files, journal, &|local, of_file, done, total| {
            let transfer = Transfer {
                file: &local.path,
                file_done_bytes: of_file,
                file_bytes: local.stamp.size,
                done_bytes: done,
                total_bytes: total,
            };
            listener(Event::Reading(transfer));
        })?;
        let (head, created) = match there {
            Some(head) => (head, Created::Before),
            None if way == Way::Look => {
                let what = format!(
                    "it was finished, and the {} is not there any more: it was deleted, renamed, or hidden from the token; \
                     `sinew hub upload {folder:?} {repo}` makes it anew",
                    repo.kind()
                );
                return Err(refuse(what));
            }
            None if options.parent.is_some() => return Err(self.no_repo(repo)),
            None => {
                if journal.base().is_some() {
                    tracing::warn!(
                        "{repo} was there and is not any more: it was deleted, renamed, or hidden from the token; it is made anew"
                    );
                }
                let (head, created) = self.make(repo, journal)?;
                match created {
                    Created::Now => upload.begin_in_new(&head),
                    Created::Before => self.wait(upload.check_head(options, &head))??,
                }
                (head, created)
            }
        };
        let before = self.wait(http.list(repo, &head, "", true))??;
        let is_all = options.include.is_empty() && options.exclude.is_empty();
        let meant = patterns(&options.delete)?;
        let mut delete = options.delete.clone();
        if repo.kind() == RepoKind::Dataset && is_all {
            // Tables and videos that the dataset no longer has would be taken for a part of it.
            delete.extend(OF_A_DATASET.map(|folder| format!("{folder}**")));
        }
        let plan = Plan::new(&planned, &before, &patterns(&delete)?, folder);
        if repo.kind() == RepoKind::Dataset && way != Way::Look && plan.touches_dataset() {
            self.check_dataset(&upload, folder, options, &before, &head)?;
        }
        if let Some(fault) = plan.name_fault(&planned, &before) {
            return Err(refuse(format!(
                "{fault}, so that nobody could download both; rename one, or take the repository's away by --delete"
            )));
        }
        if way != Way::Look {
            self.wait(upload.check_files(&before, &head, &plan, &meant))??;
            plan.same.iter().for_each(|file| journal.note_there(&file.path, &file.hash));
        }
        let git_ignore = planned.iter().find(|file| file.local.path == ".gitignore").and_then(|file| file.local.text().ok());
        let modes = self.wait(upload.modes(&plan.changed, git_ignore.as_deref()))??;
        let mut changes: Vec<Change<'_>> = plan.changed.iter().zip(&modes).map(|(file, mode)| Change::Add(file, *mode)).collect();
        changes.retain(|change| match change {
            Change::Add(file, Mode::Ignored) => {
                left_out.push(file.local.path.clone());
                false
            }
            _ => true,
        });
        if !planned.is_empty() && plan.same.is_empty() && changes.is_empty() && !modes.is_empty() {
            return Err(refuse(format!(
                "a .gitignore leaves out all of {} ({}); change it, or remove it",
                folder.display(),
                files_in_words(modes.len())
            )));
        }
        changes.extend(plan.gone.iter().map(|path| Change::Delete(path)));
        changes.sort_by(|a, b| (a.rank(), a.path()).cmp(&(b.rank(), b.path())));
        if way == Way::Look && !changes.is_empty() {
            let what = format!(
                "it was finished; since then {} has changed here or there, one of {}; if it was here, `sinew hub upload {folder:?} {repo}` \
                 brings it, unless somebody else has changed the repository",
                changes[0].path(),
                changes.len()
            );
            return Err(refuse(what));
        }
        let commits = self.send_and_commit(&upload, &changes, &head, options, way == Way::AtOnce)?;
        // What was finished is what was brought then, whatever others have added.
        let finished = journal.lasts().into_iter().next().filter(|_| way == Way::Look);
        let shown = commits.last().cloned().unwrap_or(head);
        let ignored: HashSet<&str> = left_out.iter().map(String::as_str).collect();
        let kept: Vec<&Planned> = planned.iter().filter(|file| !ignored.contains(file.local.path.as_str())).collect();
        self.wait(upload.verify(&kept, &plan.gone, &shown))??;
        let commit = finished.unwrap_or(shown);
        if let Some(tag) = &tag {
            self.move_tag(repo, tag, &commit)?;
        }
        journal.finish(&commit);
        left_out.sort();
        Ok(Uploaded {
            repo: repo.clone(),
            commit,
            commits,
            files: kept.len(),
            changed_files: changes.iter().filter(|change| matches!(change, Change::Add(..))).count(),
            total_bytes: kept.iter().map(|file| file.local.stamp.size).sum(),
            bytes_sent: upload.bytes_sent(),
            left_out,
            created,
            tag,
        })
    }

    /// Makes the repository, and says the commit that its branch is at.
    fn make(&self, repo: &HubRepo, journal: &Journal) -> Result<(String, Created), HubError> {
        // One that was private is not shown to everybody because it was deleted meanwhile.
        let created = self.create(repo, journal.is_private() || journal.was_private())?;
        if created == Created::Now && repo.revision() != HubRepo::DEFAULT_REVISION {
            self.branch(repo)?;
        }
        let head = self.wait(look_up(self.http()?, repo, journal))??.ok_or_else(|| self.no_repo(repo))?;
        Ok((head, created))
    }

    /// That the token's owner may make the repository, as far as the Hub says so.
    fn may_make(&self, repo: &HubRepo) -> Result<(), HubError> {
        let account = match self.whoami(None) {
            Ok(account) => account,
            Err(error @ HubError::Refused { .. }) => return Err(error),
            // Whoever doesn't say it now says it when something comes.
            _ => return Ok(()),
        };
        let Account { name, organisations, rights } = account;
        let is_owner = |owner: &String| owner.eq_ignore_ascii_case(repo.owner());
        let what = if rights.as_deref() == Some("read") {
            format!("the token (HF_TOKEN or the stored login) is one of {name}'s that may only read: it needs the right to write")
        } else if !std::iter::once(&name).chain(&organisations).any(is_owner) {
            let of = if organisations.is_empty() { String::new() } else { format!(", {}", organisations.join(", ")) };
            format!(
                "there is none, and the token (HF_TOKEN or the stored login) is one of {name}'s, who is not in {}: expected an owner of {name}{of}",
                repo.owner()
            )
        } else {
            return Ok(());
        };
        Err(HubError::Unusable { doing: format!("making the {} {}", repo.kind(), repo.repo()), what })
    }

    fn no_repo(&self, repo: &HubRepo) -> HubError {
        HubError::NoRepo { repo: repo.clone(), endpoint: self.options().endpoint.clone(), token: TokenState::Sent }
    }

    fn send_and_commit(
        &self,
        upload: &Upload<'_>,
        changes: &[Change<'_>],
        head: &str,
        options: &UploadOptions,
        all_at_once: bool,
    ) -> Result<Vec<String>, HubError> {
        let mut seen = HashSet::new();
        let large: Vec<&Planned> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Add(file, Mode::Large) if seen.insert(&file.hashes.sha256) => Some(*file),
                _ => None,
            })
            .collect();
        let packs = pack(changes, all_at_once);
        let mut commits: Vec<String> = Vec::new();
        // A store may have lost what was noted as sent: then it is sent again, once.
        for is_last in [false, true] {
            let trusted = self.wait(upload.with_ticker(upload.send(&large)))??;
            let mut outcome = Ok(());
            for (at, range) in packs.iter().enumerate().skip(commits.len()) {
                let parent = commits.last().map_or(head, String::as_str);
                let changes = &changes[range.clone()];
                changes.iter().try_for_each(|change| match change {
                    Change::Add(file, _) => file.local.check(),
                    Change::Delete(_) => Ok(()),
                })?;
                let mut message = options.message.clone().unwrap_or_else(|| format!("Upload {} with Sinew", files_in_words(changes.len())));
                if packs.len() > 1 {
                    let (title, more) = message.split_once('\n').unwrap_or((&message, ""));
                    message = format!("{title} ({}/{})\n{more}", at + 1, packs.len());
                }
                upload.journal.note_intent(&Intent { parent: parent.to_owned(), changes: changes_hash(changes) });
                match self.wait(upload.beside(upload.commit(changes, parent, &message), false))? {
                    Ok(commit) => {
                        for change in changes {
                            if let Change::Add(file, mode) = change {
                                upload.journal.note_there(&file.local.path, hub_hash(file, *mode));
                            }
                        }
                        upload.journal.note_commit(&commit, parent);
                        (upload.listener)(Event::Committed { repo: upload.repo, commit: &commit, number: at + 1, of: packs.len() });
                        commits.push(commit);
                    }
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            match outcome {
                Err(HubError::Server { .. }) if !is_last && !trusted.is_empty() => {
                    trusted.iter().for_each(|sha256| upload.journal.forget_sent(sha256));
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(commits)
    }
}

/// The commit that the branch is at; none where there is no repository.
async fn look_up(http: &Http, repo: &HubRepo, journal: &Journal) -> Result<Option<String>, HubError> {
    let info = match http.info(repo).await {
        Ok(info) => info,
        Err(HubError::NoRepo { .. }) => return Ok(None),
        Err(other) => return Err(other),
    };
    journal.note_private(info.private);
    if journal.is_private() && !info.private {
        let what = "it was to be private, but it is there and public; make it private first, or upload it for all to see".to_owned();
        return Err(HubError::Unusable { doing: format!("uploading to {repo}"), what });
    }
    Ok(info.sha)
}

/// What the folder has that the repository lacks.
struct Plan<'p> {
    changed: Vec<&'p Planned>,
    /// Files of the repository that are the same here.
    same: Vec<RepoFile>,
    /// Files of the repository that are to go.
    gone: Vec<String>,
}

impl<'p> Plan<'p> {
    fn new(planned: &'p [Planned], before: &Listing, delete: &GlobSet, folder: &Path) -> Self {
        let there = by_path(before);
        let same_there = |file: &Planned| there.get(file.local.path.as_str()).filter(|there| is_same(file, there)).copied();
        let is_gone = |path: &&str| *path != ".gitattributes" && delete.is_match(path) && folder.join(path).symlink_metadata().is_err();
        let mut gone: Vec<String> = there.keys().copied().filter(is_gone).map(str::to_owned).collect();
        gone.sort();
        let same = planned.iter().filter_map(same_there).cloned().collect();
        Self { changed: planned.iter().filter(|file| same_there(file).is_none()).collect(), same, gone }
    }
}

impl Plan<'_> {
    /// What would be wrong with the names of the files together that are there afterwards, and is not already.
    fn name_fault(&self, planned: &[Planned], before: &Listing) -> Option<String> {
        let kept = || before.files.iter().map(|file| file.path.as_str()).filter(|path| !self.gone.iter().any(|gone| gone == path));
        let after: BTreeSet<&str> = kept().chain(planned.iter().map(|file| file.local.path.as_str())).collect();
        name_fault(after.into_iter()).filter(|_| name_fault(kept()).is_none())
    }

    /// Whether anything changes of what makes a dataset.
    fn touches_dataset(&self) -> bool {
        let changed = self.changed.iter().map(|file| file.local.path.as_str());
        changed.chain(self.gone.iter().map(String::as_str)).any(|path| OF_A_DATASET.iter().any(|folder| path.starts_with(folder)))
    }
}

fn by_path(listing: &Listing) -> HashMap<&str, &RepoFile> {
    listing.files.iter().map(|file| (file.path.as_str(), file)).collect()
}

/// An upload on its way.
struct Upload<'a> {
    http: &'a Http,
    repo: &'a HubRepo,
    journal: &'a Journal,
    meters: Mutex<Vec<Arc<Meter>>>,
    /// Bytes that no meter knows of.
    counted: AtomicU64,
    /// What the Xet store has taken, as it says itself.
    of_xet: AtomicU64,
    /// Of all files that are to be in the store.
    large_bytes: AtomicU64,
    listener: &'a Listener,
}

impl<'a> Upload<'a> {
    fn new(http: &'a Http, repo: &'a HubRepo, journal: &'a Journal, listener: &'a Listener) -> Self {
        let [counted, of_xet, large_bytes] = [(); 3].map(|()| AtomicU64::new(0));
        Self { http, repo, journal, meters: Mutex::default(), counted, of_xet, large_bytes, listener }
    }

    fn meter(&self, local: &Local) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        // Sent once more, such as to another store, it begins anew and is one file all the same.
        if let Some(meter) = meters.iter().find(|meter| meter.path == local.path) {
            meter.done.store(0, Ordering::Relaxed);
            return Arc::clone(meter);
        }
        let meter = Arc::new(Meter::of(local));
        meters.push(Arc::clone(&meter));
        meter
    }

    fn count(&self, bytes: usize) {
        self.counted.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn bytes_sent(&self) -> u64 {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        self.counted.load(Ordering::Relaxed) + meters.iter().map(|meter| meter.sent.load(Ordering::Relaxed)).sum::<u64>()
    }

    /// Sends what the store lacks of `files`, and says of which it was only remembered that it has them.
    async fn send(&self, files: &[&Planned]) -> Result<Vec<String>, HubError> {
        self.large_bytes.store(files.iter().map(|file| file.local.stamp.size).sum(), Ordering::Relaxed);
        let mut trusted = Vec::new();
        let mut transfers: &[&str] = &["xet", WITHOUT_XET[0], WITHOUT_XET[1]];
        for group in files.chunks(lfs::BATCH) {
            let mut answer = self.batch(group, transfers).await?;
            if answer.is_xet {
                let (sent, unsent): (Vec<&Planned>, Vec<&Planned>) =
                    group.iter().partition(|file| self.journal.is_sent(&file.hashes.sha256));
                let trouble = match self.send_xet(&unsent).await {
                    Ok(true) => {
                        trusted.extend(sent.into_iter().map(|file| file.hashes.sha256.clone()));
                        continue;
                    }
                    Ok(false) => None,
                    Err(error @ HubError::Broken { .. }) => Some(error),
                    Err(other) => return Err(other),
                };
                transfers = WITHOUT_XET;
                answer = match (self.batch(group, transfers).await, trouble) {
                    (Ok(answer), None) => answer,
                    (Ok(answer), Some(error)) => {
                        tracing::warn!("{error}; so large files go to the store of git LFS");
                        answer
                    }
                    // Where the Hub has no other store, that is what was wrong.
                    (Err(_), Some(error)) | (Err(error), None) => return Err(error),
                };
            }
            let (wanted, there): (Vec<&Planned>, Vec<&Planned>) = group.iter().partition(|file| answer.wants(&file.hashes.sha256));
            there.iter().for_each(|file| self.meter(&file.local).done.store(file.local.stamp.size, Ordering::Relaxed));
            let sends: Vec<_> = wanted.into_iter().map(|file| self.send_large(file, &answer)).collect();
            futures_util::stream::iter(sends).buffer_unordered(AT_A_TIME).try_collect::<()>().await?;
        }
        Ok(trusted)
    }

    /// Does `work`, and tells how far it is.
    async fn with_ticker<T>(&self, work: impl Future<Output = T>) -> T {
        let done = self.beside(work, true).await;
        self.tell(&mut HashMap::new());
        done
    }

    /// Does `work`, and tells when nothing moves; with `is_told`, how far the files are as well.
    async fn beside<T>(&self, work: impl Future<Output = T>, is_told: bool) -> T {
        match select(pin!(work), pin!(self.tick(is_told))).await {
            Either::Left((done, _)) => done,
            Either::Right((never, _)) => match never {},
        }
    }

    async fn tick(&self, is_told: bool) -> std::convert::Infallible {
        let mut told = HashMap::new();
        let (mut moved, mut since, mut told_s) = (self.moved(), Instant::now(), 0);
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if is_told {
                self.tell(&mut told);
            }
            let now = self.moved();
            if now != moved {
                (moved, since, told_s) = (now, Instant::now(), 0);
            }
            let silent = since.elapsed();
            if silent >= QUIET && silent.as_secs() > told_s {
                told_s = silent.as_secs();
                (self.listener)(Event::Waiting { silent, at_most: self.http.most_silence() });
            }
        }
    }

    /// A number that changes as long as anything moves.
    fn moved(&self) -> u64 {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let of_meters = meters.iter().map(|meter| meter.sent.load(Ordering::Relaxed).wrapping_add(meter.done.load(Ordering::Relaxed)));
        of_meters.fold(self.counted.load(Ordering::Relaxed).wrapping_add(self.of_xet.load(Ordering::Relaxed)), u64::wrapping_add)
    }

    fn tell(&self, told: &mut HashMap<String, u64>) {
        let meters: Vec<Arc<Meter>> = self.meters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let done = |meter: &Arc<Meter>| meter.done.load(Ordering::Relaxed).min(meter.bytes);
        let (done_bytes, total_bytes) = (meters.iter().map(done).sum(), self.large_bytes.load(Ordering::Relaxed));
        for meter in &meters {
            let file_done_bytes = done(meter);
            if told.insert(meter.path.clone(), file_done_bytes) != Some(file_done_bytes) {
                let transfer = Transfer { file: &meter.path, file_done_bytes, file_bytes: meter.bytes, done_bytes, total_bytes };
                (self.listener)(Event::Transfer(transfer));
            }
        }
    }

    /// That the commit holds what the folder does.
    async fn verify(&self, planned: &[&Planned], gone: &[String], commit: &str) -> Result<(), HubError> {
        let listing = self.http.list(self.repo, commit, "", true).await?;
        let there = by_path(&listing);
        let damaged = |file: &str, expected: String, found: String| HubError::Damaged {
            repo: self.repo.at(commit),
            file: file.to_owned(),
            expected,
            found,
        };
        for file in planned {
            file.local.check()?;
            match there.get(file.local.path.as_str()) {
                Some(found) if is_same(file, found) => {}
                found => {
                    let found =
                        found.map_or_else(|| "no such file".into(), |found| format!("{} bytes, hash {}", found.size_bytes, found.hash));
                    let expected = format!("{} bytes, hash {}", file.local.stamp.size, file.hashes.sha256);
                    return Err(damaged(&file.local.path, expected, found));
                }
            }
        }
        match gone.iter().find(|path| there.contains_key(path.as_str())) {
            Some(path) => Err(damaged(path, "no such file".into(), "it is still there".into())),
            None => Ok(()),
        }
    }
}
