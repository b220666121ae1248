//! What goes over the wire beside the values of [`sinew_core::service`]: who somebody is, and the messages of the websockets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew_core::service::{HandPose, State, StopWish};

/// What somebody may do. Each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See state, cameras, datasets and the log, and stop the robot.
    Look,
    /// Move it, and start what moves it.
    Operate,
    /// Let others in.
    Administer,
}

/// Who somebody is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Me {
    pub role: Role,
    /// What the device was called when it was paired; `owner` for the daemon's own token.
    pub name: String,
}

/// Any error: of an answer with a status of 400 or more, and the last message of a websocket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// As HTTP has it.
    pub status: u16,
    /// For people.
    pub error: String,
}

/// Whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    pub done: bool,
}

/// Asks for six digits that another device is paired with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BeginPairing {
    /// What the device may do.
    pub role: Role,
}

/// Digits that a device is paired with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pairing {
    /// Six digits. They are over after five wrong tries.
    pub code: String,
    pub seconds_left: u64,
}

/// Asks for a token with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    pub code: String,
    /// What the device is to be called, at most 64 characters.
    pub name: String,
}

/// The token of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Paired {
    /// Kept by the device, and sent with each request.
    pub token: String,
    pub role: Role,
}

/// A device that was paired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// What it is revoked by.
    pub id: String,
    pub name: String,
    pub role: Role,
    /// Seconds since 1970.
    pub paired_s: u64,
}

/// The certificate of a daemon that speaks HTTPS, for who compares it with what a browser shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// Its SHA-256: pairs of hexadecimal digits with colons between.
    pub fingerprint: String,
    /// The same of the authority that signed it, whose certificate is at `/sinew-ca.crt`.
    pub authority_fingerprint: String,
    /// Names and addresses that it is for.
    pub names: Vec<String>,
    /// Until when it is valid, seconds since 1970. Another is made 30 days before.
    pub ends_s: u64,
}

/// Whose token is to be good no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    pub id: String,
}

/// Asks to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    pub stop: StopWish,
}

/// A request that says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The number of a task: of one that was begun, or that is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    pub number: u64,
}

/// The first message of each websocket, unless the token came as `Authorization`. The other fields are for the socket that has a use
/// for them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hello {
    pub token: Option<String>,
    /// States or images a second, at most.
    pub rate_hz: Option<f64>,
    /// Cameras by name; without it, all.
    pub cameras: Option<Vec<String>>,
}

/// What the socket of states says.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StateMessage<'a> {
    Welcome(Me),
    State(&'a State),
    Error(Problem),
}

/// The head of an image: its length in 4 bytes, little-endian, then this as JSON, then a JPEG to the message's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShotHead {
    /// Counts this socket's messages from 1; what is acknowledged.
    pub number: u64,
    pub camera: String,
    /// Counts the camera's images.
    pub sequence: u64,
    pub width: u32,
    pub height: u32,
    /// How old the image was when it was sent.
    pub age_ms: f64,
}

/// What a viewer answers: all images up to this number were drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    pub ack: u64,
}

/// What an operator says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// To be the operator.
    Take {},
    /// To be it no longer.
    Release {},
    /// Still there, with nothing new to say. It keeps the lease; goals stay until they are 0.3 s old.
    Alive {},
    /// Where the robot is to be: a value a channel of `action`, in SI. It keeps the lease, too.
    Goals {
        goals: Vec<f64>,
        /// Comes back in the next `heard`.
        #[serde(default)]
        number: Option<u64>,
    },
    /// Where the devices in the operator's hands are, of those that are there: tools repeat their motion. It keeps the lease, too.
    Hands {
        /// When the poses were measured, by the device's own clock: seconds from any time on. Each message has a later one.
        time_s: f64,
        hands: Vec<HandPose>,
        /// Comes back in the next `heard`.
        #[serde(default)]
        number: Option<u64>,
    },
    Stop {
        stop: StopWish,
    },
}

/// What the socket of commands says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CommandMessage {
    Welcome(Me),
    /// The lease was given. It is over `dead_man_ms` after the last message.
    Lease {
        /// What HTTP requests send as `Sinew-Lease`.
        lease: String,
        dead_man_ms: u64,
    },
    /// It was not done: somebody else has the lease, or nobody took it, or goals or poses can't be followed.
    Refused {
        error: String,
    },
    /// The lease is over, as nothing came for too long, or it was given back.
    Expired {},
    /// Goals or poses were taken.
    Heard {
        number: Option<u64>,
    },
    Error(Problem),
}
