//! The store of large objects: files on disk by their SHA-256, and uploads on their way there.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::git;

/// A large object.
#[derive(Clone, Debug)]
pub struct Object {
    pub path: PathBuf,
    pub len: u64,
    /// Its hash in Xet, where it came by that way.
    pub xet: Option<String>,
}

/// A multipart upload on its way.
#[derive(Debug)]
pub struct Upload {
    pub oid: String,
    pub size: u64,
    pub chunk: u64,
    pub path: PathBuf,
    /// Part number → ETag of what came.
    pub parts: BTreeMap<u64, String>,
}

/// All large objects.
#[derive(Debug)]
pub struct Objects {
    folder: PathBuf,
    known: HashMap<String, Object>,
    xet_hashes: HashSet<String>,
    pub uploads: HashMap<String, Upload>,
    counter: u64,
    /// Gone with the Hub, unless the folder is somebody's own.
    _temporary: Option<tempfile::TempDir>,
}

impl Objects {
    /// A store in `folder`, or in one of its own.
    pub fn open(folder: Option<&Path>) -> io::Result<Self> {
        let temporary = if folder.is_none() { Some(tempfile::tempdir()?) } else { None };
        let folder = folder.or(temporary.as_ref().map(tempfile::TempDir::path)).unwrap_or(Path::new(".")).to_owned();
        fs::create_dir_all(folder.join("lfs"))?;
        fs::create_dir_all(folder.join("incoming"))?;
        let mut known = HashMap::new();
        for entry in fs::read_dir(folder.join("lfs"))? {
            let entry = entry?;
            let object = Object { path: entry.path(), len: entry.metadata()?.len(), xet: None };
            known.insert(entry.file_name().to_string_lossy().into_owned(), object);
        }
        Ok(Self { folder, known, xet_hashes: HashSet::new(), uploads: HashMap::new(), counter: 0, _temporary: temporary })
    }

    pub fn get(&self, sha256: &str) -> Option<&Object> {
        self.known.get(sha256)
    }

    /// A name for a file that is coming in.
    pub fn incoming(&mut self) -> PathBuf {
        self.counter += 1;
        self.folder.join("incoming").join(self.counter.to_string())
    }

    /// Begins a multipart upload and names it.
    pub fn begin(&mut self, oid: &str, size: u64, chunk: u64) -> io::Result<String> {
        let path = self.incoming();
        File::create(&path)?.set_len(size)?;
        let id = git::sha256(format!("{oid}{}", self.counter).as_bytes()).chars().take(32).collect::<String>();
        self.uploads.insert(id.clone(), Upload { oid: oid.to_owned(), size, chunk, path, parts: BTreeMap::new() });
        Ok(id)
    }

    /// The multipart upload of a file that was begun and has come to no end.
    pub fn begun(&self, oid: &str, chunk: u64) -> Option<String> {
        self.uploads.iter().find(|(_, upload)| upload.oid == oid && upload.chunk == chunk).map(|(id, _)| id.clone())
    }

    /// Takes a whole file in under its hash.
    pub fn take_in(&mut self, from: &Path, sha256: &str, len: u64) -> io::Result<()> {
        let path = self.folder.join("lfs").join(sha256);
        fs::rename(from, &path)?;
        self.known.insert(sha256.to_owned(), Object { path, len, xet: None });
        Ok(())
    }

    /// Knows of a file without having it.
    pub fn know(&mut self, sha256: &str, len: u64) {
        let path = self.folder.join("discarded");
        self.known.insert(sha256.to_owned(), Object { path, len, xet: None });
    }

    /// Notes a file that lies elsewhere and stays there.
    pub fn lend(&mut self, path: &Path) -> io::Result<(String, u64)> {
        let (sha256, len) = hash_file(path)?;
        self.known.insert(sha256.clone(), Object { path: path.to_owned(), len, xet: None });
        Ok((sha256, len))
    }

    /// Takes in a copy of a file that lies in a Xet store.
    pub fn take_in_xet(&mut self, from: &Path, sha256: &str, len: u64, xet: &str) -> io::Result<()> {
        self.take_in(from, sha256, len)?;
        if let Some(object) = self.known.get_mut(sha256) {
            object.xet = Some(xet.to_owned());
        }
        self.xet_hashes.insert(xet.to_owned());
        Ok(())
    }

    pub fn knows_xet(&self, hash: &str) -> bool {
        self.xet_hashes.contains(hash)
    }

    /// Puts bytes in.
    pub fn put(&mut self, content: &[u8]) -> io::Result<String> {
        let sha256 = git::sha256(content);
        if !self.known.contains_key(&sha256) {
            let path = self.incoming();
            fs::write(&path, content)?;
            self.take_in(&path, &sha256, content.len() as u64)?;
        }
        Ok(sha256)
    }

    /// Puts `len` zeros in, which take no room on disk.
    pub fn put_zeros(&mut self, len: u64) -> io::Result<String> {
        let path = self.incoming();
        File::create(&path)?.set_len(len)?;
        let (sha256, _) = hash_file(&path)?;
        self.take_in(&path, &sha256, len)?;
        Ok(sha256)
    }

    /// Forgets an object, as if it had never been uploaded.
    pub fn forget(&mut self, sha256: &str) -> bool {
        self.known.remove(sha256).is_some()
    }
}

/// A file's SHA-256 and length.
pub fn hash_file(path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut len = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((HEXLOWER.encode(&hash.finalize()), len));
        }
        hash.update(buffer.get(..count).unwrap_or_default());
        len += count as u64;
    }
}
