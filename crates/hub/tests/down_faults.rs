//! Downloads through every fault of a network, and through kills: the result is whole and right, or an error says why.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test stops at the first surprise, and says its figures")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{MODEL, client, fake, model, named, names, noise, options, start, transfers, weights};
use sinew_hub::{Download, Hub, HubError, HubOptions, HubRepo, RepoKind};
use sinew_testkit::hub::{FakeHub, Fault, Harm, HubOptions as FakeOptions, RepoKind as FakeKind};
use tempfile::TempDir;

const WEIGHTS: &str = "*/resolve/*/model.safetensors";
/// Large files come from another host; this is where.
const STORE: &str = "/cdn/*";

fn status(status: u16) -> Harm {
    Harm::Status { status, code: None, message: None, retry_after_s: None }
}

fn is_whole(folder: &Path) {
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(names(folder).len(), 5, "{:?}", names(folder));
}

/// No file has its name and not its content; nothing that was begun is left of a download that ended.
fn nothing_is_torn(hub: &Hub) {
    assert_eq!(hub.verify_cache(None, |_| {}).unwrap().flaws, []);
}

#[test]
fn what_breaks_for_a_while_is_gone_on_with() {
    let mendable: Vec<(&str, &str, Harm, u32)> = vec![
        ("cuts", "*/resolve/*", Harm::CutAnswer { at: None, reset: false }, 6),
        ("resets", "*/resolve/*", Harm::CutAnswer { at: None, reset: true }, 6),
        ("cuts in the store", STORE, Harm::CutAnswer { at: None, reset: false }, 4),
        ("resets in the store", STORE, Harm::CutAnswer { at: None, reset: true }, 4),
        ("refusals", "*", Harm::Refuse, 3),
        ("503", "*", status(503), 3),
        ("429", "*", Harm::RateLimit { retry_after_s: 0 }, 3),
        ("an expired address", STORE, Harm::ExpiredUrl, 2),
        ("another ETag", STORE, Harm::ChangedEtag, 2),
        ("a wrong length", STORE, Harm::WrongLength { by: -5 }, 1),
        ("a longer body", STORE, Harm::WrongLength { by: 5 }, 1),
        ("wrong bytes", STORE, Harm::WrongBytes { at: None }, 1),
        ("a stall", STORE, Harm::Stall { at: Some(70_000) }, 1),
        ("a late head", "*", Harm::Stall { at: None }, 1),
        ("416", STORE, status(416), 1),
        ("an expired address at the Hub itself", "/api/resolve-cache/*", Harm::ExpiredUrl, 1),
    ];
    for (what, path, harm, times) in mendable {
        let (fake, cache) = (fake(), TempDir::new().unwrap());
        fake.fault(Fault::on(path, harm).times(u64::from(times)));
        let hub = Hub::new(HubOptions { timeout: Duration::from_millis(700), ..options(&fake, &cache) });
        let folder = hub.fetch(&named(MODEL), &|_| {}).unwrap_or_else(|error| panic!("{what}: {error}")).folder;
        is_whole(&folder);
        nothing_is_torn(&hub);
    }
}

#[test]
fn a_break_costs_no_byte_twice() {
    let (fake, cache) = (start(FakeOptions { lfs_from: 100_000, ..FakeOptions::default() }), TempDir::new().unwrap());
    let big = noise(4_000_000, 11);
    fake.add(FakeKind::Dataset, "a/b").commit(&[("data.bin", &big)]);
    for seed in 0..3 {
        fake.fault(Fault::on(STORE, Harm::CutAnswer { at: None, reset: false }).times(4).drawn(100, seed));
    }
    let hub = client(&fake, &cache);
    let repo = HubRepo::parse(RepoKind::Dataset, "a/b").unwrap();
    fake.forget_requests();
    let folder = hub.download(&repo, &Download { include: vec!["data.bin".into()], ..Download::default() }, &|_| {}).unwrap().folder;
    assert_eq!(fs::read(folder.join("data.bin")).unwrap(), big);
    let requests = fake.requests();
    assert!(requests.iter().any(|request| request.range.is_some() && request.if_range.is_some()), "{requests:?}");
    let sent: u64 = requests.iter().filter(|request| request.path.starts_with("/cdn/")).map(|request| request.sent).sum();
    assert!(sent as f64 <= big.len() as f64 * 1.05, "{sent} bytes for {}", big.len());
}

#[test]
fn what_lasts_is_an_error_and_leaves_nothing_that_looks_whole() {
    let lasting: Vec<(&str, &str, Harm)> = vec![
        ("wrong bytes", STORE, Harm::WrongBytes { at: Some(5) }),
        ("a wrong length", STORE, Harm::WrongLength { by: 7 }),
        ("an endless body", STORE, Harm::Endless),
        ("a page for a file", "*/resolve/*/config.json", Harm::Html),
        ("a compressed body", "*/resolve/*/config.json", Harm::GzipBomb { bytes: 1 << 28 }),
        ("a compressed answer", "/api/*", Harm::GzipBomb { bytes: 1 << 28 }),
        ("a portal", "*", Harm::Html),
        ("an endless listing", "/api/*/tree/*", Harm::Endless),
        ("500", "*", status(500)),
        ("a redirect to nowhere", "/api/*", Harm::Redirect { location: "ftp://127.0.0.1/{path}".into() }),
        ("a redirect in circles", "/api/*", Harm::Redirect { location: "/api/round{path}".into() }),
        ("404 of one file", WEIGHTS, status(404)),
    ];
    for (what, path, harm) in lasting {
        let (fake, cache) = (fake(), TempDir::new().unwrap());
        fake.fault(Fault::on(path, harm));
        let begin = Instant::now();
        let hub = Hub::new(HubOptions { timeout: Duration::from_millis(400), retries: 1, ..options(&fake, &cache) });
        let error = hub.fetch(&named(MODEL), &|_| {}).err().unwrap_or_else(|| panic!("{what}: no error"));
        assert!(!error.to_string().contains('\n') && begin.elapsed() < Duration::from_secs(20), "{what}: {error}");
        nothing_is_torn(&hub);
        // When it is well again, it comes.
        fake.clear_faults();
        is_whole(&client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap_or_else(|error| panic!("{what}, after: {error}")).folder);
    }
}

#[test]
fn names_that_climb_out_are_refused_and_written_nowhere() {
    let hostile = [
        "../x.json",
        "/etc/x.json",
        "a/../../x.json",
        "a\\b.json",
        "policy_\u{7}.json",
        ".git/config",
        "a//b.json",
        "CONFIG.json",
        "./config.json",
    ];
    for name in hostile {
        let (fake, cache) = (fake(), TempDir::new().unwrap());
        fake.fault(Fault::on("/api/*/tree/*", Harm::Names { paths: vec![name.to_owned()] }));
        let error = client(&fake, &cache).download(&model(), &Download::default(), &|_| {}).unwrap_err();
        assert!(matches!(error, HubError::Hostile { .. }), "{name}: {error}");
        assert_eq!(names(cache.path()), [""; 0], "{name}");
    }
}

#[test]
fn hostile_headers_name_no_files() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let set = [("etag", "\"../../../../evil\""), ("x-repo-commit", "../../evil"), ("x-linked-etag", "\"../../evil\"")];
    let set = set.into_iter().map(|(name, value)| (name.to_owned(), Some(value.to_owned()))).collect();
    fake.fault(Fault::on("*", Harm::Headers { set }));
    is_whole(&client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap().folder);
    assert!(names(cache.path()).iter().all(|name| name.starts_with("hub/") && !name.contains("evil")), "{:?}", names(cache.path()));
}

#[test]
fn a_repository_of_a_million_files_is_refused_in_bounded_time() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.add(FakeKind::Model, "a/million").made_up(1_000_000);
    let error = client(&fake, &cache).download(&HubRepo::parse(RepoKind::Model, "a/million").unwrap(), &Download::default(), &|_| {});
    let error = error.unwrap_err();
    assert!(matches!(&error, HubError::Hostile { what, .. } if what.contains("more than")), "{error}");
}

#[test]
fn a_revision_that_is_pushed_over_meanwhile_gives_the_commit_that_was_resolved() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.fault(Fault::on("*/resolve/*", Harm::ForcePush { branch: "main".into() }).times(1));
    let fetched = client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap();
    is_whole(&fetched.folder);
    assert_ne!(fetched.resolved.unwrap().commit, fake.commit_of(FakeKind::Model, MODEL, "main").unwrap());
}

#[test]
fn a_redirect_to_another_host_never_takes_the_token_along() {
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let other = FakeHub::start();
    fake.fault(Fault::on("*/resolve/*", Harm::Redirect { location: format!("{}{{path}}", other.endpoint()) }));
    assert!(client(&fake, &cache).fetch(&named(MODEL), &|_| {}).is_err());
    assert!(!other.requests().is_empty() && other.requests().iter().all(|request| !request.authorized), "{:?}", other.requests());
}

#[test]
fn two_processes_fetch_a_file_once() {
    let (fake, cache) = (start(FakeOptions { bytes_per_s: Some(600_000), ..FakeOptions::default() }), TempDir::new().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| is_whole(&client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap().folder));
        }
    });
    let weights = transfers(&fake).into_iter().filter(|file| file == "model.safetensors").count();
    assert_eq!(weights, 1);
}

#[test]
#[cfg(unix)]
fn a_cache_that_may_not_be_written_says_so() {
    use std::os::unix::fs::PermissionsExt;
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    let sealed = cache.path().join("hub");
    fs::create_dir(&sealed).unwrap();
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o500)).unwrap();
    // Whoever may do everything can't be kept out.
    if fs::write(sealed.join("probe"), "").is_ok() {
        return;
    }
    let error = client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap_err();
    assert!(matches!(error, HubError::Io { .. }), "{error}");
}

/// How many kills; a script may ask for more.
fn kills() -> u64 {
    std::env::var("SINEW_HUB_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(20)
}

const CHILD: &str = "SINEW_HUB_CHILD";

/// Not a test of its own: what [`kills_cost_nothing_that_was_there`] starts and kills.
#[test]
fn child_that_downloads() {
    let Ok(words) = std::env::var(CHILD) else { return };
    let (endpoint, cache) = words.split_once(' ').unwrap();
    let options = HubOptions { endpoint: endpoint.into(), cache_dir: cache.into(), token: None, ..HubOptions::from_env() };
    let repo = HubRepo::parse(RepoKind::Dataset, "a/fifty").unwrap();
    Hub::new(options).download(&repo, &Download::default(), &|_| {}).unwrap();
}

#[test]
fn kills_cost_nothing_that_was_there() {
    let fake = start(FakeOptions { bytes_per_s: Some(6_000_000), lfs_from: 100_000, ..FakeOptions::default() });
    let files: Vec<(String, Vec<u8>)> =
        (0..50).map(|n| (format!("data/{n:02}.bin"), noise(if n % 5 == 0 { 900_000 } else { 30_000 }, n + 100))).collect();
    let as_slices: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    fake.add(FakeKind::Dataset, "a/fifty").commit(&as_slices);
    let total: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let cache = TempDir::new().unwrap();
    let words = format!("{} {}", fake.endpoint(), cache.path().display());
    let mut random = fastrand::Rng::with_seed(5);
    let mut killed = 0;
    fake.forget_requests();
    loop {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_downloads", "--nocapture"])
            .env(CHILD, &words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + if killed < kills() { Duration::from_millis(random.u64(20..220)) } else { Duration::from_secs(60) };
        let mut ended = None;
        while Instant::now() < end && ended.is_none() {
            ended = child.try_wait().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(status) = ended {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        // What has its name is whole, at every moment.
        let hub = Hub::new(HubOptions { cache_dir: cache.path().to_owned(), ..options(&fake, &cache) });
        assert_eq!(hub.verify_cache(None, |_| {}).unwrap().flaws, []);
    }
    assert!(killed > 0);
    let snapshot = fs::read_dir(cache.path().join("datasets--a--fifty/snapshots")).unwrap().next().unwrap().unwrap().path();
    for (path, bytes) in &files {
        assert_eq!(&fs::read(snapshot.join(path)).unwrap(), bytes, "{path}");
    }
    // What was on its way to a process that was killed is lost; what it had written is not.
    let sent: u64 = fake
        .requests()
        .iter()
        .filter(|request| request.path.contains("/resolve/") || request.path.starts_with("/cdn/"))
        .map(|request| request.sent)
        .sum();
    let lost_in_buffers = killed * 8 * (256 << 10);
    println!("{killed} kills, {sent} bytes sent for {total}");
    assert!(sent <= total as u64 + total as u64 / 20 + lost_in_buffers, "{sent} bytes sent for {total}, {killed} kills");
}

/// Some say 412 where a part is asked for of a file that is another now: then all of it is.
#[test]
fn a_part_that_is_refused_is_begun_anew() {
    for path in [STORE, WEIGHTS] {
        let (fake, cache) = (fake(), TempDir::new().unwrap());
        fake.fault(Fault::on(STORE, Harm::CutAnswer { at: Some(100_000), reset: false }).times(1));
        fake.fault(Fault::on(path, status(412)).skip(1).times(1));
        is_whole(&client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap_or_else(|error| panic!("{path}: {error}")).folder);
    }
    // Where nothing was begun, it is an error at once.
    let (fake, cache) = (fake(), TempDir::new().unwrap());
    fake.fault(Fault::on(STORE, status(412)));
    let error = client(&fake, &cache).fetch(&named(MODEL), &|_| {}).unwrap_err().to_string();
    assert!(error.contains("HTTP 412") && fake.requests().iter().filter(|asked| asked.status == 412).count() == 1, "{error}");
}

/// What says that it is compressed is not unpacked, whoever sends it in answer to whatever.
#[test]
#[cfg(target_os = "linux")]
fn a_bomb_in_a_compressed_body_is_refused_at_once() {
    const BYTES: u64 = 4 << 30;
    let peak_kb = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let fake = fake();
    fake.add(FakeKind::Dataset, common::DATASET).commit(&[("data.bin", &noise(200_000, 3))]);
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.json"), b"{}").unwrap();
    let up = HubRepo::parse(RepoKind::Model, "someone/new").unwrap();
    type Does<'a> = &'a dyn Fn(&Hub) -> HubError;
    let cases: [(&str, Does<'_>); 6] = [
        ("/api/*", &|hub| hub.info(&model()).unwrap_err()),
        ("*/resolve/*/config.json", &|hub| hub.fetch(&named(MODEL), &|_| {}).unwrap_err()),
        (STORE, &|hub| hub.fetch(&named(MODEL), &|_| {}).unwrap_err()),
        ("*/README.md", &|hub| hub.read_text(&model(), "README.md", &|_| {}).unwrap_err()),
        (STORE, &|hub| {
            let opened = hub.dataset(&common::dataset(), std::sync::Arc::new(|_: sinew_hub::Event<'_>| {})).unwrap().open("data.bin");
            let error = opened.unwrap().unwrap().read_at(0, &mut [0; 10]).unwrap_err();
            HubError::Unusable { doing: String::new(), what: error.to_string() }
        }),
        ("*/commit/*", &|hub| hub.upload(folder.path(), &up, &sinew_hub::UploadOptions::default(), &|_| {}).unwrap_err()),
    ];
    let before = peak_kb();
    for (path, does) in cases {
        fake.fault(Fault::on(path, Harm::GzipBomb { bytes: BYTES }));
        let begun = Instant::now();
        // Where nothing is there yet.
        let cache = TempDir::new().unwrap();
        let error = does(&client(&fake, &cache)).to_string();
        fake.clear_faults();
        assert!(error.contains("compressed (gzip), which was not asked for"), "{path}: {error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{path}: {:?}", begun.elapsed());
    }
    let grown = peak_kb() - before;
    println!("{} MB of memory for {} GB", grown >> 10, BYTES >> 30);
    // The fake Hub's own share of it included.
    assert!(grown < 100 << 10, "{grown} kB");
}
