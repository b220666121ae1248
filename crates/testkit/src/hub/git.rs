//! Git's ids and LFS pointers.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha1::{Digest, Sha1};
use sha2::Sha256;

fn object_id(kind: &str, content: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("{kind} {}\0", content.len()).as_bytes());
    hash.update(content);
    HEXLOWER.encode(&hash.finalize())
}

/// `git hash-object` of a file.
pub fn blob_id(content: &[u8]) -> String {
    object_id("blob", content)
}

/// In hexadecimal digits.
pub fn sha256(content: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(content))
}

/// The text that stands in git for a large file.
pub fn pointer(sha256: &str, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

/// The id of a commit, as git makes it.
pub fn commit_id(tree: &str, parent: Option<&str>, author: &str, date_s: u64, message: &str) -> String {
    let parent = parent.map_or_else(String::new, |parent| format!("parent {parent}\n"));
    let who = format!("{author} <{author}@users.noreply.huggingface.co> {date_s} +0000");
    object_id("commit", format!("tree {tree}\n{parent}author {who}\ncommitter {who}\n\n{message}\n").as_bytes())
}

/// The tree id of every folder that `files` (path, blob id; sorted by path) need, the root's under "".
pub fn folder_ids<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    // What lies in each folder: name → (id, is a folder).
    let mut folders: BTreeMap<String, BTreeMap<String, Option<String>>> = BTreeMap::from([(String::new(), BTreeMap::new())]);
    for (path, id) in files {
        let (mut folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        folders.entry(folder.to_owned()).or_default().insert(name.to_owned(), Some(id.to_owned()));
        while !folder.is_empty() {
            let (parent, name) = folder.rsplit_once('/').unwrap_or(("", folder));
            if folders.entry(parent.to_owned()).or_default().insert(name.to_owned(), None).is_some() {
                break;
            }
            folder = parent;
        }
    }
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    // The deepest first: a folder's id holds those of what is in it.
    let mut names: Vec<&String> = folders.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(if name.is_empty() { 0 } else { name.matches('/').count() + 1 }));
    for folder in names {
        let mut lines: Vec<(String, Vec<u8>)> = folders[folder]
            .iter()
            .map(|(name, id)| {
                let inner = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                let (mode, id, order) = match id {
                    Some(id) => ("100644", id, name.clone()),
                    None => ("40000", &ids[&inner], format!("{name}/")),
                };
                let mut line = format!("{mode} {name}\0").into_bytes();
                line.extend(HEXLOWER.decode(id.as_bytes()).unwrap_or_default());
                (order, line)
            })
            .collect();
        lines.sort();
        let content: Vec<u8> = lines.into_iter().flat_map(|(_, line)| line).collect();
        ids.insert(folder.clone(), object_id("tree", &content));
    }
    ids
}
