//! A connection that a thread keeps: it connects, is spoken on, and is made anew when it is lost.

use std::fmt::Display;
use std::io;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sinew_core::Brief;
use thiserror::Error;

use super::Newest;

/// How long a connection may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long after it was lost it is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(200);
/// What was sent and is not confirmed by the other side's system for so long ends a connection.
#[cfg(target_os = "linux")]
const UNHEARD_MS: u32 = 2000;
/// The longest message: what a socket did not take of one it began with has to be kept.
const MOST_UNSENT: usize = 64 * 1024;

/// Why something did not go out.
#[derive(Debug, Error)]
pub(crate) enum SendError {
    #[error("it is not connected: {0}")]
    Gone(Brief),
    #[error("the other side takes nothing: the socket is full")]
    Full,
    #[error("the connection is being looked after at this moment")]
    Busy,
    #[error("{0}")]
    Io(io::ErrorKind),
}

/// The way out of a connection.
#[derive(Default)]
struct Outlet {
    stream: Option<TcpStream>,
    /// The hand-shake is over.
    is_open: bool,
    /// What a socket did not take of a message whose beginning it took.
    unsent: Vec<u8>,
    at: usize,
}

/// What the thread of a connection shares with those who send on it.
pub(crate) struct Line {
    outlet: Newest<Outlet>,
    /// How many connections have been opened.
    opened: AtomicU64,
    is_open: AtomicBool,
    is_there: AtomicBool,
    is_closing: AtomicBool,
    /// Why there is no connection.
    why: Newest<Brief>,
}

impl Line {
    fn new(why: &str) -> Self {
        let why = Newest::new(Brief::of(why));
        let outlet = Outlet { unsent: Vec::with_capacity(MOST_UNSENT), ..Outlet::default() };
        Self {
            outlet: Newest::new(outlet),
            opened: AtomicU64::new(0),
            is_open: AtomicBool::new(false),
            is_there: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            why,
        }
    }

    /// The hand-shake is over: others may send.
    pub(crate) fn open(&self) {
        let mut outlet = self.outlet.lock();
        outlet.is_open = true;
        self.opened.fetch_add(1, Relaxed);
        self.is_open.store(true, Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Whether anybody has taken a connection, whatever he said then.
    pub(crate) fn is_there(&self) -> bool {
        self.is_there.load(Relaxed)
    }

    /// How many connections have been opened; the newest one's number, from 1.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Why there is no connection. Never waits.
    pub(crate) fn why(&self) -> Brief {
        let mut why = Brief::of("its thread is at it");
        self.why.copy_to(&mut why);
        why
    }

    /// Sends a whole message, or nothing. Neither waits nor allocates.
    pub(crate) fn send(&self, message: &[u8]) -> Result<(), SendError> {
        let Some(mut outlet) = self.outlet.try_lock() else { return Err(SendError::Busy) };
        outlet.send(message).map_err(|error| error.unwrap_or_else(|| SendError::Gone(self.why())))
    }

    /// As [`send`](Self::send), for the connection's own thread.
    pub(crate) fn answer(&self, message: &[u8]) -> Result<(), SendError> {
        self.outlet.lock().send(message).map_err(|error| error.unwrap_or_else(|| SendError::Gone(self.why())))
    }

    /// A copy of the connection's socket.
    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> io::Result<std::os::fd::OwnedFd> {
        let outlet = self.outlet.lock();
        let stream = outlet.stream.as_ref().filter(|_| outlet.is_open).ok_or(io::ErrorKind::NotConnected)?;
        Ok(stream.try_clone()?.into())
    }

    fn attach(&self, stream: &TcpStream) -> io::Result<()> {
        let copy = stream.try_clone()?;
        self.is_there.store(true, Relaxed);
        let mut outlet = self.outlet.lock();
        outlet.unsent.clear();
        (outlet.stream, outlet.is_open, outlet.at) = (Some(copy), false, 0);
        // Whoever closed the link before this did not see the stream.
        if self.is_closing.load(Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn detach(&self, why: impl Display) {
        *self.why.lock() = Brief::of(why);
        let mut outlet = self.outlet.lock();
        (outlet.stream, outlet.is_open) = (None, false);
        self.is_open.store(false, Relaxed);
    }
}

impl Outlet {
    /// An error of `None`: there is no connection.
    fn send(&mut self, message: &[u8]) -> Result<(), Option<SendError>> {
        let Self { stream: Some(stream), is_open: true, unsent, at } = self else { return Err(None) };
        if message.len() > unsent.capacity() {
            return Err(Some(SendError::Io(io::ErrorKind::InvalidInput)));
        }
        while *at < unsent.len() {
            match send_now(stream, &unsent[*at..]).map_err(Some)? {
                0 => return Err(Some(SendError::Full)),
                sent => *at += sent,
            }
        }
        unsent.clear();
        *at = 0;
        let sent = send_now(stream, message).map_err(Some)?;
        if sent == 0 && !message.is_empty() {
            return Err(Some(SendError::Full));
        }
        unsent.extend_from_slice(&message[sent..]);
        Ok(())
    }
}

/// Gives `bytes` to the system, as far as it takes them without waiting; how many it took.
fn send_now(stream: &TcpStream, bytes: &[u8]) -> Result<usize, SendError> {
    #[cfg(unix)]
    let sent = {
        use rustix::net::{SendFlags, send};
        #[cfg(target_vendor = "apple")]
        let flags = SendFlags::DONTWAIT;
        #[cfg(not(target_vendor = "apple"))]
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        send(stream, bytes, flags).map_err(io::Error::from)
    };
    // There the stream was told to wait for a millisecond at most.
    #[cfg(not(unix))]
    let sent = io::Write::write(&mut &*stream, bytes);
    match sent {
        Ok(sent) => Ok(sent),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(0),
        Err(error) => Err(SendError::Io(error.kind())),
    }
}

/// Keeps a connection until it is dropped.
pub(crate) struct Link {
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    /// Starts the thread that connects to `address`. `serve` speaks on each connection, calls [`Line::open`] when others
    /// may, and returns why it ended.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn keep(
        name: &str,
        address: (String, u16),
        mut serve: impl FnMut(TcpStream, &Line) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let line = Arc::new(Line::new("it was not connected yet"));
        let shared = line.clone();
        let run = move || {
            // Should `serve` panic, nobody takes the connection for a good one.
            let _gone = Gone(&shared);
            while !shared.is_closing.load(Relaxed) {
                let why = match connect(&address) {
                    Ok(stream) => match shared.attach(&stream) {
                        Ok(()) => serve(stream, &shared),
                        Err(error) => error.to_string(),
                    },
                    Err(error) => format!("connecting to {}:{}: {error}", address.0, address.1),
                };
                shared.detach(why);
                thread::park_timeout(RETRY_EVERY);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Self { line, thread: Some(thread) })
    }

    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }
}

impl Drop for Link {
    /// The thread ends as soon as it sees this: at once where it reads, within seconds where it connects.
    fn drop(&mut self) {
        self.line.is_closing.store(true, Relaxed);
        if let Some(stream) = &self.line.outlet.lock().stream {
            // One that is gone already needs no end.
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}

struct Gone<'a>(&'a Line);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.detach("its thread has ended");
    }
}

fn connect((host, port): &(String, u16)) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host.as_str(), *port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                #[cfg(target_os = "linux")]
                rustix::net::sockopt::set_tcp_user_timeout(&stream, UNHEARD_MS)?;
                #[cfg(not(unix))]
                stream.set_write_timeout(Some(Duration::from_millis(1)))?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
