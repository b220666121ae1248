//! Policies over the network: openpi's websocket and LeRobot's remote inference over zenoh, from both ends, hosted endpoints that answer
//! JSON, and GR00T's service. And a robot's [`Service`](sinew_core::service::Service) for pages and programs: [`Daemon`].
//!
//! [`RemotePolicy`] is a [`Policy`](sinew_core::Policy) whose answers come from a server, in one of the [protocols](Protocol) that an
//! [`Address`] names, and [`Server`] answers such clients in openpi's (what `websocket_client_policy` and `websocket_policy_server`
//! speak, a message of [msgpack](codec) each way, with a greeting of metadata) and LeRobot's. What a server wants under which names no wire but LeRobot's says,
//! so a [`KeyMap`] does.
//!
//! What holds here:
//! - Nothing is believed that comes over the wire: sizes and depths are bounded before memory is taken, and an answer that is late,
//!   repeated, misshapen or not finite is never an action.
//! - Nobody waits for ever: each read and write has a deadline, however slowly bytes come.
//! - A link that is gone is made again by itself, and what is asked meanwhile is
//!   [unavailable](sinew_core::PolicyError::Unavailable), which the loop treats as starvation.
//! - Threads, no async: one that keeps a client's connection, and one for each client of a server. Zenoh has its own beside them.

#![forbid(unsafe_code)]

mod answer;
pub mod codec;
mod daemon;
mod error;
mod fit;
mod fleet;
mod forms;
mod http;
mod keys;
mod lerobot;
mod link;
mod messages;
mod modalities;
mod nearby;
mod over;
mod pace;
mod picture;
mod policy;
mod request;
pub mod ros2;
mod secret;
mod server;
mod strikes;
mod time;
mod tls;

pub use answer::Told;
pub use daemon::wire;
pub use daemon::{Daemon, DaemonOptions, Https, Keyring, is_host_name};
pub use error::RemoteError;
pub use fit::{Fit, FitRow};
pub use fleet::{
    Event, Feedback, Fleet, FleetPlace, FleetView, Follower, FollowerCounts, Found, Leader, LinkInfo, RobotName, Seen, StopAnswer, Stopped,
    Watching,
};
pub use keys::{FloatKind, ImageKey, Key, KeyMap, Layout, Names, Size, StateKey, WireUnits};
pub use lerobot::{Continues, SEMANTICS, ZenohOptions, ZenohServer};
pub use link::{Address, Legs, LinkReport, Milliseconds, Protocol, Reporter};
pub use modalities::{Modalities, Modality};
pub use nearby::{Announced, Beacon, Nearby, nearby};
pub use policy::{Closing, RemoteOptions, RemotePolicy, metadata};
pub use server::{Answerer, Counts, Served, Server, ServerOptions};
