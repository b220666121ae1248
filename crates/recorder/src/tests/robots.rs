//! Robots that are more than an arm on a bus.

use std::path::Path;

use arrow::array::AsArray;
use serde_json::json;
use sinew_core::{Frame, FrameSink, RobotDescription, Timestamp};

use super::{assert_whole, chain, finish, start};
use crate::format::parquet_read::read_parquet;
use crate::{DatasetReader, DatasetRecorder, Layout, Loader, RecorderOptions, Values, Windows};

/// One of the robots of the examples.
pub(crate) fn robot_of(file: &str) -> RobotDescription {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("examples").join(file);
    RobotDescription::from_toml(file, &std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A frame of the rover in motion: what is wanted, sent and observed differs in every channel.
pub(crate) fn moving(robot: &RobotDescription, tick: u64) -> Frame {
    let mut frame =
        Frame { tick, wanted: vec![0.5, 1.0, 0.1, -0.2, 1.0], sent: vec![0.4, 0.8, 0.05, -0.1, 0.5], ..Frame::for_robot(robot) };
    frame.observation.state.set_all(&[0.1, -0.3, 0.3, 0.02, 0.05, 0.2, 12.0], Timestamp::ZERO);
    frame
}

/// Records two episodes of `frame` in both versions, and holds what is read back against `action` and
/// `state`: names and values.
fn assert_comes_back(robot: &RobotDescription, frame: &dyn Fn(u64) -> Frame, action: &[(&str, f64)], state: &[(&str, f64)]) {
    for layout in [Layout::V30, Layout::V21] {
        let folder = tempfile::tempdir().unwrap();
        let options = || RecorderOptions { layout, ..RecorderOptions::default() };
        for episode in 0..2 {
            let mut recorder = match episode {
                0 => DatasetRecorder::create(folder.path(), robot, 30, options()).unwrap(),
                _ => DatasetRecorder::resume(folder.path(), robot, 30, options()).unwrap(),
            };
            recorder.begin(&start(episode, "Go there")).unwrap();
            (0..3).for_each(|tick| recorder.frame(&frame(tick)).unwrap());
            recorder.end(&finish(true)).unwrap();
        }
        assert_whole(folder.path());
        let reader = DatasetReader::open(folder.path()).unwrap();
        assert_eq!(reader.robot_type(), Some(robot.lerobot.class.as_str()));
        let mut loader = Loader::new(&reader, &Windows::default()).unwrap();
        let stats = reader.stats().unwrap();
        for (key, expected) in [("action", action), ("observation.state", state)] {
            let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
            let feature = json!({"dtype": "float32", "shape": [names.len()], "names": names});
            assert_eq!(reader.features()[key], feature, "{layout:?}");
            for index in 0..reader.total_frames() {
                let item = loader.item(index).unwrap();
                let Values::Numbers { values, .. } = &item.values[key] else { panic!("{key} of row {index} holds no numbers") };
                assert_near(values, expected, &format!("{layout:?}: {key} of row {index}"));
            }
            if let Some(stats) = &stats {
                let mean: Vec<f64> = stats[key]["mean"].as_array().unwrap().iter().map(|mean| mean.as_f64().unwrap()).collect();
                assert_near(&mean, expected, &format!("{layout:?}: the mean of {key}"));
            }
        }
    }
}

fn assert_near(found: &[f64], expected: &[(&str, f64)], what: &str) {
    let near = found.len() == expected.len() && found.iter().zip(expected).all(|(found, (_, expected))| (found - expected).abs() < 1e-4);
    assert!(near, "{what} is {found:?}, expected {expected:?}");
}

#[test]
fn two_arms_on_two_buses_are_one_vector_of_channels() {
    let robot = robot_of("two_arms.toml");
    let frame = |tick| {
        let mut frame = Frame { tick, wanted: vec![0.5, 1.0, 0.5, 0.3], sent: vec![0.4, 0.8, 0.4, 0.2], ..Frame::for_robot(&robot) };
        frame.observation.state.set_all(&[-0.5, 0.8, 1.0, 1.8], Timestamp::ZERO);
        frame
    };
    let action = [("left_shoulder.pos", 28.64789), ("left_gripper.pos", 60.0), ("right_shoulder.pos", 25.0), ("right_gripper.pos", 25.0)];
    let state = [("left_shoulder.pos", -28.64789), ("left_gripper.pos", 50.0), ("right_shoulder.pos", 50.0), ("right_gripper.pos", 100.0)];
    assert_comes_back(&robot, &frame, &action, &state);
}

/// The base comes after the parts, sensors after the base; what is only measured is no action.
#[test]
fn a_rover_has_velocities_in_its_action_and_its_battery_and_mast_in_the_state_alone() {
    let robot = robot_of("rover.toml");
    let action = [("shoulder.pos", 28.64789), ("gripper.pos", 60.0), ("x.vel", 0.1), ("y.vel", -0.2), ("theta.vel", 57.29578)];
    let state = [
        ("shoulder.pos", 5.729578),
        ("mast.pos", -17.188734),
        ("gripper.pos", 25.0),
        ("x.vel", 0.02),
        ("y.vel", 0.05),
        ("theta.vel", 11.459156),
        ("battery.voltage", 12.0),
    ];
    assert_comes_back(&robot, &|tick| moving(&robot, tick), &action, &state);
}

#[test]
fn what_stands_beside_the_rows_has_the_width_of_its_own_feature() {
    let folder = tempfile::tempdir().unwrap();
    let robot = robot_of("rover.toml");
    let mut recorder = DatasetRecorder::create(folder.path(), &robot, 30, RecorderOptions::default()).unwrap();
    recorder.begin(&start(0, "Go there")).unwrap();
    recorder.frame(&moving(&robot, 0)).unwrap();
    recorder.end(&finish(true)).unwrap();
    drop(recorder);
    let columns = ["state_validity", "state_age_ns", "sent_action"];
    let ticks = read_parquet(&folder.path().join("sinew/ticks/chunk-000/file-000.parquet"), &columns).unwrap();
    let widths = columns.map(|name| ticks[0].column_by_name(name).unwrap().as_list::<i32>().value_length(0));
    assert_eq!(widths, [7, 7, 5]);
}

#[test]
fn a_frame_of_another_robot_is_refused_by_the_name_of_what_does_not_fit() {
    let robot = robot_of("rover.toml");
    let bad: [(&str, fn(&mut Frame)); 4] = [
        // As many as the state has.
        ("the wanted action has 7 values, expected 5", |frame| frame.wanted = vec![0.0; 7]),
        ("the observed state has 5 values, expected 7", |frame| {
            frame.observation.state = sinew_core::Samples::measured(&[0.0; 5], Timestamp::ZERO)
        }),
        ("the sent action of the channel theta.vel is NaN", |frame| frame.sent[4] = f64::NAN),
        ("the channel battery.voltage of the observed state was never measured", |frame| {
            frame.observation.state = sinew_core::Samples::new(7);
            (0..6).for_each(|at| frame.observation.state.set(at, 0.0, Timestamp::ZERO));
        }),
    ];
    for (expected, spoil) in bad {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = DatasetRecorder::create(folder.path(), &robot, 30, RecorderOptions::default()).unwrap();
        recorder.begin(&start(0, "Go there")).unwrap();
        let mut frame = moving(&robot, 0);
        spoil(&mut frame);
        let error = chain(&recorder.frame(&frame).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_channel_that_moved_to_another_place_is_another_feature() {
    let folder = tempfile::tempdir().unwrap();
    let mut robot = robot_of("two_arms.toml");
    let mut recorder = DatasetRecorder::create(folder.path(), &robot, 30, RecorderOptions::default()).unwrap();
    recorder.begin(&start(0, "Go there")).unwrap();
    let mut frame = Frame::for_robot(&robot);
    frame.observation.state.set_all(&[0.0; 4], Timestamp::ZERO);
    recorder.frame(&frame).unwrap();
    recorder.end(&finish(true)).unwrap();
    drop(recorder);
    robot.parts.swap(0, 2);
    let error = DatasetRecorder::resume(folder.path(), &robot, 30, RecorderOptions::default()).err().unwrap().to_string();
    assert!(error.contains("feature action is") && error.contains("right_shoulder.pos"), "{error}");
}
