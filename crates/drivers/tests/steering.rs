//! Tools of every robot are steered at random, and by LeRobot's own paths.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "what fails here fails the test, and figures are printed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use nalgebra::{Isometry3, Vector3};
use sinew_core::{ActionSpace, ChannelSource, CommandMode, Observation, Retarget, RobotDescription, Timestamp, Wanted};
use sinew_drivers::teleop::{ToolError, ToolOptions, ToolToJoints, TwistToBase};

/// Every robot of robots/ by its name.
fn robots() -> BTreeMap<String, RobotDescription> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../robots");
    let read = |name: &str| std::fs::read_to_string(folder.join(name).join("robot.toml")).ok();
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.map(|name| (name.clone(), RobotDescription::from_toml_with(&name, &read(&name).unwrap(), &read).unwrap())).collect()
}

/// A robot that goes where it is told at once, or never.
struct Puppet {
    robot: RobotDescription,
    seen: Observation,
    wanted: Wanted,
    way: ToolToJoints,
}

const PERIOD_NS: i64 = 33_333_333;

impl Puppet {
    fn new(robot: &RobotDescription, space: ActionSpace, options: &ToolOptions, start: impl Fn(usize, [f64; 2]) -> f64) -> Self {
        let mut seen = Observation::for_robot(robot);
        for (i, channel) in robot.state_channels().iter().enumerate() {
            let value = match channel.source {
                ChannelSource::Part(part) => start(part, robot.parts[part].position_limits()),
                _ => 0.0,
            };
            seen.state.set(i, value, Timestamp::ZERO);
        }
        Self { robot: robot.clone(), seen, wanted: Wanted::for_robot(robot), way: ToolToJoints::new(robot, space, options).unwrap() }
    }

    fn pass(&mut self) {
        self.seen.time = Timestamp::from_nanos(self.seen.time.as_nanos() + PERIOD_NS);
    }

    /// A turn: it wants, and the robot has got there when it is asked again.
    fn turn(&mut self, action: &[f64]) {
        self.pass();
        self.way.retarget(action, &self.seen, &mut self.wanted).unwrap();
        self.obey();
    }

    fn obey(&mut self) {
        let states = self.robot.state_channels();
        for (channel, goal) in self.robot.action_channels().iter().zip(&self.wanted.goals) {
            if let Some(i) = states.iter().position(|state| state.source == channel.source) {
                self.seen.state.set(i, *goal, self.seen.time);
            }
        }
    }

    /// A value a part.
    fn values(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.robot.parts.iter().map(|part| part.rest.unwrap_or(0.0)).collect();
        for (i, channel) in self.robot.state_channels().iter().enumerate() {
            if let ChannelSource::Part(part) = channel.source {
                values[part] = self.seen.state.values()[i];
            }
        }
        values
    }

    fn tool(&self, name: &str) -> Isometry3<f64> {
        let index = self.robot.tools.iter().position(|tool| tool.name == name).unwrap();
        self.robot.base_from_tool(index, &self.values())
    }
}

/// Where a robot may well stand: at rest, or in the middle.
fn usual(robot: &RobotDescription) -> impl Fn(usize, [f64; 2]) -> f64 + '_ {
    |part, [low, high]| robot.parts[part].rest.unwrap_or(if high < 1e6 { (low + high) / 2.0 } else { 0.0 })
}

/// All robots with a tool that can be steered, and the tool.
fn steered() -> Vec<(RobotDescription, String)> {
    let robots = robots();
    let tools = robots.values().flat_map(|robot| robot.tools.iter().map(|tool| (robot.clone(), tool.name.clone())));
    let steered: Vec<_> = tools.filter(|(robot, _)| robot.role == sinew_core::Role::Robot).collect();
    assert!(steered.len() >= 10, "{:?}", steered.iter().map(|(robot, tool)| (&robot.name, tool)).collect::<Vec<_>>());
    steered
}

#[test]
fn robots_without_a_tool_or_with_two_are_refused_with_the_reason() {
    let robots = robots();
    let refused = |name: &str| ToolToJoints::new(&robots[name], ActionSpace::ToolTwist, &ToolOptions::default()).unwrap_err().to_string();
    for name in ["koch", "hope_jr_arm", "hope_jr_hand"] {
        assert_eq!(refused(name), format!("steering a tool of {name}: expected a tool in its description, found none"));
    }
    assert!(refused("bi_so").ends_with("expected the name of one of its tools (left_gripper, right_gripper), found none"));
    let options = ToolOptions { orientation_weight: f64::NAN, ..ToolOptions::default() };
    let error = ToolToJoints::new(&robots["so101"], ActionSpace::ToolTwist, &options).unwrap_err();
    assert!(matches!(error, ToolError::Option { .. }), "{error}");
    let error = ToolToJoints::new(&robots["so101"], ActionSpace::Channels, &ToolOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("expected actions of a tool, found actions of channels"), "{error}");
    let mut shapeless = robots["so101"].clone();
    shapeless.parts.iter_mut().for_each(|part| part.parent_from_part = sinew_core::Pose::default());
    let error = ToolToJoints::new(&shapeless, ActionSpace::ToolTwist, &ToolOptions::default()).unwrap_err();
    assert!(matches!(error, ToolError::NoShape { .. }), "{error}");
    let error = TwistToBase::new(&robots["so101"]).unwrap_err();
    assert_eq!(error.to_string(), "driving so101: expected a base in its description, found none");
}

/// Pushes of random length, with pauses, some of them senseless.
fn push(random: &mut fastrand::Rng, action: &mut [f64]) {
    let fast = if random.u8(0..8) == 0 { 30.0 } else { 0.4 };
    let place = random.u8(0..4) != 0;
    for (i, value) in action.iter_mut().enumerate() {
        let most = if i < 3 { fast } else { 4.0 * fast };
        *value = if i == 6 { random.f64() * 2.0 - 1.0 } else { (random.f64() * 2.0 - 1.0) * most };
        if i < 6 && (!place || random.u8(0..3) == 0) {
            *value = 0.0;
        }
    }
}

#[test]
fn ten_thousand_random_pushes_pass_no_limit_and_make_no_jump() {
    let robots = steered();
    for (robot, tool) in robots {
        let options = ToolOptions { tool: Some(tool.clone()), ..ToolOptions::default() };
        let mut random = fastrand::Rng::with_seed(7);
        let pushes = if robot.name == "so101" { 10_000 / 3 + 1 } else { 1_000 };
        let mut longest = 0.0f64;
        for space in [ActionSpace::ToolTwist, ActionSpace::ToolOffset, ActionSpace::ToolPose] {
            let mut puppet = Puppet::new(&robot, space.clone(), &options, usual(&robot));
            let channels = robot.action_channels();
            let mut action = vec![0.0; space.width().unwrap()];
            let mut before: Option<Vec<f64>> = None;
            let mut obeys = true;
            for _ in 0..pushes {
                push(&mut random, &mut action[..7]);
                if let Some(engaged) = action.get_mut(7) {
                    *engaged = f64::from(random.bool());
                }
                if random.u8(0..20) == 0 {
                    puppet.way.reset();
                    before = None;
                }
                // Now and then somebody holds the arm.
                obeys = if obeys { random.u8(0..20) != 0 } else { random.bool() };
                for _ in 0..random.u8(1..12) {
                    puppet.pass();
                    puppet.way.retarget(&action, &puppet.seen, &mut puppet.wanted).unwrap();
                    let goals = &puppet.wanted.goals;
                    for (i, channel) in channels.iter().enumerate() {
                        let ChannelSource::Part(part) = channel.source else {
                            assert_eq!(goals[i], 0.0);
                            continue;
                        };
                        let part = &robot.parts[part];
                        let [low, high] = part.position_limits();
                        assert!(goals[i].is_finite() && (low..=high).contains(&goals[i]), "{}: {} is {}", robot.name, part.name, goals[i]);
                        let is_gripper = part.name == tool;
                        if let (Some(before), Some(velocity), false) = (&before, part.limits.velocity, is_gripper) {
                            let share = (goals[i] - before[i]).abs() / (velocity * PERIOD_NS as f64 * 1e-9);
                            longest = longest.max(share);
                            // A joint that sagged or was held is gone on from where it is.
                            let held = if obeys { 0.0 } else { part.limits.step.unwrap_or(f64::INFINITY) };
                            assert!(share <= 1.0 + 1e-6 || held > 0.0, "{}: {} jumps by {share} of its speed", robot.name, part.name);
                        }
                    }
                    before = obeys.then(|| goals.clone());
                    if obeys {
                        puppet.obey();
                    }
                }
            }
        }
        println!("{} {tool}: {pushes} pushes a kind, up to {longest:.3} of the joints' speed", robot.name);
    }
}

#[test]
fn a_tool_follows_what_it_can_reach() {
    for (robot, tool) in steered() {
        let options = ToolOptions { tool: Some(tool.clone()), ..ToolOptions::default() };
        let mut random = fastrand::Rng::with_seed(11);
        let (mut worst, mut turns, mut off) = (0.0f64, 0, 0);
        let mut spent = Duration::ZERO;
        for _ in 0..200 {
            // A slow way in joint space, away from the limits: every pose on it can be reached.
            let ends: Vec<[f64; 2]> = (0..robot.parts.len()).map(|_| [0.25 + 0.5 * random.f64(), 0.25 + 0.5 * random.f64()]).collect();
            let at = |part: usize, [low, high]: [f64; 2], share: f64| {
                let [from, to] = ends[part].map(|end| if high < 1e6 { low + end * (high - low) } else { end });
                from + (to - from) * share
            };
            let mut puppet = Puppet::new(&robot, ActionSpace::ToolPose, &options, |part, limits| at(part, limits, 0.0));
            let mut truth = Puppet::new(&robot, ActionSpace::ToolPose, &options, |part, limits| at(part, limits, 0.0));
            for step in 0..=90 {
                let share = f64::from(step) / 90.0;
                for (i, channel) in robot.state_channels().iter().enumerate() {
                    if let ChannelSource::Part(part) = channel.source {
                        truth.seen.state.set(i, at(part, robot.parts[part].position_limits(), share), Timestamp::ZERO);
                    }
                }
                let pose = truth.tool(&tool);
                let turn = pose.rotation.scaled_axis();
                let place = pose.translation.vector;
                let begin = Instant::now();
                puppet.turn(&[place.x, place.y, place.z, turn.x, turn.y, turn.z, 0.5]);
                spent += begin.elapsed();
                if step > 1 {
                    let left = (puppet.tool(&tool).translation.vector - place).norm();
                    worst = worst.max(left);
                    turns += 1;
                    off += usize::from(left > 1e-3);
                }
            }
        }
        assert!(off * 1000 <= turns && worst < 0.01, "{}: {off} of {turns} turns, {worst} m", robot.name);
        let us = spent.as_secs_f64() * 1e6 / turns as f64;
        println!(
            "{} {tool}: {turns} turns of {us:.1} us, {off} of them more than a millimetre off, at most {:.3} mm",
            robot.name,
            worst * 1e3
        );
    }
}

fn so101() -> RobotDescription {
    robots().remove("so101").unwrap()
}

#[test]
fn a_push_moves_the_tool_so_far_and_a_pause_holds_it() {
    let robot = so101();
    let mut puppet = Puppet::new(&robot, ActionSpace::ToolTwist, &ToolOptions::default(), |part, _| [0.0, 0.0, 0.3, 0.6, 0.0, 0.5][part]);
    puppet.turn(&[0.0; 7]);
    let start = puppet.tool("gripper");
    for _ in 0..30 {
        puppet.turn(&[0.0, 0.05, 0.02, 0.0, 0.0, 0.0, 0.0]);
    }
    let moved = puppet.tool("gripper").translation.vector - start.translation.vector;
    assert!((moved - Vector3::new(0.0, 0.05, 0.02)).norm() < 1e-3, "{moved}");
    let before = puppet.wanted.goals.clone();
    // It sags by less than what counts: nothing changes. The gripper stays closed on what it holds.
    puppet.turn(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0]);
    let closing = puppet.wanted.goals[5];
    assert!((before[5] - closing - 0.2 * (1.7453292 + 0.174533)).abs() < 1e-9, "{closing} after {}", before[5]);
    puppet.seen.state.set(1, before[1] + 0.1, Timestamp::ZERO);
    puppet.seen.state.set(5, before[5], Timestamp::ZERO);
    puppet.pass();
    puppet.way.retarget(&[0.0; 7], &puppet.seen, &mut puppet.wanted).unwrap();
    assert_eq!((&puppet.wanted.goals[..5], puppet.wanted.goals[5]), (&before[..5], closing));
    // Somebody has moved it away by hand: the next push goes on from there, without a jump.
    puppet.seen.state.set(1, before[1] + 0.3, Timestamp::ZERO);
    puppet.pass();
    puppet.way.retarget(&[0.05, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], &puppet.seen, &mut puppet.wanted).unwrap();
    assert!((puppet.wanted.goals[1] - before[1] - 0.3).abs() < 0.11, "{:?}", puppet.wanted.goals);
}

#[test]
fn engaging_again_goes_on_from_where_it_is() {
    let robot = so101();
    let mut puppet = Puppet::new(&robot, ActionSpace::ToolOffset, &ToolOptions::default(), |part, _| [0.0, 0.0, 0.3, 0.6, 0.0, 0.5][part]);
    let offset = |x: f64, engaged: f64| [x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, engaged];
    puppet.turn(&offset(0.3, 0.0));
    let start = puppet.tool("gripper").translation.vector;
    for step in 0..=10 {
        puppet.turn(&offset(-0.003 * f64::from(step), 1.0));
    }
    let there = puppet.tool("gripper").translation.vector;
    assert!((there - start - Vector3::new(-0.03, 0.0, 0.0)).norm() < 1e-3, "{}", there - start);
    // The hand goes elsewhere, disengaged; engaging is no motion, whatever the hand says is 0 then.
    puppet.turn(&offset(-0.5, 0.0));
    puppet.turn(&offset(0.0, 1.0));
    assert!((puppet.tool("gripper").translation.vector - there).norm() < 1e-4);
    // A glitch of half a metre is slowed down to the step.
    puppet.turn(&offset(-0.5, 1.0));
    assert!((puppet.way.target().unwrap().translation.vector - there).norm() < 0.05 + 1e-9);
}

#[test]
fn bounds_hold_and_who_begins_outside_is_not_drawn_in() {
    let robot = so101();
    let start = |part: usize, _: [f64; 2]| [0.0, 0.0, 0.3, 0.6, 0.0, 0.5][part];
    let free = Puppet::new(&robot, ActionSpace::ToolTwist, &ToolOptions::default(), start).tool("gripper").translation.vector;
    let bounds = sinew_core::Workspace { min_m: [free.x - 0.02, -1.0, -1.0], max_m: [free.x + 0.02, 1.0, free.z - 0.05] };
    let options = ToolOptions { bounds: Some(bounds), ..ToolOptions::default() };
    let mut puppet = Puppet::new(&robot, ActionSpace::ToolTwist, &options, start);
    for _ in 0..60 {
        puppet.turn(&[-0.1, 0.0, 0.1, 0.0, 0.0, 0.0, 0.0]);
    }
    let place = puppet.tool("gripper").translation.vector;
    assert!((place.x - free.x + 0.02).abs() < 1e-3 && (place.z - free.z).abs() < 1e-3, "{}", place - free);
}

#[test]
fn a_way_past_what_the_arm_can_reach_neither_explodes_nor_winds_up() {
    let robot = so101();
    let mut puppet = Puppet::new(&robot, ActionSpace::ToolTwist, &ToolOptions::default(), |part, _| [0.0, 0.0, 0.3, 0.6, 0.0, 0.5][part]);
    let x = |puppet: &Puppet| puppet.tool("gripper").translation.vector.x;
    for _ in 0..200 {
        puppet.turn(&[0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
    let farthest = x(&puppet);
    // It turns back at once.
    for _ in 0..10 {
        puppet.turn(&[-0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
    assert!(x(&puppet) < farthest - 0.03, "{} after {farthest}", x(&puppet));
    // Through the axis of the pan, where it would have to turn at once.
    let mut longest = 0.0f64;
    let mut before = puppet.wanted.goals.clone();
    for _ in 0..300 {
        puppet.turn(&[-0.25, 0.01, 0.05, 0.0, 0.0, 0.0, 0.0]);
        longest = before.iter().zip(&puppet.wanted.goals).map(|(a, b)| (a - b).abs()).fold(longest, f64::max);
        before.clone_from(&puppet.wanted.goals);
    }
    assert!(longest <= 3.0 / 30.0 + 1e-3, "{longest}");
}

#[test]
fn what_is_not_known_or_makes_no_sense_is_said_and_moves_nothing() {
    let robot = so101();
    let mut way = ToolToJoints::new(&robot, ActionSpace::ToolTwist, &ToolOptions::default()).unwrap();
    let mut wanted = Wanted::for_robot(&robot);
    let blind = Observation::for_robot(&robot);
    let error = way.retarget(&[0.1; 7], &blind, &mut wanted).unwrap_err();
    assert_eq!(error.to_string(), "bringing the tool there: where shoulder_pan is is not known");
    let error = way.retarget(&[f64::NAN; 7], &blind, &mut wanted).unwrap_err();
    assert_eq!(error.to_string(), "bringing the tool there: the action holds NaN");
}

#[test]
fn a_base_is_driven_and_its_arm_stays() {
    let lekiwi = robots().remove("lekiwi").unwrap();
    let mut way = TwistToBase::new(&lekiwi).unwrap();
    let mut seen = Observation::for_robot(&lekiwi);
    let width = seen.state.width();
    let mut wanted = Wanted::for_robot(&lekiwi);
    assert!(way.retarget(&[0.1, 0.0, 0.0], &seen, &mut wanted).unwrap_err().to_string().starts_with("driving the base: where channel 0"));
    (0..width).for_each(|i| seen.state.set(i, 0.1 * i as f64, Timestamp::ZERO));
    way.retarget(&[0.1, -0.2, 0.3], &seen, &mut wanted).unwrap();
    let names = lekiwi.action_names();
    assert_eq!(names[6..], ["x.vel", "y.vel", "theta.vel"]);
    assert!(wanted.goals[..6].iter().enumerate().all(|(i, goal)| (goal - 0.1 * i as f64).abs() < 1e-12));
    assert_eq!(wanted.goals[6..], [0.1, -0.2, 0.3]);
    // It sags: the goal stays, until somebody takes over anew.
    seen.state.set(1, 0.15, Timestamp::ZERO);
    way.retarget(&[0.0; 3], &seen, &mut wanted).unwrap();
    assert!((wanted.goals[1] - 0.1).abs() < 1e-12);
    way.reset();
    way.retarget(&[0.0; 3], &seen, &mut wanted).unwrap();
    assert_eq!(wanted.goals[1], 0.15);
    assert!(way.retarget(&[f64::NAN, 0.0, 0.0], &seen, &mut wanted).is_err());
    let positions = lekiwi.action_channels().iter().filter(|channel| channel.mode == Some(CommandMode::Position)).count();
    assert_eq!(positions, 6);
}

#[test]
fn a_tool_goes_where_lerobots_pipeline_brings_it() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("steering_golden.json")).unwrap();
    let numbers = |value: &serde_json::Value| value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect::<Vec<_>>();
    let robot = so101();
    let start = numbers(&golden["start"]);
    let step = golden["step_m"].as_f64().unwrap();
    let range = robot.parts[5].unit_range();
    let place = |share: f64| range[0] + share / 100.0 * (range[1] - range[0]);
    let si = |part: usize, value: f64| if part == 5 { place(value) } else { value.to_radians() };
    // As LeRobot weighs an orientation, and as it is weighed here.
    for (weight, most) in [(0.01, 2e-3), (1e-4, 5e-3)] {
        let options = ToolOptions { orientation_weight: weight, max_step_m: 0.1, ..ToolOptions::default() };
        let new = || Puppet::new(&robot, ActionSpace::ToolOffset, &options, |part, _| si(part, start[part]));
        let (mut puppet, mut way, mut worst, mut worst_joint) = (new(), 0, 0.0f64, 0.0f64);
        for row in golden["rows"].as_array().unwrap() {
            if row["way"] != way {
                (puppet, way) = (new(), row["way"].as_i64().unwrap());
            }
            let wish = numbers(&row["wish"]);
            let mut action = [0.0; 8];
            (0..6).for_each(|i| action[i] = wish[i] * if i < 3 { step } else { 1.0 });
            action[6] = row["gripper_vel"].as_f64().unwrap();
            action[7] = f64::from(row["enabled"] == true);
            puppet.turn(&action);
            let tool = puppet.tool("gripper").translation.vector;
            let theirs = numbers(&row["tool_m"]);
            worst = worst.max((tool - Vector3::new(theirs[0], theirs[1], theirs[2])).norm());
            let joints = numbers(&row["joints"]);
            worst_joint = (0..5).map(|i| (puppet.wanted.goals[i] - si(i, joints[i])).abs()).fold(worst_joint, f64::max);
            // The gripper moves as LeRobot's while it is told to.
            assert!((puppet.wanted.goals[5] - si(5, joints[5])).abs() < 1e-6, "{row}");
        }
        println!("weight {weight}: at most {:.2} mm and {:.2} degrees off", worst * 1e3, worst_joint.to_degrees());
        assert!(worst < most, "{worst}");
    }
}
