//! A gate with a clock and a robot that are made up.

#![allow(dead_code, reason = "each test file uses what it needs")]

use sinew_core::{GateFault, Observation, RobotDescription, SafetyGate, Sent, Timestamp, Verdict, Wanted};

pub const SO101: &str = include_str!("../../../../robots/so101/robot.toml");

pub fn so101() -> RobotDescription {
    RobotDescription::from_toml("so101", SO101).unwrap()
}

/// A robot of parts that are each commanded by position with `limits`; `more` is put behind.
pub fn joints(limits: &[&str], more: &str) -> RobotDescription {
    let mut text = String::from(
        "schema = 2\nname = \"made_up\"\ntitle = \"\"\ncontrol_rate_hz = 30\nlerobot = { class = \"made_up\" }\nstop = { behaviour = \"hold\" }\n",
    );
    for (i, limits) in limits.iter().enumerate() {
        text += &format!("[[part]]\nname = \"j{i}\"\ncommand = \"position\"\nlimits = {{ {limits} }}\n");
    }
    RobotDescription::from_toml("made_up", &(text + more)).unwrap()
}

/// A robot of one part of `lines`.
pub fn one(lines: &str) -> RobotDescription {
    joints(&[], &format!("[[part]]\nname = \"j0\"\n{lines}\n"))
}

/// A gate, its robot's state as the tests make it, and the time.
pub struct Rig {
    pub robot: RobotDescription,
    pub gate: SafetyGate,
    pub observed: Observation,
    pub wanted: Wanted,
    pub now: Timestamp,
}

impl Rig {
    /// The gate begins with every channel of state at `values`.
    pub fn new(robot: RobotDescription, values: &[f64]) -> Self {
        let mut rig = Self {
            gate: SafetyGate::of(&robot),
            observed: Observation::for_robot(&robot),
            wanted: Wanted::for_robot(&robot),
            robot,
            now: Timestamp::from_nanos(1_000_000_000),
        };
        rig.measure(values);
        rig.gate.start(&rig.observed).unwrap();
        rig
    }

    /// All of the state is measured now.
    pub fn measure(&mut self, values: &[f64]) {
        self.observed.age();
        self.observed.state.set_all(values, self.now);
    }

    pub fn wait(&mut self, dt_s: f64) {
        self.now = Timestamp::from_nanos(self.now.as_nanos() + (dt_s * 1e9).round() as i64);
    }

    pub fn propose(&mut self, wanted: Option<&[f64]>, dt_s: f64) -> Result<Verdict, GateFault> {
        if let Some(goals) = wanted {
            self.wanted.goals.clear();
            self.wanted.goals.extend_from_slice(goals);
            self.wanted.time = self.now;
        }
        self.gate.propose(wanted.map(|_| &self.wanted), &self.observed, self.now, dt_s)
    }

    /// All that was proposed is sent.
    pub fn send(&mut self) {
        let mut sent = Sent::new(self.gate.proposed().goals().len());
        sent.reach_all(self.gate.proposed());
        self.gate.commit(&sent);
    }

    /// Of what was proposed these channels are sent.
    pub fn send_only(&mut self, channels: &[usize]) {
        let goals = self.gate.proposed().goals().to_vec();
        let mut sent = Sent::new(goals.len());
        channels.iter().for_each(|i| sent.reach(*i, goals[*i]));
        self.gate.commit(&sent);
    }

    /// A whole turn of a robot that is at `present` by then; gives what was sent.
    pub fn turn(&mut self, wanted: Option<&[f64]>, present: &[f64], dt_s: f64) -> Result<Vec<f64>, GateFault> {
        self.wait(dt_s);
        self.measure(present);
        self.propose(wanted, dt_s)?;
        self.send();
        Ok(self.sent())
    }

    /// As [`turn`](Self::turn), of a robot that does as it is told.
    pub fn follow(&mut self, wanted: Option<&[f64]>, dt_s: f64) -> Vec<f64> {
        let present = self.sent();
        self.turn(wanted, &present, dt_s).unwrap()
    }

    pub fn sent(&self) -> Vec<f64> {
        self.gate.sent().collect()
    }
}

/// Numbers that look random and are the same every time, in −1..1.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }
}

/// The text of a robot in robots/, for those that include it.
pub fn text(name: &str) -> Option<String> {
    std::fs::read_to_string(folder().join(name).join("robot.toml")).ok()
}

fn folder() -> std::path::PathBuf {
    std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../robots")
}

pub fn robot(name: &str) -> RobotDescription {
    RobotDescription::from_toml_with(name, &text(name).unwrap(), &text).unwrap_or_else(|error| panic!("{error:?}"))
}

/// All of robots/, by name.
pub fn robots() -> Vec<RobotDescription> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> =
        entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 20, "{names:?}");
    names.iter().map(|name| robot(name)).collect()
}
