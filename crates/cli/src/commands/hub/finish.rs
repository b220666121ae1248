//! `sinew hub finish`

use sinew_hub::{Hub, UploadOptions};

use super::upload::{is_settled, tell};
use crate::args::FinishArgs;
use crate::{Done, transfer};

pub fn run(args: &FinishArgs) -> anyhow::Result<Done> {
    let hub = Hub::from_env();
    let options = UploadOptions {
        message: args.message.clone(),
        parent: args.parent.clone(),
        replace: args.replace,
        check: Some(Box::new(is_settled)),
        ..UploadOptions::default()
    };
    let listener = if args.json { transfer::silent() } else { transfer::shown() };
    let uploaded = hub.finish(&args.dir, options, &*listener)?;
    tell(&hub, &uploaded, args.json)?;
    Ok(Done::Ok)
}
