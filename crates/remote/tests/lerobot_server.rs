//! LeRobot's remote inference from the server's side: our own client, and one that says what no client should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod asker;
mod deployment;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use asker::{Allowed, Asker, keys, robot};
use deployment::{bytes_of, envelope, int, numbers, open_net, pack_array, text};
use sinew_remote::codec::{Limits, Packer, Value, decode, pack_json};
use sinew_remote::{Answerer, RemoteOptions, SEMANTICS, Served, Server, ServerOptions, ZenohOptions, ZenohServer};
use zenoh::qos::CongestionControl;
use zenoh::query::{ConsolidationMode, QueryTarget};
use zenoh::{Session, Wait as _};

/// Answers the state in each of six rows.
#[derive(Default)]
struct Echo {
    takes: Duration,
    steps: usize,
    images: AtomicU64,
}

impl Answerer for Echo {
    fn metadata(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        pack_json(
            &mut packer,
            &serde_json::json!({ "sinew": {
                "policy": "echo", "family": "act",
                "inputs": {
                    "observation.images.front": { "type": "VISUAL", "shape": [3, 6, 8] },
                    "observation.state": { "type": "STATE", "shape": [2] },
                },
                "state_names": ["shoulder.pos", "elbow.pos"], "action_names": ["shoulder.pos", "elbow.pos"],
                "control_rate_hz": 50, "n_obs_steps": self.steps.max(1), "chunk_size": 6, "n_action_steps": 4, "numbers_answers": true,
            } }),
        );
        packer.into_bytes()
    }

    fn answer(&self, observation: &Value<'_>) -> Result<Served, String> {
        std::thread::sleep(self.takes);
        let Some(Value::Tensor(image)) = observation.get("observation.images.front") else { return Err("no image".into()) };
        assert_eq!((&image.shape[..], image.data.len()), (&[6, 8, 3][..], 144));
        self.images.fetch_add(1, SeqCst);
        let state = observation.get("observation.state").ok_or("no state")?.numbers()?.values;
        if observation.get("task").and_then(Value::text) == Some("fail") {
            return Err("it can't".into());
        }
        let values = (0..6).flat_map(|_| state.iter().map(|value| *value as f32)).collect();
        Ok(Served { rows: 6, width: 2, values, took: None })
    }
}

struct Both {
    zenoh: ZenohServer,
    server: Server,
    echo: Arc<Echo>,
}

fn start(echo: Echo) -> Both {
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    let echo = Arc::new(echo);
    server.serve(echo.clone());
    let zenoh = server.serve_zenoh(&options("tcp/127.0.0.1:0")).unwrap();
    Both { zenoh, server, echo }
}

fn options(listen: &str) -> ZenohOptions {
    ZenohOptions { listen: listen.into(), config: None, deployment: "pick".into() }
}

impl Both {
    fn address(&self) -> String {
        format!("zenoh://{}/pick", self.zenoh.locator().strip_prefix("tcp/").unwrap())
    }

    fn remote(&self) -> RemoteOptions {
        RemoteOptions { deadline: Some(Duration::from_millis(500)), ..RemoteOptions::new(self.address().parse().unwrap()) }
    }
}

const ALLOWED: Allowed = Allowed { late: Duration::from_millis(300), value: 1e-6, pause: Duration::from_millis(5) };

#[test]
fn our_own_client_is_answered_beside_one_of_the_websocket() {
    let both = start(Echo::default());
    let mut asker = Asker::new(&both.remote(), ALLOWED);
    let web = RemoteOptions {
        deadline: Some(Duration::from_millis(500)),
        ..RemoteOptions::new(format!("ws://{}", both.server.address()).parse().unwrap())
    };
    // Its answers are whole chunks.
    let web = sinew_remote::RemotePolicy::connect(&web, &robot()).unwrap();
    assert_eq!(sinew_core::Policy::info(&web).chunk_size, 6);
    for _ in 0..20 {
        asker.ask().unwrap();
    }
    let report = asker.report();
    assert_eq!((report.answers, report.errors, report.refused, report.reconnects), (20, 0, 0, 0));
    assert_eq!(both.echo.images.load(SeqCst), 24);
    assert_eq!((both.server.counts().requests, both.server.counts().answers, both.server.counts().errors), (24, 24, 0));
    // And again, as the first has said goodbye.
    drop(asker);
    Asker::new(&both.remote(), ALLOWED).ask().unwrap();
    // Once more with JPEGs.
    let map = keys(
        "units = \"lerobot\"\n[[image]]\nkey = \"observation.images.front\"\ncamera = \"front\"\nquality = 95\n[[state]]\nkey = \"observation.state\"\n",
    );
    Asker::new(&RemoteOptions { keys: Some(map), ..both.remote() }, ALLOWED).ask().unwrap();
    let (told, json) = sinew_remote::metadata(&both.remote()).unwrap();
    assert_eq!((told.policy.as_deref(), told.n_action_steps), (Some("echo"), Some(4)));
    assert_eq!(json["capabilities"]["modes"], serde_json::json!(["chunk"]));
}

#[test]
fn what_v1_has_no_words_for_is_not_served() {
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    let refusal = |options: &ZenohOptions| server.serve_zenoh(options).err().unwrap().to_string();
    assert!(refusal(&options("tcp/127.0.0.1:0")).contains("the policy is not loaded yet"));
    server.serve(Arc::new(Echo { steps: 2, ..Echo::default() }));
    assert!(refusal(&options("tcp/127.0.0.1:0")).contains("this policy looks at 2"));
    assert!(refusal(&ZenohOptions { deployment: "a/b".into(), ..options("tcp/127.0.0.1:0") }).contains("the deployment \"a/b\""));
    for listen in ["127.0.0.1:7447", "udp/127.0.0.1:7447", "tcp/127.0.0.1", "tcp/:7447", "tcp/a:b"] {
        assert!(refusal(&options(listen)).contains("expected tcp/ADDRESS:PORT"), "{listen}");
    }
    let is_local = |listen: &str| options(listen).is_local().unwrap();
    assert!(is_local("tcp/127.0.0.1:1") && is_local("tls/[::1]:1") && is_local("tcp/localhost:1"));
    assert!(!is_local("tcp/0.0.0.0:1") && !is_local("tcp/10.0.0.1:1") && !is_local("tls/gpu.local:1"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = start(Echo::default());
    let error = busy.server.serve_zenoh(&options(&format!("tcp/{}", taken.local_addr().unwrap()))).err().unwrap().to_string();
    assert!(error.starts_with("serving on tcp/127.0.0.1:"), "{error}");
}

/// A client that says what the test wants.
struct Raw {
    net: Session,
    instance: String,
    session: String,
    acts: Receiver<Vec<u8>>,
    _kept: Vec<Box<dyn std::any::Any>>,
}

fn ask(net: &Session, key: &str, question: Vec<u8>) -> Vec<Vec<u8>> {
    let querier = net.declare_querier(key.to_owned()).wait().unwrap();
    let began = Instant::now();
    while !querier.matching_status().wait().unwrap().matching() {
        assert!(began.elapsed() < Duration::from_secs(5), "nobody is at {key}");
        std::thread::sleep(Duration::from_millis(2));
    }
    let (sender, answers) = channel();
    net.get(key)
        .payload(question)
        .target(QueryTarget::All)
        .consolidation(ConsolidationMode::None)
        .timeout(Duration::from_secs(2))
        .callback(move |reply| drop(sender.send(reply)))
        .wait()
        .unwrap();
    answers.iter().filter_map(|reply| Some(reply.into_result().ok()?.payload().to_bytes().into_owned())).collect()
}

const ROOT: &str = "lerobot/inference/v1/deployments/pick";

fn pack_open(packer: &mut Packer, mode: &str, semantics: &str, names: [&str; 2]) {
    packer.map(7);
    packer.str("expected_artifact");
    packer.str("echo");
    packer.str("features");
    let feature = |packer: &mut Packer, name: &str, shape: &[i64], dtype: &str, kind: &str, names: &[&str], semantics: &str| {
        packer.map(6);
        for (key, text) in [("name", name), ("dtype", dtype), ("kind", kind), ("semantics", semantics)] {
            packer.str(key);
            packer.str(text);
        }
        packer.str("shape");
        packer.list(shape.len());
        shape.iter().for_each(|side| packer.int(*side));
        packer.str("names");
        packer.list(names.len());
        names.iter().for_each(|name| packer.str(name));
    };
    packer.list(2);
    feature(packer, "observation.images.front", &[6, 8, 3], "uint8", "rgb", &[], "rgb");
    feature(packer, "observation.state", &[2], "float32", "tensor", &names, semantics);
    packer.str("action_feature");
    feature(packer, "action", &[2], "float32", "tensor", &["shoulder.pos", "elbow.pos"], semantics);
    packer.str("semantics");
    packer.str(semantics);
    packer.str("action_interval");
    packer.float(0.02);
    packer.str("mode");
    packer.str(mode);
    packer.str("encoding");
    packer.str("raw");
}

fn whole_open(packer: &mut Packer) {
    pack_open(packer, "chunk", SEMANTICS, ["shoulder.pos", "elbow.pos"]);
}

impl Raw {
    fn connect(both: &Both) -> Self {
        let net = open_net(&format!("[\"{}\"]", both.zenoh.locator()), "[]");
        let answers = ask(&net, &format!("{ROOT}/describe"), envelope("describe", ["", "", "r1"], 0, |packer| packer.map(0)));
        let [answer] = &answers[..] else { panic!("{} answers", answers.len()) };
        let answer = decode(answer, Limits::default()).unwrap();
        assert_eq!((text(&answer, "message_type"), text(&answer, "request_id")), ("descriptor", "r1"));
        let instance = text(&answer, "instance_id").to_owned();
        assert_eq!(answer.get("body").unwrap().get("instance_id").unwrap().text(), Some(&*instance));
        let (_, acts) = channel();
        Self { net, instance, session: String::new(), acts, _kept: Vec::new() }
    }

    /// The kind, and the code where it is an error.
    fn open(&mut self, request: &str, body: impl FnOnce(&mut Packer)) -> (String, String) {
        let key = format!("{ROOT}/instances/{}/open", self.instance);
        let answers = ask(&self.net, &key, envelope("open", [&self.instance, "", request], 0, body));
        let answer = decode(&answers[0], Limits::default()).unwrap();
        assert_eq!((text(&answer, "instance_id"), text(&answer, "request_id")), (&*self.instance, request));
        if text(&answer, "message_type") == "accepted" {
            self.session = text(&answer, "session_id").to_owned();
        }
        told(&answer)
    }

    fn join(&mut self) {
        let key = self.key("");
        let (sender, acts) = channel();
        self.acts = acts;
        let heard = self.net.declare_subscriber(format!("{key}act"));
        let heard = heard.callback(move |sample| drop(sender.send(sample.payload().to_bytes().into_owned()))).wait().unwrap();
        let language = self.net.declare_subscriber(format!("{key}language/result")).callback(drop).wait().unwrap();
        let token = self.net.liveliness().declare_token(format!("{key}alive")).wait().unwrap();
        self._kept = vec![Box::new(heard), Box::new(language), Box::new(token)];
        assert_eq!(self.control("reset", 0).0, "ack");
        let publisher = self.net.declare_publisher(format!("{key}obs")).wait().unwrap();
        let began = Instant::now();
        while !publisher.matching_status().wait().unwrap().matching() {
            assert!(began.elapsed() < Duration::from_secs(5));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn key(&self, suffix: &str) -> String {
        format!("{ROOT}/instances/{}/sessions/{}/{suffix}", self.instance, self.session)
    }

    fn control(&self, operation: &str, generation: i128) -> (String, String) {
        let question = envelope("control", [&self.instance, &self.session, "c1"], generation, |packer| {
            packer.map(1);
            packer.str("operation");
            packer.str(operation);
        });
        let answers = ask(&self.net, &self.key("control"), question);
        told(&decode(&answers[0], Limits::default()).unwrap())
    }

    fn observe(&self, request: &str, (generation, sequence): (i128, i64), task: &str, state: &[f32]) {
        let message = observation([&self.instance, &self.session, request], (generation, sequence), task, state);
        self.put(message);
    }

    /// Whole, however long it is.
    fn put(&self, message: Vec<u8>) {
        self.net.put(self.key("obs"), message).congestion_control(CongestionControl::Block).wait().unwrap();
    }

    fn next(&self) -> Vec<u8> {
        self.acts.recv_timeout(Duration::from_secs(3)).expect("an answer")
    }

    fn next_told(&self) -> (String, String) {
        told(&decode(&self.next(), Limits::default()).unwrap())
    }
}

fn observation(ids: [&str; 3], (generation, sequence): (i128, i64), task: &str, state: &[f32]) -> Vec<u8> {
    envelope("observation", ids, generation, |packer| {
        packer.map(11);
        for (key, text) in [("artifact_identity", "echo"), ("observation_id", "o1"), ("task", task)] {
            packer.str(key);
            packer.str(text);
        }
        for (key, number) in [("sequence", sequence), ("task_version", 1), ("delay", 0), ("cursor", 0)] {
            packer.str(key);
            packer.int(number);
        }
        packer.str("capture_time");
        packer.float(12.25);
        packer.str("model_continuation");
        packer.nil();
        packer.str("canonical_continuation");
        packer.nil();
        packer.str("features");
        packer.map(2);
        packer.str("observation.state");
        pack_array(packer, "float32", &[state.len()], &bytes_of(state));
        packer.str("observation.images.front");
        packer.map(6);
        for (key, text) in [("__lerobot_type__", "rgb"), ("encoding", "raw"), ("dtype", "uint8"), ("channel_order", "RGB")] {
            packer.str(key);
            packer.str(text);
        }
        packer.str("shape");
        packer.list(3);
        [6, 8, 3].into_iter().for_each(|side| packer.int(side));
        packer.str("data");
        packer.bin(&[5; 144]);
    })
}

fn told(answer: &Value<'_>) -> (String, String) {
    let code = answer.get("body").and_then(|body| body.get("code")).and_then(Value::text).unwrap_or_default();
    (text(answer, "message_type").to_owned(), code.to_owned())
}

fn error(code: &str) -> (String, String) {
    ("error".into(), code.into())
}

#[test]
fn a_session_is_for_those_who_agree_and_for_one() {
    let both = start(Echo::default());
    let mut raw = Raw::connect(&both);
    let names = ["shoulder.pos", "elbow.pos"];
    assert_eq!(raw.open("o1", |packer| pack_open(packer, "chunk", "radians", names)), error("incompatible"));
    assert_eq!(raw.open("o2", |packer| pack_open(packer, "chunk", SEMANTICS, ["elbow.pos", "shoulder.pos"])), error("incompatible"));
    assert_eq!(raw.open("o3", |packer| pack_open(packer, "rtc_guided", SEMANTICS, names)), error("unsupported"));
    assert_eq!(raw.open("o4", |packer| packer.map(0)), error("malformed"));
    assert_eq!(raw.open("o5", whole_open), ("accepted".into(), String::new()));
    // The same question once more is the same session; another is refused.
    let session = raw.session.clone();
    assert_eq!((raw.open("o5", whole_open).0, &raw.session), ("accepted".into(), &session));
    raw.join();
    let mut other = Raw::connect(&both);
    assert_eq!(other.open("o6", whole_open), error("busy"));
    assert_eq!(raw.control("close", 0).0, "ack");
    assert_eq!(other.open("o7", whole_open).0, "accepted");
    assert_ne!(other.session, session);
}

#[test]
fn generations_and_sequence_numbers_are_kept() {
    let both = start(Echo { takes: Duration::from_millis(300), ..Echo::default() });
    let mut raw = Raw::connect(&both);
    raw.open("o1", whole_open);
    raw.join();
    raw.observe("r1", (0, 1), "wave", &[1.0, 2.0]);
    let answer = raw.next();
    let answer = decode(&answer, Limits::default()).unwrap();
    let body = answer.get("body").unwrap();
    assert_eq!((text(&answer, "message_type"), text(&answer, "request_id"), int(&answer, "generation")), ("action", "r1", 0));
    assert_eq!(numbers(body.get("canonical_actions").unwrap()), (vec![4, 2], [1.0, 2.0].repeat(4)));
    assert_eq!((int(body, "execution_steps"), int(body, "sequence"), text(body, "task")), (4, 1, "wave"));
    assert_eq!((body.get("capture_time").unwrap().number(), body.get("model_actions")), (Some(12.25), Some(&Value::Nil)));
    assert!(body.get("server_durations").unwrap().get("worker").unwrap().number().unwrap() >= 0.3);

    raw.observe("r2", (0, 1), "wave", &[1.0, 2.0]);
    assert_eq!(raw.next_told(), error("stale"), "the sequence number again");
    raw.observe("r3", (1, 2), "wave", &[1.0, 2.0]);
    assert_eq!(raw.next_told(), error("stale"), "a generation that was not acknowledged");
    raw.observe("r4", (0, 3), "wave", &[1.0, 2.0]);
    raw.observe("r5", (0, 4), "wave", &[1.0, 2.0]);
    assert_eq!(raw.next_told(), error("busy"));
    // While the policy answers r4 the generation ends.
    assert_eq!(raw.control("invalidate", 5).0, "ack");
    assert_eq!(raw.next_told(), error("stale"), "the answer of a generation that is over");
    assert_eq!(raw.control("reset", 4), error("stale"));
    assert_eq!(raw.control("status", 5).0, "ack");
    assert_eq!(raw.control("dance", 5), error("malformed"));
    raw.observe("r6", (5, 6), "wave", &[3.0, 4.0]);
    assert_eq!(raw.next_told().0, "action");
}

#[test]
fn what_is_no_observation_is_told_so_and_the_session_with_it_is_over() {
    let both = start(Echo::default());
    for (i, (task, state, code)) in [
        ("x".repeat(4097), vec![1.0, 2.0], "malformed"),
        ("wave".into(), vec![1.0], "incompatible"),
        ("fail".into(), vec![1.0, 2.0], "execution"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut raw = Raw::connect(&both);
        assert_eq!(raw.open(&format!("o{i}"), whole_open).0, "accepted");
        raw.join();
        raw.put(vec![0xc1; 9]);
        raw.put(vec![0; 33 << 20]);
        raw.observe("r1", (0, 1), "wave", &[1.0, 2.0]);
        assert_eq!(raw.next_told().0, "action", "garbage is no reason to end a session");
        raw.observe("r2", (0, 2), &task, &state);
        assert_eq!(raw.next_told(), error(code));
        raw.observe("r3", (0, 3), "wave", &[1.0, 2.0]);
        assert_eq!(raw.next_told(), error("stale"));
        assert_eq!(raw.control("close", 0).0, "ack");
    }
}

#[test]
fn a_client_that_has_gone_is_missed_after_a_while() {
    let both = start(Echo::default());
    let mut raw = Raw::connect(&both);
    raw.open("o1", whole_open);
    raw.join();
    drop(raw);
    let gone = Instant::now();
    let mut other = Raw::connect(&both);
    assert_eq!(other.open("o2", whole_open), error("busy"));
    while other.open(&format!("o{:?}", gone.elapsed()).replace("µ", "u"), whole_open) != ("accepted".into(), String::new()) {
        assert!(gone.elapsed() < Duration::from_secs(14), "the session of a client that has gone for long");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(gone.elapsed() > Duration::from_secs(9), "{:?}", gone.elapsed());
    // One that opens, and never comes, likewise.
    let began = Instant::now();
    while Raw::connect(&both).open("o3", whole_open).0 != "accepted" {
        assert!(began.elapsed() < Duration::from_secs(14));
        std::thread::sleep(Duration::from_millis(300));
    }
}
