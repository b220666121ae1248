//! Files that are no robots, and what is said of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

use std::error::Error;

use proptest::prelude::*;
use sinew_core::{DescriptionError, RobotDescription};

const SO101: &str = include_str!("../../../robots/so101/robot.toml");
const LEKIWI: &str = include_str!("../../../robots/lekiwi/robot.toml");
const MECANUM: &str = include_str!("robots/mecanum.toml");
const EARTHROVER: &str = include_str!("robots/earthrover.toml");
const OPENARM: &str = include_str!("../../../robots/openarm/robot.toml");
const LIFT: &str = include_str!("robots/lift.toml");

/// Two of the same robot.
const PAIR: &str = r#"schema = 2
name = "pair"
title = "Two SO-101 arms"
control_rate_hz = 30
lerobot = { class = "pair" }
stop = { behaviour = "hold" }

[[include]]
robot = "so101"
prefix = "left_"
bus = { arm = "left" }
base_from_robot = { translation_m = [0.0, 0.3, 0.0], rotation_wxyz = [1.0, 0.0, 0.0, 0.0] }

[[include]]
robot = "so101"
prefix = "right_"
bus = { arm = "right" }

[[camera]]
name = "top"
width = 640
height = 480
"#;

fn find(name: &str) -> Option<String> {
    (name == "so101").then(|| SO101.to_owned())
}

/// All that an error and those below it say.
fn words(error: &DescriptionError) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        words += &format!(": {error}");
        source = error.source();
    }
    words
}

#[track_caller]
fn refused(text: &str) -> String {
    words(&RobotDescription::from_toml_with("it", text, &find).expect_err("it is refused"))
}

/// `text` with its first `from` made `to` is refused with `expected`.
#[track_caller]
fn assert_refused(text: &str, from: &str, to: &str, expected: &[&str]) {
    assert!(text.contains(from), "{from}");
    let found = refused(&text.replacen(from, to, 1));
    assert!(found.contains("the robot description it"), "{found}");
    for expected in expected {
        assert!(found.contains(expected), "{found}\nexpected {expected}");
    }
}

#[test]
fn what_was_included_is_not_for_a_file_to_say() {
    let included = "\n[[included]]\nprefix = \"left_\"\nlerobot = { class = \"so_follower\" }\n";
    for text in [SO101.to_owned(), PAIR.to_owned()] {
        let found = refused(&(text + included));
        assert!(found.contains("included is filled in by sinew, expected [[include]]"), "{found}");
    }
}

const PAN: &str = "limits = { position = [-1.91986, 1.91986], velocity = 3.0, step = 0.35 }";

#[test]
fn a_limit_that_a_mode_needs_must_be_there() {
    for (from, what) in [("position = [-1.91986, 1.91986], ", "position"), ("velocity = 3.0, ", "velocity"), (", step = 0.35", "step")] {
        let limits = PAN.replace(from, "");
        let expected = format!("part shoulder_pan: limits.{what} is missing, which a part that is commanded by position needs");
        assert_refused(SO101, PAN, &limits, &[&expected]);
    }
    assert_refused(SO101, &format!("{PAN}\n"), "", &["part shoulder_pan: limits.position is missing"]);
    for (from, what) in [("velocity = 4.0, ", "velocity"), (", stale_ms = 200", "stale_ms")] {
        let roller = "limits = { velocity = 4.0, acceleration = 20.0, stale_ms = 200 }";
        let expected = format!("part roller: limits.{what} is missing, which a part that is commanded by velocity needs");
        assert_refused(LIFT, roller, &roller.replace(from, ""), &[&expected]);
    }
    for (from, what) in [("torque = 0.4, ", "torque"), ("stale_ms = 200, ", "stale_ms")] {
        let clamp = "limits = { torque = 0.4, stale_ms = 200, temperature_c = 60.0 }";
        let expected = format!("part clamp: limits.{what} is missing, which a part that is commanded by effort needs");
        assert_refused(LIFT, clamp, &clamp.replace(from, ""), &[&expected]);
    }
    for from in [
        "position = [-1.3089969, 1.3089969], ",
        "velocity = 2.0, ",
        "step = 0.4, ",
        "torque = 0.3, ",
        "stiffness = 240.0, ",
        "damping = 5.0, ",
    ] {
        let what = from.split(' ').next().unwrap();
        let expected = format!("part joint_1: limits.{what} is missing, which a part that is commanded by impedance needs");
        assert_refused(OPENARM, from, "", &[&expected]);
    }
    assert_refused(MECANUM, "linear = { velocity = 1.0, ", "linear = { ", &["missing field `velocity`"]);
}

#[test]
fn what_is_no_such_file_is_named_with_its_line() {
    assert_refused(SO101, "rest = 0.0", "rests = 0.0", &["reading the robot description it", "line 28", "unknown field `rests`", "`rest`"]);
    // In one that includes others too.
    assert_refused(LEKIWI, "stale_ms = 500", "stale_ms = -1", &["line 30", "stale_ms = -1", "u32"]);
    assert_refused(LEKIWI, "prefix = \"arm_\"", "prefixes = \"arm_\"", &["line 16", "unknown field `prefixes`"]);
    assert_refused(LEKIWI, "[[include]]", "[include]", &["include", "expected a sequence"]);
    assert_refused(LEKIWI, "{ arm = \"robot\" }", "{ arm = 3 }", &["line 17", "expected a string"]);
    assert_refused(SO101, "control_rate_hz = 30\n", "", &["missing field `control_rate_hz`"]);
    assert_refused(SO101, "behaviour = \"hold\"", "behaviour = \"fall\"", &["unknown variant `fall`", "`hold` or `limp`"]);
    assert_refused(SO101, "[[bus]]", "[[bus", &["line 15"]);
}

#[test]
fn another_schema_is_refused() {
    let old = refused(include_str!("robots/old/so101.toml"));
    assert_eq!(old, "reading the robot description it: it is of the old schema, with joints in a chain, expected schema = 2");
    assert_refused(SO101, "schema = 2", "schema = 3", &["schema is 3, expected schema = 2"]);
    assert_refused(SO101, "schema = 2", "schema = \"2\"", &["schema is \"2\", expected schema = 2"]);
    assert_refused(SO101, "schema = 2\n", "", &["it has no schema, expected schema = 2"]);
}

#[test]
fn parts_form_one_tree_with_one_address_each() {
    assert_refused(SO101, "name = \"elbow_flex\"", "name = \"shoulder_pan\"", &["two parts are called shoulder_pan"]);
    let orphan = "part wrist_flex: its parent elbow is no part of the robot";
    assert_refused(SO101, "parent = \"elbow_flex\"", "parent = \"elbow\"", &[orphan]);
    let circle = "its parents go round in a circle and never reach the base";
    assert_refused(SO101, "name = \"shoulder_pan\"\n", "name = \"shoulder_pan\"\nparent = \"gripper\"\n", &["part shoulder_pan", circle]);
    assert_refused(SO101, "parent = \"shoulder_pan\"", "parent = \"shoulder_lift\"", &["part shoulder_lift", circle]);
    assert_refused(SO101, "id = 4", "id = 3", &["parts elbow_flex and wrist_flex have the same motor: 3 on the bus arm"]);
    assert_refused(
        SO101,
        "{ bus = \"arm\"",
        "{ bus = \"leg\"",
        &["part shoulder_pan: its motor is on the bus leg, which the robot does not have"],
    );
    let twice = "[[bus]]\nname = \"arm\"\nprotocol = \"can\"\n\n[[bus]]";
    assert_refused(SO101, "[[bus]]", twice, &["two buses are called arm"]);
    assert_refused(SO101, "id = 4", "id = 70000", &["70000", "u16"]);
    let none =
        "schema = 2\nname = \"it\"\ntitle = \"\"\ncontrol_rate_hz = 30\nlerobot = { class = \"it\" }\nstop = { behaviour = \"hold\" }\n";
    assert!(refused(none).contains("it has nothing that can be commanded: no part with a command and no base"));
}

#[test]
fn numbers_make_sense() {
    for (from, to, expected) in [
        (
            "[-1.91986, 1.91986]",
            "[1.91986, -1.91986]",
            "part shoulder_pan: limits.position is [1.91986, -1.91986], expected rising, and within ±1000000",
        ),
        ("[-1.91986, 1.91986]", "[nan, 1.91986]", "part shoulder_pan: limits.position is [NaN, 1.91986], expected rising"),
        ("[-1.91986, 1.91986]", "[-inf, 1.91986]", "part shoulder_pan: limits.position is [-inf, 1.91986], expected rising"),
        ("velocity = 3.0", "velocity = nan", "part shoulder_pan: limits.velocity is NaN, expected 1e-9 to 1e9"),
        ("velocity = 3.0", "velocity = inf", "part shoulder_pan: limits.velocity is inf, expected 1e-9 to 1e9"),
        ("step = 0.35", "step = 0.0", "part shoulder_pan: limits.step is 0, expected 1e-9 to 1e9"),
        ("step = 0.35", "step = 0.35, jerk = -1.0", "part shoulder_pan: limits.jerk is -1, expected 1e-9 to 1e9"),
        (
            "step = 0.35",
            "step = 0.35, effort = 1.5",
            "part shoulder_pan: limits.effort is 1.5, expected a share of stall torque, at most 1",
        ),
        ("step = 0.35", "step = 0.35, stale_ms = 0", "part shoulder_pan: limits.stale_ms is 0, expected above 0"),
        ("axis = [0.0, 0.0, 1.0]", "axis = [0.0, 0.0, nan]", "part shoulder_pan: axis has length NaN, expected 1"),
        ("axis = [0.0, 0.0, 1.0]", "axis = [0.0, 1.0, 1.0]", "part shoulder_pan: axis has length 1.41"),
        ("[0.0388353,", "[inf,", "part shoulder_pan: parent_from_part is no pose"),
        ("[0.0, 0.0, -1.0, 0.0]", "[0.0, 0.0, 0.0, 0.0]", "part shoulder_pan: parent_from_part is no pose"),
        ("range = [-0.174533, 1.7453292]", "range = [1.0, 1.0]", "part gripper: range is [1, 1], expected rising"),
        ("range = [-0.174533, 1.7453292]\n", "", "part gripper: range is missing, which its unit refers to"),
        ("unit = \"degrees\"", "unit = \"range_m100_100\"", "part shoulder_pan: range is missing, which its unit refers to"),
        (
            "unit = \"degrees\"",
            "unit = \"degrees\"\nkind = \"prismatic\"",
            "part shoulder_pan: unit is degrees, expected another for a part that slides",
        ),
        ("rest = -1.7", "rest = -2.7", "part shoulder_lift: rest is -2.7, outside its limits [-1.7453293, 1.7453293]"),
        ("rest = -1.7", "rest = nan", "part shoulder_lift: rest is NaN, outside its limits"),
        ("id = 1 }", "id = 1, direction = 0.5 }", "part shoulder_pan: motor.direction is 0.5, expected 1 or -1"),
        ("id = 1 }", "id = 1, gear = 0.0 }", "part shoulder_pan: motor.gear is 0, expected 0.001 to 1000"),
        ("id = 1 }", "id = 1, gear = 1e9 }", "part shoulder_pan: motor.gear is 1000000000, expected 0.001 to 1000"),
        ("[-1.91986, 1.91986]", "[-1e9, 1e9]", "is [-1000000000, 1000000000], expected rising, and within ±1000000"),
        ("control_rate_hz = 30", "control_rate_hz = 0", "control_rate_hz is 0, expected 1 to 1000"),
        ("control_rate_hz = 30", "control_rate_hz = 1001", "control_rate_hz is 1001, expected 1 to 1000"),
        ("baud_rate = 1000000", "baud_rate = 0", "bus arm: its baud rate is 0"),
        (
            "[stop]",
            "[feedback]\nmax_age_ms = 200\nfault_age_ms = 100\n\n[stop]",
            "feedback: expected max_age_ms above 0 and fault_age_ms at least as long",
        ),
    ] {
        assert_refused(SO101, from, to, &[expected]);
    }
}

#[test]
fn names_are_fit_for_paths_datasets_and_terminals() {
    for (from, to, expected) in [
        ("name = \"front\"", "name = \"../front\"", "a camera is called \"../front\", expected letters"),
        ("class = \"so_follower\"", "class = \"a/b\"", "its class in LeRobot is called \"a/b\""),
        ("name = \"so101\"", "name = \"\"", "the robot is called \"\""),
        ("name = \"shoulder_pan\"", "name = \"shoulder\\u001bpan\"", "a part is called \"shoulder\\u{1b}pan\""),
        ("title = \"SO-101 ", "title = \"SO-101\\u001b[2J ", "its title"),
        ("title = \"SO-101 ", "title = \"SO-101\\u202e ", "turn text around"),
        ("title = \"SO-101 ", "title = \"SO-101\\u2066 ", "turn text around"),
        ("name = \"wrist\"", "name = \"front\"", "two cameras are called front"),
        ("rest = 0.0", "rest = 0.0\nfeature = \"gripper.pos\"", "two features are called gripper.pos"),
    ] {
        assert_refused(SO101, from, to, &[expected]);
    }
    assert_refused(EARTHROVER, "\"heading\"", "\"speed\"", &["two features are called speed"]);
    assert_refused(EARTHROVER, "\"heading\"", "\"linear_velocity\"", &["two features are called linear_velocity"]);
    assert_refused(
        EARTHROVER,
        "bus = \"http\"\nfeatures = [\"battery.level\"]",
        "bus = \"wire\"\nfeatures = [\"b\"]",
        &["sensor battery: it is on the bus wire, which the robot does not have"],
    );
    assert_refused(EARTHROVER, "name = \"gps\"", "name = \"battery\"", &["two sensors are called battery"]);
}

#[test]
fn a_base_and_its_wheels_belong_together() {
    let wheel = "[[base.wheel]]\npart = \"front_right\"\nrim_m_per_s = [1.0, 1.0, 0.35]\n";
    assert_refused(MECANUM, wheel, "", &["part front_right is a wheel of no base"]);
    assert_refused(MECANUM, "part = \"front_right\"", "part = \"front_left\"", &["part front_right is a wheel of no base"]);
    let other = wheel.replace("front_right", "caster");
    assert_refused(MECANUM, wheel, &format!("{wheel}\n{other}"), &["base: wheel caster is no part of the robot"]);
    assert_refused(MECANUM, wheel, &format!("{wheel}\n{wheel}"), &["base: wheel front_right is named twice"]);
    let part = "[[part]]\nname = \"front_right\"\nkind = \"wheel\"\n";
    assert_refused(
        MECANUM,
        part,
        &part.replace("wheel", "continuous"),
        &["base: wheel front_right is a part of kind continuous, expected wheel"],
    );
    assert_refused(
        MECANUM,
        part,
        &format!("{part}command = \"velocity\"\nlimits = {{ velocity = 1.0, stale_ms = 9 }}\n"),
        &["part front_right: a wheel has no command of its own: its base is commanded"],
    );
    assert_refused(MECANUM, "kind = \"mecanum\"", "kind = \"omnivore\"", &["unknown variant `omnivore`"]);
    assert_refused(LEKIWI, "kind = \"omni\"", "kind = \"mecanum\"", &["base: it has 3 wheels, expected 4"]);
    assert_refused(MECANUM, "wheel_radius_m = 0.076", "wheel_radius_m = nan", &["base: wheel_radius_m is NaN, expected 1e-9 to 1e9"]);
    assert_refused(MECANUM, "stale_ms = 300", "stale_ms = 0", &["base: stale_ms is 0, expected above 0"]);
    assert_refused(MECANUM, "jerk = 90.0", "jerk = -90.0", &["base: angular.jerk is -90, expected 1e-9 to 1e9"]);
    assert_refused(
        MECANUM,
        "[1.0, 1.0, 0.35]",
        "[1.0, inf, 0.35]",
        &["base: wheel front_right: rim_m_per_s is [1.0, inf, 0.35], expected at most 1e6"],
    );
    // Wheels that all roll forward, and three whose directions hang together.
    let forward = MECANUM
        .replace(", -1.0, -0.35]", ", 0.0, -0.35]")
        .replace(", 1.0, -0.35]", ", 0.0, -0.35]")
        .replace(", 1.0, 0.35]", ", 0.0, 0.35]");
    assert_refused(&forward, ", -1.0, 0.35]", ", 0.0, 0.35]", &["base: its wheels don't tell sideways motion from others"]);
    let turned = EARTHROVER.replace(", -0.1]", ", 0.1]");
    assert!(refused(&turned).contains("base: its wheels don't tell forward motion from others"));
    let mut rims = ["[1.0, 0.0, 0.1]", "[0.0, 1.0, 0.1]", "[1.0, 1.0, 0.2]"].into_iter();
    let rim = |line: &str| if line.starts_with("rim_") { format!("rim_m_per_s = {}", rims.next().unwrap()) } else { line.to_owned() };
    let dependent: Vec<String> = LEKIWI.lines().map(rim).collect();
    assert!(refused(&dependent.join("\n")).contains("base: its wheels don't tell"), "{}", refused(&dependent.join("\n")));
}

#[test]
fn included_robots_fit() {
    assert_refused(PAIR, "robot = \"so101\"", "robot = \"so102\"", &["it includes so102, which is not to be had"]);
    assert_refused(PAIR, "{ arm = \"left\" }", "{ leg = \"left\" }", &["it renames the bus leg of so101, which has none of that name"]);
    assert_refused(
        PAIR,
        "{ arm = \"left\" }",
        "{ arm = \"right\" }",
        &["parts left_shoulder_pan and right_shoulder_pan have the same motor: 1 on the bus right"],
    );
    assert_refused(PAIR, "prefix = \"right_\"", "prefix = \"left_\"", &["two parts are called left_shoulder_pan"]);
    assert_refused(PAIR, "[1.0, 0.0, 0.0, 0.0]", "[0.0, 0.0, 0.0, 0.0]", &["base_from_robot of so101 is no pose"]);
    assert_refused(PAIR, "[[camera]]\nname = \"top\"", "[[camera]]\nname = \"left_front\"", &["two cameras are called left_front"]);
    let clash = "[[sensor]]\nname = \"s\"\nkind = \"other\"\nfeatures = [\"left_gripper.pos\"]\n\n[[camera]]";
    assert_refused(PAIR, "[[camera]]", clash, &["two features are called left_gripper.pos"]);
    let own = "[[bus]]\nname = \"left\"\nprotocol = \"can\"\n\n[[camera]]";
    assert_refused(PAIR, "[[camera]]", own, &["the bus left of so101 is another one here"]);
    // What is wrong in an included robot is said of that one.
    let broken = |_: &str| Some(SO101.replace("id = 4", "id = 3"));
    let error = words(&RobotDescription::from_toml_with("it", PAIR, &broken).unwrap_err());
    assert_eq!(error, "checking the robot description so101: parts elbow_flex and wrist_flex have the same motor: 3 on the bus arm");
    let with_base = |_: &str| Some(MECANUM.to_owned());
    let error = words(&RobotDescription::from_toml_with("it", &PAIR.replace("bus = { arm = \"left\" }\n", ""), &with_base).unwrap_err());
    assert!(error.contains("so101 has a base, and a robot with a base can't be included"), "{error}");
}

#[test]
fn robots_that_include_each_other_are_refused() {
    let around = |name: &str| Some(PAIR.replace("so101", if name == "a" { "b" } else { "a" }));
    let error = words(&RobotDescription::from_toml_with("a", &around("a").unwrap(), &around).unwrap_err());
    assert_eq!(error, "checking the robot description b: it includes a, in a circle: a, b, a");
    // Ever another one, and ever more of them.
    let deep = |name: &str| Some(PAIR.replace("so101", &format!("{name}x")));
    let error = words(&RobotDescription::from_toml_with("x", &deep("x").unwrap(), &deep).unwrap_err());
    assert!(error.contains("robots include each other 9 deep, expected at most 8"), "{error}");
    let many: String = (0..50).map(|i| format!("[[include]]\nrobot = \"so101\"\nprefix = \"p{i}_\"\n\n")).collect();
    let start = PAIR.find("[[include]]").unwrap();
    let error = refused(&format!("{}{many}", &PAIR.get(..start).unwrap()));
    assert!(error.contains("parts and more, expected at most 256"), "{error}");
}

#[test]
fn a_workspace_holds_the_rest_pose() {
    let tool = "part = \"wrist_roll\"\n";
    let with = |min: &str| format!("{tool}workspace = {{ min_m = {min}, max_m = [1.0, 1.0, 1.0] }}\n");
    assert!(RobotDescription::from_toml("it", &SO101.replacen(tool, &with("[-1.0, -1.0, -1.0]"), 1)).is_ok());
    assert_refused(SO101, tool, &with("[-1.0, 2.0, -1.0]"), &["tool gripper: its workspace reaches from", "expected finite and rising"]);
    assert_refused(SO101, tool, &with("[-1.0, nan, -1.0]"), &["tool gripper: its workspace reaches from"]);
    assert_refused(
        SO101,
        tool,
        &with("[-1.0, -1.0, 0.9]"),
        &["tool gripper: at rest it is at", "outside its workspace from [-1.0, -1.0, 0.9]"],
    );
    assert_refused(SO101, tool, "part = \"hand\"\n", &["tool gripper: hand is no part of the robot"]);
    assert_refused(SO101, "[0.012, -0.000218, -0.098127]", "[0.012, nan, 0.0]", &["tool gripper: part_from_tool is no pose"]);
    assert_refused(
        LIFT,
        "name = \"hook\"\npart = \"beam\"",
        "name = \"hook\"\npart = \"roller\"",
        &["tool hook: it has a workspace, and nobody knows the position of roller, which carries it"],
    );
    assert_refused(LIFT, "name = \"lamp\"", "name = \"hook\"", &["two tools are called hook"]);
}

#[test]
fn cameras_make_sense() {
    for (from, to, expected) in [
        ("width = 128", "width = 0", "camera front: 0x96 is no usable size"),
        ("height = 96", "height = 9000", "camera front: 128x9000 is no usable size"),
        ("height = 96", "height = 96\nrotation_deg = 45", "camera front: rotation_deg is 45, expected 0, 90, 180 or 270"),
        ("height = 96", "height = 96\nfps = 0", "camera front: fps and max_age_ms must be above 0"),
        ("height = 96", "height = 96\nmax_age_ms = 0", "camera front: fps and max_age_ms must be above 0"),
    ] {
        assert_refused(SO101, from, to, &[expected]);
    }
}

#[test]
fn a_simulation_is_of_things_of_this_world() {
    for (from, to, expected) in [
        ("mass_kg = 0.100006", "mass_kg = 1e30", "link shoulder: mass_kg is 1000000000000000000000000000000, expected 0.0001 to 1000"),
        ("mass_kg = 0.100006", "mass_kg = 1e-300", "expected 0.0001 to 1000"),
        ("[-0.0307604, -1.7e-05, -0.0252713]", "[1e300, 0.0, 0.0]", "link shoulder: centre_of_mass_m is"),
        ("[8.3759e-05, 8.10403e-05, 2.39783e-05,", "[3e300, 3e300, 3e300,", "link shoulder: inertia_kg_m2"),
        ("half_extents_m = [0.023, 0.015, 0.01]", "half_extents_m = [1e300, 1.0, 1.0]", "link shoulder: collider 0: a size in m is 1"),
        ("half_extents_m = [0.023, 0.015, 0.01]", "half_extents_m = [1e-9, 1.0, 1.0]", "expected 0.0001 to 10"),
        ("[-0.030399, 0.000422, -0.0387]", "[1e300, 0.0, 0.0]", "link shoulder: collider 0: its pose is none"),
        ("friction = 0.6", "friction = 1e9", "collider 0: friction is 1000000000, expected 0 to 10"),
        ("stall_torque_nm = 2.94", "stall_torque_nm = 1e300", "motor sts3215: stall_torque_nm is"),
        ("proportional_gain_nm_per_rad = 998.22", "proportional_gain_nm_per_rad = 1e12", "expected 0.001 to 1000000"),
        ("latency_s = 0.005", "latency_s = 1e9", "motor sts3215: latency_s is 1000000000, expected 0 to 1"),
        ("backlash_rad = 0.0087267", "backlash_rad = nan", "motor sts3215: backlash_rad is NaN, expected 0 to 1"),
        ("armature_kg_m2 = 0.028", "armature_kg_m2 = 1e300", "expected 0 to 100"),
    ] {
        assert_refused(SO101, from, to, &["simulation: ", expected]);
    }
}

#[test]
fn an_error_is_short_however_long_the_file_is() {
    let long = "x".repeat(200_000);
    let title = refused(&SO101.replace("title = \"SO-101 ", &format!("title = \"{long}")));
    assert!(title.contains("expected at most 200") && title.len() < 200, "{} bytes", title.len());
    for text in [
        SO101.replace("schema = 2", &format!("schema = 2\n{long} = 1")),
        SO101.replace("schema = 2", &format!("schema = 2\nx = \"{long}")),
        SO101.replace("schema = 2", &format!("schema = 2\nx = {}", "[".repeat(100_000))),
    ] {
        let error = refused(&text);
        assert!(error.contains("line ") && error.len() < 1500, "{} bytes", error.len());
    }
}

/// What happens to a line of a file.
#[derive(Clone, Debug)]
enum Change {
    Delete(prop::sample::Index),
    Twice(prop::sample::Index),
    /// A table, as far as the next, comes once more.
    TableTwice(prop::sample::Index),
    Number(prop::sample::Index, String),
}

fn any_change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![
        prop::sample::select(vec![
            "nan",
            "inf",
            "-inf",
            "0",
            "-1",
            "1e308",
            "-1e-308",
            "1e-308",
            "1e9",
            "1e-9",
            "9223372036854775807",
            "0.0",
            "[]",
            "\"x\""
        ])
        .prop_map(str::to_owned),
        (-1e3..1e3f64).prop_map(|v| format!("{v:?}")),
        (-1000..1000i64).prop_map(|v| v.to_string()),
    ];
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Change::Delete),
        any::<prop::sample::Index>().prop_map(Change::Twice),
        any::<prop::sample::Index>().prop_map(Change::TableTwice),
        (any::<prop::sample::Index>(), number).prop_map(|(at, number)| Change::Number(at, number)),
    ]
}

fn changed(text: &str, change: &Change) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match change {
        Change::Delete(at) => drop(lines.remove(at.index(lines.len()))),
        Change::Twice(at) => {
            let at = at.index(lines.len());
            lines.insert(at, lines[at].clone());
        }
        Change::TableTwice(at) => {
            let heads: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].starts_with('[')).collect();
            let head = heads[at.index(heads.len())];
            let end = heads.iter().copied().find(|next| *next > head).unwrap_or(lines.len());
            let table = lines[head..end].to_vec();
            lines.splice(end..end, table);
        }
        Change::Number(at, number) => {
            let text = lines.join("\n");
            // Where numbers begin and end.
            let is_digit = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
            let starts: Vec<usize> = text
                .char_indices()
                .zip(std::iter::once(' ').chain(text.chars()))
                .filter(|((_, c), before)| is_digit(*c) && " [,".contains(*before))
                .map(|((at, _), _)| at)
                .collect();
            let start = starts[at.index(starts.len())];
            let rest = text.get(start..).unwrap();
            let end = rest.find(|c| !is_digit(c)).unwrap_or(rest.len());
            return format!("{}{number}{}", text.get(..start).unwrap(), rest.get(end..).unwrap());
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_that_was_tampered_with_is_a_robot_or_an_error(
        which in prop::sample::select(vec![SO101, SO101, LEKIWI, LIFT, OPENARM, EARTHROVER]),
        changes in prop::collection::vec(any_change(), 1..4),
    ) {
        let text = changes.iter().fold(which.to_owned(), |text, change| changed(&text, change));
        if let Ok(robot) = RobotDescription::from_toml_with("it", &text, &find) {
            let written = robot.to_toml().unwrap();
            prop_assert_eq!(RobotDescription::from_toml("it", &written).unwrap(), robot.clone());
            let state = robot.state_channels();
            prop_assert!(!robot.action_channels().is_empty());
            prop_assert!(state.iter().all(|channel| channel.scale_offset.0.is_finite() && channel.scale_offset.0 != 0.0));
            // What is made of it works as well.
            let _ = sinew_core::SafetyGate::of(&robot);
            let poses = robot.base_from_parts(&vec![0.1; robot.parts.len()]);
            prop_assert!(poses.iter().all(|pose| pose.translation.vector.iter().all(|v| v.is_finite())));
        }
    }
}
