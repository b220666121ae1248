//! The host beside a LeKiwi: commands in.

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sinew_core::{Clock, Observation, RobotDescription, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp};

use super::message::{Names, object};
use super::observers::{EncodeJpeg, ObservationPublisher, Outbox};
use super::{COMMAND_PORT, LeKiwiError, OBSERVATION_PORT};
use crate::net::Newest;
use crate::net::zmtp::{self, Kind, Most};

/// A hand-shake takes no longer, nor does a command that has begun.
const GREET_WITHIN: Duration = Duration::from_secs(2);
/// A client that commands nothing for so long is let go; ZeroMQ's connect again by themselves.
const IDLE: Duration = Duration::from_secs(60);
/// How often a thread that waits for a command looks whether the host is still there.
const WAKES_EVERY: Duration = Duration::from_millis(500);
/// A command is no larger.
const MOST: Most = Most { parts: 1, bytes: 16 * 1024 };
/// How many clients there may be at once, on both ports.
const MOST_CLIENTS: usize = 8;
/// How many hand-shakes there may be at once on a port. One more ends the oldest, not the newest: a client's takes no longer
/// than the network, and those that say nothing keep nobody out.
const MOST_GREETED: usize = 32;
/// How often a listener looks for clients.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who is offered the robot, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeKiwiHostOptions {
    /// The address of this machine on which it listens. Without it: 127.0.0.1, which only programs of this machine reach.
    pub bind: Option<IpAddr>,
    /// 0: any that is free.
    pub command_port: u16,
    pub observation_port: u16,
    /// What a client has to say in its hand-shake. It goes over the network as it is, as all else does.
    pub token: Option<String>,
    /// Whether clients are served that say no token, as LeRobot's don't. It has to be said where, too: whoever reaches that
    /// address can drive the robot.
    pub lerobot_clients: bool,
    /// How long after the last command the base is braked, and the arm holds.
    pub watchdog: Duration,
}

impl Default for LeKiwiHostOptions {
    /// The ports and the time of LeRobot's host, on 127.0.0.1; a token is still to be given.
    fn default() -> Self {
        Self {
            bind: None,
            command_port: COMMAND_PORT,
            observation_port: OBSERVATION_PORT,
            token: None,
            lerobot_clients: false,
            watchdog: Duration::from_millis(500),
        }
    }
}

/// What happened at a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeKiwiHostCounts {
    pub commands: u64,
    /// Commands that nothing could be made of, or that came while another client commanded.
    pub refused_commands: u64,
    /// Connections that were no client of this protocol, said no token, or were too many.
    pub refused_clients: u64,
    /// Observations that a client was too slow for.
    pub replaced: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    commands: AtomicU64,
    refused_commands: AtomicU64,
    refused_clients: AtomicU64,
    pub replaced: AtomicU64,
}

/// The newest command.
#[derive(Clone, Debug, Default)]
struct Command {
    /// A value a channel of action, in SI, where it says one.
    goals: Vec<Option<f64>>,
    time: Option<Timestamp>,
    /// Which connection it came on.
    from: u64,
}

/// What the threads of a host share.
pub(super) struct Shared {
    pub clock: Arc<dyn Clock>,
    names: Names,
    token: Option<String>,
    watchdog_ns: i64,
    command: Newest<Command>,
    observers: Mutex<Vec<Arc<Outbox>>>,
    pub counters: Counters,
    clients: AtomicUsize,
    is_over: AtomicBool,
}

impl Shared {
    pub fn observers(&self) -> Vec<Arc<Outbox>> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether who says `token` is served. Takes as long for any token of the right length.
    fn admits(&self, token: Option<&[u8]>) -> bool {
        let Some(expected) = &self.token else { return true };
        let said = token.unwrap_or_default();
        let differ = expected.bytes().zip(said).fold(0, |differ, (expected, said)| differ | (expected ^ said));
        said.len() == expected.len() && differ == 0
    }

    /// Takes a command of the client `from`; says whether it counts.
    fn take(&self, message: &[u8], from: u64) -> bool {
        let Ok(goals) = object(message).and_then(|object| self.names.read(&object)) else { return false };
        // As LeRobot's: without all velocities it is none.
        if goals.iter().enumerate().any(|(i, goal)| goal.is_none() && self.names.is_base(i)) {
            return false;
        }
        let now = self.clock.now();
        let mut command = self.command.lock();
        let is_busy = command.from != from && command.time.is_some_and(|time| now.nanos_since(time) <= self.watchdog_ns);
        if !is_busy {
            *command = Command { goals, time: Some(now), from };
        }
        !is_busy
    }
}

/// A host for a LeKiwi: LeRobot's protocol on two ports, until it is dropped. It knows nothing of the robot: a session has
/// its [teleoperator](Self::teleoperator) act and its [publisher](Self::publisher) observe, so that what a client wants goes
/// through the safety gate as everything does, and a bus that fails for a moment ends nothing.
///
/// - Without `lerobot_clients` a client says the token; with it, anybody who reaches the address is served.
/// - One client commands at a time: another's commands are refused until the first has been silent for the watchdog's time.
/// - All clients observe.
pub struct LeKiwiHost {
    shared: Arc<Shared>,
    robot: Arc<RobotDescription>,
    addresses: [SocketAddr; 2],
}

impl LeKiwiHost {
    /// Listens. `clock` is the session's.
    ///
    /// # Errors
    /// When the options would let anybody drive the robot without saying so, or the ports are not to be had.
    pub fn open(robot: Arc<RobotDescription>, options: &LeKiwiHostOptions, clock: Arc<dyn Clock>) -> Result<Self, LeKiwiError> {
        super::refuse_depth(&robot)?;
        let refuse = |what| Err(LeKiwiError::Options { what });
        match (options.lerobot_clients, options.bind, options.token.as_deref()) {
            (true, None, _) => {
                return refuse("LeRobot's clients say no token: expected an explicit address beside lerobot_clients, found none");
            }
            (true, _, Some(_)) => return refuse("LeRobot's clients say no token: expected either a token or lerobot_clients, found both"),
            (false, _, None) => return refuse("expected a token that clients have to say, found none"),
            (false, _, Some(token)) if token.len() < 16 || token.len() > 255 => {
                return refuse("expected a token of 16 to 255 bytes, found a shorter or longer one");
            }
            _ => {}
        }
        let ip = options.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let listen = |port| {
            let address = SocketAddr::new(ip, port);
            let failed = |source| LeKiwiError::Bind { address: address.to_string(), source };
            let listener = TcpListener::bind(address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            Ok((listener, address))
        };
        let (commands, command_address) = listen(options.command_port)?;
        let (observations, observation_address) = listen(options.observation_port)?;
        let shared = Arc::new(Shared {
            clock,
            names: Names::of(&robot.action_channels()),
            token: options.token.clone(),
            watchdog_ns: i64::try_from(options.watchdog.as_nanos()).unwrap_or(i64::MAX),
            command: Newest::default(),
            observers: Mutex::default(),
            counters: Counters::default(),
            clients: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let host = Self { shared, robot, addresses: [command_address, observation_address] };
        host.listen("lekiwi-commands", commands, Kind::Pull, command).map_err(LeKiwiError::Thread)?;
        host.listen("lekiwi-observers", observations, Kind::Push, observe).map_err(LeKiwiError::Thread)?;
        Ok(host)
    }

    /// Who acts in a session for whoever commands over the network.
    pub fn teleoperator(&self) -> LeKiwiHostTeleoperator {
        let width = self.shared.names.len();
        let state = self.robot.state_channels();
        let channels = self.robot.action_channels();
        LeKiwiHostTeleoperator {
            shared: self.shared.clone(),
            present: channels.iter().map(|channel| state.iter().position(|other| other.source == channel.source)).collect(),
            command: Command { goals: vec![None; width], ..Command::default() },
            sent: vec![0.0; width],
            wanted: vec![0.0; width],
            is_holding: true,
        }
    }

    /// Tells clients what a session observes. Without `encode` they get no pictures.
    pub fn publisher(&self, encode: Option<EncodeJpeg>) -> ObservationPublisher {
        ObservationPublisher::new(self.shared.clone(), &self.robot, encode)
    }

    /// Where commands and observations are.
    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }

    pub fn counts(&self) -> LeKiwiHostCounts {
        let Counters { commands, refused_commands, refused_clients, replaced } = &self.shared.counters;
        LeKiwiHostCounts {
            commands: commands.load(Relaxed),
            refused_commands: refused_commands.load(Relaxed),
            refused_clients: refused_clients.load(Relaxed),
            replaced: replaced.load(Relaxed),
        }
    }

    /// Has `serve` speak to each client on a thread of its own, after the hand-shake of a socket of `kind`.
    fn listen(&self, name: &'static str, listener: TcpListener, kind: Kind, serve: Serve) -> io::Result<()> {
        let shared = self.shared.clone();
        let run = move || {
            let mut number = 0;
            let greeted = Arc::<Greeted>::default();
            while !shared.is_over.load(Relaxed) {
                let Ok((stream, address)) = listener.accept() else {
                    thread::sleep(LOOK_EVERY);
                    continue;
                };
                number += 1;
                let (shared, greeted) = (shared.clone(), greeted.clone());
                if greeted.begin(number, &stream).is_err() {
                    continue;
                }
                // A thread that can't be started drops its client, who tries again.
                let _ = thread::Builder::new().name(name.to_owned()).spawn(move || {
                    let met = greet(&stream, &shared, kind);
                    greeted.end(number);
                    let served = met.and_then(|()| serve(stream, &Client::among(&shared)?.0, number));
                    if let Err(error) = served {
                        tracing::debug!("a client of {name} at {address}: {error}");
                    }
                });
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(run).map(|_| ())
    }
}

impl Drop for LeKiwiHost {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        self.shared.observers().iter().for_each(|observer| observer.end());
    }
}

/// Speaks to a client that has been met; its number is given.
type Serve = fn(TcpStream, &Shared, u64) -> io::Result<()>;

/// The hand-shakes that have not ended, the oldest first.
#[derive(Default)]
struct Greeted(Mutex<VecDeque<(u64, TcpStream)>>);

impl Greeted {
    /// The connection `number` is greeted.
    fn begin(&self, number: u64, stream: &TcpStream) -> io::Result<()> {
        let stream = stream.try_clone()?;
        let mut greeted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        greeted.push_back((number, stream));
        if greeted.len() > MOST_GREETED
            && let Some((_, oldest)) = greeted.pop_front()
        {
            // Its thread reads an end.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        Ok(())
    }

    fn end(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, _)| *other != number);
    }
}

/// Counts a client as long as it is there.
struct Client(Arc<Shared>);

impl Client {
    /// One more, unless there are too many.
    fn among(shared: &Arc<Shared>) -> io::Result<Self> {
        let client = Self(shared.clone());
        if shared.clients.fetch_add(1, Relaxed) < MOST_CLIENTS {
            return Ok(client);
        }
        shared.counters.refused_clients.fetch_add(1, Relaxed);
        Err(io::Error::other(format!("expected at most {MOST_CLIENTS} clients, found one more")))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Relaxed);
    }
}

fn greet(stream: &TcpStream, shared: &Shared, kind: Kind) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(GREET_WITHIN))?;
    stream.set_write_timeout(Some(GREET_WITHIN))?;
    let mut both = stream;
    let met = zmtp::accept(&mut both, kind, |token| shared.admits(token));
    shared.counters.refused_clients.fetch_add(u64::from(met.is_err()), Relaxed);
    met
}

/// Takes the commands of one client.
fn command(stream: TcpStream, shared: &Shared, number: u64) -> io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut idle = Duration::ZERO;
    while !shared.is_over.load(Relaxed) && idle < IDLE {
        if reader.buffer().is_empty() {
            stream.set_read_timeout(Some(WAKES_EVERY))?;
            match stream.peek(&mut [0]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    idle += WAKES_EVERY;
                    continue;
                }
                Err(error) => return Err(error),
            }
            stream.set_read_timeout(Some(GREET_WITHIN))?;
        }
        idle = Duration::ZERO;
        let parts = zmtp::read_message(&mut reader, MOST)?;
        let counts = parts.first().is_some_and(|message| shared.take(message, number));
        let counter = if counts { &shared.counters.commands } else { &shared.counters.refused_commands };
        counter.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// Gives observations to one client.
fn observe(stream: TcpStream, shared: &Shared, _: u64) -> io::Result<()> {
    let outbox = Arc::<Outbox>::default();
    let observers = || shared.observers.lock().unwrap_or_else(PoisonError::into_inner);
    observers().push(outbox.clone());
    // The host may have ended meanwhile, and not have seen this one.
    let result = if shared.is_over.load(Relaxed) { Ok(()) } else { outbox.serve(stream) };
    observers().retain(|other| !Arc::ptr_eq(other, &outbox));
    result
}

/// Acts as the newest command over the network says. When that is too long ago, the base stands and the arm holds what it
/// was sent last; so it does before the first.
pub struct LeKiwiHostTeleoperator {
    shared: Arc<Shared>,
    /// Which channel of state each channel of action is.
    present: Vec<Option<usize>>,
    command: Command,
    /// What the robot was sent last.
    sent: Vec<f64>,
    wanted: Vec<f64>,
    is_holding: bool,
}

impl Teleoperator for LeKiwiHostTeleoperator {
    /// Begins by holding the robot where it is.
    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        for (i, at) in self.present.iter().enumerate().filter(|(i, _)| !self.shared.names.is_base(*i)) {
            let Some(value) = at.and_then(|at| observation.state.get(at)) else {
                let what = sinew_core::Brief::of("a part's position is not known");
                return Err(TeleoperatorError::Transient { doing: "holding the LeKiwi where it is", what });
            };
            (self.wanted[i], self.sent[i]) = (value, value);
        }
        self.is_holding = true;
        Ok(())
    }

    fn action(&mut self, _: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        self.shared.command.copy_to(&mut self.command);
        let now = self.shared.clock.now();
        let is_new = self.command.time.is_some_and(|time| now.nanos_since(time) <= self.shared.watchdog_ns);
        for (i, wanted) in self.wanted.iter_mut().enumerate() {
            if is_new {
                // What it does not say stays as it was wanted last.
                *wanted = self.command.goals.get(i).copied().flatten().unwrap_or(*wanted);
            } else if self.shared.names.is_base(i) {
                *wanted = 0.0;
            } else if !self.is_holding {
                *wanted = self.sent[i];
            }
        }
        self.is_holding = !is_new;
        action.copy_from_slice(&self.wanted);
        Ok(TeleopStatus::Active)
    }

    fn feel(&mut self, sent: &[f64]) {
        self.sent.copy_from_slice(sent);
    }
}
