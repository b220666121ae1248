//! Errors on the way down say who answered, what was missing and what to do; and none takes for ever.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{DATASET, MODEL, TOKEN, client, dataset, fake, model, named, names, noise, options};
use sinew_hub::{Download, Hub, HubError, HubOptions, Token, TokenState};
use sinew_testkit::hub::{Fault, Gated, Harm, RepoKind as FakeKind};
use tempfile::TempDir;

fn text(error: &HubError) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn a_page_in_place_of_an_answer_is_told_as_one() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = Hub::new(HubOptions { retries: 0, ..options(&fake, &cache) });
    fake.fault(Fault::on("*", Harm::Html));
    let error = text(&hub.info(&model()).unwrap_err());
    assert!(error.contains("expected JSON, found a page of HTML") && error.contains("the login page of a network, or a proxy"), "{error}");
    // So where the page comes with a status of its own, or in place of a file.
    fake.clear_faults();
    let page = || Harm::Headers { set: [("content-type".to_owned(), Some("text/html".to_owned()))].into() };
    for code in [401, 403, 511] {
        fake.fault(Fault::on("/api/*", Harm::Status { status: code, code: None, message: None, retry_after_s: None }));
        fake.fault(Fault::on("/api/*", Harm::Headers { set: [("x-error-message".to_owned(), None)].into() }));
        fake.fault(Fault::on("/api/*", page()));
        let error = text(&hub.info(&model()).unwrap_err());
        assert!(error.contains(&format!("HTTP {code}")) && error.contains("a page of HTML"), "{error}");
        fake.clear_faults();
    }
    fake.fault(Fault::on("*/resolve/*/config.json", Harm::Html));
    let error = text(&hub.fetch(&named(MODEL), &|_| {}).unwrap_err());
    assert!(error.contains("verifying config.json") && error.contains("of a page of HTML"), "{error}");
    fake.clear_faults();
    fake.add(FakeKind::Dataset, DATASET).commit(&[("data.bin", &noise(200_000, 3))]);
    let opened = hub.dataset(&dataset(), Arc::new(|_| {})).unwrap().open("data.bin").unwrap().unwrap();
    fake.fault(Fault::on("/cdn/*", Harm::Html));
    let error = text(&opened.read_at(0, &mut [0; 10]).unwrap_err());
    assert!(error.contains("a page of HTML"), "{error}");
}

#[test]
fn who_may_not_see_a_repository_is_told_what_to_do() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.add(FakeKind::Model, "other/private").private(true).commit(&[("config.json", b"{}")]);
    fake.add(FakeKind::Model, "other/gated").gated(Gated::Manual).commit(&[("config.json", b"{}"), ("model.safetensors", b"{}")]);
    let with = client(&fake, &cache);
    let without = Hub::new(HubOptions { token: None, ..options(&fake, &cache) });
    let private = sinew_hub::HubRepo::parse(sinew_hub::RepoKind::Model, "other/private").unwrap();
    let error = without.info(&private).unwrap_err();
    assert!(matches!(error, HubError::NoRepo { token: TokenState::Absent, .. }), "{error}");
    assert!(text(&error).contains("no token was sent: run `sinew hub login`, or set HF_TOKEN"), "{error}");
    let error = with.fetch(&named("other/private"), &|_| {}).unwrap_err();
    assert!(matches!(error, HubError::NoRepo { token: TokenState::Sent, .. }), "{error}");
    let page = format!("{}/other/gated", fake.endpoint());
    for (hub, words) in [(&without, "no token was sent"), (&with, "the token that was sent")] {
        let error = text(&hub.fetch(&named("other/gated"), &|_| {}).unwrap_err());
        assert!(error.contains(words) && error.contains(&format!("accept its terms at {page}")), "{error}");
        assert!(hub.info(&sinew_hub::HubRepo::parse(sinew_hub::RepoKind::Model, "other/gated").unwrap()).unwrap().gated);
    }
    // The Hub may tell it by no more than a status, as huggingface_hub knows it.
    let bare = |message: &str| Harm::Status { status: 401, code: None, message: Some(message.into()), retry_after_s: None };
    fake.fault(Fault::on("/api/*", bare("Invalid username or password.")));
    assert!(matches!(without.info(&model()).unwrap_err(), HubError::NoRepo { token: TokenState::Absent, .. }));
    fake.clear_faults();
    fake.fault(Fault::on("/api/*", bare("Invalid credentials in Authorization header")));
    let error = with.info(&model()).unwrap_err();
    assert!(matches!(error, HubError::Refused { status: 401, token: TokenState::Unknown, .. }), "{error}");
}

#[test]
fn a_password_in_the_address_of_the_hub_is_sent_there_and_told_to_nobody() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let secret = |endpoint: &str| endpoint.replace("http://", "http://ada:s3cr3t@");
    let hub = Hub::new(HubOptions { endpoint: secret(&fake.endpoint()), token: None, ..options(&fake, &cache) });
    assert_eq!(hub.options().endpoint, fake.endpoint());
    // This one knows no such login, and says so.
    let error = text(&hub.info(&model()).unwrap_err());
    assert!(fake.requests().iter().all(|request| request.authorized) && error.contains("HTTP 401") && !error.contains("s3cr3t"), "{error}");
    for endpoint in ["http://127.0.0.1:1", "http://", "ftp://127.0.0.1", "http://127.0.0.1:99999"] {
        let endpoint = if endpoint == "http://" { "http://ada:s3cr3t@".to_owned() } else { endpoint.replace("://", "://ada:s3cr3t@") };
        let hub = Hub::new(HubOptions { endpoint: endpoint.clone(), retries: 0, ..options(&fake, &cache) });
        let error = hub.info(&model()).unwrap_err();
        assert!(!format!("{error} {error:?} {hub:?}").contains("s3cr3t"), "{endpoint}: {error}");
    }
}

#[test]
fn an_answer_that_drips_ends() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.add(FakeKind::Dataset, DATASET).commit(&[("data.bin", &noise(200_000, 3))]);
    let quick = HubOptions { timeout: Duration::from_millis(200), retries: 5, ..options(&fake, &cache) };
    let hub = Hub::new(quick);
    let opened = hub.dataset(&dataset(), Arc::new(|_| {})).unwrap().open("data.bin").unwrap().unwrap();
    fake.fault(Fault::on("*", Harm::Trickle { bytes: 1, every_ms: 50 }));
    let begin = Instant::now();
    let error = hub.info(&model()).unwrap_err();
    assert!(matches!(&error, HubError::Broken { why, .. } if why.contains("too slow")), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let error = opened.read_at(0, &mut [0; 1000]).unwrap_err();
    assert!(matches!(&error, HubError::Broken { .. }) && begin.elapsed() < Duration::from_secs(20), "{error} {:?}", begin.elapsed());
}

#[test]
#[cfg(target_os = "linux")]
fn certificates_that_never_end_are_an_error_at_once() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let pipe = cache.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let huge = cache.path().join("huge.pem");
    fs::File::create(&huge).unwrap().set_len(1 << 33).unwrap();
    for path in [Path::new("/dev/zero"), &pipe, &huge, cache.path()] {
        let begin = Instant::now();
        let hub = Hub::new(HubOptions { ca_file: Some(path.to_owned()), ..options(&fake, &cache) });
        let error = text(&hub.info(&model()).unwrap_err());
        assert!(error.contains("reading the certificates") && error.contains(&path.display().to_string()), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn a_file_in_a_file_is_refused() {
    for name in ["config.json/evil.json", "CONFIG.JSON/a/b"] {
        let (fake, cache) = (fake(), TempDir::new().unwrap());
        fake.fault(Fault::on("/api/*/tree/*", Harm::Names { paths: vec![name.to_owned()] }));
        let error = client(&fake, &cache).download(&model(), &Download::default(), &|_| {}).unwrap_err();
        assert!(matches!(&error, HubError::Hostile { what, .. } if what.contains("\"config.json\", and one in it")), "{error}");
        assert_eq!(names(cache.path()), [""; 0], "{name}");
    }
}

#[test]
fn what_a_server_says_back_of_a_secret_is_not_told() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let echo = |status: u16, message: &str| Harm::Status { status, code: None, message: Some(message.into()), retry_after_s: None };
    let basic = "YWRhOnMzY3IzdA==";
    let with_login = options(&fake, &cache).endpoint.replacen("://", "://ada:s3cr3t@", 1);
    let with_login = Hub::new(HubOptions { endpoint: with_login, ..options(&fake, &cache) }.without_login());
    for status in [400, 403, 409] {
        fake.fault(Fault::on("/api/*", echo(status, &format!("Bearer {TOKEN}, Basic {basic}, s3cr3t: not here"))));
        for hub in [&client(&fake, &cache), &with_login] {
            let error = text(&hub.info(&model()).unwrap_err());
            assert!(error.contains("[secret]") && error.contains("not here"), "{error}");
        }
        let error = text(&with_login.info(&model()).unwrap_err());
        assert!(!error.contains("s3cr3t") && !error.contains(basic), "{error}");
        assert!(!text(&client(&fake, &cache).info(&model()).unwrap_err()).contains(TOKEN));
        // A token that is looked up before it is stored is one as well.
        let fresh = Token::new("hf_fresh").unwrap();
        fake.clear_faults();
        fake.fault(Fault::on("/api/*", echo(status, "hf_fresh is unknown")));
        assert!(!text(&client(&fake, &cache).whoami(Some(&fresh)).unwrap_err()).contains("hf_fresh"));
        fake.clear_faults();
    }
    // Who sent a password is not told to set a token.
    for status in [401, 403] {
        fake.fault(Fault::on("/api/*", echo(status, "who are you?")));
        let error = text(&with_login.info(&model()).unwrap_err());
        assert!(error.contains("the name and the password in HF_ENDPOINT") && !error.contains("HF_TOKEN"), "{error}");
        fake.clear_faults();
    }
}

#[test]
fn an_empty_name_of_certificates_is_told() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let hub = Hub::new(HubOptions { ca_file: Some("".into()), ..options(&fake, &cache) });
    assert!(text(&hub.info(&model()).unwrap_err()).contains("SSL_CERT_FILE is set and empty"));
}
