//! Stores that fail in ways of their own: Xet that is gone or silent, addresses that expire, and what a refusal says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sinew_hub::{Event, Hub, HubError, HubOptions, HubRepo, Listener, RepoKind, UploadOptions, Uploaded};
use sinew_testkit::hub::{FakeHub, Fault, Harm, HubOptions as FakeOptions, RepoKind as FakeKind};
use tempfile::TempDir;

const NAME: &str = "someone/things";
const BYTES: usize = 600_000;

struct Place {
    fake: FakeHub,
    hub: Hub,
    folder: PathBuf,
    _cache: TempDir,
}

fn place(options: FakeOptions, set: impl FnOnce(&mut HubOptions)) -> Place {
    let (fake, cache) = (common::start(FakeOptions { part: 100_000, ..options }), TempDir::new().unwrap());
    let mut options = common::options(&fake, &cache);
    set(&mut options);
    let folder = cache.path().join("things");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("large.bin"), common::noise(BYTES, 5)).unwrap();
    Place { fake, hub: Hub::new(options), folder, _cache: cache }
}

impl Place {
    fn upload(&self) -> Result<Uploaded, HubError> {
        self.upload_to(&|_| {})
    }

    fn upload_to(&self, listener: &Listener) -> Result<Uploaded, HubError> {
        self.hub.upload(&self.folder, &HubRepo::parse(RepoKind::Model, NAME).unwrap(), &UploadOptions::default(), listener)
    }

    fn check(&self) {
        assert_eq!(self.fake.file(FakeKind::Model, NAME, "main", "large.bin"), Some(common::noise(BYTES, 5)));
    }
}

#[test]
fn a_xet_store_that_is_gone_or_silent_is_left_for_another() {
    // Connections come about, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [gone, silent.local_addr().unwrap()] {
        let xet = Some(format!("http://{address}"));
        let place = place(FakeOptions { xet, ..FakeOptions::default() }, |options| options.timeout = Duration::from_millis(300));
        let begun = Instant::now();
        let listener = |event: Event<'_>| {
            if let Event::Transfer(transfer) = event {
                assert!(transfer.done_bytes <= transfer.total_bytes, "{transfer:?}");
            }
        };
        place.upload_to(&listener).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "{address}: {:?}", begun.elapsed());
        place.check();
    }
    // Where there is no other store, the first one's trouble is told.
    let place = place(FakeOptions { xet: Some(format!("http://{gone}")), ..FakeOptions::default() }, |_| {});
    place.fake.fault(Fault::on("*/objects/batch", refusal(400, "no such transfer")).skip(1));
    let refused = place.upload().unwrap_err().to_string();
    assert!(refused.contains("Xet store") && refused.contains(&gone.to_string()), "{refused}");
}

#[test]
fn addresses_that_expire_cost_no_part_that_is_there() {
    let options =
        FakeOptions { multipart_from: 100_000, urls_valid: Duration::from_secs(2), resumes_uploads: true, ..FakeOptions::default() };
    let place = place(options, |options| options.upload_limit = Some(60_000));
    place.upload().unwrap();
    place.check();
    let expired = place.fake.requests().iter().filter(|request| request.path.starts_with("/upload/part/") && request.status == 403).count();
    assert!(expired > 0);
    // A part whose address has expired may have been sent until the store said so.
    let sent_anew = (expired * 100_000) as u64;
    let received = place.fake.bytes_received();
    assert!(received <= BYTES as u64 * 105 / 100 + sent_anew, "{received} with {expired} expired");
}

fn refusal(status: u16, message: &str) -> Harm {
    Harm::Status { status, code: None, message: Some(message.to_owned()), retry_after_s: None }
}

#[test]
fn what_a_refusal_says_is_told() {
    let told = |path: &str, harm: Harm| {
        let place = place(FakeOptions::default(), |_| {});
        place.fake.fault(Fault::on(path, harm));
        let text = place.upload().unwrap_err().to_string();
        let asked = place.fake.requests().iter().filter(|request| request.path.ends_with("/objects/batch")).count();
        (text, asked)
    };
    let (text, _) = told("/upload/*", refusal(403, "this bucket is closed"));
    assert!(text.contains("403") && text.contains("this bucket is closed"), "{text}");
    let (text, _) = told("/upload/*", Harm::ExpiredUrl);
    assert!(text.contains("AccessDenied: Request has expired"), "{text}");
    let (text, asked) = told("/upload/*", refusal(413, "5 GB at most"));
    // Another address is of no use.
    assert!(text.contains("413") && text.contains("5 GB at most") && asked == 1, "{text}, asked {asked} times");
    let (text, _) = told("*/commit/*", refusal(403, "Private repository storage limit reached"));
    assert!(text.contains("storage limit reached") && !text.contains("right to write"), "{text}");
    let (text, _) = told("*/commit/*", refusal(403, "You don't have the rights to create a model under the namespace someone"));
    assert!(text.contains("right to write"), "{text}");
}
