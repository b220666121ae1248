//! From what a user writes of cameras to threads that look through them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sinew_core::{Blind, CameraDescription, Cameras, Clock, RobotDescription};
use sinew_drivers::camera::{
    CameraAddress, CameraHealth, CameraMonitor, CameraSet, CameraSetup, CameraState, Delivery, OpenSource, Pace, Picture, PixelFormat,
    Source, SourceAddress, SourceError, Stream, WhenCameraLost,
};
use sinew_recorder::{ReadError, VideoReader};

use crate::args::misuse;
use crate::devices;
use crate::sim_socket::SimCamera;
use crate::text::{self, note};

/// How long cameras may take until each has delivered for a second: networks, devices that start up.
const DELIVER_WITHIN: Duration = Duration::from_secs(8);
/// What a camera is asked for of which nothing is said.
pub const USUAL: (u32, u32, u32) = (640, 480, 30);

/// A robot's cameras, and what is known of them.
pub struct Looking {
    pub cameras: Box<dyn Cameras>,
    pub monitor: Option<CameraMonitor>,
    pub deliveries: Vec<Delivery>,
}

impl Looking {
    /// Cameras that nobody here looks after.
    pub fn through(cameras: Box<dyn Cameras>) -> Self {
        Self { cameras, monitor: None, deliveries: Vec::new() }
    }
}

impl Looking {
    /// Each camera with its source and what was measured of it, for people.
    pub fn in_words(&self) -> Vec<String> {
        let stream = |health: &CameraHealth| {
            health.stream.map_or_else(String::new, |stream| format!(", {}x{} {}", stream.width, stream.height, stream.format.fourcc()))
        };
        let line = |(delivery, health): (&Delivery, CameraHealth)| {
            format!("{} at {}{}, {:.1} images a second", delivery.name, health.source, stream(&health), delivery.rate_hz)
        };
        let health = self.monitor.iter().flat_map(CameraMonitor::health);
        self.deliveries.iter().zip(health).map(line).collect()
    }

    /// The same for a dataset, by the cameras' names.
    pub fn note(&self) -> Option<serde_json::Value> {
        let health = self.monitor.as_ref()?.health();
        let entry = |(delivery, health): (&Delivery, CameraHealth)| {
            let measured = serde_json::json!({"source": health.source, "rate_hz": delivery.rate_hz, "asked_hz": delivery.asked_hz});
            (delivery.name.clone(), measured)
        };
        Some(self.deliveries.iter().zip(health).map(entry).collect::<serde_json::Map<_, _>>().into())
    }

    /// How the cameras did, as of now.
    pub fn report(&self) -> CameraReport {
        CameraReport(self.monitor.iter().flat_map(CameraMonitor::health).map(Seen::of).collect())
    }
}

/// How every camera did.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct CameraReport(Vec<Seen>);

#[derive(Debug, Serialize)]
struct Seen {
    name: String,
    source: String,
    images: u64,
    broken: u64,
    lost: u64,
    reopened: u64,
    rate_hz: Option<f64>,
    longest_gap_s: f64,
    decode_ms: Option<f64>,
    /// Why there is none any more, or not right now.
    trouble: Option<String>,
}

impl Seen {
    fn of(health: CameraHealth) -> Self {
        let trouble = match health.state {
            CameraState::Lost { why } | CameraState::Over { why } => Some(why),
            CameraState::Opening | CameraState::Running => None,
        };
        Self {
            name: health.name,
            source: health.source,
            images: health.pictures,
            broken: health.broken,
            lost: health.lost,
            reopened: health.reopened,
            rate_hz: health.rate_hz,
            longest_gap_s: health.longest_gap.as_secs_f64(),
            decode_ms: health.decode_ms,
            trouble,
        }
    }
}

impl CameraReport {
    /// A line a camera; nothing where there is none.
    pub fn table(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let head = ["camera", "source", "images", "broken", "lost", "reopened", "rate", "longest gap", "decoding"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        let number = |value: Option<f64>, unit: &str| value.map_or_else(String::new, |value| format!("{value:.1} {unit}"));
        rows.extend(self.0.iter().map(|seen| {
            let counts = [seen.images, seen.broken, seen.lost, seen.reopened].map(|count| count.to_string());
            let mut row = vec![seen.name.clone(), seen.source.clone()];
            row.extend(counts);
            row.extend([number(seen.rate_hz, "Hz"), number(Some(seen.longest_gap_s * 1e3), "ms"), number(seen.decode_ms, "ms")]);
            row
        }));
        text::table(&rows)
    }
}

/// How old the newest image of each camera is, in a few words.
pub fn ages(monitor: &CameraMonitor) -> String {
    let age = |health: CameraHealth| match (&health.state, health.age) {
        (CameraState::Running, Some(age)) => {
            format!("{} {:.0} Hz {:.0} ms", health.name, health.rate_hz.unwrap_or_default(), age.as_secs_f64() * 1e3)
        }
        (CameraState::Running | CameraState::Opening, _) => format!("{} opens", health.name),
        (CameraState::Lost { .. } | CameraState::Over { .. }, _) => format!("{} LOST", health.name),
    };
    monitor.health().into_iter().map(age).collect::<Vec<_>>().join("  ")
}

/// A description of the camera `given`, from what the robot's description knows of it.
pub fn describe(given: &CameraAddress, known: Option<&CameraDescription>) -> CameraDescription {
    let (width, height, fps) = USUAL;
    let new = || CameraDescription { fps: Some(fps), ..CameraDescription::new(given.name.clone(), width, height) };
    let mut camera = known.cloned().unwrap_or_else(new);
    given.describe(&mut camera);
    camera
}

/// Opens the robot's cameras at the sources that are given for them, and waits until each delivers.
///
/// # Errors
/// When one does not, or is asked for what it has not.
pub fn open(robot: &RobotDescription, given: &[CameraAddress], within: Duration, clock: Arc<dyn Clock>) -> anyhow::Result<Looking> {
    let find = |camera: &CameraDescription| given.iter().find(|given| given.name == camera.name);
    let meant: Vec<(&CameraDescription, &CameraAddress)> =
        robot.cameras.iter().filter_map(|camera| Some((camera, find(camera)?))).collect();
    if meant.is_empty() {
        return Ok(Looking::through(Box::new(Blind)));
    }
    meant.iter().filter_map(|(_, address)| address.warning()).for_each(|warning| note!("{warning}"));
    devices::check_usb(&meant);
    let mut setups = Vec::new();
    for (camera, address) in meant {
        let source = source(camera, address, clock.clone())?;
        let when_lost = if within.is_zero() { WhenCameraLost::End } else { WhenCameraLost::Reopen { within } };
        setups.push(CameraSetup {
            when_lost,
            shape: address.shape(),
            decode: address.decode(),
            ..CameraSetup::new(camera.clone(), source)
        });
    }
    let set = CameraSet::start(setups, clock)?;
    let deliveries = set.wait_until_all_deliver(DELIVER_WITHIN)?;
    for slow in deliveries.iter().filter(|delivery| delivery.is_slow) {
        note!("camera {} gives {:.1} images a second, {:.0} were asked for", slow.name, slow.rate_hz, slow.asked_hz.unwrap_or_default());
    }
    Ok(Looking { monitor: Some(set.monitor()), deliveries, cameras: Box::new(set) })
}

/// Where the pictures of `camera` come from.
pub fn source(camera: &CameraDescription, address: &CameraAddress, clock: Arc<dyn Clock>) -> anyhow::Result<Box<dyn OpenSource>> {
    if let Some(source) = address.source(camera, clock.clone()) {
        return Ok(source);
    }
    match &address.source {
        SourceAddress::Usb(_) | SourceAddress::UsbPath(_) | SourceAddress::Device(_) => devices::open(camera, address, clock),
        SourceAddress::File(path) => Ok(Box::new(Video { path: path.into(), fps: f64::from(camera.fps.unwrap_or(30)), clock })),
        SourceAddress::Sim(socket) => Ok(Box::new(SimCamera::new(socket.into(), camera.name.clone()))),
        SourceAddress::Rtsp(_) => anyhow::bail!(
            "--camera {}: this build of sinew leaves out RTSP; `cargo build --release -p sinew-cli --features rtsp` makes one with it",
            address.name
        ),
        other => misuse!("--camera {}={other}: those are pictures of a LeKiwi's host, expected --robot lekiwi with it", address.name),
    }
}

fn in_words(error: ReadError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// A video in a loop, at a rate of its own choosing.
struct Video {
    path: PathBuf,
    fps: f64,
    clock: Arc<dyn Clock>,
}

impl OpenSource for Video {
    fn name(&self) -> String {
        format!("file:{}", self.path.display())
    }

    fn open(&mut self) -> Result<Box<dyn Source>, SourceError> {
        let refused = |what: String| SourceError::Unusable { doing: "opening", source_name: self.name(), what };
        let mut reader = VideoReader::open(&self.path)
            .map_err(|error| refused(format!("expected a video in mp4, an image or a folder of them: {}", in_words(error))))?;
        let count = reader.frames();
        if count == 0 {
            return Err(refused("it has no frame".to_owned()));
        }
        let first = reader.frame(0).map_err(|error| refused(in_words(error)))?;
        let stream = Stream { width: first.width, height: first.height, format: PixelFormat::Rgb, fps: Some(self.fps) };
        let pace = Pace::new(self.clock.clone(), &mut None, self.fps).ok_or_else(|| refused(format!("{} is no rate", self.fps)))?;
        Ok(Box::new(OpenVideo { name: self.name(), stream, reader, count, pace }))
    }
}

struct OpenVideo {
    name: String,
    stream: Stream,
    reader: VideoReader,
    count: u64,
    pace: Pace,
}

impl Source for OpenVideo {
    fn stream(&self) -> Stream {
        self.stream
    }

    fn next(&mut self, wait: Duration, take: &mut dyn FnMut(&Picture<'_>)) -> Result<bool, SourceError> {
        let Some((number, captured_at)) = self.pace.next(wait) else { return Ok(false) };
        let image = self.reader.frame(number % self.count).map_err(|error| SourceError::Unusable {
            doing: "reading",
            source_name: self.name.clone(),
            what: in_words(error),
        })?;
        take(&Picture {
            format: PixelFormat::Rgb,
            width: image.width,
            height: image.height,
            stride: image.width as usize * 3,
            bytes: &image.rgb,
            captured_at,
            sequence: number,
        });
        Ok(true)
    }
}
