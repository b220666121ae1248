//! What an upload finds that others did, and what an earlier one left.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;

use sinew_hub::{HubError, HubRepo, RepoKind, UploadOptions};
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
    // The next upload begins anew.
    fake.repo(FakeKind::Model, "someone/shared").commit(&[("notes.txt", b"theirs")]);
    fs::write(folder.join("config.json"), "mine again").unwrap();
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
