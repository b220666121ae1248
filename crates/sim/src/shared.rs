//! A world that a robot, its cameras, an environment and a teleoperator share, each on a thread of its own.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sinew_core::{RobotDescription, Timestamp};

use crate::board::{Board, try_lock};
use crate::scene::Scene;
use crate::seen::Seen;
use crate::simulator::Simulator;
use crate::view::View;

/// So many may look at once before something that happened is shown late: teleoperator, judge, cameras,
/// and one more.
const SLOTS: usize = 6;

/// A [`Simulator`] that several threads share. [`SimRobot`](crate::SimRobot) alone moves it on, and never
/// waits for anyone; the others look at what it shows ([`newest`](Self::newest)), each time that it was
/// changed.
#[derive(Clone)]
pub struct SharedWorld(Arc<Shared>);

struct Shared {
    robot: Arc<RobotDescription>,
    view: Arc<View>,
    shown: Board<Seen>,
    scene_number: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    world: Box<dyn Simulator>,
    due: Option<Timestamp>,
    /// The scene that is shown.
    scene: Arc<Scene>,
}

impl SharedWorld {
    pub fn new(world: impl Simulator + 'static) -> Self {
        let (robot, view, scene) = (world.robot().clone(), world.view().clone(), world.scene().clone());
        let mut seen = Seen::new(robot.clone(), scene.clone());
        world.see(&mut seen);
        Self(Arc::new(Shared {
            robot,
            view,
            shown: Board::new(std::iter::repeat_n(seen, SLOTS)),
            scene_number: AtomicU64::new(0),
            inner: Mutex::new(Inner { world: Box::new(world), due: None, scene }),
        }))
    }

    pub fn robot(&self) -> &Arc<RobotDescription> {
        &self.0.robot
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.0.view
    }

    /// Counts the scenes that were set. Never waits.
    pub(crate) fn scene_number(&self) -> u64 {
        self.0.scene_number.load(Ordering::Acquire)
    }

    /// The world itself, for setting a scene between episodes: while it is held, the robot's calls fail.
    /// What was changed is shown when it is given back. Waits; not to be called with a [`Glance`] in hand.
    pub fn lock(&self) -> WorldGuard<'_> {
        WorldGuard::of(&self.0, self.0.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`lock`](Self::lock), without waiting: `None` while somebody else has it.
    pub fn try_lock(&self) -> Option<WorldGuard<'_>> {
        Some(WorldGuard::of(&self.0, try_lock(&self.0.inner)?))
    }

    /// The world as it was when it was changed last. Keeps nobody waiting but others who look. A thread that
    /// holds one already would wait for itself.
    pub fn newest(&self) -> Glance<'_> {
        Glance(self.0.shown.read())
    }
}

/// A glance at a world; short ones leave others their turn.
pub struct Glance<'a>(MutexGuard<'a, Seen>);

impl Deref for Glance<'_> {
    type Target = Seen;

    fn deref(&self) -> &Seen {
        &self.0
    }
}

/// The only one who may change a world. Every change is complete before the world is given back, so one that
/// a panic leaves behind is whole.
pub struct WorldGuard<'a> {
    shared: &'a Shared,
    inner: MutexGuard<'a, Inner>,
    is_changed: bool,
}

impl<'a> WorldGuard<'a> {
    fn of(shared: &'a Shared, inner: MutexGuard<'a, Inner>) -> Self {
        Self { shared, inner, is_changed: false }
    }

    /// The world is now as the tick that was due at `due` finds it.
    pub(crate) fn read_at(&mut self, due: Timestamp) {
        self.inner.due = Some(due);
        self.is_changed = true;
    }
}

impl Deref for WorldGuard<'_> {
    type Target = dyn Simulator;

    fn deref(&self) -> &Self::Target {
        &*self.inner.world
    }
}

impl DerefMut for WorldGuard<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.is_changed = true;
        &mut *self.inner.world
    }
}

impl Drop for WorldGuard<'_> {
    fn drop(&mut self) {
        if !self.is_changed {
            return;
        }
        let shared = self.shared;
        let is_new_scene = !Arc::ptr_eq(&self.inner.scene, self.inner.world.scene());
        if is_new_scene {
            self.inner.scene = self.inner.world.scene().clone();
            self.inner.due = None;
            shared.scene_number.fetch_add(1, Ordering::AcqRel);
        }
        let inner = &*self.inner;
        let scene_number = shared.scene_number.load(Ordering::Acquire);
        let show = |seen: &mut Seen| {
            seen.scene_number = scene_number;
            seen.due = inner.due;
            inner.world.see(seen);
        };
        if is_new_scene {
            shared.shown.publish_everywhere(show);
        } else if !shared.shown.publish(show) {
            tracing::debug!("{SLOTS} look at the simulated world at once: what happened is shown the next time");
        }
    }
}
