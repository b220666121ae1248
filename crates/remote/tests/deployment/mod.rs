//! A server of LeRobot's remote inference that does what a test tells it: one session, generations, sequence numbers, as LeRobot's own
//! server has them. Written apart from Sinew's.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod messages;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use messages::{bytes_of, envelope, int, numbers, pack_array, text};
use messages::{pack_error, pack_feature, pack_names};
use sinew_remote::codec::{Limits, Packer, Value, decode};
use zenoh::query::Query;
use zenoh::sample::SampleKind;
use zenoh::{Config, Session, Wait as _};

/// What a server does instead of answering as it should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    Hang,
    /// After so many milliseconds.
    Late(u64),
    Twice,
    /// Many times.
    Flood,
    OtherInstance,
    OtherSession,
    OtherGeneration,
    OtherRequest,
    OtherObservation,
    NoMsgpack,
    NoEnvelope,
    OtherVersion,
    NotANumber,
    Wide,
    Short,
    Doubles,
    NoActions,
    /// 64 MiB.
    Huge,
    /// An error, after which the session answers nothing.
    Failure,
    /// An error that says that the session is not known.
    Stale,
    /// It closes the session by itself.
    Closes,
}

#[derive(Clone)]
pub struct Options {
    pub artifact: String,
    pub semantics: String,
    pub modes: Vec<&'static str>,
    pub prediction_steps: usize,
    pub execution_steps: usize,
    pub training_max_delay: usize,
    pub state_names: Vec<&'static str>,
    /// With the model's own actions this wide.
    pub model_width: Option<usize>,
    pub grace: Duration,
}

pub const SEMANTICS: &str = "testarm-degrees-v1";

impl Default for Options {
    fn default() -> Self {
        Self {
            artifact: "team/policy@1".into(),
            semantics: SEMANTICS.into(),
            modes: vec!["chunk"],
            prediction_steps: 6,
            execution_steps: 4,
            training_max_delay: 0,
            state_names: vec!["shoulder.pos", "elbow.pos"],
            model_width: None,
            grace: Duration::from_secs(10),
        }
    }
}

/// What was asked, as far as tests want to know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    pub task: String,
    pub delay: i128,
    pub generation: i128,
    pub encoding: String,
    /// Rows of the model's and of the robot's actions that the answer is to follow.
    pub model: Option<(Vec<usize>, Vec<f64>)>,
    pub canonical: Option<(Vec<usize>, Vec<f64>)>,
}

pub struct Deployment {
    pub address: SocketAddr,
    pub now: Arc<Mutex<Fault>>,
    pub heard: Arc<Mutex<Vec<Heard>>>,
    /// Operations and their generations.
    pub controls: Arc<Mutex<Vec<(String, i128)>>>,
    pub sessions: Arc<AtomicU64>,
    events: Sender<Event>,
    pump: Option<JoinHandle<()>>,
}

enum Event {
    Describe(Query),
    Open(Query),
    Control(Query),
    Observation(Vec<u8>),
    Presence(bool),
    End,
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn open_net(connect: &str, listen: &str) -> Session {
    let mut config = Config::default();
    for (key, value) in [
        ("mode", "\"peer\""),
        ("connect/endpoints", connect),
        ("listen/endpoints", listen),
        ("scouting/multicast/enabled", "false"),
        ("scouting/gossip/enabled", "false"),
    ] {
        config.insert_json5(key, value).unwrap();
    }
    zenoh::open(config).wait().unwrap()
}

pub fn start(options: Options) -> Deployment {
    start_at(free_port(), options)
}

pub fn start_at(port: u16, options: Options) -> Deployment {
    let net = open_net("[]", &format!("[\"tcp/127.0.0.1:{port}\"]"));
    let (events, happened) = channel();
    let deployment = Deployment {
        address: format!("127.0.0.1:{port}").parse().unwrap(),
        now: Arc::new(Mutex::new(Fault::None)),
        heard: Arc::default(),
        controls: Arc::default(),
        sessions: Arc::default(),
        events: events.clone(),
        pump: None,
    };
    let mut server = Server {
        instance: format!("{:032x}", fastrand::u128(..)),
        net,
        options,
        events,
        now: deployment.now.clone(),
        heard: deployment.heard.clone(),
        controls: deployment.controls.clone(),
        sessions: deployment.sessions.clone(),
        session: None,
    };
    let pump = std::thread::spawn(move || server.pump(&happened));
    Deployment { pump: Some(pump), ..deployment }
}

impl Deployment {
    /// Ends as a killed process does: connections are gone, and nobody says goodbye.
    pub fn end(mut self) {
        self.events.send(Event::End).unwrap();
        self.pump.take().unwrap().join().unwrap();
    }

    pub fn does(&self, fault: Fault) {
        *self.now.lock().unwrap() = fault;
    }
}

struct Server {
    instance: String,
    net: Session,
    options: Options,
    events: Sender<Event>,
    now: Arc<Mutex<Fault>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    controls: Arc<Mutex<Vec<(String, i128)>>>,
    sessions: Arc<AtomicU64>,
    session: Option<Held>,
}

struct Held {
    name: String,
    mode: String,
    generation: i128,
    sequence: i128,
    is_faulty: bool,
    absent: Option<Instant>,
    _kept: Box<dyn std::any::Any + Send>,
}

pub const ROOT: &str = "lerobot/inference/v1/deployments/pick";

impl Server {
    fn pump(&mut self, happened: &Receiver<Event>) {
        let instance = format!("{ROOT}/instances/{}", self.instance);
        let hear = |key: String, wrap: fn(Query) -> Event| {
            let events = self.events.clone();
            self.net.declare_queryable(key).complete(true).callback(move |query| drop(events.send(wrap(query)))).wait().unwrap()
        };
        let kept = (
            hear(format!("{instance}/open"), Event::Open),
            self.net.liveliness().declare_token(format!("{instance}/alive")).wait().unwrap(),
            hear(format!("{ROOT}/describe"), Event::Describe),
        );
        loop {
            match happened.recv_timeout(Duration::from_millis(50)) {
                Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Event::Describe(query)) => self.describe(&query),
                Ok(Event::Open(query)) => self.open(&query),
                Ok(Event::Control(query)) => self.control(&query),
                Ok(Event::Observation(bytes)) => self.observe(&bytes),
                Ok(Event::Presence(is_there)) => {
                    if let Some(session) = &mut self.session {
                        session.absent = (!is_there).then(Instant::now);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.session.as_ref().is_some_and(|held| held.absent.is_some_and(|since| since.elapsed() > self.options.grace)) {
                self.session = None;
            }
        }
        self.session = None;
        drop(kept);
        self.net.close().wait().unwrap();
    }

    fn pack_description(&self, packer: &mut Packer, mode: Option<&str>) {
        let Options { artifact, semantics, modes, prediction_steps, execution_steps, training_max_delay, state_names, model_width, .. } =
            &self.options;
        packer.map(7 + usize::from(mode.is_some()));
        for (key, text) in
            [("deployment", "pick"), ("instance_id", &self.instance), ("artifact_identity", artifact), ("semantics", semantics)]
        {
            packer.str(key);
            packer.str(text);
        }
        packer.str("ready");
        packer.bool(true);
        packer.str("execution_contracts");
        pack_names(packer, &["rtc_model_space_v1"]);
        if let Some(mode) = mode {
            packer.str("mode");
            packer.str(mode);
        }
        packer.str("capabilities");
        packer.map(7 + usize::from(model_width.is_some()));
        packer.str("modes");
        pack_names(packer, modes);
        for (key, count) in
            [("prediction_steps", prediction_steps), ("execution_steps", execution_steps), ("training_max_delay", training_max_delay)]
        {
            packer.str(key);
            packer.int(*count as i64);
        }
        packer.str("action_interval");
        packer.float(0.02);
        if let Some(width) = model_width {
            packer.str("model_action_dim");
            packer.int(*width as i64);
        }
        packer.str("features");
        packer.list(2);
        pack_feature(packer, "observation.images.front", &[6, 8, 3], ("uint8", "rgb"), &[], "front");
        pack_feature(packer, "observation.state", &[state_names.len()], ("float32", "tensor"), state_names, semantics);
        packer.str("action_feature");
        pack_feature(packer, "action", &[2], ("float32", "tensor"), &["shoulder.pos", "elbow.pos"], semantics);
    }

    fn describe(&self, query: &Query) {
        let bytes = query.payload().unwrap().to_bytes().into_owned();
        let asked = decode(&bytes, Limits::default()).unwrap();
        assert_eq!(text(&asked, "message_type"), "describe");
        let ids = [&*self.instance, "", text(&asked, "request_id")];
        let answer = envelope("descriptor", ids, 0, |packer| self.pack_description(packer, None));
        query.reply(query.key_expr().clone(), answer).wait().unwrap();
    }

    fn refuse(query: &Query, asked: &Value<'_>, code: &str, words: &str) {
        let ids = ["instance_id", "session_id", "request_id"].map(|key| text(asked, key));
        let answer = envelope("error", ids, int(asked, "generation"), |packer| pack_error(packer, code, words));
        query.reply(query.key_expr().clone(), answer).wait().unwrap();
    }

    fn open(&mut self, query: &Query) {
        let bytes = query.payload().unwrap().to_bytes().into_owned();
        let asked = decode(&bytes, Limits::default()).unwrap();
        let body = asked.get("body").unwrap();
        if self.session.is_some() {
            return Self::refuse(query, &asked, "busy", "somebody has it");
        }
        assert_eq!(text(body, "expected_artifact"), self.options.artifact);
        assert_eq!(text(body, "semantics"), self.options.semantics);
        assert_eq!(body.get("action_interval").unwrap().number(), Some(0.02));
        let described = envelope("descriptor", ["a", "b", "c"], 0, |packer| self.pack_description(packer, None));
        let described = decode(&described, Limits::default()).unwrap();
        let capabilities = described.get("body").unwrap().get("capabilities").unwrap();
        let same = |key: &str| {
            let sorted = |value: &Value<'_>| {
                let mut entries: Vec<String> = value.entries().iter().map(|entry| format!("{entry:?}")).collect();
                entries.sort();
                entries
            };
            let (ours, theirs) = (capabilities.get(key).unwrap(), body.get(key).unwrap());
            match (ours, theirs) {
                (Value::List(ours), Value::List(theirs)) => {
                    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(a, b)| sorted(a) == sorted(b))
                }
                (ours, theirs) => sorted(ours) == sorted(theirs),
            }
        };
        assert!(same("features") && same("action_feature"), "{body:?}");
        let mode = text(body, "mode").to_owned();
        assert!(self.options.modes.contains(&&*mode));
        let needs_space = mode != "chunk" && self.options.model_width.is_some_and(|width| width != 2);
        assert_eq!(body.get("required_capabilities").is_some(), needs_space);
        let name = format!("session-{}", self.sessions.fetch_add(1, SeqCst));
        let key = format!("{ROOT}/instances/{}/sessions/{name}", self.instance);
        let hear = |suffix: &str| {
            let events = self.events.clone();
            let heard = self.net.declare_subscriber(format!("{key}/{suffix}"));
            heard.callback(move |sample| drop(events.send(Event::Observation(sample.payload().to_bytes().into_owned())))).wait().unwrap()
        };
        let control = self.events.clone();
        let presence = self.events.clone();
        let kept = (
            hear("obs"),
            self.net.declare_subscriber(format!("{key}/language/request")).callback(drop).wait().unwrap(),
            self.net
                .declare_queryable(format!("{key}/control"))
                .complete(true)
                .callback(move |query| drop(control.send(Event::Control(query))))
                .wait()
                .unwrap(),
            self.net
                .liveliness()
                .declare_subscriber(format!("{key}/alive"))
                .history(true)
                .callback(move |sample| drop(presence.send(Event::Presence(sample.kind() == SampleKind::Put))))
                .wait()
                .unwrap(),
        );
        let answer = envelope("accepted", [&self.instance, &name, text(&asked, "request_id")], 0, |packer| {
            self.pack_description(packer, Some(&mode));
        });
        self.session =
            Some(Held { name, mode, generation: 0, sequence: -1, is_faulty: false, absent: Some(Instant::now()), _kept: Box::new(kept) });
        query.reply(query.key_expr().clone(), answer).wait().unwrap();
    }

    fn control(&mut self, query: &Query) {
        let bytes = query.payload().unwrap().to_bytes().into_owned();
        let asked = decode(&bytes, Limits::default()).unwrap();
        let operation = text(asked.get("body").unwrap(), "operation").to_owned();
        let generation = int(&asked, "generation");
        self.controls.lock().unwrap().push((operation.clone(), generation));
        let Some(session) = self.session.as_mut().filter(|session| session.name == text(&asked, "session_id")) else {
            return Self::refuse(query, &asked, "stale", "no such session");
        };
        if operation != "close" && generation < session.generation {
            return Self::refuse(query, &asked, "stale", "an old generation");
        }
        session.generation = generation;
        if operation == "reset" && generation == 0 {
            // As LeRobot's server: it answers when the client listens.
            for suffix in ["act", "language/result"] {
                let key = format!("{ROOT}/instances/{}/sessions/{}/{suffix}", self.instance, session.name);
                let publisher = self.net.declare_publisher(key).wait().unwrap();
                let began = Instant::now();
                while !publisher.matching_status().wait().unwrap().matching() {
                    assert!(began.elapsed() < Duration::from_secs(5), "the client does not listen to {suffix}");
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
        let ids = ["instance_id", "session_id", "request_id"].map(|key| text(&asked, key));
        let answer = envelope("ack", ids, generation, |packer| {
            packer.map(2);
            packer.str("operation");
            packer.str(&operation);
            packer.str("applied_generation");
            packer.int(generation as i64);
        });
        query.reply(query.key_expr().clone(), answer).wait().unwrap();
        if operation == "close" {
            self.session = None;
        }
    }

    fn observe(&mut self, bytes: &[u8]) {
        let asked = decode(bytes, Limits::default()).unwrap();
        let fault = *self.now.lock().unwrap();
        let Some(session) = self.session.as_mut().filter(|session| session.name == text(&asked, "session_id")) else { return };
        let key = format!("{ROOT}/instances/{}/sessions/{}/act", self.instance, session.name);
        let say = |bytes: Vec<u8>| self.net.put(key.clone(), bytes).wait().unwrap();
        let body = asked.get("body").unwrap();
        let (generation, sequence) = (int(&asked, "generation"), int(body, "sequence"));
        let mut ids = ["instance_id", "session_id", "request_id"].map(|key| text(&asked, key));
        if session.is_faulty || generation != session.generation || sequence <= session.sequence {
            return say(envelope("error", ids, generation, |packer| pack_error(packer, "stale", "not accepted")));
        }
        session.sequence = sequence;
        assert_eq!((text(body, "artifact_identity"), ids[0]), (&*self.options.artifact, &*self.instance));
        let features = body.get("features").unwrap();
        assert_eq!(features.entries().len(), 2);
        let image = features.get("observation.images.front").unwrap();
        assert_eq!((text(image, "__lerobot_type__"), text(image, "channel_order")), ("rgb", "RGB"));
        let (_, state) = numbers(features.get("observation.state").unwrap());
        let continuation = |key: &str| match body.get(key) {
            Some(Value::Nil) => None,
            Some(value) => Some(numbers(value)),
            None => panic!("no {key}"),
        };
        self.heard.lock().unwrap().push(Heard {
            task: text(body, "task").into(),
            delay: int(body, "delay"),
            generation,
            encoding: text(image, "encoding").into(),
            model: continuation("model_continuation"),
            canonical: continuation("canonical_continuation"),
        });
        let is_chunk = session.mode == "chunk";
        let mut rows = if is_chunk { self.options.execution_steps } else { self.options.prediction_steps };
        let said_rows = rows;
        let mut width = 2;
        let (other_instance, other_session, other_request) = ("f".repeat(32), "other".to_owned(), "e".repeat(32));
        let mut said_generation = generation;
        match fault {
            Fault::Hang => return,
            Fault::Late(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Fault::OtherInstance => ids[0] = &other_instance,
            Fault::OtherSession => ids[1] = &other_session,
            Fault::OtherRequest => ids[2] = &other_request,
            Fault::OtherGeneration => said_generation += 1,
            Fault::NoMsgpack => return say(vec![0xc1; 40]),
            Fault::NoEnvelope => return say(vec![0x81, 0xa1, b'a', 1]),
            Fault::Wide => width = 3,
            Fault::Short => rows -= 1,
            Fault::Failure => {
                session.is_faulty = true;
                return say(envelope("error", ids, generation, |packer| pack_error(packer, "execution", "out of memory")));
            }
            Fault::Stale => return say(envelope("error", ids, generation, |packer| pack_error(packer, "stale", "no such session"))),
            Fault::Closes => {
                self.session = None;
                return;
            }
            _ => {}
        }
        let mut values: Vec<f32> = (0..rows)
            .flat_map(|row| (0..width).map(move |i| (row, i)))
            .map(|(row, i)| {
                // The state, and then a little further with each row.
                state.get(i).copied().unwrap_or_default() as f32 + row as f32 * 0.01
            })
            .collect();
        if fault == Fault::NotANumber {
            values[1] = f32::NAN;
        }
        let observation = if fault == Fault::OtherObservation { "another" } else { text(body, "observation_id") };
        let action = |packer: &mut Packer| {
            packer.map(10);
            for (key, text) in
                [("artifact_identity", text(body, "artifact_identity")), ("observation_id", observation), ("task", text(body, "task"))]
            {
                packer.str(key);
                packer.str(text);
            }
            packer.str("sequence");
            packer.int(sequence as i64);
            packer.str("capture_time");
            packer.float(body.get("capture_time").unwrap().number().unwrap());
            packer.str("task_version");
            packer.int(int(body, "task_version") as i64);
            packer.str("canonical_actions");
            match fault {
                Fault::NoActions => packer.nil(),
                Fault::Doubles => {
                    let bytes: Vec<u8> = values.iter().flat_map(|value| f64::from(*value).to_le_bytes()).collect();
                    pack_array(packer, "float64", &[rows, width], &bytes);
                }
                Fault::Huge => packer.bin(&vec![7; 64 << 20]),
                _ => pack_array(packer, "float32", &[rows, width], &bytes_of(&values)),
            }
            packer.str("model_actions");
            if is_chunk {
                packer.nil();
            } else {
                let wide = self.options.model_width.unwrap_or(2);
                let model: Vec<f32> = (0..rows).flat_map(|row| (0..wide).map(move |i| (row * 10 + i) as f32)).collect();
                pack_array(packer, "float32", &[rows, wide], &bytes_of(&model));
            }
            packer.str("execution_steps");
            packer.int(said_rows as i64);
            packer.str("server_durations");
            packer.map(1);
            packer.str("worker");
            packer.float(0.003);
        };
        let mut answer = envelope("action", ids, said_generation, action);
        if fault == Fault::OtherVersion {
            // The number behind the key, which is the first.
            assert_eq!(&answer[1..10], b"\xa7version\x01");
            answer[9] = 2;
        }
        let times = match fault {
            Fault::Twice => 2,
            Fault::Flood => 30,
            _ => 1,
        };
        (0..times).for_each(|_| say(answer.clone()));
    }
}
