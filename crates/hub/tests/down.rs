//! Policies and datasets come whole, into the layout of huggingface_hub, and what is there is not fetched again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{CONFIG, DATASET, MODEL, TOKEN, client, dataset, fake, heard, model, named, names, noise, options, start, transfers, weights};
use sinew_hub::{CacheHint, Download, Gate, Hub, HubError, HubOptions, Token, TokenState};
use sinew_testkit::hub::{Gated, HubOptions as FakeOptions, RepoKind as FakeKind, Rights};
use tempfile::TempDir;

const POLICY: [&str; 5] = ["README.md", "config.json", "model.safetensors", "policy_preprocessor.json", "tokenizer/tokenizer.json"];

#[test]
fn a_policy_is_fetched_with_what_its_processors_name_and_no_pickle() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let (listener, log) = heard();
    let fetched = client(&fake, &cache).fetch(&named(MODEL), &*listener).unwrap();
    let commit = fake.commit_of(FakeKind::Model, MODEL, "main").unwrap();
    let repo = cache.path().join("hub/models--someone--act_push");
    assert_eq!(fetched.folder, repo.join("snapshots").join(&commit));
    assert_eq!(fetched.resolved.unwrap().commit, commit);
    assert_eq!(names(&fetched.folder), POLICY);
    assert_eq!(fs::read(fetched.folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), commit);
    let blob = fs::read_link(fetched.folder.join("model.safetensors")).unwrap();
    assert_eq!(blob.parent().unwrap(), Path::new("../../blobs"));
    assert_eq!(blob.file_name().unwrap().len(), 64);
    assert_eq!(fs::read_link(fetched.folder.join("config.json")).unwrap().file_name().unwrap().len(), 40);
    let log = log.lock().unwrap();
    assert!(log[0].starts_with("Resolved") && log[0].contains(&commit), "{}", log[0]);
    assert!(log.last().unwrap().contains("done_bytes: 300065, total_bytes: 300065") || log.len() > 5, "{log:?}");
}

#[test]
fn what_is_in_the_cache_is_not_fetched_again_and_only_what_is_missing_is() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let first = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    fake.forget_requests();
    assert_eq!(hub.fetch(&named(MODEL), &|_| {}).unwrap().folder, first);
    assert_eq!(transfers(&fake), [""; 0]);
    fs::remove_file(first.join("README.md")).unwrap();
    fs::remove_file(first.join("config.json").canonicalize().unwrap()).unwrap();
    // A file of the wrong size is none.
    fs::write(first.join("model.safetensors").canonicalize().unwrap(), b"cut").unwrap();
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
    let mut again = transfers(&fake);
    again.sort();
    assert_eq!(again, ["config.json", "model.safetensors"]);
    assert_eq!(fs::read(first.join("model.safetensors")).unwrap(), weights());
    assert_eq!(names(&first), POLICY);
}

#[test]
fn offline_answers_come_from_the_cache_alone() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let offline = Hub::new(HubOptions { endpoint: "http://127.0.0.1:1".into(), offline: true, ..options(&fake, &cache) });
    let error = offline.fetch(&named(MODEL), &|_| {}).unwrap_err();
    let HubError::NotCached { looked_for, .. } = &error else { panic!("{error}") };
    assert!(looked_for.ends_with("models--someone--act_push/refs/main"), "{error}");
    let snapshot = client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap().folder;
    assert_eq!(offline.fetch(&named(MODEL), &|_| {}).unwrap().folder, snapshot);
    let commit = fake.commit_of(FakeKind::Model, MODEL, "main").unwrap();
    assert_eq!(offline.fetch(&named(&format!("{MODEL}@{commit}")), &|_| {}).unwrap().folder, snapshot);
    let error = offline.fetch(&named(&format!("{MODEL}@v2")), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("refs/v2"), "{error}");
    assert!(matches!(offline.info(&model()), Err(HubError::Offline { .. })));
    // What kind it is, the cache knows where one has the name.
    assert_eq!(offline.kind_of(&model()).unwrap(), sinew_hub::RepoKind::Model);
    let nobody = sinew_hub::HubRepo::parse(sinew_hub::RepoKind::Model, "no/body").unwrap();
    assert!(matches!(offline.kind_of(&nobody), Err(HubError::Offline { .. })));
    // A folder of the user's gets what the cache has, and so does whoever wants to read the card.
    let folder = cache.path().join("out");
    let out = Download { folder: Some(folder.clone()), ..Download::default() };
    for fetched_files in [5, 0] {
        let downloaded = offline.download(&model(), &out, &|_| {}).unwrap();
        assert_eq!((downloaded.folder.as_path(), downloaded.files, downloaded.fetched_files), (folder.as_path(), 5, fetched_files));
    }
    assert_eq!(names(&folder).into_iter().filter(|name| !name.starts_with(".cache")).collect::<Vec<_>>(), POLICY);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert!(!folder.join("config.json").symlink_metadata().unwrap().is_symlink());
    let card = offline.read_text(&model(), "README.md", &|_| {}).unwrap();
    assert!(card.contains("# A policy"), "{card}");
    assert!(matches!(offline.read_text(&model(), "other.md", &|_| {}), Err(HubError::NotCached { .. })));
    // What is damaged is not handed on.
    let mut damaged = weights();
    damaged[7] ^= 1;
    fs::write(snapshot.join("model.safetensors").canonicalize().unwrap(), damaged).unwrap();
    let other = Download { folder: Some(cache.path().join("other")), ..Download::default() };
    let error = offline.download(&model(), &other, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("the cache is damaged there") && !cache.path().join("other/model.safetensors").exists(), "{error}");
    let error = offline.download(&model(), &Download::default(), &|_| {}).unwrap_err().to_string();
    assert!(error.contains("model.safetensors: its content has the hash"), "{error}");
    fs::remove_file(snapshot.join("model.safetensors").canonicalize().unwrap()).unwrap();
    for what in [other, Download::default()] {
        let error = offline.download(&model(), &what, &|_| {}).unwrap_err().to_string();
        assert!(error.contains("model.safetensors: the cache has its name, and its content is gone"), "{error}");
    }
    let rest = Download { exclude: vec!["*.safetensors".into()], ..Download::default() };
    assert_eq!(offline.download(&model(), &rest, &|_| {}).unwrap().files, 4);
}

#[test]
fn without_a_network_the_cache_answers_and_says_so_in_one_line() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let unreachable = Hub::new(HubOptions { endpoint: "http://127.0.0.1:1".into(), retries: 0, ..options(&fake, &cache) });
    let error = unreachable.fetch(&named(MODEL), &|_| {}).unwrap_err();
    let HubError::Unreachable { hint: CacheHint::Nothing, .. } = &error else { panic!("{error}") };
    assert!(!error.to_string().contains('\n') && std::error::Error::source(&error).is_none(), "{error}");
    let snapshot = client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap().folder;
    let (listener, log) = heard();
    let fetched = unreachable.fetch(&named(MODEL), &*listener).unwrap();
    assert_eq!(fetched.folder, snapshot);
    assert!(fetched.resolved.unwrap().from_cache.unwrap().contains("can't be reached"));
    let log = log.lock().unwrap();
    assert!(log.len() == 1 && log[0].starts_with("FromCache"), "{log:?}");
    // What the cache has a part of is not taken for the whole.
    fs::remove_file(snapshot.join("config.json")).unwrap();
    let error = unreachable.fetch(&named(MODEL), &|_| {}).unwrap_err();
    assert!(matches!(&error, HubError::NotCached { looked_for, .. } if looked_for.ends_with("config.json")), "{error}");
}

#[test]
fn a_download_that_did_not_end_leaves_the_older_snapshot_in_force() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let old = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    fake.repo(FakeKind::Model, MODEL).commit(&[("model.safetensors", &noise(300_000, 7))]);
    fake.fault(sinew_testkit::hub::Fault::on(
        "*/resolve/*/model.safetensors",
        sinew_testkit::hub::Harm::Status { status: 404, code: None, message: None, retry_after_s: None },
    ));
    assert!(hub.fetch(&named(MODEL), &|_| {}).is_err());
    let offline = Hub::new(HubOptions { offline: true, ..options(&fake, &cache) });
    assert_eq!(offline.fetch(&named(MODEL), &|_| {}).unwrap().folder, old);
}

#[test]
fn missing_repositories_and_revisions_are_told_apart() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let error = hub.fetch(&named("someone/else"), &|_| {}).unwrap_err();
    assert!(matches!(error, HubError::NoRepo { token: TokenState::Sent, .. }), "{error}");
    let error = hub.fetch(&named(&format!("{MODEL}@v9")), &|_| {}).unwrap_err();
    assert!(matches!(error, HubError::NoRevision { .. }) && error.to_string().contains("someone/act_push@v9"), "{error}");
}

#[test]
fn private_and_gated_repositories_say_what_would_help() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.repo(FakeKind::Model, MODEL).private(true);
    let without = Hub::new(HubOptions { token: None, ..options(&fake, &cache) });
    let error = without.fetch(&named(MODEL), &|_| {}).unwrap_err();
    assert!(
        matches!(error, HubError::NoRepo { token: TokenState::Absent, .. }) && error.to_string().contains("sinew hub login"),
        "{error}"
    );
    client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap();

    fake.repo(FakeKind::Model, MODEL).private(false).gated(Gated::Manual);
    fake.token("hf_other", "other", Rights::Read);
    let empty = TempDir::new().unwrap();
    let other = Hub::new(HubOptions { token: Token::new("hf_other"), ..options(&fake, &empty) });
    let error = other.fetch(&named(MODEL), &|_| {}).unwrap_err();
    let HubError::Refused { status: 403, token: TokenState::Sent, gate: Gate::Gated(page), .. } = &error else { panic!("{error}") };
    assert_eq!(page, &format!("{}/{MODEL}", fake.endpoint()));
    let wrong = Hub::new(HubOptions { token: Token::new("hf_unknown"), ..options(&fake, &empty) });
    assert!(matches!(wrong.fetch(&named(MODEL), &|_| {}).unwrap_err(), HubError::Refused { .. } | HubError::NoRepo { .. }));
}

#[test]
fn a_repository_without_a_policy_is_named_as_such_and_its_pickle_too() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.add(FakeKind::Model, "someone/pickled").commit(&[("config.json", b"{}"), ("pytorch_model.bin", b"a pickle")]);
    let error = client(&fake, &cache).fetch(&named("someone/pickled"), &|_| {}).unwrap_err();
    assert!(error.to_string().contains("refused pytorch_model.bin: a pickle, which runs code of whoever made it"), "{error}");
    fake.add(FakeKind::Model, "someone/none").commit(&[("config.json", b"{}"), ("optimizer.pt", b"a pickle")]);
    let error = client(&fake, &cache).fetch(&named("someone/none"), &|_| {}).unwrap_err();
    let HubError::NoPolicy { expected: "*.safetensors", found, .. } = &error else { panic!("{error}") };
    assert!(found.iter().any(|name| name == "optimizer.pt (a pickle, which is never loaded)"), "{error}");
    assert_eq!(transfers(&fake), [""; 0]);
}

#[test]
fn one_file_is_fetched_alone_and_once() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let path = hub.fetch_file(&model(), "config.json").unwrap().unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONFIG);
    assert_eq!(names(path.parent().unwrap()), ["config.json"]);
    assert_eq!(hub.fetch_file(&model(), "nothing.json").unwrap(), None);
    let offline = Hub::new(HubOptions { offline: true, ..options(&fake, &cache) });
    assert_eq!(offline.fetch_file(&model(), "config.json").unwrap().unwrap(), path);
    assert_eq!(offline.fetch_file(&model(), "README.md").unwrap(), None);
    let unreachable = Hub::new(HubOptions { endpoint: "http://127.0.0.1:1".into(), retries: 0, ..options(&fake, &cache) });
    assert_eq!(unreachable.fetch_file(&model(), "config.json").unwrap().unwrap(), path);
    assert!(unreachable.fetch_file(&model(), "README.md").is_err());
}

#[test]
fn a_datasets_files_come_when_they_are_asked_for() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let (rows, more) = (noise(150_000, 2), noise(150_000, 3));
    let files: [(&str, &[u8]); 3] =
        [("meta/info.json", b"{}"), ("data/chunk-000/file-000.parquet", &rows), ("data/chunk-000/file-001.parquet", &more)];
    fake.add(FakeKind::Dataset, DATASET).commit(&files);
    let hub = client(&fake, &cache);
    let opened = hub.dataset(&dataset(), Arc::new(|_| {})).unwrap();
    assert_eq!(transfers(&fake), [""; 0]);
    for _ in 0..2 {
        assert!(opened.fetch("data/chunk-000/file-000.parquet").unwrap());
    }
    assert!(!opened.fetch("data/chunk-000/file-002.parquet").unwrap());
    assert_eq!(transfers(&fake), ["data/chunk-000/file-000.parquet"]);
    assert_eq!(fs::read(opened.folder().join("data/chunk-000/file-000.parquet")).unwrap(), rows);
    let offline = Hub::new(HubOptions { offline: true, ..options(&fake, &cache) });
    let again = offline.dataset(&dataset(), Arc::new(|_| {})).unwrap();
    assert!(again.fetch("data/chunk-000/file-000.parquet").unwrap());
    assert!(!again.fetch("data/chunk-000/file-001.parquet").unwrap());
    // A newer commit of which a part is here does not stand for the older one, of which more is.
    fake.repo(FakeKind::Dataset, DATASET).commit(&[("meta/info.json", b"{ }")]);
    let newer = hub.dataset(&dataset(), Arc::new(|_| {})).unwrap();
    assert!(newer.fetch("meta/info.json").unwrap());
    assert_eq!(offline.dataset(&dataset(), Arc::new(|_| {})).unwrap().folder(), opened.folder());
    assert!(newer.fetch("data/chunk-000/file-000.parquet").unwrap());
    assert_eq!(offline.dataset(&dataset(), Arc::new(|_| {})).unwrap().folder(), newer.folder());
}

#[test]
fn the_files_of_a_table_of_episodes_come_together() {
    let (fake, cache) = (start(FakeOptions { latency: Duration::from_millis(100), ..FakeOptions::default() }), TempDir::new().unwrap());
    let files: Vec<(String, Vec<u8>)> =
        (0..40).map(|n| (format!("meta/episodes/chunk-000/file-{n:03}.parquet"), noise(110_000, n))).collect();
    let mut all: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    all.extend([("meta/info.json", b"{}".as_slice()), ("meta/episodes/notes.txt", b"not asked for")]);
    fake.add(FakeKind::Dataset, DATASET).commit(&all);
    let opened = client(&fake, &cache).dataset(&dataset(), Arc::new(|_| {})).unwrap();
    assert!(opened.fetch("meta/info.json").unwrap());
    fake.forget_requests();
    let begin = Instant::now();
    for (path, bytes) in &files {
        assert!(opened.fetch(path).unwrap());
        assert_eq!(&fs::read(opened.folder().join(path)).unwrap(), bytes);
    }
    assert!(!opened.fetch("meta/episodes/chunk-000/file-040.parquet").unwrap());
    // Two round trips for each file, eight at a time, instead of one after another.
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert_eq!(names(&opened.folder()).len(), 41);
}

#[test]
fn a_download_goes_to_a_folder_too_and_overwrites_nothing() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let out = cache.path().join("out");
    let what = Download { include: vec!["*.json".into()], exclude: vec!["tokenizer/*".into()], folder: Some(out.clone()) };
    let downloaded = hub.download(&model(), &what, &|_| {}).unwrap();
    // With the commit that it came from, for an upload.
    let there = [".cache/sinew/upload.jsonl", "config.json", "policy_preprocessor.json"].map(str::to_owned);
    assert_eq!((downloaded.files, names(&out)), (2, there.to_vec()));
    fs::write(out.join("config.json"), "mine").unwrap();
    let error = hub.download(&model(), &what, &|_| {}).unwrap_err();
    assert!(matches!(error, HubError::Unusable { .. }) && error.to_string().contains("is another file"), "{error}");
    assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), "mine");
    let none = Download { include: vec!["*.mp4".into()], ..Download::default() };
    assert!(matches!(hub.download(&model(), &none, &|_| {}), Err(HubError::Unusable { .. })));
    let all = hub.download(&model(), &Download::default(), &|_| {}).unwrap();
    assert!(names(&all.folder).contains(&"checkpoints/1/model.safetensors".to_owned()));
}

#[test]
fn a_folder_follows_its_repository_and_takes_no_other() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    let out = cache.path().join("out");
    let what = Download { folder: Some(out.clone()), ..Download::default() };
    let download = || hub.download(&model(), &what, &|_| {});
    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    download().unwrap();
    for content in ["second", "third"] {
        fake.repo(FakeKind::Model, MODEL).commit(&[("config.json", content.as_bytes()), ("model.safetensors", &noise(300_000, 7))]);
        download().unwrap();
        assert_eq!((read("config.json").as_str(), fs::read(out.join("model.safetensors")).unwrap()), (content, noise(300_000, 7)));
    }
    // What was edited here stays, and nothing beside it is replaced.
    fs::write(out.join("config.json"), "mine").unwrap();
    fake.repo(FakeKind::Model, MODEL).commit(&[("config.json", b"fourth"), ("README.md", b"fourth")]);
    let error = download().unwrap_err().to_string();
    assert!(error.contains("config.json is there already, is another file, and was not left so"), "{error}");
    assert!(read("config.json") == "mine" && read("README.md") != "fourth");
    fs::remove_file(out.join("config.json")).unwrap();
    download().unwrap();
    assert_eq!((read("config.json").as_str(), read("README.md").as_str()), ("fourth", "fourth"));
    fake.add(FakeKind::Model, "someone/other").commit(&[("other.json", b"{}")]);
    let other = sinew_hub::HubRepo::parse(sinew_hub::RepoKind::Model, "someone/other").unwrap();
    let error = hub.download(&other, &what, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("someone/other") && error.contains(&format!("belongs to the model {MODEL}")), "{error}");
    assert!(!out.join("other.json").exists());
}

#[test]
fn the_kind_is_guessed_only_where_one_has_the_name() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    assert_eq!(hub.kind_of(&model()).unwrap(), sinew_hub::RepoKind::Model);
    fake.add(FakeKind::Dataset, MODEL).commit(&[("meta/info.json", b"{}")]);
    let error = hub.kind_of(&model()).unwrap_err().to_string();
    assert!(error.contains("it is a model and a dataset") && error.contains("--type"), "{error}");
    let nobody = sinew_hub::HubRepo::parse(sinew_hub::RepoKind::Model, "no/body").unwrap();
    let error = hub.kind_of(&nobody).unwrap_err().to_string();
    assert!(error.contains("or it is private and the token that was sent") && !error.contains("--type"), "{error}");
    let error = Hub::new(HubOptions { token: None, ..options(&fake, &cache) }).kind_of(&nobody).unwrap_err().to_string();
    assert!(error.contains("no token was sent: run `sinew hub login`, or set HF_TOKEN"), "{error}");
}

#[test]
fn a_renamed_repository_is_found_by_its_old_name() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.repo(FakeKind::Model, MODEL).renamed_from("someone/old_name");
    let fetched = client(&fake, &cache).fetch(&named("someone/old_name"), &|_| {}).unwrap();
    assert_eq!(names(&fetched.folder), POLICY);
}

#[test]
fn the_token_goes_to_the_hub_alone_and_is_stored_for_its_owner() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
    let cdn = fake.cdn().trim_start_matches("http://").to_owned();
    let (at_cdn, at_hub): (Vec<_>, Vec<_>) = fake.requests().into_iter().partition(|request| request.host.as_deref() == Some(&cdn));
    assert!(!at_cdn.is_empty() && at_cdn.iter().all(|request| !request.authorized), "{at_cdn:?}");
    assert!(at_hub.iter().all(|request| request.authorized), "{at_hub:?}");

    let account = hub.whoami(None).unwrap();
    assert_eq!((account.name.as_str(), account.rights.as_deref()), ("someone", Some("write")));
    assert!(hub.whoami(Token::new("hf_unknown").as_ref()).is_err());
    hub.store_token(&Token::new(TOKEN).unwrap()).unwrap();
    let stored = cache.path().join("token");
    assert_eq!(fs::read_to_string(&stored).unwrap(), TOKEN);
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&stored).unwrap().permissions()) & 0o777, 0o600);
    assert!(hub.forget_token().unwrap() && !hub.forget_token().unwrap());
}

#[test]
fn a_login_by_a_browser_waits_for_a_yes() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = Hub::new(HubOptions { token: None, ..options(&fake, &cache) });
    let login = hub.begin_device_login("an-app").unwrap();
    assert!(login.user_code.len() > 4 && login.verification_uri.starts_with(&fake.endpoint()), "{login:?}");
    let mut asked = 0;
    let token = hub.finish_device_login(&login, || {
        asked += 1;
        if asked == 2 {
            fake.decide_logins(Some(TOKEN));
        }
        true
    });
    assert_eq!(hub.whoami(Some(&token.unwrap())).unwrap().name, "someone");
    let login = hub.begin_device_login("an-app").unwrap();
    fake.decide_logins(None);
    assert!(hub.finish_device_login(&login, || true).unwrap_err().to_string().contains("access_denied"));
}

#[test]
fn the_cache_is_listed_verified_and_pruned() {
    let (fake, cache) = (start(FakeOptions::default()), TempDir::new().unwrap());
    let hub = client(&fake, &cache);
    assert!(hub.list_cache().unwrap().is_empty());
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
    fake.repo(FakeKind::Model, MODEL).commit(&[("model.safetensors", &noise(300_000, 9))]);
    let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap().folder;
    let listed = hub.list_cache().unwrap();
    assert_eq!((listed.len(), listed[0].repo.as_str(), listed[0].snapshots.len()), (1, MODEL, 2));
    assert!(listed[0].size_bytes > 600_000, "{listed:?}");
    let mut read = 0;
    let verified = hub.verify_cache(None, |bytes| read += bytes).unwrap();
    assert!(verified.flaws.is_empty() && verified.unverified.is_empty(), "{verified:?}");
    assert_eq!(read, listed[0].size_bytes);
    // One byte of a blob turns, and it is found.
    let blob = folder.join("config.json").canonicalize().unwrap();
    fs::write(&blob, br#"{"type": "ACT"}"#).unwrap();
    let flaws = hub.verify_cache(Some(&model()), |_| {}).unwrap().flaws;
    assert!(flaws.len() == 1 && flaws[0].path == blob, "{flaws:?}");
    // The older commit goes once it is no longer young; so long it may be another process's, and so may its blobs.
    assert!(hub.plan_prune(None).unwrap().paths.is_empty());
    for path in names(folder.parent().unwrap()).iter().filter(|path| !folder.ends_with(path.split('/').next().unwrap())) {
        let path = folder.parent().unwrap().join(path);
        assert!(std::process::Command::new("touch").args(["-h", "-d", "2 hours ago"]).arg(path).status().unwrap().success());
    }
    let plan = hub.plan_prune(None).unwrap();
    assert_eq!(plan.paths.len(), 1);
    hub.prune_cache(&plan).unwrap();
    assert!(folder.is_dir() && hub.list_cache().unwrap()[0].snapshots.len() == 1);
    hub.prune_cache(&hub.plan_prune(Some(&model())).unwrap()).unwrap();
    assert!(hub.list_cache().unwrap().is_empty());
}

/// A link in the place of a folder leads to files of somebody else. The cache and the folder themselves may be links.
#[test]
#[cfg(unix)]
fn a_download_writes_through_no_link_in_a_folders_place() {
    use std::os::unix::fs::symlink;
    let (fake, home) = (fake(), TempDir::new().unwrap());
    let (outside, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    symlink(disk.path(), home.path().join("hub")).unwrap();
    let hub = client(&fake, &home);
    let repo = home.path().join("hub/models--someone--act_push");
    for folder in ["blobs", "snapshots", "refs"] {
        fs::create_dir_all(&repo).unwrap();
        symlink(outside.path(), repo.join(folder)).unwrap();
        let error = hub.fetch(&named(MODEL), &|_| {}).unwrap_err();
        let told = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(told.contains(&format!("{folder} is a link, and nothing is written where it leads")), "{told}");
        assert_eq!(names(outside.path()), [""; 0], "{folder}");
        fs::remove_dir_all(&repo).unwrap();
    }
    hub.fetch(&named(MODEL), &|_| {}).unwrap();
    for folder in ["tokenizer", "checkpoints/1", ".sinew-download"] {
        let out = home.path().join(format!("out-{}", folder.replace('/', "-")));
        let real = home.path().join("real");
        fs::create_dir_all(real.join("checkpoints")).unwrap();
        symlink(&real, &out).unwrap();
        symlink(outside.path(), out.join(folder)).unwrap();
        let what = Download { folder: Some(out.clone()), ..Download::default() };
        let error = hub.download(&model(), &what, &|_| {}).unwrap_err();
        let told = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(told.contains(&format!("{folder} is a link")), "{told}");
        assert_eq!(names(outside.path()), [""; 0], "{folder}");
        fs::remove_file(real.join(folder)).unwrap();
        hub.download(&model(), &what, &|_| {}).unwrap();
        assert_eq!(fs::read(real.join("model.safetensors")).unwrap(), weights());
        fs::remove_dir_all(&real).unwrap();
    }
}
