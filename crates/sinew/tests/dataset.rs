//! A dataset on the Hub is read without fetching all of it.
#![cfg(feature = "datasets")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[allow(dead_code, reason = "the Hub's own tests use the rest of it")]
#[path = "../../hub/tests/server/mod.rs"]
mod server;

use std::path::{Path, PathBuf};

use server::HubServer;
use sinew::{DatasetError, Loader, Windows, open_dataset_of};
use sinew_hub::{Hub, HubError, HubOptions};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const NAME: &str = "someone/pushes";

/// What LeRobot wrote: three episodes with one camera.
fn golden() -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../recorder/golden/datasets/h264")
}

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() { files(&path, all) } else { all.push(path) }
    }
}

#[test]
fn a_dataset_on_the_hub_is_read_file_by_file() {
    let mut all = Vec::new();
    files(&golden(), &mut all);
    let server = all.iter().fold(HubServer::start(&format!("datasets/{NAME}"), COMMIT), |server, path| {
        let relative = path.strip_prefix(golden()).unwrap().to_str().unwrap();
        server.with_large_file(relative, &std::fs::read(path).unwrap())
    });
    let cache = tempfile::tempdir().unwrap();
    let options = HubOptions { endpoint: server.endpoint(), cache_dir: cache.path().to_owned(), token: None, offline: false, retries: 0 };
    let dataset = open_dataset_of(&Hub::new(options.clone()), NAME, |_| {}).unwrap();
    assert!(server.transfers().iter().all(|file| file.starts_with("meta/")), "{:?}", server.transfers());
    let here = open_dataset_of(&Hub::new(options.clone()), golden().to_str().unwrap(), |_| {}).unwrap();
    assert_eq!(dataset.episodes(), here.episodes());
    assert!(dataset.rows(1, 0..2).unwrap() == here.rows(1, 0..2).unwrap());
    assert!(!server.transfers().iter().any(|file| file.ends_with(".mp4")), "{:?}", server.transfers());
    drop(Loader::new(&dataset, &Windows::default()).unwrap().item(0));
    assert!(server.transfers().last().unwrap().ends_with(".mp4"), "{:?}", server.transfers());
    // All of it lies in the cache now.
    let offline = HubOptions { endpoint: "http://127.0.0.1:1".into(), offline: true, ..options.clone() };
    let again = open_dataset_of(&Hub::new(offline), NAME, |_| {}).unwrap();
    assert!(again.rows(0, 0..1).unwrap() == here.rows(0, 0..1).unwrap());
    let error = open_dataset_of(&Hub::new(options), "someone/else", |_| {}).err().unwrap();
    assert!(matches!(&error, DatasetError::Hub(HubError::NoModel { .. })) && error.to_string().contains("no such dataset"), "{error}");
}
