//! A policy behind GR00T's service: what is asked over ZeroMQ, and that no fault of a server or of the network becomes an action.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod asker;
mod faulty;
mod rep;

use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use asker::{Allowed, Asker, ROWS, keys, robot};
use faulty::Network;
use rep::{Plan, Rep, framed, libzmq};
use serde_json::json;
use sinew_core::{Observation, Policy as _};
use sinew_remote::codec::{Dtype, Packer, Value, pack_json};
use sinew_remote::{LinkReport, RemoteError, RemoteOptions, RemotePolicy, metadata};

const DEADLINE: Duration = Duration::from_millis(400);
const ALLOWED: Allowed = Allowed { late: Duration::from_millis(200), value: 1e-6, pause: Duration::ZERO };

const KEYS: &str = "units = \"si\"\nprompt = [\"language\", \"task\"]\nactions = [\"upper\", \"lower\"]\n\
    [[image]]\nkey = [\"video\", \"front\"]\ncamera = \"front\"\nsize = \"8x6\"\n\
    [[state]]\nkey = [\"state\", \"upper\"]\nrange = [0, 1]\n[[state]]\nkey = [\"state\", \"lower\"]\nrange = [1, 2]\n";

/// The same before N1.6.
const OLD_KEYS: &str = "units = \"si\"\nprompt = \"annotation.task\"\nactions = [\"action.upper\", \"action.lower\"]\n\
    [[image]]\nkey = \"video.front\"\ncamera = \"front\"\n[[state]]\nkey = \"state.upper\"\nrange = [0, 1]\n[[state]]\nkey = \"state.lower\"\nrange = [1, 2]\n";

fn packed(json: &serde_json::Value) -> Vec<u8> {
    let mut packer = Packer::default();
    pack_json(&mut packer, json);
    packer.into_bytes()
}

fn config(keys: &[&str], ticks: &[i64]) -> serde_json::Value {
    json!({ "__ModalityConfig_class__": true, "as_json": { "delta_indices": ticks, "modality_keys": keys, "action_configs": null } })
}

fn modalities(video: &[i64]) -> serde_json::Value {
    json!({
        "video": config(&["front"], video), "state": config(&["upper", "lower"], &[0]), "language": config(&["task"], &[0]),
        "action": config(&["upper", "lower"], &[0, 1, 2, 3]),
    })
}

/// What `get_action` answers: a map of arrays `[1, rows, width]` of each part, and what else there is to say.
fn answer(parts: &[(&str, Vec<f32>)], rows: usize) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.list(2);
    packer.map(parts.len());
    for (name, values) in parts {
        packer.str(name);
        packer
            .npy(Dtype::F32, &[1, rows, values.len() / rows.max(1)], |out| values.iter().for_each(|value| out.extend(value.to_le_bytes())));
    }
    packer.map(0);
    packer.into_bytes()
}

fn state(request: &Value<'_>) -> f32 {
    let observation = request.get("data").unwrap().get("observation").unwrap();
    observation.get("state").unwrap().get("upper").unwrap().numbers().unwrap().values[0] as f32
}

/// Each row's first number is the request's first of the state.
fn well(request: &Value<'_>) -> Vec<u8> {
    answer(&[("lower", (0..ROWS).map(|row| row as f32 * 0.01).collect()), ("upper", vec![state(request); ROWS])], ROWS)
}

fn options(rep: SocketAddr) -> RemoteOptions {
    let address = format!("groot://{rep}").parse().unwrap();
    RemoteOptions { keys: Some(keys(KEYS)), deadline: Some(DEADLINE), ..RemoteOptions::new(address) }
}

fn is_about_modalities(request: &Value<'_>) -> bool {
    request.get("endpoint").and_then(Value::text) == Some("get_modality_config")
}

/// What a server does in place of the fifth action, after two for the first look and two more.
fn with(plan: impl Fn(&Value<'_>) -> Plan + Send + Sync + 'static) -> (Asker, Rep) {
    let actions = Mutex::new(0);
    let rep = rep::start(libzmq(), move |request, _| {
        if is_about_modalities(request) {
            return Plan::Answer(packed(&modalities(&[0])));
        }
        let mut actions = actions.lock().unwrap();
        *actions += 1;
        if *actions == 5 { plan(request) } else { Plan::Answer(well(request)) }
    });
    let mut asker = Asker::new(&options(rep.address), ALLOWED);
    for _ in 0..2 {
        asker.ask().unwrap();
    }
    (asker, rep)
}

type Make = Box<dyn Fn(&Value<'_>) -> Plan + Send + Sync>;

fn parts(upper: Vec<f32>, lower: Vec<f32>, rows: usize) -> Make {
    Box::new(move |_| Plan::Answer(answer(&[("upper", upper.clone()), ("lower", lower.clone())], rows)))
}

#[test]
fn whatever_a_server_does_the_next_answers_are_right_again() {
    type Counts = fn(&LinkReport) -> u64;
    let huge = [&[1, 0, 2][..], &(1_u64 << 30).to_be_bytes(), &[0; 1000]].concat();
    let faults: Vec<(&str, Make, &str, Counts)> = vec![
        ("silence", Box::new(|_| Plan::Silence), "no answer", |report| report.missed),
        ("late", Box::new(|request| Plan::After(600, well(request))), "no answer", |report| report.late),
        ("cut", Box::new(|request| Plan::Cut(framed(&well(request))[..40].to_vec())), "closed the connection", |report| report.reconnects),
        ("slow", Box::new(|request| Plan::Drip(30, well(request))), "no answer", |report| report.missed),
        ("half", Box::new(|request| Plan::Raw(framed(&well(request))[..40].to_vec())), "no answer", |report| report.missed),
        ("wide", parts(vec![0.0; 8], vec![0.0; 4], 4), "rows of 3 values, expected 2", |report| report.refused),
        ("uneven", Box::new(|_| Plan::Answer([answer(&[("upper", vec![0.0; 4])], 4), Vec::new()].concat())), "has no lower", |report| {
            report.refused
        }),
        ("NaN", parts(vec![0.0, 0.0, f32::NAN, 0.0], vec![0.0; 4], 4), "NaN in row 2 of upper", |report| report.refused),
        ("inf", parts(vec![0.0; 4], vec![f32::INFINITY; 4], 4), "inf in row 0 of lower", |report| report.refused),
        ("no rows", parts(vec![], vec![], 0), "expected 1 to", |report| report.refused),
        (
            "an error",
            Box::new(|_| Plan::Answer(packed(&json!({ "error": "Video key 'x' must be in observation" })))),
            "Video key 'x'",
            |report| report.refused,
        ),
        ("ERROR", Box::new(|_| Plan::Answer(b"ERROR".to_vec())), "its answer is none", |report| report.refused),
        (
            "pickle",
            Box::new(|_| Plan::Answer(packed(&json!({ "__ndarray_class__": true, "as_npy": "x" })))),
            "an array that is none",
            |report| report.refused,
        ),
        ("huge", Box::new(move |_| Plan::Raw(huge.clone())), "longer than", |report| report.reconnects),
        ("no frame", Box::new(|_| Plan::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())), "which ZeroMQ has not", |report| {
            report.reconnects
        }),
        ("no envelope", Box::new(|_| Plan::Raw(vec![0, 2, 0x80, 0x80])), "other parts", |report| report.reconnects),
    ];
    std::thread::scope(|scope| {
        for (name, plan, words, count) in faults {
            scope.spawn(move || {
                let (mut asker, _rep) = with(plan);
                let why = asker.ask().expect_err(name);
                assert!(why.contains(words), "{name}: {why}");
                asker.is_back_within(Duration::from_secs(2));
                for _ in 0..10 {
                    asker.ask().unwrap_or_else(|why| panic!("after {name}: {why}"));
                }
                let report = asker.report();
                assert!(count(&report) > 0, "{name}: {report:?}");
            });
        }
    });
}

#[test]
fn slow_bytes_and_commands_between_are_no_fault() {
    let forms: Vec<(&str, Make)> = vec![
        ("byte by byte", Box::new(|request| Plan::Drip(0, well(request)))),
        ("a command first", Box::new(|request| Plan::Raw([b"\x04\x07\x04PING\0\0".to_vec(), framed(&well(request))].concat()))),
    ];
    for (name, plan) in forms {
        let (mut asker, _rep) = with(plan);
        asker.ask().unwrap_or_else(|why| panic!("{name}: {why}"));
        asker.ask().unwrap();
    }
}

#[test]
fn a_black_out_of_five_seconds_is_over_two_seconds_later() {
    let server = rep::start(libzmq(), |request, _| {
        Plan::Answer(if is_about_modalities(request) { packed(&modalities(&[0])) } else { well(request) })
    });
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
    asker.is_back_within(Duration::from_secs(2));
    asker.ask().unwrap();
}

#[test]
fn an_answer_that_is_given_twice_is_used_once() {
    for delay in [0, 20] {
        let (mut asker, _rep) = with(|request| Plan::Twice(well(request)));
        asker.ask().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        asker.is_back_within(Duration::from_secs(2));
        for _ in 0..10 {
            asker.ask().unwrap();
        }
        assert!(asker.report().reconnects >= 1, "{:?}", asker.report());
    }
}

/// What a request held: kinds by key, the image's bytes, and what was said.
#[derive(Debug, Default)]
struct Heard {
    kinds: String,
    red: u8,
    task: String,
}

fn kinds(value: &Value<'_>) -> String {
    let one = |(key, value): &(&str, Value<'_>)| match value {
        Value::Map(_) => format!("{key}({})", kinds(value)),
        Value::List(items) => format!("{key}=list of {}", items[0].kind()),
        other => format!("{key}={}", other.kind()),
    };
    value.entries().iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_sent_is_what_the_service_reads() {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let hears = heard.clone();
    let rep = rep::start(libzmq(), move |request, _| {
        assert_eq!(request.get("api_token").and_then(Value::text), Some("open-sesame"));
        if is_about_modalities(request) {
            return Plan::Answer(packed(&modalities(&[0])));
        }
        let observation = request.get("data").unwrap().get("observation").unwrap();
        let Some(Value::Tensor(image)) = observation.get("video").unwrap().get("front") else { panic!() };
        let Some(Value::List(batch)) = observation.get("language").unwrap().get("task") else { panic!() };
        let Value::List(steps) = &batch[0] else { panic!() };
        *hears.lock().unwrap() =
            Heard { kinds: kinds(request), red: image.data[(3 * 8 + 4) * 3], task: steps[0].text().unwrap().to_owned() };
        Plan::Answer(well(request))
    });
    let options = RemoteOptions { token: Some("open-sesame".into()), ..options(rep.address) };
    let robot = robot();
    let mut policy = RemotePolicy::connect(&options, &robot).unwrap();
    let mut observation = Observation::for_robot(&robot);
    observation.images[0].rgb.chunks_exact_mut(3).for_each(|pixel| pixel[0] = 200);
    let chunk = policy.infer(&[observation], "wave").unwrap();
    assert_eq!((chunk.len(), chunk.rows().last().unwrap()[1] > 0.029), (4, true), "columns in the key map's order");
    let heard = heard.lock().unwrap();
    assert_eq!(
        heard.kinds,
        "endpoint=a text data(observation(video(front=uint8 [1, 1, 6, 8, 3]) state(upper=float32 [1, 1, 1] lower=float32 [1, 1, 1]) \
         language(task=list of a list of 1)) options=nothing) api_token=a text"
    );
    assert_eq!((heard.red, &*heard.task), (200, "wave"));
    let asked = rep.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|endpoint| *endpoint == "get_modality_config").count(), 1, "{asked:?}");
    assert!(asked.iter().all(|endpoint| endpoint != "kill"), "{asked:?}");
}

#[test]
fn the_service_before_n1_6_is_spoken_to_as_it_wants() {
    let config = |keys: &[&str], ticks: &[i64]| json!({ "__ModalityConfig_class__": true, "as_json": json!({ "delta_indices": ticks, "modality_keys": keys }).to_string() });
    let modalities = json!({
        "video": config(&["video.front"], &[0]), "state": config(&["state.upper", "state.lower"], &[0]),
        "language": config(&["annotation.task"], &[0]), "action": config(&["action.upper", "action.lower"], &[0, 1]),
    });
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = heard.clone();
    let rep = rep::start(libzmq(), move |request, _| {
        if is_about_modalities(request) {
            return Plan::Answer(packed(&modalities));
        }
        *hears.lock().unwrap() = kinds(request);
        let mut packer = Packer::default();
        packer.map(2);
        for (name, shape) in [("action.upper", &[2, 1][..]), ("action.lower", &[2])] {
            packer.str(name);
            packer.npy(Dtype::F64, shape, |out| [0.25_f64, 0.5].iter().for_each(|value| out.extend(value.to_le_bytes())));
        }
        Plan::Answer(packer.into_bytes())
    });
    let robot = robot();
    let mut policy = RemotePolicy::connect(&RemoteOptions { keys: Some(keys(OLD_KEYS)), ..options(rep.address) }, &robot).unwrap();
    let chunk = policy.infer(&[Observation::for_robot(&robot)], "wave").unwrap();
    assert_eq!(chunk.rows().map(<[f64]>::to_vec).collect::<Vec<_>>(), [[0.25, 0.25], [0.5, 0.5]]);
    assert_eq!(
        *heard.lock().unwrap(),
        "endpoint=a text data(video.front=uint8 [1, 3, 4, 3] state.upper=float32 [1, 1] state.lower=float32 [1, 1] \
         annotation.task=list of a text)"
    );
}

#[test]
fn what_does_not_fit_is_shown_with_both_sides_before_anything_is_asked() {
    let wanted = json!({
        "video": config(&["front", "wrist"], &[-10, 0]), "state": config(&["upper", "hand"], &[0]), "language": config(&["order"], &[0]),
        "action": config(&["upper"], &[0, 1]),
    });
    let rep = rep::start(libzmq(), move |_, _| Plan::Answer(packed(&wanted)));
    let error = RemotePolicy::connect(&options(rep.address), &robot()).unwrap_err();
    assert!(matches!(error, RemoteError::Mismatch { .. }), "{error}");
    let text = error.to_string();
    for line in ["! video/wrist", "! state/hand", "! language/order", "! action lower", "! video ticks", "-10, 0"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(*rep.asked.lock().unwrap(), ["get_modality_config"]);

    let (told, all) = metadata(&options(rep.address)).unwrap();
    assert_eq!(told.modalities.unwrap().video.keys, ["front", "wrist"]);
    assert_eq!(all["video"]["as_json"]["delta_indices"], json!([-10, 0]));

    for (text, words) in [
        (KEYS.replace("size = \"8x6\"", "layout = \"chw\""), "layout"),
        (KEYS.replace("range = [1, 2]", "range = [1, 2]\ndtype = \"f64\""), "dtype"),
    ] {
        let error =
            RemotePolicy::connect(&RemoteOptions { keys: Some(keys(&text)), ..options(rep.address) }, &robot()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn who_is_no_such_service_is_named_as_that() {
    let error_of = |greeting: Vec<u8>, answer: serde_json::Value| {
        let rep = rep::start(greeting, move |_, _| Plan::Answer(packed(&answer)));
        let began = Instant::now();
        let error = RemotePolicy::connect(&options(rep.address), &robot()).unwrap_err().to_string();
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
        error
    };
    let config = || modalities(&[0]);
    let with = |from: &[u8], to: &[u8]| {
        let mut bytes = libzmq();
        let at = bytes.windows(from.len()).position(|part| part == from).unwrap();
        bytes.splice(at..at + from.len(), to.iter().copied());
        bytes
    };
    for (greeting, answer, words) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), config(), "another greeting"),
        (with(b"NULL", b"PLAI"), config(), "a security mechanism"),
        (with(b"\x03REP", b"\x03PUB"), config(), "another kind of socket"),
        (with(&[0x7f, 3], &[0x7f, 1]), config(), "an old version"),
        (libzmq(), json!({ "error": "Unauthorized: Invalid API token" }), "Unauthorized"),
        (libzmq(), json!({ "error": "Unknown endpoint: get_modality_config" }), "Unknown endpoint"),
        (libzmq(), json!({}), "does not say what its policy wants"),
        (libzmq(), json!([1, 2]), "does not say what its policy wants"),
    ] {
        let error = error_of(greeting, answer);
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn another_policy_behind_the_same_address_is_not_asked() {
    let counts = Mutex::new((0, 0));
    let rep = rep::start(libzmq(), move |request, _| {
        let (connections, actions) = &mut *counts.lock().unwrap();
        if is_about_modalities(request) {
            *connections += 1;
            let mut config = modalities(&[0]);
            if *connections == 2 {
                config["action"]["as_json"]["delta_indices"] = json!([0, 1]);
            }
            return Plan::Answer(packed(&config));
        }
        // Two for the first look, and one more.
        *actions += 1;
        if *actions == 4 { Plan::Cut(Vec::new()) } else { Plan::Answer(well(request)) }
    });
    let mut asker = Asker::new(&options(rep.address), ALLOWED);
    asker.ask().unwrap();
    asker.ask().unwrap_err();
    let mut reasons = Vec::new();
    while rep.connections.load(SeqCst) < 3 {
        reasons.extend(asker.ask().err());
    }
    assert!(reasons.iter().any(|why| why.contains("another policy now than at first")), "{reasons:?}");
    asker.is_back_within(Duration::from_secs(2));
}
