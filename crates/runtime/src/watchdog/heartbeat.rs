//! The main process's end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{
    AtomicBool, AtomicI64,
    Ordering::{AcqRel, Acquire, Release},
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sinew_core::{Lease, LeaseError, LeaseState, Lifeline};

use super::LEASE;
use super::wire::{Inbox, Message, Received};
use crate::clock::monotonic_ns;
use crate::{Realtime, RealtimeRequest, StopFlag, StopLevel};

/// How often the heartbeat looks whether the control thread has come round.
const BEAT: Duration = Duration::from_millis(5);
/// How long a watchdog may take to confirm that it holds a lifeline.
const ARMING: Duration = Duration::from_secs(1);
/// How long a watchdog that is let go is waited for.
const GOING: Duration = Duration::from_secs(3);

/// The main process's end: the [`Lease`] of the robot that the control thread drives.
///
/// Dropping it lets the watchdog go. While it is armed that means that the watchdog acts: whoever couldn't
/// [`disarm`](Lease::disarm) wants it to.
pub struct Watchdog {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    child: Option<Child>,
}

struct Shared {
    socket: UnixStream,
    /// Held by who sends; never by the control thread between arming and disarming.
    sending: Mutex<()>,
    /// When the control thread made its newest beat, nanoseconds of the monotonic clock; 0 before the first. A beat's
    /// number.
    made_ns: AtomicI64,
    /// The newest beat that was sent.
    sent_ns: AtomicI64,
    /// The newest beat that the watchdog confirmed.
    confirmed_ns: AtomicI64,
    armed: AtomicBool,
    /// For good.
    lost: AtomicBool,
    /// It is being let go.
    done: AtomicBool,
    stop: StopFlag,
}

impl Watchdog {
    /// Starts `command`, which is to call [`watch`](super::watch) with its standard input. It runs in a process group
    /// of its own, so Ctrl-C doesn't reach it. With a `priority` the threads that talk with it ask for `SCHED_FIFO`, so
    /// that a busy machine is not taken for a hung one; the watchdog should ask for the same, and both for less than
    /// the control thread. Should it end, or have acted, `stop` is raised to [`StopLevel::Now`]: the arm is no longer
    /// this process's.
    ///
    /// # Errors
    /// When the process or a thread cannot be started.
    pub fn start(command: &mut Command, stop: StopFlag, priority: Option<u8>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = command.process_group(0).stdin(OwnedFd::from(theirs)).spawn();
        // The command keeps what it was given. Were that its end, we would never see it close.
        command.stdin(Stdio::null());
        Self::over(ours, Some(child?), stop, priority)
    }

    /// [`start`](Self::start) with the socket to a watchdog that is there.
    pub(super) fn over(socket: UnixStream, child: Option<Child>, stop: StopFlag, priority: Option<u8>) -> io::Result<Self> {
        socket.set_write_timeout(Some(ARMING))?;
        let shared = Shared {
            socket,
            sending: Mutex::default(),
            made_ns: AtomicI64::new(0),
            sent_ns: AtomicI64::new(0),
            confirmed_ns: AtomicI64::new(0),
            armed: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            done: AtomicBool::new(false),
            stop,
        };
        let mut watchdog = Self { shared: Arc::new(shared), threads: Vec::new(), child };
        for (name, work) in [("heartbeat", Shared::beat as fn(&Shared)), ("lease", Shared::listen)] {
            let shared = watchdog.shared.clone();
            let thread = thread::Builder::new().name(name.into()).spawn(move || {
                // What is refused was told of the control thread.
                Realtime::ask(&RealtimeRequest { priority, ..RealtimeRequest::default() });
                work(&shared);
            })?;
            watchdog.threads.push(thread);
        }
        Ok(watchdog)
    }

    /// The number of the newest beat that was sent.
    #[cfg(test)]
    pub(super) fn newest_sent(&self) -> u64 {
        self.shared.sent_ns.load(Acquire).unsigned_abs()
    }
}

impl Lease for Watchdog {
    fn arm(&self, lifeline: Lifeline) -> Result<(), LeaseError> {
        let shared = &*self.shared;
        if shared.lost.load(Acquire) {
            return Err(LeaseError::Lost);
        }
        let number = monotonic_ns().max(1);
        shared.made_ns.store(number, Release);
        {
            let _sending = shared.sending.lock().unwrap_or_else(PoisonError::into_inner);
            shared.sent_ns.store(number, Release);
            if let Err(error) = Message::send_arm(&shared.socket, number.unsigned_abs(), lifeline) {
                // Too large: nothing was sent. Else half of it may have been.
                if matches!(error, LeaseError::Send { .. }) {
                    shared.lose();
                    shared.hang_up();
                }
                return Err(error);
            }
        }
        let deadline = number.saturating_add(ARMING.as_nanos() as i64);
        while shared.confirmed_ns.load(Acquire) < number {
            if shared.lost.load(Acquire) {
                return Err(LeaseError::Lost);
            }
            if monotonic_ns() > deadline {
                // Should it wake later, it arms and disarms.
                shared.say_disarm();
                return Err(LeaseError::Unconfirmed { waited: ARMING });
            }
            thread::sleep(Duration::from_micros(200));
        }
        shared.armed.store(true, Release);
        Ok(())
    }

    fn beat(&self) {
        // With the usual clock sources (the processor's counter) the system reads this clock without a call into the
        // kernel.
        self.shared.made_ns.store(monotonic_ns(), Release);
    }

    fn state(&self) -> LeaseState {
        let shared = &*self.shared;
        if shared.lost.load(Acquire) {
            return LeaseState::Lost;
        }
        let age_ns = monotonic_ns() - shared.confirmed_ns.load(Acquire);
        if shared.armed.load(Acquire) && age_ns < LEASE.as_nanos() as i64 { LeaseState::Held } else { LeaseState::Unconfirmed }
    }

    fn disarm(&self) {
        let shared = &*self.shared;
        shared.armed.store(false, Release);
        shared.say_disarm();
        if shared.lost.load(Acquire) {
            // Should it understand nothing any more, it understands this.
            shared.hang_up();
        }
    }
}

impl Shared {
    /// The heartbeat thread.
    fn beat(&self) {
        let mut sent_ns = 0;
        while !self.done.load(Acquire) && !self.lost.load(Acquire) {
            let made_ns = self.made_ns.load(Acquire);
            if self.armed.load(Acquire) && made_ns != sent_ns {
                sent_ns = made_ns;
                self.say(&Message::Beat { number: made_ns.unsigned_abs() });
            }
            thread::sleep(BEAT);
        }
    }

    /// Sends it if there is room, and says whether there was; else a beat stays unconfirmed.
    fn say(&self, message: &Message) -> bool {
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Message::Beat { number } = message {
            self.sent_ns.fetch_max(number.cast_signed(), AcqRel);
        }
        message.send_short(&self.socket).unwrap_or_else(|_gone| {
            self.lose();
            true
        })
    }

    /// A watchdog that has no room for it for too long stays armed, and acts when it comes to itself.
    fn say_disarm(&self) {
        let deadline = monotonic_ns().saturating_add(ARMING.as_nanos() as i64);
        while !self.say(&Message::Disarm) && monotonic_ns() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The reader's thread.
    fn listen(&self) {
        let mut inbox = Inbox::default();
        loop {
            match inbox.next(&self.socket, None) {
                Ok(Received::Message(Message::Held { number })) if number <= self.sent_ns.load(Acquire).unsigned_abs() => {
                    self.confirmed_ns.fetch_max(number.cast_signed(), AcqRel);
                }
                Ok(Received::Message(Message::Taken)) => self.lose(),
                // A watchdog that can't be understood is none: it sees us go, and acts.
                Ok(Received::Message(_) | Received::Garbled(_)) => {
                    self.lose();
                    self.hang_up();
                }
                Ok(Received::Closed | Received::Nothing) | Err(_) => return self.lose(),
            }
        }
    }

    /// The robot is no longer this process's.
    fn lose(&self) {
        if !self.done.load(Acquire) {
            self.lost.store(true, Release);
            self.stop.request(StopLevel::Now);
        }
    }

    fn hang_up(&self) {
        // Where it can't be told, it is gone.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.done.store(true, Release);
        self.shared.hang_up();
        for thread in self.threads.drain(..) {
            // A panic of it was printed where it happened; the watchdog sees its socket close.
            drop(thread.join());
        }
        let Some(child) = &mut self.child else { return };
        let deadline = monotonic_ns().saturating_add(GOING.as_nanos() as i64);
        // One that still tries to make the robot safe goes on by itself.
        while monotonic_ns() < deadline && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(1));
        }
        // One that has nothing to make safe and does not go was stopped: nobody would continue it.
        if !self.shared.armed.load(Acquire) && matches!(child.try_wait(), Ok(None)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
