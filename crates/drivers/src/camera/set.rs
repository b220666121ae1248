//! The cameras of a robot, each with its thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, Thread};
use std::time::Duration;

use sinew_core::{Brief, CameraDescription, CameraError, Cameras, Clock, Image, Tick};
use thiserror::Error;

use super::thread::{CameraThread, Shared};
use super::{CameraHealth, CameraState, DecodeOptions, OpenSource, ShapeOptions, WhenCameraLost};

/// A rate is measured over so long before a session, where there is time.
const MEASURE: Duration = Duration::from_secs(1);
/// A camera that delivers a smaller part of what was asked is slow.
const ENOUGH: f64 = 0.9;

/// Cameras that can't be had.
#[derive(Debug, Error)]
pub enum CameraSetError {
    #[error("starting cameras: expected a clock that runs by itself, found one that waits to be moved")]
    Clock,
    #[error("starting the thread of camera {camera}")]
    Thread {
        camera: String,
        #[source]
        source: io::Error,
    },
    #[error("looking through the cameras for the first time, for {within:?} at most: {}", silent.join("; "))]
    Silent { within: Duration, silent: Vec<String> },
}

/// A camera and where its pictures come from.
pub struct CameraSetup {
    pub description: CameraDescription,
    pub source: Box<dyn OpenSource>,
    pub when_lost: WhenCameraLost,
    pub shape: ShapeOptions,
    pub decode: DecodeOptions,
}

impl CameraSetup {
    /// Pictures as they come, and an end as soon as they don't.
    pub fn new(description: CameraDescription, source: Box<dyn OpenSource>) -> Self {
        Self { description, source, when_lost: WhenCameraLost::End, shape: ShapeOptions::default(), decode: DecodeOptions::default() }
    }
}

/// How a camera delivers before a session begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    pub name: String,
    /// Images a second: what was measured, and what the description, or else the source, says.
    pub rate_hz: f64,
    pub asked_hz: Option<f64>,
    /// It delivers less than 0.9 of what was asked.
    pub is_slow: bool,
}

/// What is known of the cameras, for whoever looks after them. Cheap to clone; outlives the set.
#[derive(Clone)]
pub struct CameraMonitor {
    cameras: Vec<Arc<Shared>>,
    clock: Arc<dyn Clock>,
}

impl CameraMonitor {
    /// How each camera is doing, in their order.
    pub fn health(&self) -> Vec<CameraHealth> {
        let now = self.clock.now();
        let health = |camera: &Arc<Shared>| {
            let mut health = camera.notes.lock().health(&camera.camera.name, &camera.source, now);
            if let Some(overdue) = camera.overdue(now)
                && !matches!(health.state, CameraState::Over { .. })
            {
                health.state = CameraState::Lost { why: hangs(&camera.source, overdue) };
            }
            health
        };
        self.cameras.iter().map(health).collect()
    }
}

fn hangs(source: &str, overdue: Duration) -> String {
    format!("looking through {source}: it hangs, and should have answered {:.1} s ago", overdue.as_secs_f64())
}

/// The cameras of a robot. Threads read their sources and decode; whoever asks for the newest images neither waits nor
/// allocates. The threads end after this is dropped, each as soon as its source lets it; nobody waits for them.
pub struct CameraSet {
    monitor: CameraMonitor,
    threads: Vec<Thread>,
}

impl CameraSet {
    /// Starts a thread for each of `setups`, in the order of the robot's description. Sources open there: what is wrong with one
    /// shows itself in [`wait_until_all_deliver`](Self::wait_until_all_deliver).
    ///
    /// # Errors
    /// When `clock` doesn't run by itself, or a thread can't be started.
    pub fn start(setups: Vec<CameraSetup>, clock: Arc<dyn Clock>) -> Result<Self, CameraSetError> {
        if !clock.runs_by_itself() {
            return Err(CameraSetError::Clock);
        }
        // Dropped on an error, it ends those that were started.
        let mut set = Self { monitor: CameraMonitor { cameras: Vec::new(), clock }, threads: Vec::new() };
        for CameraSetup { description, source, when_lost, shape, decode } in setups {
            let shared = Arc::new(Shared::new(description, source.name()));
            let camera = CameraThread::new(shared.clone(), set.monitor.clock.clone(), source, when_lost, shape, decode);
            let name = format!("camera {}", shared.camera.name);
            let failed = |source| CameraSetError::Thread { camera: shared.camera.name.clone(), source };
            let thread = thread::Builder::new().name(name).spawn(move || camera.run()).map_err(failed)?;
            set.threads.push(thread.thread().clone());
            set.monitor.cameras.push(shared);
        }
        Ok(set)
    }

    pub fn monitor(&self) -> CameraMonitor {
        self.monitor.clone()
    }

    /// Waits until each camera has given images for a second, and says at which rate; one that is slower than that may take
    /// all of `within`. For before a session.
    ///
    /// # Errors
    /// When one gives no two images within that time, or is lost for good: which, and why.
    pub fn wait_until_all_deliver(&self, within: Duration) -> Result<Vec<Delivery>, CameraSetError> {
        let CameraMonitor { cameras, clock } = &self.monitor;
        let until = clock.now() + within;
        loop {
            let now = clock.now();
            let is_late = now >= until;
            let (mut deliveries, mut silent, mut is_over, mut is_young) = (Vec::new(), Vec::new(), false, false);
            for camera in cameras {
                let notes = camera.notes.lock();
                is_over |= matches!(notes.state, CameraState::Over { .. });
                is_young |= notes.measured_over() < MEASURE;
                let max_age_ns = i64::from(camera.camera.max_age_ms) * 1_000_000;
                let is_fresh = notes.newest_at().is_some_and(|at| now.nanos_since(at) <= max_age_ns);
                match notes.rate_hz(now).filter(|_| is_fresh && notes.state == CameraState::Running) {
                    Some(rate_hz) => {
                        let asked_hz = camera.camera.fps.map(f64::from).or(notes.stream.and_then(|stream| stream.fps));
                        let is_slow = asked_hz.is_some_and(|asked| rate_hz < asked * ENOUGH);
                        deliveries.push(Delivery { name: camera.camera.name.clone(), rate_hz, asked_hz, is_slow });
                    }
                    None => {
                        let health = notes.health(&camera.camera.name, &camera.source, now);
                        let why = format!("camera {}: {}", camera.camera.name, why_silent(&health, camera.overdue(now)));
                        silent.push((matches!(health.state, CameraState::Over { .. }), why));
                    }
                }
            }
            if !silent.is_empty() && (is_late || is_over) {
                // Those that may still come are not to blame for one that never will.
                let silent = silent.into_iter().filter(|(is_over, _)| *is_over || is_late).map(|(_, why)| why).collect();
                return Err(CameraSetError::Silent { within, silent });
            }
            if silent.is_empty() && (is_late || !is_young) {
                return Ok(deliveries);
            }
            clock.sleep_until(now + Duration::from_millis(5));
        }
    }
}

fn why_silent(health: &CameraHealth, overdue: Option<Duration>) -> String {
    let source = &health.source;
    match (&health.state, &health.broken_why) {
        (CameraState::Lost { why } | CameraState::Over { why }, _) => why.clone(),
        _ if overdue.is_some() => hangs(source, overdue.unwrap_or_default()),
        (CameraState::Opening, _) => format!("{source} is still being opened"),
        (CameraState::Running, Some(why)) if health.pictures == 0 => {
            format!("looking through {source}: none of {} pictures could be read: {why}", health.broken)
        }
        (CameraState::Running, _) => match health.age {
            Some(age) => format!("looking through {source}: {} images, the newest {:.1} s ago", health.pictures, age.as_secs_f64()),
            None => format!("looking through {source}: it is open and gives no picture"),
        },
    }
}

impl Cameras for CameraSet {
    /// An error tells which source is gone for good, and why.
    fn newest(&mut self, _: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        let now = self.monitor.clock.now();
        for (camera, image) in self.monitor.cameras.iter().zip(images) {
            // Where the thread is at it right now, the image stands until the next tick.
            if let Some(seen) = camera.seen.try_lock() {
                if let Some(what) = seen.over {
                    return Err(CameraError { camera: Brief::of(&camera.camera.name), what });
                }
                if seen.sequence != 0 && (seen.sequence, seen.captured_at) != (image.sequence, image.captured_at) {
                    let pixels = if camera.camera.depth { &mut image.depth_mm } else { &mut image.rgb };
                    pixels.clone_from(&seen.pixels);
                    (image.width, image.height) = (camera.camera.width, camera.camera.height);
                    (image.captured_at, image.sequence) = (seen.captured_at, seen.sequence);
                }
            }
            if let Some(overdue) = camera.overdue(now) {
                return Err(hanging(camera, overdue));
            }
        }
        Ok(())
    }
}

/// As [`hangs`], without allocating.
fn hanging(camera: &Shared, overdue: Duration) -> CameraError {
    let what = format_args!("{} hangs, and should have answered {:.1} s ago", camera.source, overdue.as_secs_f64());
    CameraError { camera: Brief::of(&camera.camera.name), what: Brief::of(what) }
}

impl Drop for CameraSet {
    fn drop(&mut self) {
        self.monitor.cameras.iter().for_each(|camera| camera.is_closing.store(true, Relaxed));
        self.threads.iter().for_each(Thread::unpark);
    }
}
