//! What a publisher finds that others did: before the recording, meanwhile, and until it is finished.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sinew_hub::{Hub, HubError, HubOptions, HubRepo, PublishState, Publisher, RepoKind, Token, UploadOptions};
use sinew_testkit::hub::{FakeHub, Fault, Harm, RepoKind as FakeKind, Rights};
use tempfile::TempDir;

const NAME: &str = "someone/takes";

fn repo() -> HubRepo {
    HubRepo::parse(RepoKind::Dataset, NAME).unwrap()
}

fn write(folder: &Path, path: &str, text: &str) {
    fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
    fs::write(folder.join(path), text).unwrap();
}

fn write_info(folder: &Path) {
    write(folder, "meta/info.json", "{\"codebase_version\": \"v3.0\"}");
}

fn open(hub: &Hub, folder: &Path) -> Result<Publisher, HubError> {
    Publisher::open(hub, folder, &repo(), UploadOptions::default())
}

fn wait_for(publisher: &Publisher, what: impl Fn(&PublishState) -> bool) {
    let begun = Instant::now();
    while !what(&publisher.state()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", publisher.state());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn file(fake: &FakeHub, path: &str) -> Option<String> {
    fake.file(FakeKind::Dataset, NAME, "main", path).map(|bytes| String::from_utf8(bytes).unwrap())
}

/// Somebody commits while, or after, `publish` leaves a publisher; then the end is refused, until it is meant.
fn conflicts(fake: &FakeHub, hub: &Hub, folder: &Path, publisher: Publisher, is_ended_here: bool) {
    write(folder, "data/b.parquet", "mine");
    write(folder, "README.md", "mine");
    write_info(folder);
    let theirs = if is_ended_here {
        let theirs = fake.repo(FakeKind::Dataset, NAME).commit(&[("README.md", b"theirs")]);
        let refused = publisher.finish(&UploadOptions::default(), &|_| {}).unwrap_err();
        assert!(matches!(refused, HubError::Conflict { .. }), "{refused}");
        theirs
    } else {
        drop(publisher);
        fake.repo(FakeKind::Dataset, NAME).commit(&[("README.md", b"theirs")])
    };
    for _ in 0..2 {
        let refused = hub.finish(folder, UploadOptions::default(), &|_| {}).unwrap_err();
        assert!(matches!(refused, HubError::Conflict { .. }) && refused.to_string().contains(&format!("--parent {theirs}")), "{refused}");
    }
    assert_eq!(file(fake, "README.md").as_deref(), Some("theirs"));
    hub.finish(folder, UploadOptions { parent: Some(theirs), ..UploadOptions::default() }, &|_| {}).unwrap();
    assert_eq!(file(fake, "README.md").as_deref(), Some("mine"));
}

#[test]
fn what_others_commit_meanwhile_is_not_written_over() {
    for (is_there, is_ended_here) in [(true, true), (true, false), (false, true)] {
        let (fake, cache) = (common::fake(), TempDir::new().unwrap());
        let (hub, folder) = (common::client(&fake, &cache), cache.path().join("takes"));
        if is_there {
            fake.add(FakeKind::Dataset, NAME);
        }
        let publisher = open(&hub, &folder).unwrap();
        // Without a repository nothing is made until something comes.
        assert_eq!(fake.has(FakeKind::Dataset, NAME), is_there);
        if !is_there {
            write(&folder, "data/a.parquet", "mine");
            publisher.offer("data/a.parquet");
            wait_for(&publisher, |state| state.sent == 1);
        }
        conflicts(&fake, &hub, &folder, publisher, is_ended_here);
    }
}

#[test]
fn a_hub_that_comes_back_is_looked_at_before_anything_is_closed() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let hub = Hub::new(HubOptions { retries: 0, ..common::options(&fake, &cache) });
    let folder = cache.path().join("takes");
    fake.add(FakeKind::Dataset, NAME);
    fake.fault(Fault::on("*", Harm::Refuse));
    let publisher = open(&hub, &folder).unwrap();
    wait_for(&publisher, |state| state.trouble.is_some());
    fake.clear_faults();
    wait_for(&publisher, |state| state.trouble.is_none());
    conflicts(&fake, &hub, &folder, publisher, true);
    // What a network answers that wants a login first keeps nobody from recording.
    fake.fault(Fault::on("*", Harm::Html));
    open(&hub, &cache.path().join("others")).unwrap().withdraw();
}

#[test]
fn another_dataset_is_not_replaced_unless_it_is_meant() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let (hub, folder) = (common::client(&fake, &cache), cache.path().join("takes"));
    let theirs = "theirs".repeat(1 << 10);
    fake.add(FakeKind::Dataset, NAME).commit(&[("data/chunk-000/file-000.parquet", theirs.as_bytes()), ("meta/info.json", b"{}")]);
    let Err(refused) = open(&hub, &folder) else { panic!("it began") };
    assert!(refused.to_string().contains("another dataset") && refused.to_string().contains("--publish-replace"), "{refused}");
    // Nothing is left of it, so that the recorder can take its folder away too.
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    // The same episodes in a folder that never went up, such as a download, are the same dataset.
    write(&folder, "data/chunk-000/file-000.parquet", &theirs);
    drop(open(&hub, &folder).unwrap());
    let other = cache.path().join("other");
    let meant = UploadOptions { replace: true, ..UploadOptions::default() };
    let publisher = Publisher::open(&hub, &other, &repo(), meant).unwrap();
    write(&other, "data/chunk-000/file-001.parquet", "mine");
    write_info(&other);
    publisher.finish(&UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!(
        (file(&fake, "data/chunk-000/file-000.parquet"), file(&fake, "data/chunk-000/file-001.parquet").as_deref()),
        (None, Some("mine"))
    );
    // What goes on with what was published from here is a continuation, even if no file stayed the same.
    write(&other, "data/chunk-000/file-001.parquet", "mine, and more");
    let publisher = open(&hub, &other).unwrap();
    publisher.finish(&UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!(file(&fake, "data/chunk-000/file-001.parquet").as_deref(), Some("mine, and more"));
}

#[test]
fn who_may_not_write_learns_it_before_anything_is_recorded() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    fake.token("hf_reader", "someone", Rights::Read);
    let refused = |token: Option<&str>| {
        let hub = Hub::new(HubOptions { token: token.and_then(Token::new), ..common::options(&fake, &cache) });
        let folder = cache.path().join("takes");
        let Err(refused) = open(&hub, &folder) else { panic!("it began with {token:?}") };
        assert!(!folder.exists() || fs::read_dir(&folder).unwrap().count() == 0);
        refused.to_string()
    };
    for is_there in [false, true] {
        if is_there {
            fake.add(FakeKind::Dataset, NAME);
        }
        let (without, unknown, reader) = (refused(None), refused(Some("hf_unknown")), refused(Some("hf_reader")));
        assert!(without.contains("sinew hub login"), "{without}");
        assert!(unknown.contains("401") || unknown.contains("HF_TOKEN"), "{unknown}");
        assert!(reader.contains("write") && reader.contains("HF_TOKEN"), "{reader}");
    }
}

#[test]
fn another_upload_takes_nothing_from_what_is_being_published() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let (hub, folder) = (common::client(&fake, &cache), cache.path().join("takes"));
    let private = UploadOptions { private: true, ..UploadOptions::default() };
    let publisher = Publisher::open(&hub, &folder, &repo(), private).unwrap();
    write(&folder, "data/a.parquet", "mine");
    publisher.offer("data/a.parquet");
    wait_for(&publisher, |state| state.sent == 1);
    drop(publisher);
    write_info(&folder);
    // To another place, whole; then to the same, in vain.
    let other = HubRepo::parse(RepoKind::Dataset, "someone/copy").unwrap();
    hub.upload(&folder, &other, &UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!(Hub::published_to(&folder), Some(repo()));
    fake.fault(Fault::on("*/commit/*", Harm::Status { status: 400, code: None, message: None, retry_after_s: None }).times(1));
    hub.upload(&folder, &repo(), &UploadOptions::default(), &|_| {}).unwrap_err();
    assert_eq!(Hub::published_to(&folder), Some(repo()));
    let uploaded = hub.finish(&folder, UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!((uploaded.repo, uploaded.commits.len()), (repo(), 1));
    assert_eq!(Hub::published_to(&folder), None);
    hub.upload(&folder, &other, &UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!(hub.finish(&folder, UploadOptions::default(), &|_| {}).unwrap().repo, repo());
    // A publisher that is withdrawn leaves what was known.
    Publisher::open(&hub, &folder, &repo(), UploadOptions::default()).unwrap().withdraw();
    assert_eq!(Hub::published_to(&folder), None);
    write(&folder, "data/a.parquet", "other");
    hub.upload(&folder, &repo(), &UploadOptions::default(), &|_| {}).unwrap();
}
