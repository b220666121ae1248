//! The recorder of a session: frames of a robot in, committed episodes out.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json, json};
use sinew_core::{
    Actor, Channel, EpisodeEnd, EpisodeStart, Frame, FrameSink, Interventions, Outcome, Reading, RobotDescription, SinkError, Units,
    Validity,
};

use crate::format::feature::{DatasetSchema, Dtype, Feature, Value};
use crate::format::schema::{ACTION, INTERVENTION, STATE, camera_key};
use crate::media::encode::try_encoders;
use crate::write::options::{RecorderOptions, check_setup};
use crate::write::unfinished::Unfinished;
use crate::write::writer::{DatasetWriter, Row, Taken, Totals};
use crate::{ReadError, RecordError};

/// Writes what a session's robot did into a LeRobotDataset; see [`DatasetWriter`] for what holds of
/// every episode.
pub struct DatasetRecorder {
    robot: RobotDescription,
    state: Channels,
    action: Channels,
    telemetry: bool,
    interventions: bool,
    /// Kept with each episode.
    note: Map<String, Json>,
    writer: DatasetWriter,
    task: String,
    last_tick: Option<u64>,
    counts: Counts,
    left_out: u64,
}

/// The channels of a feature.
struct Channels {
    names: Vec<String>,
    units: Units,
}

impl Channels {
    fn of(channels: Vec<Channel>) -> Self {
        Self { units: Units::of(&channels), names: channels.into_iter().map(|channel| channel.name).collect() }
    }

    /// `si` in the dataset's units.
    fn column(&self, si: &[f64]) -> Vec<f32> {
        let mut column = vec![0.0; si.len()];
        self.units.to_dataset(si, &mut column);
        column
    }

    /// Why `values` can't be written.
    fn misfit(&self, what: &str, values: &[f64]) -> Option<String> {
        if values.len() != self.names.len() {
            return Some(format!("{what} has {} values, expected {}", values.len(), self.names.len()));
        }
        let at = values.iter().position(|value| !value.is_finite())?;
        Some(format!("{what} of the channel {} is {}", self.names[at], values[at]))
    }
}

/// What LeRobot's tables have no place for, of one episode.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Ticks without a row: the session missed them or could not hand them over in time. Rows are
    /// numbered as if there were no gap.
    missing_ticks: u64,
    starved_ticks: u64,
    /// How many channels' goals each limit changed, over all ticks.
    limited: Interventions,
}

impl DatasetRecorder {
    /// Whether a dataset of `robot` could be recorded so: its encoders are tried. Touches no disk.
    ///
    /// # Errors
    /// When the robot or an option makes no dataset, or an encoder can't be had.
    pub fn check(robot: &RobotDescription, fps: u32, options: &RecorderOptions) -> Result<(), RecordError> {
        let schema = schema(robot, fps, options);
        check_setup(&schema, options)?;
        try_encoders(&schema, options)
    }

    /// Starts a dataset of `robot` at `fps` frames a second in the folder `root`, which must be empty
    /// or not exist.
    ///
    /// # Errors
    /// When the folder holds something (then nothing is touched), the robot or an option makes no
    /// dataset, an encoder can't be had, or the disk refuses.
    pub fn create(root: &Path, robot: &RobotDescription, fps: u32, options: RecorderOptions) -> Result<Self, RecordError> {
        let kept = (options.telemetry, options.interventions, options.note.clone());
        Ok(Self::new(robot, kept, DatasetWriter::create(root, &schema(robot, fps, &options), options)?))
    }

    /// Goes on with a dataset that Sinew or LeRobot wrote with the same robot, rate and calibration.
    /// Like LeRobot it begins new data and video files. An episode that was not finished is offered by
    /// [`Self::unfinished`], and has to be recovered or discarded first.
    ///
    /// # Errors
    /// When `root` is no such dataset, was made with another robot, rate, calibration or set of
    /// features, or is being written by someone else.
    pub fn resume(root: &Path, robot: &RobotDescription, fps: u32, options: RecorderOptions) -> Result<Self, RecordError> {
        let kept = (options.telemetry, options.interventions, options.note.clone());
        Ok(Self::new(robot, kept, DatasetWriter::resume(root, &schema(robot, fps, &options), options)?))
    }

    fn new(robot: &RobotDescription, (telemetry, interventions, note): (bool, bool, Map<String, Json>), writer: DatasetWriter) -> Self {
        Self {
            robot: robot.clone(),
            state: Channels::of(robot.state_channels()),
            action: Channels::of(robot.action_channels()),
            telemetry,
            interventions,
            note,
            writer,
            task: String::new(),
            last_tick: None,
            counts: Counts::default(),
            left_out: 0,
        }
    }

    /// Rows that were left out since it was opened, as the encoder or the disk could not keep up.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The dataset's folder.
    pub fn root(&self) -> &Path {
        self.writer.root()
    }

    /// What is committed by now.
    pub fn totals(&self) -> Totals {
        self.writer.totals()
    }

    /// What Sinew's own file says of the last committed episode.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn last_episode(&self) -> Result<Option<Json>, ReadError> {
        Ok(self.writer.log()?.lines().last().and_then(|line| serde_json::from_str(line).ok()))
    }

    /// The highest seed of a committed episode; LeRobot's have none.
    ///
    /// # Errors
    /// When Sinew's own file about the episodes can't be read.
    pub fn highest_seed(&self) -> Result<Option<u64>, ReadError> {
        let seed = |line| serde_json::from_str::<Json>(line).ok()?.get("seed")?.as_u64();
        Ok(self.writer.log()?.lines().filter_map(seed).max())
    }

    /// The episode that waits to be recovered or discarded: a killed process or a fault left it.
    pub fn unfinished(&self) -> Option<&Unfinished> {
        self.writer.unfinished()
    }

    /// Makes an episode of the unfinished one; see [`DatasetWriter::recover_unfinished`].
    ///
    /// # Errors
    /// When the disk refuses; it then waits on.
    pub fn recover_unfinished(&mut self) -> Result<Totals, RecordError> {
        self.writer.recover_unfinished()
    }

    /// Leaves no trace of the unfinished episode.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn discard_unfinished(&mut self) -> Result<(), RecordError> {
        self.writer.discard_unfinished()
    }

    fn begin_episode(&mut self, start: &EpisodeStart) -> Result<(), RecordError> {
        (self.task, self.last_tick, self.counts) = (start.task.clone(), None, Counts::default());
        let mut note = self.note.clone();
        note.append(&mut object(json!({"attempt": start.attempt, "seed": start.seed})));
        self.writer.begin_episode(note)
    }

    fn push(&mut self, frame: &Frame) -> Result<(), RecordError> {
        let number = self.writer.rows();
        let fault = |what: String| RecordError::Frame { episode: self.writer.totals().episodes, frame: number, what };
        if let Some(what) = self.misfit(frame) {
            return Err(fault(what));
        }
        match self.last_tick {
            Some(last) if frame.tick <= last => return Err(fault(format!("its tick is {}, after {last}", frame.tick))),
            Some(last) => self.counts.missing_ticks += frame.tick - last - 1,
            None => {}
        }
        self.last_tick = Some(frame.tick);
        let (wanted, observed) = (self.action.column(&frame.wanted), self.state.column(frame.observation.state.values()));
        let mut values = vec![Value::from(&wanted[..]), Value::from(&observed[..])];
        let images = self.robot.cameras.iter().zip(&frame.observation.images);
        values.extend(images.map(|(camera, image)| if camera.depth { Value::DepthMm(&image.depth_mm) } else { Value::Rgb(&image.rgb) }));
        if self.interventions {
            values.push(Value::from(frame.actor == Actor::Human));
        }
        let side = if self.telemetry { telemetry(frame, &self.action.column(&frame.sent)) } else { Vec::new() };
        let taken = self.writer.add_row(&Row { task: &self.task, values: &values, side: &side })?;
        self.left_out += u64::from(taken == Taken::Dropped);
        let Counts { starved_ticks, limited, .. } = &mut self.counts;
        *starved_ticks += u64::from(frame.starved);
        *limited += frame.interventions;
        Ok(())
    }

    /// Why `frame` makes no row.
    fn misfit(&self, frame: &Frame) -> Option<String> {
        let state = &frame.observation.state;
        let numbers = [
            self.action.misfit("the wanted action", &frame.wanted),
            self.action.misfit("the sent action", &frame.sent),
            self.state.misfit("the observed state", state.values()),
        ];
        if let Some(what) = numbers.into_iter().flatten().next() {
            return Some(what);
        }
        if let Some(at) = state.readings().iter().position(|reading| reading.time.is_none()) {
            return Some(format!("the channel {} of the observed state was never measured", self.state.names[at]));
        }
        image_misfit(&self.robot, frame)
    }

    fn end_episode(&mut self, end: &EpisodeEnd) -> Result<(), RecordError> {
        if !end.keep {
            self.writer.discard_episode()?;
            return self.writer.discard_unfinished();
        }
        let (outcome, failure) = match &end.outcome {
            Outcome::Success => ("success", None),
            Outcome::Failure(why) => ("failure", Some(why.clone())),
            Outcome::Running => ("undecided", None),
        };
        let Counts { missing_ticks, starved_ticks, limited } = self.counts;
        let mut note = object(json!({
            "outcome": outcome, "failure": failure, "missing_ticks": missing_ticks, "lost_frames": end.lost_frames,
            "starved_ticks": starved_ticks,
        }));
        note.extend(limited.by_kind().map(|(kind, count)| (format!("limited_{kind}"), json!(count))));
        self.writer.save_episode(note).map(|_| ())
    }

    fn describe(&self, doing: &str) -> String {
        format!("{doing} episode {} of the dataset {}", self.totals().episodes, self.root().display())
    }
}

fn object(value: Json) -> Map<String, Json> {
    if let Json::Object(map) = value { map } else { Map::new() }
}

/// What a dataset of `robot` holds.
fn schema(robot: &RobotDescription, fps: u32, options: &RecorderOptions) -> DatasetSchema {
    let (action, state) = (robot.action_names(), robot.state_names());
    let channels = |name: &str, dtype, names: &[String]| Feature { names: json!(names), ..Feature::numbers(name, dtype, &[names.len()]) };
    let mut features = vec![channels(ACTION, Dtype::F32, &action), channels(STATE, Dtype::F32, &state)];
    features.extend(robot.cameras.iter().map(|camera| {
        let feature = if camera.depth { Feature::depth } else { Feature::video };
        feature(&camera_key(&camera.name), camera.width, camera.height)
    }));
    if options.interventions {
        features.push(Feature::numbers(INTERVENTION, Dtype::Bool, &[1]));
    }
    let mut side = Vec::new();
    if options.telemetry {
        let number = |name: &str, dtype| Feature::numbers(name, dtype, &[1]);
        side.extend([number("tick", Dtype::I64), number("lateness_ns", Dtype::I64), number("observed_ns", Dtype::I64)]);
        side.extend([channels("state_validity", Dtype::I8, &state), channels("state_age_ns", Dtype::I64, &state)]);
        side.push(channels("sent_action", Dtype::F32, &action));
        side.extend([number("limited_channels", Dtype::I64), number("starved", Dtype::Bool), number("bus_retries", Dtype::I64)]);
        for camera in &robot.cameras {
            side.extend(["captured_ns", "age_ns", "sequence"].map(|what| number(&format!("{what}.{}", camera.name), Dtype::I64)));
        }
    }
    let rig = [("robot", Some(&robot.name)), ("calibration", options.calibration.as_ref())];
    let rig: BTreeMap<String, String> = rig.into_iter().filter_map(|(what, value)| Some((what.to_owned(), value?.clone()))).collect();
    DatasetSchema { robot_type: Some(robot.lerobot.class.clone()), side, rig, ..DatasetSchema::new(fps, features) }
}

/// A row of the side table: the tick, how late it was, when its state was read; of each channel of state,
/// what is known of its value and how long before that it was measured; what was really sent, how many
/// channels a limit held back, whether no action was there, how often the bus was asked again; of each
/// camera, when its image was taken, how old it was when the state was read, and its number.
fn telemetry(frame: &Frame, sent: &[f32]) -> Vec<Value<'static>> {
    let observation = &frame.observation;
    let observed_ns = observation.time.as_nanos();
    let number = |value: i64| Value::from(&[value][..]);
    let readings = observation.state.readings();
    let validity: Vec<i8> = readings.iter().map(|reading| code(reading.validity)).collect();
    let age_ns = |reading: &Reading| reading.time.map_or(-1, |time| observation.time.nanos_since(time).max(0));
    let age_ns: Vec<i64> = readings.iter().map(age_ns).collect();
    let mut side = vec![number(frame.tick as i64), number(frame.lateness_ns), number(observed_ns)];
    side.extend([Value::from(&validity[..]), Value::from(&age_ns[..]), Value::from(sent)]);
    side.extend([number(i64::from(frame.interventions.total())), Value::from(frame.starved)]);
    side.push(number(i64::from(observation.bus_retries)));
    for image in &observation.images {
        let captured_ns = image.captured_at.as_nanos();
        side.extend([number(captured_ns), number(observed_ns - captured_ns), number(image.sequence as i64)]);
    }
    side
}

/// What stands for `validity` in the column `state_validity`.
fn code(validity: Validity) -> i8 {
    match validity {
        Validity::Missing => 0,
        Validity::Fresh => 1,
        Validity::Repeated => 2,
        Validity::Alert => 3,
    }
}

/// Why the images of `frame` make no row of a dataset of `robot`.
fn image_misfit(robot: &RobotDescription, frame: &Frame) -> Option<String> {
    let images = &frame.observation.images;
    if images.len() != robot.cameras.len() {
        return Some(format!("it has {} images, expected {}", images.len(), robot.cameras.len()));
    }
    images.iter().zip(&robot.cameras).find_map(|(image, camera)| camera.image_fault(image))
}

fn sink_error(doing: String) -> impl FnOnce(RecordError) -> SinkError {
    move |source| SinkError { doing, source: source.into() }
}

impl FrameSink for DatasetRecorder {
    fn name(&self) -> &str {
        "recorder"
    }

    fn begin(&mut self, episode: &EpisodeStart) -> Result<(), SinkError> {
        let doing = self.describe("beginning");
        self.begin_episode(episode).map_err(sink_error(doing))
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        self.push(frame).map_err(|error| {
            self.writer.fail();
            sink_error(self.describe("recording"))(error)
        })
    }

    fn end(&mut self, end: &EpisodeEnd) -> Result<(), SinkError> {
        let doing = self.describe(if end.keep { "committing" } else { "dropping" });
        self.end_episode(end).map_err(sink_error(doing))
    }
}
