//! A policy on a server, seen from the loop that it works for: whatever the server or the network does, each action that is executed is
//! for the tick at which it is, the arm holds when there is none, and all goes on by itself.
//!
//! In real time; the bounds are those of the network, not of a tick.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;
#[path = "../../runtime/tests/common/mod.rs"]
mod fakes;
#[path = "../../remote/tests/faulty/mod.rs"]
mod faulty;
#[path = "../../remote/tests/posted/mod.rs"]
mod posted;
#[path = "../../remote/tests/rep/mod.rs"]
mod rep;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::Desk;
use fakes::{Arm, Scene, Tape, run_on};
use faulty::{Fault, Network};
use sinew_core::Frame;
use sinew_remote::codec::{Dtype, Packer, Value, pack_json};
use sinew_remote::{KeyMap, RemoteOptions, RemotePolicy};
use sinew_runtime::{EpisodeOutcome, EpisodeReport, Inference, MonotonicClock, PolicyThread, SessionConfig, Source, StopFlag};

/// Rows of an answer: half a second at 50 Hz.
const ROWS: u64 = 25;
/// A tick as a goal, rad: small, so that the gate lets it pass.
const CODE: f64 = 1e-4;

/// The tick is in the elbow's state; row i is for the tick that is i later, and says of which question it is.
fn coded(request: &Value<'_>) -> Vec<Vec<f64>> {
    let asked = request.get("observation.state").unwrap().numbers().unwrap().values[1];
    (0..ROWS).map(|row| vec![asked + (row as f64 * CODE).to_degrees(), asked]).collect()
}

/// An arm that tells the tick as its elbow's position.
fn coded_arm() -> Arm {
    let mut arm = Arm::at([0.0, 0.0]);
    arm.spoil = Box::new(|turn, seen| seen[1] = turn as f64 * CODE);
    arm
}

fn run(inference: Inference, ticks: u64, address: std::net::SocketAddr, mut arm: Arm) -> (EpisodeReport, Tape) {
    let address = format!("ws://{address}").parse().unwrap();
    let options = RemoteOptions { keys: Some(KeyMap::lerobot().unwrap()), ..RemoteOptions::new(address) };
    let policy = RemotePolicy::connect(&options, &arm.description).unwrap();
    assert_eq!(policy.deadline(), Duration::from_millis(500), "as long as its rows last");
    let mut thread = PolicyThread::spawn(policy).unwrap();
    let config = SessionConfig { inference, answer_deadline_s: Some(60.0), ..SessionConfig::default() };
    let mut tape = Tape::default();
    let (clock, mut scene) = (Arc::new(MonotonicClock::new()), Scene::lasting(ticks));
    let report = run_on(clock, &config, &mut arm, &mut scene, Source::Policy(&mut thread), &mut [&mut tape], &StopFlag::new());
    assert_eq!((arm.stops, report.faults.len()), (1, 0), "{:?}", report.reason);
    (report, tape)
}

/// That each row that was executed is of the tick, of a question that is no older than its rows last, and that the arm holds where there
/// is none, from that tick on.
#[track_caller]
fn assert_fresh(frames: &[Frame], what: &str) {
    for (i, frame) in frames.iter().enumerate() {
        if frame.starved {
            let before = if i == 0 { &frame.sent } else { &frames[i - 1].sent };
            let step = frame.sent.iter().zip(before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(step < 2.0 * CODE, "{what}: it moves by {step} at tick {}", frame.tick);
            continue;
        }
        let [tick, asked] = [0, 1].map(|i| (frame.wanted[i] / CODE).round() as u64);
        assert_eq!(tick, frame.tick, "{what}: the row of another tick");
        assert!(asked <= tick && tick - asked < ROWS, "{what}: at tick {tick} a row of a question of tick {asked}");
    }
}

fn starved(frames: &[Frame]) -> Vec<u64> {
    frames.iter().filter(|frame| frame.starved).map(|frame| frame.tick).collect()
}

#[test]
fn after_a_black_out_of_five_seconds_the_loop_goes_on_within_two() {
    const DARK: u64 = 100;
    const LIGHT: u64 = DARK + 250;
    let server = faulty::start(b"\x80".to_vec(), |_| Fault::None, coded);
    let network = Network::before(server.address);
    let (switch, mut arm) = (network.switch(), coded_arm());
    arm.on_observe = Box::new(move |turn| {
        switch.store((DARK..LIGHT).contains(&turn), SeqCst);
        Ok(())
    });
    let (report, tape) = run(Inference::Async, 550, network.address, arm);
    assert_eq!(report.outcome, EpisodeOutcome::Failure, "{:?}", report.reason);
    assert_fresh(&tape.frames, "black-out");
    let starved: Vec<u64> = starved(&tape.frames).into_iter().filter(|tick| *tick >= DARK).collect();
    let (first, last) = (starved[0], starved[starved.len() - 1]);
    assert!((DARK..=DARK + ROWS).contains(&first), "it plays what it has, and no more: {first}");
    assert!((LIGHT - 10..=LIGHT + 100).contains(&last), "it is back within 2 s: {last}");
    println!("starved from {first} to {last}; dark from {DARK} to {LIGHT}; {} questions without an answer", report.inference.unanswered);
}

#[test]
fn no_fault_of_a_server_brings_an_old_or_wrong_action_to_the_arm() {
    let faults = [
        Fault::Hang,
        Fault::Close,
        Fault::HalfFrame,
        Fault::Trickle,
        Fault::Drip,
        Fault::NotANumber,
        Fault::Infinite,
        Fault::Wide,
        Fault::Narrow,
        Fault::NoActions,
        Fault::Text,
        Fault::Late(700),
        Fault::Late(300),
        Fault::Twice,
        Fault::Stale,
    ];
    std::thread::scope(|scope| {
        for fault in faults {
            for inference in [Inference::Async, Inference::Sync] {
                scope.spawn(move || {
                    let what = format!("{fault:?}, {inference:?}");
                    // Two at first, one to warm up, one to begin with.
                    let server =
                        faulty::start(b"\x80".to_vec(), move |serial| if (6..9).contains(&serial) { fault } else { Fault::None }, coded);
                    let (report, tape) = run(inference, 400, server.address, coded_arm());
                    assert_eq!(report.outcome, EpisodeOutcome::Failure, "{what}: {:?}", report.reason);
                    assert!(tape.frames.iter().flat_map(|frame| &frame.sent).all(|goal| goal.is_finite()), "{what}");
                    if inference == Inference::Async {
                        assert_fresh(&tape.frames, &what);
                    }
                    let last = starved(&tape.frames).last().copied().unwrap_or_default();
                    assert!(last < 330, "{what}: starved until {last}");
                });
            }
        }
    });
}

/// The two questions before anything moves are answered; the first of the episode is not, or not with anything of use.
#[test]
fn a_server_that_has_no_first_answer_is_waited_for_so_long_and_no_longer() {
    let desk = Desk::new();
    let keys = desk.path("keys.toml");
    std::fs::write(&keys, "units = \"si\"\n[[state]]\nkey = \"observation.state\"\n").unwrap();
    const MISSED: &[&str] = &["no answer from", "still owes an answer", "an answer did not come"];
    for (fault, said) in [(Fault::NotANumber, &["NaN"][..]), (Fault::Hang, MISSED), (Fault::Late(1500), MISSED)] {
        for (options, bound) in [(&["--seconds", "30", "--answer-deadline", "2"][..], 2.0), (&["--seconds", "1.5", "--pace", "real"], 1.5)]
        {
            let rows = |_: &Value<'_>| vec![vec![0.0; 6]; 10];
            let server = faulty::start(b"\x80".to_vec(), move |serial| if serial < 2 { Fault::None } else { fault }, rows);
            let policy = format!("ws://{}", server.address);
            let args = ["rollout", "--no-record", "--no-rerun", "--policy", &policy, "--policy-keys", keys.to_str().unwrap()];
            let began = std::time::Instant::now();
            let error = desk.error(&[&args, options].concat());
            let took = began.elapsed().as_secs_f64();
            let expected = format!("expected one within {bound:.1} s");
            assert!(error.contains("at tick 0: no answer after") && error.contains(&expected), "{fault:?}: {error}");
            assert!(said.iter().any(|said| error.contains(said)), "{fault:?}: {error}");
            // What the simulator and the hand-shake take is in it, too.
            assert!((bound..bound + 6.0).contains(&took), "{fault:?}: {took}");
            let asked = server.requests.load(SeqCst);
            assert!(asked < 20, "{fault:?}: {asked} questions in {bound} s");
        }
    }
}

/// `sinew serve`, and where it listens.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(desk: &Desk, args: &[&str]) -> Self {
        let args = [&["serve", "--listen", "127.0.0.1:0", "--json", "--threads", "1"], args].concat();
        let mut child = desk.sinew(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        // Where LeRobot's clients find it, if it is served to them, too.
        let zenoh = ready["zenoh"].as_str().and_then(|locator| locator.strip_prefix("tcp/")).map(|place| format!("zenoh://{place}/sinew"));
        Self { child, address: zenoh.unwrap_or_else(|| format!("ws://{}", ready["address"].as_str().unwrap())) }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn json(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same scene by the demonstration policy here and on a server: the same actions, to the rounding of the wire's floats.
#[test]
fn a_policy_on_a_server_does_what_it_does_here() {
    let desk = Desk::new();
    let server = Serving::start(&desk, &[]);
    let checked = desk.ok(&["policy", "check", &server.address, "--robot", "so101", "--json"]);
    let checked = &json(&checked)[0];
    assert_eq!((&checked["ok"], &checked["metadata"]["sinew"]["family"]), (&true.into(), &"act".into()), "{checked}");
    let units = &checked["metadata"]["sinew"]["action_units"];
    assert_eq!(units, &serde_json::json!(["degrees", "degrees", "degrees", "degrees", "degrees", "range_0_100"]));

    let common =
        ["rollout", "--pace", "fast", "--inference", "sync", "--episodes", "1", "--seed", "20", "--no-record", "--no-rerun", "--json"];
    let here = json(&desk.ok(&common));
    let there = json(&desk.ok(&[&common[..], &["--policy", &server.address]].concat()));
    assert_eq!(here[0]["outcome"], "success");
    for key in ["outcome", "ticks", "action_hash", "state_hash"] {
        assert_eq!(there[0][key], here[0][key], "{key}");
    }
    let link = &there[1]["link"];
    let answers = link["answers"].as_u64().unwrap();
    assert!(answers > 3 && link["requests"].as_u64().unwrap() == answers + 2 && link["missed"] == 0, "{link}");
    assert!(link["total_ms"]["p50"].as_f64().unwrap() > link["server_ms"]["p50"].as_f64().unwrap(), "{link}");

    let text = desk.ok(&["rollout", "--pace", "fast", "--seconds", "2", "--no-record", "--no-rerun", "--policy", &server.address]);
    for words in ["observation.images.front", "deadline ", "link ", "prepare ", "the server says"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Another robot: both sides, and nothing ran.
    let error = desk.error(&["rollout", "--robot", "example", "--task", "reach", "--policy", &server.address]);
    assert!(error.contains("they don't fit") && error.contains("! action") && error.contains("shoulder_pan.pos"), "{error}");
}

/// The same over zenoh, as LeRobot's servers answer.
#[test]
fn a_policy_over_zenoh_does_what_it_does_here() {
    let desk = Desk::new();
    let server = Serving::start(&desk, &["--zenoh", "tcp/127.0.0.1:0"]);
    let checked = desk.ok(&["policy", "check", &server.address, "--robot", "so101", "--json"]);
    let checked = &json(&checked)[0];
    assert_eq!((&checked["ok"], &checked["metadata"]["deployment"]), (&true.into(), &"sinew".into()), "{checked}");
    let text = desk.ok(&["policy", "check", &server.address]);
    assert!(text.contains("wants    observation.images.front") && text.contains("rate     30 Hz"), "{text}");

    let common =
        ["rollout", "--pace", "fast", "--inference", "sync", "--episodes", "1", "--seed", "20", "--no-record", "--no-rerun", "--json"];
    let here = json(&desk.ok(&common));
    let there = json(&desk.ok(&[&common[..], &["--policy", &server.address]].concat()));
    for key in ["outcome", "ticks", "action_hash", "state_hash"] {
        assert_eq!(there[0][key], here[0][key], "{key}");
    }
    let link = &there[1]["link"];
    assert!(link["answers"].as_u64().unwrap() > 3 && link["missed"] == 0 && link["reconnects"] == 0, "{link}");
    // It offers no more than chunks, and says both sides.
    let error = desk.error(&["rollout", "--policy", &server.address, "--inference", "rtc", "--rtc-mode", "trained"]);
    assert!(error.contains("they don't fit") && error.contains("! mode") && error.contains("rtc_trained"), "{error}");
}

#[test]
fn what_zenoh_is_served_to_is_said() {
    let desk = Desk::new();
    for (words, expected) in [
        ("serve --zenoh tcp/0.0.0.0:0", "tls/ADDRESS:PORT with --zenoh-config FILE, --zenoh-insecure, or an address of this machine only"),
        ("serve --zenoh tls/127.0.0.1:0", "needs certificates"),
        ("serve --deployment pick", "--zenoh"),
        ("serve --zenoh 127.0.0.1:7447", "expected tcp/ADDRESS:PORT or tls/ADDRESS:PORT"),
        ("rollout --policy zenoh://127.0.0.1:1", "zenoh://HOST:PORT/DEPLOYMENT"),
        ("rollout --policy zenoh://127.0.0.1:1/a --policy-token-env X", "--policy-zenoh-config names a file with certificates"),
        ("rollout --policy zenoh://127.0.0.1:1/a --inference rtc --rtc-horizon 3", "--rtc-horizon is for a policy that runs here"),
        ("rollout --policy ws://127.0.0.1:1 --policy-semantics x", "--policy-semantics is for --policy zenoh://"),
        ("rollout --policy-zenoh-config x", "--policy-zenoh-config is for a policy on a server"),
    ] {
        let text = desk.misuse(words);
        assert!(text.contains(expected), "{words}: {text}");
    }
    let error = desk.error(&["serve", "--listen", "127.0.0.1:0", "--zenoh", "tcp/127.0.0.1:0", "--deployment", "a/b"]);
    assert!(error.contains("the deployment \"a/b\""), "{error}");
    let error = desk.error(&["policy", "check", "zenoh://127.0.0.1:1/a", "--policy-zenoh-config", "nowhere.json5"]);
    assert!(error.contains("nowhere.json5"), "{error}");
}

#[test]
fn a_server_that_others_can_reach_needs_a_token() {
    let desk = Desk::new();
    let text = desk.misuse("serve --listen 0.0.0.0:0");
    assert!(text.contains("expected --token-env NAME"), "{text}");
    let text = desk.misuse("serve --listen 0.0.0.0:0 --token-env SINEW_NO_SUCH");
    assert!(text.contains("the environment has no such variable"), "{text}");

    let mut command = desk.sinew(&["serve", "--listen", "127.0.0.1:0", "--json", "--token-env", "SINEW_TEST_TOKEN"]);
    let mut child = command.env("SINEW_TEST_TOKEN", "open-sesame").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = format!("ws://{}", json(&line)[0]["address"].as_str().unwrap());
    let server = Serving { child, address };
    let error = desk.error(&["policy", "check", &server.address]);
    assert!(error.contains("401 Unauthorized") && !error.contains("sesame"), "{error}");
    for token in ["open-sesame", "Api-Key open-sesame"] {
        let output = desk.sinew(&["policy", "check", &server.address, "--policy-token-env", "MINE"]).env("MINE", token).output().unwrap();
        assert!(output.status.success(), "{token}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let error = desk.error(&["serve", "--listen", server.address.trim_start_matches("ws://")]);
    assert!(error.contains("listening on 127.0.0.1:") && error.contains("in use"), "{error}");
}

/// A key map for the simulated arm, in a file.
fn endpoint_keys(desk: &Desk) -> String {
    let file = desk.path("keys.toml");
    let text = "units = \"lerobot\"\nprompt = \"prompt\"\n[[image]]\nkey = [\"images\", \"front\"]\ncamera = \"front\"\n\
                quality = 80\n[[state]]\nkey = \"state\"\n";
    std::fs::write(&file, text).unwrap();
    file.to_string_lossy().into_owned()
}

#[test]
fn a_hosted_endpoint_that_starts_first_runs_an_arm() {
    let desk = Desk::new();
    let keys = endpoint_keys(&desk);
    let server = posted::start(|request| {
        let json = "application/json";
        if request.head.starts_with("GET") {
            return posted::Plan::Send(posted::answer(200, json, "{\"message\": \"ready\"}"));
        }
        if request.serial < 2 {
            return posted::Plan::Send(posted::answer(503, json, "{\"error\": \"Service Unavailable\"}"));
        }
        let rows: Vec<_> = (0..30).map(|_| request.json["inputs"]["state"].clone()).collect();
        posted::Plan::Send(posted::answer(200, json, &serde_json::json!({ "actions": rows }).to_string()))
    });
    let url = format!("http://{}", server.address);
    let args = ["rollout", "--policy", &url, "--policy-keys", &keys, "--seconds", "3", "--no-record", "--no-rerun", "--json"];
    let mut command = desk.sinew(&[&args[..], &["--policy-token-env", "MINE"]].concat());
    let output = command.env("MINE", "open-sesame").output().unwrap();
    let (text, notes) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && notes.contains("waiting for the policy's server, ") && notes.contains("503"), "{notes}");
    assert!(!notes.contains("sesame"), "{notes}");
    let totals = &json(&text)[1];
    let link = &totals["link"];
    assert!(link["answers"].as_u64().unwrap() >= 2 && link["refused"] == 0 && link["missed"] == 0, "{link}");
    let seen = server.requests.lock().unwrap().last().unwrap().clone();
    assert!(seen.head.contains("\r\nAuthorization: Bearer open-sesame"), "{}", seen.head);
    assert_eq!(seen.json["inputs"]["state"].as_array().unwrap().len(), 6);
    assert!(seen.json["inputs"]["images"]["front"].as_str().unwrap().len() > 1000);

    let text = desk.ok(&["policy", "check", &url]);
    assert!(text.contains("it answers 200 OK: ready to a GET") && text.contains("--policy-keys"), "{text}");
    let text = desk.ok(&["policy", "check", &url, "--robot", "so101", "--policy-keys", &keys]);
    assert!(text.contains("30 rows of 6 values") && text.contains("it fits the robot so101"), "{text}");
    let looks = server.requests.lock().unwrap().iter().filter(|request| request.head.starts_with("GET")).count();
    assert_eq!(looks, 1, "who is asked need not answer a GET");
}

#[test]
fn gr00ts_service_runs_an_arm() {
    let config = |keys: &[&str], rows: i64| {
        let ticks: Vec<i64> = (0..rows).collect();
        serde_json::json!({ "__ModalityConfig_class__": true, "as_json": { "delta_indices": ticks, "modality_keys": keys } })
    };
    let parts = ["single_arm", "gripper"];
    let modalities = serde_json::json!({
        "video": config(&["front", "wrist"], 1), "state": config(&parts, 1), "action": config(&parts, 16),
        "language": config(&["annotation.human.task_description"], 1),
    });
    let server = rep::start(rep::libzmq(), move |request, _| {
        let mut packer = Packer::default();
        if request.get("endpoint").unwrap().text() == Some("get_modality_config") {
            pack_json(&mut packer, &modalities);
            return rep::Plan::Answer(packer.into_bytes());
        }
        let state = request.get("data").unwrap().get("observation").unwrap().get("state").unwrap();
        packer.list(2);
        packer.map(2);
        for part in parts {
            let values = state.get(part).unwrap().numbers().unwrap().values;
            packer.str(part);
            packer.npy(Dtype::F32, &[1, 16, values.len()], |out| {
                (0..16).for_each(|_| values.iter().for_each(|value| out.extend((*value as f32).to_le_bytes())));
            });
        }
        packer.map(0);
        rep::Plan::Answer(packer.into_bytes())
    });
    let desk = Desk::new();
    let url = format!("groot://{}", server.address);
    let text = desk.ok(&["policy", "check", &url]);
    assert!(text.contains("video    front, wrist (ticks 0)") && text.contains("16 rows of single_arm, gripper"), "{text}");
    let keys = ["--policy-keys", "groot-so100"];
    let text = desk.ok(&[&["policy", "check", &url, "--robot", "so101"][..], &keys].concat());
    assert!(text.contains("16 rows of 6 values") && text.contains("it fits the robot so101"), "{text}");
    let args = ["rollout", "--policy", &url, "--seconds", "3", "--no-record", "--no-rerun", "--json"];
    let link = &json(&desk.ok(&[&args[..], &keys].concat()))[1]["link"];
    assert!(link["answers"].as_u64().unwrap() >= 2 && link["refused"] == 0 && link["missed"] == 0, "{link}");
    assert!(server.asked.lock().unwrap().iter().all(|endpoint| endpoint.starts_with("get_")));
}

#[test]
fn a_token_of_the_hub_goes_to_the_hubs_own_endpoints_alone() {
    let desk = Desk::new();
    let keys = endpoint_keys(&desk);
    let refused = |url: &str, has_token: bool| {
        let mut command = desk.sinew(&["rollout", "--policy", url, "--policy-keys", &keys, "--hub-token"]);
        command.env_remove("HF_TOKEN");
        if has_token {
            command.env("HF_TOKEN", "hf_secret");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && !text.contains("hf_secret"), "{text}");
        text
    };
    let server = posted::start(|_| posted::Plan::Silence);
    for url in [&*format!("http://{}", server.address), "https://endpoints.huggingface.cloud.evil.example", "ws://127.0.0.1:1"] {
        let text = refused(url, true);
        assert!(text.contains("nobody else gets a token of the Hub"), "{text}");
    }
    assert_eq!(server.connections.load(SeqCst), 0);
    let text = refused("https://x.us-east-1.aws.endpoints.huggingface.cloud", false);
    assert!(text.contains("there is no token of the Hub"), "{text}");
    let text = desk.misuse("rollout --policy https://example.com");
    assert!(text.contains("expected --policy-keys"), "{text}");
    let text = desk.misuse("rollout --hub-token");
    assert!(text.contains("--hub-token is for a policy on a server"), "{text}");
    // The page of a checkpoint is no server.
    let text = desk.error(&["policy", "check", "https://huggingface.co/bob/act"]);
    assert!(text.contains("bob/act"), "{text}");
}

#[test]
fn options_of_a_server_without_one_are_refused() {
    let desk = Desk::new();
    for (words, expected) in [
        ("rollout --policy-keys droid", "--policy-keys is for a policy on a server"),
        ("rollout --policy ws://127.0.0.1:1 --threads 2", "--threads is for a policy that runs here"),
        ("rollout --policy ws://127.0.0.1:1 --inference rtc", "what other servers speak has no word for continuing a chunk"),
        ("rollout --policy ws://user@host", "without a user"),
        ("policy check --policy-token-env X", "--policy-token-env is for a policy on a server"),
    ] {
        let text = desk.misuse(words);
        assert!(text.contains(expected), "{words}: {text}");
    }
    let error = desk.error(&["rollout", "--policy", "ws://127.0.0.1:1", "--policy-keys", "nowhere.toml"]);
    assert!(error.contains("nowhere.toml") && error.contains("droid, libero, aloha, lerobot"), "{error}");
    let error = desk.error(&["rollout", "--policy", "ws://127.0.0.1:1"]);
    assert!(error.contains("connecting to ws://127.0.0.1:1") && error.contains("refused"), "{error}");
}
