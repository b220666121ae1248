//! A phone that somebody holds as if it were the tool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nalgebra::{Quaternion, UnitQuaternion, Vector3};
use sinew_core::{ActionSpace, Brief, Clock, Observation, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Timestamp};

/// Where a phone is, and what is pressed on it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhonePose {
    /// Of its camera in the phone's own world, metres: z is up.
    pub position_m: [f64; 3],
    /// w, x, y, z. What is no rotation, as phones send before they know where they are, is no pose.
    pub rotation_wxyz: [f64; 4],
    /// Whether the tool is to follow: LeRobot's `b1`, or `move`.
    pub enabled: bool,
    /// How fast the gripper opens, −1..1: LeRobot's `a3`, or `reservedButtonA` less `reservedButtonB`.
    pub gripper: f64,
}

/// Where poses of a phone are put by whoever hears them. Clones share it; the newest pose is all that counts.
#[derive(Clone)]
pub struct PhoneInbox {
    clock: Arc<dyn Clock>,
    newest: Arc<Mutex<Newest>>,
}

#[derive(Clone, Copy, Default)]
struct Newest {
    pose: Option<(PhonePose, Timestamp)>,
    /// One that was not enabled has come since somebody looked: poses may come faster than they are looked at.
    was_let_go: bool,
}

impl PhoneInbox {
    /// `clock` is the session's.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, newest: Arc::default() }
    }

    /// A pose has come just now.
    pub fn put(&self, pose: PhonePose) {
        self.put_old(pose, Duration::ZERO);
    }

    /// The same of one that was on its way for as long as this.
    pub fn put_old(&self, pose: PhonePose, age: Duration) {
        let age_ns = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let time = Timestamp::from_nanos(self.clock.now().as_nanos().saturating_sub(age_ns));
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let was_let_go = newest.was_let_go || !pose.enabled;
        *newest = Newest { pose: Some((pose, time)), was_let_go };
    }

    /// None is left.
    pub fn forget(&self) {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Newest::default();
    }

    /// Looks.
    fn newest(&self) -> Newest {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let found = *newest;
        newest.was_let_go = false;
        found
    }
}

/// What a phone's axes are to the robot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PhoneAxes {
    /// LeRobot's, by how it was held when it was enabled first. It is turned as if it were the tool.
    #[default]
    LeRobot,
    /// Those of the robot's base: x ahead, y left, z up. What it is turned about, the tool is turned about.
    Base,
}

/// How a phone moves a tool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhoneOptions {
    /// Where the camera is on the phone, metres: LeRobot's is an iPhone 14 Pro's.
    pub camera_offset_m: [f64; 3],
    /// Metres of the tool for one of the phone: LeRobot's examples have 0.5.
    pub scale: f64,
    /// A pose that is older is none.
    pub stale_after: Duration,
    pub axes: PhoneAxes,
}

impl Default for PhoneOptions {
    fn default() -> Self {
        Self { camera_offset_m: [0.0, -0.02, 0.04], scale: 0.5, stale_after: Duration::from_millis(250), axes: PhoneAxes::LeRobot }
    }
}

/// Where the phone was when somebody engaged.
#[derive(Clone, Copy)]
struct Engaged {
    position: Vector3<f64>,
    rotation: UnitQuaternion<f64>,
}

/// A phone in a hand.
///
/// - With LeRobot's axes (`map_phone_action_to_robot_action`), its top edge points to where the robot's forward is, and its screen up, the
///   first time that it is enabled.
/// - Each time that it is enabled, it goes on from there: position and rotation count from then on. (LeRobot counts rotation from
///   the first time on, so that the tool turns at once when it is enabled again.)
/// - A phone that says nothing is silent, and the robot comes to rest: that nobody touches it is said, too.
/// - What was enabled before it took over, or before it was silent, has to be enabled anew. Until it was not enabled, its gripper does
///   nothing, either.
pub struct Phone {
    inbox: PhoneInbox,
    options: PhoneOptions,
    /// Turns the phone's world to the robot's, by how it was held at first.
    from_world: Option<UnitQuaternion<f64>>,
    engaged: Option<Engaged>,
    /// It was not enabled since it took over.
    was_free: bool,
}

const DOING: &str = "hearing the phone";

impl Phone {
    pub fn new(inbox: PhoneInbox, options: PhoneOptions) -> Self {
        Self { inbox, options, from_world: None, engaged: None, was_free: false }
    }

    fn newest(&mut self, now: Timestamp) -> Result<PhonePose, TeleoperatorError> {
        let transient = |what| TeleoperatorError::Transient { doing: DOING, what };
        let Newest { pose, was_let_go } = self.inbox.newest();
        let Some((pose, time)) = pose else { return Err(transient(Brief::of("it has not been heard yet"))) };
        let age_ns = now.nanos_since(time);
        if age_ns > i64::try_from(self.options.stale_after.as_nanos()).unwrap_or(i64::MAX) {
            return Err(transient(Brief::of(format_args!("it has said nothing for {} ms", age_ns / 1_000_000))));
        }
        if was_let_go {
            (self.engaged, self.was_free) = (None, true);
        }
        Ok(pose)
    }
}

impl Teleoperator for Phone {
    fn action_space(&self) -> ActionSpace {
        match self.options.axes {
            PhoneAxes::LeRobot => ActionSpace::ToolOffset,
            PhoneAxes::Base => ActionSpace::ToolOffsetInBase,
        }
    }

    fn reset(&mut self, _: &Observation) -> Result<(), TeleoperatorError> {
        (self.engaged, self.was_free) = (None, false);
        self.inbox.newest();
        Ok(())
    }

    fn action(&mut self, tick: &Tick, _: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        let pose = match self.newest(tick.due) {
            Ok(pose) => pose,
            Err(error) => {
                (self.engaged, self.was_free) = (None, false);
                return Err(error);
            }
        };
        let [w, x, y, z] = pose.rotation_wxyz;
        let rotation = UnitQuaternion::try_new(Quaternion::new(w, x, y, z), 1e-6);
        let camera = Vector3::from(pose.position_m);
        let all = pose.position_m.iter().chain(&pose.rotation_wxyz).chain([&pose.gripper]);
        let (Some(rotation), true) = (rotation, all.into_iter().all(|value| value.is_finite())) else {
            let what = Brief::of(format_args!("it does not know where it is: {:?}, {:?}", pose.position_m, pose.rotation_wxyz));
            return Err(TeleoperatorError::Transient { doing: DOING, what });
        };
        let position = camera - rotation * Vector3::from(self.options.camera_offset_m);
        action.fill(0.0);
        if let Some(gripper) = action.get_mut(6).filter(|_| self.was_free) {
            *gripper = pose.gripper.clamp(-1.0, 1.0);
        }
        if !(pose.enabled && self.was_free) {
            self.engaged = None;
            return Ok(TeleopStatus::Active);
        }
        let engaged = *self.engaged.get_or_insert(Engaged { position, rotation });
        let moved = (position - engaged.position) * self.options.scale;
        let wish = match self.options.axes {
            PhoneAxes::LeRobot => {
                let from_world = *self.from_world.get_or_insert(rotation.inverse());
                let moved = from_world * moved;
                // As LeRobot's rotation against the first pose, but from where it is engaged on.
                let turned = ((from_world * engaged.rotation).inverse() * (from_world * rotation)).scaled_axis();
                [-moved.y, moved.x, moved.z, turned.y, turned.x, -turned.z]
            }
            PhoneAxes::Base => {
                let turned = (rotation * engaged.rotation.inverse()).scaled_axis();
                [moved.x, moved.y, moved.z, turned.x, turned.y, turned.z]
            }
        };
        action.iter_mut().zip(wish).for_each(|(value, wish)| *value = wish);
        if let Some(is_engaged) = action.get_mut(7) {
            *is_engaged = 1.0;
        }
        Ok(TeleopStatus::Active)
    }
}

#[cfg(test)]
mod tests {
    use sinew_core::{MockClock, RobotDescription};

    use super::*;

    struct Hand {
        clock: Arc<MockClock>,
        inbox: PhoneInbox,
        phone: Phone,
        seen: Observation,
        action: [f64; 8],
    }

    impl Hand {
        fn new() -> Self {
            let clock = Arc::new(MockClock::new());
            let inbox = PhoneInbox::new(clock.clone());
            let options = PhoneOptions { camera_offset_m: [0.0; 3], scale: 1.0, ..PhoneOptions::default() };
            let text = include_str!("../../../../robots/so101/robot.toml");
            let seen = Observation::for_robot(&RobotDescription::from_toml("so101", text).unwrap());
            Self { clock, phone: Phone::new(inbox.clone(), options), inbox, seen, action: [f64::NAN; 8] }
        }

        fn put(&self, position_m: [f64; 3], turn: [f64; 3], enabled: bool) {
            let q = UnitQuaternion::from_scaled_axis(Vector3::from(turn));
            self.inbox.put(PhonePose { position_m, rotation_wxyz: [q.w, q.i, q.j, q.k], enabled, gripper: 0.5 });
        }

        fn ask(&mut self) -> Result<(), TeleoperatorError> {
            let tick = Tick { turn: 0, due: self.clock.now(), period: Duration::from_millis(33), wants_images: false };
            self.phone.action(&tick, &self.seen, &mut self.action).map(drop)
        }

        fn says(&mut self, position_m: [f64; 3], turn: [f64; 3], enabled: bool) -> [f64; 8] {
            self.clock.advance(Duration::from_millis(33));
            self.put(position_m, turn, enabled);
            self.ask().unwrap();
            self.action
        }
    }

    fn is_near(found: [f64; 8], expected: [f64; 8]) {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}, expected {expected:?}");
    }

    #[test]
    fn each_time_that_it_is_enabled_it_goes_on_from_there() {
        let mut hand = Hand::new();
        let quarter = [0.0, 0.0, std::f64::consts::FRAC_PI_2];
        // Enabled before it took over: nothing.
        is_near(hand.says([1.0, 2.0, 3.0], quarter, true), [0.0; 8]);
        is_near(hand.says([1.0, 2.0, 3.0], quarter, false), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.0]);
        is_near(hand.says([1.0, 2.0, 3.0], quarter, true), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0]);
        // Held turned by a quarter: the world's x is its −y, which is the robot's x.
        is_near(hand.says([1.1, 2.0, 3.2], quarter, true), [0.1, 0.0, 0.2, 0.0, 0.0, 0.0, 0.5, 1.0]);
        hand.says([7.0, 7.0, 7.0], [0.3, 0.0, 0.0], false);
        is_near(hand.says([7.0, 7.0, 7.0], [0.3, 0.0, 0.0], true), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0]);
        // Turned on about its own x by 0.2.
        is_near(hand.says([7.0, 7.1, 7.0], [0.5, 0.0, 0.0], true), [0.0, 0.1, 0.0, 0.0, 0.2, 0.0, 0.5, 1.0]);
    }

    #[test]
    fn with_the_axes_of_the_base_it_is_moved_and_turned_as_the_hand_is() {
        let mut hand = Hand::new();
        let axes = PhoneAxes::Base;
        hand.phone =
            Phone::new(hand.inbox.clone(), PhoneOptions { camera_offset_m: [0.0; 3], scale: 1.0, axes, ..PhoneOptions::default() });
        assert_eq!(hand.phone.action_space(), ActionSpace::ToolOffsetInBase);
        // However it is held.
        let held = [0.3, 1.0, -0.4];
        hand.says([1.0, 2.0, 3.0], held, false);
        is_near(hand.says([1.0, 2.0, 3.0], held, true), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0]);
        is_near(hand.says([1.1, 2.2, 2.9], held, true), [0.1, 0.2, -0.1, 0.0, 0.0, 0.0, 0.5, 1.0]);
        let turned = UnitQuaternion::from_scaled_axis(Vector3::new(0.0, 0.0, 0.5)) * UnitQuaternion::from_scaled_axis(Vector3::from(held));
        is_near(hand.says([1.0, 2.0, 3.0], turned.scaled_axis().into(), true), [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 1.0]);
        // It is let go and held again faster than anybody looks.
        hand.put([5.0; 3], held, false);
        is_near(hand.says([5.0; 3], held, true), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0]);
        // What took long is old sooner.
        hand.inbox.put_old(PhonePose { rotation_wxyz: [1.0, 0.0, 0.0, 0.0], ..PhonePose::default() }, Duration::from_millis(251));
        assert!(hand.ask().unwrap_err().to_string().ends_with("said nothing for 251 ms"));
        hand.inbox.forget();
        assert!(hand.ask().unwrap_err().to_string().ends_with("not been heard yet"));
    }

    #[test]
    fn silence_and_nonsense_are_said_and_want_a_new_beginning() {
        let mut hand = Hand::new();
        assert_eq!(hand.ask().unwrap_err().to_string(), "hearing the phone: it has not been heard yet");
        hand.says([0.0; 3], [0.0; 3], false);
        hand.says([0.0; 3], [0.0; 3], true);
        hand.clock.advance(Duration::from_millis(400));
        let error = hand.ask().unwrap_err();
        assert!(matches!(error, TeleoperatorError::Transient { .. }) && error.to_string().ends_with("said nothing for 400 ms"), "{error}");
        is_near(hand.says([0.5, 0.0, 0.0], [0.0; 3], true), [0.0; 8]);
        for rotation_wxyz in [[0.0; 4], [f64::NAN, 0.0, 0.0, 1.0], [f64::INFINITY; 4]] {
            hand.inbox.put(PhonePose { rotation_wxyz, enabled: true, ..PhonePose::default() });
            assert!(hand.ask().unwrap_err().to_string().starts_with("hearing the phone: it does not know where it is"));
        }
        hand.inbox.put(PhonePose { position_m: [f64::INFINITY; 3], rotation_wxyz: [1.0, 0.0, 0.0, 0.0], enabled: true, gripper: 0.0 });
        assert!(hand.ask().is_err());
    }
}
