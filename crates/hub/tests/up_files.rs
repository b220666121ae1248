//! What of a folder goes up: no token, nothing that has become something else, and what is left out stays.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sinew_hub::{Event, Hub, HubError, HubOptions, HubRepo, RepoKind, Token, UploadOptions};
use sinew_testkit::hub::{Fault, Harm, HubOptions as FakeOptions, RepoKind as FakeKind, Rights};
use tempfile::TempDir;

const NAME: &str = "someone/things";

fn repo() -> HubRepo {
    HubRepo::parse(RepoKind::Model, NAME).unwrap()
}

fn folder(cache: &TempDir) -> PathBuf {
    let folder = cache.path().join("things");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.json"), "{}").unwrap();
    folder
}

fn upload(hub: &Hub, folder: &Path) -> Result<sinew_hub::Uploaded, HubError> {
    hub.upload(folder, &repo(), &UploadOptions::default(), &|_| {})
}

#[test]
fn no_token_of_the_user_leaves_whichever_is_sent_and_whatever_was_read_before() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    fake.token("hf_the_second", "someone", Rights::Write);
    let with = |token: &str| Hub::new(HubOptions { token: Token::new(token), ..common::options(&fake, &cache) });
    let folder = folder(&cache);
    fs::write(folder.join("notes.txt"), "one is hf_the_second, and hf_is_stored, and hf_has_a_name").unwrap();
    // Old enough that its hash is kept.
    std::thread::sleep(Duration::from_millis(2100));
    upload(&with(common::TOKEN), &folder).unwrap();
    assert!(fs::read_to_string(folder.join(".cache/sinew/upload.jsonl")).unwrap().contains("notes.txt"));
    let is_refused = |hub: &Hub| {
        let refused = upload(hub, &folder).unwrap_err().to_string();
        assert!(refused.contains("notes.txt") && refused.contains("token") && !refused.contains("hf_"), "{refused}");
    };
    is_refused(&with("hf_the_second"));
    for (name, text) in [("token", "hf_is_stored\n"), ("stored_tokens", "[mine]\nhf_token = hf_has_a_name\n")] {
        fs::write(cache.path().join(name), text).unwrap();
        is_refused(&with(common::TOKEN));
        fs::remove_file(cache.path().join(name)).unwrap();
    }
    upload(&with(common::TOKEN), &folder).unwrap();
}

#[test]
fn no_token_leaves_in_a_large_file_in_wide_characters_or_in_a_name() {
    let wide = |is_big_end: bool| {
        let of = |unit: u16| if is_big_end { unit.to_be_bytes() } else { unit.to_le_bytes() };
        format!("a token: {}", common::TOKEN).encode_utf16().flat_map(of).collect::<Vec<u8>>()
    };
    let mut large = vec![b'x'; 24 << 20];
    // Over the border of what is read at once.
    large[(11 << 20) - 4..][..common::TOKEN.len()].copy_from_slice(common::TOKEN.as_bytes());
    let in_folder = format!("{}/b.bin", common::TOKEN);
    for (path, content) in [
        ("a.bin", large),
        ("b.txt", wide(false)),
        ("c.txt", wide(true)),
        (&format!("of {}.txt", common::TOKEN), b"x".to_vec()),
        (&in_folder, b"x".to_vec()),
    ] {
        let (fake, cache) = (common::fake(), TempDir::new().unwrap());
        let (hub, folder) = (common::client(&fake, &cache), folder(&cache));
        fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
        fs::write(folder.join(path), content).unwrap();
        let refused = upload(&hub, &folder).unwrap_err().to_string();
        assert!(refused.contains("holds a token") && !refused.contains(common::TOKEN), "{refused}");
        assert!(!fake.has(FakeKind::Model, NAME));
    }
}

#[cfg(unix)]
#[test]
fn keys_of_others_and_names_that_clash_do_not_leave() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let (hub, folder) = (common::client(&fake, &cache), folder(&cache));
    let body = "MIIEpAIBAAKCAQEA0Z3VS5JJcds3xfn/ygWyF0".repeat(3);
    let key = format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n");
    let token = format!("token: hf_{}\n", "aB3".repeat(12));
    for (name, text, told) in [
        ("server.key", key.as_str(), "holds a private key"),
        ("notes.md", &format!("My key:\n{key}"), "holds a private key"),
        ("theirs.txt", &token, "a token of the Hub"),
        ("a:b", "x", "colon"),
        ("Config.json", "x", "some systems take it for"),
    ] {
        fs::write(folder.join(name), text).unwrap();
        let error = upload(&hub, &folder).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains(name) && error.contains("--exclude"), "{error}");
        assert!(!error.contains("aB3") && !error.contains("MIIE"), "{error}");
        fs::remove_file(folder.join(name)).unwrap();
    }
    // One there and one here are two names of one file, too.
    upload(&hub, &folder).unwrap();
    fs::rename(folder.join("config.json"), folder.join("Config.json")).unwrap();
    let error = upload(&hub, &folder).unwrap_err().to_string();
    assert!(error.contains("some systems take it for \"Config.json\"") && error.contains("--delete"), "{error}");
    fs::rename(folder.join("Config.json"), folder.join("config.json")).unwrap();
    // An accent as a letter's part, and as a sign of its own.
    let twins = ["\u{e9}.txt", "e\u{301}.txt"].map(|name| folder.join(name));
    twins.iter().for_each(|twin| fs::write(twin, "x").unwrap());
    let error = upload(&hub, &folder).unwrap_err().to_string();
    assert!(error.contains("some systems take it for \"e\\u{301}.txt\""), "{error}");
    fs::remove_file(&twins[1]).unwrap();
    fs::create_dir(folder.join(".aws")).unwrap();
    fs::write(folder.join(".aws/credentials"), "x").unwrap();
    fs::write(folder.join("id_ecdsa"), "x").unwrap();
    assert_eq!(upload(&hub, &folder).unwrap().left_out, [".aws", "id_ecdsa"]);
}

#[test]
fn logins_that_can_not_be_read_are_told_and_not_waited_for() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let (hub, folder) = (common::client(&fake, &cache), folder(&cache));
    let stored = cache.path().join("stored_tokens");
    let ways: [&dyn Fn(&Path); 3] = [
        &|path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()),
        &|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        &|path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap(),
    ];
    for make in ways {
        make(&stored);
        let refused = upload(&hub, &folder).unwrap_err().to_string();
        assert!(refused.contains("stored_tokens"), "{refused}");
        fs::remove_file(&stored).unwrap();
        // What is no login is none, and is told where there is no other.
        make(&cache.path().join("token"));
        upload(&hub, &folder).unwrap();
        let without = Hub::new(HubOptions { token: None, ..common::options(&fake, &cache) });
        let refused = upload(&without, &folder).unwrap_err().to_string();
        assert!(refused.contains("can't be read") && refused.contains("sinew hub login"), "{refused}");
        fs::remove_file(cache.path().join("token")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_that_takes_the_place_of_a_file_is_not_waited_for() {
    let pipe = |path: &Path| {
        drop(fs::remove_file(path));
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    // While it is read, and while it is sent.
    for is_sent in [false, true] {
        let (fake, cache) =
            (common::start(FakeOptions { multipart_from: 100_000, part: 50_000, ..FakeOptions::default() }), TempDir::new().unwrap());
        let hub = Hub::new(HubOptions { upload_limit: Some(400_000), ..common::options(&fake, &cache) });
        let folder = folder(&cache);
        let large = folder.join("z.bin");
        fs::write(&large, common::noise(300_000, 7)).unwrap();
        let listener = move |event: Event<'_>| {
            let is_now = match event {
                Event::Reading(transfer) => !is_sent && transfer.done_bytes == transfer.total_bytes,
                Event::Transfer(transfer) => is_sent && transfer.file_done_bytes > 100_000,
                _ => false,
            };
            if is_now && large.is_file() {
                pipe(&large);
            }
        };
        let begun = Instant::now();
        let refused = hub.upload(&folder, &repo(), &UploadOptions::default(), &listener).unwrap_err();
        assert!(matches!(&refused, HubError::Changed { what, .. } if what.contains("no regular file")), "{refused}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let folder = folder(&cache);
    fs::create_dir_all(folder.join("meta")).unwrap();
    pipe(&folder.join("meta/info.json"));
    let dataset = repo().of_kind(RepoKind::Dataset);
    let refused = common::client(&fake, &cache).upload(&folder, &dataset, &UploadOptions::default(), &|_| {}).unwrap_err().to_string();
    assert!(refused.contains("no regular file"), "{refused}");
}

#[test]
fn a_file_that_is_removed_while_it_goes_up_is_named_and_nothing_is_committed() {
    // Before it is read, between reading and sending, and in the middle of it.
    for when in ["read", "hashed", "sent"] {
        let fake = common::start(FakeOptions { multipart_from: 100_000, part: 50_000, ..FakeOptions::default() });
        let cache = TempDir::new().unwrap();
        let hub = Hub::new(HubOptions { upload_limit: Some(400_000), ..common::options(&fake, &cache) });
        let folder = folder(&cache);
        let large = folder.join("z.bin");
        fs::write(&large, common::noise(300_000, 7)).unwrap();
        let of_listener = large.clone();
        let listener = move |event: Event<'_>| {
            let is_now = match event {
                Event::Reading(transfer) if when == "read" => transfer.done_bytes < transfer.total_bytes,
                Event::Reading(transfer) => when == "hashed" && transfer.done_bytes == transfer.total_bytes,
                Event::Transfer(transfer) => when == "sent" && transfer.file_done_bytes > 100_000,
                _ => false,
            };
            if is_now {
                drop(fs::remove_file(&of_listener));
            }
        };
        let refused = hub.upload(&folder, &repo(), &UploadOptions::default(), &listener);
        if when == "read" && large.is_file() {
            panic!("nothing was said while it was read");
        }
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, HubError::Changed { path, .. } if *path == large), "{when}: {refused:?}");
        assert!(refused.to_string().contains("z.bin"), "{when}: {refused}");
        assert!(!fake.has(FakeKind::Model, NAME) || fake.file(FakeKind::Model, NAME, "main", "z.bin").is_none(), "{when}");
        // Without it the rest goes up.
        upload(&hub, &folder).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn links_that_lead_nowhere_or_to_what_is_never_sent_are_told() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let (hub, folder) = (common::client(&fake, &cache), folder(&cache));
    fs::create_dir_all(folder.join(".git")).unwrap();
    fs::write(folder.join(".git/config"), "secret").unwrap();
    for (target, expected) in [("gone.txt", "can't be found"), (".git/config", "never sent")] {
        std::os::unix::fs::symlink(target, folder.join("link")).unwrap();
        let refused = upload(&hub, &folder).unwrap_err().to_string();
        assert!(refused.contains("link is a link to") && refused.contains(expected) && refused.contains("--exclude"), "{refused}");
        fs::remove_file(folder.join("link")).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_read_stops_only_who_wants_it() {
    use std::os::unix::fs::PermissionsExt;
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let (hub, folder) = (common::client(&fake, &cache), folder(&cache));
    let closed = folder.join("closed");
    fs::create_dir(&closed).unwrap();
    let set = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    set(0o000);
    // Nothing is closed to root.
    if fs::read_dir(&closed).is_err() {
        let with = |exclude: &str| UploadOptions { exclude: vec![exclude.to_owned()], ..UploadOptions::default() };
        for exclude in ["closed", "closed/", "closed/*", "closed/**"] {
            hub.upload(&folder, &repo(), &with(exclude), &|_| {}).unwrap();
        }
        for exclude in ["closed/*.txt", "other/**"] {
            let refused = hub.upload(&folder, &repo(), &with(exclude), &|_| {}).unwrap_err().to_string();
            assert!(refused.contains("listing") && refused.contains("closed"), "{refused}");
        }
    }
    set(0o700);
}

#[test]
fn rules_that_have_changed_are_asked_by_again() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let (hub, folder) = (common::client(&fake, &cache), folder(&cache));
    fs::write(folder.join("a.txt"), "a").unwrap();
    fs::write(folder.join("b.log"), "b").unwrap();
    fs::write(folder.join(".gitignore"), "*.txt\n").unwrap();
    // Ended before the commit, with all that the Hub has told written down.
    fake.fault(Fault::on("*/commit/*", Harm::Status { status: 400, code: None, message: None, retry_after_s: None }).times(1));
    upload(&hub, &folder).unwrap_err();
    fs::write(folder.join(".gitignore"), "*.log\n").unwrap();
    assert_eq!(upload(&hub, &folder).unwrap().left_out, ["b.log"]);
    assert!(fake.file(FakeKind::Model, NAME, "main", "a.txt").is_some() && fake.file(FakeKind::Model, NAME, "main", "b.log").is_none());
}

#[test]
fn a_gitignore_that_leaves_out_everything_is_told() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let (hub, folder) = (common::client(&fake, &cache), folder(&cache));
    fs::write(folder.join(".gitignore"), "*\n").unwrap();
    let refused = upload(&hub, &folder).unwrap_err().to_string();
    assert!(refused.contains("a .gitignore leaves out all of") && refused.contains("(2 files)"), "{refused}");
    fs::write(folder.join(".gitignore"), "*.txt\n").unwrap();
    upload(&hub, &folder).unwrap();
}

#[test]
fn a_hub_that_refuses_every_commit_as_stale_is_named() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let hub = Hub::new(HubOptions { retries: 1, ..common::options(&fake, &cache) });
    let folder = folder(&cache);
    fake.fault(Fault::on("*/commit/*", Harm::Status { status: 412, code: None, message: None, retry_after_s: None }));
    let refused = upload(&hub, &folder).unwrap_err().to_string();
    assert!(
        refused.contains("it says (HTTP 412) that somebody has changed someone/things@main meanwhile, 2 times, and shows it at"),
        "{refused}"
    );
    assert!(!refused.contains("expected it at commit"), "{refused}");
}

#[test]
fn a_way_to_send_a_file_that_is_none_is_told_plainly() {
    let (fake, cache) = (common::fake(), TempDir::new().unwrap());
    let hub = Hub::new(HubOptions { retries: 0, ..common::options(&fake, &cache) });
    let body = r#"{"files":[{"path":"config.json","uploadMode":"weird","shouldIgnore":false}]}"#.to_owned();
    fake.fault(Fault::on("*/preupload/*", Harm::Body { content_type: "application/json".to_owned(), body }));
    let refused = upload(&hub, &folder(&cache)).unwrap_err().to_string();
    assert!(refused.contains("how to send config.json: expected lfs or regular, found \"weird\""), "{refused}");
}
