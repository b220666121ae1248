//! Uploads to a Xet store: Hugging Face's own `local_cas_server` (crate `xet-client`, feature `simulation`), named by
//! `SINEW_XET_SERVER`, behind a fake Hub.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sinew_hub::{Hub, HubOptions, HubRepo, RepoKind, Token, UploadOptions};
use sinew_testkit::hub::{self as fake, FakeHub, Rights};

struct Store(Child);

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
#[ignore = "needs the server of the crate xet-client"]
fn large_files_go_to_the_xet_store_and_pieces_that_it_has_are_not_sent() {
    let server = std::env::var("SINEW_XET_SERVER").expect("SINEW_XET_SERVER names the program local_cas_server");
    let data = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(server);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--data-directory"]).arg(data.path());
    let _store = Store(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the store does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let options = fake::HubOptions { lfs_from: 1 << 20, xet: Some(format!("http://127.0.0.1:{port}")), ..Default::default() };
    let hub = FakeHub::with(options).unwrap();
    hub.token("hf_write", "ada", Rights::Write);
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut random = fastrand::Rng::with_seed(3);
    let first: Vec<u8> = std::iter::repeat_with(|| random.u64(..).to_le_bytes()).flatten().take(20 << 20).collect();
    fs::write(folder.path().join("a.bin"), &first).unwrap();
    fs::write(folder.path().join("small.json"), b"{}").unwrap();
    let options = HubOptions {
        endpoint: hub.endpoint(),
        cache_dir: cache.path().join("hub"),
        token: Token::new("hf_write"),
        ..HubOptions::from_env()
    };
    let client = Hub::new(options);
    let repo = HubRepo::parse(RepoKind::Model, "ada/xet").unwrap();
    let uploaded = client.upload(folder.path(), &repo, &UploadOptions::default(), &|_| {}).unwrap();
    assert!((20 << 20..22 << 20).contains(&uploaded.bytes_sent), "{}", uploaded.bytes_sent);
    assert_eq!(hub.file(fake::RepoKind::Model, "ada/xet", "main", "a.bin"), Some(first.clone()));
    assert!(hub.requests().iter().all(|request| !request.path.starts_with("/upload/")));
    // Two thirds of it again, and something new.
    let mut second = first;
    second.truncate(14 << 20);
    second.extend(std::iter::repeat_with(|| random.u8(..)).take(1 << 20));
    fs::write(folder.path().join("b.bin"), &second).unwrap();
    let again = client.upload(folder.path(), &repo, &UploadOptions::default(), &|_| {}).unwrap();
    assert_eq!(hub.file(fake::RepoKind::Model, "ada/xet", "main", "b.bin"), Some(second));
    assert!(again.bytes_sent < 3 << 20, "{}", again.bytes_sent);
}
