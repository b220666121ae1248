//! Knows where an episode is by what the robot is asked, and makes the trouble begin there.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sinew_core::{Actor, Clock, Tick};
use sinew_runtime::{Operator, StopFlag, StopLevel};

use super::trouble::{Phase, Plan, Trouble, Who};

/// Seconds of an episode until its middle, a hand-over, and its end; and until a way is well on.
const MIDDLE_S: f64 = 0.8;
const HAND_OVER_S: f64 = 0.5;
const END_S: f64 = 1.9;
/// And one's in which more has to be borne.
const LATE_END_S: f64 = 9.0;
const UNDER_WAY_S: f64 = 0.2;
/// How long what hangs for good does so.
const FOR_GOOD: Duration = Duration::from_secs(15);
/// How long after one beside the loop began to hang a stop is asked for.
const STOP_AFTER_NS: i64 = 300_000_000;

#[derive(Default)]
struct Place {
    /// Torque has been asked for.
    enabling: bool,
    /// Reads since then, and those of them that wanted images.
    reads: u64,
    looks: u64,
    /// Turns of the episode, from 0.
    turn: Option<u64>,
    /// Turns of the way to rest.
    rest_turns: u64,
}

/// Shared by all doubles of a cell.
pub struct Script {
    pub plan: Plan,
    pub clock: Arc<dyn Clock>,
    pub stop: StopFlag,
    pub operator: OnceLock<Operator>,
    place: Mutex<Place>,
    /// The trouble has begun.
    on: AtomicBool,
    /// When it first did something, and when the episode's first tick was read; 0 before.
    struck_ns: AtomicI64,
    pub episode_ns: AtomicI64,
    /// Of the newest image.
    pub image_ns: AtomicI64,
    is_released: Mutex<bool>,
    release: Condvar,
    /// Called when the trouble begins.
    pub on_begin: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Script {
    pub fn new(plan: Plan, clock: Arc<dyn Clock>, stop: StopFlag) -> Arc<Self> {
        Arc::new(Self {
            plan,
            clock,
            stop,
            operator: OnceLock::new(),
            place: Mutex::default(),
            on: AtomicBool::new(plan.phase == Phase::Arming && Self::is_from_the_first(plan.trouble)),
            struck_ns: AtomicI64::new(0),
            episode_ns: AtomicI64::new(0),
            image_ns: AtomicI64::new(0),
            is_released: Mutex::new(false),
            release: Condvar::new(),
            on_begin: OnceLock::new(),
        })
    }

    /// Whether arming meets it before torque.
    fn is_from_the_first(trouble: Trouble) -> bool {
        trouble.is_policys()
            || trouble.is_teleoperators()
            || matches!(trouble, Trouble::CameraFreezes | Trouble::CameraGone | Trouble::SinkFails | Trouble::SinkPanics)
    }

    pub fn now_ns(&self) -> i64 {
        self.clock.now().as_nanos()
    }

    fn turns(&self, seconds: f64) -> u64 {
        (seconds * f64::from(self.plan.venue.rate_hz())) as u64
    }

    /// Whether the policy begins far from where the arm is.
    fn is_far(&self) -> bool {
        self.plan.who != Who::Teleoperator
    }

    /// Torque is asked for.
    pub fn enable(&self) {
        self.place.lock().unwrap().enabling = true;
        if self.plan.phase == Phase::Arming {
            self.begin();
        }
    }

    /// The robot is read: one more turn.
    pub fn read(&self, tick: &Tick) {
        let mut place = self.place.lock().unwrap();
        if !place.enabling {
            return;
        }
        place.reads += 1;
        place.looks += u64::from(tick.wants_images);
        let begins = if self.is_far() { 2 } else { 1 };
        let phase = match place.turn {
            None if place.looks < begins => (place.reads > self.turns(UNDER_WAY_S)).then_some(Phase::WayToStart),
            None => {
                place.turn = Some(0);
                self.episode_ns.store(self.now_ns(), SeqCst);
                Some(Phase::FirstTick)
            }
            Some(_) if !tick.wants_images => {
                place.rest_turns += 1;
                (place.rest_turns > self.turns(UNDER_WAY_S)).then_some(Phase::WayToRest)
            }
            Some(turn) => {
                let turn = turn + 1;
                place.turn = Some(turn);
                self.episode(turn)
            }
        };
        drop(place);
        if phase == Some(self.plan.phase) {
            self.begin();
        }
        let struck_ns = self.struck_ns.load(SeqCst);
        if matches!(self.plan.trouble, Trouble::JudgeHangs | Trouble::SinkHangs) && struck_ns > 0 {
            let now_ns = self.now_ns();
            if now_ns - struck_ns > STOP_AFTER_NS && !self.stop.is_requested() {
                self.struck_ns.store(now_ns, SeqCst);
                self.stop.request(StopLevel::Now);
            }
        }
    }

    /// Turn `turn` of the episode: what the operator wants, and the phase that begins.
    fn episode(&self, turn: u64) -> Option<Phase> {
        let Plan { trouble, phase, who, .. } = self.plan;
        let operator = self.operator.get()?;
        let (hand_over, middle) = (self.turns(HAND_OVER_S), self.turns(MIDDLE_S));
        if who == Who::Supervised {
            // The policy takes over where it is to fail, the human else.
            let is_back = trouble.is_policys() && matches!(phase, Phase::HandOver | Phase::MidEpisode);
            if is_back && turn == 3 {
                operator.set_actor(Actor::Human);
            }
            if turn == hand_over {
                let to_policy = trouble.is_policys();
                operator.set_actor(if to_policy { Actor::Policy } else { Actor::Human });
            }
        }
        let end = match phase {
            Phase::WayToRest => middle,
            _ if trouble == Trouble::TeleopHangs => self.turns(LATE_END_S),
            _ => self.turns(END_S),
        };
        if turn >= end {
            operator.end_episode(true);
        }
        match turn {
            // It takes over in the turn after that in which it was told.
            turn if turn == hand_over + 1 => Some(Phase::HandOver),
            turn if turn >= middle => Some(Phase::MidEpisode),
            _ => None,
        }
    }

    fn begin(&self) {
        if self.on.swap(true, SeqCst) && self.plan.phase != Phase::Arming {
            return;
        }
        if let Some(tell) = self.on_begin.get() {
            tell();
        }
        if self.plan.venue.is_mock() || self.plan.trouble.is_stops() {
            self.signal();
        }
    }

    /// What the signals of a process come to; and a reason for the safe action, where that is what fails.
    fn signal(&self) {
        let raise: &[fn(&StopFlag)] = match self.plan.trouble {
            Trouble::Int | Trouble::Term => &[StopFlag::escalate],
            Trouble::IntTwice => &[StopFlag::escalate, StopFlag::escalate],
            Trouble::Quit => &[StopFlag::quit],
            Trouble::Tstp => &[StopFlag::suspend],
            Trouble::Hup => &[StopFlag::hang_up],
            trouble if trouble.is_stops() => &[|stop| stop.request(StopLevel::Now)],
            _ => return,
        };
        self.strike();
        raise.iter().for_each(|raise| raise(&self.stop));
    }

    /// Whether the trouble is one of `these` and has begun; it then strikes.
    pub fn strikes(&self, these: &[Trouble]) -> bool {
        let strikes = self.on.load(SeqCst) && these.contains(&self.plan.trouble);
        if strikes {
            self.strike();
        }
        strikes
    }

    pub fn is(&self, trouble: Trouble) -> bool {
        self.strikes(&[trouble])
    }

    /// It did something.
    fn strike(&self) {
        let _ = self.struck_ns.compare_exchange(0, self.now_ns().max(1), SeqCst, SeqCst);
    }

    pub fn struck_ns(&self) -> Option<i64> {
        Some(self.struck_ns.load(SeqCst)).filter(|ns| *ns > 0)
    }

    /// For as long as the cell lasts, or so long that it fails.
    pub fn hang(&self) {
        let is_released = self.is_released.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.release.wait_timeout_while(is_released, FOR_GOOD, |is_released| !*is_released));
    }

    pub fn release(&self) {
        *self.is_released.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.release.notify_all();
    }
}
