//! `sinew hub download`.

use serde_json::json;
use sinew_hub::{Download, Downloaded};

use super::repo_of;
use crate::args::DownloadArgs;
use crate::text::{self, say};
use crate::{Done, transfer};

pub fn run(args: &DownloadArgs) -> anyhow::Result<Done> {
    let hub = transfer::hub(None);
    let repo = repo_of(&hub, &args.repo.repo, args.repo.kind)?;
    let what = Download { include: args.include.clone(), exclude: args.exclude.clone(), folder: args.out.clone() };
    let listener = transfer::told().unwrap_or_else(transfer::shown);
    let Downloaded { resolved, folder, files, fetched_files, size_bytes } = hub.download(&repo, &what, &*listener)?;
    if args.json {
        text::print_json(&json!({
            "repo": repo.repo(), "type": repo.kind(), "revision": repo.revision(), "commit": resolved.commit,
            "folder": folder, "files": files, "fetched_files": fetched_files, "size_bytes": size_bytes,
        }))?;
    } else {
        let did = match (&resolved.from_cache, &args.out) {
            (Some(_), Some(_)) => "copied from the cache and verified, which may lack some that the Hub has",
            (Some(_), None) => "fetched; what the cache has is verified",
            _ => "fetched and verified",
        };
        say!("{}, {}; {fetched_files} {did}: {}", text::plural(files as u64, "file"), text::bytes(size_bytes), folder.display());
    }
    Ok(Done::Ok)
}
