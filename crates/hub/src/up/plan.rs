//! Which files of a folder go up, and what they hold.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use memchr::memmem::Finder;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::UploadOptions;
use super::journal::Journal;
use super::keys;
use super::notes::{Hashes, Stamp};
use crate::cache::{path_fault, read_small, unfollowed};
use crate::down::{hex, name_fault, patterns};
use crate::http::MAX_ENTRIES;
use crate::name::is_commit;
use crate::pace::{PIECE_BYTES, give_way, on_threads};
use crate::{Hub, HubError, HubOptions, HubRepo};

/// A file that is larger never goes into git, whatever the Hub says, so that a commit fits into memory.
pub(super) const SMALL_BYTES: u64 = 10 << 20;

/// A file of the folder.
#[derive(Clone, Debug)]
pub(super) struct Local {
    /// In the repository, with slashes.
    pub path: String,
    /// On this machine; never a link.
    pub file: PathBuf,
    pub stamp: Stamp,
}

/// A file, and what it holds.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub local: Local,
    pub hashes: Hashes,
}

impl Local {
    /// Says that the file is not what it was, if it isn't.
    pub fn check(&self) -> Result<(), HubError> {
        let what = match fs::symlink_metadata(&self.file) {
            Ok(found) => self.change(&found),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Some("it is not there any more".to_owned()),
            Err(source) => return Err(HubError::Io { doing: format!("looking at {}", self.file.display()), source }),
        };
        what.map_or(Ok(()), |what| Err(HubError::Changed { path: self.file.clone(), what }))
    }

    fn change(&self, found: &fs::Metadata) -> Option<String> {
        let now = Stamp::of(found);
        if !found.is_file() {
            Some("it is no regular file any more".to_owned())
        } else if now.size != self.stamp.size {
            Some(format!("it had {} bytes, and has {}", self.stamp.size, now.size))
        } else {
            (now != self.stamp).then(|| "it was written to".to_owned())
        }
    }

    /// The file, to be read: what was listed, and nothing that has taken its name since.
    pub fn open(&self) -> io::Result<File> {
        let file = open_regular(&self.file)?;
        let change = self.change(&file.metadata()?);
        change.map_or(Ok(file), |what| Err(io::Error::other(what)))
    }

    /// What is in it, where that is a small text.
    pub fn text(&self) -> io::Result<String> {
        let mut text = String::new();
        self.open()?.take(SMALL_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }

    /// What [`check`](Self::check) says, or else `error`.
    pub fn blame(&self, error: HubError) -> HubError {
        self.check().err().unwrap_or(error)
    }
}

/// Opens a file that must be a regular one. A pipe or a device could be waited for without end, and a link leads elsewhere.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let file = unfollowed(File::options().read(true)).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// Whether a file or folder is never sent: what git, caches and unfinished writes leave behind, and what holds secrets by its name.
fn is_private(name: &str, is_folder: bool) -> bool {
    const FOLDERS: [&str; 8] = [".git", ".cache", ".sinew", ".sinew-download", "__pycache__", ".aws", ".ssh", ".gnupg"];
    const FILES: [&str; 6] = [".DS_Store", "Thumbs.db", ".env", ".netrc", ".git-credentials", ".pypirc"];
    const KEYS: [&str; 6] = ["id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];
    const ENDS: [&str; 7] = [".lock", ".tmp", ".temp", ".incomplete", ".partial", ".swp", "~"];
    match is_folder {
        true => FOLDERS.contains(&name) || (name.starts_with('.') && name.ends_with(".undo")),
        false => FILES.contains(&name) || KEYS.contains(&name) || name.starts_with(".env.") || ENDS.iter().any(|end| name.ends_with(end)),
    }
}

/// A name that only a pattern for all names fits.
const ANY: &str = "\u{10fffd}\u{10fffd}\u{10fffd}";

/// The files below `folder` that the options want, in order, and those that are never sent.
pub(super) fn walk(folder: &Path, options: &UploadOptions) -> Result<(Vec<Local>, Vec<String>), HubError> {
    let doing = || format!("uploading {}", folder.display());
    let refuse = |what: String| HubError::Unusable { doing: doing(), what };
    let top = fs::canonicalize(folder).map_err(HubError::io(doing()))?;
    if !top.is_dir() {
        return Err(refuse("expected a folder, found a file".into()));
    }
    let (include, exclude) = (patterns(&options.include)?, patterns(&options.exclude)?);
    let (mut files, mut left_out) = (Vec::new(), Vec::new());
    let mut folders = vec![(top.clone(), String::new())];
    while let Some((here, prefix)) = folders.pop() {
        let listing = || format!("listing {}", here.display());
        let entries = match fs::read_dir(&here) {
            Ok(entries) => entries,
            // Nothing of it is wanted.
            Err(_)
                if [prefix.clone(), format!("{prefix}/{ANY}"), format!("{prefix}/{ANY}/{ANY}")]
                    .iter()
                    .any(|path| exclude.is_match(path)) =>
            {
                continue;
            }
            Err(err) => return Err(HubError::io(listing())(err)),
        };
        for entry in entries {
            let entry = entry.map_err(HubError::io(listing()))?;
            let file = entry.path();
            let name = entry
                .file_name()
                .into_string()
                .map_err(|name| refuse(format!("the name of {} is no UTF-8", Path::new(&name).display())))?;
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
            let kind = entry.file_type().map_err(HubError::io(format!("looking at {}", file.display())))?;
            if is_private(&name, kind.is_dir()) {
                // What an upload keeps for itself is nothing to be told of.
                if path != ".cache" {
                    left_out.push(path);
                }
                continue;
            }
            if kind.is_dir() {
                folders.push((file, path));
                continue;
            }
            let is_wanted = (options.include.is_empty() || include.is_match(&path)) && !exclude.is_match(&path);
            if !is_wanted {
                continue;
            }
            // huggingface_hub takes it for a path of Windows, and then refuses the whole repository.
            let fault = path_fault(&path).or_else(|| path.contains(':').then_some("it holds a colon, which Python's client refuses"));
            if let Some(fault) = fault {
                return Err(refuse(format!(
                    "{path:?} can't be a file of a repository: {fault}; rename it, or leave it out with --exclude"
                )));
            }
            let file = if kind.is_symlink() { linked(&top, &file, &path).map_err(refuse)? } else { file };
            let found = fs::symlink_metadata(&file).map_err(HubError::io(format!("looking at {}", file.display())))?;
            if !found.is_file() {
                left_out.push(path);
                continue;
            }
            files.push(Local { path, file, stamp: Stamp::of(&found) });
            if files.len() > MAX_ENTRIES {
                return Err(refuse(format!("it has more than {MAX_ENTRIES} files")));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(fault) = name_fault(files.iter().map(|file| file.path.as_str())) {
        return Err(refuse(format!("{fault}, so that nobody could download both; rename one, or leave it out with --exclude")));
    }
    left_out.sort();
    Ok((files, left_out))
}

/// The file of the folder that a link leads to.
fn linked(top: &Path, link: &Path, path: &str) -> Result<PathBuf, String> {
    let refuse = |what: &str| format!("{path} is a link to {what}; put the file there, or leave it out with --exclude");
    let target = fs::canonicalize(link).map_err(|err| refuse(&format!("something that can't be found ({err})")))?;
    let below = target.strip_prefix(top).ok().filter(|_| target.is_file());
    let below = below.ok_or_else(|| refuse("something that is no file of this folder"))?;
    let mut names = below.iter().map(|name| name.to_string_lossy()).peekable();
    while let Some(name) = names.next() {
        if is_private(&name, names.peek().is_some()) {
            return Err(refuse("a file that is never sent"));
        }
    }
    Ok(target)
}

impl HubOptions {
    /// `text` with `[secret]` in the place of every token of this user: the one that is sent, and those that logins have stored.
    ///
    /// # Errors
    /// When the stored ones can't be read, so that nobody knows what to hide.
    pub fn masked(&self, text: &str) -> Result<String, HubError> {
        let tokens = tokens_of(self)?;
        Ok(tokens.iter().filter(|token| token.len() >= SHORTEST).fold(text.to_owned(), |text, token| text.replace(token, "[secret]")))
    }
}

/// Shorter ones are no tokens, and are found everywhere.
const SHORTEST: usize = 8;

/// The token that is sent, and all that logins have stored.
fn tokens_of(options: &HubOptions) -> Result<Vec<String>, HubError> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    // What is no file of a token's length is not taken for a login either.
    let stored = read_small(&options.token_path, 4 << 10).map(text).unwrap_or_default();
    // All that huggingface_hub's logins have stored, each by its name.
    let path = options.token_path.with_file_name("stored_tokens");
    let all = match read_small(&path, 1 << 20) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => String::new(),
        read => {
            let doing = format!("reading {}, so that no token in it gets out", path.display());
            read.map(text).map_err(HubError::io(doing))?
        }
    };
    let named = all.lines().filter_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == "hf_token").map(|(_, token)| token));
    let sent = options.token.as_ref().map(|token| token.secret());
    Ok(sent.into_iter().chain([stored.as_str()]).chain(named).map(|token| token.trim().to_owned()).collect())
}

/// Tokens of this user, none of which may leave, whichever is sent.
struct Secrets {
    tokens: Vec<Finder<'static>>,
    /// Stands for them where it is written down for which of them a file was searched, and tells nothing of them.
    mark: String,
}

impl Secrets {
    fn of(options: &HubOptions) -> Result<Self, HubError> {
        let tokens = tokens_of(options)?.into_iter().filter(|token| token.len() >= SHORTEST);
        let mut tokens: Vec<Vec<u8>> = tokens.map(String::into_bytes).collect();
        // As UTF-16 has it, in either order of the bytes.
        let wide = |token: &Vec<u8>| token.iter().flat_map(|byte| [*byte, 0]).take(2 * token.len() - 1).collect();
        tokens.extend(tokens.iter().map(wide).collect::<Vec<Vec<u8>>>());
        tokens.sort();
        tokens.dedup();
        // Begins with what is searched for beside them.
        let mut mark = hex(&Sha256::digest([b"keys".as_slice(), &tokens.join(&b'\n')].concat()));
        mark.truncate(16);
        let tokens = tokens.iter().map(|token| Finder::new(token).into_owned()).collect();
        Ok(Self { tokens, mark })
    }

    /// Whether one of them is in `text`.
    fn are_in(&self, text: &[u8]) -> bool {
        self.tokens.iter().any(|token| token.find(text).is_some())
    }

    /// That none is in what `name` says it is; `text` need not be told.
    fn check(&self, text: &[u8], doing: impl FnOnce() -> String, name: &str) -> Result<(), HubError> {
        match self.are_in(text) {
            true => Err(Self::found(doing(), name)),
            false => Ok(()),
        }
    }

    fn found(doing: String, name: &str) -> HubError {
        let what = format!("{name} holds a token that you log in with, which everybody could then use; take it out");
        HubError::Unusable { doing, what }
    }
}

/// A search for the tokens in what is read piece by piece.
struct Search<'a> {
    secrets: &'a Secrets,
    /// As many bytes of what came before as a token that ends later may have.
    before: Vec<u8>,
    most: usize,
}

impl<'a> Search<'a> {
    fn new(secrets: &'a Secrets) -> Self {
        let longest = secrets.tokens.iter().map(|token| token.needle().len()).max().unwrap_or_default();
        Self { secrets, before: Vec::new(), most: longest.saturating_sub(1) }
    }

    /// Whether a token ends in `piece`.
    fn finds_in(&mut self, piece: &[u8]) -> bool {
        // What lies across the two, then what lies in this one.
        self.before.extend_from_slice(&piece[..piece.len().min(self.most)]);
        let is_found = self.secrets.are_in(&self.before) || self.secrets.are_in(piece);
        match piece.len().checked_sub(self.most) {
            Some(from) => piece[from..].clone_into(&mut self.before),
            None => drop(self.before.drain(..self.before.len().saturating_sub(self.most))),
        }
        is_found
    }
}

/// That the options can be meant, before anything is noted or sent.
pub(super) fn check_options(hub: &HubOptions, repo: &HubRepo, options: &UploadOptions) -> Result<(), HubError> {
    let doing = || format!("uploading to {repo}");
    let refuse = |what: String| Err(HubError::Unusable { doing: doing(), what });
    [&options.include, &options.exclude, &options.delete].into_iter().try_for_each(|globs| patterns(globs).map(drop))?;
    if repo.commit().is_some() || repo.revision().starts_with("refs/") {
        return refuse("only a branch can be uploaded to; name one, or none for main".into());
    }
    if let Some(parent) = options.parent.as_deref().filter(|parent| !is_commit(parent)) {
        return refuse(format!("expected the parent to be a commit of 40 hex digits, found {parent:?}"));
    }
    let Some(message) = &options.message else { return Ok(()) };
    if message.lines().next().is_none_or(|title| title.trim().is_empty()) {
        return refuse("expected a title in the first line of the message, found none".into());
    }
    if message.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r')) {
        return refuse("the message holds a control character".into());
    }
    Secrets::of(hub)?.check(message.as_bytes(), doing, "the message")
}

/// What each file holds, by the journal where it has not changed since. `tell` hears how many bytes of which file were read.
pub(super) fn hash(
    hub: &Hub,
    files: Vec<Local>,
    journal: &Journal,
    tell: &(dyn Fn(&Local, u64, u64, u64) + Sync),
) -> Result<Vec<Planned>, HubError> {
    let secrets = Secrets::of(hub.options())?;
    let mark = Some(secrets.mark.as_str());
    for file in &files {
        let folder = file.path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        // A folder that has it in its own name was met with its first file, and is not told either.
        let folder = if secrets.are_in(folder.as_bytes()) { "." } else { folder };
        secrets.check(file.path.as_bytes(), || format!("uploading the files in {folder}"), "the name of one of them")?;
    }
    let known: Vec<Option<Hashes>> = files.iter().map(|file| journal.hashes(&file.path, &file.stamp, mark)).collect();
    let unknown: Vec<usize> = (0..files.len()).filter(|at| known[*at].is_none()).collect();
    let total: u64 = unknown.iter().map(|at| files[*at].stamp.size).sum();
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let found: Mutex<Vec<(usize, Hashes)>> = Mutex::default();
    let failed: Mutex<Option<HubError>> = Mutex::default();
    let lock_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let work = || {
        if let Some(first) = hub.options().on_thread_start {
            first();
        }
        let mut buffer = vec![0; PIECE_BYTES];
        while lock_failed().is_none() {
            let Some(at) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let local = &files[*at];
            let mut of_file = 0;
            let hashed = hash_one(local, &mut buffer, &secrets, &mut |bytes| {
                of_file += bytes;
                tell(local, of_file, done.fetch_add(bytes, Ordering::Relaxed) + bytes, total);
            });
            match hashed {
                Ok(hashes) => {
                    journal.note_hashes(&local.path, &local.stamp, &hashes, mark);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((*at, hashes));
                }
                Err(error) => drop(lock_failed().get_or_insert(error)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8).min(unknown.len());
    on_threads("hash", threads, work);
    if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut hashes = known;
    for (at, found) in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        hashes[at] = Some(found);
    }
    Ok(files.into_iter().zip(hashes).filter_map(|(local, hashes)| Some(Planned { local, hashes: hashes? })).collect())
}

/// Reads a file once, and searches it for the user's tokens.
fn hash_one(local: &Local, buffer: &mut [u8], secrets: &Secrets, tell: &mut dyn FnMut(u64)) -> Result<Hashes, HubError> {
    let reading = || format!("reading {}", local.file.display());
    let size = local.stamp.size;
    let mut file = local.open().map_err(|err| local.blame(HubError::io(reading())(err)))?;
    let mut sha256 = Sha256::new();
    let mut git = (size <= SMALL_BYTES).then(|| Sha1::new_with_prefix(format!("blob {size}\0")));
    let mut search = Search::new(secrets);
    // What is long is no text that somebody keeps a key in.
    let mut text = (size <= keys::MOST_BYTES).then(Vec::new);
    let mut bytes = 0;
    loop {
        let count = match file.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(HubError::io(reading())(err)),
        };
        let chunk = &buffer[..count];
        sha256.update(chunk);
        if let Some(git) = &mut git {
            git.update(chunk);
        }
        if search.finds_in(chunk) {
            return Err(Secrets::found(format!("uploading {}", local.file.display()), "it"));
        }
        text.iter_mut().for_each(|text| text.extend_from_slice(chunk));
        bytes += count as u64;
        tell(count as u64);
        give_way();
    }
    if bytes != size {
        return Err(HubError::Changed { path: local.file.clone(), what: format!("it had {size} bytes, and has {bytes}") });
    }
    local.check()?;
    if let Some(found) = text.as_deref().and_then(keys::secret_in) {
        let what = format!("it holds {found}, which everybody could then use; take it out, or leave the file out with --exclude");
        return Err(HubError::Unusable { doing: format!("uploading {}", local.file.display()), what });
    }
    Ok(Hashes { sha256: hex(&sha256.finalize()), git: git.map(|git| hex(&git.finalize())) })
}

/// How far a file is on its way up.
#[derive(Debug)]
pub(super) struct Meter {
    pub path: String,
    pub bytes: u64,
    /// What of it the store has, or is getting.
    pub done: AtomicU64,
    /// All that has left for it, once more included: it grows as long as something is taken.
    pub sent: Arc<AtomicU64>,
}

impl Meter {
    pub fn of(local: &Local) -> Self {
        Self { path: local.path.clone(), bytes: local.stamp.size, done: AtomicU64::new(0), sent: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Token;

    #[test]
    fn a_token_is_found_wherever_pieces_end() {
        let options =
            HubOptions { token: Token::new("hf_secret"), token_path: PathBuf::from("/nonexistent/token"), ..HubOptions::from_env() };
        let secrets = Secrets::of(&options).unwrap();
        let wide: Vec<u8> = "hf_secret".encode_utf16().flat_map(u16::to_be_bytes).collect();
        for text in [b"key: hf_secret\n".as_slice(), b"hf_secret", b"hf_hf_secret", &wide] {
            for piece in 1..=text.len() {
                let mut search = Search::new(&secrets);
                assert!(text.chunks(piece).any(|piece| search.finds_in(piece)), "{text:?} in pieces of {piece}");
            }
        }
        let mut search = Search::new(&secrets);
        assert!(!b"hf_secre hf_secre thf_ ecret".chunks(5).any(|piece| search.finds_in(piece)));
    }
}
