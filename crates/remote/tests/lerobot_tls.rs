//! Certificates between a server of LeRobot's remote inference and its client: what does not fit is said at once, and why. The
//! certificates are those of `scripts/make_tls_golden.sh`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sinew_remote::codec::{Packer, Value, pack_json};
use sinew_remote::{Answerer, RemoteOptions, Served, Server, ServerOptions, ZenohOptions, ZenohServer, metadata};
use zenoh::Wait as _;

/// Nobody asks it.
struct Mute;

impl Answerer for Mute {
    fn metadata(&self) -> Vec<u8> {
        let mut packer = Packer::default();
        pack_json(
            &mut packer,
            &serde_json::json!({"sinew": {
                "policy": "mute", "family": "act", "inputs": {"observation.state": {"type": "STATE", "shape": [1]}},
                "state_names": ["a.pos"], "action_names": ["a.pos"], "control_rate_hz": 10, "n_obs_steps": 1, "chunk_size": 4,
                "n_action_steps": 4, "numbers_answers": true,
            }}),
        );
        packer.into_bytes()
    }

    fn answer(&self, _: &Value<'_>) -> Result<Served, String> {
        Err("nothing".into())
    }
}

struct Folder(tempfile::TempDir);

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tls").join(name)
}

impl Folder {
    /// A key of the tests that its owner alone may read, as a checkout's files are not.
    fn key(&self, name: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let place = self.0.path().join(name);
        std::fs::copy(golden(name), &place).unwrap();
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o600)).unwrap();
        place
    }

    /// A file of zenoh's configuration for one end, which trusts `root`.
    fn config(&self, end: &str, root: &str, own: Option<(&str, &str)>) -> PathBuf {
        let mut tls = serde_json::json!({"root_ca_certificate": golden(root), "enable_mtls": own.is_some()});
        if let Some((certificate, key)) = own {
            tls[format!("{end}_certificate")] = golden(certificate).display().to_string().into();
            tls[format!("{end}_private_key")] = self.key(key).display().to_string().into();
        }
        let path = self.0.path().join(format!("{end}-{}.json5", fastrand::u64(..)));
        std::fs::write(&path, serde_json::json!({"transport": {"link": {"tls": tls}}}).to_string()).unwrap();
        path
    }

    fn server(&self, certificate: &str, key: &str) -> Result<(Server, ZenohServer), String> {
        let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
        server.serve(Arc::new(Mute));
        let config = Some(self.config("listen", "ca.pem", Some((certificate, key))));
        let options = ZenohOptions { listen: "tls/127.0.0.1:0".into(), config, deployment: "pick".into() };
        let zenoh = server.serve_zenoh(&options).map_err(|error| error.to_string())?;
        Ok((server, zenoh))
    }
}

/// What a client says of the server at `locator`, and how long that took.
fn client(locator: &str, config: PathBuf) -> (Result<(), String>, Duration) {
    let address = format!("zenoh+tls://{}/pick", locator.strip_prefix("tls/").unwrap()).parse().unwrap();
    let began = Instant::now();
    let told = metadata(&RemoteOptions { zenoh_config: Some(config), ..RemoteOptions::new(address) });
    (told.map(drop).map_err(|error| error.to_string()), began.elapsed())
}

#[track_caller]
fn refused(locator: &str, config: PathBuf, why: &str) {
    let (told, took) = client(locator, config);
    let error = told.unwrap_err();
    assert!(error.contains(why), "expected {why:?}: {error}");
    assert!(took < Duration::from_secs(4), "{took:?} for {error}");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder(tempfile::tempdir().unwrap());
    let config = folder.config("listen", "ca.pem", Some(("server.pem", "server.key")));
    std::fs::set_permissions(folder.0.path().join("server.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    server.serve(Arc::new(Mute));
    let options = ZenohOptions { listen: "tls/127.0.0.1:0".into(), config: Some(config), deployment: "pick".into() };
    let refused = server.serve_zenoh(&options).map(drop).unwrap_err().to_string();
    assert!(refused.contains("server.key") && refused.contains("chmod 600"), "{refused}");
}

#[test]
fn a_certificate_of_the_server_that_is_of_no_use_is_refused_at_its_start() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for (certificate, key, why) in [
        ("server_old.pem", "server_old.key", "server_old.pem: it ran out on Jan"),
        ("client_new.pem", "client_new.key", "client_new.pem: it is valid from Jan"),
        ("server.pem", "client.key", "client.key is not the key of listen_certificate"),
        ("none.pem", "server.key", "none.pem: No such file"),
        ("server.key", "server.key", "server.key: expected a certificate in PEM, found none"),
        ("server.pem", "server.pem", "server.pem: expected a private key in PEM"),
    ] {
        let error = folder.server(certificate, key).map(drop).unwrap_err();
        assert!(error.contains(why), "expected {why:?}: {error}");
    }
    // Without any.
    let server = Server::bind(ServerOptions::new("127.0.0.1:0".parse().unwrap())).unwrap();
    server.serve(Arc::new(Mute));
    let config = Some(folder.config("listen", "ca.pem", None));
    let error = server.serve_zenoh(&ZenohOptions { listen: "tls/127.0.0.1:0".into(), config, deployment: "pick".into() });
    let error = error.map(drop).unwrap_err().to_string();
    assert!(error.contains("expected listen_certificate and listen_private_key"), "{error}");
}

#[test]
fn a_client_is_told_which_certificate_does_not_fit_and_why() {
    let folder = Folder(tempfile::tempdir().unwrap());
    let (server, zenoh) = folder.server("server.pem", "server.key").unwrap();
    let at = zenoh.locator();
    let with = |root: &str, own: &str| folder.config("connect", root, Some((&format!("{own}.pem"), &format!("{own}.key"))));
    let (told, _) = client(at, with("ca.pem", "client"));
    assert_eq!(told, Ok(()));
    refused(at, with("ca.pem", "client_old"), "connect_certificate");
    refused(at, with("ca.pem", "client_old"), "client_old.pem: it ran out on Jan");
    refused(at, with("ca.pem", "client_new"), "client_new.pem: it is valid from Jan");
    refused(at, with("ca.pem", "client_of_other_ca"), "the server trusts no one who signed connect_certificate");
    refused(at, folder.config("connect", "ca.pem", None), "the server wants a certificate");
    refused(at, with("other_ca.pem", "client"), "signed by none that is trusted here");
    let crossed = folder.config("connect", "ca.pem", Some(("client.pem", "server.key")));
    refused(at, crossed, "server.key is not the key of connect_certificate");
    // None of it kept the server from the next.
    let (told, _) = client(at, with("ca.pem", "client"));
    assert_eq!(told, Ok(()));
    drop((zenoh, server));
}

#[test]
fn a_client_is_told_what_is_wrong_with_the_servers_certificate() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for (name, why) in [
        ("server_old", "the server's certificate ran out"),
        ("client_new", "the server's certificate is not valid yet"),
        ("server_of_other_name", "the server's certificate is not accepted"),
    ] {
        // Zenoh itself takes any.
        let file = folder.config("listen", "ca.pem", Some((&format!("{name}.pem"), &format!("{name}.key"))));
        let mut config = zenoh::Config::from_file(&file).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = format!("tls/127.0.0.1:{port}");
        for (key, value) in [("listen/endpoints", serde_json::json!([at]).to_string()), ("scouting/multicast/enabled", "false".into())] {
            config.insert_json5(key, &value).unwrap();
        }
        let server = zenoh::open(config).wait().unwrap();
        refused(&at, folder.config("connect", "ca.pem", Some(("client.pem", "client.key"))), why);
        server.close().wait().unwrap();
    }
    // Somebody who speaks no TLS.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("tls/{}", plain.local_addr().unwrap());
    let speaks = std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut tcp, _) = plain.accept().unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        std::thread::sleep(Duration::from_millis(500));
    });
    refused(&at, folder.config("connect", "ca.pem", None), "something else than TLS");
    speaks.join().unwrap();
}
