//! Shows a session in the Rerun viewer (<https://rerun.io>).

use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageError};
use re_sdk_types::archetypes;
use re_sdk_types::components::Color;
use re_sdk_types::datatypes::Quaternion;
use rerun::blueprint::components::PanelState;
use rerun::blueprint::{
    Blueprint, ContainerLike, Grid, Horizontal, SelectionPanel, Spatial2DView, Spatial3DView, TextLogView, TimeSeriesView, Vertical,
};
use rerun::{RecordingStream, RecordingStreamBuilder, RecordingStreamError};
use sinew_core::{
    Channel, ChannelSource, CommandMode, DatasetUnit, EpisodeEnd, EpisodeStart, Frame, FrameSink, Image, OnFailure, Outcome, PartKind,
    RobotDescription, SinkError, Timestamp, Units,
};
use thiserror::Error;

const JPEG_QUALITY: u8 = 85;
/// How long the end of an episode waits for a viewer to take what it was sent.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// What Rerun is told of the unit of distances.
const MM_PER_METRE: f32 = 1000.0;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const WANTED: u32 = 0xe0a0_40ff;
const SENT: u32 = 0x40a0_e0ff;
const OBSERVED: u32 = 0x80d0_60ff;

/// A view that could not be opened, or could not take what it was shown.
#[derive(Debug, Error)]
pub enum ViewError {
    #[error("recording to {}: the file exists already", path.display())]
    Exists { path: PathBuf },
    #[error("creating the folder {} for the Rerun recording", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("connecting to a Rerun viewer at {address}, expected HOST:PORT of one that runs (the command `rerun` starts one on port 9876)")]
    Connect {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{doing}")]
    Rerun {
        doing: &'static str,
        #[source]
        source: Box<RecordingStreamError>,
    },
    #[error("showing an image: {what}")]
    Image { what: String },
    #[error("compressing an image of camera {camera} to JPEG")]
    Jpeg {
        camera: String,
        #[source]
        source: ImageError,
    },
    #[error("handing {to} what the episode left to show")]
    Flush {
        to: String,
        #[source]
        source: rerun::sink::SinkFlushError,
    },
}

/// Logs each tick to a Rerun recording: an .rrd file or a viewer that runs.
///
/// | entity | shows |
/// |---|---|
/// | `cameras/<name>` | the images, as JPEG; of a depth camera the distances, as they are |
/// | `channels/<name>` | what was wanted, sent and observed, in the dataset's unit; of a channel that is only measured, what was observed; nothing where it is not known |
/// | `world/robot/observed`, `world/robot/wanted` | the parts from the base to each end and tool, metres |
/// | `world/tools/<name>` | the tool's pose |
/// | `runtime/inference_ms`, `runtime/lateness_ms`, `runtime/queued_actions` | how the loop does |
/// | `runtime/success` | 1 or 0, at the end of an episode |
/// | `events` | beginnings, outcomes, starvation and limits |
///
/// The timelines `tick` and `time` run on from episode to episode, so that episodes follow one
/// another; `episode` counts the attempts.
pub struct RerunView {
    stream: RecordingStream,
    /// What errors call the other side.
    to: String,
    robot: RobotDescription,
    channels: Vec<ShownChannel>,
    /// The parts from the base to each end, and the tool there.
    chains: Vec<(Vec<usize>, Option<usize>)>,
    /// Where the running episode begins on the timelines.
    first_tick: u64,
    first_time_s: f64,
    /// When its first frame was due.
    began: Option<Timestamp>,
    next_tick: u64,
    last_time_s: f64,
    /// The image last shown of each camera, by its sequence number.
    shown: Vec<Option<u64>>,
    starved: bool,
    limited_ticks: u64,
}

/// A channel of state, as it is shown.
struct ShownChannel {
    path: String,
    units: Units,
    /// The part whose place it is.
    part: Option<usize>,
    /// Its number in the action, where it is commanded.
    action: Option<usize>,
}

impl ShownChannel {
    fn all_of(robot: &RobotDescription) -> Vec<Self> {
        let actions = robot.action_channels();
        let shown = |channel: Channel| Self {
            path: path_of(&channel),
            units: Units::of(std::slice::from_ref(&channel)),
            part: match (channel.source, channel.mode) {
                (ChannelSource::Part(part), None | Some(CommandMode::Position | CommandMode::Impedance)) => Some(part),
                _ => None,
            },
            action: actions.iter().position(|action| action.source == channel.source),
        };
        robot.state_channels().into_iter().map(shown).collect()
    }

    /// In the dataset's unit; NaN, which Rerun shows as a gap, where there is no value.
    fn to_dataset(&self, value: Option<f64>) -> f64 {
        let mut out = [f32::NAN];
        self.units.to_dataset(&[value.unwrap_or(f64::NAN)], &mut out);
        f64::from(out[0])
    }
}

impl RerunView {
    /// Records to the file `path` (.rrd), which must not exist.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn to_file(path: &Path, robot: &RobotDescription) -> Result<Self, ViewError> {
        if path.exists() {
            return Err(ViewError::Exists { path: path.to_owned() });
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|source| ViewError::Folder { path: folder.to_owned(), source })?;
        }
        let stream = builder(robot).save(path).map_err(rerun_error("creating the Rerun recording"))?;
        Self::new(stream, path.display().to_string(), robot)
    }

    /// Streams to the viewer that listens at `address`, such as `127.0.0.1:9876`.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn connect(address: &str, robot: &RobotDescription) -> Result<Self, ViewError> {
        let stream = connect(builder(robot), address)?;
        Self::new(stream, format!("the viewer at {address}"), robot)
    }

    fn new(stream: RecordingStream, to: String, robot: &RobotDescription) -> Result<Self, ViewError> {
        stream.set_log_tick_enabled(false);
        stream.set_log_time_enabled(false);
        let view = Self {
            stream,
            to,
            channels: ShownChannel::all_of(robot),
            chains: chains(robot),
            robot: robot.clone(),
            first_tick: 0,
            first_time_s: 0.0,
            began: None,
            next_tick: 0,
            last_time_s: 0.0,
            shown: Vec::new(),
            starved: false,
            limited_ticks: 0,
        };
        view.log_what_stays().map_err(rerun_error("describing the robot to Rerun"))?;
        Ok(view)
    }

    fn log_what_stays(&self) -> Result<(), RecordingStreamError> {
        let Self { stream, robot, .. } = self;
        stream.log_static("world", &archetypes::ViewCoordinates::RIGHT_HAND_Z_UP())?;
        for (shown, channel) in self.channels.iter().zip(robot.state_channels()) {
            let all = [("wanted", WANTED), ("sent", SENT), ("observed", OBSERVED)];
            let series = if shown.action.is_some() { &all[..] } else { &all[2..] };
            let unit = unit_of(robot, &channel);
            let lines = archetypes::SeriesLines::new()
                .with_names(series.iter().map(|(name, _)| format!("{name}{unit}")))
                .with_colors(series.iter().map(|(_, color)| Color::from(*color)));
            stream.log_static(shown.path.as_str(), &lines)?;
        }
        Ok(())
    }

    fn show(&mut self, frame: &Frame) -> Result<(), ViewError> {
        let began = *self.began.get_or_insert(frame.due);
        let time_s = self.first_time_s + frame.due.nanos_since(began) as f64 * 1e-9;
        self.next_tick = self.first_tick + frame.tick + 1;
        self.last_time_s = time_s;
        self.stream.set_time_sequence("tick", (self.first_tick + frame.tick) as i64);
        self.stream.set_duration_secs("time", time_s);
        self.log_numbers(frame).map_err(rerun_error("logging a tick to Rerun"))?;
        self.shown.resize(frame.observation.images.len(), None);
        for ((camera, image), shown) in self.robot.cameras.iter().zip(&frame.observation.images).zip(&mut self.shown) {
            // Sequence 0 throughout means that nobody counts.
            if *shown == Some(image.sequence) && image.sequence != 0 {
                continue;
            }
            *shown = Some(image.sequence);
            if let Some(what) = camera.image_fault(image) {
                return Err(ViewError::Image { what });
            }
            let path = format!("cameras/{}", camera.name);
            let logged = if camera.depth {
                let depth = archetypes::DepthImage::from_gray16(image.depth_mm.to_vec(), [image.width, image.height]);
                self.stream.log(path, &depth.with_meter(MM_PER_METRE))
            } else {
                let jpeg = to_jpeg(image).map_err(|source| ViewError::Jpeg { camera: camera.name.clone(), source })?;
                self.stream.log(path, &archetypes::EncodedImage::new(jpeg).with_media_type("image/jpeg"))
            };
            logged.map_err(rerun_error("logging an image to Rerun"))?;
        }
        Ok(())
    }

    fn log_numbers(&mut self, frame: &Frame) -> Result<(), RecordingStreamError> {
        let Self { stream, robot, channels, chains, .. } = self;
        let state = &frame.observation.state;
        // A value a part.
        let mut observed = vec![0.0; robot.parts.len()];
        for (at, channel) in channels.iter().enumerate() {
            let mut values = vec![channel.to_dataset(state.get(at))];
            if let Some(action) = channel.action {
                let commands = [&frame.wanted, &frame.sent].map(|values| channel.to_dataset(values.get(action).copied()));
                values.splice(..0, commands);
            }
            stream.log(channel.path.as_str(), &archetypes::Scalars::new(values))?;
            if let (Some(part), Some(value)) = (channel.part, state.values().get(at)) {
                observed[part] = *value;
            }
        }
        let mut wanted = observed.clone();
        for channel in channels.iter() {
            if let (Some(part), Some(value)) = (channel.part, channel.action.and_then(|action| frame.wanted.get(action))) {
                wanted[part] = *value;
            }
        }
        for (name, values, color, radius_m) in [("observed", &observed, OBSERVED, 0.004), ("wanted", &wanted, WANTED, 0.002)] {
            let strips =
                archetypes::LineStrips3D::new(strips(robot, chains, values)).with_colors([Color::from(color)]).with_radii([radius_m]);
            stream.log(format!("world/robot/{name}"), &strips)?;
        }
        for (at, tool) in robot.tools.iter().enumerate() {
            let pose = robot.base_from_tool(at, &observed);
            let rotation = pose.rotation.coords;
            let pose = archetypes::Transform3D::from_translation_rotation(
                pose.translation.vector.map(|v| v as f32).data.0[0],
                Quaternion::from_xyzw([rotation.x as f32, rotation.y as f32, rotation.z as f32, rotation.w as f32]),
            );
            stream.log(format!("world/tools/{}", tool.name), &pose)?;
        }
        for (name, value) in [
            ("inference_ms", frame.inference_ns as f64 * 1e-6),
            ("lateness_ms", frame.lateness_ns as f64 * 1e-6),
            ("queued_actions", f64::from(frame.queued)),
        ] {
            stream.log(format!("runtime/{name}"), &archetypes::Scalars::single(value))?;
        }
        self.limited_ticks += u64::from(frame.interventions.total() > 0);
        if frame.starved != std::mem::replace(&mut self.starved, frame.starved) {
            let what = if frame.starved { "starved: no action is queued" } else { "actions arrive again" };
            self.event(what, if frame.starved { "WARN" } else { "INFO" })?;
        }
        Ok(())
    }

    fn event(&self, text: &str, level: &str) -> Result<(), RecordingStreamError> {
        self.stream.log("events", &archetypes::TextLog::new(text).with_level(level))
    }

    fn begin_episode(&mut self, start: &EpisodeStart) -> Result<(), ViewError> {
        self.first_tick = self.next_tick;
        self.first_time_s = self.last_time_s;
        self.began = None;
        self.shown.clear();
        self.starved = false;
        self.limited_ticks = 0;
        self.stream.set_time_sequence("tick", self.first_tick as i64);
        self.stream.set_duration_secs("time", self.first_time_s);
        self.stream.set_time_sequence("episode", start.attempt as i64);
        let text = format!("attempt {} with seed {}: {}", start.attempt, start.seed, start.task);
        self.event(&text, "INFO").map_err(rerun_error("logging the beginning of an episode to Rerun"))
    }

    fn end_episode(&mut self, end: &EpisodeEnd) -> Result<(), ViewError> {
        let (success, outcome) = match &end.outcome {
            Outcome::Success => (1.0, "success".to_owned()),
            Outcome::Failure(why) => (0.0, format!("failure: {why}")),
            Outcome::Running => (0.0, "undecided".to_owned()),
        };
        let text = format!("{outcome}; limits held goals back in {} ticks; {} frames lost", self.limited_ticks, end.lost_frames);
        self.stream
            .log("runtime/success", &archetypes::Scalars::single(success))
            .and_then(|()| self.event(&text, if success > 0.0 { "INFO" } else { "WARN" }))
            .map_err(rerun_error("logging the end of an episode to Rerun"))?;
        self.stream.flush_with_timeout(FLUSH_TIMEOUT).map_err(|source| ViewError::Flush { to: self.to.clone(), source })
    }
}

impl FrameSink for RerunView {
    fn name(&self) -> &str {
        "Rerun"
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Detach
    }

    fn begin(&mut self, episode: &EpisodeStart) -> Result<(), SinkError> {
        self.begin_episode(episode).map_err(sink_error)
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        self.show(frame).map_err(sink_error)
    }

    fn end(&mut self, end: &EpisodeEnd) -> Result<(), SinkError> {
        self.end_episode(end).map_err(sink_error)
    }
}

/// Opens a stream to the viewer that listens at `address`.
pub(crate) fn connect(builder: RecordingStreamBuilder, address: &str) -> Result<RecordingStream, ViewError> {
    // Rerun itself would go on trying in silence.
    let unreachable = |source| ViewError::Connect { address: address.to_owned(), source };
    let mut answer = Err(std::io::ErrorKind::AddrNotAvailable.into());
    for resolved in address.to_socket_addrs().map_err(unreachable)? {
        answer = TcpStream::connect_timeout(&resolved, CONNECT_TIMEOUT).map(drop);
        if answer.is_ok() {
            break;
        }
    }
    answer.map_err(unreachable)?;
    let url = format!("rerun+http://{address}/proxy");
    builder.connect_grpc_opts(url).map_err(rerun_error("connecting to the Rerun viewer"))
}

fn builder(robot: &RobotDescription) -> RecordingStreamBuilder {
    RecordingStreamBuilder::new("sinew").recording_name(robot.title.clone()).with_blueprint(blueprint(robot))
}

/// The robot and the cameras to the left, plots to the right.
fn blueprint(robot: &RobotDescription) -> Blueprint {
    let cameras = robot.cameras.iter().map(|camera| {
        let path = format!("cameras/{}", camera.name);
        ContainerLike::from(Spatial2DView::new(camera.name.clone()).with_origin(path))
    });
    let channels = robot.state_channels().into_iter().map(|channel| {
        let path = path_of(&channel);
        ContainerLike::from(TimeSeriesView::new(channel.name).with_origin(path))
    });
    let left = Vertical::new([
        ContainerLike::from(Spatial3DView::new("robot").with_origin("world")),
        Grid::new(cameras).into(),
        TextLogView::new("events").with_origin("events").into(),
    ])
    .with_row_shares(vec![3.0, 3.0, 1.0]);
    let right = Vertical::new([
        ContainerLike::from(Grid::new(channels).with_grid_columns(2)),
        TimeSeriesView::new("runtime").with_origin("runtime").into(),
    ])
    .with_row_shares(vec![3.0, 1.0]);
    let layout = Horizontal::new([ContainerLike::from(left), right.into()]);
    Blueprint::new(layout).with_selection_panel(SelectionPanel::from_state(PanelState::Collapsed))
}

fn path_of(channel: &Channel) -> String {
    format!("channels/{}", channel.name)
}

/// The dataset's unit of `channel`, to stand behind a name; empty where it is not known.
fn unit_of(robot: &RobotDescription, channel: &Channel) -> &'static str {
    let (unit, kind) = match channel.source {
        ChannelSource::Part(part) => (robot.parts[part].unit, robot.parts[part].kind),
        ChannelSource::Base(axis) => return if axis == 2 { " (°/s)" } else { " (m/s)" },
        ChannelSource::Sensor(..) => return "",
    };
    match (unit, channel.mode, kind) {
        (_, Some(CommandMode::Effort), _) => "",
        (DatasetUnit::Range0To100, ..) => " (0..100)",
        (DatasetUnit::RangeM100To100, ..) => " (−100..100)",
        (DatasetUnit::Degrees, Some(CommandMode::Velocity), _) => " (°/s)",
        (DatasetUnit::Degrees, ..) => " (°)",
        (DatasetUnit::Si, Some(CommandMode::Velocity), PartKind::Prismatic) => " (m/s)",
        (DatasetUnit::Si, Some(CommandMode::Velocity), _) => " (rad/s)",
        (DatasetUnit::Si, _, PartKind::Prismatic) => " (m)",
        (DatasetUnit::Si, ..) => " (rad)",
    }
}

/// The parts from the base to each tool, and to each part that carries neither a part nor a tool.
fn chains(robot: &RobotDescription) -> Vec<(Vec<usize>, Option<usize>)> {
    let tools = robot.tools.iter().enumerate().filter_map(|(at, tool)| Some((robot.chain_to(robot.part_index(&tool.part)?), Some(at))));
    let carries = |name: &String| {
        robot.parts.iter().any(|part| part.parent.as_ref() == Some(name)) || robot.tools.iter().any(|tool| tool.part == *name)
    };
    let ends = robot.parts.iter().enumerate().filter(|(_, part)| !carries(&part.name));
    tools.chain(ends.map(|(at, _)| (robot.chain_to(at), None))).collect()
}

/// Of each chain the base, every part's origin and the tool, in the base frame; `values` has one a part.
fn strips(robot: &RobotDescription, chains: &[(Vec<usize>, Option<usize>)], values: &[f64]) -> Vec<Vec<[f32; 3]>> {
    let parts = robot.base_from_parts(values);
    let strip = |(chain, tool): &(Vec<usize>, Option<usize>)| {
        let tool = tool.map(|tool| robot.base_from_tool(tool, values).translation.vector);
        let origins = chain.iter().map(|part| parts[*part].translation.vector).chain(tool);
        std::iter::once([0.0; 3]).chain(origins.map(|v| [v.x as f32, v.y as f32, v.z as f32])).collect()
    };
    chains.iter().map(strip).collect()
}

fn to_jpeg(image: &Image) -> Result<Vec<u8>, ImageError> {
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY).encode(&image.rgb, image.width, image.height, ExtendedColorType::Rgb8)?;
    Ok(jpeg)
}

fn rerun_error(doing: &'static str) -> impl FnOnce(RecordingStreamError) -> ViewError {
    move |source| ViewError::Rerun { doing, source: Box::new(source) }
}

fn sink_error(error: ViewError) -> SinkError {
    SinkError { doing: "showing the session in Rerun".to_owned(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: &[Vec<[f32; 3]>], expected: &[&[[f32; 3]]]) {
        let lengths = |strips: &[&[[f32; 3]]]| strips.iter().map(|strip| strip.len()).collect::<Vec<_>>();
        let found: Vec<&[[f32; 3]]> = found.iter().map(Vec::as_slice).collect();
        assert_eq!(lengths(&found), lengths(expected), "{found:?}");
        let numbers = |strips: &[&[[f32; 3]]]| strips.iter().copied().flatten().flatten().copied().collect::<Vec<f32>>();
        assert!(numbers(&found).iter().zip(numbers(expected)).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn the_chain_runs_from_the_base_through_every_part_to_the_tool() {
        let robot = RobotDescription::from_toml("two_joint_arm.toml", include_str!("../../examples/two_joint_arm.toml")).unwrap();
        let found = strips(&robot, &chains(&robot), &[std::f64::consts::FRAC_PI_2, 0.0]);
        assert_near(&found, &[&[[0.0, 0.0, 0.0], [0.0, 0.0, 0.1], [0.0, 0.1, 0.1], [0.0, 0.15, 0.1]]]);
    }

    #[test]
    fn every_arm_has_a_chain_and_so_have_parts_without_a_tool() {
        let robot = RobotDescription::from_toml("two_arms.toml", include_str!("../../examples/two_arms.toml")).unwrap();
        let found = strips(&robot, &chains(&robot), &[0.0; 4]);
        let arm = |y: f32| [[0.0, 0.0, 0.0], [0.0, y, 0.1], [0.1, y, 0.1], [0.15, y, 0.1]];
        assert_near(&found, &[&arm(0.2), &arm(-0.2)]);

        let robot = RobotDescription::from_toml("rover.toml", include_str!("../../examples/rover.toml")).unwrap();
        let found = strips(&robot, &chains(&robot), &[0.0; 6]);
        let lone = [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]];
        assert_near(&found, &[&arm(0.0)[..], &lone, &lone, &lone, &lone]);
    }

    #[test]
    fn a_channel_is_shown_in_the_unit_of_the_dataset() {
        let robot = RobotDescription::from_toml("rover.toml", include_str!("../../examples/rover.toml")).unwrap();
        let units: Vec<_> = robot.state_channels().iter().map(|channel| (channel.name.clone(), unit_of(&robot, channel))).collect();
        let expected = [
            ("shoulder.pos", " (°)"),
            ("mast.pos", " (°)"),
            ("gripper.pos", " (0..100)"),
            ("x.vel", " (m/s)"),
            ("y.vel", " (m/s)"),
            ("theta.vel", " (°/s)"),
            ("battery.voltage", ""),
        ];
        assert_eq!(units, expected.map(|(name, unit)| (name.to_owned(), unit)));
        let shown = ShownChannel::all_of(&robot);
        assert_eq!(
            shown.iter().map(|channel| channel.action).collect::<Vec<_>>(),
            [Some(0), None, Some(1), Some(2), Some(3), Some(4), None]
        );
        assert_eq!(shown.iter().map(|channel| channel.part).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), None, None, None, None]);
        assert!((shown[5].to_dataset(Some(1.0)) - 57.29578).abs() < 1e-4 && shown[5].to_dataset(None).is_nan());
    }
}
