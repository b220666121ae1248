//! Faults: what goes wrong, on which requests, how often.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What goes wrong with a request. Where a place `at` is left out, each request gets its own, drawn from the fault's
/// seed over the length of the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Harm {
    /// The answer's body ends after `at` bytes, by a reset of the connection or by its plain end.
    CutAnswer {
        /// Bytes of the body that are still sent.
        #[serde(default)]
        at: Option<u64>,
        /// By a reset, which may also cost bytes that were sent before.
        #[serde(default)]
        reset: bool,
    },
    /// The connection is reset once `at` bytes of the request's body came.
    CutRequest {
        /// Bytes of the body that are still read.
        #[serde(default)]
        at: Option<u64>,
    },
    /// The connection is reset before anything is done.
    Refuse,
    /// The request is done, then the connection is reset: nobody learns of it.
    LostAnswer,
    /// This status instead of an answer: 500, 503, 416, 412, 404, …
    Status {
        /// The status.
        status: u16,
        /// The `X-Error-Code` header.
        #[serde(default)]
        code: Option<String>,
        /// The `X-Error-Message` header and the body's `error`.
        #[serde(default)]
        message: Option<String>,
        /// The `Retry-After` header.
        #[serde(default)]
        retry_after_s: Option<u64>,
    },
    /// 429 with `Retry-After` and the `RateLimit` headers.
    RateLimit {
        /// Seconds that are to be waited.
        retry_after_s: u64,
    },
    /// 403 with the store's XML, as an expired presigned URL gets it.
    ExpiredUrl,
    /// The file has another ETag than the last time, so that an `If-Range` does not fit and the whole file comes.
    ChangedEtag,
    /// The body is `by` bytes longer (zeros) or shorter than it should be, and its `Content-Length` says so.
    WrongLength {
        /// How much longer, or shorter.
        by: i64,
    },
    /// One byte of the body is another.
    WrongBytes {
        /// Which.
        #[serde(default)]
        at: Option<u64>,
    },
    /// A few bytes now and then.
    Trickle {
        /// How many at a time.
        bytes: usize,
        /// Milliseconds between them.
        every_ms: u64,
    },
    /// Nothing more comes after `at` bytes, and the connection stays open; without `at` not even the head comes.
    Stall {
        /// Bytes of the body that are still sent.
        #[serde(default)]
        at: Option<u64>,
    },
    /// The answer is late.
    Delay {
        /// By so many milliseconds.
        ms: u64,
    },
    /// Status 200 and a page of HTML, as a captive portal sends it.
    Html,
    /// 302 to elsewhere.
    Redirect {
        /// Where to; `{path}` in it stands for the request's own path and query.
        location: String,
    },
    /// A body that never ends, without a length.
    Endless,
    /// A body that says it is gzip and grows to so many bytes (zeros).
    GzipBomb {
        /// Its size once decompressed.
        bytes: u64,
    },
    /// Headers of the answer are others, or missing.
    Headers {
        /// Name → value; `null` takes the header away.
        set: BTreeMap<String, Option<String>>,
    },
    /// This body instead, with status 200.
    Body {
        /// The `Content-Type`.
        content_type: String,
        /// The body.
        body: String,
    },
    /// Lists of files (tree, info) hold these paths too, whatever they look like.
    Names {
        /// The paths.
        paths: Vec<String>,
    },
    /// Before the answer, the branch is moved to a commit that has nothing to do with what was there: every file in git
    /// has a line more.
    ForcePush {
        /// The branch.
        branch: String,
    },
}

/// A [`Harm`] and the requests that it comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only this method.
    #[serde(default)]
    pub method: Option<String>,
    /// A pattern of the path, as sent and without its query, in which `*` stands for anything.
    pub path: String,
    /// So many requests that fit go well first.
    #[serde(default)]
    pub skip: u64,
    /// Then it comes so often; always, if left out.
    #[serde(default)]
    pub times: Option<u64>,
    /// In so many of a hundred of those, drawn from the seed.
    #[serde(default = "always")]
    pub percent: u8,
    /// Where draws begin.
    #[serde(default)]
    pub seed: u64,
    /// What happens.
    pub harm: Harm,
}

fn always() -> u8 {
    100
}

impl Fault {
    /// `harm` on every request whose path fits.
    #[must_use]
    pub fn on(path: &str, harm: Harm) -> Self {
        Self { method: None, path: path.to_owned(), skip: 0, times: None, percent: 100, seed: 0, harm }
    }

    /// Only for this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: Some(method.to_owned()), ..self }
    }

    /// Only after so many requests that fit.
    #[must_use]
    pub fn skip(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Only so often.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// In so many of a hundred, drawn from `seed`, which also says where bodies are cut.
    #[must_use]
    pub fn drawn(self, percent: u8, seed: u64) -> Self {
        Self { percent, seed, ..self }
    }
}

/// A fault with what is left of it.
#[derive(Debug)]
struct Armed {
    fault: Fault,
    seen: u64,
    done: u64,
    draws: fastrand::Rng,
}

/// What is drawn for one request.
#[derive(Clone, Debug)]
pub(super) struct Struck {
    pub harm: Harm,
    /// A number of this request's own, for places.
    pub draw: u64,
}

impl Struck {
    /// The place `at`, or one drawn within `len`.
    pub fn place(&self, at: Option<u64>, len: u64) -> u64 {
        at.unwrap_or(self.draw % len.max(1))
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Armed>);

impl Faults {
    pub fn add(&mut self, fault: Fault) {
        let draws = fastrand::Rng::with_seed(fault.seed);
        self.0.push(Armed { fault, seen: 0, done: 0, draws });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What comes to this request.
    pub fn strike(&mut self, method: &str, path: &str) -> Vec<Struck> {
        let mut struck = Vec::new();
        for armed in &mut self.0 {
            let fault = &armed.fault;
            if fault.method.as_deref().is_some_and(|only| only != method) || !fits(&fault.path, path) {
                continue;
            }
            armed.seen += 1;
            if armed.seen <= fault.skip || fault.times.is_some_and(|times| armed.done >= times) {
                continue;
            }
            let draw = armed.draws.u64(..);
            if armed.draws.u8(0..100) < fault.percent {
                armed.done += 1;
                struck.push(Struck { harm: fault.harm.clone(), draw });
            }
        }
        struck
    }
}

/// Whether `text` fits `pattern`, in which `*` stands for anything, `/` included.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}
