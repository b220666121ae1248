//! Tools stay in their boxes, and get on in them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use common::{Noise, Rig, so101};
use proptest::prelude::*;
use sinew_core::{RobotDescription, Workspace};

const BOX: Workspace = Workspace { min_m: [0.0, -0.2, -0.02], max_m: [0.35, 0.2, 0.3] };

fn so101_in(workspace: Workspace) -> RobotDescription {
    let mut robot = so101();
    robot.tools[0].workspace = Some(workspace);
    robot
}

fn outside_m(robot: &RobotDescription, values: &[f64]) -> f64 {
    let Workspace { min_m, max_m } = robot.tools[0].workspace.unwrap();
    let tool = robot.base_from_tool(0, values).translation.vector;
    (0..3).map(|i| (min_m[i] - tool[i]).max(tool[i] - max_m[i])).fold(0.0, f64::max)
}

const DT_S: f64 = 1.0 / 30.0;

/// Whether an arm at `start` comes to rest by the gate alone, at a quiet speed, in a minute; and how far out of the
/// box it gets on its way.
fn comes_to_rest(start: &[f64]) -> (bool, f64) {
    let robot = so101_in(BOX);
    let rest: Vec<f64> = robot.rest().into_iter().map(Option::unwrap).collect();
    let mut rig = Rig::new(robot, start);
    let mut furthest: f64 = 0.0;
    for _ in 0..1800 {
        let now = rig.sent();
        let wanted: Vec<f64> = now.iter().zip(&rest).map(|(now, rest)| now + (rest - now).clamp(-0.6 * DT_S, 0.6 * DT_S)).collect();
        let now = rig.follow(Some(&wanted), DT_S);
        furthest = furthest.max(outside_m(&rig.robot, &now));
        if now.iter().zip(&rest).all(|(now, rest)| (now - rest).abs() < 1e-3) {
            return (true, furthest);
        }
    }
    (false, furthest)
}

/// A box need not be convex in the joints: where two joints lean on two walls of an edge, or one that is at rest would
/// have to leave it again, no joint may go on, and the gate plans no way around. No arm leaves the box, and few stop.
#[test]
fn the_way_to_rest_leads_nowhere_out_and_seldom_gets_stuck() {
    let robot = so101_in(BOX);
    let mut noise = Noise(7);
    let (mut poses, mut stuck) = (0, 0);
    while poses < 2000 {
        let mut start = Vec::new();
        for part in &robot.parts {
            let [lower, upper] = part.position_limits();
            start.push(f64::midpoint(lower, upper) + noise.next() * (upper - lower) / 2.0);
        }
        if outside_m(&robot, &start) > 0.0 {
            continue;
        }
        poses += 1;
        let (arrived, furthest) = comes_to_rest(&start);
        assert!(furthest < 1e-6, "{furthest} m out of the box from {start:?}");
        stuck += u32::from(!arrived);
    }
    println!("{stuck} of {poses} poses get stuck on their way to rest");
    assert!(stuck <= 66, "{stuck} of {poses}");
}

/// An arm that is stretched out, and where its tool is.
const STRETCHED: [f64; 6] = [0.2, 0.3, -0.6, 0.5, 0.1, 0.2];

/// A box whose lid is `above` the tool of the arm that is stretched out.
fn under_a_lid(above: f64) -> RobotDescription {
    let lid = so101().base_from_tool(0, &STRETCHED).translation.z + above;
    so101_in(Workspace { min_m: [-1.0; 3], max_m: [1.0, 1.0, lid] })
}

#[test]
fn a_tool_a_little_outside_still_moves_along_the_wall_and_in() {
    let mut rig = Rig::new(under_a_lid(-0.001), &STRETCHED);
    assert!((outside_m(&rig.robot, &STRETCHED) - 0.001).abs() < 1e-9);
    // To the side, with the gripper open, and up.
    let higher = [1.0, -0.5, -0.6, 0.5, 0.1, 1.2];
    assert!(outside_m(&rig.robot, &higher) > 0.05);
    let mut blocked = 0;
    for _ in 0..60 {
        rig.wait(DT_S);
        let present = rig.sent();
        rig.measure(&present);
        blocked += rig.propose(Some(&higher), DT_S).unwrap().interventions.workspace;
        rig.send();
        assert!(outside_m(&rig.robot, &rig.sent()) <= 0.001 + 1e-7);
    }
    let sent = rig.sent();
    assert!((sent[0] - 1.0).abs() < 1e-9 && (sent[5] - 1.2).abs() < 1e-9, "what moves along the wall arrives: {sent:?}");
    assert!(sent[1] > 0.2 && blocked > 50, "and what leads out waits: {sent:?}");
    let lower = [1.0, 0.6, -0.6, 0.5, 0.1, 1.2];
    assert!(outside_m(&rig.robot, &lower) == 0.0);
    (0..60).for_each(|_| drop(rig.follow(Some(&lower), DT_S)));
    assert_eq!(rig.sent(), lower);
}

#[test]
fn a_tool_slides_along_its_wall() {
    let mut rig = Rig::new(under_a_lid(0.01), &STRETCHED);
    let beyond = [-1.2, -0.4, -0.6, 0.5, 0.1, 0.2];
    let mut highest = f64::MIN;
    for _ in 0..90 {
        let sent = rig.follow(Some(&beyond), DT_S);
        highest = highest.max(rig.robot.base_from_tool(0, &sent).translation.z);
    }
    let lid = rig.robot.tools[0].workspace.unwrap().max_m[2];
    assert!(highest <= lid + 1e-6 && highest > lid - 0.008, "{highest} under {lid}");
    assert!((rig.sent()[0] + 1.2).abs() < 1e-9);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_command_takes_the_tool_out_of_its_workspace(
        stream in prop::collection::vec((prop::collection::vec(-2.0..2.0f64, 6), 1usize..20), 1..15),
        start in prop::collection::vec(-1.0..1.0f64, 6),
        low in -0.1..0.05f64,
        rate_hz in prop::sample::select(vec![30.0, 60.0, 200.0]),
        is_gentle in any::<bool>(),
    ) {
        let workspace = Workspace { min_m: [0.0, -0.2, low], max_m: [0.35, 0.15, 0.4] };
        let mut robot = so101_in(workspace);
        if is_gentle {
            robot.parts.iter_mut().for_each(|part| (part.limits.acceleration, part.limits.jerk) = (Some(15.0), Some(150.0)));
        }
        let mut rig = Rig::new(robot, &start);
        let mut before = outside_m(&rig.robot, &start);
        for (wanted, times) in stream {
            for _ in 0..times {
                let sent = rig.follow(Some(&wanted), 1.0 / rate_hz);
                let after = outside_m(&rig.robot, &sent);
                prop_assert!(after <= before + 2e-9, "from {before} m outside to {after}");
                before = after;
            }
        }
    }
}
