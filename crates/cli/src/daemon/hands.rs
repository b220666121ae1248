//! What the operator holds in his hands: where the newest poses lie, and which of them count.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sinew_core::service::{HandPose, HeldTool, Refusal, Side};
use sinew_core::{ActionSpace, Clock, RobotDescription, Timestamp};
use sinew_drivers::teleop::{Phone, PhoneAxes, PhoneInbox, PhoneOptions, PhonePose, ToolError, ToolOptions, ToolsToJoints};

use super::lock;

/// A pose that is older than this is none.
pub const FRESH: Duration = Duration::from_millis(250);
/// No hand moves faster than this, m/s and rad/s; beside it, trackers tremble by so much, metres and radians. What does is a tracker that
/// has found another place.
const FASTEST_M_PER_S: f64 = 4.0;
const FASTEST_RAD_PER_S: f64 = 20.0;
const TREMBLE_M: f64 = 0.05;
const TREMBLE_RAD: f64 = 0.35;
/// Farther than this from its origin no device is, metres.
const FARTHEST_M: f64 = 1e4;
/// How far a quaternion's length may be from 1.
const ROUNDED: f64 = 0.05;

/// The hands of whoever is the operator, one for each tool. Clones share them.
#[derive(Clone)]
pub struct Hands {
    tools: Arc<[HeldTool]>,
    inboxes: Arc<[PhoneInbox]>,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// Whose they are.
    by: Option<u64>,
    hands: Vec<Hand>,
}

/// One of them.
#[derive(Clone, Default)]
struct Hand {
    /// The newest pose, and when it was measured.
    last: Option<(HandPose, Timestamp)>,
    /// It was not enabled since something was wrong: until then it does not count.
    was_free: bool,
}

impl Hands {
    /// Those that can move the tools of `robot`.
    ///
    /// # Errors
    /// When it has none that can be steered.
    pub fn of(robot: &RobotDescription, clock: &Arc<dyn Clock>) -> Result<Self, ToolError> {
        let way = Self::way(robot)?;
        let side = |name: &str| match name {
            name if name.starts_with("left") => Some(Side::Left),
            name if name.starts_with("right") => Some(Side::Right),
            _ => None,
        };
        let tools: Arc<[HeldTool]> = way.names().map(|name| HeldTool { name: name.to_owned(), side: side(name) }).collect();
        let inboxes = tools.iter().map(|_| PhoneInbox::new(clock.clone())).collect();
        let held = Held { by: None, hands: vec![Hand::default(); tools.len()] };
        Ok(Self { tools, inboxes, held: Arc::new(Mutex::new(held)) })
    }

    pub fn tools(&self) -> &[HeldTool] {
        &self.tools
    }

    /// What makes goals of the poses.
    ///
    /// # Errors
    /// As [`of`](Self::of).
    pub fn way(robot: &RobotDescription) -> Result<ToolsToJoints, ToolError> {
        ToolsToJoints::new(robot, ActionSpace::ToolOffsetInBase, &ToolOptions::default())
    }

    /// What hears the poses, one for each tool.
    pub fn phones(&self) -> Vec<Phone> {
        let options = PhoneOptions { camera_offset_m: [0.0; 3], scale: 1.0, stale_after: FRESH, axes: PhoneAxes::Base };
        self.inboxes.iter().map(|inbox| Phone::new(inbox.clone(), options)).collect()
    }

    /// Poses have come of the operator `by`, which were on their way for `age`.
    ///
    /// # Errors
    /// When they are none of these tools, jump, or are too old. No hand counts then until it was not enabled.
    pub fn put(&self, by: u64, poses: &[HandPose], age: Duration, now: Timestamp) -> Result<(), Refusal> {
        let mut held = lock(&self.held);
        let placed = match self.placed(poses) {
            Ok(placed) => placed,
            Err(error) => {
                self.end(&mut held);
                return Err(error);
            }
        };
        if held.by.replace(by) != Some(by) {
            self.end(&mut held);
        }
        let age_ns = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        let measured = Timestamp::from_nanos(now.as_nanos().saturating_sub(age_ns));
        let mut fault = None;
        for (at, pose) in placed {
            let hand = &mut held.hands[at];
            let last = hand.last.take();
            if age > FRESH {
                let late = format!("the poses were {} ms on their way, expected at most {}", age.as_millis(), FRESH.as_millis());
                fault = Some(format!("{late}; let go, and hold again"));
                hand.was_free = false;
            } else if let Some((last, then)) = last.filter(|_| pose.enabled) {
                let passed_s = measured.nanos_since(then) as f64 * 1e-9;
                if passed_s > FRESH.as_secs_f64() {
                    hand.was_free = false;
                } else if last.enabled && is_jump(&last, pose, passed_s.max(0.0)) {
                    hand.was_free = false;
                    let tool = &self.tools[at].name;
                    fault = Some(format!(
                        "the pose for {tool} jumped by {:.2} m and {:.0}° in {:.0} ms: its device has lost where it is; let go, and hold again",
                        apart_m(&last, pose),
                        apart_rad(&last, pose).to_degrees(),
                        passed_s * 1e3
                    ));
                }
            }
            hand.last = (age <= FRESH).then(|| (pose.clone(), measured));
            hand.was_free |= !pose.enabled;
            let counts = hand.was_free && age <= FRESH;
            let phone = PhonePose {
                position_m: pose.position_m,
                rotation_wxyz: pose.rotation_wxyz,
                enabled: pose.enabled && counts,
                gripper: if counts { pose.gripper } else { 0.0 },
            };
            self.inboxes[at].put_old(phone, age.min(FRESH));
        }
        fault.map_or(Ok(()), |fault| Err(Refusal::Conflict(fault)))
    }

    /// Whether any pose has come that is not too old.
    pub fn are_there(&self, now: Timestamp) -> bool {
        lock(&self.held)
            .hands
            .iter()
            .any(|hand| hand.last.as_ref().is_some_and(|(_, then)| now.nanos_since(*then) <= FRESH.as_nanos() as i64))
    }

    /// None are left, and none counts until it was not enabled.
    pub fn forget(&self) {
        self.end(&mut lock(&self.held));
    }

    fn end(&self, held: &mut MutexGuard<'_, Held>) {
        held.hands.fill(Hand::default());
        self.inboxes.iter().for_each(PhoneInbox::forget);
    }

    /// Each pose with the place of its tool.
    fn placed<'a>(&self, poses: &'a [HandPose]) -> Result<Vec<(usize, &'a HandPose)>, Refusal> {
        let bad = |error: String| Err(Refusal::Bad(error));
        if poses.is_empty() || poses.len() > self.tools.len() {
            return bad(format!("found {} hands, expected 1 to {}, one for each tool", poses.len(), self.tools.len()));
        }
        let names = || self.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>().join(", ");
        let mut placed: Vec<(usize, &HandPose)> = Vec::with_capacity(poses.len());
        for pose in poses {
            let at = match &pose.tool {
                Some(name) => self.tools.iter().position(|tool| tool.name == *name),
                None => (self.tools.len() == 1).then_some(0),
            };
            let Some(at) = at else {
                let found = pose.tool.as_deref().unwrap_or("none");
                return bad(format!("a hand's tool is {found}, expected one of {}", names()));
            };
            let tool = &self.tools[at].name;
            if placed.iter().any(|(other, _)| *other == at) {
                return bad(format!("two hands have the tool {tool}, expected one"));
            }
            if let Some(value) = pose.position_m.iter().find(|value| !(value.is_finite() && value.abs() <= FARTHEST_M)) {
                return bad(format!("a position for {tool} holds {value}, expected at most {FARTHEST_M} m from its origin"));
            }
            let length = pose.rotation_wxyz.iter().map(|value| value * value).sum::<f64>().sqrt();
            if !(1.0 - ROUNDED..=1.0 + ROUNDED).contains(&length) {
                return bad(format!("the rotation for {tool} has the length {length}, expected a quaternion of length 1"));
            }
            if !(-1.0..=1.0).contains(&pose.gripper) {
                return bad(format!("the gripper of {tool} is {}, expected −1 to 1", pose.gripper));
            }
            placed.push((at, pose));
        }
        Ok(placed)
    }
}

fn apart_m(from: &HandPose, to: &HandPose) -> f64 {
    from.position_m.iter().zip(&to.position_m).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn apart_rad(from: &HandPose, to: &HandPose) -> f64 {
    let norm = |pose: &HandPose| pose.rotation_wxyz.iter().map(|value| value * value).sum::<f64>().sqrt();
    let dot = from.rotation_wxyz.iter().zip(&to.rotation_wxyz).map(|(a, b)| a * b).sum::<f64>() / (norm(from) * norm(to));
    2.0 * dot.abs().min(1.0).acos()
}

fn is_jump(from: &HandPose, to: &HandPose, passed_s: f64) -> bool {
    apart_m(from, to) > TREMBLE_M + FASTEST_M_PER_S * passed_s || apart_rad(from, to) > TREMBLE_RAD + FASTEST_RAD_PER_S * passed_s
}

#[cfg(test)]
mod tests {
    use sinew_core::{MockClock, Observation, Teleoperator, Tick};

    use super::*;

    /// Hands, and what the phone of the first tool makes of them.
    struct Bench {
        clock: Arc<MockClock>,
        hands: Hands,
        phone: Phone,
        seen: Observation,
    }

    fn pose(x: f64, enabled: bool) -> HandPose {
        HandPose { tool: None, position_m: [x, 0.0, 0.0], rotation_wxyz: [1.0, 0.0, 0.0, 0.0], enabled, gripper: 0.0 }
    }

    impl Bench {
        fn new(robot: &str) -> Self {
            let robot = sinew_sim::robots::get(robot).unwrap().description;
            let clock = Arc::new(MockClock::new());
            let shared: Arc<dyn Clock> = clock.clone();
            let hands = Hands::of(&robot, &shared).unwrap();
            Self { clock, phone: hands.phones().remove(0), hands, seen: Observation::for_robot(&robot) }
        }

        /// After so many milliseconds; how far the tool is to be moved, where it is engaged.
        fn put(&mut self, ms: u64, by: u64, pose: HandPose) -> (Result<(), Refusal>, Option<f64>) {
            self.put_old(ms, by, pose, 0)
        }

        fn put_old(&mut self, ms: u64, by: u64, pose: HandPose, age_ms: u64) -> (Result<(), Refusal>, Option<f64>) {
            self.clock.advance(Duration::from_millis(ms));
            let put = self.hands.put(by, &[pose], Duration::from_millis(age_ms), self.clock.now());
            let mut action = [0.0; 8];
            let tick = Tick { turn: 0, due: self.clock.now(), period: Duration::from_millis(33), wants_images: false };
            let said = self.phone.action(&tick, &self.seen, &mut action);
            (put, said.ok().filter(|_| action[7] == 1.0).map(|_| action[0]))
        }
    }

    #[test]
    fn a_hand_counts_from_when_it_was_not_enabled() {
        let mut bench = Bench::new("so101");
        assert_eq!(bench.put(14, 1, pose(0.0, true)), (Ok(()), None), "enabled from the first pose on");
        assert_eq!(bench.put(14, 1, HandPose { gripper: 1.0, ..pose(0.01, true) }), (Ok(()), None));
        assert_eq!(bench.put(14, 1, pose(0.0, false)), (Ok(()), None));
        assert_eq!(bench.put(14, 1, pose(0.5, true)), (Ok(()), Some(0.0)), "what was done before does not count");
        assert_eq!(bench.put(14, 1, pose(0.52, true)).1.map(|x| (x * 1e3).round()), Some(20.0));
        // Somebody else takes over with his hand closed.
        assert_eq!(bench.put(14, 2, pose(0.52, true)), (Ok(()), None));
        drop(bench.put(14, 2, pose(0.52, false)));
        assert_eq!(bench.put(14, 2, pose(0.52, true)), (Ok(()), Some(0.0)));
        // Silence, too short for the robot's own thread to have noticed it.
        assert_eq!(bench.put(251, 2, pose(0.52, true)), (Ok(()), None));
        drop(bench.put(14, 2, pose(0.52, false)));
        assert_eq!(bench.put(14, 2, pose(0.52, true)).1, Some(0.0));
        bench.hands.forget();
        assert_eq!(bench.put(14, 2, pose(0.52, true)), (Ok(()), None));
    }

    #[test]
    fn jumps_and_late_poses_end_the_hold() {
        let mut bench = Bench::new("so101");
        let engage = |bench: &mut Bench| {
            drop(bench.put(14, 1, pose(0.0, false)));
            assert_eq!(bench.put(14, 1, pose(0.0, true)), (Ok(()), Some(0.0)));
        };
        engage(&mut bench);
        let (refused, moved) = bench.put(14, 1, pose(1.0, true));
        let words = refused.unwrap_err().to_string();
        assert!(words.contains("jumped by 1.00 m and 0° in 14 ms") && moved.is_none(), "{words}");
        assert_eq!(bench.put(14, 1, pose(1.0, true)), (Ok(()), None), "until it is let go");
        engage(&mut bench);
        let turned = HandPose { rotation_wxyz: [0.0, 0.0, 1.0, 0.0], ..pose(0.0, true) };
        assert!(bench.put(14, 1, turned).0.unwrap_err().to_string().contains("jumped by 0.00 m and 180°"));
        // The other sign is the same rotation, and a hand may be quick.
        engage(&mut bench);
        assert_eq!(bench.put(100, 1, HandPose { rotation_wxyz: [-1.0, 0.0, 0.0, 0.0], ..pose(0.3, true) }), (Ok(()), Some(0.3)));
        // Where it goes while it is not enabled does not matter.
        drop(bench.put(14, 1, pose(0.0, false)));
        drop(bench.put(14, 1, pose(9.0, false)));
        assert_eq!(bench.put(14, 1, pose(2.0, true)), (Ok(()), Some(0.0)));
        let (late, moved) = bench.put_old(14, 1, pose(2.0, true), 251);
        assert!(late.unwrap_err().to_string().contains("251 ms on their way") && moved.is_none());
        assert_eq!(bench.put(14, 1, pose(2.0, true)), (Ok(()), None));
        // That it was let go counts, however late it comes.
        bench.put_old(14, 1, pose(2.0, false), 900).0.unwrap_err();
        assert_eq!(bench.put(14, 1, pose(2.0, true)), (Ok(()), Some(0.0)));
    }

    #[test]
    fn what_is_no_pose_is_refused_and_ends_the_hold() {
        let mut bench = Bench::new("so101");
        let cases = [
            (HandPose { position_m: [f64::NAN, 0.0, 0.0], ..pose(0.0, true) }, "holds NaN"),
            (HandPose { position_m: [0.0, f64::INFINITY, 0.0], ..pose(0.0, true) }, "holds inf"),
            (HandPose { position_m: [0.0, 0.0, 2e4], ..pose(0.0, true) }, "holds 20000"),
            (HandPose { rotation_wxyz: [0.0; 4], ..pose(0.0, true) }, "the length 0"),
            (HandPose { rotation_wxyz: [f64::NAN; 4], ..pose(0.0, true) }, "the length NaN"),
            (HandPose { gripper: 1.5, ..pose(0.0, true) }, "is 1.5, expected −1 to 1"),
            (HandPose { gripper: f64::NAN, ..pose(0.0, true) }, "is NaN"),
            (HandPose { tool: Some("hook".into()), ..pose(0.0, true) }, "tool is hook, expected one of gripper"),
        ];
        for (wrong, words) in cases {
            drop(bench.put(14, 1, pose(0.0, false)));
            assert_eq!(bench.put(14, 1, pose(0.0, true)), (Ok(()), Some(0.0)));
            let (refused, moved) = bench.put(14, 1, wrong);
            let refused = refused.unwrap_err();
            assert!(matches!(refused, Refusal::Bad(_)) && refused.to_string().contains(words) && moved.is_none(), "{refused}");
            assert_eq!(bench.put(14, 1, pose(0.0, true)), (Ok(()), None));
        }
        let now = bench.clock.now();
        for poses in [vec![], vec![pose(0.0, false); 2]] {
            assert!(bench.hands.put(1, &poses, Duration::ZERO, now).unwrap_err().to_string().contains("expected 1 to 1"));
        }
    }

    #[test]
    fn two_arms_have_a_hand_each_and_a_robot_without_a_tool_has_none() {
        let bench = Bench::new("bi_openarm");
        let tools: Vec<_> = bench.hands.tools().iter().map(|tool| (tool.name.as_str(), tool.side)).collect();
        assert_eq!(tools, [("left_gripper", Some(Side::Left)), ("right_gripper", Some(Side::Right))]);
        let put = |names: &[Option<&str>]| {
            let poses: Vec<_> = names.iter().map(|name| HandPose { tool: name.map(str::to_owned), ..pose(0.0, false) }).collect();
            bench.hands.put(1, &poses, Duration::ZERO, Timestamp::ZERO)
        };
        assert_eq!((put(&[Some("left_gripper"), Some("right_gripper")]), put(&[Some("right_gripper")])), (Ok(()), Ok(())));
        assert!(put(&[None]).unwrap_err().to_string().contains("tool is none, expected one of left_gripper, right_gripper"));
        assert!(
            put(&[Some("left_gripper"), Some("left_gripper")]).unwrap_err().to_string().contains("two hands have the tool left_gripper")
        );
        let clock: Arc<dyn Clock> = Arc::new(MockClock::new());
        let refused = Hands::of(&sinew_sim::robots::get("koch").unwrap().description, &clock).err().unwrap();
        assert_eq!(refused.to_string(), "steering a tool of koch: expected a tool in its description, found none");
    }
}
