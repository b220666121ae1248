//! The cache: copies are verified as links are, a cache that may only be read serves, and what kills left goes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{CONFIG, MODEL, client, dataset, fake, model, named, names, noise, options, start, weights};
use sinew_hub::{Download, Event, Hub, HubError, HubOptions, HubRepo, Pruned, RepoKind};
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
    let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    unlink(&folder, true);
    make_old(&folder);
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

/// A folder of the cache that is a link leads to what is no cache.
#[test]
#[cfg(target_os = "linux")]
fn nothing_behind_a_link_is_removed() {
    use std::os::unix::fs::symlink;
    let (fake, cache, elsewhere) = (fake(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let root = hub.options().cache_dir.clone();
    let (photos, blobs, repo) = (elsewhere.path().join("v/photos"), elsewhere.path().join("b"), elsewhere.path().join("r"));
    for folder in [&photos, &blobs, &repo.join("snapshots/holiday")] {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("a".repeat(64)), "mine").unwrap();
    }
    for name in ["models--bob--snapshots", "models--bob--blobs"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    symlink(elsewhere.path().join("v"), root.join("models--bob--snapshots/snapshots")).unwrap();
    symlink(&blobs, root.join("models--bob--blobs/blobs")).unwrap();
    symlink(&repo, root.join("models--bob--repo")).unwrap();
    for folder in [elsewhere.path(), &root] {
        let command = "find \"$0\" -exec touch -h -d '3 days ago' {} +";
        assert!(std::process::Command::new("sh").args(["-c", command]).arg(folder).status().unwrap().success());
    }
    let plan = hub.plan_prune(None).unwrap();
    assert!(plan.paths.is_empty() && plan.kept.len() == 3 && plan.kept.iter().all(|kept| kept.what.contains("a link")), "{plan:?}");
    // A link that comes between the plan and its deed.
    let late = Pruned { paths: vec![root.join("models--bob--snapshots/snapshots/photos")], ..Pruned::default() };
    assert!(hub.prune_cache(&late).unwrap_err().to_string().contains("a link"));
    assert!(hub.prune_cache(&Pruned { paths: vec![root.join("models--bob--gone/blobs/x")], ..Pruned::default() }).is_ok());
    // Asked for by name, the link goes and nothing behind it.
    let named = HubRepo::parse(RepoKind::Model, "bob/repo").unwrap();
    hub.prune_cache(&hub.plan_prune(Some(&named)).unwrap()).unwrap();
    assert!(root.join("models--bob--repo").symlink_metadata().is_err());
    for folder in [&photos, &blobs, &repo.join("snapshots/holiday")] {
        assert_eq!(fs::read_to_string(folder.join("a".repeat(64))).unwrap(), "mine", "{}", folder.display());
    }
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
    let told = error.to_string();
    assert!(told.contains("may only be read") || told.contains("belongs to the user "), "{told}");
    assert!(told.ends_with("; set HF_HOME to a folder of your own"), "{told}");
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

/// Lets everything below a folder, and the folder, be written two hours ago.
fn make_old(folder: &Path) {
    let found = std::process::Command::new("find").arg(folder).args(["-exec", "touch", "-h", "-d", "2 hours ago", "{}", "+"]).status();
    assert!(found.unwrap().success());
}

#[test]
#[cfg(unix)]
fn a_download_that_is_running_loses_nothing() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    // Its small files are there, the large one does not come to its end; no revision means the snapshot yet.
    fake.fault(Fault::on("/cdn/*", Harm::CutAnswer { at: Some(100_000), reset: false }).times(1));
    fake.fault(Fault::on("/cdn/*", Harm::Status { status: 404, code: None, message: None, retry_after_s: None }).skip(1));
    let hub = Hub::new(HubOptions { retries: 0, ..options(&fake, &cache) });
    assert!(hub.fetch(&named(MODEL), &|_| {}).is_err());
    let repo = cache.path().join("hub/models--someone--act_push");
    assert!(names(&repo.join("snapshots")).len() > 1 && names(&repo.join("refs")).is_empty());
    assert!(hub.plan_prune(None).unwrap().paths.is_empty());
    // It is the large one that comes for two hours.
    make_old(&repo);
    let begun = names(&repo.join("blobs")).into_iter().find(|name| name.ends_with(".incomplete")).unwrap();
    fs::File::options().append(true).open(repo.join("blobs").join(&begun)).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    assert!(hub.plan_prune(None).unwrap().paths.is_empty());
    // Nobody goes on with it.
    make_old(&repo);
    let plan = hub.plan_prune(None).unwrap();
    assert!(plan.paths.iter().any(|path| path.starts_with(repo.join("snapshots"))), "{plan:?}");
    hub.prune_cache(&plan).unwrap();
    assert!(names(&repo.join("snapshots")).is_empty() && names(&repo.join("blobs")) == [begun]);
}

#[test]
fn what_is_removed_while_the_rest_comes_is_not_said_to_be_there() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let snapshots = cache.path().join("hub/models--someone--act_push/snapshots");
    // Somebody takes away the first file that has come as soon as another one is on its way.
    let at = snapshots.clone();
    let remove = move |event: Event<'_>| {
        if matches!(event, Event::Transfer(transfer) if transfer.file == "model.safetensors") {
            for commit in fs::read_dir(&at).into_iter().flatten().flatten() {
                let _none_yet = fs::remove_file(commit.path().join("policy_preprocessor.json"));
            }
        }
    };
    let error = hub.fetch(&named(MODEL), &remove).unwrap_err();
    assert!(error.to_string().contains("policy_preprocessor.json was removed from the cache meanwhile"), "{error}");
    assert!(!snapshots.join("../refs/main").exists(), "no revision means what is not whole");
    let whole = hub.download(&model(), &Download::default(), &|_| {}).unwrap();
    assert_eq!(names(&whole.folder).len(), whole.files);
}

#[test]
#[cfg(unix)]
fn contents_under_each_others_names_are_flaws() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    let (a, b, other) = (folder.join("config.json"), folder.join("policy_preprocessor.json"), folder.join("x"));
    fs::rename(&a, &other).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(&other, &b).unwrap();
    let is_found = |verified: &sinew_hub::Verified| {
        let flaws: Vec<&PathBuf> = verified.flaws.iter().map(|flaw| &flaw.path).collect();
        assert!(flaws == [&a, &b] && verified.flaws[0].what.contains("the Hub has") && verified.unnamed.is_empty(), "{verified:?}");
    };
    is_found(&hub.verify_cache(None, |_| {}).unwrap());
    // The same without links; and without the Hub, which says so.
    unlink(&folder, false);
    is_found(&hub.verify_cache(None, |_| {}).unwrap());
    let verified = offline(&fake, &cache).verify_cache(None, |_| {}).unwrap();
    assert!(verified.flaws.is_empty() && verified.unverified.is_empty(), "{verified:?}");
    assert_eq!(
        verified.unnamed.iter().map(|it| (it.path.clone(), it.what.as_str())).collect::<Vec<_>>(),
        [(folder, "HF_HUB_OFFLINE or --offline is set")]
    );
}

#[test]
#[cfg(unix)]
fn what_is_in_the_way_is_told_and_the_rest_is_seen() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    let root = cache.path().join("hub");
    fs::write(root.join("models--x--y"), "no folder").unwrap();
    fs::write(root.join(".DS_Store"), "").unwrap();
    let store = folder.parent().unwrap().join(".DS_Store");
    fs::write(&store, "").unwrap();
    // A repository whose folders can't be read.
    let odd = root.join("datasets--a--b");
    fs::create_dir_all(odd.join("snapshots")).unwrap();
    fs::write(odd.join("blobs"), "no folder").unwrap();
    std::os::unix::fs::symlink("refs", odd.join("refs")).unwrap();
    let listed = hub.list_cache().unwrap();
    let odd_paths: Vec<&PathBuf> = listed.iter().flat_map(|repo| repo.odd.iter().map(|flaw| &flaw.path)).collect();
    assert_eq!(odd_paths, [&odd.join("blobs"), &odd.join("refs"), &store]);
    assert_eq!(listed[1].snapshots.len(), 1);
    let verified = hub.verify_cache(None, |_| {}).unwrap();
    assert!(verified.flaws.iter().map(|flaw| &flaw.path).eq(odd_paths) && verified.unverified.is_empty(), "{verified:?}");
    let old = folder.parent().unwrap().join("c".repeat(40));
    fs::create_dir(&old).unwrap();
    let plan = hub.plan_prune(None).unwrap();
    assert_eq!((plan.paths, plan.kept.iter().map(|flaw| &flaw.path).collect::<Vec<_>>()), (vec![old], vec![&odd]));
}

#[test]
fn what_is_not_in_the_cache_is_an_error_that_names_what_is() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let error = |repo: &HubRepo| {
        let errors = [hub.verify_cache(Some(repo), |_| {}).unwrap_err(), hub.plan_prune(Some(repo)).unwrap_err()];
        assert_eq!(errors[0].to_string(), errors[1].to_string());
        errors[0].to_string()
    };
    assert!(error(&model()).ends_with("it is not there; nothing is there"));
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
    assert!(error(&model().of_kind(RepoKind::Dataset)).contains("there is the model someone/act_push"));
    assert!(error(&dataset()).contains("there are the model someone/act_push"), "{}", error(&dataset()));
}

#[test]
#[cfg(unix)]
fn nothing_is_written_through_a_link_or_waits_for_a_pipe() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let mine = cache.path().join("mine");
    fs::write(&mine, "of the user").unwrap();
    let large = sha256_of(&weights());
    let root = cache.path().join("hub");
    let begun = root.join("models--someone--act_push/blobs").join(format!("{large}.incomplete"));
    let lock = root.join(".locks/models--someone--act_push").join(format!("{large}.lock"));
    let out = cache.path().join("out");
    let to = Download { folder: Some(out.clone()), ..Download::default() };
    for place in [begun, lock, out.join(".sinew-download").join(format!("{large}.lock"))] {
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        let told = |words: &str| {
            let error = match place.starts_with(&out) {
                true => hub.download(&model(), &Download { include: vec!["model.safetensors".into()], ..to.clone() }, &|_| {}).unwrap_err(),
                false => hub.fetch(&named(MODEL), &|_| {}).unwrap_err(),
            };
            let HubError::Io { doing, source } = &error else { panic!("{error}") };
            assert!(doing.contains(place.to_str().unwrap()) && source.to_string().contains(words), "{doing}: {source}");
        };
        let _of_before = fs::remove_file(&place);
        std::os::unix::fs::symlink(&mine, &place).unwrap();
        told("it is a link");
        assert_eq!(fs::read_to_string(&mine).unwrap(), "of the user");
        fs::remove_file(&place).unwrap();
        make_pipe(&place);
        told("no regular file");
        fs::remove_file(&place).unwrap();
    }
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
}

fn sha256_of(bytes: &[u8]) -> String {
    let mut child = std::process::Command::new("sha256sum");
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("f"), bytes).unwrap();
    let told = String::from_utf8(child.arg(folder.path().join("f")).output().unwrap().stdout).unwrap();
    told.split(' ').next().unwrap().to_owned()
}

#[test]
fn what_programs_note_in_a_folder_comes_from_no_repository() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    for evil in [".cache/sinew/upload.jsonl", ".Cache/huggingface/download/config.json.metadata", ".sinew-download/x.lock"] {
        let repo = fake.repo(FakeKind::Model, MODEL);
        repo.commit(&[(evil, b"{}")]);
        let out = cache.path().join("out");
        let what = Download { folder: Some(out.clone()), ..Download::default() };
        let error = hub.download(&model(), &what, &|_| {}).unwrap_err().to_string();
        assert!(error.contains(evil) && error.contains("--exclude") && !out.exists(), "{error}");
        repo.commit_on("main", &[], &[evil]);
    }
    let what = Download { folder: Some(cache.path().join("out")), ..Download::default() };
    hub.download(&model(), &what, &|_| {}).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_no_regular_file_among_the_revisions_is_told_and_passed_over() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    let refs = folder.join("../../refs").canonicalize().unwrap();
    make_pipe(&refs.join("pipe"));
    let listed = hub.list_cache().unwrap();
    assert_eq!(listed[0].snapshots.len(), 1, "{listed:?}");
    assert!(listed[0].odd.len() == 1 && listed[0].odd[0].path == refs.join("pipe"), "{listed:?}");
    // Nobody knows what it means, so nothing goes.
    make_old(&folder);
    fake.repo(FakeKind::Model, MODEL).commit(&[("model.safetensors", &noise(300_000, 9))]);
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
    let plan = hub.plan_prune(None).unwrap();
    assert!(plan.paths.is_empty() && plan.kept.len() == 1, "{plan:?}");
}
