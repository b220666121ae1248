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
