//! Asks a remote policy one question after the other. Each is about a state that no other one is about, and the answer must be to it.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use sinew_core::{ActionChunk, Observation, Policy as _, PolicyError, RobotDescription, Timestamp};
use sinew_remote::{KeyMap, LinkReport, RemoteOptions, RemotePolicy};

pub const ROWS: usize = 4;

pub fn robot() -> RobotDescription {
    RobotDescription::from_toml("testarm", include_str!("../../../runtime/tests/common/arm.toml")).unwrap()
}

/// The key map of a file that holds `text`.
pub fn keys(text: &str) -> KeyMap {
    static SERIAL: Mutex<u32> = Mutex::new(0);
    let mut serial = SERIAL.lock().unwrap();
    *serial += 1;
    let file = std::env::temp_dir().join(format!("sinew-keys-{}-{serial}.toml", std::process::id()));
    std::fs::write(&file, text).unwrap();
    let keys = KeyMap::find(&file.to_string_lossy());
    std::fs::remove_file(&file).unwrap();
    keys.unwrap()
}

/// What an answer may be off by.
#[derive(Clone, Copy)]
pub struct Allowed {
    /// Past the deadline.
    pub late: Duration,
    /// From the state, as the protocol's numbers carry it.
    pub value: f64,
    /// Between two questions to a server that is away.
    pub pause: Duration,
}

pub struct Asker {
    policy: RemotePolicy,
    robot: RobotDescription,
    within: Duration,
    allowed: Allowed,
    asked: u32,
}

impl Asker {
    pub fn new(options: &RemoteOptions, allowed: Allowed) -> Self {
        let robot = robot();
        let within = options.deadline.unwrap() + allowed.late;
        Self { policy: RemotePolicy::connect(options, &robot).unwrap(), robot, within, allowed, asked: 0 }
    }

    pub fn ask(&mut self) -> Result<ActionChunk, String> {
        self.asked += 1;
        let mut observation = Observation::for_robot(&self.robot);
        observation.tick = u64::from(self.asked);
        let state = f64::from(self.asked) * 1e-3;
        observation.state.set(0, state, Timestamp::ZERO);
        let began = Instant::now();
        let answer = self.policy.infer(&[observation], "wave");
        assert!(began.elapsed() < self.within, "it took {:?}", began.elapsed());
        match answer {
            Ok(chunk) => {
                assert_eq!((chunk.first_tick(), chunk.len(), chunk.width()), (u64::from(self.asked), ROWS, 2));
                let first = chunk.rows().next().unwrap()[0];
                assert!((first - state).abs() < self.allowed.value, "the answer to another question: {first}, not {state}");
                Ok(chunk)
            }
            Err(PolicyError::Unavailable { what }) => Err(what),
            Err(error) => panic!("{error}"),
        }
    }

    /// Until there is an answer again; how long that took.
    pub fn is_back_within(&mut self, time: Duration) -> Duration {
        let began = Instant::now();
        while let Err(why) = self.ask() {
            assert!(began.elapsed() < time, "not back after {time:?}: {why}");
            std::thread::sleep(self.allowed.pause);
        }
        began.elapsed()
    }

    pub fn report(&self) -> LinkReport {
        self.policy.reporter().report()
    }
}
