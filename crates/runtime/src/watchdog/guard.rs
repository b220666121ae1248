//! The watchdog's end.

use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::net::{Shutdown, shutdown};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};
use sinew_core::{Lifeline, LifelineCheck, LifelinePort};
use thiserror::Error;

use super::wire::{Inbox, Message, Received, WireError, retrying, wait_for};
use crate::clock::monotonic_ns;

/// From one safe action to the next in its first second.
const SOON: Duration = Duration::from_millis(50);
/// And after that.
const LATER: Duration = Duration::from_millis(500);
const FIRST: Duration = Duration::from_secs(1);
/// Safe actions at least: what a killed process had half written can swallow the packet after it.
const ACTIONS: u32 = 3;
/// How long a safe action that fails is tried for a process that is gone.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How long a packet waits for room in its port.
const ROOM: Duration = Duration::from_millis(30);
/// How long a motor may take to say whether it holds.
const ANSWER: Duration = Duration::from_millis(10);

/// What a watchdog came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The main process ended with the watchdog disarmed.
    Ended,
    /// It was gone while the watchdog was armed; the safe action was done.
    Gone,
    /// Its control thread made no progress for too long while the watchdog was armed; the safe action was done.
    Frozen,
}

/// A watchdog that could not do its work.
#[derive(Debug, Error)]
pub enum WatchError {
    #[error("listening to the main process")]
    Io(#[from] io::Error),
    /// Where the watchdog was armed, the safe action was done.
    #[error("listening to the main process")]
    Message(#[from] WireError),
    #[error("doing the safe action for a main process that is gone: {tries} tries, of which the last failed")]
    Action {
        tries: u32,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A port that did not take the safe action.
#[derive(Debug, Error)]
#[error("writing packet {packet} of {packets} of the safe action to {port}")]
pub struct PortError {
    pub port: String,
    /// Counts from 1.
    pub packet: usize,
    pub packets: usize,
    #[source]
    pub source: io::Error,
}

/// The watchdog's life: listens to `socket`, the end that [`Watchdog::start`](super::Watchdog::start) gave it as its
/// standard input, until the main process ends or has to be replaced, and then calls `make_safe`: at once, every
/// 50 ms for a second and every 0.5 s after that, until the main process has disarmed it or is gone. What
/// [`write_lifeline`] does is what most robots need. `patience` is [`WATCHDOG_PATIENCE`](super::WATCHDOG_PATIENCE).
///
/// `make_safe` must not wait for long: the next one is not begun before.
///
/// Signals that end or freeze a process (INT, TERM, HUP, QUIT, TSTP, TTIN, TTOU) do neither: they would come first in a
/// shutdown, when the watchdog is wanted most.
///
/// # Errors
/// When signals or the socket fail, the main process says what can't be understood, or it is gone and `make_safe`
/// failed for 10 s. Whatever fails while the watchdog is armed, `make_safe` is called before.
pub fn watch<E: Into<Box<dyn Error + Send + Sync>>>(
    socket: OwnedFd,
    patience: Duration,
    make_safe: impl FnMut(&Lifeline) -> Result<(), E>,
) -> Result<Watched, WatchError> {
    let ignored = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU] {
        signal_hook::flag::register(signal, ignored.clone())?;
    }
    attend(socket, patience, make_safe)
}

/// [`watch`], but for signals.
pub(super) fn attend<E: Into<Box<dyn Error + Send + Sync>>>(
    socket: OwnedFd,
    patience: Duration,
    mut make_safe: impl FnMut(&Lifeline) -> Result<(), E>,
) -> Result<Watched, WatchError> {
    let mut guard = Guard { socket, inbox: Inbox::default(), lifeline: None };
    let reason = guard.stand_by(nanos(patience));
    let Some(lifeline) = guard.lifeline.take() else { return reason };
    let make_safe = || make_safe(&lifeline).map_err(Into::into);
    let is_gone = !matches!(reason, Ok(Watched::Frozen) | Err(WatchError::Message(_)));
    let acted = guard.act(is_gone, make_safe);
    let reason = reason?;
    acted.map(|()| reason)
}

struct Guard {
    socket: OwnedFd,
    inbox: Inbox,
    /// While armed.
    lifeline: Option<Lifeline>,
}

impl Guard {
    /// Until somebody has to act (the lifeline says so), or nobody will have to.
    fn stand_by(&mut self, patience_ns: i64) -> Result<Watched, WatchError> {
        let mut heard_ns = monotonic_ns();
        loop {
            let deadline_ns = self.lifeline.is_some().then_some(heard_ns + patience_ns);
            match self.inbox.next(&self.socket, deadline_ns)? {
                Received::Message(Message::Arm { number, lifeline }) => {
                    self.lifeline = Some(lifeline);
                    heard_ns = monotonic_ns();
                    self.say(&Message::Held { number });
                }
                Received::Message(Message::Beat { number }) => {
                    heard_ns = monotonic_ns();
                    self.say(&Message::Held { number });
                }
                Received::Message(Message::Disarm) => self.lifeline = None,
                Received::Message(message) => return Err(self.hang_up(WireError::Kind { found: message.kind() })),
                Received::Nothing => return Ok(Watched::Frozen),
                Received::Closed if self.lifeline.is_none() => return Ok(Watched::Ended),
                Received::Closed => return Ok(Watched::Gone),
                Received::Garbled(error) => return Err(self.hang_up(error)),
            }
        }
    }

    /// The main process learns that it has no watchdog any more.
    fn hang_up(&self, error: WireError) -> WatchError {
        // Where it can't be told, it is gone.
        let _ = shutdown(&self.socket, Shutdown::Write);
        error.into()
    }

    /// An answer that can't be sent is missed by the main process, which then has no lease.
    fn say(&self, message: &Message) {
        let _ = message.send_short(&self.socket);
    }

    /// The safe action, again and again.
    fn act(
        &mut self,
        mut is_gone: bool,
        mut make_safe: impl FnMut() -> Result<(), Box<dyn Error + Send + Sync>>,
    ) -> Result<(), WatchError> {
        let first_ns = monotonic_ns();
        let mut gone_ns = first_ns;
        let mut tries = 0;
        loop {
            let began_ns = monotonic_ns();
            let result = make_safe();
            tries += 1;
            self.say(&Message::Taken);
            if is_gone {
                match result {
                    Ok(()) if tries >= ACTIONS => return Ok(()),
                    Err(source) if began_ns - gone_ns > nanos(GIVE_UP) => return Err(WatchError::Action { tries, source }),
                    _ => {}
                }
            }
            let pause = if began_ns - first_ns < nanos(FIRST) { SOON } else { LATER };
            let next_ns = began_ns + nanos(pause);
            while !is_gone {
                match self.inbox.next(&self.socket, Some(next_ns))? {
                    Received::Message(Message::Disarm) => return Ok(()),
                    Received::Message(Message::Beat { .. } | Message::Arm { .. }) => self.say(&Message::Taken),
                    Received::Nothing => break,
                    Received::Closed => (is_gone, gone_ns) = (true, monotonic_ns()),
                    // What can't be understood doesn't disarm.
                    Received::Message(_) | Received::Garbled(_) => {}
                }
            }
            if is_gone {
                thread::sleep(Duration::from_nanos((next_ns - monotonic_ns()).max(0).unsigned_abs()));
            }
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The safe action of a robot whose motors need nothing but packets: writes each port's, all ports at once. A port that
/// has no room for 30 ms is left; the others get theirs.
///
/// From then on the ports don't make a writer wait (`O_NONBLOCK`, which a copied descriptor shares with the driver's
/// own): the driver of a process that thaws finds a full port as an error.
///
/// # Errors
/// The first port that did not take its packets.
pub fn write_lifeline(lifeline: &Lifeline) -> Result<(), PortError> {
    let Some((last, others)) = lifeline.ports.split_last() else { return Ok(()) };
    thread::scope(|scope| {
        let others: Vec<_> = others.iter().map(|port| (port, thread::Builder::new().spawn_scoped(scope, || write_port(port)))).collect();
        let last = write_port(last);
        let others = others.into_iter().map(|(port, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|_panic| Err(failed(port, 0, io::Error::other("the thread panicked")))),
            // There is no thread for it: after the others, then.
            Err(_) => write_port(port),
        });
        // All of them, whatever the first came to.
        others.collect::<Vec<_>>().into_iter().chain([last]).collect()
    })
}

/// Asks the motors that hold by themselves whether they do: how many say so, and how many were asked. To be called after
/// [`write_lifeline`].
pub fn check_lifeline(lifeline: &Lifeline) -> (usize, usize) {
    let checks = || lifeline.ports.iter().flat_map(|port| port.checks.iter().map(move |check| (port, check)));
    (checks().filter(|(port, check)| holds(port, check)).count(), checks().count())
}

fn holds(port: &LifelinePort, check: &LifelineCheck) -> bool {
    let mut bytes = [0; 256];
    // What came before is no answer.
    while matches!(retrying(|| read(&port.descriptor, &mut bytes)), Ok(1..)) {}
    // A question that gets lost is asked again.
    (0..3).any(|_| {
        let (mut heard, deadline_ns) = (Vec::new(), monotonic_ns() + nanos(ANSWER));
        if write_frame(port, &check.packet).is_err() {
            return false;
        }
        while wait_for(&port.descriptor, PollFlags::IN, Some(deadline_ns)).unwrap_or(false) {
            match retrying(|| read(&port.descriptor, &mut bytes)) {
                Ok(count @ 1..) => heard.extend_from_slice(bytes.get(..count).unwrap_or_default()),
                _ => return false,
            }
            if !check.answer.is_empty() && heard.windows(check.answer.len()).any(|part| part == check.answer) {
                return true;
            }
        }
        false
    })
}

fn failed(port: &LifelinePort, index: usize, source: io::Error) -> PortError {
    PortError { port: port.name.clone(), packet: index + 1, packets: port.frames.len(), source }
}

fn write_port(port: &LifelinePort) -> Result<(), PortError> {
    let fd = &port.descriptor;
    let flags = fcntl_getfl(fd).and_then(|flags| fcntl_setfl(fd, flags | OFlags::NONBLOCK));
    flags.map_err(|error| failed(port, 0, error.into()))?;
    for (index, frame) in port.frames.iter().enumerate() {
        if index > 0 {
            thread::sleep(port.gap);
        }
        write_frame(port, frame).map_err(|error| failed(port, index, error))?;
    }
    Ok(())
}

fn write_frame(port: &LifelinePort, frame: &[u8]) -> io::Result<()> {
    let deadline_ns = monotonic_ns() + nanos(ROOM);
    let mut left = frame;
    while !left.is_empty() {
        match retrying(|| write(&port.descriptor, left)) {
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(Errno::AGAIN) => {
                let has_room = wait_for(&port.descriptor, PollFlags::OUT, Some(deadline_ns))?;
                // A port may say that it has room and take nothing all the same.
                if !has_room || monotonic_ns() > deadline_ns {
                    let why = format!("{} of {} bytes had no room within {ROOM:?}", left.len(), frame.len());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                thread::sleep(Duration::from_micros(100));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
