//! The daemon's own certificate, for pages that a browser lets do more (a phone's pose) and for networks that others listen to. An authority
//! of this machine signs it, whose key and certificate are made once; a person may have a device trust that. It may speak for this
//! machine's names and for private addresses alone, so that whoever takes its key can play no other site.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use data_encoding::{BASE64, HEXUPPER};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::keyring::{random_hex, write};
use super::wire;
use crate::RemoteError;
use crate::link::{Stream, Timed};
use crate::time::{Watch, since_1970};

/// How long the authority and its certificates are valid; browsers take none that are longer.
const CERTIFICATE: Duration = Duration::from_secs(397 * DAY);
/// Before its end another is made, and what is valid was so already this long ago: clocks differ.
const RENEWED: u64 = 30 * DAY;
const EARLIER: u64 = DAY;
const DAY: u64 = 24 * 60 * 60;
/// How often it is looked whether the certificate has to be another.
const LOOK: Duration = Duration::from_secs(60);
/// More addresses are not in it.
const MOST_ADDRESSES: usize = 32;
const MOST_BYTES: u64 = 64 << 10;

/// Addresses that are nobody's on the internet.
const PRIVATE: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// A daemon's certificate, which is made anew when it has to be, whether or not somebody connects.
pub struct Https(Arc<Kept>);

struct Kept {
    folder: PathBuf,
    authority: Authority,
    /// Names of this machine, beside its addresses.
    names: Vec<String>,
    tell: Box<dyn Fn(&str) + Send + Sync>,
    now: Mutex<Now>,
}

impl std::fmt::Debug for Https {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Https").field("names", &self.0.names).finish_non_exhaustive()
    }
}

struct Now {
    config: Arc<ServerConfig>,
    certificate: wire::Certificate,
}

/// Who signs.
struct Authority {
    key: KeyPair,
    der: CertificateDer<'static>,
}

impl Https {
    /// The certificate that is kept in `folder` for this machine, which `host` is the name of, and for `hosts`; made, where there is none.
    /// What becomes of it later is told to `tell`.
    ///
    /// # Errors
    /// When what is there can't be read, or nothing can be written.
    pub fn open(folder: &Path, host: &str, hosts: &[String], tell: impl Fn(&str) + Send + Sync + 'static) -> Result<Self, RemoteError> {
        Self::looking(folder, (host, hosts), tell, LOOK)
    }

    fn looking(
        folder: &Path,
        (host, hosts): (&str, &[String]),
        tell: impl Fn(&str) + Send + Sync + 'static,
        every: Duration,
    ) -> Result<Self, RemoteError> {
        let own = [host.to_owned(), format!("{host}.local"), "localhost".to_owned()];
        let mut names: Vec<String> = own.into_iter().chain(hosts.iter().map(|host| host.to_lowercase())).collect();
        names.sort();
        names.dedup();
        let authority = Authority::open(&folder.join("authority.pem"), &names, &tell)?;
        let (config, certificate) = current(&authority, folder, &names)?;
        let now = Mutex::new(Now { config, certificate });
        let kept = Arc::new(Kept { folder: folder.to_owned(), authority, names, tell: Box::new(tell), now });
        let weak = Arc::downgrade(&kept);
        let thread = std::thread::Builder::new().name("certificate".into()).spawn(move || look_after(&weak, every));
        thread.map_err(|source| RemoteError::Thread { who: "looking after the certificate", source })?;
        Ok(Self(kept))
    }

    /// What a person may compare.
    pub fn certificate(&self) -> wire::Certificate {
        self.0.lock().certificate.clone()
    }

    /// The authority's certificate, which a device may be told to trust.
    pub(super) fn authority(&self) -> &[u8] {
        &self.0.authority.der
    }

    /// Begins TLS with who has connected.
    ///
    /// # Errors
    /// When there is no memory for it, or the like.
    pub(super) fn accept(&self, timed: Timed) -> Result<Stream, rustls::Error> {
        let config = self.0.lock().config.clone();
        Ok(Stream::Served(Box::new(StreamOwned::new(ServerConnection::new(config)?, timed))))
    }
}

/// Looks at the certificate now and then, for as long as it is of use to somebody.
fn look_after(kept: &Weak<Kept>, every: Duration) {
    let step = every.min(Duration::from_secs(1));
    let mut looked = Watch::start();
    loop {
        std::thread::sleep(step);
        let Some(kept) = kept.upgrade() else { return };
        if looked.elapsed() >= every {
            looked = Watch::start();
            kept.renew();
        }
    }
}

impl Kept {
    fn renew(&self) {
        // The disk may be slow, and who connects meanwhile does not wait for it.
        let known = self.lock().certificate.fingerprint.clone();
        match current(&self.authority, &self.folder, &self.names) {
            Ok((_, certificate)) if certificate.fingerprint == known => {}
            Ok((config, certificate)) => {
                (self.tell)(&format!("the certificate was renewed; its SHA-256 is {}", certificate.fingerprint));
                *self.lock() = Now { config, certificate };
            }
            // What is there is good for a while.
            Err(error) => tracing::warn!(%error, "renewing the certificate"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The certificate that is kept, or another where that one does not do any more.
fn current(authority: &Authority, folder: &Path, names: &[String]) -> Result<(Arc<ServerConfig>, wire::Certificate), RemoteError> {
    let path = folder.join("certificate.pem");
    let mut addresses = addresses();
    if let Some(kept) = read(&path)? {
        let facts = Facts::of(&kept.der).map_err(|what| fault(&path, what))?;
        let does = facts.issuer == authority.name()?
            && facts.is_valid_for(since_1970().as_secs())
            && names.iter().all(|name| facts.names.contains(name))
            && addresses.is_subset(&facts.addresses);
        if does {
            return served(authority, kept, &path);
        }
        // A machine that moves between two networks has both.
        addresses.extend(facts.addresses);
        while addresses.len() > MOST_ADDRESSES {
            addresses.pop_first();
        }
    }
    let made = authority.sign(names, &addresses).map_err(|what| fault(&path, what))?;
    write(&path, format!("{}{}", pem("PRIVATE KEY", made.key.secret_pkcs8_der()), pem("CERTIFICATE", &made.der)).as_bytes())
        .map_err(|error| fault(&path, error.to_string()))?;
    served(authority, made, &path)
}

fn served(authority: &Authority, kept: Pair, path: &Path) -> Result<(Arc<ServerConfig>, wire::Certificate), RemoteError> {
    let facts = Facts::of(&kept.der).map_err(|what| fault(path, what))?;
    let shown =
        |der: &[u8]| HEXUPPER.encode(&Sha256::digest(der)).as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":");
    let certificate = wire::Certificate {
        fingerprint: shown(&kept.der),
        authority_fingerprint: shown(&authority.der),
        names: facts.names.iter().cloned().chain(facts.addresses.iter().map(ToString::to_string)).collect(),
        ends_s: facts.ends_s,
    };
    let builder = ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let chain = vec![kept.der, authority.der.clone()];
    let config = builder.and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::Pkcs8(kept.key)));
    let mut config = config.map_err(|error| fault(path, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), certificate))
}

/// A certificate and its key.
struct Pair {
    key: PrivatePkcs8KeyDer<'static>,
    der: CertificateDer<'static>,
}

impl Authority {
    /// The one in the file at `path`, made where there is none, or where that one may not speak for all of `names`.
    fn open(path: &Path, names: &[String], tell: &impl Fn(&str)) -> Result<Self, RemoteError> {
        if let Some(Pair { key, der }) = read(path)? {
            let facts = Facts::of(&der).map_err(|what| fault(path, what))?;
            let may_name = |name: &String| facts.permitted.iter().any(|root| name == root || name.ends_with(&format!(".{root}")));
            // Its time does not depend on the clock.
            if names.iter().all(may_name) {
                let key = KeyPair::try_from(&key).map_err(|error| fault(path, error.to_string()))?;
                return Ok(Self { key, der });
            }
            tell("this machine's certificate authority was made anew, for another name; devices that trusted the old one have to be told");
        }
        if let Some(folder) = path.parent() {
            make_folder(folder).map_err(|error| fault(path, error.to_string()))?;
        }
        let made = Self::make(names).map_err(|what| fault(path, what))?;
        let text = format!("{}{}", pem("PRIVATE KEY", made.key.serialized_der()), pem("CERTIFICATE", &made.der));
        write(path, text.as_bytes()).map_err(|error| fault(path, error.to_string()))?;
        Ok(made)
    }

    fn make(names: &[String]) -> Result<Self, String> {
        let told = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::new(Vec::new()).map_err(told)?;
        let id = random_hex(4).map_err(|error| error.to_string())?;
        // No two of them have the same name.
        params.distinguished_name = named(&format!("Sinew on {} ({id})", names.first().map_or("a robot", String::as_str)));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let names = names.iter().filter(|name| !name.ends_with(".local")).cloned().chain(std::iter::once("local".to_owned()));
        let private = PRIVATE.iter().map(|(address, prefix)| CidrSubnet::from_v4_prefix(address.octets(), *prefix));
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.map(GeneralSubtree::DnsName).chain(private.map(GeneralSubtree::IpAddress)).collect(),
            excluded_subtrees: Vec::new(),
        });
        // Whatever the clock says at a board's first boot.
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2070, 1, 1));
        let key = KeyPair::generate().map_err(told)?;
        let der = params.self_signed(&key).map_err(told)?.der().clone();
        Ok(Self { key, der })
    }

    /// As its certificates name it.
    fn name(&self) -> Result<String, RemoteError> {
        Facts::of(&self.der).map(|facts| facts.subject).map_err(|what| RemoteError::Certificate { path: PathBuf::new(), what })
    }

    fn sign(&self, names: &[String], addresses: &BTreeSet<IpAddr>) -> Result<Pair, String> {
        let told = |error: rcgen::Error| error.to_string();
        let mut own = CertificateParams::new(Vec::new()).map_err(told)?;
        own.distinguished_name = named(&Facts::of(&self.der)?.subject);
        let issuer = Issuer::from_params(&own, &self.key);
        let mut params = CertificateParams::new(names.to_vec()).map_err(told)?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = named(names.first().map_or("a robot", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = rcgen::date_time_ymd(1970, 1, 1) + since_1970();
        (params.not_before, params.not_after) = (now - Duration::from_secs(EARLIER), now + CERTIFICATE);
        let key = KeyPair::generate().map_err(told)?;
        let der = params.signed_by(&key, &issuer).map_err(told)?.der().clone();
        Ok(Pair { key: PrivatePkcs8KeyDer::from(key.serialize_der()), der })
    }
}

fn named(common: &str) -> rcgen::DistinguishedName {
    let mut name = rcgen::DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// What is in a certificate.
struct Facts {
    subject: String,
    issuer: String,
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    /// Of an authority.
    permitted: Vec<String>,
    begins_s: u64,
    ends_s: u64,
}

impl Facts {
    fn of(der: &[u8]) -> Result<Self, String> {
        let (_, found) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let common = |name: &x509_parser::x509::X509Name<'_>| {
            name.iter_common_name().next().and_then(|part| part.as_str().ok()).unwrap_or_default().to_owned()
        };
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        let all = found.subject_alternative_name().map_err(|error| error.to_string())?;
        for name in all.iter().flat_map(|all| &all.value.general_names) {
            match name {
                GeneralName::DNSName(name) => drop(names.insert((*name).to_owned())),
                GeneralName::IPAddress(bytes) => {
                    addresses.extend(<[u8; 4]>::try_from(*bytes).map(IpAddr::from));
                }
                _ => {}
            }
        }
        let roots = found.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::NameConstraints(constraints) => constraints.permitted_subtrees.as_ref(),
            _ => None,
        });
        let permitted =
            roots.flatten().filter_map(|root| if let GeneralName::DNSName(name) = root.base { Some(name.to_owned()) } else { None });
        let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        Ok(Self {
            subject: common(found.subject()),
            issuer: common(found.issuer()),
            names,
            addresses,
            permitted: permitted.collect(),
            begins_s: seconds(found.validity().not_before),
            ends_s: seconds(found.validity().not_after),
        })
    }

    fn is_valid_for(&self, now_s: u64) -> bool {
        self.begins_s <= now_s && now_s + RENEWED < self.ends_s
    }
}

/// Addresses of this machine for which its authority may speak. Those of version 6 change by themselves, and nobody types them.
fn addresses() -> BTreeSet<IpAddr> {
    let is_private = |address: Ipv4Addr| {
        PRIVATE.iter().any(|(net, prefix)| (address.to_bits() ^ net.to_bits()).checked_shr(32 - u32::from(*prefix)) == Some(0))
    };
    let all = if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|interface| interface.ip());
    let own = all.chain(std::iter::once(IpAddr::from(Ipv4Addr::LOCALHOST)));
    let private = own.filter(|address| matches!(address, IpAddr::V4(v4) if is_private(*v4)));
    private.take(MOST_ADDRESSES).collect()
}

fn fault(path: &Path, what: impl Into<String>) -> RemoteError {
    RemoteError::Certificate { path: path.to_owned(), what: what.into() }
}

/// A file with a key and a certificate, where it is there.
fn read(path: &Path) -> Result<Option<Pair>, RemoteError> {
    let size = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(path, error.to_string())),
    };
    if size > MOST_BYTES {
        return Err(fault(path, format!("found {size} bytes, expected at most {MOST_BYTES}")));
    }
    crate::secret::check(path).map_err(|what| fault(path, what))?;
    let bytes = fs::read(path).map_err(|error| fault(path, error.to_string()))?;
    let expected = "expected a private key and its certificate in PEM; move the file away, and another is made";
    let key = PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|_| fault(path, expected))?;
    let der = CertificateDer::from_pem_slice(&bytes).map_err(|_| fault(path, expected))?;
    Ok(Some(Pair { key, der }))
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_though_nobody_connects() {
        let folder = tempfile::tempdir().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let tell = move |line: &str| hears.lock().unwrap().push(line.to_owned());
        let https = Https::looking(folder.path(), ("kitchen-pi", &[]), tell, Duration::from_millis(20)).unwrap();
        let before = https.certificate().fingerprint;
        // It has gone, as one that has run out has.
        fs::remove_file(folder.path().join("certificate.pem")).unwrap();
        let waited = Watch::start();
        while https.certificate().fingerprint == before && waited.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let after = https.certificate().fingerprint;
        assert_ne!(after, before);
        assert_eq!(*told.lock().unwrap(), [format!("the certificate was renewed; its SHA-256 is {after}")]);
    }
}
