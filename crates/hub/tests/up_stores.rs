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
    // A page in place of the commit, or of what a store says, is one at once.
    let begun = Instant::now();
    let (text, _) = told("*/commit/*", Harm::Html);
    assert!(text.contains("a page of HTML") && begun.elapsed() < Duration::from_secs(5), "{text}");
    let (text, _) = told("/upload/*", Harm::Html);
    assert!(text.contains("sending large.bin") && text.contains("a page of HTML"), "{text}");
    let (text, _) = told("*/commit/*", refusal(403, "Private repository storage limit reached"));
    assert!(text.contains("storage limit reached") && !text.contains("right to write"), "{text}");
    let (text, _) = told("*/commit/*", refusal(403, "You don't have the rights to create a model under the namespace someone"));
    assert!(text.contains("right to write"), "{text}");
}

/// A store that refuses a file does not read it to its end: it answers, and closes.
#[test]
fn an_answer_before_the_end_of_the_file_is_heard() {
    const LARGE: usize = 24_000_000;
    let answers = [
        (refusal(507, "the bucket is full"), "HTTP 507 Insufficient Storage: \"the bucket is full\"", false),
        (refusal(413, "5 MB at most"), "HTTP 413 Payload Too Large: \"5 MB at most\"", false),
        (Harm::Html, "a page of HTML", false),
        (Harm::Redirect { location: "http://127.0.0.3:9{path}".into() }, "a redirect of PUT to another host", false),
        (refusal(503, "later"), "HTTP 503", true),
    ];
    for (harm, words, is_repeated) in answers {
        let place = place(FakeOptions::default(), |options| options.retries = 1);
        fs::write(place.folder.join("large.bin"), common::noise(LARGE, 5)).unwrap();
        place.fake.fault(Fault::on("*", harm).method("PUT"));
        let text = place.upload().unwrap_err().to_string();
        assert!(text.contains("sending large.bin") && text.contains(words), "{text}");
        let puts = place.fake.requests().iter().filter(|request| request.method == "PUT").count();
        // One whose answer is lost all the same is sent once more.
        assert!(puts <= 2 && (puts == 2 || !is_repeated), "{puts} times: {text}");
        place.fake.clear_faults();
        place.upload().unwrap();
    }
    // Where there is no answer, what is known is said.
    let place = place(FakeOptions::default(), |options| options.retries = 0);
    fs::write(place.folder.join("large.bin"), common::noise(LARGE, 5)).unwrap();
    place.fake.fault(Fault::on("*", Harm::CutRequest { at: Some(3_000_000) }).method("PUT"));
    let text = place.upload().unwrap_err().to_string();
    assert!(text.contains("it closed the connection after ") && text.contains("may have refused the file"), "{text}");
}

/// What stands still is told every second, and given up in a time that is told as well.
#[test]
fn a_store_that_stands_still_is_told_and_given_up() {
    let place = place(FakeOptions::default(), |options| options.timeout = Duration::from_millis(700));
    place.fake.fault(Fault::on("*", Harm::Stall { at: None }).method("PUT"));
    let waits = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let begun = Instant::now();
    let kept = std::sync::Arc::clone(&waits);
    let listener = move |event: Event<'_>| {
        if let Event::Waiting { silent, at_most } = event {
            kept.lock().unwrap().push((silent.as_secs(), at_most));
        }
    };
    let text = place.upload_to(&listener).unwrap_err().to_string();
    assert!(text.contains("nothing was taken or answered for 8 s"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    let waits = waits.lock().unwrap().clone();
    assert!(waits.first().is_some_and(|(silent, at_most)| *silent == 5 && *at_most == Duration::from_millis(8400)), "{waits:?}");
    let begun = Instant::now();
    place.fake.clear_faults();
    place.fake.fault(Fault::on("*/commit/*", Harm::Stall { at: None }));
    place.upload().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(16), "{:?}", begun.elapsed());
}
