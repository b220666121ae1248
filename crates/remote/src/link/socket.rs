//! One connection, whatever is spoken on it.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use tungstenite::Bytes;
use tungstenite::http::HeaderValue;

use super::address::{Address, Protocol};
use super::frame::Frame;
use super::http::Http;
use super::stream::{Stream, Timed};
use super::web::Web;
use super::zmtp::Zmq;
use crate::time::{Deadline, Watch};

/// Of what a server says about an error.
const MOST_TEXT: usize = 400;

/// How long the steps of connecting may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub connect: Duration,
    pub handshake: Duration,
}

/// Why there is no connection, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// In words.
    Broken(String),
    /// The server said what went wrong, as text.
    Told(String),
    /// It takes nobody without the right token.
    Refused(String),
    /// It does not want to be asked for some time: it is busy, or only starts.
    Later { what: String, pause: Duration, is_starting: bool },
}

impl Gone {
    pub fn words(&self) -> String {
        match self {
            Self::Broken(what) | Self::Refused(what) | Self::Later { what, .. } => what.clone(),
            Self::Told(what) => format!("the server says: {what}"),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Socket {
    wire: Wire,
    /// What the server said first: a map, empty where the protocol has no word for it.
    pub metadata: Bytes,
    /// How long the system took to connect, which is about what the way there and back takes.
    pub way: Duration,
}

#[derive(Debug)]
enum Wire {
    Web(Box<Web>),
    Http(Box<Http>),
    Zmq(Box<Zmq>),
}

impl Socket {
    /// The addresses of a host.
    ///
    /// # Errors
    /// In words.
    pub fn resolve(address: &Address) -> Result<Vec<SocketAddr>, Gone> {
        let found = (&*address.host, address.port).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map_err(|error| Gone::Broken(format!("looking up {}: {error}", address.host)))?.collect();
        if found.is_empty() { Err(Gone::Broken(format!("looking up {}: no address", address.host))) } else { Ok(found) }
    }

    /// Connects to the first of `places` that answers, shakes hands, and hears what the server says of itself.
    ///
    /// # Errors
    /// Why not.
    pub fn open(address: &Address, places: &[SocketAddr], authorization: Option<&HeaderValue>, patience: Patience) -> Result<Self, Gone> {
        let (stream, way) = Self::connect(address, places, patience)?;
        let until = Deadline::after(patience.handshake);
        let (wire, metadata) = match address.protocol() {
            Protocol::Openpi => {
                let (web, metadata) = Web::open(stream, address, authorization, patience.handshake, until)?;
                (Wire::Web(Box::new(web)), metadata)
            }
            Protocol::Endpoint => (Wire::Http(Box::new(Http::new(stream, address, authorization))), Bytes::from_static(&[0x80])),
            Protocol::Groot => {
                let token = authorization.and_then(|value| value.to_str().ok());
                let (zmq, metadata) = Zmq::open(stream, token, patience.handshake, until)?;
                (Wire::Zmq(Box::new(zmq)), metadata)
            }
            Protocol::Lerobot => return Err(Gone::Broken("LeRobot's servers are reached over zenoh".into())),
        };
        Ok(Self { wire, metadata, way })
    }

    fn connect(address: &Address, places: &[SocketAddr], patience: Patience) -> Result<(Stream, Duration), Gone> {
        let (mut tcp, mut watch) = (Err(Gone::Broken("no address".into())), Watch::start());
        for place in places {
            watch = Watch::start();
            tcp = TcpStream::connect_timeout(place, patience.connect).map_err(|error| Gone::Broken(error.to_string()));
            if tcp.is_ok() {
                break;
            }
        }
        let way = watch.elapsed();
        let timed = Timed::new(tcp?, Deadline::after(patience.handshake)).map_err(|error| Gone::Broken(error.to_string()))?;
        let stream = if address.is_secure() { Stream::secure(timed, &address.host).map_err(Gone::Broken)? } else { Stream::Plain(timed) };
        Ok((stream, way))
    }

    /// Sends a request whole.
    ///
    /// # Errors
    /// When it could not be sent by `until`, after which the connection is of no use.
    pub fn send(&mut self, frame: &mut Frame, until: Deadline) -> Result<(), Gone> {
        match &mut self.wire {
            Wire::Web(web) => web.send(frame, until),
            Wire::Http(http) => http.send(frame, until),
            Wire::Zmq(zmq) => zmq.send(frame, until),
        }
    }

    /// The next message, if it is there whole by `until`; pings are answered meanwhile.
    ///
    /// # Errors
    /// When there will be none, or it says an error.
    pub fn receive(&mut self, until: Deadline) -> Result<Option<Bytes>, Gone> {
        match &mut self.wire {
            Wire::Web(web) => web.receive(until),
            Wire::Http(http) => http.receive(until),
            Wire::Zmq(zmq) => zmq.receive(until),
        }
    }

    /// Whether the answer just given was this connection's last.
    pub fn is_spent(&self) -> bool {
        matches!(&self.wire, Wire::Http(http) if http.is_spent())
    }

    /// Takes leave, as far as that needs no waiting.
    pub fn close(self) {
        if let Wire::Web(web) = self.wire {
            web.close();
        }
    }

    /// What the server answers to a question that asks for nothing; `None` where the protocol has none.
    ///
    /// # Errors
    /// When there is no answer, or it refuses.
    pub fn look(mut self, until: Deadline) -> Result<Option<serde_json::Value>, Gone> {
        match &mut self.wire {
            Wire::Http(http) => http.look(until).map(Some),
            Wire::Web(_) | Wire::Zmq(_) => Ok(None),
        }
    }
}

/// What matters of a traceback, and no more than fits a line.
pub(super) fn last_line(text: &str) -> String {
    text.trim().lines().last().unwrap_or_default().trim().chars().take(MOST_TEXT).collect()
}
