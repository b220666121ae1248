//! LeKiwi over a network: LeRobot's protocol between a host beside the robot and a client
//! (`lerobot/robots/lekiwi/lekiwi_host.py` and `lekiwi_client.py` of LeRobot 0.6.1), both sides of it.

mod cameras;
mod client;
mod host;
mod message;
mod observers;

use std::io;
use std::time::Duration;

use sinew_core::{Brief, RobotDescription};
use thiserror::Error;

pub use cameras::{DecodeJpeg, LeKiwiCameras};
pub use client::{LeKiwiClient, LeKiwiClientOptions, LeKiwiCounts};
pub use host::{LeKiwiHost, LeKiwiHostCounts, LeKiwiHostOptions, LeKiwiHostTeleoperator};
pub use observers::{EncodeJpeg, ObservationPublisher};

/// The ports of LeRobot's host.
const COMMAND_PORT: u16 = 5555;
const OBSERVATION_PORT: u16 = 5556;

/// Why a LeKiwi can't be reached, or offered.
#[derive(Debug, Error)]
pub enum LeKiwiError {
    #[error("connecting to a LeKiwi: expected an address HOST, found {found:?}")]
    Address { found: String },
    #[error("joining the description {robot} to a LeKiwi: {what}")]
    Description { robot: String, what: String },
    #[error("connecting to the LeKiwi at {address}: expected an observation with {expected} within {within:?}, found {found}")]
    Silent {
        address: String,
        expected: String,
        within: Duration,
        found: Brief,
        /// Whether there is anybody at that address.
        is_there: bool,
    },
    #[error("offering a LeKiwi: {what}")]
    Options { what: &'static str },
    #[error("offering a LeKiwi at {address}")]
    Bind {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("starting a thread for a LeKiwi's connection")]
    Thread(#[source] io::Error),
}

/// As LeRobot does: what goes over the wire are JPEGs.
fn refuse_depth(robot: &RobotDescription) -> Result<(), LeKiwiError> {
    let Some(camera) = robot.cameras.iter().find(|camera| camera.depth) else { return Ok(()) };
    let what =
        format!("expected cameras of colours, as no distances go between a host and its clients, found the depth camera {}", camera.name);
    Err(LeKiwiError::Description { robot: robot.name.clone(), what })
}
