//! Git LFS: where large files are to go.

use hyper::http::Method;
use serde_json::{Map, Value, json};

use super::{Call, store};
use crate::hub::clock::{iso, unix_s};
use crate::hub::reply::Reply;
use crate::hub::repo::RepoKind;

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `POST {repo}.git/info/lfs/objects/batch`.
pub async fn batch(call: &mut Call<'_>, kind: RepoKind, name: &str) -> Result<Reply, Reply> {
    call.only(&[Method::POST])?;
    let asked = call.body.json().await?;
    let is_upload = match asked["operation"].as_str() {
        Some("upload") => true,
        Some("download") => false,
        other => return Err(Reply::bad_request(&format!("operation: expected upload or download, found {other:?}"))),
    };
    if is_upload {
        call.repo_to_write(&mut call.hub.state(), kind, name)?;
    } else {
        call.repo(&call.hub.state(), kind, name, true)?;
    }
    let offers = |transfer: &str| match asked["transfers"].as_array() {
        Some(transfers) => transfers.iter().any(|offered| offered == transfer),
        None => transfer == "basic",
    };
    let is_xet = is_upload && call.hub.options.xet.is_some() && offers("xet");
    let objects = asked["objects"].as_array().ok_or_else(|| Reply::bad_request("objects: expected a list"))?;
    let mut answers = Vec::new();
    let mut is_any_multipart = false;
    for object in objects {
        let (Some(oid), Some(size)) = (object["oid"].as_str().filter(|oid| is_sha256(oid)), object["size"].as_u64()) else {
            return Err(Reply::bad_request("objects: expected {oid: a SHA-256 in lower case, size: bytes}"));
        };
        let mut answer = json!({"oid": oid, "size": size});
        let known = call.hub.objects().get(oid).map(|object| object.len);
        let expires_at = iso(unix_s() + call.hub.options.urls_valid.as_secs());
        match (is_upload, known) {
            (_, Some(len)) if len != size => answer["error"] = json!({"code": 422, "message": format!("Size mismatch: {len} bytes")}),
            (true, Some(_)) => {}
            (false, None) => answer["error"] = json!({"code": 404, "message": "Object does not exist"}),
            (false, Some(_)) => {
                let href = store::presign_get(call.hub, oid, oid);
                answer["actions"] = json!({"download": {"href": href, "expires_at": expires_at}});
            }
            // The client goes to the Xet store by itself.
            (true, None) if is_xet => {}
            (true, None) => {
                let options = &call.hub.options;
                let is_multipart = offers("multipart") && size >= options.multipart_from && size > 0 && !options.discards_uploads;
                is_any_multipart |= is_multipart;
                let upload = if is_multipart {
                    multipart(call, oid, size)?
                } else {
                    json!({"href": store::presign_put(call.hub, oid, size), "expires_at": expires_at})
                };
                let verify = format!("{}/{}{name}.git/info/lfs/objects/verify", call.hub.endpoint, kind.prefix());
                answer["authenticated"] = true.into();
                answer["actions"] = json!({"upload": upload, "verify": {"href": verify}});
            }
        }
        answers.push(answer);
    }
    let transfer = if is_xet {
        "xet"
    } else if is_any_multipart {
        "multipart"
    } else {
        "basic"
    };
    let mut reply = Reply::json(&json!({"transfer": transfer, "objects": answers, "hash_algo": "sha256"}));
    reply = reply.with(hyper::http::header::CONTENT_TYPE, "application/vnd.git-lfs+json; charset=utf-8");
    Ok(reply)
}

fn multipart(call: &Call<'_>, oid: &str, size: u64) -> Result<Value, Reply> {
    let part = call.hub.options.part.max(1);
    let begun = call.hub.objects().begun(oid, part).filter(|_| call.hub.options.resumes_uploads);
    let begin = || call.hub.objects().begin(oid, size, part).map_err(|error| Reply::error(500, None, &error.to_string()));
    let id = begun.map_or_else(begin, Ok)?;
    let count = size.div_ceil(part);
    let width = count.to_string().len();
    let mut header = Map::from_iter([("chunk_size".to_owned(), Value::from(part.to_string()))]);
    // Digits are padded, so that names in order are parts in order.
    header.extend((1..=count).map(|number| (format!("{number:0width$}"), store::presign_part(call.hub, &id, number).into())));
    Ok(json!({"href": store::presign_complete(call.hub, &id), "header": header}))
}

/// `POST {repo}.git/info/lfs/objects/verify`: whether what was put there arrived.
pub async fn verify(call: &mut Call<'_>, kind: RepoKind, name: &str) -> Result<Reply, Reply> {
    call.only(&[Method::POST])?;
    let asked = call.body.json().await?;
    call.repo_to_write(&mut call.hub.state(), kind, name)?;
    let known = asked["oid"].as_str().and_then(|oid| call.hub.objects().get(oid).map(|object| object.len));
    match (known, asked["size"].as_u64()) {
        (Some(len), Some(size)) if len == size => Ok(Reply::json(&json!({"success": true}))),
        (Some(len), size) => Err(Reply::error(422, None, &format!("expected {len} bytes, found {size:?}"))),
        (None, _) => Err(Reply::error(404, None, "Object does not exist")),
    }
}
