use sinew_core::RobotDescription;

use super::*;
use crate::ControlTable;

#[derive(Deserialize)]
struct Golden {
    files: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    unit: String,
    drive_mode: i32,
    range: (i32, i32),
    /// Ticks, and what LeRobot makes of them.
    read: Vec<(i32, f64)>,
    written: Vec<(f64, i32)>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden.json")).unwrap()
}

fn robot(model: &str, unit: &str) -> RobotDescription {
    let range = if unit == "degrees" { "" } else { "range = [-0.3, 1.9]" };
    let text = format!(
        "schema = 2\nname = \"one\"\ntitle = \"one\"\ncontrol_rate_hz = 30\nlerobot = {{ class = \"one\" }}\nstop = {{ behaviour = \"hold\" }}\n\
         [[bus]]\nname = \"arm\"\nprotocol = \"feetech\"\n\
         [[part]]\nname = \"motor\"\ncommand = \"position\"\nmotor = {{ bus = \"arm\", model = \"{model}\", id = 1 }}\nunit = \"{unit}\"\n{range}\n\
         limits = {{ position = [-1.0, 1.0], velocity = 3.0, step = 0.35 }}\n"
    );
    RobotDescription::from_toml("one", &text).unwrap()
}

#[test]
fn what_the_dataset_sees_is_lerobot_s_normalisation() {
    for case in golden().cases {
        let robot = robot(&case.model, &case.unit);
        let table = ControlTable::of_model(&case.model).unwrap();
        let (range_min, range_max) = case.range;
        let calibration = MotorCalibration { id: 1, drive_mode: case.drive_mode, homing_offset: 0, range_min, range_max };
        let scale = Scale::of(&robot.parts[0], table, &calibration).unwrap();
        let (factor, offset) = robot.state_channels()[0].scale_offset;
        let what = |value: &dyn std::fmt::Debug| format!("{} {} {} {:?} {value:?}", case.model, case.unit, case.drive_mode, case.range);
        for (ticks, expected) in &case.read {
            let found = scale.to_si(*ticks) * factor + offset;
            assert!((found - expected).abs() < 1e-10, "{}: {found}, expected {expected}", what(ticks));
            let within = (*ticks).clamp(range_min, range_max);
            let back = if case.unit == "degrees" { *ticks } else { within };
            assert_eq!(scale.to_ticks(scale.to_si(*ticks)), back, "{}", what(ticks));
        }
        for (value, expected) in &case.written {
            let si = (value - offset) / factor;
            assert_eq!(scale.to_ticks(si), *expected, "{}", what(value));
        }
        assert!((scale.direction() < 0.0) == (scale.to_si(range_max) < scale.to_si(range_min)));
    }
}

#[test]
fn files_are_lerobot_s_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for text in golden().files {
        let calibration = Calibration::parse(&text, Path::new("golden")).unwrap();
        assert_eq!(calibration.to_json(), text);
        let path = folder.path().join("robots/so_follower/a.json");
        calibration.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(Calibration::read(&path).unwrap(), calibration);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
    let odd = Calibration::new([(
        "\u{1f600}\u{7f}\u{1}".to_owned(),
        MotorCalibration { id: 1, drive_mode: 0, homing_offset: 0, range_min: 0, range_max: 1 },
    )]);
    assert!(odd.to_json().contains("\"\\ud83d\\ude00\u{7f}\\u0001\""), "{}", odd.to_json());
    assert_eq!(Calibration::parse(&odd.to_json(), Path::new("odd")).unwrap(), odd);
}

#[test]
fn a_file_stays_as_it_is_until_the_new_one_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    let motor = |range_max| {
        let known = MotorCalibration { id: 1, drive_mode: 0, homing_offset: 0, range_min: 0, range_max };
        Calibration::new([("motor".to_owned(), known)])
    };
    let names = || std::fs::read_dir(folder.path()).unwrap().count();
    drop(motor(1).stage(&path).unwrap());
    assert_eq!(names(), 0, "nothing is left of what was not wanted");
    motor(1).write(&path).unwrap();
    let staged = motor(2).stage(&path).unwrap();
    assert_eq!(Calibration::read(&path).unwrap(), motor(1));
    staged.commit().unwrap();
    assert_eq!((Calibration::read(&path).unwrap(), names()), (motor(2), 1));
    // What can't take a file says so before anything else is done.
    std::fs::create_dir(folder.path().join("folder.json")).unwrap();
    for bad in ["folder.json", "a.json/b.json"] {
        let error = motor(3).stage(&folder.path().join(bad)).unwrap_err().to_string();
        assert!(error.starts_with("writing the calibration") && error.ends_with(bad), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn a_link_to_a_file_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (folder.path().join("a.json"), folder.path().join("mine"));
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("b.json"), "{}").unwrap();
    std::os::unix::fs::symlink("mine/b.json", &path).unwrap();
    let known = MotorCalibration { id: 1, drive_mode: 0, homing_offset: 0, range_min: 0, range_max: 1 };
    let calibration = Calibration::new([("motor".to_owned(), known)]);
    calibration.write(&path).unwrap();
    assert!(path.is_symlink());
    assert_eq!(Calibration::read(&elsewhere.join("b.json")).unwrap(), calibration);
}

#[test]
fn a_file_that_is_none_says_so() {
    let path = Path::new("a.json");
    for text in [
        "",
        "[]",
        "{\"a\": 1}",
        "{\"a\": {\"id\": 1}}",
        "{\"a\": {\"id\": 1.5, \"drive_mode\": 0, \"homing_offset\": 0, \"range_min\": 0, \"range_max\": 1}}",
    ] {
        let error = Calibration::parse(text, path).unwrap_err();
        assert!(error.to_string().starts_with("reading the calibration a.json: expected motors"), "{error}");
    }
    let error = Calibration::read(Path::new("no/such/file.json")).unwrap_err();
    assert_eq!(error.to_string(), "reading the calibration no/such/file.json");
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.json");
    std::fs::write(&large, vec![b' '; 2 << 20]).unwrap();
    assert!(matches!(Calibration::read(&large), Err(CalibrationError::Read { .. })));
}

#[test]
fn a_calibration_of_another_robot_is_refused() {
    let robot = robot("sts3215", "degrees");
    let good = MotorCalibration { id: 1, drive_mode: 0, homing_offset: 0, range_min: 800, range_max: 3200 };
    let check = |name: &str, motor| Calibration::new([(name.to_owned(), motor)]).check(&robot).map_err(|error| error.to_string());
    assert_eq!(check("motor", good), Ok(()));
    let says = |result: Result<(), String>| result.unwrap_err();
    assert_eq!(says(check("other", good)), "checking the calibration of motor: expected it among the file's motors, found other");
    assert!(says(check("motor", MotorCalibration { id: 2, ..good })).ends_with("expected id 1, found 2"));
    assert!(says(check("motor", MotorCalibration { range_max: 800, ..good })).ends_with("found 800 and 800"));
    assert!(says(check("motor", MotorCalibration { drive_mode: 2, ..good })).ends_with("expected drive_mode 0 or 1, found 2"));
    for (range_min, range_max) in [(-5, 3200), (800, 4096), (800, 100_000)] {
        let error = says(check("motor", MotorCalibration { range_min, range_max, ..good }));
        assert!(error.ends_with(&format!("within the turn of a sts3215, 0..4095, found {range_min}..{range_max}")), "{error}");
    }
    assert_eq!(check("motor", MotorCalibration { homing_offset: -2047, range_min: 0, range_max: 4095, ..good }), Ok(()));
    let error = says(check("motor", MotorCalibration { homing_offset: 2048, ..good }));
    assert!(error.ends_with("expected a homing_offset that a sts3215 can hold, found 2048"), "{error}");
}

#[test]
fn places_are_lerobot_s() {
    let folder = |variables: &[(&str, &str)]| {
        let known: Vec<(String, String)> = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        calibration_folder(|name| known.iter().find(|(known, _)| known == name).map(|(_, value)| value.into()))
    };
    let is = |variables: &[(&str, &str)], expected: &str| assert_eq!(folder(variables).unwrap(), Path::new(expected), "{variables:?}");
    let home = ("HOME", "/u");
    is(&[home], "/u/.cache/huggingface/lerobot/calibration");
    is(&[home, ("XDG_CACHE_HOME", "/c")], "/c/huggingface/lerobot/calibration");
    is(&[home, ("HF_HOME", "~/hf")], "/u/hf/lerobot/calibration");
    is(&[home, ("HF_HOME", "/hf"), ("HF_LEROBOT_HOME", "/lr")], "/lr/calibration");
    is(&[home, ("HF_LEROBOT_HOME", "/lr"), ("HF_LEROBOT_CALIBRATION", "/cal")], "/cal");
    assert_eq!(folder(&[]), None);
    let path = |id| calibration_path(Path::new("/cal"), CalibrationOf::Robot, "so_follower", id);
    assert_eq!(path(Some("left")).unwrap(), Path::new("/cal/robots/so_follower/left.json"));
    assert_eq!(path(None).unwrap(), Path::new("/cal/robots/so_follower/None.json"));
    assert!(path(Some("../../x")).is_err() && path(Some("")).is_err());
    let leader = calibration_path(Path::new("/cal"), CalibrationOf::Teleoperator, "so_leader", Some("a")).unwrap();
    assert_eq!(leader, Path::new("/cal/teleoperators/so_leader/a.json"));
}

/// `text` with SO-101 to include.
fn with_so101(text: &str) -> RobotDescription {
    let so101 = include_str!("../../../../robots/so101/robot.toml");
    RobotDescription::from_toml_with("whole", text, &|name| (name == "so101").then(|| so101.to_owned())).unwrap()
}

#[test]
fn a_robot_of_two_arms_has_a_file_for_each_in_the_folder_of_one_arm() {
    let robot = with_so101(include_str!("../../../../robots/bi_so/robot.toml"));
    let folder = tempfile::tempdir().unwrap();
    let motor = |id| MotorCalibration { id, drive_mode: 0, homing_offset: i32::from(id), range_min: 800, range_max: 3200 };
    let all = Calibration::new(robot.parts.iter().map(|part| (part.name.clone(), motor(part.motor.as_ref().unwrap().id))));
    let files = calibration_files(&robot, "mine", folder.path()).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.path.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["robots/so_follower/mine_left.json", "robots/so_follower/mine_right.json"]);
    let missing = Calibration::for_robot(&robot, "mine", folder.path()).unwrap_err().to_string();
    assert!(missing.contains("mine_left.json") && missing.contains("sinew calibrate"), "{missing}");
    for file in &files {
        file.write(&robot, &all).unwrap();
        let text = std::fs::read_to_string(&file.path).unwrap();
        assert!(text.starts_with("{\n    \"shoulder_pan\": {"), "{text}");
    }
    assert_eq!(Calibration::for_robot(&robot, "mine", folder.path()).unwrap(), all);
    // Where it lay when LeRobot's classes were called otherwise.
    let old = folder.path().join("robots/so101_follower");
    std::fs::create_dir_all(&old).unwrap();
    std::fs::rename(&files[0].path, old.join("mine_left.json")).unwrap();
    assert_eq!(Calibration::for_robot(&robot, "mine", folder.path()).unwrap(), all);
    assert_eq!(files[0].found().unwrap(), old.join("mine_left.json"));
}

#[test]
fn motors_on_one_bus_share_a_file() {
    let robot = with_so101(include_str!("../../../../robots/lekiwi/robot.toml"));
    let files = calibration_files(&robot, "a", Path::new("all")).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].path.as_path(), files[0].parts.len()), (Path::new("all/robots/lekiwi/a.json"), 9));
    let arm = with_so101(include_str!("../../../../robots/so101/robot.toml"));
    let file = &calibration_files(&arm, "a", Path::new("all")).unwrap()[0];
    assert_eq!(file.path, Path::new("all/robots/so_follower/a.json"));
    assert_eq!(file.old_paths[0], Path::new("all/robots/so101_follower/a.json"));
    assert!(calibration_files(&arm, "../a", Path::new("all")).is_err());
}
