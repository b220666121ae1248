//! Robots of other shapes than a chain of hinges, and those that can't be simulated.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use sinew_core::{Armed, Clock, CommandMode, MockClock, Observation, RobotDescription, StopBehaviour, Tick, Timestamp, Unwatched, Wanted};
use sinew_sim::{RobotModel, RobotModelError, SharedWorld, SimError, SimRobot, Simulator, World, robots};
use sinew_testkit::{Adversary, Bounds, Watch};

const HEAD: &str = r#"
schema = 2
name = "gantry"
title = "Two arms on a rail"
control_rate_hz = 50
lerobot = { class = "gantry" }
stop = { behaviour = "hold" }
[[bus]]
name = "can"
protocol = "can"
"#;

fn part(name: &str, id: u32, rest: &str) -> String {
    format!(
        "[[part]]\nname = \"{name}\"\ncommand = \"position\"\nmotor = {{ bus = \"can\", model = \"m\", id = {id} }}\n\
         limits = {{ position = [-1.0, 1.0], velocity = 2.0, step = 0.5 }}\n{rest}\n"
    )
}

fn link(name: &str, at: f64) -> String {
    format!(
        "[[simulation.link]]\nname = \"{name}\"\nmass_kg = 0.2\ncentre_of_mass_m = [{at}, 0.0, 0.0]\n\
         inertia_kg_m2 = [1e-4, 1e-4, 1e-4, 0.0, 0.0, 0.0]\n"
    )
}

/// A slide that carries two arms, the second of which stands before its parent in the file.
fn gantry() -> RobotModel {
    let at = |y: f64| format!("parent_from_part = {{ translation_m = [0.0, {y}, 0.1], rotation_wxyz = [1.0, 0.0, 0.0, 0.0] }}");
    let parts = [
        part("right_elbow", 4, &format!("parent = \"right\"\n{}", at(-0.2))),
        part("slide", 1, &format!("kind = \"prismatic\"\naxis = [0.0, 1.0, 0.0]\n{}", at(0.0))),
        part("left", 2, &format!("parent = \"slide\"\n{}", at(0.2))),
        part("right", 3, &format!("parent = \"slide\"\naxis = [0.0, 0.6, 0.8]\n{}", at(-0.2))),
        part("beside", 5, &at(0.7)),
    ];
    let simulation = "[simulation]\ncamera = []\n[[simulation.motor]]\nmodel = \"m\"\nstall_torque_nm = 60.0\nno_load_speed_rad_per_s = 5.0\n\
        proportional_gain_nm_per_rad = 900.0\nderivative_gain_nm_s_per_rad = 20.0\ndamping_nm_s_per_rad = 1.0\nfriction_nm = 0.0\n\
        armature_kg_m2 = 0.05\nbacklash_rad = 0.0\nlatency_s = 0.0\n";
    let links: String = ["base", "a", "b", "c", "d", "e"].iter().map(|name| link(name, 0.05)).collect();
    let text = format!("{HEAD}{}{simulation}{links}", parts.concat());
    RobotModel { description: RobotDescription::from_toml("gantry", &text).unwrap(), meshes: BTreeMap::new() }
}

#[test]
fn a_tree_with_a_slide_goes_where_kinematics_says() {
    let mut world = World::new(&gantry()).unwrap();
    let start = [0.3, -0.2, 0.5, -0.4, 0.1];
    let scene = sinew_sim::Scene { pose: start.to_vec(), ..(**world.scene()).clone() };
    world.reset(scene).unwrap();
    let check = |world: &World, expected: &[f64], most: f64| {
        let values = world.values();
        assert!(values.iter().zip(expected).all(|(a, b)| (a - b).abs() < most), "{values:?}, expected {expected:?}");
        for (i, expected) in world.robot().base_from_parts(&values).iter().enumerate() {
            let found = world.world_from_link(i + 1);
            assert!((found.translation.vector - expected.translation.vector).norm() < 1e-4, "link {i}: {found}, expected {expected}");
            assert!(found.rotation.angle_to(&expected.rotation) < 1e-3, "link {i}: {found}, expected {expected}");
        }
    };
    check(&world, &start, 1e-6);
    world.enable_torque();
    let goals = [-0.3, 0.4, -0.5, 0.2, 0.6];
    world.set_goals(&goals).unwrap();
    world.advance_to(3.0).unwrap();
    check(&world, &goals, 0.01);
}

#[test]
fn a_gear_makes_a_motor_slower_and_stronger() {
    let reached_after = |gear: f64| {
        let mut model = gantry();
        model.description.parts[2].motor.as_mut().unwrap().gear = gear;
        let mut world = World::new(&model).unwrap();
        world.enable_torque();
        world.set_goals(&[0.0, 0.0, 0.8, 0.0, 0.0]).unwrap();
        let samples = (1..240).map(|i| (world.advance_to(f64::from(i) / 240.0).unwrap(), world.value(2)).1).collect::<Vec<_>>();
        samples.iter().position(|value| *value > 0.4).unwrap()
    };
    assert!(reached_after(3.0) > reached_after(1.0));
}

#[test]
fn a_robot_that_the_simulator_can_not_move_is_refused_by_what_it_lacks() {
    let refused = |change: &dyn Fn(&mut RobotDescription), words: &[&str]| {
        let mut model = gantry();
        change(&mut model.description);
        let error = World::new(&model).err().unwrap();
        assert!(matches!(error, SimError::Description { .. }));
        for word in words {
            assert!(error.to_string().contains(word), "{error}, expected {word}");
        }
    };
    refused(&|robot| robot.parts[2].command = Some(CommandMode::Velocity), &["left", "velocity", "expected position"]);
    refused(&|robot| robot.parts[0].command = Some(CommandMode::Impedance), &["right_elbow", "impedance"]);
    refused(&|robot| robot.simulation = None, &["gantry", "no [simulation] section"]);
    refused(&|robot| robot.parts[4].motor = None, &["beside", "no motor"]);

    let mut model = robots::get("so101").unwrap();
    model.description.cameras[0].depth = true;
    let error = World::new(&model).err().unwrap().to_string();
    assert!(error.contains("it is a depth camera, expected one of colours"), "{error}");
}

#[test]
fn parts_that_are_only_looked_at_are_limp_and_have_no_goal() {
    let mut model = gantry();
    model.description.parts[2].command = None;
    let mut world = World::new(&model).unwrap();
    world.enable_torque();
    assert!(matches!(world.set_goals(&[0.0; 5]), Err(SimError::Width { expected: 4, found: 5, .. })));
    world.set_goals(&[0.1, 0.1, 0.2, 0.3]).unwrap();
    world.advance_to(2.0).unwrap();
    assert_eq!(world.effort(2), 0.0);
    assert!((world.value(4) - 0.3).abs() < 0.01 && (world.value(3) - 0.2).abs() < 0.01);
    model.description.parts[4].stop = Some(StopBehaviour::Limp);
    world.hold(3);
    world.disable_torque(4);
    assert!(world.effort(4) == 0.0);
}

#[test]
fn a_robot_may_be_put_together_of_its_neighbours_and_of_built_in_ones() {
    let folder = std::env::temp_dir().join(format!("sinew-include-{}", std::process::id()));
    let put = |name: &str, text: &str| {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("robot.toml"), text).unwrap();
        robots::get(folder.join(name).to_str().unwrap())
    };
    let lonely = format!("{HEAD}{}", part("slide", 1, ""));
    let alone = put("gantry", &lonely).unwrap();
    assert!(alone.description.simulation.is_none(), "it loads without a simulation");
    let pair = |left: &str| {
        format!(
            "schema = 2\nname = \"pair\"\ntitle = \"Pair\"\ncontrol_rate_hz = 30\nlerobot = {{ class = \"pair\" }}\n\
             stop = {{ behaviour = \"hold\" }}\n[[include]]\nrobot = \"{left}\"\nprefix = \"left_\"\n\
             [[include]]\nrobot = \"so101\"\nprefix = \"right_\"\n"
        )
    };
    let both = put("pair", &pair("gantry")).unwrap().description;
    let (outside, missing) = (put("pair", &pair("../gantry")), put("pair", &pair("so102")));
    let unread = {
        fs::write(folder.join("gantry/robot.toml"), [0xff, 0xfe]).unwrap();
        put("pair", &pair("gantry"))
    };
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!((both.parts.len(), both.parts[0].name.as_str(), both.parts[6].name.as_str()), (7, "left_slide", "right_gripper"));
    for (error, word) in [(outside, "../gantry"), (missing, "so102")] {
        let error = error.unwrap_err();
        assert!(matches!(error, RobotModelError::Description(_)) && error.to_string().contains(word), "{error}");
    }
    assert!(matches!(unread.unwrap_err(), RobotModelError::Read { .. }));
}

#[test]
fn every_robot_that_can_be_simulated_stands_goals_that_mean_ill() {
    let mut simulated = Vec::new();
    for name in robots::list() {
        let model = robots::get(name).unwrap();
        if model.description.simulation.is_none() {
            continue;
        }
        simulated.push(name);
        let robot = &model.description;
        let mut arm = SimRobot::new(SharedWorld::new(World::new(&model).unwrap()));
        let (clock, mut observation) = (MockClock::new(), Observation::for_robot(robot));
        let period = Duration::from_nanos(1_000_000_000 / u64::from(robot.control_rate_hz));
        let mut tick = Tick { turn: 0, due: Timestamp::from_nanos(1_000_000_000), period, wants_images: false };
        clock.sleep_until(tick.due);
        let mut armed = Armed::new(&mut arm, &Unwatched, &clock, &tick, &mut observation).unwrap();
        let bounds = robot.parts.iter().map(|part| {
            let ([lower, upper], velocity) = (part.position_limits(), part.limits.velocity.unwrap());
            Bounds { lower, upper, velocity, acceleration: part.limits.acceleration(velocity), jerk: part.limits.jerk(velocity) }
        });
        let mut watches: Vec<Watch> = bounds.zip(armed.commanded()).map(|(bounds, at)| Watch::new(bounds, *at)).collect();
        let mut adversary = Adversary::new(5, robot.parts.iter().map(sinew_core::Part::position_limits).collect());
        let mut wanted = Wanted::for_robot(robot);
        for turn in 1..=1000 {
            tick = Tick { turn, due: tick.due + period, ..tick };
            clock.sleep_until(tick.due);
            armed.read(&tick, &mut observation).unwrap();
            adversary.next(&mut wanted.goals);
            wanted.time = clock.now();
            armed.drive(Some(&wanted), &observation, period.as_secs_f64()).unwrap();
            for (i, (watch, goal)) in watches.iter_mut().zip(armed.commanded()).enumerate() {
                watch
                    .see(*goal, period.as_secs_f64())
                    .unwrap_or_else(|what| panic!("{name} {} at turn {turn}: {what}", robot.parts[i].name));
                // Its joints stay where their stops are, for all that is asked of them.
                let ([lower, upper], found) = (robot.parts[i].position_limits(), observation.state.get(i).unwrap());
                assert!((lower - 0.05..=upper + 0.05).contains(&found), "{name} {} at turn {turn}: {found}", robot.parts[i].name);
            }
        }
        let went = watches.iter().map(|watch| watch.reach[1] - watch.reach[0]).fold(f64::MAX, f64::min);
        assert!(went > 0.3, "{name}: {went}");
        armed.disarm().unwrap();
    }
    assert_eq!(simulated, ["so101", "example"]);
}
