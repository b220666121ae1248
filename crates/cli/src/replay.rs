//! What was recorded, done again: an episode's actions as a policy that knows them all.

use anyhow::{Context, bail};
use sinew::DatasetReader;
use sinew_core::{ActionChunk, ChannelSource, Observation, Policy, PolicyError, PolicyInfo, RobotDescription, Units};
use sinew_recorder::{Loader, Values, Windows};

const ACTION: &str = "action";
/// A goal so far beyond a part's limits, as a share of their range, is in other units or of another robot. The gate keeps
/// what is nearer within them.
const BEYOND: f64 = 0.25;

/// Answers with the rows of an episode from a tick on, of which the first one is the first.
pub struct Replay {
    info: PolicyInfo,
    width: usize,
    /// In SI, row after row.
    goals: Vec<f64>,
}

impl Replay {
    /// The actions of `episode`, for `robot`.
    ///
    /// # Errors
    /// When the dataset is of another robot, in other units or at another rate, or can't be read.
    pub fn of(dataset: &DatasetReader, episode: u64, robot: &RobotDescription) -> anyhow::Result<Self> {
        let doing = || format!("replaying episode {episode} of {} on {}", dataset.root().display(), robot.name);
        check(dataset, robot).with_context(doing)?;
        let entry = dataset.episode(episode)?;
        let windows = Windows { cameras: Some(Vec::new()), ..Windows::default() };
        let mut loader = Loader::new(dataset, &windows)?;
        let channels = robot.action_channels();
        let units = Units::of(&channels);
        let (width, mut goals, mut row) = (channels.len(), Vec::new(), vec![0.0; channels.len()]);
        for (frame, item) in loader.items(entry.first_index..entry.first_index + entry.length).enumerate() {
            let item = item?;
            let values: Vec<f32> = match item.values.get(ACTION) {
                Some(Values::Numbers { values, .. }) => values.iter().map(|value| *value as f32).collect(),
                Some(_) => bail!("{}: expected numbers in {ACTION} of frame {frame}, found something else", doing()),
                None => bail!("{}: expected numbers in {ACTION} of frame {frame}, found none", doing()),
            };
            anyhow::ensure!(values.len() == width, "{}: frame {frame} has {} values, expected {width}", doing(), values.len());
            units.to_si(&values, &mut row);
            for ((goal, channel), value) in row.iter().zip(&channels).zip(&values) {
                anyhow::ensure!(goal.is_finite(), "{}: {} of frame {frame} is {value}", doing(), channel.name);
                let ChannelSource::Part(part) = channel.source else { continue };
                let Some([lower, upper]) = robot.parts.get(part).and_then(|part| part.limits.position) else { continue };
                let room = (upper - lower) * BEYOND;
                if *goal < lower - room || *goal > upper + room {
                    let (mut least, mut most) = (vec![0.0; width], vec![0.0; width]);
                    units.to_dataset(&vec![lower; width], &mut least);
                    units.to_dataset(&vec![upper; width], &mut most);
                    let at = channels.iter().position(|other| other.name == channel.name).unwrap_or_default();
                    bail!(
                        "{}: {} of frame {frame} is {value}, expected about {:.1} to {:.1}: it was recorded in other units, or on another robot",
                        doing(),
                        channel.name,
                        least[at],
                        most[at]
                    );
                }
            }
            goals.extend(&row);
        }
        let rows = goals.len() / width.max(1);
        anyhow::ensure!(rows > 0, "{}: it has no frame", doing());
        let info = PolicyInfo { family: "replay".to_owned(), parameters: 0, n_obs_steps: 1, chunk_size: rows, n_action_steps: rows };
        Ok(Self { info, width, goals })
    }

    pub fn rows(&self) -> usize {
        self.info.chunk_size
    }
}

/// Whether what `dataset` holds is for `robot`, at its rate.
fn check(dataset: &DatasetReader, robot: &RobotDescription) -> anyhow::Result<()> {
    let is_its = |kind: &str| kind == robot.lerobot.class || robot.lerobot.types.iter().any(|known| known == kind);
    if let Some(kind) = dataset.robot_type().filter(|kind| !is_its(kind)) {
        bail!("it was recorded on the robot type {kind}, expected {}", robot.lerobot.class);
    }
    let names = dataset.features().get(ACTION).and_then(|feature| feature.get("names")).context("it has no feature action with names")?;
    let expected = robot.action_names();
    let found: Option<Vec<&str>> = names.as_array().and_then(|names| names.iter().map(|name| name.as_str()).collect());
    anyhow::ensure!(
        found.as_deref().is_some_and(|found| found.iter().eq(expected.iter())),
        "its actions are {names}, expected {}",
        serde_json::to_string(&expected).unwrap_or_default()
    );
    anyhow::ensure!(
        dataset.fps().hz() == f64::from(robot.control_rate_hz),
        "it has {} frames a second, and the robot is to have {} ticks a second",
        dataset.fps().hz(),
        robot.control_rate_hz
    );
    Ok(())
}

impl Policy for Replay {
    fn info(&self) -> &PolicyInfo {
        &self.info
    }

    fn reset(&mut self, _: u64) {}

    fn infer(&mut self, observations: &[Observation], _: &str) -> Result<ActionChunk, PolicyError> {
        let tick = observations.last().map_or(0, |observation| observation.tick);
        // Behind the last row it stands.
        let row = usize::try_from(tick).unwrap_or(usize::MAX).min(self.rows() - 1);
        Ok(ActionChunk::new(tick, self.width, self.goals[row * self.width..].to_vec())?)
    }
}
