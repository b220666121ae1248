//! Robots that LeRobot knows, and some that it doesn't, as files.

use super::*;
use crate::Units;

const SO101: &str = include_str!("../../../../robots/so101/robot.toml");

/// The text of a robot in robots/ or in tests/robots.
fn text(name: &str) -> Option<String> {
    let text = match name {
        "so101" => SO101,
        "bi_so" => include_str!("../../../../robots/bi_so/robot.toml"),
        "earthrover" => include_str!("../../tests/robots/earthrover.toml"),
        "hope_jr_hand" => include_str!("../../../../robots/hope_jr_hand/robot.toml"),
        "koch" => include_str!("../../../../robots/koch/robot.toml"),
        "lekiwi" => include_str!("../../../../robots/lekiwi/robot.toml"),
        "lift" => include_str!("../../tests/robots/lift.toml"),
        "mecanum" => include_str!("../../tests/robots/mecanum.toml"),
        "openarm" => include_str!("../../../../robots/openarm/robot.toml"),
        "reachy_mini" => include_str!("../../../../robots/reachy_mini/robot.toml"),
        _ => return None,
    };
    Some(text.to_owned())
}

fn robot(name: &str) -> RobotDescription {
    RobotDescription::from_toml_with(name, &text(name).unwrap(), &text).unwrap_or_else(|error| panic!("{error:?}"))
}

/// What `si` is in the units of a dataset, channel by channel.
fn in_dataset(channels: &[Channel], si: &[f64]) -> Vec<f32> {
    let mut out = vec![0.0; si.len()];
    Units::of(channels).to_dataset(si, &mut out);
    let mut back = vec![0.0; si.len()];
    Units::of(channels).to_si(&out, &mut back);
    assert!(back.iter().zip(si).all(|(back, si)| (back - si).abs() < 1e-6), "{back:?}, expected {si:?}");
    out
}

const SO_JOINTS: [&str; 6] = ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"];

fn so_names(prefix: &str) -> Vec<String> {
    SO_JOINTS.iter().map(|joint| format!("{prefix}{joint}.pos")).collect()
}

#[test]
fn what_is_written_is_read_as_the_same() {
    for name in ["so101", "bi_so", "lekiwi", "koch", "reachy_mini", "openarm", "hope_jr_hand", "earthrover", "lift", "mecanum"] {
        let robot = robot(name);
        assert_eq!(robot.name, name);
        let written = robot.to_toml().unwrap();
        // With no other file at hand: what was included is in it.
        let again = RobotDescription::from_toml(name, &written).unwrap_or_else(|error| panic!("{error:?} in\n{written}"));
        assert_eq!(again, robot, "{written}");
        assert_eq!(again.to_toml().unwrap(), written);
    }
}

#[test]
fn two_arms_are_lerobots_bi_so_follower() {
    let (two, one) = (robot("bi_so"), robot("so101"));
    assert_eq!(two.lerobot.class, "bi_so_follower");
    assert_eq!(two.action_names(), [so_names("left_"), so_names("right_")].concat());
    assert_eq!(two.state_names(), two.action_names());
    assert_eq!(two.buses.iter().map(|bus| bus.name.as_str()).collect::<Vec<_>>(), ["left", "right"]);
    assert_eq!(two.cameras, [], "those of its arms are in front of one arm");
    assert_eq!(
        two.tools.iter().map(|tool| (tool.name.as_str(), tool.part.as_str())).collect::<Vec<_>>(),
        [("left_gripper", "left_wrist_roll"), ("right_gripper", "right_wrist_roll")]
    );
    for (i, part) in two.parts.iter().enumerate() {
        let (side, single) = (if i < 6 { "left" } else { "right" }, &one.parts[i % 6]);
        assert_eq!(part.parent, single.parent.as_ref().map(|parent| format!("{side}_{parent}")));
        assert_eq!((part.motor.as_ref().unwrap().bus.as_str(), part.motor.as_ref().unwrap().id), (side, single.motor.as_ref().unwrap().id));
        assert_eq!((&part.limits, part.range, part.rest), (&single.limits, single.range, single.rest));
    }
}

#[test]
fn cameras_of_an_included_robot_come_with_its_prefix_or_not_at_all() {
    let file = text("bi_so").unwrap().replacen("cameras = false\n", "", 1) + "[[camera]]\nname = \"top\"\nwidth = 640\nheight = 480\n";
    let two = RobotDescription::from_toml_with("two", &file, &text).unwrap();
    let names: Vec<&str> = two.cameras.iter().map(|camera| camera.name.as_str()).collect();
    assert_eq!(names, ["top", "left_front", "left_wrist"]);
}

#[test]
fn each_arm_of_two_moves_as_one_alone_from_where_it_stands() {
    let straight = "[0.0, -0.2, 0.0], rotation_wxyz = [1.0, 0.0, 0.0, 0.0]";
    let turned = "[0.0, -0.3, 0.0], rotation_wxyz = [0.707106781, 0.0, 0.0, 0.707106781]";
    let file = text("bi_so").unwrap();
    assert!(file.contains(straight));
    let (two, one) = (RobotDescription::from_toml_with("two", &file.replace(straight, turned), &text).unwrap(), robot("so101"));
    let (left, right) = ([0.3, -0.9, 0.7, 0.2, -1.1, 0.5], [-0.6, 0.4, -0.3, 1.2, 0.8, 1.0]);
    let both = [left, right].concat();
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let stands = [
        Pose { translation_m: [0.0, 0.2, 0.0], rotation_wxyz: [1.0, 0.0, 0.0, 0.0] },
        Pose { translation_m: [0.0, -0.3, 0.0], rotation_wxyz: [half, 0.0, 0.0, half] },
    ];
    let links = two.base_from_parts(&both);
    for (side, (stand, values)) in stands.iter().zip([left, right]).enumerate() {
        let expected = one.base_from_parts(&values);
        for (found, expected) in links[6 * side..6 * (side + 1)].iter().zip(expected) {
            let expected = stand.to_isometry() * expected;
            assert!((found.translation.vector - expected.translation.vector).norm() < 1e-9, "{found}, expected {expected}");
            assert!(found.rotation.angle_to(&expected.rotation) < 1e-7);
        }
        let tool = two.base_from_tool(side, &both);
        let expected = stand.to_isometry() * one.base_from_tool(0, &values);
        assert!((tool.translation.vector - expected.translation.vector).norm() < 1e-9);
    }
    assert_eq!(two.chain_to(two.part_index("right_wrist_roll").unwrap()), [6, 7, 8, 9, 10]);
    assert_eq!(two.chain_to(0), [0]);
}

#[test]
fn parents_may_stand_behind_their_children() {
    let lift = robot("lift");
    assert_eq!(lift.chain_to(0), [1, 0], "the column carries the beam");
    let hook = lift.base_from_tool(0, &[std::f64::consts::FRAC_PI_2, 0.3, 0.0, 0.0]).translation.vector;
    assert!((hook - nalgebra::Vector3::new(0.0, 0.4, 0.4)).norm() < 1e-12, "{hook}");
    let lamp = lift.base_from_tool(1, &[0.0, 0.3]).translation.vector;
    assert!((lamp - nalgebra::Vector3::new(-0.2, 0.0, 0.4)).norm() < 1e-12, "{lamp}");
    assert_eq!(lift.action_names(), ["beam.pos", "column.pos", "roller.vel", "clamp.torque"]);
    assert_eq!(lift.rest(), [Some(0.0), Some(0.2), None, None]);
}

#[test]
fn lekiwi_is_lerobots() {
    let lekiwi = robot("lekiwi");
    let expected = [so_names("arm_"), ["x.vel", "y.vel", "theta.vel"].map(str::to_owned).to_vec()].concat();
    assert_eq!((lekiwi.state_names(), lekiwi.action_names()), (expected.clone(), expected));
    assert_eq!(lekiwi.buses.len(), 1);
    assert_eq!(lekiwi.parts.iter().map(|part| part.motor.as_ref().unwrap().id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let channels = lekiwi.action_channels();
    assert_eq!(channels[6..].iter().map(|channel| channel.mode).collect::<Vec<_>>(), [Some(CommandMode::Velocity); 3]);
    let values = in_dataset(&channels[6..], &[0.1, -0.2, std::f64::consts::PI / 6.0]);
    assert_eq!(values, [0.1, -0.2, 30.0], "m/s, m/s and degrees a second");
    assert_eq!(lekiwi.rest()[6..], [None; 3]);
}

/// Steps a second of STS3215.
fn steps(base: &Base, motion: [f64; 3]) -> Vec<f64> {
    let mut speeds = vec![0.0; base.wheels.len()];
    base.wheel_velocities(motion, &mut speeds);
    speeds.into_iter().map(|speed| (speed * 4096.0 / std::f64::consts::TAU).round()).collect()
}

fn assert_near(found: [f64; 3], expected: [f64; 3], within: f64) {
    assert!((0..3).all(|i| (found[i] - expected[i]).abs() <= within), "{found:?}, expected {expected:?}");
}

#[test]
fn wheels_of_lekiwi_turn_as_lerobot_turns_them() {
    let base = robot("lekiwi").base.unwrap();
    let turn = 30.0_f64.to_radians();
    for (motion, expected) in
        [([0.1, 0.0, 0.0], [-1129.0, 0.0, 1129.0]), ([0.0, 0.1, 0.0], [652.0, -1304.0, 652.0]), ([0.0, 0.0, turn], [853.0, 853.0, 853.0])]
    {
        assert_eq!(steps(&base, motion), expected);
        let speeds = expected.map(|steps| steps * std::f64::consts::TAU / 4096.0);
        // As exactly as whole steps tell.
        assert_near(base.motion(&speeds), motion, 3e-4);
    }
    // What is too fast is slowed down as a whole, and keeps its direction.
    let fast = [0.3, 0.1, -1.0];
    let mut speeds = [0.0; 3];
    base.wheel_velocities(fast, &mut speeds);
    assert_eq!(steps(&base, fast).iter().map(|steps| steps.abs()).fold(0.0, f64::max), 3000.0);
    let slowed = base.motion(&speeds);
    let share = slowed[0] / fast[0];
    assert!((0.1..1.0).contains(&share));
    assert_near(slowed, fast.map(|v| v * share), 1e-9);
    for (motion, cap) in [([1.0, 0.0, 0.0], 0.266), ([0.0, 1.0, 0.0], 0.230), ([0.0, 0.0, 10.0], 105.5_f64.to_radians())] {
        base.wheel_velocities(motion, &mut speeds);
        assert!((base.motion(&speeds).iter().map(|v| v.abs()).fold(0.0, f64::max) - cap).abs() < 1e-3, "{motion:?}");
    }
}

#[test]
fn other_bases_go_and_measure_the_same_way() {
    let mecanum = robot("mecanum").base.unwrap();
    let mut speeds = [0.0; 4];
    mecanum.wheel_velocities([0.0, 0.38, 0.0], &mut speeds);
    assert!(speeds.iter().zip([-5.0, 5.0, 5.0, -5.0]).all(|(found, expected): (&f64, f64)| (found - expected).abs() < 1e-9), "{speeds:?}");
    for motion in [[0.3, 0.0, 0.0], [0.0, -0.2, 0.0], [0.0, 0.0, 1.0], [0.2, 0.1, -0.7]] {
        mecanum.wheel_velocities(motion, &mut speeds);
        assert_near(mecanum.motion(&speeds), motion, 1e-9);
    }
    let rover = robot("earthrover").base.unwrap();
    for motion in [[0.3, 0.0, 0.0], [0.0, 0.0, 1.0], [0.2, 0.0, -0.7]] {
        rover.wheel_velocities(motion, &mut speeds);
        assert_near(rover.motion(&speeds), motion, 1e-9);
    }
    rover.wheel_velocities([0.0, 1.0, 0.0], &mut speeds);
    assert_eq!((speeds, rover.motion(&speeds)), ([0.0; 4], [0.0; 3]), "it can't go sideways");
}

#[test]
fn a_rover_whose_state_are_no_joints() {
    let rover = robot("earthrover");
    assert_eq!(rover.action_names(), ["linear_velocity", "angular_velocity"]);
    assert_eq!(rover.state_names().len(), 12);
    assert_eq!(rover.state_names()[..3], ["speed", "heading", "battery.level"]);
    assert_eq!(in_dataset(&rover.action_channels(), &[-0.8, 1.25]), [-1.0, 0.5], "shares of the top speed");
    assert_eq!(rover.state_channels()[11].source, ChannelSource::Sensor(4, 3));
}

#[test]
fn a_head_is_told_a_pose_and_its_legs_are_looked_at() {
    let reachy = robot("reachy_mini");
    let head = ["head.x", "head.y", "head.z", "head.yaw", "head.pitch", "head.roll"];
    let legs = (1..=6).map(|i| format!("stewart_{i}.pos"));
    let antennas = ["right_antenna.pos", "left_antenna.pos"];
    let imu = ["imu.accel_x", "imu.accel_y", "imu.accel_z", "imu.gyro_x", "imu.gyro_y", "imu.gyro_z"];
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(reachy.action_names(), [own(&["body_yaw.pos"]), own(&antennas), own(&head)].concat());
    assert_eq!(reachy.state_names(), [own(&["body_yaw.pos"]), legs.collect(), own(&antennas), own(&head), own(&imu)].concat());
    // Roll, pitch and yaw about the body's axes in this order, as a daemon composes them.
    let mut values = vec![0.0; reachy.parts.len()];
    for (name, value) in [("body_yaw", 0.7), ("head_x", 0.01), ("head_yaw", 0.3), ("head_pitch", -0.2), ("head_roll", 0.1)] {
        values[reachy.part_index(name).unwrap()] = value;
    }
    let head = reachy.base_from_parts(&values)[reachy.part_index("head_roll").unwrap()];
    assert_eq!(head.translation.vector, nalgebra::Vector3::new(0.01, 0.0, 0.177), "above the foot, wherever the body looks");
    assert!(head.rotation.angle_to(&nalgebra::UnitQuaternion::from_euler_angles(0.1, -0.2, 0.3)) < 1e-7);
}

#[test]
fn koch_and_a_hand_are_written_in_shares_of_their_ranges() {
    let koch = robot("koch");
    assert_eq!(koch.action_names(), so_names(""));
    let pi = std::f64::consts::PI;
    assert_eq!(in_dataset(&koch.action_channels(), &[-pi, 0.0, 1.7, 0.85, pi / 2.0, 0.4]), [-100.0, 0.0, 100.0, 50.0, 50.0, 25.0]);
    let hand = robot("hope_jr_hand");
    assert_eq!((hand.parts.len(), hand.action_names()[15].as_str()), (16, "pinky_pip_dip.pos"));
    let ends = |end: usize| hand.parts.iter().map(|part| part.range.unwrap()[end]).collect::<Vec<_>>();
    let all = |value: f32| move |found: &f32| (found - value).abs() < 1e-4;
    assert!(in_dataset(&hand.action_channels(), &ends(0)).iter().all(all(0.0)));
    assert!(in_dataset(&hand.action_channels(), &ends(1)).iter().all(all(100.0)));
}

#[test]
fn openarm_is_commanded_by_impedance_on_can() {
    let arm = robot("openarm");
    let addresses: Vec<_> = arm.parts.iter().map(|part| part.motor.as_ref().unwrap()).map(|motor| (motor.id, motor.answer_id)).collect();
    assert_eq!(addresses, (1..=8).map(|i| (i, Some(i + 16))).collect::<Vec<_>>());
    assert!(arm.action_channels().iter().all(|channel| channel.mode == Some(CommandMode::Impedance)));
    assert_eq!(arm.action_names()[0], "joint_1.pos");
    assert_eq!((arm.buses[0].baud_rate, arm.buses[0].data_baud_rate), (Some(1_000_000), Some(5_000_000)));
    assert_eq!(in_dataset(&arm.action_channels()[..1], &[std::f64::consts::FRAC_PI_2]), [90.0]);
}

#[test]
fn a_narrower_limit_leaves_the_units_alone() {
    let wide = robot("so101");
    let from = "limits = { position = [-0.174533, 1.7453292]";
    assert!(SO101.contains(from));
    let narrow = RobotDescription::from_toml(
        "so101",
        &SO101
            .replace(from, "limits = { position = [0.2, 1.0]")
            .replace("velocity = 3.0, step = 0.35 }\nrest = 0.0\n\n[[tool]]", "velocity = 3.0, step = 0.35 }\nrest = 0.3\n\n[[tool]]"),
    );
    let narrow = narrow.unwrap();
    assert_eq!(narrow.parts[5].position_limits(), [0.2, 1.0]);
    assert_eq!(narrow.action_channels()[5].scale_offset, wide.action_channels()[5].scale_offset);
    let ends = |value: f64| in_dataset(&narrow.action_channels()[5..], &[value])[0];
    assert!((ends(-0.174533)).abs() < 1e-5 && (ends(1.7453292) - 100.0).abs() < 1e-4);
}

#[test]
fn a_leader_is_read_and_never_commanded() {
    let head = "schema = 2\nname = \"leader\"\ntitle = \"A leader\"\ncontrol_rate_hz = 30\nlerobot = { class = \"leader\" }\n\
                stop = { behaviour = \"limp\" }\nbus = [{ name = \"arm\", protocol = \"dynamixel\", baud_rate = 1000000 }]\n";
    let part = "[[part]]\nname = \"gripper\"\nunit = \"range_0_100\"\nrange = [0.0, 1.0]\n\
                motor = { bus = \"arm\", model = \"xl330-m077\", id = 6, registers = { current_limit = 100 } }\n";
    let command = "command = \"position\"\nlimits = { position = [-1.0, 1.0], velocity = 3.0, step = 0.35 }\n";
    let read = |text: &str| RobotDescription::from_toml("leader", text).map_err(|error| error.to_string());
    let head = format!("role = \"teleoperator\"\n{head}");
    let leader = read(&format!("{head}{part}trigger = 0.5\n")).unwrap();
    assert_eq!((leader.role, leader.parts[0].trigger, leader.action_names().len()), (Role::Teleoperator, Some(0.5), 0));
    assert_eq!(leader.parts[0].motor.as_ref().unwrap().registers["current_limit"], 100);
    assert_eq!(RobotDescription::from_toml("leader", &leader.to_toml().unwrap()).unwrap(), leader);

    let commanded = read(&format!("{head}{part}{command}")).unwrap_err();
    assert!(commanded.contains("expected a teleoperator to have parts without a command"), "{commanded}");
    let loose = read(&format!("{head}{}trigger = 0.5\n", part.replace("motor =", "feature = \"x\" #"))).unwrap_err();
    assert!(loose.contains("part gripper: trigger is 0.5, expected a place for a part with a motor"), "{loose}");
    let nothing = read(&head).unwrap_err();
    assert!(nothing.contains("expected a teleoperator to have parts"), "{nothing}");
    let head = head.replace("teleoperator", "robot");
    let passive = format!("{head}{part}trigger = 0.5\n[[part]]\nname = \"other\"\n{command}");
    assert!(read(&passive).unwrap_err().contains("part gripper: it has a trigger"), "{}", read(&passive).unwrap_err());
}
