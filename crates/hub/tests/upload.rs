//! Folders go up to a fake Hub, whatever goes wrong on the way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sinew_hub::{Created, Event, Hub, HubError, HubOptions, HubRepo, RepoKind, Token, UploadOptions, Uploaded};
use sinew_testkit::hub::{self as fake, FakeHub, Fault, Harm, Rights};

const NAME: &str = "ada/things";

struct Place {
    fake: FakeHub,
    hub: Hub,
    folder: tempfile::TempDir,
    _cache: tempfile::TempDir,
}

/// A Hub whose large files begin at 64 KiB, and those in parts at 256 KiB.
fn options() -> fake::HubOptions {
    fake::HubOptions {
        lfs_from: 64 << 10,
        multipart_from: 256 << 10,
        part: 64 << 10,
        cdn_host: Some("localhost".into()),
        ..Default::default()
    }
}

fn place(options: fake::HubOptions) -> Place {
    place_with(options, |_| {})
}

fn place_with(options: fake::HubOptions, set: impl FnOnce(&mut HubOptions)) -> Place {
    let fake = FakeHub::with(options).unwrap();
    fake.token("hf_write", "ada", Rights::Write);
    fake.token("hf_read", "ada", Rights::Read);
    let cache = tempfile::tempdir().unwrap();
    let mut options = HubOptions {
        endpoint: fake.endpoint(),
        endpoint_login: None,
        cache_dir: cache.path().join("hub"),
        token_path: cache.path().join("token"),
        token: Token::new("hf_write"),
        offline: false,
        retries: 5,
        timeout: Duration::from_secs(5),
        ca_file: None,
        upload_limit: None,
        on_thread_start: None,
    };
    set(&mut options);
    Place { fake, hub: Hub::new(options), folder: tempfile::tempdir().unwrap(), _cache: cache }
}

fn repo(kind: RepoKind) -> HubRepo {
    HubRepo::parse(kind, NAME).unwrap()
}

fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..)).take(count).collect()
}

fn write(folder: &Path, path: &str, content: &[u8]) {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, content).unwrap();
}

/// A small file, a whole large one, one in parts, an empty one.
fn fill(folder: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let files = vec![
        ("README.md", b"# Things\n".to_vec()),
        ("config.json", b"{}".to_vec()),
        ("deep/er/empty.txt", Vec::new()),
        ("model.safetensors", bytes(100_000, 1)),
        ("parts/large.bin", bytes(700_001, 2)),
    ];
    files.iter().for_each(|(path, content)| write(folder, path, content));
    files
}

impl Place {
    fn upload(&self, kind: RepoKind, options: &UploadOptions) -> Result<Uploaded, HubError> {
        self.hub.upload(self.folder.path(), &repo(kind), options, &|_| {})
    }

    fn check(&self, kind: fake::RepoKind, files: &[(&str, Vec<u8>)]) {
        for (path, content) in files {
            assert_eq!(self.fake.file(kind, NAME, "main", path).as_ref(), Some(content), "{path}");
        }
    }

    fn asked(&self, part: &str) -> usize {
        self.fake.requests().iter().filter(|request| request.path.contains(part)).count()
    }
}

#[test]
fn a_folder_is_there_whole_and_is_not_sent_twice() {
    let place = place(options());
    let files = fill(place.folder.path());
    for junk in [".git/HEAD", ".cache/x", "model.safetensors.lock", "a.tmp", "__pycache__/x.pyc"] {
        write(place.folder.path(), junk, b"junk");
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let listener = move |event: Event<'_>| {
        if let Event::Transfer(transfer) = event {
            heard.lock().unwrap().push((transfer.file.to_owned(), transfer.file_done_bytes, transfer.done_bytes, transfer.total_bytes));
        }
    };
    let uploaded = place.hub.upload(place.folder.path(), &repo(RepoKind::Model), &UploadOptions::default(), &listener).unwrap();
    place.check(fake::RepoKind::Model, &files);
    assert_eq!((uploaded.files, uploaded.changed_files, uploaded.created), (5, 5, Created::Now));
    assert_eq!(uploaded.commits, vec![uploaded.commit.clone()]);
    assert_eq!(uploaded.left_out, [".git", "__pycache__", "a.tmp", "model.safetensors.lock"]);
    let total: usize = files.iter().map(|(_, content)| content.len()).sum();
    assert_eq!(uploaded.total_bytes, total as u64);
    assert!(uploaded.bytes_sent < total as u64 + 2000, "{}", uploaded.bytes_sent);
    assert!(
        place
            .fake
            .tree(fake::RepoKind::Model, NAME, "main")
            .iter()
            .all(|entry| !entry.path.contains("junk") && !entry.path.starts_with(".cache"))
    );
    // The store is another host: it was sent no token, or it would have refused.
    assert!(
        place
            .fake
            .requests()
            .iter()
            .filter(|request| request.path.starts_with("/upload/"))
            .all(|request| !request.authorized || request.path.contains("complete"))
    );
    assert_eq!(told.lock().unwrap().last().map(|last| (last.2, last.3)), Some((800_001, 800_001)));
    place.fake.forget_requests();
    let again = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap();
    assert_eq!((again.commits.len(), again.changed_files, again.created, again.bytes_sent), (0, 0, Created::Before, 0));
    assert_eq!(again.commit, uploaded.commit);
    assert_eq!(place.asked("/upload/") + place.asked("/commit/"), 0);
    // The same content under another name is known to the store.
    write(place.folder.path(), "copy.bin", &files[4].1);
    let third = place.upload(RepoKind::Model, &UploadOptions { message: Some("A copy".into()), ..Default::default() }).unwrap();
    assert_eq!((third.changed_files, place.asked("/upload/")), (1, 0));
}

#[test]
fn patterns_choose_what_goes_and_what_is_deleted() {
    let place = place(options());
    fill(place.folder.path());
    place.fake.add(fake::RepoKind::Model, NAME).commit(&[("old/a.bin", b"a"), ("old/b.txt", b"b"), ("keep.txt", b"k")]);
    let options = UploadOptions { include: vec!["*.json".into(), "*.md".into()], delete: vec!["old/*".into()], ..Default::default() };
    let uploaded = place.upload(RepoKind::Model, &options).unwrap();
    assert_eq!(uploaded.files, 2);
    let paths: Vec<String> = place.fake.tree(fake::RepoKind::Model, NAME, "main").into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, [".gitattributes", "README.md", "config.json", "keep.txt"]);
}

#[test]
fn rules_that_leave_files_out_are_obeyed_and_told() {
    let place = place(options());
    fill(place.folder.path());
    write(place.folder.path(), ".gitignore", b"*.txt\n");
    let uploaded = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap();
    assert_eq!(uploaded.left_out, ["deep/er/empty.txt"]);
    assert_eq!(place.fake.file(fake::RepoKind::Model, NAME, "main", "deep/er/empty.txt"), None);
}

#[test]
fn many_files_are_several_commits_and_what_names_them_is_last() {
    let place = place(options());
    write(place.folder.path(), "meta/info.json", br#"{"codebase_version": "v3.0"}"#);
    (0..2300).for_each(|at| write(place.folder.path(), &format!("data/{at:04}.txt"), at.to_string().as_bytes()));
    let uploaded = place.upload(RepoKind::Dataset, &UploadOptions::default()).unwrap();
    assert_eq!(uploaded.commits.len(), 4);
    let has_info = |commit: &String| place.fake.file(fake::RepoKind::Dataset, NAME, commit, "meta/info.json").is_some();
    assert_eq!(uploaded.commits.iter().map(has_info).collect::<Vec<_>>(), [false, false, false, true]);
    assert_eq!(place.fake.tree(fake::RepoKind::Dataset, NAME, "main").len(), 2302);
}

#[test]
fn a_datasets_version_is_tagged_and_a_stale_tag_moved() {
    let place = place(options());
    write(place.folder.path(), "data/x.parquet", b"x");
    let refused = place.upload(RepoKind::Dataset, &UploadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("meta/info.json"), "{refused}");
    write(place.folder.path(), "meta/info.json", br#"{"codebase_version": "v3.0"}"#);
    let first = place.upload(RepoKind::Dataset, &UploadOptions::default()).unwrap();
    assert_eq!(first.tag.as_deref(), Some("v3.0"));
    let at = |tag: &str| place.fake.commit_of(fake::RepoKind::Dataset, NAME, tag);
    assert_eq!(at("v3.0"), Some(first.commit));
    write(place.folder.path(), "data/y.parquet", b"y");
    let second = place.upload(RepoKind::Dataset, &UploadOptions::default()).unwrap();
    assert_eq!(at("v3.0"), Some(second.commit));
    let unsettled = UploadOptions { check: Some(Box::new(|_| Err("episode 3 is not settled".into()))), ..Default::default() };
    let refused = place.upload(RepoKind::Dataset, &unsettled).unwrap_err().to_string();
    assert!(refused.contains("episode 3"), "{refused}");
}

#[test]
fn nobodys_work_is_overwritten() {
    let place = place(options());
    fill(place.folder.path());
    let handle = place.fake.add(fake::RepoKind::Model, NAME);
    let known = handle.commit(&[("a", b"1")]);
    let theirs = handle.commit(&[("a", b"2")]);
    let refused = place.upload(RepoKind::Model, &UploadOptions { parent: Some(known.clone()), ..Default::default() }).unwrap_err();
    let text = refused.to_string();
    assert!(
        matches!(refused, HubError::Conflict { .. }) && text.contains(&theirs) && text.contains("ada") && text.contains(&known),
        "{text}"
    );
    // Somebody commits between the look at the branch and the commit.
    place.fake.fault(Fault::on("*/commit/*", Harm::ForcePush { branch: "main".into() }).times(1));
    let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err();
    assert!(matches!(refused, HubError::Conflict { .. }), "{refused}");
    assert_eq!(place.fake.file(fake::RepoKind::Model, NAME, "main", "config.json"), None);
    place.fake.clear_faults();
    // Nor the next time, until the user says that it is meant.
    let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err();
    assert!(matches!(refused, HubError::Conflict { .. }), "{refused}");
    let parent = place.fake.commit_of(fake::RepoKind::Model, NAME, "main");
    place.upload(RepoKind::Model, &UploadOptions { parent, ..Default::default() }).unwrap();
    assert_eq!(place.fake.file(fake::RepoKind::Model, NAME, "main", "config.json").as_deref(), Some(b"{}".as_slice()));
}

#[test]
fn faults_cost_time_and_nothing_else() {
    let faults = [
        Fault::on("/upload/*", Harm::CutRequest { at: None }).drawn(40, 1).times(6),
        Fault::on("/upload/*", Harm::Status { status: 503, code: None, message: None, retry_after_s: None }).drawn(50, 2).times(4),
        Fault::on("/upload/*", Harm::LostAnswer).times(2),
        Fault::on("/upload/part/*", Harm::ExpiredUrl).skip(3).times(1),
        Fault::on("/upload/object/*", Harm::ExpiredUrl).times(1),
        Fault::on("*/complete_multipart*", Harm::LostAnswer).times(1),
        Fault::on("*/commit/*", Harm::LostAnswer).times(1),
        Fault::on("*/commit/*", Harm::Status { status: 504, code: None, message: None, retry_after_s: None }).times(2),
        Fault::on("*/commit/*", Harm::RateLimit { retry_after_s: 1 }).times(1),
        Fault::on("*/preupload/*", Harm::RateLimit { retry_after_s: 1 }).times(1),
        Fault::on("*/objects/batch", Harm::CutAnswer { at: Some(10), reset: true }).times(1),
        Fault::on("*/objects/verify", Harm::Status { status: 500, code: None, message: None, retry_after_s: None }).times(1),
        Fault::on("/api/repos/create", Harm::LostAnswer).times(1),
    ];
    for fault in faults {
        let place = place(options());
        let files = fill(place.folder.path());
        place.fake.fault(fault.clone());
        let uploaded = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_or_else(|err| panic!("{fault:?}: {err}"));
        place.check(fake::RepoKind::Model, &files);
        assert_eq!(uploaded.commits.len(), 1, "{fault:?}");
        assert!(place.fake.requests().iter().any(|request| request.faulted), "{fault:?} came to nothing");
    }
}

#[test]
fn a_store_that_takes_nothing_is_left_after_a_while() {
    let place = place_with(options(), |options| {
        options.timeout = Duration::from_millis(100);
        options.retries = 1;
    });
    fill(place.folder.path());
    place.fake.fault(Fault::on("/upload/*", Harm::Stall { at: None }));
    let begun = Instant::now();
    let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err();
    assert!(matches!(refused, HubError::Broken { .. }) && begun.elapsed() < Duration::from_secs(20), "{refused}");
}

#[test]
fn a_slow_store_is_waited_for() {
    let place =
        place_with(fake::HubOptions { bytes_per_s: Some(300_000), ..options() }, |options| options.timeout = Duration::from_millis(300));
    let files = fill(place.folder.path());
    place.upload(RepoKind::Model, &UploadOptions::default()).unwrap();
    place.check(fake::RepoKind::Model, &files);
}

#[test]
fn what_is_sent_keeps_to_its_limit() {
    let place = place_with(options(), |options| options.upload_limit = Some(400_000));
    let files = fill(place.folder.path());
    let begun = Instant::now();
    place.upload(RepoKind::Model, &UploadOptions::default()).unwrap();
    place.check(fake::RepoKind::Model, &files);
    let seconds = begun.elapsed().as_secs_f64();
    assert!((1.5..6.0).contains(&seconds), "800 kB at 400 kB/s took {seconds} s");
}

#[test]
fn without_xet_large_files_take_the_older_way() {
    let place = place(fake::HubOptions { xet: Some("http://127.0.0.1:9".into()), ..options() });
    let files = fill(place.folder.path());
    place.fake.fault(Fault::on("*/xet-write-token/*", Harm::Status { status: 404, code: None, message: None, retry_after_s: None }));
    place.upload(RepoKind::Model, &UploadOptions::default()).unwrap();
    place.check(fake::RepoKind::Model, &files);
}

#[test]
fn a_file_that_changes_meanwhile_is_named() {
    let place = place_with(options(), |options| options.upload_limit = Some(200_000));
    fill(place.folder.path());
    let large = place.folder.path().join("parts/large.bin");
    let writer = std::thread::spawn({
        let large = large.clone();
        move || {
            std::thread::sleep(Duration::from_millis(1500));
            fs::write(&large, bytes(700_001, 3)).unwrap();
        }
    });
    let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err();
    writer.join().unwrap();
    assert!(matches!(&refused, HubError::Changed { path, .. } if path.ends_with("parts/large.bin")), "{refused}");
    assert_eq!(place.asked("/commit/"), 0);
}

#[test]
fn what_must_not_leave_is_refused() {
    let place = place(options());
    fill(place.folder.path());
    let mut secret = bytes(40_000, 5);
    secret.extend_from_slice(b"token = hf_write\n");
    write(place.folder.path(), "notes.txt", &secret);
    let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("notes.txt") && refused.contains("token") && !refused.contains("hf_write"), "{refused}");
    fs::remove_file(place.folder.path().join("notes.txt")).unwrap();
    #[cfg(unix)]
    {
        let link = place.folder.path().join("link");
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err().to_string();
        assert!(refused.contains("link is a link"), "{refused}");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("config.json", &link).unwrap();
        place.upload(RepoKind::Model, &UploadOptions::default()).unwrap();
        assert_eq!(place.fake.file(fake::RepoKind::Model, NAME, "main", "link").as_deref(), Some(b"{}".as_slice()));
    }
}

#[test]
fn who_may_not_write_is_told_why() {
    let with_token = |token: Option<&str>| place_with(options(), |options| options.token = token.and_then(Token::new));
    let place = with_token(Some("hf_read"));
    fill(place.folder.path());
    let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("right to write"), "{refused}");
    place.fake.add(fake::RepoKind::Model, NAME);
    let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("right to write"), "{refused}");
    let place = with_token(None);
    fill(place.folder.path());
    let refused = place.upload(RepoKind::Model, &UploadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("sinew hub login"), "{refused}");
    let place = with_token(Some("hf_write"));
    fill(place.folder.path());
    place.fake.add(fake::RepoKind::Model, NAME);
    let refused = place.upload(RepoKind::Model, &UploadOptions { private: true, ..Default::default() }).unwrap_err().to_string();
    assert!(refused.contains("public"), "{refused}");
    place.hub.set_private(&repo(RepoKind::Model), true).unwrap();
    place.upload(RepoKind::Model, &UploadOptions { private: true, ..Default::default() }).unwrap();
    let refused = place.upload(RepoKind::Model, &UploadOptions { include: vec!["*.nothing".into()], ..Default::default() }).unwrap_err();
    assert!(refused.to_string().contains("nothing"), "{refused}");
}

#[test]
fn repositories_and_tags_are_made_once() {
    let place = place(options());
    let space = repo(RepoKind::Space);
    assert_eq!(place.hub.create(&space, true).unwrap(), Created::Now);
    assert_eq!(place.hub.create(&space, true).unwrap(), Created::Before);
    assert!(place.hub.info(&space).unwrap().private);
    place.hub.tag(&space, "v1").unwrap();
    place.hub.tag(&space, "v1").unwrap();
    place.fake.repo(fake::RepoKind::Space, NAME).commit(&[("index.html", b"<p>")]);
    assert!(matches!(place.hub.tag(&space, "v1"), Err(HubError::Conflict { .. })));
    assert!(place.hub.delete_tag(&space, "v1").unwrap());
    assert!(!place.hub.delete_tag(&space, "v1").unwrap());
}
