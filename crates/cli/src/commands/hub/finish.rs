//! `sinew hub finish`

use sinew_hub::{RepoKind, UploadOptions};

use super::upload::tell;
use super::whole;
use crate::args::FinishArgs;
use crate::{Done, transfer};

pub fn run(args: &FinishArgs) -> anyhow::Result<Done> {
    let hub = transfer::hub(None);
    let options = UploadOptions {
        message: args.message.clone(),
        parent: args.parent.clone(),
        replace: args.replace,
        check: whole::check(RepoKind::Dataset, true),
        ..UploadOptions::default()
    };
    let listener = if args.json { transfer::silent() } else { transfer::shown() };
    let uploaded = hub.finish(&args.dir, options, &*listener)?;
    tell(&hub, &uploaded, args.json)?;
    Ok(Done::Ok)
}
