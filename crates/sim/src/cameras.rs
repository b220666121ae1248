//! The simulated cameras as [`Cameras`].

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use sinew_core::{Brief, CameraError, Cameras, Image, RobotDescription, Tick};

use crate::board::Board;
use crate::seen::Seen;
use crate::shared::SharedWorld;
use crate::view::Painter;

/// The cameras that look at a simulated world. They see only what the world shows, and never touch it.
pub struct SimCameras {
    world: SharedWorld,
    mode: Mode,
}

enum Mode {
    InStep(Box<Painter>),
    Beside(Beside),
}

struct Beside {
    link: Arc<Link>,
    thread: Option<JoinHandle<()>>,
    /// Number of the newest images that were handed over.
    handed: u64,
}

/// What the two threads share.
struct Link {
    is_asked: AtomicBool,
    is_over: AtomicBool,
    finished: Board<Set>,
}

/// Images of one moment, in the description's order.
#[derive(Clone)]
struct Set {
    scene_number: u64,
    /// 0 for none.
    sequence: u64,
    images: Vec<Image>,
}

/// The newest, the one that is looked at, and the one that is written.
const SETS: usize = 3;

impl SimCameras {
    /// Cameras whose images are drawn when they are asked for, and are those of the tick: for clocks that
    /// don't run by themselves.
    pub fn in_step(world: SharedWorld) -> Self {
        let painter = Painter::new(world.view().clone());
        Self { world, mode: Mode::InStep(Box::new(painter)) }
    }

    /// Cameras with a thread of their own, which draws when a tick wants images, so that those come a tick or
    /// more later. After a new scene was set, images of the old one are not handed over any more.
    ///
    /// # Errors
    /// When there can't be another thread.
    pub fn beside(world: SharedWorld) -> io::Result<Self> {
        let set = Set { scene_number: 0, sequence: 0, images: world.view().black() };
        let finished = Board::new(std::iter::repeat_n(set, SETS));
        let link = Arc::new(Link { is_asked: AtomicBool::new(false), is_over: AtomicBool::new(false), finished });
        let (shared, scene) = (link.clone(), world.clone());
        let thread = thread::Builder::new().name("sim cameras".into()).spawn(move || shared.draw(&scene))?;
        Ok(Self { world, mode: Mode::Beside(Beside { link, thread: Some(thread), handed: 0 }) })
    }
}

impl Link {
    /// The thread's work.
    fn draw(&self, world: &SharedWorld) {
        let mut painter = Painter::new(world.view().clone());
        let mut seen: Seen = world.newest().clone();
        let mut drawn = None;
        let mut images = world.view().black();
        while !self.is_over.load(Ordering::Acquire) {
            if !self.is_asked.swap(false, Ordering::AcqRel) {
                thread::park();
                continue;
            }
            seen.copy_from(&world.newest());
            // Before the scene's first tick nobody knows when that is.
            let Some(due) = seen.due else { continue };
            if drawn.replace((seen.scene_number, due)) == Some((seen.scene_number, due)) {
                continue;
            }
            if let Err(error) = painter.draw(&seen, due, &mut images) {
                tracing::error!("the simulated cameras are lost: {error}");
                return;
            }
            self.finished.publish(|set| {
                (set.scene_number, set.sequence) = (seen.scene_number, painter.sequence());
                set.images.clone_from(&images);
            });
        }
    }
}

impl Beside {
    fn newest(&mut self, scene_number: u64, wants_images: bool, images: &mut [Image]) -> Result<(), &'static str> {
        let Some(thread) = self.thread.as_ref().filter(|thread| !thread.is_finished()) else { return Err("its thread is gone") };
        if let Some(set) = self.link.finished.try_read()
            && set.sequence > self.handed
            && set.scene_number == scene_number
        {
            images.iter_mut().zip(&set.images).for_each(|(image, newest)| image.clone_from(newest));
            self.handed = set.sequence;
        }
        if wants_images {
            self.link.is_asked.store(true, Ordering::Release);
            thread.thread().unpark();
        }
        Ok(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.link.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // What it died of, if it did, was told.
            let _ = thread.join();
        }
    }
}

fn error(robot: &RobotDescription, what: impl std::fmt::Display) -> CameraError {
    let camera = robot.cameras.first().map_or("", |camera| &camera.name);
    CameraError { camera: Brief::of(camera), what: Brief::of(what) }
}

impl Cameras for SimCameras {
    fn newest(&mut self, tick: &Tick, images: &mut [Image]) -> Result<(), CameraError> {
        let robot = self.world.robot();
        let (found, expected) = (images.len(), robot.cameras.len());
        if found != expected {
            return Err(error(robot, format_args!("found {found} images to fill, expected {expected}")));
        }
        match &mut self.mode {
            Mode::InStep(painter) if tick.wants_images => {
                painter.draw(&self.world.newest(), tick.due, images).map_err(|source| error(robot, source))
            }
            Mode::InStep(_) => Ok(()),
            Mode::Beside(beside) => beside.newest(self.world.scene_number(), tick.wants_images, images).map_err(|what| error(robot, what)),
        }
    }
}
