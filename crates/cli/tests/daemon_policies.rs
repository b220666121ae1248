//! `sinew daemon` and commits of a policy that are broken, against a fake Hub, with the simulated arm in real time.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Desk, demo_policy, files};
use page::{Daemon, command};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use sinew_testkit::hub::{FakeHub, Fault, Harm, RepoKind};

const NAME: &str = "ada/act";

type Files = BTreeMap<String, Vec<u8>>;

/// The demonstration policy as a repository.
fn good() -> Files {
    files(&demo_policy())
}

fn publish(hub: &FakeHub, files: &Files) -> String {
    let all: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let repo = if hub.has(RepoKind::Model, NAME) { hub.repo(RepoKind::Model, NAME) } else { hub.add(RepoKind::Model, NAME) };
    repo.commit(&all)
}

/// One of seven joints, which does not fit.
fn of_another_robot() -> Files {
    let mut files = good();
    let config = String::from_utf8(files["config.json"].clone()).unwrap();
    let (before, after) = config.split_once("\"action\"").unwrap();
    files.insert("config.json".into(), format!("{before}\"action\"{}", after.replacen('6', "7", 1)).into());
    files
}

/// One whose answers are no numbers, which is seen when the first comes.
fn of_no_numbers() -> Files {
    let mut files = good();
    let name = files.keys().find(|name| name.contains("unnormalizer") && name.ends_with(".safetensors")).unwrap().clone();
    let tensors = safetensors::SafeTensors::deserialize(&files[&name]).unwrap();
    let most = f32::MAX.to_le_bytes();
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(key, view)| {
            let is_spoilt = view.dtype() == Dtype::F32 && (key.contains("std") || key.contains("mean"));
            let data = if is_spoilt { most.repeat(view.data().len() / 4) } else { view.data().to_vec() };
            assert_eq!(view.dtype(), Dtype::F32, "{key}");
            (key, view.shape().to_vec(), data)
        })
        .collect();
    let views = bytes.iter().map(|(key, shape, data)| (key.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
    let spoilt = serialize(views, None).unwrap();
    files.insert(name, spoilt);
    files
}

/// One with a note in its card, so that it is another commit.
fn good_and_newer(note: &str) -> Files {
    let mut files = good();
    files.get_mut("README.md").unwrap().extend_from_slice(note.as_bytes());
    files
}

struct Bench {
    desk: Desk,
    hub: FakeHub,
}

impl Bench {
    fn new() -> Self {
        Self { desk: Desk::new(), hub: FakeHub::start() }
    }

    fn daemon(&self) -> Daemon {
        let mut command = command(&self.desk, &[]);
        for name in ["HF_HUB_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        let daemon = Daemon::of(&self.desk, command.env("HF_ENDPOINT", self.hub.endpoint()));
        daemon.wait("the robot", 20, |state| state["position"][0].is_number());
        daemon
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.desk.path(&format!(".cache/huggingface/hub/models--ada--act/snapshots/{commit}"))
    }
}

fn fetch(daemon: &Daemon) {
    let number = daemon.post("/api/v1/tasks", &json!({"kind": "fetch_policy", "policy": NAME}))["number"].clone();
    let begun = Instant::now();
    loop {
        let tasks = daemon.get("/api/v1/tasks");
        let task = tasks.as_array().unwrap().iter().find(|task| task["number"] == number).unwrap();
        if task["is_done"] == true {
            assert!(task["error"].is_null(), "{task}");
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{task}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Starts it; how that came out.
fn roll_out(daemon: &Daemon) -> Value {
    daemon.post("/api/v1/work", &json!({"kind": "rollout", "policy": NAME, "seconds": 1.0}));
    daemon.ended(60)
}

/// Starts it, and stops when it acts.
fn acts(daemon: &Daemon) -> Value {
    let end = roll_out(daemon);
    assert!(end["error"].is_null(), "{end}");
    end
}

fn name(daemon: &Daemon) -> Value {
    let all = daemon.get("/api/v1/policies");
    let item = all.as_array().unwrap().iter().find(|item| item["policy"] == NAME).unwrap();
    item["names"][0].clone()
}

fn short(commit: &str) -> &str {
    commit.get(..8).unwrap()
}

fn has_said(daemon: &Daemon, parts: &[&str]) {
    let log = daemon.get("/api/v1/log?after=0");
    let is_it = |line: &Value| parts.iter().all(|part| line["text"].as_str().unwrap().contains(part));
    assert!(log.as_array().unwrap().iter().any(is_it), "{parts:?}: {log}");
}

#[test]
fn after_three_failed_starts_the_last_good_commit_runs_until_a_newer_one_is_fetched() {
    for broken in [of_another_robot(), of_no_numbers()] {
        let bench = Bench::new();
        let a = publish(&bench.hub, &good());
        let mut daemon = bench.daemon();
        // The first start of all fetches it.
        assert_eq!(acts(&daemon)["policy"], json!({"name": NAME, "commit": a, "instead_of": null}));
        assert_eq!((&name(&daemon)["last_good"], &name(&daemon)["failed_starts"]), (&json!(a), &json!(0)));
        let b = publish(&bench.hub, &broken);
        // What the Hub has is of no account until it is fetched.
        assert_eq!(acts(&daemon)["policy"]["commit"], a);
        fetch(&daemon);
        assert_eq!(name(&daemon)["commit"], b);
        for failed in 1..=3 {
            let end = roll_out(&daemon);
            assert!(end["error"].is_string() && end["policy"]["commit"] == b, "{end}");
            let name = name(&daemon);
            assert!(name["failed_starts"] == failed && name["last_good"] == a && name["trouble"].is_string(), "{name}");
            if failed == 2 {
                // It is remembered by the next process as well.
                daemon.signal("-KILL");
                daemon.exit(10);
                daemon = bench.daemon();
            }
        }
        let now = name(&daemon);
        assert!(now["commit"] == a && now["instead_of"] == b, "{now}");
        has_said(&daemon, &[NAME, short(&b), "failed to start 3 times in a row", short(&a), "until ada/act is fetched again"]);
        assert_eq!(acts(&daemon)["policy"], json!({"name": NAME, "commit": a, "instead_of": b}));
        has_said(&daemon, &[short(&a), "runs in its place"]);
        // A check looks at the same commit.
        let c = publish(&bench.hub, &good_and_newer("newer"));
        assert_eq!(acts(&daemon)["policy"]["commit"], a);
        fetch(&daemon);
        assert_eq!(acts(&daemon)["policy"], json!({"name": NAME, "commit": c, "instead_of": null}));
        assert_eq!((&name(&daemon)["last_good"], &name(&daemon)["failed_starts"]), (&json!(c), &json!(0)));
    }
}

#[test]
fn what_is_not_the_policys_fault_is_no_failed_start() {
    let bench = Bench::new();
    let a = publish(&bench.hub, &good());
    let daemon = bench.daemon();
    // A Hub that is not there, at the very first start.
    bench.hub.fault(Fault::on("*", Harm::Status { status: 503, code: None, message: None, retry_after_s: None }));
    assert!(roll_out(&daemon)["error"].is_string());
    bench.hub.clear_faults();
    acts(&daemon);
    // A place for the dataset that can't be one.
    std::fs::write(bench.desk.path("state/datasets/taken"), "no folder").unwrap();
    daemon.post("/api/v1/work", &json!({"kind": "rollout", "policy": NAME, "seconds": 1.0, "dataset": "taken", "instruction": "Put it."}));
    let end = daemon.ended(60);
    assert!(end["error"].is_string() && end["policy"]["commit"] == a, "{end}");
    assert_eq!(name(&daemon)["failed_starts"], 0);
    // Somebody stops it before it acts.
    for _ in 0..3 {
        daemon.post("/api/v1/work", &json!({"kind": "rollout", "policy": NAME, "seconds": 5}));
        daemon.post("/api/v1/stop", &json!({"stop": "now"}));
        daemon.ended(60);
    }
    let now = name(&daemon);
    assert!(now["failed_starts"] == 0 && now["last_good"] == a, "{now}");
}

#[test]
fn files_that_are_gone_and_can_not_be_had_again_are_failed_starts_and_so_is_a_killed_one() {
    let bench = Bench::new();
    let a = publish(&bench.hub, &good());
    let mut daemon = bench.daemon();
    acts(&daemon);
    let b = publish(&bench.hub, &good_and_newer("newer"));
    fetch(&daemon);
    std::fs::remove_file(bench.snapshot(&b).join("config.json")).unwrap();
    for blob in std::fs::read_dir(bench.snapshot(&b).join("../../blobs")).unwrap() {
        let blob = blob.unwrap().path();
        if std::fs::read(&blob).unwrap() == good()["config.json"] {
            std::fs::remove_file(blob).unwrap();
        }
    }
    bench.hub.fault(Fault::on("*/config.json", Harm::WrongBytes { at: Some(1) }));
    for failed in 1..=2 {
        let end = roll_out(&daemon);
        assert!(end["error"].as_str().unwrap().contains("config.json"), "{end}");
        assert_eq!(name(&daemon)["failed_starts"], failed);
    }
    bench.hub.clear_faults();
    // The third is killed between its files and its first answers.
    let mut remembered = std::fs::read_dir(bench.desk.path("state")).unwrap().map(|entry| entry.unwrap().path());
    let remembered = remembered.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("policies-")).unwrap();
    daemon.post("/api/v1/work", &json!({"kind": "rollout", "policy": NAME, "seconds": 30}));
    let begun = Instant::now();
    while !std::fs::read_to_string(&remembered).unwrap().contains("\"is_starting\": true") {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never starts");
    }
    daemon.signal("-KILL");
    daemon.exit(10);
    let daemon = bench.daemon();
    let now = name(&daemon);
    assert!(now["failed_starts"] == 3 && now["commit"] == a && now["instead_of"] == b, "{now}");
    assert!(now["trouble"].as_str().unwrap().contains("gone before its first answers"), "{now}");
    // The blob of the last good one is gone, too; the Hub has it.
    assert_eq!(acts(&daemon)["policy"]["commit"], a);
    // Fetched anew, the same commit is tried again.
    fetch(&daemon);
    assert_eq!(acts(&daemon)["policy"]["commit"], b);
    assert_eq!(name(&daemon)["last_good"], b);
}
