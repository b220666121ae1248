//! A dataset on the Hub is read without fetching all of it.
#![cfg(feature = "datasets")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sinew::{DatasetError, Loader, Windows, open_dataset_of};
use sinew_hub::{Hub, HubError, HubOptions};
use sinew_testkit::hub::{FakeHub, RepoKind};

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
    let contents: Vec<(String, Vec<u8>)> =
        all.iter().map(|path| (path.strip_prefix(golden()).unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap())).collect();
    let fake = FakeHub::start();
    let as_slices: Vec<(&str, &[u8])> = contents.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    fake.add(RepoKind::Dataset, NAME).commit(&as_slices);
    let asked = || -> Vec<String> {
        let requests = fake.requests();
        requests
            .iter()
            .filter_map(|request| request.path.split_once("/resolve/").map(|(_, path)| path.split_once('/').unwrap().1.to_owned()))
            .collect()
    };
    let cache = tempfile::tempdir().unwrap();
    let options = HubOptions {
        endpoint: fake.endpoint(),
        cache_dir: cache.path().to_owned(),
        token: None,
        offline: false,
        retries: 1,
        ..HubOptions::from_env()
    };
    let dataset = open_dataset_of(&Hub::new(options.clone()), NAME, Arc::new(|_| {})).unwrap();
    assert!(asked().iter().all(|file| file.starts_with("meta/")), "{:?}", asked());
    let here = open_dataset_of(&Hub::new(options.clone()), golden().to_str().unwrap(), Arc::new(|_| {})).unwrap();
    assert_eq!(dataset.episodes(), here.episodes());
    assert!(dataset.rows(1, 0..2).unwrap() == here.rows(1, 0..2).unwrap());
    assert!(!asked().iter().any(|file| file.ends_with(".mp4")), "{:?}", asked());
    drop(Loader::new(&dataset, &Windows::default()).unwrap().item(0));
    assert!(asked().last().unwrap().ends_with(".mp4"), "{:?}", asked());
    // All of it lies in the cache now.
    let offline = HubOptions { endpoint: "http://127.0.0.1:1".into(), offline: true, ..options.clone() };
    let again = open_dataset_of(&Hub::new(offline), NAME, Arc::new(|_| {})).unwrap();
    assert!(again.rows(0, 0..1).unwrap() == here.rows(0, 0..1).unwrap());
    let error = open_dataset_of(&Hub::new(options), "someone/else", Arc::new(|_| {})).err().unwrap();
    assert!(matches!(&error, DatasetError::Hub(HubError::NoRepo { .. })) && error.to_string().contains("no such dataset"), "{error}");
}
