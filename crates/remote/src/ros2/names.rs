//! Under which keys rmw_zenoh puts messages, and what makes a node and its topics visible to `ros2 topic`.
//!
//! Source: rmw_zenoh's design document (`docs/design.md`) and `rmw_zenoh_cpp/src/detail/liveliness_utils.cpp`, rolling of 2025.

use xxhash_rust::xxh3::xxh3_128;

use super::Ros2Error;
use super::kind::Kind;

/// A topic, such as `/joint_states`: parts of letters, digits and `_`, none of which begins with a digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// # Errors
    /// When it is no whole name of a topic.
    pub fn parse(name: &str) -> Result<Self, Ros2Error> {
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        match name.strip_prefix('/') {
            Some(parts) if parts.split('/').all(is_part) => Ok(Self(name.to_owned())),
            _ => Err(Ros2Error::Topic { name: name.to_owned() }),
        }
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// The key of its messages in the domain `ROS_DOMAIN_ID`.
    pub fn key(&self, domain: u32, kind: &Kind) -> String {
        format!("{domain}{}/{}/{}", self.0, kind.dds_name(), kind.hash())
    }
}

/// How messages of a topic are kept and repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    pub is_reliable: bool,
    /// So many of the last ones are kept.
    pub depth: u32,
}

impl Quality {
    /// ROS 2's for sensors: the newest, and what is lost is lost.
    pub const SENSOR: Self = Self { is_reliable: false, depth: 5 };
    /// ROS 2's for what isn't said otherwise.
    pub const DEFAULT: Self = Self { is_reliable: true, depth: 10 };

    /// Reliability, durability, history and depth, deadline, lifespan, liveliness; what is rmw's default is left out.
    fn words(self) -> String {
        let reliability = if self.is_reliable { "" } else { "2" };
        format!("{reliability}::,{}:,:,:,,", self.depth)
    }
}

/// Who sends or receives on a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Publisher,
    Subscription,
}

/// A node, in one session of zenoh.
#[derive(Clone, Debug)]
pub struct Node {
    pub domain: u32,
    /// The session's id, in hexadecimal.
    pub session: String,
    pub name: String,
}

impl Node {
    /// The token that says that there is the node.
    pub fn token(&self) -> String {
        format!("@ros2_lv/{}/{}/0/0/NN/%/%/{}", self.domain, self.session, self.name)
    }

    /// The token that says that it sends or receives on `topic`; `number` is another for each of them, from 1.
    pub fn endpoint(&self, side: Side, number: u32, topic: &Topic, kind: &Kind, quality: Quality) -> String {
        let side = match side {
            Side::Publisher => "MP",
            Side::Subscription => "MS",
        };
        format!(
            "@ros2_lv/{}/{}/0/{number}/{side}/%/%/{}/{}/{}/{}/{}",
            self.domain,
            self.session,
            self.name,
            topic.name().replace('/', "%"),
            kind.dds_name(),
            kind.hash(),
            quality.words()
        )
    }
}

/// What stands beside each message: without it, a subscription of ROS 2 throws the message away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// From 1.
    pub sequence: i64,
    /// Nanoseconds since 1970.
    pub sent_ns: i64,
    pub gid: [u8; 16],
}

impl Attachment {
    /// The id of the publisher whose token is `endpoint`.
    pub fn gid_of(endpoint: &str) -> [u8; 16] {
        xxh3_128(endpoint.as_bytes()).to_le_bytes()
    }

    pub fn to_bytes(self) -> [u8; 33] {
        let mut bytes = [0; 33];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sent_ns.to_le_bytes());
        bytes[16] = 16;
        bytes[17..].copy_from_slice(&self.gid);
        bytes
    }

    /// # Errors
    /// When it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Ros2Error> {
        let fault = || Ros2Error::Malformed { what: format!("an attachment of {} bytes, expected 33 with an id of 16", bytes.len()) };
        let bytes: &[u8; 33] = bytes.try_into().map_err(|_| fault())?;
        let (numbers, gid) = bytes.split_at(17);
        let (Some((sequence, rest)), Ok(gid)) = (numbers.split_first_chunk::<8>(), gid.try_into()) else { return Err(fault()) };
        let Some((sent_ns, &[16])) = rest.split_first_chunk::<8>() else { return Err(fault()) };
        Ok(Self { sequence: i64::from_le_bytes(*sequence), sent_ns: i64::from_le_bytes(*sent_ns), gid })
    }
}
