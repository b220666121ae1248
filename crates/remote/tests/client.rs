//! A remote policy against a server that does everything wrong that a server can: no answer that is late, repeated, misshapen or not
//! finite is ever given, nobody waits for longer than a deadline, and the link is back by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod asker;
mod faulty;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use asker::{Allowed, Asker, ROWS, robot};
use faulty::{Fault, Network};
use sinew_core::{Observation, Policy as _, Timestamp};
use sinew_remote::codec::{Packer, Value, pack_json};
use sinew_remote::{KeyMap, LinkReport, RemoteError, RemoteOptions, RemotePolicy};

/// How long an answer may take here.
const DEADLINE: Duration = Duration::from_millis(300);
const ALLOWED: Allowed = Allowed { late: Duration::from_millis(150), value: 1e-6, pause: Duration::ZERO };

fn packed(json: &serde_json::Value) -> Vec<u8> {
    let mut packer = Packer::default();
    pack_json(&mut packer, json);
    packer.into_bytes()
}

/// Each answer's first number is the request's first of the state.
fn echo(request: &Value<'_>) -> Vec<Vec<f64>> {
    let state = request.get("observation.state").unwrap().numbers().unwrap().values;
    (0..ROWS).map(|row| vec![state[0], row as f64]).collect()
}

fn options(address: std::net::SocketAddr) -> RemoteOptions {
    let address = format!("ws://{address}").parse().unwrap();
    RemoteOptions { keys: Some(KeyMap::lerobot().unwrap()), deadline: Some(DEADLINE), ..RemoteOptions::new(address) }
}

/// Two answers are for the first look; from the fifth on everything is well again.
fn with(fault: Fault) -> (Asker, faulty::Faulty) {
    let server = faulty::start(b"\x80".to_vec(), move |serial| if serial == 4 { fault } else { Fault::None }, echo);
    let mut asker = Asker::new(&options(server.address), ALLOWED);
    for _ in 0..2 {
        asker.ask().unwrap();
    }
    (asker, server)
}

#[test]
fn whatever_a_server_does_the_next_answers_are_right_again() {
    type Counts = fn(&LinkReport) -> u64;
    let faults: [(Fault, &str, Counts); 17] = [
        (Fault::Hang, "no answer", |report| report.missed),
        (Fault::Close, "closed", |report| report.reconnects),
        (Fault::HalfFrame, "no answer", |report| report.missed),
        (Fault::Trickle, "no answer", |report| report.missed),
        (Fault::NotANumber, "NaN in row 0", |report| report.refused),
        (Fault::Infinite, "inf in row 3", |report| report.refused),
        (Fault::Wide, "rows of 3 values, expected 2", |report| report.refused),
        (Fault::Narrow, "rows of 1 values, expected 2", |report| report.refused),
        (Fault::Empty, "expected 1 to", |report| report.refused),
        (Fault::NoActions, "no actions; it has: hello", |report| report.refused),
        (Fault::NoMsgpack, "not read", |report| report.refused),
        (Fault::Text, "ValueError: no such camera", |report| report.errors),
        (Fault::Late(500), "no answer", |report| report.late),
        (Fault::Stale, "once more", |report| report.repeated),
        (Fault::Huge, "", |report| report.reconnects),
        (Fault::Drip, "", |report| report.answers),
        (Fault::PingsFirst, "", |report| report.answers),
    ];
    std::thread::scope(|scope| {
        for (fault, words, count) in faults {
            scope.spawn(move || {
                let (mut asker, server) = with(fault);
                let answered = asker.ask();
                if matches!(fault, Fault::Drip | Fault::PingsFirst) {
                    answered.unwrap();
                } else {
                    let why = answered.expect_err(&format!("{fault:?}"));
                    assert!(why.contains(words), "{fault:?}: {why}");
                }
                asker.is_back_within(Duration::from_secs(2));
                for _ in 0..20 {
                    asker.ask().unwrap_or_else(|why| panic!("after {fault:?}: {why}"));
                }
                let report = asker.report();
                assert!(count(&report) > 0, "{fault:?}: {report:?}");
                assert_eq!(report.answers as usize, report.total_ms.count());
                if fault == Fault::PingsFirst {
                    assert!(server.pongs.load(SeqCst) >= 1, "the newest ping is answered");
                }
            });
        }
    });
}

#[test]
fn a_server_whose_answers_are_of_no_use_is_left_alone_in_between() {
    let bad = |fault| {
        let server = faulty::start(b"\x80".to_vec(), move |serial| if serial < 2 { Fault::None } else { fault }, echo);
        let robot = robot();
        let mut policy = RemotePolicy::connect(&options(server.address), &robot).unwrap();
        let (begun, before, mut refused) = (Instant::now(), server.requests.load(SeqCst), 0);
        while begun.elapsed() < Duration::from_secs(2) {
            policy.infer(&[Observation::for_robot(&robot)], "").map(drop).unwrap_err();
            refused += 1;
        }
        let asked = server.requests.load(SeqCst) - before;
        println!("{fault:?}: asked {asked} times, {refused} refusals");
        assert!((3..=15).contains(&asked), "{fault:?}: asked {asked} times in 2 s");
        assert!(refused < 250 && policy.reporter().report().refused > 0, "{fault:?}: {refused}");
    };
    for fault in [Fault::NotANumber, Fault::Infinite, Fault::Wide, Fault::NoMsgpack] {
        bad(fault);
    }
}

#[test]
fn an_answer_that_is_given_twice_is_used_once() {
    for delay in [0, 20] {
        let (mut asker, _server) = with(Fault::Twice);
        asker.ask().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        asker.is_back_within(Duration::from_secs(2));
        for _ in 0..10 {
            asker.ask().unwrap();
        }
        assert_eq!(asker.report().repeated, 1);
    }
}

#[test]
fn a_server_that_always_says_the_same_is_believed_in_the_end() {
    let answers = |_: &Value<'_>| vec![vec![0.0, 0.0]; ROWS];
    let server = faulty::start(b"\x80".to_vec(), |_| Fault::Timeless, answers);
    let robot = robot();
    let mut policy = RemotePolicy::connect(&options(server.address), &robot).unwrap();
    let observation = [Observation::for_robot(&robot)];
    // Its first answers, to the same question, are alike already.
    let answers: Vec<bool> = (0..60).map(|_| policy.infer(&observation, "").is_ok()).collect();
    assert!(answers[40..].iter().all(|answered| *answered), "{answers:?}");
    let report = policy.reporter().report();
    assert_eq!((report.repeated, report.reconnects), (1, 1), "{report:?}");
}

#[test]
fn pings_are_answered_while_nobody_asks() {
    let server = faulty::start(b"\x80".to_vec(), |_| Fault::PingsFirst, echo);
    let mut asker = Asker::new(&options(server.address), ALLOWED);
    asker.ask().unwrap();
    let before = server.pongs.load(SeqCst);
    asker.ask().unwrap();
    let told = Instant::now();
    while server.pongs.load(SeqCst) == before {
        assert!(told.elapsed() < Duration::from_secs(2), "no pong");
        asker.ask().unwrap();
    }
}

#[test]
fn a_black_out_of_five_seconds_is_over_two_seconds_later() {
    let server = faulty::start(b"\x80".to_vec(), |_| Fault::None, echo);
    let network = Network::before(server.address);
    let mut asker = Asker::new(&options(network.address), ALLOWED);
    asker.ask().unwrap();
    network.switch().store(true, SeqCst);
    let dark = Instant::now();
    let mut refused = 0;
    while dark.elapsed() < Duration::from_secs(5) {
        asker.ask().expect_err("in the dark");
        refused += 1;
    }
    assert!(refused > 20, "{refused}: who asks is told soon, not only at the deadline");
    network.switch().store(false, SeqCst);
    let back = asker.is_back_within(Duration::from_secs(2));
    println!("back after {back:?}");
    asker.ask().unwrap();
}

#[test]
fn where_nobody_listens_the_address_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = RemotePolicy::connect(&options(address), &robot()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("connecting to ws://{address}: ")) && error.contains("refused"), "{error}");
}

#[test]
fn another_policy_behind_the_same_address_is_not_asked() {
    let ours =
        |policy: &str| packed(&serde_json::json!({ "sinew": { "policy": policy, "inputs": { "observation.state": { "shape": [2] } } } }));
    let (first, second) = (ours("first"), ours("second"));
    let metadata = move |connection| if connection == 1 { second.clone() } else { first.clone() };
    let server = faulty::start_with(metadata, |serial| if serial == 3 { Fault::Close } else { Fault::None }, echo);
    let mut asker = Asker::new(&options(server.address), ALLOWED);
    asker.ask().unwrap();
    asker.ask().unwrap_err();
    let mut reasons = Vec::new();
    while server.connections.load(SeqCst) < 3 {
        reasons.extend(asker.ask().err());
    }
    assert!(reasons.iter().any(|why| why.contains("another policy now than at first")), "{reasons:?}");
    asker.is_back_within(Duration::from_secs(2));
}

#[test]
fn a_robot_that_does_not_fit_is_shown_with_both_sides_before_anything_moves() {
    let wide = |_: &Value<'_>| vec![vec![0.0; 7]; ROWS];
    let server = faulty::start(b"\x80".to_vec(), |_| Fault::None, wide);
    let error = RemotePolicy::connect(&options(server.address), &robot()).unwrap_err();
    assert!(matches!(error, RemoteError::Mismatch { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("! answers") && text.contains("4 rows of 7 values") && text.contains("2 values: shoulder.pos, elbow.pos"),
        "{text}"
    );

    let other = serde_json::json!({ "sinew": {
        "policy": "theirs", "family": "act", "control_rate_hz": 30, "action_names": ["a.pos", "elbow.pos"], "state_names": ["a.pos", "elbow.pos"],
        "inputs": { "observation.state": { "shape": [2] }, "observation.images.top": { "shape": [3, 96, 128] } },
    } });
    let server = faulty::start(packed(&other), |_| Fault::None, echo);
    let told = RemoteOptions { keys: None, ..options(server.address) };
    let text = RemotePolicy::connect(&told, &robot()).unwrap_err().to_string();
    for line in ["! observation.images.top", "! observation.state", "! control rate", "! action", "a.pos, elbow.pos", "30 Hz", "50 Hz"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(server.requests.load(SeqCst), 0, "it was not asked");

    let silent = faulty::start(b"\x80".to_vec(), |_| Fault::None, echo);
    let text = RemotePolicy::connect(&RemoteOptions { keys: None, ..options(silent.address) }, &robot()).unwrap_err().to_string();
    assert!(text.contains("expected --policy-keys"), "{text}");
}

#[test]
fn what_is_sent_is_what_the_key_map_says() {
    let text = "units = \"si\"\nprompt = \"task\"\n\
        [[image]]\nkey = [\"images\", \"cam_high\"]\ncamera = \"front\"\nsize = \"8x8\"\nlayout = \"chw\"\nrotate = 180\n\
        [[image]]\nkey = [\"images\", \"cam_low\"]\ncamera = \"low\"\noptional = true\n\
        [[state]]\nkey = \"joints\"\nchannels = [\"elbow.pos\"]\ndtype = \"f64\"\n[[state]]\nkey = \"first\"\nrange = [0, 1]\n";
    let file = std::env::temp_dir().join(format!("sinew-keys-{}.toml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let keys = KeyMap::find(&file.to_string_lossy());
    std::fs::remove_file(&file).unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let hears = seen.clone();
    let server = faulty::start(
        b"\x80".to_vec(),
        |_| Fault::None,
        move |request| {
            let kinds = request.entries().iter().map(|(key, value)| format!("{key}={}", value.kind())).collect::<Vec<_>>().join(" ");
            let image = request.get("images").unwrap().get("cam_high").unwrap();
            let Value::Tensor(image) = image else { panic!("{image:?}") };
            let (plane, joint) = (image.data[..64].to_vec(), request.get("joints").unwrap().numbers().unwrap().values[0]);
            hears.lock().unwrap().push((kinds, image.shape.clone(), plane, joint, request.get("task").unwrap().text().unwrap().to_owned()));
            vec![vec![0.25, -0.5]; ROWS]
        },
    );
    let robot = robot();
    let mut policy = RemotePolicy::connect(&RemoteOptions { keys: Some(keys.unwrap()), ..options(server.address) }, &robot).unwrap();
    let mut observation = Observation::for_robot(&robot);
    observation.state.set(1, 0.75, Timestamp::ZERO);
    observation.images[0].rgb[0] = 255;
    let chunk = policy.infer(&[observation], "wave").unwrap();
    assert_eq!(chunk.rows().next().unwrap(), [0.25, -0.5], "in SI, as the map says");
    let seen = seen.lock().unwrap();
    let (kinds, shape, plane, joint, task) = seen.last().unwrap();
    assert_eq!(kinds, "images=a map of 1 joints=float64 [1] first=float32 [1] task=a text");
    assert_eq!((shape, *joint, &**task), (&vec![3, 8, 8], 0.75, "wave"));
    // The red corner of 4x3 is at the bottom right, inside the bars.
    let rows: Vec<u32> = plane.chunks(8).map(|row| row.iter().map(|value| u32::from(*value)).sum()).collect();
    assert!(rows[0] == 0 && rows[7] == 0 && rows[6] > 200 && plane[6 * 8 + 7] > 200, "{rows:?}");
}
