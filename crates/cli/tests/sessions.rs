//! Whole sessions: what is printed, what is left behind, and that it is the same twice.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Desk, announced, contains_all, demo_policy, files};

fn lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_same_seeds_give_the_same_hashes_whatever_runs_beside_them() {
    let desk = Desk::new();
    let run = |jobs: &str| {
        let text = desk.ok(&["eval", "--episodes", "4", "--seed", "70", "--jobs", jobs, "--json"]);
        let lines = lines(&text);
        assert_eq!(lines.len(), 5);
        lines
    };
    let (alone, together) = (run("1"), run("2"));
    assert_eq!(alone[..4], together[..4]);
    for (i, line) in alone[..4].iter().enumerate() {
        assert_eq!(line["seed"], 70 + i as u64);
        assert!(line["ticks"].as_u64().unwrap() > 0 && line["success"].is_boolean());
    }
    let hashes: std::collections::BTreeSet<&str> = alone[..4].iter().map(|line| line["action_hash"].as_str().unwrap()).collect();
    assert_eq!(hashes.len(), 4, "other seeds are other episodes");
    assert_eq!(alone[4]["episodes"], 4);
    let sheet = alone[4]["contact_sheet"].as_str().unwrap();
    assert!(desk.path(sheet).metadata().unwrap().len() > 1000);
}

/// The whole line on a clock that waits for nobody: simulator, policy on its own thread, gate,
/// recorder, encoder. The same bytes, twice.
#[test]
fn a_fast_rollout_leaves_the_same_bytes_twice() {
    let desk = Desk::new();
    for name in ["one", "two"] {
        desk.ok(&["rollout", "--pace", "fast", "--episodes", "2", "--seed", "9", "--out", name, "--no-rerun"]);
    }
    let (one, two) = (files(&desk.path("one")), files(&desk.path("two")));
    assert!(one.keys().any(|name| name.ends_with(".mp4")) && one.keys().any(|name| name.ends_with(".parquet")));
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(*bytes == two[name], "{name} differs");
    }
}

#[test]
fn recorded_demonstrations_are_whole_and_counted() {
    let desk = Desk::new();
    let text = desk.ok(&[
        "record",
        "--robot",
        "so101",
        "--sim",
        "--teleop",
        "scripted",
        "--task",
        "pick-place",
        "--episodes",
        "3",
        "--seed",
        "2",
        "--out",
        "ds",
        "--json",
    ]);
    let totals = &lines(&text)[0];
    assert_eq!(totals["total_episodes"], 3);
    assert_eq!(totals["interrupted"], false);
    assert_eq!(sinew_recorder::verify(&desk.path("ds")).unwrap(), []);
    let info: serde_json::Value = serde_json::from_str(&desk.ok(&["dataset", "info", "ds", "--json"])).unwrap();
    assert_eq!(info["total_episodes"], 3);
    assert_eq!(info["total_frames"], totals["total_frames"]);
    assert_eq!(info["robot_type"], "so_follower");
    contains_all(&desk.ok(&["dataset", "info", "ds"]), &["total_episodes    3", "observation.images.front", "h264"]);
    contains_all(&desk.ok(&["dataset", "verify", "ds"]), &["whole"]);
    let video = "videos/observation.images.wrist/chunk-000/file-000.mp4";
    std::fs::remove_file(desk.path("ds").join(video)).unwrap();
    let output = desk.run(&["dataset", "verify", "ds"]);
    assert_eq!(output.status.code(), Some(1));
    contains_all(&String::from_utf8(output.stdout).unwrap(), &[video]);
}

#[test]
fn a_rollout_says_what_it_runs_how_it_went_and_where_it_is() {
    let desk = Desk::new();
    let text = desk.ok(&["rollout", "--pace", "fast", "--episodes", "1", "--inference", "sync"]);
    contains_all(
        &text,
        &["parameters", "licence apache-2.0", "for inference", "SO-101", "success   ", "inference ", "sinew dataset info", "rerun outputs"],
    );
    assert!(desk.path("outputs/rollout-1/rollout.rrd").metadata().unwrap().len() > 10_000);
    assert_eq!(sinew_recorder::verify(&desk.path("outputs/rollout-1/dataset")).unwrap(), []);
}

/// In real time, since that is when people press it: wherever it strikes, the process ends in order,
/// with 130, and what was recorded is whole.
#[test]
fn ctrl_c_ends_in_order_at_any_time() {
    for delay_ms in [0, 40, 400, 1500] {
        let desk = Desk::new();
        let mut command = desk.sinew(&["rollout", "--episodes", "3", "--out", "ds", "--no-rerun"]);
        let (mut child, mut output) = announced(&mut command);
        std::thread::sleep(Duration::from_millis(200 + delay_ms));
        let start = Instant::now();
        assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        std::io::copy(&mut output, &mut std::io::sink()).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "after {delay_ms} ms");
        assert!(start.elapsed() < Duration::from_secs(20), "after {delay_ms} ms it took {:?}", start.elapsed());
        assert!(!desk.path("ds").exists(), "after {delay_ms} ms: an interrupted episode is dropped, and there is no other");
    }
}

#[test]
fn the_demonstration_policy_answers_an_observation_from_a_file() {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    let desk = Desk::new();
    let state: Vec<u8> = (0..6).flat_map(|i| (i as f32 * 3.0).to_le_bytes()).collect();
    let image: Vec<u8> = (0..96 * 128 * 3).map(|i| (i % 251) as u8).collect();
    let image = || TensorView::new(Dtype::U8, vec![96, 128, 3], &image).unwrap();
    let tensors = [
        ("observation.state", TensorView::new(Dtype::F32, vec![6], &state).unwrap()),
        ("observation.images.front", image()),
        ("observation.images.wrist", image()),
    ];
    let task = std::collections::HashMap::from([("task".to_owned(), "Push the cube onto the green disc.".to_owned())]);
    serialize_to_file(tensors, Some(task), &desk.path("in.safetensors")).unwrap();
    let policy = demo_policy();
    let text = desk.ok(&["policy", "infer", policy.to_str().unwrap(), "--inputs", "in.safetensors", "--out", "out.safetensors"]);
    contains_all(&text, &["action [", " ms"]);
    let infer = ["policy", "infer", policy.to_str().unwrap(), "--inputs", "in.safetensors", "--out", "again.safetensors"];
    let report = desk.ok(&[&infer[..], &["--threads", "1", "--repeat", "3", "--json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["timing"]["infer_milliseconds"].as_array().unwrap().len(), 3);
    let files = ["out.safetensors", "again.safetensors"].map(|name| std::fs::read(desk.path(name)).unwrap());
    assert_eq!(files[0], files[1], "the number of threads changes nothing");
    contains_all(&desk.ok(&["policy", "bench", "--repeat", "2", "--together", "3"]), &["load", "median of 2", "3 at once", "memory"]);
    let together = desk.ok(&["policy", "bench", "--repeat", "2", "--together", "3", "--json"]);
    let together: serde_json::Value = serde_json::from_str(&together).unwrap();
    assert!(together["together"]["count"] == 3 && together["together"]["of_alone"].as_f64().unwrap() > 0.0, "{together}");
    let small: serde_json::Value = serde_json::from_str(&desk.ok(&[&infer[..], &["--quantize", "q8", "--json"]].concat())).unwrap();
    assert_eq!(small["rows"], report["rows"]);
    assert_ne!(std::fs::read(desk.path("again.safetensors")).unwrap(), files[0], "weights in 8 bits answer a little differently");
    // The loss is measured where somebody asks for it.
    let bench = ["policy", "bench", "--repeat", "1", "--inputs", "in.safetensors", "--quantize", "q8"];
    let text = desk.ok(&bench);
    assert!(text.contains("as q8") && !text.contains("accuracy"), "{text}");
    contains_all(&desk.ok(&[&bench[..], &["--accuracy"]].concat()), &["as q8", "accuracy", "% of the"]);
    let small: serde_json::Value = serde_json::from_str(&desk.ok(&[&bench[..], &["--accuracy", "--json"]].concat())).unwrap();
    let (delta, range) = (&small["quantization_loss"]["max_delta"], &small["quantization_loss"]["range"]);
    assert!(delta.as_f64().unwrap() > 0.0 && delta.as_f64().unwrap() < 0.02 * range.as_f64().unwrap(), "{small}");
    desk.ok(&["eval", "--episodes", "1", "--task", "reach", "--quantize", "q8", "--threads", "2", "--json"]);
    let bytes = std::fs::read(desk.path("out.safetensors")).unwrap();
    let out = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let action = out.tensor("action").unwrap();
    assert_eq!((action.dtype(), action.shape()[1]), (Dtype::F32, 6));
    assert!(action.data().chunks_exact(4).all(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite()));
}

#[test]
fn the_rest_of_the_command_line_answers() {
    let desk = Desk::new();
    contains_all(&desk.ok(&["robots"]), &["so101", "so101_follower"]);
    contains_all(&desk.ok(&["robots", "show", "so101_follower"]), &["shoulder_pan.pos", "observation.images.wrist"]);
    let shown: serde_json::Value = serde_json::from_str(&desk.ok(&["robots", "show", "so101", "--json"])).unwrap();
    assert_eq!(shown["control_rate_hz"], 30);
    contains_all(&desk.ok(&["policy", "info"]), &["act", "observation.images.front", "apache-2.0"]);
    desk.ok(&["sim", "render", "--task", "sort", "--seed", "3", "--out", "pictures", "--width", "64", "--height", "48"]);
    for name in ["front", "wrist"] {
        let file = std::fs::File::open(desk.path(&format!("pictures/{name}.png"))).unwrap();
        let reader = png::Decoder::new(BufReader::new(file)).read_info().unwrap();
        assert_eq!((reader.info().width, reader.info().height), (64, 48));
    }
    contains_all(&desk.ok(&["completions", "bash"]), &["_sinew", "rollout"]);
    for verb in ["rollout", "eval", "record", "robots"] {
        contains_all(&desk.ok(&[verb, "--help"]), &["Example"]);
    }
}

/// `sinew ... | head -1`: the reader goes away in the middle of a session, which ends in order.
#[test]
fn a_reader_that_goes_away_ends_nothing_and_the_code_says_so() {
    let desk = Desk::new();
    let mut child = desk
        .sinew(&["rollout", "--pace", "fast", "--episodes", "1", "--out", "ds", "--no-rerun"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(141), ""));
    assert_eq!(sinew_recorder::verify(&desk.path("ds")).unwrap(), []);
}
