//! The steps of v1 that begin a session: reaching a server, asking what it is, opening a session, and taking part in one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
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
use crate::link::Address;
use crate::time::Deadline;

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
    pub fn deployment(&self) -> &str {
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

/// What both sides agreed to.
#[derive(Clone, Debug)]
pub(super) struct Agreed {
    pub contract: Contract,
    pub mode: Mode,
    pub encoding: &'static str,
}

/// By what the server knows a session.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub instance: String,
    pub session: String,
    pub generation: u64,
}

/// A session in which questions can be asked.
pub(super) struct Active {
    pub known: Known,
    pub key: String,
    pub net: Session,
    pub observations: Publisher<'static>,
    pub answers: Receiver<Vec<u8>>,
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
pub(super) enum Refusal {
    /// Somebody else has it.
    Busy(String),
    Other(String),
}

impl From<String> for Refusal {
    fn from(what: String) -> Self {
        Self::Other(what)
    }
}

impl Active {
    /// Says goodbye, so that the next client need not wait until this one is missed.
    pub fn leave(self) {
        if !self.seen.is_gone.load(SeqCst) {
            // A server that does not hear it misses the client by itself.
            drop(control(&self.net, &self.key, &self.known, "close", Deadline::after(GOODBYE)));
        }
        drop(self.net.close().wait());
    }

    /// Why it can't be used any more.
    pub fn trouble(&self) -> Option<String> {
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

/// A connection, and what the one server behind it says of itself.
pub(super) fn reach(place: &Where, until: Deadline) -> Result<(Session, Described), String> {
    let net = net::open(&Place::At(&place.locator(), until.left()), place.config.as_deref())?;
    let described = describe(&net, place.deployment(), until)?;
    Ok((net, described))
}

pub(super) fn describe(net: &Session, deployment: &str, until: Deadline) -> Result<Described, String> {
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
pub(super) fn admit(net: &Session, place: &Where, instance: &str, agreed: &Agreed, until: Deadline) -> Result<String, Refusal> {
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
pub(super) fn join(net: &Session, place: &Where, known: Known, until: Deadline) -> Result<Active, String> {
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
        .map_err(net::words)?;
    // Servers wait until somebody hears these, too; nothing is asked there.
    let language = net.declare_subscriber(format!("{key}/language/result")).callback(drop).wait().map_err(net::words)?;
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
        .map_err(net::words)?;
    let token = net.liveliness().declare_token(format!("{key}/alive")).wait().map_err(net::words)?;
    control(net, &key, &known, "reset", until)?;
    let observations =
        net.declare_publisher(format!("{key}/obs")).congestion_control(CongestionControl::Drop).wait().map_err(net::words)?;
    while !observations.matching_status().wait().map_err(net::words)?.matching() {
        if until.is_over() {
            return Err("the server does not listen to the session that it opened".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Active { known, key, net: net.clone(), observations, answers, seen, _kept: (vec![acts, language, alive], token) })
}

/// Has the server do `operation`, in the generation of `known` from then on.
pub(super) fn control(net: &Session, key: &str, known: &Known, operation: &str, until: Deadline) -> Result<(), String> {
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
