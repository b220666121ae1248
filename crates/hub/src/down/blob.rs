//! One file, until it is whole.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::disk_fault;
use crate::api::RepoFile;
use crate::cache::open_own;
use crate::http::{Ask, Http, broken, host, in_place};
use crate::pace::{PIECE_BYTES, give_way};
use crate::{HubError, HubRepo};

/// What is slower than this for as long as [`WINDOW`] is broken off, and begun again where it stopped.
const LEAST_BYTES_PER_WINDOW: u64 = 60 << 10;
const WINDOW: Duration = Duration::from_secs(60);

/// A file of a repository, on its way.
pub(super) struct Blob<'a> {
    pub http: &'a Http,
    pub repo: &'a HubRepo,
    pub commit: &'a str,
    pub file: &'a RepoFile,
    /// Whether it goes to the cache, or to a folder of the user's.
    pub is_cache: bool,
    /// Whether another file of the same download has failed, so that this one need not go on.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

/// What of the file is here.
struct Partial {
    file: File,
    bytes: u64,
    hasher: Hasher,
}

enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Blob<'_> {
    /// Lets `partial` grow until it is the file, which is then checked and on the disk. `tell` hears how many bytes of it are here.
    pub async fn fetch(&self, partial: &Path, tell: &mut (dyn FnMut(u64) + Send)) -> Result<(), HubError> {
        let mut here = Partial::open(partial, self.file).map_err(|err| self.on_disk(partial, err))?;
        let mut etag = None;
        let (mut idle_tries, mut is_second_try) = (0, false);
        loop {
            tell(here.bytes);
            if here.bytes == self.file.size_bytes {
                let found = here.hasher.clone_hex();
                if found == self.file.hash {
                    return here.file.sync_data().map_err(|err| self.on_disk(partial, err));
                }
                let damage = self.damaged(format!("the hash {}", self.file.hash), found);
                self.anew(&mut here, partial, &mut is_second_try, damage)?;
                continue;
            }
            let (before, begin) = (here.bytes, Instant::now());
            let error = match self.more(&mut here, &mut etag, partial, tell).await {
                Ok(()) => continue,
                Err(Trouble::Wrong(damage)) => {
                    self.anew(&mut here, partial, &mut is_second_try, damage)?;
                    continue;
                }
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Broken(error)) => error,
            };
            // A server that sends a byte now and then would do so for ever.
            let is_slow = begin.elapsed() >= WINDOW && here.bytes - before.min(here.bytes) < LEAST_BYTES_PER_WINDOW;
            idle_tries = if here.bytes > before && !is_slow { 0 } else { idle_tries + 1 };
            if idle_tries > self.http.options().retries || (self.stop)() {
                return Err(error);
            }
            tracing::debug!(file = self.file.path, %error, "going on where it stopped");
            tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(idle_tries.min(6) as u32)).await;
        }
    }

    /// Asks for what is missing, and takes what comes.
    async fn more(
        &self,
        here: &mut Partial,
        etag: &mut Option<HeaderValue>,
        path: &Path,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), Trouble> {
        let mut ask = self.ask()?;
        if here.bytes > 0 {
            ask.headers.insert(
                RANGE,
                HeaderValue::try_from(format!("bytes={}-", here.bytes)).map_err(|_odd| Trouble::Wrong(self.damaged("a range", "none")))?,
            );
            ask.headers.extend(etag.clone().map(|etag| (IF_RANGE, etag)));
        }
        ask.understands = Some(StatusCode::RANGE_NOT_SATISFIABLE);
        let mut response = self.http.send(&ask).await.map_err(|error| self.refused(error, here.bytes))?;
        self.http.check_encoding(&ask, &response).map_err(Trouble::Lasting)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(response.headers(), here.bytes, self.file.size_bytes) => {}
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
                return Err(Trouble::Wrong(
                    self.damaged(format!("its bytes from {} on", here.bytes), format!("HTTP {}", response.status())),
                ));
            }
            // The whole file, as the server doesn't know the range, or its file is another now.
            _ => here.restart(self.file).map_err(|err| Trouble::Lasting(self.on_disk(path, err)))?,
        }
        let declared = response.content_length().map(|more| here.bytes + more);
        if let Some(declared) = declared.filter(|declared| *declared != self.file.size_bytes) {
            let found = format!("{declared} bytes{}", in_place(&response));
            return Err(Trouble::Wrong(self.damaged(format!("{} bytes", self.file.size_bytes), found)));
        }
        // A weak one says nothing about bytes.
        *etag = response.headers().get(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/")).cloned();
        self.take(&ask, &mut response, here, path, tell).await
    }

    async fn take(
        &self,
        ask: &Ask<'_>,
        response: &mut Response,
        here: &mut Partial,
        path: &Path,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), Trouble> {
        let url = response.url().clone();
        let mut window = (Instant::now(), here.bytes);
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if here.bytes < self.file.size_bytes => {
                    let why = format!("it ended after {} of {} bytes", here.bytes, self.file.size_bytes);
                    return Err(Trouble::Broken(HubError::Broken { doing: ask.doing.clone(), host: host(&url), why }));
                }
                Ok(None) => return Ok(()),
                Err(err) => return Err(Trouble::Broken(broken(ask, &url, &err))),
            };
            if here.bytes + chunk.len() as u64 > self.file.size_bytes {
                return Err(Trouble::Wrong(self.damaged(format!("{} bytes", self.file.size_bytes), "more")));
            }
            here.add(&chunk).map_err(|err| Trouble::Lasting(self.on_disk(path, err)))?;
            tell(here.bytes);
            if window.0.elapsed() >= WINDOW {
                if here.bytes - window.1 < LEAST_BYTES_PER_WINDOW {
                    let why = format!("{} bytes came in {} s", here.bytes - window.1, WINDOW.as_secs());
                    return Err(Trouble::Broken(HubError::Broken { doing: ask.doing.clone(), host: host(&url), why }));
                }
                window = (Instant::now(), here.bytes);
            }
            if (self.stop)() {
                let why = "another file failed".to_owned();
                return Err(Trouble::Lasting(HubError::Broken { doing: ask.doing.clone(), host: host(&url), why }));
            }
        }
    }

    fn ask(&self) -> Result<Ask<'_>, Trouble> {
        Ok(Ask::get(
            self.http.file_url(self.repo, self.commit, &self.file.path).map_err(Trouble::Lasting)?,
            format!("fetching {} of {}", self.file.path, self.repo),
        )
        .about(self.repo))
    }

    /// Whether a refusal is one of the range, as some say it of a file that is another now (HTTP 412).
    fn refused(&self, error: HubError, from: u64) -> Trouble {
        match error {
            HubError::Server { what, .. } if from > 0 && what.starts_with("HTTP 412") => {
                Trouble::Wrong(self.damaged(format!("its bytes from {from} on"), what))
            }
            error => Trouble::Lasting(error),
        }
    }

    /// Begins once more from nothing; a second time is one too many.
    fn anew(&self, here: &mut Partial, path: &Path, is_second_try: &mut bool, damage: HubError) -> Result<(), HubError> {
        if std::mem::replace(is_second_try, true) {
            fs::remove_file(path).map_err(|err| self.on_disk(path, err))?;
            return Err(damage);
        }
        tracing::debug!(file = self.file.path, %damage, "fetching it anew");
        here.restart(self.file).map_err(|err| self.on_disk(path, err))
    }

    fn damaged(&self, expected: impl Into<String>, found: impl Into<String>) -> HubError {
        HubError::Damaged { repo: self.repo.clone(), file: self.file.path.clone(), expected: expected.into(), found: found.into() }
    }

    fn on_disk(&self, path: &Path, err: io::Error) -> HubError {
        disk_fault(self.repo, self.file, path, err, self.is_cache)
    }
}

/// Why the rest of a file did not come.
enum Trouble {
    /// Asking again where it stopped may help.
    Broken(HubError),
    /// What came is not the file.
    Wrong(HubError),
    Lasting(HubError),
}

impl Partial {
    /// What an earlier try left, hashed; or nothing.
    fn open(path: &Path, of: &RepoFile) -> io::Result<Self> {
        let file = open_own(path, File::options().create(true).truncate(false).read(true).write(true))?;
        let mut here = Self { file, bytes: 0, hasher: Hasher::of(of) };
        if here.file.metadata()?.len() > of.size_bytes {
            here.restart(of)?;
            return Ok(here);
        }
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match here.file.read(&mut buffer)? {
                0 => return Ok(here),
                n => {
                    here.hasher.update(&buffer[..n]);
                    here.bytes += n as u64;
                }
            }
        }
    }

    fn restart(&mut self, of: &RepoFile) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        self.hasher = Hasher::of(of);
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl Hasher {
    fn of(file: &RepoFile) -> Self {
        if file.is_large() { Self::Sha256(Sha256::new()) } else { Self::git(file.size_bytes) }
    }

    fn git(size_bytes: u64) -> Self {
        let mut git = Sha1::new();
        git.update(format!("blob {size_bytes}\0"));
        Self::Git(git)
    }

    fn update(&mut self, bytes: &[u8]) {
        give_way();
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    fn clone_hex(&self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.clone().finalize()),
            Self::Git(hasher) => hex(&hasher.clone().finalize()),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of the local file `path`, of the kind that the Hub gives for `like`.
pub(crate) fn hash_of(path: &Path, like: &RepoFile) -> io::Result<String> {
    let [hash] = hashed(&mut File::open(path)?, [Hasher::of(like)])?;
    Ok(hash)
}

/// Both hashes that the Hub may give for the local file `path`: git's, and the SHA-256.
pub(crate) fn hashes_of(path: &Path) -> io::Result<[String; 2]> {
    let mut file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    hashed(&mut file, [Hasher::git(size_bytes), Hasher::Sha256(Sha256::new())])
}

fn hashed<const N: usize>(file: &mut File, mut hashers: [Hasher; N]) -> io::Result<[String; N]> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hashers.map(|hasher| hasher.clone_hex())),
            n => hashers.iter_mut().for_each(|hasher| hasher.update(&buffer[..n])),
        }
    }
}

/// Whether a part begins where it was asked to, of a file of the right size.
fn begins_at(headers: &HeaderMap, first: u64, size: u64) -> bool {
    let parse = || {
        let (range, of) = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
        Some((range.split_once('-')?.0.parse::<u64>().ok()?, of.parse::<u64>().ok()?))
    };
    parse() == Some((first, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_of_sha256() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "hello\n").unwrap();
        let like = |hash: &str| RepoFile { path: "f".into(), size_bytes: 6, hash: hash.into() };
        // `git hash-object` and `sha256sum` say so.
        assert_eq!(hash_of(&path, &like(&"0".repeat(40))).unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
        let both = ["ce013625030ba8dba906f756967f9e9ca394464a", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"];
        assert_eq!(hashes_of(&path).unwrap(), both);
        assert_eq!(hash_of(&path, &like(&"0".repeat(64))).unwrap(), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    }

    #[test]
    fn a_part_must_begin_where_it_was_asked_to() {
        let headers = |value: &'static str| HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_static(value))]);
        assert!(begins_at(&headers("bytes 10-99/100"), 10, 100));
        for wrong in ["bytes 0-99/100", "bytes 10-99/101", "bytes 10-99/*", "items 10-99/100", "bytes */100"] {
            assert!(!begins_at(&headers(wrong), 10, 100), "{wrong}");
        }
        assert!(!begins_at(&HeaderMap::new(), 10, 100));
    }
}
