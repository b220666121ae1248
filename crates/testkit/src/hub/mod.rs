//! A fake Hugging Face Hub on loopback, for tests of what speaks to the Hub: repositories with commits, branches and
//! tags, tokens, search, LFS uploads of every kind, Jobs, device login and, on request, faults of every kind.
//!
//! It speaks as the official client `huggingface_hub` expects it (`scripts/check_fake_hub.py` drives it with two
//! versions of that): routes, headers and error codes are read off that client. Large files lie on disk and are
//! streamed, so that a file of 10 GB costs no memory.
//!
//! ```
//! use sinew_testkit::hub::{Fault, FakeHub, Harm, RepoKind, Rights};
//!
//! let hub = FakeHub::start();
//! hub.token("hf_writer", "ada", Rights::Write);
//! let commit = hub.add(RepoKind::Model, "ada/act").commit(&[("config.json", b"{}")]);
//! assert_eq!(hub.file(RepoKind::Model, "ada/act", "main", "config.json").as_deref(), Some(b"{}".as_slice()));
//! assert_eq!(commit.len(), 40);
//!
//! hub.fault(Fault::on("*/resolve/*", Harm::CutAnswer { at: Some(1), reset: false }).times(1));
//! // … a client against hub.endpoint() …
//! assert_eq!(hub.bytes_received(), 0);
//! ```
//!
//! What it does as the Hub does, and a test may trip over:
//!
//! - A new repository has one commit with a `.gitattributes`, whose patterns say what becomes LFS.
//! - Nobody with no token learns whether a private repository exists: 401 with `RepoNotFound`, as for one that doesn't
//!   exist; with a token that may not see it: 404.
//! - LFS files are redirected (302) to presigned addresses that expire, on another host ([`HubOptions::cdn_host`]). There a
//!   request with an `Authorization` header is refused (400), as S3 does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test double stops at the first surprise of its own; what clients send never gets here"
)]

mod access;
mod api;
mod body;
mod card;
mod clock;
mod faults;
mod git;
mod jobs;
mod load;
mod objects;
mod range;
mod record;
mod reply;
mod repo;
mod routes;
mod server;
mod state;
mod target;
#[cfg(test)]
mod tests;
mod wire;

pub use access::Rights;
pub use api::{FakeHub, HubOptions, RepoHandle};
pub use faults::{Fault, Harm};
pub use jobs::{JobEnd, JobScript};
pub use record::RequestRecord;
pub use repo::{Gated, RepoKind, TreeEntry};
