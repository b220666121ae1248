//! `sinew hub upload`

use std::path::Path;

use anyhow::Context;
use sinew_hub::{Created, Hub, RepoKind, UploadOptions, Uploaded};
use sinew_recorder::bytes_in_words;

use super::whole;
use crate::args::{Kind, UploadArgs};
use crate::text::say;
use crate::{Done, source, text, transfer};

pub fn run(args: &UploadArgs) -> anyhow::Result<Done> {
    let kind = kind_of(&args.dir, args.kind)?;
    let repo = source::hub_repo_of(kind, &args.repo)?;
    let hub = transfer::hub(args.limit);
    let options = UploadOptions {
        include: args.include.clone(),
        exclude: args.exclude.clone(),
        delete: args.delete.clone(),
        message: args.message.clone(),
        parent: args.parent.clone(),
        replace: args.replace,
        private: args.private,
        check: whole::check(kind, args.include.is_empty()),
    };
    let listener = transfer::told().unwrap_or_else(|| if args.json { transfer::silent() } else { transfer::shown() });
    let uploaded = hub.upload(&args.dir, &repo, &options, &*listener)?;
    tell(&hub, &uploaded, args.json)?;
    Ok(Done::Ok)
}

/// What the folder is, where it can be only one thing.
fn kind_of(dir: &Path, given: Option<Kind>) -> anyhow::Result<RepoKind> {
    if let Some(given) = given {
        return Ok(given.into());
    }
    anyhow::ensure!(dir.is_dir(), "uploading {}: there is no such folder", dir.display());
    let has = |name: &str| dir.join(name).is_file();
    match (has("meta/info.json"), has("config.json"), has("index.html")) {
        (true, false, false) => Ok(RepoKind::Dataset),
        (false, true, false) => Ok(RepoKind::Model),
        (false, false, true) => Ok(RepoKind::Space),
        _ => anyhow::bail!(
            "uploading {}: it can't be told what it is; expected one of meta/info.json (a dataset), config.json (a policy) and index.html \
             (a Space), or --type",
            dir.display()
        ),
    }
}

pub fn tell(hub: &Hub, uploaded: &Uploaded, json: bool) -> anyhow::Result<()> {
    let page = uploaded.repo.page(&hub.options().endpoint);
    if json {
        return text::print_json(&serde_json::json!({
            "repo": uploaded.repo.repo(), "url": page, "commit": uploaded.commit, "commits": uploaded.commits, "files": uploaded.files,
            "changed_files": uploaded.changed_files, "total_bytes": uploaded.total_bytes, "bytes_sent": uploaded.bytes_sent,
            "left_out": uploaded.left_out, "created": uploaded.created == Created::Now, "tag": uploaded.tag,
        }))
        .context("printing what was uploaded");
    }
    let tag = uploaded.tag.as_ref().map(|tag| format!(", tagged {tag}")).unwrap_or_default();
    say!("{page} is commit {}{tag}", uploaded.commit);
    say!(
        "  {}, {}; {} new or changed, {} sent",
        text::plural(uploaded.files as u64, "file"),
        bytes_in_words(uploaded.total_bytes),
        uploaded.changed_files,
        bytes_in_words(uploaded.bytes_sent)
    );
    if !uploaded.left_out.is_empty() {
        say!("  left out: {}", text::in_line(&uploaded.left_out.join(", ")));
    }
    Ok(())
}
