//! A piece of a file on its way into a request.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use reqwest::Body;
use reqwest::header::{CONTENT_LENGTH, HeaderValue};
use sha2::Sha256;
use sha2::digest::Update;

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
    /// The hash up to the end, when the last try is through.
    pub after: Arc<Mutex<Sha256>>,
    pub meter: Arc<Meter>,
    pub limit: Arc<Limit>,
}

impl<'a> Slice<'a> {
    pub fn new(local: &'a Local, from: u64, len: u64, before: &Sha256, meter: &Arc<Meter>, limit: &Arc<Limit>) -> Self {
        Self {
            local,
            from,
            len,
            before: before.clone(),
            after: Arc::new(Mutex::new(before.clone())),
            meter: Arc::clone(meter),
            limit: Arc::clone(limit),
        }
    }

    /// The body, anew for each try.
    pub fn body(&self) -> io::Result<Body> {
        let mut file = self.local.open()?;
        file.seek(SeekFrom::Start(self.from))?;
        *lock(&self.after) = self.before.clone();
        self.meter.done.store(self.from, Ordering::Relaxed);
        let (after, meter, limit) = (Arc::clone(&self.after), Arc::clone(&self.meter), Arc::clone(&self.limit));
        let stream = futures_util::stream::try_unfold((file, self.len), move |(mut file, left)| {
            let (after, meter, limit) = (Arc::clone(&after), Arc::clone(&meter), Arc::clone(&limit));
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let chunk = read_chunk(&mut file, left, limit.chunk_bytes())?;
                limit.take(chunk.len()).await;
                lock(&after).update(&chunk);
                let bytes = chunk.len() as u64;
                meter.done.fetch_add(bytes, Ordering::Relaxed);
                meter.sent.fetch_add(bytes, Ordering::Relaxed);
                Ok::<_, io::Error>(Some((chunk, (file, left - bytes))))
            }
        });
        Ok(Body::wrap_stream(stream))
    }

    /// The request with this as its body. Stores want to know the length first.
    pub fn ask<'b>(&'b self, mut ask: Ask<'b>, make: &'b crate::http::MakeBody<'b>) -> Ask<'b> {
        ask.headers.insert(CONTENT_LENGTH, HeaderValue::from(self.len));
        ask.pulse = Some(Arc::clone(&self.meter.sent));
        ask.with(make)
    }

    pub fn hash(&self) -> Sha256 {
        lock(&self.after).clone()
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
