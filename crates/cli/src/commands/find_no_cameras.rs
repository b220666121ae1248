//! `sinew find-cameras` where cameras can't be listed yet.

use crate::Done;
use crate::args::FindCamerasArgs;

pub fn run(_: &FindCamerasArgs) -> anyhow::Result<Done> {
    anyhow::bail!("listing cameras: that is for Linux; here a camera is a number, as in --camera front=0,640x480@30")
}
