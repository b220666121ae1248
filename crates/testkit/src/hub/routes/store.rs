//! The stores behind the Hub: presigned addresses that large files come from and go to, as S3 has them.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::path::Path;

use data_encoding::HEXLOWER;
use hyper::http::Method;
use hyper::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use super::{Call, resolve};
use crate::hub::body::Incoming;
use crate::hub::clock::unix_s;
use crate::hub::git;
use crate::hub::objects::hash_file;
use crate::hub::reply::{Content, Reply};
use crate::hub::server::header;
use crate::hub::state::{Hub, sign};
use crate::hub::target::encode;

fn xml(status: u16, code: &str, message: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Reply::text(status, body).with(CONTENT_TYPE, "application/xml")
}

/// What an address that has expired gets.
pub fn expired() -> Reply {
    xml(403, "AccessDenied", "Request has expired")
}

/// What an address that names nothing gets.
pub fn no_such_key() -> Reply {
    xml(404, "NoSuchKey", "The specified key does not exist.")
}

/// A presigned address under the stores' own.
fn presign(hub: &Hub, path: &str, more: &str) -> String {
    let expires = unix_s() + hub.options.urls_valid.as_secs();
    let signature = sign(&hub.secret, path, expires);
    format!("{}{path}?X-Amz-Expires={expires}&X-Amz-Signature={signature}{more}", hub.cdn)
}

/// Where a large file can be read for a while.
pub fn presign_get(hub: &Hub, sha256: &str, path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    presign(
        hub,
        &format!("/cdn/{sha256}"),
        &format!("&response-content-disposition={}", encode(&format!("inline; filename=\"{name}\""), "")),
    )
}

/// Where a large file can be put for a while.
pub fn presign_put(hub: &Hub, sha256: &str, size: u64) -> String {
    presign(hub, &format!("/upload/object/{sha256}/{size}"), "")
}

/// Where a part of a multipart upload can be put for a while.
pub fn presign_part(hub: &Hub, upload: &str, part: u64) -> String {
    presign(hub, &format!("/upload/part/{upload}/{part}"), "")
}

/// Where a multipart upload is completed: at the Hub itself, whose address is signed too.
pub fn presign_complete(hub: &Hub, upload: &str) -> String {
    let expires = unix_s() + hub.options.urls_valid.as_secs();
    let signature = sign(&hub.secret, upload, expires);
    format!("{}/api/complete_multipart?uploadId={upload}&expiration={expires}&signature={signature}", hub.endpoint)
}

/// Requests to presigned addresses.
pub async fn answer(call: &mut Call<'_>, parts: &[&str]) -> Result<Reply, Reply> {
    let path = format!("/{}", parts.join("/"));
    let expires: u64 = call.target.get("X-Amz-Expires").and_then(|expires| expires.parse().ok()).unwrap_or(0);
    if call.target.get("X-Amz-Signature") != Some(&sign(&call.hub.secret, &path, expires)) {
        return Err(xml(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."));
    }
    if expires <= unix_s() {
        return Err(expired());
    }
    let has_own_host = call.hub.cdn_address.is_some();
    if has_own_host && !call.is_store {
        return Err(no_such_key());
    }
    if call.is_store && call.headers.contains_key("authorization") {
        return Err(xml(
            400,
            "InvalidArgument",
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified",
        ));
    }
    match parts {
        ["cdn", sha256] => {
            call.get_or_head()?;
            let object = call.hub.objects().get(sha256).cloned().filter(|object| object.path.exists()).ok_or_else(no_such_key)?;
            let content = Content::File { path: object.path, from: 0, len: object.len };
            let reply = resolve::ranged(call, content, &format!("\"{sha256}\"")).with(ACCEPT_RANGES, "bytes");
            Ok(resolve::disposition(reply, sha256).with(CONTENT_TYPE, "application/octet-stream"))
        }
        ["upload", "object", sha256, size] => {
            call.only(&[Method::PUT])?;
            put_object(call, sha256, size.parse().unwrap_or(0)).await
        }
        ["upload", "part", upload, part] => {
            call.only(&[Method::PUT])?;
            put_part(call, upload, part.parse().unwrap_or(0)).await
        }
        _ => Err(no_such_key()),
    }
}

/// That the request says how long its body is, and says so rightly.
fn check_len(call: &Call<'_>, expected: u64) -> Result<(), Reply> {
    let len: Option<u64> = header(&call.headers, CONTENT_LENGTH.as_str()).and_then(|len| len.parse().ok());
    match len {
        None => Err(xml(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")),
        Some(len) if len != expected => Err(xml(400, "EntityTooSmall", &format!("expected {expected} bytes, found {len}"))),
        Some(_) => Ok(()),
    }
}

fn disk(error: &std::io::Error) -> Reply {
    xml(500, "InternalError", &error.to_string())
}

/// Streams a body into a file, if there is one, from `at` on, and hashes it on its way where asked to.
async fn receive(body: &mut Incoming, path: Option<&Path>, at: u64, mut hash: Option<&mut Sha256>) -> Result<u64, Reply> {
    let mut file = None;
    if let Some(path) = path {
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let opened = file.insert(options.open(path).await.map_err(|error| disk(&error))?);
        opened.seek(SeekFrom::Start(at)).await.map_err(|error| disk(&error))?;
    }
    let mut len = 0;
    while let Some(chunk) = body.next().await? {
        if let Some(hash) = hash.as_deref_mut() {
            hash.update(&chunk);
        }
        len += chunk.len() as u64;
        if let Some(file) = &mut file {
            file.write_all(&chunk).await.map_err(|error| disk(&error))?;
        }
    }
    if let Some(file) = &mut file {
        file.flush().await.map_err(|error| disk(&error))?;
    }
    Ok(len)
}

async fn put_object(call: &mut Call<'_>, sha256: &str, size: u64) -> Result<Reply, Reply> {
    check_len(call, size)?;
    let path = call.hub.objects().incoming();
    let is_kept = !call.hub.options.discards_uploads;
    let mut hash = Sha256::new();
    let received = receive(&mut call.body, is_kept.then_some(path.as_path()), 0, Some(&mut hash)).await;
    let outcome = received.and_then(|len| {
        let found = HEXLOWER.encode(&hash.finalize());
        if len != size || found != sha256 {
            return Err(xml(400, "BadDigest", &format!("expected {size} bytes of sha256 {sha256}, found {len} of {found}")));
        }
        if is_kept {
            return call.hub.objects().take_in(&path, sha256, size).map_err(|error| disk(&error));
        }
        call.hub.objects().know(sha256, size);
        Ok(())
    });
    if let Err(error) = outcome {
        // What came is of no use to anyone.
        drop(std::fs::remove_file(&path));
        return Err(error);
    }
    Ok(Reply::empty(200).with(ETAG, &format!("\"{}\"", sha256.chars().take(32).collect::<String>())))
}

async fn put_part(call: &mut Call<'_>, upload: &str, part: u64) -> Result<Reply, Reply> {
    let (path, at, expected) = {
        let objects = call.hub.objects();
        let upload = objects.uploads.get(upload).ok_or_else(|| xml(404, "NoSuchUpload", "The specified upload does not exist."))?;
        let at = part.checked_sub(1).map(|before| before * upload.chunk).filter(|at| *at < upload.size).ok_or_else(no_such_key)?;
        (upload.path.clone(), at, upload.chunk.min(upload.size - at))
    };
    check_len(call, expected)?;
    receive(&mut call.body, Some(&path), at, None).await?;
    let mut objects = call.hub.objects();
    let upload = objects.uploads.get_mut(upload).ok_or_else(no_such_key)?;
    let etag = format!(
        "\"{}\"",
        git::sha256(format!("{} {part} {}", upload.oid, upload.parts.len()).as_bytes()).chars().take(32).collect::<String>()
    );
    upload.parts.insert(part, etag.clone());
    Ok(Reply::empty(200).with(ETAG, &etag))
}

/// `POST /api/complete_multipart`: puts the parts of an upload together.
pub async fn complete(call: &mut Call<'_>) -> Result<Reply, Reply> {
    call.only(&[Method::POST])?;
    let id = &call.target.get("uploadId").unwrap_or_default().to_owned();
    let expires: u64 = call.target.get("expiration").and_then(|expires| expires.parse().ok()).unwrap_or(0);
    if call.target.get("signature") != Some(&sign(&call.hub.secret, id, expires)) {
        return Err(Reply::error(403, None, "Invalid signature"));
    }
    if expires <= unix_s() {
        return Err(Reply::error(403, None, "The upload has expired"));
    }
    let body = call.body.json().await?;
    let told: Option<BTreeMap<u64, String>> = body["parts"]
        .as_array()
        .and_then(|parts| parts.iter().map(|part| Some((part["partNumber"].as_u64()?, part["etag"].as_str()?.to_owned()))).collect());
    let told = told.ok_or_else(|| Reply::bad_request("parts: expected a list of {partNumber, etag}"))?;
    let (path, oid, size) = {
        let objects = call.hub.objects();
        let upload = objects.uploads.get(id).ok_or_else(|| Reply::error(404, None, "The specified upload does not exist."))?;
        if body["oid"].as_str().is_some_and(|oid| oid != upload.oid) {
            return Err(Reply::bad_request("oid: it is another's upload"));
        }
        let count = upload.size.div_ceil(upload.chunk);
        let fits = |part: u64| {
            upload.parts.get(&part).is_some_and(|etag| told.get(&part).is_some_and(|told| told.trim_matches('"') == etag.trim_matches('"')))
        };
        if let Some(part) = (1..=count).find(|part| !fits(*part)) {
            return Err(Reply::bad_request(&format!("InvalidPart: part {part} of {count} is missing or has another ETag")));
        }
        (upload.path.clone(), upload.oid.clone(), upload.size)
    };
    let hashed = tokio::task::spawn_blocking({
        let path = path.clone();
        move || hash_file(&path)
    });
    let (found, len) = hashed.await.map_err(|error| Reply::error(500, None, &error.to_string()))?.map_err(|error| disk(&error))?;
    let mut objects = call.hub.objects();
    objects.uploads.remove(id);
    if found != oid || len != size {
        drop(std::fs::remove_file(&path));
        return Err(Reply::bad_request(&format!("expected {size} bytes of sha256 {oid}, found {len} of {found}")));
    }
    objects.take_in(&path, &oid, size).map_err(|error| disk(&error))?;
    Ok(Reply::json(&json!({"success": true})))
}
