//! A session with a deployment that is kept: presence, generations, one question at a time, and all of it made again by itself.
//!
//! After a network that went dark the same session is gone on with, where the server still has it, in a new generation: what was asked
//! before has no rights. Where the server has forgotten it, or is another run, a new session is opened for the same contract.

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use zenoh::{Session, Wait as _};

use super::begin::{Active, Agreed, Described, Known, Refusal, Where, admit, control, describe, join, reach};
use super::contract::Mode;
use super::net;
use super::wire::{self, Head, Kind, MOST_BYTES};
use crate::RemoteError;
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

/// A deployment that was reached, and in which no session is open yet.
pub(crate) struct Reached {
    place: Where,
    net: Session,
    pub described: Described,
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

/// An answer, and how long its ways took, milliseconds.
pub(crate) struct Answer {
    pub bytes: Vec<u8>,
    pub sent_bytes: usize,
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
            return Err(NoAnswer::Unavailable(state.lose(shared, net::words(error))));
        }
        let send_ms = watch.lap();
        {
            let mut report = shared.report();
            report.requests += 1;
            report.bytes_sent += length;
        }
        match state.receive(shared, &head, until) {
            Ok(bytes) => Ok(Answer { bytes, sent_bytes: length as usize, prepare_ms, send_ms, wait_ms: watch.lap() }),
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

impl State {
    /// Takes in what came since the last question; while an answer is owed there is no other question.
    fn settle(&mut self, shared: &Shared, until: Deadline) -> Result<(), String> {
        loop {
            let Some(active) = &self.active else { return Err(self.why.clone()) };
            let wait = if self.owed.is_some() { until.left() } else { Duration::ZERO };
            match active.answers.recv_timeout(wait) {
                Ok(bytes) => self.take_stray(shared, &bytes),
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

    /// Something that nobody has asked for now.
    fn take_stray(&mut self, shared: &Shared, bytes: &[u8]) {
        let mut report = shared.report();
        report.bytes_received += bytes.len() as u64;
        match wire::read_head(bytes) {
            Ok((_, head, _)) if self.owed.as_ref().is_some_and(|(owed, _)| *owed == head.request) => {
                self.owed = None;
                report.late += 1;
            }
            Ok((_, head, _)) if head.request == self.answered => report.repeated += 1,
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
                            drop(body);
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
                    Ok((_, head, _)) if head.request != asked.request => self.take_stray(shared, &bytes),
                    // Right but for where it is from, or when; or of no form at all.
                    other => {
                        let what = other.err().unwrap_or_else(|| "an answer of another session, or another generation".into());
                        let mut report = shared.report();
                        report.bytes_received += bytes.len() as u64;
                        report.refused += 1;
                        return Err(format!("{}: {what}", shared.place.address));
                    }
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
