//! GR00T's service as far as a test tells it: a REP socket of ZeroMQ, to the byte.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "test code")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sinew_remote::codec::{Limits, Value, decode};

/// What a server does instead of answering as it should.
pub enum Plan {
    Answer(Vec<u8>),
    After(u64, Vec<u8>),
    Twice(Vec<u8>),
    /// These bytes as they are.
    Raw(Vec<u8>),
    /// And closes.
    Cut(Vec<u8>),
    /// A byte each so many milliseconds.
    Drip(u64, Vec<u8>),
    Silence,
}

pub struct Rep {
    pub address: SocketAddr,
    pub connections: Arc<AtomicU64>,
    /// The endpoints that were asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
}

/// The frames of an answer.
pub fn framed(answer: &[u8]) -> Vec<u8> {
    let mut frame = vec![1, 0, 2];
    frame.extend((answer.len() as u64).to_be_bytes());
    frame.extend(answer);
    frame
}

/// `plan` hears each request whole, and how many there were before; `greeting` is what a connection begins with.
pub fn start(greeting: Vec<u8>, plan: impl Fn(&Value<'_>, u64) -> Plan + Send + Sync + 'static) -> Rep {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rep = Rep { address: listener.local_addr().unwrap(), connections: Arc::default(), asked: Arc::default() };
    let (connections, asked, plan) = (rep.connections.clone(), rep.asked.clone(), Arc::new(plan));
    let serial = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            connections.fetch_add(1, SeqCst);
            let (asked, plan, serial, greeting) = (asked.clone(), plan.clone(), serial.clone(), greeting.clone());
            thread::spawn(move || {
                tcp.set_nodelay(true).unwrap();
                // A client that has gone ends it.
                let _ = serve(tcp, &greeting, &asked, &serial, &*plan);
            });
        }
    });
    rep
}

/// As libzmq 4.3.5 begins on a REP socket.
pub fn libzmq() -> Vec<u8> {
    let mut bytes = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    let ready = b"\x05READY\x0bSocket-Type\0\0\0\x03REP\x08Identity\0\0\0\0";
    bytes.extend([4, ready.len() as u8]);
    bytes.extend(ready);
    bytes
}

fn serve(
    mut tcp: TcpStream,
    greeting: &[u8],
    asked: &Mutex<Vec<String>>,
    serial: &AtomicU64,
    plan: &dyn Fn(&Value<'_>, u64) -> Plan,
) -> std::io::Result<()> {
    tcp.write_all(greeting)?;
    tcp.read_exact(&mut [0; 64])?;
    let (flags, ready) = frame(&mut tcp)?;
    assert!(flags == 4 && ready.ends_with(b"\x0bSocket-Type\0\0\0\x03REQ"), "{ready:?}");
    loop {
        assert_eq!(frame(&mut tcp)?, (1, Vec::new()), "an empty part first");
        let (flags, body) = frame(&mut tcp)?;
        assert_eq!(flags & 1, 0);
        let request = decode(&body, Limits::default()).unwrap();
        asked.lock().unwrap().push(request.get("endpoint").unwrap().text().unwrap().to_owned());
        match plan(&request, serial.fetch_add(1, SeqCst)) {
            Plan::Answer(answer) => tcp.write_all(&framed(&answer))?,
            Plan::After(ms, answer) => {
                thread::sleep(Duration::from_millis(ms));
                tcp.write_all(&framed(&answer))?;
            }
            Plan::Twice(answer) => tcp.write_all(&[framed(&answer), framed(&answer)].concat())?,
            Plan::Raw(bytes) => tcp.write_all(&bytes)?,
            Plan::Cut(bytes) => return tcp.write_all(&bytes),
            Plan::Drip(ms, answer) => framed(&answer).iter().try_for_each(|byte| {
                thread::sleep(Duration::from_millis(ms));
                tcp.write_all(&[*byte])
            })?,
            Plan::Silence => {
                while tcp.read(&mut [0; 1024])? > 0 {}
                return Ok(());
            }
        }
    }
}

fn frame(tcp: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    tcp.read_exact(&mut head[..1])?;
    let length = if head[0] & 2 == 0 {
        tcp.read_exact(&mut head[1..])?;
        usize::from(head[1])
    } else {
        let mut length = [0; 8];
        tcp.read_exact(&mut length)?;
        u64::from_be_bytes(length) as usize
    };
    let mut body = vec![0; length];
    tcp.read_exact(&mut body)?;
    Ok((head[0], body))
}
