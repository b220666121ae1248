//! A dataset goes up while it is recorded: files that are closed are sent as they come, and one commit at the end makes
//! all of them visible at once.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::journal::Journal;
use super::notes::{Mode, Stamp, Target};
use super::plan::{self, Local, Planned};
use super::{Created, Upload, UploadOptions, Uploaded, Way, look_up};
use crate::cache::path_fault;
use crate::hub::Listener;
use crate::{Hub, HubError, HubRepo, RepoKind};

/// How long to wait after a failure, the first time and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// How long a recording may wait for the Hub before it begins. It is asked again later.
const LOOK: Duration = Duration::from_secs(5);
const UNHURRIED: Duration = Duration::from_secs(600);

/// How far publishing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishState {
    /// Closed files that have not gone up yet.
    pub waiting: usize,
    /// Files that the Hub has, without a commit that shows them.
    pub sent: usize,
    pub bytes_sent: u64,
    /// Why nothing goes up at the moment. It is tried again.
    pub trouble: Option<String>,
}

/// Sends a dataset's files as they are closed. What is offered is also noted in the folder, so that after a kill, or
/// days without a network, [`Hub::finish`] or the next `Publisher` goes on.
pub struct Publisher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    hub: Hub,
    folder: PathBuf,
    repo: HubRepo,
    options: UploadOptions,
    /// Whether nothing was being published from the folder to there before.
    is_fresh: bool,
    /// Whether it was seen what the repository holds.
    has_looked: AtomicBool,
    /// Whether the repository was there, or was made.
    is_there: AtomicBool,
    journal: Journal,
    queue: Mutex<Queue>,
    woken: Condvar,
    bytes_sent: AtomicU64,
    /// Nobody waits for what is being sent.
    is_abandoned: AtomicBool,
}

#[derive(Default)]
struct Queue {
    paths: VecDeque<String>,
    is_ending: bool,
    state: PublishState,
}

impl Publisher {
    /// Begins to publish the dataset in `folder`, which need not hold anything yet. Of `options` it is the privacy that
    /// counts, and whether another dataset may be replaced. Without a network it works all the same; the repository is
    /// made when there is one.
    ///
    /// # Errors
    /// When there is no token, the folder is being uploaded by someone else, or no thread is to be had; where the Hub can be reached
    /// also when it refuses the token, or the repository holds another dataset or is public and must not be.
    pub fn open(hub: &Hub, folder: &Path, repo: &HubRepo, options: UploadOptions) -> Result<Self, HubError> {
        hub.needs_token(format!("publishing {} to {repo}", folder.display()))?;
        plan::check_options(hub.options(), repo, &options)?;
        let journal = Journal::open(folder)?;
        let is_fresh = !journal.aim(&Target::new(&hub.options().endpoint, repo, options.private, true));
        let queue = Queue { paths: journal.offered().into(), ..Queue::default() };
        let shared = Arc::new(Shared {
            hub: hub.clone(),
            folder: folder.to_owned(),
            repo: repo.clone(),
            options,
            is_fresh,
            has_looked: AtomicBool::new(false),
            is_there: AtomicBool::new(false),
            journal,
            queue: Mutex::new(queue),
            woken: Condvar::new(),
            bytes_sent: AtomicU64::new(0),
            is_abandoned: AtomicBool::new(false),
        });
        match shared.look(LOOK, false) {
            Err(error @ (HubError::Refused { .. } | HubError::Unusable { .. } | HubError::NoRevision { .. } | HubError::Client { .. })) => {
                shared.withdraw();
                return Err(error);
            }
            // Whatever else it is, such as a network that wants a login first, may be over before the recording is.
            Err(error) => tracing::debug!(%error, "it is looked at later what the repository holds"),
            Ok(()) => {}
        }
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("publish".into()).spawn(move || of_thread.run());
        let thread = thread.map_err(HubError::io(format!("beginning to publish {}", folder.display())))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that a file of the folder, by its path in there, is closed and will not change again. Never waits.
    pub fn offer(&self, path: &str) {
        self.shared.queue().paths.push_back(path.to_owned());
        self.shared.woken.notify_all();
    }

    pub fn state(&self) -> PublishState {
        let queue = self.shared.queue();
        let bytes_sent = self.shared.bytes_sent.load(Ordering::Relaxed);
        PublishState { waiting: queue.paths.len(), bytes_sent, ..queue.state.clone() }
    }

    /// Sends what is left, and makes all of it visible by one commit.
    ///
    /// # Errors
    /// As [`Hub::upload`]; then [`Hub::finish`] does the same later.
    pub fn finish(mut self, options: &UploadOptions, listener: &Listener) -> Result<Uploaded, HubError> {
        // What is going well goes on; what hangs does not hold up the end.
        let is_in_trouble = self.shared.queue().state.trouble.is_some();
        self.stop(is_in_trouble);
        let shared = &self.shared;
        shared.hub.needs_network(format!("publishing {}", shared.folder.display()))?;
        let uploaded = shared.hub.upload_with(&shared.folder, &shared.repo, options, listener, &shared.journal, Way::AtOnce)?;
        Ok(Uploaded { bytes_sent: uploaded.bytes_sent + shared.bytes_sent.load(Ordering::Relaxed), ..uploaded })
    }
}

impl Publisher {
    /// Leaves no trace in the folder, of which nothing is to be published after all. What an earlier one began stays.
    pub fn withdraw(mut self) {
        self.stop(true);
        self.shared.withdraw();
    }

    fn stop(&mut self, now: bool) {
        self.shared.is_abandoned.fetch_or(now, Ordering::Relaxed);
        self.shared.queue().is_ending = true;
        self.shared.woken.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there costs what it had not sent, which is sent later.
            drop(thread.join());
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop(true);
    }
}

impl Hub {
    /// Finishes what a [`Publisher`] began in `folder`: sends the rest and commits all of it. Where that was done, says so once more.
    ///
    /// # Errors
    /// When nothing was begun there, it was for another Hub, or it was done and something has changed since; else as
    /// [`upload`](Self::upload).
    pub fn finish(&self, folder: &Path, options: UploadOptions, listener: &Listener) -> Result<Uploaded, HubError> {
        let doing = || format!("finishing to publish {}", folder.display());
        self.needs_network(doing())?;
        let refuse = |what: String| HubError::Unusable { doing: doing(), what };
        if !folder.is_dir() {
            return Err(refuse("there is no such folder".into()));
        }
        let Some((target, done, repo)) =
            Journal::published_in(folder)?.and_then(|(target, done)| Some((target.clone(), done, target.repo()?)))
        else {
            return Err(refuse("nothing was begun to be published from there; `sinew hub upload` brings a folder to the Hub".into()));
        };
        if target.endpoint != self.options().endpoint {
            return Err(refuse(format!("it was begun for {}, and HF_ENDPOINT is {}", target.endpoint, self.options().endpoint)));
        }
        plan::check_options(self.options(), &repo, &options)?;
        let journal = Journal::open(folder)?;
        let way = if done.is_some() { Way::Look } else { Way::AtOnce };
        journal.aim(&target);
        let outcome = self.upload_with(folder, &repo, &options, listener, &journal, way);
        if outcome.is_err() && way == Way::Look {
            // It stays done.
            journal.withdraw();
        }
        outcome
    }

    /// Where `folder` is being published to, if it is.
    pub fn published_to(folder: &Path) -> Option<HubRepo> {
        Journal::published_in(folder).ok().flatten().filter(|(_, done)| done.is_none())?.0.repo()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        if let Some(first) = self.hub.options().on_thread_start {
            first();
        }
        let mut pause = PAUSES.0;
        loop {
            let mut queue = self.queue();
            // What the repository holds is to be known as early as can be.
            while self.has_looked.load(Ordering::Relaxed) && queue.paths.is_empty() && !queue.is_ending {
                queue = self.woken.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            // The end sends what is left with all the rest.
            if queue.is_ending {
                return;
            }
            let paths: Vec<String> = queue.paths.iter().cloned().collect();
            drop(queue);
            paths.iter().for_each(|path| self.journal.note_offer(path));
            match self.look(UNHURRIED, !paths.is_empty()).and_then(|()| self.send(&paths)) {
                Ok(()) => {
                    let mut queue = self.queue();
                    queue.paths.drain(..paths.len());
                    queue.state.sent += paths.len();
                    queue.state.trouble = None;
                    pause = PAUSES.0;
                }
                Err(error) => {
                    tracing::debug!(%error, ?pause, "publishing waits");
                    let mut queue = self.queue();
                    queue.state.trouble = Some(error.to_string());
                    let is_waiting = |queue: &mut Queue| !queue.is_ending;
                    drop(self.woken.wait_timeout_while(queue, pause, is_waiting));
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    fn withdraw(&self) {
        if self.is_fresh {
            self.journal.withdraw();
        }
    }

    /// Sees what the branch is at, so that what others do from now on is found out, and that it holds no other dataset. Asks
    /// until it knows; `make`s the repository where there is none.
    fn look(&self, at_most: Duration, make: bool) -> Result<(), HubError> {
        if self.has_looked.load(Ordering::Relaxed) && (!make || self.is_there.load(Ordering::Relaxed)) {
            return Ok(());
        }
        let doing = || format!("publishing {}", self.folder.display());
        self.hub.needs_network(doing())?;
        let silent: &Listener = &|_| {};
        let http = self.hub.http()?;
        let upload = Upload::new(http, &self.repo, &self.journal, silent);
        let work = async {
            let Some(head) = look_up(http, &self.repo, &self.journal).await? else { return Ok(None) };
            upload.may_write().await?;
            let before = http.list(&self.repo, &head, "", true).await?;
            Ok::<_, HubError>(Some((head, before)))
        };
        let found = self.hub.wait(async { tokio::time::timeout(at_most, work).await })?;
        let silence = |_| HubError::Broken {
            doing: doing(),
            host: self.hub.options().endpoint.clone(),
            why: format!("nothing was known after {} s", at_most.as_secs()),
        };
        match found.map_err(silence)?? {
            Some((head, before)) => {
                self.is_there.store(true, Ordering::Relaxed);
                if self.repo.kind() == RepoKind::Dataset {
                    self.hub.check_dataset(&upload, &self.folder, &self.options, &before, &head)?;
                }
                // The end refuses it, with what to do; the recording is worth having all the same.
                if let Err(error) = self.hub.wait(upload.check_head(&self.options, &head))? {
                    tracing::warn!("{error}");
                }
            }
            None if make => {
                let (head, created) = self.hub.make(&self.repo, &self.journal)?;
                if created == Created::Before {
                    // Somebody was faster.
                    return self.look(at_most, false);
                }
                upload.begin_in_new(&head);
                self.is_there.store(true, Ordering::Relaxed);
            }
            None => self.hub.may_make(&self.repo)?,
        }
        self.has_looked.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn send(&self, paths: &[String]) -> Result<(), HubError> {
        let mut files = Vec::new();
        for path in paths {
            let refuse = |what: &str| HubError::Unusable {
                doing: format!("publishing {path:?} of {}", self.folder.display()),
                what: what.to_owned(),
            };
            if let Some(fault) = path_fault(path) {
                return Err(refuse(fault));
            }
            let file = self.folder.join(path);
            // One that is gone again, such as an episode that was taken back, need not be sent.
            let Ok(found) = std::fs::symlink_metadata(&file) else { continue };
            if !found.is_file() {
                return Err(refuse("expected a file"));
            }
            files.push(Local { path: path.clone(), file, stamp: Stamp::of(&found) });
        }
        let planned = plan::hash(&self.hub, files, &self.journal, &|_, _, _, _| {})?;
        let silent: &Listener = &|_| {};
        let upload = Upload::new(self.hub.http()?, &self.repo, &self.journal, silent);
        let work = async {
            let all: Vec<&Planned> = planned.iter().collect();
            let modes = upload.modes(&all, None).await?;
            let large: Vec<_> = all.iter().zip(&modes).filter(|(_, mode)| **mode == Mode::Large).map(|(file, _)| *file).collect();
            upload.send(&large).await.map(drop)
        };
        let outcome = self.hub.wait(async {
            match select(pin!(work), pin!(self.abandoned())).await {
                Either::Left((outcome, _)) => outcome,
                Either::Right(((), _)) => Ok(()),
            }
        });
        self.bytes_sent.fetch_add(upload.bytes_sent(), Ordering::Relaxed);
        outcome?
    }

    async fn abandoned(&self) {
        while !self.is_abandoned.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
