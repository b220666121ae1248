//! What the tests against the emulator share.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "what fails here fails the test, and no test uses all of it")]

pub mod arm;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sinew_core::{Clock, Timestamp};
use sinew_drivers::wire::Protocol;
use sinew_drivers::{MotorId, PortAddress, SerialBus, SerialOptions};
use sinew_emulator::{Emulator, Options, Robot};
use tempfile::TempDir;

/// The system's monotonic clock.
pub struct RealClock(Instant);

impl RealClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(i64::try_from(self.0.elapsed().as_nanos()).unwrap())
    }

    fn sleep_until(&self, deadline: Timestamp) {
        let left = deadline.nanos_since(self.now());
        std::thread::sleep(Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
    }

    fn runs_by_itself(&self) -> bool {
        true
    }
}

pub struct Bench {
    pub emulator: Emulator,
    pub clock: Arc<RealClock>,
    pub folder: TempDir,
}

impl Bench {
    pub fn new(robot: &Robot, options: Options) -> Self {
        let folder = TempDir::new().unwrap();
        let emulator = Emulator::start(robot, &folder.path().join("port"), options).unwrap();
        Self { emulator, clock: RealClock::new(), folder }
    }

    pub fn so101() -> Self {
        Self::new(&light(Robot::so101_follower()), Options::default())
    }

    pub fn options(&self, protocol: Protocol) -> SerialOptions {
        let path = self.emulator.port().to_str().unwrap().to_owned();
        // The emulator's thread may have to wait for a processor.
        SerialOptions { latency: Duration::from_millis(8), ..SerialOptions::new(PortAddress::Path(path), protocol, 1_000_000) }
    }

    pub fn bus(&self, protocol: Protocol) -> SerialBus {
        SerialBus::open(self.options(protocol), self.clock.clone()).unwrap()
    }

    pub fn within(&self, ms: u64) -> Timestamp {
        self.clock.now() + Duration::from_millis(ms)
    }
}

pub fn ids<const N: usize>(ids: [u16; N]) -> [MotorId; N] {
    ids.map(MotorId)
}

/// Nothing pulls at its joints, so that they stay where they are without torque.
pub fn light(mut robot: Robot) -> Robot {
    robot.joints.iter_mut().for_each(|joint| joint.load = 0.0);
    robot
}
