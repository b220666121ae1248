//! The cache: copies are verified as links are, a cache that may only be read serves, and what kills left goes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{CONFIG, MODEL, client, dataset, fake, model, named, names, noise, options, start, weights};
use sinew_hub::{Download, Event, Hub, HubError, HubOptions};
use sinew_testkit::hub::{FakeHub, Fault, Harm, HubOptions as FakeOptions, RepoKind as FakeKind};
use tempfile::TempDir;

/// Makes the snapshot's links what huggingface_hub makes where there are none: blobs that were moved, or copies of them.
fn unlink(snapshot: &Path, may_move: bool) {
    for name in names(snapshot) {
        let path = snapshot.join(name);
        let blob = path.canonicalize().unwrap();
        fs::remove_file(&path).unwrap();
        if may_move {
            fs::rename(blob, path).unwrap();
        } else {
            fs::copy(blob, path).unwrap();
        }
    }
}

fn offline(fake: &FakeHub, cache: &TempDir) -> Hub {
    Hub::new(HubOptions { offline: true, ..options(fake, cache) })
}

#[test]
fn copies_beside_their_blobs_are_verified_without_the_hub() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let folder = client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap().folder;
    unlink(&folder, false);
    let hub = offline(&fake, &cache);
    let mut read = 0;
    let verified = hub.verify_cache(None, |bytes| read += bytes).unwrap();
    assert!(verified.flaws.is_empty() && verified.unverified.is_empty(), "{verified:?}");
    assert_eq!(read, hub.list_cache().unwrap()[0].size_bytes);
    assert!(read > 600_000, "copies are counted and read: {read}");
    // Offline a copy that was damaged is one that nobody knows; the Hub says what it should be.
    fs::write(folder.join("config.json"), br#"{"type": "ACT"}"#).unwrap();
    let verified = hub.verify_cache(None, |_| {}).unwrap();
    assert!(verified.flaws.is_empty(), "{verified:?}");
    assert_eq!(verified.unverified.iter().map(|it| it.path.clone()).collect::<Vec<_>>(), [folder.join("config.json")]);
    assert!(verified.unverified[0].what.contains("HF_HUB_OFFLINE"), "{verified:?}");
    let verified = client(&fake, &cache).verify_cache(None, |_| {}).unwrap();
    assert_eq!(verified.flaws.iter().map(|it| it.path.clone()).collect::<Vec<_>>(), [folder.join("config.json")]);
    assert!(verified.unverified.is_empty() && verified.flaws[0].what.contains("the Hub has"), "{verified:?}");
}

#[test]
fn blobs_that_were_moved_into_the_snapshot_are_as_the_hub_says() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    unlink(&folder, true);
    assert!(hub.list_cache().unwrap()[0].size_bytes > 300_000);
    let verified = hub.verify_cache(None, |_| {}).unwrap();
    assert!(verified.flaws.is_empty() && verified.unverified.is_empty(), "{verified:?}");
    let verified = offline(&fake, &cache).verify_cache(None, |_| {}).unwrap();
    assert!(verified.flaws.is_empty() && verified.unverified.len() == 5, "{verified:?}");
    // Damage to a large file, to a small one, a file of nobody, and a pipe.
    let mut damaged = weights();
    damaged[299_999] ^= 1;
    fs::write(folder.join("model.safetensors"), damaged).unwrap();
    fs::write(folder.join("config.json"), &CONFIG[1..]).unwrap();
    fs::write(folder.join("mine.json"), "{}").unwrap();
    make_pipe(&folder.join("pipe"));
    let mut flaws: Vec<PathBuf> = hub.verify_cache(None, |_| {}).unwrap().flaws.into_iter().map(|flaw| flaw.path).collect();
    flaws.sort();
    let expected = ["config.json", "mine.json", "model.safetensors", "pipe"];
    assert_eq!(flaws, expected.map(|name| folder.join(name)));
    // Another repository's Hub that is gone is asked once, and nothing is taken for whole.
    let gone = Hub::new(HubOptions { endpoint: "http://127.0.0.1:1".into(), retries: 0, ..options(&fake, &cache) });
    let verified = gone.verify_cache(None, |_| {}).unwrap();
    assert!(verified.unverified.iter().all(|it| it.what.contains("can't be reached")) && verified.unverified.len() == 6, "{verified:?}");
}

fn make_pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn what_is_gone_with_a_commit_counts_where_it_was_a_copy() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    unlink(&hub.fetch(&named(MODEL), &|_| {}).unwrap().folder, true);
    fake.repo(FakeKind::Model, MODEL).commit(&[("model.safetensors", &noise(300_000, 9))]);
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
    assert!(hub.plan_prune(None).unwrap().size_bytes > 300_000);
}

#[test]
fn a_revision_that_names_no_commit_leads_nowhere() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    for (at, evil) in ["/", "../../..", "", "main"].into_iter().enumerate() {
        fs::write(folder.join(format!("../../refs/evil-{at}")), evil).unwrap();
    }
    assert_eq!(hub.verify_cache(None, |_| {}).unwrap().flaws.len(), 4);
    assert!(hub.plan_prune(None).unwrap().paths.is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn what_kills_left_is_no_file_and_goes() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    let refs = folder.join("../../refs");
    let left =
        [folder.join(format!(".{}.new", "a".repeat(40))), folder.join("tokenizer/.tokenizer.json-17-3.new"), refs.join(".main-17-0.new")];
    std::os::unix::fs::symlink("../../blobs/x", &left[0]).unwrap();
    fs::write(&left[1], "half").unwrap();
    fs::write(&left[2], "0123").unwrap();
    assert_eq!(hub.list_cache().unwrap()[0].snapshots.len(), 1);
    let verified = hub.verify_cache(None, |_| {}).unwrap();
    assert!(verified.flaws.is_empty() && verified.unverified.is_empty(), "{verified:?}");
    assert_eq!(offline(&fake, &cache).download(&model(), &Download::default(), &|_| {}).unwrap().files, 5);
    // Young ones may be on their way in another process.
    assert!(hub.plan_prune(None).unwrap().paths.is_empty());
    for path in &left {
        assert!(std::process::Command::new("touch").args(["-h", "-d", "2 hours ago"]).arg(path).status().unwrap().success());
    }
    let plan = hub.plan_prune(None).unwrap();
    assert_eq!(plan.paths.len(), 3, "{plan:?}");
    hub.prune_cache(&plan).unwrap();
    assert!(left.iter().all(|path| path.symlink_metadata().is_err()));
    assert_eq!(names(&folder).len(), 5);
}

const CHILD: &str = "SINEW_HUB_READER";

/// Not a test of its own: somebody who may read the cache of [`a_cache_that_may_only_be_read_serves`] and not write there.
#[test]
fn child_that_reads() {
    let Ok(words) = std::env::var(CHILD) else { return };
    let (endpoint, cache) = words.split_once(' ').unwrap();
    let cache: PathBuf = cache.into();
    assert!(fs::write(cache.join("probe"), "").is_err() && fs::write(cache.join("models--someone--act_push/refs/probe"), "").is_err());
    let options = HubOptions { endpoint: endpoint.into(), cache_dir: cache, token: None, retries: 0, ..HubOptions::from_env() };
    let hub = Hub::new(options.clone());
    let fetched = hub.fetch(&named(MODEL), &|_| {}).unwrap();
    assert_eq!(fs::read(fetched.folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(hub.fetch(&named(&format!("{MODEL}@v2")), &|_| {}).unwrap().folder, fetched.folder);
    hub.download(&model(), &Download { include: vec!["*.json".into()], ..Download::default() }, &|_| {}).unwrap();
    assert!(hub.fetch_file(&model(), "config.json").unwrap().is_some());
    let opened = hub.dataset(&dataset(), Arc::new(|_| {})).unwrap();
    assert!(opened.fetch("meta/info.json").unwrap());
    Hub::new(HubOptions { offline: true, ..options }).fetch(&named(MODEL), &|_| {}).unwrap();
    // What is not there can't come, and that is said.
    let error = hub.download(&model(), &Download::default(), &|_| {}).unwrap_err();
    assert!(matches!(&error, HubError::Io { .. }), "{error}");
    println!("all was read");
}

#[test]
#[cfg(unix)]
#[allow(clippy::print_stdout, reason = "a child says that it came to its end")]
fn a_cache_that_may_only_be_read_serves() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.add(FakeKind::Dataset, common::DATASET).commit(&[("meta/info.json", b"{}")]);
    let hub = client(&fake, &cache);
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
    assert!(hub.dataset(&dataset(), Arc::new(|_| {})).unwrap().fetch("meta/info.json").unwrap());
    // A revision that the cache has no name for yet.
    fake.repo(FakeKind::Model, MODEL).tag("v2", "main");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let all = |writable: bool| {
        mode(cache.path(), 0o755);
        for entry in walk(&cache.path().join("hub")) {
            mode(&entry, if writable { 0o755 } else { 0o555 });
        }
    };
    all(false);
    // Whoever may do everything becomes somebody who may not; he can't reach this program where it lies.
    let program = cache.path().join("child");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    mode(&program, 0o755);
    let mut command = std::process::Command::new(&program);
    command.args(["--exact", "child_that_reads", "--nocapture"]).current_dir("/").env("HOME", "/nonexistent");
    command.env(CHILD, format!("{} {}", fake.endpoint(), cache.path().join("hub").display()));
    if fs::metadata(cache.path()).unwrap().uid() == 0 {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    all(true);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("all was read"), "{text}");
}

/// A folder and all folders below.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            folders.extend(walk(&entry.path()));
        }
    }
    folders
}

/// Keeps how much of how much is done, each time that it is told.
fn counted() -> (impl Fn(Event<'_>) + Send + Sync + 'static, Arc<Mutex<Vec<(u64, u64)>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    let heard = move |event: Event<'_>| {
        if let Event::Transfer(transfer) = event {
            kept.lock().unwrap().push((transfer.done_bytes, transfer.total_bytes));
        }
    };
    (heard, log)
}

#[test]
fn progress_counts_what_comes_now() {
    let (fake, cache) = (start(FakeOptions::default()), TempDir::new().unwrap());
    fake.fault(Fault::on("/cdn/*", Harm::CutAnswer { at: Some(200_000), reset: false }).times(1));
    let once = Hub::new(HubOptions { retries: 0, ..options(&fake, &cache) });
    let (heard, log) = counted();
    // It is cut, and gone on with; what is told is less for a second client, who finds the rest.
    fake.fault(Fault::on("/cdn/*", Harm::Status { status: 404, code: None, message: None, retry_after_s: None }).skip(1));
    assert!(once.fetch(&named(MODEL), &|_| {}).is_err());
    fake.clear_faults();
    let blobs = cache.path().join("hub/models--someone--act_push/blobs");
    let begun = names(&blobs).iter().find(|name| name.ends_with(".incomplete")).map(|name| fs::metadata(blobs.join(name)).unwrap().len());
    let begun = begun.unwrap();
    assert!(begun > 0, "something was begun");
    client(&fake, &cache).fetch(&named(MODEL), &heard).unwrap();
    let log = log.lock().unwrap();
    let (first, last) = (log.first().unwrap(), log.last().unwrap());
    assert!(first.0 < 100_000, "{first:?}");
    assert!(last.0 == last.1 && last.1 <= 300_000 - begun + 200, "{last:?}, {begun} were there");
    // A new commit with the same large file: only its name is made.
    fake.repo(FakeKind::Model, MODEL).commit(&[("README.md", b"another")]);
    let (heard, log) = counted();
    client(&fake, &cache).fetch(&named(MODEL), &heard).unwrap();
    assert!(log.lock().unwrap().iter().all(|(done, total)| done <= total && *total <= 7), "the others are here");
}

#[test]
fn a_download_to_a_folder_leaves_nothing_of_its_own() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let out = cache.path().join("out");
    let way = out.join(".sinew-download");
    fs::create_dir_all(&way).unwrap();
    let old = fs::File::create(way.join(format!("{}.incomplete", "a".repeat(64)))).unwrap();
    old.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(100_000)).unwrap();
    fs::write(way.join(format!("{}.lock", "a".repeat(64))), "").unwrap();
    let what = Download { include: vec!["*.json".into()], folder: Some(out.clone()), ..Download::default() };
    client(&fake, &cache).download(&model(), &what, &|_| {}).unwrap();
    assert!(!way.exists(), "{:?}", names(&way));
    // Somebody else is on the way, or was a moment ago.
    fs::create_dir_all(&way).unwrap();
    let lock = fs::File::create(way.join(format!("{}.lock", "b".repeat(64)))).unwrap();
    lock.lock().unwrap();
    fs::write(way.join(format!("{}.incomplete", "b".repeat(64))), "x").unwrap();
    fs::remove_file(out.join("config.json")).unwrap();
    client(&fake, &cache).download(&model(), &what, &|_| {}).unwrap();
    assert_eq!(names(&way).len(), 2);
}

#[test]
#[cfg(target_os = "linux")]
fn a_place_that_is_no_disk_is_not_a_full_one() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let what = Download { folder: Some("/proc/sinew-download".into()), ..Download::default() };
    let error = client(&fake, &cache).download(&model(), &what, &|_| {}).unwrap_err();
    assert!(matches!(&error, HubError::Io { .. }) && error.to_string().contains("/proc/sinew-download"), "{error}");
    let into_proc = Hub::new(HubOptions { cache_dir: "/proc/hub".into(), ..options(&fake, &cache) });
    let error = into_proc.fetch(&named(MODEL), &|_| {}).unwrap_err();
    assert!(matches!(&error, HubError::Io { .. }), "{error}");
}
