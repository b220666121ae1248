//! Fetching from a server on the loopback interface that speaks as much of the Hub's HTTP as a
//! download needs. Nothing here touches the internet.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod server;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use server::{Fault, HubServer};
use sinew_hub::{CacheHint, Gate, Hub, HubError, HubOptions, ModelRef, TokenState};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const MODEL: &str = "someone/act_push";
const CONFIG: &[u8] = br#"{"type": "act"}"#;

fn weights() -> Vec<u8> {
    (0..200_000u32).map(|i| (i * 31 % 251) as u8).collect()
}

fn server() -> HubServer {
    HubServer::start(MODEL, COMMIT)
        .with_file("config.json", CONFIG)
        .with_file("policy_preprocessor.json", b"{}")
        .with_file("README.md", b"# A policy")
        .with_file("optimizer.pt", b"a pickle")
        .with_file("checkpoints/1/model.safetensors", b"of another time")
        .with_large_file("model.safetensors", &weights())
}

fn options(server: &HubServer, cache: &TempDir) -> HubOptions {
    HubOptions {
        endpoint: server.endpoint(),
        cache_dir: cache.path().to_owned(),
        token: Some("hf_test".into()),
        offline: false,
        retries: 0,
    }
}

fn fetch(options: HubOptions, name: &str) -> Result<std::path::PathBuf, HubError> {
    Hub::new(options).fetch(&ModelRef::parse(name).unwrap(), |_| {})
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_policy_is_fetched_into_the_layout_of_huggingface_hub() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let snapshot = fetch(options(&server, &cache), MODEL).unwrap();
    let repo = cache.path().join("models--someone--act_push");
    assert_eq!(snapshot, repo.join("snapshots").join(COMMIT));
    assert_eq!(names(&snapshot), ["README.md", "config.json", "model.safetensors", "policy_preprocessor.json"]);
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let blob = fs::read_link(snapshot.join("model.safetensors")).unwrap();
    assert_eq!(blob, Path::new("../../blobs").join(server::sha256_hex(&weights())));
}

#[test]
fn progress_counts_the_bytes_of_all_files() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    Hub::new(options(&server, &cache))
        .fetch(&ModelRef::parse(MODEL).unwrap(), move |transfer| log.lock().unwrap().push((transfer.done_bytes, transfer.total_bytes)))
        .unwrap();
    let seen = seen.lock().unwrap();
    let total = (weights().len() + CONFIG.len() + 2 + "# A policy".len()) as u64;
    assert!(seen.iter().all(|&(done, of)| done <= total && of == total), "{seen:?}");
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(seen.last(), Some(&(total, total)));
}

#[test]
fn what_is_in_the_cache_is_not_fetched_again() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let first = fetch(options(&server, &cache), MODEL).unwrap();
    let transfers = server.transfers();
    assert!(!transfers.is_empty());
    assert_eq!(fetch(options(&server, &cache), MODEL).unwrap(), first);
    assert_eq!(server.transfers(), transfers);
    // Only what is missing is fetched.
    fs::remove_file(first.join("README.md")).unwrap();
    fs::remove_file(first.join("config.json").canonicalize().unwrap()).unwrap();
    fs::remove_file(first.join("config.json")).unwrap();
    fetch(options(&server, &cache), MODEL).unwrap();
    assert_eq!(server.transfers()[transfers.len()..], ["config.json"]);
    assert!(first.join("README.md").is_file());
}

#[test]
fn offline_answers_come_from_the_cache_alone() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let offline = HubOptions { endpoint: "http://127.0.0.1:1".into(), offline: true, ..options(&server, &cache) };
    let error = fetch(offline.clone(), MODEL).unwrap_err();
    let HubError::NotCached { looked_for, .. } = &error else { panic!("{error}") };
    assert_eq!(looked_for, &cache.path().join("models--someone--act_push/refs/main"));
    let snapshot = fetch(options(&server, &cache), MODEL).unwrap();
    assert_eq!(fetch(offline.clone(), MODEL).unwrap(), snapshot);
    assert_eq!(fetch(offline.clone(), &format!("{MODEL}@{COMMIT}")).unwrap(), snapshot);
    let error = fetch(offline, &format!("{MODEL}@v2")).unwrap_err();
    assert!(error.to_string().contains("refs/v2"), "{error}");
}

#[test]
fn a_commit_can_be_asked_for_by_its_hash() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let snapshot = fetch(options(&server, &cache), &format!("{MODEL}@{COMMIT}")).unwrap();
    assert!(snapshot.join("config.json").is_file());
    assert!(!cache.path().join("models--someone--act_push/refs").exists());
}

#[test]
fn missing_models_and_revisions_are_told_apart() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let error = fetch(options(&server, &cache), "someone/else").unwrap_err();
    assert!(matches!(error, HubError::NoModel { token: TokenState::Sent, .. }), "{error}");
    let error = fetch(options(&server, &cache), &format!("{MODEL}@v9")).unwrap_err();
    assert!(matches!(error, HubError::NoRevision { .. }), "{error}");
    assert!(error.to_string().contains("someone/act_push@v9"), "{error}");
}

#[test]
fn a_refused_request_says_what_a_token_would_do() {
    let (server, cache) = (server().with_token("hf_right"), TempDir::new().unwrap());
    let error = fetch(HubOptions { token: Some("hf_wrong".into()), ..options(&server, &cache) }, MODEL).unwrap_err();
    let HubError::Refused { status: 401, token: TokenState::Sent, gate: Gate::Gated(page), .. } = &error else { panic!("{error}") };
    assert_eq!(page, &format!("{}/{MODEL}", server.endpoint()));
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    fetch(HubOptions { token: Some("hf_right".into()), ..options(&server, &cache) }, MODEL).unwrap();
}

#[test]
fn a_repository_without_a_policy_is_named_as_such_before_anything_is_fetched() {
    let server = HubServer::start(MODEL, COMMIT).with_file("config.json", b"{}").with_file("pytorch_model.bin", b"a pickle");
    let cache = TempDir::new().unwrap();
    let error = fetch(options(&server, &cache), MODEL).unwrap_err();
    let HubError::NoPolicy { expected: "*.safetensors", found, .. } = &error else { panic!("{error}") };
    assert_eq!(found, &["checkpoints/", "config.json", "pytorch_model.bin"]);
    assert!(server.transfers().is_empty());
}

#[test]
fn a_transfer_that_breaks_off_leaves_nothing_half_and_can_be_repeated() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    server.set_fault("model.safetensors", Some(Fault::CutAfter(70_000)));
    let error = fetch(options(&server, &cache), MODEL).unwrap_err();
    assert!(matches!(error, HubError::Network { hint: CacheHint::Nothing, .. }), "{error}");
    let repo = cache.path().join("models--someone--act_push");
    assert!(!repo.join("snapshots").join(COMMIT).join("model.safetensors").exists());
    assert!(!repo.join("refs").exists());
    server.set_fault("model.safetensors", None);
    let snapshot = fetch(options(&server, &cache), MODEL).unwrap();
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn damaged_files_and_error_pages_never_become_a_policy() {
    for (name, fault) in
        [("model.safetensors", Fault::FlipByte(1000)), ("model.safetensors", Fault::ErrorPage), ("config.json", Fault::ErrorPage)]
    {
        let (server, cache) = (server(), TempDir::new().unwrap());
        server.set_fault(name, Some(fault));
        let error = fetch(options(&server, &cache), MODEL).unwrap_err();
        assert!(matches!(&error, HubError::Damaged { file, .. } if file == name), "{name} {fault:?}: {error}");
        server.set_fault(name, None);
        let snapshot = fetch(options(&server, &cache), MODEL).unwrap();
        assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), weights(), "{name} {fault:?}");
        assert_eq!(fs::read(snapshot.join("config.json")).unwrap(), CONFIG, "{name} {fault:?}");
    }
}

#[test]
fn a_file_of_the_wrong_size_in_the_cache_is_replaced() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let snapshot = fetch(options(&server, &cache), MODEL).unwrap();
    fs::write(snapshot.join("model.safetensors").canonicalize().unwrap(), b"cut").unwrap();
    fetch(options(&server, &cache), MODEL).unwrap();
    assert_eq!(fs::read(snapshot.join("model.safetensors")).unwrap(), weights());
}

#[test]
fn without_a_network_the_cached_copy_is_pointed_out_not_used_in_silence() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let snapshot = fetch(options(&server, &cache), MODEL).unwrap();
    let unreachable = HubOptions { endpoint: "http://127.0.0.1:1".into(), ..options(&server, &cache) };
    let error = fetch(unreachable, MODEL).unwrap_err();
    let HubError::Network { hint: CacheHint::Snapshot(path), .. } = &error else { panic!("{error}") };
    assert_eq!(path, &snapshot);
    assert!(error.to_string().contains("HF_HUB_OFFLINE=1"), "{error}");
}

#[test]
fn an_answer_that_is_no_json_is_an_error() {
    let (server, cache) = (server().with_portal(), TempDir::new().unwrap());
    let error = fetch(options(&server, &cache), MODEL).unwrap_err();
    assert!(matches!(error, HubError::Network { .. } | HubError::Server { .. }), "{error}");
}

#[test]
fn a_local_folder_is_taken_as_it_is() {
    let (server, folder) = (server(), TempDir::new().unwrap());
    let path = folder.path().to_str().unwrap();
    assert_eq!(fetch(options(&server, &folder), path).unwrap(), folder.path());
    let error = fetch(options(&server, &folder), &format!("{path}/missing")).unwrap_err();
    assert!(matches!(error, HubError::NoFolder { found: "there is nothing there", .. }), "{error}");
    fs::write(folder.path().join("file"), "").unwrap();
    let error = fetch(options(&server, &folder), &format!("{path}/file")).unwrap_err();
    assert!(error.to_string().contains("expected a folder"), "{error}");
}

#[test]
fn one_file_of_a_repository_is_fetched_alone_and_once() {
    let (server, cache) = (server(), TempDir::new().unwrap());
    let ModelRef::Hub(model) = ModelRef::parse(MODEL).unwrap() else { panic!("a name of the Hub") };
    let hub = Hub::new(options(&server, &cache));
    let path = hub.fetch_file(&model, "config.json").unwrap().unwrap();
    assert_eq!(fs::read(&path).unwrap(), CONFIG);
    assert_eq!(names(path.parent().unwrap()), ["config.json"]);
    assert_eq!(hub.fetch_file(&model, "tokenizer.json").unwrap(), None);
    // What is cached is there without the Hub, and the rest is told to be missing from the cache.
    let offline = Hub::new(HubOptions { endpoint: "http://127.0.0.1:1".into(), offline: true, ..options(&server, &cache) });
    assert_eq!(offline.fetch_file(&model, "config.json").unwrap().unwrap(), path);
    assert_eq!(offline.fetch_file(&model, "README.md").unwrap(), None);
    let unreachable = Hub::new(HubOptions { endpoint: "http://127.0.0.1:1".into(), ..options(&server, &cache) });
    assert_eq!(unreachable.fetch_file(&model, "config.json").unwrap().unwrap(), path);
    assert!(matches!(unreachable.fetch_file(&model, "README.md"), Err(HubError::Network { .. })));
}

#[test]
fn a_datasets_files_come_when_they_are_asked_for() {
    let server = HubServer::start("datasets/someone/pushes", COMMIT)
        .with_file("meta/info.json", b"{}")
        .with_large_file("data/chunk-000/file-000.parquet", &weights())
        .with_large_file("data/chunk-000/file-001.parquet", b"of later episodes");
    let cache = TempDir::new().unwrap();
    let Ok(ModelRef::Hub(name)) = ModelRef::parse("someone/pushes") else { panic!("a name on the Hub") };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let open = |options| {
        Hub::new(options).dataset(&name, move |transfer| log.lock().unwrap().push((transfer.file.to_owned(), transfer.done_bytes)))
    };
    let dataset = open(options(&server, &cache)).unwrap();
    assert_eq!(dataset.folder(), cache.path().join("datasets--someone--pushes/snapshots").join(COMMIT));
    assert!(server.transfers().is_empty());
    for _ in 0..2 {
        assert!(dataset.fetch("data/chunk-000/file-000.parquet").unwrap());
    }
    assert!(!dataset.fetch("data/chunk-000/file-002.parquet").unwrap());
    assert_eq!(server.transfers(), ["data/chunk-000/file-000.parquet"]);
    assert_eq!(fs::read(dataset.folder().join("data/chunk-000/file-000.parquet")).unwrap(), weights());
    assert_eq!(seen.lock().unwrap().last().unwrap(), &("data/chunk-000/file-000.parquet".to_owned(), weights().len() as u64));
    // Damage is told, and nothing of it stays.
    server.set_fault("data/chunk-000/file-001.parquet", Some(Fault::FlipByte(3)));
    assert!(matches!(dataset.fetch("data/chunk-000/file-001.parquet"), Err(HubError::Damaged { .. })));
    assert!(!dataset.folder().join("data/chunk-000/file-001.parquet").exists());
    let offline = HubOptions { endpoint: "http://127.0.0.1:1".into(), offline: true, ..options(&server, &cache) };
    let offline = Hub::new(offline).dataset(&name, |_| {}).unwrap();
    assert!(offline.fetch("data/chunk-000/file-000.parquet").unwrap());
    assert!(!offline.fetch("data/chunk-000/file-001.parquet").unwrap());
}
