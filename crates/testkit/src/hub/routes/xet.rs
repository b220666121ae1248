//! Xet: tokens for its store, and what clients have put there.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Call;
use crate::hub::clock::unix_s;
use crate::hub::git;
use crate::hub::objects::hash_file;
use crate::hub::reply::Reply;
use crate::hub::repo::RepoKind;
use crate::hub::state::Hub;

/// `GET /api/…/xet-read-token/{revision}` and `…/xet-write-token/{revision}`.
pub fn token(call: &Call<'_>, kind: RepoKind, name: &str, revision: &str, is_write: bool) -> Result<Reply, Reply> {
    call.get_or_head()?;
    let Some(store) = &call.hub.options.xet else { return Err(Reply::error(404, None, "Not found")) };
    {
        let mut state = call.hub.state();
        let repo = if is_write { &*call.repo_to_write(&mut state, kind, name)? } else { call.repo(&state, kind, name, true)? };
        super::commit(repo, revision)?;
    }
    let expires = unix_s() + call.hub.options.urls_valid.as_secs();
    let token = format!("xet_{}", git::sha256(format!("{} {name} {is_write} {expires}", call.hub.secret).as_bytes()));
    Ok(Reply::json(&json!({"casUrl": store, "exp": expires, "accessToken": token}))
        .with_x("x-xet-cas-url", store)
        .with_x("x-xet-access-token", &token)
        .with_x("x-xet-token-expiration", &expires.to_string()))
}

/// Looks up what is new in the Xet store and takes it in by its SHA-256, so that it can be committed and downloaded by
/// clients without Xet too.
pub async fn discover(hub: &Arc<Hub>) -> Result<(), Reply> {
    if hub.options.xet.is_none() {
        return Ok(());
    }
    let hub = Arc::clone(hub);
    let done = tokio::task::spawn_blocking(move || take_in(&hub)).await;
    done.map_err(|error| Reply::error(500, None, &error.to_string()))?
        .map_err(|error| Reply::error(500, None, &format!("asking the Xet store: {error}")))
}

fn take_in(hub: &Hub) -> io::Result<()> {
    let Some(store) = &hub.options.xet else { return Ok(()) };
    let mut entries = Vec::new();
    get(store, "/simulation/file_entries")?.read_to_end(&mut entries)?;
    let entries: Value = serde_json::from_slice(&entries)?;
    for entry in entries.as_array().into_iter().flatten() {
        // Four numbers of 64 bits, which addresses write as digits one after another.
        let digits = entry["file_hash"].as_array().into_iter().flatten().filter_map(Value::as_u64).map(|number| format!("{number:016x}"));
        let hash: String = digits.collect();
        if hub.objects().knows_xet(&hash) {
            continue;
        }
        let path = hub.objects().incoming();
        io::copy(&mut get(store, &format!("/simulation/files/{hash}/data"))?, &mut File::create(&path)?)?;
        let (sha256, len) = hash_file(Path::new(&path))?;
        hub.objects().take_in_xet(&path, &sha256, len, &hash)?;
    }
    Ok(())
}

/// The body of an answer of status 200. HTTP/1.0, so that it ends with the connection.
fn get(store: &str, path: &str) -> io::Result<impl Read> {
    let host = store.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line)?;
    if line.split_whitespace().nth(1) != Some("200") {
        return Err(io::Error::other(format!("GET {path}: {}", line.trim())));
    }
    while line.trim_end() != "" {
        line.clear();
        answer.read_line(&mut line)?;
    }
    Ok(answer)
}
