//! A recording goes to a fake Hub while it is made, or later.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use common::{Desk, contains_all};
use sinew_testkit::hub::{FakeHub, Fault, Harm, HubOptions, RepoKind, Rights};

const NAME: &str = "ada/reaches";

fn start() -> FakeHub {
    let hub = FakeHub::with(HubOptions { lfs_from: 4 << 10, ..HubOptions::default() }).unwrap();
    hub.token("hf_write", "ada", Rights::Write);
    hub
}

fn run(desk: &Desk, hub: &FakeHub, args: &[&str]) -> Output {
    let mut command = desk.sinew(args);
    command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", hub.endpoint()).env("HF_TOKEN", "hf_write").output().unwrap()
}

fn record(desk: &Desk, hub: &FakeHub, out: &str) -> Output {
    let scene = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "5", "--out", out];
    run(desk, hub, &[&scene[..], &["--publish", NAME, "--publish-every", "2", "--publish-private"]].concat())
}

/// That the Hub holds what the folder does, by one commit.
fn check(desk: &Desk, hub: &FakeHub, out: &str) {
    let tree = hub.tree(RepoKind::Dataset, NAME, "v3.0");
    assert!(tree.len() > 10, "{tree:?}");
    for entry in tree.iter().filter(|entry| entry.path != ".gitattributes") {
        let here = std::fs::read(desk.path(out).join(&entry.path)).unwrap();
        assert!(hub.file(RepoKind::Dataset, NAME, "main", &entry.path).as_ref() == Some(&here), "{}", entry.path);
    }
    let commits = hub.requests().iter().filter(|request| request.path.contains("/commit/main") && request.status == 200).count();
    assert_eq!(commits, 1);
    assert!(tree.iter().any(|entry| entry.path == "data/chunk-000/file-002.parquet"), "{tree:?}");
    let total: u64 = tree.iter().map(|entry| entry.size).sum();
    assert!(hub.bytes_received() as f64 <= 1.05 * total as f64 + 20_000.0, "{} bytes for {total}", hub.bytes_received());
}

#[test]
fn a_recording_is_on_the_hub_when_it_ends() {
    let (desk, hub) = (Desk::new(), start());
    let output = record(&desk, &hub, "ds");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    contains_all(&text, &[NAME, "tagged v3.0"]);
    check(&desk, &hub, "ds");
    // A file that is closed has gone before the commit's own look at what is missing.
    let paths: Vec<String> = hub.requests().into_iter().map(|request| request.path).collect();
    let first_sent = paths.iter().position(|path| path.starts_with("/upload/")).unwrap();
    assert!(first_sent < paths.iter().position(|path| path.contains("/commit/")).unwrap());
}

#[test]
fn a_recording_without_a_network_is_finished_later() {
    let (desk, hub) = (Desk::new(), start());
    hub.fault(Fault::on("*", Harm::Refuse));
    let output = record(&desk, &hub, "ds");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    contains_all(&text, &["sinew hub finish ds", "the recording is whole"]);
    desk.recorded("ds", "after a recording without a network");
    hub.clear_faults();
    hub.forget_requests();
    let output = run(&desk, &hub, &["hub", "finish", "ds", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["repo"], &told["tag"], &told["created"]), (&NAME.into(), &"v3.0".into(), &true.into()));
    check(&desk, &hub, "ds");
    // Said again, all is there.
    let again = run(&desk, &hub, &["hub", "finish", "ds", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&told["commits"], &told["changed_files"], &told["tag"]), (&serde_json::json!([]), &0.into(), &"v3.0".into()));
    let output = run(&desk, &hub, &["hub", "upload", "ds", NAME, "--private", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["changed_files"], &told["bytes_sent"]), (&0.into(), &0.into()));
}

#[test]
fn what_keeps_a_recording_from_being_shown_is_said_before_it_begins() {
    let (desk, hub) = (Desk::new(), start());
    let scene = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--publish", NAME, "--out"];
    let mut command = desk.sinew(&[&scene[..], &["ds"]].concat());
    let output = command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", hub.endpoint()).env_remove("HF_TOKEN").output().unwrap();
    contains_all(&String::from_utf8_lossy(&output.stderr), &["publishing to ada/reaches", "sinew hub login"]);
    hub.add(RepoKind::Dataset, NAME).commit(&[("data/chunk-000/file-000.parquet", b"theirs"), ("meta/info.json", b"{}")]);
    let output = run(&desk, &hub, &[&scene[..], &["ds"]].concat());
    contains_all(&String::from_utf8_lossy(&output.stderr), &["another dataset", "--publish-replace"]);
    assert!(!desk.path("ds").exists());
    let output = run(&desk, &hub, &[&scene[..], &["ds", "--publish-replace"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A longer one from the same folder, and a copy of it that never went up.
    let more = |folder: &str| run(&desk, &hub, &[&scene[..], &[folder, "--resume"]].concat());
    let output = more("ds");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let copied = std::process::Command::new("cp").arg("-r").arg(desk.path("ds")).arg(desk.path("copy")).status().unwrap();
    assert!(copied.success());
    std::fs::remove_dir_all(desk.path("copy/.cache")).unwrap();
    // Nobody can tell whether the copy is the newer one.
    let output = more("copy");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let head = hub.commit_of(RepoKind::Dataset, NAME, "main").unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    contains_all(&text, &["the recording is whole", "sinew hub finish copy", &format!("--parent {head}")]);
    let output = run(&desk, &hub, &["hub", "finish", "copy", "--parent", &head]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read(desk.path("copy/meta/info.json")).ok(), hub.file(RepoKind::Dataset, NAME, "v3.0", "meta/info.json"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_while_a_whole_recording_goes_up_leaves_the_rest_for_later() {
    let (desk, hub) = (Desk::new(), start());
    hub.fault(Fault::on("*/commit/*", Harm::Stall { at: None }));
    let scene = ["record", "--sim", "--teleop", "scripted", "--task", "reach", "--episodes", "1", "--publish", NAME, "--out", "ds"];
    let mut command = desk.sinew(&scene);
    command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", hub.endpoint()).env("HF_TOKEN", "hf_write");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    let is_committing = || std::fs::read_to_string(desk.path("ds/.cache/sinew/upload.jsonl")).is_ok_and(|text| text.contains("\"intent\""));
    while !is_committing() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = Instant::now();
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    contains_all(&text, &["the recording is whole", "sinew hub finish ds"]);
    desk.recorded("ds", "after Ctrl-C while it was published");
    hub.clear_faults();
    let output = run(&desk, &hub, &["hub", "finish", "ds"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
