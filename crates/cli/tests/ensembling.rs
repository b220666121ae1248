//! ACT's temporal ensembling through the control loop: the rows that reach the gate are those of LeRobot's
//! `select_action`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails here fails the test")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::SafeTensors;
use sinew_core::{
    Environment, EpisodeEnd, EpisodeSetup, EpisodeStart, Frame, FrameSink, ImageBuffers, JointUnits, MockClock, Observation, Outcome,
    Robot, RobotDescription, RobotError, SafeCommand, SinkError, Tick,
};
use sinew_policy::{BoundPolicy, Checkpoint};
use sinew_runtime::{EpisodeRequest, Inference, Latency, PolicyThread, Session, SessionConfig, Source, StopFlag};

const TICKS: usize = 30;
const ROWS: usize = 20;
const WIDTH: usize = 6;
const COEFF: f64 = 0.01;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy/tests/golden").join(name)
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
    let mut toml = "name = 'arm'\ntitle = 'Arm'\nlerobot_robot_type = 'arm'\ncontrol_rate_hz = 30\n\
        bus = { protocol = 'feetech', baud_rate = 1 }\n\
        tool = { joint = 'a', joint_from_tool = { translation_m = [0, 0, 0], rotation_wxyz = [1, 0, 0, 0] } }\n\
        stop = { behaviour = 'hold', rest_rad = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0] }\n"
        .to_owned();
    for (id, name) in ["a", "b", "c", "d", "e", "f"].iter().enumerate() {
        write!(
            toml,
            "[[joint]]\nname = '{name}'\nmotor = {{ model = 'sts3215', id = {id} }}\nunit = 'degrees'\naxis = [0, 0, 1]\n\
             parent_from_joint = {{ translation_m = [0, 0, 0], rotation_wxyz = [1, 0, 0, 0] }}\n\
             limits = {{ position_rad = [-3, 3], velocity_rad_per_s = 1.0, step_rad = 0.1 }}\n"
        )
        .unwrap();
    }
    toml += "[[camera]]\nname = 'front'\nwidth = 128\nheight = 96\n[[camera]]\nname = 'wrist'\nwidth = 128\nheight = 96\n";
    RobotDescription::from_toml("arm", &toml).unwrap()
}

/// Shows what LeRobot saw, whatever it is told.
struct Replay {
    description: RobotDescription,
    golden: Arc<Golden>,
    pixels: ImageBuffers,
}

impl Robot for Replay {
    fn description(&self) -> &RobotDescription {
        &self.description
    }

    fn observe(&mut self, tick: &Tick, observation: &mut Observation) -> Result<(), RobotError> {
        let at = tick.index as usize;
        let state = &self.golden.states[at * WIDTH..][..WIDTH];
        JointUnits::of(&self.description).to_radians(state, &mut observation.position_rad);
        for (image, colour) in observation.images.iter_mut().zip(self.golden.colours[at * 6..].chunks_exact(3)) {
            image.rgb = self.pixels.fill(|rgb| rgb.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(colour)));
        }
        Ok(())
    }

    fn enable(&mut self) -> Result<(), RobotError> {
        Ok(())
    }

    fn write_goals(&mut self, command: &SafeCommand, applied_rad: &mut [f64]) -> Result<(), RobotError> {
        applied_rad.copy_from_slice(command.goals_rad());
        Ok(())
    }

    fn stop(&mut self) -> Result<(), RobotError> {
        Ok(())
    }
}

struct Nowhere;

impl Environment for Nowhere {
    fn reset(&mut self, _: u64) -> Result<EpisodeSetup, RobotError> {
        Ok(EpisodeSetup { task: String::new(), max_ticks: TICKS as u64 })
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
    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        assert!(!frame.starved);
        self.0.extend(&frame.wanted_rad);
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
    let mut robot = Replay { description: description.clone(), golden: golden.clone(), pixels: ImageBuffers::new(8, 128 * 96 * 3) };
    let config = SessionConfig {
        inference,
        latency: Latency::ScriptedTicks(vec![latency]),
        // The states jump about as no arm does.
        start_within_rad: f64::INFINITY,
        ..SessionConfig::default()
    };
    let mut session = Session::new(config, Arc::new(MockClock::new()), StopFlag::new());
    let mut rows = Rows::default();
    let report = session.run_episode(&EpisodeRequest::default(), &mut robot, &mut Nowhere, Source::Policy(&mut policy), &mut [&mut rows]);
    assert!(report.faults.is_empty() && report.ticks == TICKS as u64, "{report:?}");
    let mut degrees = vec![0.0; rows.0.len()];
    for (radians, degrees) in rows.0.chunks_exact(WIDTH).zip(degrees.chunks_exact_mut(WIDTH)) {
        JointUnits::of(&description).to_dataset(radians, degrees);
    }
    degrees
}

fn furthest(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
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
