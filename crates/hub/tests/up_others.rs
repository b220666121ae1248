//! What an upload finds that others did, and what an earlier one left.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;

use sinew_hub::{HubError, HubRepo, Publisher, RepoKind, UploadOptions};
use sinew_testkit::hub::{Fault, Harm, RepoKind as FakeKind};
use tempfile::TempDir;

#[test]
fn what_was_refused_or_killed_does_not_write_over_others_the_next_time() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let hub = common::client(&fake, &cache);
    let folder = cache.path().join("policy");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.json"), "mine").unwrap();
    let repo = HubRepo::parse(RepoKind::Model, "someone/shared").unwrap();
    // Killed as it sends, which a broken connection stands for; then somebody else commits.
    fake.fault(Fault::on("*/commit/*", Harm::Status { status: 403, code: None, message: None, retry_after_s: None }).times(1));
    assert!(hub.upload(&folder, &repo, &UploadOptions::default(), &|_| {}).is_err());
    let theirs = fake.repo(FakeKind::Model, "someone/shared").commit(&[("config.json", b"theirs")]);
    for _ in 0..2 {
        let error = hub.upload(&folder, &repo, &UploadOptions::default(), &|_| {}).unwrap_err();
        assert!(matches!(error, HubError::Conflict { .. }) && error.to_string().contains(&format!("--parent {theirs}")), "{error}");
    }
    assert_eq!(fake.file(FakeKind::Model, "someone/shared", "main", "config.json").unwrap(), b"theirs");
    let meant = UploadOptions { parent: Some(theirs), ..UploadOptions::default() };
    hub.upload(&folder, &repo, &meant, &|_| {}).unwrap();
    assert_eq!(fake.file(FakeKind::Model, "someone/shared", "main", "config.json").unwrap(), b"mine");
    // The next upload begins where this one ended.
    let theirs = fake.repo(FakeKind::Model, "someone/shared").commit(&[("notes.txt", b"theirs")]);
    fs::write(folder.join("config.json"), "mine again").unwrap();
    let error = hub.upload(&folder, &repo, &UploadOptions::default(), &|_| {}).unwrap_err();
    assert!(matches!(error, HubError::Conflict { .. }) && error.to_string().contains(&format!("--parent {theirs}")), "{error}");
    hub.upload(&folder, &repo, &UploadOptions { parent: Some(theirs), ..UploadOptions::default() }, &|_| {}).unwrap();
    fs::write(folder.join("config.json"), "and again").unwrap();
    hub.upload(&folder, &repo, &UploadOptions::default(), &|_| {}).unwrap();
}

#[test]
fn a_datasets_old_tables_go_and_a_branch_leaves_the_tag_alone() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let hub = common::client(&fake, &cache);
    let folder = cache.path().join("dataset");
    for (path, text) in
        [("meta/info.json", "{\"codebase_version\": \"v3.0\"}"), ("data/a.parquet", "a"), ("data/b.parquet", "b"), ("mine.txt", "m")]
    {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), text).unwrap();
    }
    let repo = HubRepo::parse(RepoKind::Dataset, "someone/edited").unwrap();
    hub.upload(&folder, &repo, &UploadOptions::default(), &|_| {}).unwrap();
    fs::remove_file(folder.join("data/b.parquet")).unwrap();
    fs::remove_file(folder.join("mine.txt")).unwrap();
    let only = UploadOptions { include: vec!["meta/**".into()], ..UploadOptions::default() };
    hub.upload(&folder, &repo, &only, &|_| {}).unwrap();
    let has = |path: &str| fake.file(FakeKind::Dataset, "someone/edited", "main", path).is_some();
    assert!(has("data/b.parquet"));
    let second = hub.upload(&folder, &repo, &UploadOptions::default(), &|_| {}).unwrap();
    assert!(has("data/a.parquet") && !has("data/b.parquet") && has("mine.txt"));
    // Files that the folder has are not deleted because they were not meant.
    let odd = UploadOptions { include: vec!["*.json".into()], delete: vec!["*".into()], ..UploadOptions::default() };
    hub.upload(&folder, &repo, &odd, &|_| {}).unwrap();
    assert!(has("data/a.parquet") && !has("mine.txt"));
    fake.repo(FakeKind::Dataset, "someone/edited").branch("dev", "main");
    let tagged = fake.commit_of(FakeKind::Dataset, "someone/edited", "v3.0");
    assert_ne!(tagged.as_deref(), Some(second.commit.as_str()));
    fs::write(folder.join("data/a.parquet"), "other").unwrap();
    let branch = HubRepo::parse(RepoKind::Dataset, "someone/edited@dev").unwrap();
    assert_eq!(hub.upload(&folder, &branch, &UploadOptions::default(), &|_| {}).unwrap().tag, None);
    assert_eq!(fake.commit_of(FakeKind::Dataset, "someone/edited", "v3.0"), tagged);
}

fn dataset(cache: &TempDir, name: &str, data: &str) -> std::path::PathBuf {
    let folder = cache.path().join(name);
    for (path, text) in [("meta/info.json", "{\"codebase_version\": \"v3.0\"}"), ("data/a.parquet", data)] {
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), text).unwrap();
    }
    folder
}

fn status(status: u16) -> Harm {
    Harm::Status { status, code: None, message: None, retry_after_s: None }
}

/// Long enough to tell one dataset from another.
fn table(text: &str) -> String {
    text.repeat(1 << 10)
}

#[test]
fn a_dataset_is_not_put_in_the_place_of_another() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let hub = common::client(&fake, &cache);
    let repo = HubRepo::parse(RepoKind::Dataset, "someone/shared").unwrap();
    let (first, second) = (dataset(&cache, "first", &table("first")), dataset(&cache, "second", &table("second")));
    let head = || fake.commit_of(FakeKind::Dataset, "someone/shared", "main");
    let upload = |folder: &std::path::Path, options: UploadOptions| hub.upload(folder, &repo, &options, &|_| {});
    let at_head = || UploadOptions { parent: head(), ..UploadOptions::default() };
    let is_refused = |folder: &std::path::Path, options: UploadOptions, expected: &[&str]| {
        let refused = upload(folder, options).unwrap_err().to_string();
        assert!(expected.iter().all(|expected| refused.contains(expected)), "{refused}");
    };
    let data = || String::from_utf8(fake.file(FakeKind::Dataset, "someone/shared", "main", "data/a.parquet").unwrap()).unwrap();
    upload(&first, UploadOptions::default()).unwrap();
    for _ in 0..2 {
        is_refused(&second, UploadOptions::default(), &["another dataset", "--replace"]);
    }
    assert_eq!(data(), table("first"));
    // A card is no episode.
    fs::write(second.join("README.md"), "of the second").unwrap();
    let card = UploadOptions { include: vec!["README.md".into()], ..UploadOptions::default() };
    upload(&second, card).unwrap();
    // A newer version of the same folder goes on, whatever of it has changed, and after others wrote a card if that is known.
    fs::write(first.join("data/a.parquet"), table("first, edited")).unwrap();
    let card_at = head().unwrap();
    is_refused(&first, UploadOptions::default(), &["has changed meanwhile", &format!("--parent {card_at}")]);
    upload(&first, UploadOptions { parent: Some(card_at), ..UploadOptions::default() }).unwrap();
    assert_eq!(data(), table("first, edited"));
    upload(&second, UploadOptions { replace: true, ..at_head() }).unwrap();
    assert_eq!(data(), table("second"));
    // By then it is the second's, also for who was there before.
    is_refused(&first, at_head(), &["another dataset"]);
    // An earlier state of it that never went up from here.
    let third = dataset(&cache, "third", &table("second"));
    fs::write(third.join("data/b.parquet"), "and more").unwrap();
    upload(&third, UploadOptions::default()).unwrap();
    assert_eq!(fake.file(FakeKind::Dataset, "someone/shared", "main", "data/b.parquet").unwrap(), b"and more");
    // What both have is no episode: a file that says nothing, empty or of the same name.
    for text in ["", "the same"] {
        fake.repo(FakeKind::Dataset, "someone/shared").commit(&[("data/c.parquet", text.as_bytes())]);
        let fourth = dataset(&cache, &format!("fourth{}", text.len()), &table("fourth"));
        fs::write(fourth.join("data/c.parquet"), text).unwrap();
        is_refused(&fourth, UploadOptions::default(), &["another dataset"]);
    }
    // A part of a folder is a part of its dataset.
    fs::write(third.join("meta/info.json"), "{\"codebase_version\": \"v3.0\", \"fps\": 30}").unwrap();
    fs::remove_dir_all(third.join(".cache")).unwrap();
    upload(&third, UploadOptions { include: vec!["meta/**".into()], ..at_head() }).unwrap();
}

#[test]
fn a_commit_whose_note_a_kill_has_cost_is_ours() {
    for (parent_is_named, others_went_on) in [(true, false), (false, false), (true, true), (false, true)] {
        let (fake, cache) = (common::fake(), TempDir::new().unwrap());
        let hub = common::client(&fake, &cache);
        let folder = dataset(&cache, "takes", "mine");
        let repo = HubRepo::parse(RepoKind::Dataset, "someone/takes").unwrap();
        fake.add(FakeKind::Dataset, "someone/takes");
        let parent = fake.commit_of(FakeKind::Dataset, "someone/takes", "main").filter(|_| parent_is_named);
        let options = || UploadOptions { parent: parent.clone(), ..UploadOptions::default() };
        // Ended after the commit, at the look whether it holds all; then the note of the commit is taken away.
        fake.fault(Fault::on("*/tree/*", status(400)).skip(1));
        hub.upload(&folder, &repo, &options(), &|_| {}).unwrap_err();
        fake.clear_faults();
        let ours = fake.commit_of(FakeKind::Dataset, "someone/takes", "main").unwrap();
        let journal = folder.join(".cache/sinew/upload.jsonl");
        let text = fs::read_to_string(&journal).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.contains("\"what\":\"commit\"")).collect();
        assert_eq!(kept.len() + 1, text.lines().count());
        fs::write(&journal, kept.join("\n") + "\n").unwrap();
        if others_went_on {
            fake.repo(FakeKind::Dataset, "someone/takes").commit(&[("data/a.parquet", b"theirs")]);
        }
        let again = hub.upload(&folder, &repo, &options(), &|_| {});
        match others_went_on {
            false => assert_eq!(again.unwrap().commit, ours),
            true => assert!(matches!(again, Err(HubError::Conflict { .. })), "{again:?}"),
        }
    }
}

#[test]
fn a_tag_that_a_kill_left_out_is_set_the_next_time() {
    for is_finish in [false, true] {
        let (fake, cache) = (common::fake(), TempDir::new().unwrap());
        let hub = common::client(&fake, &cache);
        let folder = dataset(&cache, "takes", "one");
        let repo = HubRepo::parse(RepoKind::Dataset, "someone/takes").unwrap();
        let tagged = || fake.commit_of(FakeKind::Dataset, "someone/takes", "v3.0");
        let upload = || hub.upload(&folder, &repo, &UploadOptions::default(), &|_| {});
        upload().unwrap();
        fs::write(folder.join("data/a.parquet"), "two").unwrap();
        // What it stands for: the old tag is gone, and the new one was not set.
        fake.fault(Fault::on("*/tag/*", status(400)).method("POST").times(1));
        let uploaded = if is_finish {
            let publisher = Publisher::open(&hub, &folder, &repo, UploadOptions::default()).unwrap();
            publisher.finish(&UploadOptions::default(), &|_| {}).unwrap_err();
            assert_eq!(tagged(), None);
            hub.finish(&folder, UploadOptions::default(), &|_| {}).unwrap()
        } else {
            upload().unwrap_err();
            assert_eq!(tagged(), None);
            upload().unwrap()
        };
        assert_eq!(tagged(), Some(uploaded.commit));
    }
}

#[test]
fn nothing_is_made_before_all_that_is_here_was_looked_at() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let hub = common::client(&fake, &cache);
    let folder = dataset(&cache, "takes", "one");
    let repo = HubRepo::parse(RepoKind::Dataset, "someone/takes").unwrap();
    let upload = |options: &UploadOptions| hub.upload(&folder, &repo, options, &|_| {}).unwrap_err().to_string();
    let refused = upload(&UploadOptions { check: Some(Box::new(|_| Err("unsettled".into()))), ..UploadOptions::default() });
    assert!(refused.contains("unsettled"), "{refused}");
    fs::write(folder.join("notes.txt"), format!("token: {}", common::TOKEN)).unwrap();
    assert!(upload(&UploadOptions::default()).contains("token"));
    fs::remove_file(folder.join("notes.txt")).unwrap();
    let refused = upload(&UploadOptions { parent: Some("0".repeat(40)), ..UploadOptions::default() });
    assert!(refused.contains("no such dataset"), "{refused}");
    assert!(!fake.has(FakeKind::Dataset, "someone/takes"));
}
