//! The SO-101's description against MuJoCo's reading of the model that it was made from.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

use nalgebra::{Isometry3, Matrix3, Point3, Quaternion, Translation3, UnitQuaternion, Vector3};
use sinew_core::{Link, RobotDescription, Simulation};

const DESCRIPTION: &str = include_str!("../../../robots/so101/robot.toml");
/// Made by golden/make_so101_poses.py, which tells the rows.
const GOLDEN: &str = include_str!("golden/so101_poses.txt");

fn so101() -> RobotDescription {
    RobotDescription::from_toml("so101", DESCRIPTION).unwrap()
}

struct State {
    position_rad: Vec<f64>,
    velocity_rad_per_s: Vec<f64>,
    links: Vec<Isometry3<f64>>,
    tool: Isometry3<f64>,
    mass_kg: f64,
    center_of_mass_m: Vector3<f64>,
    kinetic_energy_j: f64,
}

fn pose(v: &[f64]) -> Isometry3<f64> {
    Isometry3::from_parts(Translation3::new(v[0], v[1], v[2]), UnitQuaternion::from_quaternion(Quaternion::new(v[3], v[4], v[5], v[6])))
}

fn golden() -> Vec<State> {
    let mut states: Vec<State> = Vec::new();
    for line in GOLDEN.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let values: Vec<f64> = words.iter().filter_map(|word| word.parse().ok()).collect();
        if words[0] == "state" {
            states.push(State {
                position_rad: values[..6].to_vec(),
                velocity_rad_per_s: values[6..].to_vec(),
                links: Vec::new(),
                tool: Isometry3::identity(),
                mass_kg: 0.0,
                center_of_mass_m: Vector3::zeros(),
                kinetic_energy_j: 0.0,
            });
            continue;
        }
        let state = states.last_mut().unwrap();
        match words[0] {
            "body" => state.links.push(pose(&values)),
            "tool" => state.tool = pose(&values),
            "mass" => (state.mass_kg, state.center_of_mass_m) = (values[0], Vector3::from_column_slice(&values[1..])),
            "energy" => state.kinetic_energy_j = values[0],
            other => panic!("row {other}"),
        }
    }
    assert_eq!(states.len(), 8);
    states
}

fn assert_near(found: &Isometry3<f64>, expected: &Isometry3<f64>, what: &str) {
    let distance = (found.translation.vector - expected.translation.vector).norm();
    let angle = found.rotation.angle_to(&expected.rotation);
    assert!(distance < 1e-7 && angle < 1e-6, "{what}: {distance} m and {angle} rad off");
}

#[test]
fn links_and_tool_are_where_mujoco_has_them() {
    let robot = so101();
    for (i, state) in golden().iter().enumerate() {
        let links = robot.base_from_parts(&state.position_rad);
        assert_eq!(links.len(), state.links.len());
        for (found, (expected, part)) in links.iter().zip(state.links.iter().zip(&robot.parts)) {
            assert_near(found, expected, &format!("state {i}, the link of {}", part.name));
        }
        assert_near(&robot.base_from_tool(0, &state.position_rad), &state.tool, &format!("state {i}, the tool"));
    }
}

/// Poses of all links, the base's too.
fn base_from_bodies(robot: &RobotDescription, position_rad: &[f64]) -> Vec<Isometry3<f64>> {
    let mut poses = vec![Isometry3::identity()];
    poses.extend(robot.base_from_parts(position_rad));
    poses
}

fn simulation(robot: &RobotDescription) -> &Simulation {
    robot.simulation.as_ref().unwrap()
}

#[test]
fn masses_and_inertias_are_mujocos() {
    let robot = so101();
    for (i, state) in golden().iter().enumerate() {
        let now = base_from_bodies(&robot, &state.position_rad);
        let after = |dt: f64| -> Vec<Isometry3<f64>> {
            let position: Vec<f64> = state.position_rad.iter().zip(&state.velocity_rad_per_s).map(|(q, v)| q + v * dt).collect();
            base_from_bodies(&robot, &position)
        };
        const DT_S: f64 = 1e-5;
        let (before, after) = (after(-DT_S), after(DT_S));
        let (mut mass, mut moment, mut energy) = (0.0, Vector3::zeros(), 0.0);
        for (k, Link { mass_kg, centre_of_mass_m, inertia_kg_m2, .. }) in simulation(&robot).links.iter().enumerate() {
            let center = Point3::from(*centre_of_mass_m);
            mass += mass_kg;
            moment += (now[k] * center).coords * *mass_kg;
            let velocity = (after[k] * center - before[k] * center) / (2.0 * DT_S);
            let turn = (after[k].rotation * before[k].rotation.inverse()).scaled_axis() / (2.0 * DT_S);
            let turn = now[k].rotation.inverse() * turn;
            let [xx, yy, zz, xy, xz, yz] = *inertia_kg_m2;
            let inertia = Matrix3::new(xx, xy, xz, xy, yy, yz, xz, yz, zz);
            energy += 0.5 * mass_kg * velocity.norm_squared() + 0.5 * turn.dot(&(inertia * turn));
        }
        assert!((mass - state.mass_kg).abs() < 1e-8, "state {i}: {mass} kg, expected {}", state.mass_kg);
        let off = (moment / mass - state.center_of_mass_m).norm();
        assert!(off < 1e-6, "state {i}: the centre of mass is {off} m off");
        let expected = state.kinetic_energy_j;
        assert!((energy / expected - 1.0).abs() < 1e-4, "state {i}: {energy} J, expected {expected}");
    }
}

#[test]
fn it_is_lerobots_so_follower() {
    let robot = so101();
    assert_eq!(robot.lerobot.class, "so_follower");
    assert_eq!(robot.state_names(), robot.action_names());
    assert_eq!(
        robot.action_names(),
        ["shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos", "wrist_flex.pos", "wrist_roll.pos", "gripper.pos"]
    );
    assert_eq!(robot.parts.iter().map(|part| part.motor.as_ref().unwrap().id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
}

/// A description with one thing wrong is refused, and the error says which.
#[test]
fn faults_of_the_simulation_section_are_named() {
    let fault = |from: &str, to: &str| {
        assert!(DESCRIPTION.contains(from), "{from}");
        let text = DESCRIPTION.replacen(from, to, 1);
        RobotDescription::from_toml("so101", &text).expect_err(from).to_string()
    };
    for (from, to, expected) in [
        ("name = \"upper_arm\"", "name = \"shoulder\"", "two links are called shoulder"),
        ("[[simulation.link]]\nname = \"base\"", "[[simulation.link]]\nname = \"foot\"", "the first link is foot"),
        ("mass_kg = 0.147", "mass_kg = 0.0", "link base: mass_kg is 0"),
        ("inertia_kg_m2 = [0.000114686", "inertia_kg_m2 = [0.1", "link base: inertia_kg_m2"),
        ("[[simulation.motor]]\nmodel = \"sts3215\"", "[[simulation.motor]]\nmodel = \"sts3250\"", "which is not among the motors"),
        ("stall_torque_nm = 2.94", "stall_torque_nm = nan", "motor sts3215: stall_torque_nm is NaN"),
        ("latency_s = 0.005", "latency_s = -1.0", "motor sts3215: latency_s is -1"),
        ("link = \"gripper\"", "link = \"hand\"", "camera wrist is fixed to hand"),
        ("[[simulation.camera]]\nname = \"front\"", "[[simulation.camera]]\nname = \"side\"", "its cameras are"),
        ("friction = 0.6", "friction = -0.6", "link base: collider 0"),
        ("color = [1.0,", "color = [2.0,", "color is [2.0"),
    ] {
        let message = fault(from, to);
        assert!(message.contains(expected), "{message}");
    }
}
