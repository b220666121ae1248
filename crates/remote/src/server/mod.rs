//! openpi's websocket from the server's side, for any number of clients that fit: a thread each, and one of them at a time
//! has the policy, in the order in which they asked.

mod client;
mod metrics;
mod seats;
mod turns;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::answer::Told;
use crate::codec::Value;
use crate::lerobot::{ZenohOptions, ZenohServer};
use crate::strikes::Strikes;
use crate::time::Watch;
use crate::{RemoteError, http};

pub use metrics::Counts;
use metrics::Metrics;
use seats::Seats;
use turns::Turns;

/// For so long the end of a server waits until all clients were told of it.
const GOODBYE: Duration = Duration::from_secs(1);
/// Connections beside those of clients: who asks for health or metrics, and those not yet shaken hands with.
const OTHERS: usize = 16;

/// Who answers.
pub trait Answerer: Send + Sync {
    /// The greeting, in msgpack: a map.
    fn metadata(&self) -> Vec<u8>;

    /// The actions for an observation. Called by one client at a time, where they [`take_turns`](Self::take_turns).
    ///
    /// # Errors
    /// What the client is told, in words.
    fn answer(&self, observation: &Value<'_>) -> Result<Served, String>;

    /// Whether each client waits until those before it are answered; else this one cares for their order, and all ask at once.
    fn take_turns(&self) -> bool {
        true
    }
}

/// Actions: `[rows, width]`, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    pub rows: usize,
    pub width: usize,
    pub values: Vec<f32>,
    /// How long it took to make them, where who answers lets clients wait for each other himself; else it is measured.
    pub took: Option<Duration>,
}

/// How to serve. Has no `Debug`, as there is a token in it.
#[derive(Clone)]
pub struct ServerOptions {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Clients have to send it as `Authorization: Bearer …` or `Api-Key …`.
    pub token: Option<String>,
    pub max_clients: usize,
}

impl ServerOptions {
    /// Without a token, for 8 clients.
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, token: None, max_clients: 8 }
    }
}

/// A server. Until it has somebody who answers it says that it is not ready; dropping it ends it.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

pub(crate) struct Shared {
    options: ServerOptions,
    answerer: OnceLock<(Arc<dyn Answerer>, Vec<u8>)>,
    turns: Turns,
    /// Those who are answered without turns, or wait for that.
    beside: AtomicU64,
    metrics: Metrics,
    strikes: Strikes,
    seats: Seats,
    is_over: AtomicBool,
}

impl Server {
    /// Listens, and says to everybody that it is not ready.
    ///
    /// # Errors
    /// When the address is not to be had.
    pub fn bind(options: ServerOptions) -> Result<Self, RemoteError> {
        let listen = |source| RemoteError::Listen { address: options.listen.to_string(), source };
        let listener = TcpListener::bind(options.listen).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared {
            options,
            answerer: OnceLock::new(),
            turns: Turns::default(),
            beside: AtomicU64::new(0),
            metrics: Metrics::default(),
            strikes: Strikes::default(),
            seats: Seats::default(),
            is_over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let acceptor = std::thread::Builder::new().name("remote-accept".into()).spawn(move || accepting.accept(&listener));
        let acceptor = acceptor.map_err(|source| RemoteError::Thread { who: "accepting", source })?;
        Ok(Self { shared, address, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Is ready from now on, with this one who answers; a second is not heard.
    pub fn serve(&self, answerer: Arc<dyn Answerer>) {
        let metadata = answerer.metadata();
        self.shared.answerer.get_or_init(|| (answerer, metadata));
    }

    /// Serves the same policy over zenoh, too, once there is somebody who answers.
    ///
    /// # Errors
    /// When the address is not to be had, or the policy is none that LeRobot's protocol can describe.
    pub fn serve_zenoh(&self, options: &ZenohOptions) -> Result<ZenohServer, RemoteError> {
        ZenohServer::start(&self.shared, options)
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.shared.metrics.counts()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        // Whoever waits for a connection gets one.
        let reached = TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(1));
        if let (Ok(_), Some(acceptor)) = (reached, self.acceptor.take()) {
            drop(acceptor.join());
        }
        // Who waits for an answer is told at once that none comes; all others see it by themselves.
        self.shared.seats.dismiss();
        let waited = Watch::start();
        while self.shared.metrics.clients.load(Relaxed) > 0 && waited.elapsed() < GOODBYE {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// An address by which this machine reaches one that it listens on.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Shared {
    /// What the one who answers says of the policy.
    ///
    /// # Errors
    /// When there is nobody yet, or it says nothing.
    pub fn told(&self) -> Result<Told, String> {
        let (_, metadata) = self.answerer.get().ok_or("the policy is not loaded yet")?;
        Told::read(metadata)
    }

    /// The answer to an observation, in turn, and how long it took, milliseconds, without the wait for the turn.
    ///
    /// # Errors
    /// What the client is told, in words.
    pub fn answer(&self, observation: &Value<'_>) -> Result<(Served, f64), String> {
        let (answerer, _) = self.answerer.get().ok_or("the policy is not loaded yet")?;
        let whole = Watch::start();
        let turn = answerer.take_turns().then(|| self.turns.take());
        let is_beside = u64::from(turn.is_none());
        self.beside.fetch_add(is_beside, Relaxed);
        let watch = Watch::start();
        let served = catch_unwind(AssertUnwindSafe(|| answerer.answer(observation)));
        let (measured, whole) = (watch.elapsed(), whole.elapsed());
        self.beside.fetch_sub(is_beside, Relaxed);
        drop(turn);
        let served = served.unwrap_or_else(|_| Err("the policy panicked".into()))?;
        let infer = served.took.unwrap_or(measured);
        self.metrics.answered(infer, whole.saturating_sub(infer));
        Ok((served, infer.as_secs_f64() * 1e3))
    }

    pub fn note_request(&self, bytes: usize) {
        self.metrics.requests.fetch_add(1, Relaxed);
        self.metrics.bytes_received.fetch_add(bytes as u64, Relaxed);
    }

    pub fn note_error(&self) {
        self.metrics.errors.fetch_add(1, Relaxed);
    }

    pub fn note_sent(&self, bytes: usize) {
        self.metrics.bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    /// How many are answered, or wait for it.
    pub fn waiting(&self) -> u64 {
        self.turns.waiting() + self.beside.load(Relaxed)
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.is_over.load(SeqCst) {
            let (tcp, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Too many open files, or the like: it may pass.
                    tracing::warn!(%error, "accepting a connection");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            if self.metrics.connections.load(Relaxed) >= (self.options.max_clients + OTHERS) as u64 {
                self.metrics.turned_away.fetch_add(1, Relaxed);
                refuse(tcp);
                continue;
            }
            self.metrics.connections.fetch_add(1, Relaxed);
            let shared = self.clone();
            let started = std::thread::Builder::new().name("remote-client".into()).spawn(move || {
                client::serve(&shared, tcp, peer);
                shared.metrics.connections.fetch_sub(1, Relaxed);
            });
            if let Err(error) = started {
                tracing::warn!(%error, "starting a thread for a client");
                self.metrics.connections.fetch_sub(1, Relaxed);
            }
        }
    }
}

/// Turns a connection away without a thread for it.
pub(crate) fn refuse(mut tcp: TcpStream) {
    // Whoever does not read it has lost nothing.
    drop(tcp.set_write_timeout(Some(Duration::from_millis(100))));
    drop(tcp.write_all(&http::answer(503, "too many connections\n")));
}
