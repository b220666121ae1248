//! Reachy Mini, whose motors a daemon has, as a [`Robot`](sinew_core::Robot).

mod channels;
mod drive;
mod known;
mod pose;
mod socket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sinew_core::{Brief, Clock, RobotDescription, Timestamp};
use thiserror::Error;

use crate::net::{Link, Newest, host_and_port};
use channels::{Goals, Reads};
use known::Known;
use socket::Frames;

/// The daemon's port.
const PORT: u16 = 8000;
/// How long connecting waits for the daemon and its first state.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How often it looks meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A Reachy Mini that can't be driven.
#[derive(Debug, Error)]
pub enum ReachyMiniError {
    #[error("connecting to Reachy Mini: expected an address HOST or HOST:PORT, found {found:?}")]
    Address { found: String },
    #[error("connecting to Reachy Mini with the description {robot}: {what}")]
    Description { robot: String, what: String },
    #[error("connecting to Reachy Mini: starting the thread that reads its daemon")]
    Thread(#[source] io::Error),
    #[error("connecting to Reachy Mini at {address}: expected its daemon's state within {} s, found none: {why}", CONNECT_WITHIN.as_secs())]
    Silent { address: String, why: Brief },
}

/// What happened on the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReachyMiniCounts {
    /// How often there was one: more than one says that it was lost in between.
    pub connections: u64,
    /// Messages of the daemon that nothing could be made of.
    pub malformed: u64,
}

/// A Reachy Mini behind its daemon's WebSocket, `ws://HOST:8000/ws/sdk` (`reachy_mini/io/ws_server.py` and `protocol.py` of
/// the package `reachy_mini` 1.13.0). The daemon asks for no password and nothing is encrypted: it belongs on a network
/// whose users may all drive the robot.
///
/// - A thread reads the daemon's state, which comes 50 times a second. Each value is as old as its arrival says; one that
///   is older than the description allows is missed, so that the gate brakes.
/// - A command is one message, handed to the system without waiting. Where the socket is full or gone nothing is sent.
/// - A connection that is lost is made anew. The daemon is then told first that the robot stays where it is.
/// - The description says in whose frame the head is: with the body's yaw among the parts that carry it, in the body's.
/// - Enabling switches off the daemon's own choice of the body's yaw, so that the one that is commanded counts. While a
///   move of the daemon's own runs (such as waking up) it ignores what it is told.
/// - The daemon does not acknowledge orders. What switches torque is followed by a ping, whose answer says that the daemon
///   has read it, and by the daemon's status, which comes once a second: when that says that the motors are not enabled,
///   values carry [`TORQUE_LOST`](crate::TORQUE_LOST), no goals are sent, and nothing is switched on again.
///
/// A tick allocates nothing.
pub struct ReachyMini {
    robot: Arc<RobotDescription>,
    clock: Arc<dyn Clock>,
    reads: Reads,
    goals: Goals,
    shared: Arc<Newest<Known>>,
    known: Known,
    link: Link,
    frames: Frames,
    /// Messages as they are written.
    text: Vec<u8>,
    pings: u64,
    /// The first ping of the stop that is under way.
    stopping: Option<u64>,
    /// Which connection was told last to keep the robot where it is.
    rested: u64,
    /// When the motors were told to have torque.
    enabled_at: Option<Timestamp>,
    has_lost_torque: bool,
}

impl ReachyMini {
    /// Connects to the daemon at `address`, which is `HOST` or `HOST:PORT`, and waits for its first state. Nothing moves
    /// and no torque is switched. The channels of `robot` are named as in the description `reachy_mini`.
    ///
    /// # Errors
    /// When the description has channels that the daemon doesn't know, or the daemon does not answer.
    pub fn connect(robot: Arc<RobotDescription>, address: &str, clock: Arc<dyn Clock>) -> Result<Self, ReachyMiniError> {
        let invalid = |what| ReachyMiniError::Description { robot: robot.name.clone(), what };
        let reads = Reads::of(&robot).map_err(invalid)?;
        let goals = Goals::of(&robot).map_err(invalid)?;
        let (host, port) = host_and_port(address, PORT).ok_or_else(|| ReachyMiniError::Address { found: address.to_owned() })?;
        let url = if host.contains(':') { format!("ws://[{host}]:{port}/ws/sdk") } else { format!("ws://{host}:{port}/ws/sdk") };
        let shared = Arc::new(Newest::new(Known::default()));
        let (heard, times) = (shared.clone(), clock.clone());
        let serve = move |stream, line: &crate::net::Line| socket::serve(stream, line, &url, &heard, &times);
        let link = Link::keep("reachy-mini", (host, port), serve).map_err(ReachyMiniError::Thread)?;
        let began = clock.now();
        let known = loop {
            let known = *shared.lock();
            if known.is_complete() {
                break known;
            }
            if clock.now().nanos_since(began) > CONNECT_WITHIN.as_nanos() as i64 {
                let why = match known.missing().filter(|_| link.line().is_open()) {
                    Some(missing) => Brief::of(format_args!(
                        "it is connected, and said nothing of its {missing}; {} of its messages made no sense",
                        known.malformed
                    )),
                    None => link.line().why(),
                };
                return Err(ReachyMiniError::Silent { address: address.to_owned(), why });
            }
            clock.sleep_until(clock.now() + LOOK_EVERY);
        };
        let seed = began.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        let rested = link.line().opened();
        Ok(Self {
            robot,
            clock,
            reads,
            goals,
            shared,
            known,
            link,
            frames: Frames::new(seed),
            text: Vec::with_capacity(2048),
            pings: 0,
            stopping: None,
            rested,
            enabled_at: None,
            has_lost_torque: false,
        })
    }

    pub fn counts(&self) -> ReachyMiniCounts {
        ReachyMiniCounts { connections: self.link.line().opened(), malformed: self.known.malformed }
    }
}
