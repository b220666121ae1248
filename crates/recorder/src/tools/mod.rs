//! Tools that make a dataset out of others.
//!
//! Each answers a [`Plan`] first, which says what would be done and does it when it is run. A result is
//! built beside its place, checked, and put there at once; what was there is kept for [`undo`].

mod assembly;
mod columns;
mod encode;
mod error;
mod exchange;
mod keep;
mod meta;
pub(crate) mod mux;
mod operations;
mod others;
mod output;
mod pages;
mod place;
mod plan;
mod repair;
pub(crate) mod rows;
mod select;
mod side;
mod space;
mod state;
mod undo;
mod verify;
mod videos;
mod whole;

pub use error::ToolError;
pub use operations::{
    plan_convert, plan_delete, plan_merge, plan_remove_features, plan_rename_task, plan_split, plan_split_by_share, plan_split_chosen,
    plan_stats,
};
pub use output::Output;
pub use place::Contents;
pub use plan::{Plan, PlannedResult};
pub use repair::{ShortVideo, plan_repair};
pub use select::{Condition, select_episodes};
pub use space::{Space, bytes_in_words};
pub use undo::{Kept, UndoPlan, forget_undo, kept_for_undo, plan_undo, undo};
pub use verify::{Fault, Mend, Report, Warning, examine, verify, verify_files, verify_with};

use crate::{Version, VideoOptions};

/// Tasks, each in quotes; they are sentences.
fn quoted(tasks: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted: Vec<String> = tasks.into_iter().map(|task| format!("{:?}", task.as_ref())).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

/// What [`plan_convert`] changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    /// Of the format.
    pub version: Option<Version>,
    /// Into what the images of all colour cameras are brought.
    pub cameras: Option<CameraForm>,
}

/// How images are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraForm {
    /// PNG in the table; what video has lost does not come back.
    Images,
    /// Encoded anew, be it from images or video.
    Video(VideoOptions),
}

/// What happens to a camera's video.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum CameraWork {
    #[default]
    Copy,
    Encode(VideoOptions),
}
