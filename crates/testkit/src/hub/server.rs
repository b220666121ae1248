//! From a connection to an answer: records, rate limits and faults around the routes.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyDataStream, BodyExt as _, Empty};
use hyper::body::Incoming as RequestBody;
use hyper::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_RANGE, LOCATION, RANGE, RETRY_AFTER};
use hyper::http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::body::{Body, Incoming, Way, body};
use super::clock;
use super::faults::{Harm, Struck};
use super::git;
use super::record::{Ended, Live};
use super::reply::{Content, Reply};
use super::repo::{Content as FileContent, Entry, Tree, Words};
use super::routes::{self, Call};
use super::state::Hub;
use super::target::Target;
use super::wire::{Line, accept};

/// Serves until told to stop. The first listener is the Hub's, others are those of its stores.
pub async fn serve(hub: Arc<Hub>, listeners: Vec<TcpListener>, stopped: oneshot::Receiver<()>) {
    for (index, listener) in listeners.into_iter().enumerate() {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { continue };
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            loop {
                let (wire, line) = accept(&listener, &hub.journal).await;
                let hub = Arc::clone(&hub);
                let service = service_fn(move |request| {
                    let (hub, line) = (Arc::clone(&hub), line.clone());
                    async move { Ok::<_, Infallible>(handle(&hub, line, request, index > 0).await) }
                });
                // A connection that breaks concerns nobody else.
                tokio::spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(wire), service).await });
            }
        });
    }
    // Dropped, or told: both mean to stop.
    drop(stopped.await);
}

async fn handle(hub: &Arc<Hub>, line: Line, request: Request<RequestBody>, is_store: bool) -> Response<Body> {
    let (head, stream) = request.into_parts();
    let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
    let full = head.uri.path_and_query().map_or(path.as_str(), |full| full.as_str()).to_owned();
    let live = hub.journal.begin(head.method.as_str(), &full, &head.headers);
    let ended = Ended(Arc::clone(&live));
    if !hub.options.latency.is_zero() {
        tokio::time::sleep(hub.options.latency).await;
    }
    let struck = hub.state().faults.strike(head.method.as_str(), &path);
    live.faulted.store(!struck.is_empty(), Ordering::SeqCst);
    let mut call = Call {
        hub,
        method: head.method.clone(),
        target: Target::new(&path, &query),
        full,
        headers: head.headers,
        body: Incoming {
            stream: BodyDataStream::new(stream),
            live: Arc::clone(&live),
            link: Arc::clone(&hub.up),
            line: line.clone(),
            cut: None,
            len: 0,
        },
        is_store,
    };
    let mut early = None;
    for harm in &struck {
        early = early.or(before(&mut call, harm, &line).await);
    }
    let mut reply = match early {
        Some(reply) => {
            linger(&mut call.body).await;
            reply
        }
        None => routes::answer(&mut call).await.unwrap_or_else(|error| error),
    };
    let mut way = Way::default();
    for harm in &struck {
        after(&mut reply, harm, &mut way, &line);
    }
    finish(hub, &head.method, reply, way, line, &live, ended)
}

/// Takes a while what still comes, as servers do that have answered already: closed at once, the connection would be reset, and
/// the answer lost with it.
async fn linger(body: &mut Incoming) {
    const MOST_BYTES: u64 = 1 << 20;
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = body.next().await {
            bytes += chunk.len() as u64;
            if bytes > MOST_BYTES {
                break;
            }
        }
    };
    // Who sends no more has read the answer.
    drop(tokio::time::timeout(Duration::from_millis(500), read).await);
}

/// What happens before anything is answered, or instead of it.
async fn before(call: &mut Call<'_>, struck: &Struck, line: &Line) -> Option<Reply> {
    match &struck.harm {
        Harm::CutRequest { at } => {
            let len = call.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok()).unwrap_or(0);
            call.body.cut = Some(struck.place(*at, len));
            None
        }
        Harm::Refuse => {
            line.reset();
            Some(Reply::empty(500))
        }
        Harm::Delay { ms } => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            None
        }
        Harm::Stall { at: None } => {
            std::future::pending::<()>().await;
            None
        }
        Harm::Status { status, code, message, retry_after_s } => {
            let reply = Reply::error(*status, code.as_deref(), message.as_deref().unwrap_or("a fault that a test asked for"));
            Some(match retry_after_s {
                Some(seconds) => reply.with(RETRY_AFTER, &seconds.to_string()),
                None => reply,
            })
        }
        Harm::RateLimit { retry_after_s } => Some(rate_limited(*retry_after_s)),
        Harm::ExpiredUrl => Some(routes::store::expired()),
        Harm::ChangedEtag => {
            if call.headers.remove(IF_RANGE).is_some() {
                call.headers.remove(RANGE);
            }
            None
        }
        Harm::Html => Some(
            Reply::text(200, "<!DOCTYPE html><html><head><title>Welcome to our network</title></head><body>Please log in.</body></html>")
                .with(CONTENT_TYPE, "text/html; charset=utf-8"),
        ),
        Harm::Redirect { location } => Some(Reply::empty(302).with(LOCATION, &location.replace("{path}", &call.full))),
        Harm::Endless => {
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            Some(Reply::new(200, Content::Stream(futures_util::stream::repeat(chunk).boxed())))
        }
        Harm::GzipBomb { bytes } => {
            let bomb = gzip_bomb(*bytes);
            Some(Reply::new(200, Content::Bytes(bomb)).with(CONTENT_ENCODING, "gzip").with(CONTENT_TYPE, "application/json"))
        }
        Harm::Body { content_type, body } => Some(Reply::text(200, body.clone()).with(CONTENT_TYPE, content_type)),
        Harm::ForcePush { branch } => {
            force_push(call, branch);
            None
        }
        _ => None,
    }
}

/// What happens to an answer.
fn after(reply: &mut Reply, struck: &Struck, way: &mut Way, line: &Line) {
    let len = reply.content.len().unwrap_or(1 << 20);
    match &struck.harm {
        Harm::CutAnswer { at, reset } => way.cut = Some((struck.place(*at, len), *reset)),
        Harm::WrongLength { by } => way.grow = *by,
        Harm::WrongBytes { at } => way.flip = Some(struck.place(*at, len)),
        Harm::Trickle { bytes, every_ms } => way.trickle = Some((*bytes, *every_ms)),
        Harm::Stall { at: Some(at) } => way.stall = Some(*at),
        Harm::LostAnswer => line.reset(),
        Harm::ChangedEtag => {
            for name in [ETAG, HeaderName::from_static("x-linked-etag")] {
                if let Some(old) = reply.headers.get(&name).cloned() {
                    // As many digits as before, so that it looks like any other.
                    let id: String = git::sha256(old.as_bytes()).chars().take(old.len().saturating_sub(2)).collect();
                    if let Ok(value) = HeaderValue::from_str(&format!("\"{id}\"")) {
                        reply.headers.insert(name, value);
                    }
                }
            }
        }
        Harm::Headers { set } => {
            for (name, value) in set {
                let Ok(name) = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()) else { continue };
                match value.as_ref().and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
                    Some(value) => drop(reply.headers.insert(name, value)),
                    None => drop(reply.headers.remove(name)),
                }
            }
        }
        Harm::Names { paths } => routes::tree::add_names(reply, paths),
        _ => {}
    }
}

fn finish(hub: &Hub, method: &Method, reply: Reply, way: Way, line: Line, live: &Live, ended: Ended) -> Response<Body> {
    live.status.store(reply.status.as_u16(), Ordering::SeqCst);
    let Reply { status, mut headers, content } = reply;
    if let Some(len) = content.len().filter(|_| !headers.contains_key(CONTENT_LENGTH)) {
        let len = len.saturating_add_signed(way.grow);
        headers.insert(CONTENT_LENGTH, len.into());
    }
    let body = if method == Method::HEAD {
        drop(ended);
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    } else {
        body(content, way, Arc::clone(&hub.down), line, ended)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// 429, as the Hub says it.
pub fn rate_limited(retry_after_s: u64) -> Reply {
    Reply::error(429, None, "We had to rate limit you. To increase your limits, use a token.")
        .with(RETRY_AFTER, &retry_after_s.to_string())
        .with_x("ratelimit", &format!("\"api\";r=0;t={retry_after_s}"))
        .with_x("ratelimit-policy", "\"fixed window\";\"api\";q=500;w=300")
}

fn gzip_bomb(bytes: u64) -> Bytes {
    const MEMBER_BYTES: u64 = 64 << 20;
    // Of several members one after another, which is gzip too, as deflating gigabytes takes its time.
    let whole = usize::try_from(bytes / MEMBER_BYTES).unwrap_or(usize::MAX);
    let first = if whole > 0 { gzip_zeros(MEMBER_BYTES) } else { Vec::new() };
    let mut bomb = first.repeat(whole);
    bomb.extend(gzip_zeros(bytes % MEMBER_BYTES));
    Bytes::from(bomb)
}

fn gzip_zeros(bytes: u64) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let count = left.min(zeros.len() as u64);
        encoder.write_all(&zeros[..count as usize]).expect("compressing into memory");
        left -= count;
    }
    encoder.finish().expect("compressing into memory")
}

/// Moves the branch of the repository that `call` is about.
fn force_push(call: &Call<'_>, branch: &str) {
    let Some((kind, name)) = routes::repo_of(&call.target.parts) else { return };
    let mut state = call.hub.state();
    let Some(repo) = state.repos.get_mut(&(kind, name)) else { return };
    let Some(commit) = repo.find(branch).cloned() else { return };
    let other = |(path, entry): (&String, &Entry)| {
        let entry = match &entry.content {
            FileContent::Small(bytes) => Entry::small(Bytes::from([bytes.as_ref(), b"\n"].concat())),
            FileContent::Lfs(_) => entry.clone(),
        };
        (path.clone(), entry)
    };
    let tree: Tree = commit.tree.iter().map(other).collect();
    let author = repo.owner().to_owned();
    repo.commit(branch, tree, &Words { title: "Force-pushed", author: &author, date_s: clock::unix_s(), ..Words::default() }, true);
}

/// The value of a header, where it is text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
