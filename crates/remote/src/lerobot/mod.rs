//! LeRobot's remote inference, protocol v1: `MessagePack` over zenoh, from both ends. What a message looks like is in `wire`, what both
//! sides agree to in `contract`.

mod asking;
mod begin;
mod client;
mod contract;
mod net;
mod server;
mod wire;

pub(crate) use asking::{Lerobot, LerobotForm, compare, keys, told};
pub(crate) use begin::Where;
pub(crate) use client::{Reached, look};
pub(crate) use net::words;
pub use server::{ZenohOptions, ZenohServer};
pub(crate) use wire::{MARKER, Picture, fresh_name, is_name, pack_picture, picture, pixels_of_jpeg};

/// What `sinew serve` says of its numbers: those of LeRobot's datasets, so degrees, and 0 to 100 for a gripper.
pub const SEMANTICS: &str = "lerobot-dataset-units-v1";

/// How answers are to follow each other, where they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continues {
    /// As the server can.
    Either,
    /// Bent towards the answer before.
    Guided,
    /// Going on from rows of the answer before, which the model was trained for.
    Trained,
}
