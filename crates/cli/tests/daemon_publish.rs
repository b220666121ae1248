//! Datasets and policies are published over the interface of `sinew daemon`, on a fake Hub.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
mod page;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Desk;
use page::Daemon;
use serde_json::{Value, json};
use sinew_testkit::hub::{FakeHub, Fault, Harm, HubOptions, RepoKind, Rights};

const TOKEN: &str = "hf_write_not_to_be_shown";

/// A Hub on a line that one can watch.
fn hub(bytes_per_s: Option<u64>) -> FakeHub {
    let hub = FakeHub::with(HubOptions { lfs_from: 4 << 10, bytes_per_s, ..HubOptions::default() }).unwrap();
    hub.token(TOKEN, "ada", Rights::Write);
    hub
}

fn daemon(desk: &Desk, hub: &FakeHub, token: Option<&str>) -> Daemon {
    let mut command = page::command(desk, &[]);
    command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", hub.endpoint()).env_remove("HF_TOKEN");
    command.envs(token.map(|token| ("HF_TOKEN", token)));
    let daemon = Daemon::of(desk, &mut command);
    daemon.wait("the robot", 10, |state| state["position"][0].is_number());
    daemon
}

fn record(daemon: &Daemon) {
    daemon.post("/api/v1/work", &json!({"kind": "record", "leader": "scripted", "dataset": "cubes", "episodes": 1, "episode_s": 2}));
    let end = daemon.ended(60);
    assert!(end["error"].is_null(), "{end}");
}

#[track_caller]
fn begin(daemon: &Daemon, task: &Value) -> u64 {
    daemon.post("/api/v1/tasks", task)["number"].as_u64().unwrap()
}

fn task(daemon: &Daemon, number: u64) -> Value {
    let all = daemon.get("/api/v1/tasks");
    all.as_array().unwrap().iter().find(|task| task["number"] == number).unwrap().clone()
}

/// Waits until a task is as wanted.
#[track_caller]
fn until(daemon: &Daemon, number: u64, seconds: u64, is_so: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let state = task(daemon, number);
        if is_so(&state) {
            return state;
        }
        assert!(begun.elapsed() < Duration::from_secs(seconds), "{state}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn done(daemon: &Daemon, number: u64) -> Value {
    until(daemon, number, 60, |state| state["is_done"] == true)
}

/// Nothing that the interface says has the token.
fn shows_no_token(daemon: &Daemon) {
    for path in ["/api/v1/tasks", "/api/v1/log", "/api/v1/state", "/api/v1/policies", "/api/v1/datasets"] {
        assert!(!daemon.get(path).to_string().contains(TOKEN), "{path}");
    }
}

#[test]
fn a_dataset_is_published_by_whom_the_owner_has_let() {
    let (desk, hub) = (Desk::new(), hub(Some(60_000)));
    let mut daemon = daemon(&desk, &hub, Some(TOKEN));
    record(&daemon);
    let publish = json!({"kind": "publish_dataset", "dataset": "cubes", "repo": "ada/cubes", "private": true});
    // Who may operate may do all that, but not speak for the owner.
    let owner = daemon.token.clone();
    let code = daemon.post("/api/v1/pairing", &json!({"role": "operate"}))["code"].clone();
    daemon.token = daemon.post("/api/v1/pair", &json!({"code": code, "name": "phone"}))["token"].as_str().unwrap().to_owned();
    let (status, refused) = daemon.try_post("/api/v1/tasks", &publish);
    assert!(status == 403 && refused["error"].as_str().unwrap().contains("administer"), "{refused}");
    assert!(hub.requests().is_empty(), "nothing was asked of the Hub");
    daemon.token = owner;
    for (wrong, status, words) in [
        (json!({"kind": "publish_dataset", "dataset": "none", "repo": "ada/cubes", "private": true}), 404, "none"),
        (json!({"kind": "publish_dataset", "dataset": "../x", "repo": "ada/cubes", "private": true}), 400, "../x"),
        (json!({"kind": "publish_dataset", "dataset": "cubes", "repo": "cubes", "private": true}), 400, "owner/name"),
        (json!({"kind": "publish_dataset", "dataset": "cubes", "repo": "ada/cubes@main", "private": true}), 400, "owner/name"),
        (json!({"kind": "publish_dataset", "dataset": "cubes", "repo": "--private/x", "private": false}), 400, "owner/name"),
        (json!({"kind": "publish_dataset", "dataset": "cubes", "repo": "ada/cubes"}), 400, "private"),
        (json!({"kind": "publish_policy", "policy": "ada/none", "repo": "ada/none", "private": true}), 404, "ada/none"),
    ] {
        let (found, refused) = daemon.try_post("/api/v1/tasks", &wrong);
        assert!(found == status && refused["error"].as_str().unwrap().contains(words), "{wrong}: {refused}");
    }
    let number = begin(&daemon, &publish);
    let (status, twice) = daemon.try_post("/api/v1/tasks", &publish);
    assert_eq!(status, 409, "{twice}");
    let is_under_way = |state: &Value| {
        let progress = &state["progress"];
        progress["step"] == "transfer"
            && progress["done_bytes"].as_u64() > Some(0)
            && progress["done_bytes"].as_u64() < progress["total_bytes"].as_u64()
    };
    let first = until(&daemon, number, 60, is_under_way)["progress"]["done_bytes"].as_u64().unwrap();
    until(&daemon, number, 60, |state| state["progress"]["done_bytes"].as_u64() > Some(first) || state["is_done"] == true);
    let end = done(&daemon, number);
    assert!(end["error"].is_null() && end["is_cancelled"] == false && end["progress"].is_null(), "{end}");
    assert_eq!(
        (&end["result"]["repo"], &end["result"]["tag"], &end["result"]["created"]),
        (&json!("ada/cubes"), &json!("v3.0"), &json!(true))
    );
    let info = std::fs::read(desk.path("state/datasets/cubes/meta/info.json")).unwrap();
    assert_eq!(hub.file(RepoKind::Dataset, "ada/cubes", "v3.0", "meta/info.json"), Some(info));
    let created: Vec<_> = hub.requests().into_iter().filter(|request| request.path.contains("repos/create")).collect();
    assert_eq!(created.len(), 1);
    shows_no_token(&daemon);
}

#[test]
fn without_a_token_it_is_said_and_a_hub_that_is_mute_is_left() {
    let (desk, hub) = (Desk::new(), hub(None));
    let publish = json!({"kind": "publish_dataset", "dataset": "cubes", "repo": "ada/cubes", "private": true});
    {
        let daemon = daemon(&desk, &hub, None);
        record(&daemon);
        let end = done(&daemon, begin(&daemon, &publish));
        assert!(end["error"].as_str().unwrap().contains("sinew hub login") && end["result"].is_null(), "{end}");
        assert!(!hub.has(RepoKind::Dataset, "ada/cubes"));
    }
    let daemon = daemon(&desk, &hub, Some(TOKEN));
    // It takes what it is asked, and says nothing.
    hub.fault(Fault::on("*", Harm::Stall { at: None }));
    for mute in [publish.clone(), json!({"kind": "fetch_policy", "policy": "bob/act"})] {
        let number = begin(&daemon, &mute);
        let state = until(&daemon, number, 20, |state| state["progress"]["silent_s"].as_u64() > Some(1));
        assert!(state["progress"]["step"] == "ask" && state["progress"]["total_bytes"] == 0, "{state}");
        daemon.post("/api/v1/tasks/cancel", &json!({"number": number}));
        done(&daemon, number);
    }
    hub.clear_faults();
    hub.fault(Fault::on("*/commit/*", Harm::Stall { at: None }));
    let number = begin(&daemon, &publish);
    until(&daemon, number, 60, |state| state["progress"]["silent_s"].as_u64() > Some(0));
    assert_eq!(daemon.try_post("/api/v1/tasks/cancel", &json!({"number": 99})).0, 404);
    let begun = Instant::now();
    daemon.post("/api/v1/tasks/cancel", &json!({"number": number}));
    let end = done(&daemon, number);
    assert!(end["is_cancelled"] == true && end["error"].is_null() && end["result"].is_null(), "{end}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(daemon.try_post("/api/v1/tasks/cancel", &json!({"number": number})).0, 404, "it has ended");
    // Later it goes.
    hub.clear_faults();
    let end = done(&daemon, begin(&daemon, &publish));
    assert!(end["error"].is_null(), "{end}");
    assert!(hub.file(RepoKind::Dataset, "ada/cubes", "main", "meta/info.json").is_some());
    // Public is what it was not made as.
    hub.repo(RepoKind::Dataset, "ada/cubes").private(false);
    let end = done(&daemon, begin(&daemon, &publish));
    assert!(end["error"].as_str().unwrap().contains("public"), "{end}");
    shows_no_token(&daemon);
}

#[test]
fn a_policy_of_this_machine_is_fetched_and_published() {
    let (desk, hub) = (Desk::new(), hub(Some(4_000_000)));
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/act_so101_pick_place");
    let place = desk.path("root/models/bob");
    std::fs::create_dir_all(&place).unwrap();
    std::os::unix::fs::symlink(&ours, place.join("act")).unwrap();
    hub.load(&desk.path("root")).unwrap();
    let daemon = daemon(&desk, &hub, Some(TOKEN));
    let number = begin(&daemon, &json!({"kind": "fetch_policy", "policy": "bob/act"}));
    let state = until(&daemon, number, 30, |state| state["progress"]["done_bytes"].as_u64() > Some(0));
    assert_eq!(state["progress"]["step"], "transfer", "{state}");
    assert!(done(&daemon, number)["error"].is_null(), "{}", task(&daemon, number));
    let commit = hub.commit_of(RepoKind::Model, "bob/act", "main").unwrap();
    let (status, refused) = daemon
        .try_post("/api/v1/tasks", &json!({"kind": "publish_policy", "policy": "bob/act@other", "repo": "ada/act", "private": false}));
    assert!(status == 404 && refused["error"].as_str().unwrap().contains(&commit), "{refused}");
    let number = begin(&daemon, &json!({"kind": "publish_policy", "policy": "bob/act", "repo": "ada/act", "private": false}));
    let end = done(&daemon, number);
    assert!(end["error"].is_null() && end["result"]["repo"] == "ada/act", "{end}");
    for file in ["config.json", "model.safetensors"] {
        assert!(hub.file(RepoKind::Model, "ada/act", "main", file) == std::fs::read(ours.join(file)).ok(), "{file}");
    }
    assert!(!desk.path("state/datasets/.publish").exists(), "what was put together goes");
    assert_eq!(daemon.get("/api/v1/datasets"), json!([]));
    // What is in the cache is as it was.
    desk.ok(&["hub", "cache", "verify"]);
}
