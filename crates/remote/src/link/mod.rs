//! A link to a server: one connection that is made again by itself, one request at a time, each with a deadline.
//!
//! The wire has no request numbers, so an answer that is not awaited is told by its time: one that is there before a request was sent
//! is late (where one is owed) or repeated, and the connection of a server that repeats itself is closed. Servers that say in
//! their metadata that they repeat the request's number are held to it.

mod address;
mod frame;
mod http;
mod report;
mod socket;
mod stream;
mod web;
mod zmtp;

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tungstenite::Bytes;
use tungstenite::http::HeaderValue;

pub use address::{Address, Protocol};
pub(crate) use frame::Frame;
pub use report::{Legs, LinkReport, Milliseconds};
use socket::{Gone, Patience, Socket};
pub(crate) use stream::{Stream, Timed};

use crate::RemoteError;
use crate::time::{Deadline, Watch};

/// How long connecting may take at first.
const AT_FIRST: Patience = Patience { connect: Duration::from_secs(10), handshake: Duration::from_secs(60) };
/// And later, so that a link that is back is used soon; a slow network gets [`SLOWER`] times what it took at first.
const AGAIN: Patience = Patience { connect: Duration::from_millis(700), handshake: Duration::from_millis(1200) };
const SLOWER: u32 = 4;
/// A server that lets connections in and is too busy to shake hands gets more time at each try, up to this.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);
/// Between two tries to connect.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// The same after a server that refused the token: it may count.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(10);
/// After so many tries in vain the host's name is looked up again.
const TRIES_PER_LOOK_UP: u32 = 8;
/// How often a connection that nobody uses is looked after: pings, and that it is there.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// How long a question waits for a link that is not there: it is asked again with newer eyes.
const GRACE: Duration = Duration::from_millis(20);
/// An answer that is so late does not come: the connection is closed.
const MOST_OWED: Duration = Duration::from_secs(1);

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct LinkOptions {
    pub address: Address,
    /// The value of `Authorization`.
    pub authorization: Option<HeaderValue>,
}

impl LinkOptions {
    /// What a server said, without the token, which it may repeat.
    fn without_token(&self, words: String) -> String {
        let value = self.authorization.as_ref().and_then(|value| value.to_str().ok());
        match value.and_then(|value| value.split_whitespace().last()) {
            Some(token) => words.replace(token, "…"),
            None => words,
        }
    }

    fn fault(&self, gone: &Gone) -> RemoteError {
        RemoteError::Connect { address: self.address.to_string(), what: self.without_token(gone.words()) }
    }
}

/// A link. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Link {
    shared: Arc<Shared>,
    way: Duration,
    keeper: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    options: LinkOptions,
    patience: Patience,
    state: Mutex<State>,
    /// There is a connection, or none is wanted any more.
    changed: Condvar,
    report: Arc<Mutex<LinkReport>>,
}

#[derive(Debug, Default)]
struct State {
    socket: Option<Socket>,
    /// What the first connection said of the server.
    metadata: Bytes,
    /// A request was left without an answer: since when.
    owed: Option<Watch>,
    /// What was answered last on this connection, to know it again.
    last: Option<Bytes>,
    /// The server has given the same answer on two connections: it may do so.
    is_monotonous: bool,
    /// The last before the connection was closed for a repeated answer.
    suspected: Option<Bytes>,
    /// Why there is no connection.
    why: String,
    /// And for how long the server does not want another.
    pause: Option<Duration>,
    /// It is only starting.
    is_starting: bool,
    is_over: bool,
}

/// By what an answer is known to be of the question just asked.
#[derive(Clone, Copy)]
pub(crate) enum KnownBy<'a> {
    /// It says which it is of; others are passed over.
    Number(&'a dyn Fn(&[u8]) -> bool),
    /// It is not the last one once more.
    Difference,
    /// The question is the last one once more, too.
    Nothing,
}

/// An answer, and how long its ways took, milliseconds.
pub(crate) struct Answered {
    pub bytes: Bytes,
    pub send_ms: f64,
    pub wait_ms: f64,
}

impl Link {
    /// Connects, and keeps the connection from then on.
    ///
    /// # Errors
    /// When there is no server.
    pub fn open(options: LinkOptions) -> Result<Self, RemoteError> {
        let watch = Watch::start();
        let connect = |gone: Gone| options.fault(&gone);
        let places = Socket::resolve(&options.address).map_err(connect)?;
        let socket = Socket::open(&options.address, &places, options.authorization.as_ref(), AT_FIRST).map_err(connect)?;
        let (slow, way) = (watch.elapsed() * SLOWER, socket.way);
        let patience = Patience {
            connect: AGAIN.connect.max(slow.min(AT_FIRST.connect)),
            handshake: AGAIN.handshake.max(slow.min(AT_FIRST.handshake)),
        };
        let state = State { metadata: socket.metadata.clone(), socket: Some(socket), ..State::default() };
        let report = LinkReport { address: options.address.to_string(), ..LinkReport::default() };
        let report = Arc::new(Mutex::new(report));
        let shared = Arc::new(Shared { options, patience, state: Mutex::new(state), changed: Condvar::new(), report });
        let kept = shared.clone();
        let keeper = std::thread::Builder::new().name("remote-link".into()).spawn(move || kept.keep(places));
        let keeper = keeper.map_err(|source| RemoteError::Thread { who: "link", source })?;
        Ok(Self { shared, way, keeper: Some(keeper) })
    }

    pub fn address(&self) -> &Address {
        &self.shared.options.address
    }

    /// How long the way there and back took at first, about.
    pub fn way(&self) -> Duration {
        self.way
    }

    /// What the server said of itself.
    pub fn metadata(&self) -> Bytes {
        self.shared.lock().metadata.clone()
    }

    /// What became of requests so far.
    pub fn reporter(&self) -> Reporter {
        Reporter(self.shared.report.clone())
    }

    /// Sends what is in `frame` and waits for its answer until `until`.
    ///
    /// # Errors
    /// Why there is none, in words. The link may be back for the next.
    pub fn ask(&self, frame: &mut Frame, until: Deadline, known_by: KnownBy<'_>) -> Result<Answered, String> {
        let shared = &*self.shared;
        let mut state = shared.wait_for_connection(Deadline::after(GRACE).earlier(until))?;
        state.settle(shared, Deadline::after(GRACE).earlier(until))?;
        let State { socket: Some(socket), .. } = &mut *state else { return Err(state.why.clone()) };
        let mut watch = Watch::start();
        if let Err(gone) = socket.send(frame, until) {
            return Err(state.lose(shared, gone));
        }
        let send_ms = watch.lap();
        {
            let mut report = shared.report();
            report.requests += 1;
            report.bytes_sent += frame.payload_bytes() as u64;
        }
        loop {
            match socket.receive(until) {
                Ok(Some(bytes)) => {
                    shared.report().bytes_received += bytes.len() as u64;
                    let is_spent = socket.is_spent();
                    if let KnownBy::Number(is_mine) = known_by
                        && !is_mine(&bytes)
                    {
                        shared.report().late += 1;
                        continue;
                    }
                    if matches!(known_by, KnownBy::Difference) && state.has_heard(&bytes) {
                        shared.report().repeated += 1;
                        let told = state.lose(shared, Gone::Broken("the server gave its last answer once more".into()));
                        state.suspected = Some(bytes);
                        return Err(told);
                    }
                    state.is_starting = false;
                    if is_spent {
                        (state.socket, state.last) = (None, None);
                        shared.changed.notify_all();
                    }
                    return Ok(Answered { bytes, send_ms, wait_ms: watch.ms() });
                }
                Ok(None) => {
                    state.owed = Some(watch);
                    shared.report().missed += 1;
                    return Err(format!("no answer from {} within {:.2} s", shared.options.address, watch.elapsed().as_secs_f64()));
                }
                Err(gone) => return Err(state.lose(shared, gone)),
            }
        }
    }

    /// Whether the server said that it is only starting, and nothing else since.
    pub fn is_starting(&self) -> bool {
        self.shared.lock().is_starting
    }

    /// The answer just given is of no use.
    pub fn refuse(&self) {
        self.shared.report().refused += 1;
    }

    /// An answer came to be used.
    pub fn accept(&self, legs: Legs) {
        self.shared.report().accept(legs);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        state.socket.take().into_iter().for_each(Socket::close);
        drop(state);
        self.shared.changed.notify_all();
        // It may be connecting, which is not waited for.
        drop(self.keeper.take());
    }
}

/// Reads a link's report, also when the link is in use elsewhere.
#[derive(Clone, Debug)]
pub struct Reporter(pub(crate) Arc<Mutex<LinkReport>>);

impl Reporter {
    /// As it is now.
    pub fn report(&self) -> LinkReport {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl State {
    /// Takes in what came since the last request; until the answer that is owed is there, there is no other request.
    fn settle(&mut self, shared: &Shared, until: Deadline) -> Result<(), String> {
        loop {
            let Some(socket) = &mut self.socket else { return Err(self.why.clone()) };
            match (socket.receive(if self.owed.is_some() { until } else { Deadline::now() }), self.owed) {
                (Ok(Some(_)), Some(_)) => {
                    self.owed = None;
                    shared.report().late += 1;
                }
                (Ok(Some(_)), None) => {
                    shared.report().repeated += 1;
                    return Err(self.lose(shared, Gone::Broken("the server answered without a question".into())));
                }
                (Ok(None), None) => return Ok(()),
                (Ok(None), Some(since)) if since.elapsed() > MOST_OWED => {
                    return Err(self.lose(shared, Gone::Broken("an answer did not come".into())));
                }
                (Ok(None), Some(_)) => return Err(format!("{} still owes an answer", shared.options.address)),
                (Err(gone), _) => return Err(self.lose(shared, gone)),
            }
        }
    }

    /// Whether `bytes` is what this connection answered last, which no honest server says twice: times are in it, or at least the
    /// question was another. A server that says the same on a new connection, where nothing can be repeated, is left alone.
    fn has_heard(&mut self, bytes: &Bytes) -> bool {
        if self.suspected.take().is_some_and(|suspected| suspected == *bytes) {
            self.is_monotonous = true;
        }
        let is_same = !self.is_monotonous && self.last.as_ref() == Some(bytes);
        self.last = Some(bytes.clone());
        is_same
    }

    /// The connection is of no use any more; why, in words.
    fn lose(&mut self, shared: &Shared, gone: Gone) -> String {
        self.socket = None;
        (self.owed, self.last) = (None, None);
        (self.pause, self.is_starting) = match gone {
            Gone::Later { pause, is_starting, .. } => (Some(pause), is_starting),
            Gone::Refused(_) => (Some(PAUSE_AFTER_REFUSAL), false),
            Gone::Broken(_) | Gone::Told(_) => (None, false),
        };
        if matches!(gone, Gone::Told(_) | Gone::Later { .. }) {
            shared.report().errors += 1;
        }
        self.why = format!("{}: {}", shared.options.address, shared.options.without_token(gone.words()));
        tracing::debug!(why = self.why, "the link is gone");
        shared.report().last_error = Some(self.why.clone());
        shared.changed.notify_all();
        self.why.clone()
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

    fn wait_for_connection(&self, until: Deadline) -> Result<MutexGuard<'_, State>, String> {
        let mut state = self.lock();
        while state.socket.is_none() {
            if until.is_over() {
                return Err(if state.why.is_empty() { format!("{}: no connection", self.options.address) } else { state.why.clone() });
            }
            state = self.changed.wait_timeout(state, until.left()).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state)
    }

    /// Waits for `pause`, or until no connection is wanted any more.
    fn rest<'a>(&self, mut state: MutexGuard<'a, State>, pause: Duration) -> MutexGuard<'a, State> {
        let end = Deadline::after(pause);
        while !state.is_over && !end.is_over() {
            state = self.changed.wait_timeout(state, end.left()).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    /// Looks after the connection, and makes another when it is gone, until the link is.
    fn keep(&self, mut places: Vec<SocketAddr>) {
        let (mut pause, mut tries, mut patience) = (SHORTEST_PAUSE, 0, self.patience);
        loop {
            let mut state = self.lock();
            if state.is_over {
                return;
            }
            if state.socket.is_some() {
                (pause, tries, patience) = (SHORTEST_PAUSE, 0, self.patience);
                // A request that waits has the lock, and answers pings itself.
                drop(state.settle(self, Deadline::now()));
                if state.socket.is_some() {
                    drop(self.changed.wait_timeout(state, LOOK_AFTER));
                }
                continue;
            }
            if let Some(asked_for) = state.pause.take() {
                drop(self.rest(state, asked_for));
                continue;
            }
            drop(state);
            tries += 1;
            if tries % TRIES_PER_LOOK_UP == 0
                && let Ok(found) = Socket::resolve(&self.options.address)
            {
                places = found;
            }
            let watch = Watch::start();
            let opened = Socket::open(&self.options.address, &places, self.options.authorization.as_ref(), patience);
            if opened.is_err() && watch.elapsed() >= patience.handshake {
                patience.handshake = (patience.handshake.mul_f64(1.2)).min(LONGEST_HANDSHAKE.max(patience.handshake));
            }
            let mut state = self.lock();
            match opened {
                Ok(socket) if is_another(&state.metadata, &socket.metadata, self.options.address.protocol()) => {
                    state.lose(self, Gone::Broken("there is another policy now than at first; start anew to use it".into()));
                }
                Ok(socket) if !state.is_over => {
                    state.socket = Some(socket);
                    self.report().reconnects += 1;
                    self.changed.notify_all();
                    continue;
                }
                Ok(_) => return,
                Err(gone) => drop(state.lose(self, gone)),
            }
            pause = state.pause.take().unwrap_or(pause);
            drop(self.rest(state, pause));
            pause = (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        }
    }
}

/// What the server at an address answers to a question that asks for nothing; `None` where the protocol has none.
///
/// # Errors
/// When nobody is there, or it refuses.
pub(crate) fn look(options: &LinkOptions) -> Result<Option<serde_json::Value>, RemoteError> {
    let places = Socket::resolve(&options.address);
    let socket = places.and_then(|places| Socket::open(&options.address, &places, options.authorization.as_ref(), AT_FIRST));
    let seen = socket.and_then(|socket| socket.look(Deadline::after(AT_FIRST.handshake)));
    seen.map_err(|gone| options.fault(&gone))
}

/// Whether a server that says what its policy is now has another. Others may say the time in their metadata.
fn is_another(first: &Bytes, now: &Bytes, protocol: Protocol) -> bool {
    first != now && (crate::answer::Told::is_ours(first) || protocol == Protocol::Groot)
}
