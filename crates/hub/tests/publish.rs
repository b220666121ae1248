//! A dataset goes up while it is made.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use sinew_hub::{Hub, HubError, HubOptions, HubRepo, PublishState, Publisher, RepoKind, Token, UploadOptions};
use sinew_testkit::hub::{self as fake, FakeHub, Fault, Harm, Rights};

const NAME: &str = "ada/takes";
const BYTES: usize = 300_000;

fn hub(fake: &FakeHub, cache: &Path) -> Hub {
    let token = Token::new("hf_write");
    Hub::new(HubOptions { endpoint: fake.endpoint(), cache_dir: cache.to_owned(), token, retries: 1, ..HubOptions::from_env() })
}

fn start() -> FakeHub {
    let fake =
        FakeHub::with(fake::HubOptions { lfs_from: 64 << 10, multipart_from: 128 << 10, part: 64 << 10, ..Default::default() }).unwrap();
    fake.token("hf_write", "ada", Rights::Write);
    fake
}

fn repo() -> HubRepo {
    HubRepo::parse(RepoKind::Dataset, NAME).unwrap()
}

fn options(private: bool) -> UploadOptions {
    UploadOptions { private, ..UploadOptions::default() }
}

fn write(folder: &Path, path: &str, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let content: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(BYTES).collect();
    fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
    fs::write(folder.join(path), content).unwrap();
}

fn write_info(folder: &Path) {
    fs::create_dir_all(folder.join("meta")).unwrap();
    fs::write(folder.join("meta/info.json"), br#"{"codebase_version": "v3.0"}"#).unwrap();
}

fn wait_for(publisher: &Publisher, what: impl Fn(&PublishState) -> bool) -> PublishState {
    let begun = Instant::now();
    loop {
        let state = publisher.state();
        if what(&state) {
            return state;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{state:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn closed_files_go_up_at_once_and_are_seen_together() {
    let (fake, folder, cache) = (start(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = hub(&fake, cache.path());
    let publisher = Publisher::open(&hub, folder.path(), &repo(), options(true)).unwrap();
    for at in 0..4 {
        let path = format!("data/chunk-000/file-{at:03}.parquet");
        write(folder.path(), &path, at);
        publisher.offer(&path);
    }
    let state = wait_for(&publisher, |state| state.waiting == 0);
    assert_eq!((state.sent, state.trouble), (4, None));
    assert!(state.bytes_sent >= 4 * BYTES as u64);
    // Nobody sees a part of it.
    assert_eq!(fake.tree(fake::RepoKind::Dataset, NAME, "main").len(), 1);
    let refused = hub.upload(folder.path(), &repo(), &UploadOptions::default(), &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("another upload"), "{refused}");
    write(folder.path(), "videos/open.mp4", 9);
    write_info(folder.path());
    let uploaded = publisher.finish(&UploadOptions { private: true, ..Default::default() }, &|_| {}).unwrap();
    assert_eq!((uploaded.commits.len(), uploaded.files, uploaded.tag.as_deref()), (1, 6, Some("v3.0")));
    let total = 5 * BYTES as u64;
    assert!(fake.bytes_received() as f64 <= 1.05 * total as f64, "{} for {total}", fake.bytes_received());
    assert!(Hub::published_to(folder.path()).is_none());
    // Whoever was killed right after it learns that all is there.
    let again = hub.finish(folder.path(), UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!((again.commit, again.commits.len(), again.files, again.bytes_sent), (uploaded.commit, 0, 6, 0));
    // What came later was never meant to be published.
    write(folder.path(), "data/later.parquet", 10);
    let refused = hub.finish(folder.path(), UploadOptions::default(), &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("was finished") && refused.contains("sinew hub upload"), "{refused}");
    let refused = hub.finish(folder.path(), UploadOptions::default(), &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("was finished"), "{refused}");
    let other = tempfile::tempdir().unwrap();
    let refused = hub.finish(other.path(), UploadOptions::default(), &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("nothing was begun"), "{refused}");
}

#[test]
fn a_hub_that_is_away_is_waited_for_and_the_rest_is_finished_later() {
    let (fake, folder, cache) = (start(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = hub(&fake, cache.path());
    fake.fault(Fault::on("*", Harm::Refuse));
    let publisher = Publisher::open(&hub, folder.path(), &repo(), options(false)).unwrap();
    write(folder.path(), "data/a.parquet", 1);
    let begun = Instant::now();
    publisher.offer("data/a.parquet");
    assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    let state = wait_for(&publisher, |state| state.trouble.is_some());
    assert_eq!((state.waiting, state.sent), (1, 0));
    fake.clear_faults();
    wait_for(&publisher, |state| state.sent == 1 && state.trouble.is_none());
    // It goes away for good while more comes.
    fake.fault(Fault::on("*", Harm::Refuse));
    write(folder.path(), "data/b.parquet", 2);
    publisher.offer("data/b.parquet");
    wait_for(&publisher, |state| state.trouble.is_some());
    write_info(folder.path());
    let refused = publisher.finish(&UploadOptions::default(), &|_| {}).unwrap_err();
    assert!(matches!(refused, HubError::Broken { .. } | HubError::Unreachable { .. }), "{refused}");
    assert_eq!(Hub::published_to(folder.path()), Some(repo()));
    fake.clear_faults();
    let uploaded = hub.finish(folder.path(), UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!((uploaded.commits.len(), uploaded.files), (1, 3));
    let total = 2 * BYTES as u64;
    assert!(fake.bytes_received() as f64 <= 1.05 * total as f64, "{} for {total}", fake.bytes_received());
}

#[test]
fn what_is_withdrawn_leaves_no_trace() {
    let (fake, folder, cache) = (start(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = hub(&fake, cache.path());
    Publisher::open(&hub, folder.path(), &repo(), options(false)).unwrap().withdraw();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    drop(Publisher::open(&hub, folder.path(), &repo(), options(false)).unwrap());
    assert_eq!(Hub::published_to(folder.path()), Some(repo()));
    Publisher::open(&hub, folder.path(), &repo(), options(false)).unwrap().withdraw();
    assert_eq!(Hub::published_to(folder.path()), Some(repo()));
}
