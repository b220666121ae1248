use std::io::{Read, Write};
use std::net::TcpStream;

use super::faults::fits;
use super::range::{Asked, asked};
use super::*;

#[test]
fn ranges_are_those_of_the_standard() {
    for (header, len, expected) in [
        (None, 10, Asked::Whole),
        (Some("bytes=0-"), 10, Asked::Part(0, 10)),
        (Some("bytes=3-"), 10, Asked::Part(3, 7)),
        (Some("bytes=3-3"), 10, Asked::Part(3, 1)),
        (Some("bytes=3-99"), 10, Asked::Part(3, 7)),
        (Some("bytes=-4"), 10, Asked::Part(6, 4)),
        (Some("bytes=-99"), 10, Asked::Part(0, 10)),
        (Some("bytes=-0"), 10, Asked::Beyond),
        (Some("bytes=10-"), 10, Asked::Beyond),
        (Some("bytes=0-"), 0, Asked::Beyond),
        (Some("bytes=-5"), 0, Asked::Beyond),
        (Some("bytes=5-3"), 10, Asked::Whole),
        (Some("bytes=0-1,3-4"), 10, Asked::Whole),
        (Some("items=0-1"), 10, Asked::Whole),
        (Some("bytes=a-b"), 10, Asked::Whole),
    ] {
        assert_eq!(asked(header, len), expected, "{header:?} of {len}");
    }
}

#[test]
fn patterns_stand_for_anything_between() {
    for (pattern, text, expected) in [
        ("*/resolve/*", "/a/b/resolve/main/x", true),
        ("/cdn/*", "/cdn/0", true),
        ("/cdn/*", "/upload/0", false),
        ("/a", "/a", true),
        ("/a", "/ab", false),
        ("*.bin", "/x/y.bin", true),
        ("a*b*a", "aba", true),
        ("a*a", "a", false),
    ] {
        assert_eq!(fits(pattern, text), expected, "{pattern} on {text}");
    }
}

#[test]
fn ids_are_those_of_git() {
    // `git hash-object`, `git write-tree` of a repository with these files.
    assert_eq!(git::blob_id(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    let hello = git::blob_id(b"hello\n");
    let ids = git::folder_ids([("a.txt", hello.as_str()), ("dir/b.txt", hello.as_str())].into_iter());
    assert_eq!(ids[""], "e6b1205717837a60b346a14d0cd3bb8ccbd2ab63");
    assert_eq!(ids["dir"], "dd5a3627ad3d4a1eaa9b180972bab37891a5e101");
}

#[test]
fn cards_are_read_as_yaml() {
    let card = card::metadata(
        "---\nlicense: apache-2.0\ntags:\n- robotics\n- \"so101\"\ndatasets: [ada/pick, ada/place]\nmodel-index:\n- name: act\n  results:\n    - task:\n        type: robotics\n      metrics:\n        - type: success\n          value: 0.5\n---\n# Title\n",
    );
    let expected = serde_json::json!({
        "license": "apache-2.0", "tags": ["robotics", "so101"], "datasets": ["ada/pick", "ada/place"],
        "model-index": [{"name": "act", "results": [{"task": {"type": "robotics"}, "metrics": [{"type": "success", "value": 0.5}]}]}],
    });
    assert_eq!(card, expected);
    assert_eq!(card::metadata("# no metadata"), serde_json::Value::Null);
}

/// Sends a request as it is and says what came back: head and body, or as much as came of them.
fn ask(hub: &FakeHub, request: &str) -> String {
    let mut stream = TcpStream::connect(hub.endpoint().trim_start_matches("http://")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A reset ends it too.
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request and says how its connection ended.
fn ending(hub: &FakeHub, request: &str) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(hub.endpoint().trim_start_matches("http://")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_to_end(&mut Vec::new())
}

fn location(answer: &str) -> &str {
    answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap()
}

/// Asks for a whole address, which may be on another host.
fn follow(url: &str, headers: &str) -> String {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(hub: &FakeHub, path: &str, headers: &str) -> String {
    ask(hub, &format!("GET {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n{headers}\r\n"))
}

fn post(hub: &FakeHub, path: &str, kind: &str, body: &str) -> String {
    let head =
        format!("Host: hub\r\nConnection: close\r\nAuthorization: Bearer hf_w\r\nContent-Type: {kind}\r\nContent-Length: {}", body.len());
    ask(hub, &format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n{body}"))
}

#[test]
fn a_commit_on_another_parent_is_refused() {
    let hub = FakeHub::start();
    hub.token("hf_w", "ada", Rights::Write);
    let first = hub.add(RepoKind::Model, "ada/act").commit(&[("a.txt", b"one")]);
    let commit = |parent: &str, text: &str| {
        let header = serde_json::json!({"key": "header", "value": {"summary": "x", "parentCommit": parent}});
        let file = serde_json::json!({"key": "file", "value": {"path": "a.txt", "content": text}});
        post(&hub, "/api/models/ada/act/commit/main", "application/x-ndjson", &format!("{header}\n{file}\n"))
    };
    assert!(commit(&first, "two").starts_with("HTTP/1.1 200"));
    assert!(commit(&first, "three").starts_with("HTTP/1.1 412"));
    assert_eq!(hub.file(RepoKind::Model, "ada/act", "main", "a.txt").as_deref(), Some(b"two".as_slice()));
    assert_eq!(hub.file(RepoKind::Model, "ada/act", &first, "a.txt").as_deref(), Some(b"one".as_slice()));
}

#[test]
fn an_object_that_was_never_uploaded_cannot_be_committed() {
    let hub = FakeHub::start();
    hub.token("hf_w", "ada", Rights::Write);
    hub.add(RepoKind::Dataset, "ada/pick");
    let header = serde_json::json!({"key": "header", "value": {"summary": "x"}});
    let file = serde_json::json!({"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": git::sha256(b"a"), "size": 1}});
    let answer = post(&hub, "/api/datasets/ada/pick/commit/main", "application/x-ndjson", &format!("{header}\n{file}\n"));
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(hub.tree(RepoKind::Dataset, "ada/pick", "main").len(), 1);
}

#[test]
fn faults_come_as_often_as_they_should() {
    let hub = FakeHub::start();
    hub.add(RepoKind::Model, "ada/act").commit(&[("a.txt", b"0123456789")]);
    let path = "/ada/act/resolve/main/a.txt";
    hub.fault(Fault::on("*/resolve/*", Harm::CutAnswer { at: Some(4), reset: false }).skip(1).times(1));
    assert!(get(&hub, path, "").ends_with("0123456789"));
    assert!(get(&hub, path, "").ends_with("\r\n\r\n0123"));
    assert!(get(&hub, path, "Range: bytes=4-\r\n").ends_with("\r\n\r\n456789"));
    hub.fault(Fault::on(path, Harm::WrongBytes { at: Some(0) }).times(1));
    assert!(get(&hub, path, "").ends_with("e123456789"));
    hub.fault(Fault::on(path, Harm::WrongLength { by: -3 }).times(1));
    let answer = get(&hub, path, "");
    assert!(answer.contains("content-length: 7\r\n") && answer.ends_with("\r\n\r\n0123456"), "{answer}");
    hub.fault(Fault::on(path, Harm::Refuse).times(1));
    assert_eq!(get(&hub, path, ""), "");
    let sent: Vec<u64> = hub.requests().iter().map(|request| request.sent).collect();
    assert_eq!(sent, [10, 4, 6, 10, 7, 0]);
    assert_eq!(hub.bytes_sent(), 37);
}

#[test]
fn faults_are_read_from_json() {
    let fault: Fault = serde_json::from_str(r#"{"path": "*", "times": 2, "harm": {"kind": "cut_answer", "at": 7}}"#).unwrap();
    assert_eq!(fault, Fault::on("*", Harm::CutAnswer { at: Some(7), reset: false }).times(2));
    assert!(serde_json::from_str::<Fault>(r#"{"path": "*", "harm": {"kind": "cut_answer", "where": 7}}"#).is_err());
}

#[test]
fn a_cut_upload_leaves_nothing_and_a_lost_answer_leaves_the_commit() {
    let hub = FakeHub::start();
    hub.token("hf_w", "ada", Rights::Write);
    hub.add(RepoKind::Model, "ada/act");
    let header = serde_json::json!({"key": "header", "value": {"summary": "x"}});
    let file = serde_json::json!({"key": "file", "value": {"path": "a.txt", "content": "one"}});
    let commit = || post(&hub, "/api/models/ada/act/commit/main", "application/x-ndjson", &format!("{header}\n{file}\n"));
    hub.fault(Fault::on("*/commit/*", Harm::CutRequest { at: Some(20) }).times(1));
    assert_eq!(commit(), "");
    assert_eq!(hub.requests()[0].received, 20);
    assert_eq!(hub.file(RepoKind::Model, "ada/act", "main", "a.txt"), None);
    hub.fault(Fault::on("*/commit/*", Harm::LostAnswer).times(1));
    assert_eq!(commit(), "");
    assert_eq!(hub.file(RepoKind::Model, "ada/act", "main", "a.txt").as_deref(), Some(b"one".as_slice()));
}

#[test]
fn a_reset_is_one_and_an_end_is_none() {
    let hub = FakeHub::start();
    hub.add(RepoKind::Model, "ada/act").commit(&[("a.txt", &[b'x'; 100_000])]);
    let request = "GET /ada/act/resolve/main/a.txt HTTP/1.1\r\nHost: hub\r\n\r\n";
    for (reset, is_error) in [(true, true), (false, false)] {
        hub.fault(Fault::on("*", Harm::CutAnswer { at: Some(5000), reset }).times(1));
        assert_eq!(ending(&hub, request).is_err(), is_error, "reset: {reset}");
    }
}

#[test]
fn large_files_are_elsewhere_for_a_while_and_without_tokens() {
    let hub = FakeHub::with(HubOptions { urls_valid: std::time::Duration::from_secs(2), ..HubOptions::default() }).unwrap();
    hub.token("hf_w", "ada", Rights::Write);
    hub.add(RepoKind::Model, "ada/act").commit(&[("a.bin", b"0123456789")]);
    let answer = get(&hub, "/ada/act/resolve/main/a.bin", "");
    assert!(answer.starts_with("HTTP/1.1 302") && answer.contains("x-linked-size: 10\r\n"), "{answer}");
    let url = location(&answer);
    assert!(url.starts_with("http://127.0.0.2:"), "{url}");
    assert!(follow(url, "").ends_with("0123456789"));
    let etag = format!("\"{}\"", git::sha256(b"0123456789"));
    assert!(follow(url, &format!("Range: bytes=-3\r\nIf-Range: {etag}\r\n")).ends_with("\r\n\r\n789"));
    assert!(follow(url, "Range: bytes=-3\r\nIf-Range: \"other\"\r\n").ends_with("0123456789"));
    assert!(follow(url, "Range: bytes=10-\r\n").starts_with("HTTP/1.1 416"));
    assert!(follow(url, "Authorization: Bearer hf_w\r\n").starts_with("HTTP/1.1 400"));
    assert!(follow(&url.replace("Signature=", "Signature=0"), "").starts_with("HTTP/1.1 403"));
    hub.fault(Fault::on("/cdn/*", Harm::ChangedEtag).times(1));
    let changed = follow(url, &format!("Range: bytes=-3\r\nIf-Range: {etag}\r\n"));
    assert!(changed.starts_with("HTTP/1.1 200") && !changed.contains(&format!("etag: {etag}")), "{changed}");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert!(follow(url, "").starts_with("HTTP/1.1 403"));
}

#[test]
fn answers_can_be_made_hostile() {
    let hub = FakeHub::start();
    hub.add(RepoKind::Model, "ada/act").commit(&[("a.txt", b"one"), ("../out.txt", b"climbs")]);
    let before = hub.commit_of(RepoKind::Model, "ada/act", "main").unwrap();
    let once = |harm: Harm| hub.fault(Fault::on("*", harm).times(1));
    let headers = [("ETag".to_owned(), Some("\"../../x\"".to_owned())), ("X-Repo-Commit".to_owned(), None)];
    once(Harm::Headers { set: headers.into() });
    let answer = get(&hub, "/ada/act/resolve/main/a.txt", "");
    assert!(answer.contains("etag: \"../../x\"\r\n") && !answer.contains("x-repo-commit"), "{answer}");
    assert!(get(&hub, "/ada/act/resolve/main/..%2Fout.txt", "").ends_with("climbs"));
    once(Harm::Names { paths: vec!["C:\\x".to_owned()] });
    assert!(get(&hub, "/api/models/ada/act/tree/main", "").contains(r#""path":"C:\\x""#));
    once(Harm::GzipBomb { bytes: 50_000_000 });
    let answer = get(&hub, "/api/models/ada/act", "");
    assert!(answer.contains("content-encoding: gzip") && answer.len() < 200_000, "{}", answer.len());
    once(Harm::Html);
    assert!(get(&hub, "/api/models/ada/act", "").starts_with("HTTP/1.1 200"));
    once(Harm::Redirect { location: "http://example.org{path}".to_owned() });
    assert_eq!(location(&get(&hub, "/api/models/ada/act?x=1", "")), "http://example.org/api/models/ada/act?x=1");
    once(Harm::Trickle { bytes: 1, every_ms: 1 });
    assert!(get(&hub, "/ada/act/resolve/main/a.txt", "").ends_with("one"));
    once(Harm::ForcePush { branch: "main".to_owned() });
    assert!(get(&hub, "/ada/act/resolve/main/a.txt", "").ends_with("one\n"));
    assert_ne!(hub.commit_of(RepoKind::Model, "ada/act", "main").unwrap(), before);
    assert!(get(&hub, &format!("/ada/act/resolve/{before}/a.txt"), "").ends_with("one"));
}

#[test]
fn what_never_ends_ends_with_the_hub() {
    let hub = FakeHub::start();
    hub.add(RepoKind::Model, "ada/act").commit(&[("a.txt", b"0123")]);
    hub.fault(Fault::on("*", Harm::Stall { at: Some(2) }).times(1));
    hub.fault(Fault::on("*", Harm::Endless).skip(1).times(1));
    let address = hub.endpoint().trim_start_matches("http://").to_owned();
    let read = |len: usize| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(b"GET /ada/act/resolve/main/a.txt HTTP/1.1\r\nHost: hub\r\n\r\n").unwrap();
        let mut got = Vec::new();
        while got.len() < len && !got.ends_with(b"\r\n\r\n01") {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..count]);
        }
        (stream, got)
    };
    let (mut stalled, got) = read(100_000);
    assert!(got.ends_with(b"01"));
    let (_endless, got) = read(2_000_000);
    assert!(got.len() >= 2_000_000);
    drop(hub);
    // The connection ends, one way or another.
    assert!(stalled.read(&mut [0; 10]).is_ok_and(|count| count == 0) || stalled.read(&mut [0; 10]).is_err());
}
