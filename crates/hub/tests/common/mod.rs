//! A fake Hub with a policy and a dataset on it, and a cache of one's own.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sinew_hub::{Event, Hub, HubOptions, HubRepo, Listener, ModelRef, RepoKind, Token};
use sinew_testkit::hub::{FakeHub, HubOptions as FakeOptions, RepoKind as FakeKind, Rights};
use tempfile::TempDir;

pub const MODEL: &str = "someone/act_push";
pub const DATASET: &str = "someone/pushes";
pub const TOKEN: &str = "hf_writer";
pub const CONFIG: &[u8] = br#"{"type": "act"}"#;

/// Bytes that repeat nowhere near, `len` of them.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub fn weights() -> Vec<u8> {
    noise(300_000, 1)
}

pub fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", CONFIG.to_vec()),
        ("policy_preprocessor.json", br#"{"steps": [{"config": {"artifacts": "tokenizer"}}]}"#.to_vec()),
        ("README.md", b"---\nlicense: mit\n---\n# A policy\n".to_vec()),
        ("optimizer.pt", b"a pickle".to_vec()),
        ("tokenizer/tokenizer.json", b"{}".to_vec()),
        ("tokenizer/evil.pkl", b"a pickle".to_vec()),
        ("checkpoints/1/model.safetensors", b"of another time".to_vec()),
        ("model.safetensors", weights()),
    ]
}

pub fn start(options: FakeOptions) -> FakeHub {
    let hub = FakeHub::with(FakeOptions { lfs_from: 100_000, ..options }).unwrap();
    hub.token(TOKEN, "someone", Rights::Write);
    let files = files();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (*path, bytes.as_slice())).collect();
    hub.add(FakeKind::Model, MODEL).commit(&files);
    hub
}

pub fn fake() -> FakeHub {
    start(FakeOptions::default())
}

pub fn options(fake: &FakeHub, cache: &TempDir) -> HubOptions {
    HubOptions {
        endpoint: fake.endpoint(),
        cache_dir: cache.path().join("hub"),
        token_path: cache.path().join("token"),
        token: Token::new(TOKEN),
        retries: 3,
        timeout: Duration::from_secs(2),
        ..HubOptions::from_env()
    }
}

pub fn client(fake: &FakeHub, cache: &TempDir) -> Hub {
    Hub::new(options(fake, cache))
}

pub fn model() -> HubRepo {
    HubRepo::parse(RepoKind::Model, MODEL).unwrap()
}

pub fn dataset() -> HubRepo {
    HubRepo::parse(RepoKind::Dataset, DATASET).unwrap()
}

pub fn named(text: &str) -> ModelRef {
    ModelRef::parse(text).unwrap()
}

/// Hears everything, and keeps it as text.
pub fn heard() -> (Arc<Listener>, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    (Arc::new(move |event: Event<'_>| kept.lock().unwrap().push(format!("{event:?}"))), log)
}

/// Paths below a folder, sorted; links are followed where they lead to files.
pub fn names(folder: &Path) -> Vec<String> {
    fn walk(folder: &Path, below: &str, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() { walk(&entry.path(), &format!("{name}/"), names) } else { names.push(name) }
        }
    }
    let mut names = Vec::new();
    walk(folder, "", &mut names);
    names.sort();
    names
}

/// Every request for a file's content that was answered with some.
pub fn transfers(fake: &FakeHub) -> Vec<String> {
    let of_content =
        |path: &str| path.contains("/resolve/").then(|| path.rsplit("/resolve/").next().unwrap().split_once('/').unwrap().1.to_owned());
    fake.requests().iter().filter_map(|request| of_content(&request.path)).collect()
}
