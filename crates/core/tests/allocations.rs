//! The gate and the door allocate nothing in a turn.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{Rig, SO101};
use sinew_core::{RobotDescription, Sent, Workspace};
use sinew_testkit::{CountingAllocator, allocator_calls};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn robots() -> Vec<RobotDescription> {
    let find = |name: &str| (name == "so101").then(|| SO101.to_owned());
    let mut boxed = common::so101();
    boxed.tools[0].workspace = Some(Workspace { min_m: [0.0, -0.2, -0.02], max_m: [0.35, 0.2, 0.3] });
    let read = |text: &str| RobotDescription::from_toml_with("it", text, &find).unwrap();
    vec![
        boxed,
        read(include_str!("../../../robots/lekiwi/robot.toml")),
        read(include_str!("../../../robots/openarm/robot.toml")),
        read(include_str!("robots/lift.toml")),
        read(include_str!("../../../robots/reachy_mini/robot.toml")),
    ]
}

#[test]
fn a_turn_of_the_gate_allocates_nothing() {
    let before = allocator_calls();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(allocator_calls(), before + 2, "the counter works");
    for robot in robots() {
        let width = robot.state_channels().len();
        let rest = robot.parts.iter().filter(|part| part.is_feature()).map(|part| part.rest.unwrap_or(0.0));
        let start: Vec<f64> = rest.chain(std::iter::repeat(0.0)).take(width).collect();
        let mut rig = Rig::new(robot, &start);
        let (mut wants, mut none) = (rig.wanted.clone(), rig.wanted.clone());
        none.goals.clear();
        let mut sent = Sent::new(wants.goals.len());
        let mut present = start.clone();
        let begin = allocator_calls();
        let mut acted = 0;
        for tick in 0..200 {
            rig.wait(0.01);
            rig.observed.age();
            present[0] = if tick % 9 == 0 { 3.0 } else { start[0] };
            if tick % 13 != 0 {
                rig.observed.state.set_all(&present, rig.now);
            } else {
                rig.observed.state.miss(0);
            }
            for (i, goal) in wants.goals.iter_mut().enumerate() {
                *goal = if (tick / 40 + i as i32) % 2 == 0 { 2.0 } else { -2.0 };
            }
            wants.time = rig.now;
            let wanted = match tick % 50 {
                49 => None,
                48 => Some(&none),
                _ => Some(&wants),
            };
            acted += rig.gate.propose(wanted, &rig.observed, rig.now, 0.01).unwrap().interventions.total();
            sent.reach_all(rig.gate.proposed());
            rig.gate.commit(&sent);
        }
        let calls = allocator_calls() - begin;
        assert_eq!(calls, 0, "{}", rig.robot.name);
        assert!(acted > 200, "the limits acted");
    }
}
