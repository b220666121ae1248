//! A server that does what a test tells it, and a network that goes dark.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sinew_remote::codec::{Dtype, Limits, Packer, Value, decode};
use tungstenite::{Message, WebSocket};

/// What a server does instead of answering as it should.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// It never answers on this connection again.
    Hang,
    Close,
    /// The beginning of an answer's frame, and no more, ever.
    HalfFrame,
    /// A byte a segment: slow, and whole.
    Drip,
    /// A byte now and then, so that it is never whole.
    Trickle,
    NotANumber,
    Infinite,
    Wide,
    Narrow,
    Empty,
    NoActions,
    NoMsgpack,
    /// An error as openpi's server tells it.
    Text,
    /// After so many milliseconds.
    Late(u64),
    /// Twice at once.
    Twice,
    /// Once more what it answered before, and the right answer then.
    Stale,
    /// More bytes than anybody would read.
    Huge,
    PingsFirst,
    /// The answer without anything that differs from the one before but its rows.
    Timeless,
}

type Script = dyn Fn(u64) -> Fault + Send + Sync;
/// Rows for a request.
type Answers = dyn Fn(&Value<'_>) -> Vec<Vec<f64>> + Send + Sync;

/// A server. Requests are counted over all connections.
pub struct Faulty {
    pub address: SocketAddr,
    pub requests: Arc<AtomicU64>,
    pub connections: Arc<AtomicU64>,
    /// What is asked of the next requests, where not [`Fault::None`]: in place of the script.
    pub now: Arc<Mutex<Fault>>,
    pub pongs: Arc<AtomicU64>,
}

/// With these metadata: a map.
pub fn start(
    metadata: Vec<u8>,
    script: impl Fn(u64) -> Fault + Send + Sync + 'static,
    answers: impl Fn(&Value<'_>) -> Vec<Vec<f64>> + Send + Sync + 'static,
) -> Faulty {
    start_with(move |_| metadata.clone(), script, answers)
}

/// With the metadata for each connection.
pub fn start_with(
    metadata: impl Fn(u64) -> Vec<u8> + Send + 'static,
    script: impl Fn(u64) -> Fault + Send + Sync + 'static,
    answers: impl Fn(&Value<'_>) -> Vec<Vec<f64>> + Send + Sync + 'static,
) -> Faulty {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Faulty {
        address: listener.local_addr().unwrap(),
        requests: Arc::default(),
        connections: Arc::default(),
        now: Arc::new(Mutex::new(Fault::None)),
        pongs: Arc::default(),
    };
    let (requests, connections, now, pongs) =
        (server.requests.clone(), server.connections.clone(), server.now.clone(), server.pongs.clone());
    let (script, answers): (Arc<Script>, Arc<Answers>) = (Arc::new(script), Arc::new(answers));
    thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            let metadata = metadata(connections.fetch_add(1, SeqCst));
            let (requests, now, pongs) = (requests.clone(), now.clone(), pongs.clone());
            let (script, answers) = (script.clone(), answers.clone());
            thread::spawn(move || {
                tcp.set_nodelay(true).unwrap();
                let Ok(mut web) = tungstenite::accept(tcp) else { return };
                // A client that has gone ends it.
                let _ = serve(&mut web, metadata, &requests, &now, &pongs, &*script, &*answers);
            });
        }
    });
    server
}

fn packed(rows: &[Vec<f64>], serial: u64) -> Vec<u8> {
    let mut packer = Packer::default();
    packer.map(2);
    packer.str("actions");
    let width = rows.first().map_or(0, Vec::len);
    packer.tensor(Dtype::F64, &[rows.len(), width], |out| rows.iter().flatten().for_each(|value| out.extend(value.to_le_bytes())));
    packer.str("server_timing");
    packer.map(1);
    packer.str("infer_ms");
    packer.float(serial as f64 * 1e-3);
    packer.into_bytes()
}

/// A whole frame of a server's.
fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, 127];
    frame.extend((payload.len() as u64).to_be_bytes());
    frame.extend(payload);
    frame
}

fn serve(
    web: &mut WebSocket<TcpStream>,
    metadata: Vec<u8>,
    requests: &AtomicU64,
    now: &Mutex<Fault>,
    pongs: &AtomicU64,
    script: &Script,
    answers: &Answers,
) -> Result<(), tungstenite::Error> {
    web.send(Message::binary(metadata))?;
    let mut before: Option<Vec<u8>> = None;
    loop {
        let request = match web.read()? {
            Message::Binary(request) => request,
            Message::Pong(_) => {
                pongs.fetch_add(1, SeqCst);
                continue;
            }
            _ => continue,
        };
        let serial = requests.fetch_add(1, SeqCst);
        let fault = *now.lock().unwrap();
        let fault = if fault == Fault::None { script(serial) } else { fault };
        let mut rows = answers(&decode(&request, Limits::default()).unwrap());
        match fault {
            Fault::NotANumber => rows[0][0] = f64::NAN,
            Fault::Infinite => rows.last_mut().unwrap()[0] = f64::INFINITY,
            Fault::Wide => rows.iter_mut().for_each(|row| row.push(0.0)),
            Fault::Narrow => rows.iter_mut().for_each(|row| row.truncate(1)),
            Fault::Empty => rows.clear(),
            _ => {}
        }
        let answer = packed(&rows, if fault == Fault::Timeless { 0 } else { serial });
        let tcp = web.get_mut();
        match fault {
            Fault::Hang => loop {
                thread::sleep(Duration::from_secs(1));
                if tcp.peek(&mut [0]).is_ok_and(|count| count == 0) {
                    return Ok(());
                }
            },
            Fault::Close => {
                tcp.shutdown(Shutdown::Both)?;
                return Ok(());
            }
            Fault::HalfFrame => {
                tcp.write_all(&framed(&answer)[..answer.len() / 2])?;
                thread::sleep(Duration::from_secs(30));
            }
            Fault::Drip => framed(&answer).iter().try_for_each(|byte| tcp.write_all(&[*byte]))?,
            Fault::Trickle => framed(&answer).iter().try_for_each(|byte| {
                thread::sleep(Duration::from_millis(30));
                tcp.write_all(&[*byte])
            })?,
            Fault::NoActions => web.send(Message::binary(b"\x81\xa5hello\x01".to_vec()))?,
            Fault::NoMsgpack => web.send(Message::binary(vec![0xc1; 40]))?,
            Fault::Text => {
                web.send(Message::text("Traceback (most recent call last):\n  ...\nValueError: no such camera"))?;
                web.close(None)?;
                web.flush()?;
            }
            Fault::Huge => {
                tcp.write_all(&[0x82, 127])?;
                tcp.write_all(&(1u64 << 40).to_be_bytes())?;
                thread::sleep(Duration::from_secs(30));
            }
            Fault::Late(ms) => {
                thread::sleep(Duration::from_millis(ms));
                web.send(Message::binary(answer.clone()))?;
            }
            Fault::Twice => {
                web.send(Message::binary(answer.clone()))?;
                web.send(Message::binary(answer.clone()))?;
            }
            Fault::Stale => {
                web.send(Message::binary(before.clone().unwrap_or_else(|| answer.clone())))?;
                thread::sleep(Duration::from_millis(5));
                web.send(Message::binary(answer.clone()))?;
            }
            Fault::PingsFirst => {
                for _ in 0..3 {
                    web.send(Message::Ping(vec![1, 2].into()))?;
                }
                web.send(Message::binary(answer.clone()))?;
            }
            _ => web.send(Message::binary(answer.clone()))?,
        }
        before = Some(answer);
    }
}

/// A network between a client and a server that may go dark: what is on its way then is lost, and so is every connection of before.
/// As in a real one, few connections can be begun meanwhile, and nothing is said on them.
pub struct Network {
    pub address: SocketAddr,
    is_dark: Arc<AtomicBool>,
}

impl Network {
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // So that the kernel completes hand-shakes for one or two, and drops the others' requests.
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let is_dark = Arc::new(AtomicBool::new(false));
        let dark = is_dark.clone();
        thread::spawn(move || {
            let mut epoch: Vec<Arc<AtomicBool>> = Vec::new();
            loop {
                if dark.load(SeqCst) {
                    epoch.drain(..).for_each(|lost| lost.store(true, SeqCst));
                    thread::sleep(Duration::from_millis(5));
                    continue;
                }
                listener.set_nonblocking(true).unwrap();
                let Ok((near, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                near.set_nonblocking(false).unwrap();
                // Who is served has gone: so has who asks.
                let Ok(far) = TcpStream::connect(server) else { continue };
                let lost = Arc::new(AtomicBool::new(false));
                epoch.push(lost.clone());
                for (from, to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    let (lost, dark) = (lost.clone(), dark.clone());
                    thread::spawn(move || forward(from, to, &lost, &dark));
                }
            }
        });
        Self { address, is_dark }
    }

    pub fn switch(&self) -> Arc<AtomicBool> {
        self.is_dark.clone()
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, lost: &AtomicBool, dark: &AtomicBool) {
    let mut bytes = vec![0; 65_536];
    from.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    to.set_nodelay(true).unwrap();
    loop {
        match from.read(&mut bytes) {
            Ok(0) => break,
            // Nobody hears that the other has gone, either.
            Ok(_) if lost.load(SeqCst) || dark.load(SeqCst) => {}
            Ok(count) => {
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    if !lost.load(SeqCst) {
        drop(to.shutdown(Shutdown::Write));
    } else {
        thread::sleep(Duration::from_secs(60));
    }
}
