//! The fake Hub as tests hold it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::access::{Rights, Token};
use super::body::Link;
use super::clock;
use super::faults::Fault;
use super::git;
use super::jobs::JobScript;
use super::objects::Objects;
use super::record::{Journal, RequestRecord};
use super::repo::{Content, Entry, Gated, Repo, RepoKind, Tree, TreeEntry, Words};
use super::server;
use super::state::{self, Hub, State};
use super::wire;

/// How a fake Hub behaves.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// The port on 127.0.0.1; 0 for any.
    pub port: u16,
    /// Every request waits so long before it is looked at.
    pub latency: Duration,
    /// What all answers together may take, and all requests together, in bytes a second.
    pub bytes_per_s: Option<u64>,
    /// Where large objects lie; in a temporary folder if nothing is said.
    pub state: Option<PathBuf>,
    /// Large files are hashed as they come and kept nowhere, so that a measurement does not measure this machine's disk. There is no
    /// multipart then.
    pub discards_uploads: bool,
    /// A JSON line for each request, once it is over.
    pub requests: Option<PathBuf>,
    /// Files from this size on are LFS, whatever their name, bytes.
    pub lfs_from: u64,
    /// LFS uploads from this size on are multipart where the client offers it, bytes.
    pub multipart_from: u64,
    /// A multipart upload's part, bytes.
    pub part: u64,
    /// Who asks again for a multipart upload that has not ended gets addresses of the same one, not of another.
    pub resumes_uploads: bool,
    /// Large files are on another host, on a port of its own, as on the Hub: `127.0.0.2` or `localhost`. With `None` they are
    /// on the Hub's own, where huggingface_hub 2.4 can't download them: it looks for the Hub's headers there.
    pub cdn_host: Option<String>,
    /// Small files are answered by a relative redirect (307) to `/api/resolve-cache/…`.
    pub resolve_cache: bool,
    /// Presigned addresses hold so long.
    pub urls_valid: Duration,
    /// Files a page of a list of files, and repositories a page of a search.
    pub page: usize,
    /// So many requests to the Hub itself (not to its stores) within 10 s, then 429.
    pub requests_per_10_s: Option<u64>,
    /// The Xet store's address; without one there is no Xet.
    pub xet: Option<String>,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            port: 0,
            latency: Duration::ZERO,
            bytes_per_s: None,
            state: None,
            discards_uploads: false,
            requests: None,
            lfs_from: 10 << 20,
            multipart_from: 64 << 20,
            part: 16 << 20,
            resumes_uploads: false,
            cdn_host: Some("127.0.0.2".to_owned()),
            resolve_cache: false,
            urls_valid: Duration::from_secs(3600),
            page: 1000,
            requests_per_10_s: None,
            xet: None,
        }
    }
}

/// A Hub on loopback, on a thread of its own; it stops when dropped.
#[derive(Debug)]
pub struct FakeHub {
    hub: Arc<Hub>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeHub {
    /// One with nothing in it.
    ///
    /// # Panics
    /// When no port or temporary folder is to be had.
    #[must_use]
    pub fn start() -> Self {
        Self::with(HubOptions::default()).expect("starting the fake Hub")
    }

    /// One that behaves as `options` say.
    ///
    /// # Errors
    /// When an address can't be bound, or a file or folder of the options can't be made.
    pub fn with(options: HubOptions) -> io::Result<Self> {
        let main = wire::bind(SocketAddr::from(([127, 0, 0, 1], options.port)))?;
        let endpoint = format!("http://{}", main.local_addr()?);
        let mut listeners = vec![main];
        let (mut cdn, mut cdn_address) = (endpoint.clone(), None);
        if let Some(host) = &options.cdn_host {
            let ip = host.parse().unwrap_or(std::net::IpAddr::from([127, 0, 0, 1]));
            let listener = wire::bind(SocketAddr::new(ip, 0))?;
            let address = listener.local_addr()?;
            cdn = format!("http://{host}:{}", address.port());
            cdn_address = Some(address);
            listeners.push(listener);
        }
        let out = options.requests.as_ref().map(std::fs::File::create).transpose()?;
        let hub = Arc::new(Hub {
            objects: Objects::open(options.state.as_deref())?.into(),
            state: State::default().into(),
            journal: Arc::new(Journal::new(out)),
            down: Arc::new(Link::new(options.bytes_per_s)),
            up: Arc::new(Link::new(options.bytes_per_s)),
            endpoint,
            cdn,
            cdn_address,
            secret: git::sha256(format!("{:?}{}", clock::instant(), clock::unix_s()).as_bytes()),
            options,
        });
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&hub);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let thread = std::thread::Builder::new().name("fake-hub".to_owned()).spawn(move || {
            runtime.block_on(server::serve(shared, listeners, stopped));
            runtime.shutdown_background();
        })?;
        Ok(Self { hub, stop: Some(stop), thread: Some(thread) })
    }

    /// Its address, `http://127.0.0.1:PORT`: what `HF_ENDPOINT` is to be.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.hub.endpoint.clone()
    }

    /// Where presigned addresses of large files lead: the endpoint, or the other host.
    #[must_use]
    pub fn cdn(&self) -> String {
        self.hub.cdn.clone()
    }

    /// Makes a token of `user`'s.
    pub fn token(&self, token: &str, user: &str, rights: Rights) {
        self.hub.state().accounts.tokens.insert(token.to_owned(), Token { user: user.to_owned(), rights });
    }

    /// Makes `user` a member of an organisation.
    pub fn member(&self, org: &str, user: &str) {
        self.hub.state().accounts.orgs.entry(org.to_owned()).or_default().push(user.to_owned());
    }

    /// Makes a repository, `owner/name`, in place of one that has the name.
    pub fn add(&self, kind: RepoKind, id: &str) -> RepoHandle<'_> {
        self.hub.state().create(kind, id, id.split('/').next().unwrap_or_default());
        self.repo(kind, id)
    }

    /// A repository that is there, whoever made it.
    ///
    /// # Panics
    /// When it isn't.
    #[must_use]
    pub fn repo(&self, kind: RepoKind, id: &str) -> RepoHandle<'_> {
        assert!(self.hub.state().repos.contains_key(&(kind, id.to_owned())), "the fake Hub has no {} {id}", kind.word());
        RepoHandle { hub: &self.hub, kind, id: id.to_owned() }
    }

    /// Its owner deletes a repository; nothing happens where there is none.
    pub fn delete(&self, kind: RepoKind, id: &str) {
        self.hub.state().repos.remove(&(kind, id.to_owned()));
    }

    /// Whether there is such a repository.
    #[must_use]
    pub fn has(&self, kind: RepoKind, id: &str) -> bool {
        self.hub.state().repos.contains_key(&(kind, id.to_owned()))
    }

    /// The commit that `revision` names, if repository and revision are there.
    #[must_use]
    pub fn commit_of(&self, kind: RepoKind, id: &str, revision: &str) -> Option<String> {
        Some(self.hub.state().repos.get(&(kind, id.to_owned()))?.find(revision)?.id.clone())
    }

    /// A file's bytes, of a large one too.
    #[must_use]
    pub fn file(&self, kind: RepoKind, id: &str, revision: &str, path: &str) -> Option<Vec<u8>> {
        let entry = self.hub.state().repos.get(&(kind, id.to_owned()))?.find(revision)?.tree.get(path)?.clone();
        match entry.content {
            Content::Small(bytes) => Some(bytes.to_vec()),
            Content::Lfs(sha256) => {
                let path = self.hub.objects().get(&sha256)?.path.clone();
                std::fs::read(path).ok()
            }
        }
    }

    /// All files of a revision, by path; empty where there is no such repository or revision.
    #[must_use]
    pub fn tree(&self, kind: RepoKind, id: &str, revision: &str) -> Vec<TreeEntry> {
        let state = self.hub.state();
        let commit = state.repos.get(&(kind, id.to_owned())).and_then(|repo| repo.find(revision));
        let entry = |(path, entry): (&String, &Entry)| TreeEntry {
            path: path.clone(),
            size: entry.size,
            oid: entry.oid.clone(),
            sha256: entry.sha256().map(str::to_owned),
        };
        commit.map(|commit| commit.tree.iter().map(entry).collect()).unwrap_or_default()
    }

    /// Lets something go wrong from now on.
    pub fn fault(&self, fault: Fault) {
        self.hub.state().faults.add(fault);
    }

    /// Lets nothing go wrong any more.
    pub fn clear_faults(&self) {
        self.hub.state().faults.clear();
    }

    /// What was asked so far, the oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.hub.journal.snapshot()
    }

    /// Forgets what was asked, and sets the counters to zero.
    pub fn forget_requests(&self) {
        self.hub.journal.forget();
    }

    /// Bytes of requests' bodies that came.
    #[must_use]
    pub fn bytes_received(&self) -> u64 {
        self.hub.journal.received.load(Ordering::SeqCst)
    }

    /// Bytes of answers' bodies that went out.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.hub.journal.sent.load(Ordering::SeqCst)
    }

    /// All bytes that came and went over connections, heads and all.
    #[must_use]
    pub fn wire_bytes(&self) -> (u64, u64) {
        (self.hub.journal.wire_in.load(Ordering::SeqCst), self.hub.journal.wire_out.load(Ordering::SeqCst))
    }

    /// Says what becomes of the next job; jobs that nothing was said of print their command and complete at once.
    pub fn next_job(&self, script: JobScript) {
        self.hub.state().jobs.scripts.push_back(script);
    }

    /// What jobs were asked for, as the requests' JSON.
    #[must_use]
    pub fn jobs(&self) -> Vec<serde_json::Value> {
        self.hub.state().jobs.specs()
    }

    /// Answers device logins: by `Some(token)` they are let in, by `None` refused; undecided ones stay pending.
    pub fn decide_logins(&self, token: Option<&str>) {
        self.hub.state().devices.decide(token);
    }

    /// Lets every device login in as `token`'s user, as soon as it begins.
    pub fn always_decide_logins(&self, token: &str) {
        self.hub.state().devices.always = Some(token.to_owned());
    }

    /// Loads repositories from folders `models/owner/name`, `datasets/owner/name` and `spaces/owner/name` under `root`;
    /// large files stay where they are.
    ///
    /// # Errors
    /// When something can't be read.
    pub fn load(&self, root: &Path) -> io::Result<()> {
        super::load::load(&self.hub, root)
    }

    /// Takes a large object out of the store, as if it had never been uploaded.
    pub fn forget_object(&self, sha256: &str) -> bool {
        self.hub.objects().forget(sha256)
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Nobody listens any more where the server has ended by itself.
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A repository of a fake Hub.
#[derive(Clone, Debug)]
pub struct RepoHandle<'a> {
    hub: &'a Hub,
    kind: RepoKind,
    id: String,
}

impl RepoHandle<'_> {
    fn change<T>(&self, change: impl FnOnce(&mut Repo) -> T) -> T {
        let mut state = self.hub.state();
        let repo = state.repos.get_mut(&(self.kind, self.id.clone()));
        change(repo.unwrap_or_else(|| panic!("the fake Hub has no {} {} any more", self.kind.word(), self.id)))
    }

    /// Puts files on `main` in one commit, on top of what is there, and says its id.
    pub fn commit(&self, files: &[(&str, &[u8])]) -> String {
        self.commit_on("main", files, &[])
    }

    /// Puts files on a branch and takes others away, in one commit; a new branch begins at `main`.
    ///
    /// # Panics
    /// When the store can't be written.
    pub fn commit_on(&self, branch: &str, files: &[(&str, &[u8])], gone: &[&str]) -> String {
        let old = self.change(|repo| repo.find(branch).or_else(|| repo.find("main")).map(|commit| commit.tree.clone()).unwrap_or_default());
        let mut tree = old;
        for (path, content) in files {
            let is_lfs = content.len() as u64 >= self.hub.options.lfs_from || state::is_lfs_by_rule(&tree, path);
            let entry = if is_lfs && !content.is_empty() {
                let sha256 = self.hub.objects().put(content).expect("writing a large object");
                Entry::lfs(&sha256, content.len() as u64)
            } else {
                Entry::small(Bytes::copy_from_slice(content))
            };
            tree.insert((*path).to_owned(), entry);
        }
        for path in gone {
            tree.remove(*path);
        }
        self.put(branch, tree, false)
    }

    /// Puts a large file of `len` zeros on `main`, which takes no room on disk.
    ///
    /// # Panics
    /// When the store can't be written.
    pub fn commit_zeros(&self, path: &str, len: u64) -> String {
        let sha256 = self.hub.objects().put_zeros(len).expect("writing a large object");
        self.with_entry(path, Entry::lfs(&sha256, len))
    }

    /// Puts a file that lies on disk, and stays there, on `main` as a large one.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn commit_file(&self, path: &str, file: &Path) -> io::Result<String> {
        let (sha256, len) = self.hub.objects().lend(file)?;
        Ok(self.with_entry(path, Entry::lfs(&sha256, len)))
    }

    fn with_entry(&self, path: &str, entry: Entry) -> String {
        let mut tree = self.change(|repo| repo.find("main").map(|commit| commit.tree.clone()).unwrap_or_default());
        tree.insert(path.to_owned(), entry);
        self.put("main", tree, false)
    }

    /// Moves a branch to a commit that holds these files alone and has nothing to do with what was there.
    pub fn force_push(&self, branch: &str, files: &[(&str, &[u8])]) -> String {
        let small = |(path, content): &(&str, &[u8])| ((*path).to_owned(), Entry::small(Bytes::copy_from_slice(content)));
        self.put(branch, files.iter().map(small).collect(), true)
    }

    fn put(&self, branch: &str, tree: Tree, is_forced: bool) -> String {
        let title = if is_forced { "Force-pushed" } else { "Upload files" };
        let author = self.id.split('/').next().unwrap_or_default();
        self.change(|repo| repo.commit(branch, tree, &Words { title, author, date_s: clock::unix_s(), ..Words::default() }, is_forced))
    }

    /// Makes or moves a branch to a revision.
    ///
    /// # Panics
    /// When there is no such revision.
    pub fn branch(&self, name: &str, revision: &str) -> &Self {
        self.change(|repo| {
            let id = repo.find(revision).expect("the revision of a branch").id.clone();
            repo.branches.insert(name.to_owned(), id);
        });
        self
    }

    /// Makes or moves a tag to a revision.
    ///
    /// # Panics
    /// When there is no such revision.
    pub fn tag(&self, name: &str, revision: &str) -> &Self {
        self.change(|repo| {
            let id = repo.find(revision).expect("the revision of a tag").id.clone();
            repo.tags.insert(name.to_owned(), id);
        });
        self
    }

    /// Only for its owner, or not.
    pub fn private(&self, private: bool) -> &Self {
        self.change(|repo| repo.private = private);
        self
    }

    /// Only for whom it is granted to, or not.
    pub fn gated(&self, gated: Gated) -> &Self {
        self.change(|repo| repo.gated = gated);
        self
    }

    /// Lets a user read it although it is gated.
    pub fn grant(&self, user: &str) -> &Self {
        self.change(|repo| repo.granted.insert(user.to_owned()));
        self
    }

    /// How often it was liked and downloaded.
    pub fn popular(&self, likes: u64, downloads: u64) -> &Self {
        self.change(|repo| (repo.likes, repo.downloads) = (likes, downloads));
        self
    }

    /// Lists of its files hold so many more, made up while they are listed: `made-up/00000000.bin`, ….
    pub fn made_up(&self, files: u64) -> &Self {
        self.change(|repo| repo.made_up = files);
        self
    }

    /// Requests for an older name are redirected here.
    pub fn renamed_from(&self, old: &str) -> &Self {
        self.hub.state().moved.insert((self.kind, old.to_owned()), self.id.clone());
        self
    }
}
