//! `sinew hub`

pub mod finish;
pub mod upload;

use crate::Done;
use crate::args::HubCommand;

pub fn run(command: &HubCommand) -> anyhow::Result<Done> {
    match command {
        HubCommand::Upload(args) => upload::run(args),
        HubCommand::Finish(args) => finish::run(args),
    }
}
