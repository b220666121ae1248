//! The whole loop on the real clock, as `sinew rollout --realtime --out --rerun` puts it together, around an arm
//! that costs nothing and three cameras of 640×480 that take their pictures on threads of their own.
//! `scripts/jitter.py` runs it beside other loops.
//!
//! ```text
//! whole_loop policy=FOLDER [rate=30] [seconds=10] [fifo=PRIORITY] [cpu=N] [record=FOLDER]
//!            [rerun=FILE | connect=HOST:PORT] [slow=FPS]
//! ```
//!
//! `policy` is a checkpoint with images of 640×480; it runs beside the loop (asynchronous inference). Where `rate` is
//! above 30 Hz, the policy and the recording keep to 30 or, if that is no divisor, to 25 Hz, and the loop runs a
//! multiple of it. `fifo` asks for `SCHED_FIFO`, locked memory and a watchdog process, `cpu` for one processor to be kept to. `slow` is the rate of the first
//! camera, which the policy looks through; the others have 30 frames a second.
//!
//! Prints `ticking` when the first frame has come, and at the end the episode's report as one line of JSON, with the
//! ticks of the policy (`policy_ticks`), the rows that were recorded (`rows`: what is missing to the former was lost on
//! the way or left out by an encoder that could not keep up) and, of each camera, how old its images were when used.

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

#[path = "../../runtime/examples/common/mod.rs"]
mod common;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use anyhow::Context;
use common::{Arm, Scene};
use serde_json::json;
use sinew::{OpenOptions, Policy};
use sinew_core::{
    CameraError, Cameras, Clock, EpisodeEnd, EpisodeStart, Frame, FrameSink, Image, ImageBuffers, Lease, OnFailure, Pixels, Robot,
    SinkError, Tick, Unwatched,
};
use sinew_recorder::{DatasetRecorder, Overload, RecorderOptions, RerunView};
use sinew_runtime::{
    EpisodeRequest, Fault, Histogram, Inference, MonotonicClock, PolicyThread, Realtime, RealtimeRequest, Rig, Role, Session,
    SessionConfig, Source, StopFlag, WATCHDOG_PATIENCE, Watchdog, place, watch, write_lifeline,
};

const CAMERAS: usize = 3;
const CAMERA_FPS: f64 = 30.0;
const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;

#[derive(Default)]
struct Options {
    policy: PathBuf,
    rate_hz: u32,
    seconds: f64,
    fifo: Option<u8>,
    cpu: Option<usize>,
    record: Option<PathBuf>,
    rerun: Option<PathBuf>,
    connect: Option<String>,
    slow_fps: Option<f64>,
}

impl Options {
    fn of(args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut options = Self { rate_hz: 30, seconds: 10.0, ..Self::default() };
        for arg in args {
            let (key, value) = arg.split_once('=').with_context(|| format!("reading the option {arg}: expected KEY=VALUE"))?;
            match key {
                "policy" => options.policy = value.into(),
                "rate" => options.rate_hz = number(key, value)?,
                "seconds" => options.seconds = number(key, value)?,
                "fifo" => options.fifo = Some(number(key, value)?),
                "cpu" => options.cpu = Some(number(key, value)?),
                "record" => options.record = Some(value.into()),
                "rerun" => options.rerun = Some(value.into()),
                "connect" => options.connect = Some(value.to_owned()),
                "slow" => options.slow_fps = Some(number(key, value)?),
                _ => anyhow::bail!("reading the option {arg}: there is no {key}"),
            }
        }
        anyhow::ensure!(!options.policy.as_os_str().is_empty(), "reading the options: policy=FOLDER is missing");
        Ok(options)
    }

    /// Ticks of the policy a second, and turns of the loop for each.
    fn policy_rate(&self) -> (u32, u32) {
        let hz = [30, 25].into_iter().find(|hz| self.rate_hz.is_multiple_of(*hz)).unwrap_or(self.rate_hz);
        (hz, self.rate_hz / hz.max(1))
    }
}

fn number<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(key: &str, value: &str) -> anyhow::Result<T> {
    value.parse().with_context(|| format!("reading the option {key}={value}: expected a number"))
}

/// The newest image of a camera that takes them on a thread of its own.
struct Camera {
    newest: Arc<Mutex<Image>>,
    seen: Image,
}

impl Camera {
    /// Takes `fps` images a second until the process ends, stamped by `clock`.
    fn start(name: &str, fps: f64, clock: MonotonicClock) -> io::Result<Self> {
        let newest = Arc::new(Mutex::new(Image::black(WIDTH, HEIGHT)));
        let slot = newest.clone();
        thread::Builder::new().name(format!("camera {name}")).spawn(move || {
            let line = 3 * WIDTH as usize;
            let scene = scene();
            let mut buffers = ImageBuffers::new(4, line * HEIGHT as usize);
            let period = Duration::from_secs_f64(1.0 / fps);
            let depth_mm = Pixels::default();
            let mut due = clock.now();
            for sequence in 1.. {
                // What a camera has no time for it leaves out.
                due = (due + period).max(clock.now());
                clock.sleep_until(due);
                let captured_at = clock.now();
                let shift = sequence as usize * 12 % line;
                let rgb = buffers.fill(|rgb| {
                    for (to, from) in rgb.chunks_exact_mut(line).zip(scene.chunks_exact(2 * line)) {
                        to.copy_from_slice(&from[shift..shift + line]);
                    }
                });
                let image = Image { width: WIDTH, height: HEIGHT, rgb, depth_mm: depth_mm.clone(), captured_at, sequence };
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = image;
            }
        })?;
        Ok(Self { newest, seen: Image::black(WIDTH, HEIGHT) })
    }

    /// Never waits: while the camera is putting its next image there, the one before is given once more. Hands on
    /// the memory that the camera wrote to.
    fn latest(&mut self) -> &Image {
        if let Ok(newest) = self.newest.try_lock() {
            self.seen.clone_from(&newest);
        }
        &self.seen
    }
}

/// All cameras.
struct Looking(Vec<Camera>);

impl Cameras for Looking {
    fn newest(&mut self, _: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        for (image, camera) in images.iter_mut().zip(&mut self.0) {
            image.clone_from(camera.latest());
        }
        Ok(())
    }
}

/// Waves with a sensor's noise, RGB rows twice as wide as an image, for a camera to pan over.
fn scene() -> Vec<u8> {
    let mut noise = 1u32;
    let mut pixels = Vec::new();
    for y in 0..HEIGHT {
        for x in 0..2 * WIDTH {
            for channel in 0..3 {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let wave = (x as f32 / (17.0 + 5.0 * channel as f32)).sin() + (y as f32 / 23.0).cos();
                pixels.push((128.0 + 50.0 * wave) as u8 + (noise >> 29) as u8);
            }
        }
    }
    pixels
}

/// Looks at how old images are.
struct Ages {
    cameras: Vec<(Histogram, u64)>,
    frames: u64,
}

impl FrameSink for Ages {
    fn name(&self) -> &str {
        "ages"
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Detach
    }

    fn begin(&mut self, _: &EpisodeStart) -> Result<(), SinkError> {
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), SinkError> {
        if self.frames == 0 {
            println!("ticking");
        }
        self.frames += 1;
        for ((ages, sequence), image) in self.cameras.iter_mut().zip(&frame.observation.images) {
            ages.record(frame.due.nanos_since(image.captured_at));
            *sequence = image.sequence;
        }
        Ok(())
    }

    fn end(&mut self, _: &EpisodeEnd) -> Result<(), SinkError> {
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("watchdog") {
        let priority = std::env::args().nth(2).map(|text| text.parse()).transpose().context("reading the watchdog's priority")?;
        Realtime::ask(&RealtimeRequest { priority, ..RealtimeRequest::default() });
        let socket = io::stdin().as_fd().try_clone_to_owned().context("standing by: finding the process to watch")?;
        watch(socket, WATCHDOG_PATIENCE, write_lifeline).context("standing by")?;
        return Ok(());
    }
    let options = Options::of(std::env::args().skip(1))?;
    let (policy_hz, multiplier) = options.policy_rate();

    let policy = Policy::open(&options.policy, OpenOptions::new())?;
    let joints = policy.info().outputs.iter().find(|feature| feature.name == "action").map_or(1, |action| action.shape[0]);
    let mut names: Vec<String> = policy.info().cameras.iter().map(|camera| camera.name.clone()).collect();
    names.extend((names.len()..CAMERAS).map(|i| format!("camera_{i}")));

    let clock = MonotonicClock::new();
    let cameras = names.iter().enumerate().map(|(i, name)| {
        let fps = options.slow_fps.filter(|_| i == 0).unwrap_or(CAMERA_FPS);
        Camera::start(name, fps, clock).with_context(|| format!("starting the camera {name}"))
    });
    let mut cameras = Looking(cameras.collect::<anyhow::Result<Vec<_>>>()?);
    let sizes: Vec<_> = names.iter().map(|name| (name.as_str(), WIDTH, HEIGHT)).collect();
    let mut arm = Arm::new(policy_hz, joints, &sizes)?;

    // As the command line: all processors but one for inference.
    let threads = thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1));
    let bound = thread::scope(|scope| {
        let binding = scope.spawn(|| {
            place(Role::Inference);
            anyhow::Ok(policy.bind(arm.description())?.with_threads(threads)?)
        });
        binding.join().map_err(|_panic| anyhow::anyhow!("binding the policy: its thread panicked"))?
    })?;
    let mut policy = PolicyThread::spawn(bound).context("starting the policy's thread")?;

    let recording = RecorderOptions { on_overload: Overload::DropTick, ..RecorderOptions::default() };
    let recorder = options.record.as_ref().map(|root| DatasetRecorder::create(root, arm.description(), policy_hz, recording));
    let mut recorder = recorder.transpose()?;
    let mut view = match (&options.rerun, &options.connect) {
        (Some(file), _) => Some(RerunView::to_file(file, arm.description())?),
        (None, Some(address)) => Some(RerunView::connect(address, arm.description())?),
        (None, None) => None,
    };
    let mut ages = Ages { cameras: vec![(Histogram::new(), 0); CAMERAS], frames: 0 };
    let mut sinks: Vec<&mut dyn FrameSink> = vec![&mut ages];
    sinks.extend(recorder.as_mut().map(|sink| sink as &mut dyn FrameSink));
    sinks.extend(view.as_mut().map(|sink| sink as &mut dyn FrameSink));

    let config = SessionConfig {
        inference: Inference::Async,
        control_multiplier: multiplier,
        realtime: RealtimeRequest { priority: options.fifo, lock_memory: options.fifo.is_some(), cpu: options.cpu },
        // It is wherever it is told to be.
        start_within: f64::INFINITY,
        ..SessionConfig::default()
    };
    let stop = StopFlag::new();
    stop.escalate_on_signals().context("listening for Ctrl-C")?;
    let mut lease: Arc<dyn Lease> = Arc::new(Unwatched);
    if let Some(priority) = options.fifo {
        let below = priority.saturating_sub(1).max(1);
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.args(["watchdog", &below.to_string()]);
        lease = Arc::new(Watchdog::start(&mut command, stop.clone(), Some(below)).context("starting the watchdog")?);
    }
    let mut session = Session::new(config, Arc::new(clock), stop).watched_by(lease);
    let policy_ticks = (options.seconds * f64::from(policy_hz)).ceil() as u64;
    let mut scene = Scene(policy_ticks);
    let report = session.run_episode(
        &EpisodeRequest::default(),
        Rig { robot: &mut arm, cameras: &mut cameras, environment: &mut scene },
        Source::Policy(&mut policy),
        &mut sinks,
    );
    drop((session, sinks));

    let seen = names.iter().zip(&ages.cameras).map(|(name, (ages, images))| json!({"name": name, "images": images, "age": ages}));
    let mut line = serde_json::to_value(&report)?;
    line["policy_ticks"] = json!(policy_ticks);
    line["rows"] = json!(recorder.map(|recorder| recorder.totals().frames));
    line["cameras"] = seen.collect();
    println!("{line}");
    anyhow::ensure!(report.faults.is_empty(), "{}", report.faults.iter().map(Fault::chain).collect::<Vec<_>>().join("; then: "));
    Ok(())
}
