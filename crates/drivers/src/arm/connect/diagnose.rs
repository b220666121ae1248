//! Why motors don't answer as they should. Nothing but pings is sent.

use std::time::Duration;

use sinew_core::Clock;

use super::super::joint::Joint;
use crate::{BusError, MotorFault, PortAddress, SerialBus, SerialOptions};

/// How often a motor is asked whether another has its id.
const PINGS: u32 = 12;
/// So many garbled answers of these are no accident.
const GARBLED: u32 = 4;
/// How long a ping may take.
const PING: Duration = Duration::from_millis(30);

/// What came of pinging a motor that could not be read.
pub(super) struct Pinged {
    pub asked: u32,
    pub answered: u32,
    pub garbled: u32,
}

impl Pinged {
    /// Whether so much is garbled as is no accident.
    pub fn collides(&self) -> bool {
        self.garbled >= GARBLED
    }
}

/// Pings a motor some times, each with one attempt.
pub(super) fn ping(bus: &mut SerialBus, joint: &Joint, clock: &dyn Clock) -> Pinged {
    let (mut answered, mut garbled) = (0, 0);
    for _ in 0..PINGS {
        let before = bus.counts().garbage_bytes;
        match bus.ping_once(joint.motor, clock.now() + PING) {
            Ok(_) => answered += 1,
            Err(BusError::Motor(error)) => {
                let is_garbled = matches!(error.fault, MotorFault::Checksum { .. } | MotorFault::Length { .. } | MotorFault::Sender { .. });
                garbled += u32::from(is_garbled || bus.counts().garbage_bytes > before);
            }
            Err(BusError::Garbage { .. }) => garbled += 1,
            Err(_) => {}
        }
    }
    Pinged { asked: PINGS, answered, garbled }
}

/// At which other speeds of their models the motors answer, and who does.
pub(super) fn speeds(options: &SerialOptions, joints: &[Joint], clock: &std::sync::Arc<dyn Clock>) -> Vec<(u32, Vec<String>)> {
    let Some(table) = joints.first().map(|joint| joint.table) else { return Vec::new() };
    let mut found = Vec::new();
    for (baud, _) in table.bauds.iter().filter(|(baud, _)| *baud != options.baud) {
        let options = SerialOptions { baud: *baud, ..options.clone() };
        let Ok(mut bus) = SerialBus::open(options, clock.clone()) else { continue };
        // A ping and its answer have some 20 bytes.
        let deadline = || clock.now() + PING + Duration::from_secs(10) / *baud * 24;
        // Again, as an answer may be lost.
        let answers = |joint: &&Joint, bus: &mut SerialBus| (0..3).any(|_| bus.ping_once(joint.motor, deadline()).is_ok());
        let names: Vec<String> = joints.iter().filter(|joint| answers(joint, &mut bus)).map(|joint| joint.name.clone()).collect();
        if !names.is_empty() {
            found.push((*baud, names));
        }
    }
    found
}

/// What to look for when nobody answers at any speed.
pub(super) fn nobody(address: &PortAddress) -> String {
    let path = address.path().unwrap_or_else(|_| address.to_string());
    format!(
        "check that the motors have power and that the first one is plugged into the adapter. {path} may also be another device: unplug \
         the adapter, and see whether it is this port that goes"
    )
}
