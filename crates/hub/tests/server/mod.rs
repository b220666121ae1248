//! A repository on the loopback interface, with as much of the Hub's HTTP as a download needs:
//! `/api/<kind>/<repo>/revision/<rev>`, `/api/<kind>/<repo>/tree/<commit>`, and
//! `/[datasets/]<repo>/resolve/<commit>/<file>` with its `etag`, `x-repo-commit` and `x-linked-*` headers.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};

/// What goes wrong with the transfer of a file.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection closes after this many bytes.
    CutAfter(usize),
    /// The byte at this place arrives changed.
    FlipByte(usize),
    /// 404 with a page, as a failing store behind the Hub answers.
    ErrorPage,
}

struct RepoFile {
    path: String,
    bytes: Vec<u8>,
    etag: String,
    is_large: bool,
    fault: Option<Fault>,
}

struct State {
    repo: String,
    commit: String,
    token: Option<String>,
    is_portal: bool,
    files: Vec<RepoFile>,
    transfers: Vec<String>,
}

/// Serves one repository until the test process ends.
pub struct HubServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl HubServer {
    pub fn start(repo: &str, commit: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { repo: repo.into(), commit: commit.into(), token: None, is_portal: false, files: vec![], transfers: vec![] };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A client that goes away is no concern of the server's.
                thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A file as git holds it: its etag is no SHA-256.
    pub fn with_file(self, path: &str, bytes: &[u8]) -> Self {
        let etag = sha256_hex(bytes).chars().take(40).collect();
        self.add(RepoFile { path: path.into(), bytes: bytes.into(), etag, is_large: false, fault: None })
    }

    /// A file as git LFS holds it: its etag is its SHA-256.
    pub fn with_large_file(self, path: &str, bytes: &[u8]) -> Self {
        self.add(RepoFile { path: path.into(), bytes: bytes.into(), etag: sha256_hex(bytes), is_large: true, fault: None })
    }

    fn add(self, file: RepoFile) -> Self {
        self.state.lock().unwrap().files.push(file);
        self
    }

    /// Only requests with this token are answered.
    pub fn with_token(self, token: &str) -> Self {
        self.state.lock().unwrap().token = Some(token.into());
        self
    }

    /// Answers everything with a page, as a hotel's network does.
    pub fn with_portal(self) -> Self {
        self.state.lock().unwrap().is_portal = true;
        self
    }

    pub fn set_fault(&self, path: &str, fault: Option<Fault>) {
        let mut state = self.state.lock().unwrap();
        state.files.iter_mut().find(|file| file.path == path).unwrap().fault = fault;
    }

    /// The files whose bytes were sent, in order.
    pub fn transfers(&self) -> Vec<String> {
        self.state.lock().unwrap().transfers.clone()
    }
}

struct Answer {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
    /// How much of the body is really sent.
    sent: usize,
}

impl Answer {
    fn new(status: &'static str, headers: Vec<String>, body: Vec<u8>) -> Self {
        let sent = body.len();
        Self { status, headers, body, sent }
    }

    fn error(status: &'static str, code: &str) -> Self {
        Self::new(status, vec![format!("x-error-code: {code}")], format!(r#"{{"error": "{code}"}}"#).into_bytes())
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut token = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            token = value.trim().strip_prefix("Bearer ").map(str::to_owned);
        }
    }
    let mut words = request.split_whitespace();
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_recursive = query.split('&').any(|part| part == "recursive=true");
    let answer = answer(&mut state.lock().unwrap(), method, &path.replace("%2F", "/"), is_recursive, token.as_deref());
    write!(stream, "HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", answer.status, answer.body.len())?;
    for header in &answer.headers {
        write!(stream, "{header}\r\n")?;
    }
    write!(stream, "\r\n")?;
    if method != "HEAD" {
        stream.write_all(&answer.body[..answer.sent])?;
    }
    stream.flush()
}

fn answer(state: &mut State, method: &str, path: &str, is_recursive: bool, token: Option<&str>) -> Answer {
    if state.is_portal {
        return Answer::new("200 OK", vec![], b"<html>Please log in</html>".to_vec());
    }
    // A repository that is named datasets/owner/name is one of a dataset.
    let (kind, name) = state.repo.strip_prefix("datasets/").map_or(("models", state.repo.as_str()), |name| ("datasets", name));
    let api = format!("/api/{kind}/{name}/");
    let resolve = format!("/{}/resolve/{}/", state.repo, state.commit);
    if state.token.as_deref().is_some_and(|wanted| token != Some(wanted)) {
        return Answer::error("401 Unauthorized", "GatedRepo");
    }
    if let Some(revision) = path.strip_prefix(&format!("{api}revision/")) {
        if ![state.commit.as_str(), "main"].contains(&revision) {
            return Answer::error("404 Not Found", "RevisionNotFound");
        }
        let body = format!(r#"{{"id": "{}", "sha": "{}"}}"#, state.repo, state.commit);
        return Answer::new("200 OK", vec![], body.into_bytes());
    }
    if path == format!("{api}tree/{}", state.commit) {
        let mut entries = vec![r#"{"type": "directory", "oid": "00", "size": 0, "path": "checkpoints"}"#.to_owned()];
        for file in state.files.iter().filter(|file| is_recursive || !file.path.contains('/')) {
            let (size, etag) = (file.bytes.len(), &file.etag);
            let lfs =
                if file.is_large { format!(r#", "lfs": {{"oid": "{etag}", "size": {size}, "pointerSize": 134}}"#) } else { String::new() };
            entries.push(format!(r#"{{"type": "file", "oid": "00", "size": {size}, "path": "{}"{lfs}}}"#, file.path));
        }
        return Answer::new("200 OK", vec![], format!("[{}]", entries.join(", ")).into_bytes());
    }
    let Some(file) = path.strip_prefix(&resolve).and_then(|name| state.files.iter().find(|file| file.path == name)) else {
        return Answer::error("404 Not Found", "RepoNotFound");
    };
    let mut headers = vec![format!("etag: \"{}\"", file.etag), format!("x-repo-commit: {}", state.commit)];
    if file.is_large {
        headers.push(format!("x-linked-etag: \"{}\"", file.etag));
        headers.push(format!("x-linked-size: {}", file.bytes.len()));
    }
    let mut answer = Answer::new("200 OK", headers, file.bytes.clone());
    if method == "GET" {
        state.transfers.push(file.path.clone());
        match file.fault {
            None => {}
            Some(Fault::CutAfter(bytes)) => answer.sent = bytes,
            Some(Fault::FlipByte(at)) => answer.body[at] ^= 1,
            Some(Fault::ErrorPage) => answer = Answer::new("404 Not Found", vec![], b"<html>gone</html>".to_vec()),
        }
    }
    answer
}
