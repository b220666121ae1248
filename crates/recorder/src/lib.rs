//! Writes what a session did: a LeRobotDataset v3.0 on disk, and a recording for the Rerun viewer.
//!
//! Both are [`FrameSink`](sinew_core::FrameSink)s, so a session hands them its frames without
//! knowing what they are:
//!
//! ```
//! use sinew_core::{EpisodeEnd, EpisodeStart, Frame, FrameSink, Outcome, RobotDescription, Timestamp};
//! use sinew_recorder::{DatasetInfo, DatasetRecorder, RecorderOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let text = include_str!("../examples/two_joint_arm.toml");
//! # let folder = tempfile::tempdir()?;
//! # let root = folder.path().join("dataset");
//! let robot = RobotDescription::from_toml("two_joint_arm.toml", text)?;
//! let mut recorder = DatasetRecorder::create(&root, &robot, 30, RecorderOptions::default())?;
//!
//! recorder.begin(&EpisodeStart { attempt: 0, seed: 7, task: "Touch the marker".to_owned() })?;
//! for tick in 0..10 {
//!     let mut frame = Frame { tick, wanted: vec![0.1, 0.2], sent: vec![0.1, 0.15], ..Frame::for_robot(&robot) };
//!     frame.observation.state.set_all(&[0.0, 0.1], Timestamp::ZERO);
//!     recorder.frame(&frame)?;
//! }
//! recorder.end(&EpisodeEnd { outcome: Outcome::Success, keep: true, lost_frames: 0 })?;
//!
//! let info = DatasetInfo::open(&root)?;
//! assert_eq!((info.total_episodes, info.total_frames), (1, 10));
//! assert_eq!(info.tasks, ["Touch the marker"]);
//! # Ok(())
//! # }
//! ```
//!
//! [`DatasetRecorder`] records a robot; [`DatasetWriter`] records any features: numbers of every type and
//! shape, text, images, video and depth, in version 3.0 of the format or 2.1.
//!
//! # What is written
//!
//! The layout is that of LeRobot 0.6.1, with its default features. Of a robot, `action` is the wanted
//! action and `observation.state` the observed state, a value a channel, both in the dataset's units:
//! what is only measured (a sensor, a part without a command) is in the state alone. `timestamp` is
//! `frame_index / fps`. Each camera is by default H.264 in 4:2:0, BT.601 in limited range, constant
//! quantiser, a key frame every second frame, sizes even; [`VideoOptions`] has what else an installed
//! ffmpeg can do. Statistics follow LeRobot's own algorithm, for images its sampling of frames.
//!
//! Three things LeRobot has no place for and ignores. `meta/sinew_episodes.jsonl` says of each episode
//! its seed, outcome, missing and dropped ticks and how often the safety gate intervened, by limit; the
//! outcome is in the columns `sinew/success` and `sinew/reason` of the episodes table of version 3.0 too.
//! `meta/sinew.json` says with which robot and calibration it was recorded. The table `sinew/ticks` has
//! a row for each row:
//!
//! | column | holds |
//! |---|---|
//! | `tick`, `lateness_ns` | the tick, and how long after it was due it began |
//! | `observed_ns` | when the state was read |
//! | `state_validity` | of each channel of state: 0 missing this time, 1 fresh, 2 repeated, 3 fresh with an alarm of the device; where it is 0 or 2, `observation.state` has the last value |
//! | `state_age_ns` | of each channel of state: how long before `observed_ns` it was measured, 0 where it was after |
//! | `sent_action` | the action that was really sent, in the units of `action` |
//! | `limited_channels` | how many channels a limit held back |
//! | `starved` | whether no action was there |
//! | `bus_retries` | how often a bus was asked again |
//! | `captured_ns.<camera>`, `age_ns.<camera>`, `sequence.<camera>` | when the image was taken, how old it was when the state was read, its number |
//!
//! A channel that was never measured has no value that could be written: such a frame is refused.
//!
//! # Committing
//!
//! While an episode is recorded, its encoded frames are appended to the cameras' files where no reader
//! sees them, and a journal in `.sinew/episode/` has the rest; raw images are never kept. When it ends,
//! all that changes is listed in `.sinew/commit`: that is the commit. Then the changes are made,
//! `meta/info.json` last. At any instant, the dataset can be read by LeRobot as it was before the
//! episode or after it; if the process is killed in between, [`recover`] or [`DatasetWriter::resume`]
//! makes the remaining changes. An episode that was being recorded is offered by [`unfinished`], and can
//! be made one by [`recover_unfinished`] or removed by [`discard_unfinished`].

//!
//! # Reading
//!
//! [`DatasetReader`] reads versions 2.0, 2.1 and 3.0: rows as arrow tables, images at the exact time of
//! their row. [`Loader`] puts both together as the items of a training loop, with windows around a row.
//!
//! ```
//! # use std::ops::ControlFlow;
//! # use sinew_recorder::{DatasetReader, Loader, Output, Windows, plan_delete, verify};
//! # fn example(root: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! let reader = DatasetReader::open(root)?;
//! let mut loader = Loader::new(&reader, &Windows::default())?;
//! let item = loader.item(0)?;
//! println!("{}: {:?}", item.task, item.values["action"]);
//!
//! assert!(verify(root)?.is_empty(), "it is whole");
//! let plan = plan_delete(root, &[0])?;
//! println!("{plan}");
//! plan.run(&Output::InPlace, &mut |_| ControlFlow::Continue(()))?;
//! # Ok(())
//! # }
//! ```
//!
//! # Checking, mending and editing
//!
//! [`verify`] and [`examine`] hold all parts of a dataset against each other. A tool answers a [`Plan`],
//! which can be shown before it is run: [`plan_repair`], [`plan_delete`], [`plan_split`], [`plan_merge`],
//! [`plan_convert`] and others. A result is built beside its place, verified, and put there at once, unless
//! the dataset is no longer what the plan was made of; [`undo`] brings back what was there. [`write_html`], [`write_rrd`] and [`write_mcap`] show a dataset
//! elsewhere.

mod commit;
mod error;
mod export;
mod format;
mod media;
mod progress;
mod read;
#[cfg(test)]
mod tests;
mod tools;
mod write;

pub use error::{ReadError, RecordError};
pub use export::{PageOptions, RerunView, ViewError, recorded_robot, show_in_rerun, write_html, write_mcap, write_rrd};
pub use format::card::is_plain_card;
pub use format::feature::{DatasetSchema, Dtype, Feature, FeatureKind, Truth, Value};
pub use format::info::{CameraInfo, DatasetInfo, EpisodeInfo};
pub use format::input::RandomAccess;
pub use format::layout::{Episode, EpisodeVideoSpan, Version};
pub use format::rate::Rate;
pub use media::depth::DepthRange;
pub use media::encoder_rate::encoder_rate;
pub use media::video_reader::VideoReader;
pub use progress::{Progress, Step};
pub use read::DepthImage;
pub use read::{DatasetReader, EpisodeStats, Fetch, Images, Item, Loader, Values, Windows};
pub use tools::{
    CameraForm, Condition, Contents, Conversion, Fault, Kept, Mend, Output, Plan, PlannedResult, Report, ShortVideo, Space, ToolError,
    UndoPlan, Warning, bytes_in_words, examine, forget_undo, kept_for_undo, plan_convert, plan_delete, plan_merge, plan_remove_features,
    plan_rename_task, plan_repair, plan_split, plan_split_by_share, plan_split_chosen, plan_stats, plan_undo, select_episodes, undo,
    verify, verify_files, verify_with,
};
pub use write::closed::closed_files;
pub use write::options::{Layout, Overload, RecorderOptions, VideoOptions};
pub use write::recorder::DatasetRecorder;
pub use write::unfinished::{Unfinished, discard_unfinished, recover, recover_unfinished, remove_begun, unfinished};
pub use write::writer::{DatasetWriter, Row, Taken, Totals};
