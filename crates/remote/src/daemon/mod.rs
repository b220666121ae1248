//! A robot's [`Service`] over HTTP and websockets: the page's files, the versioned interface, and three websockets. Who may what is
//! decided here, before anybody is asked anything.
//!
//! A thread for each connection, of which there are never more than so many: when there are too many of strangers, the oldest goes.

mod api;
mod guests;
mod https;
mod keyring;
mod lease;
mod openapi;
mod page;
mod socket;
mod stamps;
mod streams;
pub mod wire;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use sinew_core::service::{Service, State, StopWish};

use crate::RemoteError;
use crate::http::{self, Head, NoHead};
use crate::link::{Stream, Timed};
use crate::server::{reachable, refuse};
use crate::strikes::Strikes;
use crate::time::{Deadline, Watch};
use api::{Call, Reply};
use guests::{Guests, Place};
pub use https::Https;
pub use keyring::Keyring;
pub(crate) use lease::{DEAD_MAN, Desk};
use socket::Socket;
use wire::{Hello, Me, Problem, Role};

/// A request's head has to come within, and so has its body.
const HEAD: Duration = Duration::from_secs(5);
/// An answer has to be taken within.
const TAKEN: Duration = Duration::from_secs(10);
/// The longest body of a request, and message of a websocket.
const MOST_BODY: usize = 64 * 1024;
/// What somebody still sends who has his answer is read for so long, and so much of it: otherwise the answer could be lost.
const LINGER: Duration = Duration::from_millis(500);
const MOST_LINGER: usize = 1 << 20;
/// What the system keeps for a viewer who does not read, so that what he gets is not old.
const SEND_BUFFER: usize = 64 * 1024;
/// The certificate that a device may be told to trust.
const AUTHORITY: &str = "/sinew-ca.crt";
/// A thread's stack.
const STACK: usize = 512 * 1024;

/// How to serve.
#[derive(Debug)]
pub struct DaemonOptions {
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names by which it is reached beside IP addresses, `localhost` and `*.local`.
    pub hosts: Vec<String>,
    /// Of the program.
    pub version: String,
    /// The certificate, where it speaks HTTPS. At the same port HTTP is then for this machine alone; others are sent on.
    pub https: Option<Https>,
}

/// A server of one robot; dropping it ends it.
pub struct Daemon {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

pub(crate) struct Shared {
    hosts: Vec<String>,
    version: String,
    https: Option<Https>,
    service: Arc<dyn Service>,
    keyring: Keyring,
    strikes: Strikes,
    desk: Desk,
    guests: Arc<Guests>,
    is_over: AtomicBool,
}

impl Daemon {
    /// Serves `service` to those of `keyring`.
    ///
    /// # Errors
    /// When the address is not to be had.
    pub fn serve(options: DaemonOptions, keyring: Keyring, service: Arc<dyn Service>) -> Result<Self, RemoteError> {
        let listen = |source| RemoteError::Listen { address: options.listen.to_string(), source };
        let listener = TcpListener::bind(options.listen).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let shared = Arc::new(Shared {
            hosts: options.hosts.iter().map(|host| host.to_lowercase()).collect(),
            version: options.version,
            https: options.https,
            service,
            keyring,
            strikes: Strikes::default(),
            desk: Desk::default(),
            guests: Arc::default(),
            is_over: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let acceptor = std::thread::Builder::new().name("daemon-accept".into()).spawn(move || accepting.accept(&listener));
        let acceptor = acceptor.map_err(|source| RemoteError::Thread { who: "accepting", source })?;
        Ok(Self { shared, address, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same robot, for those who tell of it otherwise.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        self.shared.guests.dismiss();
        // Whoever waits for a connection gets one.
        let reached = TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(1));
        if let (Ok(_), Some(acceptor)) = (reached, self.acceptor.take()) {
            drop(acceptor.join());
        }
        let waited = Watch::start();
        while self.shared.guests.count() > 0 && waited.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while !self.is_over() {
            let (tcp, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Too many open files, or the like: it may pass.
                    tracing::warn!(%error, "accepting a connection");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let Some(place) = self.guests.admit(&tcp, peer.ip()) else {
                refuse(tcp);
                continue;
            };
            let shared = self.clone();
            let thread = std::thread::Builder::new().name("daemon-guest".into()).stack_size(STACK);
            let is_here = peer.ip().to_canonical().is_loopback() || tcp.local_addr().is_ok_and(|own| own.ip() == peer.ip());
            if let Err(error) = thread.spawn(move || shared.serve(tcp, (peer.ip(), is_here), place)) {
                tracing::warn!(%error, "starting a thread for a connection");
            }
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(SeqCst)
    }

    /// The certificate, where there is one.
    pub fn https(&self) -> Option<&Https> {
        self.https.as_ref()
    }

    pub fn service(&self) -> &dyn Service {
        &*self.service
    }

    /// Who operates.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// The newest state, with who operates.
    pub fn state(&self) -> State {
        State { operator: self.desk.holder(), ..(*self.service.state()).clone() }
    }

    pub fn stop(&self, stop: StopWish) {
        tracing::info!("{} was asked for", api::in_words(stop));
        self.service.stop(stop);
    }

    /// One connection from its first byte to its last, of somebody at `ip`, which is an address of this machine or not.
    fn serve(&self, tcp: TcpStream, (ip, is_here): (IpAddr, bool), place: Place) {
        let Ok(mut timed) = Timed::new(tcp, Deadline::after(HEAD)) else { return };
        timed.set_send_buffer(SEND_BUFFER);
        let mut timed = match &self.https {
            Some(https) => match timed.begins_with_tls() {
                Ok(true) => match https.accept(timed) {
                    Ok(stream) => stream,
                    Err(error) => return tracing::warn!(%error, "beginning TLS"),
                },
                Ok(false) => Stream::Plain(timed),
                Err(_) => return,
            },
            None => Stream::Plain(timed),
        };
        let head = match http::read_head(&mut timed) {
            Ok(head) => head,
            Err(NoHead::Gone) => return,
            Err(NoHead::Bad(status, why)) => return say(timed, &Err(api::problem(status, why.trim_end()))),
        };
        if let Err(problem) = self.is_own(&head, timed.is_secure()) {
            return say(timed, &Err(problem));
        }
        if self.https.is_some() && !timed.is_secure() && !is_here {
            return send_on(timed, &head);
        }
        if head.path.starts_with("/api/") && head.key.is_some() {
            return self.upgrade(timed, head, ip, place);
        }
        if !head.path.starts_with("/api/") {
            return self.static_file(timed, &head);
        }
        let reply = self.answer(&mut timed, head, ip);
        say(timed, &reply);
    }

    /// Whether it is a request to this daemon, by a program or a page of its own.
    fn is_own(&self, head: &Head, is_secure: bool) -> Result<(), Problem> {
        let host = head.host.as_deref().unwrap_or_default().to_lowercase();
        if !self.knows(&host) {
            let what = "the address in Host is none of this daemon: expected an IP address, localhost, a name that ends in .local, or one given by --host";
            return Err(api::problem(421, what));
        }
        // A page that came by HTTP could be anybody's on the way. Behind a proxy the page has HTTPS, and this connection has not.
        let of_http = |origin: &str| origin.strip_prefix("http://").is_some_and(|own| !is_secure && own == host);
        let is_own = |origin: &str| of_http(origin) || origin.strip_prefix("https://").is_some_and(|own| own == host);
        if head.origin.as_ref().is_some_and(|origin| !is_own(&origin.to_lowercase())) {
            return Err(api::problem(403, "a page of another origin sent this"));
        }
        let is_foreign = head.fetch_site.as_deref().is_some_and(|site| !matches!(site, "same-origin" | "none"));
        // Who follows a link comes to the page, from wherever it is.
        if is_foreign && head.path.starts_with("/api/") {
            return Err(api::problem(403, "a page of another site sent this"));
        }
        Ok(())
    }

    /// Whether `host`, the value of `Host`, is this daemon, and no name that somebody has for its address.
    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => {
                let Some((address, port)) = rest.split_once(']') else { return false };
                return address.parse::<std::net::Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
            }
            None => match host.split_once(':') {
                Some((name, _)) if is_port(host.get(name.len()..).unwrap_or_default()) => name,
                Some(_) => return false,
                None => host,
            },
        };
        let is_mdns = name.ends_with(".local") && is_host_name(name);
        name.parse::<std::net::Ipv4Addr>().is_ok() || name == "localhost" || is_mdns || self.hosts.iter().any(|known| known == name)
    }

    fn static_file(&self, timed: Stream, head: &Head) {
        if head.path == "/healthz" {
            return send(timed, &http::answer(200, "OK\n"));
        }
        if head.method != "GET" {
            return say(timed, &Err(api::problem(405, "expected GET")));
        }
        match (head.path == AUTHORITY, &self.https, page::file(&head.path)) {
            (true, Some(https), _) => {
                let headers = "Content-Disposition: attachment; filename=sinew-ca.crt\r\nCache-Control: no-store\r\n";
                send(timed, &http::answer_with(200, "application/x-x509-ca-cert", headers, https.authority()));
            }
            (_, _, Some(file)) => send(timed, &http::answer_with(200, file.kind, page::HEADERS, file.bytes)),
            (_, _, None) => say(timed, &Err(api::problem(404, "there is no such file"))),
        }
    }

    /// Who has this token.
    fn who(&self, token: Option<&str>, ip: IpAddr) -> Result<Me, Problem> {
        let Some(token) = token else {
            return Err(api::problem(401, "expected a token: as Authorization: Bearer TOKEN, or in a websocket's first message"));
        };
        // The right one is let in whoever else sends wrong ones from there: nobody can guess it, and somebody may have to stop.
        if let Some(me) = self.keyring.who(token) {
            return Ok(me);
        }
        if self.strikes.is_out(ip) {
            return Err(api::problem(429, "too many wrong tokens; wait a minute"));
        }
        self.strikes.note(ip, false);
        Err(api::problem(401, "this is not a token of this daemon, or it was revoked; `sinew daemon token` prints one"))
    }

    /// Answers a request of the interface.
    fn answer(&self, timed: &mut Stream, head: Head, ip: IpAddr) -> Result<Reply, Problem> {
        let (route, names) = api::find(&head.method, &head.path)?;
        let me = match route.role {
            None => None,
            Some(role) => {
                let me = self.who(head.authorization.as_deref().and_then(http::token_in), ip)?;
                may(&me, role)?;
                Some(me)
            }
        };
        if route.needs_lease {
            self.desk
                .may(head.lease.as_deref())
                .map_err(|holder| api::problem(409, &format!("{holder} has the operator's lease; send it as Sinew-Lease")))?;
        }
        let body = match head.method.as_str() {
            "POST" => {
                let kind = head.content_type.as_deref().and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
                if !kind.eq_ignore_ascii_case("application/json") {
                    return Err(api::problem(415, "expected Content-Type: application/json"));
                }
                read_body(timed, head.length, head.rest)?
            }
            _ => Vec::new(),
        };
        let call = Call { shared: self, me, names, query: &head.query, body: &body };
        catch_unwind(AssertUnwindSafe(|| (route.does)(&call)))
            .unwrap_or_else(|_| Err(api::problem(500, "the daemon panicked; its log says where")))
    }

    /// Makes a websocket of a connection, and serves it.
    fn upgrade(&self, mut timed: Stream, head: Head, ip: IpAddr, mut place: Place) {
        let role = match &*head.path {
            "/api/v1/state/stream" | "/api/v1/cameras/stream" => Role::Look,
            "/api/v1/command" => Role::Operate,
            _ => return say(timed, &Err(api::problem(404, "there is no websocket at this path"))),
        };
        timed.set_deadline(Deadline::after(HEAD));
        let Some(key) = &head.key else { return };
        let Ok(web) = http::accept_websocket(timed, key, head.rest, MOST_BODY) else { return };
        let mut socket = Socket::new(web, place.heard());
        let said = socket.next::<Hello>(HEAD);
        let hello = match said {
            Ok(hello) => hello,
            Err(over) => {
                return socket.end(over, |problem| serde_json::to_string(&wire::StateMessage::Error(problem)).ok().map(Into::into));
            }
        };
        let Some(hello) = hello else { return streams::refuse(socket, api::problem(408, "expected a first message within five seconds")) };
        let token = hello.token.as_deref().or_else(|| head.authorization.as_deref().and_then(http::token_in));
        // Counted before the token is looked at: one that is revoked meanwhile is noticed.
        let revocations = self.keyring.revocations();
        let me = match self.who(token, ip).and_then(|me| may(&me, role).map(|()| me)) {
            Ok(me) => me,
            Err(problem) => return streams::refuse(socket, problem),
        };
        if !place.becomes_known(token.unwrap_or_default(), me.role >= Role::Operate) {
            return streams::refuse(socket, api::problem(503, "too many websockets are open"));
        }
        let pass = streams::Pass { me, token: token.unwrap_or_default().to_owned(), revocations };
        match &*head.path {
            "/api/v1/state/stream" => streams::states(self, socket, &hello, pass),
            "/api/v1/cameras/stream" => streams::shots(self, socket, &hello, pass),
            _ => streams::commands(self, socket, place.id(), pass),
        }
    }
}

/// Whether `text` is a host's name: letters, digits, `-` and `_`, with dots between.
pub fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(is_good) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

fn may(me: &Me, role: Role) -> Result<(), Problem> {
    let in_words = |role| match role {
        Role::Look => "look",
        Role::Operate => "operate",
        Role::Administer => "administer",
    };
    if me.role >= role {
        return Ok(());
    }
    Err(api::problem(403, &format!("{} may {}, and this needs the role {}", me.name, in_words(me.role), in_words(role))))
}

/// The body of a request, of which `rest` came with its head.
fn read_body(timed: &mut Stream, length: Option<u64>, mut body: Vec<u8>) -> Result<Vec<u8>, Problem> {
    let Some(length) = length else { return Err(api::problem(411, "expected a Content-Length")) };
    if length > MOST_BODY as u64 {
        return Err(api::problem(413, &format!("expected a body of at most {MOST_BODY} bytes, found {length}")));
    }
    let length = length as usize;
    timed.set_deadline(Deadline::after(HEAD));
    let mut piece = [0; 4096];
    while body.len() < length {
        match timed.read(&mut piece) {
            Ok(count) if count > 0 => body.extend_from_slice(&piece[..count]),
            _ => return Err(api::problem(408, "the body did not come")),
        }
    }
    body.truncate(length);
    Ok(body)
}

/// Who asks by HTTP from another machine goes on by HTTPS, where nobody reads his token.
fn send_on(timed: Stream, head: &Head) {
    let host = head.host.as_deref().unwrap_or_default();
    if head.method != "GET" || head.key.is_some() || head.path.starts_with("/api/") {
        return say(timed, &Err(api::problem(403, &format!("this daemon speaks HTTPS: expected https://{host}{}", head.path))));
    }
    // The name and the path were read as one line, so that they can't hold another header.
    send(timed, &http::answer_with(308, "text/plain", &format!("Location: https://{host}{}\r\n", head.path), b""));
}

/// Answers a request of the interface and closes.
fn say(timed: Stream, reply: &Result<Reply, Problem>) {
    const HEADERS: &str = "Cache-Control: no-store\r\nCross-Origin-Resource-Policy: same-origin\r\nContent-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n";
    let bytes = match reply {
        Ok(reply) => http::answer_with(200, reply.kind, HEADERS, &reply.bytes),
        Err(problem) => http::answer_with(problem.status, "application/json", HEADERS, &serde_json::to_vec(problem).unwrap_or_default()),
    };
    send(timed, &bytes);
}

fn send(mut timed: Stream, bytes: &[u8]) {
    timed.set_deadline(Deadline::after(TAKEN));
    if timed.write_all(bytes).is_err() || timed.flush().is_err() || timed.ends().is_err() {
        return;
    }
    // Closing with something unread in the socket would take the answer back.
    timed.set_deadline(Deadline::after(LINGER));
    let (mut piece, mut read) = ([0; 4096], 0);
    while let Ok(count) = timed.read(&mut piece)
        && count > 0
        && read < MOST_LINGER
    {
        read += count;
    }
}
