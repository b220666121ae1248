//! What an upload knows of the ones before it, from this folder and from others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use sinew_hub::{Created, Download, Hub, HubError, HubOptions, HubRepo, Publisher, RepoKind, UploadOptions, Uploaded};
use sinew_testkit::hub::{FakeHub, Fault, Harm, RepoKind as FakeKind};
use tempfile::TempDir;

const NAME: &str = "someone/takes";

struct Desk {
    fake: FakeHub,
    cache: TempDir,
    hub: Hub,
}

fn table(text: &str) -> String {
    text.repeat(1 << 10)
}

impl Desk {
    fn new() -> Self {
        let (fake, cache) = (common::fake(), TempDir::new().unwrap());
        let hub = common::client(&fake, &cache);
        Self { fake, cache, hub }
    }

    fn dataset(&self, name: &str) -> PathBuf {
        let folder = self.cache.path().join(name);
        write(&folder, "meta/info.json", "{\"codebase_version\": \"v3.0\"}");
        write(&folder, "data/a.parquet", &table("a"));
        folder
    }

    fn upload(&self, folder: &Path, options: UploadOptions) -> Result<Uploaded, HubError> {
        self.hub.upload(folder, &repo(NAME), &options, &|_| {})
    }

    fn file(&self, path: &str) -> Option<String> {
        self.fake.file(FakeKind::Dataset, NAME, "main", path).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    /// That it is refused with all of `expected`, and that it works where `head` is named.
    fn is_refused_until_meant(&self, folder: &Path, expected: &[&str]) {
        let head = self.fake.commit_of(FakeKind::Dataset, NAME, "main").unwrap();
        let refused = self.upload(folder, UploadOptions::default()).unwrap_err().to_string();
        assert!(expected.iter().all(|expected| refused.contains(expected)), "{refused}");
        assert!(refused.contains(&format!("--parent {head}")) && refused.contains("nothing was overwritten"), "{refused}");
        assert_eq!(self.fake.commit_of(FakeKind::Dataset, NAME, "main").as_ref(), Some(&head));
        self.upload(folder, UploadOptions { parent: Some(head), ..UploadOptions::default() }).unwrap();
    }
}

fn repo(name: &str) -> HubRepo {
    HubRepo::parse(RepoKind::Dataset, name).unwrap()
}

fn write(folder: &Path, path: &str, text: &str) {
    fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
    fs::write(folder.join(path), text).unwrap();
}

fn plain() -> UploadOptions {
    UploadOptions::default()
}

#[test]
fn what_others_did_since_the_last_upload_is_not_undone() {
    for is_published in [false, true] {
        let desk = Desk::new();
        let folder = desk.dataset("takes");
        if is_published {
            Publisher::open(&desk.hub, &folder, &repo(NAME), plain()).unwrap().finish(&plain(), &|_| {}).unwrap();
        } else {
            desk.upload(&folder, plain()).unwrap();
        }
        desk.fake.repo(FakeKind::Dataset, NAME).commit(&[("data/theirs.parquet", b"theirs"), ("meta/info.json", b"{\"theirs\": 1}")]);
        if is_published {
            let refused = desk.hub.finish(&folder, plain(), &|_| {}).unwrap_err().to_string();
            assert!(refused.contains("unless somebody else"), "{refused}");
            let publisher = Publisher::open(&desk.hub, &folder, &repo(NAME), plain()).unwrap();
            let refused = publisher.finish(&plain(), &|_| {}).unwrap_err();
            assert!(matches!(refused, HubError::Conflict { .. }), "{refused}");
        }
        assert!(desk.file("data/theirs.parquet").is_some());
        desk.is_refused_until_meant(&folder, &["has changed meanwhile", "by someone"]);
        assert!(desk.file("data/theirs.parquet").is_none());
    }
}

#[test]
fn what_never_came_from_a_folder_is_not_written_over_by_it() {
    let desk = Desk::new();
    let folder = desk.dataset("takes");
    write(&folder, "data/b.parquet", "b");
    desk.upload(&folder, plain()).unwrap();
    // A copy without the notes, or a download: what is new goes there, what differs or is gone waits for the word.
    let copy = desk.dataset("copy");
    write(&copy, "data/b.parquet", "b");
    write(&copy, "data/c.parquet", "c");
    desk.upload(&copy, plain()).unwrap();
    write(&copy, "data/b.parquet", "b, edited in the copy, which knows it");
    desk.upload(&copy, plain()).unwrap();
    let other = desk.dataset("other");
    write(&other, "data/b.parquet", "b, edited elsewhere");
    write(&other, "data/c.parquet", "c");
    desk.is_refused_until_meant(&other, &["data/b.parquet is there and is another one here"]);
    let short = desk.dataset("short");
    write(&short, "data/c.parquet", "c");
    desk.is_refused_until_meant(&short, &["data/b.parquet is there and is not here"]);
    // Named, it may be deleted.
    desk.upload(&other, UploadOptions { parent: desk.fake.commit_of(FakeKind::Dataset, NAME, "main"), ..plain() }).unwrap();
    fs::remove_dir_all(short.join(".cache")).unwrap();
    desk.upload(&short, UploadOptions { delete: vec!["data/*".into()], ..plain() }).unwrap();
    assert_eq!((desk.file("data/b.parquet"), desk.file("data/c.parquet").as_deref()), (None, Some("c")));
}

/// What was downloaded to a folder is known to come from the Hub.
#[test]
fn a_downloaded_folder_goes_on_from_its_commit() {
    let desk = Desk::new();
    let folder = desk.dataset("takes");
    write(&folder, "data/b.parquet", "b");
    desk.upload(&folder, plain()).unwrap();
    let fetched = desk.cache.path().join("fetched");
    let whole = Download { folder: Some(fetched.clone()), ..Download::default() };
    desk.hub.download(&repo(NAME), &whole, &|_| {}).unwrap();
    write(&fetched, "data/b.parquet", "b, edited");
    desk.upload(&fetched, plain()).unwrap();
    assert_eq!(desk.file("data/b.parquet").as_deref(), Some("b, edited"));
    // Somebody else commits after the download: that is not written over.
    desk.hub.download(&repo(NAME), &whole, &|_| {}).unwrap();
    desk.fake.repo(FakeKind::Dataset, NAME).commit(&[("data/b.parquet", b"theirs")]);
    write(&fetched, "data/b.parquet", "b, edited again");
    desk.is_refused_until_meant(&fetched, &["has changed meanwhile"]);
}

/// An upload that was begun from a folder is not forgotten by a download to it.
#[test]
fn a_download_into_a_folder_leaves_an_upload_that_was_begun_there() {
    let desk = Desk::new();
    let folder = desk.dataset("takes");
    desk.upload(&folder, plain()).unwrap();
    write(&folder, "data/b.parquet", "b");
    desk.fake.fault(Fault::on("*/commit/*", Harm::Status { status: 403, code: None, message: None, retry_after_s: None }).times(1));
    desk.upload(&folder, plain()).unwrap_err();
    desk.fake.repo(FakeKind::Dataset, NAME).commit(&[("data/theirs.parquet", table("theirs").as_bytes())]);
    let table_only = Download { include: vec!["data/theirs.parquet".into()], folder: Some(folder.clone()), ..Download::default() };
    desk.hub.download(&repo(NAME), &table_only, &|_| {}).unwrap();
    desk.is_refused_until_meant(&folder, &["has changed meanwhile"]);
}

#[test]
fn a_card_that_somebody_made_is_kept_from_a_recording_that_began_without_a_network() {
    let desk = Desk::new();
    let hub = Hub::new(HubOptions { retries: 0, ..common::options(&desk.fake, &desk.cache) });
    let folder = desk.dataset("takes");
    write(&folder, "README.md", "mine");
    desk.fake.fault(Fault::on("*", Harm::Refuse));
    let publisher = Publisher::open(&hub, &folder, &repo(NAME), plain()).unwrap();
    publisher.offer("data/a.parquet");
    publisher.finish(&plain(), &|_| {}).unwrap_err();
    desk.fake.add(FakeKind::Dataset, NAME).commit(&[("README.md", b"theirs")]);
    desk.fake.clear_faults();
    let refused = desk.hub.finish(&folder, plain(), &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("README.md is there") && refused.contains("--parent"), "{refused}");
    assert_eq!(desk.file("README.md").as_deref(), Some("theirs"));
    let parent = desk.fake.commit_of(FakeKind::Dataset, NAME, "main");
    desk.hub.finish(&folder, UploadOptions { parent, ..plain() }, &|_| {}).unwrap();
    assert_eq!(desk.file("README.md").as_deref(), Some("mine"));
}

#[test]
fn a_named_parent_that_is_another_dataset_is_one_all_the_same() {
    let desk = Desk::new();
    let folder = desk.dataset("takes");
    desk.fake.add(FakeKind::Dataset, NAME);
    drop(Publisher::open(&desk.hub, &folder, &repo(NAME), plain()).unwrap());
    desk.fake.repo(FakeKind::Dataset, NAME).commit(&[("data/z.parquet", table("z").as_bytes())]);
    let parent = desk.fake.commit_of(FakeKind::Dataset, NAME, "main");
    let named = |replace| UploadOptions { parent: parent.clone(), replace, ..plain() };
    let refused = desk.hub.finish(&folder, named(false), &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("another dataset"), "{refused}");
    desk.hub.finish(&folder, named(true), &|_| {}).unwrap();
    assert_eq!(desk.file("data/z.parquet"), None);
}

#[test]
fn notes_without_their_beginning_are_not_gone_on_with() {
    let desk = Desk::new();
    let folder = desk.dataset("takes");
    desk.fake.add(FakeKind::Dataset, NAME);
    desk.fake.fault(Fault::on("*/commit/*", Harm::Status { status: 403, code: None, message: None, retry_after_s: None }).times(1));
    desk.upload(&folder, plain()).unwrap_err();
    let journal = folder.join(".cache/sinew/upload.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains("\"what\":\"base\"")).collect();
    assert_eq!(kept.len() + 1, text.lines().count());
    fs::write(&journal, kept.join("\n") + "\n").unwrap();
    let refused = desk.upload(&folder, plain()).unwrap_err().to_string();
    assert!(refused.contains("upload.jsonl") && refused.contains("--parent"), "{refused}");
    let parent = desk.fake.commit_of(FakeKind::Dataset, NAME, "main");
    desk.upload(&folder, UploadOptions { parent, ..plain() }).unwrap();
}

#[test]
fn what_is_gone_is_made_anew_as_private_as_it_was() {
    let desk = Desk::new();
    let folder = desk.dataset("takes");
    let is_private = || desk.hub.info(&repo(NAME)).unwrap().private;
    let private = UploadOptions { private: true, ..plain() };
    drop(Publisher::open(&desk.hub, &folder, &repo(NAME), private).unwrap());
    // By another verb, and by another publisher, which do not say it again.
    desk.upload(&folder, plain()).unwrap();
    assert!(is_private());
    desk.fake.delete(FakeKind::Dataset, NAME);
    let refused = desk.hub.finish(&folder, plain(), &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("not there any more") && refused.contains("sinew hub upload"), "{refused}");
    Publisher::open(&desk.hub, &folder, &repo(NAME), plain()).unwrap().finish(&plain(), &|_| {}).unwrap();
    assert!(is_private());
    desk.fake.delete(FakeKind::Dataset, NAME);
    let uploaded = desk.upload(&folder, plain()).unwrap();
    assert!(uploaded.created == Created::Now && is_private());
    // Shown to everybody on purpose, it stays so.
    desk.hub.set_private(&repo(NAME), false).unwrap();
    desk.upload(&folder, plain()).unwrap();
    assert!(!is_private());
}

#[test]
fn what_can_not_be_meant_is_refused_before_anything_is_noted() {
    let desk = Desk::new();
    let folder = desk.dataset("takes");
    let with = |message: &str| UploadOptions { message: Some(message.into()), ..plain() };
    let globs = || vec!["[".to_owned()];
    for (options, expected) in [
        (UploadOptions { delete: globs(), ..plain() }, "pattern"),
        (UploadOptions { include: globs(), ..plain() }, "pattern"),
        (UploadOptions { exclude: globs(), ..plain() }, "pattern"),
        (UploadOptions { parent: Some("main".into()), ..plain() }, "40 hex digits"),
        (with(""), "title"),
        (with("\nmore"), "title"),
        (with("a \u{1b}[2J title"), "control character"),
        (with(&format!("by {}", common::TOKEN)), "token"),
    ] {
        let refused = desk.upload(&folder, options).unwrap_err().to_string();
        assert!(refused.contains(expected) && !refused.contains(common::TOKEN), "{refused}");
    }
    let at_commit = repo(&format!("{NAME}@{}", "0".repeat(40)));
    assert!(desk.hub.upload(&folder, &at_commit, &plain(), &|_| {}).unwrap_err().to_string().contains("branch"));
    assert!(!folder.join(".cache").exists() && !desk.fake.has(FakeKind::Dataset, NAME));
    // Nor where the token's owner may make nothing.
    let Err(refused) = Publisher::open(&desk.hub, &folder, &repo("nobody/takes"), plain()) else { panic!("it began") };
    assert!(refused.to_string().contains("someone") && refused.to_string().contains("nobody"), "{refused}");
    assert!(!folder.join(".cache").exists());
}

#[test]
fn a_branch_of_a_new_repository_is_made_with_it() {
    for is_published in [false, true] {
        let desk = Desk::new();
        let (folder, branch) = (desk.dataset("takes"), repo(&format!("{NAME}@dev/new")));
        if is_published {
            let publisher = Publisher::open(&desk.hub, &folder, &branch, plain()).unwrap();
            publisher.offer("data/a.parquet");
            publisher.finish(&plain(), &|_| {}).unwrap();
        } else {
            desk.hub.upload(&folder, &branch, &plain(), &|_| {}).unwrap();
        }
        assert!(desk.fake.file(FakeKind::Dataset, NAME, "dev/new", "data/a.parquet").is_some() && desk.file("data/a.parquet").is_none());
        // One that is missing later is a wrong name.
        let wrong = repo(&format!("{NAME}@dve"));
        assert!(matches!(desk.hub.upload(&folder, &wrong, &plain(), &|_| {}), Err(HubError::NoRevision { .. })));
    }
}

#[cfg(unix)]
#[test]
fn notes_that_are_no_file_or_lead_elsewhere_are_refused() {
    use std::os::unix::fs::symlink;
    let desk = Desk::new();
    let folder = desk.dataset("takes");
    let (cache, elsewhere) = (folder.join(".cache"), desk.cache.path().join("elsewhere"));
    fs::create_dir_all(elsewhere.join("sinew")).unwrap();
    fs::write(elsewhere.join("mine"), "kept").unwrap();
    let journal = cache.join("sinew/upload.jsonl");
    let make: [(&str, &dyn Fn()); 5] = [
        ("is a link", &|| symlink(&elsewhere, &cache).unwrap()),
        ("is a link", &|| {
            fs::create_dir(&cache).unwrap();
            symlink(elsewhere.join("sinew"), cache.join("sinew")).unwrap();
        }),
        ("is a link", &|| {
            fs::create_dir_all(cache.join("sinew")).unwrap();
            symlink(elsewhere.join("mine"), &journal).unwrap();
        }),
        ("no regular file", &|| {
            fs::create_dir_all(cache.join("sinew")).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&journal).status().unwrap().success());
        }),
        ("MiB", &|| {
            fs::create_dir_all(cache.join("sinew")).unwrap();
            fs::File::create(&journal).unwrap().set_len(1 << 40).unwrap();
        }),
    ];
    for (expected, make) in make {
        make();
        let refused = desk.upload(&folder, plain()).unwrap_err();
        let text = |error: &HubError| {
            use std::error::Error;
            format!("{error} {}", error.source().map(ToString::to_string).unwrap_or_default())
        };
        assert!(text(&refused).contains(expected), "{refused}");
        let refused = desk.hub.finish(&folder, plain(), &|_| {}).unwrap_err();
        assert!(text(&refused).contains(expected), "{refused}");
        if fs::symlink_metadata(&cache).unwrap().is_symlink() {
            fs::remove_file(&cache).unwrap()
        } else {
            fs::remove_dir_all(&cache).unwrap()
        }
    }
    assert_eq!(fs::read_to_string(elsewhere.join("mine")).unwrap(), "kept");
    assert!(!desk.fake.has(FakeKind::Dataset, NAME));
}
