//! An upload is killed at moments drawn from a seed, begun again, and ends whole, without sending much twice.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test stops at the first surprise, and says its figures")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use sinew_hub::{Hub, HubOptions, HubRepo, RepoKind, Token, UploadOptions};
use sinew_testkit::hub::{self as fake, FakeHub, Rights};

const FILES: usize = 50;
const NAME: &str = "ada/killed";

/// What a killed process does; not a test of its own.
#[test]
#[ignore = "the process that the other tests kill"]
fn child() {
    let Ok(folder) = std::env::var("SINEW_TEST_FOLDER") else { return };
    let limit = std::env::var("SINEW_TEST_LIMIT").ok().and_then(|limit| limit.parse().ok());
    let options = HubOptions { token: Token::new("hf_write"), upload_limit: limit, ..HubOptions::from_env() };
    let repo = HubRepo::parse(RepoKind::Model, NAME).unwrap();
    let uploaded = Hub::new(options).upload(Path::new(&folder), &repo, &UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!(uploaded.files, FILES);
}

/// Kills `kills` times while `FILES` files of `file_bytes` go up in parts of `part` bytes, all in `seconds`.
fn kill_upload(kills: usize, file_bytes: usize, part: u64, seconds: f64) {
    let hub = FakeHub::with(fake::HubOptions { lfs_from: 1000, multipart_from: 1000, part, ..Default::default() }).unwrap();
    hub.token("hf_write", "ada", Rights::Write);
    let (folder, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    for at in 0..FILES {
        let content: Vec<u8> = std::iter::repeat_with(|| random.u64(..).to_le_bytes()).flatten().take(file_bytes).collect();
        fs::write(folder.path().join(format!("{at:02}.bin")), content).unwrap();
    }
    let total = (FILES * file_bytes) as u64;
    let run = || {
        let limit = (total as f64 / seconds) as u64;
        Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored"])
            .env("SINEW_TEST_FOLDER", folder.path())
            .env("SINEW_TEST_LIMIT", limit.to_string())
            .env("HF_ENDPOINT", hub.endpoint())
            .env("HF_HOME", home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mean = seconds / kills as f64 * 0.7;
    let mut killed = 0;
    for _ in 0..kills {
        let mut child = run();
        std::thread::sleep(Duration::from_secs_f64(mean * (0.5 + random.f64())));
        killed += usize::from(child.try_wait().unwrap().is_none());
        // One that is through already can't be killed.
        drop(child.kill());
        child.wait().unwrap();
    }
    assert!(run().wait().unwrap().success());
    let received = hub.bytes_received();
    println!("{killed} of {kills} kills, {received} bytes for {total}: {:.4}", received as f64 / total as f64);
    for at in 0..FILES {
        let path = format!("{at:02}.bin");
        assert_eq!(hub.file(fake::RepoKind::Model, NAME, "main", &path), fs::read(folder.path().join(&path)).ok(), "{path}");
    }
    assert!(killed * 2 > kills, "only {killed} of {kills} were killed");
    assert!(received as f64 <= 1.05 * total as f64, "{received} bytes for {total}");
}

#[test]
fn twenty_kills_cost_little() {
    kill_upload(20, 1 << 20, 32 << 10, 8.0);
}

#[test]
#[ignore = "a minute"]
fn two_hundred_kills_cost_little() {
    kill_upload(200, 8 << 20, 16 << 10, 70.0);
}
