//! Repositories out of folders.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::clock;
use super::repo::{Entry, RepoKind, Words};
use super::state::{ATTRIBUTES, Hub, is_lfs_by_rule};

/// Loads `models/owner/name`, `datasets/owner/name` and `spaces/owner/name` under `root`.
pub fn load(hub: &Hub, root: &Path) -> io::Result<()> {
    for kind in RepoKind::ALL {
        for owner in folders(&root.join(kind.plural()))? {
            for folder in folders(&owner)? {
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                repo(hub, kind, &format!("{}/{}", name(&owner), name(&folder)), &folder)?;
            }
        }
    }
    Ok(())
}

fn folders(of: &Path) -> io::Result<Vec<PathBuf>> {
    if !of.is_dir() {
        return Ok(Vec::new());
    }
    let mut found: Vec<PathBuf> = fs::read_dir(of)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    found.retain(|path| path.is_dir());
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, prefix: &str, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            // What git keeps for itself is no part of a repository's files.
            if name != ".git" {
                walk(&path, &format!("{prefix}{name}/"), files)?;
            }
        } else {
            files.insert(format!("{prefix}{name}"), path);
        }
    }
    Ok(())
}

fn repo(hub: &Hub, kind: RepoKind, name: &str, folder: &Path) -> io::Result<()> {
    let mut files = BTreeMap::new();
    walk(folder, "", &mut files)?;
    let mut tree = BTreeMap::from([(".gitattributes".to_owned(), Entry::small(Bytes::from_static(ATTRIBUTES.as_bytes())))]);
    // Its own rules first, as they say what becomes of the rest.
    if let Some(rules) = files.get(".gitattributes") {
        tree.insert(".gitattributes".to_owned(), Entry::small(fs::read(rules)?.into()));
    }
    for (path, file) in &files {
        let len = fs::metadata(file)?.len();
        let is_lfs = len > 0 && (len >= hub.options.lfs_from || is_lfs_by_rule(&tree, path));
        let entry = if is_lfs {
            let (sha256, len) = hub.objects().lend(file)?;
            Entry::lfs(&sha256, len)
        } else {
            Entry::small(fs::read(file)?.into())
        };
        tree.insert(path.clone(), entry);
    }
    let mut state = hub.state();
    let owner = name.split('/').next().unwrap_or_default();
    let words = Words { title: "Upload folder", author: owner, date_s: clock::unix_s(), ..Words::default() };
    state.create(kind, name, owner).commit("main", tree, &words, false);
    Ok(())
}
