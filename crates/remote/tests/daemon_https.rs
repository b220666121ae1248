//! A daemon with a certificate of its own, against clients that trust its authority and nobody else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

mod robot;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use robot::{Served, raw, served_in, served_over};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use sinew_core::service::State;
use sinew_remote::{Https, RemoteError};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::{Message, WebSocket};

type Secure = StreamOwned<ClientConnection, TcpStream>;

fn open(folder: &Path, hosts: &[&str]) -> Result<Https, RemoteError> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    Https::open(&folder.join("https"), "kitchen-pi", &hosts, |_| {})
}

fn served(image_bytes: usize) -> Served {
    served_over(image_bytes, State { position: vec![Some(0.5)], ..State::default() }, |folder| Some(open(folder, &[]).unwrap()))
}

/// The authority's certificate, as a device gets it.
fn authority(address: SocketAddr) -> CertificateDer<'static> {
    let mut tcp = TcpStream::connect(address).unwrap();
    write!(tcp, "GET /sinew-ca.crt HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..at]));
    answer[at + 4..].to_vec().into()
}

/// Shakes hands with a daemon that is called `name`, trusting `authority` alone.
fn secure(address: SocketAddr, name: &str, authority: &CertificateDer<'static>) -> Result<Secure, String> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
    }
    Ok(stream)
}

fn ask(mut stream: Secure, request: &str) -> (u16, Json) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    // To its end, which it says: nobody has cut it.
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

fn socket(served: &Served, authority: &CertificateDer<'static>, path: &str, hello: &Json) -> WebSocket<Secure> {
    let stream = secure(served.address(), "127.0.0.1", authority).unwrap();
    let request = format!("wss://{}{path}", served.address()).into_client_request().unwrap();
    let (mut web, _) = tungstenite::client(request, stream).unwrap();
    let mut hello = hello.clone();
    hello["token"] = served.token.clone().into();
    web.send(Message::text(hello.to_string())).unwrap();
    let Message::Text(welcome) = web.read().unwrap() else { panic!("expected a welcome") };
    assert!(welcome.as_str().contains("welcome"), "{welcome}");
    web
}

#[test]
fn who_trusts_the_authority_is_at_the_right_daemon() {
    let served = served(10);
    let address = served.address();
    let authority = authority(address);
    for name in ["localhost", "kitchen-pi", "kitchen-pi.local", "127.0.0.1"] {
        assert!(secure(address, name, &authority).is_ok(), "{name}");
    }
    for name in ["example.com", "attic.local", "8.8.8.8"] {
        let why = secure(address, name, &authority).unwrap_err();
        assert!(why.contains("not valid for name"), "{name}: {why}");
    }
    let request = format!("GET /api/v1/certificate HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\r\n", served.token);
    let stream = secure(address, "127.0.0.1", &authority).unwrap();
    let der = stream.conn.peer_certificates().unwrap()[0].clone();
    let (status, certificate) = ask(stream, &request);
    let shown = |der: &[u8]| Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
    assert_eq!((status, &certificate["fingerprint"]), (200, &json!(shown(&der))), "{certificate}");
    assert_eq!(certificate["authority_fingerprint"], shown(&authority));
    assert!(certificate["names"].as_array().unwrap().contains(&json!("kitchen-pi.local")), "{certificate}");
    let (status, _) =
        ask(secure(address, "127.0.0.1", &authority).unwrap(), &format!("GET /api/v1/me HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert_eq!(status, 401);
    // This machine may still do without.
    assert_eq!(served.get("/api/v1/me", &format!("Authorization: Bearer {}\r\n", served.token)).0, 200);
}

#[test]
fn a_page_that_came_by_http_gets_nowhere() {
    let served = served(10);
    let (address, authority) = (served.address(), authority(served.address()));
    let get = |origin: &str| {
        let head =
            format!("GET /api/v1/me HTTP/1.1\r\nHost: {address}\r\nOrigin: {origin}\r\nAuthorization: Bearer {}\r\n\r\n", served.token);
        ask(secure(address, "127.0.0.1", &authority).unwrap(), &head).0
    };
    assert_eq!((get(&format!("https://{address}")), get(&format!("http://{address}")), get("https://evil.example")), (200, 403, 403));
}

#[test]
fn states_and_large_images_come_whole_also_to_who_reads_slowly() {
    let served = served(400_000);
    let authority = authority(served.address());
    let mut states = socket(&served, &authority, "/api/v1/state/stream", &json!({}));
    let numbers: Vec<u64> = (0..50)
        .map(|_| {
            loop {
                if let Message::Text(text) = states.read().unwrap() {
                    break serde_json::from_str::<Json>(text.as_str()).unwrap()["sequence"].as_u64().unwrap();
                }
            }
        })
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let mut images = socket(&served, &authority, "/api/v1/cameras/stream", &json!({}));
    for slow in [0, 0, 300, 300, 0] {
        std::thread::sleep(Duration::from_millis(slow));
        let bytes = loop {
            if let Message::Binary(bytes) = images.read().unwrap() {
                break bytes;
            }
        };
        let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        let head: Json = serde_json::from_slice(&bytes[4..4 + length]).unwrap();
        assert_eq!(bytes.len() - 4 - length, 400_000, "{head}");
        images.send(Message::text(json!({"ack": head["number"]}).to_string())).unwrap();
    }
    let mut operator = socket(&served, &authority, "/api/v1/command", &json!({}));
    operator.send(Message::text(json!({"type": "take"}).to_string())).unwrap();
    let Message::Text(lease) = operator.read().unwrap() else { panic!("expected a lease") };
    assert!(lease.as_str().contains("\"lease\""), "{lease}");
}

#[test]
fn what_is_no_tls_and_who_trusts_nobody_here_does_no_harm() {
    let served = served(10);
    let address = served.address();
    let mut odd = TcpStream::connect(address).unwrap();
    odd.write_all(&[0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5]).unwrap();
    let mut rest = Vec::new();
    odd.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    drop(odd.read_to_end(&mut rest));
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), &[]).unwrap();
    let other = self::served(10);
    let why = secure(address, "127.0.0.1", &authority(other.address())).unwrap_err();
    assert!(why.contains("UnknownIssuer") || why.contains("BadSignature"), "{why}");
    // Those who say nothing.
    let silent: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(secure(address, "127.0.0.1", &authority(address)).is_ok());
    assert_eq!(raw(address, format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).0, 200);
    drop(silent);
}

#[test]
fn it_is_made_once_and_renewed_before_its_end_and_devices_stay_paired() {
    let before = served(10);
    let (phone, trusted) = (before.paired("operate", "phone"), authority(before.address()));
    let folder = before.end();
    let first = open(folder.path(), &[]).unwrap().certificate();
    assert_eq!(open(folder.path(), &[]).unwrap().certificate(), first);
    #[cfg(unix)]
    for (path, mode) in [("https", 0o700), ("https/authority.pem", 0o600), ("https/certificate.pem", 0o600)] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
    // One of the same authority that ends in a week: a year in which nobody looked.
    let place = folder.path().join("https/certificate.pem");
    let kept = std::fs::read_to_string(&place).unwrap();
    std::fs::write(&place, ending_soon(&folder.path().join("https/authority.pem"))).unwrap();
    let renewed = open(folder.path(), &[]).unwrap().certificate();
    assert_ne!(renewed.fingerprint, first.fingerprint);
    assert_eq!((renewed.authority_fingerprint, &renewed.names), (first.authority_fingerprint.clone(), &first.names));
    let after = served_in(folder, 10, State::default(), |folder| Some(open(folder, &[]).unwrap()));
    let stream = secure(after.address(), "kitchen-pi.local", &trusted).unwrap();
    let me = format!("GET /api/v1/me HTTP/1.1\r\nHost: kitchen-pi.local\r\nAuthorization: Bearer {phone}\r\n\r\n");
    assert_eq!(ask(stream, &me), (200, json!({"role": "operate", "name": "phone"})));
    let folder = after.end();
    // Another authority's, which nobody would trust who trusts this one.
    std::fs::remove_file(folder.path().join("https/authority.pem")).unwrap();
    std::fs::write(&place, &kept).unwrap();
    let anew = open(folder.path(), &[]).unwrap().certificate();
    assert!(anew.authority_fingerprint != first.authority_fingerprint && anew.fingerprint != first.fingerprint);
}

/// What the file has when its certificate ends in a week.
fn ending_soon(authority: &Path) -> String {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair, date_time_ymd};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::pki_types::pem::PemObject as _;
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let bytes = std::fs::read(authority).unwrap();
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from_pem_slice(&bytes).unwrap()).unwrap();
    let der = CertificateDer::from_pem_slice(&bytes).unwrap();
    let (_, own) = X509Certificate::from_der(&der).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, own.subject().iter_common_name().next().unwrap().as_str().unwrap());
    let issuer = Issuer::from_params(&params, &key);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut soon = CertificateParams::new(["kitchen-pi", "kitchen-pi.local", "localhost"].map(str::to_owned).to_vec()).unwrap();
    soon.not_before = date_time_ymd(1970, 1, 1) + now - Duration::from_secs(300 * 86400);
    soon.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(7 * 86400);
    let own = KeyPair::generate().unwrap();
    let signed = soon.signed_by(&own, &issuer).unwrap();
    let pem = |kind: &str, der: &[u8]| format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", data_encoding::BASE64.encode(der));
    format!("{}{}", pem("PRIVATE KEY", own.serialized_der()), pem("CERTIFICATE", signed.der()))
}

#[test]
fn another_name_needs_another_authority_and_a_broken_file_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), &[]).unwrap().certificate();
    let told = Arc::new(Mutex::new(Vec::new()));
    let hearing = told.clone();
    let hosts = ["arm.lab.example".to_owned()];
    let hear = move |line: &str| hearing.lock().unwrap().push(line.to_owned());
    let other = Https::open(&folder.path().join("https"), "kitchen-pi", &hosts, hear).unwrap().certificate();
    assert!(other.names.contains(&hosts[0]) && other.authority_fingerprint != first.authority_fingerprint);
    assert!(told.lock().unwrap()[0].contains("made anew"), "{told:?}");
    for file in ["authority.pem", "certificate.pem"] {
        let path = folder.path().join("https").join(file);
        let kept = std::fs::read(&path).unwrap();
        for broken in [&b"no certificate"[..], b"", &kept[..kept.len() / 2]] {
            std::fs::write(&path, broken).unwrap();
            let error = open(folder.path(), &["arm.lab.example"]).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains("in PEM"), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), broken);
        }
        std::fs::write(&path, kept).unwrap();
    }
    assert_eq!(open(folder.path(), &["arm.lab.example"]).unwrap().certificate(), other);
}

#[test]
fn a_key_that_others_may_read_is_refused_as_ssh_does() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), &[]).unwrap());
    for name in ["authority.pem", "certificate.pem"] {
        let path = folder.path().join("https").join(name);
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        set(0o644);
        let refused = open(folder.path(), &[]).unwrap_err().to_string();
        assert!(refused.contains(name) && refused.contains("mode 644") && refused.contains("chmod 600"), "{refused}");
        set(0o600);
        open(folder.path(), &[]).unwrap();
    }
}
