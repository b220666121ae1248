//! Bodies on their way: counted, slowed down, and broken where a fault says so.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::clock;
use super::record::{Ended, Live, lock};
use super::reply::{Content, Reply};
use super::wire::Line;

const CHUNK: usize = 256 * 1024;

/// A link that all connections share, for one direction.
#[derive(Debug)]
pub struct Link {
    bytes_per_s: Option<u64>,
    free_at: Mutex<Instant>,
}

impl Link {
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s, free_at: Mutex::new(clock::instant()) }
    }

    /// Waits until so many bytes have passed.
    pub async fn pass(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_s else { return };
        let until = {
            let mut free_at = lock(&self.free_at);
            *free_at = (*free_at).max(clock::instant()) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            *free_at
        };
        tokio::time::sleep_until(until.into()).await;
    }
}

/// A request's body.
pub struct Incoming {
    pub stream: BodyDataStream<hyper::body::Incoming>,
    pub live: Arc<Live>,
    pub link: Arc<Link>,
    pub line: Line,
    /// After so many bytes the connection is reset.
    pub cut: Option<u64>,
    pub len: u64,
}

impl Incoming {
    /// The next bytes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Reply> {
        if self.cut == Some(self.len) {
            return Err(self.broken());
        }
        let chunk = match self.stream.next().await {
            None => return Ok(None),
            Some(Err(_)) => return Err(Reply::bad_request("the request's body broke off")),
            Some(Ok(chunk)) => chunk,
        };
        let left = self.cut.map_or(u64::MAX, |cut| cut - self.len);
        let chunk = if (chunk.len() as u64) > left { chunk.slice(..usize::try_from(left).unwrap_or(0)) } else { chunk };
        self.len += chunk.len() as u64;
        self.live.add_received(chunk.len() as u64);
        self.link.pass(chunk.len()).await;
        Ok(Some(chunk))
    }

    fn broken(&self) -> Reply {
        self.line.reset();
        Reply::empty(500)
    }

    /// All of it, at most `limit` bytes.
    pub async fn whole(&mut self, limit: usize) -> Result<Vec<u8>, Reply> {
        let mut all = Vec::new();
        while let Some(chunk) = self.next().await? {
            if all.len() + chunk.len() > limit {
                return Err(Reply::error(413, None, "Request body too large"));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// All of it as JSON.
    pub async fn json(&mut self) -> Result<serde_json::Value, Reply> {
        let body = self.whole(64 << 20).await?;
        if body.is_empty() {
            return Ok(serde_json::Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| Reply::bad_request(&format!("the body is no JSON: {error}")))
    }
}

/// What becomes of an answer's body.
#[derive(Clone, Debug, Default)]
pub struct Way {
    pub cut: Option<(u64, bool)>,
    pub flip: Option<u64>,
    pub trickle: Option<(usize, u64)>,
    pub stall: Option<u64>,
    pub grow: i64,
}

fn source(content: Content) -> BoxStream<'static, io::Result<Bytes>> {
    match content {
        Content::Bytes(bytes) => stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed(),
        Content::Stream(stream) => stream.map(Ok).boxed(),
        Content::File { path, from, len } => {
            let open = async move {
                let mut file = tokio::fs::File::open(path).await?;
                file.seek(io::SeekFrom::Start(from)).await?;
                Ok::<_, io::Error>(stream::try_unfold((file, len), |(mut file, left)| async move {
                    let mut buffer = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
                    if buffer.is_empty() {
                        return Ok(None);
                    }
                    let count = file.read(&mut buffer).await?;
                    if count == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                    }
                    buffer.truncate(count);
                    Ok(Some((Bytes::from(buffer), (file, left - count as u64))))
                }))
            };
            stream::once(open)
                .map(|opened| match opened {
                    Ok(chunks) => chunks.boxed(),
                    Err(error) => stream::iter([Err(error)]).boxed(),
                })
                .flatten()
                .boxed()
        }
    }
}

struct Outgoing {
    source: BoxStream<'static, io::Result<Bytes>>,
    ready: VecDeque<Bytes>,
    way: Way,
    sent: u64,
    link: Arc<Link>,
    line: Line,
    ended: Ended,
}

impl Outgoing {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some((at, reset)) = self.way.cut.filter(|(at, _)| self.sent >= *at) {
                // What was handed over so far gets out first.
                tokio::time::sleep(Duration::from_millis(30)).await;
                if reset {
                    self.line.reset();
                }
                return Some(Err(io::Error::other(format!("cut at {at}"))));
            }
            if self.way.stall.is_some_and(|at| self.sent >= at) {
                std::future::pending::<()>().await;
            }
            let Some(chunk) = self.ready.pop_front() else {
                match self.source.next().await {
                    None => return None,
                    Some(Err(error)) => return Some(Err(error)),
                    Some(Ok(chunk)) => self.ready.push_back(chunk),
                }
                continue;
            };
            let limit = [self.way.cut.map(|(at, _)| at), self.way.stall].into_iter().flatten().map(|at| at - self.sent);
            let limit =
                limit.map(|left| usize::try_from(left).unwrap_or(usize::MAX)).chain(self.way.trickle.map(|(bytes, _)| bytes.max(1))).min();
            let mut chunk = chunk;
            if let Some(limit) = limit.filter(|limit| *limit < chunk.len()) {
                self.ready.push_front(chunk.split_off(limit));
            }
            if let Some(flip) = self.way.flip.and_then(|at| at.checked_sub(self.sent)).and_then(|at| usize::try_from(at).ok())
                && flip < chunk.len()
            {
                let mut bytes = chunk.to_vec();
                bytes[flip] ^= 0x55;
                chunk = Bytes::from(bytes);
            }
            if let Some((_, every_ms)) = self.way.trickle {
                tokio::time::sleep(Duration::from_millis(every_ms)).await;
            }
            self.link.pass(chunk.len()).await;
            self.sent += chunk.len() as u64;
            self.ended.0.add_sent(chunk.len() as u64);
            return Some(Ok(chunk));
        }
    }
}

/// An answer's body, on its way.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Turns an answer's content into a body.
pub fn body(content: Content, way: Way, link: Arc<Link>, line: Line, ended: Ended) -> Body {
    let len = content.len();
    let mut source = source(content);
    if way.grow > 0 {
        source = source.chain(stream::iter([Ok(Bytes::from(vec![0; usize::try_from(way.grow).unwrap_or(0)]))])).boxed();
    } else if let Some(len) = len.filter(|_| way.grow < 0) {
        let mut left = len.saturating_sub(way.grow.unsigned_abs());
        source = source
            .map(move |chunk| {
                chunk.map(|chunk| {
                    let take = left.min(chunk.len() as u64);
                    left -= take;
                    chunk.slice(..usize::try_from(take).unwrap_or(0))
                })
            })
            .boxed();
    }
    let out = Outgoing { source, ready: VecDeque::new(), way, sent: 0, link, line, ended };
    let chunks = stream::unfold(Some(out), |out| async move {
        let mut out = out?;
        match out.next().await {
            None => None,
            Some(Ok(chunk)) => Some((Ok(chunk), Some(out))),
            Some(Err(error)) => Some((Err(error), None)),
        }
    });
    StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
}
