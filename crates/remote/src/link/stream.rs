//! A connection whose reads and writes end at a deadline, however slowly bytes come.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection, StreamOwned};
use rustls_platform_verifier::BuilderVerifierExt as _;

use crate::time::Deadline;

/// Shorter waits than this are none.
const SHORTEST: Duration = Duration::from_millis(1);

/// A TCP connection with a deadline.
#[derive(Debug)]
pub(crate) struct Timed {
    tcp: TcpStream,
    until: Deadline,
}

impl Timed {
    pub fn new(tcp: TcpStream, until: Deadline) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        Ok(Self { tcp, until })
    }

    pub fn set_deadline(&mut self, until: Deadline) {
        self.until = until;
    }

    /// The same connection for somebody who has no deadline.
    pub fn another(&self) -> io::Result<TcpStream> {
        self.tcp.try_clone()
    }

    /// How much the system keeps of what is on its way, about.
    pub fn set_send_buffer(&self, bytes: usize) {
        if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(&self.tcp, bytes) {
            tracing::debug!(%error, "setting a send buffer");
        }
    }

    /// Whether what comes begins as TLS does, once something has come.
    pub fn begins_with_tls(&mut self) -> io::Result<bool> {
        const HANDSHAKE: u8 = 0x16;
        let mut first = [0];
        self.within(TcpStream::set_read_timeout, |tcp| tcp.peek(&mut first))?;
        Ok(first[0] == HANDSHAKE)
    }

    /// Nothing more is sent.
    pub fn ends(&self) -> io::Result<()> {
        self.tcp.shutdown(std::net::Shutdown::Write)
    }

    /// Does `work` with a timeout of what is left; without any, only what needs no waiting.
    fn within<T>(
        &mut self,
        set: fn(&TcpStream, Option<Duration>) -> io::Result<()>,
        work: impl FnOnce(&mut TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let left = self.until.left();
        if left >= SHORTEST {
            set(&self.tcp, Some(left))?;
            return work(&mut self.tcp);
        }
        self.tcp.set_nonblocking(true)?;
        let done = work(&mut self.tcp);
        self.tcp.set_nonblocking(false)?;
        done
    }
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.within(TcpStream::set_read_timeout, |tcp| tcp.read(bytes))
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.within(TcpStream::set_write_timeout, |tcp| tcp.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection with TLS, as a client or as a server, or without.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
    Served(Box<StreamOwned<ServerConnection, Timed>>),
}

impl Stream {
    fn timed(&mut self) -> &mut Timed {
        match self {
            Self::Plain(timed) => timed,
            Self::Tls(stream) => &mut stream.sock,
            Self::Served(stream) => &mut stream.sock,
        }
    }

    pub fn set_deadline(&mut self, until: Deadline) {
        self.timed().set_deadline(until);
    }

    /// How much the system keeps of what is on its way, about.
    pub fn set_send_buffer(&mut self, bytes: usize) {
        self.timed().set_send_buffer(bytes);
    }

    pub fn is_secure(&self) -> bool {
        !matches!(self, Self::Plain(_))
    }

    /// Nothing more is sent.
    pub fn ends(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => {}
            Self::Tls(stream) => stream.conn.send_close_notify(),
            Self::Served(stream) => stream.conn.send_close_notify(),
        }
        self.flush()?;
        self.timed().ends()
    }

    /// Puts TLS on a connection to `host`, whose certificate the system has to trust.
    ///
    /// # Errors
    /// In words.
    pub fn secure(timed: Timed, host: &str) -> Result<Self, String> {
        static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
        let config = CONFIG.get_or_init(|| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let builder = builder.and_then(|builder| builder.with_platform_verifier()).map_err(|error| error.to_string())?;
            Ok(Arc::new(builder.with_no_client_auth()))
        });
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(config.clone()?, name).map_err(|error| error.to_string())?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, timed))))
    }
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.read(bytes),
            Self::Tls(stream) => stream.read(bytes),
            Self::Served(stream) => stream.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(timed) => timed.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
            Self::Served(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(timed) => timed.flush(),
            Self::Tls(stream) => stream.flush(),
            Self::Served(stream) => stream.flush(),
        }
    }
}
