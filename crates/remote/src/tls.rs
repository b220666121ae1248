//! What can be known of certificates before zenoh is asked, which says of most of it only that the time ran out, and of a certificate
//! that ran out nothing.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_platform_verifier::BuilderVerifierExt as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zenoh::Config;

use crate::link::Timed;
use crate::time::Deadline;

/// How long a server may take to refuse a certificate after the hand-shake.
const SECOND_THOUGHTS: Duration = Duration::from_millis(300);

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Connects,
    Listens,
}

/// What a file of zenoh's configuration names, as far as it is of use now.
struct Certificates {
    roots: Option<RootCertStore>,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    verifies_name: bool,
}

/// Whether a server is heard that refuses this side's certificate, which it may do a moment after the hand-shake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thorough {
    Yes,
    No,
}

/// Whether there can be TLS at the locators where this side connects and listens, as far as is known before zenoh is asked. Those of other
/// protocols are left alone. A server that shakes hands gets this time for each.
///
/// # Errors
/// Why there can be none, in words.
pub(crate) fn check<T: AsRef<str>>(
    config: &Config,
    connects: &[T],
    listens: &[T],
    within: Duration,
    thorough: Thorough,
) -> Result<(), String> {
    let secured = |locators: &[T]| -> Vec<String> {
        let places = locators.iter().filter_map(|locator| locator.as_ref().strip_prefix("tls/"));
        places.map(|place| place.split(['?', '#']).next().unwrap_or_default().to_owned()).collect()
    };
    if !secured(listens).is_empty() {
        Certificates::of(config, End::Listens)?;
    }
    let places = secured(connects);
    if places.is_empty() {
        return Ok(());
    }
    let certificates = Certificates::of(config, End::Connects)?;
    for place in &places {
        let (host, port) = place.rsplit_once(':').unwrap_or((place, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tried = certificates.try_at(host, port.parse().unwrap_or_default(), within, thorough);
        tried.map_err(|what| if places.len() > 1 { format!("{place}: {what}") } else { what })?;
    }
    Ok(())
}

/// Of a setting below `transport/link/tls`.
fn setting<T: serde::de::DeserializeOwned>(config: &Config, key: &str) -> Option<T> {
    let text = config.get_json(&format!("transport/link/tls/{key}")).ok()?;
    serde_json::from_str::<Option<T>>(&text).ok().flatten()
}

impl Certificates {
    /// Reads and checks those of `config`.
    ///
    /// # Errors
    /// When one can't be read, is not valid now, or does not fit its key; which, in words.
    fn of(config: &Config, end: End) -> Result<Self, String> {
        let is_mutual = setting(config, "enable_mtls").unwrap_or(false);
        let mut roots = None;
        if let Some(path) = setting::<PathBuf>(config, "root_ca_certificate") {
            let found = certificates("root_ca_certificate", &path)?;
            let mut store = RootCertStore::empty();
            for certificate in found {
                store.add(certificate).map_err(|error| format!("root_ca_certificate {}: {error}", path.display()))?;
            }
            roots = Some(store);
        }
        let (certificate, key) = match end {
            End::Connects => ("connect_certificate", "connect_private_key"),
            End::Listens => ("listen_certificate", "listen_private_key"),
        };
        // What stands in the file itself is zenoh's to read.
        let is_inside = [certificate, key].iter().any(|name| setting::<String>(config, &format!("{name}_base64")).is_some());
        let files = setting::<PathBuf>(config, certificate).zip(setting::<PathBuf>(config, key));
        let own = match files {
            Some((chain, private)) if is_mutual || end == End::Listens => Some(own((certificate, &chain), (key, &private))?),
            None if !is_inside && (end == End::Listens || is_mutual) => {
                return Err(format!("expected {certificate} and {key} in zenoh's configuration"));
            }
            _ => None,
        };
        Ok(Self { roots, own, verifies_name: setting(config, "verify_name_on_connect").unwrap_or(true) })
    }

    /// Shakes hands with who is at `host` and `port`, to hear why it would fail. A server that is not there is not told of: zenoh waits
    /// for it.
    ///
    /// # Errors
    /// Why there is no connection, in words.
    fn try_at(&self, host: &str, port: u16, within: Duration, thorough: Thorough) -> Result<(), String> {
        if !self.verifies_name {
            return Ok(());
        }
        let Ok(name) = ServerName::try_from(host.to_owned()) else { return Err(format!("{host} is no name that a certificate has")) };
        let until = Deadline::after(within);
        let shake = |roots| self.shake(roots, (host, port), (&name, thorough), until);
        match shake(self.roots.clone()) {
            // Zenoh trusts those whom everybody trusts, too.
            Err(Some(error)) if error == UNKNOWN && self.roots.is_some() && shake(None).is_ok() => Ok(()),
            Err(Some(error)) => Err(words(&error)),
            Err(None) => Err(CLOSED.into()),
            Ok(()) => Ok(()),
        }
    }

    /// The fault, where there is one; none where the other side only ended it.
    fn shake(
        &self,
        roots: Option<RootCertStore>,
        place: (&str, u16),
        (name, thorough): (&ServerName<'static>, Thorough),
        until: Deadline,
    ) -> Result<(), Option<rustls::Error>> {
        let Ok(mut places) = place.to_socket_addrs() else { return Ok(()) };
        // Nothing connects without any time.
        let within = (until.left() / 2).max(Duration::from_millis(1));
        let Some(tcp) = places.find_map(|place| TcpStream::connect_timeout(&place, within).ok()) else { return Ok(()) };
        let connection = ClientConnection::new(Arc::new(self.config(roots)?), name.clone())?;
        let Ok(timed) = Timed::new(tcp, until) else { return Ok(()) };
        let mut stream = StreamOwned::new(connection, timed);
        while stream.conn.is_handshaking() || stream.conn.wants_write() {
            if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
                return why(&error);
            }
        }
        if thorough == Thorough::No {
            return Ok(());
        }
        // In TLS 1.3 a server looks at a client's certificate when the client has done with the server's; what it says then, if it
        // says anything, are tickets or why not.
        stream.sock.set_deadline(until.earlier(Deadline::after(SECOND_THOUGHTS)));
        match stream.conn.read_tls(&mut stream.sock) {
            Err(error) => why(&error),
            Ok(0) => Err(None),
            Ok(_) => stream.conn.process_new_packets().map(drop).map_err(Some),
        }
    }

    fn config(&self, roots: Option<RootCertStore>) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match roots {
            Some(roots) => builder.with_webpki_verifier(verifier(roots, provider)?),
            None => builder.with_platform_verifier()?,
        };
        match &self.own {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

fn verifier(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// The certificates in a file, each valid now.
fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let named = |error: String| format!("{what} {}: {error}", path.display());
    let text = std::fs::read(path).map_err(|error| named(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| named(format!("expected certificates in PEM: {error}")))?;
    if found.is_empty() {
        return Err(named("expected a certificate in PEM, found none".into()));
    }
    found.iter().try_for_each(|certificate| is_valid_now(certificate)).map_err(named)?;
    Ok(found)
}

fn is_valid_now(certificate: &CertificateDer<'_>) -> Result<(), String> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|error| format!("expected an X.509 certificate: {error}"))?;
    let validity = read.validity();
    let now = i64::try_from(crate::time::since_1970().as_secs()).unwrap_or(i64::MAX);
    let clock = x509_parser::time::ASN1Time::from_timestamp(now).map(|now| now.to_string()).unwrap_or_default();
    if now > validity.not_after.timestamp() {
        return Err(format!("it ran out on {}; this machine's clock says {clock}", validity.not_after));
    }
    if now < validity.not_before.timestamp() {
        return Err(format!("it is valid from {} on; this machine's clock says {clock}", validity.not_before));
    }
    Ok(())
}

/// A chain of certificates and the key of the first.
fn own(
    (certificate, chain): (&str, &Path),
    (key, private): (&str, &Path),
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), String> {
    let found = certificates(certificate, chain)?;
    crate::secret::check(private).map_err(|what| format!("{key} {}: {what}", private.display()))?;
    let text = std::fs::read(private).map_err(|error| format!("{key} {}: {error}", private.display()))?;
    let secret = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("{key} {}: expected a private key in PEM: {error}", private.display()))?;
    let signing = any_supported_type(&secret).map_err(|error| format!("{key} {}: {error}", private.display()))?;
    match CertifiedKey::new(found.clone(), signing).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => {
            Err(format!("{key} {} is not the key of {certificate} {}", private.display(), chain.display()))
        }
        // What can't be compared is found out by the other end.
        _ => Ok((found, secret)),
    }
}

const CLOSED: &str = "it closed the connection in TLS's hand-shake: is it a server with TLS, and does it want a certificate (enable_mtls)?";

const UNKNOWN: rustls::Error = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);

/// Why a hand-shake failed; nothing of what zenoh may try again.
fn why(error: &std::io::Error) -> Result<(), Option<rustls::Error>> {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(error) => Err(Some(error.clone())),
        None if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => Err(None),
        None => Ok(()),
    }
}

fn words(error: &rustls::Error) -> String {
    const CLOCKS: &str = "look at its dates, and at the clocks of both machines";
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("the server's certificate ran out: {CLOCKS}")
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            format!("the server's certificate is not valid yet: {CLOCKS}")
        }
        // An authority of the same name, with another key, is another one.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the server's certificate was signed by none that is trusted here: expected its signer's as root_ca_certificate".into()
        }
        rustls::Error::InvalidCertificate(why) => format!("the server's certificate is not accepted: {why}"),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a certificate: expected enable_mtls, connect_certificate and connect_private_key in zenoh's configuration"
                .into()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            format!("the server finds that connect_certificate ran out, or is not valid yet: {CLOCKS}")
        }
        rustls::Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            "the server trusts no one who signed connect_certificate: expected the signer in its root_ca_certificate".into()
        }
        rustls::Error::AlertReceived(alert) => format!("the server does not accept this side's certificate ({alert:?})"),
        rustls::Error::InvalidMessage(_) => "it speaks something else than TLS there: expected zenoh:// for a server without TLS".into(),
        error => error.to_string(),
    }
}
