//! The robots of robots/ are LeRobot's: names, order, units, addresses and settings, as LeRobot 0.6.1 itself gives them
//! (`golden/lerobot_robots.json`, made by `scripts/make_robots_golden.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

mod common;

use std::collections::BTreeMap;

use common::{robot, robots};
use serde_json::Value;
use sinew_core::{DatasetUnit, Motor, Part, PartKind, RobotDescription, Role};

/// Which LeRobot 0.6.1 does not know.
const OURS: [&str; 2] = ["example", "reachy_mini"];

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/lerobot_robots.json")).unwrap()
}

/// Each robot that LeRobot knows, with what LeRobot says of it.
fn pairs() -> Vec<(RobotDescription, Value)> {
    let Value::Array(entries) = golden()["robots"].take() else { panic!("a list of robots") };
    entries.into_iter().map(|entry| (robot(entry["robot"].as_str().unwrap()), entry)).collect()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn unit_name(unit: DatasetUnit) -> &'static str {
    match unit {
        DatasetUnit::Si => "si",
        DatasetUnit::Degrees => "degrees",
        DatasetUnit::Range0To100 => "range_0_100",
        DatasetUnit::RangeM100To100 => "range_m100_100",
    }
}

fn motor(part: &Part) -> &Motor {
    part.motor.as_ref().unwrap()
}

/// Whether it is one whose motor's share of its range becomes degrees: the gripper of OpenArm Mini.
fn is_stretched(part: &Part) -> bool {
    part.unit == DatasetUnit::Degrees && part.range.is_some()
}

#[test]
fn every_robot_is_compared_and_every_type_belongs_to_one() {
    let pairs = pairs();
    let mut types: BTreeMap<String, String> = BTreeMap::new();
    for robot in robots() {
        let is_known = pairs.iter().any(|(known, _)| known.name == robot.name);
        assert_eq!(is_known, !OURS.contains(&robot.name.as_str()), "{}", robot.name);
        for name in robot.lerobot.types {
            let other = types.insert(name.clone(), robot.name.clone());
            assert_eq!(other, None, "{name} is also {}", robot.name);
        }
    }
    // Those of one type that differ by a side are told apart by their own names.
    for (robot, entry) in &pairs {
        let kind = entry["type"].as_str().unwrap();
        assert_eq!(robot.lerobot.class, entry["class"].as_str().unwrap(), "{}", robot.name);
        assert!(types.contains_key(kind), "{kind}");
        assert!(robot.lerobot.types.is_empty() || types[kind] == robot.name, "{kind} is {}", types[kind]);
    }
}

#[test]
fn features_have_lerobots_names_in_its_order() {
    for (robot, entry) in pairs() {
        let action = strings(&entry["action"]);
        if robot.role == Role::Teleoperator {
            assert_eq!((robot.state_names(), robot.action_names()), (action, Vec::new()), "{}", robot.name);
            continue;
        }
        assert_eq!((robot.action_names(), robot.state_names()), (action, strings(&entry["state"])), "{}", robot.name);
        // Which cameras there are is up to the owner; where LeRobot says some, they are these.
        for (name, shape) in entry["cameras"].as_object().unwrap() {
            let camera = robot.cameras.iter().find(|camera| camera.name == *name).unwrap();
            assert_eq!([camera.height, camera.width].map(u64::from).map(Value::from), shape.as_array().unwrap()[..]);
        }
    }
}

#[test]
fn motors_have_lerobots_models_addresses_and_units() {
    for (robot, entry) in pairs() {
        let motors = entry["motors"].as_object().unwrap();
        assert_eq!(robot.parts.len(), motors.len(), "{}", robot.name);
        for part in &robot.parts {
            let (known, at) = (&motors[&part.name], format!("{} {}", robot.name, part.name));
            let ids: Vec<u64> = [Some(motor(part).id), motor(part).answer_id].into_iter().flatten().map(u64::from).collect();
            assert_eq!(Value::from(ids), known["ids"], "{at}");
            assert_eq!(motor(part).model, known["model"].as_str().unwrap(), "{at}");
            if part.kind != PartKind::Wheel && !is_stretched(part) {
                assert_eq!(unit_name(part.unit), known["unit"].as_str().unwrap(), "{at}");
                // With LeRobot's use_degrees the other way round, the joints of the body would be of the other unit.
                let other = match part.unit {
                    DatasetUnit::Degrees => "range_m100_100",
                    DatasetUnit::RangeM100To100 => "degrees",
                    unit => unit_name(unit),
                };
                let others = entry.get("other_units");
                assert!(others.is_none_or(|units| units[&part.name].as_str() == Some(other)), "{at}");
            }
        }
        if let Some(rates) = entry.get("bit_rates") {
            let found = robot.buses.iter().map(|bus| [bus.baud_rate, bus.data_baud_rate]);
            assert!(found.map(|rates| Value::from(rates.map(Option::unwrap).to_vec())).all(|found| found == *rates), "{}", robot.name);
        }
    }
}

/// What every motor of a family is set to before it is driven; [`Motor::registers`] has the rest.
fn of_family(part: &Part, is_read: bool) -> Vec<(&'static str, i64)> {
    let is_gripper = part.name.ends_with("gripper");
    if motor(part).model.starts_with('x') {
        return vec![("return_delay_time", 0), ("operating_mode", if is_gripper { 5 } else { 4 })];
    }
    let is_wheel = part.kind == PartKind::Wheel;
    let mode = i64::from(is_wheel);
    let mut all = vec![("return_delay_time", 0), ("maximum_acceleration", 254), ("acceleration", 254), ("operating_mode", mode)];
    if !is_read && !is_wheel {
        all.extend([("p_coefficient", 16), ("i_coefficient", 0), ("d_coefficient", 32)]);
        if is_gripper {
            all.extend([("max_torque_limit", 500), ("protection_current", 250), ("overload_torque", 25)]);
        }
    }
    all
}

#[test]
fn registers_that_differ_from_those_of_the_family_are_lerobots() {
    let mut compared = 0;
    for (robot, entry) in pairs() {
        let Some(writes) = entry.get("writes").and_then(Value::as_object) else { continue };
        for part in &robot.parts {
            let mut written: BTreeMap<&str, f64> = writes[&part.name]
                .as_object()
                .unwrap()
                .iter()
                .map(|(register, value)| (register.as_str(), value.as_f64().unwrap()))
                .collect();
            let trigger = written.remove("goal_position");
            // Of Dynamixel's motors the direction is one that LeRobot writes when it calibrates.
            if entry.get("reversed").is_some_and(|names| strings(names).contains(&part.name)) {
                written.insert("drive_mode", 1.0);
            }
            let family: BTreeMap<&str, i64> = of_family(part, robot.role == Role::Teleoperator).into_iter().collect();
            let differing: BTreeMap<&str, f64> =
                written.into_iter().filter(|(register, value)| family.get(register).is_none_or(|known| *known as f64 != *value)).collect();
            let ours: BTreeMap<&str, f64> =
                motor(part).registers.iter().map(|(register, value)| (register.as_str(), f64::from(*value))).collect();
            assert_eq!(ours, differing, "{} {}", robot.name, part.name);
            compared += ours.len();
            let in_dataset = part.trigger.map(|at| (at - part.unit_range()[0]) / (part.unit_range()[1] - part.unit_range()[0]) * 100.0);
            assert_eq!(in_dataset.map(|at| (at * 1e6).round() / 1e6), trigger, "{} {}", robot.name, part.name);
        }
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn openarm_has_lerobots_limits_and_gains() {
    for (robot, entry) in pairs() {
        let Some(limits) = entry.get("limits_deg") else { continue };
        for part in &robot.parts {
            let found = part.limits.position.unwrap().map(|at| (at.to_degrees() * 1e4).round() / 1e4);
            assert_eq!(Value::from(found.to_vec()), limits[&part.name], "{} {}", robot.name, part.name);
            let gains = [part.limits.stiffness.unwrap(), part.limits.damping.unwrap()];
            assert_eq!(Value::from(gains.to_vec()), entry["gains"][&part.name], "{} {}", robot.name, part.name);
        }
    }
}

#[test]
fn a_leaders_motor_moves_the_joint_that_it_moves_in_lerobot() {
    for (robot, entry) in pairs() {
        let Some(moved) = entry.get("moved") else { continue };
        for part in &robot.parts {
            let (feature, by) = (moved[&part.name][0].as_str().unwrap(), moved[&part.name][1].as_f64().unwrap());
            assert_eq!(part.feature_name(), feature, "{} {}", robot.name, part.name);
            let ours = if is_stretched(part) {
                // One of 100 parts of its motor's range, from the end where that begins.
                let [lower, upper] = part.unit_range();
                assert!(motor(part).direction * by > 0.0 && upper == 0.0);
                motor(part).direction * (upper - lower).to_degrees() / 100.0
            } else {
                motor(part).direction
            };
            assert!((ours - by).abs() < 1e-12, "{} {}: {ours}, expected {by}", robot.name, part.name);
        }
    }
}

#[test]
fn a_leader_says_what_its_follower_is_told() {
    let pairs = [
        ("so101_leader", "so101"),
        ("so101_leader", "so100"),
        ("bi_so_leader", "bi_so"),
        ("koch_leader", "koch"),
        ("omx_leader", "omx"),
        ("openarm_mini", "openarm"),
        ("openarm_mini_left", "openarm_left"),
        ("bi_openarm_mini", "bi_openarm"),
    ];
    let mut leaders: Vec<String> = pairs.map(|(leader, _)| leader.to_owned()).to_vec();
    leaders.dedup();
    let known: Vec<String> = robots().into_iter().filter(|robot| robot.role == Role::Teleoperator).map(|robot| robot.name).collect();
    leaders.sort();
    assert_eq!(leaders, known);
    for (leader, follower) in pairs {
        let (leader, follower) = (robot(leader), robot(follower));
        let says = leader.state_channels().into_iter().map(|channel| (channel.name, channel.scale_offset));
        let told = follower.action_channels().into_iter().map(|channel| (channel.name, channel.scale_offset));
        assert_eq!(says.collect::<Vec<_>>(), told.collect::<Vec<_>>(), "{} and {}", leader.name, follower.name);
    }
}

#[test]
fn wheels_of_lekiwi_are_told_what_lerobot_tells_them() {
    let (base, golden) = (robot("lekiwi").base.unwrap(), golden());
    assert_eq!(
        base.wheels.iter().map(|wheel| wheel.part.as_str()).collect::<Vec<_>>(),
        ["base_left_wheel", "base_back_wheel", "base_right_wheel"]
    );
    let cases = golden["wheels"].as_array().unwrap();
    assert!(cases.len() >= 7);
    for case in cases {
        let [x, y, theta_deg] = [0, 1, 2].map(|i| case[0][i].as_f64().unwrap());
        let mut speeds = [0.0; 3];
        base.wheel_velocities([x, y, theta_deg.to_radians()], &mut speeds);
        let ticks = speeds.map(|speed: f64| (speed * 4096.0 / std::f64::consts::TAU).round());
        assert_eq!(Value::from(ticks.map(|ticks| ticks as i64).to_vec()), case[1], "{case}");
    }
}
