//! What was asked, and how many bytes went each way.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hyper::http::HeaderMap;
use serde::Serialize;

use super::clock;

/// A request, as the fake Hub saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestRecord {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// The `Host` header.
    pub host: Option<String>,
    /// Whether an `Authorization` header came along.
    pub authorized: bool,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `If-Range` header.
    pub if_range: Option<String>,
    /// The `If-None-Match` header.
    pub if_none_match: Option<String>,
    /// The `Accept-Encoding` header.
    pub accept_encoding: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The answer's status; 0 as long as there is none.
    pub status: u16,
    /// Bytes of the request's body that came.
    pub received: u64,
    /// Bytes of the answer's body that were handed to the connection.
    pub sent: u64,
    /// Milliseconds from the Hub's start to the request.
    pub at_ms: u64,
    /// Whether a fault was played on it.
    pub faulted: bool,
}

/// A record that still grows.
#[derive(Debug)]
pub(super) struct Live {
    head: RequestRecord,
    pub status: AtomicU16,
    pub received: AtomicU64,
    pub sent: AtomicU64,
    pub faulted: AtomicBool,
    journal: Arc<Journal>,
}

impl Live {
    fn snapshot(&self) -> RequestRecord {
        RequestRecord {
            status: self.status.load(Ordering::SeqCst),
            received: self.received.load(Ordering::SeqCst),
            sent: self.sent.load(Ordering::SeqCst),
            faulted: self.faulted.load(Ordering::SeqCst),
            ..self.head.clone()
        }
    }

    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::SeqCst);
        self.journal.received.fetch_add(bytes, Ordering::SeqCst);
    }

    pub fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::SeqCst);
        self.journal.sent.fetch_add(bytes, Ordering::SeqCst);
    }
}

/// Writes its line once the request is over.
#[derive(Debug)]
pub(super) struct Ended(pub Arc<Live>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut out = lock(&self.0.journal.out);
        if let Some(file) = out.as_mut() {
            use std::io::Write;
            let line = serde_json::to_string(&self.0.snapshot()).unwrap_or_default();
            // A full disk costs the protocol, not the answer.
            drop(writeln!(file, "{line}").and_then(|()| file.flush()));
        }
    }
}

/// All requests.
#[derive(Debug)]
pub(super) struct Journal {
    begun: Instant,
    requests: Mutex<Vec<Arc<Live>>>,
    pub received: AtomicU64,
    pub sent: AtomicU64,
    /// All that came and went over its connections, heads and all.
    pub wire_in: AtomicU64,
    pub wire_out: AtomicU64,
    out: Mutex<Option<std::fs::File>>,
}

impl Journal {
    pub fn new(out: Option<std::fs::File>) -> Self {
        Self {
            begun: clock::instant(),
            requests: Mutex::default(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            wire_in: AtomicU64::new(0),
            wire_out: AtomicU64::new(0),
            out: Mutex::new(out),
        }
    }

    pub fn begin(self: &Arc<Self>, method: &str, path: &str, headers: &HeaderMap) -> Arc<Live> {
        let header = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let head = RequestRecord {
            method: method.to_owned(),
            path: path.to_owned(),
            host: header("host"),
            authorized: headers.contains_key("authorization"),
            range: header("range"),
            if_range: header("if-range"),
            if_none_match: header("if-none-match"),
            accept_encoding: header("accept-encoding"),
            user_agent: header("user-agent"),
            status: 0,
            received: 0,
            sent: 0,
            at_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            faulted: false,
        };
        let live = Arc::new(Live {
            head,
            status: AtomicU16::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            faulted: AtomicBool::new(false),
            journal: Arc::clone(self),
        });
        lock(&self.requests).push(Arc::clone(&live));
        live
    }

    pub fn snapshot(&self) -> Vec<RequestRecord> {
        lock(&self.requests).iter().map(|live| live.snapshot()).collect()
    }

    pub fn forget(&self) {
        lock(&self.requests).clear();
        for counter in [&self.received, &self.sent, &self.wire_in, &self.wire_out] {
            counter.store(0, Ordering::SeqCst);
        }
    }
}

/// The lock, whoever panicked while holding it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
