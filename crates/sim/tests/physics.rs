//! The world's physics: the arm, its servos, things on the table, and time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::time::Duration;

use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3};
use sinew_core::{Armed, Cameras, Clock, MockClock, Observation, Robot, StopBehaviour, Tick, Timestamp, Unwatched, Wanted};
use sinew_sim::{Prop, PropPhysics, PropShape, SUBSTEPS_PER_SECOND, Scene, SharedWorld, SimCameras, SimError, SimRobot, Simulator, World};

fn cube_at(world_from_prop: Isometry3<f64>) -> Prop {
    Prop {
        name: "the cube".into(),
        shape: PropShape::Box { half_extents_m: Vector3::repeat(0.015) },
        physics: PropPhysics::Moving { mass_kg: 0.02 },
        friction: 1.0,
        world_from_prop,
        color: [1.0, 0.0, 0.0],
    }
}

fn world_with(props: Vec<Prop>) -> World {
    let mut world = World::new(&common::model()).unwrap();
    let scene = Scene { pose: rest(&world), props, ..(**world.scene()).clone() };
    world.reset(scene).unwrap();
    world
}

/// Where the arm rests.
fn rest(world: &World) -> Vec<f64> {
    world.robot().parts.iter().map(|part| part.rest.unwrap()).collect()
}

fn step(world: &mut World, seconds: f64) {
    for _ in 0..(seconds * f64::from(SUBSTEPS_PER_SECOND)).round() as u64 {
        world.step().unwrap();
    }
}

/// The index of a part by name.
fn part(world: &World, name: &str) -> usize {
    world.robot().part_index(name).unwrap()
}

/// Goals that sweep all parts about the rest pose, a function of the substep alone.
fn sweep(world: &World) -> Vec<f64> {
    let t = world.time_s();
    rest(world).iter().enumerate().map(|(i, rest)| rest + 0.4 * (t * (1.5 + 0.4 * i as f64)).sin()).collect()
}

#[test]
fn the_links_are_where_kinematics_says() {
    let mut world = world_with(Vec::new());
    world.enable_torque();
    for _ in 0..SUBSTEPS_PER_SECOND {
        world.set_goals(&sweep(&world)).unwrap();
        world.step().unwrap();
    }
    let expected = world.robot().base_from_parts(&world.values());
    for (i, expected) in expected.iter().enumerate() {
        let found = world.world_from_link(i + 1);
        assert!((found.translation.vector - expected.translation.vector).norm() < 1e-4);
        assert!(found.rotation.angle_to(&expected.rotation) < 1e-3);
    }
}

#[test]
fn a_dropped_cube_comes_to_rest_on_the_table() {
    let tilted = UnitQuaternion::from_euler_angles(0.4, 0.3, 0.7);
    let mut world = world_with(vec![cube_at(Isometry3::from_parts(Translation3::new(0.3, 0.1, 0.15), tilted))]);
    step(&mut world, 1.5);
    let at = world.world_from_prop(0).translation.vector;
    assert!((at.z - 0.015).abs() < 5e-4, "its middle is {} m high, expected half its width", at.z);
    assert!(world.prop_velocity_m_per_s(0).norm() < 1e-3);
}

#[test]
fn a_cube_on_the_table_stays_where_it_was_put() {
    let start = Vector3::new(0.3, -0.1, 0.015);
    let mut world = world_with(vec![cube_at(Isometry3::translation(start.x, start.y, start.z))]);
    step(&mut world, 5.0);
    assert!((world.world_from_prop(0).translation.vector - start).norm() < 5e-4);
}

#[test]
fn a_held_arm_sags_by_little_and_a_limp_one_falls() {
    let mut world = world_with(Vec::new());
    let elbow = part(&world, "elbow_flex");
    // Stretched forward, the elbow carries the most.
    let mut pose = vec![0.0; world.robot().parts.len()];
    pose[elbow] = -0.3;
    world.reset(Scene { pose: pose.clone(), ..(**world.scene()).clone() }).unwrap();
    let limp = world.snapshot();
    world.enable_torque();
    step(&mut world, 2.0);
    let sag: Vec<f64> = world.values().iter().zip(&pose).map(|(a, b)| (a - b).abs()).collect();
    let worst = sag.iter().copied().fold(0.0, f64::max);
    // Play of the gears and the torque it takes over the proportional gain.
    assert!(worst > 1e-3 && worst < 0.02, "sag {sag:?}");
    let height = world.world_from_tool().translation.z;
    world.restore(&limp).unwrap();
    step(&mut world, 2.0);
    assert!(world.world_from_tool().translation.z < height - 0.1);
}

#[test]
fn a_motor_keeps_to_its_speed_and_torque() {
    let mut world = world_with(Vec::new());
    let motor = world.robot().simulation.as_ref().unwrap().motors[0].clone();
    let pan = part(&world, "shoulder_pan");
    world.enable_torque();
    let mut goals = world.values();
    goals[pan] = 1.8;
    world.set_goals(&goals).unwrap();
    let mut fastest = 0.0f64;
    for _ in 0..SUBSTEPS_PER_SECOND {
        world.step().unwrap();
        fastest = fastest.max(world.velocity(pan).abs());
        assert!((0..goals.len()).all(|i| world.effort(i).abs() <= 1.0));
    }
    // Torque and viscous friction balance at stall torque over damping.
    let balance = motor.stall_torque_nm / motor.damping_nm_s_per_rad;
    assert!(fastest > 2.0 && fastest < balance, "{fastest} rad/s, expected below {balance}");
    assert!((world.value(pan) - 1.8).abs() < motor.backlash_rad, "it arrives");
}

#[test]
fn a_goal_takes_effect_only_after_the_motors_latency() {
    let mut world = world_with(Vec::new());
    let latency_s = world.robot().simulation.as_ref().unwrap().motors[0].latency_s;
    let substeps = (latency_s * f64::from(SUBSTEPS_PER_SECOND)).round() as u64;
    assert!(substeps > 0);
    world.enable_torque();
    step(&mut world, 0.5);
    let still = world.snapshot();
    let with_goal = |world: &mut World, goal: bool| {
        world.restore(&still).unwrap();
        if goal {
            let mut goals = world.values();
            goals[0] += 0.5;
            world.set_goals(&goals).unwrap();
        }
        (0..=substeps).map(|_| (world.step().unwrap(), world.value(0)).1).collect::<Vec<_>>()
    };
    let (moved, stayed) = (with_goal(&mut world, true), with_goal(&mut world, false));
    let late = substeps as usize;
    assert_eq!(moved[..late], stayed[..late]);
    assert!((moved[late] - stayed[late]).abs() > 1e-6);
}

#[test]
fn nothing_moves_before_torque_and_goals_start_at_the_present() {
    let mut world = world_with(Vec::new());
    let before = world.values();
    world.enable_torque();
    step(&mut world, 0.2);
    for (a, b) in world.values().iter().zip(&before) {
        assert!((a - b).abs() < 0.01);
    }
}

#[test]
fn restoring_a_snapshot_repeats_what_followed_bit_by_bit() {
    let mut world = world_with(vec![cube_at(Isometry3::translation(0.3, 0.0, 0.05))]);
    world.enable_torque();
    let go_on = |world: &mut World| {
        (0..SUBSTEPS_PER_SECOND)
            .map(|_| {
                world.set_goals(&sweep(world)).unwrap();
                world.step().unwrap();
                world.state_hash()
            })
            .collect::<Vec<_>>()
    };
    go_on(&mut world);
    let (snapshot, hash) = (world.snapshot(), world.state_hash());
    let first = go_on(&mut world);
    go_on(&mut world);
    world.restore(&snapshot).unwrap();
    assert_eq!(world.state_hash(), hash);
    assert_eq!(go_on(&mut world), first);
}

#[test]
fn goals_of_the_wrong_width_or_not_finite_are_refused() {
    let mut world = world_with(Vec::new());
    let before = world.state_hash();
    assert!(matches!(world.set_goals(&[0.0; 5]), Err(SimError::Width { expected: 6, found: 5, .. })));
    let error = world.set_goals(&[0.0, 0.0, f64::NAN, 0.0, 0.0, 0.0]).unwrap_err();
    assert!(matches!(&error, SimError::NonFiniteGoal { part, .. } if part == "elbow_flex"), "{error}");
    assert_eq!(world.state_hash(), before);
}

#[test]
fn a_body_that_leaves_the_finite_numbers_is_an_error_that_names_it() {
    let mut world = world_with(vec![cube_at(Isometry3::translation(0.3, f64::NAN, 0.1))]);
    let error = world.step().unwrap_err();
    assert!(matches!(&error, SimError::NotFinite { body, .. } if body == "the cube"), "{error}");
}

#[test]
fn world_time_follows_due_times_and_not_the_number_of_looks() {
    let shared = common::world();
    let mut arm = SimRobot::new(shared.clone());
    let mut observation = Observation::for_robot(arm.description());
    let period = Duration::from_nanos(33_333_333);
    let mut tick = Tick { turn: 0, due: Timestamp::from_nanos(77), period, wants_images: false };
    let read = |arm: &mut SimRobot, tick: &Tick, observation: &mut Observation| {
        arm.begin_read(tick).and_then(|()| arm.finish_read(tick, tick.due, observation)).unwrap();
    };
    read(&mut arm, &tick, &mut observation);
    assert_eq!(shared.newest().time_s, 0.0);
    // The 30th tick after nine that were missed and one that was looked at twice.
    tick = Tick { turn: 30, due: Timestamp::from_nanos(77 + 30 * 33_333_333), ..tick };
    read(&mut arm, &tick, &mut observation);
    read(&mut arm, &tick, &mut observation);
    assert_eq!(shared.newest().time_s, 1.0);
    assert_eq!((observation.tick, observation.state.readings()[5].time), (30, Some(tick.due)));
    // A new episode counts from its own first tick.
    tick = Tick { turn: 0, due: tick.due + Duration::from_secs(100), ..tick };
    read(&mut arm, &tick, &mut observation);
    assert_eq!(shared.newest().time_s, 1.0);
}

#[test]
fn an_arm_that_is_stopped_on_its_way_holds_or_goes_limp_as_declared() {
    for behaviour in [StopBehaviour::Hold, StopBehaviour::Limp] {
        let mut model = common::model();
        model.description.stop.behaviour = behaviour;
        // Stretched out, so that a limp arm falls far.
        let shared = SharedWorld::new(World::new(&model).unwrap());
        let scene = Scene { pose: vec![0.0; 6], ..(*shared.newest().scene).clone() };
        shared.lock().reset(scene).unwrap();
        let mut arm = SimRobot::new(shared.clone());
        let clock = MockClock::new();
        let mut observation = Observation::for_robot(&model.description);
        let tick = Tick { turn: 0, due: clock.now(), period: Duration::from_millis(100), wants_images: false };
        let mut armed = Armed::new(&mut arm, &Unwatched, &clock, &tick, &mut observation).unwrap();
        let mut wanted = Wanted::for_robot(&model.description);
        wanted.goals[0] = 1.0;
        armed.drive(Some(&wanted), &observation, 0.1).unwrap();
        shared.lock().advance_to(0.1).unwrap();
        let goal_rad = armed.commanded()[0];
        drop(armed);
        let mut world = shared.lock();
        let (stopped_rad, height_m) = (world.value(0), world.world_from_tool().translation.z);
        assert!(stopped_rad > 0.02 && stopped_rad < goal_rad - 0.02, "stopped on its way, at {stopped_rad}");
        world.advance_to(1.1).unwrap();
        let fallen_m = height_m - world.world_from_tool().translation.z;
        match behaviour {
            StopBehaviour::Hold => {
                assert!((world.value(0) - stopped_rad).abs() < 0.05, "{} from {stopped_rad}", world.value(0));
                assert!(fallen_m < 0.01, "fell {fallen_m} m");
            }
            StopBehaviour::Limp => assert!(fallen_m > 0.1, "fell {fallen_m} m"),
        }
    }
}

#[test]
fn pictures_have_the_size_that_the_description_gives() {
    let mut model = common::model();
    (model.description.cameras[0].width, model.description.cameras[0].height) = (48, 64);
    let mut cameras = SimCameras::in_step(SharedWorld::new(World::new(&model).unwrap()));
    let mut observation = Observation::for_robot(&model.description);
    let tick = Tick { turn: 0, due: Timestamp::from_nanos(9), period: Duration::from_millis(33), wants_images: true };
    cameras.newest(&tick, &mut observation.images).unwrap();
    let image = &observation.images[0];
    assert_eq!((image.width, image.height, image.rgb.len()), (48, 64, 48 * 64 * 3));
    assert_eq!((image.captured_at, image.sequence), (tick.due, 1));
    let mut one_too_many = observation.images.clone();
    one_too_many.push(image.clone());
    let error = cameras.newest(&tick, &mut one_too_many).unwrap_err();
    assert!(error.to_string().contains("found 3 images") && error.to_string().contains("expected 2"), "{error}");
}
