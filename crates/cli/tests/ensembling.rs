//! ACT's temporal ensembling through the control loop: the rows that reach the gate are those of LeRobot's
//! `select_action`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use sinew_core::{
    CameraError, Cameras, Door, Environment, EnvironmentError, EpisodeEnd, EpisodeSetup, EpisodeStart, Frame, FrameSink, Image,
    ImageBuffers, MockClock, Observation, Outcome, Robot, RobotDescription, RobotError, SafeCommand, Sent, SinkError, Tick, Timestamp,
    Units,
};
use sinew_policy::{BoundPolicy, Checkpoint};
use sinew_runtime::{EpisodeRequest, Inference, Latency, PolicyThread, Rig, Session, SessionConfig, Source, StopFlag};

const TICKS: usize = 30;
const ROWS: usize = 20;
const WIDTH: usize = 6;
const COEFF: f64 = 0.01;

fn golden(name: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../policy/tests/golden").join(name)
}

/// What LeRobot saw, predicted at each tick alone, and chose.
struct Golden {
    states: Vec<f32>,
    colours: Vec<u8>,
    chunks: Vec<f32>,
    rows: Vec<f32>,
}

impl Golden {
    fn read() -> Self {
        let bytes = std::fs::read(golden("parts/ensembled.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |name: &str| -> Vec<f32> {
            file.tensor(name).unwrap().data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let colours = file.tensor("colours").unwrap().data().to_vec();
        Self { states: floats("states"), colours, chunks: floats("chunks"), rows: floats("rows") }
    }

    /// What was predicted at `asked` for `tick`.
    fn predicted(&self, asked: usize, tick: usize) -> &[f32] {
        &self.chunks[(asked * ROWS + tick - asked) * WIDTH..][..WIDTH]
    }
}

fn description() -> RobotDescription {
    // The states jump about as no arm does.
    let mut toml =
        "schema = 2\nname = 'arm'\ntitle = 'Arm'\ncontrol_rate_hz = 30\nlerobot = { class = 'arm' }\nstop = { behaviour = 'hold' }\n"
            .to_owned();
    for name in ["a", "b", "c", "d", "e", "f"] {
        write!(
            toml,
            "[[part]]\nname = '{name}'\ncommand = 'position'\nunit = 'degrees'\nlimits = {{ position = [-3, 3], velocity = 100.0, step = 100.0 }}\n"
        )
        .unwrap();
    }
    toml += "[[camera]]\nname = 'front'\nwidth = 128\nheight = 96\n[[camera]]\nname = 'wrist'\nwidth = 128\nheight = 96\n";
    RobotDescription::from_toml("arm", &toml).unwrap()
}

/// Feels what LeRobot saw, whatever it is told.
struct Replay {
    description: RobotDescription,
    golden: Arc<Golden>,
}

impl Robot for Replay {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn finish_read(&mut self, tick: &Tick, _: Timestamp, observation: &mut Observation) -> Result<(), RobotError> {
        let state = &self.golden.states[tick.turn as usize * WIDTH..][..WIDTH];
        let mut si = [0.0; WIDTH];
        Units::of(&self.description.state_channels()).to_si(state, &mut si);
        observation.state.set_all(&si, tick.due);
        Ok(())
    }

    fn enable(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        Ok(())
    }

    fn write(&mut self, _: &Door, command: &SafeCommand, _: Timestamp, sent: &mut Sent) -> Result<(), RobotError> {
        sent.reach_all(command);
        Ok(())
    }

    fn stop(&mut self, _: &Door, _: Timestamp) -> Result<(), RobotError> {
        Ok(())
    }
}

/// Shows what LeRobot saw.
struct Colours {
    golden: Arc<Golden>,
    pixels: ImageBuffers,
}

impl Cameras for Colours {
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        for (image, colour) in images.iter_mut().zip(self.golden.colours[tick.turn as usize * 6..].chunks_exact(3)) {
            image.rgb = self.pixels.fill(|rgb| rgb.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(colour)));
            image.captured_at = tick.due;
        }
        Ok(())
    }
}

struct Nowhere;

impl Environment for Nowhere {
    fn reset(&mut self, _: u64) -> Result<EpisodeSetup, EnvironmentError> {
        Ok(EpisodeSetup { task: String::new(), max_ticks: TICKS as u64, is_judged: true, is_set_up: true })
    }

    fn outcome(&mut self) -> Outcome {
        Outcome::Running
    }

    fn state_hash(&self) -> u64 {
        0
    }
}

#[derive(Default)]
struct Rows(Vec<f64>);

impl FrameSink for Rows {
    fn name(&self) -> &str {
        "rows"
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        assert!(!frame.starved);
        self.0.extend(&frame.wanted);
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}

/// What was wanted at each tick, in degrees.
fn run(golden: &Arc<Golden>, inference: Inference, latency: u64) -> Vec<f32> {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(self::golden("act/two_cameras_vae")).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    (config["temporal_ensemble_coeff"], config["n_action_steps"]) = (COEFF.into(), 1.into());
    std::fs::write(&path, config.to_string()).unwrap();

    let description = description();
    let policy = BoundPolicy::bind(&Arc::new(Checkpoint::open(folder.path()).unwrap()), &description).unwrap();
    let mut policy = PolicyThread::spawn(policy).unwrap();
    let mut robot = Replay { description: description.clone(), golden: golden.clone() };
    let mut cameras = Colours { golden: golden.clone(), pixels: ImageBuffers::new(8, 128 * 96 * 3) };
    let config = SessionConfig {
        inference,
        latency: Latency::ScriptedTicks(vec![latency]),
        // Each tick has the policy's own row, but for the first, which begins where the arm is.
        start_within: f64::INFINITY,
        rest_velocity_per_s: f64::INFINITY,
        ..SessionConfig::default()
    };
    let mut session = Session::new(config, Arc::new(MockClock::new()), StopFlag::new());
    let mut rows = Rows::default();
    let report = session.run_episode(
        &EpisodeRequest::default(),
        Rig { robot: &mut robot, cameras: &mut cameras, environment: &mut Nowhere },
        Source::Policy(&mut policy),
        &mut [&mut rows],
    );
    assert!(report.faults.is_empty() && report.ticks == TICKS as u64, "{report:?}");
    let mut degrees = vec![0.0; rows.0.len()];
    for (radians, degrees) in rows.0.chunks_exact(WIDTH).zip(degrees.chunks_exact_mut(WIDTH)) {
        Units::of(&description.action_channels()).to_dataset(radians, degrees);
    }
    degrees
}

/// From the second tick on.
fn furthest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).skip(WIDTH).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn in_the_loop_each_tick_has_lerobots_row() {
    let golden = Arc::new(Golden::read());
    let found = run(&golden, Inference::Sync, 0);
    let delta = furthest(&found, &golden.rows);
    assert!(delta < 1e-3, "{delta} degrees from LeRobot's");
    // Without ensembling it would be the first row of each chunk, which is far from that.
    let alone: Vec<f32> = (0..TICKS).flat_map(|tick| golden.predicted(tick, tick)).copied().collect();
    assert!(furthest(&alone, &golden.rows) > 0.1);
}

/// Beside the loop, each tick has the mean of what has been predicted for it by then.
#[test]
fn beside_the_loop_each_tick_has_the_mean_of_what_is_known() {
    let golden = Arc::new(Golden::read());
    for latency in [1, 3] {
        let found = run(&golden, Inference::Async, latency);
        // Asked as soon as the answer before is there; the first is there from the beginning.
        let asked: Vec<usize> = std::iter::once(0).chain((1..TICKS).step_by(latency as usize)).collect();
        let mut expected = Vec::new();
        for tick in 0..TICKS {
            let is_known = |asked: &&usize| (**asked == 0 || **asked + latency as usize <= tick) && tick < **asked + ROWS;
            let known = asked.iter().filter(is_known);
            let (mut sum, mut weights) = ([0f64; WIDTH], 0.0);
            for (i, asked) in known.enumerate() {
                let weight = (-COEFF * i as f64).exp();
                weights += weight;
                sum.iter_mut().zip(golden.predicted(*asked, tick)).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            }
            expected.extend(sum.map(|sum| (sum / weights) as f32));
        }
        let delta = furthest(&found, &expected);
        assert!(delta < 1e-3, "latency {latency}: {delta} degrees");
    }
}
