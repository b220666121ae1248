//! The daemon's operator, who leads by goals or by what he holds in his hands: who spoke last, counts.

use sinew_core::{Observation, Retarget as _, RobotDescription, TeleopStatus, Teleoperator, TeleoperatorError, Tick, Wanted};
use sinew_drivers::teleop::{Phone, ToolError, ToolsToJoints};

use super::hands::Hands;
use super::led_remotely::{Goals, LedRemotely};

/// Wants what he wants, and otherwise that the robot stays where it was sent.
pub struct LedByPage {
    led: LedRemotely,
    by_hand: Option<ByHand>,
}

/// From poses of hands to goals.
struct ByHand {
    hands: Hands,
    phones: Vec<Phone>,
    way: ToolsToJoints,
    action: Vec<f64>,
    wanted: Wanted,
    /// They have led in the turn before.
    lead: bool,
}

/// Of an action of one hand.
const WIDTH: usize = 8;

impl LedByPage {
    /// # Errors
    /// When there are hands for a robot without a tool that can be steered.
    pub fn new(goals: Goals, hands: Option<&Hands>, robot: &RobotDescription) -> Result<Self, ToolError> {
        let by_hand = |hands: &Hands| {
            let (phones, way) = (hands.phones(), Hands::way(robot)?);
            let action = vec![0.0; WIDTH * phones.len()];
            Ok(ByHand { hands: hands.clone(), phones, way, action, wanted: Wanted::for_robot(robot), lead: false })
        };
        Ok(Self { led: LedRemotely::new(goals, robot), by_hand: hands.map(by_hand).transpose()? })
    }
}

impl ByHand {
    /// Goals of this turn. `sent` is where the robot was sent last.
    fn goals(&mut self, tick: &Tick, observation: &Observation, sent: &[f64]) -> Result<&[f64], TeleoperatorError> {
        if !self.lead {
            self.way.go_on_from(sent, observation)?;
        }
        for (phone, action) in self.phones.iter_mut().zip(self.action.chunks_exact_mut(WIDTH)) {
            // A hand that is not there moves nothing.
            if phone.action(tick, observation, action).is_err() {
                action.fill(0.0);
            }
        }
        self.way.retarget(&self.action, observation, &mut self.wanted)?;
        Ok(&self.wanted.goals)
    }
}

impl Teleoperator for LedByPage {
    fn reset(&mut self, observation: &Observation) -> Result<(), TeleoperatorError> {
        if let Some(by_hand) = &mut self.by_hand {
            by_hand.hands.forget();
            by_hand.phones.iter_mut().try_for_each(|phone| phone.reset(observation))?;
            by_hand.lead = false;
        }
        self.led.reset(observation)
    }

    fn action(&mut self, tick: &Tick, observation: &Observation, action: &mut [f64]) -> Result<TeleopStatus, TeleoperatorError> {
        if let Some(by_hand) = &mut self.by_hand {
            let goals = if by_hand.hands.are_there(tick.due) { by_hand.goals(tick, observation, self.led.sent()) } else { Ok(&[][..]) };
            match goals {
                Ok([]) => by_hand.lead = false,
                Ok(goals) => {
                    action.copy_from_slice(goals);
                    by_hand.lead = true;
                    return Ok(TeleopStatus::Active);
                }
                // The robot holds, and each hand has to be enabled anew.
                Err(error) => {
                    tracing::warn!(%error, "hands lead no more");
                    by_hand.hands.forget();
                    by_hand.lead = false;
                }
            }
        }
        self.led.action(tick, observation, action)
    }

    fn feel(&mut self, sent: &[f64]) {
        self.led.feel(sent);
    }

    fn follow(&mut self, tick: &Tick, observation: &Observation, sent: &[f64]) {
        self.led.follow(tick, observation, sent);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use sinew_core::service::HandPose;
    use sinew_core::{Clock, MockClock, Timestamp};

    use super::*;

    const ARM: [f64; 6] = [0.0, 0.0, 0.3, 0.6, 0.0, 0.5];

    struct Bench {
        clock: Arc<MockClock>,
        robot: RobotDescription,
        goals: Goals,
        hands: Hands,
        led: LedByPage,
        seen: Observation,
    }

    impl Bench {
        fn new() -> Self {
            let robot = sinew_sim::robots::get("so101").unwrap().description;
            let clock = Arc::new(MockClock::new());
            let shared: Arc<dyn Clock> = clock.clone();
            let (goals, hands) = (Goals::default(), Hands::of(&robot, &shared).unwrap());
            let mut led = LedByPage::new(goals.clone(), Some(&hands), &robot).unwrap();
            let mut seen = Observation::for_robot(&robot);
            seen.state.set_all(&ARM, Timestamp::ZERO);
            led.reset(&seen).unwrap();
            Self { clock, robot, goals, hands, led, seen }
        }

        /// A turn of 33 ms; the robot is then where it was sent.
        fn turn(&mut self) -> (TeleopStatus, Vec<f64>) {
            self.clock.advance(Duration::from_millis(33));
            self.seen.time = self.clock.now();
            let tick = Tick { turn: 1, due: self.clock.now(), period: Duration::from_millis(33), wants_images: false };
            let mut action = vec![0.0; 6];
            let status = self.led.action(&tick, &self.seen, &mut action).unwrap();
            self.led.feel(&action);
            self.seen.state.set_all(&action, self.seen.time);
            (status, action)
        }

        fn hold(&mut self, z: f64, enabled: bool) -> (TeleopStatus, Vec<f64>) {
            let pose = HandPose { tool: None, position_m: [0.0, 0.0, z], rotation_wxyz: [1.0, 0.0, 0.0, 0.0], enabled, gripper: 0.0 };
            self.goals.forget();
            self.hands.put(1, &[pose], Duration::ZERO, self.clock.now()).unwrap();
            self.turn()
        }

        fn tool_z(&self) -> f64 {
            let values: Vec<f64> = (0..6).map(|i| self.seen.state.get(i).unwrap()).collect();
            self.robot.base_from_tool(0, &values).translation.z
        }
    }

    #[test]
    fn a_hand_moves_the_tool_as_far_as_it_moves_and_goals_take_over_without_a_jump() {
        let mut bench = Bench::new();
        assert_eq!(bench.turn(), (TeleopStatus::Holding, ARM.to_vec()), "nobody has said anything");
        let start = bench.tool_z();
        assert_eq!(bench.hold(0.0, false), (TeleopStatus::Active, ARM.to_vec()));
        for step in 0..=25 {
            bench.hold(0.002 * f64::from(step), true);
        }
        (0..5).for_each(|_| drop(bench.hold(0.05, true)));
        assert!((bench.tool_z() - start - 0.05).abs() < 2e-3, "{}", bench.tool_z() - start);
        // It is let go, and the hand goes on.
        let there = bench.hold(0.05, false).1;
        assert_eq!(bench.hold(0.3, false), (TeleopStatus::Active, there.clone()));
        // It is silent: the robot stays.
        (0..12).for_each(|_| assert_eq!(bench.turn().1, there));
        // Goals, as sliders send them.
        let mut moved = there.clone();
        moved[0] += 0.02;
        bench.hands.forget();
        bench.goals.put(bench.clock.now(), &moved);
        assert_eq!(bench.turn(), (TeleopStatus::Active, moved.clone()));
        // And again the hand, still closed: nothing until it was let go, and then from where the goals have brought it.
        assert_eq!(bench.hold(0.0, true), (TeleopStatus::Active, moved.clone()));
        assert_eq!(bench.hold(0.0, false).1, moved);
        let (_, goals) = bench.hold(0.0, true);
        assert!(goals.iter().zip(&moved).all(|(goal, was)| (goal - was).abs() < 1e-6), "{goals:?} {moved:?}");
    }

    /// Where the motors were sent counts, not where they have sagged to.
    #[test]
    fn an_arm_that_sags_does_not_sink_when_a_hand_takes_over() {
        let mut bench = Bench::new();
        bench.turn();
        bench.seen.state.set(1, ARM[1] + 0.05, Timestamp::ZERO);
        assert_eq!(bench.hold(0.0, false).1, ARM);
    }
}
