//! A fleet over zenoh: what each robot's daemon tells under `sinew/v1/<robot>/…`, how robots are found, watched and stopped, and how one is
//! led from another room.
//!
//! | key behind `sinew/v1/<robot>/` | what |
//! |---|---|
//! | `alive/<id>` | a liveliness token, another one for each robot of the name |
//! | `state` | JSON, at most ten times a second; a query is answered with the newest |
//! | `event` | JSON: a line that was said, or a work that has ended |
//! | `cam/<camera>/jpeg` | a JPEG, at most five times a second, while somebody looks |
//! | `info`, `datasets`, `policies` | answer a query with JSON |
//! | `rpc/stop` | a query stops the robot, and is answered when its control loop was told |
//! | `lead/alive/<id>`, `lead/info`, `lead/feedback`, `lead/command` | the two ends of [`led`] |
//!
//! There is no other command. All is told by threads of its own, newest only, and what finds no room is dropped: nobody's network delays a
//! control loop. Who may do what is zenoh's access control.

mod led;
mod name;
mod place;
mod robot;
mod view;

pub use led::{Feedback, Follower, FollowerCounts, Leader, LinkInfo};
pub use place::{FleetPlace, RobotName};
pub use robot::Fleet;
pub use view::{FleetView, Found, Seen, StopAnswer, Stopped, Watching};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sinew_core::service::{LogLine, StopWish, WorkEnd};

/// The key of all fleets, with the version of what is said under it.
const ROOT: &str = "sinew/v1";
/// Longer messages are not read.
const MOST_BYTES: usize = 4 << 20;

/// The key of something of a robot; `*` is each robot.
fn key(robot: &str, what: &str) -> String {
    format!("{ROOT}/{robot}/{what}")
}

/// What a query to `rpc/stop` holds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopOrder {
    stop: StopWish,
}

/// Something that happened, as it is told under `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    Log(LogLine),
    WorkEnded(WorkEnd),
}

/// JSON of a message that is not too long.
fn read<T: serde::de::DeserializeOwned>(payload: &zenoh::bytes::ZBytes) -> Option<T> {
    if payload.len() > MOST_BYTES {
        return None;
    }
    serde_json::from_slice(&payload.to_bytes()).ok()
}

fn read_json(payload: &zenoh::bytes::ZBytes) -> Json {
    read(payload).unwrap_or_default()
}
