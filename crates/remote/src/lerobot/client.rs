//! A session with a deployment that is kept: presence, generations, one question at a time, and all of it made again by itself.
//!
//! After a network that went dark the same session is gone on with, where the server still has it, in a new generation: what was asked
//! before has no rights. Where the server has forgotten it, or is another run, a new session is opened for the same contract.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::sample::SampleKind;
use zenoh::{Session, Wait as _};

use super::contract::{Contract, Mode};
use super::net::{self, Place};
use super::wire::{self, Head, Kind, MOST_BYTES};
use crate::RemoteError;
use crate::codec::{Value, to_json};
use crate::link::{Address, LinkReport};
use crate::time::{Deadline, Watch};

/// How long reaching a server may take at first, and later, so that a link that is back is used soon.
const AT_FIRST: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(900);
/// Opening a session waits for the policy's reset.
const OPENING: Duration = Duration::from_secs(30);
/// A server keeps the session of a client that has gone for ten seconds.
const MOST_BUSY: Duration = Duration::from_secs(15);
const BETWEEN_TRIES: Duration = Duration::from_millis(200);
/// How often the connection is looked after.
const LOOK_AFTER: Duration = Duration::from_millis(50);
/// How long a question waits for a session that is not there.
const GRACE: Duration = Duration::from_millis(20);
/// An answer that is so late may not come: is the server there?
const MOST_OWED: Duration = Duration::from_secs(1);
/// More answers than questions are a fault.
const MOST_WAITING: usize = 4;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// Where a deployment is.
#[derive(Clone, Debug)]
pub(crate) struct Where {
    pub address: Address,
    /// Zenoh's own configuration, for certificates.
    pub config: Option<PathBuf>,
}

impl Where {
    fn deployment(&self) -> &str {
        self.address.path.trim_start_matches('/')
    }

    fn locator(&self) -> String {
        format!("{}/{}", if self.address.is_secure() { "tls" } else { "tcp" }, self.address.authority())
    }

    pub fn fault(&self, what: String) -> RemoteError {
        RemoteError::Connect { address: self.address.to_string(), what }
    }
}

/// What a server said of itself.
pub(crate) struct Described {
    pub instance: String,
    pub contract: Contract,
    /// All of it, for people.
    pub json: serde_json::Value,
}

/// A deployment that was reached, and in which no session is open yet.
pub(crate) struct Reached {
    place: Where,
    net: Session,
    pub described: Described,
}

/// What both sides agreed to.
#[derive(Clone, Debug)]
struct Agreed {
    contract: Contract,
    mode: Mode,
    encoding: &'static str,
}

/// A session. Dropping it closes it.
pub(crate) struct Client {
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
}

struct Shared {
    place: Where,
    agreed: Agreed,
    state: Mutex<State>,
    /// There is a session, or none is wanted any more.
    changed: Condvar,
    report: Arc<Mutex<LinkReport>>,
}

#[derive(Default)]
struct State {
    active: Option<Active>,
    /// A session that was lost, and that the server may still have.
    lost: Option<Known>,
    /// The newest question that has no answer, and since when.
    owed: Option<(String, Watch)>,
    /// The newest question that has one.
    answered: String,
    /// What the server has to do before the next question.
    wanted: Option<&'static str>,
    sequence: u64,
    /// Why there is no session.
    why: String,
    is_over: bool,
}

/// By what the server knows a session.
#[derive(Clone, Debug)]
struct Known {
    instance: String,
    session: String,
    generation: u64,
}

/// A session in which questions can be asked.
struct Active {
    known: Known,
    key: String,
    net: Session,
    observations: Publisher<'static>,
    answers: Receiver<Vec<u8>>,
    seen: Arc<Seen>,
    /// Nobody calls these; they are there as long as the session.
    _kept: (Vec<Subscriber<()>>, LivelinessToken),
}

/// What zenoh's own threads have seen.
#[derive(Debug, Default)]
struct Seen {
    is_gone: AtomicBool,
    is_flooded: AtomicBool,
}

/// Why a session could not be had.
enum Refusal {
    /// Somebody else has it.
    Busy(String),
    Other(String),
}

impl From<String> for Refusal {
    fn from(what: String) -> Self {
        Self::Other(what)
    }
}

/// An answer, and how long its ways took, milliseconds.
pub(crate) struct Answer {
    pub bytes: Vec<u8>,
    pub prepare_ms: f64,
    pub send_ms: f64,
    pub wait_ms: f64,
}

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// The question can't be written.
    Unwritten(String),
    /// There may be one to the next.
    Unavailable(String),
}

impl Reached {
    /// # Errors
    /// When nobody is there, or not exactly one server.
    pub fn new(place: Where) -> Result<Self, RemoteError> {
        let until = Deadline::after(AT_FIRST);
        let reached = reach(&place, until);
        let (net, described) = reached.map_err(|what| place.fault(what))?;
        Ok(Self { place, net, described })
    }

    /// Opens a session for what the server described; `on_wait` hears what is waited for.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn open(self, mode: Mode, encoding: &'static str, on_wait: Option<fn(&str, Duration)>) -> Result<Client, RemoteError> {
        let Self { place, net, described: Described { instance, contract, .. } } = self;
        let agreed = Agreed { contract, mode, encoding };
        let started = Watch::start();
        let mut has_said = false;
        let session = loop {
            match admit(&net, &place, &instance, &agreed, Deadline::after(OPENING)) {
                Ok(session) => break session,
                Err(Refusal::Busy(what)) if started.elapsed() < MOST_BUSY => {
                    if !has_said {
                        on_wait.into_iter().for_each(|hear| hear(&what, started.elapsed()));
                        has_said = true;
                    }
                    std::thread::sleep(BETWEEN_TRIES);
                }
                Err(Refusal::Busy(what) | Refusal::Other(what)) => return Err(place.fault(what)),
            }
        };
        let known = Known { instance, session, generation: 0 };
        let active = join(&net, &place, known, Deadline::after(OPENING)).map_err(|what| place.fault(what))?;
        let report = LinkReport { address: place.address.to_string(), ..LinkReport::default() };
        let shared = Arc::new(Shared {
            place,
            agreed,
            state: Mutex::new(State { active: Some(active), ..State::default() }),
            changed: Condvar::new(),
            report: Arc::new(Mutex::new(report)),
        });
        let kept = shared.clone();
        let keeper = std::thread::Builder::new().name("remote-session".into()).spawn(move || kept.keep());
        let keeper = keeper.map_err(|source| RemoteError::Thread { who: "session", source })?;
        Ok(Client { shared, keeper: Some(keeper) })
    }
}

/// A connection, and what the one server behind it says of itself.
fn reach(place: &Where, until: Deadline) -> Result<(Session, Described), String> {
    let net = net::open(&Place::At(&place.locator(), until.left()), place.config.as_deref())?;
    let described = describe(&net, place.deployment(), until)?;
    Ok((net, described))
}

fn describe(net: &Session, deployment: &str, until: Deadline) -> Result<Described, String> {
    let question = Head { request: wire::fresh_name(), ..Head::default() };
    let key = format!("{}/describe", wire::deployment_key(deployment));
    let answers = net::query(net, &key, wire::write(Kind::Describe, &question, |packer| packer.map(0)), until)?;
    let mut found = Vec::new();
    for answer in &answers {
        let message = wire::read(answer).map_err(|what| format!("its description: {what}"))?;
        let body = &message.body;
        if message.kind != Kind::Descriptor || message.head.request != question.request {
            return Err(format!("{} for a description", message.kind.name()));
        }
        if body.get("instance_id").and_then(Value::text) != Some(&*message.head.instance)
            || body.get("deployment").and_then(Value::text) != Some(deployment)
        {
            return Err("a description of somebody else".into());
        }
        if body.get("ready") != Some(&Value::Bool(true)) {
            let why = body.get("failure").and_then(Value::text).unwrap_or("it does not say why");
            return Err(format!("the deployment {deployment} is not ready: {why}"));
        }
        let contract = Contract::read(body).map_err(|what| format!("its description: {what}"))?;
        found.push(Described { instance: message.head.instance, contract, json: to_json(body) });
    }
    let count = found.len();
    match found.pop() {
        Some(described) if count == 1 => Ok(described),
        _ => Err(format!("{count} servers of the deployment {deployment}, expected one")),
    }
}

/// The answer to a question of a session or an instance.
fn exchange(net: &Session, key: &str, kind: Kind, head: &Head, body: Vec<u8>, until: Deadline) -> Result<Vec<u8>, String> {
    let mut answers = net::query(net, key, body, until)?;
    match (answers.pop(), answers.len()) {
        (Some(answer), 0) => {
            let (_, found, _) = wire::read_head(&answer).map_err(|what| format!("the answer to {}: {what}", kind.name()))?;
            let is_mine = found.instance == head.instance
                && found.request == head.request
                && found.generation == head.generation
                && (kind == Kind::Open || found.session == head.session);
            if is_mine { Ok(answer) } else { Err(format!("an answer to another question than {}", kind.name())) }
        }
        (_, count) => Err(format!("{count} answers to {}, expected one", kind.name())),
    }
}

/// Asks for a session, and gives its name.
fn admit(net: &Session, place: &Where, instance: &str, agreed: &Agreed, until: Deadline) -> Result<String, Refusal> {
    let head = Head { instance: instance.to_owned(), request: wire::fresh_name(), ..Head::default() };
    let body = wire::write(Kind::Open, &head, |packer| agreed.contract.pack_open(packer, agreed.mode, agreed.encoding));
    let key = format!("{}/open", wire::instance_key(place.deployment(), instance));
    let answer = exchange(net, &key, Kind::Open, &head, body, until)?;
    let message = wire::read(&answer)?;
    match message.kind {
        Kind::Accepted => {
            let is_agreed = Contract::read(&message.body).is_ok_and(|contract| contract == agreed.contract);
            if !is_agreed || message.body.get("mode").and_then(Value::text) != Some(agreed.mode.name()) || message.head.session.is_empty() {
                return Err(Refusal::Other("the server accepted another contract than it described".into()));
            }
            Ok(message.head.session)
        }
        Kind::Error => match wire::error_of(&message.body) {
            (code, words) if code == "busy" => Err(Refusal::Busy(format!("the server has another client: {words}"))),
            (code, words) => Err(Refusal::Other(format!("the server refuses ({code}): {words}"))),
        },
        kind => Err(Refusal::Other(format!("{} for an acceptance", kind.name()))),
    }
}

/// Takes part in a session, from the generation of `known` on.
fn join(net: &Session, place: &Where, known: Known, until: Deadline) -> Result<Active, String> {
    let words = |error: zenoh::Error| error.to_string();
    let key = wire::session_key(place.deployment(), &known.instance, &known.session);
    let seen = Arc::new(Seen::default());
    let (sender, answers) = sync_channel::<Vec<u8>>(MOST_WAITING);
    let flooded = seen.clone();
    let acts = net
        .declare_subscriber(format!("{key}/act"))
        .callback(move |sample| {
            let is_huge = sample.payload().len() > MOST_BYTES;
            if is_huge || matches!(sender.try_send(sample.payload().to_bytes().into_owned()), Err(TrySendError::Full(_))) {
                flooded.is_flooded.store(true, SeqCst);
            }
        })
        .wait()
        .map_err(words)?;
    // Servers wait until somebody hears these, too; nothing is asked there.
    let language = net.declare_subscriber(format!("{key}/language/result")).callback(drop).wait().map_err(words)?;
    let gone = seen.clone();
    let alive = net
        .liveliness()
        .declare_subscriber(format!("{}/alive", wire::instance_key(place.deployment(), &known.instance)))
        .history(true)
        .callback(move |sample| {
            if sample.kind() == SampleKind::Delete {
                gone.is_gone.store(true, SeqCst);
            }
        })
        .wait()
        .map_err(words)?;
    let token = net.liveliness().declare_token(format!("{key}/alive")).wait().map_err(words)?;
    control(net, &key, &known, "reset", until)?;
    let observations =
        net.declare_publisher(format!("{key}/obs")).congestion_control(CongestionControl::Drop).wait().map_err(words)?;
    while !observations.matching_status().wait().map_err(words)?.matching() {
        if until.is_over() {
            return Err("the server does not listen to the session that it opened".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Active { known, key, net: net.clone(), observations, answers, seen, _kept: (vec![acts, language, alive], token) })
}

/// Has the server do `operation`, in the generation of `known` from then on.
fn control(net: &Session, key: &str, known: &Known, operation: &str, until: Deadline) -> Result<(), String> {
    let head = Head {
        instance: known.instance.clone(),
        session: known.session.clone(),
        generation: known.generation,
        request: wire::fresh_name(),
    };
    let body = wire::write(Kind::Control, &head, |packer| {
        packer.map(1);
        packer.str("operation");
        packer.str(operation);
    });
    let answer = exchange(net, &format!("{key}/control"), Kind::Control, &head, body, until)?;
    let message = wire::read(&answer)?;
    let applied = message.body.get("applied_generation").and_then(Value::count);
    match message.kind {
        Kind::Ack if applied == usize::try_from(known.generation).ok() => Ok(()),
        Kind::Error => {
            let (code, words) = wire::error_of(&message.body);
            Err(format!("the server refuses to {operation} ({code}): {words}"))
        }
        kind => Err(format!("{} of the generation {applied:?} for an acknowledgement", kind.name())),
    }
}

impl Client {
    /// Before the next question the server forgets what it knows of the episode; or, without `full`, of the motion alone.
    pub fn begin_anew(&self, full: bool) {
        let mut state = self.shared.lock();
        state.wanted = Some(if full { "reset" } else { state.wanted.unwrap_or("invalidate") });
    }

    pub fn report(&self) -> Arc<Mutex<LinkReport>> {
        self.shared.report.clone()
    }

    pub fn address(&self) -> &Address {
        &self.shared.place.address
    }

    /// Sends what `write` writes, behind the head of an observation with this sequence number, and waits for the answer.
    pub fn ask(&self, until: Deadline, write: impl FnOnce(&Head, u64) -> Result<Vec<u8>, String>) -> Result<Answer, NoAnswer> {
        let shared = &*self.shared;
        let mut state = shared.wait_for_session(Deadline::after(GRACE).earlier(until)).map_err(NoAnswer::Unavailable)?;
        state.settle(shared, Deadline::after(GRACE).earlier(until)).map_err(NoAnswer::Unavailable)?;
        let mut watch = Watch::start();
        if let Some(operation) = state.wanted {
            let Some(active) = &mut state.active else { return Err(NoAnswer::Unavailable(state.why.clone())) };
            let next = Known { generation: active.known.generation + 1, ..active.known.clone() };
            // The same generation may be asked for twice, which does nothing the second time.
            if let Err(what) = control(&active.net, &active.key, &next, operation, until) {
                return Err(NoAnswer::Unavailable(state.lose(shared, what)));
            }
            active.known = next;
            state.wanted = None;
            watch.lap();
        }
        state.sequence += 1;
        let sequence = state.sequence;
        let Some(active) = &mut state.active else { return Err(NoAnswer::Unavailable(state.why.clone())) };
        let head = Head {
            instance: active.known.instance.clone(),
            session: active.known.session.clone(),
            generation: active.known.generation,
            request: wire::fresh_name(),
        };
        let message = write(&head, sequence).map_err(NoAnswer::Unwritten)?;
        if message.len() > MOST_BYTES {
            return Err(NoAnswer::Unwritten(format!("{} bytes, and v1 takes at most {MOST_BYTES}", message.len())));
        }
        let prepare_ms = watch.lap();
        let length = message.len() as u64;
        if let Err(error) = active.observations.put(message).wait() {
            return Err(NoAnswer::Unavailable(state.lose(shared, error.to_string())));
        }
        let send_ms = watch.lap();
        {
            let mut report = shared.report();
            report.requests += 1;
            report.bytes_sent += length;
        }
        match state.receive(shared, &head, until) {
            Ok(bytes) => Ok(Answer { bytes, prepare_ms, send_ms, wait_ms: watch.lap() }),
            Err(what) => Err(NoAnswer::Unavailable(what)),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        let active = state.active.take();
        drop(state);
        self.shared.changed.notify_all();
        if let Some(active) = active {
            active.leave();
        }
        // It may be connecting, which is not waited for.
        drop(self.keeper.take());
    }
}

impl Active {
    /// Says goodbye, so that the next client need not wait until this one is missed.
    fn leave(self) {
        if !self.seen.is_gone.load(SeqCst) {
            // A server that does not hear it misses the client by itself.
            drop(control(&self.net, &self.key, &self.known, "close", Deadline::after(GOODBYE)));
        }
        drop(self.net.close().wait());
    }
}

impl State {
    /// Takes in what came since the last question; while an answer is owed there is no other question.
    fn settle(&mut self, shared: &Shared, until: Deadline) -> Result<(), String> {
        loop {
            let Some(active) = &self.active else { return Err(self.why.clone()) };
            let wait = if self.owed.is_some() { until.left() } else { Duration::ZERO };
            match active.answers.recv_timeout(wait) {
                Ok(bytes) => self.take_stray(shared, &bytes, None),
                Err(_) => break,
            }
        }
        let what = self.active.as_ref().and_then(Active::trouble);
        match (what, &self.owed) {
            (Some(what), _) => Err(self.lose(shared, what)),
            // The keeper finds out whether the server is there.
            (None, Some((_, since))) if since.elapsed() < MOST_OWED * 2 => Err(format!("{} still owes an answer", shared.place.address)),
            (None, _) => {
                self.owed = None;
                Ok(())
            }
        }
    }

    /// Something that is no answer to the question `asked`.
    fn take_stray(&mut self, shared: &Shared, bytes: &[u8], asked: Option<&Head>) {
        let mut report = shared.report();
        report.bytes_received += bytes.len() as u64;
        match wire::read_head(bytes) {
            Ok((_, head, _)) if self.owed.as_ref().is_some_and(|(owed, _)| *owed == head.request) => {
                self.owed = None;
                report.late += 1;
            }
            Ok((_, head, _)) if head.request == self.answered => report.repeated += 1,
            // Right but for where it is from, or when.
            Ok((_, head, _)) if asked.is_some_and(|asked| asked.request == head.request) => report.refused += 1,
            Ok(_) => report.late += 1,
            Err(_) => report.refused += 1,
        }
    }

    fn receive(&mut self, shared: &Shared, asked: &Head, until: Deadline) -> Result<Vec<u8>, String> {
        loop {
            let Some(active) = &self.active else { return Err(self.why.clone()) };
            match active.answers.recv_timeout(until.left().min(GRACE)) {
                Ok(bytes) => match wire::read_head(&bytes) {
                    Ok((kind, head, body)) if head == *asked => {
                        shared.report().bytes_received += bytes.len() as u64;
                        self.answered.clone_from(&asked.request);
                        if kind != Kind::Error {
                            return Ok(bytes);
                        }
                        shared.report().errors += 1;
                        let (code, words) = wire::error_of(&body);
                        let what = format!("the server says ({code}): {words}");
                        if code == "busy" {
                            // With a question of before.
                            self.owed = Some((String::new(), Watch::start()));
                            return Err(format!("{}: {what}", shared.place.address));
                        }
                        // A server answers nothing more in a session with a fault.
                        return Err(self.give_up(shared, what));
                    }
                    _ => self.take_stray(shared, &bytes, Some(asked)),
                },
                Err(RecvTimeoutError::Disconnected) => return Err(self.lose(shared, "zenoh's session ended".into())),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(what) = active.trouble() {
                        return Err(self.lose(shared, what));
                    }
                    if until.is_over() {
                        shared.report().missed += 1;
                        self.owed = Some((asked.request.clone(), Watch::start()));
                        return Err(format!("no answer from {} in time", shared.place.address));
                    }
                }
            }
        }
    }

    /// The session can't be used, and the server may still have it; why, in words.
    fn lose(&mut self, shared: &Shared, what: String) -> String {
        let active = self.active.take();
        self.lost = active.as_ref().map(|active| active.known.clone());
        self.told(shared, what, active, false)
    }

    /// The session is of no use any more.
    fn give_up(&mut self, shared: &Shared, what: String) -> String {
        self.lost = None;
        let active = self.active.take();
        self.told(shared, what, active, true)
    }

    fn told(&mut self, shared: &Shared, what: String, active: Option<Active>, says_goodbye: bool) -> String {
        self.owed = None;
        self.why = format!("{}: {what}", shared.place.address);
        tracing::debug!(why = self.why, "the session is gone");
        shared.report().last_error = Some(self.why.clone());
        shared.changed.notify_all();
        if let Some(active) = active {
            // It may take a while, and who waits has a deadline.
            let leave = move || if says_goodbye { active.leave() } else { drop(active.net.close().wait()) };
            drop(std::thread::Builder::new().name("remote-goodbye".into()).spawn(leave));
        }
        self.why.clone()
    }
}

impl Active {
    fn trouble(&self) -> Option<String> {
        if self.seen.is_gone.load(SeqCst) {
            return Some("the server has gone".into());
        }
        if self.seen.is_flooded.load(SeqCst) {
            return Some("the server answers more than it is asked".into());
        }
        // Who has closed the session does not listen to it.
        let is_heard = self.observations.matching_status().wait().is_ok_and(|status| status.matching());
        (!is_heard).then(|| "the server has closed the session".into())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self) -> MutexGuard<'_, LinkReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_session(&self, until: Deadline) -> Result<MutexGuard<'_, State>, String> {
        let mut state = self.lock();
        while state.active.is_none() {
            if until.is_over() || state.is_over {
                return Err(if state.why.is_empty() { format!("{}: no session", self.place.address) } else { state.why.clone() });
            }
            state = self.changed.wait_timeout(state, until.left()).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state)
    }

    /// Looks after the session, and makes another when it is gone, until none is wanted.
    fn keep(&self) {
        let mut probed: Option<String> = None;
        loop {
            let mut state = self.lock();
            if state.is_over {
                return;
            }
            let Some(active) = &state.active else {
                let lost = state.lost.clone();
                drop(state);
                self.again(lost);
                continue;
            };
            if let Some(what) = active.trouble() {
                state.lose(self, what);
                continue;
            }
            let owed = state.owed.as_ref().filter(|(owed, since)| since.elapsed() > MOST_OWED && probed.as_ref() != Some(owed));
            if let Some((owed, _)) = owed {
                probed = Some(owed.clone());
                let (net, session) = (active.net.clone(), active.known.session.clone());
                drop(state);
                // A server that computes for long says so; a connection that is gone says nothing.
                let is_there = describe(&net, self.place.deployment(), Deadline::after(AGAIN));
                let mut state = self.lock();
                if let Err(what) = is_there
                    && state.active.as_ref().is_some_and(|active| active.known.session == session)
                {
                    state.lose(self, what);
                }
                continue;
            }
            drop(self.changed.wait_timeout(state, LOOK_AFTER));
        }
    }

    /// Tries once to have a session again.
    fn again(&self, lost: Option<Known>) {
        let made = self.made_again(lost);
        let mut state = self.lock();
        match made {
            Ok(active) if state.is_over => {
                drop(state);
                active.leave();
            }
            Ok(active) => {
                state.active = Some(active);
                state.lost = None;
                self.report().reconnects += 1;
                self.changed.notify_all();
            }
            Err(what) => {
                state.why = format!("{}: {what}", self.place.address);
                self.report().last_error = Some(state.why.clone());
                drop(self.changed.wait_timeout(state, BETWEEN_TRIES));
            }
        }
    }

    fn made_again(&self, lost: Option<Known>) -> Result<Active, String> {
        let until = Deadline::after(AGAIN);
        let (net, described) = reach(&self.place, until)?;
        let made = self.resumed(&net, &described, lost);
        if made.is_err() {
            drop(net.close().wait());
        }
        made
    }

    fn resumed(&self, net: &Session, described: &Described, lost: Option<Known>) -> Result<Active, String> {
        if described.contract != self.agreed.contract {
            return Err("there is another policy now than at first; start anew to use it".into());
        }
        if let Some(lost) = lost.filter(|lost| lost.instance == described.instance) {
            let known = Known { generation: lost.generation + 1, ..lost };
            if let Ok(active) = join(net, &self.place, known, Deadline::after(AGAIN)) {
                return Ok(active);
            }
            // The server has it no more, and then opens another, or is busy in it, which is tried again.
        }
        let session = admit(net, &self.place, &described.instance, &self.agreed, Deadline::after(OPENING));
        let session = session.map_err(|refusal| match refusal {
            Refusal::Busy(what) | Refusal::Other(what) => what,
        })?;
        let known = Known { instance: described.instance.clone(), session, generation: 0 };
        join(net, &self.place, known, Deadline::after(OPENING))
    }
}

/// What the server at an address says of itself.
///
/// # Errors
/// When nobody is there.
pub(crate) fn look(place: Where) -> Result<Described, RemoteError> {
    let reached = Reached::new(place)?;
    drop(reached.net.close().wait());
    Ok(reached.described)
}
