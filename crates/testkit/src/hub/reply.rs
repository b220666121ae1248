//! Answers, before faults and the connection have their way with them.

use std::path::PathBuf;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use hyper::http::header::{CONTENT_TYPE, HeaderName};
use hyper::http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::access::Caller;

/// What an answer's body is.
pub enum Content {
    Bytes(Bytes),
    File {
        path: PathBuf,
        from: u64,
        len: u64,
    },
    /// Of a length that nobody knows.
    Stream(BoxStream<'static, Bytes>),
}

impl Content {
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File { len, .. } => Some(*len),
            Self::Stream(_) => None,
        }
    }
}

/// An answer.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub content: Content,
}

impl Reply {
    pub fn new(status: u16, content: Content) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::new(), content }
    }

    pub fn empty(status: u16) -> Self {
        Self::new(status, Content::Bytes(Bytes::new()))
    }

    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::new(status, Content::Bytes(Bytes::from(text.into()))).with(CONTENT_TYPE, "text/plain; charset=utf-8")
    }

    pub fn json(value: &Value) -> Self {
        Self::new(200, Content::Bytes(Bytes::from(value.to_string()))).with(CONTENT_TYPE, "application/json; charset=utf-8")
    }

    /// An error as the Hub tells it: in headers and as JSON.
    pub fn error(status: u16, code: Option<&str>, message: &str) -> Self {
        let mut reply = Self::json(&json!({ "error": message }));
        reply.status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(code) = code {
            reply = reply.with(HeaderName::from_static("x-error-code"), code);
        }
        reply.with(HeaderName::from_static("x-error-message"), message)
    }

    pub fn bad_request(message: &str) -> Self {
        Self::error(400, None, message)
    }

    /// A repository that isn't there, or that this caller must not know of: the same answer.
    pub fn no_repo(caller: &Caller) -> Self {
        match caller {
            Caller::Nobody => Self::error(401, Some("RepoNotFound"), "Invalid username or password."),
            Caller::User { .. } => Self::error(404, Some("RepoNotFound"), "Repository not found"),
        }
    }

    pub fn no_revision(revision: &str) -> Self {
        Self::error(404, Some("RevisionNotFound"), &format!("Invalid rev id: {revision}"))
    }

    pub fn no_entry(path: &str) -> Self {
        Self::error(404, Some("EntryNotFound"), &format!("Entry not found: {path}"))
    }

    /// With a header; what can't be one is left out.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.insert(name, value);
        }
        self
    }

    /// With a header of the Hub's own.
    pub fn with_x(self, name: &'static str, value: &str) -> Self {
        self.with(HeaderName::from_static(name), value)
    }
}
