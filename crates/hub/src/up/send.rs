//! A piece of a file on its way into a request.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::Body;
use reqwest::header::{CONTENT_LENGTH, HeaderValue};
use sha2::Sha256;
use sha2::digest::Update;
use tokio::sync::mpsc;

use super::plan::{Local, Meter};
use crate::http::Ask;
use crate::pace::{Limit, give_way};

/// Bytes `from..from + len` of a file, to be hashed as they leave.
pub(super) struct Slice<'a> {
    pub local: &'a Local,
    pub from: u64,
    pub len: u64,
    /// The hash of all that comes before.
    pub before: Sha256,
    /// The last try. An earlier one may still be at work for a moment, so that each has its own.
    last: Mutex<Arc<Try>>,
    pub meter: Arc<Meter>,
    pub limit: Arc<Limit>,
}

/// What has become of one try to send a slice.
#[derive(Default)]
struct Try {
    /// The hash up to the end, once it is known.
    after: Mutex<Option<Sha256>>,
    /// Bytes that were given to the connection.
    given: AtomicU64,
}

impl<'a> Slice<'a> {
    pub fn new(local: &'a Local, from: u64, len: u64, before: &Sha256, meter: &Arc<Meter>, limit: &Arc<Limit>) -> Self {
        Self { local, from, len, before: before.clone(), last: Mutex::default(), meter: Arc::clone(meter), limit: Arc::clone(limit) }
    }

    /// The body, anew for each try. Reading and hashing are done beside the connection, which listens for an early answer before
    /// each piece that it sends: a store that refuses closes at once, and what is sent to it then costs the answer.
    pub fn body(&self) -> io::Result<Body> {
        let mut file = self.local.open()?;
        file.seek(SeekFrom::Start(self.from))?;
        let this = Arc::new(Try::default());
        *lock(&self.last) = Arc::clone(&this);
        self.meter.done.store(self.from, Ordering::Relaxed);
        let (pieces, taken) = mpsc::channel(1);
        let (mut hasher, mut left, limit) = (self.before.clone(), self.len, Arc::clone(&self.limit));
        let of_reader = Arc::clone(&this);
        tokio::spawn(async move {
            while left > 0 {
                let piece = read_chunk(&mut file, left, limit.chunk_bytes());
                if let Ok(chunk) = &piece {
                    limit.take(chunk.len()).await;
                    hasher.update(chunk);
                    left -= chunk.len() as u64;
                    if left == 0 {
                        *lock(&of_reader.after) = Some(hasher.clone());
                    }
                }
                let is_over = piece.is_err();
                // Nobody takes it where the request has failed.
                if pieces.send(piece).await.is_err() || is_over {
                    break;
                }
            }
        });
        let meter = Arc::clone(&self.meter);
        let stream = futures_util::stream::unfold((taken, this, meter), |(mut taken, this, meter)| async move {
            let piece = taken.recv().await?;
            if let Ok(chunk) = &piece {
                let bytes = chunk.len() as u64;
                this.given.fetch_add(bytes, Ordering::Relaxed);
                meter.done.fetch_add(bytes, Ordering::Relaxed);
                meter.sent.fetch_add(bytes, Ordering::Relaxed);
            }
            Some((piece, (taken, this, meter)))
        });
        Ok(Body::wrap_stream(stream))
    }

    /// The request with this as its body. Stores want to know the length first.
    pub fn ask<'b>(&'b self, mut ask: Ask<'b>, make: &'b crate::http::MakeBody<'b>) -> Ask<'b> {
        ask.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.len));
        ask.pulse = Some(Arc::clone(&self.meter.sent));
        ask.with(make)
    }

    /// The hash up to the end of it, as far as the last try has sent it.
    pub fn hash(&self) -> Sha256 {
        let last = Arc::clone(&lock(&self.last));
        let after = lock(&last.after).clone();
        after.unwrap_or_else(|| self.before.clone())
    }

    /// How many bytes of it the last try has given to the connection.
    pub fn given(&self) -> u64 {
        lock(&self.last).given.load(Ordering::Relaxed)
    }
}

/// The next piece of a file that has `left` bytes to go, when others had the processor.
pub(super) fn read_chunk(file: &mut File, left: u64, at_most: usize) -> io::Result<Bytes> {
    give_way();
    let mut chunk = vec![0; at_most.min(usize::try_from(left).unwrap_or(usize::MAX))];
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..]) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter")),
            Ok(count) => filled += count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(Bytes::from(chunk))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
