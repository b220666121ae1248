//! Who may come in: the daemon's own token, those of paired devices, and six digits that make another.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sinew_core::check_name;

use super::wire::{Device, Me, Paired, Pairing, Problem, Role};
use crate::RemoteError;
use crate::http::is_same;
use crate::secret;
use crate::time::Watch;

/// Bytes of a token.
const TOKEN_BYTES: usize = 32;
/// How long six digits are good, and for how many tries.
const PAIRING: Duration = Duration::from_secs(120);
const TRIES: u32 = 5;
/// More devices than this are not paired.
const MOST_DEVICES: usize = 64;
const MOST_NAME: usize = 64;
/// The largest file that is read.
const MOST_BYTES: u64 = 1 << 20;

/// The tokens of one daemon, in files that its user alone can read.
#[derive(Debug)]
pub struct Keyring {
    folder: PathBuf,
    /// The digest of its own token.
    own: [u8; 32],
    inner: Mutex<Inner>,
    revocations: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    devices: Vec<Known>,
    pairing: Option<Begun>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    id: String,
    name: String,
    role: Role,
    paired_s: u64,
    /// The SHA-256 of its token, in hexadecimal.
    digest: String,
}

#[derive(Debug)]
struct Begun {
    code: String,
    role: Role,
    since: Watch,
    tries: u32,
}

impl Keyring {
    /// Reads the token in `folder`, and makes one where there is none. Says the token, too.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn open(folder: &Path) -> Result<(Self, String), RemoteError> {
        let fault = |path: &Path, source| RemoteError::Keyring { path: path.to_owned(), source };
        fs::create_dir_all(folder).map_err(|source| fault(folder, source))?;
        let path = folder.join("token");
        secret::check(&path).map_err(|what| fault(&path, std::io::Error::new(ErrorKind::PermissionDenied, what)))?;
        let token = match read(&path) {
            Ok(Some(text)) if text.trim().len() >= TOKEN_BYTES => text.trim().to_owned(),
            Ok(Some(_)) => {
                return Err(fault(&path, std::io::Error::new(ErrorKind::InvalidData, "it holds no token; remove it to get a new one")));
            }
            Ok(None) => {
                let token = random_hex(TOKEN_BYTES).map_err(|source| fault(&path, source))?;
                write(&path, format!("{token}\n").as_bytes()).map_err(|source| fault(&path, source))?;
                token
            }
            Err(source) => return Err(fault(&path, source)),
        };
        let path = folder.join("devices.json");
        let devices = match read(&path).map_err(|source| fault(&path, source))? {
            Some(text) => serde_json::from_str(&text).map_err(|error| fault(&path, error.into()))?,
            None => Vec::new(),
        };
        let inner = Mutex::new(Inner { devices, pairing: None });
        Ok((Self { folder: folder.to_owned(), own: digest(&token), inner, revocations: AtomicU64::new(0) }, token))
    }

    /// Whether `folder` has a token already.
    pub fn is_there(folder: &Path) -> bool {
        folder.join("token").is_file()
    }

    /// How often a device was revoked: when it is another number, who is connected has to be asked for anew.
    pub(super) fn revocations(&self) -> u64 {
        self.revocations.load(SeqCst)
    }

    /// Whose token it is. Takes as long for a wrong one as for a right one.
    pub(super) fn who(&self, token: &str) -> Option<Me> {
        let given = digest(token);
        let mut found = is_same(&self.own, &given).then(|| Me { role: Role::Administer, name: "owner".to_owned() });
        for known in &self.lock().devices {
            if is_same(known.digest.as_bytes(), HEXLOWER.encode(&given).as_bytes()) {
                found = Some(Me { role: known.role, name: known.name.clone() });
            }
        }
        found
    }

    /// Six new digits. Those before are good no longer.
    pub(super) fn begin(&self, role: Role) -> Result<Pairing, Problem> {
        let code =
            random_code().map_err(|error| Problem { status: 500, error: format!("asking the system for random digits: {error}") })?;
        self.lock().pairing = Some(Begun { code: code.clone(), role, since: Watch::start(), tries: 0 });
        Ok(Pairing { code, seconds_left: PAIRING.as_secs() })
    }

    /// A token for who has the digits.
    pub(super) fn pair(&self, code: &str, name: &str, now_s: u64) -> Result<Paired, Problem> {
        let problem = |status, error: &str| Problem { status, error: error.to_owned() };
        let name = name.trim();
        if name.chars().count() > MOST_NAME {
            return Err(problem(400, "expected a name of at most 64 characters"));
        }
        check_name(name).map_err(|error| problem(400, &error.to_string()))?;
        let mut inner = self.lock();
        let Some(begun) = inner.pairing.as_mut().filter(|begun| begun.since.elapsed() < PAIRING) else {
            inner.pairing = None;
            return Err(problem(403, "no device is being paired now; `sinew daemon pair` on the robot's machine shows six digits"));
        };
        if !is_same(begun.code.as_bytes(), code.trim().as_bytes()) {
            begun.tries += 1;
            if begun.tries >= TRIES {
                inner.pairing = None;
                return Err(problem(429, "five wrong tries: these digits are good no longer"));
            }
            return Err(problem(403, "these are not the digits"));
        }
        let role = begun.role;
        if inner.devices.len() >= MOST_DEVICES {
            return Err(problem(409, "64 devices are paired; revoke one first"));
        }
        let failed = |error: std::io::Error| Problem { status: 500, error: format!("pairing {name}: {error}") };
        let token = random_hex(TOKEN_BYTES).map_err(failed)?;
        let id = random_hex(4).map_err(failed)?;
        let known = Known { id, name: name.to_owned(), role, paired_s: now_s, digest: HEXLOWER.encode(&digest(&token)) };
        let devices = [&inner.devices[..], &[known]].concat();
        self.save(&devices).map_err(failed)?;
        (inner.devices, inner.pairing) = (devices, None);
        Ok(Paired { token, role })
    }

    pub(super) fn devices(&self) -> Vec<Device> {
        let device = |known: &Known| Device { id: known.id.clone(), name: known.name.clone(), role: known.role, paired_s: known.paired_s };
        self.lock().devices.iter().map(device).collect()
    }

    /// Whether there was such a device.
    pub(super) fn revoke(&self, id: &str) -> Result<bool, Problem> {
        let mut inner = self.lock();
        let devices: Vec<Known> = inner.devices.iter().filter(|known| known.id != id).cloned().collect();
        let was_there = devices.len() < inner.devices.len();
        self.save(&devices).map_err(|error| Problem { status: 500, error: format!("revoking {id}: {error}") })?;
        inner.devices = devices;
        self.revocations.fetch_add(1, SeqCst);
        Ok(was_there)
    }

    fn save(&self, devices: &[Known]) -> std::io::Result<()> {
        write(&self.folder.join("devices.json"), serde_json::to_string_pretty(devices)?.as_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn read(path: &Path) -> std::io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(size) if size.len() > MOST_BYTES => Err(std::io::Error::new(ErrorKind::InvalidData, format!("it has {} bytes", size.len()))),
        Ok(_) => fs::read_to_string(path).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file that this user alone can read; it is there whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
        // A file that is there keeps its mode.
        drop(fs::remove_file(&beside));
    }
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // So that the new name outlives a power cut.
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder).map_or(Ok(()), |folder| folder.sync_all()))
}

/// Bytes that nobody can guess.
pub(super) fn random(bytes: &mut [u8]) -> std::io::Result<()> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.secure_random.fill(bytes).map_err(|_| std::io::Error::other("the system has no random numbers"))
}

pub(super) fn random_hex(count: usize) -> std::io::Result<String> {
    let mut bytes = vec![0; count];
    random(&mut bytes)?;
    Ok(HEXLOWER.encode(&bytes))
}

fn random_code() -> std::io::Result<String> {
    // What lies above would make some digits likelier than others.
    const LIMIT: u32 = u32::MAX - u32::MAX % 1_000_000;
    loop {
        let mut bytes = [0; 4];
        random(&mut bytes)?;
        let number = u32::from_le_bytes(bytes);
        if number < LIMIT {
            return Ok(format!("{:06}", number % 1_000_000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_only_its_user_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Keyring::is_there(folder.path()));
        let (keyring, token) = Keyring::open(folder.path()).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(keyring.who(&token).unwrap().role, Role::Administer);
        for wrong in ["", "x", token.get(1..).unwrap_or_default(), &format!("{token}0")] {
            assert_eq!(keyring.who(wrong), None, "{wrong}");
        }
        assert_eq!(Keyring::open(folder.path()).unwrap().1, token);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(folder.path().join("token")).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(folder.path().join("token"), "short").unwrap();
        assert!(Keyring::open(folder.path()).unwrap_err().to_string().contains("token"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::write(folder.path().join("token"), &token).unwrap();
            fs::set_permissions(folder.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
            let refused = std::error::Error::source(&Keyring::open(folder.path()).unwrap_err()).unwrap().to_string();
            assert!(refused.contains("644") && refused.contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn digits_pair_one_device_which_can_be_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let (keyring, _) = Keyring::open(folder.path()).unwrap();
        assert_eq!(keyring.pair("000000", "phone", 7).unwrap_err().status, 403);
        let code = keyring.begin(Role::Operate).unwrap().code;
        assert!(code.len() == 6 && code.bytes().all(|c| c.is_ascii_digit()));
        assert_eq!(keyring.pair(&code, "\u{1b}", 7).unwrap_err().status, 400);
        let paired = keyring.pair(&code, "phone", 7).unwrap();
        assert_eq!(keyring.who(&paired.token), Some(Me { role: Role::Operate, name: "phone".to_owned() }));
        assert_eq!(keyring.pair(&code, "again", 7).unwrap_err().status, 403, "they are good once");
        let (again, _) = Keyring::open(folder.path()).unwrap();
        assert_eq!(again.who(&paired.token).unwrap().name, "phone");
        let kept = fs::read_to_string(folder.path().join("devices.json")).unwrap();
        assert!(!kept.contains(&paired.token), "the token itself is not kept");
        let id = again.devices()[0].id.clone();
        assert_eq!((again.revoke(&id), again.revoke(&id)), (Ok(true), Ok(false)));
        assert_eq!(again.who(&paired.token), None);
    }

    #[test]
    fn five_wrong_tries_end_the_digits() {
        let folder = tempfile::tempdir().unwrap();
        let (keyring, _) = Keyring::open(folder.path()).unwrap();
        let code = keyring.begin(Role::Look).unwrap().code;
        let wrong = if code == "123456" { "654321" } else { "123456" };
        let tries: Vec<u16> = (0..5).map(|_| keyring.pair(wrong, "x", 0).unwrap_err().status).collect();
        assert_eq!(tries, [403, 403, 403, 403, 429]);
        assert_eq!(keyring.pair(&code, "x", 0).unwrap_err().status, 403);
    }
}
