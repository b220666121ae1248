//! One connection from its first byte to its last.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocket};
use tungstenite::{Bytes, Error, Message};

use super::seats::{GOODBYE, Seat};
use super::{Served, Shared};
use crate::answer::REQUEST;
use crate::codec::{Dtype, Limits, Packer, Value, decode};
use crate::http::{self, NoHead};
use crate::link::Timed;
use crate::time::{Deadline, Watch};

/// A request's head has to come within.
const HEAD: Duration = Duration::from_secs(5);
/// What is sent has to be taken within.
const TAKEN: Duration = Duration::from_secs(10);
/// How often a client that says nothing is asked whether it is there, and after how much silence it is not. A client that waits for a
/// camera, or whose policy has compiled for long, says nothing for a while, too.
const PING: Duration = Duration::from_secs(20);
const SILENT: Duration = Duration::from_secs(90);
/// How often a thread looks whether the server is to end.
const LOOK: Duration = Duration::from_millis(250);
/// The longest request: four cameras of 1280x720, raw, and more.
const MOST_BYTES: usize = 32 << 20;

/// As openpi's server closes after an error, so that its clients' users find what they know.
const CLOSED: &str = "Internal server error. Traceback included in previous frame.";

/// Serves a connection until it ends.
pub(super) fn serve(shared: &Shared, tcp: TcpStream, peer: SocketAddr) {
    let Ok(mut timed) = Timed::new(tcp, Deadline::after(HEAD)) else { return };
    let head = match http::read_head(&mut timed) {
        Ok(head) => head,
        Err(NoHead::Gone) => return,
        Err(NoHead::Bad(status, why)) => return say(timed, status, why),
    };
    if head.method != "GET" {
        return say(timed, 405, "expected GET\n");
    }
    let ready = shared.answerer.get();
    match (&*head.path, &head.key) {
        ("/healthz", None) if ready.is_some() => return say(timed, 200, "OK\n"),
        ("/healthz", None) => return say(timed, 503, "loading\n"),
        _ => {}
    }
    if head.origin.is_some() {
        return say(timed, 403, "pages in a browser are not served\n");
    }
    if let Some(token) = &shared.options.token {
        if shared.strikes.is_out(peer.ip()) {
            return say(timed, 429, "too many wrong tokens; wait a minute\n");
        }
        let is_right = http::is_right(token, head.authorization.as_deref());
        shared.strikes.note(peer.ip(), is_right);
        if !is_right {
            shared.metrics.wrong_tokens.fetch_add(1, Relaxed);
            return say(timed, 401, "expected the server's token as Authorization: Bearer TOKEN\n");
        }
    }
    match (&*head.path, &head.key) {
        ("/metrics", None) => say(timed, 200, &shared.metrics.text(shared.waiting(), ready.is_some())),
        (_, None) => say(timed, 426, "this is a policy server: expected a websocket, /healthz or /metrics\n"),
        (_, Some(key)) => {
            let Some((_, metadata)) = ready else { return say(timed, 503, "loading the policy\n") };
            let before = shared.metrics.clients.fetch_add(1, Relaxed);
            if before >= shared.options.max_clients as u64 {
                shared.metrics.turned_away.fetch_add(1, Relaxed);
                say(timed, 503, "too many clients\n");
            } else {
                timed.set_deadline(Deadline::after(TAKEN));
                if let Ok(own) = timed.another()
                    && let Ok(web) = http::accept_websocket(timed, key, head.rest, MOST_BYTES)
                {
                    let ended = Client { shared, web, seat: shared.seats.take(own), total_ms: None }.serve(metadata);
                    tracing::debug!(%peer, ?ended, "a client has gone");
                }
            }
            shared.metrics.clients.fetch_sub(1, Relaxed);
        }
    }
}

/// Answers and closes.
fn say(mut timed: Timed, status: u16, text: &str) {
    timed.set_deadline(Deadline::after(TAKEN));
    // Whoever does not read it has lost nothing.
    drop(timed.write_all(&http::answer(status, text)));
}

struct Client<'a> {
    shared: &'a Shared,
    web: WebSocket<Timed>,
    seat: Seat<'a>,
    /// What the last request took until its answer was sent.
    total_ms: Option<f64>,
}

impl Client<'_> {
    fn serve(mut self, metadata: &[u8]) -> Result<(), Error> {
        self.send(Message::binary(Bytes::copy_from_slice(metadata)))?;
        while let Some(request) = self.next()? {
            self.shared.note_request(request.len());
            let total = Watch::start();
            // Who was told meanwhile that the server ends gets nothing more.
            let Some(answer) = self.seat.wait(|| self.answer(&request)) else { return Ok(()) };
            let answer = match answer {
                Ok(answer) => answer,
                Err(why) => {
                    self.shared.note_error();
                    self.send(Message::text(why))?;
                    return self.close(CloseCode::Error, CLOSED);
                }
            };
            drop(request);
            self.shared.note_sent(answer.len());
            self.send(Message::binary(answer))?;
            self.total_ms = Some(total.ms());
        }
        Ok(())
    }

    fn answer(&self, request: &[u8]) -> Result<Vec<u8>, String> {
        let observation = decode(request, Limits::default()).map_err(|error| error.to_string())?;
        if !matches!(observation, Value::Map(_)) {
            return Err(format!("reading the observation: found {}, expected a map", observation.kind()));
        }
        let (served, infer_ms) = self.shared.answer(&observation)?;
        Ok(pack(&served, infer_ms, self.total_ms, observation.get(REQUEST)))
    }

    /// The next request; `None` when the client or the server ends.
    fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let (mut heard, mut pinged) = (Watch::start(), Watch::start());
        loop {
            self.web.get_mut().set_deadline(Deadline::after(LOOK));
            match self.web.read() {
                Ok(Message::Binary(bytes)) => return Ok(Some(bytes)),
                Ok(Message::Text(_)) => {
                    return self.close(CloseCode::Unsupported, "expected msgpack in binary messages").map(|()| None);
                }
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => return Ok(None),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => heard = Watch::start(),
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error @ Error::Capacity(_)) => {
                    drop(self.close(CloseCode::Size, "the message is too long"));
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
            if self.shared.is_over.load(SeqCst) {
                return self.close(CloseCode::Away, GOODBYE).map(|()| None);
            }
            // A request that does not become whole is silence, too.
            if heard.elapsed() > SILENT {
                return Ok(None);
            }
            if pinged.elapsed() > PING {
                pinged = Watch::start();
                self.send(Message::Ping(Bytes::new()))?;
            }
        }
    }

    fn send(&mut self, message: Message) -> Result<(), Error> {
        self.web.get_mut().set_deadline(Deadline::after(TAKEN));
        self.web.send(message)
    }

    fn close(&mut self, code: CloseCode, reason: &'static str) -> Result<(), Error> {
        self.web.get_mut().set_deadline(Deadline::after(TAKEN));
        self.web.close(Some(CloseFrame { code, reason: reason.into() }))?;
        match self.web.flush() {
            Err(Error::ConnectionClosed) => Ok(()),
            flushed => flushed,
        }
    }
}

/// The answer in openpi's form.
fn pack(served: &Served, infer_ms: f64, total_ms: Option<f64>, number: Option<&Value<'_>>) -> Vec<u8> {
    let number = number.and_then(Value::count);
    let mut packer = Packer::default();
    packer.map(3 + usize::from(number.is_some()));
    packer.str("actions");
    packer.tensor(Dtype::F32, &[served.rows, served.width], |out| served.values.iter().for_each(|value| out.extend(value.to_le_bytes())));
    packer.str("policy_timing");
    packer.map(1);
    packer.str("infer_ms");
    packer.float(infer_ms);
    packer.str("server_timing");
    packer.map(1 + usize::from(total_ms.is_some()));
    packer.str("infer_ms");
    packer.float(infer_ms);
    if let Some(total_ms) = total_ms {
        packer.str("prev_total_ms");
        packer.float(total_ms);
    }
    if let Some(number) = number {
        packer.str(REQUEST);
        packer.int(number as i64);
    }
    packer.into_bytes()
}
