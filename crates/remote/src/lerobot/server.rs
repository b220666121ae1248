//! v1 from the server's side: one deployment, one session at a time, over the same policy as the websocket's clients. A thread keeps the
//! books, another asks the policy.

mod observation;
mod session;

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use zenoh::query::Query;
use zenoh::{Session as Net, Wait as _};

use super::contract::{ALIGNMENT, Agreement, Contract, agrees, pack_settings, pack_texts};
use super::net::{self, Place};
use super::wire::{self, Head, Kind, MOST_BYTES};
use crate::RemoteError;
use crate::codec::{Packer, Value};
use crate::server::Shared;
use crate::time::Deadline;
use session::Session;

/// What waits to be looked at; what is more is not heard.
const MOST_WAITING: usize = 32;
/// How often it is looked whether a client has gone, or listens by now.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_SOON: Duration = Duration::from_millis(2);
/// A client that has opened a session listens within.
const LISTENS: Duration = Duration::from_secs(5);
/// A policy answers within, as v1 says that there is a bound.
pub(super) const ANSWERS: Duration = Duration::from_secs(60);

/// How to serve over zenoh.
#[derive(Clone, Debug)]
pub struct ZenohOptions {
    /// Where to listen, such as `tcp/127.0.0.1:7447` or `tls/0.0.0.0:7447`. Port 0 takes a free one.
    pub listen: String,
    /// Zenoh's own configuration, with certificates and rights.
    pub config: Option<PathBuf>,
    /// The name of the deployment: letters, digits, `_`, `.` and `-`.
    pub deployment: String,
}

impl ZenohOptions {
    /// Whether the address is one of this machine alone.
    ///
    /// # Errors
    /// When it is no address that is listened on.
    pub fn is_local(&self) -> Result<bool, RemoteError> {
        let fault = || RemoteError::Address { text: self.listen.clone(), what: "expected tcp/ADDRESS:PORT or tls/ADDRESS:PORT" };
        let (protocol, rest) = self.listen.split_once('/').ok_or_else(fault)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(fault)?;
        if !matches!(protocol, "tcp" | "tls") || port.parse::<u16>().is_err() || host.is_empty() {
            return Err(fault());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
    }

    /// Whether it is encrypted.
    pub fn is_secure(&self) -> bool {
        self.listen.starts_with("tls/")
    }

    /// The address with a port that is free where none was said.
    fn locator(&self) -> Result<String, RemoteError> {
        self.is_local()?;
        let Some(front) = self.listen.strip_suffix(":0") else { return Ok(self.listen.clone()) };
        let host = front.split_once('/').map_or("", |(_, host)| host);
        let listen = |source| RemoteError::Listen { address: self.listen.clone(), source };
        let listener = TcpListener::bind(format!("{host}:0")).map_err(listen)?;
        Ok(format!("{front}:{}", listener.local_addr().map_err(listen)?.port()))
    }
}

/// A server of v1. Dropping it ends it.
pub struct ZenohServer {
    events: SyncSender<Event>,
    books: Option<JoinHandle<()>>,
    locator: String,
}

/// What happens.
pub(super) enum Event {
    Describe(Query),
    Open(Query),
    Control(String, Query),
    Observation(String, Vec<u8>),
    Language(String, Vec<u8>),
    /// Whether the client of a session is there.
    Presence(String, bool),
    /// The policy has answered a question, or not: a whole message.
    Done(Head, Result<Vec<u8>, Vec<u8>>),
    End,
}

/// A question for the policy.
pub(super) struct Job {
    head: Head,
    message: Vec<u8>,
    is_aligned: bool,
    asked: crate::time::Watch,
}

/// What a server is, which does not change.
pub(super) struct Facts {
    pub deployment: String,
    pub instance: String,
    pub contract: Contract,
}

impl ZenohServer {
    /// Serves who answers for `shared`, which is ready.
    pub(crate) fn start(shared: &Arc<Shared>, options: &ZenohOptions) -> Result<Self, RemoteError> {
        let locator = options.locator()?;
        let fault = |what: String| RemoteError::Serve { address: locator.clone(), what };
        if !wire::is_name(&options.deployment) {
            return Err(fault(format!("the deployment {:?}, expected letters, digits, _, . and -", options.deployment)));
        }
        let told = shared.told().map_err(fault)?;
        let contract = observation::contract(&told).map_err(fault)?;
        let facts = Arc::new(Facts { deployment: options.deployment.clone(), instance: wire::fresh_name(), contract });
        let network = net::open(&Place::Here(&locator), options.config.as_deref().map(Path::new)).map_err(fault)?;
        let (events, happened) = sync_channel(MOST_WAITING);
        let (jobs, wanted) = sync_channel(1);
        let (policy, told_of, of) = (shared.clone(), events.clone(), facts.clone());
        let thread = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let started = std::thread::Builder::new().name(name.into()).spawn(run);
            started.map_err(|source| RemoteError::Thread { who: "zenoh server", source })
        };
        // It ends when nobody has questions any more.
        drop(thread("remote-zenoh-ask", Box::new(move || ask(&policy, &of, &wanted, &told_of)))?);
        let books = Books::open(network, facts, shared.clone(), events.clone(), jobs).map_err(fault)?;
        let books = thread("remote-zenoh", Box::new(move || books.keep(&happened)))?;
        Ok(Self { events, books: Some(books), locator })
    }

    /// Where it listens.
    pub fn locator(&self) -> &str {
        &self.locator
    }
}

impl Drop for ZenohServer {
    fn drop(&mut self) {
        drop(self.events.send(Event::End));
        self.books.take().into_iter().for_each(|books| drop(books.join()));
    }
}

/// Asks the policy, one question after the other.
fn ask(shared: &Shared, facts: &Facts, wanted: &Receiver<Job>, events: &SyncSender<Event>) {
    while let Ok(Job { head, message, is_aligned, asked }) = wanted.recv() {
        let queue_s = asked.ms() * 1e-3;
        let answer = observation::answer(shared, facts, (&head, is_aligned), &message, queue_s).map_err(|(code, what)| {
            shared.note_error();
            wire::write_error(&head, code, &what)
        });
        let answer = match answer {
            Ok(_) if asked.elapsed() > ANSWERS => Err(wire::write_error(&head, "timeout", "the policy took too long")),
            answer => answer,
        };
        if events.send(Event::Done(head, answer)).is_err() {
            return;
        }
    }
}

/// Who has the session, and what is to be said to whom.
struct Books {
    network: Net,
    facts: Arc<Facts>,
    shared: Arc<Shared>,
    events: SyncSender<Event>,
    jobs: SyncSender<Job>,
    session: Option<Session>,
    /// The newest session that was opened: the request, and what it was answered.
    opened: Option<(String, Vec<u8>)>,
    /// An acknowledgement that waits until the client listens.
    pending: Option<(Query, Vec<u8>, Deadline)>,
    /// Nobody calls these; they are there as long as the server.
    _kept: Box<dyn std::any::Any + Send>,
}

impl Books {
    fn open(
        network: Net,
        facts: Arc<Facts>,
        shared: Arc<Shared>,
        events: SyncSender<Event>,
        jobs: SyncSender<Job>,
    ) -> Result<Self, String> {
        let hear = |key: String, wrap: fn(Query) -> Event| {
            let events = events.clone();
            // Who is too much is not answered.
            network
                .declare_queryable(key)
                .complete(true)
                .callback(move |query| drop(events.try_send(wrap(query))))
                .wait()
                .map_err(net::words)
        };
        let instance = wire::instance_key(&facts.deployment, &facts.instance);
        let open = hear(format!("{instance}/open"), Event::Open)?;
        let token = network.liveliness().declare_token(format!("{instance}/alive")).wait().map_err(net::words)?;
        // Last: who finds it asks at once.
        let describe = hear(format!("{}/describe", wire::deployment_key(&facts.deployment)), Event::Describe)?;
        let _kept = Box::new((open, token, describe));
        Ok(Self { network, facts, shared, events, jobs, session: None, opened: None, pending: None, _kept })
    }

    fn keep(mut self, happened: &Receiver<Event>) {
        loop {
            let wait = if self.pending.is_some() { LOOK_SOON } else { LOOK };
            match happened.recv_timeout(wait) {
                Ok(Event::End) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(event) => self.hear(event),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.answer_pending();
            if self.session.as_ref().is_some_and(Session::is_missed) {
                tracing::debug!("a client has gone");
                self.session = None;
            }
        }
        drop((self.session.take(), self.pending.take()));
        drop(self.network.close().wait());
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Describe(query) => self.answered(query, Kind::Describe, |books, head, _| Ok(books.described(head))),
            Event::Open(query) => self.answered(query, Kind::Open, Self::opened),
            Event::Control(name, query) => {
                if self.session.as_ref().is_some_and(|session| session.name == name) {
                    self.control(query);
                }
            }
            Event::Observation(name, message) => self.observed(&name, message),
            Event::Language(name, message) => {
                let Some(session) = self.session.as_ref().filter(|session| session.name == name) else { return };
                if let Ok((_, head, _)) = wire::read_head(&message) {
                    session.say_language(wire::write_error(&head, "unsupported", "this policy answers no texts"));
                }
            }
            Event::Presence(name, is_there) => {
                if let Some(session) = self.session.as_mut().filter(|session| session.name == name) {
                    session.note_presence(is_there);
                }
            }
            Event::Done(head, answer) => self.done(&head, answer),
            Event::End => {}
        }
    }

    /// Answers a query with what `answer` makes of it; what is no message is not answered.
    fn answered(
        &mut self,
        query: Query,
        kind: Kind,
        answer: impl FnOnce(&mut Self, &Head, &Value<'_>) -> Result<Vec<u8>, (&'static str, String)>,
    ) {
        let Some(bytes) = payload(&query) else { return };
        let Ok(message) = wire::read(&bytes) else { return self.shared.note_error() };
        let said = if message.kind == kind {
            answer(self, &message.head, &message.body)
        } else {
            Err(("malformed", format!("{} here, expected {}", message.kind.name(), kind.name())))
        };
        let said = said.unwrap_or_else(|(code, what)| wire::write_error(&message.head, code, &what));
        reply(&query, said);
    }

    fn described(&self, question: &Head) -> Vec<u8> {
        let head = Head { instance: self.facts.instance.clone(), request: question.request.clone(), ..Head::default() };
        wire::write(Kind::Descriptor, &head, |packer| self.pack_description(packer, None))
    }

    /// What a descriptor says, and the acceptance of a session, which is of some agreement.
    fn pack_description(&self, packer: &mut Packer, agreed: Option<&Agreement>) {
        let Facts { deployment, instance, contract } = &*self.facts;
        packer.map(13 + 2 * usize::from(agreed.is_some()));
        for (key, text) in [
            ("deployment", &**deployment),
            ("instance_id", instance),
            ("artifact_identity", &contract.artifact),
            ("semantics", &contract.semantics),
            ("session_status", if self.session.is_some() { "active" } else { "idle" }),
        ] {
            packer.str(key);
            packer.str(text);
        }
        packer.str("software");
        packer.map(1);
        packer.str("sinew");
        packer.str(env!("CARGO_PKG_VERSION"));
        packer.str("capabilities");
        contract.pack_capabilities(packer);
        packer.str("execution_contracts");
        pack_texts(packer, &[ALIGNMENT]);
        packer.str("blendable_components");
        packer.list(0);
        packer.str("ready");
        packer.bool(true);
        packer.str("available");
        packer.bool(self.session.is_none());
        packer.str("failure");
        packer.nil();
        packer.str("limits");
        packer.map(4);
        packer.str("action_deadline_s");
        packer.float(ANSWERS.as_secs_f64());
        packer.str("idle_timeout_s");
        packer.float(session::GRACE.as_secs_f64());
        packer.str("max_input_chars");
        packer.int(observation::MOST_CHARACTERS as i64);
        packer.str("inflight_inference");
        packer.int(1);
        if let Some(agreed) = agreed {
            packer.str("mode");
            packer.str(agreed.mode.name());
            packer.str("chunk_settings");
            pack_settings(packer, if agreed.is_aligned { "aligned" } else { "append" }, agreed.blend_weight);
        }
    }

    fn opened(&mut self, head: &Head, body: &Value<'_>) -> Result<Vec<u8>, (&'static str, String)> {
        if head.instance != self.facts.instance {
            return Err(("stale", "this is another run of the server".into()));
        }
        if head.request.is_empty() {
            return Err(("malformed", "no request_id".into()));
        }
        if let Some((_, answer)) = self.opened.as_ref().filter(|(request, _)| *request == head.request) {
            return Ok(answer.clone());
        }
        let agreed = agrees(&self.facts.contract, body)?;
        if let Some(session) = &self.session {
            return Err(("busy", session.in_words()));
        }
        let session = Session::open(&self.network, &self.facts, &self.events, agreed).map_err(|what| ("execution", what))?;
        let accepted = Head { session: session.name.clone(), ..head.clone() };
        self.session = Some(session);
        let agreed = self.session.as_ref().map(|session| &session.agreed);
        let answer = wire::write(Kind::Accepted, &accepted, |packer| self.pack_description(packer, agreed));
        self.opened = Some((head.request.clone(), answer.clone()));
        Ok(answer)
    }

    fn control(&mut self, query: Query) {
        let Some(bytes) = payload(&query) else { return };
        let Ok(message) = wire::read(&bytes) else { return self.shared.note_error() };
        let head = &message.head;
        match self.controlled(&message) {
            Ok((operation, answer)) if operation == "close" => {
                self.session = None;
                reply(&query, answer);
            }
            // The first: from then on both hear each other.
            Ok((operation, answer)) if operation == "reset" && head.generation == 0 => {
                self.pending = Some((query, answer, Deadline::after(LISTENS)));
            }
            Ok((_, answer)) => reply(&query, answer),
            Err((code, what)) => reply(&query, wire::write_error(head, code, &what)),
        }
    }

    fn controlled(&mut self, message: &wire::Message<'_>) -> Result<(String, Vec<u8>), (&'static str, String)> {
        let head = &message.head;
        let session = self.session.as_mut().filter(|session| head.session == session.name && head.instance == self.facts.instance);
        let session = session.ok_or_else(|| ("stale", "this is another session".to_owned()))?;
        if message.kind != Kind::Control {
            return Err(("malformed", format!("{} here, expected control", message.kind.name())));
        }
        let operation = message.body.get("operation").and_then(Value::text).unwrap_or_default().to_owned();
        let is_old = head.generation < session.generation;
        match &*operation {
            "close" => {}
            "reset" | "invalidate" if is_old => return Err(("stale", "the generation is over".into())),
            "reset" | "invalidate" => session.generation = head.generation,
            "status" if head.generation != session.generation => return Err(("stale", "this is another generation".into())),
            "status" => {}
            _ => return Err(("malformed", format!("the operation {operation:?} is not known"))),
        }
        session.note_presence(true);
        let generation = if operation == "close" { head.generation } else { session.generation };
        let is_busy = session.is_busy;
        let answer = wire::write(Kind::Ack, head, |packer| {
            let is_status = operation == "status";
            packer.map(2 + usize::from(is_status));
            packer.str("operation");
            packer.str(&operation);
            packer.str("applied_generation");
            packer.int(i64::try_from(generation).unwrap_or(i64::MAX));
            if is_status {
                packer.str("session");
                packer.map(1);
                packer.str("inference_pending");
                packer.bool(is_busy);
            }
        });
        Ok((operation, answer))
    }

    fn answer_pending(&mut self) {
        let Some((query, answer, until)) = self.pending.take() else { return };
        match &self.session {
            Some(session) if session.is_heard() => reply(&query, answer),
            Some(_) if !until.is_over() => self.pending = Some((query, answer, until)),
            // Who does not listen is not answered.
            _ => {}
        }
    }

    fn observed(&mut self, name: &str, message: Vec<u8>) {
        let Some(session) = self.session.as_mut().filter(|session| session.name == name) else { return };
        self.shared.note_request(message.len());
        let Ok((kind, head, body)) = wire::read_head(&message) else { return self.shared.note_error() };
        session.note_presence(true);
        let sequence = body.get("sequence").and_then(Value::count).and_then(|sequence| i64::try_from(sequence).ok());
        let refusal = if kind != Kind::Observation {
            Some(("malformed", "expected an observation"))
        } else if head.instance != self.facts.instance || head.session != session.name {
            Some(("stale", "this is another session"))
        } else if head.generation != session.generation || session.is_faulty {
            Some(("stale", "the generation is not the one that was acknowledged, or the session had a fault"))
        } else if sequence.is_none() {
            Some(("malformed", "expected a sequence number"))
        } else if sequence <= session.last_sequence {
            Some(("stale", "the sequence number was there already"))
        } else if session.is_busy {
            Some(("busy", "one observation is being answered"))
        } else {
            None
        };
        if let Some((code, what)) = refusal {
            self.shared.note_error();
            return session.say(wire::write_error(&head, code, what));
        }
        drop(body);
        let is_aligned = session.agreed.is_aligned;
        (session.last_sequence, session.is_busy) = (sequence, true);
        let job = Job { head: head.clone(), message, is_aligned, asked: crate::time::Watch::start() };
        // A question of a session before may still be there.
        if self.jobs.try_send(job).is_err() {
            session.is_busy = false;
            session.say(wire::write_error(&head, "busy", "the policy answers another session's observation"));
        }
    }

    fn done(&mut self, head: &Head, answer: Result<Vec<u8>, Vec<u8>>) {
        let Some(session) = self.session.as_mut().filter(|session| session.name == head.session) else { return };
        session.is_busy = false;
        let answer = if head.generation == session.generation {
            session.is_faulty |= answer.is_err();
            answer.unwrap_or_else(|error| error)
        } else {
            wire::write_error(head, "stale", "the generation is over")
        };
        self.shared.note_sent(answer.len());
        session.say(answer);
    }
}

/// What a query says; nothing of one that says too much.
fn payload(query: &Query) -> Option<Vec<u8>> {
    query.payload().filter(|payload| payload.len() <= MOST_BYTES).map(|payload| payload.to_bytes().into_owned())
}

fn reply(query: &Query, answer: Vec<u8>) {
    // Who has gone has lost nothing.
    drop(query.reply(query.key_expr().clone(), answer).wait());
}
